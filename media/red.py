"""Redundant audio (RED): the newest frame of a packet that carries earlier ones with it.

Pure. Never decodes and never makes redundancy: publishers that offer it send it, subscribers that take it get it as it
came, the others get the newest frame alone. Invariant: any bytes give a frame or None.

Source: RFC 2198 §3.
"""

from __future__ import annotations

BLOCKS_MAX = 8


def primary(payload: bytes) -> bytes | None:
    """The newest frame of a RED payload; None if it is malformed."""
    at = 0
    earlier = 0
    for _ in range(BLOCKS_MAX):
        if at >= len(payload):
            return None
        if payload[at] & 0x80 == 0:
            frame = payload[at + 1 + earlier :]
            return frame or None
        if at + 4 > len(payload):
            return None
        earlier += (payload[at + 2] & 0x03) << 8 | payload[at + 3]
        at += 4
    return None
