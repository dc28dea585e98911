"""A meeting: a room is opened and closed, people come and go, the chair mutes or removes somebody.

Pure. The media themselves are `media`'s business; it writes back who joined and left. Invariant: a closed room has no
members, every member's coming and going is an entry, and who was there stands in `attendance`.

A room stands in its incident's stream; one that was called for a time or has no incident, and all control, in the stream
`meeting/ID`. The node that opened it hosts it, and only that node says anything of it.
"""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from command.base import naming
from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Rows
from command.base.schema import Id, Name, Struct, Version, fresh, need
from command.base.timer import disarm
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Incident
from command.domain.room import (
    ATTENDANCE,
    MEETING,
    Attendance,
    Meeting,
    Quality,
    Span,
    admit,
    at_home,
    attendance_id,
    banned,
    control,
    copied,
    held,
    room_link,
    take_chair,
)
from command.domain.room import ROOM as ROOM
from command.domain.room import Member as Member
from command.domain.room import Room as Room
from command.domain.room import scope as scope

SPANS_MAX = 20
"""Comings and goings of one account that are kept apart; longer ones are added up."""


class OpenRoom(Struct, frozen=True, kw_only=True):
    """`chair` is an account id; the opener's own when left out."""

    incident: Id
    title: Name
    chair: Id | None = None


