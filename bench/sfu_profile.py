"""Where the worker's time goes under the load of `bench.sfu`: a table of functions, and a fixed and a growing part.

Never a figure of its own: a profiler slows Python down, so read the shares, not the sums. Invariant: the fit of
fixed and growing part uses windows measured without the profiler.

Run: `python -m bench.sfu_profile` (about half a minute); text on standard output.
"""

from __future__ import annotations

import asyncio
import os
import pstats
import sys
import tempfile
from pathlib import Path

from bench import sfu_process
from bench.rtp_pump import Pump, Shape
from bench.sfu_bed import Bed
from bench.sfu_worker import Worker

PROFILE = "AEAD_AES_128_GCM"
COUNTS = (1, 20, 40)
WINDOW_S = 2.0
FUNCTIONS_SHOWN = 28


async def cost(folder: Path, count: int, core: int, under: tuple[str, ...] = ()) -> float:
    """CPU microseconds of the worker per *incoming* packet with `count` subscribers."""
    folder.mkdir()
    bed = Bed(Worker(folder, core, under=under), Shape(), PROFILE, count, core)
    pump = Pump()
    try:
        await bed.stand(pump)
        for _ in range(3):
            await bed.window(pump, WINDOW_S)
    finally:
        await bed.server.close()
    return min(one.cpu_ns / 1000 / one.sent for one in bed.windows)


async def main() -> None:
    """Fit the two parts, then profile."""
    server, client = sfu_process.cores()
    sfu_process.pin(os.getpid(), client)
    with tempfile.TemporaryDirectory(prefix="fenghuo-sfu-") as made:
        folder = Path(made)
        costs = {count: await cost(folder / str(count), count, server) for count in COUNTS}
        least, most = min(COUNTS), max(COUNTS)
        grows = (costs[most] - costs[least]) / (most - least)
        print("us per incoming packet:", {count: round(value, 1) for count, value in costs.items()})
        print(f"fixed {costs[least] - grows * least:.1f} us per incoming packet, {grows:.2f} us per subscriber")
        table = folder / "worker.prof"
        await cost(folder / "profiled", most, server, ("-m", "cProfile", "-o", str(table)))
        pstats.Stats(str(table), stream=sys.stdout).sort_stats("tottime").print_stats(FUNCTIONS_SHOWN)


if __name__ == "__main__":
    asyncio.run(main())
