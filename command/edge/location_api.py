"""Locations over HTTP: reports in batches, who is where, who is nearest, where a unit was, and the regions of the map.

Edge. Invariant: a report is answered after its batch is durable, so whoever got an answer may forget the fixes; a location
goes only to those who may see it, always with its own time.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS
from command.base.errors import Denied, Missing, Rejected, Unavailable
from command.base.rights import Role, allowed
from command.base.schema import Geometry, Id, Instant, Latitude, Longitude, Struct, Value
from command.domain.location import (
    LOCATION,
    STALE_S,
    TAKEN,
    TRACK,
    Accuracy,
    Altitude,
    Location,
    Reply,
    Source,
    TrackPoint,
    scope,
    unit_scope,
)
from command.domain.registry import UNIT, Unit, UnitKind, UnitStatus
from command.edge.api import Call, Node, Route
from command.edge.live import Visible
from command.edge.watch import Near, Watch
from command.log.timeline import position_of
from geo import region, track
from geo.errors import GeoError
from geo.track import Fix

PART = "location"
FIXES_MAX = 1_000
PAGE_MAX = 5_000
NEAREST_MAX = 100
POINTS_MAX = 5_000
REGIONS_FILE = "regions.geojson"
REGIONS_OCTETS_MAX = 64 * 1024 * 1024


class ReportedFix(Struct, frozen=True, kw_only=True):
    """Where a unit was. `at` is the device's own instant of the fix; a negative speed or heading means "unknown", as
    phones send it."""

    unit: Id
    lon: Longitude
    lat: Latitude
    at: Instant
    accuracy_m: Accuracy | None = None
    speed_mps: Annotated[float, Meta(ge=-1, le=12_000)] | None = None
    heading_deg: Annotated[float, Meta(ge=-1, le=360)] | None = None
    altitude_m: Altitude | None = None


class ReportLocations(Struct, frozen=True, kw_only=True):
    fixes: Annotated[list[ReportedFix], Meta(min_length=1, max_length=FIXES_MAX)]


class FixResult(Value, frozen=True, kw_only=True):
    unit: Id
    verdict: Reply


class ReportAnswer(Value, frozen=True, kw_only=True):
    """`accepted` counts `new` and `late`; `results` are in the order of the fixes. No verdict asks for a repetition."""

    accepted: int
    results: list[FixResult]


class LocationListing(Value, frozen=True, kw_only=True):
    """Query of the last locations: `after` is the last id of the page before."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 1_000
    after: Id | None = None


class LocationPage(Value, frozen=True, kw_only=True):
    items: list[Location]
    position: int


class NearestQuery(Value, frozen=True, kw_only=True):
    """Query of the nearest units: about a point, optionally of one kind and status only."""

    lon: Longitude
    lat: Latitude
    limit: Annotated[int, Meta(ge=1, le=NEAREST_MAX)] = 10
    kind: UnitKind | None = None
    status: UnitStatus | None = None


class NearUnit(Value, frozen=True, kw_only=True):
    """A unit (`unit` its id, `row` all of it) where it was last seen: `distance_m` on the ellipsoid, `age_s` since its
    device's fix; `stale` when that is more than a quarter of an hour. One that never reported stands at its home, with
    `at` and `age_s` null."""

    unit: Id
    row: Unit
    lon: Longitude
    lat: Latitude
    at: Instant | None
    accuracy_m: Accuracy | None
    distance_m: float
    age_s: float | None
    stale: bool


class NearestPage(Value, frozen=True, kw_only=True):
    items: list[NearUnit]


class TrackQuery(Value, frozen=True, kw_only=True):
    """Query of a track: `since` <= at < `until` (microseconds UTC), the newest `limit` points of these."""

    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=POINTS_MAX)] = 1_000


class TrackPage(Value, frozen=True, kw_only=True):
    """`items` are in order of time; `more` when older ones in the span were left out."""

    items: list[TrackPoint]
    more: bool


