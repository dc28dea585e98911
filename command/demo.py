"""The demo node: a made-up province with accounts, units, a plan, a roster and staff, all plainly synthetic.

Shell. Runs once, at the first start of a demo data directory; every later start finds everything again. Numbers are of a
range reserved for fiction, so that no gateway reaches a person. Passwords are random, printed, and kept 0600.
"""

import asyncio
import secrets
from pathlib import Path
from typing import Any

from command.base.entry import By
from command.base.identity import write_secret
from command.base.projection import Row
from command.base.rights import Role
from command.base.schema import Category, Level, Party, PartyKind, Place, Urgency
from command.domain.account import CreateAccount
from command.domain.deadline import SaveReportRule, Superior
from command.domain.incident import Channel, SubReportKind
from command.domain.membership import EditNode
from command.domain.nodes import NODE, NodeKind, NodeLevel
from command.domain.notice import Recipients
from command.domain.order import Means, Rung
from command.domain.plan import PlannedFence, PlannedNotice, PlannedOrder, PlannedRoom, SavePlan
from command.domain.registry import ORGANISATION, Tier, UnitKind
from command.domain.registry_edits import SaveGroup, SaveOrganisation, SavePerson, SaveTemplate, SaveUnit
from command.domain.roster import AddShifts, PlannedShift
from command.service import Service
from geo import region, shape

CREDENTIALS = "demo-credentials"
STAFF = 60
NUMBER_PREFIX = "+447700900"
"""Ofcom's range for drama; China reserves none."""
DAY_US = 86_400_000_000
MONTH_US = 30 * DAY_US
MONTHS = 12
BY = By(account="node")

PROVINCE = "990000"
SHORT = {
    PROVINCE: "province",
    "990100": "west",
    "990200": "east",
    "990121": "county1",
    "990122": "county2",
    "990221": "county3",
    "990222": "county4",
}
PROVINCE_ROLES = {
    "resource": Role.RESOURCE_OFFICER,
    "chair": Role.MEETING_CHAIR,
    "reviewer": Role.NOTICE_REVIEWER,
    "viewer": Role.VIEWER,
    "sysadmin": Role.SYSTEM_ADMIN,
    "secadmin": Role.SECURITY_ADMIN,
    "auditor": Role.AUDIT_ADMIN,
}
UNITS = ((UnitKind.FIRE, "消防一队", "fire"), (UnitKind.MEDICAL, "急救一组", "medical"))


async def make(service: Service) -> None:
    """Make the demo at the first start, before anything listens."""
    path = Path(service.config.data) / CREDENTIALS
    if path.exists():
        return
    rows: list[Row] = await service.node.store.read(lambda c: service.node.store.shelf(ORGANISATION).select(c, limit=1))
    credentials = await _Demo(service).make() if not rows else {}
    lines = "".join(f"{name} {password}\n" for name, password in credentials.items())
    write_secret(path, lines.encode())


def announce(service: Service) -> None:
    """Print where the demo is and who may sign in; at every start."""
    path = Path(service.config.data) / CREDENTIALS
    scheme = "https" if service.config.tls else "http"
    print(f"\n烽火 Fenghuo demo: {scheme}://{service.config.host}:{service.port}/\n", flush=True)
    print(f"accounts (also in {path}):", flush=True)
    for line in path.read_text().splitlines():
        name, _, password = line.partition(" ")
        print(f"  {name:<16} {password}", flush=True)


async def name_node(service: Service, name: str, kind: NodeKind, level: NodeLevel, organisation: str) -> None:
    """Give this node the name, kind, level and organisation under which others see it."""
    store, here = service.node.store, service.node.log.node
    row = await store.read(lambda connection: store.shelf(NODE).get(connection, here))
    assert row is not None, "a node knows itself from its first entry on"
    named = EditNode(id=here, version=row.version, name=name, kind=kind, level=level, organisation=organisation)
    await service.node.log.append(named, BY)


