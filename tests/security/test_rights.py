"""The authorisation matrix: role x route x relation, each cell asked of the running server over HTTP."""

import asyncio
import inspect
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

import server
from command.base.entry import By, Draft
from command.base.errors import Denied, Rejected
from command.base.projection import Decision, Row, Table
from command.base.rights import RIGHTS, Actor, Relation, Role, Scope, allowed
from command.base.schema import Struct
from command.edge.api import GATEWAY, PUBLIC, Route, check_routes
from command.edge.live import Topic, Visible, check_topics
from tests.node import service
from tests.security.probes import PROBES, Ask, Mode, Probe
from tests.security.scene import ROLES, scene

AT_ONCE = 24
SHAPE = ("body.invalid", "query.invalid", "path.invalid", "body.type", "body.not_json", "idempotency.missing")
"""Codes of a probe that is wrong itself: it never reached the rights."""


class Line:
    """A tree of one city above one county."""

    def line(self, organisation: str) -> tuple[str, ...]:
        return ("city", "county") if organisation == "county" else (organisation,)


STANDING = {
    Relation.SELF: Scope(owner="me", organisation="elsewhere"),
    Relation.ASSIGNED: Scope(parties=("unit",), organisation="elsewhere"),
    Relation.LINE: Scope(organisation="county"),
    Relation.ANY: Scope(organisation="elsewhere", parties=("another",), owner="another"),
}


def granted(role: Role, right: str) -> Relation:
    """What the table says."""
    return RIGHTS[right].get(role, Relation.NONE)


def routes() -> list[Route]:
    return [route for route in server.house().routes if route.right not in (PUBLIC, GATEWAY)]


@pytest.mark.parametrize("right", sorted(RIGHTS))
def test_a_right_reaches_exactly_as_far_as_its_grant(right: str) -> None:
    for role, (relation, where) in product(ROLES, STANDING.items()):
        actor = Actor(account="me", person="person", unit="unit", organisation="city", roles=(role,))
        assert allowed(actor, right, where, Line()) is (granted(role, right) >= relation), (role, right, relation)
        assert allowed(actor, right, Scope(), Line()) is (granted(role, right) is Relation.ANY)
    nobody = Actor(account="me", organisation="city")
    assert not any(allowed(nobody, right, where, Line()) for where in STANDING.values())


def test_every_route_has_a_probe_and_every_probe_a_route() -> None:
    assert {(route.method, route.path) for route in routes()} == PROBES.keys()


