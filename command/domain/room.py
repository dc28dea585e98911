"""A room and what its chair has set: the rows that every screen shows, and what they mean.

Pure. Who decides what of it is in `meeting`, `floor`, `chairing` and `roll_call`. Invariant: `Member.muted` is what the
control says (`held`), and who may act as the chair is asked in one place (`take_chair`).
"""

from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict, Denied
from command.base.projection import Context, Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import Id, Instant, ShortText, Value, need

LAYOUT_TILES_MAX = 15


class Member(Value, frozen=True, kw_only=True):
    """One connection of one account to a room. `role` is chair, speaker or viewer; `audio`/`video` say what it sends."""

    id: Id
    account: Id
    name: ShortText
    organisation: Id | None = None
    role: str = "speaker"
    joined_at: Instant
    audio: bool = False
    video: bool = False
    muted: bool = False
    screen: bool = False


class Room(Row, frozen=True, kw_only=True):
    """`chair` is an account or a person; `incident` None for an ordinary meeting; `invited` the persons called to it. `node`
    hosts it; `link` is where it is joined there, "" where that node knows no address of its own. `planned`: it was called for
    a time, and all of it stands in the stream `meeting/ID`."""

    title: ShortText
    node: str = ""
    link: str = ""
    planned: bool = False
    incident: Id | None = None
    organisation: Id
    parties: list[Id] = []
    invited: list[Id] = []
    chair: Id
    open: bool = True
    opened_at: Instant
    closed_at: Instant | None = None
    members: list[Member] = []

    @property
    def subject(self) -> str:
        return f"incident/{self.incident}" if self.incident and not self.planned else f"meeting/{self.id}"


def _room_topics(row: Room) -> tuple[str, ...]:
    return ("picture", f"room/{row.id}", *([f"incident/{row.incident}"] if row.incident else ()))


ROOM = Table(name="room", row=Room, index=("incident", "organisation", "open"), topics=_room_topics)


class OfRoom(Row, frozen=True, kw_only=True):
    """A row about a room. Where it stands for rights is as of its writing."""

    room: Id
    organisation: Id
    parties: list[Id] = []
    chair: Id


class Microphones(StrEnum):
    """`chair`: only the chair opens them; a member's own unmuting is refused, and nothing of their voice is forwarded."""

    FREE = "free"
    CHAIR = "chair"


class Layout(StrEnum):
    """`free`: everybody arranges their own screen."""

    FREE = "free"
    GRID = "grid"
    SPEAKER = "speaker"
    ONE_PLUS_N = "one_plus_n"


class Audience(StrEnum):
    ALL = "all"
    CHAIR = "chair"


class Hand(Value, frozen=True, kw_only=True):
    account: Id
    at: Instant


class Waiting(Value, frozen=True, kw_only=True):
    """Somebody before the door."""

    account: Id
    name: ShortText = ""
    organisation: Id | None = None
    at: Instant


class Poll(Value, frozen=True, kw_only=True):
    """Sites shown in turn, `interval_s` each. `sites` empty: everybody who is there and sends. `current` None: nobody was."""

    sites: list[Id] = []
    interval_s: int
    audience: Audience = Audience.ALL
    current: Id | None = None
    started_at: Instant
    since: Instant


class Meeting(OfRoom, frozen=True, kw_only=True):
    """What the chair has set, by account: whoever loses the line and comes back finds their place again.

    `hands` in the order in which they went up; `floor` who may speak while microphones are the chair's; `admitted` and
    `barred` who passed, and may not pass, the door; `roll_call` the one that is going on.
    """

    open: bool = True
    locked: bool = False
    waiting_room: bool = False
    microphones: Microphones = Microphones.FREE
    layout: Layout = Layout.FREE
    layout_tiles: int = 7
    spotlight: list[Id] = []
    broadcast: Id | None = None
    poll: Poll | None = None
    cochairs: list[Id] = []
    muted: list[Id] = []
    dark: list[Id] = []
    floor: list[Id] = []
    hands: list[Hand] = []
    waiting: list[Waiting] = []
    admitted: list[Id] = []
    barred: list[Id] = []
    roll_call: Id | None = None

    @property
    def subject(self) -> str:
        return f"meeting/{self.id}"


