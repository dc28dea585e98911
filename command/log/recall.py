"""What the watch finds in the tables at its start: the units, fences, places, and the memory of the engine.

Reads only. Invariant: a row that another version wrote never stops a start; what can't be read counts as unknown.
"""

from typing import NamedTuple

import structlog
from sqlalchemy.engine import Connection

from command.domain.fence import FENCE, Fence
from command.domain.location import (
    FENCE_STATE,
    FORGET_AT_ONCE,
    LOCATION,
    TRACK,
    TRAIL,
    FenceState,
    Location,
    Memory,
    TrailRow,
)
from command.domain.registry import UNIT, Unit
from command.log.store import Store
from command.log.timeline import position_of
from geo import fence as geo_fence
from geo import track
from geo.errors import GeoError
from geo.track import Trail

journal = structlog.get_logger("watch")


class Recall(NamedTuple):
    """Units that aren't retired, fences that weren't removed, all of the rest, as of one log position."""

    position: int
    units: list[Unit]
    fences: list[Fence]
    locations: list[Location]
    trails: list[TrailRow]
    states: list[FenceState]


def recall(store: Store, connection: Connection) -> Recall:
    return Recall(
        position_of(connection),
        store.shelf(UNIT).select(connection, equal={"retired": False}),
        store.shelf(FENCE).select(connection, equal={"active": True}),
        store.shelf(LOCATION).select(connection),
        store.shelf(TRAIL).select(connection),
        store.shelf(FENCE_STATE).select(connection),
    )


def points_before(store: Store, connection: Connection, at: int) -> list[str]:
    """Ids of the oldest track points before `at`, `FORGET_AT_ONCE` at most."""
    shelf = store.shelf(TRACK)
    rows = shelf.select(connection, shelf.sql.c.at < at, order=shelf.sql.c.at, limit=FORGET_AT_ONCE)
    return [row.id for row in rows]


def memory(row: TrailRow, place: Location) -> Memory:
    """What was remembered of a unit; at least its place."""
    try:
        return Memory(trail=track.trail(row.map), fences=track.trail(row.fences))
    except GeoError as error:
        journal.warning("trail.unreadable", unit=row.id, code=error.code, hint=error.hint)
        return Memory(trail=Trail(place.at, place.lon, place.lat, 0))


def readable(row: FenceState) -> bool:
    """Whether the engine can take this state back. If not, the unit is told of again when it is inside."""
    try:
        geo_fence.state(row.state)
    except GeoError as error:
        journal.warning("fence_state.unreadable", unit=row.unit, fence=row.fence, code=error.code)
        return False
    return True
