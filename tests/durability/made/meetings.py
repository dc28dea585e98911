"""Random requests about meetings: rooms, chairs, the floor, roll calls, calling for a time."""

from collections.abc import Callable
from typing import Any

from command.base.clock import MICROSECONDS
from command.domain import chairing, convening, floor, meeting, minutes, roll_call, schedule
from command.domain import room as rooms
from tests.durability.maker import DAY, Maker, Values


def _room(m: Maker) -> Values:
    return {"incident": m.id("incident", open=True), "title": m.name(), "chair": m.id("account")}


def _fact(m: Maker) -> Values:
    room = m.some("room", open=True)
    members = [] if room is None else [member.id for member in room.members]
    fact = m.of(meeting.Fact)
    key = m.chance.choice(members) if members and fact is not meeting.Fact.JOINED else m.clock.id()
    someone = m.some("account")
    member: Values = {"id": key, "account": "a" if someone is None else someone.id, "name": m.text()[:50]}
    member |= {"joined_at": m.clock.now(), "audio": m.often()}
    member["role"] = m.chance.choice(["chair", "speaker", "viewer"])
    member["screen"] = m.often(0.1)
    if room is not None and fact is not meeting.Fact.JOINED and members:
        member["account"] = next(one.account for one in room.members if one.id == key)
    return {"room": "nobody" if room is None else room.id, "member": member, "fact": fact}


def _chair(m: Maker) -> Values:
    rooms: list[Any] = [row for row in m.rows["room"].values() if row.members]  # type: ignore[attr-defined]
    if not rooms:
        return {"room": "nobody", "member": "nobody", "act": "mute"}
    room = m.chance.choice(rooms)
    kind = m.of(meeting.MediaKind)
    act = meeting.Act.REMOVE if m.often(0.1) else m.chance.choice([meeting.Act.MUTE, meeting.Act.UNMUTE])
    return {"room": room.id, "member": m.chance.choice(room.members).id, "act": act, "kind": kind}


def _peopled(m: Maker) -> tuple[str, str]:
    """An open room with somebody in it, and their account."""
    rooms: list[Any] = [row for row in m.rows["room"].values() if row.members]  # type: ignore[attr-defined]
    if not rooms:
        return "nobody", "nobody"
    room = m.chance.choice(rooms)
    return room.id, m.chance.choice(room.members).account


def _knock(m: Maker) -> Values:
    waiting: list[Any] = [row for row in m.rows["meeting"].values() if row.waiting]  # type: ignore[attr-defined]
    if waiting and m.often(0.3):
        row = m.chance.choice(waiting)
        return {"room": row.id, "account": m.chance.choice(row.waiting).account, "left": True}
    return {"room": m.id("room", open=True), "account": m.id("account"), "name": m.text()[:50]}


def _control(m: Maker) -> Values:
    room, account = _peopled(m)
    return {"room": room} | m.picked(
        locked=lambda: m.often(0.2),
        waiting_room=lambda: m.often(0.2),
        microphones=lambda: m.of(rooms.Microphones),
        layout=lambda: m.of(rooms.Layout),
        layout_tiles=lambda: m.chance.randrange(1, 10),
        spotlight=lambda: [account][: m.often(0.7)],
        broadcast=lambda: account if m.often(0.7) else None,
    )


def _standing(m: Maker) -> Values:
    rows: list[Any] = list(m.rows["meeting"].values())
    waiting = [row for row in rows if row.waiting]
    if waiting and m.often():
        row = m.chance.choice(waiting)
        standing = m.chance.choice([chairing.Standing.ADMIT, chairing.Standing.REFUSE])
        return {"room": row.id, "account": m.chance.choice(row.waiting).account, "standing": standing}
    barred = [row for row in rows if row.barred and row.open]
    if barred and m.often():
        row = m.chance.choice(barred)
        return {"room": row.id, "account": m.chance.choice(row.barred), "standing": chairing.Standing.READMIT}
    room, account = _peopled(m)
    return {"room": room, "account": account, "standing": m.of(chairing.Standing)}


def _poll(m: Maker) -> Values:
    room, account = _peopled(m)
    return {"room": room, "interval_s": 5, "sites": [account][: m.often()], "audience": m.of(rooms.Audience)}


