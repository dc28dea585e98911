"""Resting: how long an incident is left alone that takes long to fold.

Pure: time comes in as monotonic seconds. Folding anew holds the writer, so of a very large incident it may take about an eighth
of the time only. Invariant: what is short costs no rest, and one long fold, on a busy machine, delays nothing.
"""

LONG_S, REST = 1.0, 9.0
"""What a fold took beyond this is rested for so many times as long ..."""
PATIENCE_S = 18.0
"""... as far as the rests that are due add up to more than this."""
KNOWN_MAX = 5_000


class Resting:
    """By subject. Forgets everything, which only means an early fold, before it knows more than `KNOWN_MAX`."""

    def __init__(self) -> None:
        self._rested_at: dict[str, float] = {}
        """When it has rested for all its folds."""

    def until(self, subject: str) -> float:
        """From when on it may be folded."""
        return self._rested_at.get(subject, 0.0) - PATIENCE_S

    def took(self, subject: str, now: float, seconds: float) -> None:
        """Folding it, until `now`, took so long."""
        if seconds <= LONG_S:
            return
        if len(self._rested_at) >= KNOWN_MAX:
            self._rested_at.clear()
        self._rested_at[subject] = max(self._rested_at.get(subject, 0.0), now) + REST * (seconds - LONG_S)
