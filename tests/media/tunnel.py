"""A client behind a network that lets only TCP through: UDP on its side, the worker's TCP port (RFC 4571) on the other.

Not part of the product. Invariant: `pause()` stops reading from the worker altogether, as a stalled radio link would; nothing
is lost or reordered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

RECEIVE_BYTES = 8192


class Tunnel:
    """One connection. `port` is where the client sends; the first who sends there is the client."""

    def __init__(self) -> None:
        self.port = 0
        self._client: tuple[str, int] | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, worker_port: int) -> None:
        loop = asyncio.get_running_loop()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self.port = self._udp.getsockname()[1]
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._tcp.setblocking(False)
        await loop.sock_connect(self._tcp, ("127.0.0.1", worker_port))
        self._tasks = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())]

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def _up(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data, self._client = await loop.sock_recvfrom(self._udp, 2048)
            await loop.sock_sendall(self._tcp, len(data).to_bytes(2, "big") + data)

    async def _down(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = b""
        while True:
            await self._reading.wait()
            data = await loop.sock_recv(self._tcp, RECEIVE_BYTES)
            if not data:
                return
            waiting += data
            while len(waiting) >= 2 and len(waiting) >= 2 + int.from_bytes(waiting[:2], "big"):
                size = int.from_bytes(waiting[:2], "big")
                if self._client is not None:
                    await loop.sock_sendto(self._udp, waiting[2 : 2 + size], self._client)
                waiting = waiting[2 + size :]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await task
        self._udp.close()
        self._tcp.close()
