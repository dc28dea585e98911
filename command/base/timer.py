"""Timers as rows: what falls due, and who decides what then happens.

Pure. Never sleeps; `timers.py` (shell) wakes up and sends `FireTimer`. Invariant (rule 7): a timer fires once, in the
transaction that removes it; after a restore, overdue timers are held for a person.
"""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import NODE
from command.base.schema import Id, Instant, Struct

HOLD_MAX = 10_000


class Timer(Row, frozen=True, kw_only=True):
    """`kind` names the handler, `subject` the stream its consequence belongs to, `about` the row it is about."""

    kind: str
    subject: str
    about: Id
    due_at: Instant
    step: int = 0
    held: bool = False


TIMER = Table(
    name="timer",
    row=Timer,
    index=("due_at", "held", "about", "subject"),
    topics=lambda row: ("held",) if row.held else (),
)


class FireTimer(Struct, frozen=True, kw_only=True):
    """Sent by the node itself when a timer is due."""

    id: str


class ReleaseTimer(Struct, frozen=True, kw_only=True):
    """A person's word on a held timer: let it fire now, or drop it."""

    id: Id
    fire: bool


class HoldTimers(Struct, frozen=True, kw_only=True):
    """Leave these to a person. Sent by the node itself: they were armed by entries that it had lost and got back, and what
    was due meanwhile may have happened."""

    ids: Annotated[list[Id], Meta(max_length=HOLD_MAX)]


Handler = Callable[[Rows, Timer, Context], list[Draft]]
HANDLERS: dict[str, Handler] = {}
"""What each kind of timer leads to; filled by the modules that set timers, at import."""


def decide_fire(rows: Rows, request: FireTimer, context: Context) -> Decision:
    timer = rows.get(TIMER, request.id)
    context.allow("node.settle", NODE)
    if timer is None or timer.held or timer.due_at > context.now:
        return Decision()
    return Decision(drafts=_consequences(rows, timer, context), id=timer.id)


def decide_release(rows: Rows, request: ReleaseTimer, context: Context) -> Decision:
    context.allow("node.settle", NODE)
    timer = rows.get(TIMER, request.id)
    if timer is None:
        return Decision(id=request.id)
    if request.fire:
        return Decision(drafts=_consequences(rows, timer, context), id=timer.id)
    return Decision(drafts=[Draft(subject=timer.subject, kind="timer.dropped", body={"timer": timer.id})], id=timer.id)


def decide_hold(rows: Rows, request: HoldTimers, context: Context) -> Decision:
    context.allow("node.settle", NODE)
    draft = Draft(subject="registry", kind="timers.held", body={"timers": request.ids})
    return Decision(drafts=[draft] if request.ids else [])


def _consequences(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    handler = HANDLERS.get(timer.kind)
    drafts = handler(rows, timer, context) if handler is not None else []
    return [Draft(subject=timer.subject, kind="timer.fired", body={"timer": timer.id, "kind": timer.kind}), *drafts]


def _gone(rows: Editing, written: Written) -> None:
    rows.delete(TIMER, written.entry.body["timer"])


def _held(rows: Editing, written: Written) -> None:
    for key in written.entry.body["timers"]:
        timer = rows.get(TIMER, key)
        if timer is not None:
            rows.put(TIMER, replace(timer, held=True))


def arm(rows: Editing, timer: Timer) -> None:
    rows.put(TIMER, timer)


def disarm(rows: Editing, about: str) -> None:
    """Remove every timer about this row."""
    for timer in rows.where(TIMER, about=about):
        rows.delete(TIMER, timer.id)


TABLES = (TIMER,)
PROJECTORS = {"timer.fired": _gone, "timer.dropped": _gone, "timers.held": _held}
DECIDERS = {FireTimer: decide_fire, ReleaseTimer: decide_release, HoldTimers: decide_hold}
