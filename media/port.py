"""The worker's one port, on UDP and TCP over IPv4 and IPv6: tells packets apart, and knows who is behind which address.

Never looks inside media. Invariant: nothing reaches a peer's DTLS or SRTP but from an address that this peer opened with
an authenticated STUN check.

Sources: RFC 7983 (first byte), RFC 8445 §7.3, RFC 6544 (ICE-TCP).
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from command.base.clock import Clock
from media import stun
from media.datagrams import SHORTEST_MEDIA, Address, Ancillary, Datagrams, Destination, Line, answering
from media.quiet import Quiet
from media.streams import Stream, Streams

TAKEOVER_S = 6.0  # a peer checked within this time keeps its address, whoever else asks for it
PORT_TRIES = 20  # for a number that is free on UDP and TCP of both families
SWEEP_S = 1.0
ANY = "0.0.0.0"  # noqa: S104  # which addresses are told is up to the worker


class Endpoint(Protocol):
    """What the port knows of a peer."""

    checked_at_s: float

    def checked(self, destination: Destination, generation: Generation, *, nominated: bool, now_s: float) -> bool: ...

    def dtls_received(self, data: bytes) -> None: ...

    def media_received(self, data: bytes, address: Address, now_s: float) -> None: ...

    def drained(self) -> None: ...

    def gone(self, address: Address) -> None: ...


class Generation:
    """One pair of ICE credentials of a peer; a restart begins another (RFC 8445 §9). `number` counts from 1.

    `remote_ufrag` is "" until the client's description is known.
    """

    __slots__ = ("endpoint", "number", "password", "remote_ufrag", "ufrag")

    def __init__(self, endpoint: Endpoint, number: int, ufrag: str, password: str) -> None:
        self.endpoint = endpoint
        self.number = number
        self.ufrag = ufrag
        self.password = password.encode()
        self.remote_ufrag = ""

    def expects(self, username: str) -> bool:
        """True if the check is from the client we have met (or, before the answer, from anybody who knows our password)."""
        return not self.remote_ufrag or username == f"{self.ufrag}:{self.remote_ufrag}"


class Port:
    """The sockets and who is behind them. `start()` binds; the owner calls `sweep()` now and then, and `close()`."""

    def __init__(self, *, clock: Clock, flush: Callable[[float], None], log: Callable[[str, str, int], None]) -> None:
        self._now = self.now = clock.monotonic
        self._wall = clock.now
        self.by_ufrag: dict[str, Generation] = {}
        self.by_address: dict[Address, Endpoint] = {}
        self.counters: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.number = 0
        self.tcp = False
        self.datagrams: list[Datagrams] = []
        self._flush = flush
        self._log = log
        self._quiet = Quiet()
        self._swept_at_s = 0.0
        self.streams = self._streams()

    def start(self, bind: str, number: int) -> None:
        """Listen on `number` (0: any) of address `bind`; "0.0.0.0" means every address of both families.

        Raises OSError. A TCP side that is taken by somebody else leaves `tcp` False; so does a missing IPv6 its family.
        """
        for tries in range(PORT_TRIES):
            try:
                self._bind(bind, number)
                break
            except OSError as error:
                self._unbind()
                if error.errno != errno.EADDRINUSE or number or tries == PORT_TRIES - 1:
                    raise
        for each in self.datagrams:
            each.listen()
        self.streams.listen()

    def _bind(self, bind: str, number: int) -> None:
        """Both protocols of both families under one number."""
        binds = [(socket.AF_INET, bind), (socket.AF_INET6, "::")] if bind == ANY else [(_family(bind), bind)]
        chosen = number
        for family, address in binds:
            made = self._datagrams(family)
            if made is None:
                continue
            try:
                chosen = made.bind(address, chosen)
            except OSError as error:
                made.close()
                if family is socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL and bind == ANY:
                    continue  # IPv6 is switched off
                raise
            self.datagrams.append(made)
        self.number = chosen
        try:
            for each in self.datagrams:
                self.streams.bind(each.family, bind if bind != ANY or each.family is socket.AF_INET else "::", chosen)
            self.tcp = True
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not number:
                raise
            self.streams.close()
            self.streams = self._streams()
            self._log("tcp port taken", str(number), 0)

    def _datagrams(self, family: socket.AddressFamily) -> Datagrams | None:
        try:
            return Datagrams(
                family,
                by_address=self.by_address,
                other=self._other,
                flush=self._flush,
                now=self._now,
                wall=self._wall,
                counters=self.counters,
                dropped=self.dropped,
            )
        except OSError as error:
            if family is socket.AF_INET6 and error.errno == errno.EAFNOSUPPORT:
                return None
            raise

    def _streams(self) -> Streams:
        return Streams(
            by_address=self.by_address,
            other=self._other,
            flush=self._flush,
            now=self._now,
            counters=self.counters,
            dropped=self.dropped,
        )

    def _unbind(self) -> None:
        for each in self.datagrams:
            each.close()
        self.datagrams.clear()
        self.streams.close()
        self.streams = self._streams()

    @property
    def gso(self) -> bool:
        """Whether whole bursts leave in one call."""
        return all(each.gso for each in self.datagrams)

    def takes(self, address: str) -> bool:
        """Whether we listen on the family of an address."""
        return any(each.family is _family(address) for each in self.datagrams)

    def close(self) -> None:
        for each in self.datagrams:
            each.close()
        self.streams.close()

    def sweep(self, now_s: float) -> None:
        """Hear what was said about media while none came, and close TCP connections that lead nowhere; for every tick."""
        for each in self.datagrams:
            each.hear()
        if now_s - self._swept_at_s >= SWEEP_S:
            self._swept_at_s = now_s
            self.streams.sweep(now_s)

    # -- in: everything but media from an open address --

    def _other(self, data: bytes, ancillary: Ancillary, address: Address, line: Line, now: float) -> None:
        first = data[0] if data else 255
        if first <= 3:
            self._stun(data, ancillary, address, line, now)
        elif 20 <= first <= 63 and len(data) >= 13 and address in self.by_address:
            self.by_address[address].dtls_received(data)
        elif not data:
            self.drop("empty", address, now)
        elif 128 <= first <= 191 or 20 <= first <= 63:
            self.drop("stranger" if len(data) >= SHORTEST_MEDIA else "short", address, now)
        else:
            self.drop("unknown", address, now)

    def _stun(self, data: bytes, ancillary: Ancillary, address: Address, line: Line, now: float) -> None:
        request = stun.read(data)
        if request is None:
            if data[:2] == stun.INDICATION:  # RFC 8445 §11: keeps a NAT's binding, says nothing
                self.dropped["stun indication"] += 1
            else:
                self.drop("stun malformed", address, now)
            return
        generation = self.by_ufrag.get(request.username.partition(":")[0])
        if generation is None or not generation.expects(request.username):
            self.drop("stun unknown user", address, now)
            return
        if not stun.authentic(request, generation.password):
            self.drop("stun wrong password", address, now)
            return
        endpoint = generation.endpoint
        destination = Destination(line, address, answering(ancillary))
        if request.unknown:
            line.send(stun.not_understood(request, generation.password), destination)
            return
        if request.controlled:
            line.send(stun.role_conflict(request, generation.password), destination)
            return
        incumbent = self.by_address.get(address)
        if incumbent is not None and incumbent is not endpoint and now - incumbent.checked_at_s < TAKEOVER_S:
            self.drop("address taken", address, now)
            return
        if not endpoint.checked(destination, generation, nominated=request.nominated, now_s=now):
            self.drop("too many addresses", address, now)
            return
        if isinstance(line, Stream):
            line.proven = True
        self.by_address[address] = endpoint
        line.send(stun.success(request, generation.password, _mapped(address)), destination)

    def drop(self, reason: str, address: Address, now: float) -> None:
        """Count a packet that goes no further, and write at most one line per second and host about it."""
        self.dropped[reason] += 1
        host, number = _mapped(address)
        left_out = self._quiet.swallowed(host, now)
        if left_out is not None:
            self._log(reason, f"{host}:{number}", left_out)

    # -- out --

    def send(self, data: bytes | memoryview, destination: Destination) -> None:
        """Send one packet; never waits."""
        destination.line.send(data, destination)


def _mapped(address: Address) -> tuple[str, int]:
    """Host and port of an address key."""
    return (address[1], address[2]) if address[0] == "tcp" else (address[0], address[1])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
