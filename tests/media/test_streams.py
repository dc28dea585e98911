"""The media port on TCP: framing, who may stay, and what a client that doesn't read costs."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest
from aioice import stun as foreign

from command.base.clock import ManualClock
from media.datagrams import DATAGRAM_BYTES_MAX, Destination
from media.peer import Peer
from media.port import ANY, Port
from media.rtc import Certificate
from media.streams import CONTROL_BYTES_MAX, UNPROVEN_MAX, UNPROVEN_PER_HOST_MAX, UNPROVEN_S, VIDEO_BYTES_MAX, Stream
from tests.media.test_port import Nobody, check, dropped

PACKET = 1200


class Owner(Nobody):
    """Counts how often a slow line has caught up."""

    def __init__(self) -> None:
        self.caught_up = asyncio.Event()

    def drained(self, peer: Peer) -> None:
        self.caught_up.set()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    made.start("127.0.0.1", 0)
    yield made
    made.close()


def peer_on(port: Port, owner: Nobody | None = None) -> Peer:
    peer = Peer(ident="1", room="r", member="m", role="subscribe", credentials=("ours", "p" * 32), now_s=0.0)
    peer.open(port, owner or Nobody(), Certificate.generateCertificate())
    return peer


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


async def connect(port: Port, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port.number, local_addr=(host, 0), limit=1 << 22)


async def packet(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def checked(port: Port) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Stream]:
    """A connection whose check was answered."""
    reader, writer = await connect(port)
    writer.write(framed(check()))
    assert foreign.parse_message(await packet(reader)).message_class is foreign.Class.RESPONSE
    return reader, writer, port.streams.connections[("tcp", *writer.get_extra_info("sockname"))]


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(5):
        assert await reader.read() == b""


async def test_udp_and_tcp_have_one_number_in_both_families() -> None:
    port = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda *line: None)
    port.start(ANY, 0)
    loop = asyncio.get_running_loop()
    try:
        assert port.tcp
        for host in ("127.0.0.1", "::1") if port.takes("::1") else ("127.0.0.1",):
            reader, writer = await asyncio.open_connection(host, port.number)
            peer = peer_on(port)
            writer.write(framed(check()))
            answer = foreign.parse_message(await packet(reader))
            assert answer.attributes["XOR-MAPPED-ADDRESS"][:2] == writer.get_extra_info("sockname")[:2]
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.connect((host, port.number))  # an answer from another address than the one asked would not arrive
                udp.setblocking(False)
                udp.send(check())
                answer = foreign.parse_message(await asyncio.wait_for(loop.sock_recv(udp, 2000), 5))
                assert answer.attributes["XOR-MAPPED-ADDRESS"][:2] == udp.getsockname()[:2]
            await peer.close()
            await ended(reader)
            writer.close()
    finally:
        port.close()


async def test_a_tcp_port_that_somebody_has_leaves_us_on_udp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        lines: list[str] = []
        port = Port(clock=ManualClock(), flush=lambda now_s: None, log=lambda reason, *rest: lines.append(reason))
        port.start("127.0.0.1", other.getsockname()[1])
        assert (port.tcp, len(port.datagrams), lines) == (False, 1, ["tcp port taken"])
        port.close()


async def test_packets_are_found_wherever_the_stream_is_cut(port: Port) -> None:
    peer_on(port)
    reader, writer = await connect(port)
    rng = random.Random(4)
    data = framed(check()) * 20
    while data:
        size = rng.randint(1, 300)
        writer.write(data[:size])
        await writer.drain()
        data = data[size:]
    for _ in range(20):
        assert foreign.parse_message(await packet(reader)).message_class is foreign.Class.RESPONSE
    writer.close()


async def test_a_length_that_no_packet_has_ends_the_connection(port: Port) -> None:
    reader, writer = await connect(port)
    writer.write((DATAGRAM_BYTES_MAX + 1).to_bytes(2, "big"))
    await ended(reader)
    assert port.dropped["stream framing"] == 1
    writer.close()


async def test_strangers_are_not_heard_and_must_prove_themselves_in_time(port: Port) -> None:
    reader, writer = await connect(port)
    writer.write(framed(b"\x80" + bytes(40)) + framed(b"\x16" + bytes(40)) + framed(b"") + framed(check()))
    await dropped(port, "stranger", 2)
    await dropped(port, "stun unknown user")
    assert port.dropped["empty"] == 1
    now_s = ManualClock().monotonic()
    port.sweep(now_s + UNPROVEN_S)
    assert len(port.streams.connections) == 1
    port.sweep(now_s + 2 * UNPROVEN_S)
    await ended(reader)
    writer.close()


async def test_unproven_connections_have_limits_and_the_oldest_gives_way(port: Port) -> None:
    peer_on(port)
    _, kept, stream = await checked(port)
    writers = [kept]
    for host in range(2, 2 + UNPROVEN_MAX // UNPROVEN_PER_HOST_MAX + 1):
        for _ in range(UNPROVEN_PER_HOST_MAX + 2):
            writers.append((await connect(port, f"127.0.0.{host}"))[1])
    await dropped(port, "stream refused", 2 * (UNPROVEN_MAX // UNPROVEN_PER_HOST_MAX + 1))
    assert len(port.streams.connections) == UNPROVEN_MAX + 1
    assert not stream.closed  # whoever has proven itself stays
    for writer in writers:
        writer.close()


async def test_a_client_that_does_not_read_loses_video_until_a_key_frame_and_is_never_waited_for(port: Port) -> None:
    owner = Owner()
    peer = peer_on(port, owner)
    reader, writer, stream = await checked(port)
    writer.transport.pause_reading()
    destination = Destination(stream, stream.address)
    burst = memoryview(bytes(5 * PACKET))
    sent = 0
    while not destination.choked:
        stream.send_burst(burst, PACKET, 5, destination)
        sent += 1
        assert sent < 10_000
    assert stream.waiting_bytes() <= VIDEO_BYTES_MAX
    for _ in range(CONTROL_BYTES_MAX // PACKET):
        stream.send(bytes(PACKET), destination)  # voices and feedback have a little more room
    assert VIDEO_BYTES_MAX < stream.waiting_bytes() <= CONTROL_BYTES_MAX
    assert not destination.resumes(key=True)
    writer.transport.resume_reading()
    async with asyncio.timeout(20):
        await owner.caught_up.wait()
    assert stream.idle()
    assert not destination.resumes(key=False)
    assert destination.resumes(key=True)
    for _ in range(sent - 1):
        for _ in range(5):
            assert len(await packet(reader)) == PACKET  # what was accepted arrives whole
    await peer.close()
    writer.close()


async def test_a_connection_ends_with_its_peer_and_a_peer_hears_when_it_ends(port: Port) -> None:
    peer = peer_on(port)
    _, writer, stream = await checked(port)
    assert peer.destination is not None and peer.destination.line is stream
    writer.close()
    async with asyncio.timeout(5):
        while port.by_address:
            await asyncio.sleep(0)
    assert peer.destination is None
    reader, writer, _ = await checked(port)
    await peer.close()
    await ended(reader)
    assert port.streams.connections == {}
    writer.close()