class RegionCollection(Value, frozen=True, kw_only=True):
    """A GeoJSON FeatureCollection (RFC 7946); `source` is "site" for imported data, "demo" for the made-up province."""

    type: str
    features: list[Geometry]
    source: str


class LocationPart:
    """What the handlers share: the watch, and the regions as of the file's last change."""

    def __init__(self, node: Node) -> None:
        self.watch = Watch(node.store, node.log, node.clock)
        self._file = Path(node.config.data) / REGIONS_FILE
        self._regions: tuple[int, RegionCollection] | None = None

    async def stop(self) -> None:
        await self.watch.stop()

    async def regions(self) -> RegionCollection:
        """The regions; read again when the file was replaced. Raises `Unavailable` naming the place in a bad file."""
        changed = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if self._regions is None or self._regions[0] != changed:
            self._regions = changed, await asyncio.to_thread(_read_regions, self._file if changed else None)
        return self._regions[1]


async def start(node: Node) -> LocationPart:
    """Restore the engine with its states, follow the log, and work."""
    part = LocationPart(node)
    node.bus.listen(part.watch.on_commit)
    await part.watch.open()
    return part


def _read_regions(path: Path | None) -> RegionCollection:
    if path is None:
        return RegionCollection(type="FeatureCollection", features=region.demo()["features"], source="demo")
    try:
        if path.stat().st_size > REGIONS_OCTETS_MAX:
            raise Unavailable("regions.unusable", f"{REGIONS_FILE} is larger than {REGIONS_OCTETS_MAX} octets.")
        found = region.load(msgspec.json.decode(path.read_bytes()))
    except GeoError as error:
        raise Unavailable(error.code, f"{REGIONS_FILE}: {error.hint}", **error.details) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable("regions.unusable", f"{REGIONS_FILE} can't be read: {error}") from None
    return RegionCollection(type="FeatureCollection", features=_features(found), source="site")


def _features(regions: region.Regions) -> list[Geometry]:
    """The checked regions as features, parents before their children."""
    features: list[Geometry] = []
    level = regions.children(None)
    while level:
        for one in level:
            properties = {name: getattr(one, name) for name in ("code", "name_zh", "name_en", "level", "parent")}
            features.append({"type": "Feature", "properties": properties, "geometry": one.area.outline})
        level = [child for one in level for child in regions.children(one.code)]
    return features


def part_of(node: Node) -> LocationPart:
    part: LocationPart = node.parts[PART]
    return part


# -- handlers


async def _report(call: Call) -> ReportAnswer:
    watch = part_of(call.node).watch
    body: ReportLocations = call.body
    _may_report(call, watch, body)
    fixes = [_fix(i, one) for i, one in enumerate(body.fixes)]
    source = Source.SERVICE if Role.SERVICE in call.actor.roles else Source.APP
    replies = await watch.report(fixes, source)
    results = [FixResult(unit=fix.unit, verdict=reply) for fix, reply in zip(fixes, replies, strict=True)]
    return ReportAnswer(accepted=sum(reply in TAKEN for reply in replies), results=results)


def _may_report(call: Call, watch: Watch, body: ReportLocations) -> None:
    """One unit that isn't the actor's refuses the whole report. To those with fewer than all rights a unit that isn't
    there is one that isn't theirs."""
    if call.wide("location.report"):
        return
    for key in {fix.unit for fix in body.fixes}:
        unit = watch.units.get(key)
        if unit is None or not allowed(call.actor, "location.report", unit_scope(unit), call.node.tree):
            raise Denied("location.foreign", "You report your own unit only.", right="location.report", unit=key)


def _fix(number: int, one: ReportedFix) -> Fix:
    try:
        return track.fix(**msgspec.structs.asdict(one))
    except GeoError as error:
        raise Rejected(error.code, error.hint, **{**error.details, "path": f"fixes[{number}]"}) from None


