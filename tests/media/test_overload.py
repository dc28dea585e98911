"""A worker that falls behind lets go of pictures step by step, and takes them back when it keeps up."""

from media.overload import BETTER_S, WORSE_S, Level, Overload

TICK_S = 0.025


def feed(overload: Overload, lag_s: float, seconds: float, now_s: float, share: float = 0.9) -> float:
    for _ in range(int(seconds / TICK_S)):
        now_s += TICK_S
        overload.tick(lag_s, now_s, share)
    return now_s


def test_it_sheds_step_by_step_and_no_further_than_thumbnails() -> None:
    overload = Overload()
    now_s = feed(overload, 0.001, 5.0, 0.0)
    assert (overload.level, overload.cap, overload.refuses) == (Level.NONE, None, False)
    seen = []
    for _ in range(5):
        now_s = feed(overload, 0.2, WORSE_S + 0.3, now_s)
        seen.append((overload.level, overload.cap))
    assert seen[:3] == [(Level.TOP, 1), (Level.LOWEST, 0), (Level.THUMBNAILS, -1)]
    assert seen[-1] == (Level.THUMBNAILS, -1)
    assert overload.refuses


def test_one_late_tick_changes_nothing() -> None:
    overload = Overload()
    now_s = feed(overload, 0.001, 2.0, 0.0)
    overload.tick(0.9, now_s, 0.9)
    feed(overload, 0.001, 3.0, now_s)
    assert overload.level is Level.NONE


def test_it_takes_back_slowly() -> None:
    overload = Overload()
    now_s = feed(overload, 0.2, 2 * WORSE_S + 0.5, 0.0)
    assert overload.level is Level.LOWEST
    now_s = feed(overload, 0.0, BETTER_S / 2, now_s)
    assert overload.level is Level.LOWEST
    now_s = feed(overload, 0.0, BETTER_S, now_s)
    assert overload.level is Level.TOP
    feed(overload, 0.0, BETTER_S + 1, now_s)
    assert overload.level is Level.NONE


def test_between_late_and_calm_it_stays_where_it_is() -> None:
    overload = Overload()
    now_s = feed(overload, 0.2, WORSE_S + 0.3, 0.0)
    feed(overload, 0.02, 60.0, now_s)
    assert overload.level is Level.TOP


def test_a_worker_that_only_waits_for_its_turn_lets_nothing_go() -> None:
    overload = Overload()
    now_s = feed(overload, 0.2, 60.0, 0.0, share=0.1)
    assert (overload.level, overload.refuses) == (Level.NONE, False)
    feed(overload, 0.2, WORSE_S + 0.3, now_s, share=0.5)
    assert overload.level is Level.TOP
