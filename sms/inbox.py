"""What comes in: texts from phones, and the inboxes of the local gateway's phones.

Pure. Guesses nothing: `answer` reads the words, here they meet the orders that are open for the number. Invariant: an
inbound text, the order it moves and the entry that says so are one commit; the same text told twice changes nothing.
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft
from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE, Scope
from command.base.schema import Id, Instant, Struct, Text, need
from command.domain.answering import decide_progress
from command.domain.notice import NOTICE
from command.domain.order import ORDER, Order, Owner, Progress, ProgressOrder
from sms.answer import Ambiguous, Answered, NothingOpen, OpenOrder, Word, read, resolve
from sms.local import PhoneText
from sms.message import Message, State
from sms.outbox import MESSAGE, Kept, root_organisation

UNANSWERED = (Progress.NONE, Progress.DELIVERED, Progress.READ)
TOLD_MAX = 500
PHONE_TEXTS_KEPT = 20_000
PRUNE_MAX = 500


class Meaning(StrEnum):
    ACCEPTED = "accepted"
    DECLINED = "declined"
    AMBIGUOUS = "ambiguous"
    NOTHING_OPEN = "nothing_open"
    UNREAD = "unread"


class InboundText(Row, frozen=True, kw_only=True):
    """One text from a phone. `handled` is False while a person should read it; `notice` and `message` are what it most
    likely answers."""

    gateway: str
    sender: str
    text: Text
    at: Instant
    meaning: Meaning
    person: str | None = None
    notice: str | None = None
    message: str | None = None
    order: str | None = None
    organisation: str | None = None
    reply: Text = ""
    handled: bool = False
    handled_by: str | None = None


def _topics(row: InboundText) -> tuple[str, ...]:
    return ("notices", f"notice/{row.notice}") if row.notice else ("notices",)


INBOUND = Table(name="inbound", row=InboundText, index=("notice", "sender", "handled", "at"), kept=True, topics=_topics)
PHONE_TEXT = Table(
    name="phone_text", row=PhoneText, index=("number", "waiting", "at"), kept=True, topics=lambda row: ("phones",)
)


class TakeInbound(Struct, frozen=True, kw_only=True):
    """A text from a phone, as a gateway tells it. Sent by the node, `by` the person whom `understand` names."""

    gateway: str
    gateway_id: str
    sender: str
    recipient: str
    text: Text


class HandleInbound(Struct, frozen=True, kw_only=True):
    """A person has read it."""

    id: Id


class LandText(Struct, frozen=True, kw_only=True):
    """A text reaches (or is typed on) a phone of the local gateway."""

    text: PhoneText


class TellTexts(Struct, frozen=True, kw_only=True):
    """The delivery receipts of these were taken."""

    ids: Annotated[list[str], Meta(max_length=TOLD_MAX)]


class PruneTexts(Struct, frozen=True, kw_only=True):
    """Forget the oldest texts of the local phones."""

    ids: Annotated[list[str], Meta(max_length=PRUNE_MAX)]


def inbound_id(gateway: str, gateway_id: str) -> str:
    """The row of a text: a gateway may tell the same one twice."""
    return hashlib.sha256(f"{gateway}\0{gateway_id}".encode()).hexdigest()[:40]


class Understood(Struct, frozen=True, kw_only=True):
    """What a text means here: the message it answers (None for strangers), the order, and what to say back."""

    meaning: Meaning
    message: Message | None = None
    order: str | None = None
    reply: str = ""

    @property
    def person(self) -> str | None:
        return self.message.person if self.message is not None else None


_WORDS = {Word.ACKNOWLEDGE: Meaning.ACCEPTED, Word.DECLINE: Meaning.DECLINED}
_STEPS = {Meaning.ACCEPTED: Progress.ACCEPTED, Meaning.DECLINED: Progress.DECLINED}


def understand(rows: Rows, sender: str, text: str) -> Understood:
    """Read `text` against the orders that are open for the number `sender`, oldest first."""
    messages = sorted(rows.where(MESSAGE, number=sender), key=lambda row: (row.created, row.id))
    latest = next((row for row in reversed(messages) if row.state not in (State.QUEUED, State.CANCELLED)), None)
    by_order: dict[str, Message] = {}
    open_orders: list[OpenOrder] = []
    for message in messages:
        order = rows.get(ORDER, message.order) if message.order else None
        if order is None or not answerable(order):
            continue
        if order.id not in by_order:
            open_orders.append(OpenOrder(order=order.id, tag=message.tag, title=order.task))
        by_order[order.id] = message
    answer = resolve(text, open_orders)
    if isinstance(answer, Answered):
        return Understood(meaning=_WORDS[answer.word], message=by_order[answer.order], order=answer.order)
    if isinstance(answer, Ambiguous):
        language = latest.language if latest is not None else "zh"
        return Understood(meaning=Meaning.AMBIGUOUS, message=latest, reply=answer.reply(language))
    if isinstance(answer, NothingOpen):
        return Understood(meaning=_to_notice(text, latest), message=latest)
    return Understood(meaning=Meaning.UNREAD, message=latest)


def _to_notice(text: str, latest: Message | None) -> Meaning:
    """What a bare answer means when no order is open: a word to the latest notice, if that one asked for nothing else."""
    found = read(text)
    if found is None or latest is None or latest.order is not None:
        return Meaning.NOTHING_OPEN
    return _WORDS[found[0]]


def answerable(order: Order) -> bool:
    """Whether a "1" may still answer this order."""
    return order.open and order.owner is Owner.ISSUED and order.progress in UNANSWERED


def decide_inbound(rows: Rows, request: TakeInbound, context: Context) -> Decision:
    context.allow("node.self", NODE)
    key = inbound_id(request.gateway, request.gateway_id)
    known = rows.get(INBOUND, key)
    if known is not None:
        return Decision(id=key, result={"reply": known.reply})
    found = understand(rows, request.sender, request.text)
    message = found.message
    notice = rows.get(NOTICE, message.notice) if message is not None else None
    row = InboundText(
        id=key,
        gateway=request.gateway,
        sender=request.sender,
        text=request.text,
        at=context.now,
        meaning=found.meaning,
        person=found.person,
        notice=message.notice if message is not None else None,
        message=message.id if message is not None else None,
        order=found.order,
        organisation=message.organisation if message is not None else root_organisation(rows),
        reply=found.reply,
        handled=found.meaning in (Meaning.ACCEPTED, Meaning.DECLINED, Meaning.AMBIGUOUS),
    )
    kept: Kept = [(INBOUND, row)]
    drafts = []
    if message is not None and not message.answered:
        kept.append((MESSAGE, replace(message, answered=True)))
    if found.order is not None:
        drafts += decide_progress(rows, ProgressOrder(id=found.order, step=_STEPS[found.meaning]), context).drafts
    if notice is not None:
        drafts.append(_answered(notice.subject, row))
    return Decision(drafts=drafts, kept=kept, id=key, result={"reply": found.reply})


def _answered(subject: str, row: InboundText) -> Draft:
    body: dict[str, Any] = {
        "notice": row.notice,
        "message": row.message,
        "person": f"person/{row.person}",
        "inbound": row.id,
        "meaning": row.meaning,
        "order": row.order,
    }
    return Draft(subject=subject, kind="message.answered", body=body, private={"text": row.text})


def decide_handle(rows: Rows, request: HandleInbound, context: Context) -> Decision:
    row = need(rows, INBOUND, request.id)
    context.allow("notice.settle", scope(row))
    if row.handled:
        return Decision(id=row.id)
    done = replace(row, version=row.version + 1, handled=True, handled_by=context.by.account)
    return Decision(kept=[(INBOUND, done)], id=row.id)


def decide_land(rows: Rows, request: LandText, context: Context) -> Decision:
    context.allow("node.self", NODE)
    text = request.text
    if rows.get(PHONE_TEXT, text.id) is not None:
        return Decision(id=text.id, result={"new": False})
    return Decision(kept=[(PHONE_TEXT, replace(text, waiting=not text.answer))], id=text.id, result={"new": True})


def decide_tell(rows: Rows, request: TellTexts, context: Context) -> Decision:
    context.allow("node.self", NODE)
    kept: Kept = []
    for key in request.ids:
        text = rows.get(PHONE_TEXT, key)
        if text is not None and text.waiting:
            kept.append((PHONE_TEXT, replace(text, waiting=False)))
    return Decision(kept=kept)


def decide_prune(rows: Rows, request: PruneTexts, context: Context) -> Decision:
    context.allow("node.self", NODE)
    return Decision(dropped=[(PHONE_TEXT, key) for key in request.ids])


def scope(row: InboundText) -> Scope:
    return Scope(organisation=row.organisation)


TABLES: tuple[Table[Any], ...] = (INBOUND, PHONE_TEXT)
DECIDERS = {
    TakeInbound: decide_inbound,
    HandleInbound: decide_handle,
    LandText: decide_land,
    TellTexts: decide_tell,
    PruneTexts: decide_prune,
}
