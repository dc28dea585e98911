"""The schedule: meetings that are called for a time, from planned to held.

Pure. Who calls, changes and cancels them stands in `convening`. Invariant: the id of a scheduled meeting is its room's, so that a
link that was sent once stays right; everything that happens by itself is a timer row.
"""

from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from command.base import naming
from command.base.entry import Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Editing, Row, Table
from command.base.rights import Scope
from command.base.schema import Id, Instant, Name, Text
from command.base.timer import TIMER, Timer, arm, disarm

SECOND = 1_000_000
OPEN_BEFORE_US = 600 * SECOND


class State(StrEnum):
    PLANNED = "planned"
    OPENED = "opened"
    HELD = "held"
    CANCELLED = "cancelled"


class Step(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    CANCEL = "cancel"


STEPS: dict[tuple[State, Step], State] = {
    (State.PLANNED, Step.OPEN): State.OPENED,
    (State.PLANNED, Step.CANCEL): State.CANCELLED,
    (State.OPENED, Step.CLOSE): State.HELD,
}


def step(state: State, to: Step) -> State:
    """The next state. Raises `Conflict` naming both when the table has no such step."""
    try:
        return STEPS[state, to]
    except KeyError:
        raise Conflict("meeting.step", f"A meeting that is {state} can't {to}.", state=state, step=to) from None


class Schedule(Row, frozen=True, kw_only=True):
    """A meeting's plan. `people` are the invited one by one, as its lists were at the last edit; `utc_offset_min` is the
    clock that its texts speak of; `link` how it is reached, "" where the node knows no address of its own. `node` hosts it,
    `nodes` are those whose people are invited: with the host they get it, and nobody else does."""

    title: Name
    node: str = ""
    nodes: list[str] = []
    agenda: Text = ""
    organisation: Id
    incident: Id | None = None
    chair: Id
    starts_at: Instant
    ends_at: Instant
    persons: list[Id] = []
    groups: list[Id] = []
    on_duty: list[Id] = []
    people: list[Id] = []
    state: State = State.PLANNED
    remind_before_s: int | None = None
    utc_offset_min: int = 480
    link: str = ""
    exercise: bool = False
    created_by: Id
    updated_at: Instant
    reminded_at: Instant | None = None

    @property
    def subject(self) -> str:
        return f"meeting/{self.id}"

    @property
    def parties(self) -> list[str]:
        """Who may come: the invited, and everybody of the organisations whose duty officers are."""
        return sorted({*self.people, *self.on_duty})


SCHEDULE = Table(
    name="schedule",
    row=Schedule,
    index=("incident", "organisation", "state", "starts_at"),
    topics=lambda row: ("meetings", f"room/{row.id}"),
)


def scope(row: Schedule) -> Scope:
    return Scope(organisation=row.organisation, parties=tuple(row.parties), owner=row.chair)


def row_of(body: dict[str, Any], private: dict[str, Any], by: str, at: int, node: str) -> Schedule:
    """The plan that the body and private part of `meeting.scheduled` say, written by the account `by` at `node`."""
    values = {name: value for name, value in body.items() if name != "room"}
    return Schedule(
        id=body["room"],
        node=node,
        title=private.get("title", "") or f"meeting/{body['room']}",  # withheld or erased
        agenda=private.get("agenda", ""),
        created_by=by,
        updated_at=at,
        **values,
    )


# -- folding


def _scheduled(rows: Editing, written: Written) -> None:
    entry = written.entry
    if not bound(entry.body["room"], entry, naming.ROOM):
        return
    row = row_of(entry.body, written.secrets, entry.by.account, entry.at, entry.origin)
    rows.add(SCHEDULE, row)
    _set_timers(rows, row)


def _set_timers(rows: Editing, row: Schedule) -> None:
    def timer(name: str, due_at: int) -> Timer:
        return Timer(
            id=f"{row.id}-{name}", kind=f"meeting.{name}", subject=row.subject, about=row.id, due_at=max(0, due_at)
        )

    disarm(rows, row.id)
    arm(rows, timer("open", row.starts_at - OPEN_BEFORE_US))
    if row.remind_before_s is not None and row.starts_at - row.remind_before_s * SECOND > row.updated_at:
        arm(rows, timer("remind", row.starts_at - row.remind_before_s * SECOND))


def _edited(rows: Editing, written: Written) -> None:
    row = rows.get(SCHEDULE, written.entry.body["room"])
    if row is None:
        return
    changes = {name: value for name, value in written.entry.body.items() if name != "room"} | written.secrets
    row = replace(row, version=row.version + 1, updated_at=written.entry.at, **changes)
    rows.put(SCHEDULE, row)
    _set_timers(rows, row)


def _put(rows: Editing, written: Written, **changes: Any) -> None:
    row = rows.get(SCHEDULE, written.entry.body["room"])
    if row is not None:
        rows.put(SCHEDULE, replace(row, version=row.version + 1, updated_at=written.entry.at, **changes))


def _cancelled(rows: Editing, written: Written) -> None:
    disarm(rows, written.entry.body["room"])
    _put(rows, written, state=State.CANCELLED)


def _reminded(rows: Editing, written: Written) -> None:
    _put(rows, written, reminded_at=written.entry.at)


def _room_opened(rows: Editing, written: Written) -> None:
    rows.delete(TIMER, f"{written.entry.body['room']}-open")
    _put(rows, written, state=State.OPENED)


def _room_closed(rows: Editing, written: Written) -> None:
    _put(rows, written, state=State.HELD)


TABLES = (SCHEDULE,)
PROJECTORS = {
    "meeting.scheduled": _scheduled,
    "meeting.edited": _edited,
    "meeting.cancelled": _cancelled,
    "meeting.reminded": _reminded,
    "room.opened": _room_opened,
    "room.closed": _room_closed,
}
