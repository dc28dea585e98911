"""Reporting upward: what the owner of an incident owes its superiors now, and what silence leads to.

Pure. Fired by timers that `owing` arms; it decides again with the rules and the incident as they stand then. Invariant: only
the incident's owner owes, and nothing is owed twice by one rule at a time.
"""

from command.base.entry import Draft
from command.base.projection import Context, Rows
from command.base.timer import HANDLERS, Timer
from command.domain.deadline import REPORT_RULE, seat
from command.domain.incident import INCIDENT, Incident, State
from command.domain.nodes import NODE
from command.domain.owing import REPORT_DUE, due_draft, owed, repeated_draft
from command.domain.registry import Organisation
from command.domain.tenure import TERM

UNTIL_STABLE = (State.REPORTED, State.VERIFIED, State.RESPONDING)


def sender(rows: Rows, incident: Incident, node: str) -> Organisation | None:
    """Who reports the incident upward: the government it belongs to, or after a raise or a seizure the new owner's."""
    here = rows.get(NODE, node)
    taken = any(term.standing and term.owner == node for term in rows.where(TERM, incident=incident.id))
    where = here.organisation if taken and here is not None else None
    return seat(rows, where or incident.organisation)


def _review(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    incident = rows.get(INCIDENT, timer.about)
    who = None if incident is None else sender(rows, incident, context.node)
    if incident is None or who is None or incident.owner != context.node:
        return []
    found = owed(rows, incident, who, timer.due_at)
    return [
        due_draft(rule, to, incident, who, key=context.bound_id(incident.subject), at=timer.due_at)
        for rule, to in found
    ]


def _soon(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    due = rows.get(REPORT_DUE, timer.about)
    if due is None or not due.open or due.due_at <= context.now:
        return []  # too late for a reminder
    return [Draft(subject=timer.subject, kind="report.soon", body={"due": due.id})]


def _overdue(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    due = rows.get(REPORT_DUE, timer.about)
    incident = None if due is None else rows.get(INCIDENT, due.incident)
    if due is None or incident is None:
        return []
    drafts = []
    if due.open:
        drafts.append(Draft(subject=timer.subject, kind="report.overdue", body={"due": due.id}))
    if due.repeat_s is not None and incident.state in UNTIL_STABLE:
        same = [row for row in rows.where(REPORT_DUE, incident=due.incident) if row.rule == due.rule]
        if not any(row.open and row.id != due.id for row in same):
            rule = rows.get(REPORT_RULE, due.rule)
            key = context.bound_id(incident.subject)
            drafts.append(repeated_draft(due, rule, incident, key=key, now=context.now))
    return drafts


HANDLERS |= {"report.review": _review, "report.soon": _soon, "report.overdue": _overdue}
