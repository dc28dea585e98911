"""Locations of units: is one sane, is it newer, is it worth keeping in the thinned track.

Never trusts the device's own accuracy for more than throwing a fix away, and never orders by arrival.
Invariant: a unit's accepted fixes have rising event times, whatever order they came in.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from geo import coord
from geo.errors import GeoError

MICROSECONDS = 1_000_000
AT_MAX = 2**62
UNIT_OCTETS_MAX = 128
FUTURE_MAX_S = 60.0
AGE_MAX_S = 7 * 86_400.0
ACCURACY_MAX_M = 1_000.0
SPEED_MAX_MPS = 120.0
# Below this no speed is computed: two fixes 0.1 s apart may differ by the noise of the receiver alone.
JUMP_MIN_M = 200.0
SUSPECTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Fix:
    """Where a unit was. `at` is when it was there (microseconds UTC, by the device), not when we heard of it.

    None means the device didn't say. Degrees WGS-84, metres, metres per second, degrees clockwise from north.
    """

    unit: str
    lon: float
    lat: float
    at: int
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    altitude_m: float | None = None


class Verdict(StrEnum):
    """What `judge` thinks of a fix; everything but NEW is not to be shown as the unit's place."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"
    FUTURE = "future"
    OLD = "old"
    INACCURATE = "inaccurate"
    TOO_FAST = "too_fast"


