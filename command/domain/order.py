"""An order: a task given to a unit, person or organisation, followed until it is done.

Pure. The row and what is asked of it; owner side (`issuing`) and assignee side (`answering`) are separate registers and never
interleave; what the screen shows (`Order.state`) is a function of both. Invariant: progress only moves forward, and no
order is forgotten: silence past its deadline is an entry, an alarm, and the next step of its ladder (`ladder`).
"""

from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Written
from command.base.errors import Conflict
from command.base.projection import Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import (
    Id,
    Instant,
    Party,
    PartyKind,
    Place,
    Seconds,
    SomeText,
    Struct,
    Text,
    Urgency,
    Value,
    Version,
    need,
)
from command.base.timer import Timer, arm
from command.domain import incident as incidents
from command.domain.nodes import HOME, NODE, NodeKind, node_of
from command.domain.registry import ORGANISATION, PERSON, UNIT, UnitStatus

LADDER_MAX = 10
SECOND = 1_000_000


class Owner(StrEnum):
    """The owner's register."""

    ISSUED = "issued"
    CANCELLED = "cancelled"


class Progress(StrEnum):
    """The assignee's register, in the order in which it moves forward."""

    NONE = "none"
    DELIVERED = "delivered"
    READ = "read"
    DECLINED = "declined"
    ACCEPTED = "accepted"
    REPORTED = "reported"
    DONE = "done"


_P = Progress
FORWARD: dict[tuple[Progress, Progress], Progress] = {
    (_P.NONE, _P.DELIVERED): _P.DELIVERED,
    (_P.NONE, _P.READ): _P.READ,
    (_P.DELIVERED, _P.READ): _P.READ,
    **{(state, _P.ACCEPTED): _P.ACCEPTED for state in (_P.NONE, _P.DELIVERED, _P.READ)},
    **{(state, _P.DECLINED): _P.DECLINED for state in (_P.NONE, _P.DELIVERED, _P.READ)},
    (_P.ACCEPTED, _P.REPORTED): _P.REPORTED,
    (_P.REPORTED, _P.REPORTED): _P.REPORTED,
    (_P.ACCEPTED, _P.DONE): _P.DONE,
    (_P.REPORTED, _P.DONE): _P.DONE,
}
ANSWERED = (_P.ACCEPTED, _P.DECLINED, _P.REPORTED, _P.DONE)
BINDING = (_P.ACCEPTED, _P.REPORTED)
"""The assignee is at work on it."""


def forward(progress: Progress, to: Progress) -> Progress:
    """The next progress. Raises `Conflict` naming both when the table has no such step."""
    try:
        return FORWARD[progress, to]
    except KeyError:
        raise Conflict(
            "order.step", f"An order that is {progress} can't become {to}.", state=progress, step=to
        ) from None


class Standing(StrEnum):
    """What the order counts for. LATE: given under a claim that lost; once somebody accepts it, its incident's owner adopts or
    recalls it."""

    EFFECTIVE = "effective"
    LATE = "late"
    ADOPTED = "adopted"
    RECALLED = "recalled"


class Means(StrEnum):
    APP = "app"
    SMS = "sms"
    VOICE = "voice"
    DUTY_LEADER = "duty_leader"
    SUPERIOR = "superior"


class Rung(Value, frozen=True, kw_only=True):
    """One step of a ladder: what to do when there is still no answer `after_s` seconds after the order was issued."""

    after_s: Seconds
    means: Means


LADDER_DEFAULT = (
    Rung(after_s=0, means=Means.APP),
    Rung(after_s=0, means=Means.SMS),
    Rung(after_s=180, means=Means.SMS),
    Rung(after_s=300, means=Means.DUTY_LEADER),
    Rung(after_s=900, means=Means.SUPERIOR),
)
Ladder = Annotated[list[Rung], Meta(max_length=LADDER_MAX)]


class Order(Row, frozen=True, kw_only=True):
    """`owner` and `progress` are the two registers; `rung` counts the ladder's steps taken; `ack_by` and `due_at` are
    instants or None; `overdue` stays true until answered. `node` answers for the assignee, `origin` gave the order;
    `conflict`: it was accepted and declined by two who did not know of each other."""

    incident: Id
    organisation: Id
    node: str = ""
    origin: str = ""
    entry: str = ""
    standing: Standing = Standing.EFFECTIVE
    conflict: bool = False
    assignee: Party
    parties: list[Id]
    task: Text
    urgency: Urgency = Urgency.NORMAL
    exercise: bool = False
    owner: Owner = Owner.ISSUED
    progress: Progress = Progress.NONE
    open: bool = True
    overdue: bool = False
    late: bool = False
    issued_at: Instant
    issued_by: Id
    ack_by: Instant | None = None
    due_at: Instant | None = None
    decide_by: Instant | None = None
    answered_at: Instant | None = None
    answered_by: Id | None = None
    done_at: Instant | None = None
    last_report: Text = ""
    ladder: list[Rung] = []
    rung: int = 0

    @property
    def state(self) -> str:
        """What the screen shows."""
        return (
            self.owner if self.owner is Owner.CANCELLED else ("issued" if self.progress is _P.NONE else self.progress)
        )


