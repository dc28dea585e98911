"""A real worker process with one publisher and twenty subscribers, and strangers who throw datagrams at it.

Never reaches into the worker: everything goes over its UDP port and its control channel. Invariant: a stranger
sends from sockets that never passed a STUN check, an impostor from the very socket of an open session.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pylibsrtp
from aioice import stun

from bench import rtp_packet, rtp_sdp
from bench.rtp_client import Publisher, State, Subscriber
from bench.rtp_dtls import Handshake
from bench.rtp_pump import Publishing, Pump, Shape, Stream
from bench.sfu_worker import ROOM, SPEAKER, Worker

SESSIONS = 20
PROFILE = "AEAD_AES_128_GCM"
ATTACK_S = 1.2
SETTLE_S = 0.3
OPEN_TIMEOUT_S = 60.0
STRANGERS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
# a thousand datagrams a second from each stranger, in steps a timer can keep
STEP_S = 0.005
PER_STEP = 5
LEAST_PER_S = 300  # on a machine that is busy with other things


class Scene:
    """Twenty sessions that receive; `attack()` is a stretch of time in which strangers are active."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self.pump = Pump()
        self.worker = Worker(folder, None)
        self.subscribers: list[Subscriber] = []
        self.publishers: list[Publisher] = []
        """The one there is, once there is one."""

    def open(self) -> None:
        """Start the worker and bring everybody in."""
        self._runner.run(self.worker.start())
        self.publisher = Publisher(profile=PROFILE)
        self.publishers.append(self.publisher)
        remote = self._runner.run(self.worker.publish(self.publisher, ("audio", "video")))
        self.pump.add(self.publisher)
        self.pump.open([self.publisher], timeout_s=OPEN_TIMEOUT_S)
        shape = Shape(packets_per_s=200, burst=2, packet_bytes=700, audio=True)
        self.stream = Stream(self.publisher, shape, remote)
        self.receive(0.3)
        for _ in range(SESSIONS):
            self.subscribers.append(self.subscribe())
        self.pump.open(self.subscribers, timeout_s=OPEN_TIMEOUT_S)
        self.receive(0.3)

    def subscribe(self) -> Subscriber:
        """One more subscriber, connecting."""
        leg = Subscriber(profile=PROFILE, sample_every=1)
        self.pump.add(leg)
        leg.learn(self._runner.run(self.worker.subscribe(leg)))
        return leg

    def leave(self, leg: Subscriber) -> None:
        """Take a subscriber off again."""
        self._runner.run(self.worker.leave(leg))
        self.pump.remove(leg)
        leg.close()

    def receive(self, duration_s: float) -> list[float]:
        """Publish for `duration_s`; the share of the packets that each of the sessions got."""
        for one in self.subscribers:
            one.counter.reset()
        run = Publishing(self.stream, duration_s)
        run.start()
        self.pump.run(time.monotonic() + duration_s + SETTLE_S)
        sent = run.join()
        assert not any(one.counter.forged for one in self.subscribers)
        return [one.counter.authentic / sent for one in self.subscribers]

    @contextmanager
    def attack(self, make: Callable[[int], bytes], impostor: bool = False) -> Iterator[None]:
        """Strangers send `make(n)` at 1 kHz each; with `impostor` the sessions' own sockets send it too."""
        stop = threading.Event()
        thread = threading.Thread(target=self._throw, args=(make, impostor, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert self.thrown >= ATTACK_S * LEAST_PER_S * len(STRANGERS)

    @contextmanager
    def insider(self, act: Callable[[int], None]) -> Iterator[None]:
        """Somebody who was let in calls `act(n)` a thousand times a second."""
        stop = threading.Event()
        acted: list[int] = []

        def run() -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                act(number)
                acted.append(number)
                if number % PER_STEP == 0:
                    stop.wait(STEP_S)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert len(acted) >= ATTACK_S * LEAST_PER_S

    def publish(self, member: str) -> Publisher:
        """One more publisher, open."""
        leg = Publisher(profile=PROFILE)
        self._runner.run(self.worker.publish(leg, ("audio", "video"), member))
        self.pump.add(leg)
        self.pump.open([leg])
        return leg

    def expel(self, leg: Publisher, member: str) -> None:
        """Remove a publisher from the room."""
        self._runner.run(self.worker.ask("remove", room=ROOM, member=member, reason="removed"))
        self.pump.remove(leg)
        leg.close()

    def _throw(self, make: Callable[[int], bytes], impostor: bool, stop: threading.Event) -> None:
        address = ("127.0.0.1", self.worker.port)
        strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in STRANGERS]
        for one, host in zip(strangers, STRANGERS, strict=True):
            one.bind((host, 0))
        self.thrown = number = 0
        while not stop.is_set():
            for one in strangers:
                for _ in range(PER_STEP):
                    number += 1
                    one.sendto(make(number), address)
            if impostor:
                victim = self.subscribers[number % len(self.subscribers)]
                victim.send(make(number))
                self.publisher.send(make(number + 1))
            stop.wait(STEP_S)
        self.thrown = number
        for one in strangers:
            one.close()

    def open_sessions(self) -> int:
        """How many of the twenty are still open, as far as their clients can tell."""
        return sum(one.state is State.OPEN and not one.closed_by_peer for one in self.subscribers)

    def log_lines(self) -> list[str]:
        """What the worker has written so far."""
        return self.worker.log.read_text().splitlines()

    def closed(self) -> list[str]:
        """Reasons why connections of the sessions were closed, so far."""
        self.stats()  # events come in order: after the answer all earlier ones are here
        members = {self.worker.members[one] for one in self.subscribers} | {SPEAKER}
        ended = [one for one in self.worker.events if one["t"] == "peer.closed" and one["member"] in members]
        return [one["reason"] for one in ended]

    def stats(self) -> dict[str, Any]:
        """The worker's counters."""
        return self._runner.run(self.worker.ask("stats"))

    def close(self) -> None:
        """End everything."""
        self._runner.run(self.worker.close())
        self._runner.close()
        for one in [*self.subscribers, *self.publishers]:
            one.close()


def short(number: int) -> bytes:
    """Empty and 1-7 bytes, each first byte in turn."""
    return bytes([number // 8 % 256]) * (number % 8)


def _binding(username: str) -> stun.Message:
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 7
    message.attributes["USE-CANDIDATE"] = None
    return message


def foreign_checks(victim: Subscriber) -> list[bytes]:
    """STUN that must not open an address: wrong password, none, cut and lying attributes, other methods."""
    assert victim.remote is not None
    username = f"{victim.remote.ufrag}:{victim.local.ufrag}"
    wrong = _binding(username)
    wrong.add_message_integrity(b"not the password at all")
    unknown = _binding("nobody:nowhere")
    unknown.add_message_integrity(b"not the password at all")
    bare = bytes(_binding(username))
    head = struct.pack("!HHI12s", 1, 8, stun.COOKIE, bytes(12))
    right = bytearray(victim.binding_request())
    right[-40] ^= 1
    made = [bytes(wrong), bytes(unknown), bare, bytes(right), bytes(wrong)[:-5], head]
    for attribute in (0x0006, 0x0008, 0x0020, 0x0024, 0x0025, 0x8028, 0x8029, 0x802A):
        for size in (0, 1, 3, 4, 0xFFFF):
            # claims `size` bytes, holds four
            made.append(head + struct.pack("!HH4s", attribute, size, b"abcd"))
    response = bytearray(wrong.__bytes__())
    response[0] = 1
    made.append(bytes(response))
    for method in (0x0003, 0x0011, 0x0111, 0x3FFF):
        made.append(struct.pack("!HHI12s", method, 0, stun.COOKIE, bytes(12)))
    return made


def client_hello() -> bytes:
    """A whole, honest ClientHello of somebody who was not invited."""
    return Handshake(PROFILE, "none").start()[0]


def broken_records() -> list[bytes]:
    """DTLS records that lie about their length, alerts in the clear, application data without a key."""
    made = []
    for content in (20, 21, 22, 23, 24, 63):
        for epoch in (0, 1):
            for body in (b"", b"\x02\x28", bytes(64)):
                head = struct.pack("!BHHHIH", content, 0xFEFD, epoch, 0, 9, len(body))
                made += [head + body, head[:-2] + b"\xff\xff" + body, head[:13] + bytes(1)]
    return made


def nonsense(leg: Publisher, seed: int) -> Callable[[int], None]:
    """Sends mutated RTP and RTCP under the leg's own valid key."""
    chance = random.Random(seed)
    good = [
        rtp_packet.media_packet(
            payload_type=payload_type,
            marker=False,
            sequence=0,
            timestamp=0,
            ssrc=ssrc,
            extensions=rtp_packet.extension_block([(4, b"1"), (1, b"\x8a")]),
            payload=rtp_packet.FILLER[:200],
        )
        for payload_type, ssrc in ((rtp_sdp.VP8_PT, leg.local.video_ssrc), (rtp_sdp.OPUS_PT, leg.local.audio_ssrc))
    ]
    reports = [
        rtp_packet.sender_report(ssrc=leg.local.video_ssrc, unix_ns=1, timestamp=0, packets=0, octets=0),
        b"\x81\xcd\x00\x03" + bytes(12),
        b"\x8f\xce\x00\x04" + bytes(8) + b"REMB" + b"\xff" * 4,
        b"\x9f\xcb\x00\x01" + bytes(4),
    ]

    def act(number: int) -> None:
        assert leg.outgoing is not None
        control = number % 3 == 0
        packet = bytearray(chance.choice(reports if control else good))
        for _ in range(chance.randint(1, 6)):
            packet[chance.randrange(1 if control else 0, len(packet))] = chance.randrange(256)
        if not control:
            packet[2:4] = (number & 0xFFFF).to_bytes(2, "big")
        cut = bytes(packet[: chance.randint(8, len(packet))])
        try:
            if control:
                leg.send(leg.outgoing.protect_rtcp(cut))
            else:
                leg.send(leg.outgoing.protect(cut))
        except pylibsrtp.Error:
            return  # not even our own library takes it

    return act


def stranger_media(scene: Scene) -> list[bytes]:
    """RTP and RTCP that name the publisher's sources, without a key."""
    local = scene.publisher.local
    packets = [
        rtp_packet.media_packet(
            payload_type=payload_type,
            marker=True,
            sequence=number,
            timestamp=number * 450,
            ssrc=ssrc,
            extensions=b"",
            payload=rtp_packet.FILLER[:1000],
        )
        for number in range(64)
        for payload_type, ssrc in ((rtp_sdp.VP8_PT, local.video_ssrc), (rtp_sdp.OPUS_PT, local.audio_ssrc))
    ]
    reports = [
        rtp_packet.picture_loss(1, local.video_ssrc) + bytes(14),
        rtp_packet.receiver_report(1, local.video_ssrc, 5) + bytes(14),
        b"\x81\xcb\x00\x01" + local.video_ssrc.to_bytes(4, "big") + bytes(14),  # BYE
    ]
    return packets + reports
