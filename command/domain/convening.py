"""Convening: a meeting is called for a time, changed, called off or begun early; who is invited, and how they are told.

Pure. Notices are `notice`'s, their words `invitation`'s: this only issues them. Invariant: whoever is invited is told of every
change of the title or the hour, and whoever is invited no more is told that too, unless the author says that nobody is.
"""

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base import naming
from command.base.entry import Draft
from command.base.errors import Conflict, Rejected
from command.base.projection import Context, Decider, Decision, Rows
from command.base.rights import Scope
from command.base.schema import Id, Instant, Name, Seconds, Struct, Text, Urgency, Version, fresh, need
from command.base.timer import HANDLERS, Timer
from command.domain import incident as incidents
from command.domain.incident import INCIDENT
from command.domain.invitation import texts
from command.domain.nodes import HOME, line, node_of
from command.domain.notice import NoticeKind, Recipients, notice_draft
from command.domain.registry import ACCOUNT, GROUP, ORGANISATION, PERSON, on_duty
from command.domain.room import room_link
from command.domain.schedule import SCHEDULE, Schedule, State, Step, row_of, step

INVITED_MAX = 200
LISTS_MAX = 50
SECOND = 1_000_000
LONGEST_US = 7 * 24 * 3600 * SECOND
PAST_US = 300 * SECOND
"""A form that was filled in slowly is still sent."""

Persons = Annotated[list[Id], Meta(max_length=INVITED_MAX)]
Lists = Annotated[list[Id], Meta(max_length=LISTS_MAX)]
Offset = Annotated[int, Meta(ge=-840, le=840)]
Words = Callable[[str, str], None]


class ScheduleMeeting(Struct, frozen=True, kw_only=True):
    """`organisation` is the incident's, else the author's own, unless said; `chair` an account, the author's own when left
    out. `on_duty` names organisations: whoever is on duty there when it begins is invited. With `notify` they are told."""

    title: Name
    agenda: Text = ""
    organisation: Id | None = None
    incident: Id | None = None
    chair: Id | None = None
    starts_at: Instant
    ends_at: Instant
    persons: Persons = []
    groups: Lists = []
    on_duty: Lists = []
    notify: bool = True
    remind_before_s: Seconds | None = 900
    utc_offset_min: Offset = 480


