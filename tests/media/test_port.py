"""The UDP port and the peers behind it: who gets in, what a burst looks like outside, how long silence is borne."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aioice import stun as foreign

from command.base.clock import ManualClock
from media import stun
from media.datagrams import REPORTS_AT_ONCE, SEND_QUEUE_MAX, UDP_SEGMENT, Destination
from media.peer import ADDRESSES_MAX, CONSENT_S, FIRST_CHECK_S, Peer
from media.port import Port
from media.rtc import Certificate
from tests.services import ROOT

SEGMENT = 500


class Nobody:
    """An owner that expects nothing."""

    def connected(self, peer: Peer) -> None:
        raise AssertionError

    def rtp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        raise AssertionError

    def rtcp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        raise AssertionError

    def failed(self, peer: Peer, reason: str) -> None:
        raise AssertionError

    def drained(self, peer: Peer) -> None:
        raise AssertionError


@pytest.fixture
async def lines() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
async def port(lines: list[tuple[str, str, int]]) -> AsyncIterator[Port]:
    clock = ManualClock()
    made = Port(clock=clock, flush=lambda now_s: None, log=lambda *line: lines.append(line))
    made.start("127.0.0.1", 0)
    yield made
    made.close()


def peer_on(port: Port) -> Peer:
    peer = Peer(ident="1", room="r", member="m", role="publish", credentials=("ours", "p" * 32), now_s=0.0)
    peer.open(port, Nobody(), Certificate.generateCertificate())
    return peer


def client(port: Port) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    made.connect(("127.0.0.1", port.number))
    return made


def check(password: str = "p" * 32, username: str = "ours:theirs") -> bytes:
    message = foreign.Message(foreign.Method.BINDING, foreign.Class.REQUEST)
    message.attributes["USERNAME"] = username
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(password.encode())
    return bytes(message)


async def answer(sock: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 2000)


async def dropped(port: Port, reason: str, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while port.dropped[reason] < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("gso", [True, False])
async def test_a_burst_arrives_as_its_packets_with_and_without_gso(port: Port, gso: bool) -> None:
    line = port.datagrams[0]
    line.gso = gso
    sock = client(port)
    data = os.urandom(4 * SEGMENT + 100)
    line.send_burst(memoryview(data), SEGMENT, 5, Destination(line, sock.getsockname()))
    got = [await answer(sock) for _ in range(5)]
    assert b"".join(got) == data
    assert [len(item) for item in got] == [SEGMENT] * 4 + [100]


async def test_datagrams_that_came_together_are_read_one_by_one(port: Port) -> None:
    came: list[bytes] = []

    class Listener:
        """An open peer that keeps what it is given."""

        def media_received(self, data: bytes, address: object, now_s: float) -> None:
            came.append(data)

    sock = client(port)
    port.by_address[sock.getsockname()] = Listener()  # type: ignore[assignment]
    sent = [bytes((0x80, 96)) + os.urandom(SEGMENT - 2) for _ in range(5)] + [bytes((0x80, 96)) + os.urandom(100)]
    segment = (socket.SOL_UDP, UDP_SEGMENT, SEGMENT.to_bytes(2, sys.byteorder))
    sock.sendmsg([b"".join(sent)], [segment])
    sock.send(sent[-1])
    async with asyncio.timeout(5):
        while len(came) < len(sent) + 1:
            await asyncio.sleep(0)
    assert came == [*sent, sent[-1]]
    assert port.counters["rx_packets"] == len(came)


async def test_rtcp_comes_on_a_socket_of_its_own_and_is_read_along_with_media(port: Port) -> None:
    line = port.datagrams[0]
    if not line.steered:
        pytest.skip("this kernel doesn't steer")
    sock = client(port)
    for _ in range(3):
        sock.send(b"\x80\xc8" + bytes(30))
    await asyncio.sleep(0)
    assert port.dropped["stranger"] == 0, "it wakes nobody"
    sock.send(b"\x80\x60" + bytes(30))
    await dropped(port, "stranger", 4)
    sock.send(b"\x8f\xcd" + bytes(30))
    line.hear()
    assert port.dropped["stranger"] == 5


async def test_a_storm_of_rtcp_is_read_in_pieces_with_looks_for_media_in_between(port: Port) -> None:
    if not port.datagrams[0].steered:
        pytest.skip("this kernel doesn't steer")
    sock = client(port)
    for _ in range(3 * REPORTS_AT_ONCE):
        sock.send(b"\x80\xc8" + bytes(30))
    port.datagrams[0].hear()
    assert port.dropped["stranger"] == REPORTS_AT_ONCE
    await dropped(port, "stranger", 3 * REPORTS_AT_ONCE)


async def test_the_second_socket_lets_nobody_else_have_the_port(port: Port) -> None:
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with other, pytest.raises(OSError):
        other.bind(("127.0.0.1", port.number))


async def test_where_the_kernel_does_not_steer_everything_comes_on_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.steering.SO_ATTACH_REUSEPORT_CBPF", 9999)
    made = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    made.start("127.0.0.1", 0)
    sock = client(made)
    sock.send(b"\x80\xc8" + bytes(30))
    await dropped(made, "stranger")
    made.close()


async def test_only_an_authentic_check_opens_an_address(port: Port) -> None:
    peer = peer_on(port)
    sock = client(port)
    sock.send(check(password="q" * 32))
    await dropped(port, "stun wrong password")
    sock.send(check(username="nobody:x"))
    await dropped(port, "stun unknown user")
    sock.send(b"\x80" + bytes(40))
    sock.send(b"\x16" + bytes(40))
    await dropped(port, "stranger", 2)
    assert port.by_address == {}
    sock.send(check())
    assert foreign.parse_message(await answer(sock)).message_class is foreign.Class.RESPONSE
    assert port.by_address == {sock.getsockname(): peer}


async def test_a_check_that_asks_what_we_do_not_know_or_are_not_is_told_so_and_opens_nothing(port: Port) -> None:
    peer_on(port)
    sock = client(port)
    odd = stun.ATTRIBUTE.pack(0x7F01, 3) + b"odd\0" + stun.ATTRIBUTE.pack(0xC057, 4) + bytes(4)
    for attribute, code in ((odd, 420), (stun.ATTRIBUTE.pack(stun.ICE_CONTROLLED, 8) + bytes(8), 487)):
        body = stun.ATTRIBUTE.pack(stun.USERNAME, 11) + b"ours:theirs\0" + attribute
        sock.send(stun._finished(stun.REQUEST, b"t" * 12, body, b"p" * 32))
        raw = await answer(sock)
        said = foreign.parse_message(raw)
        assert said.check_message_integrity(b"p" * 32) and said.message_class is foreign.Class.ERROR
        assert said.attributes["ERROR-CODE"][0] == code
        assert (stun.ATTRIBUTE.pack(stun.UNKNOWN_ATTRIBUTES, 2) + b"\x7f\x01\0\0" in raw) == (code == 420)
    assert port.by_address == {}


async def test_a_stranger_is_one_line_per_second_in_the_log(port: Port, lines: list[tuple[str, str, int]]) -> None:
    sock = client(port)
    for _ in range(50):
        sock.send(b"")
        sock.send(b"\x01\x02")
    await dropped(port, "stun malformed", 50)
    assert port.dropped["empty"] == 50
    assert len(lines) == 1


async def test_a_peer_opens_no_more_addresses_than_the_limit(port: Port) -> None:
    peer_on(port)
    socks = [client(port) for _ in range(ADDRESSES_MAX + 5)]
    for sock in socks:
        sock.send(check())
        await answer(sock)
    assert len(port.by_address) == ADDRESSES_MAX


async def test_an_address_that_was_just_checked_is_not_taken_over(port: Port) -> None:
    peer = peer_on(port)
    other = Peer(ident="2", room="r", member="n", role="publish", credentials=("two", "p" * 32), now_s=0.0)
    other.open(port, Nobody(), Certificate.generateCertificate())
    sock = client(port)
    sock.send(check())
    await answer(sock)
    sock.send(check(username="two:x"))
    await dropped(port, "address taken")
    assert port.by_address[sock.getsockname()] is peer


async def test_a_peer_that_leaves_frees_its_addresses(port: Port) -> None:
    peer = peer_on(port)
    sock = client(port)
    sock.send(check())
    await answer(sock)
    await peer.close()
    assert port.by_address == {}
    assert port.by_ufrag == {}


async def test_silence_is_borne_for_thirty_seconds(port: Port) -> None:
    peer = peer_on(port)
    assert peer.lost(FIRST_CHECK_S) == ""
    assert peer.lost(FIRST_CHECK_S + 1) == "never connected"
    peer.checked(Destination(port.datagrams[0], ("127.0.0.1", 9)), peer.ice, nominated=True, now_s=100.0)
    assert peer.lost(100.0 + CONSENT_S) == ""
    assert peer.lost(101.0 + CONSENT_S) == "consent lost"


async def test_the_send_queue_has_an_end(port: Port) -> None:
    line = port.datagrams[0]
    for _ in range(SEND_QUEUE_MAX + 10):
        line._enqueue(b"x", [], ("127.0.0.1", 9))
    assert len(line.queue) == SEND_QUEUE_MAX
    assert port.dropped["send queue full"] == 10


def test_no_worker_outlives_a_killed_parent() -> None:
    script = (
        "import asyncio\nfrom media.remote import MediaWorker\n"
        "async def main():\n    w = MediaWorker(lambda e: None)\n    await w.start()\n    print(w.pid, flush=True)\n"
        "    await asyncio.Event().wait()\nasyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watch = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert select.select([watch], [], [], 10)[0], "the worker is still there"
    os.close(watch)
