"""The edge of meetings: routes, topics, and the two files one takes home (calendar, attendance).

Edge. Holds no rule; every command here is decided in `meeting`, `floor`, `chairing`, `roll_call` or `convening`.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.errors import Missing
from command.base.projection import Row, Table
from command.base.rights import Scope
from command.base.schema import Instant, Value
from command.domain import ical, room, schedule
from command.domain.chairing import SetControl, SetStanding, StartPoll, StopPoll
from command.domain.convening import BeginMeeting, CancelMeeting, EditMeeting, ScheduleMeeting
from command.domain.floor import CallUp, ClearFloor, MoveFloor, MuteAll
from command.domain.minutes import MINUTES, SaveMinutes
from command.domain.registry import ORGANISATION, PERSON, Person
from command.domain.roll_call import CHAT, ROLL_CALL, AnswerRollCall, EndRollCall, MarkRollCall, Say, StartRollCall
from command.domain.room import ATTENDANCE, MEETING, ROOM, Attendance, Quality
from command.domain.schedule import SCHEDULE, Schedule, State
from command.edge.api import Call, Route, command_route
from command.edge.live import Topic, Visible
from command.log.store import Store
from command.log.timeline import position_of

CHAT_LINES = 200
"""So many of the newest in a snapshot."""
ROLL_CALLS = 50
MEETINGS = 500
PAGE_MAX = 500
MINUTE_US = 60_000_000
QUALITY = (
    *(
        "最高 kbit/s highest",
        "丢包 lost %",
        "最差丢包 worst %",
        "往返 round trip ms",
        "卡顿 freezes",
        "画面高度 height px",
    ),
    *(
        "上行音频 audio sent kbit/s",
        "上行音频丢包 lost %",
        "上行视频 video sent kbit/s",
        "上行视频丢包 lost %",
        "层数 layers",
    ),
)


class MeetingListing(Value, frozen=True, kw_only=True):
    """Query of scheduled meetings by when they begin and how they stand."""

    since: Instant | None = None
    until: Instant | None = None
    state: State | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100


class MeetingPage(Value, frozen=True, kw_only=True):
    items: list[Schedule]
    position: int


async def _meetings(call: Call) -> MeetingPage:
    query: MeetingListing = call.query
    shelf = call.node.store.shelf(SCHEDULE)
    columns = shelf.sql.c
    wanted = [columns.state == query.state] if query.state is not None else []
    if query.since is not None:
        wanted.append(columns.starts_at >= query.since)
    if query.until is not None:
        wanted.append(columns.starts_at < query.until)

    def read(connection: Connection) -> MeetingPage:
        rows = shelf.select(connection, *wanted, order=columns.starts_at.desc(), limit=PAGE_MAX)
        seen: list[Any] = call.node.live.view_all(call.actor, SCHEDULE.name, rows)
        return MeetingPage(items=seen[: query.limit], position=position_of(connection))

    return await call.node.store.read(read)


async def _calendar(call: Call) -> web.Response:
    key, store = call.path["id"], call.node.store
    row = await store.read(lambda connection: store.shelf(SCHEDULE).get(connection, key))
    if row is None or call.node.live.view(call.actor, SCHEDULE.name, row) is None:
        raise Missing("meeting.missing", f"There is no meeting '{key}'.")
    event = ical.Event(
        uid=f"{row.id}@fenghuo",
        title=row.title,
        description=row.agenda,
        url=row.link,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        written_at=row.updated_at,
        sequence=row.version,
        cancelled=row.state is State.CANCELLED,
        remind_before_s=row.remind_before_s,
    )
    name = {"Content-Disposition": f'attachment; filename="meeting-{row.id}.ics"'}
    return web.Response(body=ical.calendar(event), content_type="text/calendar", charset="utf-8", headers=name)


async def _attendance(call: Call) -> web.Response:
    key, store, view = call.path["id"], call.node.store, call.node.live.view

    def read(connection: Connection) -> tuple[Row | None, list[Any], dict[str, str], list[Any]]:
        one = store.shelf(ROOM).get(connection, key)
        rows = store.shelf(ATTENDANCE).select(connection, equal={"room": key})
        names = {row.id: row.name for row in store.shelf(ORGANISATION).select(connection)}
        planned = store.shelf(SCHEDULE).get(connection, key)
        came = {row.person for row in rows}
        missed = [person for person in (planned.people if planned is not None else ()) if person not in came]
        return one, rows, names, [store.shelf(PERSON).get(connection, person) for person in missed]

    one, rows, names, missed = await store.read(read)
    if one is None or view(call.actor, ROOM.name, one) is None:
        raise Missing("room.missing", f"There is no room '{key}'.")
    seen: list[Any] = call.node.live.view_all(call.actor, ATTENDANCE.name, rows)
    header = {"Content-Disposition": f'attachment; filename="attendance-{key}.csv"'}
    data = attendance_sheet(seen, names, call.node.clock.now(), [person for person in missed if person is not None])
    return web.Response(body=data, content_type="text/csv", charset="utf-8", headers=header)


def attendance_sheet(rows: list[Attendance], names: dict[str, str], now: int, missed: Sequence[Person] = ()) -> bytes:
    """Who was there, then who was invited and was not, as a table that spreadsheets open: UTF-8 with a mark, no cell that
    they would take for a formula."""
    out = io.StringIO()
    sheet = csv.writer(out, lineterminator="\r\n")
    sheet.writerow(["姓名 name", "单位 organisation", "入会 joined (UTC)", "离会 left (UTC)", "分钟 minutes", *QUALITY])
    for row in sorted(rows, key=lambda row: (row.spans[0].joined_at if row.spans else 0, row.id)):
        first, last = row.spans[0], row.spans[-1]
        total_us = row.total_us + (max(0, now - last.joined_at) if row.present else 0)
        cells = [row.name, names.get(row.site or "", ""), _stamp(first.joined_at), _stamp(last.left_at)]
        sheet.writerow([*(_plain(cell) for cell in cells), f"{total_us / MINUTE_US:.1f}", *_measured(row.quality)])
    for person in missed:
        sheet.writerow(
            [_plain(person.name), _plain(names.get(person.organisation, "")), "", "", "0.0", *_measured(None)]
        )
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _measured(quality: Quality | None) -> list[str]:
    """The cells under `QUALITY`."""
    if quality is None:
        return [""] * len(QUALITY)
    worst, rate = f"{quality.lost_worst_permille / 10:.1f}", str(round(quality.bitrate_bps / 1000))
    received = [rate, f"{quality.lost_permille / 10:.1f}", worst, str(quality.rtt_ms), str(quality.freezes)]
    sent = (
        (quality.sent_audio_bps, quality.sent_audio_lost_permille),
        (quality.sent_video_bps, quality.sent_video_lost_permille),
    )
    cells = [cell for bps, lost in sent for cell in (str(round(bps / 1000)), f"{lost / 10:.1f}")]
    return [*received, str(quality.height), *cells, str(quality.layers)]


def _stamp(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


_command = partial(command_route, tag="meetings")

# A co-chair may be anybody who may join: who may act as the chair is decided with the room at hand.
ROUTES: tuple[Route, ...] = (
    _command(
        "PATCH",
        "/rooms/{room}/control",
        "room.join",
        "Door, microphones, layout, broadcast site, spotlight",
        SetControl,
    ),
    _command("POST", "/rooms/{room}/standing", "room.join", "Admit, refuse, readmit; name co-chairs", SetStanding),
    _command("POST", "/rooms/{room}/mute-all", "room.join", "Mute everybody but the chairs, or nobody", MuteAll),
    _command("POST", "/rooms/{room}/poll", "room.join", "Show site after site", StartPoll),
    _command("POST", "/rooms/{room}/poll/stop", "room.join", "End the round of sites", StopPoll),
    _command("POST", "/rooms/{room}/floor", "room.join", "Raise or lower one's hand, give the floor back", MoveFloor),
    _command("POST", "/rooms/{room}/floor/call", "room.join", "Give the floor, take it back, pass a hand over", CallUp),
    _command("POST", "/rooms/{room}/floor/clear", "room.join", "All hands down", ClearFloor),
    _command("POST", "/rooms/{room}/roll-calls", "room.join", "Call the roll", StartRollCall, status=201),
    _command("POST", "/roll-calls/{id}/answer", "room.join", "Answer the roll call", AnswerRollCall),
    _command("POST", "/roll-calls/{id}/mark", "room.join", "Mark somebody present or absent", MarkRollCall),
    _command("POST", "/roll-calls/{id}/end", "room.join", "End the roll call", EndRollCall),
    _command("POST", "/rooms/{room}/chat", "room.join", "A line of chat", Say, status=201),
    _command("PUT", "/rooms/{room}/minutes", "room.join", "Save the minutes", SaveMinutes),
    Route(
        method="GET",
        path="/rooms/{id}/attendance",
        right="room.read",
        summary="Who was there, as a table (CSV)",
        handler=_attendance,
        produces="text/csv",
        errors=(404,),
        tag="meetings",
    ),
    Route(
        method="GET",
        path="/meetings",
        right="room.read",
        summary="Scheduled meetings, latest first",
        query=MeetingListing,
        response=MeetingPage,
        handler=_meetings,
        tag="meetings",
    ),
    _command("POST", "/meetings", "room.open", "Schedule a meeting, invite and remind", ScheduleMeeting, status=201),
    _command("PATCH", "/meetings/{id}", "room.chair", "Edit a scheduled meeting", EditMeeting),
    _command("POST", "/meetings/{id}/cancel", "room.chair", "Cancel a scheduled meeting", CancelMeeting),
    _command("POST", "/meetings/{id}/begin", "room.chair", "Open the room of a scheduled meeting now", BeginMeeting),
    Route(
        method="GET",
        path="/meetings/{id}/calendar",
        right="room.read",
        summary="The meeting as a calendar file (RFC 5545)",
        handler=_calendar,
        produces="text/calendar",
        errors=(404,),
        tag="meetings",
    ),
)


# -- topics


def _room_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    def one(table: Table[Any]) -> list[Row]:
        row = store.shelf(table).get(connection, key)
        return [] if row is None else [row]

    chat, calls = store.shelf(CHAT), store.shelf(ROLL_CALL)
    return {
        ROOM.name: one(ROOM),
        MEETING.name: one(MEETING),
        SCHEDULE.name: one(SCHEDULE),
        MINUTES.name: one(MINUTES),
        ATTENDANCE.name: store.shelf(ATTENDANCE).select(connection, equal={"room": key}),
        CHAT.name: chat.select(connection, chat.sql.c.room == key, order=chat.sql.c.at.desc(), limit=CHAT_LINES),
        ROLL_CALL.name: calls.select(
            connection, calls.sql.c.room == key, order=calls.sql.c.started_at.desc(), limit=ROLL_CALLS
        ),
    }


def _room_gate(store: Store, connection: Connection, key: str) -> Scope:
    found = store.shelf(ROOM).get(connection, key)
    if found is not None:
        return room.scope(found)
    planned = store.shelf(SCHEDULE).get(connection, key)
    if planned is None:
        raise Missing("live.topic", f"There is no topic 'room/{key[:64]}'.")
    return schedule.scope(planned)


def _meeting_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    shelf = store.shelf(SCHEDULE)
    return {SCHEDULE.name: shelf.select(connection, order=shelf.sql.c.starts_at.desc(), limit=MEETINGS)}


TOPICS: tuple[Topic, ...] = (
    Topic(name="room/{id}", right="room.read", rows=_room_rows, gate=_room_gate),
    Topic(name="meetings", right="room.read", rows=_meeting_rows),
)

_OF_ROOM = Visible(right="room.read", scope=room.of_room)
_IN_ROOM = Visible(right="room.read", scope=lambda row: Scope(), gated=True)
"""On `room/ID` only: who is called to the incident later reads what was said before."""
VISIBLE: dict[str, Visible] = {
    MEETING.name: _OF_ROOM,
    ATTENDANCE.name: _OF_ROOM,
    ROLL_CALL.name: _IN_ROOM,
    CHAT.name: _IN_ROOM,
    MINUTES.name: _OF_ROOM,
    SCHEDULE.name: Visible(right="room.read", scope=schedule.scope),
}
