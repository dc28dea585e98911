"""Coordinates: WGS-84 to and from GCJ-02 and BD-09, circles in metres, and the distances of `geo.geodesic`.

Never stores or passes on anything but WGS-84 (CGCS2000 counts as equal: they differ by centimetres); the
other two systems exist only at the border to domestic map products. Invariant: longitude comes first,
everywhere.
"""

import math
from typing import Any

import numpy as np
import shapely

from geo.errors import GeoError
from geo.geodesic import (
    Geodesic,
    bearing_deg,
    check,
    destination,
    distance_m,
    distances_m,
    geocentric,
    inverse,
    metres_per_degree,
    near_m,
    normal_lon,
    ring_area_m2,
)

__all__ = [
    "Geodesic",
    "bd09_to_wgs84",
    "bearing_deg",
    "check",
    "circle",
    "destination",
    "distance_m",
    "distances_m",
    "gcj02_to_wgs84",
    "geocentric",
    "inverse",
    "metres_per_degree",
    "near_m",
    "normal_lon",
    "ring_area_m2",
    "wgs84_to_bd09",
    "wgs84_to_gcj02",
]

RADIUS_MIN_M = 1.0
RADIUS_MAX_M = 1_000_000.0
CIRCLE_VERTICES = 128
CIRCLE_VERTICES_MIN = 8
CIRCLE_VERTICES_MAX = 4096
POLE_MARGIN_DEG = 0.01
METRES_PER_DEGREE_MAX = 111_700.0

# Outside this box (lon, lat, lon, lat) the domestic systems don't shift.
GCJ_BOX = (72.004, 0.8293, 137.8347, 55.8271)
# GCJ-02 is defined on the Krasovsky 1940 ellipsoid.
GCJ_SEMI_MAJOR_M = 6_378_245.0
GCJ_ECCENTRICITY2 = 0.00669342162296594323
BD_TURN = math.pi * 3000.0 / 180.0
INVERSE_STEPS = 12
INVERSE_DEG = 1e-11


def _ripple(x: float, *waves: tuple[float, float]) -> float:
    """Sum of amplitude x sin(frequency x π x), times 2/3: the shape of every periodic term of GCJ-02."""
    return sum(amplitude * math.sin(frequency * math.pi * x) for amplitude, frequency in waves) * 2.0 / 3.0


def _gcj_shift(lon: float, lat: float) -> tuple[float, float]:
    """GCJ-02 minus WGS-84 in degrees, 23 to 700 m (published reverse engineering of the 2002 algorithm)."""
    x, y = lon - 105.0, lat - 35.0
    common = _ripple(x, (20.0, 6.0), (20.0, 2.0))
    root = math.sqrt(abs(x))
    north = -100.0 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + common
    north += _ripple(y, (20.0, 1.0), (40.0, 1 / 3), (160.0, 1 / 12), (320.0, 1 / 30))
    east = 300.0 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + common
    east += _ripple(x, (20.0, 1.0), (40.0, 1 / 3), (150.0, 1 / 12), (300.0, 1 / 30))
    phi = math.radians(lat)
    w2 = 1 - GCJ_ECCENTRICITY2 * math.sin(phi) ** 2
    meridian_m = GCJ_SEMI_MAJOR_M * (1 - GCJ_ECCENTRICITY2) / (w2 * math.sqrt(w2))
    parallel_m = GCJ_SEMI_MAJOR_M / math.sqrt(w2) * math.cos(phi)
    return math.degrees(east / parallel_m), math.degrees(north / meridian_m)


def _in_gcj_box(lon: float, lat: float) -> bool:
    west, south, east, north = GCJ_BOX
    return west <= lon <= east and south <= lat <= north


def wgs84_to_gcj02(lon: float, lat: float) -> tuple[float, float]:
    """(lon, lat) as a domestic map product (Amap, Tencent) draws it; unchanged outside `GCJ_BOX`. Raises
    `geo.coordinate`.
    """
    check(lon, lat)
    if not _in_gcj_box(lon, lat):
        return lon, lat
    east, north = _gcj_shift(lon, lat)
    return lon + east, lat + north


