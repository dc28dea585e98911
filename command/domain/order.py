"""An order: a task given to a unit, person or organisation, followed until it is done.

Pure. Owner side (issued, amended, cancelled) and assignee side (delivered ... done) are separate registers and never
interleave; what the screen shows (`Order.state`) is a function of both. Invariant: progress only moves forward, and no
order is forgotten: silence past its deadline is an entry, an alarm, and the next step of its ladder.
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
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
    fresh,
    need,
)
from command.base.timer import TIMER, Timer, arm, disarm
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Alarm, Incident
from command.domain.nodes import HOME, NODE, NodeKind, above, node_of
from command.domain.registry import ORGANISATION, PERSON, UNIT, UnitStatus

LADDER_MAX = 10
SECOND = 1_000_000
DECIDE_WITHIN_S = 1_800
"""A late order that somebody accepted should be adopted or recalled within so long of the acceptance."""


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


def order_draft(rows: Rows, request: IssueOrder, incident: Incident, context: Context) -> tuple[str, Draft]:
    """A new order's id and entry; a plan issues its orders through this too."""
    key = context.new_id()
    ladder = list(LADDER_DEFAULT if request.ladder is None else request.ladder)
    body = {
        "order": key,
        "assignee": {"kind": request.assignee.kind, "id": request.assignee.id},
        "parties": parties_of(rows, request.assignee),
        "urgency": request.urgency,
        "ack_by": None if request.ack_within_s is None else context.now + request.ack_within_s * SECOND,
        "due_at": None if request.due_in_s is None else context.now + request.due_in_s * SECOND,
        "ladder": [{"after_s": rung.after_s, "means": rung.means} for rung in ladder],
        "organisation": incident.organisation,
        "exercise": incident.exercise,
    }
    node = node_for(rows, request.assignee, context.node)
    if node != context.node:
        body["node"] = node  # whoever holds this knows that the incident's streams are for that node too
    private = {"task": request.task}
    return key, Draft(subject=incident.subject, kind="order.issued", body=body, private=private, claim=incident.claim)


