"""One unit at one fence: what counts as entering, leaving, passing through, staying, being away, going silent."""

import contextlib
import json
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import GeoError, coord, fence, track
from geo.fence import STATE, Crossing, Fence, Kind, Phase, State, Zone
from geo.track import MICROSECONDS, Fix
from geo.window import Window

T0 = 1_700_000_000 * MICROSECONDS
LON, LAT = 116.0, 39.0
EAST_M, NORTH_M = coord.metres_per_degree(LAT)
ALL = frozenset({Kind.ENTER, Kind.EXIT, Kind.LOST})


def square(side_m: float) -> shapely.Polygon:
    """A square whose western edge runs through LON, its middle at LAT."""
    return shapely.box(LON, LAT - side_m / 2 / NORTH_M, LON + side_m / EAST_M, LAT + side_m / 2 / NORTH_M)


FENCE = Fence(id="f", geometry=square(1000))


def at(seconds: float, east_m: float, north_m: float = 0.0, **more: float) -> Fix:
    """A fix `east_m` metres east of the western edge; negative is outside."""
    return Fix("u", LON + east_m / EAST_M, LAT + north_m / NORTH_M, T0 + round(seconds * MICROSECONDS), **more)


def trace(area: Fence, *fixes: Fix, state: State = STATE) -> list[Crossing]:
    told: list[Crossing] = []
    for fix in fixes:
        state, some = fence.step(state, area, fix)
        state = fence.state(json.loads(json.dumps(list(state))))
        told += some
    return told


def brief(told: list[Crossing]) -> list[tuple[str, float]]:
    return [(c.kind.value, (c.at - T0) / MICROSECONDS) for c in told]


def test_driving_in_and_out_tells_enter_and_exit_once_each() -> None:
    drive = [at(s, 15 * s - 100) for s in range(100)]
    told = trace(FENCE, *drive)
    assert [c.kind for c in told] == [Kind.ENTER, Kind.EXIT]
    assert (told[0].at - T0) / 1e6 == pytest.approx(100 / 15, abs=0.01)
    assert (told[0].seen_at - T0) / 1e6 == 9
    assert coord.distance_m(told[0].lon, told[0].lat, LON, LAT) < 0.1
    true_exit_s = 1100 / 15
    assert 0 < (told[1].seen_at - T0) / 1e6 - true_exit_s <= 5
    assert not told[0].crossed and not told[0].appeared


def test_a_unit_that_appears_inside_without_crossing_enters() -> None:
    told = trace(FENCE, at(0, 500), at(1, 500), at(2, 500))
    assert brief(told) == [("enter", 0)]
    assert told[0].appeared


def test_a_slow_reporter_needs_two_fixes_a_minute_apart() -> None:
    assert brief(trace(FENCE, at(0, -9000), at(600, 500), at(1200, 500))) == [("enter", 600)]


def test_a_small_fence_between_two_fixes_is_crossed() -> None:
    gate = Fence(id="g", geometry=square(30))
    told = trace(gate, at(0, -100), at(10, 130))
    assert [(c.kind, c.crossed) for c in told] == [(Kind.ENTER, True), (Kind.EXIT, True)]
    assert brief(told)[0][1] == pytest.approx(100 / 23, abs=0.01)
    assert brief(told)[1][1] == pytest.approx(130 / 23, abs=0.01)


def test_passing_through_with_two_fixes_inside_is_told_too() -> None:
    told = trace(Fence(id="g", geometry=square(100)), at(0, -45), at(3, 0.1), at(6, 45), at(9, 90), at(12, 135))
    assert [c.kind for c in told] == [Kind.ENTER]
    told = trace(Fence(id="g", geometry=square(80)), at(0, -45), at(3, 5), at(6, 55), at(9, 105))
    assert [(c.kind, c.crossed) for c in told] == [(Kind.ENTER, True), (Kind.EXIT, True)]


def test_two_fixes_too_far_apart_in_time_are_not_joined_by_a_line() -> None:
    assert trace(Fence(id="g", geometry=square(30)), at(0, -100), at(121, 130)) == []


def test_a_ship_across_the_antimeridian_crosses_nothing_on_the_other_side_of_the_earth() -> None:
    gate = Fence(id="g", geometry=shapely.box(-0.1, -1, 0.1, 1))
    assert trace(gate, Fix("u", 179.9999, 0.0, T0), Fix("u", -179.9999, 0.0, T0 + 9 * MICROSECONDS)) == []


def test_a_fix_or_two_beyond_the_line_is_noise() -> None:
    inside = [at(s, 50) for s in range(3)]
    assert brief(trace(FENCE, *inside, at(3, -50), at(4, -50), at(5, 5))) == [("enter", 0)]
    assert brief(trace(FENCE, *inside, *(at(s, -15) for s in range(3, 99)))) == [("enter", 0)]
    assert brief(trace(FENCE, *inside, at(3, -50), at(4, -50), at(5, -50))) == [("enter", 0), ("exit", 3)]


