"""A channel: one of the two WebSockets of a link, with hold on what the kernel keeps of it.

Shell. It knows no message; `link` does. Invariant: at most one frame waits in this process, and little of it unsent in the
kernel (`NOTSENT_OCTETS`): whatever is decided later can still go first, and a channel for what can wait never fills the
line (`pacing`).
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import structlog
from aiohttp import WSMsgType, web

from command.base.errors import Rejected, Unavailable
from command.tree.pacing import Pace, Sample
from command.tree.wire import BLOB_BYTES_MAX, FRAME_BYTES_MAX

NOTSENT_OCTETS = 16 * 1024
FAST_FRAME_OCTETS = 96 * 1024
"""About 128 entries: two frames fill the window, so that one is on its way while the other is stored."""
DRAIN_PAUSE_S = 0.002
DRAIN_PAUSE_MAX_S = 0.05
SLOW_DRAIN_S = 0.25
"""A frame on a fast line that took longer shows that it isn't one any more."""
SAMPLE_S = 0.005
NUDGES = 3
"""As many segments behind a lost one prove it lost at once (RFC 8985 §6.2, RFC 5681 §3.2)."""
NUDGE_GAP_S = 0.015
"""Apart, so that the kernel doesn't put them into one segment."""
NUDGE_RTT_S = 0.2
"""On a quicker line the kernel's own timers are quick enough."""
NUDGE_AGAIN = 1.25
"""Times the round trip: what is not acknowledged by then was lost, or its acknowledgement."""
NUDGE_ROUNDS_MAX = 8
"""Without anything acknowledged meanwhile: then the line is gone, and a redial has to help."""
TRAIN_S = 20.0
"""A train that has not arrived by then is given up as lost."""
BACKOFF_MAX = 3
"""Retransmissions in a row that nobody answered: the next one is eight times as far away as the first was."""
STUCK_S = 60.0
"""A peer whose window stays shut for so long is dropped."""
CLOSE_S = 1.0
_SO_MAX_PACING_RATE = 47
_TCP_THIN_LINEAR_TIMEOUTS = 16
"""linux/tcp.h: with few packets in flight a lost one is tried again at even intervals, not at doubled ones."""
_UNLIMITED = 2**32 - 1
_TCP_INFO_OCTETS = 256

journal = structlog.get_logger("link")

AnySocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class TcpInfo(NamedTuple):
    """What tcp(7) TCP_INFO says: how often the retransmission timer was doubled, segment size, segments not acknowledged,
    smoothed round trip, delivery rate, segments that arrived."""

    backoff: int
    mss: int
    unacked: int
    rtt_s: float
    delivery_bps: float
    delivered: int


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """None where the kernel doesn't tell. Offsets are of `struct tcp_info` in linux/tcp.h (delivery_rate since 4.9)."""
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_OCTETS)
    except OSError:
        return None
    if len(found) < 196:
        return None
    mss, rtt_us = struct.unpack_from("I", found, 16)[0], struct.unpack_from("I", found, 68)[0]
    unacked = struct.unpack_from("I", found, 24)[0]
    rate, delivered = struct.unpack_from("Q", found, 160)[0], struct.unpack_from("I", found, 192)[0]
    return TcpInfo(found[4], mss, unacked, rtt_s=rtt_us / 1e6, delivery_bps=rate * 8.0, delivered=delivered)