class _Demo:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._node = service.node
        self._organisations: dict[str, str] = {}
        self._units: dict[str, list[str]] = {}
        self._staff: dict[str, list[str]] = {}
        self._places: dict[str, Place] = {}

    async def make(self) -> dict[str, str]:
        await self._make_organisations()
        await name_node(self._service, "示范省", NodeKind.FIXED, NodeLevel.PROVINCE, self._organisations[PROVINCE])
        await self._make_staff()
        await self._make_units()
        await self._make_roster()
        await self._make_texts()
        await self._make_rules()
        return await self._make_accounts()

    async def _add(self, request: Any) -> str:
        receipt = await self._node.log.append(request, BY)
        return receipt.id or ""

    async def _make_organisations(self) -> None:
        regions = region.load(region.demo())
        for feature in region.demo()["features"]:
            code = feature["properties"]["code"]
            found = regions.get(code)
            assert found is not None
            lon, lat = shape.parse(feature["geometry"]).centre
            self._places[code] = Place(lon=lon, lat=lat, address=found.name_zh)
            parent = region.parent_of(code)
            self._organisations[code] = await self._add(
                SaveOrganisation(
                    name=found.name_zh,
                    name_en=found.name_en,
                    tier=Tier(region.level_of(code)),
                    parent=self._organisations[parent] if parent else None,
                    region=code,
                    place=self._places[code],
                )
            )

    async def _make_staff(self) -> None:
        codes = list(self._organisations)
        for number in range(STAFF):
            code = codes[number % len(codes)]
            person = SavePerson(
                name=f"演示人员{number + 1:02d}",
                organisation=self._organisations[code],
                phones=[f"{NUMBER_PREFIX}{number:03d}"],
                title="值班员" if number < 2 * len(codes) else "队员",
                language="zh" if number % 5 else "en",
            )
            self._staff.setdefault(code, []).append(await self._add(person))

    async def _make_units(self) -> None:
        for code, organisation in self._organisations.items():
            if region.level_of(code) != "county":
                continue
            place = self._places[code]
            for number, (kind, name, _short) in enumerate(UNITS):
                unit = SaveUnit(
                    name=f"{place.address}{name}",
                    kind=kind,
                    organisation=organisation,
                    members=self._staff[code][2 + 2 * number : 4 + 2 * number],
                    home=Place(lon=place.lon + 0.08 * number - 0.04, lat=place.lat, address=place.address),
                )
                self._units.setdefault(code, []).append(await self._add(unit))

    async def _make_roster(self) -> None:
        """Two posts in every organisation, a month a shift, for a year."""
        start = self._node.clock.now() - DAY_US
        for code, organisation in self._organisations.items():
            shifts = [
                PlannedShift(
                    post=post,
                    person=person,
                    starts_at=start + month * MONTH_US,
                    ends_at=start + (month + 1) * MONTH_US,
                    leader=leader,
                )
                for person, post, leader in zip(
                    self._staff[code][:2], ("值班员", "带班领导"), (False, True), strict=True
                )
                for month in range(MONTHS)
            ]
            await self._add(AddShifts(organisation=organisation, shifts=shifts))

    async def _make_texts(self) -> None:
        for code, organisation in self._organisations.items():
            await self._add(SaveGroup(name="应急小组", organisation=organisation, persons=self._staff[code]))
        province = self._organisations[PROVINCE]
        await self._add(
            SaveTemplate(
                name="会议通知",
                organisation=province,
                kind="meeting",
                text_zh="【会议通知】{title}，{time}，地点：{place}。回复1确认。",
                text_en="[MEETING] {title}, {time}, at {place}. Reply 1 to confirm.",
            )
        )
        for code in (PROVINCE, "990121"):
            await self._add(self._plan(code))

    async def _make_rules(self) -> None:
        for sender, above in ((Tier.COUNTY, Superior.CITY), (Tier.CITY, Superior.PROVINCE)):
            for words, channel, limit_s in (
                ("重大以上事件十五分钟内电话报告", Channel.PHONE, 900),
                ("重大以上事件三十分钟内书面报告", Channel.WRITING, 1800),
            ):
                await self._add(
                    SaveReportRule(
                        name=words,
                        organisation=self._organisations[PROVINCE],
                        report=SubReportKind.FIRST,
                        levels=[Level.I, Level.II],
                        sender_tier=sender,
                        recipient_tier=above,
                        channel=channel,
                        limit_s=limit_s,
                    )
                )

    def _plan(self, code: str) -> SavePlan:
        county = "990121"
        ladder = [Rung(after_s=0, means=Means.SMS), Rung(after_s=300, means=Means.DUTY_LEADER)]
        orders = [
            PlannedOrder(
                assignee=Party(kind=PartyKind.UNIT, id=unit),
                task=task,
                ack_within_s=300,
                due_in_s=3600,
                ladder=ladder,
            )
            for unit, task in zip(self._units[county], ("赶赴现场灭火救援", "赶赴现场救治伤员"), strict=True)
        ]
        return SavePlan(
            name="危险化学品事故应急预案" if code == PROVINCE else "县级火灾应急预案",
            organisation=self._organisations[code],
            categories=[Category.ACCIDENT],
            levels=[Level.I, Level.II, Level.III] if code == PROVINCE else [Level.III, Level.IV],
            orders=orders,
            notice=PlannedNotice(
                text_zh="【应急响应】{incident}，请立即到岗。",
                text_en="[EMERGENCY] {incident}: report for duty at once.",
                recipients=Recipients(on_duty=[self._organisations[code], self._organisations[county]]),
                urgency=Urgency.EMERGENCY,
            ),
            room=PlannedRoom(title="应急会商"),
            fence=PlannedFence(name="警戒区", radius_m=1500),
        )

    async def _make_accounts(self) -> dict[str, str]:
        wanted: list[tuple[str, Role, str, str | None, str | None]] = []
        for code, short in SHORT.items():
            duty, leader = self._staff[code][:2]
            wanted.append((f"duty-{short}", Role.DUTY_OFFICER, code, duty, None))
            wanted.append((f"leader-{short}", Role.LEADER, code, leader, None))
            for team, (_kind, _name, trade) in zip(self._units.get(code, []), UNITS, strict=False):
                first = 2 if trade == "fire" else 4
                wanted.append((f"{trade}-{short}", Role.FIELD_MEMBER, code, self._staff[code][first], team))
        wanted += [(name, role, PROVINCE, None, None) for name, role in PROVINCE_ROLES.items()]
        passwords = {name: secrets.token_urlsafe(9) for name, *_ in wanted}
        hashes = await asyncio.gather(*(self._node.auth.hash(password) for password in passwords.values()))
        for (name, role, code, who, unit), password_hash in zip(wanted, hashes, strict=True):
            account = CreateAccount(
                name=name,
                roles=[role],
                organisation=self._organisations[code],
                person=who,
                unit=unit,
                password_hash=password_hash,
                must_change_password=False,
            )
            await self._add(account)
        return passwords
