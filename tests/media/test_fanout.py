"""From one publisher's packets to what a subscriber's socket receives: same media, our numbers, repaired."""

import os
import random
import socket
from collections.abc import AsyncIterator

import pytest
from pylibsrtp import Policy

from command.base.clock import ManualClock
from media import rtc, sdp, twcc
from media.datagrams import Destination
from media.output import Output
from media.peer import Peer
from media.port import Port
from media.publisher import SOURCES_MAX, Publisher
from media.repair import Resends
from media.rtp import HEADER, TRANSPORT_URI, VIDEO_HEADER_BYTES, ExtensionIds, Packet, parse
from media.srtp import Protector, Unprotector
from media.track import Source, Track
from tests.media.test_sdp import OFFERS

PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
VIDEO_SSRC, RTX_SSRC, AUDIO_SSRC = 1000, 1001, 2000
KEY, DELTA = bytes([0x90, 0x80, 0x81, 0x01, 0x00]), bytes([0x90, 0x80, 0x81, 0x01, 0x01])
OFFER = """v=0\r
o=- 1 1 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1\r
a=fingerprint:sha-256 {fingerprint}\r
a=setup:actpass\r
a=ice-ufrag:abcd\r
a=ice-pwd:0123456789012345678901\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
a=mid:0\r
a=sendonly\r
a=rtcp-mux\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=rtpmap:111 opus/48000/2\r
m=video 9 UDP/TLS/RTP/SAVPF 120 121\r
a=mid:1\r
a=sendonly\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=rtpmap:120 VP8/90000\r
a=rtcp-fb:120 nack\r
a=rtpmap:121 rtx/90000\r
a=fmtp:121 apt=120\r
""".format(fingerprint=":".join(["AA"] * 32))


class Wire:
    """A publisher, its tracks, and one subscriber's socket, in one process and without DTLS."""

    def __init__(self, port: Port, offer: str = OFFER) -> None:
        self.port = port
        self.now_s = 100.0
        self.tracks: dict[str, Track] = {}
        self.levels: list[int] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2)
        self.subscriber = self._peer("s")
        key = os.urandom(28)
        self.subscriber.protector = Protector(key, PROFILE)
        self.subscriber.destination = Destination(port.datagrams[0], self.socket.getsockname())
        self.unprotector = Unprotector(key, PROFILE)
        self.outputs: dict[str, Output] = {}
        self.publisher = Publisher(
            self._peer("p"),
            make_track=self._make,
            level=lambda level, now_s: self.levels.append(level),
            pending=lambda track: None,
            active=lambda publisher: None,
        )
        self.publisher.answer(rtc.read_sdp(offer, 8))

    def _peer(self, ident: str) -> Peer:
        made = Peer(ident=ident, room="r", member=ident, role="publish", credentials=(ident, "p" * 32), now_s=0.0)
        made._port = self.port
        return made

    def _make(self, media: sdp.Media, codec: sdp.Codec) -> Track:
        out = sdp.Stream(7000 + len(self.tracks) * 10, 7001 + len(self.tracks) * 10)
        track = Track(
            ident=media.mid, member="p", media=media.kind, codec=codec.name, out=out, cname="c", first_sequence=500
        )
        self.tracks[media.mid] = track
        self.outputs[media.mid] = Output(
            self.subscriber, codec=track.out_codec, out=out, cname="c", rtx_type=97 if track.video else 0
        )
        self.outputs[media.mid].show(track, self.now_s)
        return track

    def send(self, sequence: int, payload: bytes, *, ssrc: int = VIDEO_SSRC, kind: int = 120, mid: str = "") -> None:
        """One packet from the publisher."""
        extension = b""
        if mid:
            extension = b"\xbe\xde\x00\x01" + bytes([0x40]) + mid.encode() + b"\0\0"
        head = HEADER.pack(0x90 if mid else 0x80, kind, sequence & 0xFFFF, sequence * 3000 & 0xFFFFFFFF, ssrc)
        self.publisher.rtp(head + extension + payload, self.now_s, 0.0)

    def flush(self) -> list[Packet]:
        """What the subscriber gets of it."""
        before = self.port.counters["tx_packets"]
        self.spill()
        return self.take(self.port.counters["tx_packets"] - before)

    def spill(self) -> None:
        """Everybody gets the first layer of what they are shown, and what waits is sent."""
        for output in self.outputs.values():
            if output.track is not None and output.splice.now is None and output.track.layers and not output.target:
                output.choose(output.track.layers[0], self.now_s)
        for track in self.tracks.values():
            for layer in track.layers:
                layer.flush(self.port, self.now_s)

    def take(self, count: int) -> list[Packet]:
        return [parse(self.unprotector.rtp(self.socket.recv(2000)), ExtensionIds()) for _ in range(count)]


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    made.start("127.0.0.1", 0)
    yield made
    made.close()


