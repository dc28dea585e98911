"""The outbox: kept rows of messages, and every request that moves one of them.

Pure. It sends nothing; the worker asks here before the first byte leaves and tells here what came of it. Invariant: a
message that can have left is not submitted again by itself, except an emergency once, marked; and what belongs to a drill
or to a number of nobody is never given to a gateway that is real.
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from command.base.clock import MICROSECONDS
from command.base.entry import Draft
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE, Scope
from command.base.schema import Id, Instant, ShortText, Struct, Text, Urgency, need
from command.domain.answering import decide_progress
from command.domain.notice import NOTICE, Notice, NoticeState
from command.domain.notice import scope as notice_scope
from command.domain.order import ORDER, Progress, ProgressOrder
from command.domain.registry import ORGANISATION, SUBJECT
from sms.message import FINAL, Kind, Message, Next, State, apply, next_action, twin

SUBMIT_MAX = 200
"""Messages that one request moves to submitting."""
CANCEL_MAX = 500

VALID_S = {Urgency.EMERGENCY: 4 * 3600, Urgency.NORMAL: 24 * 3600}
"""How long a message is worth sending."""

Kept = list[tuple[Table[Any], Row]]


def _topics(row: Message) -> tuple[str, ...]:
    notice = f"notice/{row.notice}"
    return (notice, "unsettled") if row.state is State.UNKNOWN else (notice,)


MESSAGE = Table(
    name="message",
    row=Message,
    index=(
        "notice", "number", "state", "real", "urgency", "not_before", "gateway_id", "order", "root", "resent", "answered",
    ),
    kept=True,
    topics=_topics,
)  # fmt: skip


class Job(Row, frozen=True, kw_only=True):
    """`id` is a notice's that was issued and not yet expanded when the database was restored: its messages may have left
    already, so they wait for a person."""

    at: Instant


JOB = Table(name="job", row=Job, kept=True)


class GatewayState(Row, frozen=True, kw_only=True):
    """`id` is the gateway's name. `blocked`: nothing passes until somebody acts; `code` and `hint` say on what."""

    blocked: bool
    code: ShortText = ""
    hint: Text = ""
    since: Instant


GATEWAY = Table(name="gateway", row=GatewayState, kept=True, topics=lambda row: ("notices",))


class SubmitMessages(Struct, frozen=True, kw_only=True):
    """Sent by the worker before the first byte of them leaves. `real` says what kind of gateway it is."""

    ids: Annotated[list[str], Meta(max_length=SUBMIT_MAX)]
    gateway: str
    real: bool


class MarkMessage(Struct, frozen=True, kw_only=True):
    """What came of a submit. Sent by the worker."""

    id: str
    kind: Kind
    code: str = ""
    gateway: str = ""
    gateway_id: str = ""
    not_before: Instant = 0


class TakeReceipt(Struct, frozen=True, kw_only=True):
    """A receipt of a gateway. `message` is our id, or "" where the gateway knows only its own."""

    gateway: str
    gateway_id: str
    kind: Kind
    message: str = ""
    code: str = ""


class MarkCrashed(Struct, frozen=True, kw_only=True):
    """At start: whatever was being submitted is unknown now."""


class MarkRestored(Struct, frozen=True, kw_only=True):
    """After a restore: whatever isn't final is unknown and waits for a person, or for its receipt."""


class ResendUnknown(Struct, frozen=True, kw_only=True):
    """The crash rule for emergencies: a second copy, marked, once. Sent by the worker."""

    id: str


class Settlement(StrEnum):
    RESEND = "resend"
    ABANDON = "abandon"
    DELIVERED = "delivered"


class SettleMessage(Struct, frozen=True, kw_only=True):
    """A person's word on a message that is unknown (or, to send it once more, failed)."""

    id: Id
    action: Settlement


class CancelQueued(Struct, frozen=True, kw_only=True):
    """Take back up to CANCEL_MAX messages of a cancelled notice that have not left. Sent by the worker."""

    notice: Id


class ReportGateway(Struct, frozen=True, kw_only=True):
    """A gateway is blocked, or passes messages again. Sent by the worker."""

    gateway: Id
    blocked: bool
    code: str = ""
    hint: str = ""


def _node_only(context: Context) -> None:
    """Only the node itself asks this; a person never may."""
    context.allow("node.self", NODE)


