"""Shapes: GeoJSON from outside (RFC 7946, and a circle in metres) becomes a valid shape, or a refusal that
names the place.

Never guesses silently: whatever is changed leaves a `Note`. Invariant: the geometry is valid, in WGS-84,
rounded to 1e-7 degrees (1 cm), and `parse(shape.geojson)` gives the same shape without any note.

Our one extension: `{"type": "Circle", "coordinates": [lon, lat], "radius_m": 500}`. Edges are straight
lines in longitude and latitude (RFC 7946 §3.1.1).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import shapely

from geo import coord
from geo.errors import GeoError

OCTETS_MAX = 4 * 1024 * 1024
VERTICES_MAX = 50_000
CROSSINGS_MAX = 1_000
PARTS_MAX = 1_000
NOTES_MAX = 50
DIGITS = 7
GRID_DEG = 1e-7
RADIUS_DIGITS = 3

AREAS = frozenset({"Polygon", "MultiPolygon", "Circle"})
PLACES = AREAS | {"Point"}
ANY = AREAS | {"Point", "MultiPoint", "LineString", "MultiLineString", "GeometryCollection"}

Position = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One repair. `code`: closed, duplicate, winding, crossing, altitude, antimeridian or feature.

    `path` is where in the input ("coordinates[0]"); `lon`, `lat` the spot on the map, None where there is
    no single one.
    """

    code: str
    path: str
    text: str
    lon: float | None = None
    lat: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A valid shape. `kind` is the type of `geojson` (Circle included), `geometry` the shapely geometry in
    degrees.

    `geojson` is the canonical form to store; `bbox` is west, south, east, north; `area_m2` is on the
    ellipsoid, 0 for points and lines. The caller must not change `geojson`.
    """

    kind: str
    geometry: Any = field(compare=False, repr=False)
    geojson: dict[str, Any]
    notes: tuple[Note, ...] = ()
    bbox: tuple[float, float, float, float]
    area_m2: float

    @property
    def outline(self) -> dict[str, Any]:
        """The shape in plain RFC 7946 for a map: a Circle as its polygon, all else as it is."""
        return canonical(self.geometry) if self.kind == "Circle" else self.geojson

    @property
    def centre(self) -> Position:
        """(lon, lat) of a point that is surely within the shape; of a circle, its centre."""
        if self.kind == "Circle":
            lon, lat = self.geojson["coordinates"]
            return lon, lat
        point = self.geometry.representative_point()
        return _rounded(point.x), _rounded(point.y)


def parse(value: object, *, allow: frozenset[str] = ANY, vertices_max: int = VERTICES_MAX) -> Shape:
    """The shape in `value`: a decoded GeoJSON geometry (or Feature), or its text as str or bytes.

    Raises `geo.json`, `geo.structure`, `geo.type` (not in `allow`), `geo.vertices`, `geo.coordinate`,
    `geo.antimeridian`, `geo.degenerate`, `geo.tangled`, `geo.radius`, `geo.pole`, with `path`, `lon`, `lat`
    where there is a place.
    """
    reader = _Reader(vertices_max)
    found, path = _unwrap(_decode(value), reader)
    kind = _kind(found, path)
    if kind not in allow:
        accepted = ", ".join(sorted(allow))
        raise GeoError("geo.type", f"{kind} is not accepted; send one of {accepted}.", path=path or "type")
    try:
        geometry = reader.read(kind, found, path)
    except shapely.errors.GEOSException as error:
        raise GeoError("geo.tangled", path=path or "coordinates") from error
    geojson = reader.circle or canonical(geometry)
    west, south, east, north = (float(x) for x in geometry.bounds)
    return Shape(
        kind=geojson["type"],
        geometry=geometry,
        geojson=geojson,
        notes=tuple(reader.notes),
        bbox=(west, south, east, north),
        area_m2=area_m2(geometry),
    )


def canonical(geometry: Any) -> dict[str, Any]:
    """A shapely geometry as a GeoJSON geometry rounded to 1e-7 degrees."""
    if geometry.geom_type == "GeometryCollection":
        return {"type": "GeometryCollection", "geometries": [canonical(g) for g in geometry.geoms]}
    plain = shapely.geometry.mapping(geometry)
    return {"type": plain["type"], "coordinates": _plain(plain["coordinates"])}


def area_m2(geometry: Any) -> float:
    """Area in square metres on the ellipsoid, holes left out; 0 for points and lines."""
    total = 0.0
    for part in shapely.get_parts(geometry):
        if part.geom_type == "Polygon":
            rings = [part.exterior, *part.interiors]
            areas = [abs(coord.ring_area_m2(shapely.get_coordinates(ring))) for ring in rings]
            total += areas[0] - sum(areas[1:])
        elif part.geom_type == "MultiPolygon":
            total += area_m2(part)
    return total


def _plain(value: Any) -> Any:
    return _rounded(value) if isinstance(value, float | int) else [_plain(v) for v in value]


def _rounded(value: float) -> float:
    return round(float(value), DIGITS) + 0.0  # + 0.0 makes of -0.0 a 0.0


def _decode(value: object) -> object:
    if not isinstance(value, str | bytes | bytearray):
        return value
    if len(value) > OCTETS_MAX:
        raise GeoError("geo.json", f"The text has more than {OCTETS_MAX} octets.")
    try:
        found: object = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise GeoError("geo.json", f"The text is not JSON: {error}"[:200]) from error
    return found


def _unwrap(value: object, reader: "_Reader") -> tuple[Mapping[str, object], str]:
    """The geometry in a Feature, or the geometry itself, and the path to it."""
    found = _mapping(value, "")
    if found.get("type") != "Feature":
        return found, ""
    reader.note("feature", "geometry", "The geometry was taken out of a Feature, without its properties.")
    return _mapping(found.get("geometry"), "geometry"), "geometry."


def _mapping(value: object, path: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise GeoError("geo.structure", "A geometry is an object with type and coordinates.", path=path)
    return value


def _kind(value: Mapping[str, object], path: str) -> str:
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in ANY:
        raise GeoError("geo.structure", f"Unknown type of geometry: {kind!r}"[:100], path=f"{path}type")
    return kind


def _list(value: object, path: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise GeoError("geo.structure", "An array is expected here.", path=path)
    return value


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GeoError("geo.coordinate", "A number is expected here.", path=path)
    try:
        number = float(value)
    except OverflowError as error:
        raise GeoError("geo.coordinate", path=path) from error
    if not math.isfinite(number):
        raise GeoError("geo.coordinate", path=path)
    return number


class _Reader:
    """One parse: what is still allowed, and what was repaired so far."""

    def __init__(self, vertices_max: int) -> None:
        self.left = self.vertices_max = vertices_max
        self.notes: list[Note] = []
        self.circle: dict[str, Any] | None = None

    def note(self, code: str, path: str, text: str, place: Position | None = None) -> None:
        """Remember a repair; beyond `NOTES_MAX` they are all alike and the rest is left out."""
        if len(self.notes) < NOTES_MAX:
            lon, lat = place or (None, None)
            self.notes.append(Note(code=code, path=path, text=text, lon=lon, lat=lat))

    def read(self, kind: str, value: Mapping[str, object], path: str) -> Any:
        """The geometry in `value`, valid and not empty."""
        if kind == "GeometryCollection":
            return self._collection(value, path)
        at = f"{path}coordinates"
        if "coordinates" not in value:
            raise GeoError("geo.structure", "The coordinates are missing.", path=at)
        coordinates = value["coordinates"]
        if kind == "Circle":
            return self._circle(coordinates, value, path)
        if kind == "Point":
            return shapely.Point(self._position(coordinates, at))
        if kind == "MultiPoint":
            return shapely.MultiPoint(self._some(self._positions(coordinates, at), 1, at))
        if kind == "LineString":
            return shapely.LineString(self._line(coordinates, at))
        if kind == "MultiLineString":
            parts = self._parts(coordinates, at)
            return shapely.MultiLineString([self._line(part, f"{at}[{i}]") for i, part in enumerate(parts)])
        if kind == "Polygon":
            return self._valid(self._polygon(coordinates, at), at)
        parts = self._parts(coordinates, at)
        return self._valid(
            shapely.MultiPolygon([self._polygon(part, f"{at}[{i}]") for i, part in enumerate(parts)]), at
        )

    def _collection(self, value: Mapping[str, object], path: str) -> Any:
        """RFC 7946 §3.1.8: nested collections SHOULD be avoided; we refuse them, and circles within one."""
        at, parts = f"{path}geometries", []
        for i, item in enumerate(self._parts(value.get("geometries"), at)):
            found, where = _mapping(item, f"{at}[{i}]"), f"{at}[{i}]."
            kind = _kind(found, where)
            if kind in {"GeometryCollection", "Circle"}:
                raise GeoError("geo.type", f"A {kind} within a GeometryCollection is refused.", path=where)
            parts.append(self.read(kind, found, where))
        return shapely.GeometryCollection(parts)

    def _circle(self, coordinates: object, value: Mapping[str, object], path: str) -> Any:
        lon, lat = self._position(coordinates, f"{path}coordinates")
        at = f"{path}radius_m"
        try:
            radius_m = round(_number(value.get("radius_m"), at), RADIUS_DIGITS)
            outline = coord.circle(lon, lat, radius_m)
        except GeoError as error:
            code = "geo.radius" if error.code == "geo.coordinate" else error.code
            raise GeoError(code, error.hint, path=at, lon=lon, lat=lat) from error
        if outline.geom_type == "MultiPolygon":
            self.note("antimeridian", at, "The circle was cut at the antimeridian.", (lon, lat))
        self.circle = {"type": "Circle", "coordinates": [lon, lat], "radius_m": radius_m}
        return outline

    def _position(self, value: object, path: str) -> Position:
        """RFC 7946 §3.1.1: longitude, latitude, and an altitude that we leave out."""
        numbers = _list(value, path)
        if len(numbers) < 2:
            raise GeoError("geo.structure", "A position is [longitude, latitude].", path=path)
        self.left -= 1
        if self.left < 0:
            raise GeoError("geo.vertices", f"More than {self.vertices_max} positions.", path=path)
        lon, lat = _number(numbers[0], f"{path}[0]"), _number(numbers[1], f"{path}[1]")
        if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
            swapped = abs(lon) <= 90.0 and abs(lat) <= 180.0
            hint = "Longitude comes first: these two look swapped." if swapped else ""
            raise GeoError("geo.coordinate", hint, path=path, lon=lon, lat=lat)
        if len(numbers) > 2 and not any(note.code == "altitude" for note in self.notes):
            self.note("altitude", path, "Altitudes were left out.", (lon, lat))
        return _rounded(lon), _rounded(lat)

    def _positions(self, value: object, path: str) -> list[Position]:
        return [self._position(item, f"{path}[{i}]") for i, item in enumerate(_list(value, path))]

    def _parts(self, value: object, path: str) -> Sequence[object]:
        parts = _list(value, path)
        if len(parts) > PARTS_MAX:
            raise GeoError("geo.vertices", f"More than {PARTS_MAX} parts.", path=path)
        return self._some(parts, 1, path)

    @staticmethod
    def _some(found: Sequence[T], least: int, path: str) -> Sequence[T]:
        if len(found) < least:
            raise GeoError("geo.degenerate", f"At least {least} distinct positions are needed.", path=path)
        return found

    def _line(self, value: object, path: str) -> list[Position]:
        """Positions without repetitions, no edge over 180 degrees; at least two."""
        found = self._positions(value, path)
        kept = found[:1]
        for i, (before, after) in enumerate(pairwise(found), start=1):
            if abs(after[0] - before[0]) > 180.0:
                raise GeoError("geo.antimeridian", path=f"{path}[{i}]", lon=after[0], lat=after[1])
            if after != before:
                kept.append(after)
            elif not any(note.code == "duplicate" and note.path.startswith(path) for note in self.notes):
                self.note("duplicate", f"{path}[{i}]", "Repeated positions were left out.", after)
        return list(self._some(kept, 2, path))

    def _ring(self, value: object, path: str, *, hole: bool) -> list[Position]:
        """A closed ring (RFC 7946 §3.1.6), outer ones counter-clockwise, holes clockwise."""
        ring = self._line(value, path)
        if ring[0] != ring[-1]:
            if abs(ring[0][0] - ring[-1][0]) > 180.0:
                raise GeoError("geo.antimeridian", path=f"{path}[0]", lon=ring[0][0], lat=ring[0][1])
            self.note("closed", path, "The ring was closed with its first position.", ring[-1])
            ring.append(ring[0])
        if len(set(ring)) < 3:
            lon, lat = ring[0]
            raise GeoError("geo.degenerate", "A ring needs three positions.", path=path, lon=lon, lat=lat)
        doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
        if doubled and (doubled < 0) != hole:
            self.note("winding", path, "The direction of the ring was turned round (RFC 7946 §3.1.6).", ring[0])
            ring.reverse()
        return ring

    def _polygon(self, value: object, path: str) -> Any:
        rings = self._parts(value, path)
        outer, *holes = [self._ring(ring, f"{path}[{i}]", hole=i > 0) for i, ring in enumerate(rings)]
        return shapely.Polygon(outer, holes)

    def _valid(self, area: Any, path: str) -> Any:
        """`area` as it is if valid, else repaired with a note; `geo.degenerate` if nothing is left."""
        if not area.is_valid:
            reason = shapely.is_valid_reason(area)
            place = _place(reason)
            if _tangled(area):
                raise GeoError("geo.tangled", path=path, lon=place[0], lat=place[1])
            area = shapely.make_valid(area, method="structure", keep_collapsed=False)
            area = _areas(shapely.set_precision(area, GRID_DEG))
            if area.is_empty:
                raise GeoError("geo.degenerate", path=path, lon=place[0], lat=place[1])
            text = f"{reason.split('[')[0]}: the shape was rebuilt without it."
            self.note("crossing", path, text, place)
        return area


def _place(reason: str) -> Position:
    """The spot in GEOS' sentence "Self-intersection[116.3 39.9]"."""
    found = re.search(r"\[(\S+) (\S+)\]", reason)
    return (_rounded(float(found[1])), _rounded(float(found[2]))) if found else (0.0, 0.0)


def _tangled(area: Any) -> bool:
    """Whether the edges meet each other in more than `CROSSINGS_MAX` places: repairing that would take for
    ever.
    """
    ends = []
    for ring in shapely.get_rings(shapely.get_parts(area)):
        xy = shapely.get_coordinates(ring)
        ends.append(np.stack((xy[:-1], xy[1:]), axis=1))
    edges = shapely.linestrings(np.concatenate(ends))
    tree = shapely.STRtree(edges)
    beyond = 0
    for start in range(0, len(edges), 64):
        some = edges[start : start + 64]
        # Each edge meets itself and its two neighbours; each crossing is met from both sides.
        beyond += tree.query(some, predicate="intersects").shape[1] - 3 * len(some)
        if beyond > 2 * CROSSINGS_MAX:
            return True
    return False


def _areas(geometry: Any) -> Any:
    """The polygons in a geometry, outer rings counter-clockwise."""
    polygons = [p for part in shapely.get_parts(geometry) for p in shapely.get_parts(part)]
    polygons = [p for p in polygons if p.geom_type == "Polygon" and not p.is_empty]
    if len(polygons) == 1:
        return shapely.orient_polygons(polygons[0])
    return shapely.orient_polygons(shapely.MultiPolygon(polygons))
