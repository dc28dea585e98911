"""A small node for tests of administration: the real service on a free loopback port, with accounts to sign in as.

No double anywhere: requests go over HTTP into the log of a real database.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

import server
from command.base.clock import Clock
from command.base.config import Config
from command.base.entry import By
from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge.api import Node
from command.log.timeline import read
from command.service import Service
from tests.node import HASH_MIB
from tests.prepared import begin

PASSWORD = "correct horse 9"
NODE = By(account="node")
_keys = itertools.count()


class Client:
    """A browser without a screen: one cookie jar, the Origin of the page, a new Idempotency-Key per command."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.headers: dict[str, str] = {}

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, data: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded answer."""
        sent = {"Origin": self.base, "Idempotency-Key": key or f"key-{next(_keys)}", **self.headers, **headers}
        async with self.http.request(method, f"{self.base}/api/v1{path}", json=body, data=data, headers=sent) as answer:
            self.answer = answer
            text = await answer.text()
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, text

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The answer of a call that must succeed."""
        status, answer = await self.call(method, path, body, **more)
        assert status in (200, 204), (method, path, status, answer)
        return answer

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Status and code of a call that must fail."""
        status, answer = await self.call(method, path, body, **more)
        assert status >= 400, (method, path, status, answer)
        return status, answer["code"]

    async def sign_in(self, name: str, password: str = PASSWORD, code: str | None = None) -> Any:
        return await self.ok("POST", "/session", {"name": name, "password": password, "code": code})


class Assembly:
    """A running node and what tests ask of it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.base = f"http://127.0.0.1:{service.port}"
        self.clients: list[Client] = []
        self.organisations: dict[str, str] = {}
        self.accounts: dict[str, str] = {}
        self._hash = ""

    @property
    def node(self) -> Node:
        return self.service.node

    async def decide(self, request: Any) -> str:
        """As the node itself; the id of what was made."""
        receipt = await self.node.log.append(request, NODE)
        return receipt.id or ""

    async def organisation(self, name: str, tier: Tier, parent: str | None = None) -> str:
        above = self.organisations[parent] if parent else None
        self.organisations[name] = await self.decide(SaveOrganisation(name=name, tier=tier, parent=above))
        return self.organisations[name]

    async def account(self, name: str, roles: Iterable[Role], organisation: str, **more: Any) -> str:
        """An account with PASSWORD that may sign in at once."""
        self._hash = self._hash or await self.node.auth.hash(PASSWORD)
        request = CreateAccount(
            name=name,
            roles=list(roles),
            organisation=self.organisations[organisation],
            password_hash=self._hash,
            must_change_password=False,
            **more,
        )
        self.accounts[name] = await self.decide(request)
        return self.accounts[name]

    def client(self) -> Client:
        self.clients.append(Client(self.base))
        return self.clients[-1]

    async def signed_in(self, name: str) -> Client:
        client = self.client()
        await client.sign_in(name)
        return client

    async def entries(self, subject: str) -> list[Any]:
        """Entries of a subject, oldest first."""
        return await self.node.store.read(lambda connection: read(connection, subject, limit=10_000))


@asynccontextmanager
async def assembled(
    database_url: str, data: Path, *, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Assembly]:
    """A node with a province, a city and two counties, and one account for each role that administration is about."""
    chosen = {"totp_required": False, "password_hash_mib": HASH_MIB, **settings}
    config = Config(data=str(data / "node"), database=database_url, port=0, **chosen)
    begin(config.database_url)
    service = Service(config, server.house(config), clock)
    await service.start()
    assembly = Assembly(service)
    try:
        await assembly.organisation("省", Tier.PROVINCE)
        await assembly.organisation("市", Tier.CITY, "省")
        await assembly.organisation("东县", Tier.COUNTY, "市")
        await assembly.organisation("西县", Tier.COUNTY, "市")
        for name, role in (
            ("system", Role.SYSTEM_ADMIN),
            ("security", Role.SECURITY_ADMIN),
            ("audit", Role.AUDIT_ADMIN),
            ("officer", Role.DUTY_OFFICER),
        ):
            await assembly.account(name, [role], "市")
        yield assembly
    finally:
        await asyncio.gather(*(client.http.close() for client in assembly.clients))
        await service.stop()