ORDER = Table(
    name="order",
    row=Order,
    index=("incident", "organisation", "open", "issued_at", "node"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)


class IssueOrder(Struct, frozen=True, kw_only=True):
    """`ack_within_s` starts the acknowledgement deadline now; `due_in_s` the one for the task itself."""

    incident: Id
    assignee: Party
    task: SomeText
    urgency: Urgency = Urgency.NORMAL
    ack_within_s: Seconds | None = 600
    due_in_s: Seconds | None = None
    ladder: Ladder | None = None


class AmendOrder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: Id
    version: Version
    task: SomeText | UnsetType = UNSET
    due_at: Instant | UnsetType | None = UNSET


class CancelOrder(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version
    reason: Text = ""


class AdoptOrder(Struct, frozen=True, kw_only=True):
    """Make a late order one's own: from now on it counts as if the present owner had given it."""

    id: Id
    version: Version


class RecallOrder(Struct, frozen=True, kw_only=True):
    """Call off a late order."""

    id: Id
    version: Version
    reason: Text = ""


class ProgressOrder(Struct, frozen=True, kw_only=True):
    """The assignee's word. No version: progress only moves forward, and a repeated step is no error."""

    id: Id
    step: Progress
    text: Text = ""
    place: Place | None = None


def scope(row: Order) -> Scope:
    return Scope(organisation=row.organisation, parties=tuple(row.parties))


def parties_of(rows: Rows, assignee: Party) -> list[str]:
    """The ids of everybody whom an order to `assignee` binds; raises `Missing` when there is no such assignee."""
    if assignee.kind is PartyKind.UNIT:
        unit = need(rows, UNIT, assignee.id)
        return sorted({unit.id, *unit.members})
    if assignee.kind is PartyKind.PERSON:
        return [need(rows, PERSON, assignee.id).id]
    return [need(rows, ORGANISATION, assignee.id).id]


def node_for(rows: Rows, assignee: Party, here: str) -> str:
    """The node that answers for an assignee: that of a vehicle or post which registered it, else its organisation's."""
    if assignee.kind is PartyKind.ORGANISATION:
        return node_of(rows, assignee.id, here)
    home = rows.get(HOME, f"{assignee.kind}/{assignee.id}")
    place = None if home is None else rows.get(NODE, home.node)
    if place is not None and place.kind is not NodeKind.FIXED:
        return place.id
    row = rows.get(UNIT, assignee.id) if assignee.kind is PartyKind.UNIT else rows.get(PERSON, assignee.id)
    return here if row is None else node_of(rows, row.organisation, here)


def arm_ladder(rows: Editing, order: Order, at: int) -> None:
    """Set every timer of an order that was given, or taken over, `at`."""
    subject = f"incident/{order.incident}"
    for number, rung in enumerate(order.ladder):
        due = at + rung.after_s * SECOND
        arm(rows, timer_of(order, subject, f"{order.id}-rung-{number}", "order.rung", due, number))
    if order.ack_by is not None:
        arm(rows, timer_of(order, subject, f"{order.id}-ack", "order.overdue", order.ack_by))
    if order.due_at is not None:
        arm(rows, timer_of(order, subject, f"{order.id}-due", "order.late", order.due_at))


def timer_of(order: Order, subject: str, key: str, kind: str, due_at: int, step: int = 0) -> Timer:
    return Timer(id=key, kind=kind, subject=subject, about=order.id, due_at=due_at, step=step)


def binding(rows: Rows, incident: str) -> list[Order]:
    """The orders of an incident that keep their assignees busy."""
    found = rows.where(ORDER, incident=incident)
    return [order for order in found if order.progress in BINDING and order.owner is Owner.ISSUED and order.open]


def occupy(rows: Editing, order: Order) -> None:
    """The unit is at work on the order."""
    unit = rows.get(UNIT, order.assignee.id) if order.assignee.kind is PartyKind.UNIT else None
    if unit is not None and order.id not in unit.orders:
        rows.put(UNIT, replace(unit, orders=[*unit.orders, order.id], status=UnitStatus.BUSY))


def release(rows: Editing, order: Order) -> None:
    """The unit is no longer at work on the order."""
    unit = rows.get(UNIT, order.assignee.id) if order.assignee.kind is PartyKind.UNIT else None
    if unit is not None and order.id in unit.orders:
        left = [key for key in unit.orders if key != order.id]
        status = unit.status if left or unit.status is not UnitStatus.BUSY else UnitStatus.AVAILABLE
        rows.put(UNIT, replace(unit, orders=left, status=status))


def settle_alarm(rows: Editing, order: Order, written: Written) -> None:
    """An answer ends the alarm of its silence; nobody need click."""
    alarm = rows.get(incidents.ALARM, f"order-{order.id}-overdue")
    if alarm is not None and alarm.acknowledged_at is None:
        done = replace(alarm, acknowledged_at=written.entry.at, acknowledged_by=written.entry.by.account, version=2)
        rows.put(incidents.ALARM, done)


TABLES = (ORDER,)


TABLES = (ORDER,)
