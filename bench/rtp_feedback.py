"""The feedback of a light subscriber: transport-wide arrivals, and now and then a NACK as if something had been lost.

Never opens a socket. Invariant: what it asks for again has arrived, so that a repair never counts as a delivery.

Sources: draft-holmer-rmcat-transport-wide-cc-extensions-01, RFC 4585 §6.2.1, RFC 8285.
"""

from __future__ import annotations

from media.twcc import Arrivals

NACKED = 0.01  # of what arrived
NACKED_MAX = 17  # what one field can say
BACK = 20  # so far behind the newest: a repaired loss, not a reordered packet


class Feedback:
    """What one subscriber says about a server's packets. `ident` is the id of the transport-wide extension."""

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self._arrivals = Arrivals()
        self._at: dict[int, int] = {}  # payload type -> where the number lies, 0 for none

    def on_media(self, data: bytes, arrived_ns: int) -> None:
        """Note one RTP datagram (extensions of SRTP are in the clear)."""
        kind = data[1] & 0x7F
        at = self._at.get(kind)
        if at is None:
            at = self._at[kind] = _place(data, self.ident)
        if at:
            self._arrivals.add(data[at] << 8 | data[at + 1], arrived_ns / 1e9)

    def arrivals(self, about: int) -> bytes | None:
        """What is to be told now, if anything."""
        return self._arrivals.report(about)


def _place(data: bytes, ident: int) -> int:
    """Where the two bytes of extension `ident` are, 0 if it isn't there."""
    if not data[0] & 0x10 or data[12:14] != b"\xbe\xde":
        return 0
    at, end = 16, 16 + 4 * (data[14] << 8 | data[15])
    while at < end:
        if data[at] == 0:
            at += 1
        elif data[at] >> 4 == ident:
            return at + 1
        else:
            at += 2 + (data[at] & 0x0F)
    return 0


def nack(ssrc: int, about: int, highest: int, came: int) -> bytes:
    """Ask again for `NACKED` of the `came` packets since the last time, at least one: for such as came a moment ago."""
    count = min(NACKED_MAX, max(1, round(came * NACKED)))
    first = (highest - BACK) & 0xFFFF
    mask = (1 << (count - 1)) - 1
    body = ssrc.to_bytes(4, "big") + about.to_bytes(4, "big") + first.to_bytes(2, "big") + mask.to_bytes(2, "big")
    return b"\x81\xcd\x00\x03" + body
