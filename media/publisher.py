"""A publishing connection: which packet belongs to which track, repair and reports towards the publisher.

Never looks at subscribers. Invariant: an SSRC is bound to one m-line for its life, at most `SOURCES_MAX` of them.

Sources: RFC 9143 §9.2 (routing by SSRC, MID, payload type), RFC 8852 (rid), RFC 4588 (RTX), RFC 3550 §6 (reports).
"""

from __future__ import annotations

from collections.abc import Callable

from media.bandwidth import BITRATE_MAX_BPS, Uplink
from media.feedback import Bye, SenderReport
from media.peer import Peer
from media.red import primary
from media.repair import KEY_REQUEST_INTERVAL_S, SCREEN_KEY_REQUEST_INTERVAL_S
from media.rtc import DelayEstimator, read_rtcp, write_key_request, write_nack, write_receiver_report
from media.rtp import HEADER, HEADER_BYTES, ExtensionIds, Malformed, Packet, parse
from media.sdp import Codec, Description, Line, Media, answer_line, choose, redundant
from media.track import Layer, Source, Track
from media.twcc import Arrivals

SOURCES_MAX = 32
REPORT_INTERVAL_S = 1.0
ARRIVALS_INTERVAL_S = 0.05


class Section:
    """One accepted m-line and its track. `track` is None until its first packet."""

    def __init__(self, media: Media, codec: Codec) -> None:
        self.media = media
        self.codec = codec
        red = redundant(media, codec)
        self.red_type = red.payload_type if red is not None else 0
        self.track: Track | None = None


class Alike:
    """What the packets of one video source have in common: all of the header but numbers and marker.

    `at` is where the transport-wide number lies, `start` where the payload begins; `packet` is filled anew each time.
    """

    __slots__ = ("after", "at", "before", "first", "packet", "source", "start")

    def __init__(self, plain: bytes, packet: Packet, source: Source, at: int) -> None:
        self.packet = packet
        self.source = source
        self.at = at
        self.start = len(plain) - len(packet.payload)
        self.first = plain[0]
        self.before = plain[HEADER_BYTES:at]
        self.after = plain[at + 2 : self.start]

    def read(self, plain: bytes) -> Packet | None:
        """As `parse()`, if this packet is like the one before; the result is good until the next call."""
        at, start = self.at, self.start
        if (
            plain[0] != self.first
            or plain[at + 2 : start] != self.after
            or plain[HEADER_BYTES:at] != self.before
            or plain[1] & 0x7F != self.packet.payload_type
        ):
            return None
        packet = self.packet
        _, second, packet.sequence, packet.timestamp, _ = HEADER.unpack_from(plain)
        packet.marker = second & 0x80
        packet.transport = plain[at] << 8 | plain[at + 1]
        packet.payload = plain[start:]
        return packet


