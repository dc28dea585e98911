"""The floor of a meeting: hands in the order in which they went up, and who may speak.

Pure. What is forwarded follows from the rows (`room.held`). Invariant: an account stands in the queue or has the floor,
never both, and the queue's order is the log's: the same on every screen.
"""

from enum import StrEnum
from typing import Any

from command.base.entry import Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Rows, Table
from command.base.schema import Id, Struct
from command.domain.room import (
    MEETING,
    ROOM,
    Hand,
    Meeting,
    Microphones,
    chairs,
    control,
    control_draft,
    present,
    take_chair,
    take_part,
)

HANDS_MAX = 300
FLOOR_MAX = 20
"""Who may speak at once; more is a shouting match."""


class Place(StrEnum):
    """Where an account stands."""

    NONE = "none"
    QUEUED = "queued"
    SPEAKING = "speaking"


class Move(StrEnum):
    """`raise`, `lower`, `yield` are the member's own; `call`, `dismiss`, `withdraw` the chair's."""

    RAISE = "raise"
    LOWER = "lower"
    YIELD = "yield"
    CALL = "call"
    DISMISS = "dismiss"
    WITHDRAW = "withdraw"


_N, _Q, _S = Place.NONE, Place.QUEUED, Place.SPEAKING
MOVES: dict[tuple[Place, Move], Place] = {
    (_N, Move.RAISE): _Q,
    (_Q, Move.LOWER): _N,
    (_Q, Move.DISMISS): _N,
    (_Q, Move.CALL): _S,
    (_N, Move.CALL): _S,
    (_S, Move.YIELD): _N,
    (_S, Move.WITHDRAW): _N,
}


def place(meeting: Meeting, account: str) -> Place:
    if account in meeting.floor:
        return Place.SPEAKING
    return Place.QUEUED if any(hand.account == account for hand in meeting.hands) else Place.NONE


def step(at: Place, move: Move) -> Place:
    """The next place. Raises `Conflict` naming both when the table has no such step."""
    try:
        return MOVES[at, move]
    except KeyError:
        raise Conflict("floor.step", f"Who is {at} can't {move}.", state=at, step=move) from None


class MoveFloor(Struct, frozen=True, kw_only=True):
    """A member's own move: `raise`, `lower` or `yield`."""

    room: Id
    move: Move


class CallUp(Struct, frozen=True, kw_only=True):
    """The chair gives the floor to an account (`call`), takes it back (`withdraw`), or passes a hand over (`dismiss`).

    With `only`, everybody else who has the floor gives it back.
    """

    room: Id
    account: Id
    move: Move = Move.CALL
    only: bool = False


class ClearFloor(Struct, frozen=True, kw_only=True):
    """All hands down; with `speakers`, everybody who has the floor gives it back too."""

    room: Id
    speakers: bool = False


class MuteAll(Struct, frozen=True, kw_only=True):
    """Everybody who is there but the chairs is muted, or nobody is any more."""

    room: Id
    on: bool = True


OWN = (Move.RAISE, Move.LOWER, Move.YIELD)


def decide_move(rows: Rows, request: MoveFloor, context: Context) -> Decision:
    room, meeting = take_part(rows, request.room, context)
    account = context.by.account
    at = place(meeting, account)
    if request.move not in OWN:
        raise Conflict("floor.chair", "That is for the chair to do.")
    if (request.move is Move.RAISE and at is not Place.NONE) or (request.move is not Move.RAISE and at is Place.NONE):
        return Decision(id=room.id)  # a second tap is no error
    step(at, request.move)
    if request.move is Move.RAISE and len(meeting.hands) >= HANDS_MAX:
        raise Conflict("floor.full", f"{HANDS_MAX} hands are up already.")
    return _one(meeting, account, request.move)


