"""The owner's side of an order: given, amended, cancelled; what was given under a lost claim is adopted or recalled.

Pure. Writes the owner's register and what an order *is*, never how far its assignee came. Invariant: only an order that counts
has timers, and one that is called off keeps nobody busy.
"""

from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Rows
from command.base.schema import Party, PartyKind, Urgency, fresh, need
from command.base.timer import TIMER, arm, disarm
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Incident
from command.domain.order import (
    LADDER_DEFAULT,
    ORDER,
    SECOND,
    AdoptOrder,
    AmendOrder,
    CancelOrder,
    IssueOrder,
    Means,
    Order,
    Owner,
    Progress,
    RecallOrder,
    Rung,
    Standing,
    arm_ladder,
    node_for,
    parties_of,
    release,
    scope,
    settle_alarm,
    timer_of,
)


def order_draft(rows: Rows, request: IssueOrder, incident: Incident, context: Context) -> tuple[str, Draft]:
    """A new order's id and entry; a plan issues its orders through this too."""
    key = context.bound_id(incident.subject)
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
    if not _new(rows, written):
        return
    order = _order(written)
    rows.add(ORDER, order)
    incidents.bind(rows, written, order.parties)
    arm_ladder(rows, order, entry.at)


def issue_late(rows: Editing, written: Written) -> None:
    """An order given under a claim that lost: it is there for whoever accepts it, and for the owner to adopt or recall; it
    has no timers, and binds nobody until somebody binds themselves."""
    if not _new(rows, written):
        return
    rows.add(ORDER, replace(_order(written), standing=Standing.LATE, open=False, ladder=[]))
    incidents.bind(rows, written, written.entry.body["parties"])


def _new(rows: Rows, written: Written) -> bool:
    """Whether this gives an order: under an id of its author, who has not given it before."""
    key = written.entry.body["order"]
    return bound(key, written.entry) and rows.get(ORDER, key) is None


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
            arm(rows, timer_of(order, written.entry.subject, f"{order.id}-due", "order.late", due_at))
    rows.put(ORDER, replace(order, version=order.version + 1, **changes))


def _cancelled(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        rows.put(ORDER, replace(order, version=order.version + 1, owner=Owner.CANCELLED, open=False, overdue=False))
        disarm(rows, order.id)
        settle_alarm(rows, order, written)
        release(rows, order)


def _adopted(rows: Editing, written: Written) -> None:
    order = rows.get(ORDER, written.entry.body["order"])
    if order is not None:
        kept = order.progress not in (Progress.DONE, Progress.DECLINED) and order.owner is Owner.ISSUED
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


PROJECTORS = {
    "order.issued": _issued,
    "order.amended": _amended,
    "order.cancelled": _cancelled,
    "order.adopted": _adopted,
    "order.recalled": _recalled,
}
DECIDERS = {
    IssueOrder: decide_issue,
    AmendOrder: decide_amend,
    CancelOrder: decide_cancel,
    AdoptOrder: decide_adopt,
    RecallOrder: decide_recall,
}
