"""What a publisher sends: its sources, the layers they feed, and the track they belong to.

A packet of a layer is rewritten *once*, whatever the number of subscribers; what differs between them is patched into the
burst while it is protected (`media/fanout.py`). Never parses foreign bytes and never awaits.
Invariant: what enters a `Ring` is exactly what was sent under that number of the layer.

Sources: RFC 3550, RFC 4588 (RTX), RFC 8853 (simulcast), `facts.md` (bursts, GSO).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from media import vp8
from media.fanout import send
from media.feedback import SenderReport
from media.forward import Numbers, bursts, key_test
from media.repair import GAP_MAX, Inbound, KeyRequests, Ring
from media.rtp import (
    AUDIO_HEADER_BYTES,
    HEADER,
    PACKET_BYTES_MAX,
    VIDEO_HEADER_BYTES,
    Packet,
    audio_head,
    video_head,
)
from media.sdp import OUT_RED_TYPE, Stream, out_codec
from media.splice import Place

if TYPE_CHECKING:
    from media.output import Output
    from media.port import Port

REPORTS_REMEMBERED = 8
AUDIO_RING_PACKETS = 64
LAYERS_MAX = 3
SILENT_S = 0.8  # a camera's layer that is so far behind the others has been stopped by its encoder
SILENT_SCREEN_S = 4.0
RATE_SMOOTHING = 0.5

HEADS = {level: audio_head(level) for level in range(-1, 256)}


class Item(NamedTuple):
    """One packet that waits for its burst: numbers of the layer, plaintext, whether it starts a key frame, VP8 ids."""

    number: int
    plain: bytes
    key: bool
    timestamp: int
    marker: int
    picture: vp8.Picture | None
    redundant: bytes = b""  # the packet with earlier frames in it (RED), for those who take it


_item: Callable[[tuple[object, ...]], Item] = partial(tuple.__new__, Item)  # a third of the cost of `Item()`


class Source:
    """One incoming SSRC of a publisher. `repairs` is the source it retransmits for (RTX), else None."""

    def __init__(self, ssrc: int, layer: Layer, *, repairs: Source | None = None) -> None:
        self.ssrc = ssrc
        self.layer = layer
        self.repairs = repairs
        self.inbound = Inbound(layer.track.clock_rate, repairable=layer.track.video)
        self.report: SenderReport | None = None
        self.report_at_s = 0.0

    @property
    def track(self) -> Track:
        return self.layer.track


class Layer:
    """One simulcast layer of a track (`rid`), or all of it (`rid` ""); `index` is its place in the publisher's list."""

    def __init__(self, track: Track, rid: str, index: int, first_sequence: int) -> None:
        self.track = track
        self.rid = rid
        self.index = index
        self.source: Source | None = None  # the one forwarded; `latest` is the one heard last
        self.latest: Source | None = None
        self.outputs: list[Output] = []
        self.awaited: list[Output] = []  # who goes over to this layer at its next key frame
        self.keys = KeyRequests()
        self.ring = Ring() if track.video else Ring(AUDIO_RING_PACKETS)
        self.packets = 0
        self.octets = 0
        self.rate_bps = 0.0
        self.size: tuple[int, int] | None = None
        self.heard_at_s = -1e9
        self.newest: Place | None = None  # the packet with the highest number that was sent
        self.key_number = -1
        self.octets_before_key = 0
        self.reports_sent: dict[int, float] = {}
        self.started = -1  # no output began after this number
        self._measured = (-1.0, 0)
        self._numbers = Numbers(first_sequence, first_sequence * 7919 & 0xFFFFFFFF)
        self._number_before = -1
        self._awaits_key = False  # after a mute: nothing before the next key frame can be decoded
        self._jumped = False
        self._pending: list[Item] = []
        self._head = b""
        self._head_at_s = -1.0
        self._reads_ids = track.codec == "vp8"
        self._key_test = key_test(track.codec) if track.video else None

    # -- in --

    def receive(self, source: Source, packet: Packet, now_s: float, wall_s: float) -> bool:
        """Take one packet of `source`; True if something is pending for `flush()`."""
        number = source.inbound.receive(packet.sequence, now_s)
        if number is None:
            return False
        track = self.track
        payload = packet.payload
        key = self._key_test is not None and len(payload) > 0 and self._key_test(payload)
        if (
            number - self._number_before == 1
            and source is self.source
            and not (key or self._jumped or self._awaits_key or track.muted or track.unheard or packet.redundant)
            and 0 < len(payload) <= track.payload_bytes_max
        ):  # the next of what goes out, as nearly always
            self._number_before = number
            self.latest = source
            self.heard_at_s = now_s
        elif not self._admits(source, packet, number, key, now_s):
            return False
        mapped = self._numbers.forward(number, packet.timestamp, now_s)
        if mapped is None:
            return False
        found = None
        if track.video:
            if now_s != self._head_at_s:
                self._head, self._head_at_s = video_head(wall_s), now_s
            head = self._head
            if self._reads_ids:
                found = vp8.picture(payload)
                if key:
                    self.size = vp8.size(payload) or self.size
        else:
            head = HEADS[packet.level]
        marker = packet.marker
        plain = (
            HEADER.pack(0x90, marker | track.payload_type, mapped[0] & 0xFFFF, mapped[1], track.out.ssrc)
            + head
            + payload
        )
        redundant = b""
        if packet.redundant:
            head = plain[:1] + bytes((marker | OUT_RED_TYPE,)) + plain[2:AUDIO_HEADER_BYTES]
            redundant = head + packet.redundant
        self._pending.append(_item((mapped[0], plain, key, mapped[1], marker, found, redundant)))
        return True

    def _admits(self, source: Source, packet: Packet, number: int, key: bool, now_s: float) -> bool:
        """Whether this packet goes out; drops so that numbers stay contiguous, and switches sources at key frames."""
        before, self._number_before = self._number_before, number
        if source is self.source and abs(number - before) > GAP_MAX:
            self._jumped = True
        self.latest = source
        self.heard_at_s = now_s
        track = self.track
        most = track.payload_bytes_max
        if len(packet.payload) > most or len(packet.redundant) > most:
            return False
        if source is not self.source or self._jumped:
            if track.silenced or not packet.payload:
                return False
            if track.video and self.source is not None and not key:
                self.keys.want()
                return False
            self.source = source
            self._jumped = False
            self._numbers.switch(number, packet.timestamp, now_s, track.clock_rate)
        elif track.muted or track.unheard or (self._awaits_key and not key):
            self._awaits_key = track.video
            if not track.silenced:
                self.keys.want()
            self._numbers.drop(number)
            return False
        elif not packet.payload:  # padding the publisher probes its uplink with
            return not self._numbers.drop(number)
        if key:
            self.keys.arrived()
            self._awaits_key = False
        return True

    # -- out --

    def flush(self, port: Port, now_s: float) -> None:
        """Send what is pending to every subscriber of this layer."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        if self.awaited:
            for piece in _cut(pending):
                if piece[0].key or not self.track.video:
                    self._welcome(piece[0], now_s)
                self._flush(piece, port, now_s)
        else:
            self._flush(pending, port, now_s)

    def _flush(self, items: list[Item], port: Port, now_s: float) -> None:
        groups = bursts([item.plain for item in items])
        padded = groups[0] if len(groups) == 1 else [packet for group in groups for packet in group]
        numbers = [item.number for item in items]
        self.ring.keep(numbers, padded)
        for item, packet in zip(items, padded, strict=True):
            if item.key:
                self.key_number = item.number
                self.octets_before_key = self.octets
            self.octets += len(packet)
        self.packets += len(items)
        newest = items[-1]
        if self.newest is None or newest.number > self.newest.number:
            self.newest = self.place(newest, now_s)
        outputs = self.outputs
        if not outputs:
            return
        if not self.track.video and any(item.redundant for item in items):
            self._send_redundant(items, port)
            outputs = [output for output in outputs if not output.redundant]
        if min(numbers) >= self.started:
            send(groups, items, outputs, port, self.track.video)
            return
        for output in outputs:  # something late: not for those who began after it
            mine = [(item, packet) for item, packet in zip(items, padded, strict=True) if output.takes(item.number)]
            if mine:
                again = [[packet] for _, packet in mine]
                send(again, [item for item, _ in mine], [output], port, self.track.video)

    def _send_redundant(self, items: list[Item], port: Port) -> None:
        """Audio to those who take RED, as it came."""
        outputs = [output for output in self.outputs if output.redundant]
        if outputs:
            for item in items:
                packet, payload_type = (item.redundant, OUT_RED_TYPE) if item.redundant else (item.plain, 0)
                send([[packet]], [item], outputs, port, self.track.video, payload_type)

    def _welcome(self, first: Item, now_s: float) -> None:
        awaited, self.awaited = self.awaited, []
        for output in awaited:
            output.enter(self, self.place(first, now_s), now_s)

    def place(self, item: Item, now_s: float) -> Place:
        """Where a packet stands, for `Splice`."""
        return Place(item.number, item.timestamp, item.picture, now_s, self.wall_s(item.timestamp))

    def wall_s(self, timestamp: int) -> float | None:
        """The publisher's clock at an outgoing timestamp of this layer, None before a sender report."""
        source = self.source
        if source is None or source.report is None:
            return None
        ticks = (timestamp - self._numbers.timestamp_offset - source.report.timestamp) & 0xFFFFFFFF
        if ticks & 0x80000000:
            ticks -= 0x100000000
        return source.report.ntp / 4_294_967_296 + ticks / self.track.clock_rate

    def sender_report(self, source: Source, report: SenderReport, now_s: float) -> None:
        """The publisher's clock, rewritten for every subscriber (lip sync)."""
        source.report, source.report_at_s = report, now_s
        if source is not self.source:
            return
        self.reports_sent[report.ntp >> 16 & 0xFFFFFFFF] = now_s
        while len(self.reports_sent) > REPORTS_REMEMBERED:
            del self.reports_sent[next(iter(self.reports_sent))]
        for output in self.outputs:
            output.send_report()

    def clock(self) -> tuple[int, int] | None:
        """(NTP, timestamp of this layer) of the last sender report."""
        source = self.source
        if source is None or source.report is None:
            return None
        return source.report.ntp, (source.report.timestamp + self._numbers.timestamp_offset) & 0xFFFFFFFF

    def measure(self, now_s: float) -> None:
        """Bring `rate_bps` up to date; call about twice a second."""
        since, before = self._measured
        self._measured = (now_s, self.octets)
        if self.octets == before:
            return  # paused: what it will take is what it took
        if since >= 0 and now_s > since:
            rate = (self.octets - before) * 8 / (now_s - since)
            smoothing = RATE_SMOOTHING if self.rate_bps else 1.0
            self.rate_bps += smoothing * (rate - self.rate_bps)


