"""Patience with connections: how long a peer may take to say what it wants.

Edge. It never looks at a request; bodies have their own limits where they are read. Invariant: a connection on which no
request has ever been complete is closed `FIRST_REQUEST_S` to `FIRST_REQUEST_S + SWEEP_S` after it was seen first, so that
half a header sent slowly costs a stranger as much as it costs us.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

FIRST_REQUEST_S = 20.0
SWEEP_S = 5.0
KEEPALIVE_S = 75.0
"""Between two requests of one connection, the headers of the second included."""


class Patience:
    """Follows one server's connections; run `run()` supervised, and put `hear` first among the middlewares."""

    def __init__(self) -> None:
        self._since: dict[Any, float] = {}
        self._heard: set[Any] = set()

    @web.middleware
    async def hear(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Remember that this connection has said something."""
        self._heard.add(request.protocol)
        return await handler(request)

    async def run(self, server: web.Server) -> None:
        """Look at every connection from time to time."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(server, loop.time())

    def sweep(self, server: web.Server, now: float) -> int:
        """Close who has been silent for too long; how many. `now` is of the loop's clock, in seconds."""
        standing = set(server.connections)
        self._heard &= standing
        self._since = {one: self._since.get(one, now) for one in standing - self._heard}
        late = [one for one, since in self._since.items() if now - since >= FIRST_REQUEST_S]
        for one in late:
            one.force_close()
        return len(late)
