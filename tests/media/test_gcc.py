"""The estimate of a subscriber's way, on simulated bottlenecks with time as an argument."""

import random
from collections import deque

import pytest

from media.downlink import RECORDS_MAX, REMB_FRESH_S, Downlink
from media.gcc import ESTIMATE_MAX_BPS, ESTIMATE_MIN_BPS, ESTIMATE_START_BPS
from media.twcc import TICK_S, Report

PACKET = 1100
FEEDBACK_S = 0.1


class Way:
    """A bottleneck with a tail-drop queue, a delay and random loss, and the subscriber's feedback behind it."""

    def __init__(self, rate_bps: float, *, delay_s: float = 0.02, queue_s: float = 0.3, loss: float = 0.0) -> None:
        self.rate_bps, self.delay_s, self.queue_s, self.loss = rate_bps, delay_s, queue_s, loss
        self.downlink = Downlink()
        self.downlink.rtt_s = 2 * delay_s
        self.now_s = 100.0
        self.arrivals: dict[int, float] = {}
        self.reports: deque[tuple[float, Report]] = deque()
        self._rng = random.Random(1)
        self._free_s = 0.0
        self._told = 1
        self._feedback_s = 100.0

    def send(self, count: int, size: int = PACKET) -> int:
        """`count` packets back to back; the first number."""
        first = self.downlink.sent(count, count * size, self.now_s)
        for number in range(first, first + count):
            self._free_s = max(self._free_s, self.now_s)
            if self._free_s - self.now_s > self.queue_s:
                continue
            self._free_s += size * 8 / self.rate_bps
            if self._rng.random() >= self.loss:
                self.arrivals[number] = self._free_s + self.delay_s
        return first

    def step(self, dt_s: float) -> None:
        self.now_s += dt_s
        if self.now_s - self._feedback_s >= FEEDBACK_S:
            self._feedback_s = self.now_s
            here = {n: at for n, at in self.arrivals.items() if at <= self.now_s}
            if here:
                last = max(here)
                ticks = [round(here[n] / TICK_S) if n in here else None for n in range(self._told, last + 1)]
                self.arrivals = {n: at for n, at in self.arrivals.items() if n > last}
                if ticks:
                    self.reports.append((self.now_s + self.delay_s, Report(self._told & 0xFFFF, ticks)))
                    self._told = last + 1
        while self.reports and self.reports[0][0] <= self.now_s:
            self.downlink.feedback(self.reports.popleft()[1], self.now_s)

    def run(self, seconds: float, rate_of, *, wanted_bps: float = 0.0) -> list[int]:
        """Send bursts every 33 ms at `rate_of(estimate)`; probe when asked to; the estimates along the way."""
        seen = []
        end = self.now_s + seconds
        while self.now_s < end:
            count = max(1, round(rate_of(self.downlink.estimate_bps) * 0.033 / 8 / PACKET))
            self.send(count)
            octets = self.downlink.probe_due(wanted_bps, self.now_s) if wanted_bps else 0
            if octets:
                train = max(3, octets // PACKET)
                firsts = [self.send(1) for _ in range(train)]
                self.downlink.probing(firsts[0], firsts[-1], wanted_bps, self.now_s)
            for _ in range(3):
                self.step(0.011)
            seen.append(self.downlink.estimate_bps)
        return seen


@pytest.mark.parametrize("rate_bps", [300_000, 500_000, 1_000_000, 3_000_000])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_the_estimate_converges_on_the_bottleneck_within_25_percent(rate_bps: int, loss: float) -> None:
    way = Way(rate_bps, loss=loss)
    way.run(10.0, lambda estimate: min(estimate, 4_000_000), wanted_bps=4_000_000)
    seen = way.run(10.0, lambda estimate: min(estimate, 4_000_000), wanted_bps=4_000_000)
    mean = sum(seen) / len(seen)
    assert 0.75 * rate_bps <= mean <= 1.25 * rate_bps, mean


def test_it_converges_too_when_layers_are_all_that_can_be_sent() -> None:
    def layers(estimate: float) -> float:
        return next((rate for rate in (1_500_000, 450_000, 120_000) if rate <= estimate * 0.9), 120_000)

    way = Way(700_000, delay_s=0.15)
    way.run(10.0, layers, wanted_bps=1_700_000)
    seen = way.run(10.0, layers, wanted_bps=1_700_000)
    assert 0.75 * 700_000 <= sum(seen) / len(seen) <= 1.25 * 700_000


def test_a_wide_way_is_found_by_probing_while_little_is_sent() -> None:
    way = Way(20_000_000)
    way.run(10.0, lambda estimate: 300_000, wanted_bps=4_000_000)
    assert way.downlink.estimate_bps >= 4_000_000


def test_random_loss_of_twenty_percent_does_not_end_the_picture() -> None:
    way = Way(2_000_000, loss=0.2)
    way.run(15.0, lambda estimate: min(estimate, 1_000_000), wanted_bps=1_200_000)
    seen = way.run(15.0, lambda estimate: min(estimate, 1_000_000), wanted_bps=1_200_000)
    assert sum(seen) / len(seen) > 500_000


def test_a_way_that_narrows_is_felt_within_two_seconds() -> None:
    way = Way(2_000_000)
    way.run(10.0, lambda estimate: min(estimate, 1_500_000))
    way.rate_bps = 500_000
    way.run(2.0, lambda estimate: min(estimate, 1_500_000))
    assert way.downlink.estimate_bps < 800_000


def test_the_estimate_stays_between_its_limits_whatever_feedback_says() -> None:
    rng = random.Random(3)
    downlink = Downlink()
    now_s = 0.0
    for _ in range(5000):
        now_s += rng.random() * 0.1
        downlink.sent(rng.randrange(1, 20), rng.randrange(1, 20_000), now_s)
        ticks = [rng.choice([None, rng.randrange(-(2**20), 2**24)]) for _ in range(rng.randrange(1, 60))]
        downlink.feedback(Report(rng.randrange(0x10000), ticks), now_s)
        assert ESTIMATE_MIN_BPS <= downlink.estimate_bps <= ESTIMATE_MAX_BPS


def test_no_more_bursts_are_remembered_than_the_limit() -> None:
    downlink = Downlink()
    for number in range(2 * RECORDS_MAX):
        downlink.sent(5, 5000, number / 1000)
    assert len(downlink._records) == RECORDS_MAX
    assert downlink.newest == 10 * RECORDS_MAX


def test_without_transport_wide_feedback_the_subscribers_own_estimate_counts() -> None:
    downlink = Downlink()
    assert downlink.estimate_bps == ESTIMATE_MAX_BPS
    downlink.remb(640_000, 1.0)
    assert downlink.estimate_bps == 640_000
    assert not Downlink().known


def test_a_peer_that_only_reports_loss_gets_less_while_it_loses() -> None:
    downlink, way_bps = Downlink(), 500_000
    for second in range(8):  # 1.5 Mbit/s, then what the estimate allows, over a way of 500 kbit/s
        sent_bps = min(1_500_000, downlink.estimate_bps)
        through_bps = min(sent_bps, way_bps)
        packets = round(sent_bps / 8800)
        downlink.reported(packets, round(packets * (1 - through_bps / sent_bps)), through_bps, float(second))
    low = downlink.estimate_bps
    assert 0.75 * way_bps < low < 1.25 * way_bps
    for second in range(8, 28):
        downlink.reported(100, 0, 900_000, float(second))
    assert downlink.estimate_bps > 2 * low


def test_loss_that_stays_when_less_is_sent_does_not_take_the_picture_away() -> None:
    downlink = Downlink()
    for second in range(20):
        sent_bps = min(1_500_000, downlink.estimate_bps)
        downlink.reported(100, 20, sent_bps * 0.8, float(second))
    assert downlink.estimate_bps > 500_000


def test_a_remb_that_is_not_repeated_gives_way_to_receiver_reports() -> None:
    downlink = Downlink()
    downlink.remb(200_000, 1.0)
    downlink.reported(100, 0, 200_000, 1.0 + REMB_FRESH_S)
    assert downlink.estimate_bps == 200_000
    downlink.reported(100, 0, 200_000, 1.1 + REMB_FRESH_S)
    assert downlink.estimate_bps > 10 * 200_000


def test_a_probe_is_not_sent_while_queues_grow_nor_for_nothing() -> None:
    downlink = Downlink()
    assert downlink.probe_due(4_000_000, 1.0) == 0  # nobody listens yet
    downlink.sent(1, 1000, 1.0)
    downlink.feedback(Report(1, [4]), 1.1)
    assert downlink.probe_due(ESTIMATE_START_BPS / 2, 1.2) == 0
    assert downlink.probe_due(4_000_000, 1.2) > 0
    downlink.estimate.overused_at_s = 1.1
    assert downlink.probe_due(4_000_000, 1.2) == 0