class Publisher:
    """The publishing side of a member. `make_track` is asked for a track when an m-line's first packet arrives."""

    def __init__(
        self,
        peer: Peer,
        *,
        make_track: Callable[[Media, Codec], Track | None],
        level: Callable[[int, float], None],
        pending: Callable[[Layer], None],
        active: Callable[[Publisher], None],
    ) -> None:
        self.peer = peer
        self.sections: dict[str, Section] = {}
        self.uplink = Uplink(DelayEstimator())
        self.lost = 0.0
        self.nacks = self.key_requests = self.packets = 0
        self.remb_bps: int | None = None
        self.cap_bps: int | None = None  # what the layers need that somebody wants, where the client sends others too
        self.dropped: dict[str, int] = {}
        self._make_track = make_track
        self._level = level
        self._pending = pending
        self._active = active
        self._ids = ExtensionIds()
        self._announced: dict[int, tuple[str, int]] = {}  # ssrc -> (mid, primary ssrc if this is its RTX else 0)
        self._sources: dict[int, Source] = {}
        self._alike: dict[bytes, Alike] = {}  # by SSRC as it is written
        self._report_at_s = 0.0
        self._arrived_bytes = 0
        self._send_time = -1
        self._arrivals = Arrivals()
        self._arrivals_at_s = -1e9
        self._transport_wide = False

    def answer(self, offer: Description) -> list[Line]:
        """Take the (re)negotiated sections and give our answer's lines. Tracks of sections that ended are in `ended()`."""
        lines: list[Line] = []
        live: dict[str, Section] = {}
        transport_wide = False
        for media in offer.media:
            codec = next(iter(choose(media)), None) if media.live else None
            if codec is None:
                lines.append(answer_line(media, None, "inactive"))
                continue
            sending = media.direction in ("sendonly", "sendrecv")
            lines.append(answer_line(media, codec, "recvonly" if sending else "inactive"))
            if sending:
                known = self.sections.get(media.mid)
                section = Section(media, codec)
                if known is not None and known.codec.name == codec.name:
                    section.track = known.track
                live[media.mid] = section
                transport_wide = transport_wide or media.transport_wide(codec)
        self._ended = [
            section.track
            for mid, section in self.sections.items()
            if section.track is not None and (mid not in live or live[mid].track is not section.track)
        ]
        self.sections = live
        self._transport_wide = transport_wide
        self._learn(offer)
        return lines

    def _learn(self, offer: Description) -> None:
        """What the offer announces: extension ids (one mapping for the whole bundle, RFC 9143 §9.2) and SSRCs."""
        merged = ExtensionIds()
        self._announced = {}
        for media in offer.media:
            merged = ExtensionIds(*(new or old for new, old in zip(media.ids, merged, strict=True)))
            for stream in media.streams[:SOURCES_MAX] if media.mid in self.sections else ():
                self._announced[stream.ssrc] = (media.mid, 0)
                if stream.rtx:
                    self._announced[stream.rtx] = (media.mid, stream.ssrc)
        self._ids = merged
        tracks = {section.track for section in self.sections.values()}
        self._sources = {ssrc: source for ssrc, source in self._sources.items() if source.track in tracks}
        self._alike.clear()

    def ended(self) -> list[Track]:
        """Tracks that the last `answer()` brought to an end."""
        return self._ended

    def tracks(self) -> list[Track]:
        return [section.track for section in self.sections.values() if section.track is not None]

    # -- packets --

    def rtp(self, plain: bytes, now_s: float, wall_s: float) -> None:
        """One unprotected RTP packet."""
        alike = self._alike.get(plain[8:12])
        if alike is not None:
            known = alike.read(plain)
            if known is not None:
                return self._next(alike.source, known, len(plain), now_s, wall_s)
        try:
            packet = parse(plain, self._ids)
        except Malformed as error:
            return self._drop(f"malformed: {error}")
        if not self._arrived_bytes:
            self._active(self)
        self._arrived_bytes += len(plain)
        if packet.transport >= 0:
            self._arrivals.add(packet.transport, now_s)
        elif packet.send_time >= 0:
            self._send_time = packet.send_time
        source = self._sources.get(packet.ssrc)
        if source is None:
            source = self._bind(packet)
            if source is None:
                return self._drop("unknown source")
        layer = source.layer
        track = layer.track
        section_codec = track.publisher_codec
        if source.repairs is not None:
            source.inbound.receive(packet.sequence, now_s)
            if len(packet.payload) <= 2:
                return None  # a probe of the uplink
            packet.sequence = int.from_bytes(packet.payload[:2], "big")
            packet.payload = packet.payload[2:]
            source = source.repairs
            layer = source.layer
        elif track.red_type and packet.payload_type == track.red_type:
            packet.redundant = packet.payload
            packet.payload = primary(packet.payload) or b""
            self.packets += 1
            source.inbound.timing(packet.timestamp, now_s)
        elif packet.payload_type != section_codec.payload_type:
            return self._drop("payload type")
        else:
            self.packets += 1
            if packet.marker or not track.video:
                source.inbound.timing(packet.timestamp, now_s)
            if track.video and packet.transport >= 0:
                self._remember(plain, packet, source)
        if packet.level >= 0 and not track.muted:
            self._level(packet.level, now_s)
        if layer.receive(source, packet, now_s, wall_s):
            self._pending(layer)
        return None

    def _next(self, source: Source, packet: Packet, size: int, now_s: float, wall_s: float) -> None:
        """A packet that is like the one before it of its source, as most are: all that `rtp()` would look for is known."""
        if not self._arrived_bytes:
            self._active(self)
        self._arrived_bytes += size
        self._arrivals.add(packet.transport, now_s)
        self.packets += 1
        if packet.marker:
            source.inbound.timing(packet.timestamp, now_s)
        if source.layer.receive(source, packet, now_s, wall_s):
            self._pending(source.layer)

    def _remember(self, plain: bytes, packet: Packet, source: Source) -> None:
        """Read the next packet of this source faster, if it is like this one. Only with the plainest of headers."""
        start = len(plain) - len(packet.payload)
        at = plain.find(bytes((self._ids.transport << 4 | 1,)), HEADER_BYTES + 4, start) + 1
        if plain[0] != 0x90 or not at or at + 2 >= start or packet.level >= 0:
            return
        if plain[at] << 8 | plain[at + 1] == packet.transport:
            self._alike[plain[8:12]] = Alike(plain, packet, source, at)

    def _bind(self, packet: Packet) -> Source | None:
        """Find the m-line of a new SSRC: announced, else by MID, else by a payload type of one m-line only."""
        if len(self._sources) >= SOURCES_MAX:
            return None
        self._alike.clear()
        mid, primary = self._announced.get(packet.ssrc, ("", 0))
        section = self.sections.get(mid or packet.mid)
        if section is None and not mid and not packet.mid:
            fits = [
                s
                for s in self.sections.values()
                if packet.payload_type in (s.codec.payload_type, s.codec.rtx, s.red_type or -1)
            ]
            section = fits[0] if len(fits) == 1 else None
        if section is None:
            return None
        is_repair = packet.payload_type == section.codec.rtx
        if not is_repair and packet.payload_type not in (section.codec.payload_type, section.red_type or -1):
            return None
        repairs = self._repaired(section, packet, primary) if is_repair else None
        if is_repair:
            if repairs is None:
                return None
            layer = repairs.layer
        else:
            if section.track is None:
                section.track = self._make_track(section.media, section.codec)
                if section.track is None:
                    return None
                section.track.paused = section.media.paused
                for at, rid in enumerate(section.media.layers):
                    section.track.layer(rid, at)
            section.track.publisher_codec = section.codec
            section.track.red_type = section.red_type
            layer = section.track.layer(*self._layer_of(section, packet))
        source = self._sources[packet.ssrc] = Source(packet.ssrc, layer, repairs=repairs)
        return source

    def _layer_of(self, section: Section, packet: Packet) -> tuple[str, int]:
        """(rid, place) of a new source: by the rid extension, else by the order in which SSRCs were announced."""
        names = section.media.layers
        if not names:
            return "", 0
        if packet.rid in names:
            return packet.rid, names.index(packet.rid)
        announced = section.media.simulcast or [stream.ssrc for stream in section.media.streams]
        at = announced.index(packet.ssrc) if packet.ssrc in announced[: len(names)] else 0
        return names[at], at

    def _repaired(self, section: Section, packet: Packet, primary: int) -> Source | None:
        """Which source a new RTX source repairs: the announced one, else that of its repaired rid, else the only one."""
        if primary:
            return self._sources.get(primary)
        if section.track is None:
            return None
        for layer in section.track.layers:
            if layer.rid == packet.rid or (not packet.rid and len(section.track.layers) == 1):
                return layer.latest
        return None

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def rtcp(self, plain: bytes, now_s: float) -> None:
        """One unprotected compound."""
        for record in read_rtcp(plain):
            if isinstance(record, SenderReport):
                source = self._sources.get(record.ssrc)
                if source is not None:
                    source.layer.sender_report(source, record, now_s)
            elif isinstance(record, Bye):
                for ssrc in record.ssrcs:
                    self._sources.pop(ssrc, None)
                self._alike.clear()

    # -- feedback --

    def after_burst(self, now_s: float) -> None:
        """The socket is drained: account for the uplink, ask for what is missing."""
        ssrc = next(iter(self._sources), 0)
        self.uplink.arrived(now_s=now_s, send_time=self._send_time, size=self._arrived_bytes, ssrc=ssrc)
        self._arrived_bytes, self._send_time = 0, -1
        self.repair(now_s)

    def repair(self, now_s: float) -> None:
        """NACKs and PLIs that are due."""
        for source in self._sources.values():
            if source.inbound.waiting:
                missing = source.inbound.due(now_s)
                if missing and source.repairs is None:
                    self.nacks += len(missing)
                    self.peer.send_rtcp(write_nack(source.ssrc, missing))
        for section in self.sections.values():
            track = section.track
            if track is None:
                continue
            for layer in track.layers:
                if not layer.keys.wanted or layer.latest is None:
                    continue
                interval_s = SCREEN_KEY_REQUEST_INTERVAL_S if track.screen else KEY_REQUEST_INTERVAL_S
                if layer.keys.due(now_s, interval_s):
                    self.key_requests += 1
                    self.peer.send_rtcp(write_key_request(layer.latest.ssrc))
        if now_s - self._arrivals_at_s >= ARRIVALS_INTERVAL_S:
            self._arrivals_at_s = now_s
            self._tell_arrivals()

    def _tell_arrivals(self) -> None:
        """Transport-wide feedback, if it was agreed on."""
        report = self._arrivals.report(next(iter(self._sources), 0)) if self._transport_wide else None
        if report is not None:
            self.peer.send_rtcp(report)

    def report(self, now_s: float) -> None:
        """Receiver reports and REMB, once per `REPORT_INTERVAL_S`."""
        if now_s - self._report_at_s < REPORT_INTERVAL_S or not self._sources:
            return
        self._report_at_s = now_s
        blocks = []
        worst = 0
        for source in self._sources.values():
            if source.inbound.highest < 0:
                continue
            report = source.inbound.report()
            last, delay = 0, 0
            if source.report is not None:
                last = source.report.ntp >> 16 & 0xFFFFFFFF
                delay = int((now_s - source.report_at_s) * 65_536) & 0xFFFFFFFF
            blocks.append((source.ssrc, report, last, delay))
            if source.repairs is None:
                worst = max(worst, report.fraction)
        self.lost = worst / 256
        self.uplink.interval(now_s=now_s, lost=self.lost)
        rate = self.uplink.due(now_s)
        if self._transport_wide:  # the client judges its uplink itself; we only say what nobody wants
            rate = self.cap_bps or BITRATE_MAX_BPS
        remb = None
        if rate is not None:
            self.remb_bps = rate
            video = [s.ssrc for s in self._sources.values() if s.track.video]
            remb = (rate, video) if video else None
        self.peer.send_rtcp(write_receiver_report(blocks, remb))
