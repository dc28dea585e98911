"""Which layer of which track one subscriber gets: what its way can carry, given out by rank and by what its screen shows.

Pure. Never touches a track. Invariant: the sum of what is given stays within the budget, but for the lowest layer of the
first wish: somebody's picture is always sent.
"""

from __future__ import annotations

from typing import NamedTuple

HEADROOM = 0.92
UP_MARGIN = 1.15  # going up must be worth it and must last
FIT = 0.85  # a layer is sharp enough for a tile from this part of its height on
RATE_GUESS_BPS = 150_000
RANK_FOCUS, RANK_SPEAKER, RANK_REST = 0, 1, 2


class Choice(NamedTuple):
    """A layer that can be had: its rate, and its height in pixels (0: not known)."""

    rate_bps: float
    height: int


class Wish(NamedTuple):
    """A track that a subscriber wants, layers lowest first.

    `rank`: 0 the chair, a shared screen, whom the chair puts first; 1 the active speaker; 2 the rest. `height` is that
    of its tile in device pixels, None if the client never said; 0: not on the screen. `now` is the layer it gets, -1 none.
    """

    rank: int
    height: int | None
    choices: tuple[Choice, ...]
    now: int = -1


def desired(wish: Wish, cap: int | None = None) -> int:
    """The layer that its tile asks for, -1 for none; `cap` is the highest that overload allows."""
    if not wish.choices or wish.height == 0:
        return -1
    top = len(wish.choices) - 1
    if cap is not None and wish.rank > RANK_FOCUS:
        if cap < 0:
            return -1
        top = min(top, cap)
    if wish.height is None:
        return top
    for at, choice in enumerate(wish.choices[: top + 1]):
        if choice.height and choice.height >= wish.height * FIT:
            return at
    return top


def allocate(wishes: list[Wish], budget_bps: float, *, cap: int | None = None) -> tuple[list[int], float]:
    """The layer for each wish (-1: none), and the rate at which everything desired would fit.

    `budget_bps` is for video alone. `cap`: the highest layer for others than rank 0 (overload), -1 none of them.
    """
    wanted = [desired(wish, cap) for wish in wishes]
    needed = sum(_rate(wish, at) for wish, at in zip(wishes, wanted, strict=True))
    given = [-1] * len(wishes)
    left = budget_bps * HEADROOM
    order = sorted((at for at in range(len(wishes)) if wanted[at] >= 0), key=lambda at: _place(wishes[at]))
    for rank in (RANK_FOCUS, RANK_SPEAKER, RANK_REST):
        left = _fill([at for at in order if wishes[at].rank == rank], wishes, wanted, given, left, first=order[:1])
    return given, needed / HEADROOM


def _place(wish: Wish) -> tuple[int, int]:
    """By rank, within it the largest tile first."""
    return wish.rank, -(wish.height if wish.height is not None else 1080)


def _fill(
    places: list[int], wishes: list[Wish], wanted: list[int], given: list[int], left: float, *, first: list[int]
) -> float:
    """The lowest layer to everybody of a rank, then upwards as long as it fits; what remains."""
    for at in places:
        cost = _rate(wishes[at], 0)
        if cost <= left or at in first:
            given[at] = 0
            left = max(0.0, left - cost)
    for level in range(1, max((wanted[at] for at in places), default=0) + 1):
        for at in places:
            if given[at] != level - 1 or wanted[at] < level:
                continue
            more = _rate(wishes[at], level) - _rate(wishes[at], level - 1)
            margin = 1.0 if wishes[at].now >= level else UP_MARGIN
            if max(0.0, more) * margin <= left:
                given[at] = level
                left -= more
    return left


def _rate(wish: Wish, at: int) -> float:
    if at < 0:
        return 0.0
    return wish.choices[at].rate_bps or RATE_GUESS_BPS
