"""The forwarder with everything on: audio, feedback, repair and simulcast rewriting, in several shapes and bursts.

Never a rule of its own: every line is one of `bench.sfu`, taken by its rules. Invariant: in each shape the packets
forwarded per second are as many as the client on the other core can take (`FORWARDED_PER_S`), so shapes compare.

Run: `make bench-media`, or `python -m bench.sfu_media [--quick]`. JSON lines on standard output; the last ones say how
the cost per packet grows with the number of subscribers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from bench import sfu, sfu_space

FORWARDED_PER_S = 40_000
BURSTS = (1, 3, 5, 10)
SHAPES = ((1, 40), (10, 10), (20, 20), (1, 200))
COUNTS = (1, 10, 20, 40, 80, 200)
PACKETS_PER_S_MAX = 1000


def run(publishers: int, subscribers: int, burst: int, *, janus: bool, rounds: int, full: bool = True) -> list[Any]:
    """The lines of one shape."""
    pace = min(PACKETS_PER_S_MAX, max(burst, FORWARDED_PER_S // (publishers * subscribers)))
    words = [
        *("--publishers", str(publishers), "--subscribers", str(subscribers), "--burst", str(burst)),
        *("--packets-per-s", str(pace), "--rounds", str(rounds), "--audio"),
        *(("--full",) if full else ()),
        *(() if janus else ("--only", "worker")),
    ]
    sfu.say(" ".join(words))
    with tempfile.TemporaryDirectory(prefix="fenghuo-sfu-") as folder:
        return asyncio.run(sfu.Bench(sfu.options(words), "").run(Path(folder)))


def main() -> None:
    """All shapes, then the growth with the number of subscribers."""
    parser = argparse.ArgumentParser(prog="python -m bench.sfu_media", description="The forwarder with everything on.")
    parser.add_argument("--quick", action="store_true", help="bursts of 5 only, and no growth")
    quick = parser.parse_args().quick
    sfu_space.enter("bench.sfu_media")
    if sfu_space.inside():
        sfu_space.furnish()
    for publishers, subscribers in SHAPES:
        for burst in (5,) if quick else BURSTS:
            janus = publishers == 1 and subscribers <= 40
            for line in run(publishers, subscribers, burst, janus=janus, rounds=2):
                print(json.dumps(line, ensure_ascii=False), flush=True)
    for count in () if quick else COUNTS:
        cost = run(1, count, 5, janus=False, rounds=2)[0]
        grown = {**cost, "name": "sfu.growth_us_per_packet", "subscribers": count}
        print(json.dumps(grown, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
