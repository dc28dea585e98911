"""One server under test with its publisher and subscribers, and the windows measured on it.

Never compares servers: it only says what one of them did. Invariant: a window's CPU time is read before the
first packet leaves the publisher and after the last one has arrived, and a window in which less than
DELIVERED_MIN of the packets arrived carries the reason why it does not count.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bench import rtp_dtls, rtp_sdp, sfu_process
from bench.rtp_client import Leg, Publisher, Subscriber
from bench.rtp_count import Counter
from bench.rtp_pump import Publishing, Pump, Shape, Stream, Streams
from media.selection import AUDIO_FORWARDED_MAX

DELIVERED_MIN = 0.999
FOREIGN_MAX = 0.10
LATE_MAX_MS = 10.0
SETTLE_S, SETTLE_MAX_S = 0.25, 3.0  # after the last packet; longer only while something is still on its way
WARM_S = 0.6
CLIMB_S, CLIMBS_MAX = 4.0, 6  # so long, so often, until every estimate has found that the highest layer fits
SLOWER, SLOWER_MAX = 0.6, 4  # a pace that this machine can't carry is lowered so much, so often
JOINS = 8
JOIN_TIMEOUT_S = 5.0


class Server(Protocol):
    """What a server under test offers."""

    name: str
    host: str
    log: Path

    async def start(self) -> None: ...

    layers: bool  # whether it takes simulcast by rid and gives every subscriber what fits

    async def publish(self, leg: Leg, kinds: tuple[str, ...]) -> rtp_sdp.Remote: ...
    async def subscribe(self, leg: Leg) -> rtp_sdp.Remote: ...
    def pids(self) -> list[int]: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Window:
    """One measured stretch: packets, server CPU nanoseconds, added delays of the sample (ms, sorted).

    `foreign` is the share of the server's core that others took, `late_ms` how far the publisher fell behind.
    """

    sent: int
    expected: int
    forwarded: int
    audio: int
    cpu_ns: int
    delays_ms: list[float]
    duplicates: int
    authentic: int
    forged: int
    late_ms: float
    foreign: float

    @property
    def us_per_packet(self) -> float:
        """CPU microseconds of the server per forwarded packet, video and audio."""
        return self.cpu_ns / 1000 / max(1, self.forwarded + self.audio)

    @property
    def invalid(self) -> str:
        """Why this window does not count; empty if it does."""
        if self.forwarded < DELIVERED_MIN * self.expected or not self.expected:
            return f"delivered {self.forwarded} of {self.expected}"
        if self.forged:
            return f"{self.forged} packets failed authentication"
        if not self.authentic:
            return "no packet was authenticated"
        return ""

    @property
    def disturbed(self) -> bool:
        """True if other programs took part of the server's core, or kept the publisher from its pace."""
        return self.foreign > FOREIGN_MAX or self.late_ms > LATE_MAX_MS

    def quantile(self, part: float) -> float:
        """The delay below which `part` of the sample lies, in ms; 0 without a sample."""
        return self.delays_ms[min(len(self.delays_ms) - 1, int(part * len(self.delays_ms)))] if self.delays_ms else 0.0


class _Span:
    """CPU time of a server and foreign load on its core between two instants."""

    def __init__(self, meter: sfu_process.Meter, core: int) -> None:
        self._meter, self._core = meter, core
        self._begun = time.monotonic_ns()
        self._idle = sfu_process.idle_ns(core)
        self._cpu = meter.cpu_ns()

    def end(self, counters: list[Counter], sent: int, late_ms: float) -> Window:
        """The window that ends now."""
        cpu_ns = self._meter.cpu_ns() - self._cpu
        lasted_ns = time.monotonic_ns() - self._begun
        busy_ns = lasted_ns - (sfu_process.idle_ns(self._core) - self._idle)
        return Window(
            sent=sent,
            expected=sent * len(counters),
            forwarded=sum(one.unique for one in counters),
            audio=sum(one.audio for one in counters),
            cpu_ns=cpu_ns,
            delays_ms=sorted(delay / 1e6 for one in counters for delay in one.delays_ns),
            duplicates=sum(one.duplicates for one in counters),
            authentic=sum(one.authentic for one in counters),
            forged=sum(one.forged for one in counters),
            late_ms=late_ms,
            foreign=max(0.0, (busy_ns - cpu_ns) / lasted_ns),
        )


