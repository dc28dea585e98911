"""What the chair sets for everybody: the door, the microphones, the layout, who is shown, who chairs beside them.

Pure. Invariant: every screen shows what the row `meeting` says and nothing else; sites are polled by a timer row, so that a
round goes on after a crash.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Rows, Table
from command.base.schema import Id, ShortText, Struct, need
from command.base.timer import HANDLERS, TIMER, Timer, arm
from command.domain.room import (
    LAYOUT_TILES_MAX,
    MEETING,
    ROOM,
    Audience,
    Layout,
    Meeting,
    Microphones,
    Poll,
    Room,
    Waiting,
    at_home,
    banned,
    chairs,
    control,
    control_draft,
    present,
    scope,
    take_chair,
)

SPOTLIGHT_MAX = 6
SITES_MAX = 200
COCHAIRS_MAX = 20
WAITING_MAX = 300
SECOND = 1_000_000
INTERVAL_S = Annotated[int, Meta(ge=5, le=3600)]


class SetControl(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is named is set; the rest stays. `broadcast` and `spotlight` name accounts; null and [] end them.

    Opening the waiting room lets everybody in who stands before it.
    """

    room: Id
    locked: bool | UnsetType = UNSET
    waiting_room: bool | UnsetType = UNSET
    microphones: Microphones | UnsetType = UNSET
    layout: Layout | UnsetType = UNSET
    layout_tiles: Annotated[int, Meta(ge=1, le=LAYOUT_TILES_MAX)] | UnsetType = UNSET
    spotlight: Annotated[list[Id], Meta(max_length=SPOTLIGHT_MAX)] | UnsetType = UNSET
    broadcast: Id | UnsetType | None = UNSET


class Standing(StrEnum):
    """What the chair says about an account. `readmit` lifts a bar; `cochair` may do whatever the chair may."""

    ADMIT = "admit"
    REFUSE = "refuse"
    READMIT = "readmit"
    COCHAIR = "cochair"
    NO_COCHAIR = "no_cochair"


class SetStanding(Struct, frozen=True, kw_only=True):
    room: Id
    account: Id
    standing: Standing


class StartPoll(Struct, frozen=True, kw_only=True):
    """Show site after site (轮询), each for `interval_s`. Without `sites` everybody who is there and sends, as it is then."""

    room: Id
    interval_s: INTERVAL_S = 15
    sites: Annotated[list[Id], Meta(max_length=SITES_MAX)] = []
    audience: Audience = Audience.ALL


class StopPoll(Struct, frozen=True, kw_only=True):
    room: Id


class Knock(Struct, frozen=True, kw_only=True):
    """Somebody stands before a room with a waiting room. Sent by the node itself; `left`: they went away again."""

    room: Id
    account: Id
    name: ShortText = ""
    organisation: Id | None = None
    left: bool = False


