"""The worker with a gateway that does what the test says: outcomes, receipts that come early, windows, order, trouble."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from command.base.config import load
from command.base.errors import Unavailable
from command.base.schema import Urgency
from command.domain.notice import NOTICE, NoticeKind, NoticeState, Recipients
from command.domain.registry_edits import SaveGroup
from command.edge.api import Node
from command.log.timeline import read as read_timeline
from command.service import Service
from sms import worker
from sms.broadcast import CancelNotice, DraftNotice
from sms.gateway import Limits, NotSubmitted, OnInbound, OnReceipt, Refused, Submitted, Uncertain
from sms.lane import BLOCKED_RETRY_S
from sms.local import PhoneText
from sms.message import Doubt, Kind, Message, State
from sms.outbox import CANCEL_MAX, GATEWAY, MESSAGE, Settlement, SettleMessage
from sms.receipt import Receipt
from sms.worker import Sms
from tests.prepared import begin
from tests.sms.node import Bench, ShiftedClock, house

NUMBER = "+8615400000001"


class Scripted:
    """A gateway to nowhere whose answers are `answers`, one per submit, then plain acceptance."""

    name = "scripted"
    real = True

    def __init__(self, window: int = 10) -> None:
        self.limits = Limits(rate_parts_per_s=None, window=window)
        self.answers: list[Exception] = []
        self.seen: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self.on_receipt: OnReceipt

    async def start(self, on_receipt: OnReceipt, on_inbound: OnInbound) -> None:
        self.on_receipt = on_receipt

    async def submit(self, message: Message) -> Submitted:
        self.seen.append(message)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.set()
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.answers:
            raise self.answers.pop(0)
        return Submitted(gateway_id=f"g-{message.id}", parts=1)

    async def close(self) -> None:
        pass


@asynccontextmanager
async def scripted(database_url: str, data: Path, gateway: Scripted) -> AsyncIterator[Bench]:
    """A node whose real messages go to `gateway`."""
    config = load({}, None, data=str(data), database=database_url, port=0)

    async def start(node: Node) -> Sms:
        sms = Sms(node.store, node.log, node.clock, gateway=gateway)
        node.bus.listen(sms.on_commit)
        await sms.start()
        return sms

    clock = ShiftedClock()
    found = house(config)
    found.parts["sms"] = start
    begin(config.database_url)
    service = Service(config, found, clock)
    try:
        await service.start()
        made = Bench(service, clock)
        await made.seed()
        yield made
    finally:
        gateway.open.set()
        await service.stop()


async def notify(node: Bench, *numbers: str, urgency: Urgency = Urgency.NORMAL) -> str:
    persons = [await node.person(number) for number in numbers]
    recipients = Recipients(persons=persons)
    if len(persons) > 100:
        group = await node.ask(SaveGroup(name="组", organisation=node.organisation, persons=persons))
        recipients = Recipients(groups=[group.id or ""])
    request = DraftNotice(
        kind=NoticeKind.CALL_OUT,
        text_zh="请集合",
        recipients=recipients,
        urgency=urgency,
        organisation=node.organisation,
    )
    return (await node.ask(request)).id or ""


def all_are(state: State) -> Callable[[list[Message]], bool]:
    return lambda rows: bool(rows) and all(row.state is state for row in rows)


async def test_a_refused_message_fails_and_one_that_was_not_submitted_is_tried_again(
    database_url: str, tmp_path: Path
) -> None:
    gateway = Scripted()
    gateway.answers = [NotSubmitted("x.busy"), Refused("x.number")]
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        [waiting] = await node.until(MESSAGE, lambda rows: bool(rows) and rows[0].not_before > 0)
        assert (waiting.state, waiting.tries) == (State.QUEUED, 1)
        node.clock.advance(10)
        [message] = await node.until(MESSAGE, all_are(State.FAILED))
        assert (message.tries, message.code) == (2, "x.number")
        [notice] = await node.until(NOTICE, lambda rows: rows[0].state is NoticeState.FINISHED)
        assert notice.counts.failed == 1


async def test_an_answer_that_says_nothing_makes_a_normal_message_wait_for_a_person(
    database_url: str, tmp_path: Path
) -> None:
    gateway = Scripted()
    gateway.answers = [Uncertain("x.silent")]
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        [message] = await node.until(MESSAGE, all_are(State.UNKNOWN))
        assert message.doubt is Doubt.NO_ANSWER
        node.clock.advance(3600)
        assert await node.node.store.read(node.sms._doubtful) == []
        await node.ask(SettleMessage(id=message.id, action=Settlement.DELIVERED), node.accounts["duty"])
        [notice] = await node.until(NOTICE, lambda rows: rows[0].state is NoticeState.FINISHED)
        assert (notice.counts.delivered, len(gateway.seen)) == (1, 1)


async def test_a_bug_in_a_gateway_counts_as_uncertain(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted()
    gateway.answers = [ZeroDivisionError()]
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        await node.until(MESSAGE, all_are(State.UNKNOWN))


async def test_a_receipt_may_come_before_the_id(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted()
    gateway.open.clear()
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        await gateway.arrived.wait()
        key = gateway.seen[0].id
        told = Receipt(gateway="scripted", gateway_id=f"g-{key}", kind=Kind.RECEIPT_DELIVERED, message=key)
        await gateway.on_receipt(told)
        assert (await node.get(MESSAGE, key)).state is State.DELIVERED
        gateway.open.set()
        await gateway.on_receipt(told)
        assert (await node.get(MESSAGE, key)).state is State.DELIVERED


async def test_a_receipt_without_our_id_is_held_until_the_gateways_id_is_known(
    database_url: str, tmp_path: Path
) -> None:
    gateway = Scripted()
    gateway.open.clear()
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        await gateway.arrived.wait()
        key = gateway.seen[0].id
        told = Receipt(gateway="scripted", gateway_id=f"g-{key}", kind=Kind.RECEIPT_DELIVERED)
        with pytest.raises(Unavailable):  # held in memory only, so the gateway must not believe it was taken
            await gateway.on_receipt(told)
        gateway.open.set()
        await node.until(MESSAGE, all_are(State.DELIVERED))


async def test_a_window_is_never_exceeded_and_all_is_sent(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted(window=3)
    gateway.open.clear()
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, *(f"+86154000001{index:02d}" for index in range(40)))
        await node.until(MESSAGE, lambda rows: sum(row.state is State.SUBMITTING for row in rows) == 3)
        gateway.open.set()
        await node.until(MESSAGE, lambda rows: len(rows) == 40 and all_are(State.SENT)(rows))
        assert gateway.most_at_once == 3 and len(gateway.seen) == 40


async def test_an_emergency_overtakes_what_is_queued(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted(window=1)
    gateway.open.clear()
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, *(f"+86154000001{index:02d}" for index in range(5)))
        await gateway.arrived.wait()
        await notify(node, NUMBER, urgency=Urgency.EMERGENCY)
        await node.until(MESSAGE, lambda rows: len(rows) == 6)
        gateway.open.set()
        await node.until(MESSAGE, all_are(State.SENT))
        assert [message.number for message in gateway.seen][1] == NUMBER


async def test_a_blocked_gateway_is_shown_and_freed_by_the_first_message_that_passes(
    database_url: str, tmp_path: Path
) -> None:
    gateway = Scripted()
    gateway.answers = [NotSubmitted("x.account", "check the account", blocked=True)]
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER)
        [row] = await node.until(GATEWAY, bool)
        assert (row.id, row.blocked, row.code) == ("scripted", True, "x.account")
        assert node.sms.blocked == {"scripted": "x.account"}
        node.clock.advance(BLOCKED_RETRY_S + 1)
        node.sms.lanes[1].nudge()
        await node.until(MESSAGE, all_are(State.SENT))
        [row] = await node.until(GATEWAY, lambda rows: not rows[0].blocked)
        assert node.sms.blocked == {}


async def test_a_late_receipt_of_the_original_takes_back_the_copy_that_waits(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted(window=1)
    gateway.answers = [Uncertain("x.silent")]
    async with scripted(database_url, tmp_path, gateway) as node:
        await notify(node, NUMBER, urgency=Urgency.EMERGENCY)
        [original] = await node.until(MESSAGE, all_are(State.UNKNOWN))
        gateway.open.clear()
        gateway.arrived.clear()
        await notify(node, "+8615400000002", urgency=Urgency.EMERGENCY)  # fills the window
        await gateway.arrived.wait()
        await node.ask(SettleMessage(id=original.id, action=Settlement.RESEND), node.accounts["duty"])
        told = Receipt(gateway="scripted", gateway_id="g", kind=Kind.RECEIPT_DELIVERED, message=original.id)
        await gateway.on_receipt(told)
        copy = await node.get(MESSAGE, f"{original.id}.2")
        assert copy.state is State.CANCELLED
        gateway.open.set()
        await node.until(NOTICE, lambda rows: any(row.counts.delivered == row.counts.total == 1 for row in rows))
        assert len(gateway.seen) == 2


async def test_more_than_a_batch_of_queued_messages_is_cancelled(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted(window=1)
    gateway.open.clear()
    async with scripted(database_url, tmp_path, gateway) as node:
        count = CANCEL_MAX + 2
        key = await notify(node, *(f"+8615400{index:06d}" for index in range(count)))
        await node.until(
            MESSAGE, lambda rows: len(rows) == count and any(row.state is State.SUBMITTING for row in rows)
        )
        await node.ask(CancelNotice(id=key, version=1), node.accounts["duty"])
        await node.until(NOTICE, lambda rows: rows[0].counts.cancelled == count - 1)
        assert len(gateway.seen) == 1


async def test_progress_is_told_at_most_once_a_second(database_url: str, tmp_path: Path) -> None:
    gateway = Scripted()
    async with scripted(database_url, tmp_path, gateway) as node:
        before = node.clock.monotonic()
        key = await notify(node, *(f"+8615400{index:06d}" for index in range(200)))
        await node.until(NOTICE, lambda rows: rows[0].counts.sent == 200)
        took_s = node.clock.monotonic() - before
        entries = await node.node.store.read(lambda connection: read_timeline(connection, f"notice/{key}"))
        progressed = [entry for entry in entries if entry.kind == "notice.progressed"]  # type: ignore[attr-defined]
        assert len(progressed) <= 2 + took_s + 1  # resolved, expanded, and the counts


async def test_local_phones_forget_their_oldest_texts(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PHONE_TEXTS_KEPT", 3)
    async with scripted(database_url, tmp_path, Scripted()) as node:
        for index in range(5):
            text = PhoneText(id=f"t{index}", number=NUMBER, text="x", at=index, answer=True)
            await node.sms.local._phones.land(text)
        assert sorted(await node.node.store.read(node.sms._old_texts)) == ["t0", "t1"]
