"""One UDP socket of the media port: drains it in bursts, answers from the address that was asked, sends with UDP_SEGMENT.

Never looks inside packets beyond their first byte. Invariant: what can't be sent now waits in a queue of
`SEND_QUEUE_MAX`, then it is dropped; nothing ever blocks.

Sources: RFC 7983 (first byte), `facts.md` (rules of UDP_SEGMENT), udp(7), ip(7), ipv6(7).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from media.pace import Pace
from media.steering import beside

if TYPE_CHECKING:
    from media.port import Endpoint

DRAIN_MAX = 64
REPORTS_AT_ONCE = 8  # so many packets of RTCP are read before media is looked for again
REPORT_AGE_MAX_S = 0.1
HEAR_S = 0.010  # between looks for RTCP, while media comes
DATAGRAM_BYTES_MAX = 2048
BURST_BYTES_MAX = 65_535  # what the kernel may hand over at once of datagrams that came together (udp(7), UDP_GRO)
SEND_QUEUE_MAX = 512
SOCKET_BUFFER_BYTES = 4 << 20
MTU_RETRY_S = 30.0
SHORTEST_MEDIA = 12

IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_SNDBUFFORCE = 32
PKTINFO = Struct("=i4s4s")
PKTINFO6 = Struct("=16si")
SEGMENT = Struct("=H")
RECEIVED_SEGMENT = Struct("=i")
TIMESPEC = Struct("@qq")
NO_GSO_ERRORS = frozenset((errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP))

Address = tuple[Any, ...]
"""A remote address as a key: what the socket gives for UDP (2 fields over IPv4, 4 over IPv6); ("tcp", host, port)."""
Ancillary = list[tuple[int, int, bytes]]


class Line(Protocol):
    """What packets leave by: a UDP socket or a TCP connection. Neither method ever blocks."""

    def send(self, data: bytes | memoryview, destination: Destination) -> None: ...

    def send_burst(self, data: memoryview, segment_bytes: int, count: int, destination: Destination) -> None: ...

    def idle(self) -> bool: ...

    def release(self) -> None: ...


class Destination:
    """Where a peer's packets go: the line, the address, and as control message the local address that was asked.

    `choked`: the line was too slow for the video and some was dropped; video goes on at the next key frame only.
    `generation` is the ICE generation whose check opened it last, `checked_at_s` when that was.
    """

    __slots__ = (
        *("address", "ancillary", "checked_at_s", "choked", "generation", "line", "whole_until_s"),
        *("segment_bytes", "segmented"),
    )

    def __init__(self, line: Line, address: Address, ancillary: Ancillary | None = None) -> None:
        self.line = line
        self.address = address
        self.asked_at(ancillary or [])
        self.whole_until_s = 0.0  # until then packet by packet: a segment was over the path MTU
        self.choked = False
        self.generation = 0
        self.checked_at_s = 0.0

    def asked_at(self, ancillary: Ancillary) -> None:
        """The client asks another of our addresses now: answer from there."""
        self.ancillary = ancillary
        self.segment(0)

    def segment(self, segment_bytes: int) -> None:
        """Keep in `segmented` the control messages of a burst: those of a stream mostly have one size."""
        self.segment_bytes = segment_bytes
        self.segmented = [*self.ancillary, (SOL_UDP, UDP_SEGMENT, SEGMENT.pack(segment_bytes))]

    def resumes(self, key: bool) -> bool:
        """Whether a choked destination takes video again: from a key frame on, once what waited has left."""
        if key and self.line.idle():
            self.choked = False
        return not self.choked


class Datagrams:
    """One UDP socket. `other` takes every packet that isn't media from an open address; `flush` ends each drain."""

    def __init__(
        self,
        family: socket.AddressFamily,
        *,
        by_address: dict[Address, Endpoint],
        other: Callable[[bytes, Ancillary, Address, Line, float], None],
        flush: Callable[[float], None],
        now: Callable[[], float],
        wall: Callable[[], int],
        counters: Counter[str],
        dropped: Counter[str],
    ) -> None:
        self.gso = True
        self.queue: deque[tuple[bytes, Ancillary, Address]] = deque()
        self._reports: socket.socket | None = None
        self._hearing = False
        self._heard_at_s = -1e9
        self._pace = Pace()
        self._newest: Address | None = None  # who sent the last packet of media
        self._next_look: asyncio.TimerHandle | None = None
        self.family = family
        self._by_address = by_address
        self._other = other
        self._flush = flush
        self._now = now
        self._wall = wall
        self._counters = counters
        self._dropped = dropped
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._sendmsg = self._socket.sendmsg

    def bind(self, bind: str, number: int) -> int:
        """Bind to `number` (0: any) of address `bind` and give the number; raises OSError.

        Bound to one address, answers can only leave from it: then the kernel needn't tell which one was asked.
        """
        sock = self._socket
        sock.setblocking(False)
        if self.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, bind == "::")
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, bind == "0.0.0.0")  # noqa: S104
        for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
            except OSError:  # only root may go past net.core.[rw]mem_max
                sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)
        with suppress(OSError):  # a kernel before 5.0: one datagram at a time
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        sock.bind((bind, number))
        self._reports = beside(sock)
        if self._reports is not None:
            self._reports.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return int(sock.getsockname()[1])

    @property
    def steered(self) -> bool:
        """Whether RTCP comes on a socket of its own; otherwise it wakes us like everything else."""
        return self._reports is not None

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        if self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
        if self._reports is not None:
            self._reports.close()
            self._reports = None

    # -- in --

    def _readable(self) -> None:
        """Something came: read it. Where a client's packets follow one another closely, look for the next ones by a timer."""
        now = self._now()
        self._newest = None
        self._drain(now)
        if self._newest is not None and self._pace.woken(self._newest, now) and self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            self._next_look = loop.call_later(self._pace.look_s, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(self._pace.look_s, self._look)  # first, so that what we do now delays nothing
        self._newest = None
        if self._pace.looked(*self._drain(self._now())):
            return
        self._next_look.cancel()
        if self._socket.fileno() >= 0:
            loop.add_reader(self._socket.fileno(), self._readable)

    def _drain(self, now: float) -> tuple[int, int]:
        """Read what is there, about `DRAIN_MAX` datagrams; how often it followed something of the same client, and how often
        there was something."""
        receive = self._socket.recvmsg
        by_address = self._by_address
        newest = self._newest
        packets = octets = together = reads = 0
        while packets < DRAIN_MAX:
            try:
                data, ancillary, _flags, address = receive(BURST_BYTES_MAX, 64)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # an ICMP error of an earlier send (ECONNREFUSED): nothing was received
                self._dropped[f"receive {errno.errorcode.get(error.errno or 0, '?')}"] += 1
                packets += 1
                continue
            size = len(data)
            octets += size
            reads += 1
            segment = _segment(ancillary) if ancillary else 0
            if segment:  # datagrams of one client that came together
                packets += self._apart(data, segment, ancillary, address, now)
                newest = address
                continue
            packets += 1
            if size > DATAGRAM_BYTES_MAX:
                data = data[:DATAGRAM_BYTES_MAX]
            if size >= SHORTEST_MEDIA and 128 <= data[0] <= 191:
                endpoint = by_address.get(address)
                if endpoint is not None:
                    if address == newest:
                        together += 1
                    newest = address
                    endpoint.media_received(data, address, now)
                    continue
            self._other(data, ancillary, address, self, now)
        self._newest = newest
        self._counters["rx_packets"] += packets
        self._counters["rx_bytes"] += octets
        self._flush(now)
        if not self._hearing and now - self._heard_at_s >= HEAR_S:
            self.hear()
        return together, reads

    def _apart(self, data: bytes, segment: int, ancillary: Ancillary, address: Address, now: float) -> int:
        """Datagrams of `segment` octets (the last may be shorter) that came together; how many."""
        endpoint = self._by_address.get(address)
        for at in range(0, len(data), segment):
            each = data[at : at + segment]
            if endpoint is not None and len(each) >= SHORTEST_MEDIA and 128 <= each[0] <= 191:
                endpoint.media_received(each, address, now)
            else:
                self._other(each, ancillary, address, self, now)
                endpoint = self._by_address.get(address)
        return -(-len(data) // segment)

    def hear(self) -> None:
        """Read the RTCP that has come, which wakes nobody: after media, or when the owner calls, at least once per tick.

        A few packets at a time: forty subscribers that report at once must not hold up a picture.
        """
        self._hearing = False
        if self._reports is None:
            return
        packets = octets = 0
        now, wall_s = self._now(), self._wall() / 1e6
        self._heard_at_s = now
        for _ in range(REPORTS_AT_ONCE):
            try:
                data, ancillary, _flags, address = self._reports.recvmsg(DATAGRAM_BYTES_MAX, 64)
            except (BlockingIOError, InterruptedError):
                break
            packets += 1
            octets += len(data)
            endpoint = self._by_address.get(address) if len(data) >= SHORTEST_MEDIA else None
            if endpoint is not None:
                endpoint.media_received(data, address, now - _age_s(ancillary, wall_s))
            else:
                self._other(data, [], address, self, now)
        else:
            self._hearing = True
            asyncio.get_running_loop().call_soon(self.hear)
        self._counters["rx_packets"] += packets
        self._counters["rx_bytes"] += octets

    # -- out --

    def send(self, data: bytes | memoryview, destination: Destination) -> None:
        """Send one datagram; on a full socket it waits in a queue of `SEND_QUEUE_MAX`, then it is dropped."""
        if self.queue:
            self._enqueue(bytes(data), destination.ancillary, destination.address)
            return
        try:
            self._sendmsg((data,), destination.ancillary, 0, destination.address)
        except BlockingIOError:
            self._enqueue(bytes(data), destination.ancillary, destination.address)
        except OSError as error:  # unreachable, vanished interface: as good as lost on the way
            self._dropped[f"send {errno.errorcode.get(error.errno or 0, '?')}"] += 1

    def send_burst(self, data: memoryview, segment_bytes: int, count: int, destination: Destination) -> None:
        """Send `data`, `count` packets of `segment_bytes` (the last may be shorter), in one call where possible."""
        if count == 1:
            ancillary = destination.ancillary
        elif destination.whole_until_s or not self.gso:
            self._send_each(data, segment_bytes, destination)
            return
        else:
            if segment_bytes != destination.segment_bytes:
                destination.segment(segment_bytes)
            ancillary = destination.segmented
        if self.queue:
            self._enqueue(bytes(data), ancillary, destination.address)
            return
        try:
            self._sendmsg((data,), ancillary, 0, destination.address)
        except BlockingIOError:
            self._enqueue(bytes(data), ancillary, destination.address)
        except OSError as error:
            if count > 1 and error.errno == errno.EMSGSIZE:
                destination.whole_until_s = self._now() + MTU_RETRY_S
            elif count > 1 and error.errno in NO_GSO_ERRORS:
                self.gso = False
            else:
                self._dropped[f"send {errno.errorcode.get(error.errno or 0, '?')}"] += count
                return
            self._send_each(data, segment_bytes, destination)

    def idle(self) -> bool:
        return not self.queue

    def release(self) -> None:
        """A peer no longer uses this line: the socket serves all of them."""

    def _send_each(self, data: memoryview, segment_bytes: int, destination: Destination) -> None:
        if destination.whole_until_s and self._now() > destination.whole_until_s:
            destination.whole_until_s = 0.0
        for at in range(0, len(data), segment_bytes):
            self.send(data[at : at + segment_bytes], destination)

    def _enqueue(self, data: bytes, ancillary: Ancillary, address: Address) -> None:
        if len(self.queue) >= SEND_QUEUE_MAX:
            self._dropped["send queue full"] += 1
            return
        if not self.queue:
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)
        self.queue.append((data, ancillary, address))

    def _writable(self) -> None:
        while self.queue:
            data, ancillary, address = self.queue[0]
            try:
                self._socket.sendmsg((data,), ancillary, 0, address)
            except BlockingIOError:
                return
            except OSError as error:
                self._dropped[f"send {errno.errorcode.get(error.errno or 0, '?')}"] += 1
            self.queue.popleft()
        asyncio.get_running_loop().remove_writer(self._socket.fileno())


def _segment(ancillary: Ancillary) -> int:
    """How long each datagram is where the kernel hands over several; 0: it is one."""
    for level, kind, data in ancillary:
        if kind == UDP_GRO and level == SOL_UDP:
            size: int = RECEIVED_SEGMENT.unpack(data)[0]
            return size
    return 0


def _age_s(ancillary: Ancillary, wall_s: float) -> float:
    """How long a datagram has waited in its socket; 0 if the kernel doesn't say, or the clock was set meanwhile."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = TIMESPEC.unpack(data)
            age_s: float = wall_s - seconds - nanoseconds / 1e9
            return age_s if 0.0 <= age_s <= REPORT_AGE_MAX_S else 0.0
    return 0.0


def answering(ancillary: Ancillary) -> Ancillary:
    """The control message that makes an answer leave from the address a datagram was sent to; [] if it isn't known."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) >= PKTINFO.size:
            local = bytes(PKTINFO.unpack_from(data)[1])  # ipi_spec_dst
            return [(socket.IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO and len(data) >= PKTINFO6.size:
            local, interface = PKTINFO6.unpack_from(data)
            link = local[:1] == b"\xfe" and local[1] & 0xC0 == 0x80  # only link-local needs to name the interface
            return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, PKTINFO6.pack(local, interface if link else 0))]
    return []


def interface_addresses() -> list[str]:
    """Each address of this machine that others may reach: IPv4, then IPv6 without link-local; 127.0.0.1 last."""
    found: list[str] = []
    for _, name in socket.if_nameindex():
        address = _ipv4_of(name)
        if address and address not in found and not address.startswith("127."):
            found.append(address)
    return [*found, *_ipv6_addresses(), "127.0.0.1"]


def _ipv4_of(name: str) -> str:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock.fileno(), 0x8915, name.encode()[:15].ljust(256, b"\0"))  # SIOCGIFADDR
        except OSError:  # an interface without IPv4
            return ""
    return socket.inet_ntoa(answer[20:24])


def _ipv6_addresses() -> list[str]:
    """Global and unique local addresses that are neither tentative, deprecated nor failed (proc(5), if_inet6)."""
    unusable = 0x40 | 0x20 | 0x08
    try:
        with open("/proc/self/net/if_inet6") as table:
            rows = [line.split() for line in table]
    except OSError:  # a kernel without IPv6
        return []
    return [str(ip_address(bytes.fromhex(row[0]))) for row in rows if row[3] == "00" and not int(row[4], 16) & unusable]
