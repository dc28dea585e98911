"""Drives many legs from one thread (epoll) and publishes from another.

Never sleeps with a datagram waiting and never counts without a bound: a window ends at its deadline. Invariant:
arrival times are the kernel's (SO_TIMESTAMPNS), so the client's own queueing is not charged to the server.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench import rtp_packet, rtp_sdp
from bench.rtp_client import SO_TIMESTAMPNS, TIMESPEC, Leg, Publisher, State, Subscriber

DRAIN_MAX = 64
TICK_EVERY_S = 0.02
REPORT_EVERY_S = 1.0
ARRIVALS_EVERY_S = 0.1
LOW_BYTES = 400
DATAGRAM_BYTES_MAX = 2048
UDP_SEGMENT = 103
LATE_BURSTS_MAX = 4
MID_PACKETS = 100  # Chromium puts the mid on the first packets of a stream only


class Pump:
    """Owns an epoll set of legs."""

    def __init__(self, legs: Iterable[Leg] = ()) -> None:
        self._epoll = select.epoll()
        self._legs: dict[int, Leg] = {}
        self._next_tick = 0.0
        self._next_report = 0.0
        self._next_arrivals = 0.0
        self.on_media: dict[int, Callable[[bytes, int], None]] = {}
        for one in legs:
            self.add(one)

    def add(self, leg: Leg) -> None:
        """Watch one more leg."""
        number = leg.socket.fileno()
        self._legs[number] = leg
        if isinstance(leg, Subscriber):
            self.on_media[number] = leg.on_media
        self._epoll.register(number, select.EPOLLIN)

    def remove(self, leg: Leg) -> None:
        """Stop watching a leg (before it is closed)."""
        number = leg.socket.fileno()
        self._epoll.unregister(number)
        self._legs.pop(number)
        self.on_media.pop(number, None)

    def run(self, deadline: float, until: Callable[[], bool] | None = None) -> bool:
        """Serve all legs until `until()` is true (True) or the monotonic `deadline` passes (False)."""
        while True:
            now = time.monotonic()
            if until is not None and until():
                return True
            if now >= deadline:
                return until is None
            if now >= self._next_tick:
                self._tick(now)
            for number, _ in self._epoll.poll(min(TICK_EVERY_S, max(0.0, deadline - now))):
                self._drain(number)

    def open(self, legs: Sequence[Leg], timeout_s: float = 15.0) -> None:
        """Serve until all of `legs` are open; raises TimeoutError naming how many are not."""
        self._next_tick = 0.0
        done = self.run(
            time.monotonic() + timeout_s,
            lambda: all(one.state in (State.OPEN, State.CLOSED) for one in legs),
        )
        failed = [one for one in legs if one.state is not State.OPEN]
        if failed or not done:
            states = sorted({f"{one.state.value} {one.error}".strip() for one in failed})
            raise TimeoutError(f"{len(failed)} of {len(legs)} legs did not open: {', '.join(states)}")

    def _tick(self, now: float) -> None:
        self._next_tick = now + TICK_EVERY_S
        for leg in self._legs.values():
            leg.tick(now)
        if now >= self._next_arrivals:
            self._next_arrivals = now + ARRIVALS_EVERY_S
            for leg in self._legs.values():
                if isinstance(leg, Subscriber):
                    leg.tell_arrivals()
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY_S
            for leg in self._legs.values():
                if isinstance(leg, Subscriber):
                    leg.report()

    def _drain(self, number: int) -> None:
        leg = self._legs[number]
        receive = leg.socket.recvmsg
        on_media = self.on_media.get(number)
        for _ in range(DRAIN_MAX):
            try:
                data, ancillary, _, _ = receive(DATAGRAM_BYTES_MAX, 64)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            if len(data) > 12 and 128 <= data[0] <= 191 and not 192 <= data[1] <= 223:
                if on_media is not None:
                    on_media(data, _arrival(ancillary))
            else:
                leg.receive(data)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = TIMESPEC.unpack_from(value)
            return int(seconds) * 1_000_000_000 + int(nanos)
    return 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a publisher sends: packets/s in bursts, bytes per video packet, audio or not.

    `ragged`: sizes within a burst differ by one byte, as Chromium's do; then the publisher can't use GSO.
    """

    packets_per_s: int = 1000
    burst: int = 5
    packet_bytes: int = 1100
    audio: bool = False
    gso: bool = True
    ragged: bool = False
    full: bool = False  # feedback and repair, and two layers where the server takes them

    @property
    def name(self) -> str:
        """Short name for the figure's line."""
        return (
            f"{self.packets_per_s}pps-{self.packet_bytes}B"
            + ("-ragged" if self.ragged else "")
            + ("-audio" if self.audio else "")
            + ("-full" if self.full else "")
        )


