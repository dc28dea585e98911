"""Where each microsecond of a forwarded packet goes: the steps of the worker, one by one, in one process.

Never a figure of `bench.sfu`: no event loop, no wake-ups, and the subscribers' sockets are emptied while the clock stands.
Invariant: every step is our own code on real sockets and real SRTP, and its cost is CPU time of this process, the lower
decile of many rounds; so it can be told on a machine with other work on it.

Run: `python -m bench.sfu_parts [--subscribers N] [--burst N] [--packets-per-s N]` (about ten seconds); a table.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import secrets
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from bench import rtp_dtls, rtp_feedback, rtp_sdp, sfu_bare
from bench.rtp_client import Publisher as Leg
from bench.rtp_pump import Shape, Stream
from command.base.clock import Clock
from media import sdp
from media.datagrams import SEGMENT, SOL_UDP, UDP_SEGMENT, Destination
from media.fanout import send
from media.forward import bursts
from media.peer import Peer
from media.port import Port
from media.publisher import Publisher
from media.rtc import Certificate, read_sdp
from media.sdp import Codec, Media
from media.srtp import Burst, Protector, Unprotector
from media.subscriber import Subscriber
from media.track import Layer, Track

PROFILE_NAME = "AEAD_AES_128_GCM"
ROUNDS = 300
WARM = 40
AUDIO_PER_S, REPORTS_PER_S, NACKED = 50, 10, 0.01
LOW = 0.1
NS = 1000.0


class Plant:
    """One publisher with two layers and a voice, and `count` subscribers with transport-wide feedback; no DTLS."""

    def __init__(self, count: int, burst: int, packets_per_s: int) -> None:
        self.profile = rtp_dtls.PROFILES[PROFILE_NAME]
        self.clock = Clock()
        self.pending: list[Layer] = []
        self.active: list[Publisher] = []
        self.tracks: dict[str, Track] = {}
        self.port = Port(clock=self.clock, flush=self._flush, log=lambda *line: None)
        self.port.start("127.0.0.1", 0)
        self.datagrams = self.port.datagrams[0]
        self.shape = Shape(packets_per_s=packets_per_s, burst=burst, audio=True, full=True)
        self.sinks: list[socket.socket] = []
        self.keys: list[bytes] = []
        self.subscribers: list[Subscriber] = []
        self._publish()
        for _ in range(count):
            self._subscribe()

    def _peer(self, ident: str, role: str) -> Peer:
        made = Peer(ident=ident, room="r", member=ident, role=role, credentials=(ident, "p" * 32), now_s=0.0)
        made._port = self.port
        return made

    def _key(self) -> bytes:
        return secrets.token_bytes(self.profile.key_bytes + self.profile.salt_bytes)

    def _publish(self) -> None:
        leg = Leg(profile=PROFILE_NAME, wide=True, layers=True)
        peer = self._peer("p", "publish")
        self.publisher = Publisher(
            peer, make_track=self._track, level=lambda *_: None, pending=self.pending.append, active=self.active.append
        )
        lines = self.publisher.answer(read_sdp(rtp_sdp.offer(leg.local, "sendonly"), 8))
        certificate = Certificate.generateCertificate()
        local = sdp.Local("abcd", "p" * 24, certificate.sha256, ("127.0.0.1",), self.port.number, "passive")
        key = self._key()
        leg.outgoing = rtp_dtls.sending(key, self.profile)
        peer._unprotector = Unprotector(key, self.profile.libsrtp)
        peer._owner = self  # type: ignore[assignment]  # `rtp()` is all that is called
        leg.socket.connect(("127.0.0.1", self.port.number))
        self.port.by_address[leg.socket.getsockname()] = peer
        peer.destination = Destination(self.datagrams, leg.socket.getsockname())
        self.stream = Stream(leg, self.shape, rtp_sdp.parse(sdp.write(local, lines, session=1, version=1)))

    def _track(self, media: Media, codec: Codec) -> Track:
        out = sdp.Stream(7000 + len(self.tracks) * 10, 7001 + len(self.tracks) * 10 if media.kind == "video" else 0)
        kinds = {"ident": media.mid, "member": "p", "media": media.kind, "codec": codec.name}
        track = Track(**kinds, out=out, cname="c", first_sequence=500, mid=media.mid)
        self.tracks[media.mid] = track
        return track

    def _subscribe(self) -> None:
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("127.0.0.1", 0))
        sink.setblocking(False)
        self.sinks.append(sink)
        key = self._key()
        self.keys.append(key)
        peer = self._peer(f"s{len(self.sinks)}", "subscribe")
        peer.protector = Protector(key, self.profile.libsrtp)
        peer.destination = Destination(self.datagrams, sink.getsockname())
        self.subscribers.append(Subscriber(peer))

    def attach(self) -> None:
        """Every subscriber gets every track, the highest layer."""
        from media.output import Output

        for subscriber in self.subscribers:
            for track in self.tracks.values():
                output = Output(
                    subscriber.peer,
                    codec=track.out_codec,
                    out=track.out,
                    cname="c",
                    rtx_type=97 if track.video else 0,
                    downlink=subscriber.downlink if track.video else None,
                )
                subscriber.outputs[track.out.ssrc] = output
                now_s = self.clock.monotonic()
                output.show(track, now_s)
                output.choose(track.layers[0], now_s)
        self.stream.leg.key_frame_wanted = True

    def climb(self) -> None:
        """Over to the highest layer."""
        for subscriber in self.subscribers:
            for output in subscriber.outputs.values():
                assert output.track is not None
                output.choose(output.track.layers[-1], self.clock.monotonic())
        self.stream.leg.key_frame_wanted = True

    def rtp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        """As `Conference.rtp`."""
        self.publisher.rtp(plain, now_s, self.clock.now() / 1e6)

    def rtcp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        """The publisher sends none here."""

    def _flush(self, now_s: float) -> None:
        """As `Worker._flush`."""
        layers = dict.fromkeys(self.pending)
        self.pending.clear()
        for layer in layers:
            layer.flush(self.port, now_s)
        for publisher in self.active:
            publisher.after_burst(now_s)
        self.active.clear()

    def empty(self) -> int:
        """Read what the subscribers got; how many datagrams."""
        found = 0
        for sink in self.sinks:
            try:
                while True:
                    sink.recv(64)
                    found += 1
            except BlockingIOError:
                continue
        return found

    def video(self) -> None:
        """A frame arrives and goes out."""
        self.datagrams._drain(self.clock.monotonic())

    def frame(self) -> None:
        """The publisher sends a frame of both layers."""
        self.stream.send_frame()

    def sound(self) -> None:
        """The publisher says something."""
        self.stream.leg.send(self.stream.sound())


def low(plant: Plant, work: Callable[[], Any], before: Callable[[], Any] | None = None, rounds: int = ROUNDS) -> float:
    """CPU microseconds of `work`, the lower decile; `before` isn't counted."""
    taken = []
    for _ in range(rounds):
        if before is not None:
            before()
        begun = time.thread_time_ns()
        work()
        taken.append(time.thread_time_ns() - begun)
        plant.empty()
    taken.sort()
    return taken[int(len(taken) * LOW)] / NS


