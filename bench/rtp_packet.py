"""RTP and RTCP bytes of the load client: VP8-like video, Opus-like audio, a stamp inside each payload.

Never reads a clock and never opens a socket. Invariant: every media packet ends (before any RTP padding)
in a stamp that `read_stamp()` gives back unchanged, so a receiver can tell a forwarded packet from noise.

Sources: RFC 3550 (RTP, RTCP), RFC 7741 (VP8 descriptor), RFC 8285 (extensions), RFC 6464 (audio level).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

RTP_HEADER = Struct("!BBHII")
STAMP = Struct("!8sQQ")
STAMP_MAGIC = b"FhStamp1"

VIDEO_CLOCK_HZ = 90_000
AUDIO_CLOCK_HZ = 48_000
AUDIO_FRAME_S = 0.020
PADDING_BIT = 0x20
EXTENSION_BIT = 0x10

VP8_START_CODE = b"\x9d\x01\x2a"
FILLER = bytes(range(251)) * 6


class Stamp(NamedTuple):
    """What the publisher wrote into a packet: its running number and the send time (Unix, nanoseconds)."""

    number: int
    sent_ns: int


def extension_block(elements: list[tuple[int, bytes]]) -> bytes:
    """One-byte-header extension block of `elements` (id 1..14, 1..16 bytes each); empty for no elements."""
    if not elements:
        return b""
    body = b"".join(bytes([(ident << 4) | (len(value) - 1)]) + value for ident, value in elements)
    body += bytes(-len(body) % 4)
    return b"\xbe\xde" + (len(body) // 4).to_bytes(2, "big") + body


def media_packet(
    *, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, extensions: bytes, payload: bytes
) -> bytes:
    """One RTP packet; `extensions` comes from `extension_block()`."""
    first = 0x80 | (EXTENSION_BIT if extensions else 0)
    second = payload_type | (0x80 if marker else 0)
    header = RTP_HEADER.pack(first, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return header + extensions + payload


def vp8_payload(
    *, start: bool, key: bool, picture_id: int, tl0: int, stamp: Stamp, size: int, height: int = 720
) -> bytes:
    """`size` bytes of VP8: descriptor with 15-bit PictureID and TL0PICIDX, payload header, filler, stamp."""
    descriptor = bytes(
        [
            0x80 | (0x10 if start else 0),  # X, S; partition 0
            0x80 | 0x40 | 0x20,  # I, L, T
            0x80 | (picture_id >> 8 & 0x7F),  # M: 15 bits
            picture_id & 0xFF,
            tl0 & 0xFF,
            0x20,  # TID 0, Y = 1: depends on layer 0 only
        ]
    )
    head = b""
    if start:
        # RFC 6386 §9.1: P = 0 is a key frame, then start code, size
        head = bytes([0x10 | (0 if key else 1), 0x02, 0x00])
        if key:
            head += VP8_START_CODE + (height * 16 // 9).to_bytes(2, "little") + height.to_bytes(2, "little")
    room = size - len(descriptor) - len(head) - STAMP.size
    return descriptor + head + FILLER[: max(0, room)] + STAMP.pack(STAMP_MAGIC, *stamp)


def opus_payload(stamp: Stamp, size: int) -> bytes:
    """`size` bytes with the TOC byte of a 20 ms full-band CELT frame, filler and the stamp."""
    return b"\xfc" + FILLER[: max(0, size - 1 - STAMP.size)] + STAMP.pack(STAMP_MAGIC, *stamp)


def read_stamp(packet: bytes) -> Stamp | None:
    """The stamp of an unprotected RTP packet, or None where there is none (a probe, padding only, noise)."""
    end = len(packet)
    if packet[0] & PADDING_BIT:
        end -= packet[-1]
    if end < 12 + STAMP.size:
        return None
    magic, number, sent_ns = STAMP.unpack_from(packet, end - STAMP.size)
    return Stamp(number, sent_ns) if magic == STAMP_MAGIC else None


def receiver_report(ssrc: int, about: int, highest: int) -> bytes:
    """RR with one block saying that nothing was lost up to `highest` (32-bit extended sequence)."""
    block = about.to_bytes(4, "big") + bytes(4) + (highest & 0xFFFFFFFF).to_bytes(4, "big") + bytes(12)
    return b"\x81\xc9\x00\x07" + ssrc.to_bytes(4, "big") + block


def sender_report(*, ssrc: int, unix_ns: int, timestamp: int, packets: int, octets: int) -> bytes:
    """SR without report blocks; `unix_ns` becomes the NTP time."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    ntp = ((seconds + 2_208_988_800) << 32 | (nanos << 32) // 1_000_000_000) & 0xFFFFFFFFFFFFFFFF
    words = [timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF]
    return (
        b"\x80\xc8\x00\x06"
        + ssrc.to_bytes(4, "big")
        + ntp.to_bytes(8, "big")
        + b"".join(word.to_bytes(4, "big") for word in words)
    )


def picture_loss(ssrc: int, about: int) -> bytes:
    """PLI (RFC 4585 §6.3.1) from `ssrc` about the media of `about`."""
    return b"\x81\xce\x00\x02" + ssrc.to_bytes(4, "big") + about.to_bytes(4, "big")


def asks_for_key_frame(compound: bytes) -> bool:
    """True if an unprotected RTCP compound holds a PLI (PSFB 1) or a FIR (PSFB 4)."""
    position = 0
    while position + 4 <= len(compound):
        if compound[position + 1] == 206 and compound[position] & 0x1F in (1, 4):
            return True
        position += 4 * (int.from_bytes(compound[position + 2 : position + 4], "big") + 1)
    return False
