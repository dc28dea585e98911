"""One probe per route: how to ask it about a thing that stands in a given relation, and where the answer shows the right.

Requests are sound but stale wherever a route takes a version: whoever may act gets past the right and meets the conflict,
so that nothing changes between two probes. `STALE` is a version that no row has.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from command.base.rights import Relation, Role
from command.domain.registry import ACCOUNT
from command.edge.auth import COOKIE
from sms.numbers import demo_number
from tests.security.scene import ANY, AREA, ASSIGNED, HOUR_US, LINE, SELF, Scene

STALE = 2**50
NONE = Relation.NONE

# Which relations a thing can stand in at all: an organisation and its parties, or an owner, as its `scope` says.
OF_INCIDENT = (ASSIGNED, LINE, ANY)
OF_ROOM = (SELF, ASSIGNED, LINE, ANY)
OF_NOTICE = (SELF, LINE, ANY)
OF_ORGANISATION = (LINE, ANY)
OF_ACCOUNT = (SELF, ANY)
MINE = (SELF,)
OF_NODE = (ANY,)


class Mode(Enum):
    """What an answer looks like to those who have the right on anything at all, but not on this.

    COMMAND: 403. ITEM: 404, as if it weren't there. LIST: 200 without it. GATE: the right on anything opens it.
    """

    COMMAND = 1
    ITEM = 2
    LIST = 3
    GATE = 4


@dataclass(frozen=True, kw_only=True)
class Ask:
    path: str
    body: Any = None
    data: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    looks_for: str = ""
    """In a list: the text that only the row's presence explains."""


