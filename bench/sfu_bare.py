"""The floor under any forwarder: a process that only protects and sends pre-made bursts with GSO.

Never receives, never rewrites, never looks at a room. Invariant: each order "go N" on standard input protects
and sends exactly N bursts to every target, paced like the publisher, then prints "done".

Run by `bench.sfu` as `python -m bench.sfu_bare`; first line of input: JSON {"targets": [[host, port, key hex]],
"profile", "burst", "packet_bytes", "packets_per_s", "bursts", "voices"}; it answers with its own port. Of so many voices
it also protects and sends 20 ms of sound to every target when they are due, as the forwarder has to.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

from pylibsrtp._binding import ffi, lib

from bench import rtp_packet, rtp_sdp
from bench.rtp_dtls import PROFILES, Profile, sending

UDP_SEGMENT = 103
DATAGRAM_BYTES_MAX = 1500
SSRC, SOUND_SSRC = 0x0BADBEEF, 0x0BADCAFE
SOUND_BYTES = 118


def premade(bursts: int, burst: int, packet_bytes: int) -> list[list[bytes]]:
    """`bursts` frames of `burst` plain RTP packets, contiguous in sequence."""
    made = []
    for number in range(bursts):
        frame = []
        for place in range(burst):
            stamp = rtp_packet.Stamp(number * burst + place, 0)
            start = place == 0
            payload = rtp_packet.vp8_payload(
                start=start, key=False, picture_id=number, tl0=number, stamp=stamp, size=packet_bytes - 12
            )
            packet = rtp_packet.media_packet(
                payload_type=rtp_sdp.VP8_PT,
                marker=place == burst - 1,
                sequence=number * burst + place,
                timestamp=number * 450,
                ssrc=SSRC,
                extensions=b"",
                payload=payload,
            )
            frame.append(packet)
        made.append(frame)
    return made


class Seal:
    """Protects a burst in place: one copy of the burst per target, then libsrtp on each packet where it lies.

    Faster than `pylibsrtp.Session.protect`, which copies each packet in and out (0.6 against 1.3 us).
    """

    def __init__(self, profile: Profile, packets: int) -> None:
        self._gap = bytes(16 if profile.salt_bytes == 12 else 10)  # RFC 7714 §13.2; RFC 3711 §5.2: the tag
        self._store = bytearray(packets * DATAGRAM_BYTES_MAX)
        self._base = ffi.from_buffer(self._store)
        self._length = ffi.new("int *")
        self._view = memoryview(self._store)

    def load(self, frame: list[bytes]) -> None:
        """Take the burst's plain packets, all of one size."""
        self._plain = b"".join(packet + self._gap for packet in frame)
        self._size = len(frame[0])
        self.segment = self._size + len(self._gap)
        self._places = [self._base + number * self.segment for number in range(len(frame))]

    def sound(self, number: int) -> None:
        """Take one packet of sound instead."""
        packet = rtp_packet.media_packet(
            payload_type=rtp_sdp.OPUS_PT,
            marker=False,
            sequence=number,
            timestamp=number * 960,
            ssrc=SOUND_SSRC,
            extensions=b"",
            payload=bytes(SOUND_BYTES),
        )
        self.load([packet])

    def seal(self, session: Any) -> memoryview:
        """The burst under `session` (libsrtp's handle), valid until the next call."""
        end = len(self._plain)
        self._store[:end] = self._plain
        length, size, protect = self._length, self._size, lib.srtp_protect
        for place in self._places:
            length[0] = size
            if protect(session, place, length):
                raise RuntimeError("libsrtp refused a packet")
        return self._view[:end]


def main() -> None:
    """Serve orders until standard input ends."""
    order = json.loads(sys.stdin.readline())
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.0.1", 0))
    profile = PROFILES[order["profile"]]
    sessions = [sending(bytes.fromhex(key), profile) for _, _, key in order["targets"]]
    targets = [
        (session._srtp[0], (host, port)) for session, (host, port, _) in zip(sessions, order["targets"], strict=True)
    ]
    frames = premade(order["bursts"], order["burst"], order["packet_bytes"])
    step_s = order["burst"] / order["packets_per_s"]
    seal = Seal(profile, order["burst"])
    position = 0
    sounds = itertools.count(1)
    print(sender.getsockname()[1], flush=True)
    for line in sys.stdin:
        count = int(line.split()[1])
        run(sender, targets, frames[position : position + count], seal, step_s, sounds, order["voices"])
        position += count
        print("done", flush=True)


def run(
    sender: socket.socket,
    targets: list[tuple[Any, Any]],
    frames: list[list[bytes]],
    seal: Seal,
    step_s: float,
    sounds: Iterator[int],
    voices: int,
) -> None:
    """Protect and send `frames` to all targets, one frame per `step_s` seconds, and `sounds` of `voices` between them."""
    send = sender.sendmsg
    due = sound_due = time.monotonic()
    for frame in frames:
        wait_s = due - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        seal.load(frame)
        segment = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", seal.segment))] if len(frame) > 1 else []
        for session, address in targets:
            send([seal.seal(session)], segment, 0, address)
        if voices and due >= sound_due:
            sound_due += rtp_packet.AUDIO_FRAME_S
            for _ in range(voices):
                seal.sound(next(sounds))
                for session, address in targets:
                    send([seal.seal(session)], [], 0, address)
        due += step_s


if __name__ == "__main__":
    main()
