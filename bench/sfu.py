"""Figures of the forwarder: CPU per forwarded packet, added latency, join time; beside Janus and a bare loop.

Never prints anything but JSON lines on standard output. Invariant: every ratio compares windows of the same
run, the same client, the same SRTP profile, the same pace and the same pinned core, taken in turns.

Run: `python -m bench.sfu` (about a minute). Rules of the bench: docs/performance.md, "Forwarding".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import rtp_dtls, sfu_janus, sfu_process, sfu_space
from bench.rtp_pump import Pump, Shape
from bench.sfu_bed import JOINS, Bare, Bed, Window, middle
from bench.sfu_worker import Worker

BENCH_S = 75.0
ROUNDS_MAX = 6
LOG_CHARACTERS_SHOWN = 2000
FIGURES = (
    "sfu.us_per_packet",
    "sfu.ratio_bare",
    "sfu.ratio_janus",
    "sfu.ratio_janus_tuned",
    "sfu.added_p50_ms",
    "sfu.added_p95_ms",
    "sfu.join_ms",
)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.sfu", description="Figures of the forwarder.")
    parser.add_argument("--subscribers", type=int, default=40)
    parser.add_argument("--packets-per-s", type=int, default=1000)
    parser.add_argument("--burst", type=int, default=5)
    parser.add_argument("--packet-bytes", type=int, default=1100)
    parser.add_argument("--audio", action="store_true", help="publish Opus-like audio as well")
    parser.add_argument("--ragged", action="store_true", help="sizes in a burst differ by one byte (Chromium)")
    parser.add_argument("--no-gso", action="store_true", help="the publisher sends packet by packet")
    parser.add_argument("--publishers", type=int, default=1, help="each subscriber gets all of them")
    parser.add_argument("--full", action="store_true", help="with feedback, repair and simulcast rewriting")
    parser.add_argument("--profile", choices=sorted(rtp_dtls.PROFILES), default="AEAD_AES_128_GCM")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.5, help="length of one window")
    parser.add_argument("--only", choices=["worker", "janus"], help="leave the other servers out")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One run: stands the servers up, measures them in turns, writes the figures."""

    def __init__(self, chosen: argparse.Namespace, space_reason: str) -> None:
        self.chosen = chosen
        self.shape = Shape(
            packets_per_s=chosen.packets_per_s,
            burst=chosen.burst,
            packet_bytes=chosen.packet_bytes,
            audio=chosen.audio,
            gso=not chosen.no_gso,
            ragged=chosen.ragged,
            full=chosen.full,
        )
        self.pump = Pump()
        self.beds: dict[str, Bed] = {}
        self.reasons: dict[str, str] = {}
        self.bare: Bare | None = None
        self.server_core, self.client_core = sfu_process.cores()
        self.count: int = chosen.subscribers
        self._space_reason = space_reason
        self._ends = time.monotonic() + BENCH_S

    async def run(self, folder: Path) -> list[dict[str, Any]]:
        """All of it; returns the figures."""
        sfu_process.pin(os.getpid(), self.client_core)
        try:
            await self.stand(folder)
            await self.measure()
        finally:
            await self.close()
        return self.figures()

    async def measure(self, joins: int = JOINS, *, all_join: bool = True) -> None:
        """The rounds, then the joins (`all_join`: of the other servers as well)."""
        await self._floor()
        for number in range(ROUNDS_MAX):
            if self._enough(number):
                break
            await self._round(number)
        for bed in self.beds.values():
            if bed.server.name == "worker" or (all_join and bed.server.name != "janus_tuned"):
                await self._guard(bed, bed.join_times(self.pump, joins))

    async def reshape(self, shape: Shape, budget_s: float) -> None:
        """Measure `shape` next, on the same servers and subscribers, at the pace that all of them carry."""
        for bed in self.beds.values():
            bed.reshape(shape)
            await bed.carry(self.pump)
            shape = bed.shape
        for bed in self.beds.values():
            bed.reshape(shape)
        self.shape = shape
        self._ends = time.monotonic() + budget_s

    async def close(self) -> None:
        """End every process that was started."""
        if self.bare is not None:
            self.bare.close()
        for bed in self.beds.values():
            await bed.server.close()

    def _enough(self, number: int) -> bool:
        """True after the wanted number of undisturbed rounds, or when the time is up."""
        calm = sum(not one.disturbed and not one.invalid for one in self._windows("worker"))
        if number >= self.chosen.rounds and (calm >= self.chosen.rounds or "worker" not in self.beds):
            return True
        if number and time.monotonic() + (len(self.beds) + 1) * (self.chosen.seconds + 1) > self._ends:
            say(f"time is up after {number} rounds, {calm} of them undisturbed")
            return True
        return False

    async def stand(self, folder: Path) -> None:
        """Start every server and bring in its subscribers."""
        makers: dict[str, Callable[[Path], Any]] = {}
        if self.chosen.only != "janus":
            makers["worker"] = partial(Worker, core=self.server_core)
        reason = sfu_janus.missing() or self._space_reason
        if self.chosen.only == "worker":
            reason = "left out by --only worker"
        elif self.chosen.publishers > 1:
            reason = "its load client subscribes to one publisher per connection"
        if reason:
            self.reasons["janus"] = self.reasons["janus_tuned"] = reason
        else:
            say(sfu_janus.version())
            for name, loops in (("janus", 0), ("janus_tuned", 1)):
                makers[name] = partial(
                    sfu_janus.Janus,
                    core=self.server_core,
                    host=sfu_space.ADDRESS,
                    event_loops=loops,
                    name=name,
                )
        for name, make in makers.items():
            own = folder / name
            own.mkdir()
            bed = Bed(
                make(own),
                self.shape,
                self.chosen.profile,
                self.chosen.subscribers,
                self.server_core,
                publishers=self.chosen.publishers,
            )
            await self._guard(bed, self._stand_one(name, bed))

    async def _floor(self) -> None:
        """The bare loop for the shape as it is now."""
        if self.bare is not None:
            self.bare.close()
            self.bare = None
        basis = self.beds.get("worker") or self.beds.get("janus")
        if basis is not None:
            self.bare = await asyncio.to_thread(Bare, basis, self.server_core, ROUNDS_MAX, self.chosen.seconds)

    async def _stand_one(self, name: str, bed: Bed) -> None:
        begun = time.monotonic()
        try:
            await bed.stand(self.pump)
        except BaseException:
            await bed.server.close()
            raise
        self.beds[name] = bed
        say(f"{name}: {self.chosen.subscribers} subscribers stood up in {time.monotonic() - begun:.1f} s")

    async def _guard(self, bed: Bed, work: Any) -> None:
        """A peer that fails becomes a reason in its lines; the bench goes on."""
        try:
            await work
        except Exception as problem:
            self.reasons[bed.server.name] = f"{type(problem).__name__}: {problem}"
            say(f"{bed.server.name}: {self.reasons[bed.server.name]}")
            if bed.server.log.exists():
                say(bed.server.log.read_text(errors="replace")[-LOG_CHARACTERS_SHOWN:])

    async def _round(self, number: int) -> None:
        for name, bed in self.beds.items():
            await bed.window(self.pump, self.chosen.seconds)
            say(f"round {number} {name}: {_describe(bed.windows[-1])}")
        if self.bare is not None:
            await asyncio.to_thread(self.bare.window, self.pump, self.chosen.seconds)
            say(f"round {number} bare: {_describe(self.bare.windows[-1])}")

    # --- figures

    def figures(self) -> list[dict[str, Any]]:
        """The JSON lines."""
        ours = self._windows("worker")
        bare = self.bare.windows if self.bare is not None else []
        default, tuned = self._windows("janus"), self._windows("janus_tuned")
        to_bare, to_default = _ratio(ours, bare), _ratio(ours, default)
        to_tuned = _ratio(ours, tuned)
        p50 = self._delay(0.50)
        p95 = self._delay(0.95)
        joins = self.beds["worker"].joins_ms if "worker" in self.beds else []
        theirs = self.beds["janus"].joins_ms if "janus" in self.beds else []
        join, their_join = middle(joins), middle(theirs)
        cost = middle([one.us_per_packet for one in calm(ours)])
        return [
            self._line("sfu.us_per_packet", cost, "us", to_bare, "bare loop", peer="worker"),
            self._line("sfu.ratio_bare", to_bare, "x", to_bare, _named("bare loop", bare), peer="bare"),
            self._line("sfu.ratio_janus", to_default, "x", to_default, _named("janus 1.1", default), peer="janus"),
            self._line(
                "sfu.ratio_janus_tuned",
                to_tuned,
                "x",
                to_tuned,
                _named("janus 1.1, event_loops=1", tuned),
                peer="janus_tuned",
            ),
            self._line("sfu.added_p50_ms", p50[0], "ms", _over(*p50), "janus 1.1", peer="worker"),
            self._line("sfu.added_p95_ms", p95[0], "ms", _over(*p95), "janus 1.1", peer="worker"),
            {
                **self._line("sfu.join_ms", join, "ms", _over(join, their_join), "janus 1.1", peer="worker"),
                "n": len(joins),
            },
        ]

    def _windows(self, name: str) -> list[Window]:
        return self.beds[name].windows if name in self.beds else []

    def _delay(self, part: float) -> tuple[float | None, float | None]:
        return (
            middle([one.quantile(part) for one in calm(self._windows("worker"))]),
            middle([one.quantile(part) for one in calm(self._windows("janus"))]),
        )

    def _line(
        self, name: str, value: float | None, unit: str, ratio: float | None, against: str, *, peer: str
    ) -> dict[str, Any]:
        ours = self._windows("worker")
        line: dict[str, Any] = {
            "name": name,
            "value": _rounded(value),
            "unit": unit,
            "ratio": _rounded(ratio),
            "against": against,
            "n": sum(one.forwarded for one in calm(ours)),
            "shape": f"{self.chosen.publishers}x{self.count} {self.shape.name}",
            "burst": self.shape.burst,
            "profile": self.chosen.profile,
            "rounds": len(calm(ours)),
            "disturbed": any(one.disturbed for one in calm(ours)),
        }
        if value is None:
            line["reason"] = self._reason(peer)
        return line

    def _reason(self, peer: str) -> str:
        for name in ("worker", peer):
            if name in self.reasons:
                return f"{name}: {self.reasons[name]}"
        for name, windows in (("worker", self._windows("worker")), (peer, self._windows(peer))):
            for one in windows:
                if one.invalid:
                    return f"{name}: {one.invalid}"
        return "not measured"