@pytest.fixture
async def wire(port: Port) -> AsyncIterator[Wire]:
    made = Wire(port)
    yield made
    made.socket.close()


def start(wire: Wire) -> None:
    """The first packets: bound by MID, since this offer announces no SSRC."""
    wire.send(10, KEY, mid="1")
    assert [packet.sequence for packet in wire.flush()] == [500]


async def test_a_burst_is_forwarded_under_our_ssrc_payload_type_and_numbers(wire: Wire) -> None:
    start(wire)
    for at in range(5):
        wire.send(11 + at, DELTA + bytes([at]) * (1100 + at % 2))
    got = wire.flush()
    assert [packet.sequence for packet in got] == [501, 502, 503, 504, 505]
    assert {(packet.ssrc, packet.payload_type) for packet in got} == {(7000, 96)}
    assert [packet.payload for packet in got] == [DELTA + bytes([at]) * (1100 + at % 2) for at in range(5)]
    assert got[1].timestamp - got[0].timestamp == 3000


async def test_duplicates_probes_and_foreign_payload_types_are_not_forwarded(wire: Wire) -> None:
    start(wire)
    wire.send(11, DELTA)
    wire.send(11, DELTA)
    wire.send(12, b"")
    wire.send(13, DELTA, kind=99)
    wire.send(13, DELTA)
    assert [packet.sequence for packet in wire.flush()] == [501, 502]
    assert wire.publisher.dropped == {"payload type": 1}


async def test_a_retransmission_takes_its_original_place(wire: Wire) -> None:
    start(wire)
    wire.send(12, DELTA + b"later")
    assert [packet.sequence for packet in wire.flush()] == [502]
    wire.send(77, (11).to_bytes(2, "big") + DELTA + b"lost", ssrc=RTX_SSRC, kind=121, mid="1")
    got = wire.flush()
    assert [(packet.sequence, packet.payload) for packet in got] == [(501, DELTA + b"lost")]
    wire.send(78, b"", ssrc=RTX_SSRC, kind=121)
    assert wire.flush() == []


async def test_a_subscriber_gets_a_lost_packet_again_as_rtx(wire: Wire) -> None:
    start(wire)
    wire.send(11, DELTA + b"again")
    wire.flush()
    output = wire.outputs["1"]
    output.resend([501, 501, 9], Resends(), wire.now_s)
    (packet,) = wire.take(1)
    assert (packet.ssrc, packet.payload_type) == (7001, 97)
    assert packet.payload == (501).to_bytes(2, "big") + DELTA + b"again"
    assert output.resent == 1


async def test_without_rtx_the_same_bytes_are_sent_again(wire: Wire) -> None:
    start(wire)
    wire.send(11, DELTA + b"again")
    wire.spill()
    first = [wire.socket.recv(2000) for _ in range(1)]
    output = wire.outputs["1"]
    output.rtx_type = 0
    output.resend([501], Resends(), wire.now_s)
    assert [wire.socket.recv(2000)] == first


async def test_a_mute_leaves_no_hole_and_video_comes_back_with_a_key_frame(wire: Wire) -> None:
    start(wire)
    track = wire.tracks["1"]
    track.muted = True
    for at in range(11, 31):
        wire.send(at, DELTA)
    assert wire.flush() == []
    track.muted = False
    wire.send(31, DELTA)
    assert wire.flush() == []
    assert track.layers[0].keys.wanted
    wire.send(32, KEY)
    wire.send(33, DELTA)
    assert [packet.sequence for packet in wire.flush()] == [501, 502]
    assert not track.layers[0].keys.wanted


async def test_a_new_ssrc_on_the_same_line_takes_over_at_its_key_frame(wire: Wire) -> None:
    start(wire)
    wire.now_s += 1
    wire.send(9000, DELTA, ssrc=3000, mid="1")
    assert wire.flush() == []
    assert wire.tracks["1"].layers[0].keys.wanted
    wire.send(9001, KEY, ssrc=3000)
    wire.send(9002, DELTA, ssrc=3000)
    assert [packet.sequence for packet in wire.flush()] == [501, 502]


