"""One peer connection: ICE-lite credentials and addresses, DTLS, SRTP. What the packets mean is its owner's business.

Never parses RTP. Invariant: once DTLS is up, media moves only to an address that passed a check and then sent a packet that
unprotects; anything that arrives is handed on only after it unprotected; nothing is sent to an address without consent.

Sources: RFC 8445 §2.5, §7.3 (lite, controlled) and §9 (restart), RFC 7675 (consent), RFC 5763 (DTLS-SRTP), RFC 3711.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from media.datagrams import Address, Destination
from media.port import Generation, Port
from media.rtc import Certificate, Dtls
from media.sdp import Description, Local
from media.srtp import Protector, Refused, Unprotector

ADDRESSES_MAX = 8
CONSENT_S = 29.5  # RFC 7675 §5.1 says 30; a tick later its tracks are gone
FIRST_CHECK_S = 30.0
PACKETS_PER_S_MAX = 4_000  # of one client, media and feedback: 35 Mbit/s of full packets
PACKETS_BURST_MAX = 4_000
SILENT_S = 2.0  # an address that sent nothing for so long gives way to one that was checked but not nominated

Spawn = Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
Fingerprints = tuple[tuple[str, str], ...]


class Owner(Protocol):
    """Who is told what happens on a peer."""

    def connected(self, peer: Peer) -> None: ...

    def rtp(self, peer: Peer, plain: bytes, now_s: float) -> None: ...

    def rtcp(self, peer: Peer, plain: bytes, now_s: float) -> None: ...

    def failed(self, peer: Peer, reason: str) -> None: ...

    def drained(self, peer: Peer) -> None: ...


class Peer:
    """A connection with one client. `role`: publish, subscribe or view; `protector` is None until DTLS is up."""

    def __init__(
        self, *, ident: str, room: str, member: str, role: str, credentials: tuple[str, str], now_s: float
    ) -> None:
        self.ident = ident
        self.room = room
        self.member = member
        self.role = role
        self.ice = Generation(self, 1, *credentials)
        self.fingerprints: Fingerprints = ()
        self.session = ""
        self.protector: Protector | None = None
        self.profile = ""
        self.destination: Destination | None = None
        self.closed = False
        self.checked_at_s = now_s
        self._opened_at_s = now_s
        self._heard_at_s = now_s  # when the destination's address last sent something authentic
        self._reached = False
        self._allowance = PACKETS_BURST_MAX
        self._allowed_at_s = now_s
        self._former: Generation | None = None
        self._unprotector: Unprotector | None = None
        self._addresses: dict[Address, Destination] = {}
        self._nominated: set[Address] = set()
        self._dtls: Dtls | None = None
        self._task: asyncio.Task[None] | None = None
        self._usable = asyncio.Event()

    def open(self, port: Port, owner: Owner, certificate: Certificate) -> None:
        """Listen on `port` under our ufrag."""
        self._port = port
        self._owner = owner
        self._dtls = Dtls(certificate, self._send_dtls)
        port.by_ufrag[self.ice.ufrag] = self.ice

    def local(self, certificate: Certificate, addresses: tuple[str, ...], setup: str) -> Local:
        """Our side for the SDP."""
        port = self._port
        password = self.ice.password.decode()
        return Local(self.ice.ufrag, password, certificate.sha256, addresses, port.number, setup, tcp=port.tcp)

    def meet(self, remote: Description, *, client: bool, spawn: Spawn) -> None:
        """The other side's description is known: accept its checks only, and shake hands as soon as it is reachable."""
        self.ice.remote_ufrag = remote.ufrag
        if self.fingerprints:
            return
        self.fingerprints = remote.fingerprints
        self.session = remote.session
        self._task = spawn(f"dtls {self.ident}", self._run(client))

    def resembles(self, remote: Description) -> bool:
        """True if `remote` is a new description of the same connection: renegotiation, or an ICE restart (another ufrag).

        A new connection may come with the former one's certificate, so an ICE restart must also name the same session.
        """
        same = remote.ufrag == self.ice.remote_ufrag or remote.session == self.session
        return same and remote.fingerprints == self.fingerprints

    def restart(self, credentials: tuple[str, str]) -> None:
        """Begin an ICE generation (RFC 8445 §9): DTLS and SRTP stay, media goes on as before until it has moved over.

        The former credentials hold until then; those of an unfinished restart before are dropped.
        """
        if self._former is None:
            self._former = self.ice
        else:
            self._port.by_ufrag.pop(self.ice.ufrag, None)
        self.ice = Generation(self, self.ice.number + 1, *credentials)
        self._port.by_ufrag[self.ice.ufrag] = self.ice

    async def _run(self, client: bool) -> None:
        await self._usable.wait()
        dtls = self._dtls
        if dtls is None:
            return
        sessions = await dtls.handshake(self.fingerprints, client=client)
        if self.closed:
            return
        if sessions is None:
            self._owner.failed(self, "dtls failed")
            return
        self._unprotector, self.protector, self.profile = sessions
        self._owner.connected(self)
        await dtls.ended()
        if not self.closed:
            self._owner.failed(self, "dtls closed")

    # -- what the port calls --

    def checked(self, destination: Destination, generation: Generation, *, nominated: bool, now_s: float) -> bool:
        """An authenticated check came from there; False if this peer has too many addresses already."""
        address = destination.address
        known = self._addresses.get(address)
        if known is None:
            if len(self._addresses) >= ADDRESSES_MAX and not self._forget_an_address():
                return False
            self._addresses[address] = known = destination
        elif known.ancillary != destination.ancillary:
            known.asked_at(destination.ancillary)
        known.generation = max(known.generation, generation.number)
        known.checked_at_s = self.checked_at_s = now_s
        self._reached = True
        if nominated:
            self._nominated.add(address)
            if self.protector is None:
                self.destination = known
        if self.destination is None and self.protector is None:
            self.destination = known
        if self.destination is known:
            self._heard_at_s = now_s
            if nominated and generation is self.ice:
                self._end_former()
        self._usable.set()
        return True

    def gone(self, address: Address) -> None:
        """The TCP connection behind an address has ended."""
        destination = self._addresses.pop(address, None)
        self._nominated.discard(address)
        if destination is not None and destination is self.destination:
            self.destination = None
            if self.protector is None:  # in the handshake: another way that was opened will do
                self.destination = next(iter(self._addresses.values()), None)

    def drained(self) -> None:
        """The line was too slow for the video and has caught up."""
        if not self.closed:
            self._owner.drained(self)

    def _forget_an_address(self) -> bool:
        for destination in self._addresses.values():
            if destination is not self.destination:
                self._forget(destination)
                return True
        return False

    def _forget(self, destination: Destination) -> None:
        address = destination.address
        self._addresses.pop(address, None)
        self._nominated.discard(address)
        if destination is self.destination:
            self.destination = None
        if self._port.by_address.get(address) is self:
            del self._port.by_address[address]
            destination.line.release()

    def dtls_received(self, data: bytes) -> None:
        if self._dtls is not None and not self._dtls.feed(data):
            self._port.dropped["dtls queue full"] += 1

    def media_received(self, data: bytes, address: Address, now_s: float) -> None:
        unprotector = self._unprotector
        if unprotector is None:
            self._port.dropped["before dtls"] += 1
            return
        self._allowance -= 1
        if self._allowance < 0 and not self._allowed(now_s):
            self._port.dropped["flood"] += 1
            return
        rtcp = 192 <= data[1] <= 223  # RFC 5761 §4
        try:
            plain = unprotector.rtcp(data) if rtcp else unprotector.rtp(data)
        except Refused:
            self._port.drop("not authentic", address, now_s)
            return
        destination = self.destination
        if destination is not None and destination.address == address:
            self._heard_at_s = now_s
        else:
            self._move(address, now_s)
        if rtcp:
            self._owner.rtcp(self, plain, now_s)
        else:
            self._owner.rtp(self, plain, now_s)

    def _allowed(self, now_s: float) -> bool:
        """Whether this client may go on: on average `PACKETS_PER_S_MAX`, so that a flood costs the others nothing."""
        earned = int((now_s - self._allowed_at_s) * PACKETS_PER_S_MAX)
        if earned <= 0:
            return False
        self._allowance = min(earned, PACKETS_BURST_MAX) - 1
        self._allowed_at_s = now_s
        return True

    def _move(self, address: Address, now_s: float) -> None:
        """Something authentic came from another address than the one we send to: send there, if that is the client's will.

        It is when the client nominated that address, or when the former one has fallen silent: a client that nominates
        once (RFC 8445 §8.1.1) doesn't notice that a NAT has given it another address.
        """
        target = self._addresses.get(address)
        if target is None:
            return
        if address not in self._nominated and self.destination is not None and now_s - self._heard_at_s < SILENT_S:
            return
        self.destination = target
        self._heard_at_s = now_s
        if target.generation == self.ice.number:
            self._end_former()

    def _end_former(self) -> None:
        """A restart, if there was one, is complete: the former credentials and what only they opened are void."""
        former, self._former = self._former, None
        if former is None:
            return
        if self._port.by_ufrag.get(former.ufrag) is former:
            del self._port.by_ufrag[former.ufrag]
        for destination in list(self._addresses.values()):
            if destination.generation < self.ice.number:
                self._forget(destination)

    # -- out --

    def now(self) -> float:
        """The time of sending (monotonic); RTCP is judged by when it came, which is a little earlier."""
        return self._port.now()

    def send_rtcp(self, plain: bytes) -> None:
        """Protect and send a compound; dropped silently before DTLS is up."""
        if self.protector is None or self.destination is None:
            return
        try:
            self._port.send(self.protector.rtcp(plain), self.destination)
        except Refused:
            self._port.dropped["rtcp refused"] += 1

    def send_rtp(self, plain: bytes) -> bool:
        """Protect and send one packet outside of the bursts (repair); False if it was refused."""
        if self.protector is None or self.destination is None:
            return False
        try:
            data = self.protector.rtp(plain)
        except Refused:
            self._port.dropped["rtp refused"] += 1
            return False
        self._port.counters["tx_packets"] += 1
        self._port.counters["tx_bytes"] += len(data)
        self._port.send(data, self.destination)
        return True

    def _send_dtls(self, data: bytes) -> None:
        if self.destination is not None:
            self._port.send(data, self.destination)

    # -- end --

    def lost(self, now_s: float) -> str:
        """Why this peer should be given up now, or ''. Addresses without consent are forgotten (RFC 7675 §5.1).

        From the address we send to, authentic media is consent too: libnice stops checking once it has nominated.
        """
        if not self._reached:
            return "never connected" if now_s - self._opened_at_s > FIRST_CHECK_S else ""
        if self.destination is not None:
            self.destination.checked_at_s = max(self.destination.checked_at_s, self._heard_at_s)
        for destination in list(self._addresses.values()):
            if now_s - destination.checked_at_s > CONSENT_S:
                self._forget(destination)
        if self.destination is not None:
            return ""
        return "consent lost" if now_s - self.checked_at_s > CONSENT_S else ""

    async def close(self) -> None:
        """Leave the port and say goodbye. Idempotent."""
        if self.closed:
            return
        self.closed = True
        for generation in (self.ice, self._former):
            if generation is not None and self._port.by_ufrag.get(generation.ufrag) is generation:
                del self._port.by_ufrag[generation.ufrag]
        self.protector = self._unprotector = None
        dtls, self._dtls = self._dtls, None
        if dtls is not None:
            await dtls.close()
        for destination in list(self._addresses.values()):
            self._forget(destination)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
