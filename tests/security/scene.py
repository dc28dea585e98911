"""A running node with one account of every role, and things that stand to all of them in every relation there is.

Everything is made through the log of the real house and served over HTTP on a free loopback port. Accounts belong to a
city; `county` lies below it (LINE), `elsewhere` beside it (ANY). All the accounts' persons belong to the unit `squad` of
elsewhere: an order to it binds them (ASSIGNED). What is somebody's own (SELF) exists once per role.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from command.base.entry import By
from command.base.projection import Table
from command.base.rights import Relation, Role
from command.base.schema import Category, Level, Party, PartyKind, Place
from command.domain.account import CreateAccount
from command.domain.convening import CancelMeeting, ScheduleMeeting
from command.domain.deadline import SaveReportRule, Superior
from command.domain.fence import DrawFence
from command.domain.generation import OpenGeneration
from command.domain.handover import OfferOwnership
from command.domain.incident import INCIDENT, ReportIncident, SubReportKind
from command.domain.meeting import CloseRoom, Fact, Member, MemberFact, OpenRoom
from command.domain.membership import AdmitNode, InviteNode
from command.domain.minutes import SaveMinutes
from command.domain.nodes import NodeKind, NodeLevel
from command.domain.notice import NoticeKind, Recipients
from command.domain.order import IssueOrder, Progress, ProgressOrder
from command.domain.owing import REPORT_DUE
from command.domain.plan import RequestActivation, SavePlan
from command.domain.registry import ACCOUNT, Tier, UnitKind
from command.domain.registry_edits import SaveGroup, SaveOrganisation, SavePerson, SaveTemplate, SaveUnit
from command.domain.roll_call import Say, StartRollCall
from command.domain.roster import AddShifts, PlannedShift
from command.edge.api import Node
from command.edge.auth import COOKIE
from command.log.writer import Commit
from command.service import Service
from sms.broadcast import DraftNotice
from sms.inbox import TakeInbound
from sms.numbers import demo_number
from sms.outbox import MESSAGE, ReportGateway
from tests.node import service

NODE = By(account="node")
HOUR_US = 3600 * 1_000_000
ASSIGNED, LINE, ANY, SELF = Relation.ASSIGNED, Relation.LINE, Relation.ANY, Relation.SELF
ROLES = tuple(Role)
AREA = {"type": "Polygon", "coordinates": [[[120.0, 30.0], [120.1, 30.0], [120.1, 30.1], [120.0, 30.0]]]}


class Scene:
    """What a test needs to ask as anybody about anything: `things[kind][relation]`, `own[kind][role]`."""

    def __init__(self, running: Service) -> None:
        self.service = running
        self.base = f"http://127.0.0.1:{running.port}"
        self.things: dict[str, dict[Relation, str]] = {}
        self.own: dict[str, dict[Role, str]] = {}
        self.accounts: dict[Role, str] = {}
        self.persons: dict[Role, str] = {}
        self.tokens: dict[Role, str] = {}
        self.http: aiohttp.ClientSession
        self._keys = 0

    @property
    def node(self) -> Node:
        return self.service.node

    async def decide(self, request: Any, by: By = NODE) -> str:
        """As the node itself; the id of what was made."""
        return (await self.node.log.append(request, by)).id or ""

    def put(self, kind: str, relation: Relation, key: str) -> str:
        self.things.setdefault(kind, {})[relation] = key
        return key

    def get(self, kind: str, relation: Relation, role: Role) -> str:
        return self.own[kind][role] if relation is SELF else self.things[kind][relation]

    async def rows(self, table: Table[Any], **equal: object) -> list[Any]:
        return await self.node.store.read(lambda c: self.node.store.shelf(table).select(c, equal=equal))

    def headers(self, role: Role) -> dict[str, str]:
        """Those of a browser: cookie and Origin, and a new Idempotency-Key."""
        self._keys += 1
        return {
            "Cookie": f"{COOKIE}={self.tokens[role]}",
            "Origin": self.base,
            "Idempotency-Key": f"scene-{self._keys}",
        }

    async def ask(
        self, role: Role, method: str, path: str, body: Any = None, *, data: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded answer."""
        path = path if path.startswith(("/whip/", "/whep/")) else f"/api/v1{path}"
        sent = self.headers(role) | headers
        async with self.http.request(method, self.base + path, json=body, data=data, headers=sent) as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def until(self, good: Callable[[], Awaitable[bool]]) -> None:
        """Wait for commits until `good`."""
        moved = asyncio.Event()

        def on_commit(commit: Commit) -> None:
            moved.set()

        self.node.bus.listen(on_commit)
        async with asyncio.timeout(30):
            while not await good():
                await moved.wait()
                moved.clear()


