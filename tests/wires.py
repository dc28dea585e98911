"""Bad radio for the tests: network namespaces of the test's own, joined by wires with a rate, a delay and seeded loss.

    with Space() as city, Space() as vehicle, Wire(city, vehicle, rate_bps=64_000, delay_s=0.4, loss=0.05, seed=1) as wire:
        with vehicle.inside():          # sockets and child processes made here live in the vehicle's namespace
            server.start()
        with city.inside():
            connection = socket.create_connection((wire.address_b, port))
        wire.change(loss=0.2)           # also rate_bps, delay_s; `wire.cut()` and `wire.heal()`
        wire.counts()                   # what each direction carried, lost and dropped
    Wire(..., trace=path)               # one JSON line for each packet: what it was and what became of it

No netem (kernels without it exist, ours among them): a wire is two TUN devices and a child process between them that holds
each packet back. One direction of a wire is, in this order: a tail-drop queue of `queue_packets`, a serialiser of
`rate_bps`, loss by a seeded generator, a delay of `delay_s`. A packet counts with its IP header and no link header.

Invariant: nothing outside the two namespaces is touched, nothing needs cleaning up: a namespace ends with its last file
descriptor, socket and process. Skips loudly, by the name NEEDED, where the privilege is missing. Measure a wire before you
trust a figure: `calibrate(wire)`.
"""

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.services import NOT_INSTALLED, die_with_parent

NEEDED = "network namespaces and /dev/net/tun (root)"
MTU = 1400
QUEUE_PACKETS = 50
FOREVER_BPS = 1e12
BURST = 64

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR = 0x8913, 0x8914, 0x8916
_SIOCSIFDSTADDR, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8918, 0x8922, 0x8943
_IFF_UP = 0x1
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(work: Callable[[], Any]) -> Any:
    """What `work` gives in a thread of its own: what it does to its namespaces dies with it."""
    found: list[Any] = []
    failed: list[OSError] = []

    def run() -> None:
        try:
            found.append(work())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _own_namespace() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _ioctl(number: int, name: str, value: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, number, struct.pack("16s", name.encode()) + value.ljust(24, b"\0"))


def _up(name: str) -> None:
    flags = struct.unpack_from("H", _ioctl(_SIOCGIFFLAGS, name, b""), 16)[0]
    _ioctl(_SIOCSIFFLAGS, name, struct.pack("H", flags | _IFF_UP))


def _address(text: str) -> bytes:
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(text))


