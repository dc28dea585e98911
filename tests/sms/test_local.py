"""The embedded gateway: texts land once, receipts are told until taken, answers come back."""

import asyncio

import pytest

from command.base.clock import ManualClock
from command.base.errors import Rejected, Unavailable
from sms.gateway import NotSubmitted
from sms.local import ANSWER_CHARS_MAX, RECEIPTS_BATCH, SERVICE_NUMBER, LocalGateway, PhoneText
from sms.message import Kind, Message, Urgency
from sms.numbers import demo_number
from sms.receipt import Inbound, Receipt

NUMBER = demo_number(1)


class Inboxes:
    """Phones in memory that outlive a gateway, as a database would."""

    def __init__(self) -> None:
        self.texts: dict[str, PhoneText] = {}
        self.waiting: dict[str, PhoneText] = {}
        self.full = False

    async def land(self, text: PhoneText) -> bool:
        if self.full:
            raise Unavailable("disk.full", "")
        if text.id in self.texts:
            return False
        self.texts[text.id] = text
        if not text.answer:
            self.waiting[text.id] = text
        return True

    async def awaiting(self, limit: int) -> list[PhoneText]:
        return list(self.waiting.values())[:limit]

    async def told(self, ids: list[str]) -> None:
        for each in ids:
            self.waiting.pop(each, None)


class Node:
    """The taker of receipts and inbound texts."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.inbounds: list[Inbound] = []
        self.refusals = 0
        self.reply = ""
        self.told = asyncio.Event()

    async def receipt(self, receipt: Receipt) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("log.full", "")
        self.receipts.append(receipt)
        self.told.set()

    async def inbound(self, inbound: Inbound) -> str:
        self.inbounds.append(inbound)
        return self.reply


def message(name: str = "m1", exercise: bool = False, duplicate: bool = False) -> Message:
    return Message(
        id=name,
        notice="n",
        person="p",
        number=NUMBER,
        text="中" * 71,
        language="zh",
        urgency=Urgency.EMERGENCY,
        created=0,
        expires=1,
        exercise=exercise,
        duplicate=duplicate,
    )


async def gateway(inboxes: Inboxes, node: Node) -> LocalGateway:
    made = LocalGateway(inboxes, ManualClock())
    await made.start(node.receipt, node.inbound)
    return made


async def test_a_text_lands_in_its_inbox_with_its_marks_and_is_counted() -> None:
    inboxes = Inboxes()
    local = await gateway(inboxes, Node())
    done = await local.submit(message(exercise=True, duplicate=True))
    assert (done.gateway_id, done.parts) == ("local-m1", 2)
    assert inboxes.texts["m1"].number == NUMBER
    assert inboxes.texts["m1"].text.startswith("【演习】") and inboxes.texts["m1"].text.endswith("（可能重复）")


async def test_a_text_submitted_twice_lands_once() -> None:
    inboxes = Inboxes()
    local = await gateway(inboxes, Node())
    assert await local.submit(message()) == await local.submit(message())
    assert len(inboxes.texts) == 1


async def test_a_delivery_receipt_follows_by_itself() -> None:
    inboxes, node = Inboxes(), Node()
    local = await gateway(inboxes, node)
    task = asyncio.create_task(local.deliver())
    await local.submit(message())
    await node.told.wait()
    task.cancel()
    assert node.receipts == [Receipt(gateway="local", gateway_id="local-m1", kind=Kind.RECEIPT_DELIVERED, message="m1")]


async def test_a_receipt_that_a_crash_left_untold_is_told_after_the_start() -> None:
    inboxes, node = Inboxes(), Node()
    await (await gateway(inboxes, Node())).submit(message())
    again = await gateway(inboxes, node)
    assert await again.deliver_once() is False
    assert [receipt.message for receipt in node.receipts] == ["m1"]
    await again.deliver_once()
    assert len(node.receipts) == 1


async def test_a_receipt_that_is_not_taken_is_told_again_and_the_others_only_once() -> None:
    inboxes, node = Inboxes(), Node()
    local = await gateway(inboxes, node)
    for name in ("m1", "m2"):
        await local.submit(message(name))
    node.refusals = 1
    with pytest.raises(Unavailable):
        await local.deliver_once()
    await local.deliver_once()
    assert [receipt.message for receipt in node.receipts] == ["m2", "m1"]


async def test_receipts_are_told_in_batches() -> None:
    inboxes, node = Inboxes(), Node()
    local = await gateway(inboxes, node)
    for number in range(RECEIPTS_BATCH + 1):
        await local.submit(message(f"m{number}"))
    assert await local.deliver_once() is True
    assert len(node.receipts) == RECEIPTS_BATCH
    assert await local.deliver_once() is False


async def test_phones_that_cannot_store_have_not_taken_the_text() -> None:
    inboxes = Inboxes()
    inboxes.full = True
    local = await gateway(inboxes, Node())
    with pytest.raises(NotSubmitted):
        await local.submit(message())


async def test_an_answer_reaches_the_node_and_its_reply_the_phone() -> None:
    inboxes, node = Inboxes(), Node()
    node.reply = "请注明"
    local = await gateway(inboxes, node)
    assert await local.answer(NUMBER, "１", "a1") == "请注明"
    assert node.inbounds == [
        Inbound(gateway="local", gateway_id="a1", sender=NUMBER, recipient=SERVICE_NUMBER, text="１")
    ]
    assert [(text.text, text.answer) for text in inboxes.texts.values()] == [("１", True), ("请注明", False)]


async def test_an_answer_has_a_length_and_a_number() -> None:
    local = await gateway(Inboxes(), Node())
    await local.answer(NUMBER, "x" * ANSWER_CHARS_MAX, "a1")
    for number, text, name in [
        (NUMBER, "x" * (ANSWER_CHARS_MAX + 1), "a2"),
        (NUMBER, " ", "a2"),
        ("110", "1", "a2"),
        (NUMBER, "1", ""),
    ]:
        with pytest.raises(Rejected):
            await local.answer(number, text, name)


async def test_a_gateway_that_is_not_started_says_so() -> None:
    local = LocalGateway(Inboxes(), ManualClock())
    for call in (local.deliver_once(), local.answer(NUMBER, "1", "a1")):
        with pytest.raises(Rejected):
            await call
