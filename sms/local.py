"""The embedded gateway: phones inside this node, whose inboxes can be opened on a page and answered.

Never reaches a real phone. Invariant: a text that landed is never landed twice, and its delivery receipt is
told
until it was accepted once, also after a crash in between.
"""

import asyncio
from typing import Protocol

from command.base.clock import Clock
from command.base.errors import FenghuoError, Rejected, Unavailable
from command.base.projection import Row
from sms.gateway import Limits, NotSubmitted, OnInbound, OnReceipt, Submitted
from sms.message import ID_CHARS_MAX, Kind, Message, cut, outgoing
from sms.numbers import mask, normalise
from sms.receipt import Inbound, Receipt

NAME = "local"
SERVICE_NUMBER = "10650000"
ANSWER_CHARS_MAX = 500
RECEIPTS_BATCH = 200
RETRY_S = 1.0
RETRY_MAX_S = 30.0


class PhoneText(Row, frozen=True, kw_only=True):
    """One line of a phone's inbox. `answer` False: to the phone; True: typed on it. `at` microseconds UTC.

    `id` of a text to the phone is the message's id, which makes landing it idempotent. `waiting`: its delivery receipt
    was not yet told.
    """

    number: str
    text: str
    at: int
    answer: bool = False
    waiting: bool = False

    def __repr__(self) -> str:
        return f"PhoneText({self.id} at {mask(self.number)})"


class Phones(Protocol):
    """Where the caller keeps the inboxes; each method returns once durable, and raises Unavailable
    otherwise.
    """

    async def land(self, text: PhoneText) -> bool:
        """Store unless the id is there already; False if it was. A text to the phone now awaits its
        receipt.
        """

    async def awaiting(self, limit: int) -> list[PhoneText]:
        """The oldest texts to phones whose receipt was not yet told."""

    async def told(self, ids: list[str]) -> None:
        """Their receipts were accepted; they await none any more."""


class LocalGateway:
    """The caller must run `deliver()` as a supervised task; receipts come from there, not from `submit()`."""

    name = NAME
    real = False

    def __init__(self, phones: Phones, clock: Clock, limits: Limits | None = None) -> None:
        self.limits = limits or Limits(rate_parts_per_s=None, window=50)
        self._phones = phones
        self._clock = clock
        self._landed = asyncio.Event()
        self._on_receipt: OnReceipt | None = None
        self._on_inbound: OnInbound | None = None

    async def start(self, on_receipt: OnReceipt, on_inbound: OnInbound) -> None:
        self._on_receipt = on_receipt
        self._on_inbound = on_inbound

    async def submit(self, message: Message) -> Submitted:
        """Land the text. Raises NotSubmitted when the phones can't store it."""
        text = PhoneText(id=message.id, number=message.number, text=outgoing(message), at=self._clock.now())
        try:
            await self._phones.land(text)
        except Unavailable as error:
            # It may have landed all the same, but landing it once more under its id changes nothing.
            raise NotSubmitted(error.code, error.hint) from None
        self._landed.set()
        return Submitted(gateway_id=f"{NAME}-{message.id}", parts=cut(message).count)

    async def deliver(self) -> None:
        """Tell receipts for ever; begins with those that a crash left untold."""
        wait_s = RETRY_S
        while True:
            self._landed.clear()
            try:
                more = await self.deliver_once()
                wait_s = RETRY_S
            except FenghuoError:
                # Nothing is lost: the texts still await their receipts. Tried again, a little later each time.
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)
                continue
            if not more:
                await self._landed.wait()

    async def deliver_once(self) -> bool:
        """Tell one batch of receipts; True if there may be more. Raises what `on_receipt` and the phones
        raise.
        """
        if self._on_receipt is None:
            raise Rejected("sms.not_started", "start the gateway first")
        batch = await self._phones.awaiting(RECEIPTS_BATCH)
        # All at once, so that the taker can make them durable together.
        results = await asyncio.gather(*(self._tell(text) for text in batch), return_exceptions=True)
        told = [text.id for text, result in zip(batch, results, strict=True) if result is None]
        if told:
            await self._phones.told(told)
        for result in results:
            if result is not None:
                raise result
        return len(batch) == RECEIPTS_BATCH

    async def _tell(self, text: PhoneText) -> None:
        assert self._on_receipt is not None
        await self._on_receipt(
            Receipt(gateway=NAME, gateway_id=f"{NAME}-{text.id}", kind=Kind.RECEIPT_DELIVERED, message=text.id)
        )

    async def answer(self, number: str, text: str, answer_id: str) -> str:
        """Type `text` on the phone `number`; returns the reply that the node sent back, "" for none.

        `answer_id` makes a repeated click harmless. Raises Rejected `sms.answer_invalid`,
        `sms.number_invalid`.
        """
        if self._on_inbound is None:
            raise Rejected("sms.not_started", "start the gateway first")
        if not text.strip() or len(text) > ANSWER_CHARS_MAX or not 0 < len(answer_id) <= ID_CHARS_MAX:
            raise Rejected("sms.answer_invalid", f"an answer has 1 to {ANSWER_CHARS_MAX} characters")
        e164 = normalise(number).e164
        await self._phones.land(PhoneText(id=answer_id, number=e164, text=text, at=self._clock.now(), answer=True))
        reply = await self._on_inbound(
            Inbound(gateway=NAME, gateway_id=answer_id, sender=e164, recipient=SERVICE_NUMBER, text=text)
        )
        if reply:
            await self._phones.land(PhoneText(id=f"{answer_id}.r", number=e164, text=reply, at=self._clock.now()))
            self._landed.set()
        return reply

    async def close(self) -> None:
        """Nothing to give back; the task that runs `deliver()` is its owner's to cancel."""
