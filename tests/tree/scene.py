"""Nodes of a tree in the test's own process: real services over real databases, joined by real WebSockets on loopback.

async with tree(tmp_path, "province", "city", "county") as nodes:      # a line, each the superior of the next
    await nodes.linked()
    await nodes["county"].decide(...)
    await nodes.settled()
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import server
from command.base.config import load
from command.base.entry import By
from command.domain.membership import InviteNode
from command.domain.nodes import NodeKind, NodeLevel
from command.edge.api import Node
from command.log.timeline import read
from command.service import Service
from command.tree import pairing
from command.uplink.dialler import JOIN_FILE
from command.uplink.uplink import PART, Uplink
from tests.prepared import begin

NODE = By(account="node")
PATIENCE_S = 30.0
KINDS = {
    "province": (NodeKind.FIXED, NodeLevel.PROVINCE),
    "city": (NodeKind.FIXED, NodeLevel.CITY),
    "county": (NodeKind.FIXED, NodeLevel.COUNTY),
    "vehicle": (NodeKind.MOBILE, NodeLevel.FIELD),
}


async def until(ready: Callable[[], Any], what: str = "") -> None:
    """Wait for something that another task brings about; there is nothing to wait on but looking."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = ready()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


class Member:
    """One node of the tree, which can be stopped and started again on the same data."""

    def __init__(self, name: str, data: Path, parent: "Member | None") -> None:
        self.name, self.data, self.superior = name, data, parent
        self.port = 0
        self.settings: dict[str, Any] = {}
        """Beside those below, from the next start on."""
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        assert self._service is not None, f"{self.name} is not running"
        return self._service

    @property
    def node(self) -> Node:
        return self.service.node

    @property
    def uplink(self) -> Uplink:
        found = self.node.parts[PART]
        assert isinstance(found, Uplink)
        return found

    @property
    def id(self) -> str:
        return self.uplink.me

    async def start(self) -> None:
        parent = "" if self.superior is None else f"http://127.0.0.1:{self.superior.port}"
        settings = {"port": self.port, "totp_required": False, "node_name": self.name, "parent": parent}
        config = load({}, None, **(settings | {"data": str(self.data)} | self.settings))
        begin(config.database_url)
        self._service = Service(config, server.house(config))
        await self._service.start()
        self.port = self._service.port  # the same after a restart: whoever dials it finds it again

    async def stop(self) -> None:
        running, self._service = self.service, None
        await running.stop()

    @property
    def running(self) -> bool:
        return self._service is not None

    async def decide(self, request: Any) -> str:
        """As the node itself; the id of what was made."""
        return (await self.node.log.append(request, NODE)).id or ""

    async def invite(self, name: str) -> str:
        """A code for a new node below this one."""
        kind, level = KINDS[name.rstrip("0123456789")]
        code = pairing.new_code(self.node.clock.octets(pairing.CODE_OCTETS))
        await self.decide(InviteNode(name=name, kind=kind, level=level, code=code))
        return code

    async def join(self, code: str) -> None:
        (self.data / JOIN_FILE).write_text(code)
        await until(lambda: self.uplink.parent is not None)

    async def entries(self, subject: str) -> list[Any]:
        return await self.node.store.read(lambda connection: read(connection, subject, limit=100_000))

    def linked(self) -> bool:
        """Up to the superior, when there is one."""
        parent = self.uplink.parent
        return parent is None or (parent in self.uplink.peers and self.uplink.peers[parent].linked)


class Tree(dict[str, Member]):
    """Members by name."""

    async def linked(self) -> None:
        await until(lambda: all(member.linked() for member in self.values() if member.running))

    async def same(self, subject: str, *names: str, count: int = 1) -> list[str]:
        """Wait until the named nodes (all, when none) hold the same entries of a subject, at least `count`; their hashes,
        sorted."""
        members = [self[name] for name in names] or list(self.values())
        found: list[list[str]] = []

        async def equal() -> bool:
            found[:] = [sorted(item.id for item in await member.entries(subject)) for member in members]
            return len(found[0]) >= count and all(one == found[0] for one in found)

        await until(equal)
        return found[0]


@asynccontextmanager
async def tree(folder: Path, *names: str) -> AsyncIterator[Tree]:
    """A line of paired, linked nodes, the root first."""
    found = Tree()
    try:
        above: Member | None = None
        for name in names:
            member = Member(name, folder / name, above)
            found[name] = member
            await member.start()
            if above is not None:
                await member.join(await above.invite(name))
            above = member
        yield found
    finally:
        for member in reversed(list(found.values())):
            if member.running:
                await member.stop()