def test_a_walker_leaves_when_moving_on_and_a_minute_later_when_stopping_just_beyond() -> None:
    walk = [at(s, 20 - s) for s in range(42)]
    on = trace(FENCE, *walk, *(at(s, 20 - s) for s in range(42, 80)))
    stop = trace(FENCE, *walk, *(at(s, -22) for s in range(42, 120)))
    assert brief(on) == brief(stop) == [("enter", 0), ("exit", 41)]
    assert [(told[1].seen_at - told[1].at) // MICROSECONDS for told in (on, stop)] == [21, 60]


def noise(rng: random.Random, sigma_m: float, rho: float) -> float:
    return rng.gauss(0, sigma_m) * (1 - rho * rho) ** 0.5


@pytest.mark.parametrize("offset_m", [-15.0, -10.0, -5.0, 0.0])
def test_parked_on_the_edge_for_a_day_gives_a_handful_of_false_events(offset_m: float) -> None:
    rng, x, y, state, raw, told, was = random.Random(1), 0.0, 0.0, STATE, 0, 0, False
    for second in range(86_400):
        x, y = 0.9 * x + noise(rng, 5.5, 0.9), 0.9 * y + noise(rng, 5.5, 0.9)
        fix = at(second, offset_m + x, y)
        state, some = fence.step(state, FENCE, fix)
        told += len(some)
        is_in = FENCE.zone(fix.lon, fix.lat) is Zone.INSIDE
        raw, was = raw + (is_in != was), is_in
    assert told <= 8
    assert offset_m != 0.0 or raw > 10_000


def test_event_time_counts_and_late_arrivals_change_nothing() -> None:
    told = trace(FENCE, at(0, 500), at(10, 500), at(5, -500), at(6, -500), at(7, -500), at(20, 500))
    assert brief(told) == [("enter", 0)]


def test_a_glitch_a_thousand_kilometres_away_is_no_exit() -> None:
    told = trace(FENCE, *(at(s, 500) for s in range(3)), at(3, 9e5), at(4, 500), at(5, 9e5), at(6, 500))
    assert brief(told) == [("enter", 0)]


def test_a_fix_that_its_device_calls_bad_is_ignored() -> None:
    told = trace(FENCE, *(at(s, 500, accuracy_m=201.0) for s in range(9)))
    assert told == []


def test_dwell_is_told_once_at_its_time() -> None:
    area = Fence(id="f", geometry=square(1000), rules=frozenset({Kind.DWELL}), dwell_s=300)
    assert brief(trace(area, *(at(s, 500) for s in range(0, 1000, 50)))) == [("dwell", 300)]


def test_inside_is_repeated_in_its_interval() -> None:
    area = Fence(id="f", geometry=square(1000), rules=frozenset({Kind.INSIDE}), inside_s=60)
    assert brief(trace(area, *(at(s, 500) for s in range(0, 200, 10)))) == [("inside", 80), ("inside", 140)]


def test_silence_while_inside_is_lost_inside_once_and_again_after_the_next_silence() -> None:
    state = STATE
    for s in range(3):
        state, _ = fence.step(state, FENCE, at(s, 500))
    state, told = fence.tick(state, FENCE, "u", T0 + 601 * MICROSECONDS)
    assert told == []
    state, told = fence.tick(state, FENCE, "u", T0 + 700 * MICROSECONDS)
    assert brief(told) == [("lost", 602)]
    state, told = fence.tick(state, FENCE, "u", T0 + 800 * MICROSECONDS)
    assert told == []
    state, _ = fence.step(state, FENCE, at(900, 500))
    assert brief(fence.tick(state, FENCE, "u", T0 + 1600 * MICROSECONDS)[1]) == [("lost", 1500)]


def test_absent_is_told_for_one_that_stays_away_and_for_one_never_heard_of() -> None:
    area = Fence(id="f", geometry=square(1000), rules=frozenset({Kind.ABSENT}), units=frozenset({"u"}), absent_s=300)
    away = [at(s, -500) for s in range(0, 700, 10)]
    assert brief(trace(area, *away)) == [("absent", 300)]
    back = [at(s, 500) for s in range(700, 730, 10)]
    again = [at(s, -500) for s in range(730, 1100, 10)]
    assert brief(trace(area, *away, *back, *again)) == [("absent", 300), ("absent", 1030)]
    state, told = fence.tick(STATE, area, "u", T0)
    assert told == []
    assert brief(fence.tick(state, area, "u", T0 + 400 * MICROSECONDS)[1]) == [("absent", 300)]


def test_units_the_fence_does_not_watch_are_passed_over() -> None:
    area = Fence(id="f", geometry=square(1000), units=frozenset({"other"}))
    assert trace(area, *(at(s, 500) for s in range(9))) == []


def test_a_fence_that_is_switched_on_finds_who_is_inside_and_off_says_nothing() -> None:
    window = Window(from_at=T0 + 10 * MICROSECONDS, to_at=T0 + 20 * MICROSECONDS)
    area = Fence(id="f", geometry=square(1000), windows=(window,))
    told = trace(area, *(at(s, 500) for s in range(40)), *(at(s, -500) for s in range(40, 60)))
    assert brief(told) == [("enter", 10)] and told[0].appeared


def test_a_nightly_window_belongs_to_the_day_it_began() -> None:
    night = Window(daily_min=(22 * 60, 6 * 60), days=frozenset({4}))  # Friday night, UTC+8
    hour = 3600 * MICROSECONDS
    friday = 1_700_150_400 * MICROSECONDS  # 2023-11-17T00:00+08:00
    assert [night.holds(friday + h * hour) for h in (5, 21, 22, 29, 30, 46)] == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    "bad",
    [{"daily_min": (0, 0)}, {"daily_min": (-1, 5)}, {"days": frozenset({7})}, {"days": frozenset()},
     {"from_at": 5, "to_at": 5}, {"utc_offset_min": 900}],
)  # fmt: skip
def test_an_impossible_window_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(GeoError, match=r"geo\.fence"):
        Window(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "code"),
    [({"fixes": 0}, "geo.fence"), ({"fixes": 21}, "geo.fence"), ({"exit_buffer_m": -1}, "geo.fence"),
     ({"dwell_s": float("nan")}, "geo.fence"), ({"rules": frozenset({Kind.ABSENT})}, "geo.fence"),
     ({"windows": (Window(),) * (fence.WINDOWS_MAX + 1)}, "geo.fence"), ({"geometry": shapely.Point(0, 0)}, "geo.type"),
     ({"geometry": shapely.Polygon()}, "geo.type"), ({"geometry": shapely.box(0, 88, 1, 89.5)}, "geo.pole")],
)  # fmt: skip
def test_an_impossible_fence_is_refused(bad: dict[str, object], code: str) -> None:
    with pytest.raises(GeoError) as caught:
        Fence(**({"id": "f", "geometry": square(10)} | bad))  # type: ignore[arg-type]
    assert caught.value.code == code


