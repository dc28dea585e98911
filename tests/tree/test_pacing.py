"""The connection for what can wait keeps to its share of the line."""

from hypothesis import given
from hypothesis import strategies as st

from command.tree.pacing import (
    FAST_BPS,
    MEASURE_AGAIN_S,
    MEASURE_EVERY_S,
    PAUSE_MAX_S,
    PIECE_OCTETS_MAX,
    PIECE_OCTETS_MIN,
    PIECE_S,
    SHARE,
    SLOWEST_BPS,
    TRAIN_OCTETS,
    TRAIN_OCTETS_MIN,
    Pace,
    Sample,
    slope_bps,
)


def train(rate_bps: float, octets: int = 14_000, packet: int = 1_400, rtt_s: float = 0.8) -> list[Sample]:
    """How a train looks at its sender: the first packet arrives a round trip later, then one after the other."""
    arrivals = [Sample(rtt_s + n * packet * 8 / rate_bps, n * packet) for n in range(1, octets // packet + 1)]
    return [Sample(0.0, 0), *arrivals]


def test_a_train_shows_the_rate_of_the_line_whatever_the_round_trip() -> None:
    for rtt_s in (0.01, 0.8, 2.0):
        found = slope_bps(train(64_000, rtt_s=rtt_s))
        assert found is not None
        assert abs(found - 64_000) < 1


def test_what_can_wait_gets_its_share_of_the_measured_rate() -> None:
    pace = Pace()
    assert pace.due(0.0, TRAIN_OCTETS_MIN)
    pace.measured(5.0, train(64_000), 0.0)
    assert pace.limit_bps is not None
    assert abs(pace.limit_bps - SHARE * 64_000) < 1
    assert not pace.due(5.0 + MEASURE_EVERY_S - 1, 16_000)
    assert pace.due(5.0 + MEASURE_EVERY_S, 16_000)


def test_a_fast_line_that_a_busy_machine_took_for_a_slower_one_is_measured_again_soon() -> None:
    pace = Pace()
    pace.measured(5.0, train(5_000_000, rtt_s=0.15), 0.0)
    assert pace.limit_bps is not None
    assert not pace.due(5.0 + MEASURE_AGAIN_S - 0.1, 16_000)
    assert pace.due(5.0 + 2 * MEASURE_AGAIN_S, 16_000)
    pace.measured(8.0, train(1e9, rtt_s=0.001), FAST_BPS)
    assert pace.limit_bps is None
    assert not pace.due(8.0 + MEASURE_EVERY_S - 1, 16_000)


def test_measuring_takes_no_more_than_a_tenth_of_the_time_where_a_round_trip_is_long() -> None:
    pace = Pace()
    pace.measured(5.0, train(5_000_000, rtt_s=0.8), 0.0)
    assert not pace.due(5.0 + 8.0, 16_000)
    assert pace.due(5.0 + 10.0, 16_000)


def test_on_a_slow_line_pieces_are_small_and_set_apart() -> None:
    pace = Pace()
    assert pace.piece_octets(0.0) == TRAIN_OCTETS >= TRAIN_OCTETS_MIN
    pace.measured(5.0, train(64_000), 0.0)
    piece = pace.piece_octets(6.0)
    assert piece == pace.claim(6.0) == round(PIECE_S * 64_000 / 8)
    assert abs(pace.pause_s(piece) - PIECE_S / SHARE) < 0.001


def test_what_can_wait_waits_until_the_line_has_carried_what_is_urgent() -> None:
    pace = Pace()
    assert pace.carried_s(8_000) == 0
    pace.measured(5.0, train(64_000), 0.0)
    assert abs(pace.carried_s(8_000) - 1.0) < 0.001


def test_a_line_of_two_kilobit_still_lets_pings_pass() -> None:
    pace = Pace()
    pace.measured(5.0, train(SLOWEST_BPS), 0.0)
    assert pace.pause_s(16_000) == PAUSE_MAX_S < 20


def test_of_several_pieces_asked_for_at_once_one_becomes_the_train() -> None:
    pace = Pace()
    assert [pace.claim(0.0) for _ in range(3)] == [TRAIN_OCTETS, PIECE_OCTETS_MIN, PIECE_OCTETS_MIN]
    pace.measured(5.0, train(64_000), 0.0)
    later = 5.0 + MEASURE_EVERY_S
    assert [pace.claim(later) for _ in range(2)] == [TRAIN_OCTETS, pace.steady_octets]


def test_a_fast_line_that_took_long_is_measured_at_once() -> None:
    pace = Pace()
    pace.measured(0.0, [Sample(0.0, 0), Sample(0.005, 16_000)], 10 * FAST_BPS)
    assert pace.piece_octets(1.0) == PIECE_OCTETS_MAX and pace.pause_s(PIECE_OCTETS_MAX) == 0
    pace.doubted(2.0)
    assert pace.due(2.0, TRAIN_OCTETS)


def test_small_frames_are_no_train() -> None:
    assert not Pace().due(0.0, TRAIN_OCTETS_MIN - 1)


def test_a_fast_line_has_no_limit() -> None:
    pace = Pace()
    pace.measured(0.0, [Sample(0.0, 0), Sample(0.005, 16_000)], 10 * FAST_BPS)
    assert pace.limit_bps is None


def test_a_train_that_told_nothing_is_tried_again_soon_and_changes_nothing() -> None:
    pace = Pace()
    pace.measured(0.0, train(64_000), 0.0)
    before = pace.limit_bps
    pace.measured(100.0, [Sample(0.0, 0)], 0.0)
    assert pace.limit_bps == before
    assert pace.due(106.0, 16_000)


@given(st.lists(st.tuples(st.floats(0.001, 10), st.integers(0, 3000)), max_size=50), st.floats(0, 1e12))
def test_property_a_limit_is_never_below_the_slowest(steps: list[tuple[float, int]], kernel_bps: float) -> None:
    at, octets, samples = 0.0, 0, [Sample(0.0, 0)]
    for pause, more in steps:
        at, octets = at + pause, octets + more
        samples.append(Sample(at, octets))
    pace = Pace()
    pace.measured(at, samples, kernel_bps)
    assert pace.limit_bps is None or pace.limit_bps >= SLOWEST_BPS


def test_a_rate_of_better_days_is_not_believed() -> None:
    """The kernel goes on reporting the best it saw on this connection, after the line has become a bad one."""
    pace = Pace()
    pace.measured(0.0, train(64_000), 10 * FAST_BPS)
    assert pace.limit_bps is not None
    assert abs(pace.limit_bps - SHARE * 64_000) < 1
