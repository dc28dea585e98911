"""Whether this worker keeps up, and what it lets go while it doesn't: top layers first, then thumbnails; never audio,
never the chair.

A worker that is late though it uses little of a processor is kept waiting by others on its host: nothing it lets go would
make it come sooner, so it lets go nothing.

Pure: times are arguments. Never drops anything itself. Invariant: it moves one level at a time, up after `WORSE_S` of being
late by its own doing, down after `BETTER_S` of keeping up.
"""

from __future__ import annotations

from enum import IntEnum

LATE_S = 0.030
CALM_S = 0.010
WORSE_S = 1.0
BETTER_S = 6.0
SMOOTHING = 0.2
OWN_SHARE = 0.2
"""Of one processor. A worker that falls behind by what it forwards uses most of one, and still a fifth where four want it."""


class Level(IntEnum):
    """What is shed: nothing, the top layers, all but the lowest, all pictures but those of rank 0."""

    NONE = 0
    TOP = 1
    LOWEST = 2
    THUMBNAILS = 3


CAPS: dict[Level, int | None] = {Level.NONE: None, Level.TOP: 1, Level.LOWEST: 0, Level.THUMBNAILS: -1}


class Overload:
    """Fed with the lag of each tick of the loop, and the processor time that the worker took since the tick before."""

    def __init__(self) -> None:
        self.level = Level.NONE
        self.lag_s = 0.0
        self.share = 0.0
        self._since_s: float | None = None
        self._late = False

    def tick(self, lag_s: float, now_s: float, share: float) -> bool:
        """A tick came `lag_s` late, and of the time since the one before the worker had `share` of a processor; True if the
        level changed.
        """
        self.lag_s += SMOOTHING * (max(0.0, lag_s) - self.lag_s)
        self.share += SMOOTHING * (share - self.share)
        late, calm = self.lag_s > LATE_S and self.share > OWN_SHARE, self.lag_s < CALM_S
        if not late and not calm:
            self._since_s = None
            return False
        if self._since_s is None or late is not self._late:
            self._since_s, self._late = now_s, late
        wanted = self.level
        if late and now_s - self._since_s >= WORSE_S:
            wanted = Level(min(self.level + 1, Level.THUMBNAILS))
        elif calm and now_s - self._since_s >= BETTER_S:
            wanted = Level(max(self.level - 1, Level.NONE))
        if wanted is self.level:
            return False
        self.level = wanted
        self._since_s = now_s
        return True

    @property
    def refuses(self) -> bool:
        """True while no new room may be opened here."""
        return self.level is not Level.NONE

    @property
    def cap(self) -> int | None:
        """The highest layer for pictures of rank 1 and 2; -1 none of them, None any."""
        return CAPS[self.level]
