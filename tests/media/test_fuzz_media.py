"""Fuzz of everything that strangers can send to the media port and its signalling: only documented errors, none slow."""

import random
import socket
import struct
from pathlib import Path

import pytest
from aioice import stun as foreign
from aiortc import rtp as foreign_rtp

from command.base.clock import ManualClock
from command.base.errors import Rejected
from media import rtc, sdp, sdpfrag, seat, stun, twcc
from media.datagrams import Datagrams
from media.peer import Peer
from media.port import Port
from media.rtc import Certificate
from media.rtp import HEADER, ExtensionIds, Malformed, parse
from media.sdp import PUBLISH_MEDIA_MAX, RECEIVE_MEDIA_MAX
from media.streams import Stream
from tests.media import fuzz
from tests.media.test_port import Nobody, check

pytestmark = pytest.mark.timeout(7200)
OFFERS = [path.read_bytes().decode() for path in sorted((Path(__file__).parent / "offers").glob("*.sdp"))]
FINGERPRINT = ":".join(["AB"] * 32)
SMALL = "\r\n".join(
    (
        *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111"),
        *("c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux", "a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 24),
        *(f"a=fingerprint:sha-256 {FINGERPRINT}", "a=setup:actpass", "a=rtpmap:111 opus/48000/2"),
        *("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "m=video 9 UDP/TLS/RTP/SAVPF 96 97", "a=mid:1"),
        *("a=sendonly", "a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 24, f"a=fingerprint:sha-256 {FINGERPRINT}"),
        *(
            "a=setup:actpass",
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
        ),
        *("a=rid:q send", "a=rid:h send", "a=simulcast:send q;h", "a=ssrc-group:FID 1 2", "a=ssrc:1 cname:x", ""),
    )
)
FRAGMENT = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 24 + "\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host\r\na=candidate:2 1 tcp 1 2001:db8::7 9 typ host tcptype active\r\n"
    "a=end-of-candidates\r\n"
)
FRAMES = (
    '{"type":"join","publish":true,"audio":true,"video":false,"former":"x"}',
    '{"type":"answer","peer":"abc","revision":3,"sdp":"v=0"}',
    '{"type":"state","audio":true,"video":null}',
)
PASSWORD = "p" * 32


def checks() -> list[bytes]:
    made = [check(), check(username="ours:" + "x" * 200)]
    message = foreign.Message(foreign.Method.BINDING, foreign.Class.REQUEST)
    message.attributes["USERNAME"] = "ours:theirs"
    message.attributes["PRIORITY"] = 7
    message.attributes["ICE-CONTROLLED"] = 5
    message.add_message_integrity(PASSWORD.encode())
    message.add_fingerprint()
    return [*made, bytes(message)]


def test_fuzz_of_stun_is_read_or_not_and_never_authentic_by_chance() -> None:
    def read(data: bytes) -> bool:
        request = stun.read(data)
        if request is None:
            return False
        assert not stun.authentic(request, b"another password")
        stun.success(request, b"x", ("192.0.2.7", 1))
        stun.success(request, b"x", ("2001:db8::7%eth0", 65535))
        stun.role_conflict(request, b"x")
        return True

    seeds = checks()
    assert fuzz.throw("stun", lambda rng: fuzz.octets(rng, seeds), read) > 0


def test_fuzz_of_rtp_is_a_packet_or_malformed() -> None:
    elements = bytes((0x10, 33, 0x22, 1, 2, 3, 0x30, 48))
    seeds = [
        HEADER.pack(0x80, 111, 1, 2, 3) + b"payload",
        HEADER.pack(0xB1, 96, 1, 2, 3) + bytes(4) + b"\xbe\xde\x00\x02" + elements + b"payload" + bytes((0, 2)),
        HEADER.pack(0x90, 96, 1, 2, 3) + b"\x10\x00\x00\x02" + bytes((7, 1, 42, 9, 2, 1, 1, 0)) + b"payload",
    ]

    def read(data: bytes) -> bool:
        try:
            packet = parse(data, ExtensionIds(3, 1, 2))
        except Malformed:
            return False
        return -1 <= packet.level <= 255 and len(packet.payload) <= len(data)

    assert fuzz.throw("rtp", lambda rng: fuzz.octets(rng, seeds), read) > 0


def test_fuzz_of_rtcp_gives_records_or_nothing() -> None:
    info = foreign_rtp.RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=2, packet_count=3, octet_count=4)
    report = foreign_rtp.RtcpReceiverInfo(
        ssrc=1, fraction_lost=2, packets_lost=3, highest_sequence=4, jitter=5, lsr=6, dlsr=7
    )
    seeds = [
        bytes(foreign_rtp.RtcpSrPacket(ssrc=1, sender_info=info, reports=[report])),
        bytes(foreign_rtp.RtcpRrPacket(ssrc=1, reports=[report, report])),
        bytes(foreign_rtp.RtcpSdesPacket(chunks=[foreign_rtp.RtcpSourceInfo(ssrc=1, items=[(1, b"name")])])),
        bytes(foreign_rtp.RtcpByePacket(sources=[1, 2])),
        rtc.write_nack(1, [5, 6, 9, 4000]),
        rtc.write_key_request(1),
        rtc.write_receiver_report([], (500_000, [1, 2])),
        struct.pack("!BBHIIHHI", 0x8F, 205, 5, 1, 2, 100, 3, 1 << 8) + bytes((0x20, 3, 4, 4, 4, 0, 0, 0)),
    ]
    seeds.append(b"".join(seeds[:4]))

    def read(data: bytes) -> bool:
        records = rtc.read_rtcp(data)
        assert len(records) <= rtc.RTCP_RECORDS_MAX + 64
        twcc.read(data)
        return bool(records)

    assert fuzz.throw("rtcp", lambda rng: fuzz.octets(rng, seeds), read) > 0


def test_fuzz_of_session_descriptions_is_a_description_or_rejected() -> None:
    def make(rng: random.Random) -> tuple[str, int]:
        seeds = OFFERS if rng.random() < 0.05 else [SMALL]
        return fuzz.text(rng, seeds), rng.choice((PUBLISH_MEDIA_MAX, RECEIVE_MEDIA_MAX))

    def read(made: tuple[str, int]) -> bool:
        try:
            offer = rtc.read_sdp(*made)
        except Rejected as error:
            assert error.code.startswith("media.sdp."), error.code
            return False
        for media in offer.media:
            sdp.choose(media)
        return True

    assert fuzz.throw("sdp", make, read) > 0


def test_fuzz_of_whip_fragments_is_a_fragment_or_a_400() -> None:
    def read(text: str) -> bool:
        try:
            found = sdpfrag.read(text)
        except sdpfrag.Malformed as error:
            assert (error.status, error.code) == (400, "whip.fragment")
            return False
        sdpfrag.write(found, ufrag="u", password="p", candidates=[])
        return True

    assert fuzz.throw("whip", lambda rng: fuzz.text(rng, [FRAGMENT]), read) > 0


def test_fuzz_of_signalling_frames_is_a_frame_or_rejected() -> None:
    def read(text: str) -> bool:
        found = seat.read_frame(text)
        assert isinstance(found, seat.Frame) or found.code == "signal.unreadable"
        return isinstance(found, seat.Frame)

    assert fuzz.throw("signal", lambda rng: fuzz.text(rng, FRAMES, ","), read) > 0


async def test_fuzz_of_the_port_opens_nothing_but_by_an_authentic_check() -> None:
    port = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    port.start("127.0.0.1", 0)
    peer = Peer(ident="1", room="r", member="m", role="publish", credentials=("ours", PASSWORD), now_s=0.0)
    peer.open(port, Nobody(), Certificate.generateCertificate())
    line: Datagrams = port.datagrams[0]
    seeds = [
        *checks(),
        b"\x16\xfe\xfd" + bytes(40),
        b"\x80\x60" + bytes(40),
        b"\x81\xc9" + bytes(30),
        b"\x00\x11\x00\x00",
    ]

    def read(data: bytes) -> bool:
        before = len(port.by_address)
        port._other(data, [], ("127.0.0.1", 9), line, 0.0)
        opened = len(port.by_address) > before
        if opened:  # the part that is covered by the integrity was not touched
            request = stun.read(data)
            assert request is not None and stun.authentic(request, PASSWORD.encode())
            peer._forget(next(iter(peer._addresses.values())))
        return opened

    assert fuzz.throw("port", lambda rng: fuzz.octets(rng, seeds), read) > 0
    await peer.close()
    port.close()


async def test_fuzz_of_tcp_framing_gives_packets_or_ends_the_connection() -> None:
    port = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    port.start("127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    stream = Stream(ours, ("tcp", "192.0.2.7", 1), port.streams, 0.0)
    seed = b"".join(len(data).to_bytes(2, "big") + data for data in checks())

    def read(data: bytes) -> bool:
        port.streams.connections[stream.address] = stream
        stream._incoming[:] = data
        packets = 0
        try:
            while stream.packet() is not None:
                packets += 1
        except ValueError:
            return False
        assert len(stream._incoming) < 2 + 2048
        return packets > 0

    assert fuzz.throw("framing", lambda rng: fuzz.octets(rng, [seed]), read) > 0
    stream.close()
    theirs.close()
    port.close()
