"""A line of real servers, each in a network namespace of its own, joined by wires: partitions and bad radio.

async with field(folder, "county", "vehicle") as f:
    f.wires[0].change(rate_bps=64_000, delay_s=0.4, loss=0.05)
    desk = await f.desk("county")          # a signed-in officer's client, inside that node's namespace
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from command import ca
from tests.command.assembly import Client
from tests.tree.processes import Laid, addressed, lay_out
from tests.tree.scene import until
from tests.wires import Space, Wire

SEED = 7


class Field:
    """Servers by name, `wires[n]` between the n-th node and the one below it."""

    def __init__(self, laid: dict[str, Laid], spaces: dict[str, Space], wires: list[Wire], authority: Path) -> None:
        self.laid, self.spaces, self.wires, self._authority = laid, spaces, wires, authority
        self.clients: list[Client] = []

    async def start(self, name: str) -> None:
        def run() -> None:
            with self.spaces[name].inside():
                self.laid[name].server.start()

        await asyncio.to_thread(run)

    def url(self, name: str) -> str:
        return self.laid[name].server.base_url

    async def desk(self, name: str, account: str = "leader") -> Client:
        space = self.spaces[name]

        def make(info: Any) -> Any:
            import socket

            family, kind, protocol, _, _ = info
            with space.inside():
                made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            return made

        context = ssl.create_default_context(cafile=str(self._authority))
        client = Client(self.url(name))
        await client.http.close()
        client.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(socket_factory=make, ssl=context, limit=64),
        )
        self.clients.append(client)
        await client.sign_in(account)
        return client

    async def line(self, name: str) -> Any:
        """What `name` says of its links."""
        desk = next((one for one in self.clients if one.base == self.url(name)), None) or await self.desk(name)
        return await desk.ok("GET", "/tree/line")

    async def linked(self, *names: str) -> None:
        for name in names:

            async def up(name: str = name) -> bool:
                return bool((await self.line(name))["linked"])

            await until(up)


def _trace(folder: Path, number: int) -> Path | None:
    """Where a wire writes its packets down: nowhere, unless TREE_TRACE is set."""
    return folder / f"wire{number}.jsonl" if os.environ.get("TREE_TRACE") else None


@asynccontextmanager
async def field(
    folder: Path, *names: str, before: Callable[[dict[str, Laid]], Awaitable[None]] | None = None, **settings: str
) -> AsyncIterator[Field]:
    """The servers of a line, running and linked over perfect wires; `before` they start, their data may be written to."""
    with ExitStack() as stack:
        spaces = {name: stack.enter_context(Space()) for name in names}
        wires = [
            stack.enter_context(
                Wire(spaces[above], spaces[below], number=number, seed=SEED + number, trace=_trace(folder, number))
            )
            for number, (above, below) in enumerate(pairwise(names))
        ]
        laid = await lay_out(folder, *names)
        if before is not None:
            await before(laid)
        hosts = [wire.address_a for wire in wires] + [wires[-1].address_b]
        made = ca.make(folder / "tls", hosts)
        for number, name in enumerate(names):
            above = laid[names[number - 1]].server if number else None
            parent = f"https://{hosts[number - 1]}:{above.port}" if above is not None else ""
            laid[name].server.tls = (made.certificate, made.key)
            addressed(laid, made.authority, name, hosts[number], parent, **settings)
        found = Field(laid, spaces, wires, made.authority)
        try:
            for name in names:
                await found.start(name)
            await found.linked(*names[1:])
            yield found
        finally:
            await asyncio.gather(*(client.http.close() for client in found.clients))
            for one in laid.values():
                one.server.kill()
