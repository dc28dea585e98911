"""The ladder: what silence after an order leads to, step by step.

Pure. Fired by timers that `order` arms; it decides again with the order as it stands then. Invariant: nobody who answered is
called again, and nobody who is off duty is called for the duty leader.
"""

from command.base.entry import Draft
from command.base.projection import Context, Rows
from command.base.schema import PartyKind
from command.base.timer import HANDLERS, Timer
from command.domain.incident import INCIDENT, Incident
from command.domain.nodes import NODE
from command.domain.notice import NoticeKind, Recipients, notice_draft
from command.domain.order import ANSWERED, ORDER, Means, Order, Standing
from command.domain.registry import ORGANISATION, PERSON, on_duty


def _overdue(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    order = rows.get(ORDER, timer.about)
    if order is None or not order.open or order.progress in ANSWERED:
        return []
    return [Draft(subject=timer.subject, kind="order.overdue", body={"order": order.id})]


def _late(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    order = rows.get(ORDER, timer.about)
    if order is None or not order.open:
        return []
    return [Draft(subject=timer.subject, kind="order.late", body={"order": order.id})]


def _undecided(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    order = rows.get(ORDER, timer.about)
    if order is None or not order.open or order.standing is not Standing.LATE:
        return []
    return [Draft(subject=timer.subject, kind="order.undecided", body={"order": order.id})]


def _rung(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    order = rows.get(ORDER, timer.about)
    if order is None or not order.open or order.progress in ANSWERED or timer.step >= len(order.ladder):
        return []
    rung = order.ladder[timer.step]
    incident = rows.get(INCIDENT, order.incident)
    body = {"order": order.id, "rung": timer.step, "means": rung.means}
    drafts = [Draft(subject=timer.subject, kind="order.rung", body=body)]
    if incident is not None and rung.means in (Means.SMS, Means.DUTY_LEADER, Means.SUPERIOR):
        persons = _whom(rows, order, rung.means, context.now)
        if persons:
            drafts.append(_call_out(rows, incident, order, persons, rung.means, context))
    return drafts


def _whom(rows: Rows, order: Order, means: Means, now: int) -> list[str]:
    if means is Means.SMS:
        if order.assignee.kind is PartyKind.ORGANISATION:
            return [shift.person for shift in on_duty(rows, order.assignee.id, now)]
        return [party for party in order.parties if rows.get(PERSON, party) is not None]
    organisation = rows.get(ORGANISATION, order.organisation)
    where = order.organisation
    if means is Means.SUPERIOR:
        where = organisation.parent if organisation is not None and organisation.parent else where
    return [shift.person for shift in on_duty(rows, where, now, leader=True)]


def _call_out(
    rows: Rows, incident: Incident, order: Order, persons: list[str], means: Means, context: Context
) -> Draft:
    """An SMS about this order; to the assignee it asks for the answer `1`, to leaders it tells of the silence. In a tree it
    names the node that calls: two may do so after a seizure that the other has not heard of."""
    text = {"zh": f"【应急命令】{order.task} 回复1确认", "en": f"[ORDER] {order.task} Reply 1 to accept."}
    if means is not Means.SMS:
        text = {"zh": f"【命令未确认】{order.task}", "en": f"[ORDER UNANSWERED] {order.task}"}
    here = rows.get(NODE, context.node)
    if (here is not None and here.parent is not None) or len(rows.where(NODE, parent=context.node)) > 0:
        name = here.name if here is not None else context.node
        text = {"zh": f"{text['zh']}（{name}）", "en": f"{text['en']} ({name})"}
    return notice_draft(
        context,
        subject=incident.subject,
        kind=NoticeKind.CALL_OUT,
        text_zh=text["zh"],
        text_en=text["en"],
        recipients=Recipients(persons=persons),
        urgency=order.urgency,
        organisation=order.organisation,
        incident=incident.id,
        order=order.id if means is Means.SMS else None,
        exercise=order.exercise,
        claim=incident.claim,
    )[1]


HANDLERS |= {"order.overdue": _overdue, "order.late": _late, "order.rung": _rung, "order.undecided": _undecided}