@asynccontextmanager
async def scene(database_url: str, data: Path, **settings: Any) -> AsyncIterator[Scene]:
    """The node, furnished, with a session of every role."""
    async with service(database_url, data, listen=True, **settings) as running:
        made = Scene(running)
        jar = aiohttp.DummyCookieJar()
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as http:
            made.http = http
            await _registry(made)
            await _accounts(made)
            await _incidents(made)
            await _offers(made)
            await _rooms(made)
            await _notices(made)
            await _rest(made)
            yield made


async def _registry(s: Scene) -> None:
    province = await s.decide(SaveOrganisation(name="省", tier=Tier.PROVINCE))
    city = s.put("own_organisation", ANY, await s.decide(SaveOrganisation(name="市", tier=Tier.CITY, parent=province)))
    s.put("organisation", LINE, await s.decide(SaveOrganisation(name="县", tier=Tier.COUNTY, parent=city)))
    s.put("organisation", ANY, await s.decide(SaveOrganisation(name="邻市", tier=Tier.CITY, parent=province)))
    s.put("aside", ANY, await s.decide(SaveOrganisation(name="旁县", tier=Tier.COUNTY, parent=province)))
    for number, relation in enumerate((LINE, ANY)):
        where = s.things["organisation"][relation]
        person = SavePerson(name="人员", organisation=where, phones=[demo_number(number)])
        s.put("person", relation, await s.decide(person))
        s.put("unit", relation, await s.decide(SaveUnit(name="队", kind=UnitKind.FIRE, organisation=where)))
        s.put("group", relation, await s.decide(SaveGroup(name="组", organisation=where)))
        template = SaveTemplate(name="模板", organisation=where, text_zh="{incident}", text_en="{incident}")
        s.put("template", relation, await s.decide(template))
        now = s.node.clock.now()
        shift = PlannedShift(
            post="值班", person=s.things["person"][relation], starts_at=now - HOUR_US, ends_at=now + 9 * HOUR_US
        )
        s.put("shift", relation, await s.decide(AddShifts(organisation=where, shifts=[shift])))
        s.put("plan", relation, await s.decide(SavePlan(name="预案", organisation=where)))
        rule = SaveReportRule(
            name="时限",
            organisation=where,
            report=SubReportKind.FIRST,
            sender_tier=Tier.COUNTY if relation is LINE else Tier.CITY,
            recipient_tier=Superior.CITY if relation is LINE else Superior.PROVINCE,
            limit_s=30 * 24 * 3600,
        )
        s.put("report_rule", relation, await s.decide(rule))


async def _accounts(s: Scene) -> None:
    elsewhere = s.things["organisation"][ANY]
    for number, role in enumerate(ROLES):
        person = SavePerson(name=f"人员 {role}", organisation=elsewhere, phones=[demo_number(100 + number)])
        s.persons[role] = await s.decide(person)
    s.own["person"] = s.persons
    unit = SaveUnit(name="小队", kind=UnitKind.RESCUE, organisation=elsewhere, members=list(s.persons.values()))
    squad = s.put("unit", ASSIGNED, await s.decide(unit))
    for role in ROLES:
        request = CreateAccount(
            name=f"test-{role}".replace("_", "-"),
            roles=[role],
            organisation=s.things["own_organisation"][ANY],
            person=s.persons[role],
            unit=squad,
            password_hash="none",
            must_change_password=False,
        )
        s.accounts[role] = await s.decide(request)
    spare = CreateAccount(name="spare", roles=[Role.VIEWER], organisation=elsewhere, password_hash="none")
    s.put("account", ANY, await s.decide(spare))
    for row in await s.rows(ACCOUNT):
        token, session = await s.node.auth.open(row, address="127.0.0.1")
        if row.id in s.accounts.values():
            role = row.roles[0]
            s.tokens[role] = token
            s.own.setdefault("session", {})[role] = session.id
        else:
            s.put("session", ANY, session.id)