def room_topic(row: Any) -> tuple[str, ...]:
    return (f"room/{row.room}",)


MEETING = Table(name="meeting", row=Meeting, index=("open",), topics=room_topic)


class Span(Value, frozen=True, kw_only=True):
    """From coming to going; `left_at` None while there."""

    joined_at: Instant
    left_at: Instant | None = None


class Quality(Value, frozen=True, kw_only=True):
    """What somebody's pictures and voices were like: of several stays the worst, the highest rate, and all freezes. `height`:
    the largest picture received; `layers`: how many of their picture were sent; `sent_*`: their own voice and picture."""

    lost_permille: int = 0
    lost_worst_permille: int = 0
    rtt_ms: int = 0
    bitrate_bps: int = 0
    freezes: int = 0
    height: int = 0
    layers: int = 0
    sent_audio_bps: int = 0
    sent_audio_lost_permille: int = 0
    sent_video_bps: int = 0
    sent_video_lost_permille: int = 0

    def and_then(self, stay: dict[str, int]) -> "Quality":
        """With one more stay, as the media side summed it up when it ended."""
        worse = {name: max(getattr(self, name), stay.get(name, 0)) for name in self.__struct_fields__}
        return Quality(**worse | {"freezes": self.freezes + stay.get("freezes", 0)})


class Attendance(OfRoom, frozen=True, kw_only=True):
    """That somebody was there, when and how long (`total_us`, microseconds of spans that ended). `seats`: connections now.
    `quality` None: nothing was measured, or nobody has left yet."""

    account: Id
    person: Id | None = None
    name: ShortText = ""
    site: Id | None = None
    spans: list[Span] = []
    total_us: int = 0
    seats: int = 0
    present: bool = True
    quality: Quality | None = None


ATTENDANCE = Table(name="attendance", row=Attendance, index=("room", "present"), topics=room_topic)


def scope(room: Room) -> Scope:
    return Scope(organisation=room.organisation, parties=tuple(room.parties), owner=room.chair)


def of_room(row: OfRoom) -> Scope:
    return Scope(organisation=row.organisation, parties=tuple(row.parties), owner=row.chair)


def chairing(room: Room | OfRoom) -> Scope:
    """Where a room stands for its chair: being invited to it gives nobody the chair."""
    return Scope(organisation=room.organisation, owner=room.chair)


def copied(room: Room) -> dict[str, Any]:
    """The fields of `OfRoom` for a row about this room."""
    return {"room": room.id, "organisation": room.organisation, "parties": room.parties, "chair": room.chair}


def room_link(link: str, key: str) -> str:
    """Where a room is joined at a node that people reach at `link`; "" where it can't know."""
    return f"{link}/#/room/{key}" if link else ""


def at_home(room: Room, context: Context) -> None:
    """A room is run by the node that hosts it. Raises `Conflict("room.elsewhere")`, which says where to join."""
    if room.node not in ("", context.node):
        raise Conflict("room.elsewhere", "Another node hosts this room; join it there.", node=room.node, link=room.link)


def take_chair(rows: Rows, key: str, context: Context, *, closed: bool = False) -> tuple[Room, Meeting]:
    """The open room (or with `closed` any) and its control, for whoever may act as its chair: those with the right, and
    co-chairs. Raises as `at_home`."""
    room = need(rows, ROOM, key)
    meeting = need(rows, MEETING, key)
    if context.by.account in meeting.cochairs:
        context.allow("room.join", scope(room))
    else:
        context.allow("room.chair", chairing(room))
    at_home(room, context)
    if not room.open and not closed:
        raise Conflict("room.closed", "The room is closed.")
    return room, meeting


