"""A fence: an area with rules, standing or bound to an incident, and the crossings that units made.

Pure. The geometry is `geo.shape`'s, the watching `geo.fence`'s; here is who may draw one and what a crossing means.
Invariants: a fence that was drawn can be watched; a crossing is one entry, written in the transaction that stores the
state it follows from, so never twice.
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, convert, field, structs
from msgspec.structs import replace

from command.base.area import checked
from command.base.entry import Draft, Written
from command.base.errors import Conflict, Rejected
from command.base.naming import bound, bound_to
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import (
    Geometry,
    Id,
    Instant,
    Latitude,
    Longitude,
    Name,
    Seconds,
    ShortText,
    Struct,
    Value,
    Version,
    fresh,
    need,
)
from command.domain import incident as incidents
from command.domain.incident import INCIDENT
from command.domain.registry import ORGANISATION, UNIT
from geo import fence as geo_fence
from geo import shape
from geo.errors import GeoError
from geo.window import Window

RULES_MAX = 6
UNITS_MAX = 500


Minute = Annotated[int, Meta(ge=0, le=1440)]
Days = Annotated[list[Annotated[int, Meta(ge=0, le=6)]], Meta(min_length=1, max_length=7)]
Offset = Annotated[int, Meta(ge=-840, le=840)]


class Rule(StrEnum):
    """What a fence tells of. LOST: silence of a unit that is inside; it stays in the fence's list, marked by the entry."""

    ENTER = "enter"
    EXIT = "exit"
    INSIDE = "inside"
    DWELL = "dwell"
    ABSENT = "absent"
    LOST = "lost"


RULES_DEFAULT = (Rule.ENTER, Rule.EXIT, Rule.LOST)


Rules = Annotated[list[Rule], Meta(min_length=1, max_length=RULES_MAX)]
Units = Annotated[list[Id], Meta(max_length=UNITS_MAX)]
Buffer = Annotated[float, Meta(ge=0, le=10_000)]


class TimeWindow(Value, frozen=True, kw_only=True):
    """When a fence is on: from `from_at` until before `to_at` (null: open), and within that daily. `daily_min` is the first
    minute of the local day and the one after the last; [1320, 360] runs over midnight and belongs to the day it began. `days`:
    0 Monday to 6 Sunday."""

    from_at: Instant | None = None
    to_at: Instant | None = None
    daily_min: tuple[Minute, Minute] | None = None
    days: Days = field(default_factory=lambda: list(range(7)))
    utc_offset_min: Offset = 480


Windows = Annotated[list[TimeWindow], Meta(max_length=geo_fence.WINDOWS_MAX)]


WATCHED = ("geometry", "rules", "units", "exit_buffer_m", "dwell_s", "lost_s", "windows")
"""The fields of a fence that the watching depends on."""


class Fence(Row, frozen=True, kw_only=True):
    """`inside` are the ids of units that are in it now; `notes` what was repaired when it was drawn; `units` whom it
    watches (empty: everybody). `dwell_s` 0 means the default of ten minutes; rule `absent` waits as long. `lost_s` is the
    silence that rule `lost` tells of, 0 the default of ten minutes. `windows`: when it is on (empty: always)."""

    name: ShortText
    geometry: Geometry
    notes: list[Geometry] = []
    rules: list[Rule]
    organisation: Id
    incident: Id | None = None
    units: list[Id] = []
    exit_buffer_m: float = 20.0
    dwell_s: int = 0
    lost_s: int = 0
    windows: list[TimeWindow] = []
    active: bool = True
    inside: list[Id] = []
    drawn_at: Instant

    @property
    def subject(self) -> str:
        return f"incident/{self.incident}" if self.incident else f"fence/{self.id}"


def _topics(row: Fence) -> tuple[str, ...]:
    return ("picture", f"incident/{row.incident}") if row.incident else ("picture",)


FENCE = Table(name="fence", row=Fence, index=("incident", "organisation", "active"), topics=_topics)


class DrawFence(Struct, frozen=True, kw_only=True):
    """A new fence: bound to an incident when `incident` is given, else standing. Rule `absent` needs `units`."""

    name: Name
    geometry: Geometry
    rules: Rules = field(default_factory=lambda: list(RULES_DEFAULT))
    incident: Id | None = None
    units: Units = []
    exit_buffer_m: Buffer = 20.0
    dwell_s: Seconds = 0
    lost_s: Seconds = 0
    windows: Windows = []


class EditFence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: Id
    version: Version
    name: Name | UnsetType = UNSET
    geometry: Geometry | UnsetType = UNSET
    rules: Rules | UnsetType = UNSET
    units: Units | UnsetType = UNSET
    exit_buffer_m: Buffer | UnsetType = UNSET
    dwell_s: Seconds | UnsetType = UNSET
    lost_s: Seconds | UnsetType = UNSET
    windows: Windows | UnsetType = UNSET


