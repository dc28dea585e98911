"""What is owed upward: each report of an incident that somebody owes a superior, until when, and what became of it.

Pure. It says what a rule of `deadline` leads to; who reports, and what silence leads to, is `reporting`'s. Invariant: what is
owed is frozen as it was when it came to be owed (a later edit of its rule changes nothing there), and a rule reaches back to
nothing that was decided before it was saved, or in the same microsecond (so that what is folded anew comes out the same).
"""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.naming import bound
from command.base.projection import Editing, Rows, Table
from command.base.rights import Scope
from command.base.schema import Id, Instant
from command.base.timer import Timer, arm, disarm
from command.domain import incident as incidents
from command.domain.deadline import REPORT_RULE, Clock, ReportRule, Terms, first_due, next_due, recipient, remind_at
from command.domain.incident import ALARM, ENDED, Alarm, Channel, Incident, State
from command.domain.registry import Organisation
from command.tree.claim import SEIZED, TRANSFERRED

TERMS = tuple(name for name in Terms.__struct_fields__ if name not in ("id", "version"))


class DueState(StrEnum):
    """DONE: reported. MISSED: the next one of a repeated report took its place. LAPSED: no longer owed."""

    OPEN = "open"
    DONE = "done"
    MISSED = "missed"
    LAPSED = "lapsed"


class ReportDue(Terms, frozen=True, kw_only=True):
    """A report that `sender` owes `recipient` (organisations; None is the state) by `due_at`. `number` counts the repetitions
    of a rule, `late` says that it was overdue when it was made."""

    incident: Id
    organisation: Id
    rule: Id
    number: int = 1
    sender: Id
    recipient: Id | None = None
    starts_at: Instant
    due_at: Instant
    remind_at: Instant | None = None
    state: DueState = DueState.OPEN
    open: bool = True
    overdue: bool = False
    done_at: Instant | None = None
    done_by: Id | None = None
    late: bool = False


