"""What the forwarder reads and changes in a VP8 payload: the descriptor's ids, the start of a key frame, its size.

Pure. Never decodes. Invariant: a change never alters a payload's length, and a payload that is no VP8 comes back as it was.

Sources: RFC 7741 §4.2 (payload descriptor), §4.3 (payload header), RFC 6386 §9.1 (key frame header).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

WIDE_MASK = 0x7FFF
NARROW_MASK = 0x7F


class Picture(NamedTuple):
    """The ids in one payload: where the PictureID is (offset, 15 bits?), its value, and TL0PICIDX behind it or -1."""

    at: int
    wide: bool
    value: int
    tl0: int

    @property
    def mask(self) -> int:
        return WIDE_MASK if self.wide else NARROW_MASK


_picture: Callable[[tuple[int, bool, int, int]], Picture] = partial(tuple.__new__, Picture)  # cheaper than `Picture()`


def picture(payload: bytes) -> Picture | None:
    """The ids of a payload, None where it has no PictureID."""
    if len(payload) < 4 or payload[0] & 0x80 == 0 or payload[1] & 0x80 == 0:
        return None
    first = payload[2]
    if first & 0x80:
        after, wide, value = 4, True, (first & 0x7F) << 8 | payload[3]
    else:
        after, wide, value = 3, False, first
    if after >= len(payload):
        return None
    return _picture((2, wide, value, payload[after] if payload[1] & 0x40 else -1))


def moved(found: Picture, value_offset: int, tl0_offset: int) -> bytes:
    """The bytes from `found.at` on with both ids moved: 1-3 bytes."""
    value = (found.value + value_offset) & found.mask
    head = bytes((0x80 | value >> 8, value & 0xFF)) if found.wide else bytes((value,))
    return head if found.tl0 < 0 else head + bytes(((found.tl0 + tl0_offset) & 0xFF,))


def starts_key_frame(payload: bytes) -> bool:
    """True if this is the start of partition 0 and the P bit of the payload header is 0; `payload` is not empty."""
    if payload[0] & 0x17 != 0x10:
        return False
    at = _header_at(payload)
    return 0 < at < len(payload) and payload[at] & 0x01 == 0


def size(payload: bytes) -> tuple[int, int] | None:
    """Width and height in pixels told by the first payload of a key frame; None where there is none."""
    if not payload or not starts_key_frame(payload):
        return None
    at = _header_at(payload)
    if len(payload) < at + 10 or payload[at + 3 : at + 6] != b"\x9d\x01\x2a":
        return None
    width = (payload[at + 7] << 8 | payload[at + 6]) & 0x3FFF
    height = (payload[at + 9] << 8 | payload[at + 8]) & 0x3FFF
    return (width, height) if width and height else None


def _header_at(payload: bytes) -> int:
    """Where the descriptor ends, 0 for a truncated one."""
    if payload[0] & 0x80 == 0:
        return 1
    if len(payload) < 2:
        return 0
    flags = payload[1]
    at = 2
    if flags & 0x80:
        at += 2 if len(payload) > 2 and payload[2] & 0x80 else 1
    return at + (flags & 0x40 != 0) + (flags & 0x30 != 0)
