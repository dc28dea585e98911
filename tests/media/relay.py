"""A lossy wire between browsers and a worker: a UDP relay that drops packets by a seeded pattern and delays the rest.

Not part of the product. Invariant: it drops and delays, it never changes or reorders bytes of one direction.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

Address = tuple[str, int]


class _Leg(asyncio.DatagramProtocol):
    def __init__(self, heard: Any) -> None:
        self._heard = heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._heard(data, addr)


class Relay:
    """Listens on `port`; every client address gets a socket of its own towards the worker."""

    def __init__(
        self, worker_port: int, *, up_loss: float, down_loss: float, delay_s: float = 0.0, seed: int = 1
    ) -> None:
        self.port = 0
        self.up_loss = up_loss
        self.down_loss = down_loss
        self.delay_s = delay_s
        self.dropped = 0
        self._worker = ("127.0.0.1", worker_port)
        self._random = random.Random(seed)
        self._legs: dict[Address, Any] = {}

    async def open(self, host: str = "127.0.0.1") -> None:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Leg(self._up), local_addr=(host, 0))
        self.port = self._front.get_extra_info("sockname")[1]

    def _up(self, data: bytes, client: Address) -> None:
        leg = self._legs.get(client)
        if leg is None:
            leg = self._legs[client] = asyncio.ensure_future(self._new_leg(client))
        leg.add_done_callback(lambda done: self._pass(data, self.up_loss, done.result(), self._worker))

    async def _new_leg(self, client: Address) -> Any:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Leg(lambda data, _: self._pass(data, self.down_loss, self._front, client)),
            local_addr=("127.0.0.1", 0),
        )
        return transport

    def _pass(self, data: bytes, loss: float, transport: Any, target: Address) -> None:
        media = 127 < data[0] < 192
        if media and self._random.random() < loss:
            self.dropped += 1
            return
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, transport.sendto, data, target)
        else:
            transport.sendto(data, target)

    def rebind(self) -> None:
        """A NAT forgot its bindings: from now on each client reaches the worker from another port."""
        for leg in self._legs.values():
            leg.result().close()
        self._legs.clear()

    def close(self) -> None:
        self._front.close()
        for leg in self._legs.values():
            if leg.done():
                leg.result().close()
