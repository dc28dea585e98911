"""Transport-wide feedback: what is written is read back, and any bytes are read or refused."""

import random
import time

from hypothesis import given
from hypothesis import strategies as st

from media.twcc import ARRIVALS_MAX, HEAD, TICK_S, TOLD_MAX, Arrivals, Report, bodies, read


def received(report: Report) -> dict[int, int]:
    return {(report.base + at) & 0xFFFF: tick for at, tick in enumerate(report.arrivals) if tick is not None}


@given(st.integers(0, 0xFFFF), st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.3, 0.9]))
def test_arrivals_come_back_as_they_were_told(first: int, seed: int, loss: float) -> None:
    rng = random.Random(seed)
    arrivals = Arrivals()
    now_s = rng.random() * 100_000
    truth: dict[int, float] = {}
    for number in range(first, first + rng.randrange(1, 400)):
        now_s += rng.choice([0.0, 0.0, 0.001, 0.01, 0.09])
        if rng.random() >= loss or number == first:
            arrivals.add(number & 0xFFFF, now_s)
            truth[number & 0xFFFF] = now_s
    data = arrivals.report(1234)
    assert data is not None
    assert len(data) % 4 == 0
    assert bodies(data) == ([data], False)
    report = read(data)
    assert report is not None
    got = received(report)
    assert got.keys() == truth.keys()
    assert all(abs(tick * TICK_S - truth[number]) < 2 * TICK_S for number, tick in got.items())
    assert arrivals.report(1234) is None


def test_each_report_begins_where_the_last_one_ended() -> None:
    arrivals = Arrivals()
    for number in (10, 11, 14):
        arrivals.add(number, 1.0)
    first = read(arrivals.report(1) or b"")
    arrivals.add(16, 1.1)
    second = read(arrivals.report(1) or b"")
    assert first is not None
    assert second is not None
    assert (first.base, [a is not None for a in first.arrivals]) == (10, [True, True, False, False, True])
    assert (second.base, [a is not None for a in second.arrivals]) == (15, [False, True])


def test_a_late_packet_is_told_without_taking_back_what_was_told() -> None:
    arrivals = Arrivals()
    for number in (10, 12):
        arrivals.add(number, 1.0)
    arrivals.report(1)
    arrivals.add(11, 1.2)
    arrivals.add(13, 1.2)
    report = read(arrivals.report(1) or b"")
    assert report is not None
    assert received(report).keys() == {11, 12, 13}


def test_a_report_fits_a_datagram_and_the_rest_is_in_the_next() -> None:
    arrivals = Arrivals()
    for number in range(2 * TOLD_MAX - 100):
        arrivals.add(number, 1.0 + number * (0.07 if number % 2 else 0.0))
    told: list[int] = []
    while (data := arrivals.report(1)) is not None:
        assert len(data) <= 1400
        report = read(data)
        assert report is not None
        told += range(report.base, report.base + len(report.arrivals))
    assert told == list(range(2 * TOLD_MAX - 100))


def test_after_a_gap_too_long_to_tell_the_report_begins_with_what_arrived() -> None:
    arrivals = Arrivals()
    arrivals.add(1, 1.0)
    arrivals.report(1)
    arrivals.add(2 * TOLD_MAX, 1.1)
    report = read(arrivals.report(1) or b"")
    assert report is not None
    assert (report.base, len(report.arrivals)) == (2 * TOLD_MAX, 1)


def test_no_more_arrivals_are_kept_than_the_limit() -> None:
    arrivals = Arrivals()
    for number in range(3 * ARRIVALS_MAX):
        arrivals.add(number & 0xFFFF, number / 1000)
    assert len(arrivals._at) <= ARRIVALS_MAX
    assert arrivals.report(1) is not None


def test_hostile_feedback_is_read_or_refused_quickly() -> None:
    rng = random.Random(7)
    arrivals = Arrivals()
    for number in range(300):
        if number % 7:
            arrivals.add(number, number * 0.003)
    good = arrivals.report(9) or b""
    slowest = 0.0
    for step in range(20_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        given_ = bytes(data[: rng.randrange(len(data) + 1)]) if step % 3 == 0 else bytes(data)
        began = time.thread_time()
        for body in bodies(given_)[0]:
            report = read(body)
            assert report is None or 0 < len(report.arrivals) <= 4096
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.010
    assert read(good[: HEAD.size]) is None