class EditMeeting(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: Id
    version: Version
    title: Name | UnsetType = UNSET
    agenda: Text | UnsetType = UNSET
    chair: Id | UnsetType = UNSET
    starts_at: Instant | UnsetType = UNSET
    ends_at: Instant | UnsetType = UNSET
    persons: Persons | UnsetType = UNSET
    groups: Lists | UnsetType = UNSET
    on_duty: Lists | UnsetType = UNSET
    remind_before_s: Seconds | UnsetType | None = UNSET
    notify: bool = True


class CancelMeeting(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version
    reason: Text = ""
    notify: bool = True


class BeginMeeting(Struct, frozen=True, kw_only=True):
    """Open the room before the time."""

    id: Id


def _own(row: Schedule) -> Scope:
    """Where it stands for those who may change it: being invited changes nothing."""
    return Scope(organisation=row.organisation, owner=row.chair)


def invited(rows: Rows, persons: list[str], groups: list[str], organisations: list[str], at: int) -> list[str]:
    """Everybody once. Raises `Missing` for a list that isn't there, `Rejected` for more than INVITED_MAX."""
    found = dict.fromkeys(need(rows, PERSON, key).id for key in persons)
    for key in groups:
        found |= dict.fromkeys(need(rows, GROUP, key).persons)
    for key in organisations:
        found |= dict.fromkeys(shift.person for shift in on_duty(rows, need(rows, ORGANISATION, key).id, at))
    if len(found) > INVITED_MAX:
        raise Rejected("meeting.invited_too_many", f"A meeting has at most {INVITED_MAX} invited people.")
    return list(found)


def seats(rows: Rows, people: list[str], organisations: list[str], here: str) -> list[str]:
    """The nodes whose people these are. Somebody of an organisation without a seat of its own belongs to the node that
    registered them, if that stands below the seat which answers for it."""
    found = {node_of(rows, key, here) for key in organisations}
    for key in people:
        person, home = rows.get(PERSON, key), rows.get(HOME, f"person/{key}")
        seat = here if person is None else node_of(rows, person.organisation, here)
        found.add(home.node if home is not None and seat in line(rows, home.node) else seat)
    return sorted(found)


def _here(row: Schedule, context: Context) -> None:
    """As `room.at_home`, before there is a room."""
    if row.node not in ("", context.node):
        hint = "Another node hosts this meeting; change it there."
        raise Conflict("room.elsewhere", hint, node=row.node, link=row.link)


def _check(title: str, starts_at: int, ends_at: int) -> None:
    if any(c < " " for c in title):
        raise Rejected("meeting.title", "The title is one line of text.")
    if not starts_at < ends_at <= starts_at + LONGEST_US:
        raise Rejected("meeting.times", "A meeting ends after it begins, and within a week.")


def decide_schedule(rows: Rows, request: ScheduleMeeting, context: Context, link: str, words: Words) -> Decision:
    incident = need(rows, INCIDENT, request.incident) if request.incident else None
    own = context.actor.organisation if context.actor is not None else ""
    where = incidents.scope(incident) if incident is not None else Scope(organisation=request.organisation or own)
    context.allow("room.open", where)
    if request.organisation is not None:
        context.allow("room.open", Scope(organisation=request.organisation))
    if request.notify:
        context.allow("notice.draft", where)
    if incident is not None and not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it before calling a meeting.")
    organisation = request.organisation or (incident.organisation if incident is not None else own)
    need(rows, ORGANISATION, organisation)
    _check(request.title, request.starts_at, request.ends_at)
    if request.starts_at < context.now - PAST_US:
        raise Rejected("meeting.past", "A meeting begins in the future.")
    chair = need(rows, ACCOUNT, request.chair).id if request.chair else context.by.account
    key = context.bound_id(naming.ROOM)
    names = ("incident", "starts_at", "ends_at", "persons", "groups", "on_duty", "remind_before_s", "utc_offset_min")
    body: dict[str, Any] = {name: getattr(request, name) for name in names}
    body |= {
        "room": key,
        "organisation": organisation,
        "chair": chair,
        "people": invited(rows, request.persons, request.groups, request.on_duty, request.starts_at),
        "link": room_link(link, key),
        "exercise": incident is not None and incident.exercise,
    }
    body["nodes"] = seats(rows, body["people"], request.on_duty, context.node)
    private = {"title": request.title, "agenda": request.agenda}
    subject = f"meeting/{key}"
    drafts = [Draft(subject=subject, kind="meeting.scheduled", body=body, private=private)]
    if request.notify:
        row = row_of(body, private, context.by.account, context.now, context.node)
        drafts += _tell(context, row, row.people, "invited", words)
    return Decision(drafts=drafts, id=key)


def decide_edit(rows: Rows, request: EditMeeting, context: Context, words: Words) -> Decision:
    row = need(rows, SCHEDULE, request.id)
    context.allow("room.chair", _own(row))
    _here(row, context)
    fresh(row, request.version, request)
    if row.state is not State.PLANNED:
        raise Conflict("meeting.begun", "The meeting has begun or is over.", state=row.state)
    changes = {
        name: getattr(request, name)
        for name in ("chair", "starts_at", "ends_at", "persons", "groups", "on_duty", "remind_before_s")
        if getattr(request, name) is not UNSET
    }
    private = {name: getattr(request, name) for name in ("title", "agenda") if getattr(request, name) is not UNSET}
    after = replace(row, **changes, **private)
    _check(after.title, after.starts_at, after.ends_at)
    if after.chair != row.chair:
        need(rows, ACCOUNT, after.chair)
    changes["people"] = invited(rows, after.persons, after.groups, after.on_duty, after.starts_at)
    changes["nodes"] = seats(rows, changes["people"], after.on_duty, context.node)
    after = replace(after, people=changes["people"])
    drafts = [
        Draft(subject=row.subject, kind="meeting.edited", body={"room": row.id, **changes}, private=private or None)
    ]
    if request.notify:
        context.allow("notice.draft", Scope(organisation=row.organisation))
        told = {"title", "starts_at"} & {
            name for name in after.__struct_fields__ if getattr(after, name) != getattr(row, name)
        }
        fresh_people = [key for key in after.people if key not in row.people]
        stay = [key for key in after.people if key in row.people] if told else []
        drafts += _tell(context, after, fresh_people, "invited", words)
        drafts += _tell(context, after, stay, "changed", words)
        drafts += _tell(context, row, [key for key in row.people if key not in after.people], "cancelled", words)
    return Decision(drafts=drafts, id=row.id)


def decide_cancel(rows: Rows, request: CancelMeeting, context: Context, words: Words) -> Decision:
    row = need(rows, SCHEDULE, request.id)
    context.allow("room.chair", _own(row))
    _here(row, context)
    fresh(row, request.version, request)
    step(row.state, Step.CANCEL)
    private = {"reason": request.reason} if request.reason else None
    drafts = [Draft(subject=row.subject, kind="meeting.cancelled", body={"room": row.id}, private=private)]
    if request.notify:
        context.allow("notice.draft", Scope(organisation=row.organisation))
        drafts += _tell(context, row, row.people, "cancelled", words)
    return Decision(drafts=drafts, id=row.id)


def decide_begin(rows: Rows, request: BeginMeeting, context: Context) -> Decision:
    row = need(rows, SCHEDULE, request.id)
    context.allow("room.chair", _own(row))
    _here(row, context)
    if row.state is State.OPENED:
        return Decision(id=row.id)
    step(row.state, Step.OPEN)
    return Decision(drafts=_opening(rows, row), id=row.id)


def _opening(rows: Rows, row: Schedule) -> list[Draft]:
    """The room of a scheduled meeting, in the meeting's own stream: it goes to the invited and not to everybody of an
    incident. An open incident's timeline says that it was opened, and no more."""
    incident = rows.get(INCIDENT, row.incident) if row.incident else None
    if incident is not None and not incident.open:
        incident = None
    body = {
        "room": row.id,
        "chair": row.chair,
        "organisation": row.organisation,
        "parties": row.parties,
        "invited": row.people,
        "link": row.link,
        **({"incident": incident.id} if incident is not None else {}),
    }
    drafts = [Draft(subject=row.subject, kind="room.opened", body=body, private={"title": row.title})]
    if incident is not None:
        drafts.append(Draft(subject=incident.subject, kind="meeting.opened", body={"room": row.id}))
    return drafts


# -- telling


def _tell(context: Context, row: Schedule, people: list[str], what: str, words: Words) -> list[Draft]:
    """The notice to `people`; none when there is nobody. Raises as `words` for a text that may not leave."""
    if not people:
        return []
    zh, en = texts(what, row.title, row.starts_at, row.utc_offset_min, row.link)
    words(zh, en)
    _, draft = notice_draft(
        context,
        subject=None,
        kind=NoticeKind.MEETING,
        text_zh=zh,
        text_en=en,
        recipients=Recipients(persons=people),
        urgency=Urgency.NORMAL,
        organisation=row.organisation,
        room=row.id,
        exercise=row.exercise,
    )
    return [draft]


def _passed(zh: str, en: str) -> None:
    """A text whose words were looked at when the meeting was called."""


# -- timers


def on_remind(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    """Tell everybody once more. Whoever is on duty now at the organisations that were named is told too."""
    row = rows.get(SCHEDULE, timer.about)
    if row is None or row.state not in (State.PLANNED, State.OPENED):
        return []
    duty = [shift.person for key in row.on_duty for shift in on_duty(rows, key, row.starts_at)]
    people = list(dict.fromkeys([*row.people, *duty]))[:INVITED_MAX]
    reminded = Draft(subject=row.subject, kind="meeting.reminded", body={"room": row.id, "people": people})
    return [reminded, *_tell(context, row, people, "reminded", _passed)]


def on_open(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    """It begins soon: the room opens by itself."""
    row = rows.get(SCHEDULE, timer.about)
    return _opening(rows, row) if row is not None and row.state is State.PLANNED else []


HANDLERS |= {"meeting.remind": on_remind, "meeting.open": on_open}


def deciders(link: str, words: Words) -> dict[type, Decider]:
    """The deciders of a node that is reached at `link` ("" when it does not know), whose texts must pass `words`."""
    return {
        ScheduleMeeting: lambda rows, request, context: decide_schedule(rows, request, context, link, words),
        EditMeeting: lambda rows, request, context: decide_edit(rows, request, context, words),
        CancelMeeting: lambda rows, request, context: decide_cancel(rows, request, context, words),
        BeginMeeting: decide_begin,
    }
