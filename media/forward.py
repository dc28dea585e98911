"""What changes in a packet on its way to a subscriber: numbers, timestamps, and its size.

Pure. Never keeps media bytes. Invariant: the sequence numbers a `Numbers` gives out have no hole but those of the
source that wasn't forwarded *yet* (loss that repair may still fill), whatever was dropped or switched in between.

Sources: RFC 3550 §5.1, RFC 6184 (H.264), RFC 9628 (VP9), AV1 RTP specification §4.4.
"""

from __future__ import annotations

from collections.abc import Callable

from media import vp8
from media.rtp import pad

INTERVALS_MAX = 64
BURST_PACKETS_MAX = 64
BURST_BYTES_MAX = 60_000
PAD_BYTES_MAX = 96  # a padded byte costs bandwidth, a segment of its own about 1 us


class Numbers:
    """Maps extended sequence numbers and timestamps of a source to contiguous outgoing ones.

    The caller must feed `forward()` and `drop()` with numbers extended per source, and call `switch()` before the first
    packet of each source. `last` is the highest outgoing extended number so far.
    """

    def __init__(self, first_sequence: int, first_timestamp: int) -> None:
        self.last = first_sequence - 1
        self.last_timestamp = first_timestamp
        self.last_at_s: float | None = None
        self._timestamp_offset = 0
        self._highest = -1
        self._intervals: list[tuple[int, int]] = []

    @property
    def timestamp_offset(self) -> int:
        """What is added to timestamps of the present source, modulo 2**32."""
        return self._timestamp_offset

    def switch(self, sequence: int, timestamp: int, now_s: float, clock_rate: int) -> None:
        """Continue with a source whose next forwarded packet has these numbers; earlier ones of it are refused."""
        elapsed = 0 if self.last_at_s is None else max(1, round((now_s - self.last_at_s) * clock_rate))
        self._timestamp_offset = (self.last_timestamp + elapsed - timestamp) & 0xFFFFFFFF
        self._intervals = [(sequence, self.last + 1 - sequence)]
        self._highest = sequence - 1

    def forward(self, sequence: int, timestamp: int, now_s: float) -> tuple[int, int] | None:
        """Outgoing (extended sequence, timestamp), or None for a number from before the source was switched to."""
        intervals = self._intervals
        offset = intervals[-1][1] if intervals and sequence >= intervals[-1][0] else self._offset(sequence)
        if offset is None:
            return None
        out = sequence + offset
        mapped = (timestamp + self._timestamp_offset) & 0xFFFFFFFF
        if sequence > self._highest:
            self._highest = sequence
            self.last = out
            self.last_timestamp = mapped
            self.last_at_s = now_s
        return out, mapped

    def drop(self, sequence: int) -> bool:
        """Close the gap that not forwarding `sequence` would leave.

        False if a later packet went out already: then the number is taken and the caller should forward the packet.
        """
        offset = self._offset(sequence)
        if offset is None or sequence <= self._highest:
            return offset is None
        self._highest = sequence
        if self._intervals[-1][0] == sequence:
            self._intervals.pop()
        self._intervals.append((sequence + 1, offset - 1))
        self.last = sequence + offset - 1
        if len(self._intervals) > INTERVALS_MAX:
            del self._intervals[0]
        return True

    def _offset(self, sequence: int) -> int | None:
        for start, offset in reversed(self._intervals):
            if sequence >= start:
                return offset
        return None


def starts_key_frame(codec: str, payload: bytes) -> bool:
    """True if this packet is the first of a frame that needs no other. `codec` is lower case: vp8 vp9 h264 av1."""
    test = key_test(codec)
    return test is not None and len(payload) > 0 and test(payload)


def key_test(codec: str) -> Callable[[bytes], bool] | None:
    """What `starts_key_frame` asks of a payload that isn't empty; None for a codec without key frames."""
    return _KEY_TESTS.get(codec)


def _h264_key(payload: bytes) -> bool:
    """RFC 6184 §5: an SPS or IDR alone, in a STAP-A, or at the start of an FU-A."""
    kind = payload[0] & 0x1F
    if kind == 24:
        at = 1
        while at + 3 <= len(payload):
            if payload[at + 2] & 0x1F in (5, 7):
                return True
            at += 2 + (payload[at] << 8 | payload[at + 1])
        return False
    if kind == 28:
        return len(payload) > 1 and payload[1] & 0x80 != 0 and payload[1] & 0x1F in (5, 7)
    return kind in (5, 7)


def _vp9_key(payload: bytes) -> bool:
    """RFC 9628 §4.2: not inter-picture predicted, beginning of a frame, lowest spatial layer."""
    flags = payload[0]
    if flags & 0x40 or not flags & 0x08:
        return False
    if not flags & 0x20:
        return True
    at = 1
    if flags & 0x80:
        at += 2 if len(payload) > 1 and payload[1] & 0x80 else 1
    return len(payload) > at and payload[at] >> 1 & 0x07 == 0


def _av1_key(payload: bytes) -> bool:
    """AV1 RTP §4.4: N announces a new coded video sequence; such a packet is no continuation (Z = 0)."""
    return payload[0] & 0x88 == 0x08


_KEY_TESTS = {"vp8": vp8.starts_key_frame, "h264": _h264_key, "vp9": _vp9_key, "av1": _av1_key}


def bursts(packets: list[bytes], pad_bytes_max: int = PAD_BYTES_MAX) -> list[list[bytes]]:
    """Cut `packets` (whole plaintext packets, unpadded) into groups that one GSO send can carry.

    In each group all but the last have one size and the last is no larger; smaller ones are padded, by at most
    `pad_bytes_max` bytes. The order is kept. Source: `facts.md`, rules of UDP_SEGMENT.
    """
    lengths = [len(packet) for packet in packets]
    if 0 < len(packets) <= BURST_PACKETS_MAX:
        widest = max(lengths)
        narrowest = min(lengths[:-1], default=widest)
        if widest - narrowest <= pad_bytes_max and (widest + 16) * len(packets) <= BURST_BYTES_MAX:
            return [packets if widest == narrowest else _evened(packets, widest)]  # one group, as nearly always
    groups: list[list[bytes]] = []
    group: list[bytes] = []
    size = smallest = 0
    for packet in packets:
        length = len(packet)
        widest = length if length > size else size
        if group and (
            len(group) == BURST_PACKETS_MAX
            or widest - min(smallest, len(group[-1])) > pad_bytes_max
            or (widest + 16) * (len(group) + 1) > BURST_BYTES_MAX
        ):
            groups.append(_evened(group, size))
            group = []
        if not group:
            group, size, smallest = [packet], length, length
            continue
        smallest = min(smallest, len(group[-1]))
        group.append(packet)
        size = widest
    if group:
        groups.append(_evened(group, size))
    return groups


def _evened(group: list[bytes], size: int) -> list[bytes]:
    if len(group) == 1:
        return group
    evened = [packet if len(packet) == size else pad(packet, size) for packet in group[:-1]]
    evened.append(group[-1])
    return evened