@pytest.mark.parametrize("lat", [0.0, 39.0, 70.0, -55.0])
def test_the_outer_line_lies_the_buffer_away_all_round(lat: float) -> None:
    area = Fence(id="f", geometry=coord.circle(100, lat, 2000))
    for bearing in range(0, 360, 15):
        assert area.zone(*coord.destination(100, lat, bearing, 1998)) is Zone.INSIDE
        assert area.zone(*coord.destination(100, lat, bearing, 2018)) is Zone.EDGE
        assert area.zone(*coord.destination(100, lat, bearing, 2022)) is Zone.OUTSIDE


fixes = st.lists(st.tuples(st.integers(-5, 40), st.floats(-120, 220), st.floats(-120, 120)), max_size=40)


@settings(max_examples=300, deadline=None)
@given(fixes, st.integers(1, 4), st.sampled_from([0.0, 20.0]))
def test_enter_and_exit_alternate_and_never_run_backwards(
    moves: list[tuple[int, float, float]], needed: int, buffer_m: float
) -> None:
    area = Fence(id="f", geometry=square(100), fixes=needed, exit_buffer_m=buffer_m)
    told, now = [], 0
    state = STATE
    for wait, x, y in moves:
        now += wait
        state, some = fence.step(state, area, at(now, x, y))
        assert fence.state(json.loads(json.dumps(list(state)))) == state
        told += some
    kinds = [c.kind for c in told if c.kind is not Kind.LOST]
    assert kinds[::2] == [Kind.ENTER] * len(kinds[::2]) and kinds[1::2] == [Kind.EXIT] * len(kinds[1::2])
    assert all(a.at <= b.at and a.seen_at <= b.seen_at for a, b in pairwise(told))
    assert all(c.at <= c.seen_at for c in told)
    assert (state.phase is Phase.INSIDE) == (len(kinds) % 2 == 1)


@settings(max_examples=300)
@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.integers(), st.floats(), st.booleans(), st.text()))))
def test_no_stored_state_crashes(stored: object) -> None:
    with contextlib.suppress(GeoError):
        fence.state(stored)


@settings(max_examples=200)
@given(st.integers(0, len(STATE) - 1), st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.booleans()))
def test_one_wrong_field_is_refused_or_the_state_is_usable(place: int, value: object) -> None:
    stored: list[object] = list(STATE)
    stored[place] = value
    try:
        found = fence.state(stored)
    except GeoError as error:
        assert error.code == "geo.state"
    else:
        fence.step(found, FENCE, at(0, 500))


def test_limits_of_sanity_can_be_set() -> None:
    slow = replace(fence.LIMITS, speed_mps=10.0)
    state, _ = fence.step(STATE, FENCE, at(0, -500))
    state, _ = fence.step(state, FENCE, at(1, 500), slow)
    assert (state.suspects, state.phase) == (1, Phase.OUTSIDE)
    assert track.SUSPECTS_MAX == 3
