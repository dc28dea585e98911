"""Pacing: how fast the connection for what can wait may send, so that what is urgent finds the line free.

Pure. It never reads a clock or a socket; `channel` feeds it. Invariant: once the line was measured, what can wait gets
`SHARE` of it, however much is waiting.

The rate of a line is the slope of what was acknowledged of a short train sent without a limit: the dispersion of packet
trains, which the round-trip time doesn't touch. Orders over 64 kbit/s and 400 ms each way need 0.6 s beside bulk at 40 %
and 5.5 s beside bulk without a limit (docs/performance.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

SHARE = 0.4
TRAIN_OCTETS_MIN = 6_000
"""A shorter train says too little: four packets or so."""
MEASURE_EVERY_S = 300.0
MEASURE_SOON_S = 5.0
"""After a train that told nothing."""
FAST_BPS = 100_000_000
"""On a faster line even a whole frame is gone in a millisecond: no limit."""
QUICK_S = 0.1
"""A train of one frame that took longer was not on a fast line."""
SLOWEST_BPS = 2_000.0
"""A line that lost nearly the whole train still gets this much, or it would never be measured again."""


class Sample(NamedTuple):
    """At `at` seconds, `octets` of the train had arrived at the other side."""

    at: float
    octets: int


def slope_bps(samples: Sequence[Sample]) -> float | None:
    """Bits a second between the first arrival and the last; None when there is too little to tell.

    What arrived with the first acknowledgement doesn't count: it was on its way before the clock started.
    """
    grown = [samples[0]] if samples else []
    for sample in samples[1:]:
        if sample.octets > grown[-1].octets:
            grown.append(sample)
    if len(grown) < 3:
        return None
    first, last = grown[1], grown[-1]
    return (last.octets - first.octets) * 8 / (last.at - first.at)


class Pace:
    """The limit of one connection. `limit_bps` None means none."""

    def __init__(self) -> None:
        self.measured_bps: float | None = None
        self.limit_bps: float | None = None
        self._due_at = 0.0

    def due(self, now: float, octets: int) -> bool:
        """Whether a frame of so many octets should go as a train, without a limit, and be measured."""
        return now >= self._due_at and octets >= TRAIN_OCTETS_MIN

    def measured(self, now: float, samples: Sequence[Sample], kernel_bps: float) -> None:
        """Take the samples of a train, and what the kernel says of the delivery rate (it knows fast lines better)."""
        slope = slope_bps(samples)
        # The kernel remembers the best rate it saw, of better days perhaps: believed only if this very train was quick.
        quick = len(samples) > 1 and samples[-1].at - samples[0].at < QUICK_S
        fast = quick and kernel_bps >= FAST_BPS / 10
        if slope is None and not fast:
            self._due_at = now + MEASURE_SOON_S
            return
        self.measured_bps = max(slope or 0.0, kernel_bps if fast else 0.0)
        self.limit_bps = None if fast else max(SLOWEST_BPS, SHARE * self.measured_bps)
        self._due_at = now + MEASURE_EVERY_S
