"""Locations: sane, newer, worth keeping."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import GeoError, coord, track
from geo.track import MICROSECONDS, Fix, Trail, Verdict

NOW = 1_700_000_000 * MICROSECONDS


def fix_at(seconds: float, lon: float = 116.0, lat: float = 39.0, **more: float) -> Fix:
    return Fix("u", lon, lat, NOW + round(seconds * MICROSECONDS), **more)


def trace(*fixes: Fix) -> list[Verdict]:
    trail, verdicts = Trail(), []
    for fix in fixes:
        trail, verdict = track.judge(trail, fix, NOW + 3600 * MICROSECONDS)
        verdicts.append(verdict)
    return verdicts


def test_first_fix_is_new_and_the_same_again_is_a_duplicate() -> None:
    assert trace(fix_at(0), fix_at(0), fix_at(1)) == [Verdict.NEW, Verdict.DUPLICATE, Verdict.NEW]


def test_a_fix_that_arrives_after_a_later_one_is_late_and_does_not_move_the_unit() -> None:
    trail, _ = track.judge(Trail(), fix_at(10), NOW + 20 * MICROSECONDS)
    after, verdict = track.judge(trail, fix_at(5, lon=116.001), NOW + 20 * MICROSECONDS)
    assert verdict is Verdict.LATE
    assert after == trail


def test_the_future_the_distant_past_and_the_inaccurate_are_refused() -> None:
    assert track.judge(Trail(), fix_at(61), NOW)[1] is Verdict.FUTURE
    assert track.judge(Trail(), fix_at(59), NOW)[1] is Verdict.NEW
    assert track.judge(Trail(), fix_at(-8 * 86_400), NOW)[1] is Verdict.OLD
    assert track.judge(Trail(), fix_at(0, accuracy_m=1001.0), NOW)[1] is Verdict.INACCURATE


def test_one_glitch_is_too_fast_and_the_way_back_is_not() -> None:
    far = fix_at(1, lon=117.0)
    assert trace(fix_at(0), far, fix_at(2)) == [Verdict.NEW, Verdict.TOO_FAST, Verdict.NEW]


def test_after_three_fixes_elsewhere_the_place_before_was_the_wrong_one() -> None:
    away = [fix_at(s, lon=117.0) for s in (1, 2, 3, 4)]
    verdicts = trace(fix_at(0), *away)
    assert verdicts == [Verdict.NEW, Verdict.TOO_FAST, Verdict.TOO_FAST, Verdict.NEW, Verdict.NEW]


def test_noise_between_two_fixes_a_tenth_of_a_second_apart_is_not_speed() -> None:
    assert trace(fix_at(0), fix_at(0.1, lon=116.0005)) == [Verdict.NEW, Verdict.NEW]


def test_a_trail_survives_being_stored() -> None:
    trail = Trail(5, 1.0, 2.0, 1)
    assert track.trail(list(trail)) == trail


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.integers(), st.floats(), st.none(), st.text()))))
def test_no_stored_trail_crashes(stored: object) -> None:
    with contextlib.suppress(GeoError):
        track.trail(stored)


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=200))


@settings(max_examples=300)
@given(scalars, scalars, scalars, scalars, scalars)
def test_no_values_from_outside_crash_the_fix(a: object, b: object, c: object, d: object, e: object) -> None:
    try:
        fix = track.fix(unit=a, lon=b, lat=c, at=d, accuracy_m=e, heading_deg=e)  # type: ignore[arg-type]
    except GeoError as error:
        assert error.code in {"geo.fix", "geo.coordinate"}
    else:
        coord.check(fix.lon, fix.lat)
        assert fix.unit.encode()


def test_a_negative_heading_of_a_phone_means_unknown() -> None:
    assert track.fix(unit="u", lon=1, lat=2, at=3, speed_mps=-1, heading_deg=-1).heading_deg is None


@pytest.mark.parametrize("unit", ["", "a\0b", "\ud800", "x" * 129])
def test_a_unit_whose_name_cannot_be_stored_is_refused(unit: str) -> None:
    with pytest.raises(GeoError, match=r"geo\.fix"):
        track.fix(unit=unit, lon=1, lat=2, at=3)


def test_thinning_keeps_by_distance_by_time_and_by_turn() -> None:
    first = fix_at(0, heading_deg=0.0)
    assert track.worth_keeping(None, first)
    assert not track.worth_keeping(first, fix_at(5, heading_deg=90.0))
    assert not track.worth_keeping(first, fix_at(5, lat=39.0005, heading_deg=10.0))
    assert track.worth_keeping(first, fix_at(5, lat=39.0005, heading_deg=350.0 - 20))
    assert track.worth_keeping(first, fix_at(5, lat=39.001))
    assert track.worth_keeping(first, fix_at(300))
    assert not track.worth_keeping(first, fix_at(-1, lat=39.5))


def test_a_parked_hour_keeps_a_dozen_fixes_and_a_drive_one_per_hundred_metres() -> None:
    parked, driven = [fix_at(0)], [fix_at(0)]
    for s in range(1, 3600):
        for kept, fix in ((parked, fix_at(s)), (driven, fix_at(s, lat=39.0 + s * 10 / 111_000))):
            if track.worth_keeping(kept[-1], fix):
                kept.append(fix)
    assert len(parked) == 12
    assert 320 <= len(driven) <= 361