def decide_submit(rows: Rows, request: SubmitMessages, context: Context) -> Decision:
    _node_only(context)
    kept: Kept = []
    going: list[str] = []
    for key in request.ids:
        message = rows.get(MESSAGE, key)
        if message is None or message.state is not State.QUEUED or (request.real and not message.real):
            continue
        notice = rows.get(NOTICE, message.notice)
        action = next_action(message, context.now)
        if notice is not None and notice.state is NoticeState.CANCELLED:
            kept.append((MESSAGE, apply(message, Kind.CANCEL, context.now)))
        elif action is Next.EXPIRE:
            kept.append((MESSAGE, apply(message, Kind.EXPIRED, context.now, code="sms.expired")))
        elif action is Next.SUBMIT:
            kept.append((MESSAGE, apply(message, Kind.SUBMIT, context.now, gateway=request.gateway)))
            going.append(key)
    return Decision(kept=kept, result={"ids": going})


def decide_mark(rows: Rows, request: MarkMessage, context: Context) -> Decision:
    _node_only(context)
    message = need(rows, MESSAGE, request.id)
    after = apply(
        message,
        request.kind,
        context.now,
        code=request.code,
        gateway=request.gateway,
        gateway_id=request.gateway_id,
        not_before=request.not_before,
    )
    return Decision(kept=[(MESSAGE, after)] if after != message else [], id=message.id)


def decide_receipt(rows: Rows, request: TakeReceipt, context: Context) -> Decision:
    """Fold a receipt into its message; a delivered one moves the order of the message forward in the same commit.

    The result says `unknown` when there is no such message. Raises `Conflict` as `message.apply`.
    """
    _node_only(context)
    message = _of_receipt(rows, request)
    if message is None:
        return Decision(result={"unknown": True})
    after = apply(
        message, request.kind, context.now, code=request.code, gateway=request.gateway, gateway_id=request.gateway_id
    )
    kept: Kept = [(MESSAGE, after)] if after != message else []
    if after.state in (State.SENT, State.DELIVERED) and message.resent:
        kept += _needless(rows, message, context.now)
    drafts = _delivered(rows, after, context) if after.state is State.DELIVERED and after != message else []
    return Decision(drafts=drafts, kept=kept, id=message.id)


def _of_receipt(rows: Rows, request: TakeReceipt) -> Message | None:
    if request.message:
        return rows.get(MESSAGE, request.message)
    found = rows.where(MESSAGE, gateway_id=request.gateway_id)
    return next((row for row in found if row.gateway == request.gateway), None)


def _needless(rows: Rows, original: Message, now: int) -> Kept:
    """Copies that have not left although the original turned out to have arrived: take them back."""
    copies = rows.where(MESSAGE, root=original.root or original.id)
    waiting = [row for row in copies if row.copy > original.copy and row.state in (State.QUEUED, State.HELD)]
    return [(MESSAGE, apply(row, Kind.CANCEL, now)) for row in waiting]


def _delivered(rows: Rows, message: Message, context: Context) -> list[Draft]:
    order = rows.get(ORDER, message.order) if message.order else None
    if order is None or not order.open or order.progress is not Progress.NONE:
        return []
    return decide_progress(rows, ProgressOrder(id=order.id, step=Progress.DELIVERED), context).drafts


def decide_crashed(rows: Rows, request: MarkCrashed, context: Context) -> Decision:
    _node_only(context)
    found = rows.where(MESSAGE, state=State.SUBMITTING)
    kept: Kept = [(MESSAGE, apply(row, Kind.CRASHED, context.now)) for row in found]
    return Decision(kept=kept, result={"unknown": len(kept)})


def restored(rows: Rows, now: int) -> Kept:
    """The rows that a restore leaves: every message that isn't final is unknown, for a person or its receipt, and a
    notice that had no messages yet will get them in that state."""
    kept: Kept = []
    for state in State:
        if state in FINAL:
            continue
        for message in rows.where(MESSAGE, state=state):
            after = apply(message, Kind.RESTORED, now)
            if after != message:
                kept.append((MESSAGE, after))
    for notice in rows.where(NOTICE, state=NoticeState.ISSUED, expanded=False):
        kept.append((JOB, Job(id=notice.id, at=now)))
    return kept


