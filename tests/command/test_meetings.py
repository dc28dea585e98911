"""Meetings through the log: floor, roll call, rounds of sites, schedule with its notices, calendar file."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.clock import ManualClock
from command.base.entry import By
from command.base.errors import Conflict, Missing, Rejected
from command.base.rights import Actor, Role
from command.base.timer import TIMER, FireTimer
from command.domain import chairing, convening, floor, ical, roll_call, schedule
from command.domain.account import CreateAccount
from command.domain.chairing import SetControl, StartPoll
from command.domain.convening import BeginMeeting, CancelMeeting, EditMeeting, ScheduleMeeting
from command.domain.floor import CallUp, MoveFloor
from command.domain.invitation import HEADS, texts
from command.domain.meeting import SPANS_MAX, CloseRoom, Fact, Member, MemberFact
from command.domain.minutes import MINUTES, SaveMinutes
from command.domain.notice import NOTICE, NoticeKind, Recipients
from command.domain.registry import Person
from command.domain.registry_edits import SaveGroup, SavePerson
from command.domain.roll_call import CHAT, ROLL_CALL, MarkRollCall, Say, StartRollCall
from command.domain.room import ATTENDANCE, MEETING, ROOM, Attendance, Microphones, Quality, Span
from command.domain.roster import AddShifts, PlannedShift
from command.domain.schedule import SCHEDULE, State, Step
from command.edge.api import Node
from command.edge.meeting_api import attendance_sheet
from tests.node import NODE, World, actor, node, world

HOUR_US = 3600 * 1_000_000


class Hall:
    """A node with a scheduled meeting's room and whoever sits in it, on a clock of the test's own."""

    n: Node
    w: World
    clock: ManualClock
    chair: str
    accounts: list[str]

    async def add(self, request: Any, by: By = NODE) -> str:
        return (await self.n.log.append(request, by)).id or ""

    async def row(self, table: Any, key: str) -> Any:
        return await self.n.store.read(lambda c: self.n.store.shelf(table).get(c, key))

    async def rows(self, table: Any, **equal: object) -> list[Any]:
        return await self.n.store.read(lambda c: self.n.store.shelf(table).select(c, equal=equal))

    async def account(self, name: str, person: str | None = None) -> str:
        request = CreateAccount(
            name=name, roles=[Role.VIEWER], organisation=self.w.county, password_hash="x", person=person
        )
        return await self.add(request)

    async def meeting(self, **fields: Any) -> str:
        start = self.clock.now() + HOUR_US
        values = {"title": "例会", "organisation": self.w.county, "chair": self.chair, "persons": [self.w.member]}
        values |= {"starts_at": start, "ends_at": start + HOUR_US}
        return await self.add(ScheduleMeeting(**(values | fields)))

    async def room(self, **fields: Any) -> str:
        key = await self.meeting(notify=False, **fields)
        return await self.add(BeginMeeting(id=key))

    async def sit(self, room: str, account: str, role: str = "speaker") -> Member:
        member = Member(id=self.n.clock.id(), account=account, name=account, role=role, joined_at=self.clock.now())
        await self.add(MemberFact(room=room, member=member, fact=Fact.JOINED))
        return member

    async def fire(self) -> None:
        """All timers that are due."""
        for timer in await self.rows(TIMER):
            if timer.due_at <= self.clock.now():
                await self.add(FireTimer(id=timer.id))


@pytest.fixture
async def hall(database_url: str, tmp_path: Path) -> AsyncIterator[Hall]:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock, public_url="https://fenghuo.example") as n:
        made = Hall()
        made.n, made.clock, made.w = n, clock, await world(n)
        made.chair = await made.account("chair")
        made.accounts = [await made.account("one", made.w.member), await made.account("two")]
        yield made


def test_every_move_that_the_table_of_the_floor_lacks_is_a_conflict_that_names_both() -> None:
    for place in floor.Place:
        for move in floor.Move:
            if (place, move) in floor.MOVES:
                assert floor.step(place, move) is floor.MOVES[place, move]
            else:
                with pytest.raises(Conflict) as refused:
                    floor.step(place, move)
                assert refused.value.details == {"state": place, "step": move}


def test_every_step_that_the_table_of_scheduled_meetings_lacks_is_a_conflict() -> None:
    for state in State:
        for to in Step:
            if (state, to) not in schedule.STEPS:
                with pytest.raises(Conflict):
                    schedule.step(state, to)


def test_nobody_overrules_who_answered_by_themselves() -> None:
    assert not any(before is roll_call.Reply.ANSWERED for before, _ in roll_call.REPLIES)


async def test_hands_stand_in_the_order_in_which_they_went_up_and_only_the_chair_opens_microphones(hall: Hall) -> None:
    room = await hall.room()
    await hall.sit(room, hall.chair, "chair")
    for account in hall.accounts:
        await hall.sit(room, account)
        await hall.add(MoveFloor(room=room, move=floor.Move.RAISE), By(account=account))
    await hall.add(SetControl(room=room, microphones=Microphones.CHAIR))
    row = await hall.row(MEETING, room)
    assert [hand.account for hand in row.hands] == hall.accounts
    assert [member.muted for member in (await hall.row(ROOM, room)).members] == [False, True, True]
    await hall.add(CallUp(room=room, account=hall.accounts[1]))
    await hall.add(CallUp(room=room, account=hall.accounts[0], only=True))
    row = await hall.row(MEETING, room)
    assert (row.floor, row.hands) == ([hall.accounts[0]], [])
    assert [member.muted for member in (await hall.row(ROOM, room)).members] == [False, False, True]
    await hall.add(SetControl(room=room, microphones=Microphones.FREE))
    await hall.add(CallUp(room=room, account=hall.accounts[0], move=floor.Move.WITHDRAW))
    assert (await hall.row(MEETING, room)).muted == [hall.accounts[0]]


async def test_who_comes_back_finds_their_place_in_the_queue(hall: Hall) -> None:
    room = await hall.room()
    [one, _] = hall.accounts
    member = await hall.sit(room, one)
    await hall.add(MoveFloor(room=room, move=floor.Move.RAISE), By(account=one))
    await hall.add(MemberFact(room=room, member=member, fact=Fact.LEFT))
    await hall.sit(room, one)
    assert [hand.account for hand in (await hall.row(MEETING, room)).hands] == [one]
    [row] = await hall.rows(ATTENDANCE, room=room)
    assert (row.present, len(row.spans), row.seats) == (True, 2, 1)


async def test_a_roll_call_asks_the_invited_too_and_ends_by_itself(hall: Hall) -> None:
    room = await hall.room(persons=[hall.w.member, hall.w.officer])
    [one, two] = hall.accounts
    await hall.sit(room, two)
    key = await hall.add(StartRollCall(room=room, within_s=60), By(account=hall.chair))
    row = await hall.row(ROLL_CALL, key)
    assert [called.id for called in row.called] == [
        two,
        one,
        hall.w.officer,
    ]  # a person without an account by themselves
    with pytest.raises(Conflict) as refused:
        await hall.add(StartRollCall(room=room))
    assert refused.value.code == "roll_call.going_on"
    await hall.add(roll_call.AnswerRollCall(id=key), By(account=two))
    await hall.add(MarkRollCall(id=key, called=hall.w.officer, present=True))
    hall.clock.advance(61)
    await hall.fire()
    row = await hall.row(ROLL_CALL, key)
    assert [called.reply.value for called in row.called] == ["answered", "absent", "present"]
    assert (await hall.row(MEETING, room)).roll_call is None
    with pytest.raises(Conflict):
        await hall.add(roll_call.AnswerRollCall(id=key), By(account=one))


async def test_a_round_goes_from_site_to_site_and_leaves_out_who_has_gone(hall: Hall) -> None:
    room = await hall.room()
    await hall.sit(room, hall.chair, "chair")
    one, two = [await hall.sit(room, account) for account in hall.accounts]
    await hall.add(StartPoll(room=room, interval_s=10))

    async def shown() -> str | None:
        return (await hall.row(MEETING, room)).poll.current  # type: ignore[no-any-return]

    seen = [await shown()]
    for _ in range(2):
        hall.clock.advance(10)
        await hall.fire()
        seen.append(await shown())
    assert seen == [one.account, two.account, one.account]
    await hall.add(MemberFact(room=room, member=two, fact=Fact.LEFT))
    hall.clock.advance(10)
    await hall.fire()
    assert await shown() == one.account
    await hall.add(CloseRoom(id=room))
    assert not await hall.rows(TIMER, about=room)


async def test_queues_and_lists_of_a_meeting_have_an_end(hall: Hall) -> None:
    room = await hall.room()
    crowd = [f"member-{number}" for number in range(max(floor.HANDS_MAX, chairing.WAITING_MAX) + 1)]
    await asyncio.gather(*(hall.sit(room, account) for account in crowd[: floor.HANDS_MAX + 1]))

    async def code(request: Any, by: By = NODE) -> str:
        with pytest.raises(Conflict) as refused:
            await hall.add(request, by)
        return refused.value.code

    up = MoveFloor(room=room, move=floor.Move.RAISE)
    await asyncio.gather(*(hall.add(up, By(account=account)) for account in crowd[: floor.HANDS_MAX]))
    assert await code(up, By(account=crowd[floor.HANDS_MAX])) == "floor.full"
    for account in crowd[: floor.FLOOR_MAX]:
        await hall.add(CallUp(room=room, account=account))
    assert await code(CallUp(room=room, account=crowd[floor.FLOOR_MAX])) == "floor.crowded"
    named = [chairing.SetStanding(room=room, account=one, standing=chairing.Standing.COCHAIR) for one in crowd]
    for request in named[: chairing.COCHAIRS_MAX]:
        await hall.add(request)
    assert await code(named[chairing.COCHAIRS_MAX]) == "room.cochairs"
    knocks = [chairing.Knock(room=room, account=f"outside-{number}") for number in range(chairing.WAITING_MAX + 1)]
    await asyncio.gather(*(hall.add(knock) for knock in knocks[:-1]))
    assert await code(knocks[-1]) == "room.door_full"
    called = await hall.row(ROLL_CALL, await hall.add(StartRollCall(room=room)))
    assert len(called.called) == min(roll_call.EXPECTED_MAX, floor.HANDS_MAX + 2)
    people = [SavePerson(name="人", organisation=hall.w.county) for _ in range(convening.INVITED_MAX + 1)]
    keys = await asyncio.gather(*(hall.add(person) for person in people))
    group = await hall.add(SaveGroup(name="大组", organisation=hall.w.county, persons=list(keys)))
    with pytest.raises(Rejected) as refused:
        await hall.meeting(groups=[group])
    assert refused.value.code == "meeting.invited_too_many"


async def test_what_is_said_is_kept_and_comings_and_goings_add_up(hall: Hall) -> None:
    room = await hall.room()
    member = await hall.sit(room, hall.accounts[0])
    await hall.add(Say(room=room, text="到"), By(account=hall.accounts[0]))
    hall.clock.advance(90)
    stay = {"lost_permille": 4, "lost_worst_permille": 31, "rtt_ms": 80, "bitrate_bps": 1_500_400, "freezes": 2}
    stay |= {"height": 720, "layers": 3, "sent_audio_bps": 32_000, "sent_video_bps": 1_800_000}
    await hall.add(MemberFact(room=room, member=member, fact=Fact.LEFT, quality=stay))
    again = await hall.sit(room, hall.accounts[0])
    hall.clock.advance(30)
    stay = {"lost_permille": 9, "lost_worst_permille": 12, "rtt_ms": 60, "bitrate_bps": 900_000, "freezes": 1}
    stay |= {"height": 180, "layers": 1, "sent_video_lost_permille": 12}
    await hall.add(MemberFact(room=room, member=again, fact=Fact.LEFT, quality=stay))
    await hall.add(CloseRoom(id=room))
    [row] = await hall.rows(ATTENDANCE, room=room)
    assert 119_000_000 < row.total_us < 121_000_000 and not row.present
    assert row.quality == Quality(
        lost_permille=9,
        lost_worst_permille=31,
        rtt_ms=80,
        bitrate_bps=1_500_400,
        freezes=3,
        height=720,
        layers=3,
        sent_audio_bps=32_000,
        sent_video_bps=1_800_000,
        sent_video_lost_permille=12,
    ), "of several stays the worst, and all freezes"
    assert [line.text for line in await hall.rows(CHAT, room=room)] == ["到"]
    sheet = attendance_sheet([row], {hall.w.county: "=cmd()"}, hall.clock.now()).decode("utf-8-sig").splitlines()
    assert len(sheet) == 2 and sheet[1].endswith(",2.0,1500,0.9,3.1,80,3,720,32,0.0,1800,1.2,3")
    absent = Person(id="p", name="未到者", organisation=hall.w.county)
    assert attendance_sheet([row], {}, 0, [absent]).decode().splitlines()[-1] == "未到者,,,,0.0" + "," * 11


async def test_who_is_called_late_reads_what_was_said_before_and_a_line_names_no_parties(hall: Hall) -> None:
    room = await hall.room()
    await hall.sit(room, hall.accounts[0])
    await hall.add(Say(room=room, text="先到"), By(account=hall.accounts[0]))
    await hall.add(StartRollCall(room=room, within_s=60))
    [line], [call] = await hall.rows(CHAT, room=room), await hall.rows(ROLL_CALL, room=room)
    assert not hasattr(line, "parties") and not hasattr(line, "organisation")
    live, stranger = hall.n.live, Actor(account="late", roles=(Role.FIELD_MEMBER,), organisation="elsewhere")
    assert live.view(stranger, CHAT.name, line) is line and live.view(stranger, ROLL_CALL.name, call) is call
    [row] = await hall.rows(ATTENDANCE, room=room)
    assert live.view(stranger, ATTENDANCE.name, row) is None, "the gate of the room is what lets them in, nothing else"


def test_a_cell_is_never_a_formula_and_old_spans_are_left_out() -> None:
    spans = [Span(joined_at=n, left_at=n + 1) for n in range(SPANS_MAX)]
    row = Attendance(
        id="r.a", room="r", organisation="o", chair="c", account="a", name="=1+1", spans=spans, present=False
    )
    assert "'=1+1" in attendance_sheet([row], {}, 0).decode()


async def test_invited_people_are_told_reminded_and_told_of_changes(hall: Hall) -> None:
    now = hall.clock.now()
    shift = PlannedShift(post="值班员", person=hall.w.officer, starts_at=now, ends_at=now + 9 * HOUR_US)
    await hall.add(AddShifts(organisation=hall.w.county, shifts=[shift]))
    group = await hall.add(SaveGroup(name="组", organisation=hall.w.county, persons=[hall.w.member]))
    key = await hall.meeting(persons=[], groups=[group], on_duty=[hall.w.county], remind_before_s=900)
    row = await hall.row(SCHEDULE, key)
    assert row.people == [hall.w.member, hall.w.officer]
    assert row.link == f"https://fenghuo.example/#/room/{key}"
    [told] = await hall.rows(NOTICE)
    assert told.kind is NoticeKind.MEETING and told.room == key
    assert told.recipients == Recipients(persons=row.people)
    assert row.link in told.text_zh and "回复1确认" in told.text_zh
    await hall.add(EditMeeting(id=key, version=1, starts_at=row.starts_at + HOUR_US, ends_at=row.ends_at + HOUR_US))
    assert len(await hall.rows(NOTICE)) == 2
    hall.clock.advance(2 * 3600 - 899)
    await hall.fire()
    await hall.fire()
    last = max(await hall.rows(NOTICE), key=lambda notice: notice.created_at)
    assert "会议提醒" in last.text_zh and len(await hall.rows(NOTICE)) == 3
    assert (await hall.row(SCHEDULE, key)).reminded_at is not None


async def test_the_room_opens_by_itself_under_the_same_id_and_lets_the_invited_in(hall: Hall) -> None:
    key = await hall.meeting(notify=False)
    assert await hall.row(ROOM, key) is None
    hall.clock.advance(3600 - 599)
    await hall.fire()
    room = await hall.row(ROOM, key)
    assert room.open and room.incident is None and room.subject == f"meeting/{key}"
    assert hall.w.member in room.parties
    assert (await hall.row(SCHEDULE, key)).state is State.OPENED
    await hall.add(CloseRoom(id=key))
    assert (await hall.row(SCHEDULE, key)).state is State.HELD
    await hall.add(SaveMinutes(room=key, text="议定事项"))
    with pytest.raises(Conflict):
        await hall.add(SaveMinutes(room=key, text="另一份"))
    await hall.add(SaveMinutes(room=key, version=1, text="议定事项二"))
    assert (await hall.row(MINUTES, key)).text == "议定事项二"


async def test_a_cancelled_meeting_opens_nothing_and_says_so(hall: Hall) -> None:
    key = await hall.meeting()
    await hall.add(CancelMeeting(id=key, version=1))
    assert not await hall.rows(TIMER, about=key)
    assert [notice for notice in await hall.rows(NOTICE) if "不开了" in notice.text_zh]
    with pytest.raises(Conflict):
        await hall.add(BeginMeeting(id=key))
    with pytest.raises(Conflict):
        await hall.add(EditMeeting(id=key, version=2, title="新"))


async def test_what_no_meeting_can_be_is_refused(hall: Hall) -> None:
    now = hall.clock.now()
    for fields, error in (
        ({"starts_at": now + 2, "ends_at": now + 1}, Rejected),
        ({"starts_at": now - HOUR_US, "ends_at": now}, Rejected),
        ({"title": "two\nlines"}, Rejected),
        ({"persons": ["nobody"]}, Missing),
        ({"chair": "nobody"}, Missing),
    ):
        with pytest.raises(error):
            await hall.meeting(**fields)  # type: ignore[arg-type]
    crowd = [await hall.add(SaveGroup(name="组", organisation=hall.w.county, persons=[hall.w.member]))]
    assert await hall.meeting(groups=crowd)
    member = actor(Role.FIELD_MEMBER, hall.w.county)
    with pytest.raises(Exception, match=r"room\.open"):
        await hall.n.log.append(
            ScheduleMeeting(title="x", starts_at=now + 1, ends_at=now + 2), By(account="a"), actor=member
        )


@pytest.mark.parametrize("what", sorted(HEADS))
def test_texts_say_what_when_and_where_in_both_languages(what: str) -> None:
    zh, en = texts(what, "防汛会商", 1_795_222_800_000_000, 480, "https://x.example/#/room/1")
    assert "防汛会商" in zh and "防汛会商" in en
    assert "11月21日09:00" in zh and "2026-11-21 09:00" in en
    assert ("https://" in zh) is (what != "cancelled")


# -- the calendar file, read again by a parser of its own (RFC 5545 §3.1, §3.3.11)


def parsed(data: bytes) -> list[tuple[str, str]]:
    """Content lines, unfolded: (name, value)."""
    assert data.endswith(b"\r\n")
    lines = data.decode().split("\r\n")
    assert all(len(line.encode()) <= 75 for line in lines)
    unfolded: list[str] = []
    for line in lines[:-1]:
        if line.startswith(" "):
            unfolded[-1] += line[1:]
        else:
            unfolded.append(line)
    pairs = []
    for line in unfolded:
        matched = re.fullmatch(r"([A-Z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)", line)
        assert matched, line
        pairs.append((matched[1], matched[2]))
    return pairs


def plain(value: str) -> str:
    out, at = "", 0
    while at < len(value):
        if value[at] == "\\":
            at += 1
            assert value[at] in "\\;,nN"
            out += "\n" if value[at] in "nN" else value[at]
        else:
            assert value[at] not in ";,"
            out += value[at]
        at += 1
    return out


def event(**fields: Any) -> ical.Event:
    values = {"uid": "a@b", "title": "t", "description": "", "url": "", "starts_at": 1_795_222_800_000_000}
    return ical.Event(**(values | {"ends_at": 1_795_226_400_000_000, "written_at": 0} | fields))


@given(st.text(max_size=200), st.text(max_size=400))
def test_fuzz_any_text_comes_back_from_the_calendar_file(title: str, agenda: str) -> None:
    def kept(text: str) -> str:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return "".join(c for c in text if c == "\n" or (c >= " " and c != "\x7f"))

    found = dict(parsed(ical.calendar(event(title=title, description=agenda))))
    assert plain(found["SUMMARY"]) == kept(title)
    assert plain(found.get("DESCRIPTION", "")) == kept(agenda)


def test_a_calendar_file_has_what_rfc_5545_asks_for() -> None:
    data = ical.calendar(event(url="https://x.example/#/room/1", sequence=3, remind_before_s=900))
    pairs = parsed(data)
    assert pairs[0] == ("BEGIN", "VCALENDAR") and pairs[-1] == ("END", "VCALENDAR")
    assert ("DTSTART", "20261121T010000Z") in pairs and ("SEQUENCE", "3") in pairs
    assert ("TRIGGER", "-PT900S") in pairs
    assert "METHOD" not in dict(pairs), "RFC 5546 would want an ORGANIZER"
    assert dict(parsed(ical.calendar(event(cancelled=True))))["STATUS"] == "CANCELLED"