def settled(plant: Plant) -> None:
    """Tracks, layers and streams exist, and everybody gets the highest layer."""
    for turn in range(WARM):
        plant.frame()
        plant.sound()
        plant.video()
        plant.empty()
        if turn == WARM // 4:
            plant.attach()
        elif turn == WARM // 2:
            plant.climb()
        time.sleep(0.002)


def bare(plant: Plant) -> float:
    """The floor: protect a premade burst in place and send it, to everybody."""
    frames = sfu_bare.premade(ROUNDS, plant.shape.burst, plant.shape.packet_bytes)
    sessions = [rtp_dtls.sending(key, plant.profile) for key in plant.keys]
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.0.1", 0))
    targets = [(one._srtp[0], sink.getsockname()) for one, sink in zip(sessions, plant.sinks, strict=True)]
    seal = sfu_bare.Seal(plant.profile, plant.shape.burst)
    at = iter(frames)

    def once() -> None:
        frame = next(at)
        seal.load(frame)
        segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", seal.segment))] if len(frame) > 1 else []
        for session, address in targets:
            sender.sendmsg([seal.seal(session)], segment, 0, address)

    taken = low(plant, once)
    sender.close()
    return taken


def steps(plant: Plant) -> list[tuple[str, float, float]]:
    """(what, us per occurrence, occurrences per second) of the shape's second."""
    settled(plant)
    frames_per_s = plant.shape.packets_per_s / plant.shape.burst
    count = len(plant.subscribers)
    whole = low(plant, plant.video, plant.frame)
    layer = next(track for track in plant.tracks.values() if track.video).layers[-1]
    outputs, layer.outputs = layer.outputs, []
    incoming = low(plant, plant.video, plant.frame)
    layer.outputs = outputs
    voice = low(plant, plant.video, plant.sound)
    told = Told(plant)
    return [
        ("a frame in, of both layers: receive, decrypt, parse, number, keep", incoming, frames_per_s),
        ("its fan-out, per subscriber: patch, protect, send", (whole - incoming) / count, frames_per_s * count),
        ("20 ms of sound: in and to everybody", voice, AUDIO_PER_S),
        ("transport-wide feedback of one subscriber", told.report(), REPORTS_PER_S * count),
        ("one packet again as RTX", told.repair(), NACKED * plant.shape.packets_per_s * count),
    ]