class CloseRoom(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version | None = None


class Fact(StrEnum):
    JOINED = "joined"
    LEFT = "left"
    CHANGED = "changed"


class Act(StrEnum):
    MUTE = "mute"
    UNMUTE = "unmute"
    REMOVE = "remove"


class MediaKind(StrEnum):
    AUDIO = "audio"
    VIDEO = "video"
    SCREEN = "screen"


class MemberFact(Struct, frozen=True, kw_only=True):
    """What the media side saw of a member: joined, left, or changed what it sends. Sent by the node itself.

    `quality` sums up the stay of who leaves: loss in per mille, round trip in ms, highest rate, freezes.
    """

    room: Id
    member: Member
    fact: Fact
    quality: dict[str, int] | None = None


class ChairAct(Struct, frozen=True, kw_only=True):
    """The chair mutes, unmutes or removes a member. Muting a screen ends the sharing; removing bars the account."""

    room: Id
    member: Id
    act: Act
    kind: MediaKind = MediaKind.AUDIO


def room_drafts(context: Context, incident: Incident, title: str, chair: str) -> tuple[str, list[Draft]]:
    """A new room's id and entries; a plan opens its room through this too. The first entry of the room's own stream names the
    incident: whoever is called to that is called to the room."""
    key = context.bound_id(naming.ROOM)
    body = {"room": key, "chair": chair, "organisation": incident.organisation, "link": room_link(context.link, key)}
    opened = Draft(
        subject=incident.subject, kind="room.opened", body=body, private={"title": title}, claim=incident.claim
    )
    called = Draft(subject=f"meeting/{key}", kind="meeting.called", body={"room": key, "incident": incident.id})
    return key, [opened, called]


def decide_open(rows: Rows, request: OpenRoom, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("room.open", incidents.scope(incident))
    if not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it before opening a room.")
    key, drafts = room_drafts(context, incident, request.title, request.chair or context.by.account)
    return Decision(drafts=drafts, id=key)


def decide_close(rows: Rows, request: CloseRoom, context: Context) -> Decision:
    room, _ = take_chair(rows, request.id, context, closed=True)
    if request.version is not None:
        fresh(room, request.version, request)
    if not room.open:
        return Decision(id=room.id)
    return Decision(drafts=[Draft(subject=room.subject, kind="room.closed", body={"room": room.id})], id=room.id)


def decide_fact(rows: Rows, request: MemberFact, context: Context) -> Decision:
    room = need(rows, ROOM, request.room)
    context.allow("room.join", scope(room))
    at_home(room, context)
    known = any(member.id == request.member.id for member in room.members)
    if not room.open or known is (request.fact is Fact.JOINED):
        return Decision(id=room.id)
    if request.fact is Fact.JOINED:
        admit(rows, room, request.member)
    if request.member.screen and any(other.screen for other in room.members if other.id != request.member.id):
        raise Conflict("room.screen_taken", "Somebody else is sharing a screen; one at a time.")
    member = msgspec.to_builtins(request.member)
    private = {"name": member.pop("name")}
    body: dict[str, Any] = {"room": room.id, "member": member}
    if request.quality is not None:
        body["quality"] = request.quality
    draft = Draft(subject=room.subject, kind=f"room.{request.fact}", body=body, private=private)
    return Decision(drafts=[draft], id=room.id)


def decide_chair(rows: Rows, request: ChairAct, context: Context) -> Decision:
    room, _ = take_chair(rows, request.room, context)
    if not any(member.id == request.member for member in room.members):
        raise Conflict("room.no_member", "That member has left the room.")
    body = {"room": room.id, "member": request.member, "act": request.act, "kind": request.kind}
    return Decision(drafts=[Draft(subject=room.subject, kind="room.chair_acted", body=body)], id=room.id)


def _opened(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    kind, _, key = entry.subject.partition("/")
    if not bound(body["room"], entry, naming.ROOM):
        return
    incident = rows.get(INCIDENT, key if kind == "incident" else body.get("incident") or "")
    room = Room(
        id=body["room"],
        title=written.secrets.get("title", ""),
        node=entry.origin,
        link=body.get("link", ""),
        planned=kind != "incident",
        incident=key if kind == "incident" else body.get("incident"),
        organisation=body["organisation"],
        parties=sorted({*(incident.parties if incident is not None else ()), *body.get("parties", ())}),
        invited=body.get("invited", []),
        chair=body["chair"],
        opened_at=entry.at,
    )
    rows.add(ROOM, room)
    rows.add(MEETING, Meeting(id=room.id, **copied(room)))


def _bound(rows: Editing, written: Written) -> None:
    """Who is called to the incident may come to its rooms."""
    kind, _, key = written.entry.subject.partition("/")
    parties = written.entry.body["parties"]
    for room in rows.where(ROOM, incident=key, open=True) if kind == "incident" else ():
        if not set(parties) <= set(room.parties):
            every = sorted({*room.parties, *parties})
            rows.put(ROOM, replace(room, parties=every))
            meeting = rows.get(MEETING, room.id)
            if meeting is not None:
                rows.put(MEETING, replace(meeting, parties=every))


def _closed(rows: Editing, written: Written) -> None:
    room = rows.get(ROOM, written.entry.body["room"])
    if room is None:
        return
    at = written.entry.at
    rows.put(ROOM, replace(room, version=room.version + 1, open=False, closed_at=at, members=[]))
    meeting = rows.get(MEETING, room.id)
    if meeting is not None:
        ended = replace(meeting, open=False, poll=None, hands=[], floor=[], waiting=[], broadcast=None, spotlight=[])
        rows.put(MEETING, replace(ended, version=meeting.version + 1))
    for attendance in rows.where(ATTENDANCE, room=room.id, present=True):
        rows.put(ATTENDANCE, _gone(attendance, attendance.seats, at))
    disarm(rows, room.id)


def _member(rows: Editing, written: Written) -> None:
    room = rows.get(ROOM, written.entry.body["room"])
    if room is None or not room.open:
        return
    values: dict[str, Any] = written.entry.body["member"] | {"name": written.secrets.get("name", "")}
    member = msgspec.convert(values, Member)
    meeting = rows.get(MEETING, room.id)
    if meeting is not None:
        member = replace(member, muted=held(member, meeting))
    others = [other for other in room.members if other.id != member.id]
    members = others if written.entry.kind == "room.left" else [*others, member]
    rows.put(ROOM, replace(room, members=sorted(members, key=lambda m: (m.joined_at, m.id))))
    _attend(rows, room, member, written, known=len(others) < len(room.members))
    if meeting is not None and written.entry.kind == "room.joined":
        waiting = [other for other in meeting.waiting if other.account != member.account]
        if waiting != meeting.waiting:
            rows.put(MEETING, replace(meeting, version=meeting.version + 1, waiting=waiting))


def _attend(rows: Editing, room: Room, member: Member, written: Written, *, known: bool) -> None:
    key, at = attendance_id(room.id, member.account), written.entry.at
    row = rows.get(ATTENDANCE, key)
    if written.entry.kind == "room.left":
        if row is not None and known:
            left, stay = _gone(row, 1, at), written.entry.body.get("quality")
            rows.put(ATTENDANCE, replace(left, quality=(row.quality or Quality()).and_then(stay)) if stay else left)
        return
    if known:
        return
    if row is None:
        fields = copied(room) | {"account": member.account, "site": member.organisation}
        fields["person"] = written.entry.by.person
        row = Attendance(id=key, present=False, **fields)
    spans = row.spans if row.present else [*row.spans, Span(joined_at=at)][-SPANS_MAX:]
    rows.put(ATTENDANCE, replace(row, name=member.name, present=True, seats=row.seats + 1, spans=spans))


def _gone(row: Attendance, seats: int, at: int) -> Attendance:
    """So many of an account's connections ended."""
    if row.seats > seats:
        return replace(row, seats=row.seats - seats)
    last = row.spans[-1]
    spans = [*row.spans[:-1], replace(last, left_at=at)]
    total_us = row.total_us + max(0, at - last.joined_at)
    return replace(row, seats=0, present=False, spans=spans, total_us=total_us)


def _chair_acted(rows: Editing, written: Written) -> None:
    body = written.entry.body
    room, meeting = rows.get(ROOM, body["room"]), rows.get(MEETING, body["room"])
    if room is None or meeting is None:
        return
    account = next((member.account for member in room.members if member.id == body["member"]), None)
    if account is None:
        return
    if body["act"] == "remove":
        control(rows, written, **banned(meeting, account))
    elif body["kind"] != "screen":
        name = "muted" if body["kind"] == "audio" else "dark"
        listed = [other for other in getattr(meeting, name) if other != account]
        control(rows, written, **{name: [*listed, account] if body["act"] == "mute" else listed})


TABLES = (ROOM, MEETING, ATTENDANCE)

PROJECTORS = {
    "room.opened": _opened,
    "room.closed": _closed,
    "room.joined": _member,
    "room.changed": _member,
    "room.left": _member,
    "room.chair_acted": _chair_acted,
    "order.issued": _bound,
}

DECIDERS = {
    OpenRoom: decide_open,
    CloseRoom: decide_close,
    MemberFact: decide_fact,
    ChairAct: decide_chair,
}
