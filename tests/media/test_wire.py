"""STUN, RTP headers, SRTP, control frames and the quiet log: what goes over the wires, byte by byte."""

import os
import random
import struct

import pytest
from aioice import stun as foreign
from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from media import control, stun, vp8
from media.forward import bursts
from media.quiet import SOURCES_MAX, Quiet
from media.rtp import HEADER, ExtensionIds, Malformed, audio_head, extend, newer, parse, video_head
from media.splice import Numbering
from media.srtp import PLAIN_BYTES_MAX, TAG_BYTES, Burst, Protector, Refused, Unprotector
from media.track import Item

PASSWORD = b"0123456789abcdef0123456789abcdef"


def check(**attributes: object) -> bytes:
    message = foreign.Message(foreign.Method.BINDING, foreign.Class.REQUEST)
    message.attributes["USERNAME"] = "ours:theirs"
    message.attributes.update(attributes)
    message.add_message_integrity(PASSWORD)
    return bytes(message)


def test_a_check_of_another_implementation_is_read_and_answered() -> None:
    data = check(PRIORITY=5, **{"ICE-CONTROLLING": 7, "USE-CANDIDATE": None})
    request = stun.read(data)
    assert request is not None
    assert request.username == "ours:theirs"
    assert request.nominated
    assert not request.controlled
    assert stun.authentic(request, PASSWORD)
    assert not stun.authentic(request, PASSWORD + b"x")
    answer = foreign.parse_message(stun.success(request, PASSWORD, ("192.0.2.7", 4711)))
    assert answer.message_class is foreign.Class.RESPONSE
    assert answer.transaction_id == data[8:20]
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("192.0.2.7", 4711)
    assert answer.check_message_integrity(PASSWORD)


def test_a_peer_that_also_wants_to_be_controlled_is_told_so() -> None:
    request = stun.read(check(**{"ICE-CONTROLLED": 7}))
    assert request is not None
    assert request.controlled
    answer = foreign.parse_message(stun.role_conflict(request, PASSWORD))
    assert answer.attributes["ERROR-CODE"][0] == 487
    assert answer.check_message_integrity(PASSWORD)


def test_no_mutated_check_is_taken_for_authentic_or_raises() -> None:
    rng = random.Random(1)
    good = check(PRIORITY=5)
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        request = stun.read(bytes(data))
        if request is not None and bytes(data) != good:
            assert not stun.authentic(request, PASSWORD) or bytes(data[:-8]) == good[:-8]


@given(st.binary(max_size=200))
def test_any_bytes_can_arrive_as_stun(data: bytes) -> None:
    stun.read(data)
    stun.read(struct.pack("!HHI", 1, max(0, len(data) - 20) & 0xFFFC, stun.COOKIE) + data)


@given(st.binary(max_size=100))
def test_any_bytes_are_an_rtp_packet_or_malformed(data: bytes) -> None:
    for candidate in (data, b"\x90" + data, b"\xb1" + data):
        try:
            packet = parse(candidate, ExtensionIds(1, 2, 3))
        except Malformed:
            continue
        assert -1 <= packet.level <= 255


def test_mutated_packets_are_parsed_or_malformed() -> None:
    rng = random.Random(6)
    elements = bytes((0x10, 33, 0x22, 1, 2, 3, 0x30, 48))
    good = HEADER.pack(0xB1, 96, 1, 2, 3) + bytes(4) + b"\xbe\xde\x00\x02" + elements + b"payload" + bytes((0, 2))
    for _ in range(10_000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(20)] = rng.randrange(256)
        try:
            parse(bytes(data[: rng.randint(0, len(data))]), ExtensionIds(3, 1, 2))
        except Malformed:
            continue


def test_our_own_heads_are_read_back() -> None:
    head = HEADER.pack(0x90, 111, 1, 2, 3)
    assert parse(head + audio_head(128 + 33) + b"x", ExtensionIds(level=1)).level == 128 + 33
    assert parse(head + video_head(64.5) + b"x", ExtensionIds(send_time=2)).send_time == int(0.5 * 2**18)


def test_padding_csrcs_and_two_byte_extensions_are_stripped() -> None:
    elements = bytes((7, 1, 42, 0))
    data = HEADER.pack(0xB2, 111, 1, 2, 3) + bytes(8) + b"\x10\x00\x00\x01" + elements + b"body" + bytes((0, 2))
    packet = parse(data, ExtensionIds(level=7))
    assert packet.payload == b"body"
    assert packet.level == 42


@given(st.integers(0, 2**20), st.integers(-0x7000, 0x7000))
def test_sequence_arithmetic(reference: int, change: int) -> None:
    assert extend((reference + change) & 0xFFFF, reference) == reference + change
    assert newer((reference + change) & 0xFFFF, reference & 0xFFFF) == (change > 0)


@pytest.mark.parametrize("profile", sorted(TAG_BYTES))
def test_a_burst_is_what_the_plain_library_makes_of_each_packet(profile: int) -> None:
    key = os.urandom(46)
    ours = Protector(key, profile)
    policy = Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    policy.allow_repeat_tx = True
    theirs = Session(policy)
    packets = [HEADER.pack(0x80, 96, n, 0, 99) + os.urandom(1100 + n % 2) for n in range(4)] + [
        HEADER.pack(0x80, 96, 4, 0, 99) + b"short"
    ]
    (group,) = bursts(packets)
    burst = Burst(group, ours.tag_bytes, [])
    data = ours.burst(burst)
    assert data is not None
    assert bytes(data) == b"".join(theirs.protect(packet) for packet in group)
    assert bytes(ours.burst(burst) or b"") == bytes(data), "a repeated packet is byte-identical"