def fan_out(plant: Plant) -> list[tuple[str, float, float]]:
    """What the fan-out to one subscriber is made of, each alone."""
    frames_per_s = plant.shape.packets_per_s / plant.shape.burst
    count = len(plant.subscribers)
    layer = next(track for track in plant.tracks.values() if track.video).layers[-1]
    held: list[Any] = []

    def hold(port: Port, now_s: float) -> None:
        held[:] = layer._pending
        layer._pending = []

    layer_flush, layer.flush = layer.flush, hold  # type: ignore[method-assign]
    plant.frame()
    plant.video()
    layer.flush = layer_flush  # type: ignore[method-assign]
    groups = bursts([item.plain for item in held])
    outputs = layer.outputs
    protector = outputs[0].peer.protector
    stretch = outputs[0].splice.now
    assert protector is not None and stretch is not None
    burst = Burst(groups[0], protector.tag_bytes, held)

    def patched() -> None:
        for output in outputs:
            assert output.peer.protector is not None and output.splice.now is not None
            output.peer.protector.patched(burst, output.numbering, 77)

    def sealed() -> None:
        for output in outputs:
            assert output.peer.protector is not None
            output.peer.protector.burst(burst)

    data = bytes(burst.out)
    segment = [(SOL_UDP, UDP_SEGMENT, SEGMENT.pack(burst.segment_bytes))] if burst.count > 1 else []
    addresses = [sink.getsockname() for sink in plant.sinks]

    def kernel() -> None:
        for address in addresses:
            plant.datagrams._socket.sendmsg((data,), segment, 0, address)

    def noted() -> None:
        for output in outputs:
            assert output.downlink is not None
            output.downlink.sent(burst.count, burst.size, 1e6)

    def whole() -> None:
        send(groups, held, outputs, plant.port, True)

    protect, patch, out = low(plant, sealed), low(plant, patched), low(plant, kernel)
    note, all_of_it = low(plant, noted), low(plant, whole)
    times = frames_per_s * count
    return [
        ("copy of the burst, protect (libsrtp)", protect / count, times),
        ("patching the numbers", (patch - protect) / count, times),
        ("sendmsg alone (Python's call and the kernel)", out / count, times),
        ("noting what was sent for the estimate", note / count, times),
        ("the loop around it", (all_of_it - patch - out - note) / count, times),
    ]


class Told:
    """What subscribers say, and what it costs to hear it."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.subscriber = plant.subscribers[0]
        self._number = 0

    def report(self) -> float:
        """Feedback about a tenth of a second's packets, protected and off the socket."""
        plant, subscriber = self.plant, self.subscriber
        frames = max(1, plant.shape.packets_per_s // REPORTS_PER_S // plant.shape.burst)
        leg_key = plant._key()
        outgoing = rtp_dtls.sending(leg_key, plant.profile)
        sender = plant.sinks[0]
        subscriber.peer._unprotector = Unprotector(leg_key, plant.profile.libsrtp)
        subscriber.peer._owner = _Ears(subscriber)  # type: ignore[assignment]
        plant.port.by_address[sender.getsockname()] = subscriber.peer
        arrivals = rtp_feedback.Feedback(3)._arrivals
        clock = [plant.clock.monotonic()]

        def said() -> None:
            for _ in range(frames):
                clock[0] += plant.shape.burst / plant.shape.packets_per_s
                first = subscriber.downlink.sent(plant.shape.burst, plant.shape.burst * 1116, clock[0])
                for number in range(first, first + plant.shape.burst):
                    arrivals.add(number & 0xFFFF, clock[0] + 0.001)
            compound = arrivals.report(7000)
            assert compound is not None
            sender.sendto(outgoing.protect_rtcp(compound), ("127.0.0.1", plant.port.number))

        return low(plant, plant.datagrams.hear if plant.datagrams.steered else plant.video, said)

    def repair(self) -> float:
        """One packet of the ring once more."""
        plant = self.plant
        output = next(one for one in self.subscriber.outputs.values() if one.downlink is not None)
        assert output.layer is not None and output.layer.newest is not None and output.splice.now is not None
        number, stretch = output.layer.newest.number, output.splice.now
        packet = output.layer.ring.find(number)
        assert packet is not None
        return low(plant, lambda: output.send_again(output.rewritten(packet, stretch, number)))


class _Ears:
    """The owner of a subscriber's peer."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def rtcp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        self._subscriber.rtcp(plain, now_s)


def table(title: str, rows: list[tuple[str, float, float]], packets_per_s: float) -> float:
    """Print a table; the sum per forwarded packet."""
    total = 0.0
    print(f"\n{title}\n{'':64}{'us each':>9}{'each/s':>9}{'us/packet':>11}")
    for what, each, times in rows:
        share = each * times / packets_per_s
        total += share
        print(f"{what:64}{each:9.2f}{times:9.0f}{share:11.3f}")
    print(f"{'together':82}{total:11.3f}")
    return total


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sfu_parts")
    parser.add_argument("--subscribers", type=int, default=40)
    parser.add_argument("--burst", type=int, default=5)
    parser.add_argument("--packets-per-s", type=int, default=1000)
    chosen = parser.parse_args()
    plant = Plant(chosen.subscribers, chosen.burst, chosen.packets_per_s)
    plant.datagrams.listen()
    gc.freeze()
    rows = steps(plant)
    packets_per_s = chosen.subscribers * (chosen.packets_per_s + AUDIO_PER_S)
    floor = bare(plant) / chosen.subscribers / chosen.burst
    whole = table("A second of 1 publisher and all on", rows, packets_per_s)
    table("The fan-out to one subscriber", fan_out(plant), packets_per_s)
    print(f"\nbare loop {floor:.3f} us/packet; all of the above {whole / floor:.2f} x")
    plant.port.close()


if __name__ == "__main__":
    asyncio.run(main())
