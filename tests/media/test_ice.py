"""Where a peer's packets go: consent, addresses that change in mid-call, and ICE restarts."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest
from aioice import stun as foreign
from pylibsrtp import Policy

from command.base.clock import ManualClock
from media import sdp
from media.peer import CONSENT_S, PACKETS_BURST_MAX, PACKETS_PER_S_MAX, SILENT_S, Peer
from media.port import Port
from media.rtc import Certificate
from media.rtp import HEADER
from media.srtp import Protector, Unprotector
from tests.media.test_port import Nobody, answer, client

PROFILE = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
NEW = ("fresh", "q" * 32)


class Heard(Nobody):
    """Keeps what came through."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def rtp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        self.packets.append(plain)


class Call:
    """A connected peer, its client's key, and what the client does from any of its sockets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.port = Port(clock=self.clock, flush=lambda now_s: None, log=lambda *line: None)
        self.port.start("127.0.0.1", 0)
        self.owner = Heard()
        credentials = ("ours", "p" * 32)
        self.peer = Peer(
            ident="1", room="r", member="m", role="publish", credentials=credentials, now_s=self.clock.monotonic()
        )
        self.peer.open(self.port, self.owner, Certificate.generateCertificate())
        self.peer.ice.remote_ufrag = "theirs"
        key = os.urandom(28)
        self.peer.protector, self.peer._unprotector = Protector(os.urandom(28), PROFILE), Unprotector(key, PROFILE)
        self._protector = Protector(key, PROFILE)
        self._sequence = 0

    def client(self) -> socket.socket:
        return client(self.port)

    async def check(
        self, sock: socket.socket, *, nominated: bool = False, user: str = "ours:theirs", p: str = "p"
    ) -> bytes:
        message = foreign.Message(foreign.Method.BINDING, foreign.Class.REQUEST)
        message.attributes["USERNAME"] = user
        if nominated:
            message.attributes["USE-CANDIDATE"] = None
        message.add_message_integrity(p.encode() * 32)
        sock.send(bytes(message))
        return await answer(sock)

    async def media(self, sock: socket.socket, *, forged: bool = False) -> None:
        """One packet, and wait until it was taken or dropped."""
        self._sequence += 1
        data = self._protector.rtp(HEADER.pack(0x80, 96, self._sequence, 1, 2) + b"x" * 50)
        before = (len(self.owner.packets), self.port.dropped.total())
        sock.send(data[:-1] + b"?" if forged else data)
        async with asyncio.timeout(5):
            while (len(self.owner.packets), self.port.dropped.total()) == before:
                await asyncio.sleep(0)

    @property
    def goes_to(self) -> object:
        return self.peer.destination and self.peer.destination.address


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    made = Call()
    yield made
    await made.peer.close()
    made.port.close()


async def test_media_moves_after_a_nominated_check_and_an_authentic_packet_and_not_before(call: Call) -> None:
    home, away = call.client(), call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    assert call.goes_to == home.getsockname()
    await call.check(away, nominated=True)
    assert call.goes_to == home.getsockname()
    await call.media(away, forged=True)
    assert call.goes_to == home.getsockname()
    await call.media(away)
    assert call.goes_to == away.getsockname()


async def test_without_nomination_media_moves_only_when_the_former_address_is_silent(call: Call) -> None:
    home, away = call.client(), call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    await call.check(away)
    await call.media(away)
    assert call.goes_to == home.getsockname()
    call.clock.advance(SILENT_S)
    await call.media(away)
    assert call.goes_to == away.getsockname()


async def test_an_address_that_was_never_checked_gets_nothing_and_says_nothing(call: Call) -> None:
    home, stranger = call.client(), call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    await call.media(stranger)
    assert call.port.dropped["stranger"] == 1
    assert call.goes_to == home.getsockname()


async def test_an_address_without_consent_gets_nothing_more_though_another_is_alive(call: Call) -> None:
    home, away = call.client(), call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    call.clock.advance(CONSENT_S - 1)
    await call.check(away)
    call.clock.advance(2)
    assert call.peer.lost(call.clock.monotonic()) == ""
    assert call.goes_to is None
    assert list(call.port.by_address) == [away.getsockname()]
    await call.media(away)
    assert call.goes_to == away.getsockname()
    call.clock.advance(CONSENT_S + 1)
    assert call.peer.lost(call.clock.monotonic()) == "consent lost"
    assert call.port.by_address == {}


async def test_a_client_that_never_checks_again_is_kept_by_its_media_and_by_nothing_else(call: Call) -> None:
    home = call.client()
    await call.check(home, nominated=True)
    for _ in range(3):
        call.clock.advance(CONSENT_S - 1)
        home.send(b"\x00\x11\x00\x00" + bytes(16))  # what libnice sends in place of checks
        await call.media(home)
        assert call.peer.lost(call.clock.monotonic()) == ""
        assert call.goes_to == home.getsockname()
    call.clock.advance(CONSENT_S + 1)
    home.send(b"\x00\x11\x00\x00" + bytes(16))
    await call.media(home, forged=True)
    assert call.peer.lost(call.clock.monotonic()) == "consent lost"
    assert call.goes_to is None


async def test_a_client_that_floods_us_is_held_to_its_rate_and_goes_on_below_it(call: Call) -> None:
    home = call.client()
    await call.check(home, nominated=True)
    now_s = call.clock.monotonic()

    def flood(packets: int) -> int:
        before = len(call.owner.packets)
        for _ in range(packets):
            call._sequence += 1
            data = call._protector.rtp(HEADER.pack(0x80, 96, call._sequence & 0xFFFF, 1, 2) + b"x")
            call.peer.media_received(data, home.getsockname(), now_s)
        return len(call.owner.packets) - before

    assert flood(PACKETS_BURST_MAX + 500) == PACKETS_BURST_MAX
    assert call.port.dropped["flood"] == 500
    for _ in range(10):  # twenty times a lively camera's rate, a tenth of a second at a time
        now_s += 0.1
        assert flood(1000) == pytest.approx(PACKETS_PER_S_MAX / 10, abs=1)
    now_s += 1.0
    assert flood(PACKETS_PER_S_MAX // 2) == PACKETS_PER_S_MAX // 2


async def test_a_packet_that_is_sent_again_is_dropped_and_moves_nothing(call: Call) -> None:
    home, away = call.client(), call.client()
    await call.check(home, nominated=True)
    data = call._protector.rtp(HEADER.pack(0x80, 96, 900, 1, 2) + b"x" * 50)
    home.send(data)
    await call.media(home)
    await call.check(away, nominated=True)
    away.send(data)
    home.send(data)
    async with asyncio.timeout(5):
        while call.port.dropped["not authentic"] < 2:
            await asyncio.sleep(0)
    assert len(call.owner.packets) == 2
    assert call.goes_to == home.getsockname()


async def test_a_restart_keeps_the_session_and_voids_the_former_credentials_once_media_has_moved(call: Call) -> None:
    home, away = call.client(), call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    call.peer.restart(NEW)
    call.peer.ice.remote_ufrag = "renewed"
    await call.check(home)  # the former credentials are in force until the restart is complete
    await call.check(away, nominated=True, user="fresh:renewed", p="q")
    assert call.goes_to == home.getsockname()
    await call.media(away)
    assert call.goes_to == away.getsockname()
    assert list(call.port.by_ufrag) == ["fresh"]
    assert list(call.port.by_address) == [away.getsockname()]
    await call.media(home)
    assert call.port.dropped["stranger"] == 1


async def test_a_restart_on_the_same_address_is_complete_with_its_nominated_check(call: Call) -> None:
    home = call.client()
    await call.check(home, nominated=True)
    await call.media(home)
    call.peer.restart(NEW)
    call.peer.restart(("again", "r" * 32))
    assert set(call.port.by_ufrag) == {"ours", "again"}
    await call.check(home, nominated=True, user="again:any", p="r")
    assert list(call.port.by_ufrag) == ["again"]
    assert list(call.port.by_address) == [home.getsockname()]
    assert call.goes_to == home.getsockname()


def test_what_resembles_a_session_is_renegotiation_or_restart_and_nothing_else() -> None:
    peer = Peer(ident="1", room="r", member="m", role="publish", credentials=("ours", "p" * 32), now_s=0.0)
    peer.fingerprints, peer.session = (("sha-256", "AB"),), "- 1"
    peer.ice.remote_ufrag = "theirs"
    same = sdp.Description("theirs", "p" * 24, "actpass", peer.fingerprints, (), "- 1")
    assert peer.resembles(same)
    assert peer.resembles(same._replace(ufrag="other"))  # an ICE restart
    assert peer.resembles(same._replace(session="- 2"))  # some clients make a new one for each offer
    assert not peer.resembles(same._replace(ufrag="other", session="- 2"))  # another connection, same certificate
    assert not peer.resembles(same._replace(fingerprints=(("sha-256", "CD"),)))


def test_candidates_name_udp_before_tcp_and_both_families() -> None:
    local = sdp.Local("u", "p", "AB", ("192.0.2.1", "2001:db8::1"), 4000, "passive", tcp=True)
    lines = sdp.candidate_lines(local)
    assert [line.split()[2:5:2] for line in lines[:-1]] == [
        ["udp", "192.0.2.1"],
        ["udp", "2001:db8::1"],
        ["tcp", "192.0.2.1"],
        ["tcp", "2001:db8::1"],
    ]
    priorities = [int(line.split()[3]) for line in lines[:-1]]
    assert priorities == sorted(priorities, reverse=True) and len(set(priorities)) == 4
    assert len({line.split()[0] for line in lines[:-1]}) == 4  # each its own foundation
    assert lines[2].endswith("typ host tcptype passive")
    assert all(priority < 2**31 for priority in priorities)