class Bed:
    """A server with `publishers` and `count` subscribers of each, all open after `stand()`."""

    def __init__(
        self, server: Server, shape: Shape, profile: str, count: int, core: int, *, publishers: int = 1
    ) -> None:
        self.publishers = publishers
        self.server, self.shape, self.profile = server, shape, profile
        self.core = core
        self.count = count
        self.windows: list[Window] = []
        self.joins_ms: list[float] = []
        self.subscribers: list[Subscriber] = []

    async def stand(self, pump: Pump) -> None:
        """Start the server, publish a little, bring in all subscribers."""
        kinds = ("audio", "video") if self.shape.audio else ("video",)
        await self.server.start()
        streams = []
        for _ in range(self.publishers):
            full = self.shape.full
            publisher = Publisher(
                profile=self.profile, host=self.server.host, wide=full, layers=full and self.server.layers
            )
            remote = await self.server.publish(publisher, kinds)
            pump.add(publisher)
            await asyncio.to_thread(pump.open, [publisher])
            streams.append(Stream(publisher, self.shape, remote))
        self.stream = Streams(streams)
        # a track exists from its first packet on, and subscribers are offered what exists
        await self._warm(pump)
        await self.grow(pump, self.count)
        self._meter = sfu_process.Meter(self.server.pids())

    async def grow(self, pump: Pump, count: int) -> None:
        """Bring in subscribers until there are `count`."""
        fresh = []
        for _ in range(count - len(self.subscribers)):
            fresh.append(await self._subscriber(pump))
        self.subscribers += fresh
        self.count = count
        await asyncio.to_thread(pump.open, fresh)
        await self._warm(pump)
        if self.shape.full:
            await self._climb(pump, CLIMBS_MAX)

    async def _climb(self, pump: Pump, most: int) -> bool:
        """Publish until every estimate has found that the highest layer fits; False if some didn't."""
        for _ in range(most):
            for one in self.subscribers:
                one.counter.reset()
            sent = await self._warm(pump, CLIMB_S)
            if sum(one.counter.unique for one in self.subscribers) >= DELIVERED_MIN * sent * self.count:
                return True
        return False

    def reshape(self, shape: Shape) -> None:
        """Go on with another burst or pace; what was measured so far is forgotten."""
        self.shape = shape
        for one in self.stream.streams:
            one.shape = shape
        self.windows, self.joins_ms = [], []

    async def carry(self, pump: Pump) -> None:
        """Lower the pace until everything arrives, so that what is measured is a rate which this machine can carry."""
        for _ in range(SLOWER_MAX):
            if await self._climb(pump, 2):
                return
            pace = max(self.shape.burst, int(self.shape.packets_per_s * SLOWER))
            self.reshape(replace(self.shape, packets_per_s=pace))

    async def _warm(self, pump: Pump, seconds: float = WARM_S) -> int:
        counters = [one.counter for one in self.subscribers]
        run = Publishing(self.stream, seconds)
        run.start()
        await asyncio.to_thread(pump.run, time.monotonic() + seconds + SETTLE_S)
        sent = run.join()
        due = sent * len(counters)
        await asyncio.to_thread(
            pump.run, time.monotonic() + SETTLE_S, lambda: sum(one.unique for one in counters) >= due
        )
        return sent

    async def _subscriber(self, pump: Pump) -> Subscriber:
        leg = Subscriber(profile=self.profile, host=self.server.host, wide=self.shape.full)
        pump.add(leg)
        leg.learn(await self.server.subscribe(leg))
        return leg

    async def window(self, pump: Pump, duration_s: float) -> None:
        """Measure one window."""
        await asyncio.to_thread(self._window, pump, duration_s)

    def _window(self, pump: Pump, duration_s: float) -> None:
        counters = [one.counter for one in self.subscribers]
        for one in counters:
            one.reset()
        self.stream.late_max_s = 0.0
        run = Publishing(self.stream, duration_s)
        span = _Span(self._meter, self.core)
        run.start()
        pump.run(time.monotonic() + duration_s + 5.0, lambda: not run.alive())
        pump.run(time.monotonic() + SETTLE_S)
        due = run.join() * len(counters)
        pump.run(time.monotonic() + SETTLE_MAX_S, lambda: sum(one.unique for one in counters) >= due)
        self.windows.append(span.end(counters, run.join(), self.stream.late_max_s * 1000))

    async def join_times(self, pump: Pump, joins: int = JOINS) -> None:
        """Bring in `joins` more subscribers one after the other while the publisher sends, and time each."""
        run = Publishing(self.stream, joins * JOIN_TIMEOUT_S)
        run.start()
        for _ in range(joins):
            begun_ns = time.time_ns()
            leg = await self._subscriber(pump)
            counter = leg.counter
            deadline = time.monotonic() + JOIN_TIMEOUT_S
            heard = await asyncio.to_thread(pump.run, deadline, counter.heard)
            if heard:
                self.joins_ms.append((counter.first_media_ns - begun_ns) / 1e6)
            pump.remove(leg)
            leg.close()
        run.stop.set()
        run.join()


