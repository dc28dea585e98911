"""The whole API fuzzed from its own OpenAPI document, over HTTP, against the real server on either database.

As several roles, with ids that exist put into the generated requests, so that more than the first look-up is reached. No
answer may be a 5xx, have a status or a media type that the document doesn't name, or differ from its schema.

CI runs a fixed slice; CHECK_PROFILE=fuzz (`make fuzz`) looks much further.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error, response_headers_conformance, response_schema_conformance
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, negative_data_rejection, status_code_conformance

from command.base.rights import Relation, Role
from command.edge.api import PREFIX
from command.edge.auth import COOKIE
from tests.security.scene import AREA, Scene, leaver, scene

DEEP = os.environ.get("CHECK_PROFILE") == "fuzz"
ON_POSTGRESQL = os.environ.get("FENGHUO_TEST_DATABASE") == "postgresql"
EXAMPLES = 400 if DEEP else 5 if ON_POSTGRESQL else 10
"""Per operation. What a request is refused for before the store is asked was seen on SQLite."""
SLOW_EXAMPLES = 30 if DEEP else 3 if ON_POSTGRESQL else 5
"""Of routes that hash a password for each request."""
SLOW = ("/session", "/accounts")
LINE_MAX = 8_000
"""Characters of a request target that the server's parser reads in any case (its limit is 8,190 octets a line)."""
AS = (Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.DUTY_OFFICER, Role.LEADER, Role.FIELD_MEMBER, Role.AUDIT_ADMIN)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
RAW_TYPES = (
    "application/sdp",
    "application/trickle-ice-sdpfrag",
    "application/octet-stream",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "text/csv",
)

KINDS = {
    "incidents": "incident",
    "orders": "order",
    "alarms": "alarm",
    "activations": "activation",
    "fences": "fence",
    "timers": "timer",
    "notices": "notice",
    "messages": "message",
    "inbound": "inbound",
    "organisations": "organisation",
    "units": "unit",
    "persons": "person",
    "groups": "group",
    "shifts": "shift",
    "templates": "template",
    "accounts": "account",
    "rooms": "closed_room",
    "whip": "closed_room",
    "whep": "closed_room",
    "attachments": "attachment",
}
"""First word of a path -> what its id names. Rooms are closed ones: an open one would start a media worker per example."""

FIELDS = {
    "organisation": "organisation",
    "incident": "incident",
    "person": "person",
    "unit": "unit",
    "plan": "plan",
    "room": "closed_room",
    "template": "template",
    "fence": "fence",
    "parent": "organisation",
    "persons": "person",
    "members": "person",
    "units": "unit",
    "groups": "group",
    "on_duty": "organisation",
}
"""Field of a body or a query -> what its id, or list of ids, names."""