class Channel:
    """Owns one open WebSocket. One task sends, one receives; `close()` may come from anywhere."""

    def __init__(self, socket_: AnySocket, *, paced: bool) -> None:
        self._socket = socket_
        self._transport: asyncio.Transport | None = _transport_of(socket_)
        self.pace = Pace() if paced else None
        self._raw: socket.socket | None = socket_.get_extra_info("socket")
        self.sent = self.received = 0
        self._sent_at = self._free_at = 0.0
        self._delivered = self._rounds = 0
        if self._raw is not None:
            with contextlib.suppress(OSError):  # a Unix socket has neither
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_OCTETS)
                if not paced:
                    self._raw.setsockopt(socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1)

    @property
    def closed(self) -> bool:
        return self._socket.closed

    @property
    def asleep(self) -> bool:
        """Whether TCP has given the line up for seconds: it tries again at its own, doubled intervals only, also when the line
        has long healed."""
        info = self.info
        return info is not None and info.unacked > 0 and info.backoff >= BACKOFF_MAX

    @property
    def frame_octets(self) -> int | None:
        """How large a frame of entries may be; None for the channel's own size. On a fast line larger ones cost nobody."""
        if self.pace is None:
            return None
        fast = self.pace.measured_bps is not None and self.pace.limit_bps is None
        return FAST_FRAME_OCTETS if fast else self.pace.piece_octets(time.monotonic())

    def piece_octets(self) -> int:
        """How large the next piece of an attachment may be."""
        return BLOB_BYTES_MAX if self.pace is None else min(BLOB_BYTES_MAX, self.pace.claim(time.monotonic()))

    async def send(self, frame: bytes) -> None:
        """Send one binary frame; returns once the kernel has taken it, so that the next is chosen as late as possible.

        Raises `Unavailable` when the connection is gone or stuck.
        """
        try:
            if self.pace is not None and self.pace.due(time.monotonic(), len(frame)):
                await self._train(frame)
            else:
                began = time.monotonic()
                await self._socket.send_bytes(frame)
                await self._drained()
                if self.pace is not None:
                    self._paced(self.pace, len(frame), time.monotonic() - began)
        except (ConnectionError, RuntimeError, aiohttp.ClientError) as error:
            raise Unavailable("link.lost", f"The connection is gone: {error}") from None
        self.sent += len(frame)
        self._sent_at = time.monotonic()

    def _paced(self, pace: Pace, octets: int, took_s: float) -> None:
        """The line is to stay free until this frame has had its share of it."""
        now = time.monotonic()
        if pace.limit_bps is None and took_s > SLOW_DRAIN_S:
            pace.doubted(now)
        self._free_at = max(now, self._free_at) + pace.pause_s(octets)

    def give_way(self, octets: int) -> None:
        """So much goes on the other channel: what can wait waits until the line has carried it."""
        if self.pace is not None:
            self._free_at = max(time.monotonic(), self._free_at) + self.pace.carried_s(octets)

    async def free(self, hurry: asyncio.Event) -> None:
        """Wait until the pacing allows the next frame, or until `hurry`. The caller must choose that frame afterwards."""
        pause = self._free_at - time.monotonic()
        if pause > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await hurry.wait()

    async def nudge(self) -> None:
        """Follow what was sent with a few tiny frames, where the round trip is long: if it was lost, they show it to the
        kernel at both ends, which repairs it a round trip later instead of after a timeout.

        RFC 6455 §5.5.3: "A Pong frame MAY be sent unsolicited. [...] A response to an unsolicited Pong frame is not
        expected." Raises `Unavailable` when the connection is gone.
        """
        found = self.info
        if found is None or found.rtt_s < NUDGE_RTT_S:
            return
        try:
            for _ in range(NUDGES):
                await asyncio.sleep(NUDGE_GAP_S)
                await self._socket.pong()
        except (ConnectionError, RuntimeError, aiohttp.ClientError) as error:
            raise Unavailable("link.lost", f"The connection is gone: {error}") from None
        self._sent_at = time.monotonic()

    async def settle(self, wake: asyncio.Event) -> None:
        """Wait for `wake`; meanwhile nudge as long as something isn't acknowledged that should be. Raises as `nudge`."""
        while (found := self.info) is not None and found.unacked and found.rtt_s >= NUDGE_RTT_S:
            if found.delivered != self._delivered:
                self._delivered, self._rounds = found.delivered, 0
            if self._rounds >= NUDGE_ROUNDS_MAX:
                break
            try:
                async with asyncio.timeout(self._sent_at + NUDGE_AGAIN * found.rtt_s - time.monotonic()):
                    await wake.wait()
                return
            except TimeoutError:
                self._rounds += 1
                await self.nudge()
        await wake.wait()

    async def frames(self) -> AsyncIterator[bytes]:
        """Binary frames until the connection ends. Raises `Rejected` for anything else."""
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                self.received += len(message.data)
                yield message.data
            elif message.type is WSMsgType.ERROR:
                return
            else:
                raise Rejected("link.text", "Frames of the link are binary.")

    async def frame(self, timeout_s: float) -> bytes:
        """The next frame. Raises `Rejected` when it isn't binary, `Unavailable` when none comes in time."""
        try:
            message: Any = await self._socket.receive(timeout=timeout_s)
        except TimeoutError:
            raise Unavailable("link.silent", f"The other node said nothing for {timeout_s:.0f} s.") from None
        if message.type is WSMsgType.BINARY:
            self.received += len(message.data)
            data: bytes = message.data
            return data
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
            raise Unavailable("link.lost", "The other node closed the connection.")
        raise Rejected("link.text", "Frames of the link are binary.")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, and hang up without the other side's help when it gives none in time."""
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError, aiohttp.ClientError):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code=code, message=reason.encode()[:120])
        self.abort()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def info(self) -> TcpInfo | None:
        return None if self._raw is None or self._raw.fileno() < 0 else tcp_info(self._raw)

    async def _drained(self) -> None:
        """Wait until the kernel has everything. Transports tell only through private names, so this looks again and again;
        on a line that keeps up the first look is the last."""
        pause, until = DRAIN_PAUSE_S, time.monotonic() + STUCK_S
        while self._transport is not None and self._transport.get_write_buffer_size() > 0:
            if self._transport.is_closing():
                raise ConnectionResetError("closing")
            if time.monotonic() > until:
                self.abort()
                raise Unavailable("link.stuck", f"The other node has taken nothing for {STUCK_S:.0f} s.")
            await asyncio.sleep(pause)
            pause = min(2 * pause, DRAIN_PAUSE_MAX_S)

    async def _train(self, frame: bytes) -> None:
        """Send a frame without a limit and watch how it arrives; then set the limit."""
        assert self.pace is not None
        before = self.info
        self._limit(None)
        await self._socket.send_bytes(frame)
        if before is not None:
            samples, kernel_bps = await self._watch(before, len(frame))
            self.pace.measured(time.monotonic(), samples, kernel_bps)
            journal.info("link.measured", rate_bps=self.pace.measured_bps, limit_bps=self.pace.limit_bps)
        await self._drained()
        # No more than the line takes, whatever was lost and goes again. The share of it is kept by setting pieces apart: at the
        # rate of the share itself the kernel would save pieces up, and send them in one go.
        self._limit(None if self.pace.limit_bps is None else self.pace.measured_bps)

    async def _watch(self, before: TcpInfo, octets: int) -> tuple[list[Sample], float]:
        started = time.monotonic()
        samples, arrived, now_info = [Sample(started, 0)], 0, before
        while arrived < octets and time.monotonic() - started < TRAIN_S and not self.closed:
            await asyncio.sleep(SAMPLE_S)
            found = self.info
            if found is None:
                break
            now_info = found
            arrived = ((found.delivered - before.delivered) & 0xFFFFFFFF) * found.mss
            samples.append(Sample(time.monotonic(), arrived))
        return samples, now_info.delivery_bps

    def _limit(self, bits_per_s: float | None) -> None:
        """SO_MAX_PACING_RATE (socket(7)), which TCP keeps to by itself since Linux 4.13, whatever the queue below is."""
        if self._raw is None or self._raw.fileno() < 0:
            return
        octets_per_s = _UNLIMITED if bits_per_s is None else max(1, round(bits_per_s / 8))
        with contextlib.suppress(OSError):
            self._raw.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("I", octets_per_s))


def _transport_of(socket_: AnySocket) -> asyncio.Transport | None:
    """The one place that uses a private name of aiohttp: nothing public leads from a WebSocket to its transport."""
    writer = getattr(socket_, "_writer", None)
    transport: asyncio.Transport | None = getattr(writer, "transport", None)
    return transport


FRAME_MAX = FRAME_BYTES_MAX + 1024
"""`max_msg_size` of both ends: a frame at the limit of `wire`, which says so itself when it is one more."""
