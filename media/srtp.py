"""SRTP sessions, and the one buffer in which a burst is protected for each subscriber in turn.

The only file that touches pylibsrtp (and its C binding: the Python wrapper allocates four times per packet). Never
sends. Invariant: a plaintext enters `protect*()` under the index in its header once, or again with the same bytes.

Sources: RFC 3711, RFC 7714 (GCM).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from pylibsrtp import Error, Policy, Session
from pylibsrtp._binding import ffi, lib

from media import vp8
from media.forward import BURST_PACKETS_MAX
from media.rtp import TRANSPORT_AT, VIDEO_HEADER_BYTES

if TYPE_CHECKING:
    from media.splice import Numbering
    from media.track import Item

PLAIN_BYTES_MAX = 1500
PROTECTED_BYTES_MAX = 2048  # what a datagram of ours may have
TRAILER_BYTES_MAX = 160
BURST_BUFFER_BYTES = 65_536
REPLAY_WINDOW = 1024

TAG_BYTES = {
    Policy.SRTP_PROFILE_AEAD_AES_128_GCM: 16,
    Policy.SRTP_PROFILE_AEAD_AES_256_GCM: 16,
    Policy.SRTP_PROFILE_AES128_CM_SHA1_80: 10,
}

# One call per packet is what patching costs: the first writes the header, the second VP8 ids of 15 bits as well; what lies
# between (extensions, the descriptor's flags) is written as it was.
_patch_head = Struct("!BHII").pack_into
_patch_all = Struct("!BHII14sHB").pack_into

_buffer = ffi.new("char[]", BURST_BUFFER_BYTES + TRAILER_BYTES_MAX)
_view = memoryview(ffi.buffer(_buffer))
_length = ffi.new("int *")
_lengths = ffi.new("int[]", BURST_PACKETS_MAX)  # of the packets of a burst; libsrtp writes what each has become
_LENGTHS = [_lengths + at for at in range(BURST_PACKETS_MAX)]
_lengths_view = memoryview(ffi.buffer(_lengths)).cast("B").cast("i")
_protect = lib.srtp_protect
_unprotect = lib.srtp_unprotect
_unprotect_rtcp = lib.srtp_unprotect_rtcp

# The numbers 0 to 65,535 and on from 0 as they are written: consecutive numbers of a burst are one slice.
_WRITTEN = b"".join((number & 0xFFFF).to_bytes(2, "big") for number in range(0x10000 + BURST_PACKETS_MAX))
_NUMBERS = memoryview(_WRITTEN).cast("H")
_HIGH, _LOW = _WRITTEN[::2], _WRITTEN[1::2]
_wide_view = _view[TRANSPORT_AT : TRANSPORT_AT + BURST_BUFFER_BYTES].cast("H")


class Refused(Exception):
    """libsrtp refused a packet; the message says why in its words."""


def _session(key: bytes, profile: int, direction: int) -> Session:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=profile)
    policy.allow_repeat_tx = True
    policy.window_size = REPLAY_WINDOW
    return Session(policy)


class Unprotector:
    """The receiving half of one DTLS association."""

    def __init__(self, key: bytes, profile: int) -> None:
        self._session = _session(key, profile, Policy.SSRC_ANY_INBOUND)
        self._handle = self._session._srtp[0]

    def rtp(self, data: bytes) -> bytes:
        """Plaintext of an SRTP packet; raises `Refused` (forged, replayed, too long)."""
        return self._plain(_unprotect, data)

    def rtcp(self, data: bytes) -> bytes:
        """Plaintext of an SRTCP packet; raises `Refused`."""
        return self._plain(_unprotect_rtcp, data)

    def _plain(self, unprotect: Callable[[Any, Any, Any], int], data: bytes) -> bytes:
        size = len(data)
        if size > PROTECTED_BYTES_MAX:
            raise Refused("packet is too long")
        _view[:size] = data
        _length[0] = size
        status = unprotect(self._handle, _buffer, _length)
        if status:
            raise Refused(f"libsrtp status {status}")
        return bytes(_view[: _length[0]])

    def forget(self, ssrc: int) -> None:
        """Drop the state of a source that is gone."""
        try:
            self._session.remove_stream(ssrc)
        except Error:
            return


class Protector:
    """The sending half of one DTLS association."""

    def __init__(self, key: bytes, profile: int) -> None:
        self._session = _session(key, profile, Policy.SSRC_ANY_OUTBOUND)
        self._handle = self._session._srtp[0]
        self.tag_bytes = TAG_BYTES[profile]

    def rtp(self, plain: bytes) -> bytes:
        """An SRTP packet; raises `Refused` (too long, index too old to repeat)."""
        if len(plain) > PLAIN_BYTES_MAX:
            raise Refused("packet is too long")
        size = len(plain)
        _view[:size] = plain
        _length[0] = size
        status = _protect(self._handle, _buffer, _length)
        if status:
            raise Refused(f"libsrtp status {status}")
        return bytes(_view[: _length[0]])

    def rtcp(self, plain: bytes) -> bytes:
        """An SRTCP packet; raises `Refused`."""
        try:
            data: bytes = self._session.protect_rtcp(plain)
        except (Error, ValueError) as error:
            raise Refused(str(error)) from None
        return data

    def burst(self, burst: Burst) -> memoryview | None:
        """The whole burst protected, in the shared buffer: valid until the next call of any `Protector`.

        None if libsrtp refused one of its packets.
        """
        burst.out[:] = burst.template
        return self._sealed(burst)

    def patched(self, burst: Burst, numbering: Numbering, transport: int = -1) -> memoryview | None:
        """As `burst()`, with the numbers of one subscriber, and from `transport` on (unless -1) its transport-wide numbers
        (video only).

        Most subscribers of a layer came to it at the same key frame, so all but the transport-wide numbers is equal: from
        the third of them on, what the second got is copied.
        """
        out = burst.out
        if numbering is burst.newest:
            out[:] = burst.newest_ready
        else:
            self._number(burst, numbering)
        if transport >= 0:
            transport &= 0xFFFF
            if burst.numbers is not None:
                burst.numbers[:] = _NUMBERS[transport : transport + burst.count]
            else:
                burst.high[:] = _HIGH[transport : transport + burst.count]
                burst.low[:] = _LOW[transport : transport + burst.count]
        handle = self._handle
        burst.lengths[:] = burst.plain_lengths
        for pointer, length in burst.places:
            if _protect(handle, pointer, length):
                return None
        return out

    def _number(self, burst: Burst, numbering: Numbering) -> None:
        """A subscriber's numbers but the transport-wide ones, where they aren't those of the one before."""
        ready = burst.ready.get(numbering)
        if ready is not None:
            burst.out[:] = ready
            burst.newest, burst.newest_ready = numbering, ready
            return
        burst.out[:] = burst.template
        _renumber(burst, numbering)
        burst.ready[numbering] = bytes(burst.out) if numbering in burst.ready else None

    def _sealed(self, burst: Burst) -> memoryview | None:
        """Protect what lies in the buffer."""
        handle = self._handle
        if burst.count == 1:  # sound
            _lengths[0] = burst.size - self.tag_bytes
            return None if _protect(handle, _buffer, _lengths) else burst.out
        burst.lengths[:] = burst.plain_lengths
        for pointer, length in burst.places:
            if _protect(handle, pointer, length):
                return None
        return burst.out

    def forget(self, ssrc: int) -> None:
        """Drop the state of a stream that is gone; its number space must never be used again."""
        try:
            self._session.remove_stream(ssrc)
        except Error:
            return


def _renumber(burst: Burst, numbering: Numbering) -> None:
    """Write all of a subscriber's numbers but the transport-wide ones into the burst in the buffer."""
    view = _view
    by_number, by_time, by_picture, by_tl0, payload_type, ssrc = numbering
    if not burst.all_wide or not (by_picture or by_tl0):
        for at, marker, number, timestamp, *_ in burst.rows:
            number, timestamp = (number + by_number) & 0xFFFF, (timestamp + by_time) & 0xFFFFFFFF
            _patch_head(view, at, marker | payload_type, number, timestamp, ssrc)
        if by_picture or by_tl0:
            burst.patch_ids(by_picture, by_tl0)
        return
    for at, marker, number, timestamp, between, picture, tl0 in burst.rows:
        _patch_all(
            view,
            at,
            marker | payload_type,
            (number + by_number) & 0xFFFF,
            (timestamp + by_time) & 0xFFFFFFFF,
            ssrc,
            between,
            0x8000 | (picture + by_picture) & 0x7FFF,
            (tl0 + by_tl0) & 0xFF,
        )