@pytest.mark.parametrize("size", [900, 901])
def test_a_patched_burst_differs_only_by_what_was_patched(size: int) -> None:
    vp8_head = bytes([0x90, 0xE0, 0x80, 5, 7, 0x20, 0x01])
    plain = [
        HEADER.pack(0x90, (0x80 if n == 4 else 0) | 96, 700 + n, 9000, 99)
        + video_head(1.0)
        + vp8_head
        + bytes([n]) * size
        for n in range(5)
    ]
    found = vp8.picture(vp8_head + b"x")
    items = [Item(700 + n, packet, n == 0, 9000, packet[1] & 0x80, found) for n, packet in enumerate(plain)]
    (group,) = bursts(plain)
    burst = Burst(group, 16, items)
    numbering = Numbering(-690, 1000, 10, 250, 120, 1234)
    for first in (0xFFFE, 0, 7, 0x12345):  # the third with the same numbers is copied, so are those after it
        key = os.urandom(28)
        ours = Protector(key, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
        unprotector = Unprotector(key, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
        data = ours.patched(burst, numbering, first)
        assert data is not None
        step = burst.segment_bytes
        sealed = bytes(data)
        for at in range(5):
            got = unprotector.rtp(sealed[at * step : (at + 1) * step])
            packet = parse(got, ExtensionIds(send_time=2, transport=3))
            assert (packet.sequence, packet.timestamp, packet.ssrc) == (10 + at, 10_000, 1234)
            assert (packet.payload_type, packet.marker) == (120, 0x80 if at == 4 else 0)
            assert packet.transport == (first + at) & 0xFFFF
            assert packet.send_time == 2**18
            assert vp8.picture(packet.payload) == vp8.Picture(2, True, 15, 1)
            assert packet.payload[7:] == bytes([at]) * size


def test_a_packet_over_the_limit_is_refused_not_overrun() -> None:
    protector = Protector(os.urandom(28), Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    with pytest.raises(Refused):
        protector.rtp(HEADER.pack(0x80, 96, 1, 0, 99) + bytes(PLAIN_BYTES_MAX))


def test_a_replayed_or_changed_packet_does_not_unprotect() -> None:
    key = os.urandom(28)
    protector = Protector(key, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    unprotector = Unprotector(key, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    data = protector.rtp(HEADER.pack(0x80, 96, 1, 0, 99) + b"hello")
    assert unprotector.rtp(data)[12:] == b"hello"
    with pytest.raises(Refused):
        unprotector.rtp(data)
    with pytest.raises(Refused):
        unprotector.rtp(data[:-1] + bytes((data[-1] ^ 1,)))
    with pytest.raises(Refused):
        unprotector.rtp(bytes(4000))


def test_frames_survive_any_cutting() -> None:
    rng = random.Random(2)
    sent = [control.Join(n=n, room="r", member="m" * rng.randint(1, 60)) for n in range(50)]
    stream = b"".join(control.frame(message) for message in sent)
    frames = control.Frames()
    got = []
    while stream:
        cut = rng.randint(1, 40)
        got += [control.request_decoder.decode(body) for body in frames.feed(stream[:cut])]
        stream = stream[cut:]
    assert got == sent


def test_a_frame_over_the_limit_is_refused_on_both_ends() -> None:
    with pytest.raises(control.FrameError):
        control.frame(control.OpenRoom(room="\ud800"))
    with pytest.raises(control.FrameError):
        control.frame(control.OpenRoom(room="r" * (control.FRAME_BYTES_MAX + 1)))
    with pytest.raises(control.FrameError):
        control.Frames().feed((control.FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_mutated_requests_are_decoded_or_refused() -> None:
    rng = random.Random(4)
    good = [
        control.encoder.encode(message)
        for message in (
            control.Start(n=1, addresses=["192.0.2.1"], port=5000),
            control.Join(n=2, room="r", member="m", publish=True),
            control.Publish(n=3, room="r", member="m", sdp="v=0\r\n" * 20),
            control.Mute(n=4, room="r", member="m", media="audio", on=True),
            control.Answer(n=5, peer="p", revision=3, sdp="v=0"),
        )
    ]
    for _ in range(5000):
        body = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            control.read_request(bytes(body[: rng.randint(0, len(body))]))
        except control.FrameError:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_as_a_request_are_decoded_or_refused(body: bytes) -> None:
    try:
        control.read_request(body)
    except control.FrameError:
        return


def test_one_line_per_second_and_source_and_a_bounded_table() -> None:
    quiet = Quiet()
    lines = sum(quiet.swallowed("10.0.0.1", n * 0.001) is not None for n in range(3000))
    assert lines == 3
    lines = sum(quiet.swallowed(f"host{n}", 10.0) is not None for n in range(5 * SOURCES_MAX))
    assert len(quiet) <= SOURCES_MAX
    assert lines <= SOURCES_MAX + 1
    assert quiet.swallowed("10.0.0.1", 12.0) is not None
