"""A whole node for tests of messages: the product's own assembly, a real database, a clock that can be moved on."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

import server
from command.base.clock import MICROSECONDS, Clock
from command.base.config import Config, load
from command.base.entry import By
from command.base.projection import Table
from command.base.rights import Actor, Role
from command.base.schema import Category, Level, Party, PartyKind, Place, Urgency
from command.domain.account import CreateAccount, OpenSession
from command.domain.incident import ReportIncident
from command.domain.order import IssueOrder, Means, Rung
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation, SavePerson
from command.edge.auth import COOKIE, token_hash
from command.log.writer import Commit, Receipt
from command.service import House, Service
from sms import part
from sms.worker import Sms
from tests.prepared import begin
from tests.sms.twilio_double import ACCOUNT, SENDER, TOKEN

NODE = By(account="node")
HOUR = 3600 * MICROSECONDS


class ShiftedClock(Clock):
    """The machine's clock, some way ahead: timers and deadlines come sooner without a sleep."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_us = round(ahead_s * MICROSECONDS)

    def now(self) -> int:
        return super().now() + self.ahead_us

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_us / MICROSECONDS

    def advance(self, seconds: float) -> None:
        self.ahead_us += round(seconds * MICROSECONDS)


def house(config: Config) -> House:
    """The server's house; of its parts only messages are started."""
    return dataclasses.replace(server.house(config), parts={part.NAME: part.start})


class Bench:
    """A started node and the handful of requests that tests of messages make."""

    def __init__(self, service: Service, clock: ShiftedClock) -> None:
        self.service, self.clock = service, clock
        self.node = service.node
        self.sms: Sms = service.node.parts[part.NAME]
        self.organisation = ""
        self.accounts: dict[str, Actor] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    async def ask(self, request: Any, actor: Actor | None = None) -> Receipt:
        by = NODE if actor is None else By(account=actor.account, person=actor.person, organisation=actor.organisation)
        return await self.node.log.append(request, by, actor=actor)

    async def get(self, table: Table[Any], key: str) -> Any:
        return await self.node.store.read(lambda c: self.node.store.shelf(table).get(c, key))

    async def rows(self, table: Table[Any], **equal: object) -> list[Any]:
        return await self.node.store.read(lambda c: self.node.store.shelf(table).select(c, equal=equal))

    async def until(self, table: Table[Any], good: Callable[[list[Any]], bool], **equal: object) -> list[Any]:
        """The rows, as soon as they are good; woken by commits."""
        wake = asyncio.Event()

        def heard(commit: Commit) -> None:
            wake.set()

        self.node.bus.listen(heard)
        async with asyncio.timeout(30):
            while True:
                wake.clear()
                rows = await self.rows(table, **equal)
                if good(rows):
                    return rows
                await wake.wait()

    async def seed(self) -> None:
        """One county with a duty officer, a leader and a notice reviewer."""
        county = SaveOrganisation(name="示范县", tier=Tier.COUNTY)
        self.organisation = (await self.ask(county)).id or ""
        for name, role in (("duty", Role.DUTY_OFFICER), ("leader", Role.LEADER), ("reviewer", Role.NOTICE_REVIEWER)):
            self.accounts[name] = await self.account(name, role)

    async def account(self, name: str, *roles: Role) -> Actor:
        request = CreateAccount(
            name=name,
            roles=list(roles),
            organisation=self.organisation,
            password_hash="x",
            must_change_password=False,
        )
        made = await self.ask(request)
        return Actor(account=made.id or "", name=name, roles=roles, organisation=self.organisation)

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[ClientSession]:
        """Somebody's HTTP, with a session."""
        token = f"token-of-{name}"
        expires = self.clock.now() + HOUR
        account = self.accounts[name].account
        await self.ask(OpenSession(id=token_hash(token), account=account, expires_at=expires))
        headers = {"Origin": self.service.config.public_url or self.url, "Cookie": f"{COOKIE}={token}"}
        async with ClientSession(f"{self.url}/api/v1/", headers=headers) as session:
            yield session

    async def person(self, number: str = "", *, language: str = "zh", off_duty: bool = False) -> str:
        request = SavePerson(
            name="某人",
            organisation=self.organisation,
            phones=[number] if number else [],
            language=language,
            off_duty=off_duty,
        )
        return (await self.ask(request)).id or ""

    async def incident(self, *, exercise: bool = False) -> str:
        request = ReportIncident(
            category=Category.ACCIDENT,
            level=Level.III,
            title="仓库起火",
            place=Place(lon=118.0, lat=32.0),
            organisation=self.organisation,
            exercise=exercise,
        )
        return (await self.ask(request)).id or ""

    async def order(self, incident: str, person: str, task: str = "到场增援") -> str:
        request = IssueOrder(
            incident=incident,
            assignee=Party(kind=PartyKind.PERSON, id=person),
            task=task,
            urgency=Urgency.EMERGENCY,
            ladder=[Rung(after_s=0, means=Means.SMS)],
        )
        return (await self.ask(request)).id or ""


@asynccontextmanager
async def bench(
    database_url: str,
    data: Path,
    *,
    clock: ShiftedClock | None = None,
    seed: bool = True,
    port: int = 0,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """A started node on `database_url`, stopped at the end."""
    settings = {"totp_required": "false", **settings}
    config = load({}, None, data=str(data), database=database_url, port=port, **settings)
    clock = clock or ShiftedClock()
    begin(config.database_url)
    service = Service(config, house(config), clock)
    try:
        await service.start()
        made = Bench(service, clock)
        if seed:
            await made.seed()
        yield made
    finally:
        await service.stop()


def twilio_settings(base_url: str, public_url: str = "http://127.0.0.1:1") -> dict[str, str]:
    """A node whose real messages go to the double at `base_url`; numbers of nobody stay local all the same."""
    return {
        "sms_gateway": "twilio",
        "sms_parts_per_s": "1000",
        "twilio_account_sid": ACCOUNT,
        "twilio_auth_token": TOKEN,
        "twilio_from": SENDER,
        "twilio_base_url": base_url,
        "public_url": public_url,
    }
