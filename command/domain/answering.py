"""The assignee's side of an order: how far it came, and what its silence leads to.

Pure. Writes the assignee's register, never the owner's. Invariant: progress only moves forward; an answer ends the alarm of
its silence, and a late order that somebody works on is put before its incident's owner.
"""

from typing import Any

from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Rows
from command.base.rights import Scope
from command.base.schema import need
from command.base.timer import TIMER, arm
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Alarm
from command.domain.nodes import ever_above
from command.domain.order import (
    ANSWERED,
    BINDING,
    FORWARD,
    ORDER,
    SECOND,
    Order,
    Owner,
    Progress,
    ProgressOrder,
    Standing,
    forward,
    occupy,
    release,
    settle_alarm,
    timer_of,
)

DECIDE_WITHIN_S = 1_800
"""A late order that somebody accepted should be adopted or recalled within so long of the acceptance."""


def may_progress(rows: Rows, order: Order, origin: str) -> bool:
    """Whether a node's word on an order can be its assignee's: that of the node which answers for it, of one above or below
    that, of the node that gave the order, or of the incident's owner."""
    if origin in (order.node, order.origin):
        return True
    incident = rows.get(INCIDENT, order.incident)
    if incident is not None and incident.owner == origin:
        return True
    return ever_above(rows, origin, order.node) or ever_above(rows, order.node, origin)


def decide_progress(rows: Rows, request: ProgressOrder, context: Context) -> Decision:
    order = need(rows, ORDER, request.id)  # it may have come ahead of its incident
    context.allow("order.progress", Scope(parties=tuple(order.parties)))
    if order.owner is Owner.CANCELLED:
        raise Conflict("order.cancelled", "The order was cancelled; nothing more is asked of you.")
    if not may_progress(rows, order, context.node):
        raise Conflict("order.elsewhere", "Another node answers for this order.", node=order.node)
    if request.step is order.progress and request.step is not Progress.REPORTED:
        return Decision(id=order.id)
    receipt = request.step in (Progress.DELIVERED, Progress.READ)
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


def _progressed(rows: Editing, written: Written) -> None:
    entry = written.entry
    order = rows.get(ORDER, entry.body["order"])
    to = Progress(entry.body["step"])
    if order is None or (order.progress, to) not in FORWARD:
        return
    changes: dict[str, Any] = {"progress": to}
    if "text" in written.secrets:
        changes["last_report"] = written.secrets["text"]
    if to in (Progress.ACCEPTED, Progress.DECLINED):
        changes |= {"answered_at": entry.at, "answered_by": entry.by.person or entry.by.account, "overdue": False}
    if to in (Progress.DONE, Progress.DECLINED):
        changes |= {"open": False, "done_at": entry.at if to is Progress.DONE else None}
    if to in BINDING and order.standing is Standing.LATE:
        changes |= {"open": True, "decide_by": entry.at + DECIDE_WITHIN_S * SECOND}
        _undecided(rows, order, entry.at)
    order = replace(order, version=order.version + 1, **changes)
    rows.put(ORDER, order)
    if to in ANSWERED:
        settle_alarm(rows, order, written)
        _disarm_answered(rows, order)
    if to in BINDING and order.owner is Owner.ISSUED:
        occupy(rows, order)
    elif to in (Progress.DONE, Progress.DECLINED):
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
    arm(rows, timer_of(order, subject, key, "order.undecided", at + DECIDE_WITHIN_S * SECOND))


def _disarm_answered(rows: Editing, order: Order) -> None:
    for timer in rows.where(TIMER, about=order.id):
        if timer.kind not in ("order.late", "order.undecided") or not order.open:
            rows.delete(TIMER, timer.id)


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


def _rung_taken(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        rows.put(ORDER, replace(order, rung=max(order.rung, written.entry.body["rung"] + 1)))


PROJECTORS = {
    "order.progressed": _progressed,
    "order.overdue": _overdue_projected,
    "order.late": _overdue_projected,
    "order.undecided": _overdue_projected,
    "order.rung": _rung_taken,
}
DECIDERS = {ProgressOrder: decide_progress}