@schemathesis.serializer(*RAW_TYPES)
def _raw(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class Fuzz:
    """Runs in a thread beside the server's loop; collects what went wrong, once per kind."""

    def __init__(self, s: Scene, loop: asyncio.AbstractEventLoop) -> None:
        self.scene, self.loop = s, loop
        self.http = requests.Session()
        self.http.trust_env = False
        document = self.http.get(f"{s.base}{PREFIX}/openapi.json", timeout=30).json()
        self.schema = schemathesis.openapi.from_dict(document)
        self.wrong: dict[str, str] = {}
        self.statuses: Counter[int] = Counter()
        self.seen: set[tuple[str, int]] = set()
        self.keys = 0

    def run(self) -> None:
        for found in self.schema.get_all_operations():
            operation = found.ok()
            assert operation is not None, found.err()
            if "101" not in operation.definition.raw["responses"]:
                self._fuzz(operation)

    def _fuzz(self, operation: Any) -> None:
        path = operation.path.removeprefix(PREFIX)
        slow = path.startswith(SLOW) and operation.method != "get"
        positive = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        cases = [positive, positive]
        entitled = [Role(name) for name in operation.definition.raw.get("x-roles", {})]
        if operation.body or operation.query or operation.path_parameters or operation.headers:
            cases.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))

        @settings(
            max_examples=SLOW_EXAMPLES if slow else EXAMPLES,
            phases=[Phase.generate],
            derandomize=not DEEP,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=st.one_of(cases), dice=st.randoms(use_true_random=False), role=st.sampled_from([*entitled * 3, *AS])
        )
        def one(case: Case, dice: Random, role: Role) -> None:
            self._ask(case, dice, role)

        one()

    def _ask(self, case: Case, dice: Random, role: Role) -> None:
        sound = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
        if sound:
            self._fill(case, dice)
        self.keys += 1
        if dice.random() < 0.95:  # what is generated for the security schemes opens no session
            case.headers.pop("Authorization", None)
            case.cookies.clear()
        headers = {"Origin": self.scene.base, "Cookie": f"{COOKIE}={self._token(case, role)}"}
        if "Idempotency-Key" in case.headers and dice.random() < 0.8:
            case.headers["Idempotency-Key"] = f"fuzz-{self.keys}"
        response = case.call(base_url=self.scene.base, session=self.http, headers=headers, timeout=30)
        self.statuses[response.status_code] += 1
        name = f"{case.method} {case.path}"
        if len(response.request.path_url) > LINE_MAX:  # refused as HTTP, before any route is known
            assert response.status_code == 400, (name, response.status_code)
            return
        self.seen.add((name, response.status_code))
        try:
            case.validate_response(response, checks=CHECKS, headers=headers)
        except FailureGroup as group:
            for error in group.exceptions:
                kind = f"{name} {response.status_code} {type(error).__name__}"
                self.wrong.setdefault(kind, f"as {role}: {group}"[:3000])

    def _token(self, case: Case, role: Role) -> str:
        """The session of a role; another's where the request would end it."""
        if case.path == f"{PREFIX}/session" and case.method.lower() == "delete":
            return asyncio.run_coroutine_threadsafe(leaver(self.scene), self.loop).result(30)
        return self.scene.tokens[role]

    # -- ids that exist

    def _fill(self, case: Case, dice: Random) -> None:
        kind = KINDS.get(case.path.removeprefix(PREFIX).split("/")[1])
        for name in case.path_parameters or {}:
            known = kind if name in ("id", "hash", "account") or name == kind else None
            if known is not None and dice.random() < 0.8:
                case.path_parameters[name] = self._id(known, dice)
        if isinstance(case.query, dict):
            self._fill_values(case.query, dice)
        self._fill_values(case.body, dice)

    def _fill_values(self, value: Any, dice: Random) -> None:
        if isinstance(value, list):
            for item in value:
                self._fill_values(item, dice)
        if not isinstance(value, dict):
            return
        for name, old in list(value.items()):
            if dice.random() < 0.3:
                continue
            if name in ("area", "geometry") and isinstance(old, dict):
                value[name] = {**old, **AREA}
            elif name == "version":
                value[name] = dice.choice((1, 1, 2))
            elif name in FIELDS and isinstance(old, str):
                value[name] = self._id(FIELDS[name], dice)
            elif name in FIELDS and isinstance(old, list):
                value[name] = [self._id(FIELDS[name], dice) for _ in old[:2]]
            elif name == "assignee":
                kind = dice.choice(("unit", "person", "organisation"))
                value[name] = {"kind": kind, "id": self._id(kind, dice)}
            else:
                self._fill_values(old, dice)

    def _id(self, kind: str, dice: Random) -> str:
        known: dict[Relation, str] = self.scene.things[kind]
        return dice.choice(sorted(known.values()))


@pytest.mark.timeout(3600 if DEEP else 300)
async def test_fuzz_of_the_whole_api_finds_no_5xx_and_nothing_undocumented(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scene(database_url, tmp_path, log_level="error") as s:
        fuzz = await asyncio.to_thread(Fuzz, s, asyncio.get_running_loop())
        await asyncio.to_thread(fuzz.run)
        assert not s.service.failed.is_set(), s.service.reason
    with capsys.disabled():
        print(f"\n{sum(fuzz.statuses.values())} requests: {dict(sorted(fuzz.statuses.items()))}")
    assert not fuzz.wrong, "\n\n".join(f"{name}\n{text}" for name, text in fuzz.wrong.items())
    assert {200, 201, 204, 401, 403, 404, 409, 422} <= fuzz.statuses.keys() | {401}
