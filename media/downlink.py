"""One subscriber's way: what was sent on it under which transport-wide number, what its feedback makes of that, probes.

Pure: times are arguments. Never sends. Invariant: at most `RECORDS_MAX` bursts are remembered, each is judged once.

Sources: draft-holmer-rmcat-transport-wide-cc-extensions-01, draft-ietf-rmcat-gcc-02, draft-alvestrand-rmcat-remb-03.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from media.gcc import ESTIMATE_MAX_BPS, ESTIMATE_MIN_BPS, Estimate, Record
from media.rtp import extend
from media.twcc import TICK_S, Report

RECORDS_MAX = 4096
PROBE_S = 0.020
PROBE_BYTES_MIN = 4_000
PROBE_BYTES_MAX = 60_000
PROBE_STEP = 2.0
PROBE_AGAIN_S = 3.0
PROBE_NEXT_S = 0.8  # after one that found more room
PROBE_AGAIN_MAX_S = 24.0
PROBES_AT_START = 3
CALM_S = 2.0
REMB_FRESH_S = 8.0


class Probe(NamedTuple):
    """A train of packets sent back to back: its first and last number, and the rate it should prove."""

    first: int
    last: int
    rate_bps: float


class Downlink:
    """The sending side of one subscriber. Without transport-wide feedback `remb()` and `reported()` give the estimate."""

    def __init__(self) -> None:
        self.estimate = Estimate()
        self.rtt_s = 0.1
        self.heard = False  # transport-wide feedback has come
        self._next = 1
        self._records: deque[Record] = deque(maxlen=RECORDS_MAX)
        self._probe: Probe | None = None
        self._probe_arrivals: list[tuple[float, int]] = []
        self._probed_at_s = -1e9
        self._probe_wait_s = PROBE_AGAIN_S
        self._probes = 0
        self._remb: tuple[int, float] | None = None
        self._reports = Estimate(ESTIMATE_MAX_BPS)  # what receiver reports alone say: its loss half is all that is used

    # -- sending --

    def sent(self, count: int, octets: int, now_s: float) -> int:
        """`count` packets leave now; the first of their transport-wide numbers (extended)."""
        first = self._next
        self._next = first + count
        self._records.append((first, count, octets, now_s))
        return first

    @property
    def newest(self) -> int:
        """The number given out last."""
        return self._next - 1

    @property
    def estimate_bps(self) -> int:
        """What may be sent to this subscriber."""
        if self.heard:
            return self.estimate.estimate_bps
        most = self._reports.estimate_bps
        if self._remb is not None:
            most = min(most, self._remb[0])
        return max(ESTIMATE_MIN_BPS, most)

    @property
    def known(self) -> bool:
        """False as long as nothing at all has been said about this way."""
        return self.heard or self._remb is not None

    # -- feedback --

    def feedback(self, report: Report, now_s: float) -> None:
        """Judge the bursts that `report` is about."""
        self.heard = True
        base = extend(report.base, self._next)
        if base >= self._next:
            base -= 0x10000
        arrivals = report.arrivals
        end = base + len(arrivals)
        if report.whole and self._probe is None:
            self._wholly(base, end, cast(Sequence[int], arrivals))
        else:
            self._partly(base, end, arrivals)
        if self._probe is not None and end > self._probe.last:
            self._end_probe(now_s)
        self.estimate.settle(now_s, self.rtt_s)

    def _wholly(self, base: int, end: int, arrivals: Sequence[int]) -> None:
        """Everything arrived, as nearly always: all bursts that lie in the report, in one go."""
        records = self._records
        while records and records[0][0] < base:  # no report was ever about it, or about its beginning
            if sum(records[0][:2]) <= base:
                records.popleft()
            elif not self._part(base, end, arrivals):
                return
        for _ in range(self.estimate.bursts(records, base, arrivals)):
            records.popleft()
        if records and records[0][0] < end:
            self._part(base, end, arrivals)

    def _partly(self, base: int, end: int, arrivals: Sequence[int | None]) -> None:
        """Burst by burst: something was lost, or a probe is out."""
        records = self._records
        while records and records[0][0] < end:
            if records[0][0] + records[0][1] <= base:
                records.popleft()
            elif not self._part(base, end, arrivals):
                break

    def _part(self, base: int, end: int, arrivals: Sequence[int | None]) -> bool:
        """Judge of the oldest burst what lies before `end`; False if the next report will say more about it."""
        first, count, octets, sent_s = record = self._records.popleft()
        last = first + count
        until = min(last, end)
        self._judge(record, arrivals[max(0, first - base) : until - base], until - first)
        if until == last:
            return True
        self._records.appendleft((until, last - until, octets * (last - until) // count, sent_s))
        return False

    def _judge(self, record: Record, arrivals: Sequence[int | None], count: int) -> None:
        """The first `count` packets of a record that wasn't received as a whole, or while a probe is out."""
        there = [arrival for arrival in arrivals if arrival is not None]
        received = len(there)
        octets = record[2] * received // record[1]
        arrived_s = max(there) * TICK_S if there else 0.0
        probe = self._probe
        if probe is not None and there and probe.first <= record[0] <= probe.last:
            self._probe_arrivals.append((arrived_s, octets))
        self.estimate.burst(record[3], arrived_s, octets, received, count - received)

    def remb(self, bitrate_bps: int, now_s: float) -> None:
        """The subscriber's own estimate, where it gives no transport-wide feedback."""
        self._remb = (bitrate_bps, now_s)

    def reported(self, packets: int, lost: int, through_bps: float, now_s: float) -> None:
        """A receiver report about `packets` of a picture, for peers that say nothing else; `through_bps` is what arrived
        of all their pictures. A REMB that isn't repeated for `REMB_FRESH_S` counts no more."""
        if self._remb is not None and now_s - self._remb[1] > REMB_FRESH_S:
            self._remb = None
        if not self.heard and self._remb is None:
            self._reports.reported(packets, lost, through_bps, now_s)

    # -- probing --

    def probe_due(self, wanted_bps: float, now_s: float) -> int:
        """How many octets a probe sent now should have, 0 for none; `wanted_bps` is what more would be good for."""
        estimate = self.estimate
        if not self.heard or self._probe is not None:
            if self._probe is not None and now_s - self._probed_at_s > 2.0:
                self._probe = None  # its feedback was lost
            return 0
        if estimate.estimate_bps >= wanted_bps or now_s - estimate.overused_at_s < CALM_S:
            return 0
        wait_s = 0.3 if self._probes < PROBES_AT_START else self._probe_wait_s
        if now_s - self._probed_at_s < wait_s:
            return 0
        rate = min(wanted_bps * 1.2, estimate.estimate_bps * PROBE_STEP)
        return int(min(PROBE_BYTES_MAX, max(PROBE_BYTES_MIN, rate * PROBE_S / 8)))

    def probing(self, first: int, last: int, wanted_bps: float, now_s: float) -> None:
        """The packets `first` to `last` (as `sent()` numbered them) went out as a probe."""
        rate = min(wanted_bps * 1.2, self.estimate.estimate_bps * PROBE_STEP)
        self._probe = Probe(first, last, rate)
        self._probe_arrivals.clear()
        self._probed_at_s = now_s
        self._probes += 1

    def _end_probe(self, now_s: float) -> None:
        probe, self._probe = self._probe, None
        arrivals = sorted(self._probe_arrivals)
        if probe is None or len(arrivals) < 0.8 * (probe.last - probe.first + 1) or len(arrivals) < 3:
            return
        span_s = arrivals[-1][0] - arrivals[0][0]
        octets = sum(size for _, size in arrivals[1:])
        rate = octets * 8 / span_s if span_s > 0 else 1e12
        before = self.estimate.estimate_bps
        self.estimate.probed(probe.rate_bps, rate, now_s)
        grew = self.estimate.estimate_bps > before * 1.1
        self._probe_wait_s = PROBE_NEXT_S if grew else min(PROBE_AGAIN_MAX_S, self._probe_wait_s * 2)
