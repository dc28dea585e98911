"""What RTCP tells us, as plain records; `media/rtc.py` makes them from bytes.

Pure. Never holds more than the forwarder uses. Invariant: sequence numbers are 16 bits, SSRCs 32.

Sources: RFC 3550 §6.4, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb-03.
"""

from __future__ import annotations

from typing import NamedTuple


class SenderReport(NamedTuple):
    """RFC 3550 §6.4.1; `ntp` 64 bits."""

    ssrc: int
    ntp: int
    timestamp: int


class ReceiverReport(NamedTuple):
    """One report block: what the sender of the packet says of our stream `ssrc`."""

    ssrc: int
    fraction: int
    lost: int
    jitter: int
    last_report: int
    delay: int


class Nack(NamedTuple):
    ssrc: int
    sequences: list[int]


class KeyRequest(NamedTuple):
    """PLI or FIR for our stream `ssrc`."""

    ssrc: int


class Remb(NamedTuple):
    bitrate_bps: int


class Bye(NamedTuple):
    ssrcs: list[int]


Feedback = SenderReport | ReceiverReport | Nack | KeyRequest | Remb | Bye
