"""Who gets which layer when a way is narrow: the chair and the screen first, then who speaks, then by tile."""

import random

from hypothesis import given
from hypothesis import strategies as st

from media.allocate import HEADROOM, RANK_FOCUS, RANK_REST, RANK_SPEAKER, Choice, Wish, allocate, desired

CAMERA = (Choice(120_000, 180), Choice(450_000, 360), Choice(1_700_000, 720))


def wish(rank: int = RANK_REST, height: int | None = 720, now: int = -1) -> Wish:
    return Wish(rank, height, CAMERA, now)


def test_a_wide_way_gives_each_tile_what_it_shows() -> None:
    given_, needed = allocate([wish(height=90), wish(height=250), wish(height=500), wish(height=0)], 50e6)
    assert given_ == [0, 1, 2, -1]
    assert needed * HEADROOM == 120_000 + 450_000 + 1_700_000


def test_a_tile_a_little_larger_than_a_layer_is_still_served_by_it() -> None:
    assert desired(wish(height=400)) == 1
    assert desired(wish(height=430)) == 2


def test_a_client_that_never_said_what_it_shows_gets_the_best() -> None:
    assert allocate([wish(height=None)], 50e6)[0] == [2]


def test_the_chair_comes_first_then_the_speaker_then_the_larger_tile() -> None:
    wishes = [wish(height=300), wish(RANK_SPEAKER), wish(RANK_FOCUS), wish(height=720)]
    assert allocate(wishes, 3_000_000)[0] == [0, 1, 2, 0]
    assert allocate(wishes, 2_200_000)[0] == [-1, 0, 2, 0]
    assert allocate(wishes, 700_000)[0] == [-1, 0, 1, -1]


def test_the_first_wish_gets_its_lowest_layer_however_narrow_the_way_is() -> None:
    assert allocate([wish(), wish(RANK_FOCUS)], 1_000)[0] == [-1, 0]


def test_beyond_what_fits_the_last_ones_get_nothing() -> None:
    given_, _ = allocate([wish(height=180 - at) for at in range(20)], 800_000)
    assert given_ == [0] * 6 + [-1] * 14


def test_going_up_needs_more_room_than_staying() -> None:
    budget = 460_000 / HEADROOM
    assert allocate([wish(now=0)], budget)[0] == [0]
    assert allocate([wish(now=1)], budget)[0] == [1]


def test_overload_takes_the_top_layers_then_the_thumbnails_but_nothing_of_the_chair() -> None:
    wishes = [wish(RANK_FOCUS), wish(RANK_SPEAKER), wish(height=180)]
    assert [allocate(wishes, 50e6, cap=cap)[0] for cap in (None, 1, 0, -1)] == [
        [2, 2, 0],
        [2, 1, 0],
        [2, 0, 0],
        [2, -1, -1],
    ]


@given(st.integers(0, 2**32))
def test_what_is_given_stays_within_the_budget_property(seed: int) -> None:
    rng = random.Random(seed)
    wishes = [
        Wish(
            rng.randrange(3),
            rng.choice([None, 0, 90, 300, 1080]),
            CAMERA[: rng.randrange(4)],
            rng.randrange(-1, 3),
        )
        for _ in range(rng.randrange(12))
    ]
    budget = rng.random() * 6e6
    given_, _ = allocate(wishes, budget)
    rates = [wish.choices[at].rate_bps if at >= 0 else 0.0 for wish, at in zip(wishes, given_, strict=True)]
    assert sum(rates) <= max(budget * HEADROOM, min(c.rate_bps for c in CAMERA))
    for one, at in zip(wishes, given_, strict=True):
        assert at <= desired(one)
