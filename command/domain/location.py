"""Locations: where each unit is and was, and the pipeline that every reported fix goes through.

Pure. Never an entry in the log (rule 4): kept tables only; what a location *leads to* (a crossing) is an entry, written in
the same transaction. Invariant: a unit's `location` only moves forward in event time, whatever the order of arrival.

The pipeline, in order: sane? (`track.judge`: clock, accuracy, speed) - newer? (`track.judge`: event time) - in which
fences? (`geo.engine`) - worth keeping? (`track.worth_keeping`). `sift` is all of it but the fences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE, Scope
from command.base.schema import Id, Instant, Latitude, Longitude
from command.domain.fence import Crossing, Rule, crossing_draft
from command.domain.registry import Unit
from geo import engine, track
from geo.fence import State
from geo.track import Fix, Trail, Verdict

RECENT_MAX = 20
"""Fixes of a unit that a repetition is recognised by."""
STALE_S = 900.0
"""A location older than this is flagged wherever it is shown."""
KEPT_DAYS = 30
FORGET_AT_ONCE = 1_000

Accuracy = Annotated[float, Meta(ge=0, le=1e8, description="metres; None: the device didn't say")]
Speed = Annotated[float, Meta(ge=0, le=12_000, description="metres per second")]
Heading = Annotated[float, Meta(ge=0, le=360, description="degrees clockwise from north")]
Altitude = Annotated[float, Meta(ge=-12_000, le=1e6, description="metres")]


class Source(StrEnum):
    """How a fix came: from a signed-in person's page, or from a service account (trackers, other systems)."""

    APP = "app"
    SERVICE = "service"


class Reply(StrEnum):
    """What became of a fix: `track.Verdict`, or UNKNOWN when there is no such unit. Only NEW moves the unit on the map;
    LATE goes into the track; nothing else is kept."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"
    FUTURE = "future"
    OLD = "old"
    INACCURATE = "inaccurate"
    TOO_FAST = "too_fast"
    UNKNOWN = "unknown"


TAKEN = frozenset({Reply.NEW, Reply.LATE})


class Location(Row, frozen=True, kw_only=True):
    """The last accepted fix of a unit (`id`). `at` is when it was there by its device, `received_at` when we heard of it;
    `members` are the persons of the unit, who may see it."""

    lon: Longitude
    lat: Latitude
    at: Instant
    received_at: Instant
    accuracy_m: Accuracy | None = None
    speed_mps: Speed | None = None
    heading_deg: Heading | None = None
    altitude_m: Altitude | None = None
    organisation: Id
    members: list[Id] = []
    source: Source


class TrackPoint(Row, frozen=True, kw_only=True):
    """One point of a unit's thinned track; `id` is unit and instant, so that a repeated fix is the same point. `late`: it
    came after newer ones."""

    unit: Id
    at: Instant
    lon: Longitude
    lat: Latitude
    accuracy_m: Accuracy | None = None
    speed_mps: Speed | None = None
    heading_deg: Heading | None = None
    altitude_m: Altitude | None = None
    received_at: Instant
    late: bool = False


class TrailRow(Row, frozen=True, kw_only=True):
    """What the pipeline (`map`) and the engine (`fences`) remember of a unit: two `track.Trail` as lists. They differ
    because a fix may be good enough for the map and too inaccurate for a fence."""

    map: list[Any]
    fences: list[Any]


class FenceState(Row, frozen=True, kw_only=True):
    """The engine's `geo.fence.State` of one unit at one fence, as a list."""

    unit: Id
    fence: Id
    state: list[Any]


LOCATION = Table(name="location", row=Location, kept=True, topics=lambda row: ("picture",))
TRACK = Table(name="track", row=TrackPoint, index=("unit", "at"), kept=True)
TRAIL = Table(name="trail", row=TrailRow, kept=True)
FENCE_STATE = Table(name="fence_state", row=FenceState, index=("unit", "fence"), kept=True)
TABLES: tuple[Table[Any], ...] = (LOCATION, TRACK, TRAIL, FENCE_STATE)
_BY_NAME = {table.name: table for table in TABLES}

