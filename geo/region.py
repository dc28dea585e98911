"""Jurisdictions: which province, city and county a point lies in, by GB/T 2260 codes; and a made-up demo
province.

Never ships or guesses a real border: those come from the site's own official data. Invariant: every region
but a province has its parent (by prefix of the code) in the same set.

GB/T 2260: six digits, two each for province, city, county; 110000, 110100, 110105.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import shapely

from geo import coord, shape
from geo.errors import GeoError
from geo.index import Index

REGIONS_MAX = 5_000
NAME_MAX = 100
REGION_VERTICES_MAX = 200_000
LEVELS = ("province", "city", "county")

# Open water in the north-west Pacific, far from every coast and claim: nobody takes it for a real place.
DEMO_LON, DEMO_LAT = 155.0, 32.0
DEMO_RADIUS_KM = 60.0
DEMO_PROVINCE = ("990000", "示范省", "Demo Province")
DEMO_CITIES = (("990100", "示范西市", "Demo West City"), ("990200", "示范东市", "Demo East City"))
DEMO_COUNTIES = (
    ("990121", "示范一县", "Demo County One"),
    ("990122", "示范二县", "Demo County Two"),
    ("990221", "示范三县", "Demo County Three"),
    ("990222", "示范四县", "Demo County Four"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """One jurisdiction. `parent` is the code above it, None for a province."""

    code: str
    name_zh: str
    name_en: str
    level: str
    parent: str | None
    area: shape.Shape = field(repr=False)


def level_of(code: str) -> str:
    """province, city or county, from a code. Raises `geo.region`."""
    if not (isinstance(code, str) and len(code) == 6 and code.isascii() and code.isdigit()) or code[:2] == "00":
        raise GeoError("geo.region", "A code is six digits (GB/T 2260).", region=str(code)[:20])
    if code[2:] == "0000":
        return "province"
    if code[4:] == "00":
        return "city"
    return "county"


def parent_of(code: str) -> str | None:
    """The code above: of 110105 it is 110100, of 110100 it is 110000, of a province None. Raises
    `geo.region`.

    Counties run by the province itself (429004) hang under a city code of their own (429000) in GB/T 2260.
    """
    level = level_of(code)
    if level == "province":
        return None
    return code[:2] + "0000" if level == "city" else code[:4] + "00"


class Regions:
    """A set of jurisdictions, searchable by point and by code."""

    def __init__(self) -> None:
        self._regions: dict[str, Region] = {}
        self._index = Index()

    def __len__(self) -> int:
        return len(self._regions)

    def add(self, region: Region) -> None:
        """Put in one, or replace it; parents first. Raises `geo.region`, `geo.type`, `geo.full`."""
        if len(self._regions) >= REGIONS_MAX and region.code not in self._regions:
            raise GeoError("geo.full", f"At most {REGIONS_MAX} regions.")
        if region.level != level_of(region.code) or region.parent != parent_of(region.code):
            raise GeoError("geo.region", "Level or parent don't fit the code.", region=region.code)
        if region.parent is not None and region.parent not in self._regions:
            raise GeoError("geo.region", f"The parent {region.parent} is missing.", region=region.code)
        if region.area.kind not in shape.AREAS:
            raise GeoError("geo.type", "A region is an area.", region=region.code)
        self._regions[region.code] = region
        self._index.add(region.code, region.area.geometry)

    def get(self, code: str) -> Region | None:
        """The region of this code, or None."""
        return self._regions.get(code)

    def children(self, code: str | None) -> list[Region]:
        """The regions directly under `code` (None: the provinces), by code."""
        return [self._regions[c] for c in sorted(self._regions) if self._regions[c].parent == code]

    def at(self, lon: float, lat: float) -> list[Region]:
        """Province, city and county of a point, as far as known; empty outside. Raises `geo.coordinate`.

        On a shared border the smallest code at the deepest level wins, so the answer is always one chain.
        """
        found = self._index.at(lon, lat)
        if not found:
            return []
        deepest = max(LEVELS.index(level_of(code)) for code in found)
        code: str | None = next(c for c in found if LEVELS.index(level_of(c)) == deepest)
        chain: list[Region] = []
        while code is not None:
            chain.insert(0, self._regions[code])
            code = self._regions[code].parent
        return chain


def load(collection: object) -> Regions:
    """The regions of a GeoJSON FeatureCollection, properties code, name_zh and name_en; in any order.

    Raises `geo.region`, `geo.full`, and whatever `geo.shape.parse` raises, with `path` of the feature.
    """
    if not isinstance(collection, Mapping) or collection.get("type") != "FeatureCollection":
        raise GeoError("geo.structure", "A FeatureCollection is expected.", path="type")
    features = collection.get("features")
    if not isinstance(features, list | tuple):
        raise GeoError("geo.structure", "An array is expected here.", path="features")
    if len(features) > REGIONS_MAX:
        raise GeoError("geo.full", f"At most {REGIONS_MAX} regions.", path="features")
    found = [_region(feature, f"features[{i}]") for i, feature in enumerate(features)]
    regions = Regions()
    for region in sorted(found, key=lambda r: (LEVELS.index(r.level), r.code)):
        regions.add(region)
    return regions


def _region(feature: object, path: str) -> Region:
    if not isinstance(feature, Mapping) or not isinstance(feature.get("properties"), Mapping):
        raise GeoError("geo.structure", "A Feature with properties is expected.", path=path)
    properties = feature["properties"]
    code, zh, en = (properties.get(name) for name in ("code", "name_zh", "name_en"))
    for name in (zh, en):
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise GeoError("geo.region", f"Names of 1 to {NAME_MAX} characters.", path=f"{path}.properties")
    try:
        area = shape.parse(feature.get("geometry"), allow=shape.AREAS, vertices_max=REGION_VERTICES_MAX)
        level, parent = level_of(code), parent_of(code)
    except GeoError as error:
        inner = str(error.details.pop("path", ""))
        where = f"{path}.geometry.{inner}".rstrip(".")
        raise GeoError(error.code, error.hint, **(error.details | {"path": where})) from error
    return Region(code=code, name_zh=zh, name_en=en, level=level, parent=parent, area=area)


def demo(seed: int = 1, lon: float = DEMO_LON, lat: float = DEMO_LAT) -> dict[str, Any]:
    """示范省 as a FeatureCollection: one province, two cities, four counties, sharing borders vertex for vertex.

    A function of its arguments alone. The centre stays within latitude ±60 and away from the antimeridian;
    raises `geo.coordinate`. Properties: code (unassigned 99xxxx), name_zh, name_en, level, parent.
    """
    if not (abs(lat) <= 60.0 and abs(lon) <= 179.0):
        raise GeoError("geo.coordinate", "The demo lies within latitude 60 and longitude 179.", lon=lon, lat=lat)
    counties = _partition(_Dice(seed), lon, lat)
    cities = [shapely.union_all(counties[:2]), shapely.union_all(counties[2:])]
    areas = [shapely.union_all(cities), *cities, *counties]
    names = (DEMO_PROVINCE, *DEMO_CITIES, *DEMO_COUNTIES)
    features = []
    for (code, zh, en), area in zip(names, areas, strict=True):
        properties = {"code": code, "name_zh": zh, "name_en": en, "level": level_of(code), "parent": parent_of(code)}
        geometry = shape.canonical(shapely.orient_polygons(area))
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


class _Dice:
    """Splitmix64: the same numbers from the same seed on every machine and for ever."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def throw(self) -> float:
        """The next number, -1 <= x < 1."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return (z ^ (z >> 31)) / 2**63 - 1.0


Point = tuple[float, float]


def _wander(dice: _Dice, ends: list[Point], depth: int, bend: float) -> list[Point]:
    """A line through `ends` with every piece bent at its middle, `depth` times over: a plausible border."""
    for _ in range(depth):
        bent: list[Point] = []
        for (x0, y0), (x1, y1) in pairwise(ends):
            shift = bend * dice.throw()
            bent += [(x0, y0), ((x0 + x1) / 2 - shift * (y1 - y0), (y0 + y1) / 2 + shift * (x1 - x0))]
        ends = [*bent, ends[-1]]
    return ends


def _partition(dice: _Dice, lon: float, lat: float) -> list[Any]:
    """Four county polygons in degrees: the west's northern and southern, the east's northern and southern."""
    corners = []
    for i in range(12):
        turn, reach = i / 12 * 2 * math.pi, 0.88 + 0.12 * dice.throw()
        corners.append((1.15 * reach * math.cos(turn), 0.9 * reach * math.sin(turn)))
    coast = _wander(dice, [*corners, corners[0]], 3, 0.12)
    # Where the borders of the counties end on the border of the cities; `_wander` keeps the points it is given.
    meet_west, meet_east = (-0.06, 0.15), (0.06, -0.15)
    spine = _wander(dice, [(0.08, 1.5), meet_west, meet_east, (-0.08, -1.5)], 4, 0.1)
    west = _wander(dice, [(-1.6, 0.1 * dice.throw()), (-0.6, 0.1), meet_west], 4, 0.1)
    east = _wander(dice, [(1.6, 0.1 * dice.throw()), (0.6, -0.1), meet_east], 4, 0.1)
    east_m, north_m = coord.metres_per_degree(lat)
    scale = np.array((DEMO_RADIUS_KM * 1000 / east_m, DEMO_RADIUS_KM * 1000 / north_m))
    lines = [shapely.LineString(np.array(line) * scale + (lon, lat)) for line in (coast, spine, west, east)]
    # Noded on the grid of stored shapes, so that neighbours stay vertex for vertex alike.
    noded = shapely.union_all(lines, grid_size=shape.GRID_DEG)
    faces = sorted(shapely.get_parts(shapely.polygonize([noded])), key=lambda f: -f.area)
    return _in_order(_four(faces))


def _four(faces: list[Any]) -> list[Any]:
    """The four large faces; slivers between crossing borders go to the neighbour with the longest common
    border.
    """
    cores = faces[:4]
    for sliver in faces[4:]:
        shared = [sliver.intersection(core).length for core in cores]
        at = shared.index(max(shared))
        cores[at] = shapely.union_all([cores[at], sliver])
    return cores


def _in_order(cores: list[Any]) -> list[Any]:
    """West before east, then north before south."""
    by_lon = sorted(cores, key=lambda f: float(f.centroid.x))
    return [
        *sorted(by_lon[:2], key=lambda f: -float(f.centroid.y)),
        *sorted(by_lon[2:], key=lambda f: -float(f.centroid.y)),
    ]
