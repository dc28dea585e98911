"""The authorisation matrix of the live feed: each kind of row x role x relation, in snapshots and in changes.

One socket per role follows every topic; then every kind of row is touched once in each relation.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

import server
from command.base.entry import By
from command.base.rights import RIGHTS, Relation, Role
from command.domain.account import CloseSession, EditAccount
from command.domain.convening import EditMeeting
from command.domain.deadline import REPORT_RULE, SaveReportRule
from command.domain.fence import EditFence
from command.domain.incident import AcknowledgeAlarm, AddNote, SubReport, SubReportKind
from command.domain.meeting import CloseRoom
from command.domain.membership import EditNode
from command.domain.minutes import SaveMinutes
from command.domain.nodes import NODE as NODE_TABLE
from command.domain.order import Progress, ProgressOrder
from command.domain.plan import PLAN, DecideActivation, SavePlan
from command.domain.registry import ACCOUNT, GROUP, ORGANISATION, PERSON, TEMPLATE, UNIT
from command.domain.registry_edits import SaveGroup, SaveOrganisation, SavePerson, SaveTemplate, SaveUnit
from command.domain.roll_call import Say
from command.domain.roster import AddShifts, PlannedShift
from sms.broadcast import CancelNotice, ReviewNotice
from sms.inbox import PHONE_TEXT, HandleInbound
from sms.outbox import MESSAGE, ReportGateway
from tests.security.scene import ANY, ASSIGNED, HOUR_US, LINE, NODE, ROLES, SELF, Scene, held_timer, offer, scene

VISIBLE = server.house().visible
TOPIC_RIGHTS = {topic.name.partition("/")[0]: topic.right for topic in server.house().topics}
Key = tuple[str, str]

OF_ROOM = {SELF: SELF, ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY}
IN_ROOM = ("meeting", "attendance", "chat", "roll_call", "minutes")
STANDS: dict[str, dict[Relation, Relation]] = {
    # table -> which of the scene's things there are, and where each stands for this table's rule
    "organisation": {ANY: ANY},
    "unit": {LINE: ANY, ANY: ANY},
    "person": {ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY},
    "group": {LINE: ANY, ANY: ANY},
    "shift": {LINE: ANY, ANY: ANY},
    "template": {LINE: ANY, ANY: ANY},
    "account": {ANY: ANY},
    "plan": {LINE: LINE, ANY: ANY},
    "report_rule": {LINE: LINE, ANY: ANY},
    "incident": {ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY},
    "order": {ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY},
    # An alarm, a report owed, an activation and a fence stand where their organisation stands, whoever the incident binds.
    "alarm": {ASSIGNED: ANY, LINE: LINE, ANY: ANY},
    "report_due": {ASSIGNED: ANY, LINE: LINE, ANY: ANY},
    "activation": {ASSIGNED: ANY, LINE: LINE, ANY: ANY},
    "fence": {ASSIGNED: ANY, LINE: LINE, ANY: ANY},
    "room": OF_ROOM,
    "meeting": OF_ROOM,
    "attendance": OF_ROOM,
    "chat": OF_ROOM,
    "roll_call": OF_ROOM,
    "minutes": OF_ROOM,
    "schedule": OF_ROOM,
    "notice": {SELF: SELF, LINE: LINE, ANY: ANY},
    "message": {LINE: LINE, ANY: ANY},
    "inbound": {LINE: LINE, ANY: ANY},
    "phone_text": {ANY: ANY},
    "gateway": {ANY: ANY},
    "session": {SELF: SELF, ANY: ANY},
    "timer": {ANY: ANY},
    "location": {ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY},
    "node": {ANY: ANY},
    "transfer": {ASSIGNED: ASSIGNED, LINE: LINE, ANY: ANY},
}
ALONE = {"term", "late", "ask", "tick", "presence"}
"""Tables of which a node that is alone has no row."""
CARRIERS = {
    "node": "tree",
    "account": "admin",
    **dict.fromkeys(IN_ROOM, "room"),
    "schedule": "meetings",
    "session": "sessions",
    "notice": "notices",
    "message": "notice",
    "inbound": "notices",
    "gateway": "notices",
    "phone_text": "phones",
    "timer": "held",
}
"""The topic that a table travels on, where it isn't `picture`."""


