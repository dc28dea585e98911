"""The bus: tells the parts of this node, and other processes, that something was committed.

In process it hands over whole commits in order. Over Redis it carries *hints* only ("position N of node X"): whoever gets
one reads the database; whoever misses one polls. Invariant: losing every message costs time, never data.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from command.log.writer import Commit

CHANNEL = "fenghuo.hints"
RECONNECT_S = 2.0
HINT_BYTES_MAX = 1024

journal = structlog.get_logger("bus")


class Hint(msgspec.Struct, frozen=True):
    node: str
    position: int


class Bus:
    """In-process fan-out. Listeners must not block and must not raise."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Commit], None]] = []

    def listen(self, listener: Callable[[Commit], None]) -> None:
        self._listeners.append(listener)

    def publish(self, commit: Commit) -> None:
        for listener in self._listeners:
            listener(commit)


class RedisHints:
    """Sends a hint per commit (coalesced) and hands over the hints of others."""

    def __init__(self, url: str, node: str, heard: Callable[[Hint], None]) -> None:
        # Imported here because the package costs a start a third of a second, and most nodes have no Redis.
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        self._redis = Redis.from_url(url, socket_connect_timeout=5, socket_keepalive=True)
        self._errors = (RedisError, OSError)
        self._node, self._heard = node, heard
        self._position = 0
        self._wake = asyncio.Event()
        self.connected = False

    def on_commit(self, commit: Commit) -> None:
        self._position = commit.position
        self._wake.set()

    async def send(self) -> None:
        """Publish the newest position whenever it moved; run supervised."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            hint = msgspec.json.encode(Hint(self._node, self._position))
            try:
                await self._redis.publish(CHANNEL, hint)
                self.connected = True
            except self._errors as error:
                self._lost(error)
                await asyncio.sleep(RECONNECT_S)
                self._wake.set()

    async def receive(self) -> None:
        """Hand over hints; connects again by itself; run supervised."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    self.connected = True
                    async for message in subscription.listen():
                        self._take(message)
            except self._errors as error:
                self._lost(error)
            await asyncio.sleep(RECONNECT_S)

    def _take(self, message: dict[str, object]) -> None:
        data = message.get("data")
        if message.get("type") != "message" or not isinstance(data, bytes) or len(data) > HINT_BYTES_MAX:
            return
        try:
            hint = msgspec.json.decode(data, type=Hint)
        except msgspec.MsgspecError:
            return  # a hint that can't be read is a hint that was lost
        self._heard(hint)

    def _lost(self, error: Exception) -> None:
        if self.connected:
            journal.warning("redis.lost", error=str(error))
        self.connected = False

    async def close(self) -> None:
        await self._redis.aclose()
