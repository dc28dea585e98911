"""How much one subscriber's way can carry, judged from its feedback: delay gradient, loss, and probes (GCC).

Pure: times are arguments. Never sends. Invariant: `estimate_bps` lies between `ESTIMATE_MIN_BPS` and `ESTIMATE_MAX_BPS`.

Sources: draft-ietf-rmcat-gcc-02 §4-§6 with the trendline filter and the probing that its implementations use instead of
the Kalman filter. Ours: loss that doesn't fall when the rate falls is the way's own and no sign of congestion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from media.twcc import TICK_S

Record = tuple[int, int, int, float]
"""Packets sent together: the first number, how many, octets, when."""

ESTIMATE_MIN_BPS = 80_000
ESTIMATE_MAX_BPS = 50_000_000
ESTIMATE_START_BPS = 1_000_000

GROUP_S = 0.015  # bursts closer together than this are judged as one
WINDOW_GROUPS = 20
GROUPS_MAX = 60
SMOOTHING = 0.9
GAIN = 4.0
THRESHOLD_START_MS = 12.5
THRESHOLD_MIN_MS, THRESHOLD_MAX_MS = 6.0, 600.0
UP, DOWN = 0.0087, 0.039
OVERUSE_MS = 10.0
JUMP_MS = 3000.0

BETA = 0.85
ACKED_WINDOW_S = 0.6
RATE_FACTOR_MAX = 1.5
RATE_EXTRA_BPS = 10_000
LOSS_WINDOW_S = 1.0
LOSS_PACKETS_MIN = 20
LOSS_HIGH, LOSS_LOW = 0.10, 0.02
LOSS_SAME = 0.6
LOSS_OWN_MAX = 0.45


class Trendline:
    """Whether queues on the way grow: the slope of the smoothed one-way delay over the last groups of packets."""

    def __init__(self) -> None:
        self.state = "normal"  # or "over", "under"
        self._points: deque[tuple[float, float]] = deque()
        self._sums = (0.0, 0.0, 0.0, 0.0)  # of x, y, x * x, x * y
        self._sum = self._smoothed = 0.0
        self._first_ms: float | None = None
        self._threshold_ms = THRESHOLD_START_MS
        self._over_ms = 0.0
        self._over_count = 0
        self._before = 0.0
        self._groups = 0
        self._updated_ms: float | None = None

    def add(self, arrival_delta_ms: float, send_delta_ms: float, arrival_ms: float) -> None:
        """One group after another: how much later it arrived and was sent than the one before."""
        later_ms = arrival_delta_ms - send_delta_ms
        if later_ms > JUMP_MS or later_ms < -JUMP_MS:  # a stall or a clock that was set: begin anew
            self._points.clear()
            self._sums = (0.0, 0.0, 0.0, 0.0)
            self._sum = self._smoothed = 0.0
            self._first_ms = None
            return
        if self._groups < GROUPS_MAX:
            self._groups += 1
        self._sum += later_ms
        smoothed = self._smoothed = SMOOTHING * self._smoothed + (1 - SMOOTHING) * self._sum
        if self._first_ms is None:
            self._first_ms = arrival_ms
        slope = self._slope(arrival_ms - self._first_ms, smoothed)
        self._detect(slope * self._groups * GAIN, slope, send_delta_ms, arrival_ms)

    def _slope(self, x: float, y: float) -> float:
        """The least-squares slope over the last `WINDOW_GROUPS` points with this one; 0 before there are so many."""
        points = self._points
        points.append((x, y))
        in_x, in_y, in_xx, in_xy = self._sums
        in_x, in_y, in_xx, in_xy = in_x + x, in_y + y, in_xx + x * x, in_xy + x * y
        if len(points) <= WINDOW_GROUPS:
            self._sums = in_x, in_y, in_xx, in_xy
            return 0.0
        x, y = points.popleft()
        in_x, in_y, in_xx, in_xy = self._sums = in_x - x, in_y - y, in_xx - x * x, in_xy - x * y
        below = WINDOW_GROUPS * in_xx - in_x * in_x
        return (WINDOW_GROUPS * in_xy - in_x * in_y) / below if below > 1.0 else 0.0

    def _detect(self, trend: float, slope: float, send_delta_ms: float, now_ms: float) -> None:
        """Overuse, by a threshold that follows the trend slowly."""
        threshold_ms = self._threshold_ms
        if trend > threshold_ms:
            self._over_ms += send_delta_ms if self._over_count else send_delta_ms / 2
            self._over_count += 1
            if self._over_ms > OVERUSE_MS and self._over_count > 1 and slope >= self._before:
                self._over_ms, self._over_count = 0.0, 0
                self.state = "over"
        else:
            self._over_ms, self._over_count = 0.0, 0
            self.state = "under" if trend < -threshold_ms else "normal"
        self._before = slope
        updated_ms, self._updated_ms = self._updated_ms, now_ms
        beyond = (trend if trend >= 0 else -trend) - threshold_ms
        if beyond > 15.0 or updated_ms is None:
            return
        since = now_ms - updated_ms
        threshold_ms += (UP if beyond > 0 else DOWN) * beyond * (since if since < 100.0 else 100.0)
        if threshold_ms < THRESHOLD_MIN_MS:
            threshold_ms = THRESHOLD_MIN_MS
        self._threshold_ms = threshold_ms if threshold_ms < THRESHOLD_MAX_MS else THRESHOLD_MAX_MS


class Estimate:
    """The rate of one way. `sent()` groups in order of sending, then `settle()` once per feedback packet."""

    def __init__(self, start_bps: int = ESTIMATE_START_BPS) -> None:
        self.by_delay_bps = float(start_bps)
        self.by_loss_bps = float(ESTIMATE_MAX_BPS)
        self.acked_bps = 0.0
        self.lost = 0.0
        self.own_loss = 0.0  # what this way loses whatever the rate
        self.overused_at_s = -1e9
        self.trend = Trendline()
        self._acked: deque[tuple[float, int]] = deque()
        self._acked_bytes = 0
        self._group: list[float] | None = None  # [first sent, last sent, last arrival]
        self._former: list[float] | None = None
        self._capacity_bps = 0.0
        self._increased_at_s: float | None = None
        self._decreased_at_s = -1e9
        self._loss_from_s: float | None = None
        self._loss_packets = [0, 0]
        self._lowered: tuple[float, float] | None = None  # (loss, rate) when loss lowered the rate last

    @property
    def estimate_bps(self) -> int:
        return int(max(ESTIMATE_MIN_BPS, min(ESTIMATE_MAX_BPS, self.by_delay_bps, self.by_loss_bps)))

    # -- what feedback says --

    def burst(self, sent_s: float, arrived_s: float, octets: int, received: int, lost: int) -> None:
        """Packets sent together: `received` of them (`octets`) arrived, the last one at `arrived_s` of the other's clock."""
        self._loss_packets[0] += received + lost
        self._loss_packets[1] += lost
        if not received:
            return
        self._acked.append((arrived_s, octets))
        self._acked_bytes += octets
        group = self._group
        if group is not None and (sent_s - group[0] < GROUP_S or sent_s < group[1]):
            group[1], group[2] = max(group[1], sent_s), max(group[2], arrived_s)
            return
        self._end_group(group)
        self._group = [sent_s, sent_s, arrived_s]

    def bursts(self, records: Iterable[Record], base: int, arrivals: Sequence[int]) -> int:
        """As `burst()` for each of `records` in order, as long as they lie in `arrivals` (ticks of 250 us, of the packets from
        number `base` on) as a whole; how many did. None of them is from before `base`."""
        group, acked = self._group, self._acked
        beyond = base + len(arrivals)
        at_last = base + 1
        done = packets = octets_in_all = run = 0
        told_s = 0.0
        for first, count, octets, sent_s in records:
            after = first + count
            if after > beyond:
                break
            done += 1
            packets += count
            octets_in_all += octets
            arrived_s = arrivals[after - at_last] * TICK_S
            if group is not None and (sent_s - group[0] < GROUP_S or sent_s < group[1]):
                run += octets
                if sent_s > group[1]:
                    group[1] = sent_s
                if arrived_s > group[2]:
                    group[2] = arrived_s
                told_s = arrived_s
                continue
            if run:
                acked.append((told_s, run))
            run, told_s = octets, arrived_s
            self._end_group(group)
            group = self._group = [sent_s, sent_s, arrived_s]
        if run:
            acked.append((told_s, run))
        self._loss_packets[0] += packets
        self._acked_bytes += octets_in_all
        return done

    def _end_group(self, group: list[float] | None) -> None:
        """What followed was sent later: hold this group against the one before."""
        former, self._former = self._former, group
        if group is not None and former is not None:
            self.trend.add((group[2] - former[2]) * 1000, (group[1] - former[1]) * 1000, group[2] * 1000)

    def reported(self, packets: int, lost: int, through_bps: float, now_s: float) -> None:
        """`lost` of `packets` did not arrive and `through_bps` did: all that a receiver report can say."""
        self._loss_packets[0] += packets
        self._loss_packets[1] += lost
        self.acked_bps = through_bps
        self._by_loss(now_s)

    def settle(self, now_s: float, rtt_s: float) -> None:
        """A feedback packet is read to its end: move the rate."""
        self._measure()
        self._by_delay(now_s, rtt_s)
        self._by_loss(now_s)

    def _measure(self) -> None:
        acked = self._acked
        if len(acked) < 2:
            return
        newest_s = acked[-1][0]
        oldest_s, octets = acked[0]
        while newest_s - oldest_s > ACKED_WINDOW_S and len(acked) > 2:
            self._acked_bytes -= octets
            acked.popleft()
            oldest_s, octets = acked[0]
        span_s = newest_s - oldest_s
        if span_s > ACKED_WINDOW_S / 4:
            self.acked_bps = (self._acked_bytes - octets) * 8 / span_s

    # -- the rates --

    def _by_delay(self, now_s: float, rtt_s: float) -> None:
        since_s = 0.0 if self._increased_at_s is None else min(1.0, now_s - self._increased_at_s)
        self._increased_at_s = now_s
        if self.trend.state == "over":
            self.overused_at_s = now_s
            if now_s - self._decreased_at_s > max(0.2, rtt_s) or self.acked_bps < self.by_delay_bps / 2:
                self._decrease(now_s)
            return
        if self.trend.state == "under" or not self.acked_bps:
            return
        most = self.acked_bps * RATE_FACTOR_MAX + RATE_EXTRA_BPS
        if self.by_delay_bps >= most:
            return  # so little is sent that it proves nothing; a probe may
        if self._capacity_bps and self.by_delay_bps > 0.8 * self._capacity_bps:
            response_s = rtt_s + 0.1
            grown = self.by_delay_bps + max(4000.0, 1200 * 8 / response_s) * since_s
            if self.by_delay_bps > 1.3 * self._capacity_bps:
                self._capacity_bps = 0.0
        else:
            grown = self.by_delay_bps * 1.08**since_s + 1000 * since_s
        self.by_delay_bps = min(grown, max(most, self.by_delay_bps))

    def _decrease(self, now_s: float) -> None:
        self._decreased_at_s = now_s
        if not self.acked_bps:
            self.by_delay_bps *= BETA
            return
        acked = self.acked_bps
        smoothed = self._capacity_bps or acked
        self._capacity_bps = smoothed + 0.3 * (acked - smoothed) if abs(acked - smoothed) < 0.5 * smoothed else acked
        self.by_delay_bps = min(self.by_delay_bps, max(BETA * acked, ESTIMATE_MIN_BPS))

    def _by_loss(self, now_s: float) -> None:
        if self._loss_from_s is None:
            self._loss_from_s = now_s
        packets, lost = self._loss_packets
        if now_s - self._loss_from_s < LOSS_WINDOW_S or packets < LOSS_PACKETS_MIN:
            return
        self._loss_from_s = now_s
        self._loss_packets = [0, 0]
        loss = self.lost = lost / packets
        excess = loss - self.own_loss
        rate = self.estimate_bps
        if excess > LOSS_HIGH:
            if self._lowered is not None and loss > LOSS_SAME * self._lowered[0] and rate <= 0.9 * self._lowered[1]:
                self.own_loss = min(LOSS_OWN_MAX, loss)  # sending less didn't help: it isn't us
                self.by_loss_bps = max(self.by_loss_bps, self._lowered[1])
                self._lowered = None
                return
            if self._lowered is None:
                self._lowered = (loss, float(rate))
            through = min(
                rate * (1 - 0.5 * excess), self.acked_bps * 0.95 or rate
            )  # at that rate a full queue loses nothing
            self.by_loss_bps = max(float(ESTIMATE_MIN_BPS), through)
        elif excess < LOSS_LOW:
            self._lowered = None
            self.own_loss = min(self.own_loss, max(0.0, loss) * 1.2)
            self.by_loss_bps = min(float(ESTIMATE_MAX_BPS), self.by_loss_bps * 1.08 + 1000)

    def probed(self, sent_bps: float, arrived_bps: float, now_s: float) -> None:
        """A probe was sent at up to `sent_bps` and arrived at `arrived_bps`."""
        held_up = arrived_bps < 0.9 * sent_bps
        proved = arrived_bps * 0.95 if held_up else sent_bps
        if proved > self.by_delay_bps and now_s - self.overused_at_s > 1.0:
            self.by_delay_bps = min(float(ESTIMATE_MAX_BPS), proved)
        if held_up:
            self._capacity_bps = arrived_bps
            if now_s - self.overused_at_s > 1.0 and self.acked_bps < proved < self.by_delay_bps:
                self.by_delay_bps = max(proved, ESTIMATE_MIN_BPS)
        if proved > self.by_loss_bps and self.lost - self.own_loss < LOSS_LOW:
            self.by_loss_bps = min(float(ESTIMATE_MAX_BPS), proved)
