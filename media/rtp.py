"""RTP packets as the forwarder sees them: one parse on the way in, one fixed header on the way out.

Never decodes media and never keeps a packet. Invariant: what `parse()` returns has no CSRC, no extensions and no
padding left in `payload`, so whatever is built from it has the same shape for every publisher.

Sources: RFC 3550 §5.1 (header), RFC 8285 (extensions), RFC 6464 (audio level), RFC 7983 (first byte).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

HEADER = Struct("!BBHII")
HEADER_BYTES = 12
PACKET_BYTES_MAX = 1440  # plus 16 (tag) + 8 (UDP) + 20 (IPv4) fits an Ethernet frame

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID_URI = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID_URI = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
SEND_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

TRANSPORT_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

OUT_LEVEL_ID = 1
OUT_SEND_TIME_ID = 2
OUT_TRANSPORT_ID = 3
AUDIO_HEADER_BYTES = 20
VIDEO_HEADER_BYTES = 24
TRANSPORT_AT = 21  # where the transport-wide number lies in an outgoing video packet

LEVEL_SILENCE = 127


class Malformed(ValueError):
    """Bytes that are no RTP packet; the message says which rule they break."""


class ExtensionIds(NamedTuple):
    """Which one-byte extension id means what on one m-line; 0 where it was not negotiated."""

    mid: int = 0
    level: int = 0
    send_time: int = 0
    rid: int = 0
    repaired_rid: int = 0
    transport: int = 0


class Packet:
    """One incoming RTP packet.

    `level` is -1 without an RFC 6464 extension, else that byte: -dBov (0 loud, 127 silent), plus 128 for voice;
    `send_time` is -1 or the 24-bit abs-send-time; `transport` is -1 or the 16-bit transport-wide number; `mid` and `rid`
    (of a retransmission: the repaired one) are empty or what the extensions say.
    `redundant` is the whole payload where `payload` is the newest frame of it.
    """

    __slots__ = (
        *("level", "marker", "mid", "payload", "payload_type", "redundant", "rid", "send_time", "sequence", "ssrc"),
        *("timestamp", "transport"),
    )

    def __init__(self, second: int, sequence: int, timestamp: int, ssrc: int, payload: bytes) -> None:
        self.marker = second & 0x80
        self.payload_type = second & 0x7F
        self.sequence = sequence
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.level = -1
        self.send_time = -1
        self.transport = -1
        self.redundant = b""
        self.mid = ""
        self.rid = ""


def parse(data: bytes, ids: ExtensionIds) -> Packet:
    """The RTP packet in `data` (already unprotected); raises `Malformed`."""
    length = len(data)
    if length < HEADER_BYTES:
        raise Malformed("shorter than a header")
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first & 0xC0 != 0x80:
        raise Malformed("not version 2")
    start = HEADER_BYTES + 4 * (first & 0x0F)
    end = length
    elements = b""
    profile = 0
    if first & 0x10:
        if length < start + 4:
            raise Malformed("truncated extension header")
        profile = data[start] << 8 | data[start + 1]
        size = 4 * (data[start + 2] << 8 | data[start + 3])
        start += 4
        elements = data[start : start + size]
        start += size
    if first & 0x20:
        end -= data[-1]
        if end == length:
            raise Malformed("padding of length 0")
    if start > end:
        raise Malformed("truncated")
    packet = Packet(second, sequence, timestamp, ssrc, data[start:end])
    if elements:
        _read_extensions(packet, profile, elements, ids)
    return packet


def _read_extensions(packet: Packet, profile: int, elements: bytes, ids: ExtensionIds) -> None:
    """Fill in what `ids` knows; elements that don't fit end the walk, as RFC 8285 §4.2 allows."""
    two_bytes = profile & 0xFFF0 == 0x1000
    if not two_bytes and profile != 0xBEDE:
        return
    position, end = 0, len(elements)
    while position < end:
        head = elements[position]
        if head == 0:
            position += 1
            continue
        if two_bytes:
            if position + 2 > end:
                return
            ident, size = head, elements[position + 1]
            position += 2
        else:
            ident, size = head >> 4, (head & 0x0F) + 1
            position += 1
            if ident == 15:
                return
        value = elements[position : position + size]
        if len(value) < size:
            return
        position += size
        if ident == ids.transport and size == 2:
            packet.transport = value[0] << 8 | value[1]
        elif ident == ids.level and size == 1:
            packet.level = value[0]
        elif ident == ids.send_time and size == 3:
            packet.send_time = value[0] << 16 | value[1] << 8 | value[2]
        elif ident == ids.mid and size <= 32:
            packet.mid = value.decode("ascii", "replace")
        elif (ident == ids.rid or ident == ids.repaired_rid) and size <= 32:
            packet.rid = value.decode("ascii", "replace")


def audio_head(level: int) -> bytes:
    """The extension block of outgoing audio: RFC 6464 level, always eight bytes."""
    value = level if level >= 0 else LEVEL_SILENCE
    return bytes((0xBE, 0xDE, 0, 1, OUT_LEVEL_ID << 4, value, 0, 0))


def video_head(now_s: float) -> bytes:
    """The extension block of outgoing video: abs-send-time (6.18 fixed point seconds) and room for the transport-wide
    number, always twelve bytes."""
    stamp = int(now_s * 262_144) & 0xFFFFFF
    time = (OUT_SEND_TIME_ID << 4 | 2, stamp >> 16, stamp >> 8 & 0xFF, stamp & 0xFF)
    return bytes((0xBE, 0xDE, 0, 2, *time, OUT_TRANSPORT_ID << 4 | 1, 0, 0, 0))


def newer(sequence: int, than: int) -> bool:
    """True if 16-bit `sequence` lies after `than` (RFC 1982 arithmetic)."""
    return 0 < (sequence - than) & 0xFFFF < 0x8000


def extend(sequence: int, reference: int) -> int:
    """The extended number nearest to `reference` (extended) whose low 16 bits are `sequence`; may be negative."""
    return reference + ((sequence - reference + 0x8000) & 0xFFFF) - 0x8000


def pad(packet: bytes, size: int) -> bytes:
    """`packet` (without padding so far) filled up to `size` bytes with RTP padding (RFC 3550 §5.1), at most 255."""
    missing = size - len(packet)
    if missing <= 0:
        return packet
    return bytes((packet[0] | 0x20,)) + packet[1:] + bytes(missing - 1) + bytes((missing,))