async def _locations(call: Call) -> LocationPage:
    query: LocationListing = call.query
    shelf = call.node.store.shelf(LOCATION)

    def read(connection: Connection) -> LocationPage:
        found: list[Any] = []
        after = query.after or ""
        while len(found) < query.limit:
            rows = shelf.select(connection, shelf.sql.c.id > after, limit=PAGE_MAX)
            found += call.node.live.view_all(call.actor, LOCATION.name, rows)
            if len(rows) < PAGE_MAX:
                break
            after = rows[-1].id
        return LocationPage(items=found[: query.limit], position=position_of(connection))

    return await call.node.store.read(read)


async def _nearest(call: Call) -> NearestPage:
    query: NearestQuery = call.query
    live, actor = call.node.live, call.actor

    def wanted(unit: Unit, row: Location | None) -> bool:
        if query.kind not in (None, unit.kind) or query.status not in (None, unit.status):
            return False
        if live.view(actor, UNIT.name, unit) is None:
            return False
        return row is None or live.view(actor, LOCATION.name, row) is not None

    now = call.node.clock.now()
    try:
        found = part_of(call.node).watch.nearest(query.lon, query.lat, query.limit, wanted)
    except GeoError as error:
        raise Rejected(error.code, error.hint, **error.details) from None
    return NearestPage(items=[_near_unit(one, now) for one in found])


def _near_unit(near: Near, now: int) -> NearUnit:
    unit, row = near.unit, near.location
    place = row if row is not None else unit.home
    assert place is not None, "a unit without a place is near nothing"
    age_s = None if row is None else max(0.0, round((now - row.at) / MICROSECONDS, 1))
    return NearUnit(
        unit=unit.id,
        row=unit,
        lon=place.lon,
        lat=place.lat,
        at=None if row is None else row.at,
        accuracy_m=None if row is None else row.accuracy_m,
        distance_m=round(near.distance_m, 1),
        age_s=age_s,
        stale=age_s is None or age_s > STALE_S,
    )


async def _track(call: Call) -> TrackPage:
    query: TrackQuery = call.query
    key = call.path["id"]
    unit = part_of(call.node).watch.units.get(key)
    if unit is None or not allowed(call.actor, "location.read", unit_scope(unit), call.node.tree):
        raise Missing("unit.missing", f"There is no unit '{key[:64]}'.")
    shelf = call.node.store.shelf(TRACK)
    at = shelf.sql.c.at
    conditions = [] if query.since is None else [at >= query.since]
    if query.until is not None:
        conditions.append(at < query.until)

    def read(connection: Connection) -> list[TrackPoint]:
        return shelf.select(connection, *conditions, equal={"unit": key}, order=at.desc(), limit=query.limit + 1)

    found = await call.node.store.read(read)
    return TrackPage(items=found[: query.limit][::-1], more=len(found) > query.limit)


async def _regions(call: Call) -> RegionCollection:
    return await part_of(call.node).regions()


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/locations",
        right="location.report",
        summary="Report up to 1,000 fixes; safe to repeat",
        request=ReportLocations,
        response=ReportAnswer,
        handler=_report,
    ),
    Route(
        method="GET",
        path="/locations",
        right="location.read",
        summary="The last location of every unit that the caller may see",
        query=LocationListing,
        response=LocationPage,
        handler=_locations,
    ),
    Route(
        method="GET",
        path="/units/nearest",
        right="location.read",
        summary="The units nearest to a point, with distance and age",
        query=NearestQuery,
        response=NearestPage,
        handler=_nearest,
    ),
    Route(
        method="GET",
        path="/units/{id}/track",
        right="location.read",
        summary="Where a unit was: its thinned track",
        query=TrackQuery,
        response=TrackPage,
        handler=_track,
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/regions",
        right="registry.read",
        summary="Provinces, cities and counties as GeoJSON",
        response=RegionCollection,
        handler=_regions,
    ),
)

VISIBLE: dict[str, Visible] = {LOCATION.name: Visible(right="location.read", scope=scope)}