@pytest.mark.timeout(300)
async def test_every_cell_of_role_route_and_relation_answers_as_the_table_says(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scene(database_url, tmp_path, log_level="error") as s:
        slots = asyncio.Semaphore(AT_ONCE)
        wrong: list[str] = []
        verdicts: Counter[bool] = Counter()

        async def cell(route: Route, probe: Probe, role: Role, relation: Relation) -> None:
            async with slots:
                found = probe.ask(s, role, relation)
                ask = await found if inspect.isawaitable(found) else found
                status, answer = await s.ask(role, route.method, ask.path, ask.body, data=ask.data, **dict(ask.headers))
            may, problem = judge(route, probe, role, relation, ask, status, answer)
            verdicts[may] += 1
            if problem:
                wrong.append(f"{role} {relation.name} {route.method} {route.path}: {problem}; {status} {answer!r:.200}")

        await asyncio.gather(
            *(
                cell(route, probe, role, relation)
                for route in routes()
                for probe in PROBES[route.method, route.path]
                for role, relation in product(ROLES, probe.relations)
            )
        )
    assert not wrong, f"{len(wrong)} cells\n" + "\n".join(sorted(wrong))
    with capsys.disabled():
        print(f"\n{verdicts.total()} cells: {verdicts[True]} allowed, {verdicts[False]} refused")


def judge(
    route: Route, probe: Probe, role: Role, relation: Relation, ask: Ask, status: int, answer: Any
) -> tuple[bool, str]:
    """Whether the table allows it, and what is wrong with the answer ("" for nothing)."""
    gate = granted(role, route.right) is not Relation.NONE
    at = probe.at.get(relation, relation)
    may = gate and (probe.mode is Mode.GATE or granted(role, probe.right or route.right) >= at)
    code = answer.get("code", "") if isinstance(answer, dict) else ""
    if status >= 500 or code in SHAPE:
        return may, "a probe must reach the rights"
    if not gate:
        return may, "" if (status, code) == (403, "rights.denied") else "the role lacks the right altogether"
    if probe.mode is Mode.LIST:
        shown = ask.looks_for in msgspec.json.encode(answer).decode()
        return may, "" if status == 200 and shown is may else f"shown: {shown}"
    if may:
        refused = status in (401, 403) or (status == 404 and code not in probe.allowed_codes)
        return may, "should be allowed" if refused else ""
    if probe.mode is Mode.ITEM:
        return may, "" if status == 404 else "should look as if it weren't there"
    quiet = isinstance(answer, dict) and "current" not in answer.get("details", {})
    return may, "" if status == 403 and code in ("rights.denied", "location.foreign") and quiet else "should be denied"


# -- what stops a start


def _route(**changes: Any) -> Route:
    async def handler(call: Any) -> None: ...

    return Route(**({"method": "GET", "path": "/x", "right": "self", "summary": "x", "handler": handler} | changes))


@pytest.mark.parametrize("right", ["", "none.such", "Public", "incident"])
def test_a_route_without_a_right_of_the_table_is_refused(right: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_routes([_route(right=right)])
    assert caught.value.code == "rights.unknown"


def test_two_routes_of_one_shape_are_refused() -> None:
    with pytest.raises(Rejected):
        check_routes([_route(path="/x/{id}"), _route(path="/x/{name}")])


async def test_a_service_with_a_bad_route_topic_or_table_does_not_start(database_url: str, tmp_path: Path) -> None:
    async with service(database_url, tmp_path) as running:
        house = running.house
    stray: Table[Any] = Table(name="stray", row=Row, topics=lambda row: ("picture",))
    bad_topic = Topic(name="stray", right="none.such", rows=lambda store, connection, key: {})
    twice = next(topic for topic in house.topics if topic.name == "picture")
    tables = list(house.domain.tables.values())
    check_topics(house.topics, house.visible, tables)
    for topics, visible, found in (
        ([*house.topics, bad_topic], house.visible, tables),
        ([*house.topics, twice], house.visible, tables),
        (house.topics, {**house.visible, "x": Visible(right="none.such", scope=lambda row: Scope())}, tables),
        (house.topics, house.visible, [*tables, stray]),
    ):
        with pytest.raises(Rejected):
            check_topics(topics, visible, found)
    house.routes.append(_route(right=""))  # type: ignore[attr-defined]
    with pytest.raises(Rejected):
        await running.start()


class Unasked(Struct, frozen=True, kw_only=True):
    """A request whose decider forgets to ask."""


async def test_a_decider_that_never_asks_is_refused_and_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async with service(database_url, tmp_path) as running:
        draft = Draft(subject="audit", kind="test.unasked", body={})
        running.house.domain.register((), None, {Unasked: lambda rows, request, context: Decision(drafts=[draft])})
        actor = Actor(account="a", roles=tuple(Role))
        before = running.node.log.position
        with pytest.raises(Denied) as caught:
            await running.node.log.append(Unasked(), By(account="a"), actor=actor)
        assert caught.value.code == "rights.unasked"
        receipt = await running.node.log.append(Unasked(), By(account="node"))
        assert len(receipt.entries) == 1 and receipt.position > before


def test_the_three_administrators_stay_apart() -> None:
    """What the separation of duties means in the table: who grants neither acts nor audits, and so on."""
    system, security, audit = Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDIT_ADMIN
    sole = {"account.edit": security, "audit.read": audit, "import.persons": system, "registry.edit": system}
    for right, role in sole.items():
        assert set(RIGHTS[right]) == {role}, right
    acting = [
        right for right in RIGHTS if right.split(".")[0] in ("incident", "order", "plan", "notice", "room", "alarm")
    ]
    for right, role in product(acting, (system, security, audit)):
        assert right == "incident.export" or role not in RIGHTS[right], (right, role)