def _call_up(m: Maker) -> Values:
    room, account = _peopled(m)
    row: Any = m.rows["meeting"].get(room)
    if row is not None and row.floor and m.often(0.4):
        return {"room": room, "account": m.chance.choice(row.floor), "move": floor.Move.WITHDRAW}
    if row is not None and row.hands and m.often():
        move = m.chance.choice([floor.Move.CALL, floor.Move.DISMISS])
        return {"room": room, "account": row.hands[0].account, "move": move, "only": m.often(0.2)}
    return {"room": room, "account": account, "move": floor.Move.CALL, "only": m.often(0.2)}


def _running(m: Maker) -> Any:
    rows: list[Any] = [row for row in m.rows["roll_call"].values() if row.ended_at is None]  # type: ignore[attr-defined]
    return m.chance.choice(rows) if rows else None


def _mark_call(m: Maker) -> Values:
    row = _running(m)
    called = "nobody" if row is None else m.chance.choice(row.called).id
    return {"id": "nobody" if row is None else row.id, "called": called, "present": m.often()}


def _schedule(m: Maker) -> Values:
    start = m.clock.now() + m.chance.randrange(1, 3600) * MICROSECONDS
    values = {"title": m.name(), "agenda": m.text(), "organisation": m.id("organisation"), "starts_at": start}
    values |= {"ends_at": start + DAY // 24, "persons": m.ids("person"), "groups": m.ids("group", 2)}
    values |= {
        "on_duty": m.ids("organisation", 2),
        "notify": m.often(0.1),
        "remind_before_s": m.chance.choice([None, 60]),
    }
    return values | m.picked(incident=lambda: m.id("incident", open=True), chair=lambda: m.id("account"))


def _edit_meeting(m: Maker) -> Values:
    return m.named("schedule", state=schedule.State.PLANNED) | m.picked(
        title=m.name,
        agenda=m.text,
        persons=lambda: m.ids("person"),
        on_duty=lambda: m.ids("organisation", 2),
        remind_before_s=lambda: m.chance.choice([None, 30]),
        notify=lambda: m.often(0.2),
    )


def _minutes(m: Maker) -> Values:
    room = m.some("room")
    row = m.rows["minutes"].get("" if room is None else room.id)
    version = None if row is None else m.version(row)
    return {"room": "nobody" if room is None else room.id, "version": version, "text": m.text()}


MAKE: dict[type, Callable[[Maker], Values]] = {
    meeting.OpenRoom: _room,
    meeting.CloseRoom: lambda m: {"id": m.id("room", open=True)},
    meeting.MemberFact: _fact,
    meeting.ChairAct: _chair,
    chairing.Knock: _knock,
    chairing.SetControl: _control,
    chairing.SetStanding: _standing,
    chairing.StartPoll: _poll,
    chairing.StopPoll: lambda m: {"room": m.id("room", open=True)},
    floor.MoveFloor: lambda m: {"room": _peopled(m)[0], "move": m.chance.choice([*floor.OWN, floor.Move.RAISE])},
    floor.CallUp: _call_up,
    floor.ClearFloor: lambda m: {"room": m.id("room", open=True), "speakers": m.often()},
    floor.MuteAll: lambda m: {"room": _peopled(m)[0], "on": m.often()},
    roll_call.StartRollCall: lambda m: {"room": _peopled(m)[0], "within_s": 10},
    roll_call.AnswerRollCall: lambda m: {"id": getattr(_running(m), "id", "nobody")},
    roll_call.MarkRollCall: _mark_call,
    roll_call.EndRollCall: lambda m: {"id": getattr(_running(m), "id", "nobody")},
    roll_call.Say: lambda m: {"room": _peopled(m)[0], "text": m.text()},
    convening.ScheduleMeeting: _schedule,
    convening.EditMeeting: _edit_meeting,
    convening.CancelMeeting: lambda m: m.named("schedule", state=schedule.State.PLANNED) | {"notify": m.often(0.2)},
    convening.BeginMeeting: lambda m: {"id": m.id("schedule", state=schedule.State.PLANNED)},
    minutes.SaveMinutes: _minutes,
}
SELDOM: dict[type, float] = {
    meeting.CloseRoom: 0.3,
    convening.CancelMeeting: 0.3,
    floor.MuteAll: 0.5,
    roll_call.EndRollCall: 0.5,
}
