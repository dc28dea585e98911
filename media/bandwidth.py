"""How fast one publisher may send, judged by its own uplink alone: delay gradient and loss, told to it as REMB.

Pure: the delay-based estimator is handed in. Never looks at subscribers: a slow one must not lower a publisher.
Invariant: the figure lies between `BITRATE_MIN_BPS` and the given maximum.

Sources: draft-alvestrand-rmcat-remb-03, draft-ietf-rmcat-gcc-02 §5 (delay) and §6 (loss).
"""

from __future__ import annotations

from typing import Protocol

BITRATE_MIN_BPS = 100_000
BITRATE_MAX_BPS = 4_000_000
REMB_INTERVAL_S = 1.0
LOSS_HIGH = 0.10
LOSS_LOW = 0.02
FALL_TOLD_AT_ONCE = 0.97
CALM_S = 5.0  # without overuse for so long, a low estimate says only that little was sent
HEADROOM = 1.5
HEADROOM_BPS = 300_000


class Estimator(Protocol):
    """A delay-based estimate: fed with arrivals, gives (bits per second, SSRCs) now and then."""

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None: ...

    @property
    def overusing(self) -> bool: ...


class Uplink:
    """The uplink of one publishing connection."""

    def __init__(self, estimator: Estimator, maximum_bps: int = BITRATE_MAX_BPS) -> None:
        self._estimator = estimator
        self._maximum_bps = maximum_bps
        self._by_delay_bps = maximum_bps
        self._by_loss_bps = maximum_bps
        self._received_bps = 0.0
        self._bytes = 0
        self._told_bps = 0
        self._told_at_s = -1e9
        self._counted_from_s: float | None = None
        self._overused_at_s = -1e9
        self._calm = True

    def arrived(self, *, now_s: float, send_time: int, size: int, ssrc: int) -> None:
        """`size` bytes arrived together; `send_time` is their last abs-send-time (24 bits), -1 without one."""
        self._bytes += size
        if send_time < 0:
            return
        told = self._estimator.add(int(now_s * 1000), send_time, size, ssrc)
        if told is not None:
            self._by_delay_bps = told[0]
        if self._estimator.overusing:
            self._overused_at_s = now_s
        self._calm = now_s - self._overused_at_s > CALM_S

    def interval(self, *, now_s: float, lost: float) -> None:
        """A report interval ended in which the fraction `lost` (0-1) of the publisher's packets was lost."""
        if self._counted_from_s is not None and now_s > self._counted_from_s:
            self._received_bps = self._bytes * 8 / (now_s - self._counted_from_s)
        self._counted_from_s = now_s
        self._bytes = 0
        if lost > LOSS_HIGH:
            base = min(self._by_loss_bps, max(self._received_bps * 1.5, BITRATE_MIN_BPS))
            self._by_loss_bps = int(base * (1 - 0.5 * lost))
        elif lost < LOSS_LOW:
            self._by_loss_bps = int(self._by_loss_bps * 1.08) + 1000
        self._by_loss_bps = max(BITRATE_MIN_BPS, min(self._maximum_bps, self._by_loss_bps))

    @property
    def received_bps(self) -> int:
        """Measured over the last interval."""
        return int(self._received_bps)

    @property
    def estimate_bps(self) -> int:
        by_delay = self._by_delay_bps
        if self._calm:  # a still camera must not keep the rate down for when it moves
            by_delay = max(by_delay, int(self._received_bps * HEADROOM) + HEADROOM_BPS)
        return max(BITRATE_MIN_BPS, min(self._maximum_bps, by_delay, self._by_loss_bps))

    def due(self, now_s: float) -> int | None:
        """The figure to put into a REMB now, or None: once per interval, at once when it falls."""
        estimate = self.estimate_bps
        if now_s - self._told_at_s < REMB_INTERVAL_S and estimate > self._told_bps * FALL_TOLD_AT_ONCE:
            return None
        self._told_bps = estimate
        self._told_at_s = now_s
        return estimate