class Track:
    """One published track. `payload_type` is what goes out; the publisher's own types are in `publisher_codec`."""

    def __init__(
        self,
        *,
        ident: str,
        member: str,
        media: str,
        codec: str,
        out: Stream,
        cname: str,
        first_sequence: int,
        mid: str = "",
    ) -> None:
        self.ident = ident
        self.mid = mid
        self.member = member
        self.media = media
        self.codec = codec
        self.out = out
        self.cname = cname
        self.out_codec = out_codec(codec)
        self.payload_type = self.out_codec.payload_type
        self.publisher_codec = self.out_codec  # with the publisher's payload types, set when its first packet is bound
        self.clock_rate = self.out_codec.clock_rate
        self.video = media == "video"
        self.payload_bytes_max = PACKET_BYTES_MAX - (VIDEO_HEADER_BYTES if self.video else AUDIO_HEADER_BYTES)
        self.layers: list[Layer] = []
        self.muted = False
        self.unheard = False  # audio that is not among the loudest
        self.screen = False
        self.red_type = 0  # the publisher's, 0 if it sends no RED
        self.paused: frozenset[str] = frozenset()  # layers that the publisher didn't send at first
        self._first_sequence = first_sequence

    @property
    def silenced(self) -> bool:
        return self.muted or self.unheard

    def layer(self, rid: str, index: int) -> Layer:
        """The layer `rid`, made when its first packet comes; `index` is its place in the publisher's list."""
        for known in self.layers:
            if known.rid == rid:
                return known
        made = Layer(self, rid, index, self._first_sequence + 5 * index)
        self.layers.append(made)
        self.layers.sort(key=lambda layer: layer.index)
        return made

    def live(self, now_s: float) -> list[Layer]:
        """The layers that arrive now, lowest first; at least one once there is any."""
        if len(self.layers) < 2:
            return self.layers
        newest = max(layer.heard_at_s for layer in self.layers)
        late_s = SILENT_SCREEN_S if self.screen else SILENT_S
        return [layer for layer in self.layers if newest - layer.heard_at_s < late_s]

    def arrange(self) -> None:
        """Put the layers in order, the lowest first: by size where it is known, else by rate. (RFC 8853 §5.2 lets a
        publisher list them in any order.)"""
        layers = self.layers
        if len(layers) < 2:
            return
        if all(layer.size for layer in layers):
            layers.sort(key=lambda layer: (layer.size or (0, 0))[1])
        elif all(layer.rate_bps for layer in layers):
            layers.sort(key=lambda layer: layer.rate_bps)

    def want_key(self) -> None:
        """Somebody who has just been let through again needs a key frame of what is watched."""
        for layer in self.layers:
            if layer.outputs or layer.awaited:
                layer.keys.want()


def _cut(items: list[Item]) -> list[list[Item]]:
    """Pieces of which only the first packet may start a key frame."""
    pieces: list[list[Item]] = []
    for item in items:
        if item.key or not pieces:
            pieces.append([])
        pieces[-1].append(item)
    return pieces
