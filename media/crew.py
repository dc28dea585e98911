"""The media workers of a node, and which room is where: a new room goes to the one that forwards the fewest packets.

Never touches media packets. Invariant: a room stays with its worker until it closes, and only what that worker's rooms lost
is told when it is started again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from command.base.errors import FenghuoError, Missing, Unavailable
from media import control
from media.nursery import Nursery
from media.remote import MediaWorker

WORKERS_MAX = 32
SPREAD_PACKETS_PER_S = 10_000
"""What the idlest worker forwards when another is started beside it: less than a tenth of a processor."""
INTERVAL_S = 5.0
"""What `control.Quality` counts over."""
LARGEST = ("lag_ms", "overload", "port")
"""Of `stats` the largest of all workers counts, of everything else the sum."""

journal = structlog.get_logger("media")


class Load(NamedTuple):
    """What a worker carries: packets a second in and out of its clients' connections, and rooms."""

    packets_per_s: float
    rooms: int


def idlest(loads: Sequence[Load], most: int) -> int | None:
    """Which worker takes the next room, by place; None: another one is to be started (at most `most` run)."""
    at = min(range(len(loads)), key=lambda each: loads[each], default=None)
    if at is None or (loads[at].packets_per_s > SPREAD_PACKETS_PER_S and len(loads) < most):
        return None
    return at


def merged(stats: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The counters of several workers as one; None of none."""
    if not stats:
        return None
    whole = dict(stats[0])
    for name, value in whole.items():
        values = [one[name] for one in stats]
        if isinstance(value, dict):
            whole[name] = dict(sum((Counter(one) for one in values), Counter()))
        elif isinstance(value, bool):
            whole[name] = all(values)
        else:
            whole[name] = max(values) if name in LARGEST else sum(values)
    return whole


class Crew:
    """Starts workers as they are needed. `on_event` hears everything they say but the word that one is ready; `on_lost` the
    rooms and connections of one that was started again. `port` is the first worker's, the next ones take those after it
    (0: any). `most` 0: one per processor but one, but a single one on a fixed port, as other ports may be shut."""

    def __init__(
        self,
        on_event: Callable[[control.AnyEvent], None],
        on_lost: Callable[[Collection[str], Collection[str]], None],
        *,
        addresses: list[str],
        port: int = 0,
        most: int = 0,
    ) -> None:
        self._on_event = on_event
        self._on_lost = on_lost
        self._addresses = addresses
        self._port = port
        alone = 1 if port else max(1, (os.cpu_count() or 1) - 1)
        self._most = min(WORKERS_MAX, most or alone)
        self._nursery = Nursery()
        self._workers: list[MediaWorker] = []
        self._homes: dict[str, MediaWorker] = {}
        self._rates: dict[MediaWorker, dict[str, float]] = {}
        """Packets a second by connection, as the worker told last."""
        self._placing = asyncio.Lock()

    @property
    def workers(self) -> Sequence[MediaWorker]:
        return self._workers

    def load(self, worker: MediaWorker) -> Load:
        """What `worker` carries now."""
        rooms = sum(home is worker for home in self._homes.values())
        return Load(sum(self._rates[worker].values()), rooms)

    # -- where a room is

    async def ready(self) -> None:
        """At least one worker runs. Raises `Unavailable` when it can't be started."""
        async with self._placing:
            if not self._workers:
                await self._start()

    async def open(self, room: str) -> None:
        """Open a new room where there is most to spare. Raises `Unavailable` when no worker takes it."""
        async with self._placing:
            at = idlest([self.load(worker) for worker in self._workers], self._most)
            first = self._workers[at] if at is not None else await self._start()
            rest = sorted((each for each in self._workers if each is not first), key=self.load)
            refused = None
            for worker in (first, *rest):
                try:
                    await worker.open_room(room)
                except Unavailable as error:
                    refused = refused or error
                    continue
                self._homes[room] = worker
                return
            assert refused is not None
            if refused.code != "media.overloaded" or len(self._workers) >= self._most:
                raise refused
            another = await self._start()
            await another.open_room(room)
            self._homes[room] = another

    async def home(self, room: str) -> MediaWorker:
        """The worker of an open room. Raises `Missing`."""
        if room not in self._homes:
            async with self._placing:  # it is being opened
                pass
        found = self._homes.get(room)
        if found is None:
            raise Missing("media.room.unknown", "The room is not open here.")
        return found

    def of(self, room: str) -> MediaWorker | None:
        """The worker of an open room, None if it is open nowhere."""
        return self._homes.get(room)

    async def close(self, room: str) -> None:
        """End every connection of a room. Idempotent."""
        home = self._homes.pop(room, None)
        if home is not None:
            with suppress(FenghuoError):  # a worker that ended, or is a new one, has no such room
                await home.close_room(room)

    # -- all of them

    async def stats(self) -> dict[str, Any] | None:
        """The counters of all workers as one; None if none runs, or one doesn't answer."""
        try:
            return merged(await asyncio.gather(*(worker.stats() for worker in self._workers)))
        except FenghuoError:
            return None

    async def stop(self) -> None:
        """Let them say goodbye and end them."""
        await asyncio.gather(*(worker.stop() for worker in list(self._rates)))
        await self._nursery.stop()

    async def _start(self) -> MediaWorker:
        """The caller holds `_placing`."""
        port = self._port + len(self._workers) if self._port else 0
        worker = MediaWorker(
            lambda event: self._heard(worker, event), addresses=self._addresses, port=port, nursery=self._nursery
        )
        self._rates[worker] = {}
        try:
            await worker.start()
        except BaseException:
            del self._rates[worker]
            raise
        self._workers.append(worker)
        journal.info("worker.started", port=worker.port, workers=len(self._workers))
        return worker

    def _heard(self, worker: MediaWorker, event: control.AnyEvent) -> None:
        rates = self._rates[worker]
        match event:
            case control.WorkerReady():
                if worker in self._workers:  # not the first start
                    self._on_lost([room for room, home in self._homes.items() if home is worker], list(rates))
                    rates.clear()
                return
            case control.PeerConnected():
                rates[event.peer] = 0.0
            case control.Quality():
                rates[event.peer] = event.packets / INTERVAL_S
            case control.PeerClosed():
                rates.pop(event.peer, None)
            case _:
                pass
        self._on_event(event)