Asking = Callable[[Scene, Role, Relation], Ask | Awaitable[Ask]]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`right`: what the decider asks where it isn't the route's own. `at`: where the thing stands for that right, if not
    where it stands for others."""

    relations: tuple[Relation, ...]
    mode: Mode
    ask: Asking
    right: str | None = None
    at: Mapping[Relation, Relation] = field(default_factory=dict)
    allowed_codes: tuple[str, ...] = ()
    """Codes of 404 that come after the rights were passed."""


def command(relations: tuple[Relation, ...], ask: Asking, **more: Any) -> Probe:
    return Probe(relations=relations, mode=Mode.COMMAND, ask=ask, **more)


def item(relations: tuple[Relation, ...], ask: Asking, **more: Any) -> Probe:
    return Probe(relations=relations, mode=Mode.ITEM, ask=ask, **more)


def list_(relations: tuple[Relation, ...], ask: Asking, **more: Any) -> Probe:
    return Probe(relations=relations, mode=Mode.LIST, ask=ask, **more)


def gate(ask: Asking) -> Probe:
    return Probe(relations=OF_NODE, mode=Mode.GATE, ask=ask)


def _at(path: str, of: str, /, **body: Any) -> Asking:
    """`{id}` in `path` and `id` in the body's string values become the thing's id."""
    return lambda s, role, relation: Ask(path=path.replace("{id}", s.get(of, relation, role)), body=body)


def _in(path: str, name: str, of: str, /, **body: Any) -> Asking:
    """A body that names the thing in a field."""
    return lambda s, role, relation: Ask(path=path, body={name: s.get(of, relation, role), **body})


def _plain(path: str, /, **body: Any) -> Asking:
    return lambda s, role, relation: Ask(path=path, body=body or None)


def _shown(path: str, kind: str) -> Asking:
    return lambda s, role, relation: Ask(path=path, looks_for=s.get(kind, relation, role))


def _where(s: Scene, relation: Relation) -> str:
    return s.things["organisation"][LINE if relation is LINE else ANY]


def _report(s: Scene, role: Role, relation: Relation) -> Ask:
    place = {"lon": 120, "lat": 30}
    body = {"category": "accident", "level": "IV", "title": "x", "place": place, "organisation": _where(s, relation)}
    return Ask(path="/incidents", body=body)


def _order(s: Scene, role: Role, relation: Relation) -> Ask:
    assignee = {"kind": "organisation", "id": s.things["aside"][ANY]}
    body = {"incident": s.things["incident"][relation], "assignee": assignee, "task": "x", "ladder": []}
    return Ask(path="/orders", body={**body, "ack_within_s": None})


def _activation(s: Scene, role: Role, relation: Relation) -> Ask:
    body = {"incident": s.things["incident"][relation], "plan": s.things["plan"][LINE], "version": STALE}
    return Ask(path="/activations", body=body)


def _notice(path: str) -> Asking:
    def ask(s: Scene, role: Role, relation: Relation) -> Ask:
        recipients = {"persons": [s.things["person"][LINE]]}
        body = {"kind": "bulletin", "text_zh": "x", "recipients": recipients, "organisation": _where(s, relation)}
        return Ask(path=path, body=body)

    return ask


def _notice_at_incident(path: str) -> Asking:
    def ask(s: Scene, role: Role, relation: Relation) -> Ask:
        recipients = {"persons": [s.things["person"][LINE]]}
        body = {"kind": "bulletin", "text_zh": "x", "recipients": recipients}
        return Ask(path=path, body={**body, "incident": s.things["incident"][relation]})

    return ask


def _saved(path: str, of: str, /, **body: Any) -> Asking:
    """PUT of a row of the registry, stale."""

    def ask(s: Scene, role: Role, relation: Relation) -> Ask:
        key = s.get(of, relation, role)
        return Ask(path=f"{path}/{key}", body={"version": STALE, "organisation": _where(s, relation), **body})

    return ask


def _added(path: str, /, **body: Any) -> Asking:
    return lambda s, role, relation: Ask(path=path, body={"organisation": _where(s, relation), **body})


def _shifts(s: Scene, role: Role, relation: Relation) -> Ask:
    """Times that no shift can have: refused after the right."""
    shift = {"post": "x", "person": s.things["person"][LINE], "starts_at": 2, "ends_at": 1}
    return Ask(path="/shifts", body={"organisation": _where(s, relation), "shifts": [shift]})


def _replaced(s: Scene, role: Role, relation: Relation) -> Ask:
    now = s.node.clock.now()
    body = {"organisation": _where(s, relation), "since": now - 2 * HOUR_US, "until": now, "seen": [], "shifts": []}
    return Ask(path="/shifts", body=body)


def _fix(s: Scene, role: Role, relation: Relation) -> Ask:
    fix = {"unit": s.things["unit"][relation], "lon": 120.05, "lat": 30.05, "at": s.node.clock.now() - 9_000_000}
    return Ask(path="/locations", body={"fixes": [fix]})


def _offer(kind: str) -> Asking:
    def ask(s: Scene, role: Role, relation: Relation) -> Ask:
        path = f"/{kind}/{s.get('closed_room', relation, role)}"
        return Ask(path=path, data=b"v=0", headers={"Content-Type": "application/sdp"})

    return ask


def _chaired(path: str, of: str = "room", /, **body: Any) -> Probe:
    """For the chair: the route is open to whoever may join (a co-chair may be anybody), and being invited is nothing."""
    return command(OF_ROOM, _at(path, of, **body), right="room.chair", at={ASSIGNED: ANY})


def _meeting(s: Scene, role: Role, relation: Relation) -> Ask:
    """Times that no meeting can have: refused after the right."""
    times = {"starts_at": 2, "ends_at": 1}
    return Ask(path="/meetings", body={"title": "x", "organisation": _where(s, relation), "notify": False, **times})


def _meeting_of_incident(s: Scene, role: Role, relation: Relation) -> Ask:
    times = {"starts_at": 2, "ends_at": 1}
    body = {"title": "x", "incident": s.things["incident"][relation], "notify": False, **times}
    return Ask(path="/meetings", body=body)


def _fragment(kind: str) -> Asking:
    def ask(s: Scene, role: Role, relation: Relation) -> Ask:
        path = f"/{kind}/{s.get('closed_room', relation, role)}/none"
        headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
        return Ask(path=path, data=b"a=end-of-candidates", headers=headers)

    return ask


def _sessions(s: Scene, role: Role, relation: Relation) -> Ask:
    account = s.accounts[role] if relation is SELF else s.things["account"][ANY]
    return Ask(path=f"/sessions?account={account}", looks_for=s.get("session", relation, role))


async def _new_session(s: Scene, account: str) -> tuple[str, str]:
    [row] = [row for row in await s.rows(ACCOUNT) if row.id == account]
    token, session = await s.node.auth.open(row)
    return token, session.id


async def _ended(s: Scene, role: Role, relation: Relation) -> Ask:
    account = s.accounts[role] if relation is SELF else s.things["account"][ANY]
    return Ask(path=f"/sessions/{(await _new_session(s, account))[1]}")


async def _signed_out(s: Scene, role: Role, relation: Relation) -> Ask:
    token, _ = await _new_session(s, s.accounts[role])
    return Ask(path="/session", headers={"Cookie": f"{COOKIE}={token}"})


def _phones(s: Scene, role: Role, relation: Relation) -> Ask:
    """Everybody with `registry.read` sees persons; numbers are what the relation decides."""
    number = demo_number({LINE: 0, ANY: 1}.get(relation, 100 + list(Role).index(role)))
    return Ask(path="/persons?limit=500", looks_for=f'"{number}"')


def _table(s: Scene, role: Role, relation: Relation) -> Ask:
    headers = {"Content-Type": "text/csv"}
    return Ask(path="/import/persons?dry_run=true", data="姓名,单位\n".encode(), headers=headers)


def _upload(s: Scene, role: Role, relation: Relation) -> Ask:
    return Ask(path="/attachments", data=b"octets", headers={"Content-Type": "application/octet-stream"})


PROBES: dict[tuple[str, str], list[Probe]] = {
    # oneself
    ("DELETE", "/session"): [command(MINE, _signed_out)],
    ("GET", "/session"): [command(MINE, _plain("/session"))],
    ("PATCH", "/session"): [command(MINE, _plain("/session", language="zh"))],
    ("POST", "/session/password"): [command(MINE, _plain("/session/password", old="x", new="another one 77"))],
    ("POST", "/session/totp"): [command(MINE, lambda s, role, relation: Ask(path="/session/totp", body={}))],
    ("POST", "/session/totp/confirm"): [command(MINE, _plain("/session/totp/confirm", code="x"))],
    ("GET", "/sessions"): [list_(OF_ACCOUNT, _sessions)],
    ("DELETE", "/sessions/{id}"): [item(OF_ACCOUNT, _ended)],
    ("GET", "/live"): [gate(_plain("/live"))],
    # the registry
    ("GET", "/organisations"): [list_(OF_NODE, _shown("/organisations", "organisation"))],
    ("POST", "/organisations"): [command(OF_NODE, _plain("/organisations", name="x", tier="county", parent="none-such"),
                                         allowed_codes=("organisation.missing",))],
    ("PUT", "/organisations/{id}"): [
        command(OF_NODE, _at("/organisations/{id}", "organisation", version=STALE, name="x", tier="city"))
    ],
    ("GET", "/units"): [list_(OF_NODE, _shown("/units", "unit"))],
    ("POST", "/units"): [command(OF_ORGANISATION, _added("/units", name="x", kind="fire"))],
    ("PUT", "/units/{id}"): [command(OF_ORGANISATION, _saved("/units", "unit", name="x", kind="fire"))],
    ("POST", "/units/{id}/status"): [
        command(OF_INCIDENT, _at("/units/{id}/status", "unit", version=STALE, status="available"))
    ],
    ("GET", "/persons"): [
        list_((LINE, ANY), _phones, right="person.read"),
        list_((ASSIGNED,), _phones, right="person.read"),
    ],
    ("POST", "/persons"): [command(OF_ORGANISATION, _added("/persons", name="x"))],
    ("PUT", "/persons/{id}"): [command(OF_ORGANISATION, _saved("/persons", "person", name="x"))],
    ("POST", "/persons/{id}/off-duty"): [
        command(OF_ORGANISATION, _at("/persons/{id}/off-duty", "person", version=STALE, off_duty=True)),
        command((ASSIGNED,), lambda s, role, relation: Ask(
            path=f"/persons/{s.persons[role]}/off-duty", body={"version": STALE, "off_duty": True})),
    ],
    ("GET", "/groups"): [list_(OF_NODE, _shown("/groups", "group"))],
    ("POST", "/groups"): [command(OF_ORGANISATION, _added("/groups", name="x"))],
    ("PUT", "/groups/{id}"): [command(OF_ORGANISATION, _saved("/groups", "group", name="x"))],
    ("GET", "/shifts"): [list_(OF_NODE, _shown("/shifts", "shift"))],
    ("POST", "/shifts"): [command(OF_ORGANISATION, _shifts)],
    ("PUT", "/shifts"): [command(OF_ORGANISATION, _replaced)],
    ("DELETE", "/shifts/{id}"): [command(OF_ORGANISATION, _at("/shifts/{id}", "shift", version=STALE))],
    ("GET", "/templates"): [list_(OF_NODE, _shown("/templates", "template"))],
    ("POST", "/templates"): [command(OF_ORGANISATION, _added("/templates", name="x", text_zh="x", text_en="x"))],
    ("PUT", "/templates/{id}"): [
        command(OF_ORGANISATION, _saved("/templates", "template", name="x", text_zh="x", text_en="x"))
    ],
    # accounts
    ("GET", "/accounts"): [list_(OF_NODE, _shown("/accounts", "account"))],
    ("GET", "/accounts/{id}"): [item(OF_NODE, _at("/accounts/{id}", "account"))],
    ("POST", "/accounts"): [
        command(OF_NODE, _added("/accounts", name="test-viewer", roles=["viewer"]))
    ],
    ("PATCH", "/accounts/{id}"): [command(OF_NODE, _at("/accounts/{id}", "account", version=STALE))],
    ("POST", "/accounts/{id}/password"): [command(OF_NODE, _at("/accounts/{id}/password", "account"))],
    ("DELETE", "/accounts/{id}/totp"): [command(OF_NODE, _at("/accounts/{id}/totp", "account"))],
    ("POST", "/accounts/{account}/unlock"): [command(OF_NODE, _at("/accounts/{id}/unlock", "account"))],
    ("POST", "/accounts/{id}/tokens"): [command(OF_NODE, _at("/accounts/{id}/tokens", "account", label="x"))],
    ("POST", "/import/persons"): [command(OF_NODE, _table)],
    # the auditor
    ("GET", "/audit"): [item(OF_NODE, _plain("/audit"))],
    ("POST", "/audit/erasures"): [
        command(OF_NODE, _plain("/audit/erasures", entry="ab" * 32, reason="x"), allowed_codes=("entry.missing",))
    ],
    ("GET", "/audit/export"): [
        item(OF_INCIDENT, lambda s, role, relation: Ask(
            path=f"/audit/export?subject=incident/{s.things['incident'][relation]}")),
        command(OF_NODE, _plain("/audit/export?subject=registry"), right="audit.read"),
        command(OF_NODE, _plain("/audit/export?subject=audit"), right="audit.read"),
    ],
    # incidents
    ("POST", "/incidents"): [command(OF_ORGANISATION, _report)],
    ("GET", "/incidents"): [list_(OF_INCIDENT, _shown("/incidents?limit=500", "incident"))],
    ("GET", "/incidents/{id}"): [item(OF_INCIDENT, _at("/incidents/{id}", "incident"))],
    ("GET", "/incidents/{id}/timeline"): [item(OF_INCIDENT, _at("/incidents/{id}/timeline", "incident"))],
    ("GET", "/incidents/{id}/nodes"): [item(OF_INCIDENT, _at("/incidents/{id}/nodes", "incident"))],
    ("PATCH", "/incidents/{id}"): [command(OF_INCIDENT, _at("/incidents/{id}", "incident", version=STALE))],
    ("POST", "/incidents/{id}/step"): [
        command(OF_INCIDENT, _at("/incidents/{id}/step", "incident", version=STALE, step="verify")),
        command(
            OF_INCIDENT, _at("/incidents/{id}/step", "incident", version=STALE, step="close"), right="incident.close"
        ),
    ],
    ("POST", "/incidents/{id}/level"): [
        command(OF_INCIDENT, _at("/incidents/{id}/level", "incident", version=STALE, level="I", reason="x"))
    ],
    ("POST", "/incidents/{id}/sub-reports"): [
        command(OF_INCIDENT, _at("/incidents/{id}/sub-reports", "incident", kind="follow_up", text="x"))
    ],
    ("POST", "/incidents/{id}/notes"): [command(OF_INCIDENT, _at("/incidents/{id}/notes", "incident", text="x"))],
    ("POST", "/alarms/{id}/acknowledge"): [command(OF_INCIDENT, _at("/alarms/{id}/acknowledge", "alarm"))],
    # the tree
    ("GET", "/nodes"): [list_(OF_NODE, _shown("/nodes", "node"))],
    ("PATCH", "/nodes/{id}"): [command(OF_NODE, _at("/nodes/{id}", "node", version=STALE, name="x"))],
    ("POST", "/nodes/{id}/revoke"): [command(OF_NODE, _at("/nodes/{id}/revoke", "node", version=STALE, reason="x"))],
    ("POST", "/incidents/{incident}/offer"): [
        command(OF_INCIDENT, _at("/incidents/{id}/offer", "incident", version=STALE, to="none-such", reason="x"))
    ],
    ("POST", "/incidents/{incident}/request"): [
        command(OF_INCIDENT, _at("/incidents/{id}/request", "incident", reason="x"))
    ],
    ("POST", "/incidents/{incident}/seize"): [
        command(OF_INCIDENT, _at("/incidents/{id}/seize", "incident", version=STALE, reason="x"))
    ],
    ("POST", "/incidents/{incident}/invite"): [
        command(
            OF_INCIDENT,
            _at("/incidents/{id}/invite", "incident", nodes=["none-such"]),
            allowed_codes=("node.missing",),
        )
    ],
    ("POST", "/incidents/{incident}/asks"): [
        command(OF_INCIDENT, _at("/incidents/{id}/asks", "incident", what="x", text="x"))
    ],
    ("POST", "/transfers/{id}/answer"): [
        command(OF_INCIDENT, _at("/transfers/{id}/answer", "transfer", version=STALE, agree=True))
    ],
    # A node that owns every incident is asked nothing: there is none to answer.
    ("POST", "/asks/{id}/answer"): [
        item(OF_NODE, _plain("/asks/none-such/answer", granted=True), allowed_codes=("ask.missing",))
    ],
    ("POST", "/orders/{id}/adopt"): [command(OF_INCIDENT, _at("/orders/{id}/adopt", "order", version=STALE))],
    ("POST", "/orders/{id}/recall"): [command(OF_INCIDENT, _at("/orders/{id}/recall", "order", version=STALE))],
    # orders and plans
    ("POST", "/orders"): [command(OF_INCIDENT, _order)],
    ("PATCH", "/orders/{id}"): [command(OF_INCIDENT, _at("/orders/{id}", "order", version=STALE))],
    ("POST", "/orders/{id}/cancel"): [command(OF_INCIDENT, _at("/orders/{id}/cancel", "order", version=STALE))],
    ("POST", "/orders/{id}/progress"): [
        # Only those whom the order binds speak for its assignee: being of its line is nothing here.
        command(OF_INCIDENT, _at("/orders/{id}/progress", "order", step="delivered"), at={LINE: ANY})
    ],
    ("POST", "/plans"): [command(OF_ORGANISATION, _added("/plans", name="x"))],
    ("POST", "/activations"): [command(OF_INCIDENT, _activation)],
    ("POST", "/activations/{id}/decision"): [
        command(OF_INCIDENT, _at("/activations/{id}/decision", "activation", version=STALE, approve=True))
    ],
    # reports upward
    ("GET", "/report-rules"): [list_(OF_NODE, _shown("/report-rules", "report_rule"))],
    ("POST", "/report-rules"): [
        # Names no limit: refused after the right.
        command(OF_ORGANISATION, _added(
            "/report-rules", name="x", report="first", sender_tier="county", recipient_tier="city"))
    ],
    ("GET", "/report-dues"): [
        # What is owed stands where its organisation stands, whoever is bound to the incident.
        list_(OF_INCIDENT, _shown("/report-dues", "report_due"), at={ASSIGNED: ANY})
    ],
    # notices
    ("POST", "/notices/preview"): [
        command(OF_ORGANISATION, _notice("/notices/preview")),
        command(OF_INCIDENT, _notice_at_incident("/notices/preview")),
    ],
    ("POST", "/notices"): [
        command(OF_ORGANISATION, _notice("/notices")),
        command(OF_INCIDENT, _notice_at_incident("/notices")),
    ],
    ("POST", "/notices/{id}/review"): [
        command(OF_NOTICE, _at("/notices/{id}/review", "notice", version=STALE, passed=True))
    ],
    ("POST", "/notices/{id}/cancel"): [command(OF_NOTICE, _at("/notices/{id}/cancel", "notice", version=STALE))],
    ("GET", "/notices"): [list_(OF_NOTICE, _shown("/notices?limit=500", "notice"))],
    ("GET", "/notices/{id}/messages"): [item(OF_NOTICE, _at("/notices/{id}/messages", "notice"))],
    ("GET", "/notices/{id}/answers"): [item(OF_NOTICE, _at("/notices/{id}/answers", "notice"))],
    ("GET", "/messages/unsettled"): [gate(_plain("/messages/unsettled"))],
    ("POST", "/messages/{id}/settle"): [
        command(OF_ORGANISATION, _at("/messages/{id}/settle", "message", action="abandon"))
    ],
    ("POST", "/inbound/{id}/handle"): [command(OF_ORGANISATION, _at("/inbound/{id}/handle", "inbound"))],
    ("GET", "/phones"): [list_(OF_NODE, lambda s, role, relation: Ask(path="/phones", looks_for=demo_number(0)))],
    ("GET", "/phones/{number}/texts"): [
        list_(OF_NODE, lambda s, role, relation: Ask(path=f"/phones/{demo_number(0)}/texts", looks_for="通知"))
    ],
    ("POST", "/phones/{number}/answer"): [item(OF_NODE, _plain(f"/phones/{demo_number(99)}/answer", text="x"))],
    # rooms
    ("POST", "/rooms"): [command(OF_INCIDENT, _in("/rooms", "incident", "incident", title="x"))],
    ("POST", "/rooms/{id}/close"): [_chaired("/rooms/{id}/close", version=STALE)],
    ("GET", "/rooms/{id}/signal"): [command(OF_ROOM, _at("/rooms/{id}/signal", "closed_room"))],
    ("POST", "/rooms/{room}/members/{member}/act"): [_chaired("/rooms/{id}/members/nobody/act", act="mute")],
    ("PATCH", "/rooms/{room}/control"): [_chaired("/rooms/{id}/control")],
    ("POST", "/rooms/{room}/standing"): [_chaired("/rooms/{id}/standing", account="nobody", standing="admit")],
    ("POST", "/rooms/{room}/mute-all"): [_chaired("/rooms/{id}/mute-all", "closed_room")],
    ("POST", "/rooms/{room}/poll"): [_chaired("/rooms/{id}/poll", "closed_room")],
    ("POST", "/rooms/{room}/poll/stop"): [_chaired("/rooms/{id}/poll/stop")],
    ("POST", "/rooms/{room}/floor"): [command(OF_ROOM, _at("/rooms/{id}/floor", "room", move="raise"))],
    ("POST", "/rooms/{room}/floor/call"): [_chaired("/rooms/{id}/floor/call", account="nobody")],
    ("POST", "/rooms/{room}/floor/clear"): [_chaired("/rooms/{id}/floor/clear")],
    ("POST", "/rooms/{room}/roll-calls"): [_chaired("/rooms/{id}/roll-calls")],
    ("POST", "/roll-calls/{id}/answer"): [command(OF_ROOM, _at("/roll-calls/{id}/answer", "roll_call"))],
    ("POST", "/roll-calls/{id}/mark"): [
        _chaired("/roll-calls/{id}/mark", "roll_call", called="nobody", present=True)
    ],
    ("POST", "/roll-calls/{id}/end"): [_chaired("/roll-calls/{id}/end", "roll_call")],
    ("POST", "/rooms/{room}/chat"): [command(OF_ROOM, _at("/rooms/{id}/chat", "room", text="x"))],
    ("PUT", "/rooms/{room}/minutes"): [_chaired("/rooms/{id}/minutes", version=STALE, text="x")],
    ("GET", "/rooms/{id}/attendance"): [item(OF_ROOM, _at("/rooms/{id}/attendance", "room"))],
    ("GET", "/meetings"): [list_(OF_ROOM, _shown("/meetings?limit=500", "schedule"))],
    ("POST", "/meetings"): [
        command(OF_ORGANISATION, _meeting),
        command(OF_INCIDENT, _meeting_of_incident),
    ],
    ("PATCH", "/meetings/{id}"): [_chaired("/meetings/{id}", "schedule", version=STALE)],
    ("POST", "/meetings/{id}/cancel"): [_chaired("/meetings/{id}/cancel", "schedule", version=STALE)],
    ("POST", "/meetings/{id}/begin"): [_chaired("/meetings/{id}/begin", "cancelled_schedule")],
    ("GET", "/meetings/{id}/calendar"): [item(OF_ROOM, _at("/meetings/{id}/calendar", "schedule"))],
    ("POST", "//whip/{room}"): [command(OF_ROOM, _offer("whip"))],
    ("POST", "//whep/{room}"): [command(OF_ROOM, _offer("whep"))],
    ("PATCH", "//whip/{room}/{resource}"): [
        command(OF_ROOM, _fragment("whip"), allowed_codes=("whip.missing",), at=dict.fromkeys(OF_ROOM, SELF))
    ],
    ("PATCH", "//whep/{room}/{resource}"): [
        command(OF_ROOM, _fragment("whep"), allowed_codes=("whep.missing",), at=dict.fromkeys(OF_ROOM, SELF))
    ],
    ("GET", "//whip/{room}"): [command(OF_ROOM, _at("/whip/{id}", "room"))],
    ("GET", "//whep/{room}"): [command(OF_ROOM, _at("/whep/{id}", "room"))],
    ("GET", "//whip/{room}/{resource}"): [
        command(OF_ROOM, _at("/whip/{id}/none", "closed_room"), allowed_codes=("whip.missing",),
                at=dict.fromkeys(OF_ROOM, SELF))
    ],
    ("GET", "//whep/{room}/{resource}"): [
        command(OF_ROOM, _at("/whep/{id}/none", "closed_room"), allowed_codes=("whep.missing",),
                at=dict.fromkeys(OF_ROOM, SELF))
    ],
    ("DELETE", "//whip/{room}/{resource}"): [
        # A resource belongs to who made it; that takes a real client, in the tests of media.
        command(OF_ROOM, _at("/whip/{id}/none", "closed_room"), allowed_codes=("whip.missing",),
                at=dict.fromkeys(OF_ROOM, SELF))
    ],
    ("DELETE", "//whep/{room}/{resource}"): [
        command(OF_ROOM, _at("/whep/{id}/none", "closed_room"), allowed_codes=("whep.missing",),
                at=dict.fromkeys(OF_ROOM, SELF))
    ],
    # fences and locations
    ("POST", "/fences"): [command(OF_INCIDENT, _in("/fences", "incident", "incident", name="x", geometry=AREA))],
    ("PATCH", "/fences/{id}"): [
        # A fence stands where its organisation stands; being bound to its incident is nothing here.
        command(OF_INCIDENT, _at("/fences/{id}", "fence", version=STALE), at={ASSIGNED: ANY})
    ],
    ("POST", "/fences/{id}/remove"): [
        command(OF_INCIDENT, _at("/fences/{id}/remove", "fence", version=STALE), at={ASSIGNED: ANY})
    ],
    ("POST", "/locations"): [command(OF_INCIDENT, _fix)],
    ("GET", "/locations"): [list_(OF_INCIDENT, _shown("/locations", "location"))],
    ("GET", "/units/nearest"): [list_(OF_INCIDENT, _shown("/units/nearest?lon=120&lat=30&limit=100", "unit"))],
    ("GET", "/units/{id}/track"): [item(OF_INCIDENT, _at("/units/{id}/track", "unit"))],
    ("GET", "/regions"): [item(OF_NODE, _plain("/regions"))],
    # the tree
    ("POST", "/tree/invitations"): [
        command(OF_NODE, _plain("/tree/invitations", name="x", kind="fixed", level="county"))
    ],
    ("POST", "/tree/join"): [command(OF_NODE, _plain("/tree/join", code="A" * 20))],
    ("GET", "/tree/line"): [item(OF_NODE, _plain("/tree/line"))],
    ("GET", "/incidents/{id}/ticks"): [item(OF_INCIDENT, _at("/incidents/{id}/ticks", "incident"))],
    # the rest
    ("POST", "/timers/{id}/release"): [
        command(OF_NODE, lambda s, role, relation: Ask(path="/timers/none/release", body={"fire": False}))
    ],
    ("POST", "/attachments"): [gate(_upload)],
    ("GET", "/attachments/{hash}"): [gate(_at("/attachments/{id}", "attachment"))],
}  # fmt: skip
