"""Knocking: real sockets on loopback; a full backlog stands for a line on which SYNs get lost."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from command.base.errors import Unavailable
from command.uplink import knocking
from command.uplink.dialler import TIMEOUT


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly, so that the test need not wait for them."""
    monkeypatch.setattr(knocking, "AGAIN_S", 0.02)
    monkeypatch.setattr(knocking, "LOOK_S", 0.005)


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener that takes no more: the kernel drops every further SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener


@asynccontextmanager
async def _answering(listener: socket.socket) -> AsyncIterator[list[str]]:
    """Answer WebSockets on the listener from now on; how each ended."""
    ended: list[str] = []

    async def answer(request: web.Request) -> web.WebSocketResponse:
        found = web.WebSocketResponse()
        await found.prepare(request)
        async for message in found:
            await found.send_str(message.data)
        ended.append("closed")
        return found

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener.setblocking(False)
    await web.SockSite(runner, listener, backlog=16).start()
    yield ended
    await runner.cleanup()


def _address(listener: socket.socket) -> str:
    return "http://{}:{}/".format(*listener.getsockname())


@pytest.mark.usefixtures("eager")
async def test_a_fresh_attempt_gets_through_where_the_first_ones_were_lost(full: socket.socket) -> None:
    async def hear() -> str:
        async with knocking.knocking("test", lambda s: s.ws_connect(_address(full)), TIMEOUT) as found:
            await found.send_str("烽火")
            return str((await found.receive()).data)

    heard = asyncio.ensure_future(hear())
    await asyncio.sleep(0.05)
    assert not heard.done()
    async with _answering(full) as ended:
        assert await heard == "烽火"
        while not ended:
            await asyncio.sleep(0.005)
        assert ended == ["closed"]  # one conversation, however many attempts


@pytest.mark.usefixtures("eager")
async def test_nobody_who_answers_is_told_after_a_few_attempts(full: socket.socket) -> None:
    with pytest.raises(Unavailable):
        async with knocking.knocking("test", lambda s: s.ws_connect(_address(full)), TIMEOUT):
            raise AssertionError


@pytest.mark.usefixtures("eager")
async def test_a_no_ends_the_call_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(aiohttp.ClientConnectorError):
            async with knocking.knocking("test", lambda s: s.ws_connect(_address(closed)), TIMEOUT):
                raise AssertionError