async def test_a_source_that_jumps_goes_on_at_its_next_key_frame(wire: Wire) -> None:
    start(wire)
    wire.send(30_000, DELTA)
    wire.send(30_001, DELTA)
    wire.send(30_002, KEY)
    wire.send(30_003, DELTA)
    assert [packet.sequence for packet in wire.flush()] == [501, 502]


async def test_audio_levels_are_heard_and_numbers_of_each_track_are_its_own(wire: Wire) -> None:
    head = HEADER.pack(0x90, 111, 5, 960, AUDIO_SSRC) + b"\xbe\xde\x00\x01" + bytes([0x10, 128 + 30, 0, 0])
    wire.publisher.rtp(head + b"opus", wire.now_s, 0.0)
    start_video = HEADER.pack(0x80, 120, 5, 960, VIDEO_SSRC)
    wire.publisher.rtp(start_video + KEY, wire.now_s, 0.0)
    got = wire.flush()
    assert wire.levels == [128 + 30]
    assert {packet.payload_type for packet in got} == {111, 96}


async def test_no_more_sources_are_bound_than_the_limit(wire: Wire) -> None:
    start(wire)
    for ssrc in range(5000, 5000 + 2 * SOURCES_MAX):
        wire.send(1, KEY, ssrc=ssrc, mid="1")
    assert len(wire.publisher._sources) == SOURCES_MAX
    assert wire.publisher.dropped["unknown source"] == SOURCES_MAX + 1


async def test_a_view_switches_at_a_key_frame_with_contiguous_numbers_and_pictures(wire: Wire) -> None:
    def vp8(picture: int, *, key: bool) -> bytes:
        return bytes([0x90, 0xE0, 0x80 | picture >> 8, picture & 0xFF, 1, 0x20, 0 if key else 1]) + b"x"

    start(wire)
    one = wire.tracks["1"]
    two = wire._make(sdp.Media("video", "9", "sendonly", ()), sdp.out_codec("vp8"))
    source = Source(3000, two.layer("", 0))

    def second(number: int, payload: bytes) -> None:
        packet = parse(HEADER.pack(0x80, 120, number, number * 3000, 3000) + payload, ExtensionIds())
        source.layer.receive(source, packet, wire.now_s, 0.0)

    second(1, vp8(5, key=True))
    for output in wire.outputs.values():
        output.show(None, wire.now_s)
    assert wire.flush() == []
    codec = sdp.out_codec("vp8")._replace(payload_type=100, rtx=101)
    view = Output(wire.subscriber, codec=codec, out=sdp.Stream(42, 43), cname="c", rtx_type=101)
    view.show(one, wire.now_s)
    view.choose(one.layers[0], wire.now_s)

    (replayed,) = wire.take(1)
    assert replayed.payload == KEY  # what was sent since the last key frame, at once
    wire.send(11, vp8(701, key=False))
    wire.send(12, vp8(702, key=False))
    first = wire.flush()
    view.show(two, wire.now_s)
    view.choose(two.layers[0], wire.now_s)
    wire.send(13, vp8(703, key=False))
    second(2, vp8(6, key=False))
    still = wire.flush()
    assert two.layers[0].keys.wanted
    second(3, vp8(7, key=True))
    wire.send(14, vp8(704, key=False))
    wire.now_s += 0.1
    got = first + still + wire.flush()
    numbers = [replayed.sequence, *(packet.sequence for packet in got)]
    assert len(got) == 5
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    pictures = [(p.payload[2] & 0x7F) << 8 | p.payload[3] for p in got]
    assert pictures == list(range(701, 701 + len(got)))
    assert {(packet.ssrc, packet.payload_type) for packet in got} == {(42, 100)}
    assert view.layer is two.layers[0]


