"""The media port on TCP, for networks that block UDP: ICE-TCP passive, the same packets with a length in front.

Never looks inside packets beyond their first byte. Invariant: each connection holds at most one packet that isn't whole
and `CONTROL_BYTES_MAX` that its client hasn't taken yet; a slow client loses video, nobody waits for it.

Sources: RFC 4571 (framing), RFC 6544 (ICE-TCP), tcp(7).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.datagrams import DATAGRAM_BYTES_MAX, SHORTEST_MEDIA, Address, Ancillary, Destination, Line

if TYPE_CHECKING:
    from media.port import Endpoint

STREAMS_MAX = 2000
UNPROVEN_MAX = 128  # connections that have not passed a check; the oldest gives way
UNPROVEN_PER_HOST_MAX = 16
UNPROVEN_S = 10.0
ACCEPTS_PER_WAKE = 16
BACKLOG = 128
READ_BYTES = 65_536
VIDEO_BYTES_MAX = 131_072  # a large key frame; beyond it video is dropped until the next one
CONTROL_BYTES_MAX = 163_840  # voices, feedback, handshakes
NOT_SENT_BYTES = 32_768  # what the kernel may hold unsent: more would be old when it leaves

TCP_NOTSENT_LOWAT = 25


class Stream:
    """One accepted connection. `proven`: it passed an authenticated check."""

    def __init__(self, sock: socket.socket, address: Address, owner: Streams, now_s: float) -> None:
        self.address = address
        self.proven = False
        self.opened_at_s = now_s
        self.closed = False
        self._socket = sock
        self._owner = owner
        self._incoming = bytearray()
        self._waiting = bytearray()
        self._choked: Destination | None = None
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    # -- in --

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._owner.ended(self)
            return
        self._incoming += data
        self._owner.read(self, len(data))

    def packet(self) -> bytes | None:
        """The next whole packet, or None; raises ValueError for a length that no packet of ours has."""
        incoming = self._incoming
        if len(incoming) < 2:
            return None
        size = incoming[0] << 8 | incoming[1]
        if size > DATAGRAM_BYTES_MAX:
            raise ValueError(size)
        if len(incoming) < 2 + size:
            return None
        data = bytes(incoming[2 : 2 + size])
        del incoming[: 2 + size]
        return data

    # -- out --

    def send(self, data: bytes | memoryview, destination: Destination) -> None:
        """Send one packet, or keep it until the client has taken what is before it."""
        self._put(len(data).to_bytes(2, "big") + data, 1, CONTROL_BYTES_MAX)

    def send_burst(self, data: memoryview, segment_bytes: int, count: int, destination: Destination) -> None:
        """Send `count` packets of `segment_bytes` (the last may be shorter), all or none."""
        framed = bytearray()
        for at in range(0, len(data), segment_bytes):
            packet = data[at : at + segment_bytes]
            framed += len(packet).to_bytes(2, "big")
            framed += packet
        if not self._put(framed, count, VIDEO_BYTES_MAX):
            destination.choked = True
            self._choked = destination

    def _put(self, framed: bytes | bytearray, count: int, limit: int) -> bool:
        """False: it was dropped, whole."""
        if self.closed:
            return False
        sent = 0
        if not self._waiting:
            try:
                sent = self._socket.send(framed)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return False  # reading will tell
            if sent == len(framed):
                return True
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)
        elif len(self._waiting) + len(framed) > limit:
            self._owner.dropped["slow stream"] += count
            return False
        self._waiting += memoryview(framed)[sent:]
        return True

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            sent = len(self._waiting)  # reading will tell
        del self._waiting[:sent]
        if self._waiting:
            return
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        if self._choked is not None:
            self._choked = None
            self._owner.drained(self)

    def idle(self) -> bool:
        return not self._waiting

    def waiting_bytes(self) -> int:
        """What the client hasn't taken yet, beside what the kernel holds."""
        return len(self._waiting)

    def release(self) -> None:
        """The peer behind it is gone, or has forgotten this connection."""
        self._owner.ended(self)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        if self._waiting:  # a goodbye may be in it
            try:
                self._socket.send(self._waiting)
            except OSError:
                self._waiting.clear()
        self._socket.close()


class Streams:
    """The listening sockets of the port and their connections."""

    def __init__(
        self,
        *,
        by_address: dict[Address, Endpoint],
        other: Callable[[bytes, Ancillary, Address, Line, float], None],
        flush: Callable[[float], None],
        now: Callable[[], float],
        counters: Counter[str],
        dropped: Counter[str],
    ) -> None:
        self.dropped = dropped
        self.connections: dict[Address, Stream] = {}
        self._by_address = by_address
        self._other = other
        self._flush = flush
        self._now = now
        self._counters = counters
        self._listening: list[socket.socket] = []

    def bind(self, family: socket.AddressFamily, bind: str, number: int) -> None:
        """Bind to TCP `number` of address `bind`; raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._listening.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((bind, number))
        sock.listen(BACKLOG)

    def listen(self) -> None:
        for sock in self._listening:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        for stream in list(self.connections.values()):
            self.ended(stream)
        for sock in self._listening:
            if sock.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(sock.fileno())
                sock.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # gone again, or out of descriptors: the backlog bounds what waits
                self.dropped[f"accept {errno.errorcode.get(error.errno or 0, '?')}"] += 1
                return
            if not self._welcome(address[0]):
                self.dropped["stream refused"] += 1
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
            key: Address = ("tcp", address[0], address[1])
            self.connections[key] = Stream(sock, key, self, self._now())

    def _welcome(self, host: str) -> bool:
        """Whether there is room for one more from `host`; makes some among those that have proven nothing."""
        unproven = [stream for stream in self.connections.values() if not stream.proven]
        if sum(stream.address[1] == host for stream in unproven) >= UNPROVEN_PER_HOST_MAX:
            return False
        if len(unproven) >= UNPROVEN_MAX:
            self.ended(unproven[0])
        return len(self.connections) < STREAMS_MAX

    def read(self, stream: Stream, octets: int) -> None:
        """A connection has read something: hand on every whole packet."""
        now = self._now()
        packets = 0
        while not stream.closed:
            try:
                data = stream.packet()
            except ValueError:
                self.dropped["stream framing"] += 1
                self.ended(stream)
                break
            if data is None:
                break
            packets += 1
            if data and 128 <= data[0] <= 191 and len(data) >= SHORTEST_MEDIA:
                endpoint = self._by_address.get(stream.address)
                if endpoint is not None:
                    endpoint.media_received(data, stream.address, now)
                    continue
            self._other(data, [], stream.address, stream, now)
        self._counters["rx_packets"] += packets
        self._counters["rx_bytes"] += octets
        self._flush(now)

    def drained(self, stream: Stream) -> None:
        """A client that was too slow for the video has taken what waited."""
        endpoint = self._by_address.get(stream.address)
        if endpoint is not None:
            endpoint.drained()

    def ended(self, stream: Stream) -> None:
        """Forget a connection, and tell the peer behind it."""
        if self.connections.pop(stream.address, None) is None:
            return
        stream.close()
        endpoint = self._by_address.pop(stream.address, None)
        if endpoint is not None:
            endpoint.gone(stream.address)

    def sweep(self, now_s: float) -> None:
        """Close what never passed a check in `UNPROVEN_S`, or no longer belongs to a peer."""
        for stream in list(self.connections.values()):
            lost = stream.address not in self._by_address if stream.proven else now_s - stream.opened_at_s > UNPROVEN_S
            if lost:
                self.ended(stream)