def calm(windows: list[Window]) -> list[Window]:
    """The windows that count: valid and undisturbed ones, or, where there is none, the valid ones."""
    valid = [one for one in windows if not one.invalid]
    return [one for one in valid if not one.disturbed] or valid


def _ratio(ours: list[Window], theirs: list[Window]) -> float | None:
    """Median of the ratios of undisturbed windows of the same round; without any, the ratio of what counts."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if not a.invalid and not b.invalid]
    quiet = [a.us_per_packet / b.us_per_packet for a, b in pairs if not a.disturbed and not b.disturbed]
    if quiet:
        return middle(quiet)
    return _over(middle([one.us_per_packet for one in calm(ours)]), middle([one.us_per_packet for one in calm(theirs)]))


def _named(name: str, windows: list[Window]) -> str:
    cost = middle([one.us_per_packet for one in calm(windows)])
    return name if cost is None else f"{name} ({cost:.2f} us/packet)"


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _describe(one: Window) -> str:
    return (
        f"{one.us_per_packet:.2f} us/packet, {one.forwarded}/{one.expected} delivered, "
        f"p50 {one.quantile(0.5):.2f} ms, p95 {one.quantile(0.95):.2f} ms, {one.duplicates} duplicates, "
        f"{one.authentic} authenticated, {one.forged} forged, publisher late {one.late_ms:.1f} ms, foreign load {one.foreign:.0%}"
        + (f" INVALID: {one.invalid}" if one.invalid else "")
    )


def main() -> None:
    """Enter a private network space if one can be had, measure, print."""
    chosen = options()
    reason = sfu_space.enter("bench.sfu")
    if sfu_space.inside():
        sfu_space.furnish()
    with tempfile.TemporaryDirectory(prefix="fenghuo-sfu-") as folder:
        lines = asyncio.run(Bench(chosen, reason).run(Path(folder)))
    for line in lines:
        print(json.dumps(line, ensure_ascii=False), flush=True)
    if lines[0]["value"] is None and chosen.only != "janus":
        sys.exit(f"the worker could not be measured: {lines[0]['reason']}")


if __name__ == "__main__":
    main()