def decide_control(rows: Rows, request: SetControl, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    there = {member.account for member in room.members}
    body = {name: value for name, value in msgspec.to_builtins(request).items() if name != "room"}
    body = {name: value for name, value in body.items() if getattr(meeting, name) != value}
    for account in (*body.get("spotlight", ()), *([body["broadcast"]] if body.get("broadcast") else ())):
        if account not in there:
            raise Conflict("room.no_member", "That member has left the room.", account=account)
    if not body:
        return Decision(id=room.id)
    return Decision(drafts=[control_draft(meeting, "control_set", body)], id=room.id)


def decide_standing(rows: Rows, request: SetStanding, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    account, standing = request.account, request.standing
    waits = any(other.account == account for other in meeting.waiting)
    if standing in (Standing.ADMIT, Standing.REFUSE) and not waits:
        raise Conflict("room.not_waiting", "Nobody of that account stands before the door any more.")
    if standing is Standing.COCHAIR and len(meeting.cochairs) >= COCHAIRS_MAX:
        raise Conflict("room.cochairs", f"A meeting has at most {COCHAIRS_MAX} co-chairs.")
    if standing is Standing.COCHAIR and not any(member.account == account for member in room.members):
        raise Conflict("room.no_member", "That member has left the room.")
    same = {
        Standing.READMIT: account not in meeting.barred,
        Standing.COCHAIR: account in meeting.cochairs,
        Standing.NO_COCHAIR: account not in meeting.cochairs,
    }
    if same.get(standing, False):
        return Decision(id=room.id)
    body = {"account": account, "standing": standing}
    return Decision(drafts=[control_draft(meeting, "standing_set", body)], id=room.id)


def decide_knock(rows: Rows, request: Knock, context: Context) -> Decision:
    room = need(rows, ROOM, request.room)
    meeting = need(rows, MEETING, request.room)
    context.allow("room.join", scope(room))
    at_home(room, context)
    waits = any(other.account == request.account for other in meeting.waiting)
    if not room.open or waits is not request.left:
        return Decision(id=room.id)
    if not request.left and len(meeting.waiting) >= WAITING_MAX:
        raise Conflict("room.door_full", f"{WAITING_MAX} wait at the door already.")
    body: dict[str, Any] = {"account": request.account}
    if request.left:
        return Decision(drafts=[control_draft(meeting, "knock_ended", body)], id=room.id)
    body["organisation"] = request.organisation
    return Decision(drafts=[control_draft(meeting, "knocked", body, {"name": request.name})], id=room.id)


def decide_poll(rows: Rows, request: StartPoll, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    body = {
        "sites": list(dict.fromkeys(request.sites)),
        "interval_s": request.interval_s,
        "audience": request.audience,
        "site": next_site(room, meeting, request.sites, None),
    }
    return Decision(drafts=[control_draft(meeting, "poll_started", body)], id=room.id)


def decide_stop_poll(rows: Rows, request: StopPoll, context: Context) -> Decision:
    room, meeting = take_chair(rows, request.room, context)
    if meeting.poll is None:
        return Decision(id=room.id)
    return Decision(drafts=[control_draft(meeting, "poll_stopped", {})], id=room.id)


def next_site(room: Room, meeting: Meeting, sites: list[str], current: str | None) -> str | None:
    """The site after `current` that is there, in the order of `sites`, else of coming; None when nobody is."""
    there = present(room)
    if not sites:
        sending = {member.account for member in room.members if member.role != "viewer"} - chairs(room, meeting)
        sites = [account for account in there if account in sending]
    at = sites.index(current) + 1 if current in sites else 0
    return next((account for account in (*sites[at:], *sites[:at]) if account in there), None)


def on_poll(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    """The interval is over: the next site."""
    room, meeting = rows.get(ROOM, timer.about), rows.get(MEETING, timer.about)
    if room is None or meeting is None or not room.open or meeting.poll is None:
        return []
    site = next_site(room, meeting, meeting.poll.sites, meeting.poll.current)
    return [control_draft(meeting, "polled", {"site": site})]


HANDLERS["meeting.poll"] = on_poll


# -- folding


def _control_set(rows: Editing, written: Written) -> None:
    body = written.entry.body
    meeting = rows.get(MEETING, body["room"])
    if meeting is None:
        return
    changes = {name: value for name, value in body.items() if name != "room"}
    if "microphones" in changes:
        changes["microphones"] = Microphones(changes["microphones"])
    if "layout" in changes:
        changes["layout"] = Layout(changes["layout"])
    if changes.get("waiting_room") is False:
        passing = [other.account for other in meeting.waiting]
        changes |= {"waiting": [], "admitted": list(dict.fromkeys([*meeting.admitted, *passing]))}
    control(rows, written, **changes)


def _standing_set(rows: Editing, written: Written) -> None:
    body = written.entry.body
    meeting = rows.get(MEETING, body["room"])
    if meeting is None:
        return
    account, standing = body["account"], Standing(body["standing"])
    without = {
        name: [other for other in getattr(meeting, name) if other != account]
        for name in ("admitted", "barred", "cochairs")
    }
    waiting = [other for other in meeting.waiting if other.account != account]
    if standing is Standing.ADMIT:
        control(rows, written, waiting=waiting, admitted=[*without["admitted"], account])
    elif standing is Standing.REFUSE:
        control(rows, written, **banned(meeting, account))
    elif standing is Standing.READMIT:
        control(rows, written, barred=without["barred"])
    elif standing is Standing.COCHAIR:
        control(rows, written, cochairs=[*without["cochairs"], account])
    else:
        control(rows, written, cochairs=without["cochairs"])


def _poll_started(rows: Editing, written: Written) -> None:
    body, at = written.entry.body, written.entry.at
    poll = Poll(
        sites=body["sites"],
        interval_s=body["interval_s"],
        audience=Audience(body["audience"]),
        current=body["site"],
        started_at=at,
        since=at,
    )
    control(rows, written, poll=poll)
    _arm(rows, body["room"], poll)


def _polled(rows: Editing, written: Written) -> None:
    meeting = rows.get(MEETING, written.entry.body["room"])
    if meeting is None or meeting.poll is None:
        return
    poll = replace(meeting.poll, current=written.entry.body["site"], since=written.entry.at)
    control(rows, written, poll=poll)
    _arm(rows, meeting.id, poll)


def _arm(rows: Editing, room: str, poll: Poll) -> None:
    due_at = poll.since + poll.interval_s * SECOND
    arm(rows, Timer(id=f"{room}-poll", kind="meeting.poll", subject=f"meeting/{room}", about=room, due_at=due_at))


def _poll_stopped(rows: Editing, written: Written) -> None:
    rows.delete(TIMER, f"{written.entry.body['room']}-poll")
    control(rows, written, poll=None)


def _knocked(rows: Editing, written: Written) -> None:
    body = written.entry.body
    meeting = rows.get(MEETING, body["room"])
    if meeting is None:
        return
    waiting = [other for other in meeting.waiting if other.account != body["account"]]
    if written.entry.kind == "meeting.knocked":
        name = written.secrets.get("name", "")
        one = Waiting(account=body["account"], name=name, organisation=body["organisation"], at=written.entry.at)
        waiting.append(one)
    control(rows, written, waiting=waiting)


TABLES: tuple[Table[Any], ...] = ()
PROJECTORS = {
    "meeting.control_set": _control_set,
    "meeting.standing_set": _standing_set,
    "meeting.knocked": _knocked,
    "meeting.knock_ended": _knocked,
    "meeting.poll_started": _poll_started,
    "meeting.polled": _polled,
    "meeting.poll_stopped": _poll_stopped,
}
DECIDERS = {
    SetControl: decide_control,
    SetStanding: decide_standing,
    StartPoll: decide_poll,
    StopPoll: decide_stop_poll,
    Knock: decide_knock,
}
