"""The live feed under hostile hands: frames, topics, slow readers, too many screens, sessions that end at the worst moment.

And what must never be written down: passwords, tokens, codes, cookies.
"""

import asyncio
import io
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pyotp
import pytest
import sqlalchemy as sa
import structlog

from command.base.rights import Role
from command.domain.account import CloseSession
from command.domain.registry import ACCOUNT
from command.edge import live
from command.edge.auth import COOKIE
from command.edge.live import FRAME_BYTES_MAX, PENDING_FRAMES_MAX, TOPICS_MAX
from command.log.store import ENTRY
from tests.command.assembly import PASSWORD, assembled
from tests.security.scene import ASSIGNED, LINE, NODE, Scene, scene

pytestmark = pytest.mark.any_store

REPORT = {"category": "accident", "level": "IV", "title": "x", "place": {"lon": 1, "lat": 1}}


@pytest.fixture
async def s(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(database_url, tmp_path, log_level="error") as made:
        yield made


async def connect(s: Scene, role: Role = Role.DUTY_OFFICER) -> aiohttp.ClientWebSocketResponse:
    return await s.http.ws_connect(f"{s.base}/api/v1/live", headers=s.headers(role), max_msg_size=0)


async def answer(screen: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    """The next frame of this type."""
    async with asyncio.timeout(15):
        while True:
            frame = await screen.receive_json()
            if frame["type"] == kind:
                return frame


NONSENSE = (
    "",
    "x",
    "null",
    "[]",
    "1",
    '"x"',
    "{}",
    '{"type":1}',
    '{"type":"none"}',
    '{"type":"subscribe"}',
    '{"type":"subscribe","topic":null}',
    '{"type":"subscribe","topic":"none"}',
    '{"type":"subscribe","topic":"picture/x"}',
    '{"type":"subscribe","topic":"incident"}',
    '{"type":"subscribe","topic":"incident/"}',
    '{"type":"subscribe","topic":"incident/none"}',
    '{"type":"subscribe","topic":"incident/\\u0000"}',
    '{"type":"subscribe","topic":"incident/' + "x" * 5_000 + '"}',
    '{"type":"subscribe","topic":"picture","since":"x"}',
    "[" * 5_000,
    '{"type":"subscribe","topic":"\\ud800"}',
)


async def test_a_frame_that_means_nothing_is_an_error_and_the_socket_goes_on(s: Scene) -> None:
    screen = await connect(s)
    for text in NONSENSE:
        await screen.send_str(text)
        assert (await answer(screen, "error"))["code"].startswith("live."), text[:80]
    for since in (-5, 10**40):  # a position that can't be had is like none
        await screen.send_str(f'{{"type":"subscribe","topic":"picture","since":{since}}}')
        assert (await answer(screen, "snapshot"))["topic"] == "picture"
    await screen.close()


async def test_octets_and_oversize_frames_end_the_socket(s: Scene) -> None:
    for send in (
        lambda screen: screen.send_bytes(b"x"),
        lambda screen: screen.send_str('"' + "x" * FRAME_BYTES_MAX + '"'),
    ):
        screen = await connect(s)
        await send(screen)
        async with asyncio.timeout(10):
            async for _ in screen:
                pass
        assert screen.closed
    async with asyncio.timeout(10):
        while s.node.live.clients:
            await asyncio.sleep(0)


async def test_one_topic_too_many_is_refused_and_the_others_stay(s: Scene) -> None:
    screen = await connect(s)
    reports = [await s.ask(Role.DUTY_OFFICER, "POST", "/incidents", REPORT) for _ in range(TOPICS_MAX - 2)]
    topics = [f"incident/{receipt['id']}" for _, receipt in reports]
    topics += [f"incident/{s.things['incident'][relation]}" for relation in (ASSIGNED, LINE)] + ["picture"]
    for topic in topics[:TOPICS_MAX]:
        await screen.send_json({"type": "subscribe", "topic": topic})
        assert (await answer(screen, "snapshot"))["topic"] == topic
    await screen.send_json({"type": "subscribe", "topic": topics[TOPICS_MAX]})
    assert (await answer(screen, "error"))["code"] == "live.topics"
    await screen.send_json({"type": "unsubscribe", "topic": topics[0]})
    await screen.send_json({"type": "subscribe", "topic": topics[TOPICS_MAX]})
    assert (await answer(screen, "snapshot"))["topic"] == topics[TOPICS_MAX]
    await screen.close()


async def test_a_screen_too_many_is_told_so_and_the_others_stay(s: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert live.CLIENTS_MAX == 2_000
    monkeypatch.setattr(live, "CLIENTS_MAX", 3)
    standing = [await connect(s) for _ in range(3)]
    late = await connect(s)
    message = await late.receive(timeout=10)
    assert message.type is aiohttp.WSMsgType.CLOSE and late.close_code == 1013
    for screen in standing:
        await screen.send_json({"type": "ping"})
        assert await answer(screen, "position")
        await screen.close()


async def test_who_never_reads_is_cut_off_and_holds_nobody_up(s: Scene) -> None:
    """A raw socket with a small window that follows the picture and never reads again."""
    loop = asyncio.get_running_loop()
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sleeper.setblocking(False)
    await loop.sock_connect(sleeper, ("127.0.0.1", s.service.port))
    head = (
        f"GET /api/v1/live HTTP/1.1\r\nHost: {s.base[7:]}\r\nOrigin: {s.base}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Cookie: {COOKIE}={s.tokens[Role.DUTY_OFFICER]}\r\n\r\n"
    )
    await loop.sock_sendall(sleeper, head.encode())
    assert b" 101 " in await loop.sock_recv(sleeper, 1000)
    reader = await connect(s)
    [slow] = [client for client in s.node.live._clients if client.session.actor.roles == (Role.DUTY_OFFICER,)][:1]
    big = "x" * 200_000
    async with asyncio.timeout(30):
        for _ in range(PENDING_FRAMES_MAX * 3):
            for client in list(s.node.live._clients):
                if (
                    client.transport is not None
                    and client.transport.get_extra_info("peername") == sleeper.getsockname()
                ):
                    slow = client
                    s.node.live._send(client, big)
            await asyncio.sleep(0)
            if slow.slow:
                break
        while slow in s.node.live._clients:
            await asyncio.sleep(0.01)
        while slow.transport is not None and not slow.transport.is_closing():
            await asyncio.sleep(0.01)
    assert slow.slow
    await reader.send_json({"type": "ping"})
    assert await answer(reader, "position")
    sleeper.close()
    await reader.close()


async def test_a_session_that_ends_while_its_screen_connects_keeps_no_socket(s: Scene) -> None:
    [row] = await s.rows(ACCOUNT, name="spare")
    for _ in range(20):
        token, session = await s.node.auth.open(row)
        headers = {"Cookie": f"{COOKIE}={token}", "Origin": s.base}

        async def follow(headers: dict[str, str] = headers) -> None:
            try:
                screen = await s.http.ws_connect(f"{s.base}/api/v1/live", headers=headers)
            except aiohttp.WSServerHandshakeError as refused:
                assert refused.status in (401, 403)
                return
            async with asyncio.timeout(1.5):
                async for _ in screen:
                    pass
            assert screen.close_code == 4401

        await asyncio.gather(follow(), s.node.log.append(CloseSession(id=session.id), NODE))
    async with asyncio.timeout(5):
        while s.node.live.clients:
            await asyncio.sleep(0)


async def test_a_stop_does_not_wait_for_screens_that_say_nothing(database_url: str, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with scene(database_url, tmp_path, log_level="error") as s:
        silent = []
        for _ in range(5):
            connection = socket.create_connection(("127.0.0.1", s.service.port))
            connection.setblocking(False)
            head = (
                f"GET /api/v1/live HTTP/1.1\r\nHost: {s.base[7:]}\r\nOrigin: {s.base}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Cookie: {COOKIE}={s.tokens[Role.VIEWER]}\r\n\r\n"
            )
            await loop.sock_sendall(connection, head.encode())
            assert b" 101 " in await loop.sock_recv(connection, 1000)
            silent.append(connection)
        started = loop.time()
        await s.node.live.stop()
        assert loop.time() - started < 3
        for connection in silent:
            connection.close()


async def test_secrets_are_never_in_the_journal_nor_in_the_entries(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger().addHandler(handler)
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(default=str)],
        logger_factory=structlog.WriteLoggerFactory(file=written),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    secrets: list[str] = [PASSWORD, "a wrong password 31"]
    try:
        async with assembled(database_url, tmp_path) as node:
            client, security = node.client(), await node.signed_in("security")
            await client.call("POST", "/session", {"name": "officer", "password": secrets[1]})
            await client.sign_in("officer")
            secrets.append(client.answer.cookies[COOKIE].value)
            totp = (await client.ok("POST", "/session/totp", {}))["secret"]
            secrets.append(totp)
            await client.ok("POST", "/session/totp/confirm", {"code": pyotp.TOTP(totp).now()})
            new = "another good one 52"
            secrets.append(new)
            await client.ok("POST", "/session/password", {"old": PASSWORD, "new": new})
            made = {"name": "tracker", "roles": ["service"], "organisation": node.organisations["市"]}
            issued = await security.ok("POST", "/accounts", made)
            secrets.append(issued["secret"])
            key = issued["receipt"]["id"]
            secrets.append((await security.ok("POST", f"/accounts/{key}/tokens", {"label": "x"}))["secret"])
            secrets.append((await security.ok("POST", f"/accounts/{key}/password"))["secret"])
            await client.call("POST", "/session", data=PASSWORD.encode(), **{"Content-Type": "application/json"})

            def stored(connection: sa.Connection) -> bytes:
                found = b"".join(
                    bytes(row.data) + bytes(row.private or b"") for row in connection.execute(sa.select(ENTRY))
                )
                for table in [*node.node.store.shelves.values()]:
                    found += b"".join(bytes(row) for row in connection.scalars(sa.select(table.sql.c.row)))
                receipts = sa.text("SELECT receipt FROM idempotency")
                return found + b"".join(bytes(row) for row in connection.scalars(receipts))

            database = await node.node.store.read(stored)
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.reset_defaults()
    journal = written.getvalue()
    assert "node.ready" in journal and len(secrets) == 8 and all(len(secret) > 8 for secret in secrets)
    for secret in secrets:
        assert secret not in journal
        assert secret.encode() not in database
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.endswith((".key", "-shm")):
            octets = path.read_bytes()
            assert not any(secret.encode() in octets for secret in secrets), path.name
