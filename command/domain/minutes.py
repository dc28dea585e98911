"""The minutes of a meeting: one text, saved again and again.

Pure. Invariant: a save names the version it was written over; each is an entry, so that what stood there before is found.
"""

from command.base.entry import Draft, Written
from command.base.projection import Context, Decision, Editing, Rows, Table
from command.base.schema import Id, Instant, Struct, Text, Version, fresh
from command.domain.room import ROOM, OfRoom, copied, room_topic, take_chair


class Minutes(OfRoom, frozen=True, kw_only=True):
    text: Text
    at: Instant
    by: Id


MINUTES = Table(name="minutes", row=Minutes, index=("room",), topics=room_topic)


class SaveMinutes(Struct, frozen=True, kw_only=True):
    """`version` None: there are none yet."""

    room: Id
    version: Version | None = None
    text: Text


def decide_minutes(rows: Rows, request: SaveMinutes, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context, closed=True)
    row = rows.get(MINUTES, room.id)
    if row is not None:
        fresh(row, request.version or 0, request)
    draft = Draft(
        subject=meeting.subject, kind="meeting.minutes_saved", body={"room": room.id}, private={"text": request.text}
    )
    return Decision(drafts=[draft], id=room.id)


def _saved(rows: Editing, written: Written) -> None:
    entry = written.entry
    room = rows.get(ROOM, entry.body["room"])
    if room is None:
        return
    before = rows.get(MINUTES, room.id)
    version = 1 if before is None else before.version + 1
    text = written.secrets.get("text", "")
    row = Minutes(id=room.id, version=version, **copied(room), text=text, at=entry.at, by=entry.by.account)
    rows.put(MINUTES, row)


TABLES = (MINUTES,)
PROJECTORS = {"meeting.minutes_saved": _saved}
DECIDERS = {SaveMinutes: decide_minutes}