async def test_a_view_goes_over_to_a_source_of_another_codec(wire: Wire) -> None:
    start(wire)
    one = wire.tracks["1"]
    two = wire._make(sdp.Media("video", "9", "sendonly", ()), sdp.out_codec("h264"))
    source = Source(3000, two.layer("", 0))
    for output in wire.outputs.values():
        output.show(None, wire.now_s)
    ours = sdp.out_codec("vp8")._replace(payload_type=100, rtx=101)
    other = sdp.out_codec("h264")._replace(payload_type=110, rtx=111)
    out = sdp.Stream(42, 43)
    view = Output(wire.subscriber, codec=ours, out=out, cname="c", rtx_type=101, others=(other,))
    view.show(one, wire.now_s)
    view.choose(one.layers[0], wire.now_s)
    (former,) = wire.take(1)
    view.show(two, wire.now_s)
    view.choose(two.layers[0], wire.now_s)
    idr = bytes([0x65]) + b"x" * 20
    packet = parse(HEADER.pack(0x80, 120, 7, 3000, 3000) + idr, ExtensionIds())
    source.layer.receive(source, packet, wire.now_s, 0.0)
    (got,) = wire.flush()
    assert (former.payload_type, got.payload_type, got.payload) == (100, 110, idr)
    assert got.sequence == former.sequence + 1
    view.resend([former.sequence], Resends(), wire.now_s)  # of the former codec: not under this one's type
    assert view.resent == 0
    view.resend([got.sequence], Resends(), wire.now_s)
    (again,) = wire.take(1)
    assert (again.payload_type, again.ssrc) == (111, 43)
    view.show(wire._make(sdp.Media("video", "8", "sendonly", ()), sdp.out_codec("av1")), wire.now_s)
    assert view.track is None


async def test_mutated_packets_of_an_authentic_publisher_do_no_harm(wire: Wire) -> None:
    rng = random.Random(5)
    start(wire)
    heads = [
        HEADER.pack(0x90, 120, 11, 7, VIDEO_SSRC) + b"\xbe\xde\x00\x01" + bytes([0x40, 49, 0, 0]) + KEY,
        HEADER.pack(0xA0, 111, 11, 7, AUDIO_SSRC) + b"opus\x01",
        HEADER.pack(0x80, 121, 11, 7, RTX_SSRC) + b"\x00\x0b" + DELTA,
    ]
    for step in range(6000):
        data = bytearray(rng.choice(heads))
        for _ in range(rng.randint(0, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        wire.now_s += 0.001
        wire.publisher.rtp(bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.2 else data), wire.now_s, 0.0)
        wire.publisher.rtcp(os.urandom(rng.randint(0, 60)), wire.now_s)
        if step % 5 == 0:
            for track in wire.tracks.values():
                for layer in track.layers:
                    layer.outputs.clear()
                    layer.awaited.clear()
                    layer.flush(wire.port, wire.now_s)
            wire.publisher.after_burst(wire.now_s)
            wire.publisher.report(wire.now_s)


async def test_a_browsers_announced_ssrcs_bind_without_mid(wire: Wire) -> None:
    made = Wire(wire.port, OFFERS["firefox"])
    offer = rtc.read_sdp(OFFERS["firefox"], 8)
    video = offer.media[1]
    kind = sdp.choose(video)[0].payload_type
    made.send(1, KEY, ssrc=video.streams[0].ssrc, kind=kind)
    assert len(made.flush()) == 1
    made.socket.close()


WIDE_OFFER = OFFER.replace(
    "a=rtcp-fb:120 nack\r\n",
    f"a=rtcp-fb:120 nack\r\na=rtcp-fb:120 transport-cc\r\na=extmap:5 {TRANSPORT_URI}\r\n",
)


async def test_packets_that_are_like_the_one_before_are_read_as_any_other(port: Port) -> None:
    """Transport-wide numbers, markers and payloads come through, whatever stands between two packets that are alike."""
    wire = Wire(port, WIDE_OFFER)
    chosen = random.Random(7)
    sent: list[tuple[bytes, int, int]] = []
    for at in range(200):
        mid = b"\x401" if at < 3 or chosen.random() < 0.1 else b""
        elements = mid + b"\x51" + ((0xFFF0 + at) & 0xFFFF).to_bytes(2, "big")
        elements += bytes(-len(elements) % 4)
        payload = (KEY if at == 0 else DELTA) + chosen.randbytes(chosen.randrange(20, 900))
        marker, timestamp = 0x80 if at % 5 == 4 else 0, at // 5 * 3000
        head = HEADER.pack(0x90, marker | 120, (65_500 + at) & 0xFFFF, timestamp, VIDEO_SSRC)
        block = b"\xbe\xde" + (len(elements) // 4).to_bytes(2, "big") + elements
        wire.publisher.rtp(head + block + payload, wire.now_s, 1.0)
        sent.append((payload, marker, timestamp))
    told = twcc.read(wire.publisher._arrivals.report(1) or b"")
    assert told is not None
    assert (told.base, len(told.arrivals), told.whole) == (0xFFF0, 200, True)
    got = wire.tracks["1"].layers[0]._pending
    first = got[0].timestamp
    assert [(item.plain[VIDEO_HEADER_BYTES:], item.marker, item.timestamp - first) for item in got] == sent
    wire.socket.close()
