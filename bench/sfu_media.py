"""The forwarder with everything on: audio, feedback, repair and simulcast rewriting, in several shapes and bursts.

Never a rule of its own: every line is one of `bench.sfu`, taken by its rules. Invariant: in each shape the packets
forwarded per second are at most what the client on the other core can take (`FORWARDED_PER_S`), and the pace is lowered
until everything arrives; the pace stands in the line.

Run: `make bench-media`, or `python -m bench.sfu_media [--quick | --growth]`. JSON lines on standard output; the last ones say how
the cost per packet grows with the number of subscribers, all at one pace (`bench/sfu_plot.py` draws them).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import sfu, sfu_process, sfu_space

FORWARDED_PER_S = 40_000
BURSTS = (5, 1, 3, 10)
SHAPES = ((1, 40), (10, 10), (20, 20), (1, 200))
COUNTS = (1, 10, 20, 40, 80, 200)
PACKETS_PER_S_MAX = 1000
GROWTH_PER_S = FORWARDED_PER_S // COUNTS[-1]
WINDOW_S = 2.0
ROUNDS = 2
JOINS, JOINS_MORE = 8, 3
MEASURE_S, MEASURE_JANUS_S = 14.0, 22.0  # for the windows of one burst; one more round is only begun within it
ENDS_S = 570.0  # nothing new is begun after it


def bench(publishers: int, subscribers: int, pace: int, *, janus: bool) -> sfu.Bench:
    """A bench that has not been stood up yet."""
    words = [
        *("--publishers", str(publishers), "--subscribers", str(subscribers), "--burst", str(BURSTS[0])),
        *("--packets-per-s", str(pace), "--rounds", str(ROUNDS), "--seconds", str(WINDOW_S), "--audio", "--full"),
        *(() if janus else ("--only", "worker")),
    ]
    sfu.say(" ".join(words))
    return sfu.Bench(sfu.options(words), "")


def tell(lines: list[dict[str, Any]], **more: Any) -> None:
    """Print figures as they come, so that a run that is broken off has said what it knew."""
    for line in lines:
        print(json.dumps({**line, **more}, ensure_ascii=False), flush=True)


class Course:
    """All shapes, one after the other, within `ENDS_S`."""

    def __init__(self, bursts: tuple[int, ...]) -> None:
        self._bursts = bursts
        self._begun_s = time.monotonic()

    def _late(self) -> bool:
        return time.monotonic() - self._begun_s > ENDS_S

    async def shape(self, publishers: int, subscribers: int) -> None:
        """Every burst of one shape, on one stand."""
        pace = min(PACKETS_PER_S_MAX, FORWARDED_PER_S // (publishers * subscribers))
        one = bench(publishers, subscribers, pace, janus=publishers == 1 and subscribers <= 40)
        with tempfile.TemporaryDirectory(prefix="fenghuo-sfu-") as folder:
            try:
                await one.stand(Path(folder))
                for burst in self._bursts:
                    await self._burst(one, burst, pace)
            finally:
                await one.close()

    async def _burst(self, one: sfu.Bench, burst: int, pace: int) -> None:
        begun_s = time.monotonic()
        shape = replace(one.shape, burst=burst, packets_per_s=max(burst, pace))
        if not self._late():
            janus = "janus" in one.beds
            await one.reshape(shape, MEASURE_JANUS_S if janus else MEASURE_S)
            await one.measure(JOINS if burst == BURSTS[0] else JOINS_MORE, all_join=burst == BURSTS[0])
        else:
            one.shape = shape
            one.reasons["worker"] = f"the time of the bench ({ENDS_S:.0f} s) was up"
        tell(one.figures(), seconds=round(time.monotonic() - begun_s, 1))

    async def growth(self) -> None:
        """The cost per packet with more and more subscribers, everything else being equal."""
        one = bench(1, COUNTS[0], GROWTH_PER_S, janus=False)
        with tempfile.TemporaryDirectory(prefix="fenghuo-sfu-") as folder:
            try:
                await one.stand(Path(folder))
                for count in COUNTS:
                    if self._late():
                        break
                    one.count = count
                    bed = one.beds["worker"]
                    await bed.grow(one.pump, count)
                    await one.reshape(replace(one.shape, packets_per_s=GROWTH_PER_S), MEASURE_S)
                    await one.measure(0)
                    tell(one.figures()[:1], name="sfu.growth_us_per_packet", subscribers=count)
            finally:
                await one.close()


async def course(*, quick: bool, growth: bool) -> None:
    """All of it."""
    sfu_process.pin(os.getpid(), sfu_process.cores()[1])
    whole = Course(BURSTS[:1] if quick else BURSTS)
    for publishers, subscribers in () if growth else SHAPES:
        await whole.shape(publishers, subscribers)
    if growth or not quick:
        await whole.growth()


def main() -> None:
    """All shapes, then the growth with the number of subscribers."""
    parser = argparse.ArgumentParser(prog="python -m bench.sfu_media", description="The forwarder with everything on.")
    parser.add_argument("--quick", action="store_true", help="bursts of 5 only, and no growth")
    parser.add_argument("--growth", action="store_true", help="the growth only")
    chosen = parser.parse_args()
    sfu_space.enter("bench.sfu_media")
    if sfu_space.inside():
        sfu_space.furnish()
    asyncio.run(course(quick=chosen.quick, growth=chosen.growth))


if __name__ == "__main__":
    main()