def decide_issue(rows: Rows, request: IssueOrder, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("order.issue", incidents.scope(incident))
    if not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it before giving orders.")
    key, draft = order_draft(rows, request, incident, context)
    return Decision(drafts=[draft], id=key)


def decide_amend(rows: Rows, request: AmendOrder, context: Context) -> Decision:
    order, incident = _both(rows, request.id)
    context.allow("order.edit", scope(order))
    fresh(order, request.version, request)
    if not order.open:
        raise Conflict("order.closed", "The order is closed; give a new one.")
    body: dict[str, Any] = {"order": order.id}
    private = {}
    if request.due_at is not UNSET:
        body["due_at"] = request.due_at
    if request.task is not UNSET:
        private["task"] = request.task
    draft = Draft(
        subject=incident.subject, kind="order.amended", body=body, private=private or None, claim=incident.claim
    )
    return Decision(drafts=[draft], id=order.id)


def decide_cancel(rows: Rows, request: CancelOrder, context: Context) -> Decision:
    order, incident = _both(rows, request.id)
    context.allow("order.edit", scope(order))
    fresh(order, request.version, request)
    if not order.open:
        raise Conflict("order.closed", "The order is already closed.")
    private = {"reason": request.reason} if request.reason else None
    body = {"order": order.id}
    draft = Draft(subject=incident.subject, kind="order.cancelled", body=body, private=private, claim=incident.claim)
    return Decision(drafts=[draft], id=order.id)


def decide_progress(rows: Rows, request: ProgressOrder, context: Context) -> Decision:
    order = need(rows, ORDER, request.id)  # it may have come ahead of its incident
    context.allow("order.progress", Scope(parties=tuple(order.parties)))
    if order.owner is Owner.CANCELLED:
        raise Conflict("order.cancelled", "The order was cancelled; nothing more is asked of you.")
    if request.step is order.progress and request.step is not _P.REPORTED:
        return Decision(id=order.id)
    receipt = request.step in (_P.DELIVERED, _P.READ)
    if receipt and (order.progress, request.step) not in FORWARD:
        return Decision(id=order.id)  # a late receipt adds nothing
    forward(order.progress, request.step)
    body: dict[str, Any] = {"order": order.id, "step": request.step}
    private: dict[str, Any] = {}
    if request.place is not None:
        body |= {"lon": request.place.lon, "lat": request.place.lat}
        private["address"] = request.place.address
    if request.text:
        private["text"] = request.text
    draft = Draft(subject=f"incident/{order.incident}", kind="order.progressed", body=body, private=private or None)
    return Decision(drafts=[draft], id=order.id)


def decide_adopt(rows: Rows, request: AdoptOrder, context: Context) -> Decision:
    order, incident = _late(rows, request.id, request.version, request, context)
    if not order.open:
        raise Conflict("order.closed", "Nobody is at work on this order; give a new one.")
    body = {"order": order.id, "entry": order.entry}
    return Decision(drafts=[Draft(subject=incident.subject, kind="order.adopted", body=body)], id=order.id)


def decide_recall(rows: Rows, request: RecallOrder, context: Context) -> Decision:
    order, incident = _late(rows, request.id, request.version, request, context)
    body = {"order": order.id, "entry": order.entry}
    private = {"reason": request.reason} if request.reason else None
    draft = Draft(subject=incident.subject, kind="order.recalled", body=body, private=private)
    return Decision(drafts=[draft], id=order.id)


def _late(rows: Rows, key: str, version: int, request: object, context: Context) -> tuple[Order, Incident]:
    order, incident = _both(rows, key)
    context.allow("order.edit", scope(order))
    fresh(order, version, request)
    if order.standing is not Standing.LATE:
        raise Conflict("order.not_late", "This order was given by the incident's owner; amend or cancel it.")
    return order, incident


def _both(rows: Rows, key: str) -> tuple[Order, Incident]:
    order = need(rows, ORDER, key)
    return order, need(rows, INCIDENT, order.incident)


# -- folding


def _issued(rows: Editing, written: Written) -> None:
    entry = written.entry
    order = _order(written)
    rows.add(ORDER, order)
    incidents.bind(rows, written, order.parties)
    arm_ladder(rows, order, entry.at)


def issue_late(rows: Editing, written: Written) -> None:
    """An order given under a claim that lost: it is there for whoever accepts it, and for the owner to adopt or recall; it
    has no timers, and binds nobody until somebody binds themselves."""
    rows.add(ORDER, replace(_order(written), standing=Standing.LATE, open=False, ladder=[]))
    incidents.bind(rows, written, written.entry.body["parties"])


def _order(written: Written) -> Order:
    entry, body = written.entry, written.entry.body
    ladder = [Rung(after_s=rung["after_s"], means=Means(rung["means"])) for rung in body["ladder"]]
    return Order(
        id=body["order"],
        incident=entry.subject.partition("/")[2],
        organisation=body["organisation"],
        node=body.get("node", entry.origin),
        origin=entry.origin,
        entry=written.hash.hex(),
        assignee=Party(kind=PartyKind(body["assignee"]["kind"]), id=body["assignee"]["id"]),
        parties=body["parties"],
        task=written.secrets.get("task", ""),
        urgency=Urgency(body["urgency"]),
        exercise=body["exercise"],
        issued_at=entry.at,
        issued_by=entry.by.account,
        ack_by=body["ack_by"],
        due_at=body["due_at"],
        ladder=ladder,
    )


def arm_ladder(rows: Editing, order: Order, at: int) -> None:
    """Set every timer of an order that was given, or taken over, `at`."""
    subject = f"incident/{order.incident}"
    for number, rung in enumerate(order.ladder):
        due = at + rung.after_s * SECOND
        arm(rows, _timer(order, subject, f"{order.id}-rung-{number}", "order.rung", due, number))
    if order.ack_by is not None:
        arm(rows, _timer(order, subject, f"{order.id}-ack", "order.overdue", order.ack_by))
    if order.due_at is not None:
        arm(rows, _timer(order, subject, f"{order.id}-due", "order.late", order.due_at))


def _timer(order: Order, subject: str, key: str, kind: str, due_at: int, step: int = 0) -> Timer:
    return Timer(id=key, kind=kind, subject=subject, about=order.id, due_at=due_at, step=step)


def _amended(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is None:
        return
    changes: dict[str, Any] = {}
    if "task" in written.secrets:
        changes["task"] = written.secrets["task"]
    if "due_at" in written.entry.body:
        due_at = written.entry.body["due_at"]
        changes |= {"due_at": due_at, "late": False}
        rows.delete(TIMER, f"{order.id}-due")
        if due_at is not None:
            arm(rows, _timer(order, written.entry.subject, f"{order.id}-due", "order.late", due_at))
    rows.put(ORDER, replace(order, version=order.version + 1, **changes))


def _cancelled(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        rows.put(ORDER, replace(order, version=order.version + 1, owner=Owner.CANCELLED, open=False, overdue=False))
        disarm(rows, order.id)
        _settle_alarm(rows, order, written)
        release(rows, order)


def may_progress(rows: Rows, order: Order, origin: str) -> bool:
    """Whether a node's word on an order can be its assignee's: that of the node which answers for it, of one above or below
    that, or of the node that gave the order."""
    return origin in (order.node, order.origin) or above(rows, origin, order.node) or above(rows, order.node, origin)


def _progressed(rows: Editing, written: Written) -> None:
    entry = written.entry
    order = rows.get(ORDER, entry.body["order"])
    to = Progress(entry.body["step"])
    if order is None or (order.progress, to) not in FORWARD:
        return
    changes: dict[str, Any] = {"progress": to}
    if "text" in written.secrets:
        changes["last_report"] = written.secrets["text"]
    if to in (_P.ACCEPTED, _P.DECLINED):
        changes |= {"answered_at": entry.at, "answered_by": entry.by.person or entry.by.account, "overdue": False}
    if to in (_P.DONE, _P.DECLINED):
        changes |= {"open": False, "done_at": entry.at if to is _P.DONE else None}
    if to in BINDING and order.standing is Standing.LATE:
        changes |= {"open": True, "decide_by": entry.at + DECIDE_WITHIN_S * SECOND}
        _undecided(rows, order, entry.at)
    order = replace(order, version=order.version + 1, **changes)
    rows.put(ORDER, order)
    if to in ANSWERED:
        _settle_alarm(rows, order, written)
        _disarm_answered(rows, order)
    if to in BINDING and order.owner is Owner.ISSUED:
        occupy(rows, order)
    elif to in (_P.DONE, _P.DECLINED):
        release(rows, order)


def _undecided(rows: Editing, order: Order, at: int) -> None:
    """Somebody is at work on an order that lost its owner: the new one hears of it at once, and must decide."""
    subject, key = f"incident/{order.incident}", f"{order.id}-decide"
    incidents.raise_alarm(
        rows,
        Alarm(
            id=f"order-{order.id}-late_accepted",
            kind="order.late_accepted",
            incident=order.incident,
            order=order.id,
            organisation=order.organisation,
            raised_at=at,
        ),
    )
    arm(rows, _timer(order, subject, key, "order.undecided", at + DECIDE_WITHIN_S * SECOND))


def _adopted(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        kept = order.progress not in (_P.DONE, _P.DECLINED) and order.owner is Owner.ISSUED
        rows.put(ORDER, replace(order, version=order.version + 1, standing=Standing.ADOPTED, open=kept, decide_by=None))
        _decided(rows, order, written)


def _recalled(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None and order.standing is Standing.LATE:
        changes: dict[str, Any] = {"standing": Standing.RECALLED, "owner": Owner.CANCELLED, "open": False}
        rows.put(ORDER, replace(order, version=order.version + 1, decide_by=None, **changes))
        _decided(rows, order, written)
        disarm(rows, order.id)
        release(rows, order)


def _decided(rows: Editing, order: Order, written: Written) -> None:
    rows.delete(TIMER, f"{order.id}-decide")
    alarm = rows.get(incidents.ALARM, f"order-{order.id}-late_accepted")
    if alarm is not None and alarm.acknowledged_at is None:
        done = replace(alarm, acknowledged_at=written.entry.at, acknowledged_by=written.entry.by.account, version=2)
        rows.put(incidents.ALARM, done)


def _disarm_answered(rows: Editing, order: Order) -> None:
    for timer in rows.where(TIMER, about=order.id):
        if timer.kind not in ("order.late", "order.undecided") or not order.open:
            rows.delete(TIMER, timer.id)


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


def _overdue_projected(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is None or not order.open:
        return
    what = written.entry.kind.partition(".")[2]
    if what != "undecided":
        rows.put(ORDER, replace(order, late=True) if what == "late" else replace(order, overdue=True))
    incidents.raise_alarm(
        rows,
        Alarm(
            id=f"order-{order.id}-{what}",
            kind=written.entry.kind,
            incident=order.incident,
            order=order.id,
            organisation=order.organisation,
            raised_at=written.entry.at,
        ),
    )


def _settle_alarm(rows: Editing, order: Order, written: Written) -> None:
    """An answer ends the alarm of its silence; nobody need click."""
    alarm = rows.get(incidents.ALARM, f"order-{order.id}-overdue")
    if alarm is not None and alarm.acknowledged_at is None:
        done = replace(alarm, acknowledged_at=written.entry.at, acknowledged_by=written.entry.by.account, version=2)
        rows.put(incidents.ALARM, done)


def _rung_taken(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        rows.put(ORDER, replace(order, rung=max(order.rung, written.entry.body["rung"] + 1)))


TABLES = (ORDER,)
PROJECTORS = {
    "order.issued": _issued,
    "order.amended": _amended,
    "order.cancelled": _cancelled,
    "order.progressed": _progressed,
    "order.overdue": _overdue_projected,
    "order.late": _overdue_projected,
    "order.rung": _rung_taken,
    "order.adopted": _adopted,
    "order.recalled": _recalled,
    "order.undecided": _overdue_projected,
}
DECIDERS = {
    IssueOrder: decide_issue,
    AmendOrder: decide_amend,
    CancelOrder: decide_cancel,
    AdoptOrder: decide_adopt,
    RecallOrder: decide_recall,
    ProgressOrder: decide_progress,
}