def take_part(rows: Rows, key: str, context: Context) -> tuple[Room, Meeting]:
    """The open room and its control, for somebody who sits in it. Raises as `at_home`."""
    room = need(rows, ROOM, key)
    meeting = need(rows, MEETING, key)
    context.allow("room.join", scope(room))
    at_home(room, context)
    if not room.open:
        raise Conflict("room.closed", "The room is closed.")
    if context.actor is not None and context.by.account not in present(room):
        raise Conflict("room.not_in", "Join the room first.")
    return room, meeting


def present(room: Room) -> list[str]:
    """Accounts that are there, in the order of their coming."""
    return list(dict.fromkeys(member.account for member in room.members))


def chairs(room: Room, meeting: Meeting) -> set[str]:
    """Accounts that are there as chair or co-chair."""
    return {member.account for member in room.members if presides(member, meeting)}


def presides(member: Member, meeting: Meeting) -> bool:
    return member.role == "chair" or member.account in meeting.cochairs


def held(member: Member, meeting: Meeting) -> bool:
    """Whether nothing of this member's voice is to be forwarded."""
    if member.account in meeting.muted:
        return True
    if meeting.microphones is Microphones.FREE or presides(member, meeting):
        return False
    return member.account not in meeting.floor


def focus(meeting: Meeting) -> list[str]:
    """Accounts that everybody should see first: the broadcast site, the polled one, the spotlight."""
    first = [meeting.broadcast] if meeting.broadcast else []
    if meeting.poll is not None and meeting.poll.current and meeting.poll.audience is Audience.ALL:
        first.append(meeting.poll.current)
    return list(dict.fromkeys([*first, *meeting.spotlight]))


def polled_by_chairs(meeting: Meeting) -> str | None:
    """The account that a round of sites shows to the chairs alone, if there is such a round."""
    poll = meeting.poll
    return poll.current if poll is not None and poll.audience is Audience.CHAIR else None


def admit(rows: Rows, room: Room, member: Member) -> None:
    """Whether the door is open to this member. Raises `Denied` `room.barred`, `room.locked`, or `Conflict` `room.waiting`.

    Who was in before comes back in, unless they were removed.
    """
    meeting = rows.get(MEETING, room.id)
    if meeting is None or presides(member, meeting):
        return
    if member.account in meeting.barred:
        raise Denied("room.barred", "The chair has not let you in.")
    if member.account in meeting.admitted or rows.get(ATTENDANCE, attendance_id(room.id, member.account)) is not None:
        return
    if meeting.locked:
        raise Denied("room.locked", "The chair has locked the room.")
    if meeting.waiting_room:
        raise Conflict("room.waiting", "The chair lets people in one by one; wait a moment.")


def attendance_id(room: str, account: str) -> str:
    return f"{room}.{account}"


def control_draft(meeting: Meeting, kind: str, body: dict[str, Any], private: dict[str, Any] | None = None) -> Draft:
    """An entry of the meeting's own stream."""
    return Draft(subject=meeting.subject, kind=f"meeting.{kind}", body={"room": meeting.id, **body}, private=private)


def control(rows: Editing, written: Written, **changes: Any) -> None:
    """Put the meeting of this entry with `changes`, and what follows from it for who is heard."""
    meeting = rows.get(MEETING, written.entry.body["room"])
    if meeting is None:
        return
    rows.put(MEETING, replace(meeting, version=meeting.version + 1, **changes))
    settle(rows, meeting.id)


def settle(rows: Editing, key: str) -> None:
    """`Member.muted` as the control says."""
    room, meeting = rows.get(ROOM, key), rows.get(MEETING, key)
    if room is None or meeting is None:
        return
    members = [replace(member, muted=held(member, meeting)) for member in room.members]
    if members != room.members:
        rows.put(ROOM, replace(room, members=members))


def banned(meeting: Meeting, account: str) -> dict[str, Any]:
    """The changes that put an account outside the door."""
    without = {
        name: [other for other in getattr(meeting, name) if other != account]
        for name in ("admitted", "floor", "cochairs", "spotlight")
    }
    return without | {
        "hands": [hand for hand in meeting.hands if hand.account != account],
        "waiting": [other for other in meeting.waiting if other.account != account],
        "barred": [*(other for other in meeting.barred if other != account), account],
    }
