"""Pacing: how fast the connection for what can wait may send, so that what is urgent finds the line free.

Pure. It never reads a clock or a socket; `channel` feeds it. Invariant: once the line was measured, what can wait gets
`SHARE` of it, however much is waiting, and never more than `PIECE_S` of it in one go.

Pieces are set apart here and not left to SO_MAX_PACING_RATE alone: Linux sends up to 64 kB at once on a connection that has
seen a short round trip within five minutes (tcp_tso_autosize, net/ipv4/tcp_output.c), which is 8 s of a slow radio.

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
MEASURE_AGAIN_S, MEASURE_REST = 1.0, 10.0
"""Where the line carries a train within QUICK_S it holds nobody up: measured again so soon, or after so many times what the train
took. A busy machine acknowledges late, and a fast line taken for a slower one would be left unused for minutes."""
FAST_BPS = 100_000_000
"""On a faster line even a whole frame is gone in a millisecond: no limit."""
QUICK_S = 0.1
"""A train of one frame that took longer was not on a fast line."""
PIECE_S = 0.15
"""An urgent frame never finds more than one piece before it, besides what was lost and goes again."""
PAUSE_MAX_S = 8.0
"""A frame that can't be cut holds the channel up no longer: pings have to pass."""
PIECE_OCTETS_MIN = 1_000
PIECE_OCTETS_MAX = 16 * 1024
TRAIN_OCTETS = 8 * 1024
"""A frame on a line that was not measured, or has to be again: a second of 64 kbit/s."""
CLAIM_S = 20.0
"""A piece that was to be the train and never came is replaced after so long."""
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
        self._due_at = self._claimed_until = 0.0

    def piece_octets(self, now: float) -> int:
        """How large the next frame should be."""
        return TRAIN_OCTETS if now >= self._due_at else self.steady_octets

    @property
    def steady_octets(self) -> int:
        """The same, between two trains."""
        if self.measured_bps is None or self.limit_bps is None:
            return PIECE_OCTETS_MAX
        return round(min(PIECE_OCTETS_MAX, max(PIECE_OCTETS_MIN, PIECE_S * self.measured_bps / 8)))

    def claim(self, now: float) -> int:
        """The same for one of several that are asked for at once: only one of them becomes the train."""
        if now < max(self._due_at, self._claimed_until):
            return PIECE_OCTETS_MIN if self.measured_bps is None else self.steady_octets
        self._claimed_until = now + CLAIM_S
        return TRAIN_OCTETS

    def pause_s(self, octets: int) -> float:
        """How long nothing more may follow a frame of so many octets."""
        return 0.0 if self.limit_bps is None else min(PAUSE_MAX_S, octets * 8 / self.limit_bps)

    def carried_s(self, octets: int) -> float:
        """How long the line takes for so many octets of something else."""
        if self.limit_bps is None or self.measured_bps is None:
            return 0.0
        return min(PAUSE_MAX_S, octets * 8 / max(SLOWEST_BPS, self.measured_bps))

    def doubted(self, now: float) -> None:
        """A line that was fast took long over a frame: measure it again at once."""
        self._due_at = now

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
        harmless = self.limit_bps is not None and TRAIN_OCTETS * 8 / self.measured_bps <= QUICK_S
        again_s = max(MEASURE_AGAIN_S, MEASURE_REST * (samples[-1].at - samples[0].at))
        self._due_at = now + (min(again_s, MEASURE_EVERY_S) if harmless else MEASURE_EVERY_S)