class Trail(NamedTuple):
    """What must be remembered of a unit between fixes: the last accepted one, and how many were too fast
    since.

    `at` 0: none accepted yet. Store it as a list; `trail` reads it back.
    """

    at: int = 0
    lon: float = 0.0
    lat: float = 0.0
    suspects: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What counts as sane. Seconds, metres, metres per second (120 m/s: the fastest rescue helicopter, and
    some).
    """

    future_s: float = FUTURE_MAX_S
    age_s: float = AGE_MAX_S
    accuracy_m: float = ACCURACY_MAX_M
    speed_mps: float = SPEED_MAX_MPS


@dataclass(frozen=True, kw_only=True, slots=True)
class Thinning:
    """Keep a fix after this distance, this time, or this turn (if it moved `turn_min_m` since the last
    kept one).
    """

    distance_m: float = 100.0
    time_s: float = 300.0
    turn_deg: float = 25.0
    turn_min_m: float = 20.0


LIMITS = Limits()
THINNING = Thinning()


def fix(
    *,
    unit: str,
    lon: float,
    lat: float,
    at: int,
    accuracy_m: float | None = None,
    speed_mps: float | None = None,
    heading_deg: float | None = None,
    altitude_m: float | None = None,
) -> Fix:
    """A `Fix` from values of outside, checked; a negative speed or heading means "unknown", as phones send
    it.

    Raises `geo.coordinate`; `geo.fix` with `field` for anything else that is out of range or of the wrong
    type.
    """
    if not isinstance(unit, str) or not _name(unit):
        raise GeoError("geo.fix", f"A unit has a name of 1 to {UNIT_OCTETS_MAX} octets.", field="unit")
    if isinstance(at, bool) or not isinstance(at, int) or not 0 < at <= AT_MAX:
        raise GeoError("geo.fix", "The time is microseconds since 1970 UTC.", field="at")
    x, y = _value("lon", lon, -180.0, 180.0), _value("lat", lat, -90.0, 90.0)
    if x is None or y is None:
        raise GeoError("geo.coordinate", field="lon" if x is None else "lat")
    return Fix(
        unit=unit,
        lon=x,
        lat=y,
        at=at,
        accuracy_m=_value("accuracy_m", accuracy_m, 0.0, 1e8),
        speed_mps=_value("speed_mps", _known(speed_mps), 0.0, 12_000.0),
        heading_deg=_value("heading_deg", _known(heading_deg), 0.0, 360.0),
        altitude_m=_value("altitude_m", altitude_m, -12_000.0, 1e6),
    )


def _name(unit: str) -> bool:
    """Whether this can be stored: no U+0000, no lone surrogate, not too long."""
    try:
        return 0 < len(unit.encode()) <= UNIT_OCTETS_MAX and "\0" not in unit
    except UnicodeEncodeError:
        return False


def _known(value: float | None) -> float | None:
    return None if isinstance(value, int | float) and value < 0 else value


def _value(name: str, value: object, least: float, most: float) -> float | None:
    """`value` as a float within the range, None if it is None."""
    if value is None:
        return None
    code = "geo.coordinate" if name in {"lon", "lat"} else "geo.fix"
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise GeoError(code, f"{name} is a number from {least:g} to {most:g}.", field=name)
    return float(value)


def trail(stored: object) -> Trail:
    """The `Trail` that was stored as a list. Raises `geo.state`."""
    if not isinstance(stored, list | tuple) or len(stored) != len(Trail._fields):
        raise GeoError("geo.state", "A trail is [at, lon, lat, suspects].")
    at, lon, lat, suspects = stored
    if not (type(at) is int and type(suspects) is int and at >= 0 and suspects >= 0):
        raise GeoError("geo.state", "A trail has whole numbers as time and suspects.")
    place = [_value("lon", lon, -180.0, 180.0), _value("lat", lat, -90.0, 90.0)]
    if place[0] is None or place[1] is None:
        raise GeoError("geo.state", "A trail has a place.")
    return Trail(at, place[0], place[1], suspects)


def judge(before: Trail, new: Fix, now: int, limits: Limits = LIMITS) -> tuple[Trail, Verdict]:
    """Whether `new` is the unit's newest place; `now` is our clock, microseconds UTC. Returns the trail to
    remember.

    A jump that no vehicle makes is TOO_FAST, until `SUSPECTS_MAX` came in a row: then the place before was
    the wrong one. The caller stores a LATE fix in the track and nowhere else.
    """
    if new.at > now + limits.future_s * MICROSECONDS:
        return before, Verdict.FUTURE
    if new.at < now - limits.age_s * MICROSECONDS:
        return before, Verdict.OLD
    if new.accuracy_m is not None and new.accuracy_m > limits.accuracy_m:
        return before, Verdict.INACCURATE
    after, verdict, _ = follow(before, new, limits.speed_mps)
    return after, verdict


def follow(before: Trail, new: Fix, speed_max_mps: float = SPEED_MAX_MPS) -> tuple[Trail, Verdict, bool]:
    """Order and speed only: (trail, NEW | LATE | DUPLICATE | TOO_FAST, whether the way from the last place
    is credible).
    """
    if new.at <= before.at:
        same = new.at == before.at and new.lon == before.lon and new.lat == before.lat
        return before, (Verdict.DUPLICATE if same else Verdict.LATE), False
    credible = before.at > 0
    if credible:
        # Across the antimeridian the straight line in degrees would run the wrong way round the earth.
        credible = abs(new.lon - before.lon) <= 180.0
        moved_m = coord.near_m(before.lon, before.lat, new.lon, new.lat)
        if moved_m > JUMP_MIN_M and moved_m * MICROSECONDS > speed_max_mps * (new.at - before.at):
            if before.suspects + 1 < SUSPECTS_MAX:
                return before._replace(suspects=before.suspects + 1), Verdict.TOO_FAST, False
            credible = False
    return Trail(new.at, new.lon, new.lat, 0), Verdict.NEW, credible


def worth_keeping(kept: Fix | None, new: Fix, thinning: Thinning = THINNING) -> bool:
    """Whether `new` belongs in the thinned track, given the last one kept (None: there is none yet).

    Keeps the first, then whatever is far enough, late enough, or heads elsewhere: by the device's heading
    where both have one. A fix not newer than `kept` isn't kept.
    """
    if kept is None:
        return True
    if new.at <= kept.at:
        return False
    if new.at - kept.at >= thinning.time_s * MICROSECONDS:
        return True
    moved_m = coord.near_m(kept.lon, kept.lat, new.lon, new.lat)
    if moved_m >= thinning.distance_m:
        return True
    if moved_m < thinning.turn_min_m or kept.heading_deg is None or new.heading_deg is None:
        return False
    return abs(math.remainder(new.heading_deg - kept.heading_deg, 360.0)) >= thinning.turn_deg