def gcj02_to_wgs84(lon: float, lat: float) -> tuple[float, float]:
    """The WGS-84 point that `wgs84_to_gcj02` sends here, by fixed-point steps to 1 µm. Raises
    `geo.coordinate`.

    Within 1 km of the edge of `GCJ_BOX` the system itself has a step; there the answer may be off by that
    step.
    """
    check(lon, lat)
    if not _in_gcj_box(lon, lat):
        return lon, lat
    x, y = lon, lat
    for _ in range(INVERSE_STEPS):
        east, north = _gcj_shift(x, y)
        before, (x, y) = (x, y), (lon - east, lat - north)
        if abs(x - before[0]) + abs(y - before[1]) < INVERSE_DEG:
            break
    return x, y


def _bd_from_gcj(lon: float, lat: float) -> tuple[float, float]:
    """BD-09 from GCJ-02: a turn and a stretch around the origin, then a constant offset."""
    length = math.hypot(lon, lat) + 0.00002 * math.sin(lat * BD_TURN)
    angle = math.atan2(lat, lon) + 0.000003 * math.cos(lon * BD_TURN)
    return length * math.cos(angle) + 0.0065, length * math.sin(angle) + 0.006


def wgs84_to_bd09(lon: float, lat: float) -> tuple[float, float]:
    """(lon, lat) as Baidu draws it; unchanged outside `GCJ_BOX`. Raises `geo.coordinate`."""
    check(lon, lat)
    return _bd_from_gcj(*wgs84_to_gcj02(lon, lat)) if _in_gcj_box(lon, lat) else (lon, lat)


def bd09_to_wgs84(lon: float, lat: float) -> tuple[float, float]:
    """The WGS-84 point that `wgs84_to_bd09` sends here; edge of the box as in `gcj02_to_wgs84`. Raises
    `geo.coordinate`.
    """
    check(lon, lat)
    if not _in_gcj_box(lon, lat):
        return lon, lat
    x, y = lon - 0.0065, lat - 0.006
    for _ in range(INVERSE_STEPS):
        there = _bd_from_gcj(x, y)
        east, north = lon - there[0], lat - there[1]
        x, y = x + east, y + north
        if abs(east) + abs(north) < INVERSE_DEG:
            break
    return gcj02_to_wgs84(x, y)


def circle(lon: float, lat: float, radius_m: float, vertices: int = CIRCLE_VERTICES) -> Any:
    """The circle around a point as a shapely Polygon, or a MultiPolygon where it lies across the
    antimeridian.

    Area-true: the vertices lie a little outside (128 vertices: 0.02 % of the radius, chords as much
    inside), so the polygon has the circle's area. Counter-clockwise. Raises `geo.coordinate`; `geo.radius`
    outside 1 m..1,000 km; `geo.vertices`; `geo.pole` if it comes within 0.01 degrees of a pole.
    """
    check(lon, lat)
    if not RADIUS_MIN_M <= radius_m <= RADIUS_MAX_M:
        raise GeoError("geo.radius", f"Give {RADIUS_MIN_M:g} to {RADIUS_MAX_M:g} metres.", radius_m=repr(radius_m))
    if not CIRCLE_VERTICES_MIN <= vertices <= CIRCLE_VERTICES_MAX:
        raise GeoError("geo.vertices", f"Give {CIRCLE_VERTICES_MIN} to {CIRCLE_VERTICES_MAX} vertices.")
    slice_rad = 2 * math.pi / vertices
    reach = radius_m * math.sqrt(slice_rad / math.sin(slice_rad))
    for pole in (-90.0, 90.0):
        if distance_m(lon, lat, lon, pole) <= reach + POLE_MARGIN_DEG * METRES_PER_DEGREE_MAX:
            raise GeoError("geo.pole", lon=lon, lat=lat)
    ring = []
    for i in range(vertices):
        x, y = destination(lon, lat, -360.0 * i / vertices, reach)
        ring.append((lon + math.remainder(x - lon, 360.0), y))
    return _cut(shapely.Polygon(ring))


def _cut(polygon: Any) -> Any:
    """A polygon whose longitudes run on beyond ±180, cut at the antimeridian (RFC 7946 §3.1.9)."""
    west, _, east, _ = polygon.bounds
    if west >= -180.0 and east <= 180.0:
        return polygon
    parts = [polygon.intersection(shapely.box(-180, -90, 180, 90))]
    for shift in (-360.0, 360.0):
        moved = shapely.transform(polygon, lambda xy, by=shift: xy + np.array((by, 0.0)))
        parts.append(moved.intersection(shapely.box(-180, -90, 180, 90)))
    flat = [p for part in parts for p in shapely.get_parts(part) if p.geom_type == "Polygon" and not p.is_empty]
    return shapely.MultiPolygon(flat)
