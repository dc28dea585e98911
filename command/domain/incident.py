"""An incident: from the report to the close, and everything that is said about it on the way.

Pure. The state machine is the table `STEPS`: an illegal step is a missing key and becomes one `Conflict` that names state
and step. Invariant: free text, names and numbers stand in the private part of entries; codes, times and geometry in the body.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base import area
from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import (
    Casualties,
    Category,
    Geometry,
    Id,
    Instant,
    Level,
    Name,
    Place,
    ShortText,
    SomeText,
    Struct,
    Text,
    Value,
    Version,
    fresh,
    need,
)
from command.domain.registry import ORGANISATION
from command.tree.claim import incident_id

ATTACHMENTS_MAX = 20


class State(StrEnum):
    REPORTED = "reported"
    VERIFIED = "verified"
    RESPONDING = "responding"
    STABLE = "stable"
    CLOSED = "closed"
    DISMISSED = "dismissed"


class Step(StrEnum):
    VERIFY = "verify"
    DISMISS = "dismiss"
    RESPOND = "respond"
    STABILISE = "stabilise"
    CLOSE = "close"
    REOPEN = "reopen"


STEPS: dict[tuple[State, Step], State] = {
    (State.REPORTED, Step.VERIFY): State.VERIFIED,
    (State.REPORTED, Step.DISMISS): State.DISMISSED,
    (State.REPORTED, Step.RESPOND): State.RESPONDING,  # lives before paperwork
    (State.VERIFIED, Step.RESPOND): State.RESPONDING,
    (State.VERIFIED, Step.CLOSE): State.CLOSED,
    (State.RESPONDING, Step.STABILISE): State.STABLE,
    (State.STABLE, Step.RESPOND): State.RESPONDING,
    (State.STABLE, Step.CLOSE): State.CLOSED,
    (State.CLOSED, Step.REOPEN): State.RESPONDING,
    (State.DISMISSED, Step.REOPEN): State.REPORTED,
}
ENDED = (State.CLOSED, State.DISMISSED)


def step(state: State, action: Step) -> State:
    """The next state. Raises `Conflict` naming both when the table has no such step."""
    try:
        return STEPS[state, action]
    except KeyError:
        raise Conflict(
            "incident.step", f"An incident that is {state} can't {action}.", state=state, step=action
        ) from None


class SourceKind(StrEnum):
    """Who told us."""

    PHONE = "phone"
    STAFF = "staff"
    FIELD = "field"
    SUBORDINATE = "subordinate"
    SENSOR = "sensor"
    OTHER = "other"


class Source(Value, frozen=True, kw_only=True):
    kind: SourceKind
    name: ShortText = ""
    phone: ShortText = ""


class SubReportKind(StrEnum):
    """初报 续报 核报 终报."""

    FIRST = "first"
    FOLLOW_UP = "follow_up"
    VERIFICATION = "verification"
    FINAL = "final"


class Channel(StrEnum):
    """How a report goes upward: spoken on the telephone, or in writing."""

    PHONE = "phone"
    WRITING = "writing"


class Incident(Row, frozen=True, kw_only=True):
    """`organisation` owns it; `parties` are the ids of everyone bound to it. `owner` is the node that decides, `claim` the hash
    of the entry by which it came to that, `contested` says that another claim lost to it."""

    title: ShortText
    description: Text = ""
    category: Category
    level: Level
    state: State
    open: bool = True
    exercise: bool = False
    organisation: Id
    parties: list[Id] = []
    claim: str
    owner: str = ""
    contested: bool = False
    place: Place
    area: Geometry | None = None
    source: Source
    casualties: Casualties = Casualties()
    occurred_at: Instant
    reported_at: Instant
    updated_at: Instant
    ended_at: Instant | None = None
    sub_reports: int = 0
    notes: int = 0

    @property
    def subject(self) -> str:
        return f"incident/{self.id}"


INCIDENT = Table(
    name="incident",
    row=Incident,
    index=("open", "organisation", "category", "level", "state", "reported_at", "contested"),
    topics=lambda row: ("picture", f"incident/{row.id}"),
    revision=2,  # `updated_at` is the newest instant, and a word stands after its order
)


class Alarm(Row, frozen=True, kw_only=True):
    """Something that must be seen: it sounds on screens until somebody acknowledges it."""

    kind: str
    incident: Id
    order: Id | None = None
    report: Id | None = None
    organisation: Id
    raised_at: Instant
    acknowledged_at: Instant | None = None
    acknowledged_by: Id | None = None


ALARM = Table(
    name="alarm",
    row=Alarm,
    index=("incident", "organisation", "acknowledged_at"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)


class ReportIncident(Struct, frozen=True, kw_only=True):
    """A new incident. `organisation` is the reporter's own unless said otherwise."""

    category: Category
    level: Level
    title: Name
    place: Place
    description: Text = ""
    source: Source = Source(kind=SourceKind.STAFF)
    area: Geometry | None = None
    occurred_at: Instant | None = None
    casualties: Casualties = Casualties()
    organisation: Id | None = None
    exercise: bool = False