class RemoveFence(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version


class Crossing(Value, frozen=True, kw_only=True):
    """What the watching saw (`geo.fence.Crossing`). `at` is when it happened, never the time of arrival; `seen_at` the
    instant of the fix that settled it. `crossed`: inferred from the way between two fixes, the unit is not in the fence.
    `appeared`: it was inside from the first that we know of."""

    fence: Id
    unit: Id
    event: Rule
    at: Instant
    seen_at: Instant
    lon: Longitude
    lat: Latitude
    crossed: bool = False
    appeared: bool = False


def scope(row: Fence) -> Scope:
    return Scope(organisation=row.organisation)


def fence_draft(
    context: Context,
    *,
    name: str,
    geometry: Geometry,
    notes: list[Geometry],
    rules: list[Rule],
    organisation: str,
    incident: str | None,
    units: list[str] | None = None,
    exit_buffer_m: float = 20.0,
    dwell_s: int = 0,
    lost_s: int = 0,
    windows: list[TimeWindow] | None = None,
) -> tuple[str, Draft]:
    """A new fence's id and entry; a plan draws its fence through this too. `geometry` must be canonical already.

    Raises `Rejected` for one that can't be watched.
    """
    key = context.bound_id(f"incident/{incident}" if incident else "fence")
    watching: dict[str, Any] = {
        "geometry": geometry,
        "rules": rules,
        "units": units or [],
        "exit_buffer_m": exit_buffer_m,
        "dwell_s": dwell_s,
        "lost_s": lost_s,
        "windows": windows or [],
    }
    _check(key, **watching)
    body = {"fence": key, "notes": notes, "organisation": organisation, "incident": incident, **watching}
    subject = f"incident/{incident}" if incident else f"fence/{key}"
    return key, Draft(subject=subject, kind="fence.drawn", body=body, private={"name": name})


def watched(row: Fence) -> geo_fence.Fence:
    """The fence as the engine watches it. Raises `GeoError` for one of an earlier version that no longer can be."""
    return _watched(row.id, **{name: getattr(row, name) for name in WATCHED})


def _watched(
    key: str,
    *,
    geometry: Geometry,
    rules: list[Rule],
    units: list[str],
    exit_buffer_m: float,
    dwell_s: int,
    lost_s: int,
    windows: list[TimeWindow],
) -> geo_fence.Fence:
    return geo_fence.Fence(
        id=key,
        geometry=shape.parse(geometry, allow=shape.AREAS).geometry,
        rules=frozenset(geo_fence.Kind(rule) for rule in rules),
        units=frozenset(units) or None,
        exit_buffer_m=exit_buffer_m,
        dwell_s=float(dwell_s or geo_fence.DWELL_S),
        absent_s=float(dwell_s or geo_fence.ABSENT_S),
        lost_s=float(lost_s or geo_fence.LOST_S),
        windows=tuple(_window(one) for one in windows),
    )


def _window(one: TimeWindow) -> Window:
    return Window(**{**structs.asdict(one), "days": frozenset(one.days)})


def _check(key: str, **watching: Any) -> None:
    try:
        _watched(key, **watching)
    except GeoError as error:
        raise Rejected(error.code, error.hint, **error.details) from None


def decide_draw(rows: Rows, request: DrawFence, context: Context) -> Decision:
    if request.incident is not None:
        incident = need(rows, INCIDENT, request.incident)
        organisation = incident.organisation
        context.allow("fence.edit", incidents.scope(incident))
    else:
        organisation = context.actor.organisation if context.actor is not None else ""
        need(rows, ORGANISATION, organisation)
        context.allow("fence.edit", Scope(organisation=organisation))
    for unit in request.units:
        need(rows, UNIT, unit)
    geometry, notes = checked(request.geometry)
    key, draft = fence_draft(
        context,
        name=request.name,
        geometry=geometry,
        notes=notes,
        rules=request.rules,
        organisation=organisation,
        incident=request.incident,
        units=request.units,
        exit_buffer_m=request.exit_buffer_m,
        dwell_s=request.dwell_s,
        lost_s=request.lost_s,
        windows=request.windows,
    )
    return Decision(drafts=[draft], id=key, result={"notes": notes} if notes else {})


def decide_edit(rows: Rows, request: EditFence, context: Context) -> Decision:
    fence = need(rows, FENCE, request.id)
    context.allow("fence.edit", scope(fence))
    fresh(fence, request.version, request)
    _here(rows, fence, context)
    if not fence.active:
        raise Conflict("fence.removed", "The fence was removed; draw a new one.")
    body: dict[str, Any] = {"fence": fence.id}
    private: dict[str, Any] = {}
    if request.geometry is not UNSET:
        body["geometry"], body["notes"] = checked(request.geometry)
    for name in WATCHED[1:]:
        if getattr(request, name) is not UNSET:
            body[name] = getattr(request, name)
    for unit in body.get("units", ()):
        need(rows, UNIT, unit)
    after = {name: body.get(name, getattr(fence, name)) for name in WATCHED}
    _check(fence.id, **after)
    if request.name is not UNSET:
        private["name"] = request.name
    return Decision(
        drafts=[Draft(subject=fence.subject, kind="fence.edited", body=body, private=private or None)], id=fence.id
    )


def decide_remove(rows: Rows, request: RemoveFence, context: Context) -> Decision:
    fence = need(rows, FENCE, request.id)
    context.allow("fence.edit", scope(fence))
    fresh(fence, request.version, request)
    _here(rows, fence, context)
    if not fence.active:
        return Decision(id=fence.id)
    return Decision(drafts=[Draft(subject=fence.subject, kind="fence.removed", body={"fence": fence.id})], id=fence.id)


def _may(rows: Rows, fence: Fence, origin: str) -> bool:
    """Whether a node may change a fence: the one that drew it, and who owns the incident."""
    incident = rows.get(INCIDENT, fence.incident) if fence.incident is not None else None
    owner = incident is not None and incident.owner == origin
    return owner or bound_to(fence.id, origin, "fence" if fence.incident is None else fence.subject)


def _here(rows: Rows, fence: Fence, context: Context) -> None:
    if not _may(rows, fence, context.node):
        hint = "Another node drew this fence; change it there, or where the incident is owned."
        raise Conflict("fence.elsewhere", hint)


def crossing_draft(rows: Rows, crossing: Crossing) -> Draft | None:
    """The entry of a crossing: in the incident's stream when the fence is bound to one, so that its timeline says so;
    in the fence's own once the incident has ended.

    None when nobody waits for it any more: the fence was removed or the unit retired meanwhile.
    """
    fence, unit = rows.get(FENCE, crossing.fence), rows.get(UNIT, crossing.unit)
    if fence is None or not fence.active or unit is None or unit.retired:
        return None
    incident = rows.get(INCIDENT, fence.incident) if fence.incident is not None else None
    subject = fence.subject if incident is not None and incident.open else f"fence/{fence.id}"
    return Draft(subject=subject, kind="fence.crossed", body=structs.asdict(crossing))


def _drawn(rows: Editing, written: Written) -> None:
    body = written.entry.body
    if not bound(body["fence"], written.entry):
        return
    fence = Fence(
        id=body["fence"],
        name=written.secrets.get("name", ""),
        geometry=body["geometry"],
        notes=body["notes"],
        rules=[Rule(rule) for rule in body["rules"]],
        organisation=body["organisation"],
        incident=body["incident"],
        units=body.get("units", []),
        exit_buffer_m=body["exit_buffer_m"],
        dwell_s=body["dwell_s"],
        lost_s=body.get("lost_s", 0),
        windows=_windows(body),
        drawn_at=written.entry.at,
    )
    rows.add(FENCE, fence)


def _windows(body: dict[str, Any]) -> list[TimeWindow]:
    return convert(body.get("windows", []), list[TimeWindow])


def _edited(rows: Editing, written: Written) -> None:
    fence = rows.get(FENCE, written.entry.body["fence"])
    if fence is None or not _may(rows, fence, written.entry.origin):
        return
    body = written.entry.body
    plain = ("geometry", "notes", "units", "exit_buffer_m", "dwell_s", "lost_s")
    changes: dict[str, Any] = {name: body[name] for name in plain if name in body}
    if "windows" in body:
        changes["windows"] = _windows(body)
    if "rules" in body:
        changes["rules"] = [Rule(rule) for rule in body["rules"]]
    if "name" in written.secrets:
        changes["name"] = written.secrets["name"]
    rows.put(FENCE, replace(fence, version=fence.version + 1, **changes))


def _removed(rows: Editing, written: Written) -> None:
    fence = rows.get(FENCE, written.entry.body["fence"])
    if fence is not None and _may(rows, fence, written.entry.origin):
        rows.put(FENCE, replace(fence, version=fence.version + 1, active=False, inside=[]))


def _crossed(rows: Editing, written: Written) -> None:
    body = written.entry.body
    fence = rows.get(FENCE, body["fence"])
    if fence is None or body["crossed"]:
        return
    inside = set(fence.inside)
    if body["event"] in (Rule.ENTER, Rule.INSIDE):
        inside.add(body["unit"])
    elif body["event"] in (Rule.EXIT, Rule.ABSENT):
        inside.discard(body["unit"])
    if inside != set(fence.inside):
        rows.put(FENCE, replace(fence, inside=sorted(inside)))


def _unit_saved(rows: Editing, written: Written) -> None:
    """A unit that no longer exists is in no fence."""
    unit = written.entry.body["unit"]
    if written.entry.body["retired"]:
        for fence in rows.where(FENCE, active=True):
            if unit in fence.inside:
                rows.put(FENCE, replace(fence, inside=[one for one in fence.inside if one != unit]))


TABLES = (FENCE,)
PROJECTORS = {
    "fence.drawn": _drawn,
    "fence.edited": _edited,
    "fence.removed": _removed,
    "fence.crossed": _crossed,
    "unit.saved": _unit_saved,
}
DECIDERS = {DrawFence: decide_draw, EditFence: decide_edit, RemoveFence: decide_remove}