class Stream:
    """The state of one published pair of streams; survives from window to window."""

    def __init__(self, leg: Publisher, shape: Shape, remote: rtp_sdp.Remote, *, audio_level: int = 30) -> None:
        self.leg, self.shape = leg, shape
        self.audio_level = audio_level
        self.index = 0
        self.frames = 0
        self.sequence = 1000
        self.audio_sequence = 1000
        self.late_max_s = 0.0
        self._video = remote.section("video")
        self._audio = remote.section("audio")
        self._video_clock = 0
        self._audio_clock = 0
        self._octets = 0
        self._transport = 0
        self._low_sequence = 3000

    def _elements(self, rid: str) -> bytes:
        """The extensions of a video packet: mid and rid at first, the transport-wide number where it was agreed on."""
        video = self._video
        if video is None:
            return b""
        known = video.extensions
        elements = []
        if self.index < MID_PACKETS and rtp_sdp.MID_URI in known:
            elements.append((known[rtp_sdp.MID_URI], video.mid.encode()))
        if self.index < MID_PACKETS and rid and rtp_sdp.RID_URI in known:
            elements.append((known[rtp_sdp.RID_URI], rid.encode()))
        if self.leg.local.wide and rtp_sdp.TRANSPORT_URI in known:
            elements.append((known[rtp_sdp.TRANSPORT_URI], (self._transport & 0xFFFF).to_bytes(2, "big")))
            self._transport += 1
        return rtp_packet.extension_block(elements)

    def low(self, *, key: bool) -> bytes:
        """The lower layer's frame: one small packet."""
        assert self.leg.outgoing is not None
        payload = rtp_packet.vp8_payload(
            start=True,
            key=key,
            picture_id=self.frames & 0x7FFF,
            tl0=self.frames & 0xFF,
            stamp=rtp_packet.Stamp(0, 0),
            size=LOW_BYTES,
            height=180,
        )
        self._low_sequence += 1
        packet = rtp_packet.media_packet(
            payload_type=rtp_sdp.VP8_PT,
            marker=True,
            sequence=self._low_sequence,
            timestamp=self._video_clock,
            ssrc=self.leg.local.video_ssrc + 2,
            extensions=self._elements(rtp_sdp.RIDS[0]),
            payload=payload,
        )
        return self.leg.outgoing.protect(packet)

    def frame(self, packets: int) -> list[bytes]:
        """The next frame as `packets` protected packets of equal size."""
        leg, shape = self.leg, self.shape
        assert leg.outgoing is not None
        key, leg.key_frame_wanted = leg.key_frame_wanted, False
        self.frames += 1
        self._video_clock += rtp_packet.VIDEO_CLOCK_HZ * shape.burst // shape.packets_per_s
        sealed = []
        self.key = key
        for number in range(packets):
            extensions = self._elements(rtp_sdp.RIDS[1] if leg.local.layers else "")
            payload = rtp_packet.vp8_payload(
                start=number == 0,
                key=key,
                picture_id=self.frames & 0x7FFF,
                tl0=self.frames & 0xFF,
                stamp=rtp_packet.Stamp(self.index, time.time_ns()),
                size=shape.packet_bytes - 12 - len(extensions) - (number % 2 if shape.ragged else 0),
            )
            packet = rtp_packet.media_packet(
                payload_type=rtp_sdp.VP8_PT,
                marker=number == packets - 1,
                sequence=self.sequence,
                timestamp=self._video_clock,
                ssrc=leg.local.video_ssrc,
                extensions=extensions,
                payload=payload,
            )
            sealed.append(leg.outgoing.protect(packet))
            self.index += 1
            self.sequence += 1
            self._octets += len(payload)
        return sealed

    def sound(self) -> bytes:
        """The next 20 ms of audio, protected, with its level (RFC 6464)."""
        assert self.leg.outgoing is not None
        self._audio_clock += int(rtp_packet.AUDIO_CLOCK_HZ * rtp_packet.AUDIO_FRAME_S)
        elements = []
        if self._audio and rtp_sdp.LEVEL_URI in self._audio.extensions:
            level = bytes([0x80 | self.audio_level])
            elements.append((self._audio.extensions[rtp_sdp.LEVEL_URI], level))
        if self.audio_sequence < 1000 + MID_PACKETS and self._audio and rtp_sdp.MID_URI in self._audio.extensions:
            elements.append((self._audio.extensions[rtp_sdp.MID_URI], self._audio.mid.encode()))
        packet = rtp_packet.media_packet(
            payload_type=rtp_sdp.OPUS_PT,
            marker=False,
            sequence=self.audio_sequence,
            timestamp=self._audio_clock,
            ssrc=self.leg.local.audio_ssrc,
            extensions=rtp_packet.extension_block(elements),
            payload=rtp_packet.opus_payload(rtp_packet.Stamp(0, time.time_ns()), 110),
        )
        self.audio_sequence += 1
        return self.leg.outgoing.protect(packet)

    def send_burst(self, packets: list[bytes]) -> None:
        """Send one frame; with GSO the server finds the whole burst at once, as behind a real NIC."""
        if self.shape.gso and len(packets) > 1 and not self.shape.ragged:
            segment = struct.pack("=H", len(packets[0]))
            self.leg.socket.sendmsg(packets, [(socket.SOL_UDP, UDP_SEGMENT, segment)])
        else:
            for one in packets:
                self.leg.send(one)

    def send_frame(self) -> None:
        """One frame, of both layers where there are two."""
        self.send_burst(self.frame(self.shape.burst))
        if self.leg.local.layers:
            self.leg.send(self.low(key=self.key))

    def send_report(self) -> None:
        """Send the video SR."""
        self.leg.send_rtcp(
            rtp_packet.sender_report(
                ssrc=self.leg.local.video_ssrc,
                unix_ns=time.time_ns(),
                timestamp=self._video_clock,
                packets=self.index,
                octets=self._octets,
            )
        )

    def publish(self, duration_s: float, stop: threading.Event | None = None) -> int:
        """Send for `duration_s` at the shape's pace; returns the video packets sent."""
        shape, first = self.shape, self.index
        step_s = shape.burst / shape.packets_per_s
        start = due = time.monotonic()
        sound_due, report_due = start, start
        while due < start + duration_s and not (stop is not None and stop.is_set()):
            wait_s = due - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            else:
                self.late_max_s = max(self.late_max_s, -wait_s)
                if -wait_s > LATE_BURSTS_MAX * step_s:
                    # a camera that was held up doesn't fire the backlog at once; neither do we
                    due -= wait_s
            self.send_frame()
            if shape.audio and due >= sound_due:
                self.leg.send(self.sound())
                sound_due += rtp_packet.AUDIO_FRAME_S
            if due >= report_due:
                self.send_report()
                report_due += REPORT_EVERY_S
            due += step_s
        return self.index - first


