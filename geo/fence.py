"""Fences: from the fixes of a unit to "entered", "left", "inside", "dwells", "absent" and "lost inside".

Never looks at the clock and never at the order of arrival: event times only. Invariant: `step` is a
function of its arguments, so the same fixes through the same states give the same crossings, before or
after a restart.

Hysteresis: a unit is inside after `fixes` fixes in a row inside the fence, and outside again after as many
beyond the *outer* line, `exit_buffer_m` away; between the two lines nothing changes. A slow reporter needs
two, `confirm_s` apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import shapely

from geo import coord, track
from geo.errors import GeoError
from geo.track import MICROSECONDS, Fix, Limits, Trail, Verdict
from geo.window import Window

EXIT_BUFFER_M = 20.0
EXIT_BUFFER_MAX_M = 10_000.0
FIXES = 3
FIXES_MAX = 20
CONFIRM_S = 60.0
GAP_S = 120.0
LOST_S = 600.0
DWELL_S = 600.0
ABSENT_S = 600.0
INSIDE_S = 60.0
SECONDS_MAX = 30 * 86_400.0
WINDOWS_MAX = 32
LATITUDE_MAX_DEG = 89.0
# A fix that its own device calls worse than this says nothing about a fence.
LIMITS = Limits(accuracy_m=200.0)


class Kind(StrEnum):
    """The rules of a fence, and what a crossing tells. LOST: silent for `lost_s` while inside."""

    ENTER = "enter"
    EXIT = "exit"
    INSIDE = "inside"
    DWELL = "dwell"
    ABSENT = "absent"
    LOST = "lost"


class Zone(StrEnum):
    """Where a point lies: inside the fence, between it and the outer line, or beyond."""

    INSIDE = "inside"
    EDGE = "edge"
    OUTSIDE = "outside"


class Phase(StrEnum):
    """What is confirmed of a unit. UNKNOWN: no fix yet, or the fence was switched off."""

    UNKNOWN = "unknown"
    OUTSIDE = "outside"
    INSIDE = "inside"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fence:
    """An area with rules. `geometry` is a valid Polygon or MultiPolygon (`geo.shape.parse(...).geometry`).

    `units` None: everybody; rule ABSENT needs names. `gap_s`: for so long the straight line between two
    fixes is believed, so that a fence between them counts as crossed. Raises `geo.fence`, `geo.type`,
    `geo.pole`.
    """

    id: str
    geometry: Any = field(repr=False)
    rules: frozenset[Kind] = frozenset({Kind.ENTER, Kind.EXIT, Kind.LOST})
    units: frozenset[str] | None = None
    exit_buffer_m: float = EXIT_BUFFER_M
    fixes: int = FIXES
    confirm_s: float = CONFIRM_S
    gap_s: float = GAP_S
    lost_s: float = LOST_S
    dwell_s: float = DWELL_S
    absent_s: float = ABSENT_S
    inside_s: float = INSIDE_S
    windows: tuple[Window, ...] = ()
    outer: Any = field(init=False, repr=False)
    cross_min_m: float = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        west, south, east, north = self.geometry.bounds
        # One scale for the whole fence: exact at its middle latitude, where 20 m need not be exact to the metre.
        scale = np.array(coord.metres_per_degree((south + north) / 2))
        shift = np.array(((west + east) / 2, (south + north) / 2))
        plane = shapely.transform(self.geometry, lambda xy: (xy - shift) * scale)
        outer = self.geometry
        if self.exit_buffer_m > 0:
            grown = plane.buffer(self.exit_buffer_m, quad_segs=4)
            outer = shapely.transform(grown, lambda xy: xy / scale + shift)
        shapely.prepare(self.geometry)
        shapely.prepare(outer)
        object.__setattr__(self, "outer", outer)
        # Passing through must reach this deep: less is the noise of a unit that stands beside the fence.
        object.__setattr__(self, "cross_min_m", min(self.exit_buffer_m, 0.25 * float(plane.area) ** 0.5))

    def _check(self) -> None:
        if getattr(self.geometry, "geom_type", None) not in {"Polygon", "MultiPolygon"} or self.geometry.is_empty:
            raise GeoError("geo.type", "A fence is an area: Polygon, MultiPolygon or Circle.")
        if max(abs(self.geometry.bounds[1]), abs(self.geometry.bounds[3])) > LATITUDE_MAX_DEG:
            raise GeoError("geo.pole", f"Fences end at latitude {LATITUDE_MAX_DEG:g}.")
        if not 0 <= self.exit_buffer_m <= EXIT_BUFFER_MAX_M:
            raise GeoError("geo.fence", f"At most {EXIT_BUFFER_MAX_M:g} m.", field="exit_buffer_m")
        if not 1 <= self.fixes <= FIXES_MAX:
            raise GeoError("geo.fence", f"1 to {FIXES_MAX} fixes.", field="fixes")
        for name in ("confirm_s", "gap_s", "lost_s", "dwell_s", "absent_s", "inside_s"):
            if not 0 <= getattr(self, name) <= SECONDS_MAX:
                raise GeoError("geo.fence", f"0 to {SECONDS_MAX:g} seconds.", field=name)
        if Kind.ABSENT in self.rules and not self.units:
            raise GeoError("geo.fence", "Rule absent needs the names of the units that belong there.", field="units")
        if len(self.windows) > WINDOWS_MAX:
            raise GeoError("geo.fence", f"At most {WINDOWS_MAX} windows.", field="windows")

    def watches(self, unit: str) -> bool:
        """Whether this unit is of interest."""
        return self.units is None or unit in self.units

    def active(self, at: int) -> bool:
        """Whether the fence is on at this instant."""
        return not self.windows or any(window.holds(at) for window in self.windows)

    def zone(self, lon: float, lat: float) -> Zone:
        """Where a point lies; the border counts as inside."""
        if shapely.intersects_xy(self.geometry, lon, lat):
            return Zone.INSIDE
        return Zone.EDGE if shapely.intersects_xy(self.outer, lon, lat) else Zone.OUTSIDE


class State(NamedTuple):
    """What must be remembered of one unit at one fence. Immutable; store `list(state)`, read back with
    `state()`.

    `since`: event time at which the phase began. `streak` fixes in a row speak against the phase, the first
    at `streak_at`; the tentative visit (or leaving) began at `mark_*`, reached `reach_m` and was last left
    at `out_at`. `at`, `lon`, `lat`, `suspects` are the unit's `track.Trail`.
    """

    phase: Phase = Phase.UNKNOWN
    since: int = 0
    streak: int = 0
    streak_at: int = 0
    mark_at: int = 0
    mark_lon: float = 0.0
    mark_lat: float = 0.0
    reach_m: float = 0.0
    out_at: int = 0
    told_at: int = 0
    dwelt: bool = False
    absent: bool = False
    lost: bool = False
    at: int = 0
    lon: float = 0.0
    lat: float = 0.0
    suspects: int = 0


STATE = State()


@dataclass(frozen=True, slots=True)
class Crossing:
    """What happened. `at` is when it happened, `seen_at` the event time of the fix (or tick) that settled it.

    `crossed`: inferred from the straight line between fixes, or from fewer fixes inside than hysteresis
    asks for. `appeared`: the unit was inside at its first fix, or when the fence was made or switched on.
    """

    kind: Kind
    unit: str
    fence: str
    at: int
    seen_at: int
    lon: float
    lat: float
    crossed: bool = False
    appeared: bool = False


def state(stored: object) -> State:
    """The `State` that was stored as a list. Raises `geo.state`."""
    if not isinstance(stored, list | tuple) or len(stored) != len(State._fields):
        raise GeoError("geo.state", f"A state has {len(State._fields)} fields.")
    for name, default, value in zip(State._fields, STATE, stored, strict=True):
        wanted: tuple[type, ...] = (int, float) if type(default) is float else (type(default),)
        if name == "phase":
            wanted = (str, Phase)
        if type(value) not in wanted or (not isinstance(value, str | bool) and not abs(value) < 2**63):
            raise GeoError("geo.state", f"The field {name} is wrong.", field=name)
    if stored[0] not in list(Phase):
        raise GeoError("geo.state", "The phase is unknown.", field="phase")
    return State(Phase(stored[0]), *stored[1:])


def step(before: State, fence: Fence, fix: Fix, limits: Limits = LIMITS) -> tuple[State, list[Crossing]]:
    """One fix of one unit at one fence: the state to remember and what happened, in order of event time.

    A fix that is late, too fast or too inaccurate, or of a unit the fence doesn't watch, changes nothing.
    """
    if not fence.watches(fix.unit) or (fix.accuracy_m is not None and fix.accuracy_m > limits.accuracy_m):
        return before, []
    trail = Trail(before.at, before.lon, before.lat, before.suspects)
    after, verdict, credible = track.follow(trail, fix, limits.speed_mps)
    if verdict is not Verdict.NEW:
        return before._replace(suspects=after.suspects), []
    zone = fence.zone(fix.lon, fix.lat)
    touches = credible and (zone is Zone.INSIDE or _touches(fence, before, fix))
    return advance(before, fence, fix, zone, touches=touches)


def _touches(fence: Fence, before: State, fix: Fix) -> bool:
    line = shapely.LineString(((before.lon, before.lat), (fix.lon, fix.lat)))
    return bool(shapely.intersects(fence.geometry, line))


def advance(before: State, fence: Fence, fix: Fix, zone: Zone, *, touches: bool) -> tuple[State, list[Crossing]]:
    """`step` for a fix that is already accepted and located; `touches`: the line from the last place meets
    the fence.
    """
    told: list[Crossing] = []
    if not fence.active(fix.at):
        return State(at=fix.at, lon=fix.lon, lat=fix.lat), told

    def tell(kind: Kind, at: int, lon: float, lat: float, *, crossed: bool = False, appeared: bool = False) -> None:
        if kind in fence.rules:
            told.append(Crossing(kind, fix.unit, fence.id, at, fix.at, lon, lat, crossed, appeared))

    if before.phase is Phase.INSIDE:
        after = _while_inside(before, fence, fix, zone, tell)
    else:
        credible = fix.at - before.at <= fence.gap_s * MICROSECONDS and fence.active(before.at)
        after = _while_outside(before, fence, fix, zone, tell, touches=touches and credible)
    return after._replace(at=fix.at, lon=fix.lon, lat=fix.lat, suspects=0, lost=False), told


def _confirmed(fence: Fence, counted: int, streak: int, streak_at: int, at: int) -> bool:
    return counted >= fence.fixes or (streak >= 2 and at - streak_at >= fence.confirm_s * MICROSECONDS)


Tell = Callable[..., None]


def _while_inside(before: State, fence: Fence, fix: Fix, zone: Zone, tell: Tell) -> State:
    """INSIDE until enough fixes lie beyond the outer line."""
    if zone is Zone.OUTSIDE:
        after = before._replace(streak=before.streak + 1)
        if before.streak == 0:
            jump_m = coord.near_m(before.lon, before.lat, fix.lon, fix.lat)
            after = after._replace(streak_at=fix.at, mark_at=fix.at, mark_lon=fix.lon, mark_lat=fix.lat, reach_m=jump_m)
        else:
            moved_m = coord.near_m(before.mark_lon, before.mark_lat, fix.lon, fix.lat)
            after = after._replace(reach_m=max(before.reach_m, moved_m))
        # One that really leaves moves on; one that is parked between the lines only seems to, for a few fixes.
        moves_on = after.reach_m >= fence.exit_buffer_m
        if not _confirmed(fence, after.streak if moves_on else 0, after.streak, after.streak_at, fix.at):
            return after
        tell(Kind.EXIT, after.mark_at, after.mark_lon, after.mark_lat)
        return State(phase=Phase.OUTSIDE, since=after.mark_at)
    after = before._replace(streak=0, streak_at=0, mark_at=0, mark_lon=0.0, mark_lat=0.0, reach_m=0.0)
    dwell_at = before.since + round(fence.dwell_s * MICROSECONDS)
    if not before.dwelt and fix.at >= dwell_at:
        tell(Kind.DWELL, dwell_at, fix.lon, fix.lat)
        after = after._replace(dwelt=True)
    if Kind.INSIDE in fence.rules and fix.at - before.told_at >= fence.inside_s * MICROSECONDS:
        tell(Kind.INSIDE, fix.at, fix.lon, fix.lat)
        after = after._replace(told_at=fix.at)
    return after


def _while_outside(before: State, fence: Fence, fix: Fix, zone: Zone, tell: Tell, *, touches: bool) -> State:
    """OUTSIDE (or UNKNOWN) until enough fixes lie inside, or the unit has passed right through."""
    appeared = before.phase is Phase.UNKNOWN
    now = before
    if before.mark_at and before.streak == 0 and fix.at - before.mark_at > fence.gap_s * MICROSECONDS:
        now = now._replace(mark_at=0, reach_m=0.0)
    if touches and not (appeared and before.streak == 0):
        now = _visit(now, fence, fix)
    elif zone is Zone.INSIDE and not now.mark_at:
        now = now._replace(mark_at=fix.at, mark_lon=fix.lon, mark_lat=fix.lat, reach_m=0.0, out_at=fix.at)
    if zone is Zone.INSIDE:
        streak_at = now.streak_at if now.streak else fix.at
        now = now._replace(streak=now.streak + 1, streak_at=streak_at)
        if not _confirmed(fence, now.streak, now.streak, streak_at, fix.at):
            return now
        tell(Kind.ENTER, now.mark_at, now.mark_lon, now.mark_lat, appeared=appeared)
        return State(phase=Phase.INSIDE, since=now.mark_at, told_at=fix.at)
    since = now.since or fix.at
    if zone is Zone.EDGE:
        now = now._replace(phase=Phase.OUTSIDE, since=since, streak=0, streak_at=0)
        return _absence(now, fence, fix.at, fix.lon, fix.lat, tell)
    absent = now.absent
    if now.mark_at and now.reach_m >= fence.cross_min_m:
        tell(Kind.ENTER, now.mark_at, now.mark_lon, now.mark_lat, crossed=True, appeared=appeared)
        tell(Kind.EXIT, now.out_at, fix.lon, fix.lat, crossed=True)
        since, absent = now.out_at, False
    after = State(phase=Phase.OUTSIDE, since=since, absent=absent)
    return _absence(after, fence, fix.at, fix.lon, fix.lat, tell)


def _visit(now: State, fence: Fence, fix: Fix) -> State:
    """The line from the last place to `fix` meets the fence: where the visit begins, how deep it goes,
    when it ends.
    """
    start, end = _chord(fence, now, fix)
    moved = np.array((fix.lon - now.lon, fix.lat - now.lat))
    span = fix.at - now.at
    if not now.mark_at:
        lon, lat = now.lon + start * moved[0], now.lat + start * moved[1]
        now = now._replace(mark_at=now.at + round(start * span), mark_lon=float(lon), mark_lat=float(lat), reach_m=0.0)
    lon, lat = now.lon + end * moved[0], now.lat + end * moved[1]
    reach_m = coord.near_m(now.mark_lon, now.mark_lat, float(lon), float(lat))
    return now._replace(reach_m=max(now.reach_m, reach_m), out_at=now.at + round(end * span))


def _chord(fence: Fence, now: State, fix: Fix) -> tuple[float, float]:
    """The first and last share (0..1) of the way from the last place to `fix` that lies within the fence."""
    origin, moved = np.array((now.lon, now.lat)), np.array((fix.lon - now.lon, fix.lat - now.lat))
    length2 = float(moved @ moved)
    if length2 == 0.0:
        return 0.0, 1.0
    line = shapely.LineString(((now.lon, now.lat), (fix.lon, fix.lat)))
    within = shapely.get_coordinates(shapely.intersection(fence.geometry, line))
    if len(within) == 0:  # touching by less than rounding
        return 1.0, 1.0
    shares = np.clip((within - origin) @ moved / length2, 0.0, 1.0)
    return float(shares.min()), float(shares.max())


def _absence(now: State, fence: Fence, at: int, lon: float, lat: float, tell: Tell) -> State:
    absent_at = now.since + round(fence.absent_s * MICROSECONDS)
    if Kind.ABSENT not in fence.rules or now.absent or at < absent_at:
        return now
    tell(Kind.ABSENT, absent_at, lon, lat)
    return now._replace(absent=True)


def tick(before: State, fence: Fence, unit: str, now: int) -> tuple[State, list[Crossing]]:
    """What becomes true by mere passing of time up to `now` (microseconds UTC): LOST, DWELL, ABSENT; each
    told once.

    The caller calls this now and then for units inside, and for those that rule ABSENT waits for (with
    `STATE` if it has nothing of them: then they count as away from `now` on).
    """
    told: list[Crossing] = []
    if not fence.active(now):
        return State(at=before.at, lon=before.lon, lat=before.lat, suspects=before.suspects), told

    def tell(kind: Kind, at: int, lon: float, lat: float) -> None:
        if kind in fence.rules:
            told.append(Crossing(kind, unit, fence.id, at, now, lon, lat))

    after = before
    if before.phase is not Phase.INSIDE:
        if before.streak == 0:
            after = before if before.since else before._replace(since=now)
            after = _absence(after, fence, now, before.lon, before.lat, tell)
        return after, told
    lost_at = before.at + round(fence.lost_s * MICROSECONDS)
    dwell_at = before.since + round(fence.dwell_s * MICROSECONDS)
    if not before.dwelt and before.streak == 0 and dwell_at <= min(now, lost_at):
        tell(Kind.DWELL, dwell_at, before.lon, before.lat)
        after = after._replace(dwelt=True)
    if not before.lost and now >= lost_at:
        tell(Kind.LOST, lost_at, before.lon, before.lat)
        after = after._replace(lost=True)
    return after, told