class EditIncident(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Change what is known. Fields left out stay; `area: null` removes the area."""

    id: Id
    version: Version
    title: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    category: Category | UnsetType = UNSET
    place: Place | UnsetType = UNSET
    area: Geometry | UnsetType | None = UNSET
    occurred_at: Instant | UnsetType = UNSET
    casualties: Casualties | UnsetType = UNSET


class StepIncident(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version
    step: Step
    reason: Text = ""


class SetLevel(Struct, frozen=True, kw_only=True):
    """Raise or lower the level, with the reason."""

    id: Id
    version: Version
    level: Level
    reason: SomeText


class SubReport(Struct, frozen=True, kw_only=True):
    """A report upward, made by `channel` to the organisation `to`, or to all that are owed one."""

    id: Id
    kind: SubReportKind
    text: SomeText
    casualties: Casualties | None = None
    channel: Channel = Channel.WRITING
    to: Id | None = None


class AddNote(Struct, frozen=True, kw_only=True):
    """A note on the timeline; `attachments` are hashes of uploaded files."""

    id: Id
    text: Text = ""
    attachments: Annotated[
        list[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]], Meta(max_length=ATTACHMENTS_MAX)
    ] = []


class AcknowledgeAlarm(Struct, frozen=True, kw_only=True):
    id: Id


def scope(row: Incident) -> Scope:
    return Scope(organisation=row.organisation, parties=tuple(row.parties))


def decide_report(rows: Rows, request: ReportIncident, context: Context) -> Decision:
    organisation = request.organisation or (context.actor.organisation if context.actor else "")
    need(rows, ORGANISATION, organisation)
    context.allow("incident.report", Scope(organisation=organisation))
    geometry, notes = area.checked(request.area) if request.area is not None else (None, [])
    key = incident_id(context.new_id(), context.node)
    body: dict[str, Any] = {
        "category": request.category,
        "level": request.level,
        "organisation": organisation,
        "lon": request.place.lon,
        "lat": request.place.lat,
        "area": geometry,
        "area_notes": notes,
        "source": request.source.kind,
        "casualties": msgspec.to_builtins(request.casualties),
        "occurred_at": context.now if request.occurred_at is None else request.occurred_at,
        "exercise": request.exercise,
    }
    private = {
        "title": request.title,
        "description": request.description,
        "address": request.place.address,
        "source_name": request.source.name,
        "source_phone": request.source.phone,
    }
    draft = Draft(subject=f"incident/{key}", kind="incident.reported", body=body, private=private)
    return Decision(drafts=[draft], id=key, result={"area_notes": notes} if notes else {})


def decide_edit(rows: Rows, request: EditIncident, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.id)
    context.allow("incident.edit", scope(incident))
    fresh(incident, request.version, request)
    body: dict[str, Any] = {}
    private: dict[str, Any] = {}
    if request.area is not UNSET:
        body["area"], body["area_notes"] = area.checked(request.area) if request.area is not None else (None, [])
    if request.place is not UNSET:
        body |= {"lon": request.place.lon, "lat": request.place.lat}
        private["address"] = request.place.address
    for name in ("category", "occurred_at"):
        if getattr(request, name) is not UNSET:
            body[name] = getattr(request, name)
    if request.casualties is not UNSET:
        body["casualties"] = msgspec.to_builtins(request.casualties)
    for name in ("title", "description"):
        if getattr(request, name) is not UNSET:
            private[name] = getattr(request, name)
    if not body and not private:
        return Decision(id=incident.id)
    return _one(incident, "incident.edited", body, private)


def decide_step(rows: Rows, request: StepIncident, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.id)
    right = "incident.close" if request.step in (Step.CLOSE, Step.REOPEN) else "incident.edit"
    context.allow(right, scope(incident))
    fresh(incident, request.version, request)
    to = step(incident.state, request.step)
    private = {"reason": request.reason} if request.reason else {}
    return _one(incident, "incident.stepped", {"step": request.step, "to": to}, private)


def decide_level(rows: Rows, request: SetLevel, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.id)
    context.allow("incident.level", scope(incident))
    fresh(incident, request.version, request)
    if incident.state in ENDED:
        raise Conflict("incident.ended", "The incident has ended; reopen it first.")
    body = {"level": request.level, "from": incident.level}
    return _one(incident, "incident.level_set", body, {"reason": request.reason})


def decide_sub_report(rows: Rows, request: SubReport, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.id)
    context.allow("incident.edit", scope(incident))
    body: dict[str, Any] = {"kind": request.kind, "number": incident.sub_reports + 1, "channel": request.channel}
    if request.to is not None:
        body["to"] = need(rows, ORGANISATION, request.to).id
    if request.casualties is not None:
        body["casualties"] = msgspec.to_builtins(request.casualties)
    return _one(incident, "incident.sub_report", body, {"text": request.text})


def decide_note(rows: Rows, request: AddNote, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.id)
    context.allow("incident.note", scope(incident))
    if not request.text and not request.attachments:
        raise Conflict("note.empty", "A note needs a text or an attachment.")
    body = {"attachments": request.attachments} if request.attachments else {}
    return _one(incident, "incident.noted", body, {"text": request.text})


def decide_acknowledge(rows: Rows, request: AcknowledgeAlarm, context: Context) -> Decision:
    alarm = need(rows, ALARM, request.id)
    incident = need(rows, INCIDENT, alarm.incident)
    context.allow("alarm.acknowledge", scope(incident))
    if alarm.acknowledged_at is not None:
        return Decision(id=alarm.id)
    return Decision(
        drafts=[
            Draft(subject=incident.subject, kind="alarm.acknowledged", body={"alarm": alarm.id}, claim=incident.claim)
        ],
        id=alarm.id,
    )


def _one(incident: Incident, kind: str, body: dict[str, Any], private: dict[str, Any] | None = None) -> Decision:
    draft = Draft(subject=incident.subject, kind=kind, body=body, private=private or None, claim=incident.claim)
    return Decision(drafts=[draft], id=incident.id)


def of(rows: Rows, written: Written) -> Incident | None:
    """The incident whose stream this entry stands in."""
    kind, _, key = written.entry.subject.partition("/")
    return rows.get(INCIDENT, key) if kind == "incident" else None


def touch(rows: Editing, incident: Incident, written: Written, **changes: Any) -> None:
    """Put the incident with `changes`, one version on."""
    rows.put(INCIDENT, replace(incident, version=incident.version + 1, updated_at=newest(incident, written), **changes))


def newest(incident: Incident, written: Written) -> int:
    """When something was last added: the same in whatever order entries of several nodes are folded."""
    return max(incident.updated_at, written.entry.at)


def bind(rows: Editing, written: Written, parties: list[str]) -> None:
    """Bind parties to the incident: from now on they may see it."""
    incident = of(rows, written)
    if incident is not None and not set(parties) <= set(incident.parties):
        rows.put(
            INCIDENT,
            replace(incident, parties=sorted({*incident.parties, *parties}), updated_at=newest(incident, written)),
        )


def raise_alarm(rows: Editing, alarm: Alarm) -> None:
    rows.put(ALARM, alarm)


def _reported(rows: Editing, written: Written) -> None:
    entry, secrets = written.entry, written.secrets
    body, key = entry.body, entry.subject.partition("/")[2]
    parties = [entry.by.person] if entry.by.person else []
    incident = Incident(
        id=key,
        title=secrets.get("title", ""),
        description=secrets.get("description", ""),
        category=Category(body["category"]),
        level=Level(body["level"]),
        state=State.REPORTED,
        exercise=body["exercise"],
        organisation=body["organisation"],
        parties=parties,
        claim=written.hash.hex(),
        owner=entry.origin,
        place=Place(lon=body["lon"], lat=body["lat"], address=secrets.get("address", "")),
        area=body["area"],
        source=Source(
            kind=SourceKind(body["source"]), name=secrets.get("source_name", ""), phone=secrets.get("source_phone", "")
        ),
        casualties=msgspec.convert(body["casualties"], Casualties),
        occurred_at=body["occurred_at"],
        reported_at=entry.at,
        updated_at=entry.at,
    )
    rows.add(INCIDENT, incident)
    raise_alarm(
        rows,
        Alarm(
            id=f"incident-{key}",
            kind="incident.new",
            incident=key,
            organisation=incident.organisation,
            raised_at=entry.at,
        ),
    )


def _edited(rows: Editing, written: Written) -> None:
    incident = of(rows, written)
    if incident is None:
        return
    body, secrets = written.entry.body, written.secrets
    changes: dict[str, Any] = {name: body[name] for name in ("area", "occurred_at") if name in body}
    changes |= {name: secrets[name] for name in ("title", "description") if name in secrets}
    if "category" in body:
        changes["category"] = Category(body["category"])
    if "casualties" in body:
        changes["casualties"] = msgspec.convert(body["casualties"], Casualties)
    if "lon" in body:
        changes["place"] = Place(lon=body["lon"], lat=body["lat"], address=secrets.get("address", ""))
    touch(rows, incident, written, **changes)


def _stepped(rows: Editing, written: Written) -> None:
    incident = of(rows, written)
    if incident is None:
        return
    to = State(written.entry.body["to"])
    ended = to in ENDED
    touch(rows, incident, written, state=to, open=not ended, ended_at=written.entry.at if ended else None)


def _level_set(rows: Editing, written: Written) -> None:
    incident = of(rows, written)
    if incident is not None:
        touch(rows, incident, written, level=Level(written.entry.body["level"]))


def _sub_report(rows: Editing, written: Written) -> None:
    incident = of(rows, written)
    if incident is None:
        return
    changes: dict[str, Any] = {"sub_reports": incident.sub_reports + 1}
    if "casualties" in written.entry.body:
        changes["casualties"] = msgspec.convert(written.entry.body["casualties"], Casualties)
    touch(rows, incident, written, **changes)


def _noted(rows: Editing, written: Written) -> None:
    _noted_at_once(rows, [written])


def _noted_at_once(rows: Editing, run: list[Written]) -> None:
    incident = of(rows, run[0])
    if incident is not None:  # a note changes nothing that an edit could overwrite: the version stays
        updated_at = max(newest(incident, written) for written in run)
        rows.put(INCIDENT, replace(incident, notes=incident.notes + len(run), updated_at=updated_at))


def _acknowledged(rows: Editing, written: Written) -> None:
    alarm = rows.get(ALARM, written.entry.body["alarm"])
    if alarm is not None:
        rows.put(
            ALARM, replace(alarm, acknowledged_at=written.entry.at, acknowledged_by=written.entry.by.account, version=2)
        )


TABLES = (INCIDENT, ALARM)
PROJECTORS = {
    "incident.reported": _reported,
    "incident.edited": _edited,
    "incident.stepped": _stepped,
    "incident.level_set": _level_set,
    "incident.sub_report": _sub_report,
    "incident.noted": _noted,
    "alarm.acknowledged": _acknowledged,
}
RUNS = {"incident.noted": _noted_at_once}
DECIDERS = {
    ReportIncident: decide_report,
    EditIncident: decide_edit,
    StepIncident: decide_step,
    SetLevel: decide_level,
    SubReport: decide_sub_report,
    AddNote: decide_note,
    AcknowledgeAlarm: decide_acknowledge,
}