def decide_call(rows: Rows, request: CallUp, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    at = place(meeting, request.account)
    if request.move in OWN:
        raise Conflict("floor.own", "That is for the member to do.")
    if at is (Place.SPEAKING if request.move is Move.CALL else Place.NONE) and not request.only:
        return Decision(id=room.id)
    if not any(member.account == request.account for member in room.members) and request.move is Move.CALL:
        raise Conflict("room.no_member", "That member has left the room.")
    if at is not Place.SPEAKING or request.move is not Move.CALL:
        step(at, request.move)
    if request.move is Move.CALL and not request.only and len(meeting.floor) >= FLOOR_MAX:
        raise Conflict("floor.crowded", f"{FLOOR_MAX} have the floor already; take it back from somebody first.")
    body: dict[str, Any] = {"account": request.account, "move": request.move}
    if request.only:
        body["only"] = True
    return Decision(drafts=[control_draft(meeting, "floor_moved", body)], id=room.id)


def _one(meeting: Meeting, account: str, move: Move) -> Decision:
    draft = control_draft(meeting, "floor_moved", {"account": account, "move": move})
    return Decision(drafts=[draft], id=meeting.id)


def decide_clear(rows: Rows, request: ClearFloor, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    if not meeting.hands and not (request.speakers and meeting.floor):
        return Decision(id=room.id)
    draft = control_draft(meeting, "floor_cleared", {"speakers": request.speakers})
    return Decision(drafts=[draft], id=room.id)


def decide_mute_all(rows: Rows, request: MuteAll, context: Context) -> Decision:
    """The entry names nobody: who is there when it is written is what the log says."""
    room, meeting = take_chair(rows, request.room, context)
    return Decision(drafts=[control_draft(meeting, "all_muted", {"on": request.on})], id=room.id)


# -- folding


def _moved(rows: Editing, written: Written) -> None:
    body = written.entry.body
    meeting = rows.get(MEETING, body["room"])
    if meeting is None:
        return
    account, move = body["account"], Move(body["move"])
    to = MOVES.get((place(meeting, account), move), Place.SPEAKING if move is Move.CALL else None)
    if to is None:
        return
    hands = [hand for hand in meeting.hands if hand.account != account]
    floor = [other for other in meeting.floor if other != account]
    muted = meeting.muted
    if body.get("only"):
        muted = _silenced(meeting, muted, floor)
        floor = []
    if to is Place.QUEUED:
        hands.append(Hand(account=account, at=written.entry.at))
    elif to is Place.SPEAKING:
        floor.append(account)
        muted = [other for other in muted if other != account]
    elif move is Move.WITHDRAW:
        muted = _silenced(meeting, muted, [account])
    control(rows, written, hands=hands, floor=floor, muted=muted)


def _silenced(meeting: Meeting, muted: list[str], accounts: list[str]) -> list[str]:
    """Who loses the floor is silent: by the mode while microphones are the chair's, else by a mute."""
    if meeting.microphones is Microphones.CHAIR:
        return muted
    return list(dict.fromkeys([*muted, *accounts]))


def _cleared(rows: Editing, written: Written) -> None:
    meeting = rows.get(MEETING, written.entry.body["room"])
    if meeting is None:
        return
    if not written.entry.body["speakers"]:
        control(rows, written, hands=[])
    else:
        control(rows, written, hands=[], floor=[], muted=_silenced(meeting, meeting.muted, meeting.floor))


def _all_muted(rows: Editing, written: Written) -> None:
    room, meeting = rows.get(ROOM, written.entry.body["room"]), rows.get(MEETING, written.entry.body["room"])
    if room is None or meeting is None:
        return
    if not written.entry.body["on"]:
        control(rows, written, muted=[])
        return
    presiding = chairs(room, meeting)
    silent = [account for account in present(room) if account not in presiding]
    control(rows, written, muted=list(dict.fromkeys([*meeting.muted, *silent])), floor=[])


TABLES: tuple[Table[Any], ...] = ()
PROJECTORS = {
    "meeting.floor_moved": _moved,
    "meeting.floor_cleared": _cleared,
    "meeting.all_muted": _all_muted,
}
DECIDERS = {
    MoveFloor: decide_move,
    CallUp: decide_call,
    ClearFloor: decide_clear,
    MuteAll: decide_mute_all,
}
