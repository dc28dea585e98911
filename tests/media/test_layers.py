"""Three layers of one picture to a subscriber's socket: switched at key frames, spliced without a seam, repaired across it."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from command.base.clock import ManualClock
from media import control, sdp
from media.feedback import ReceiverReport, SenderReport
from media.output import REPLAY_PACKETS_MAX
from media.port import Port
from media.publisher import Publisher
from media.repair import Resends
from media.room import Published, Room
from media.rtp import HEADER, ExtensionIds, Packet, parse
from media.selection import AUDIO_FORWARDED_MAX, PAUSE_AFTER_S, UNHEEDED_S, Selection
from media.subscriber import Subscriber
from media.track import Layer, Track
from media.twcc import bodies, read
from tests.media.test_fanout import OFFER, Wire

RIDS = (
    "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n"
    "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n"
)
SSRCS = {"q": 3001, "h": 3002, "f": 3003}
HEIGHTS = {"q": 180, "h": 360, "f": 720}


def vp8(rid: str, picture: int, *, key: bool) -> bytes:
    head = bytes([0x90, 0xE0, 0x80 | picture >> 8, picture & 0xFF, picture & 0xFF, 0x20, 0x10 | (not key), 2, 0])
    height = HEIGHTS[rid]
    size = (height * 16 // 9).to_bytes(2, "little") + height.to_bytes(2, "little")
    return head + (b"\x9d\x01\x2a" + size if key else b"") + rid.encode() * 50


class Layers(Wire):
    """A publisher with three layers; `put()` sends a packet of one of them."""

    def __init__(self, port: Port) -> None:
        super().__init__(port, OFFER + RIDS)
        self.numbers = dict.fromkeys(SSRCS, 100)

    def put(self, rid: str, *, key: bool = False, skip: bool = False) -> int:
        self.numbers[rid] += 1
        number = self.numbers[rid]
        if skip:
            return number
        extension = b"\xbe\xde\x00\x01" + bytes([10 << 4]) + rid.encode() + b"\0\0"
        stamp = 7_000 * SSRCS[rid] + round(self.now_s * 90_000)
        head = HEADER.pack(0x90, 120, number, stamp & 0xFFFFFFFF, SSRCS[rid])
        self.publisher.rtp(head + extension + vp8(rid, number * 3, key=key), self.now_s, 0.0)
        return number

    @property
    def track(self) -> Track:
        return self.tracks["1"]

    def layer(self, rid: str) -> Layer:
        return next(layer for layer in self.track.layers if layer.rid == rid)


@pytest.fixture
async def wire() -> AsyncIterator[Layers]:
    port = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    port.start("127.0.0.1", 0)
    made = Layers(port)
    yield made
    port.close()
    made.socket.close()


def begin(wire: Layers) -> None:
    for rid in SSRCS:
        wire.put(rid, key=True)
    wire.flush()


async def test_each_rid_is_a_layer_and_its_key_frame_tells_its_size(wire: Layers) -> None:
    begin(wire)
    assert [(layer.rid, layer.size) for layer in wire.track.layers] == [
        ("q", (320, 180)),
        ("h", (640, 360)),
        ("f", (1280, 720)),
    ]


async def test_a_switch_waits_for_the_key_frame_and_leaves_no_seam(wire: Layers) -> None:
    begin(wire)
    output = wire.outputs["1"]
    got: list[Packet] = []
    for rid in ("f", "q", "h", "f"):
        output.choose(wire.layer(rid), wire.now_s)
        for step in range(6):
            wire.now_s += 0.033
            for other in SSRCS:
                wire.put(other, key=step == 3 and other == rid)
            got += wire.flush()
        assert output.layer is wire.layer(rid)
        assert got[-1].payload.endswith(rid.encode() * 50)
    numbers = [packet.sequence for packet in got]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    pictures = [(p.payload[2] & 0x7F) << 8 | p.payload[3] for p in got]
    steps = {(after - before) & 0x7FFF for before, after in pairwise(pictures)}
    assert steps <= {1, 3}  # 3 within a layer of this test, 1 over a switch
    stamps = [packet.timestamp for packet in got]
    assert all(0 < (b - a) & 0xFFFFFFFF < 9000 for a, b in pairwise(stamps))
    assert {packet.ssrc for packet in got} == {7000}


async def test_a_packet_from_before_a_switch_is_repaired_after_it(wire: Layers) -> None:
    begin(wire)
    output = wire.outputs["1"]
    wire.put("q")
    old = wire.flush()[-1]
    output.choose(wire.layer("f"), wire.now_s)
    wire.put("f", key=True)
    new = wire.flush()[-1]
    output.resend([old.sequence, new.sequence], Resends(), wire.now_s)
    first, second = wire.take(2)
    assert first.payload == old.sequence.to_bytes(2, "big") + old.payload
    assert second.payload == new.sequence.to_bytes(2, "big") + new.payload
    assert second.timestamp == new.timestamp


async def test_what_arrives_late_from_before_a_switch_is_not_sent_under_a_number_already_used(wire: Layers) -> None:
    begin(wire)
    lost = wire.put("f", skip=True)
    wire.outputs["1"].choose(wire.layer("f"), wire.now_s)
    wire.put("f", key=True)
    sent = wire.flush()[-1]
    head = HEADER.pack(0x80, 120, lost, 5, SSRCS["f"])
    wire.publisher.rtp(head + vp8("f", 9, key=False), wire.now_s, 0.0)
    assert wire.flush() == []
    wire.put("f")
    assert wire.flush()[-1].sequence == sent.sequence + 1


async def test_after_a_pause_numbers_go_on_where_they_ended(wire: Layers) -> None:
    begin(wire)
    output = wire.outputs["1"]
    wire.put("q")
    before = wire.flush()[-1]
    output.choose(None, wire.now_s)
    for _ in range(300):
        wire.put("q")
    assert wire.flush() == []
    wire.now_s += 5
    output.choose(wire.layer("q"), wire.now_s)
    wire.put("q", key=True)
    assert wire.flush()[-1].sequence == before.sequence + 1


async def test_reports_of_the_present_layer_are_rewritten_for_lip_sync(wire: Layers) -> None:
    begin(wire)
    source = wire.layer("f").source
    assert source is not None
    stamp = 7_000 * SSRCS["f"] + round(wire.now_s * 90_000)
    wire.layer("f").sender_report(source, SenderReport(SSRCS["f"], 9 << 32, stamp & 0xFFFFFFFF), wire.now_s)
    wire.outputs["1"].choose(wire.layer("f"), wire.now_s)
    wire.put("f", key=True)
    wire.spill()
    report = wire.socket.recv(2000)
    plain = wire.unprotector.rtcp(report)
    media = wire.take(1)[0]
    assert int.from_bytes(plain[8:16], "big") == 9 << 32
    assert int.from_bytes(plain[16:20], "big") == media.timestamp


async def test_a_static_screen_is_replayed_to_who_comes_late(wire: Layers) -> None:
    begin(wire)
    output = wire.outputs["1"]
    output.show(None, wire.now_s)
    wire.track.screen = True
    for _ in range(40):
        wire.now_s += 1.0
        wire.put("q")
    assert wire.flush() == []
    wire.layer("q").keys.arrived()
    output.show(wire.track, wire.now_s)
    output.choose(wire.layer("q"), wire.now_s)
    got = wire.take(41)
    assert got[0].payload[6] & 1 == 0
    numbers = [packet.sequence for packet in got]
    assert numbers == list(range(numbers[0], numbers[0] + 41))
    assert (got[-1].timestamp - got[0].timestamp) & 0xFFFFFFFF <= 41 * 90  # shown at once, not over forty seconds
    assert not wire.layer("q").keys.wanted
    wire.put("q")
    assert wire.flush()[-1].sequence == numbers[-1] + 1
    output.resend([numbers[3]], Resends(), wire.now_s)
    (again,) = wire.take(1)
    assert (again.timestamp, again.payload[2:]) == (got[3].timestamp, got[3].payload)


async def test_too_much_since_the_last_key_frame_is_not_replayed_but_a_new_one_asked_for(wire: Layers) -> None:
    begin(wire)
    output = wire.outputs["1"]
    output.show(None, wire.now_s)
    wire.track.screen = True
    for _ in range(REPLAY_PACKETS_MAX):
        wire.put("q")
    wire.flush()
    wire.layer("q").keys.arrived()
    output.show(wire.track, wire.now_s)
    output.choose(wire.layer("q"), wire.now_s)
    assert wire.layer("q").keys.wanted
    assert output.layer is None


async def test_transport_wide_arrivals_are_told_to_a_publisher_that_numbers_its_packets(wire: Layers) -> None:
    offer = OFFER.replace(
        "a=rtcp-fb:120 nack\r\n",
        "a=rtcp-fb:120 nack\r\na=rtcp-fb:120 transport-cc\r\n"
        "a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n",
    )
    made = Wire(wire.port, offer)
    told: list[bytes] = []
    made.publisher.peer.send_rtcp = told.append  # type: ignore[method-assign]  # a peer without DTLS has nowhere to send
    for number in (7, 8, 10):
        extension = b"\xbe\xde\x00\x02" + bytes([0x51, 0, number, 0x40]) + b"1\0\0\0"
        made.publisher.rtp(HEADER.pack(0x90, 120, number, 0, 1) + extension + b"\x10\0\0\0", 5.0, 0.0)
    made.publisher.repair(5.1)
    (report,) = [read(body) for compound in told for body in bodies(compound)[0]]
    assert report is not None
    assert (report.base, [at is not None for at in report.arrivals]) == (7, [True, True, False, True])
    made.socket.close()


# -- the choice for a whole room


def choosing(wire: Layers) -> tuple[Selection, Subscriber]:
    room = Room("r")
    for member in ("p", "s"):
        room.join(member, publish=True, chair=False, cname=member)
    room.publish(Published("1", "p", "video", "vp8"))
    subscriber = Subscriber(wire.subscriber)
    subscriber.outputs = {7000: wire.outputs["1"]}
    return Selection(room), subscriber


def run(selection: Selection, wire: Layers, subscriber: Subscriber, seconds: float) -> list[control.AnyEvent]:
    events: list[control.AnyEvent] = []
    for _ in range(int(seconds / 0.5)):
        wire.now_s += 0.5
        for rid in SSRCS:
            wire.put(rid, key=True)
        wire.flush()
        events += selection.run(wire.now_s, wire.tracks, [subscriber], [])
        wire.flush()
    return events


async def test_a_tile_decides_the_layer_and_layers_nobody_wants_are_named(wire: Layers) -> None:
    begin(wire)
    selection, subscriber = choosing(wire)
    output = wire.outputs["1"]
    run(selection, wire, subscriber, 2)
    assert output.target is wire.layer("f")
    subscriber.tiles = {"1": 170}
    events = run(selection, wire, subscriber, PAUSE_AFTER_S + 2)
    assert output.target is wire.layer("q")
    assert [e.rids for e in events if isinstance(e, control.Layers)][-1] == ["q"]
    subscriber.tiles = {"1": 600}
    events = run(selection, wire, subscriber, 1)
    assert output.target is wire.layer("f")
    assert [e.rids for e in events if isinstance(e, control.Layers)] == [["q", "f"]]
    subscriber.tiles = {}
    run(selection, wire, subscriber, 1)
    assert output.target is None


async def test_a_round_for_the_chairs_raises_the_site_in_their_connections_alone(wire: Layers) -> None:
    begin(wire)
    selection, subscriber = choosing(wire)
    selection.shed(0)  # where little is left, rank decides
    selection.room.set_focus([], polled="p", audience=["chair"])
    run(selection, wire, subscriber, 3)
    assert wire.outputs["1"].target is wire.layer("q"), "who is no chair gets what they got before"
    selection.room.set_focus([], polled="p", audience=["s"])
    run(selection, wire, subscriber, 3)
    assert wire.outputs["1"].target is wire.layer("f")
    selection.room.set_focus([])
    run(selection, wire, subscriber, 3)
    assert wire.outputs["1"].target is wire.layer("q")


async def test_a_client_that_sends_receiver_reports_alone_gets_the_layer_that_its_way_carries(wire: Layers) -> None:
    begin(wire)
    selection, subscriber = choosing(wire)
    output = wire.outputs["1"]
    assert output.downlink is None
    run(selection, wire, subscriber, 2)
    assert output.target is wire.layer("f")

    def second(lost: float) -> None:
        for _ in range(2):
            for rid, packets in (("q", 4), ("h", 20), ("f", 100)):
                for _ in range(packets):
                    wire.put(rid)
            wire.flush()
        run(selection, wire, subscriber, 1)
        subscriber._report(ReceiverReport(7000, round(lost * 256), 0, 0, 0, 0), output, wire.now_s)
        selection.soon.add(subscriber)
        selection.run(wire.now_s, wire.tracks, [subscriber], [])

    for _ in range(4):
        second(0.0)
    for _ in range(6):
        second(0.7 if output.layer is wire.layer("f") else 0.0)
    assert output.target is not wire.layer("f")
    assert output.target is not None


async def test_a_publisher_that_goes_on_with_layers_nobody_wants_is_asked_for_less(wire: Layers) -> None:
    begin(wire)
    selection, subscriber = choosing(wire)
    subscriber.tiles = {"1": 170}
    run(selection, wire, subscriber, PAUSE_AFTER_S + 1)
    publisher: Publisher = wire.publisher
    assert selection.cap_of(publisher, wire.now_s) is None
    run(selection, wire, subscriber, UNHEEDED_S + 1)
    cap = selection.cap_of(publisher, wire.now_s)
    assert cap is not None
    assert cap < 500_000


async def test_overload_takes_the_top_layers_of_all_but_the_chair(wire: Layers) -> None:
    begin(wire)
    selection, subscriber = choosing(wire)
    selection.shed(0)
    run(selection, wire, subscriber, 2)
    assert wire.outputs["1"].target is wire.layer("q")
    selection.room.set_chair("p")
    run(selection, wire, subscriber, 3)
    assert wire.outputs["1"].target is wire.layer("f")


async def test_only_the_loudest_voices_are_forwarded_and_always_the_chairs(wire: Layers) -> None:
    room = Room("r")
    tracks: dict[str, Track] = {}
    for at in range(AUDIO_FORWARDED_MAX + 4):
        member = f"m{at}"
        room.join(member, publish=True, chair=at == 0, cname=member)
        tracks[member] = Track(
            ident=member,
            member=member,
            media="audio",
            codec="opus",
            out=sdp.Stream(at + 1),
            cname="c",
            first_sequence=1,
        )
        for step in range(30):
            room.speakers.level(member, 128 + 60 - 4 * at, step * 0.02)
    room.tick(0.6)
    Selection(room).run(0.6, tracks, [], [])
    heard = {ident for ident, track in tracks.items() if not track.unheard}
    assert len(heard) == AUDIO_FORWARDED_MAX
    assert heard == {"m0", *(f"m{at}" for at in range(5, AUDIO_FORWARDED_MAX + 4))}


async def test_a_voice_that_is_let_through_again_goes_on_without_a_hole(wire: Layers) -> None:
    def sound(number: int) -> None:
        head = HEADER.pack(0x80, 111, number, number * 960, 2000)
        wire.publisher.rtp(head + b"opus", wire.now_s, 0.0)

    sound(1)
    first = wire.flush()[-1]
    track = wire.tracks["0"]
    track.unheard = True
    for number in range(2, 40):
        sound(number)
    assert wire.flush() == []
    track.unheard = False
    sound(40)
    assert wire.flush()[-1].sequence == first.sequence + 1


async def test_redundant_audio_goes_to_those_who_take_it_and_its_newest_frame_to_the_others(wire: Layers) -> None:
    offer = OFFER.replace("SAVPF 111\r\n", "SAVPF 111 63\r\n").replace(
        "a=rtpmap:111 opus/48000/2\r\n", "a=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
    )
    made = Wire(wire.port, offer)
    both = bytes([0x80 | 111, 3, 0xC0, 6]) + bytes([111]) + b"before" + b"now"
    made.publisher.rtp(HEADER.pack(0x80, 63, 1, 960, 2000) + both, made.now_s, 0.0)
    (plain,) = made.flush()
    assert (plain.payload_type, plain.payload) == (111, b"now")
    made.outputs["0"].redundant = True
    made.publisher.rtp(HEADER.pack(0x80, 63, 2, 1920, 2000) + both, made.now_s, 0.0)
    (redundant,) = made.flush()
    assert (redundant.payload_type, redundant.payload) == (63, both)
    assert redundant.sequence == plain.sequence + 1
    assert parse(HEADER.pack(0x80, 63, 1, 2, 3) + both, ExtensionIds()).payload == both
    made.socket.close()


async def test_layers_that_were_announced_by_ssrc_are_layers_too(wire: Layers) -> None:
    announced = OFFER + "a=ssrc-group:SIM 3001 3002 3003\r\na=ssrc-group:FID 3002 3012\r\n"
    announced += "".join(f"a=ssrc:{ssrc} cname:c\r\n" for ssrc in (3001, 3002, 3003, 3012))
    other = Wire(wire.port, announced)
    for at, (rid, ssrc) in enumerate(SSRCS.items()):
        other.send(10 + at, vp8(rid, 5, key=True), ssrc=ssrc)
    track = other.tracks["1"]
    assert [(layer.rid, layer.size) for layer in track.layers] == [
        ("s0", (320, 180)),
        ("s1", (640, 360)),
        ("s2", (1280, 720)),
    ]
    other.send(12, b"\0\x0c" + vp8("h", 6, key=False), ssrc=3012, kind=121)  # a retransmission for the middle one
    assert track.layers[1].packets == 0 and len(other.flush()) >= 1
    assert track.layers[1].newest is not None and track.layers[1].newest.number - track.layers[1].key_number == 1
    other.socket.close()