REPORT_DUE = Table(
    name="report_due",
    row=ReportDue,
    index=("incident", "organisation", "open"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)


def scope(row: ReportDue) -> Scope:
    return Scope(organisation=row.organisation)


def owed(rows: Rows, incident: Incident, sender: Organisation, at: int) -> list[tuple[ReportRule, str]]:
    """The rules by which `sender` owes a report of the incident since `at`, each with the recipient, that are not on its list
    yet. One that was done is owed again only where it is repeated or counts from when the incident was under control."""
    dues = [due for due in rows.where(REPORT_DUE, incident=incident.id) if due.sender == sender.id]
    waiting = {due.rule for due in dues if due.open}
    done = {due.rule for due in dues if due.state is DueState.DONE}
    found = []
    for rule in rows.where(REPORT_RULE, retired=False):
        to = recipient(rows, rule, sender)
        once = rule.repeat_s is None and rule.clock is not Clock.STABLE
        if to is None or rule.id in waiting or (once and rule.id in done):
            continue
        if rule.saved_at < at and rule.covers(incident.category, incident.level) and _in_force(rule, incident.state):
            found.append((rule, to))
    return found


def _in_force(rule: Terms, state: State) -> bool:
    """Whether the rule speaks of an incident in this state: nothing new once it has ended, repetitions until it is stable."""
    if rule.clock is Clock.STABLE:
        return state is State.STABLE
    return state not in ENDED and (rule.repeat_s is None or state is not State.STABLE)


def due_draft(rule: ReportRule, to: str, incident: Incident, sender: Organisation, *, key: str, at: int) -> Draft:
    """That the report is owed, by the rule as it is now."""
    starts_at = incident.occurred_at if rule.clock is Clock.OCCURRENCE else at
    due_at = first_due(rule, starts_at)
    terms = {name: getattr(rule, name) for name in TERMS}
    body = {
        **msgspec.to_builtins(terms),
        "due": key,
        "rule": rule.id,
        "number": 1,
        "sender": sender.id,
        "recipient": to or None,
        "starts_at": starts_at,
        "due_at": due_at,
        "remind_at": remind_at(rule, at, due_at),
    }
    return Draft(subject=incident.subject, kind="report.due", body=body, claim=incident.claim)


def repeated_draft(due: ReportDue, rule: ReportRule | None, incident: Incident, *, key: str, now: int) -> Draft:
    """That the next repetition of a report is owed, on the terms of the one before."""
    assert due.repeat_s is not None
    due_at = next_due(due.due_at, due.repeat_s, now)
    terms = {name: getattr(due, name) for name in TERMS}
    body = {
        **msgspec.to_builtins(terms),
        "due": key,
        "rule": due.rule,
        "number": due.number + 1,
        "sender": due.sender,
        "recipient": due.recipient,
        "starts_at": due.due_at,
        "due_at": due_at,
        "remind_at": remind_at(rule, now, due_at),
    }
    return Draft(subject=incident.subject, kind="report.due", body=body, claim=incident.claim)


def reviewed(rows: Rows, draft: Draft) -> Draft:
    """The draft, with the word that its owner is to look at the rules if it changes what may be owed and there are any. Rules
    stand in other streams than incidents: folding, which may come later or elsewhere, must not ask for them."""
    if not _concerns(draft.kind, draft.body) or not rows.where(REPORT_RULE, retired=False):
        return draft
    return replace(draft, body=draft.body | {"review": True})


def _concerns(kind: str, body: dict[str, Any]) -> bool:
    """Whether such an entry may change what is owed."""
    return kind in REVIEWED and (kind != "incident.edited" or "category" in body)


# -- folding


def _due(rows: Editing, written: Written) -> None:
    incident, body = incidents.of(rows, written), written.entry.body
    if incident is None or not bound(body["due"], written.entry) or rows.get(REPORT_DUE, body["due"]) is not None:
        return
    own = {"id": body["due"], "incident": incident.id, "organisation": incident.organisation}
    due = msgspec.convert(body | own, ReportDue)
    for before in rows.where(REPORT_DUE, incident=incident.id, open=True):
        if before.rule == due.rule and before.sender == due.sender:
            _end(rows, before, DueState.MISSED)
    rows.add(REPORT_DUE, due)
    if due.remind_at is not None:
        arm(rows, _timer(due, "soon", due.remind_at))
    arm(rows, _timer(due, "overdue", due.due_at))


def _timer(due: ReportDue, what: str, at: int) -> Timer:
    return Timer(
        id=f"{due.id}-{what}", kind=f"report.{what}", subject=f"incident/{due.incident}", about=due.id, due_at=at
    )


def _end(rows: Editing, due: ReportDue, state: DueState, **changes: Any) -> None:
    rows.put(REPORT_DUE, replace(due, version=due.version + 1, state=state, open=False, **changes))
    if due.repeat_s is None or state is not DueState.DONE:  # the timer of a repeated one brings the next
        disarm(rows, due.id)


def _alarmed(rows: Editing, written: Written) -> None:
    """A reminder, or the deadline itself, has passed in silence."""
    due = rows.get(REPORT_DUE, written.entry.body["due"])
    if due is None or not due.open:
        return
    if written.entry.kind == "report.overdue":
        rows.put(REPORT_DUE, replace(due, version=due.version + 1, overdue=True))
        _quiet(rows, due, written, ("soon",))
    incidents.raise_alarm(
        rows,
        Alarm(
            id=f"report-{due.id}-{written.entry.kind.partition('.')[2]}",
            kind=written.entry.kind,
            incident=due.incident,
            report=due.id,
            organisation=due.organisation,
            raised_at=written.entry.at,
        ),
    )


def _quiet(rows: Editing, due: ReportDue, written: Written, what: tuple[str, ...] = ("soon", "overdue")) -> None:
    """End the alarms about it; nobody need click."""
    for name in what:
        alarm = rows.get(ALARM, f"report-{due.id}-{name}")
        if alarm is not None and alarm.acknowledged_at is None:
            by = written.entry.by.account
            rows.put(ALARM, replace(alarm, acknowledged_at=written.entry.at, acknowledged_by=by, version=2))


def _reported(rows: Editing, written: Written) -> None:
    """A sub-report fulfils what is owed of its kind, by its channel, to its recipient (to all, when it names none)."""
    incident, entry = incidents.of(rows, written), written.entry
    if incident is None:
        return
    to = entry.body.get("to")
    for due in rows.where(REPORT_DUE, incident=incident.id, open=True):
        same = due.report == entry.body["kind"] and due.channel == entry.body.get("channel", Channel.WRITING)
        if same and to in (None, due.recipient):
            late = due.overdue or entry.at > due.due_at
            _end(rows, due, DueState.DONE, done_at=entry.at, done_by=entry.by.account, late=late)
            _quiet(rows, due, written)


def _review(rows: Editing, incident: Incident, written: Written) -> None:
    """Have the owner look at once what is owed now."""
    if written.entry.body.get("review") is True:
        key, subject, at = f"{incident.id}-review", incident.subject, written.entry.at
        arm(rows, Timer(id=key, kind="report.review", subject=subject, about=incident.id, due_at=at))


def _lapse(rows: Editing, incident: Incident, written: Written, *, everything: bool = False) -> None:
    """Take off the list what is no longer owed. What is overdue stays until it is reported, or all of it goes."""
    for due in rows.where(REPORT_DUE, incident=incident.id):
        kept = due.covers(incident.category, incident.level) and _still(due, incident.state)
        if kept and not everything:
            continue
        if due.open and (everything or not due.overdue):
            _end(rows, due, DueState.LAPSED)
            _quiet(rows, due, written)
        elif due.repeat_s is not None:
            disarm(rows, due.id)


def _still(due: ReportDue, state: State) -> bool:
    """Whether a report once owed still is: one that counts from the stable incident also after its end."""
    if due.clock is Clock.STABLE:
        return state in (State.STABLE, State.CLOSED)
    return state is not State.DISMISSED and (due.repeat_s is None or state not in (State.STABLE, State.CLOSED))


def _changed(rows: Editing, written: Written) -> None:
    incident = incidents.of(rows, written)
    if incident is None or not _concerns(written.entry.kind, written.entry.body):
        return
    _lapse(rows, incident, written, everything=incident.state is State.DISMISSED)
    if incident.open:
        _review(rows, incident, written)


def _claimed(rows: Editing, written: Written) -> None:
    """Another level owns the incident: what the one before owed is its superior's to know, and the new owner reports upward."""
    incident = incidents.of(rows, written)
    if incident is not None:
        _lapse(rows, incident, written, everything=True)
        if incident.open:
            _review(rows, incident, written)


REVIEWED = frozenset(
    {"incident.reported", "incident.edited", "incident.level_set", "incident.stepped", TRANSFERRED, SEIZED}
)
TABLES = (REPORT_DUE,)
PROJECTORS = {
    "report.due": _due,
    "report.soon": _alarmed,
    "report.overdue": _alarmed,
    "incident.reported": _changed,
    "incident.edited": _changed,
    "incident.level_set": _changed,
    "incident.stepped": _changed,
    "incident.sub_report": _reported,
    TRANSFERRED: _claimed,
    SEIZED: _claimed,
}
