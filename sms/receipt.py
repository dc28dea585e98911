"""What a gateway tells us later: receipts of messages, inbound texts, and receipts that come too early.

Pure. Never acknowledges. Invariant: a receipt held too early is given back exactly once, or counted as
dropped.
"""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from command.base.clock import MICROSECONDS
from sms.message import Kind
from sms.numbers import mask

EARLY_HOLD_S = 600
EARLY_RECEIPTS_MAX = 10_000
INBOUND_CHARS_MAX = 2000


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`message` is our id where the gateway carries it, else "". `kind` is one of the RECEIPT_ kinds."""

    gateway: str
    gateway_id: str
    kind: Kind
    message: str = ""
    code: str = ""


class Inbound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text from a phone. (`gateway`, `gateway_id`) is unique: the same one may be told twice."""

    gateway: str
    gateway_id: str
    sender: str
    recipient: str
    text: str

    def __repr__(self) -> str:
        return f"Inbound({self.gateway} {self.gateway_id} from {mask(self.sender)})"


@dataclass(frozen=True, kw_only=True)
class _Held:
    at: int
    receipts: tuple[Receipt, ...]


class EarlyReceipts:
    """Receipts whose gateway id isn't stored yet: between the answer on the wire and our commit, another
    connection may already bring the receipt. Held EARLY_HOLD_S, at most `limit` ids; the oldest goes first.

    In memory only: the caller must not acknowledge a held receipt to the gateway, or must have stored it.
    """

    def __init__(self, limit: int = EARLY_RECEIPTS_MAX) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, receipt: Receipt, now: int) -> list[Receipt]:
        """Keep it; returns those pushed out, for the caller to report."""
        key = (receipt.gateway, receipt.gateway_id)
        held = self._held.get(key)
        known = held.receipts if held else ()
        if receipt not in known:  # one of a kind is enough, so a repeating gateway can't fill an entry
            self._held[key] = _Held(at=held.at if held else now, receipts=(*known, receipt)[:3])
        dropped: list[Receipt] = []
        while len(self._held) > self._limit:
            dropped.extend(self._held.popitem(last=False)[1].receipts)
        return dropped

    def take(self, gateway: str, gateway_id: str) -> tuple[Receipt, ...]:
        """Those held for an id that has just been stored, in order of arrival; they are held no more."""
        held = self._held.pop((gateway, gateway_id), None)
        return held.receipts if held else ()

    def expire(self, now: int) -> list[Receipt]:
        """Forget what is older than EARLY_HOLD_S; returns it, for the caller to report."""
        dropped: list[Receipt] = []
        while self._held:
            key, held = next(iter(self._held.items()))
            if now - held.at < EARLY_HOLD_S * MICROSECONDS:
                break
            del self._held[key]
            dropped.extend(held.receipts)
        return dropped