class Bare:
    """The bare loop on the sockets of a bed's subscribers; see `bench/sfu_bare.py`."""

    def __init__(self, bed: Bed, core: int, windows: int, duration_s: float) -> None:
        self.bed, self.core = bed, core
        self.windows: list[Window] = []
        pace = bed.shape.packets_per_s * bed.publishers
        self._bursts = max(1, int(duration_s * pace / bed.shape.burst))
        profile = rtp_dtls.PROFILES[bed.profile]
        keys = [secrets.token_bytes(profile.key_bytes + profile.salt_bytes) for _ in bed.subscribers]
        self._counters = [Counter(incoming=rtp_dtls.receiving(key, profile)) for key in keys]
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", "bench.sfu_bare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        order = {
            "targets": [
                (one.local.host, one.local.port, key.hex()) for one, key in zip(bed.subscribers, keys, strict=True)
            ],
            "profile": bed.profile,
            "burst": bed.shape.burst,
            "packet_bytes": bed.shape.packet_bytes,
            "packets_per_s": pace,
            "voices": min(bed.publishers, AUDIO_FORWARDED_MAX) if bed.shape.audio else 0,
            "bursts": self._bursts * windows,
        }
        self._say(json.dumps(order))
        self._address = ("127.0.0.1", int(self._hear()))
        self._meter = sfu_process.Meter([self._process.pid])

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def window(self, pump: Pump, duration_s: float) -> None:
        """Point the bed's sockets at the loop, let it run, point them back."""
        for leg, counter in zip(self.bed.subscribers, self._counters, strict=True):
            leg.socket.connect(self._address)
            pump.on_media[leg.socket.fileno()] = counter.on_media
            counter.reset()
        span = _Span(self._meter, self.core)
        self._say(f"go {self._bursts}")
        pump.run(time.monotonic() + duration_s + SETTLE_S)
        self._hear()
        pump.run(time.monotonic() + SETTLE_S)
        sent = self._bursts * self.bed.shape.burst
        due = sent * len(self._counters)
        pump.run(time.monotonic() + SETTLE_MAX_S, lambda: sum(one.unique for one in self._counters) >= due)
        self.windows.append(span.end(self._counters, sent, 0.0))
        for leg in self.bed.subscribers:
            leg.socket.connect(leg.address)
            pump.on_media[leg.socket.fileno()] = leg.on_media

    def close(self) -> None:
        """End the loop's process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        sfu_process.stop(self._process)  # type: ignore[arg-type]


def middle(values: list[float]) -> float | None:
    """The median, or None for nothing."""
    return statistics.median(values) if values else None
