"""Time windows: when a fence is on.

Never knows the date by itself. Invariant: `holds` is whole-number arithmetic on the instant it is given.
"""

from dataclasses import dataclass

from geo.errors import GeoError
from geo.track import MICROSECONDS

DAY_MIN = 1440
MINUTE = 60 * MICROSECONDS
OFFSET_MAX_MIN = 14 * 60
WEEK = frozenset(range(7))


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """When a fence is on: from `from_at` until before `to_at` (microseconds UTC, None: open), and within
    that daily.

    `daily_min` is (first, last) minute of the local day, last excluded; (1320, 360) runs over midnight and
    belongs to the day it began. `days`: 0 Monday to 6 Sunday.
    """

    from_at: int | None = None
    to_at: int | None = None
    daily_min: tuple[int, int] | None = None
    days: frozenset[int] = WEEK
    utc_offset_min: int = 480

    def __post_init__(self) -> None:
        if self.from_at is not None and self.to_at is not None and self.from_at >= self.to_at:
            raise GeoError("geo.fence", "The window ends before it begins.", field="windows")
        if self.daily_min is not None:
            first, last = self.daily_min
            if not (0 <= first < DAY_MIN and 0 <= last <= DAY_MIN and first != last):
                raise GeoError("geo.fence", "Minutes of the day: 0 to 1439, and two different ones.", field="windows")
        if not self.days <= WEEK or not self.days or abs(self.utc_offset_min) > OFFSET_MAX_MIN:
            raise GeoError("geo.fence", "Days are 0 to 6, the offset within 14 h.", field="windows")

    def holds(self, at: int) -> bool:
        """Whether the instant lies in this window."""
        if (self.from_at is not None and at < self.from_at) or (self.to_at is not None and at >= self.to_at):
            return False
        day, minute = divmod(at // (MINUTE) + self.utc_offset_min, DAY_MIN)
        if self.daily_min is not None:
            first, last = self.daily_min
            if first <= last:
                if not first <= minute < last:
                    return False
            elif minute < last:
                day -= 1
            elif minute < first:
                return False
        return (day + 3) % 7 in self.days  # 1970-01-01 was a Thursday
