"""Roll call (点名): who was expected, who answered, whom the chair marked; and what was said in the meeting's chat.

Pure. Invariant: a roll call that has ended never changes, and there is at most one at a time in a meeting.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.schema import Id, Instant, Struct, Value, need
from command.base.timer import HANDLERS, Timer, arm, disarm
from command.domain.registry import ACCOUNT
from command.domain.room import (
    MEETING,
    ROOM,
    Meeting,
    OfRoom,
    Room,
    control,
    control_draft,
    copied,
    present,
    room_topic,
    take_chair,
    take_part,
)

EXPECTED_MAX = 500
CHAT_TEXT_MAX = 1000
SECOND = 1_000_000


class Reply(StrEnum):
    WAITING = "waiting"
    ANSWERED = "answered"
    PRESENT = "present"
    ABSENT = "absent"


_R = Reply
REPLIES: dict[tuple[Reply, Reply], Reply] = {
    (_R.WAITING, _R.ANSWERED): _R.ANSWERED,
    (_R.ABSENT, _R.ANSWERED): _R.ANSWERED,
    **{(state, _R.PRESENT): _R.PRESENT for state in (_R.WAITING, _R.ABSENT)},
    **{(state, _R.ABSENT): _R.ABSENT for state in (_R.WAITING, _R.PRESENT)},
}
"""(before, word): `answered` is their own and the chair does not overrule it; the other two are the chair's."""


class Called(Value, frozen=True, kw_only=True):
    """One who was called: an account, or a person without one. `at` is when the reply came."""

    id: Id
    reply: Reply = Reply.WAITING
    at: Instant | None = None


class RollCall(OfRoom, frozen=True, kw_only=True):
    started_at: Instant
    started_by: Id
    ends_at: Instant
    ended_at: Instant | None = None
    called: list[Called] = []


class ChatLine(Row, frozen=True, kw_only=True):
    """Whoever may follow the room may read it, whenever they came: it says nothing of who that is."""

    room: Id
    account: Id
    text: str
    at: Instant


ROLL_CALL = Table(name="roll_call", row=RollCall, index=("room", "started_at"), topics=room_topic)
CHAT = Table(name="chat", row=ChatLine, index=("room", "at"), topics=room_topic)


class StartRollCall(Struct, frozen=True, kw_only=True):
    """Everybody who is there but the caller, and everybody who was invited. It ends by itself after `within_s`."""

    room: Id
    within_s: Annotated[int, Meta(ge=10, le=3600)] = 120


class AnswerRollCall(Struct, frozen=True, kw_only=True):
    """ "Here"."""

    id: Id


class MarkRollCall(Struct, frozen=True, kw_only=True):
    """The chair's word on somebody who did not answer by themselves."""

    id: Id
    called: Id
    present: bool


class EndRollCall(Struct, frozen=True, kw_only=True):
    id: Id


class Say(Struct, frozen=True, kw_only=True):
    """A line of chat to everybody in the room."""

    room: Id
    text: Annotated[str, Meta(min_length=1, max_length=CHAT_TEXT_MAX)]


def expected(rows: Rows, room: Room, caller: str) -> list[str]:
    """Accounts and, for the invited without one, persons: whoever is there first, in the order of their coming."""
    there = [account for account in present(room) if account != caller]
    persons = {}
    for account in (*there, caller):
        row = rows.get(ACCOUNT, account)
        if row is not None and row.person:
            persons[row.person] = account
    invited = []
    for key in room.invited:
        accounts = [row.id for row in rows.where(ACCOUNT, person=key)]
        if key not in persons and caller not in accounts and room.chair not in (key, *accounts):
            invited.append(accounts[0] if accounts else key)
    return list(dict.fromkeys([*there, *invited]))[:EXPECTED_MAX]