async def _incidents(s: Scene) -> None:
    place = Place(lon=120.05, lat=30.05)
    for relation in (ASSIGNED, LINE, ANY):
        where = s.things["organisation"][LINE if relation is LINE else ANY]
        report = ReportIncident(
            category=Category.ACCIDENT, level=Level.III, title="事件", place=place, organisation=where, area=AREA
        )
        incident = s.put("incident", relation, await s.decide(report))
        s.put("alarm", relation, f"incident-{incident}")
        assignee = Party(kind=PartyKind.ORGANISATION, id=s.things["aside"][ANY])
        if relation is ASSIGNED:
            assignee = Party(kind=PartyKind.UNIT, id=s.things["unit"][ASSIGNED])
        order = IssueOrder(incident=incident, assignee=assignee, task="任务", ladder=[])
        s.put("order", relation, await s.decide(order))
        await s.decide(ProgressOrder(id=s.things["order"][relation], step=Progress.DELIVERED))
        plan = s.things["plan"][LINE]
        activation = RequestActivation(incident=incident, plan=plan, version=1)
        s.put("activation", relation, await s.decide(activation))
        s.put("fence", relation, await s.decide(DrawFence(incident=incident, name="围栏", geometry=AREA)))
        await s.until(lambda: _has_due(s, incident))  # noqa: B023 - awaited in the same turn
        s.put("report_due", relation, (await s.rows(REPORT_DUE, incident=incident))[0].id)


async def _has_due(s: Scene, incident: str) -> bool:
    return bool(await s.rows(REPORT_DUE, incident=incident))


async def _offers(s: Scene) -> None:
    """A node below this one, and an offer of each incident to such a one."""
    s.put("node", ANY, await admitted(s))
    for relation in (ASSIGNED, LINE, ANY):
        s.put("transfer", relation, await offer(s, s.things["incident"][relation]))


async def admitted(s: Scene) -> str:
    """A new node below this one."""
    invitation = InviteNode(name="县", kind=NodeKind.FIXED, level=NodeLevel.COUNTY, code="A" * 20)
    return await s.decide(AdmitNode(invitation=await s.decide(invitation), public_key=s.node.clock.token(32)))


async def offer(s: Scene, incident: str) -> str:
    """An offer of the incident to a new node."""
    row = await s.node.store.read(lambda c: s.node.store.shelf(INCIDENT).get(c, incident))
    return await s.decide(OfferOwnership(incident=incident, version=row.version, to=await admitted(s), reason="移交"))


async def _rooms(s: Scene) -> None:
    """An open and a closed one each: what asks a closed room is refused by its state, after the rights were passed."""
    for relation in (ASSIGNED, LINE, ANY):
        for kind in ("room", "closed_room"):
            request = OpenRoom(incident=s.things["incident"][relation], title="会议", chair="nobody")
            s.put(kind, relation, await s.decide(request))
        await s.decide(CloseRoom(id=s.things["closed_room"][relation]))
    for role in ROLES:
        for kind in ("room", "closed_room"):
            request = OpenRoom(incident=s.things["incident"][ANY], title="会议", chair=s.accounts[role])
            s.own.setdefault(kind, {})[role] = await s.decide(request)
        await s.decide(CloseRoom(id=s.own["closed_room"][role]))
        await _meetings(s, role)
    for relation in (ASSIGNED, LINE, ANY):
        await _meetings(s, relation)


async def _meetings(s: Scene, whose: Role | Relation) -> None:
    """Something of each kind in a room, and a scheduled and a cancelled meeting that stand as it does."""
    made: dict[str, str] = {}
    room = s.own["room"][whose] if isinstance(whose, Role) else s.things["room"][whose]
    member = Member(id=s.node.clock.id(), account="somebody", name="某人", joined_at=s.node.clock.now())
    await s.decide(MemberFact(room=room, member=member, fact=Fact.JOINED))
    made["meeting"] = made["minutes"] = room
    made["attendance"] = f"{room}.somebody"
    made["chat"] = await s.decide(Say(room=room, text="你好"))
    made["roll_call"] = await s.decide(StartRollCall(room=room, within_s=3600))
    await s.decide(SaveMinutes(room=room, text="纪要"))
    start = s.node.clock.now() + HOUR_US
    for kind in ("schedule", "cancelled_schedule"):
        request = ScheduleMeeting(
            title="例会",
            organisation=s.things["organisation"][LINE if whose is LINE else ANY],
            chair=s.accounts[whose] if isinstance(whose, Role) else s.things["account"][ANY],
            persons=list(s.persons.values()) if whose is ASSIGNED else [],
            starts_at=start,
            ends_at=start + HOUR_US,
            notify=False,
        )
        made[kind] = await s.decide(request)
    await s.decide(CancelMeeting(id=made["cancelled_schedule"], version=1, notify=False))
    for kind, key in made.items():
        if isinstance(whose, Role):
            s.own.setdefault(kind, {})[whose] = key
        else:
            s.put(kind, whose, key)