HIDDEN = {"person": "phones", "account": "roles"}
"""What a brief row leaves out. That of a gateway leaves out nothing, and nobody has the right on the whole node."""


def granted(role: Role, right: str) -> Relation:
    return RIGHTS[right].get(role, Relation.NONE)


def expected(table: str, role: Role, relation: Relation) -> str:
    """full, brief or absent."""
    carrier = CARRIERS.get(table, "picture")
    if granted(role, TOPIC_RIGHTS[carrier]) is Relation.NONE:
        return "absent"
    rule, at = VISIBLE[table], STANDS[table][relation]
    if granted(role, rule.right) >= at:
        return "full"
    return "brief" if rule.brief is not None and granted(role, "registry.read") is not Relation.NONE else "absent"


def found(table: str, row: Any) -> str:
    if row is None:
        return "absent"
    return "brief" if table == "gateway" or (table in HIDDEN and not row[HIDDEN[table]]) else "full"


class Screen:
    """One role's socket: what its snapshots held, and what came since `settle`."""

    def __init__(self, role: Role, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.role, self.socket = role, socket
        self.snapshot: dict[Key, Any] = {}
        self.changes: dict[Key, Any] = {}
        self.refused: dict[str, str] = {}

    async def follow(self, topics: list[str]) -> None:
        """Subscribe to each, and wait for every snapshot or refusal."""
        for topic in topics:
            await self.socket.send_json({"type": "subscribe", "topic": topic})
        answered: set[str] = set()
        while answered != set(topics):
            frame = await self.socket.receive_json(timeout=20)
            if frame["type"] == "snapshot":
                for table, rows in frame["tables"].items():
                    self.snapshot |= {(table, row["id"]): row for row in rows}
            elif frame["type"] == "error":
                self.refused[frame["topic"]] = frame["code"]
            else:
                self._take(frame)
                continue
            answered.add(frame["topic"])

    async def settle(self, marker: str) -> None:
        """Read until the row `marker` comes, which everybody sees and which was written last."""
        while ("organisation", marker) not in self.changes:
            self._take(await self.socket.receive_json(timeout=20))

    def _take(self, frame: Any) -> None:
        for row in frame.get("rows", ()):
            self.changes[row["table"], row["key"]] = row["row"]


@asynccontextmanager
async def screens(s: Scene) -> AsyncIterator[dict[Role, Screen]]:
    async with AsyncExitStack() as stack:
        found: dict[Role, Screen] = {}
        for role in ROLES:
            connecting = s.http.ws_connect(f"{s.base}/api/v1/live", headers=s.headers(role), max_msg_size=0)
            found[role] = Screen(role, await stack.enter_async_context(connecting))
        yield found


def topics_of(s: Scene, role: Role) -> list[str]:
    plain = ["picture", "tree", "admin", "sessions", "notices", "phones", "held", "unsettled", "meetings"]
    rooms = [f"room/{key}" for key in (*s.things["room"].values(), s.own["room"][role])]
    incidents = [f"incident/{key}" for key in s.things["incident"].values()]
    notices = [f"notice/{key}" for kind in ("sent", "notice") for key in s.things[kind].values()]
    return plain + incidents + notices + rooms


def cells(s: Scene, keys: dict[str, dict[Relation, Any]]) -> Iterator[tuple[str, Role, Relation, str]]:
    """(table, role, relation, key of the row)"""
    for table, at in STANDS.items():
        for relation in at:
            key = keys[table][relation]
            for role in ROLES:
                yield table, role, relation, key[role] if isinstance(key, dict) else key


def existing(s: Scene) -> dict[str, dict[Relation, Any]]:
    keys: dict[str, dict[Relation, Any]] = {table: dict(s.things.get(table, {})) for table in STANDS}
    for table in ("room", "notice", "session", "schedule", *IN_ROOM):
        keys[table][SELF] = s.own[table]
    keys["person"][ASSIGNED] = s.persons
    return keys


async def resave(s: Scene, table: Any, request: Any, key: str, **changes: Any) -> str:
    """Save a row of the registry again, as its next version."""
    [row] = [row for row in await s.rows(table) if row.id == key]
    names = [f.name for f in msgspec.structs.fields(request)]
    values = {name: getattr(row, name) for name in names if hasattr(row, name)}
    return await s.decide(request(**{**values, **changes}))


async def touch(s: Scene) -> dict[str, dict[Relation, Any]]:
    """Change, or make anew, a row of each table in each relation; the keys."""
    keys = existing(s)
    await _touch_registry(s, keys)
    for relation in (ASSIGNED, LINE, ANY):
        things = {name: rows[relation] for name, rows in s.things.items() if relation in rows}
        await s.decide(AddNote(id=things["incident"], text="x"))
        await s.decide(AcknowledgeAlarm(id=things["alarm"]))
        await s.decide(SubReport(id=things["incident"], kind=SubReportKind.FIRST, text="初报"))
        await s.decide(ProgressOrder(id=things["order"], step=Progress.READ))
        await s.decide(DecideActivation(id=things["activation"], version=1, approve=False))
        await s.decide(EditFence(id=things["fence"], version=1, name="改"))
        keys["chat"][relation] = await _touch_room(s, things["room"], things["schedule"])
        keys["transfer"][relation] = await offer(s, things["incident"])
    keys["chat"][SELF] = {}
    for role in ROLES:
        keys["chat"][SELF][role] = await _touch_room(s, s.own["room"][role], s.own["schedule"][role])
        await s.decide(CancelNotice(id=s.own["notice"][role], version=1))
    await _touch_messages(s, keys)
    await report(s, 500_000)
    [node] = [row for row in await s.rows(NODE_TABLE) if row.id == s.things["node"][ANY]]
    await s.decide(EditNode(id=node.id, version=node.version, name="改"))
    keys["timer"] = {ANY: await held_timer(s)}
    await s.decide(ReportGateway(gateway="test", blocked=False))
    accounts = {row.id: row for row in await s.rows(ACCOUNT)}
    mine = {role: (await s.node.auth.open(accounts[s.accounts[role]]))[1].id for role in ROLES}
    keys["session"] = {SELF: mine, ANY: (await s.node.auth.open(accounts[s.things["account"][ANY]]))[1].id}
    return keys


async def _touch_room(s: Scene, room: str, schedule: str) -> str:
    """Closing a room changes whatever is going on in it; the new line of chat."""
    line = await s.decide(Say(room=room, text="再见"))
    await s.decide(SaveMinutes(room=room, version=1, text="改"))
    await s.decide(EditMeeting(id=schedule, version=1, title="改", notify=False))
    await s.decide(CloseRoom(id=room))
    return line


async def _touch_registry(s: Scene, keys: dict[str, dict[Relation, Any]]) -> None:
    await resave(s, ORGANISATION, SaveOrganisation, s.things["organisation"][ANY])
    for relation in (LINE, ANY):
        for table, request in (
            (UNIT, SaveUnit),
            (GROUP, SaveGroup),
            (TEMPLATE, SaveTemplate),
            (PERSON, SavePerson),
            (PLAN, SavePlan),
            (REPORT_RULE, SaveReportRule),
        ):
            await resave(s, table, request, s.things[table.name][relation])
        starts_at = s.node.clock.now() + 20 * HOUR_US
        person = s.things["person"][relation]
        shift = PlannedShift(post="值班", person=person, starts_at=starts_at, ends_at=starts_at + HOUR_US)
        where = s.things["organisation"][relation]
        keys["shift"][relation] = await s.decide(AddShifts(organisation=where, shifts=[shift]))
    for role in ROLES:
        await resave(s, PERSON, SavePerson, s.persons[role])
    await s.decide(EditAccount(id=s.things["account"][ANY], version=1, language="en"))


async def _touch_messages(s: Scene, keys: dict[str, dict[Relation, Any]]) -> None:
    """A notice that a reviewer passes becomes messages, and these reach the local phones."""
    texts = {row.id for row in await s.rows(PHONE_TEXT)}
    for relation in (LINE, ANY):
        notice = s.things["notice"][relation]
        await s.decide(ReviewNotice(id=notice, version=1, passed=True), By(account="reviewer"))

        async def arrived(notice: str = notice) -> bool:
            return bool(await s.rows(MESSAGE, notice=notice, state="delivered"))

        await s.until(arrived)
        keys["message"][relation] = (await s.rows(MESSAGE, notice=notice))[0].id
        await s.decide(HandleInbound(id=s.things["inbound"][relation]))
    keys["phone_text"] = {ANY: next(row.id for row in await s.rows(PHONE_TEXT) if row.id not in texts)}


async def report(s: Scene, ago_us: int) -> None:
    at = s.node.clock.now() - ago_us
    fixes = [{"unit": unit, "lon": 120.0501, "lat": 30.0501, "at": at} for unit in s.things["unit"].values()]
    status, answer = await s.ask(Role.SERVICE, "POST", "/locations", {"fixes": fixes})
    assert status == 200 and answer["accepted"] == len(fixes), answer


async def mark(s: Scene, every: dict[Role, Screen], name: str) -> None:
    """Let everybody catch up."""
    marker = await s.decide(SaveOrganisation(name=name, tier="department"))  # type: ignore[arg-type]
    await asyncio.gather(*(screen.settle(marker) for screen in every.values()))


def test_every_table_of_the_feed_is_in_the_matrix() -> None:
    assert VISIBLE.keys() == STANDS.keys() | ALONE


@pytest.mark.timeout(120)
async def test_every_kind_of_row_goes_to_whom_the_table_says_in_snapshots_and_in_changes(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count, wrong = 0, []
    async with scene(database_url, tmp_path, log_level="error") as s, screens(s) as every:
        keys = existing(s)
        keys["phone_text"] = {ANY: (await s.rows(PHONE_TEXT))[0].id}
        await asyncio.gather(*(screen.follow(topics_of(s, screen.role)) for screen in every.values()))
        _check_refusals(s, every)
        before = list(cells(s, keys))
        changed = await touch(s)
        await mark(s, every, "标记")
        for where, rows in (("snapshot", before), ("changes", list(cells(s, changed)))):
            for table, role, relation, key in rows:
                seen: dict[Key, Any] = getattr(every[role], where)
                count += 1
                if found(table, seen.get((table, key))) != expected(table, role, relation):
                    wrong.append(f"{where} {table} {role} {relation.name}: not {expected(table, role, relation)}")
        await _moves(s, every, changed)
    assert not wrong, f"{len(wrong)} cells\n" + "\n".join(wrong)
    with capsys.disabled():
        print(f"\n{count} cells of the live feed")


def _check_refusals(s: Scene, every: dict[Role, Screen]) -> None:
    """A topic about a thing out of reach looks as if the thing weren't there."""
    for role, screen in every.items():
        for name in topics_of(s, role):
            kind, _, key = name.partition("/")
            widest = granted(role, TOPIC_RIGHTS[kind])
            kinds = (kind,) if kind in ("incident", "room") else ("sent", "notice")
            at = next((at for k in kinds for at, known in s.things[k].items() if known == key), Relation.SELF)
            code = "rights.denied" if widest is Relation.NONE else None if widest >= at else "live.topic"
            assert screen.refused.get(name) == code, (role, name, screen.refused.get(name), code)


async def _moves(s: Scene, every: dict[Role, Screen], keys: dict[str, dict[Relation, Any]]) -> None:
    """What moves out of sight is taken off the screens that showed it, and never mentioned on others."""
    for screen in every.values():
        screen.changes.clear()
    elsewhere = s.things["organisation"][ANY]
    unit, person = s.things["unit"][LINE], s.things["person"][LINE]
    await resave(s, UNIT, SaveUnit, unit, organisation=elsewhere)
    await report(s, 100_000)
    await resave(s, PERSON, SavePerson, person, organisation=elsewhere)
    ended = keys["session"][SELF][Role.VIEWER]
    await s.node.log.append(CloseSession(id=ended), NODE)
    await mark(s, every, "标记二")
    for role, screen in every.items():
        location = ("location", unit)
        before, after = expected("location", role, LINE), expected("location", role, ANY)
        if before == "absent":
            assert location not in screen.changes, role
        else:
            assert found("location", screen.changes[location]) == after, role
        assert found("person", screen.changes["person", person]) == expected("person", role, ANY), role
        if role in (Role.VIEWER, Role.SECURITY_ADMIN):
            assert screen.changes["session", ended] is None
        else:
            assert ("session", ended) not in screen.changes, role
