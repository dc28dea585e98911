"""The face every gateway shows to the outbox.

A gateway never retries, never queues, and stores nothing of ours. Invariant: `submit()` returns or raises
one of
three outcomes that say whether the bytes can have left, and on doubt it says `Uncertain`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from command.base.errors import FenghuoError
from sms.message import Message
from sms.numbers import is_demo
from sms.receipt import Inbound, Receipt

STATUS_PATH = "/sms/twilio/status/"
"""Where Twilio calls. Our message id follows; the path is signed, so nobody can turn a receipt into another message's."""
INBOUND_PATH = "/sms/twilio/inbound"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`rate_parts_per_s` None: as fast as it goes. `window`: submits in flight at once."""

    rate_parts_per_s: float | None
    window: int


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The gateway took the message under its own id. `parts` as the gateway counts them; 0 when it doesn't
    say.
    """

    gateway_id: str
    parts: int


class NotSubmitted(FenghuoError):
    """Certainly not sent: may be tried again, after `after_s` if the gateway asks for that.

    `blocked` means that no message will pass until somebody acts (credentials, sender, address): tell the operator.
    """

    status = 503

    def __init__(self, code: str, hint: str = "", *, after_s: float | None = None, blocked: bool = False) -> None:
        super().__init__(code, hint)
        self.after_s = after_s
        self.blocked = blocked


class Uncertain(FenghuoError):
    """May have been sent: the message becomes unknown and must not be submitted again."""

    status = 503


class Refused(FenghuoError):
    """Certainly not sent, and the same message never will be."""

    status = 422


OnReceipt = Callable[[Receipt], Awaitable[None]]
"""Returns once the receipt is durable; raises where the gateway should tell it again."""

OnInbound = Callable[[Inbound], Awaitable[str]]
"""Returns once the text is durable, with the reply to send back ("" for none); raises to be told again."""


class Gateway(Protocol):
    """`name` is stored with each message; `real` is False where nothing leaves this machine."""

    name: str
    real: bool
    limits: Limits

    async def start(self, on_receipt: OnReceipt, on_inbound: OnInbound) -> None:
        """Open what needs opening. Raises Unavailable or Rejected."""

    async def submit(self, message: Message) -> Submitted:
        """Hand over once. The caller must have committed `submitting` before, and must treat a cancellation
        as
        Uncertain. Raises NotSubmitted, Uncertain, Refused; anything else is a bug and counts as Uncertain."""

    async def close(self) -> None:
        """Give back sockets and tasks."""


def guard(message: Message) -> None:
    """What no real gateway may be given; each of them calls this first.

    Raises Refused: `sms.exercise` for a drill, `sms.demo_number` for a number reserved for demonstrations.
    """
    if message.exercise:
        raise Refused("sms.exercise", "a drill sends nothing real: route it to the local gateway")
    if is_demo(message.number):
        raise Refused("sms.demo_number", "this number is reserved for demonstrations and belongs to nobody")