class Space:
    """A network namespace with nothing in it but its own loopback."""

    def __init__(self) -> None:
        self.descriptor = -1

    def __enter__(self) -> Self:
        def make() -> int:
            _checked(_libc.unshare(_CLONE_NEWNET))
            _up("lo")
            return _own_namespace()

        try:
            self.descriptor = _in_thread(make)
        except PermissionError:
            pytest.skip(NOT_INSTALLED + NEEDED)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within, this *thread* is in the namespace: sockets it makes stay there, children it starts live there.

        The caller must not await inside (other tasks of the loop would be there as well) and must not leave work that
        makes sockets to other threads.
        """
        home = _own_namespace()
        try:
            _checked(_libc.setns(self.descriptor, _CLONE_NEWNET))
            try:
                yield
            finally:
                _checked(_libc.setns(home, _CLONE_NEWNET))
        finally:
            os.close(home)

    def tun(self, name: str, own: str, other: str) -> int:
        """A point-to-point TUN device in this namespace, up; its file descriptor, for packets without a header."""

        def make() -> int:
            _checked(_libc.setns(self.descriptor, _CLONE_NEWNET))
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
            _ioctl(_SIOCSIFADDR, name, _address(own))
            _ioctl(_SIOCSIFDSTADDR, name, _address(other))
            _ioctl(_SIOCSIFMTU, name, struct.pack("i", MTU))
            # The queue that counts is ours; the kernel's before it only has to hold what we haven't read yet.
            _ioctl(_SIOCSIFTXQLEN, name, struct.pack("i", 1000))
            _up(name)
            return device

        try:
            return int(_in_thread(make))
        except (FileNotFoundError, PermissionError):
            pytest.skip(NOT_INSTALLED + NEEDED)


@dataclass
class Quality:
    """How a wire is, in both directions. `loss` is a probability per packet, `rate_bps` bits a second."""

    rate_bps: float = FOREVER_BPS
    delay_s: float = 0.0
    loss: float = 0.0
    queue_packets: int = QUEUE_PACKETS


class Wire:
    """A wire between two namespaces: `address_a` in the first, `address_b` in the second. `number` tells several wires of
    one test apart (0-255)."""

    def __init__(
        self,
        a: Space,
        b: Space,
        *,
        rate_bps: float = FOREVER_BPS,
        delay_s: float = 0.0,
        loss: float = 0.0,
        queue_packets: int = QUEUE_PACKETS,
        seed: int = 0,
        number: int = 0,
        trace: Path | None = None,
    ) -> None:
        self.a, self.b = a, b
        self.address_a, self.address_b = f"10.99.{number}.1", f"10.99.{number}.2"
        self.quality = Quality(rate_bps, delay_s, loss, queue_packets)
        self._seed, self._name, self._trace = seed, f"wire{number}", trace
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        ends = [
            self.a.tun(self._name, self.address_a, self.address_b),
            self.b.tun(self._name, self.address_b, self.address_a),
        ]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.wires", *map(str, ends), str(self._seed), str(self._trace or "")],
                cwd=Path(__file__).parent.parent,
                pass_fds=ends,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
        finally:
            for end in ends:
                os.close(end)
        self.change()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def change(self, **changed: float) -> None:
        """Other `rate_bps`, `delay_s`, `loss` or `queue_packets` from now on; returns when they are in force."""
        for name, value in changed.items():
            assert hasattr(self.quality, name), name
            setattr(self.quality, name, value)
        self._ask(asdict(self.quality))

    def cut(self) -> None:
        """Lose every packet, those under way too, until `heal()`."""
        self._ask({**asdict(self.quality), "cut": True})

    def heal(self) -> None:
        self._ask(asdict(self.quality))

    def counts(self) -> dict[str, int]:
        """Since the start: `sent_ab`, `octets_ab`, `lost_ab` (on the air), `dropped_ab` (queue full), and the same `_ba`."""
        return self._ask(asdict(self.quality) | {"cut": None})

    def _ask(self, question: dict[str, Any]) -> dict[str, int]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


# -- the child process between the two devices


class _Direction:
    """Packets one way: `due` holds (instant, number, packet), `waiting` the instants at which queued packets will have
    been sent."""

    def __init__(self, source: int, target: int, seed: str, trace: "Trace | None") -> None:
        self.source, self.target, self._trace = source, target, trace
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._waiting: list[float] = []
        self.due: list[tuple[float, int, bytes]] = []
        self.sent = self.octets = self.lost = self.dropped = 0

    def take(self, packet: bytes, now: float, quality: Quality) -> None:
        while self._waiting and self._waiting[0] <= now:
            heapq.heappop(self._waiting)
        queued_s = max(0.0, self._free_at - now)
        if len(self._waiting) >= quality.queue_packets:
            self.dropped += 1
            self._note(now, "dropped", queued_s, packet)
            return
        self._free_at = max(now, self._free_at) + len(packet) * 8 / quality.rate_bps
        heapq.heappush(self._waiting, self._free_at)
        if self._random.random() < quality.loss:
            self.lost += 1
            self._note(now, "lost", queued_s, packet)
            return
        self._note(now, "sent", queued_s, packet)
        self.sent += 1
        self.octets += len(packet)
        heapq.heappush(self.due, (self._free_at + quality.delay_s, self.sent, packet))

    def _note(self, now: float, fate: str, queued_s: float, packet: bytes) -> None:
        if self._trace is not None:
            self._trace.note(now, self.source, fate, queued_s, packet)

    def deliver(self, now: float) -> None:
        while self.due and self.due[0][0] <= now:
            with contextlib.suppress(OSError):
                os.write(self.target, heapq.heappop(self.due)[2])

    def drain(self, now: float, quality: Quality, *, cut: bool) -> None:
        for _ in range(BURST):
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:  # the kernel's own IPv6 chatter would use up seeded numbers
                continue
            if cut:
                self.lost += 1
            else:
                self.take(packet, now, quality)


class Trace:
    """What became of each packet, a JSON line each: `at` (this machine's monotonic clock, seconds), `way`, `fate`, `queued_s`
    (what stood before it), `octets`, and of TCP `ports`, `seq`, `ack`, `data` (octets of payload)."""

    def __init__(self, path: Path, end_a: int) -> None:
        self._file, self._end_a = path.open("w", buffering=1), end_a

    def note(self, now: float, source: int, fate: str, queued_s: float, packet: bytes) -> None:
        line: dict[str, Any] = {
            "at": round(now, 4),
            "way": "ab" if source == self._end_a else "ba",
            "fate": fate,
            "queued_s": round(queued_s, 4),
            "octets": len(packet),
        }
        head = (packet[0] & 15) * 4
        if packet[9] == socket.IPPROTO_TCP and len(packet) >= head + 20:
            near, far, seq, ack, offset = struct.unpack_from("!HHIIB", packet, head)
            data = len(packet) - head - (offset >> 4) * 4
            line |= {"ports": [near, far], "seq": seq, "ack": ack, "data": data}
        self._file.write(json.dumps(line) + "\n")


def _pump(end_a: int, end_b: int, seed: str, trace: Trace | None) -> None:
    """Carry packets until standard input ends; each line of it is a `Quality` with a `cut`; each is answered."""
    there = _Direction(end_a, end_b, f"{seed}-ab", trace)
    back = _Direction(end_b, end_a, f"{seed}-ba", trace)
    directions = {end_a: there, end_b: back}
    quality, cut = Quality(), False
    poll = select.poll()
    for descriptor in (end_a, end_b, 0):
        poll.register(descriptor, select.POLLIN)
    while True:
        now = time.monotonic()
        first = min((one.due[0][0] for one in directions.values() if one.due), default=now + 1.0)
        ready = [descriptor for descriptor, _ in poll.poll(max(0.0, (first - now) * 1000))]
        now = time.monotonic()
        for one in directions.values():
            one.deliver(now)
        for descriptor in ready:
            if descriptor in directions:
                directions[descriptor].drain(now, quality, cut=cut)
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            asked = json.loads(line)
            told = asked.pop("cut", False)
            cut = cut if told is None else told
            quality = Quality(**asked)
            if cut:
                there.due.clear()
                back.due.clear()
            names = {"ab": there, "ba": back}
            counted = {
                f"{w}_{d}": getattr(o, w) for d, o in names.items() for w in ("sent", "octets", "lost", "dropped")
            }
            print(json.dumps(counted), flush=True)


# -- calibration


@dataclass(frozen=True)
class Measured:
    """What a wire was found to do: medians of round trips, goodput of UDP one way, and the share that never came."""

    rtt_s: float
    rate_bps: float
    loss: float


def calibrate(wire: Wire, *, pings: int = 5, packets: int = 40, octets: int = 1000) -> Measured:
    """Measure a wire by UDP from a to b: `pings` small round trips one by one, then a train of `packets`.

    The train is paced at the wire's own rate, so that the queue never drops; rate is from the first arrival to the last.
    """
    with wire.a.inside():
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with wire.b.inside():
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with near, far:
        near.bind((wire.address_a, 0))
        far.bind((wire.address_b, 0))
        patience = 4 * wire.quality.delay_s + 1.0
        near.settimeout(patience)
        far.settimeout(patience)
        trips = [trip for _ in range(pings) if (trip := _round_trip(near, far)) is not None]
        arrived = _train(near, far, packets, octets, wire.quality.rate_bps)
    span = arrived[-1] - arrived[0] if len(arrived) > 1 else 0.0
    bits = (octets + 28) * 8 * (packets - 1)  # those lost were sent too: they took their time on the wire
    return Measured(
        rtt_s=statistics.median(trips) if trips else float("inf"),
        rate_bps=bits / span if span else 0.0,
        loss=1 - len(arrived) / packets,
    )


def _round_trip(near: socket.socket, far: socket.socket) -> float | None:
    started = time.monotonic()
    near.sendto(b"ping", far.getsockname())
    try:
        _, address = far.recvfrom(100)
        far.sendto(b"pong", address)
        near.recv(100)
    except TimeoutError:
        return None
    return time.monotonic() - started


def _train(near: socket.socket, far: socket.socket, packets: int, octets: int, rate_bps: float) -> list[float]:
    """When each packet of the train arrived. Sent by a thread, a little faster than the wire carries it."""
    gap_s = (octets + 28) * 8 / rate_bps * 0.9

    def send() -> None:
        for number in range(packets):
            near.sendto(struct.pack("!I", number).ljust(octets, b"x"), far.getsockname())
            time.sleep(gap_s)

    sender = threading.Thread(target=send)
    sender.start()
    arrived: list[float] = []
    last = -1
    while last < packets - 1:
        try:
            last = struct.unpack_from("!I", far.recv(65536))[0]
        except TimeoutError:
            if sender.is_alive():
                continue
            break
        arrived.append(time.monotonic())
    sender.join()
    return arrived


if __name__ == "__main__":
    _pump(
        int(sys.argv[1]),
        int(sys.argv[2]),
        sys.argv[3],
        Trace(Path(sys.argv[4]), int(sys.argv[1])) if sys.argv[4] else None,
    )
