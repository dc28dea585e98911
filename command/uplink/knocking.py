"""Knocking: an attempt to connect, and another beside it every second for as long as nobody has answered.

Shell, part of the dialler. TCP repeats a lost SYN after 1, 3 and 7 s: a line that heals just after one would be left unused for
seconds. Invariant: as soon as one attempt is answered no other is begun, and those that were not answered are given up; so a
handshake goes over the line once, however slow the line is.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from command.base.errors import Unavailable
from command.base.supervise import end, spawn

AGAIN_S = 1.0
"""So long an attempt is alone. A round trip of the slowest radio is about as long, and a SYN is 60 octets."""
KNOCKS_MAX = 6
"""Attempts of one call; then the next address has its turn."""
LOOK_S = 0.1
_ESTABLISHED = 1
"""tcp_info's first octet, tcpi_state (net/tcp_states.h)."""

Opens = Callable[[aiohttp.ClientSession], Any]
Failures = (aiohttp.ClientError, OSError, TimeoutError)


class _Knock:
    """One attempt, begun when it is made. `found` is its WebSocket, `error` why there is none."""

    def __init__(self, name: str, opens: Opens, timeout: aiohttp.ClientTimeout) -> None:
        self.found: aiohttp.ClientWebSocketResponse | None = None
        self.error: Exception | None = None
        self._opens, self._timeout = opens, timeout
        self._sockets: list[socket.socket] = []
        self._session: aiohttp.ClientSession | None = None
        self.task = spawn(f"link.knock.{name}", self._run())

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(socket_factory=self._made)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)
        try:
            self.found = await self._opens(self._session)
        except Failures as error:
            self.error = error

    def _made(self, address: Any) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    @property
    def answered(self) -> bool:
        """Whether the other side has answered the SYN, or the attempt is over."""
        return self.task.done() or any(map(_established, self._sockets))

    async def close(self) -> None:
        await end(self.task)
        with contextlib.suppress(*Failures):
            if self.found is not None:
                await self.found.close()
        if self._session is not None:
            await self._session.close()


def _established(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except (OSError, AttributeError):  # closed; or no TCP of Linux
        return False


@contextlib.asynccontextmanager
async def knocking(
    name: str, opens: Opens, timeout: aiohttp.ClientTimeout
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The WebSocket that `opens` gives for a session, of the attempt that was answered first; closed at the end.

    Raises what that attempt raised, `Unavailable` when nobody answered any of them.
    """
    knocks: list[_Knock] = []
    try:
        answered = await _answered(name, opens, timeout, knocks)
        for one in [one for one in knocks if one is not answered]:
            knocks.remove(one)
            await one.close()
        await answered.task
        if answered.error is not None:
            raise answered.error
        assert answered.found is not None
        yield answered.found
    finally:
        for one in knocks:
            await one.close()


async def _answered(name: str, opens: Opens, timeout: aiohttp.ClientTimeout, knocks: list[_Knock]) -> _Knock:
    """The first that was answered; an attempt that merely ran out of time was not."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for one in knocks:
            if one.answered and not isinstance(one.error, TimeoutError):
                return one
        if loop.time() >= due:
            if len(knocks) == KNOCKS_MAX:
                raise Unavailable("link.unreachable", f"The other node has not answered {KNOCKS_MAX} attempts.")
            knocks.append(_Knock(name, opens, timeout))
            due = loop.time() + AGAIN_S
        waiting = [one.task for one in knocks if not one.task.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(max(0.0, due - loop.time()))
