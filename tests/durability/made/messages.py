"""Random requests about messages: notices, outbox, receipts, answers."""

from collections.abc import Callable
from typing import Any

from command.base.schema import Urgency
from command.domain import notice
from sms import broadcast, expansion, inbox, message, outbox, retention
from sms.numbers import demo_number
from tests.durability.maker import Maker, Values


def _draft(m: Maker) -> Values:
    values = {"kind": m.of(notice.NoticeKind), "recipients": m.recipients(), "text_zh": m.text()}
    values |= {"organisation": m.id("organisation"), "exercise": m.often(0.2)}
    return values | m.picked(incident=lambda: m.id("incident", open=True), urgency=lambda: m.of(Urgency))


def _review(m: Maker) -> Values:
    return m.named("notice", state=notice.NoticeState.REVIEW) | {"passed": m.often(0.7), "reason": m.text()}


def _resolve(m: Maker) -> Values:
    people = [
        {"person": key, "number": (m.rows["person"][key].phones or [""])[0]}  # type: ignore[attr-defined]
        for key in m.ids("person", 5)
    ]
    return {"notice": m.id("notice", state=notice.NoticeState.ISSUED, expanded=False), "people": people}


def _counts(m: Maker) -> Values:
    counts = {"total": m.chance.randrange(9), "sent": m.chance.randrange(9)}
    return {"notice": m.id("notice"), "counts": counts, "finished": not m.often(0.8)}


def _submit(m: Maker) -> Values:
    queued: list[Any] = [row for row in m.rows["message"].values() if row.state is message.State.QUEUED]  # type: ignore[attr-defined]
    ids = [row.id for row in m.chance.sample(queued, min(len(queued), 5))]
    return {"ids": ids, "gateway": "local", "real": not m.often(0.8)}


def _fitting(m: Maker, row: Any, kinds: tuple[message.Kind, ...]) -> message.Kind:
    fitting = [kind for kind in kinds if row is not None and (row.state, kind) in message.TABLE]
    return m.chance.choice(fitting or list(kinds))


def _mark(m: Maker) -> Values:
    kind = message.Kind
    row = m.some("message", state=message.State.SUBMITTING)
    outcomes = (kind.ACCEPTED, kind.NOT_SUBMITTED, kind.GIVE_UP, kind.REFUSED, kind.UNCERTAIN)
    found = _fitting(m, row, outcomes)
    key = f"g-{m.clock.token(4)}" if found is kind.ACCEPTED else ""
    return {"id": "nobody" if row is None else row.id, "kind": found, "gateway": "local", "gateway_id": key}


def _receipt(m: Maker) -> Values:
    row = m.some("message", state=m.of(message.State))
    kinds = (message.Kind.RECEIPT_SENT, message.Kind.RECEIPT_DELIVERED, message.Kind.RECEIPT_FAILED)
    key = row.gateway_id if row is not None and row.gateway_id else f"g-{m.clock.token(4)}"
    ours = row.id if row is not None and m.often(0.8) else ""
    return {"gateway": "local", "gateway_id": key, "kind": _fitting(m, row, kinds), "message": ours}


def _inbound(m: Maker) -> Values:
    text = m.chance.choice(["1", "１", "收到", "1A", "2", "what?"])
    sender = demo_number(m.chance.randrange(99))
    return {"gateway": "local", "gateway_id": m.clock.id(), "sender": sender, "recipient": "10650000", "text": text}


def _land(m: Maker) -> Values:
    key = m.id("message") if m.often() else m.clock.id()
    text = {"id": key, "number": demo_number(m.chance.randrange(99)), "text": m.text(), "at": m.clock.now()}
    return {"text": text | {"answer": m.often(0.3)}}


def _gateway(m: Maker) -> Values:
    return {"gateway": "local", "blocked": m.often(), "code": "x", "hint": "y"}


MAKE: dict[type, Callable[[Maker], Values]] = {
    broadcast.DraftNotice: _draft,
    broadcast.ReviewNotice: _review,
    broadcast.CancelNotice: lambda m: m.named("notice") | {"reason": m.text()},
    expansion.ResolveNotice: _resolve,
    expansion.ExpandChunk: lambda m: {"id": m.id("chunk")},
    expansion.ProgressNotice: _counts,
    outbox.SubmitMessages: _submit,
    outbox.MarkMessage: _mark,
    outbox.TakeReceipt: _receipt,
    outbox.MarkCrashed: lambda m: {},
    outbox.MarkRestored: lambda m: {},
    outbox.ResendUnknown: lambda m: {"id": m.id("message", state=message.State.UNKNOWN)},
    outbox.SettleMessage: lambda m: {
        "id": m.id("message", state=message.State.UNKNOWN),
        "action": m.of(outbox.Settlement),
    },
    outbox.CancelQueued: lambda m: {"notice": m.id("notice", state=notice.NoticeState.CANCELLED)},
    outbox.ReportGateway: _gateway,
    inbox.TakeInbound: _inbound,
    inbox.HandleInbound: lambda m: {"id": m.id("inbound")},
    inbox.LandText: _land,
    inbox.TellTexts: lambda m: {"ids": m.ids("phone_text")},
    inbox.PruneTexts: lambda m: {"ids": m.ids("phone_text")},
    retention.PruneMessages: lambda m: {
        "notice": m.id("notice", state=notice.NoticeState.FINISHED),
        "before": m.clock.now(),
    },
}
SELDOM: dict[type, float] = {
    outbox.MarkRestored: 0.1,
    outbox.MarkCrashed: 0.2,
    inbox.PruneTexts: 0.3,
}
