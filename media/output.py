"""One outgoing stream of one subscriber: which layer feeds it, how that layer's numbers become its own, and its repair.

Never parses foreign bytes and never decides which layer is right (`media/allocate.py` does). Invariant: it changes layers
at key frames only, or by replaying all that was sent since one.

Sources: RFC 4588 (RTX), RFC 3550 §6.4.1 (SR), `media/splice.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from media import vp8
from media.repair import Resends, rtx
from media.rtc import write_sender_report
from media.rtp import HEADER, TRANSPORT_AT, VIDEO_HEADER_BYTES
from media.sdp import Codec, Stream
from media.splice import Numbering, Place, Splice, Stretch
from media.track import Layer, Track

if TYPE_CHECKING:
    from media.downlink import Downlink
    from media.peer import Peer

REPLAY_PACKETS_MAX = 256
REPLAY_BYTES_MAX = 256_000
REPLAY_CAMERA_BYTES_MAX = 64_000  # a camera gives a new key frame gladly
REPLAY_FRAME_TICKS = 90  # replayed frames are 1 ms apart, so that the receiver shows the newest at once
REPLAY_REPAIR_S = 3.0

_numbering = lru_cache(maxsize=4096)(Numbering)  # equal ones are one object: who has the same is told by a glance


class Output:
    """What NACK, PLI and RR of a peer about SSRC `out.ssrc` refer to.

    `layer` is forwarded now, `target` is what it should be; `downlink` is None if the peer gives no transport-wide feedback.
    `codec` is what is sent now, `others` are what the peer takes besides.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        codec: Codec,
        out: Stream,
        cname: str,
        rtx_type: int,
        others: tuple[Codec, ...] = (),
        downlink: Downlink | None = None,
    ) -> None:
        self.peer = peer
        self.codec = codec.name
        self.out = out
        self.cname = cname
        self.rtx_type = rtx_type if out.rtx else 0
        self.payload_type = codec.payload_type
        self._codecs = {one.name: one for one in (codec, *others)}
        self.downlink = downlink if self.rtx_type else None  # what is sent twice under one number must not differ
        self.track: Track | None = None
        self.layer: Layer | None = None
        self.target: Layer | None = None
        self.splice = Splice(codec.clock_rate)
        self.shared = False  # packets leave exactly as the layer made them
        self.numbering = Numbering(0, 0, 0, 0, self.payload_type, out.ssrc)
        self.redundant = False  # takes RED
        self.key_requests = self.resent = 0
        self.lost = 0.0
        self.through_bps = 0.0  # what arrived between the last two receiver reports
        self.switched_at_s = -1e9
        self._own = False
        self._rtx_sequence = out.rtx & 0x7FFF
        self._counted = (0, 0)
        self._from = (0, 0)
        self._reported = (0, 0, 0.0)
        self._replayed: dict[int, int] = {}
        self._replayed_until_s = 0.0

    # -- what to show --

    def show(self, track: Track | None, now_s: float) -> None:
        """Show `track` from now on; until `choose()` names one of its layers what is shown goes on, unless it is of another
        codec. None (or a codec that the peer can't take): stop."""
        if track is not None and track.codec not in self._codecs:
            track = None
        if track is self.track:
            return
        if track is not None and track.codec != self.codec:
            self.choose(None, now_s)
            self._speak(self._codecs[track.codec])
        self.track = track
        if track is None:
            self.choose(None, now_s)
            return
        self._own = track.out.ssrc != self.out.ssrc or track.payload_type != self.payload_type

    def _speak(self, codec: Codec) -> None:
        self.codec = codec.name
        self.payload_type = codec.payload_type
        self.rtx_type = codec.rtx if self.out.rtx else 0

    def choose(self, layer: Layer | None, now_s: float) -> None:
        """Go over to `layer` at its next key frame; None: send nothing."""
        if layer is self.target:
            return
        if self.target is not None and self.target is not self.layer and self in self.target.awaited:
            self.target.awaited.remove(self)
        self.target = layer
        if layer is None:
            self._leave()
        elif layer is not self.layer:
            layer.awaited.append(self)
            self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """See to it that what is awaited comes; call again once the peer is connected."""
        layer = self.target
        if layer is None or layer is self.layer or not layer.track.video or self.peer.protector is None:
            return
        if not self._replay(layer, now_s):
            layer.keys.want()

    def takes(self, number: int) -> bool:
        """Whether this packet of the present layer isn't from before we came to it."""
        now = self.splice.now
        return now is not None and number + now.number >= now.first

    def enter(self, layer: Layer, first: Place, now_s: float, *, ahead: int = 0) -> None:
        """From `first` on `layer` is what this subscriber gets."""
        self._leave()
        self.layer = layer
        stretch = self.splice.enter(layer, first, ahead=ahead)
        self.shared = self.splice.unchanged and not self._own and self.downlink is None
        self.numbering = _numbering(*stretch[2:], self.payload_type, self.out.ssrc)
        self._from = (layer.packets, layer.octets)
        self.switched_at_s = now_s
        layer.outputs.append(self)
        layer.started = max(layer.started, stretch.first - stretch.number)
        self.send_report()

    def _leave(self) -> None:
        layer, self.layer = self.layer, None
        if layer is None:
            return
        self._counted = (
            self._counted[0] + layer.packets - self._from[0],
            self._counted[1] + layer.octets - self._from[1],
        )
        self.splice.leave(layer.newest)
        layer.outputs.remove(self)

    def sent(self) -> tuple[int, int]:
        """(packets, octets) forwarded to this subscriber since it began."""
        if self.layer is None:
            return self._counted
        packets, octets = self._counted
        return packets + self.layer.packets - self._from[0], octets + self.layer.octets - self._from[1]

    def reported(self, lost: float, now_s: float) -> int:
        """The subscriber's receiver report: the fraction `lost` (0-1) since its last; how many packets that was about."""
        self.lost = lost
        before, (packets, octets) = self._reported, self.sent()
        self._reported = (packets, octets, now_s)
        elapsed_s = now_s - before[2]
        if not before[2] or elapsed_s <= 0 or packets < before[0]:
            return 0
        self.through_bps = (octets - before[1]) * 8 * (1 - lost) / elapsed_s
        return packets - before[0]

    # -- repair --

    def want_key(self) -> None:
        """The subscriber lost too much to go on."""
        self.key_requests += 1
        for layer in {self.layer, self.target}:
            if layer is not None and layer.track.video:
                layer.keys.want()

    def resend(self, sequences: list[int], resends: Resends, now_s: float) -> None:
        """Answer a NACK: as RTX where negotiated, else the same bytes under the same number."""
        newest = self._newest()
        for sequence in sequences:
            found = self.splice.find(sequence, newest)
            if found is None:
                continue
            stretch, number = found
            layer = stretch.layer
            assert isinstance(layer, Layer)
            packet = layer.ring.find(number) if layer.track.codec == self.codec else None
            if packet is None or not resends.allow(self.out.ssrc, sequence, len(packet), now_s):
                continue
            if now_s > self._replayed_until_s:
                self._replayed.clear()
            if self.send_again(self.rewritten(packet, stretch, number)):
                self.resent += 1

    def send_again(self, packet: bytes) -> bool:
        """Send one of our packets once more, as RTX where negotiated."""
        if self.rtx_type:
            packet = rtx(packet, self.rtx_type, self.out.rtx, self._rtx_sequence)
            self._rtx_sequence += 1
        return self._send(packet)

    def probe(self, octets: int, packets_max: int) -> tuple[int, int] | None:
        """Send about `octets` of what was sent last once more, back to back; the numbers of the first and the last."""
        layer, stretch, downlink = self.layer, self.splice.now, self.downlink
        if layer is None or stretch is None or downlink is None or layer.newest is None:
            return None
        numbers: list[int] = []
        number, sent = layer.newest.number, 0
        while sent < octets and len(numbers) < packets_max:
            packet = layer.ring.find(number) if self.takes(number) else None
            if packet is None:
                if number == layer.newest.number:
                    return None
                number = layer.newest.number  # little was sent: the same again
                continue
            self.send_again(self.rewritten(packet, stretch, number))
            numbers.append(downlink.newest)
            sent += len(packet)
            number -= 1
        return (numbers[0], numbers[-1]) if numbers else None

    def _send(self, packet: bytes) -> bool:
        if self.downlink is not None:
            number = self.downlink.sent(1, len(packet), self.peer.now())
            packet = packet[:TRANSPORT_AT] + (number & 0xFFFF).to_bytes(2, "big") + packet[TRANSPORT_AT + 2 :]
        return self.peer.send_rtp(packet)

    def _newest(self) -> int:
        now, layer = self.splice.now, self.layer
        if now is None:
            return 0
        return now.first if layer is None or layer.newest is None else layer.newest.number + now.number

    def rewritten(self, packet: bytes, stretch: Stretch, number: int) -> bytes:
        """A packet of the layer's ring as this subscriber got (or gets) it, but for the transport-wide number."""
        first, second, _, timestamp, _ = HEADER.unpack_from(packet)
        out = number + stretch.number
        timestamp = self._replayed.get(out, (timestamp + stretch.timestamp) & 0xFFFFFFFF)
        rest = packet[12:]
        if stretch.picture or stretch.tl0:
            found = vp8.picture(packet[VIDEO_HEADER_BYTES:])
            if found is not None:
                at = VIDEO_HEADER_BYTES - 12 + found.at
                moved = vp8.moved(found, stretch.picture, stretch.tl0)
                rest = rest[:at] + moved + rest[at + len(moved) :]
        head: bytes = HEADER.pack(first, second & 0x80 | self.payload_type, out & 0xFFFF, timestamp, self.out.ssrc)
        return head + rest

    # -- late joiners --

    def _replay(self, layer: Layer, now_s: float) -> bool:
        """Send all that the awaited layer sent since its last key frame, if that is little; True if it was done.

        A static screen sends no key frame for minutes, and a new one would blur the picture of everybody else.
        """
        if self.layer is not None and not layer.track.screen:
            return False
        packets = self._since_key(layer)
        newest = layer.newest
        if not packets or newest is None:
            return False
        frames = sorted(
            {packet[4:8] for _, packet in packets}, key=lambda t: _behind(newest.timestamp, t), reverse=True
        )
        ticks = {stamp: (len(frames) - 1 - at) * REPLAY_FRAME_TICKS for at, stamp in enumerate(frames)}
        first_number, first = packets[0]
        place = Place(first_number, newest.timestamp, vp8.picture(first[VIDEO_HEADER_BYTES:]), now_s, newest.wall_s)
        if self.codec != "vp8":
            place = place._replace(picture=None)
        layer.awaited.remove(self)
        self.enter(layer, place, now_s, ahead=ticks[frames[0]])
        stretch = self.splice.now
        assert stretch is not None
        for number, packet in packets:
            stamp = newest.timestamp + stretch.timestamp - ticks[packet[4:8]]
            self._replayed[number + stretch.number] = stamp & 0xFFFFFFFF
        self._replayed_until_s = now_s + REPLAY_REPAIR_S
        for number, packet in packets:
            self._send(self.rewritten(packet, stretch, number))
        self._counted = (self._counted[0] + len(packets), self._counted[1] + sum(len(p) for _, p in packets))
        return True

    def _since_key(self, layer: Layer) -> list[tuple[int, bytes]]:
        """What `layer` sent from its last key frame on, [] if that is much, or incomplete."""
        newest = layer.newest
        if newest is None or layer.key_number < 0:
            return []
        count = newest.number - layer.key_number + 1
        octets = layer.octets - layer.octets_before_key
        most = REPLAY_BYTES_MAX if layer.track.screen else REPLAY_CAMERA_BYTES_MAX
        if not 0 < count <= REPLAY_PACKETS_MAX or octets > most:
            return []
        found = [(number, layer.ring.find(number)) for number in range(layer.key_number, newest.number + 1)]
        return [(number, packet) for number, packet in found if packet is not None] if all(p for _, p in found) else []

    # -- reports --

    def send_report(self) -> None:
        """SR and SDES of what is shown now, if its publisher has sent one."""
        layer, stretch = self.layer, self.splice.now
        clock = layer.clock() if layer is not None else None
        if clock is None or stretch is None:
            return
        packets, octets = self.sent()
        self.peer.send_rtcp(
            write_sender_report(
                ssrc=self.out.ssrc,
                ntp=clock[0],
                timestamp=(clock[1] + stretch.timestamp) & 0xFFFFFFFF,
                packets=packets,
                octets=octets,
                cname=self.cname,
            )
        )


def _behind(newest: int, stamp: bytes) -> int:
    return (newest - int.from_bytes(stamp, "big")) & 0xFFFFFFFF
