"""The pipeline by itself: sane, newer, worth keeping; no database."""

import random
from dataclasses import replace

from command.domain.location import NOTHING, RECENT_MAX, Memory, sift
from geo.track import Fix, Trail, Verdict

S = 1_000_000
NOW = 1_790_000_000 * S


def fix(ago_s: float, lon: float = 120.0, lat: float = 30.0, unit: str = "u1", **more: float) -> Fix:
    return Fix(unit, lon, lat, NOW - round(ago_s * S), **more)


def through(*fixes: Fix, before: Memory = NOTHING) -> tuple[list[Verdict], Memory]:
    sifted = sift(fixes, lambda unit: before, NOW)
    return sifted.verdicts, sifted.memories.get("u1", before)


def test_each_fix_gets_its_verdict_in_the_order_it_came() -> None:
    verdicts, _ = through(
        fix(10),
        fix(5, 120.0005),
        fix(10),
        fix(7, 120.0001),
        fix(-3600),
        fix(8 * 86_400),
        fix(4, accuracy_m=5_000.0),
        fix(1, 121.0),
    )
    assert verdicts == [
        Verdict.NEW,
        Verdict.NEW,
        Verdict.DUPLICATE,
        Verdict.NEW,  # ordered by its own time within the batch, not by its place in it
        Verdict.FUTURE,
        Verdict.OLD,
        Verdict.INACCURATE,
        Verdict.TOO_FAST,
    ]


def test_a_late_fix_goes_to_the_track_and_moves_nobody() -> None:
    _, before = through(fix(10, 120.01))
    sifted = sift([fix(300, 120.0)], lambda unit: before, NOW)
    assert sifted.verdicts == [Verdict.LATE]
    assert sifted.newest == {}
    assert sifted.points == [(fix(300, 120.0), True)]
    assert sifted.memories["u1"].trail == before.trail


def test_a_repeated_fix_is_a_duplicate_even_when_newer_ones_came() -> None:
    _, before = through(*(fix(60 - i, 120.0 + i * 1e-5) for i in range(RECENT_MAX)))
    verdicts, after = through(fix(60, 120.0), fix(50, 120.0 + 10e-5), before=before)
    assert verdicts == [Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert after == before
    assert len(before.recent) == RECENT_MAX


def test_memory_of_recent_fixes_is_limited() -> None:
    _, after = through(*(fix(600 - i, 120.0 + i * 1e-5) for i in range(5 * RECENT_MAX)))
    assert len(after.recent) == RECENT_MAX


def test_the_track_is_thinned_by_distance_time_and_turn() -> None:
    parked = [fix(1000 - i) for i in range(600)]
    assert len(sift(parked, lambda unit: NOTHING, NOW).points) == 2  # the first, and one after 300 s
    driving = [fix(1000 - 5 * i, 120.0 + i * 0.0005) for i in range(100)]
    kept = sift(driving, lambda unit: NOTHING, NOW).points
    assert 30 <= len(kept) <= 35  # 48 m a step, kept after 100 m


def test_a_backlog_of_late_fixes_is_thinned_like_the_rest() -> None:
    before = replace(NOTHING, trail=Trail(NOW - S, 120.0, 30.0, 0))
    late = [fix(3000 - i) for i in range(600)]
    sifted = sift(late, lambda unit: before, NOW)
    assert set(sifted.verdicts) == {Verdict.LATE}
    assert len(sifted.points) == 2


def test_order_of_arrival_within_a_batch_does_not_matter() -> None:
    dice = random.Random(7)
    fixes = [fix(1000 - 5 * i, 120.0 + i * 0.0005, unit=f"u{i % 3}") for i in range(60)]
    wanted = sift(fixes, lambda unit: NOTHING, NOW)
    for _ in range(20):
        dice.shuffle(fixes)
        found = sift(fixes, lambda unit: NOTHING, NOW)
        assert (found.newest, found.points, found.memories) == (wanted.newest, wanted.points, wanted.memories)


def test_a_unit_believed_elsewhere_comes_back_after_three_suspects() -> None:
    before = replace(NOTHING, trail=Trail(NOW - 100 * S, 121.0, 31.0, 0))
    verdicts, after = through(fix(30), fix(20), fix(10), before=before)
    assert verdicts == [Verdict.TOO_FAST, Verdict.TOO_FAST, Verdict.NEW]
    assert (after.trail.lon, after.trail.lat) == (120.0, 30.0)