def decide_restored(rows: Rows, request: MarkRestored, context: Context) -> Decision:
    _node_only(context)
    kept = restored(rows, context.now)
    draft = Draft(subject=SUBJECT, kind="outbox.restored", body={"unknown": sum(t is MESSAGE for t, _ in kept)})
    return Decision(drafts=[draft] if kept else [], kept=kept)


def decide_resend(rows: Rows, request: ResendUnknown, context: Context) -> Decision:
    _node_only(context)
    message = need(rows, MESSAGE, request.id)
    notice = rows.get(NOTICE, message.notice)
    cancelled = notice is not None and notice.state is NoticeState.CANCELLED
    if cancelled or next_action(message, context.now) is not Next.RESEND:
        return Decision(id=message.id)  # a receipt, or a person, was faster
    original, copy = twin(message, context.now)
    return Decision(kept=[(MESSAGE, original), (MESSAGE, copy)], id=copy.id)


def decide_settle(rows: Rows, request: SettleMessage, context: Context) -> Decision:
    message = need(rows, MESSAGE, request.id)
    notice = rows.get(NOTICE, message.notice)
    context.allow("notice.settle", scope(message) if notice is None else notice_scope(notice))
    now, drafts = context.now, []
    if request.action is Settlement.RESEND:
        expires = now + VALID_S[message.urgency] * MICROSECONDS
        original, copy = twin(message, now, by_person=True, expires=expires)
        kept: Kept = [(MESSAGE, original), (MESSAGE, copy)]
    elif message.state is not State.UNKNOWN:
        raise Conflict("sms.settled", f"The message is {message.state.value}; nothing is left to decide.")
    elif request.action is Settlement.ABANDON:
        kept = [(MESSAGE, apply(message, Kind.CANCEL, now))]
    else:
        delivered = apply(message, Kind.RECEIPT_DELIVERED, now)
        kept, drafts = [(MESSAGE, delivered)], _delivered(rows, delivered, context)
    if notice is not None:
        body = {"notice": notice.id, "message": message.id, "person": f"person/{message.person}"}
        drafts.insert(0, Draft(subject=notice.subject, kind="message.settled", body=body | {"action": request.action}))
    return Decision(drafts=drafts, kept=kept, id=message.id)


def decide_cancel_queued(rows: Rows, request: CancelQueued, context: Context) -> Decision:
    _node_only(context)
    notice = rows.get(NOTICE, request.notice)
    if notice is None or notice.state is not NoticeState.CANCELLED:
        return Decision()
    waiting = [
        row for state in (State.QUEUED, State.HELD) for row in rows.where(MESSAGE, notice=notice.id, state=state)
    ]
    kept: Kept = [(MESSAGE, apply(row, Kind.CANCEL, context.now)) for row in waiting[:CANCEL_MAX]]
    return Decision(kept=kept, result={"more": len(waiting) > CANCEL_MAX})


def decide_gateway(rows: Rows, request: ReportGateway, context: Context) -> Decision:
    _node_only(context)
    known = rows.get(GATEWAY, request.gateway)
    if (known is not None and known.blocked) == request.blocked:
        return Decision()
    row = GatewayState(
        id=request.gateway, blocked=request.blocked, code=request.code, hint=request.hint, since=context.now
    )
    kind = "gateway.blocked" if request.blocked else "gateway.freed"
    draft = Draft(subject="audit", kind=kind, body={"gateway": request.gateway, "code": request.code})
    return Decision(drafts=[draft], kept=[(GATEWAY, row)])


def scope(row: Message) -> Scope:
    return Scope(organisation=row.organisation or None)


def root_organisation(rows: Rows) -> str | None:
    """The top of this node's tree: who reads what belongs to nobody."""
    return next((row.id for row in rows.where(ORGANISATION, parent=None)), None)


def valid_until(notice: Notice, now: int) -> int:
    return now + VALID_S[notice.urgency] * MICROSECONDS


TABLES: tuple[Table[Any], ...] = (MESSAGE, JOB, GATEWAY)
DECIDERS = {
    SubmitMessages: decide_submit,
    MarkMessage: decide_mark,
    TakeReceipt: decide_receipt,
    MarkCrashed: decide_crashed,
    MarkRestored: decide_restored,
    ResendUnknown: decide_resend,
    SettleMessage: decide_settle,
    CancelQueued: decide_cancel_queued,
    ReportGateway: decide_gateway,
}