class Burst:
    """Packets laid out as one GSO send: equal sizes but for a shorter last, room for a tag after each.

    The caller makes one per group and tag length and shares it between all subscribers. `items` describe the packets.
    """

    __slots__ = (
        *("all_wide", "count", "high", "items", "lengths", "low", "newest", "newest_ready", "numbers", "out", "places"),
        *("plain_lengths", "ready", "rows", "segment_bytes", "size", "template"),
    )

    def __init__(self, packets: list[bytes], tag_bytes: int, items: list[Item]) -> None:
        gap = bytes(tag_bytes)
        step = self.segment_bytes = len(packets[0]) + tag_bytes
        self.template = gap.join(packets) + gap
        self.size = len(self.template)
        self.count = len(packets)
        self.items = items
        self.all_wide = True
        self.rows = [self._row(at * step + 1, item) for at, item in enumerate(items)]
        self.places: list[tuple[Any, Any]] = [(_buffer + at * step, _LENGTHS[at]) for at in range(self.count)]
        self.lengths = _lengths_view[: self.count]
        self.plain_lengths = memoryview(array("i", map(len, packets)))
        self.out = _view[: self.size]
        # where the transport-wide numbers go: two octets in one go where they lie evenly
        self.numbers = _wide_view[: (self.count - 1) * step // 2 + 1 : step // 2] if not step % 2 else None
        if self.numbers is None:
            end = TRANSPORT_AT + (self.count - 1) * step + 1
            self.high, self.low = _view[TRANSPORT_AT:end:step], _view[TRANSPORT_AT + 1 : end + 1 : step]
        self.newest: Numbering | None = None  # whose numbers `newest_ready` has
        self.newest_ready = b""
        self.ready: dict[
            Numbering, bytes | None
        ] = {}  # None after the first subscriber with it, the burst after the second

    def _row(self, at: int, item: Item) -> tuple[int, int, int, int, bytes, int, int]:
        """What `_renumber` needs of one packet: where, marker, number, timestamp, the bytes between, VP8 ids."""
        number, plain, _, timestamp, marker, found, _ = item
        if found is None or not found.wide or found.tl0 < 0:
            self.all_wide = False
            return at, marker, number, timestamp, b"", 0, 0
        return at, marker, number, timestamp, plain[12 : VIDEO_HEADER_BYTES + found.at], found.value, found.tl0

    def patch_ids(self, by_picture: int, by_tl0: int) -> None:
        """Move the VP8 ids of the packets in the buffer."""
        at = VIDEO_HEADER_BYTES
        for item in self.items:
            found = item.picture
            if found is not None:
                moved = vp8.moved(found, by_picture, by_tl0)
                _view[at + found.at : at + found.at + len(moved)] = moved
            at += self.segment_bytes