Key = tuple[str, str]
"""Table name and row id."""


def scope(row: Location) -> Scope:
    return Scope(organisation=row.organisation, parties=(row.id, *row.members))


def unit_scope(unit: Unit) -> Scope:
    """Where a unit stands for the right to report its location: only its own people are near."""
    return Scope(organisation=unit.organisation, parties=(unit.id, *unit.members))


def pair_key(pair: engine.Pair) -> Key:
    return FENCE_STATE.name, f"{pair[0]}~{pair[1]}"


# -- the pipeline


NOWHERE = Trail()


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a unit between two batches. `trail` and `fences` are stored; after a restart the others begin
    anew, which costs one track point more."""

    trail: Trail = NOWHERE
    fences: Trail = NOWHERE
    kept: Fix | None = None
    late: Fix | None = None
    recent: tuple[tuple[int, float, float], ...] = ()


NOTHING = Memory()


@dataclass(frozen=True, slots=True)
class Sifted:
    """A batch after the pipeline. `verdicts`: one for each fix, as they came; `newest`: the new place of each unit that
    has one; `points`: (fix, late) worth keeping; `watched`: the fixes that the fences shall see; `memories` after it."""

    verdicts: list[Verdict]
    newest: dict[str, Fix] = field(default_factory=dict)
    points: list[tuple[Fix, bool]] = field(default_factory=list)
    watched: list[Fix] = field(default_factory=list)
    memories: dict[str, Memory] = field(default_factory=dict)


UNWATCHED = frozenset({Verdict.FUTURE, Verdict.OLD, Verdict.INACCURATE, Verdict.DUPLICATE})
"""What the fences never see. Late and too fast fixes they judge for themselves, by their own trail."""


def sift(fixes: Sequence[Fix], remembered: Callable[[str], Memory], now: int) -> Sifted:
    """Send fixes of any units in any order through the pipeline. Changes nothing; the caller keeps `memories` once the
    batch is durable."""
    sifted = Sifted([Verdict.NEW] * len(fixes))
    for i in sorted(range(len(fixes)), key=lambda i: fixes[i].at):
        fix = fixes[i]
        before = sifted.memories.get(fix.unit) or remembered(fix.unit)
        trail, verdict = track.judge(before.trail, fix, now)
        if verdict is Verdict.LATE and (fix.at, fix.lon, fix.lat) in before.recent:
            verdict = Verdict.DUPLICATE
        sifted.verdicts[i] = verdict
        if verdict not in UNWATCHED:
            sifted.watched.append(fix)
        after = before
        if verdict is Verdict.NEW:
            after = _newer(before, trail, fix, sifted)
        elif verdict is Verdict.LATE:
            after = _late(before, fix, sifted)
        elif trail is not before.trail:
            after = replace(before, trail=trail)
        if after is not before:
            sifted.memories[fix.unit] = after
    return sifted


def _remember(before: Memory, fix: Fix) -> tuple[tuple[int, float, float], ...]:
    return (*before.recent[1 - RECENT_MAX :], (fix.at, fix.lon, fix.lat))


def _newer(before: Memory, trail: Trail, fix: Fix, sifted: Sifted) -> Memory:
    sifted.newest[fix.unit] = fix
    kept = before.kept
    if track.worth_keeping(kept, fix):
        sifted.points.append((fix, False))
        kept = fix
    return Memory(trail, before.fences, kept, before.late, _remember(before, fix))


def _late(before: Memory, fix: Fix, sifted: Sifted) -> Memory:
    """Late fixes come as backlogs of a phone that was out of reach: each backlog is thinned by itself."""
    late = before.late
    if late is None or fix.at <= late.at or track.worth_keeping(late, fix):
        sifted.points.append((fix, True))
        late = fix
    return Memory(before.trail, before.fences, before.kept, late, _remember(before, fix))


# -- what is written


class RecordFixes(msgspec.Struct, frozen=True, kw_only=True):
    """A batch on its way into the log, sent by the node itself. `forgotten` are rows of these tables to delete, `retired`
    units of which nothing but the track is kept."""

    locations: list[Location] = []
    points: list[TrackPoint] = []
    trails: list[TrailRow] = []
    states: list[FenceState] = []
    forgotten: list[Key] = []
    retired: list[Id] = []
    crossings: list[Crossing] = []


def decide_record(rows: Rows, request: RecordFixes, context: Context) -> Decision:
    """One transaction: locations, track, states, and one entry for each crossing that somebody waits for."""
    context.allow("location.report", NODE)
    drafts = [crossing_draft(rows, crossing) for crossing in request.crossings]
    kept: list[tuple[Table[Any], Row]] = [(LOCATION, row) for row in request.locations]
    kept += [(TRAIL, row) for row in request.trails]
    kept += [(FENCE_STATE, row) for row in request.states]
    dropped: list[tuple[Table[Any], str]] = [(_BY_NAME[name], key) for name, key in request.forgotten]
    for unit in request.retired:
        dropped += [(LOCATION, unit), (TRAIL, unit)]
        dropped += [(FENCE_STATE, row.id) for row in rows.where(FENCE_STATE, unit=unit)]
    # A late point may be a repetition from before a restart: what stands there already stays as it came.
    added: list[tuple[Table[Any], Row]] = [
        (TRACK, row) for row in request.points if not row.late or rows.get(TRACK, row.id) is None
    ]
    drafted = [draft for draft in drafts if draft is not None]
    return Decision(drafts=drafted, kept=kept, added=added, dropped=dropped)


DECIDERS = {RecordFixes: decide_record}


def location_row(fix: Fix, unit: Unit, source: Source, now: int) -> Location:
    return Location(
        id=fix.unit,
        lon=fix.lon,
        lat=fix.lat,
        at=fix.at,
        received_at=now,
        accuracy_m=fix.accuracy_m,
        speed_mps=fix.speed_mps,
        heading_deg=fix.heading_deg,
        altitude_m=fix.altitude_m,
        organisation=unit.organisation,
        members=unit.members,
        source=source,
    )


def point_row(fix: Fix, now: int, *, late: bool) -> TrackPoint:
    return TrackPoint(
        id=f"{fix.unit}.{fix.at}",
        unit=fix.unit,
        at=fix.at,
        lon=fix.lon,
        lat=fix.lat,
        accuracy_m=fix.accuracy_m,
        speed_mps=fix.speed_mps,
        heading_deg=fix.heading_deg,
        altitude_m=fix.altitude_m,
        received_at=now,
        late=late,
    )


def trail_row(unit: str, memory: Memory) -> TrailRow:
    return TrailRow(id=unit, map=list(memory.trail), fences=list(memory.fences))


def state_row(pair: engine.Pair, state: State) -> FenceState:
    return FenceState(id=pair_key(pair)[1], unit=pair[0], fence=pair[1], state=list(state))


def crossings_of(outcome: engine.Outcome) -> list[Crossing]:
    """The engine's crossings in our words, in the order in which they happened."""
    return [
        Crossing(
            fence=found.fence,
            unit=found.unit,
            event=Rule(found.kind),
            at=found.at,
            seen_at=found.seen_at,
            lon=found.lon,
            lat=found.lat,
            crossed=found.crossed,
            appeared=found.appeared,
        )
        for found in outcome.crossings
    ]


def states_of(outcome: engine.Outcome) -> list[FenceState]:
    """The states that must be written."""
    return [state_row(pair, state) for pair, state in outcome.stored.items() if state is not None]


def gone_of(outcome: engine.Outcome) -> list[Key]:
    """The states that must be deleted."""
    return [pair_key(pair) for pair, state in outcome.stored.items() if state is None]