def decide_start(rows: Rows, request: StartRollCall, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    if meeting.roll_call is not None:
        raise Conflict("roll_call.going_on", "A roll call is going on; end it first.", roll_call=meeting.roll_call)
    called = expected(rows, room, context.by.account)
    if not called:
        raise Conflict("roll_call.nobody", "There is nobody to call.")
    key = context.bound_id(meeting.subject)
    body = {"roll_call": key, "called": called, "ends_at": context.now + request.within_s * SECOND}
    return Decision(drafts=[control_draft(meeting, "roll_call_started", body)], id=key)


def decide_answer(rows: Rows, request: AnswerRollCall, context: Context) -> Decision:
    row = need(rows, ROLL_CALL, request.id)
    _, meeting = take_part(rows, row.room, context)
    if row.ended_at is not None:
        raise Conflict("roll_call.ended", "The roll call has ended.")
    account = context.by.account
    replies = {one.id: one.reply for one in row.called}
    if replies.get(account) in (Reply.ANSWERED, Reply.PRESENT):
        return Decision(id=row.id)
    return _reply(row, meeting, account, Reply.ANSWERED)


def decide_mark(rows: Rows, request: MarkRollCall, context: Context) -> Decision:
    row = need(rows, ROLL_CALL, request.id)
    _, meeting = take_chair(rows, row.room, context)
    before = {one.id: one.reply for one in row.called}.get(request.called)
    if row.ended_at is not None:
        raise Conflict("roll_call.ended", "The roll call has ended.")
    if before is None:
        raise Conflict("roll_call.not_called", "They were not called.")
    word = Reply.PRESENT if request.present else Reply.ABSENT
    if (before, word) not in REPLIES:
        return Decision(id=row.id)
    return _reply(row, meeting, request.called, word)


def _reply(row: RollCall, meeting: Meeting, who: str, word: Reply) -> Decision:
    """The reply; and with the last one the roll call has ended."""
    body = {"roll_call": row.id, "called": who, "reply": word}
    drafts = [control_draft(meeting, "roll_call_replied", body)]
    if not any(one.reply is Reply.WAITING and one.id != who for one in row.called):
        drafts.append(control_draft(meeting, "roll_call_ended", {"roll_call": row.id}))
    return Decision(drafts=drafts, id=row.id)


def decide_end(rows: Rows, request: EndRollCall, context: Context) -> Decision:
    row = need(rows, ROLL_CALL, request.id)
    _, meeting = take_chair(rows, row.room, context, closed=True)
    if row.ended_at is not None:
        return Decision(id=row.id)
    return Decision(drafts=[control_draft(meeting, "roll_call_ended", {"roll_call": row.id})], id=row.id)


def decide_say(rows: Rows, request: Say, context: Context) -> Decision:
    _, meeting = take_part(rows, request.room, context)
    key = context.bound_id(meeting.subject)
    draft = control_draft(meeting, "said", {"line": key}, {"text": request.text})
    return Decision(drafts=[draft], id=key)


def on_due(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    """Its time is over."""
    row = rows.get(ROLL_CALL, timer.about)
    meeting = rows.get(MEETING, row.room) if row is not None else None
    if row is None or meeting is None or row.ended_at is not None:
        return []
    return [control_draft(meeting, "roll_call_ended", {"roll_call": row.id})]


HANDLERS["meeting.roll_call"] = on_due


# -- folding


def _started(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    room = rows.get(ROOM, body["room"])
    if room is None or not bound(body["roll_call"], entry, f"meeting/{room.id}"):
        return
    row = RollCall(
        id=body["roll_call"],
        **copied(room),
        started_at=entry.at,
        started_by=entry.by.account,
        ends_at=body["ends_at"],
        called=[Called(id=key) for key in body["called"]],
    )
    rows.add(ROLL_CALL, row)
    timer = Timer(id=f"{row.id}-end", kind="meeting.roll_call", subject=entry.subject, about=row.id, due_at=row.ends_at)
    arm(rows, timer)
    control(rows, written, roll_call=row.id)


def _replied(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    row = rows.get(ROLL_CALL, body["roll_call"])
    if row is None or row.ended_at is not None:
        return
    word, called = Reply(body["reply"]), []
    if not any(one.id == body["called"] for one in row.called):  # came while it was going on
        called.append(Called(id=body["called"], reply=word, at=entry.at))
    for one in row.called:
        moved = one.id == body["called"] and (one.reply, word) in REPLIES
        called.append(replace(one, reply=word, at=entry.at) if moved else one)
    rows.put(ROLL_CALL, replace(row, version=row.version + 1, called=called))


def _ended(rows: Editing, written: Written) -> None:
    row = rows.get(ROLL_CALL, written.entry.body["roll_call"])
    if row is not None and row.ended_at is None:
        _finish(rows, written, row)


def _finish(rows: Editing, written: Written, row: RollCall) -> None:
    called = [replace(one, reply=Reply.ABSENT) if one.reply is Reply.WAITING else one for one in row.called]
    rows.put(ROLL_CALL, replace(row, version=row.version + 1, called=called, ended_at=written.entry.at))
    disarm(rows, row.id)
    control(rows, written, roll_call=None)


def _said(rows: Editing, written: Written) -> None:
    entry = written.entry
    room = entry.body["room"]
    if rows.get(ROOM, room) is not None and bound(entry.body["line"], entry, f"meeting/{room}"):
        text = written.secrets.get("text", "")
        rows.add(CHAT, ChatLine(id=entry.body["line"], room=room, account=entry.by.account, text=text, at=entry.at))


def _room_closed(rows: Editing, written: Written) -> None:
    meeting = rows.get(MEETING, written.entry.body["room"])
    row = rows.get(ROLL_CALL, meeting.roll_call) if meeting is not None and meeting.roll_call else None
    if row is not None:
        _finish(rows, written, row)


TABLES = (ROLL_CALL, CHAT)
PROJECTORS = {
    "room.closed": _room_closed,
    "meeting.roll_call_started": _started,
    "meeting.roll_call_replied": _replied,
    "meeting.roll_call_ended": _ended,
    "meeting.said": _said,
}
DECIDERS = {
    StartRollCall: decide_start,
    AnswerRollCall: decide_answer,
    MarkRollCall: decide_mark,
    EndRollCall: decide_end,
    Say: decide_say,
}
