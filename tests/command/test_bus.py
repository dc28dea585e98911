"""Hints over a real Redis: they arrive, foreign rubbish is ignored, and losing Redis loses nothing but time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from command.base.supervise import end, spawn
from command.log.bus import CHANNEL, HINT_BYTES_MAX, Hint, RedisHints
from command.log.writer import Commit
from tests.services import RedisServer

TIMEOUT_S = 20


@asynccontextmanager
async def hints(url: str, node: str, heard: "asyncio.Queue[Hint]") -> AsyncIterator[RedisHints]:
    made = RedisHints(url, node, heard.put_nowait)
    tasks = [spawn("send", made.send()), spawn("receive", made.receive())]
    try:
        yield made
    finally:
        await end(*tasks)
        await made.close()


async def until_heard(sender: RedisHints, heard: "asyncio.Queue[Hint]", position: int) -> Hint:
    """Commit again and again until the other side hears of it: a hint may be lost, a position may not."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            sender.on_commit(Commit(position=position, changes=[], written=[]))
            try:
                async with asyncio.timeout(0.3):
                    while (hint := await heard.get()).position != position:
                        pass
                    return hint
            except TimeoutError:
                continue


async def test_a_hint_of_one_process_reaches_another(redis_url: str) -> None:
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    async with hints(redis_url, "a", asyncio.Queue()) as sender, hints(redis_url, "b", heard):
        assert await until_heard(sender, heard, 7) == Hint("a", 7)


async def test_rubbish_on_the_channel_is_a_lost_hint_and_no_more(redis_url: str) -> None:
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    async with hints(redis_url, "a", asyncio.Queue()) as sender, hints(redis_url, "b", heard):
        await until_heard(sender, heard, 1)
        redis = Redis.from_url(redis_url)
        for rubbish in (b"", b"{", b'{"node": 1}', b"\xff" * 10, b"x" * (HINT_BYTES_MAX + 1)):
            await redis.publish(CHANNEL, rubbish)
        await redis.aclose()
        assert await until_heard(sender, heard, 2) == Hint("a", 2)


async def test_hints_go_on_after_redis_was_away(redis_server: RedisServer) -> None:
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    async with hints(redis_server.url, "a", asyncio.Queue()) as sender, hints(redis_server.url, "b", heard):
        await until_heard(sender, heard, 1)
        await asyncio.to_thread(redis_server.stop)
        sender.on_commit(Commit(position=2, changes=[], written=[]))
        redis_server.start()  # not in a thread: it would die with it (`die_with_parent`)
        assert await until_heard(sender, heard, 3) == Hint("a", 3)
