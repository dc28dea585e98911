"""Spatial indexes: which areas contain a point, which areas may touch a step, which units are nearest.

Never decides anything about fences or units. Invariant: an area is found from the moment `add` returns
until `remove` returns, whether it already sits in the grid and the tree or still in the short list of
newcomers.

Two ways in, because they were measured: for one location at a time a grid (cell -> areas that cover it,
areas whose border runs through it) with an exact check of the border ones; for arrays an STRtree over
boxes, then exact checks on prepared areas. Each area picks the level of the grid at which it takes at most
`CELLS_MAX` cells.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geo import coord
from geo.errors import GeoError

AREAS_MAX = 200_000
NEWCOMERS_MAX = 64
CELLS_MAX = 64
CELL_DEG = 0.0025
LEVELS = 17
UNITS_MAX = 100_000
NEAREST_MAX = 1_000
SINGLY_MAX = 30  # up to here one by one is quicker than arrays

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Cell = tuple[int, int, int]


@dataclass(slots=True)
class _Cell:
    """Who covers this cell wholly, and whose border runs through it."""

    inside: list[str] = field(default_factory=list)
    border: list[str] = field(default_factory=list)


class Index:
    """Areas by id. Points on a border count as inside."""

    def __init__(self) -> None:
        self._areas: dict[str, Any] = {}
        self._newcomers: dict[str, tuple[float, float, float, float]] = {}
        self._cells: dict[Cell, _Cell] = {}
        self._taken: dict[str, list[Cell]] = {}
        self._levels: dict[int, int] = {}
        self._tree: Any = None
        self._tree_ids: list[str] = []
        self._tree_stale: set[str] = set()
        self._fresh: set[str] = set()

    def __len__(self) -> int:
        return len(self._areas)

    def __contains__(self, key: object) -> bool:
        return key in self._areas

    def get(self, key: str) -> Any:
        """The prepared shapely geometry of an area, or None."""
        return self._areas.get(key)

    def add(self, key: str, area: Any) -> None:
        """Put in a Polygon or MultiPolygon (degrees), in place of an earlier one of this key; live at once.

        The caller must not change `area` afterwards; it is prepared. Raises `geo.full`, `geo.degenerate` if
        empty.
        """
        if area.is_empty:
            raise GeoError("geo.degenerate")
        self.remove(key)
        if len(self._areas) >= AREAS_MAX:
            raise GeoError("geo.full", f"The index holds {AREAS_MAX} areas.")
        shapely.prepare(area)
        self._areas[key] = area
        self._newcomers[key] = area.bounds
        self._fresh.add(key)
        if len(self._newcomers) > NEWCOMERS_MAX:
            self.settle()

    def remove(self, key: str) -> bool:
        """Take an area out; False if there was none."""
        if self._areas.pop(key, None) is None:
            return False
        self._newcomers.pop(key, None)
        if key in self._fresh:
            self._fresh.discard(key)
        else:
            self._tree_stale.add(key)
        for cell in self._taken.pop(key, ()):
            found = self._cells[cell]
            (found.inside if key in found.inside else found.border).remove(key)
            if not found.inside and not found.border:
                del self._cells[cell]
                self._levels[cell[0]] -= 1
                if not self._levels[cell[0]]:
                    del self._levels[cell[0]]
        return True

    def settle(self) -> None:
        """Move the newcomers into the grid: about 0.1 ms each. `add` does it by itself every
        `NEWCOMERS_MAX`.
        """
        for key in self._newcomers:
            self._spread(key, self._areas[key])
        self._newcomers.clear()

    def _spread(self, key: str, area: Any) -> None:
        """Enter an area into the cells it touches."""
        west, south, east, north = area.bounds
        for level in range(LEVELS):
            size = CELL_DEG * 2**level
            x0, x1, y0, y1 = (math.floor(v / size) for v in (west, east, south, north))
            if (x1 - x0 + 1) * (y1 - y0 + 1) <= CELLS_MAX:
                break
        grid_x, grid_y = (a.ravel() for a in np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1)))
        boxes = shapely.box(grid_x * size, grid_y * size, (grid_x + 1) * size, (grid_y + 1) * size)
        touched = shapely.intersects(area, boxes)
        covered = shapely.contains_properly(area, boxes)
        taken = self._taken[key] = []
        for x, y, whole in zip(
            grid_x[touched].tolist(), grid_y[touched].tolist(), covered[touched].tolist(), strict=True
        ):
            cell = (level, x, y)
            found = self._cells.get(cell)
            if found is None:
                found = self._cells[cell] = _Cell()
                self._levels[level] = self._levels.get(level, 0) + 1
            (found.inside if whole else found.border).append(key)
            taken.append(cell)

    def at(self, lon: float, lat: float) -> list[str]:
        """Keys of the areas that contain one point, sorted. Raises `geo.coordinate`."""
        coord.check(lon, lat)
        found: list[str] = []
        doubtful: list[str] = []
        for level in self._levels:
            size = CELL_DEG * 2**level
            cell = self._cells.get((level, math.floor(lon / size), math.floor(lat / size)))
            if cell is not None:
                found += cell.inside
                doubtful += cell.border
        for key, (west, south, east, north) in self._newcomers.items():
            if west <= lon <= east and south <= lat <= north:
                doubtful.append(key)
        for key in doubtful:
            if shapely.intersects_xy(self._areas[key], lon, lat):
                found.append(key)
        found.sort()
        return found

    def bulk(self, lons: FloatArray, lats: FloatArray) -> tuple[IntArray, list[str]]:
        """For n points: (positions, keys), one pair for each (point, area containing it), ordered by
        position, key.

        The caller must have checked the ranges. The first call after changes rebuilds the tree if many
        changed.
        """
        points = shapely.points(lons, lats)
        which, keys = self._candidates(points)
        if len(which) == 0:
            return which, []
        areas = np.array([self._areas[key] for key in keys], dtype=object)
        inside = shapely.intersects_xy(areas, lons[which], lats[which])
        pairs = sorted((int(i), key) for i, key, hit in zip(which, keys, inside, strict=True) if hit)
        return np.array([i for i, _ in pairs], dtype=np.int64), [key for _, key in pairs]

    def near_steps(
        self, lons0: FloatArray, lats0: FloatArray, lons1: FloatArray, lats1: FloatArray
    ) -> tuple[IntArray, list[str]]:
        """For n steps from point 0 to point 1: (positions, keys) of areas whose box meets the step's box.

        A superset of the areas that the steps touch, in no particular order.
        """
        steps = shapely.linestrings(np.stack((lons0, lats0, lons1, lats1), axis=1).reshape(-1, 2, 2))
        return self._candidates(steps)

    def _candidates(self, geometries: Any) -> tuple[IntArray, list[str]]:
        """Pairs of (position in `geometries`, key of an area whose box meets it)."""
        self._refresh()
        which: IntArray = np.empty(0, dtype=np.int64)
        keys: list[str] = []
        if self._tree is not None:
            which, slots = self._tree.query(geometries)
            keys = [self._tree_ids[slot] for slot in slots.tolist()]
            if self._tree_stale:
                kept = [i for i, key in enumerate(keys) if key not in self._tree_stale]
                which, keys = which[kept], [keys[i] for i in kept]
        if not self._fresh:
            return which, keys
        bounds = shapely.bounds(geometries)
        more = [which]
        for key in sorted(self._fresh):
            west, south, east, north = self._areas[key].bounds
            hits = np.flatnonzero(
                (bounds[:, 0] <= east) & (bounds[:, 2] >= west) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
            )
            more.append(hits)
            keys += [key] * len(hits)
        return np.concatenate(more), keys

    def _refresh(self) -> None:
        """Build the tree anew once more than a sixteenth of it, and more than the newcomers' limit, has
        changed.
        """
        if len(self._fresh) + len(self._tree_stale) <= max(NEWCOMERS_MAX, len(self._tree_ids) // 16):
            return
        self._tree_ids = list(self._areas)
        self._tree = shapely.STRtree(list(self._areas.values()))
        self._tree_stale.clear()
        self._fresh.clear()


class Nearest(NamedTuple):
    """A unit and its distance on the ellipsoid."""

    unit: str
    distance_m: float


class Units:
    """Last known places of units, for "who is nearest": brute force over arrays, 3-d chords first,
    geodesics last.
    """

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._places: FloatArray = np.empty((0, 2))
        self._chords: FloatArray = np.empty((0, 3))

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, unit: object) -> bool:
        return unit in self._slots

    def put(self, unit: str, lon: float, lat: float) -> None:
        """Set or move a unit's place. Raises `geo.coordinate`, `geo.full`."""
        coord.check(lon, lat)
        slot = self._slots.get(unit)
        if slot is None:
            slot = len(self._names)
            if slot >= UNITS_MAX:
                raise GeoError("geo.full", f"The register holds {UNITS_MAX} units.")
            self._grow(slot + 1)
            self._slots[unit] = slot
            self._names.append(unit)
        self._places[slot] = lon, lat
        self._chords[slot] = coord.geocentric(lon, lat)

    def drop(self, unit: str) -> bool:
        """Take a unit out; False if it wasn't there."""
        slot = self._slots.pop(unit, None)
        if slot is None:
            return False
        last = self._names.pop()
        if last != unit:
            self._names[slot] = last
            self._slots[last] = slot
            self._places[slot] = self._places[len(self._names)]
            self._chords[slot] = self._chords[len(self._names)]
        return True

    def _grow(self, size: int) -> None:
        if size > len(self._places):
            room = max(64, 2 * size)
            places, chords = np.zeros((room, 2)), np.zeros((room, 3))
            places[: len(self._places)], chords[: len(self._chords)] = self._places, self._chords
            self._places, self._chords = places, chords

    def nearest(
        self,
        lon: float,
        lat: float,
        count: int = 10,
        *,
        within_m: float | None = None,
        among: Iterable[str] | None = None,
    ) -> list[Nearest]:
        """Up to `count` (at most `NEAREST_MAX`) units by geodesic distance, then name; only those `among`
        if given.

        Unknown names in `among` are passed over. Raises `geo.coordinate`, `geo.full` for a larger `count`.
        """
        coord.check(lon, lat)
        if not 0 <= count <= NEAREST_MAX:
            raise GeoError("geo.full", f"Ask for at most {NEAREST_MAX} units.", count=count)
        if among is None:
            slots = np.arange(len(self._names))
        else:
            slots = np.array(sorted({self._slots[u] for u in among if u in self._slots}), dtype=np.int64)
        if count == 0 or len(slots) == 0:
            return []
        rough = np.linalg.norm(self._chords[slots] - np.array(coord.geocentric(lon, lat)), axis=1)
        if len(slots) > count:
            # A chord orders pairs like the geodesic but for 1 % (different curvature along different azimuths).
            limit = np.partition(rough, count - 1)[count - 1] * 1.01 + 0.001
            slots = slots[rough <= limit]
        places = self._places[slots]
        if len(slots) <= SINGLY_MAX:
            exact = [coord.distance_m(lon, lat, x, y) for x, y in places.tolist()]
        else:
            exact = coord.distances_m(lon, lat, places[:, 0], places[:, 1]).tolist()
        ranked = sorted((d, self._names[slot]) for d, slot in zip(exact, slots.tolist(), strict=True))
        return [Nearest(name, d) for d, name in ranked[:count] if within_m is None or d <= within_m]