class Streams:
    """Several publishers at the same pace, their frames evenly apart."""

    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams
        self.late_max_s = 0.0

    def publish(self, duration_s: float, stop: threading.Event | None = None) -> int:
        """As `Stream.publish`, for all of them; returns the packets that all sent together."""
        shape = self.streams[0].shape
        first = sum(one.index for one in self.streams)
        step_s = shape.burst / shape.packets_per_s / len(self.streams)
        start = due = time.monotonic()
        sounds, reports = [start] * len(self.streams), [start] * len(self.streams)
        turn = 0
        while due < start + duration_s and not (stop is not None and stop.is_set()):
            wait_s = due - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            else:
                self.late_max_s = max(self.late_max_s, -wait_s)
                if -wait_s > LATE_BURSTS_MAX * step_s * len(self.streams):
                    due -= wait_s
            one = self.streams[turn]
            one.send_frame()
            if shape.audio and due >= sounds[turn]:
                one.leg.send(one.sound())
                sounds[turn] += rtp_packet.AUDIO_FRAME_S
            if due >= reports[turn]:
                one.send_report()
                reports[turn] += REPORT_EVERY_S
            turn = (turn + 1) % len(self.streams)
            due += step_s
        return sum(one.index for one in self.streams) - first


class Publishing:
    """Publishes from a thread between `start()` and `join()`, while the caller's thread pumps."""

    def __init__(self, stream: Stream | Streams, duration_s: float) -> None:
        self.sent = 0
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(stream, duration_s), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self, stream: Stream | Streams, duration_s: float) -> None:
        self.sent = stream.publish(duration_s, self.stop)

    def alive(self) -> bool:
        """True while packets are still being sent."""
        return self._thread.is_alive()

    def join(self) -> int:
        """Wait for the end; returns the packets sent."""
        self._thread.join()
        return self.sent