async def _notices(s: Scene) -> None:
    """`notice` waits for a review; `sent` was issued and has one message each, and one text that came back."""
    for number, relation in enumerate((LINE, ANY)):
        where = s.things["organisation"][relation]
        recipients = Recipients(persons=[s.things["person"][relation]])
        for kind, name in ((NoticeKind.BULLETIN, "notice"), (NoticeKind.CALL_OUT, "sent")):
            request = DraftNotice(kind=kind, text_zh="通知", recipients=recipients, organisation=where)
            s.put(name, relation, await s.decide(request))
        await s.until(lambda: _has_message(s, s.things["sent"][relation]))  # noqa: B023 - awaited in the same turn
        s.put("message", relation, (await s.rows(MESSAGE, notice=s.things["sent"][relation]))[0].id)
        text = TakeInbound(
            gateway="test", gateway_id=f"in-{relation}", sender=demo_number(number), recipient="1", text="什么?"
        )
        s.put("inbound", relation, await s.decide(text))
    elsewhere = s.things["organisation"][ANY]
    recipients = Recipients(persons=[s.things["person"][ANY]])
    for role in ROLES:
        request = DraftNotice(kind=NoticeKind.BULLETIN, text_zh="通知", recipients=recipients, organisation=elsewhere)
        s.own.setdefault("notice", {})[role] = await s.decide(request, By(account=s.accounts[role]))
    s.put("gateway", ANY, "test")
    await s.decide(ReportGateway(gateway="test", blocked=True))


async def _has_message(s: Scene, notice: str) -> bool:
    return bool(await s.rows(MESSAGE, notice=notice, state="delivered"))


async def _rest(s: Scene) -> None:
    now = s.node.clock.now()
    fixes = [{"unit": key, "lon": 120.05, "lat": 30.05, "at": now - 1_000_000} for key in s.things["unit"].values()]
    status, answer = await s.ask(Role.SERVICE, "POST", "/locations", {"fixes": fixes})
    assert (status, answer["accepted"]) == (200, len(fixes)), answer
    s.things["location"] = s.things["unit"]
    s.put("timer", ANY, await held_timer(s))
    status, answer = await s.ask(
        Role.DUTY_OFFICER, "POST", "/attachments", data=b"some octets", **{"Content-Type": "application/octet-stream"}
    )
    assert status == 201, answer
    s.put("attachment", ANY, answer["hash"])


async def held_timer(s: Scene) -> str:
    """A timer that is due and held, as a restore leaves it: both requests fall into one batch, before it can fire."""
    assignee = Party(kind=PartyKind.ORGANISATION, id=s.things["aside"][ANY])
    request = IssueOrder(incident=s.things["incident"][ANY], assignee=assignee, task="任务", ack_within_s=0, ladder=[])
    restored = OpenGeneration(id=s.node.clock.token(), public_key="", restored=True)
    receipt, _ = await asyncio.gather(s.node.log.append(request, NODE), s.node.log.append(restored, NODE))
    return f"{receipt.id}-ack"


async def leaver(s: Scene) -> str:
    """The token of a new session of somebody of no importance."""
    if "leaver" not in s.own:
        organisation = s.things["organisation"][ANY]
        request = CreateAccount(name="leaver", roles=[Role.VIEWER], organisation=organisation, password_hash="none")
        s.own["leaver"] = {Role.VIEWER: await s.decide(request)}
    [row] = await s.rows(ACCOUNT, name="leaver")
    token, _ = await s.node.auth.open(row)
    return token
