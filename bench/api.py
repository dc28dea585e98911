"""Commands over HTTP, durable before they are answered: closed loop for throughput, open loop at 1,000/s for latency.

The server is the real demo in a process of its own; the client runs here. Open loop: requests leave on schedule whatever
the answers do, and latency counts from the scheduled instant, so a stall is not hidden (coordinated omission).
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.http_client import Connection
from tests.services import ServerProcess

FIGURES = ("api.durable_per_s", "api.ack_p99_ms")
CONNECTIONS = 64
SECONDS = 8.0
RATE = 1_000


@asynccontextmanager
async def demo_server() -> AsyncIterator[ServerProcess]:
    """A fresh demo on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "node"
        process = ServerProcess(data=data, database_url="", environment={"FENGHUO_LOG_LEVEL": "error"})
        process.start()
        try:
            yield process
        finally:
            process.kill()


async def sign_in(process: ServerProcess, name: str) -> str:
    """The Cookie header line of a fresh session."""
    connection = await Connection.open("127.0.0.1", process.port)
    body = msgspec.json.encode({"name": name, "password": process.credentials[name]})
    status, answer, head = await connection.request("POST", "/api/v1/session", body)
    assert status in (200, 201), answer
    cookie = next(line for line in head.split("\r\n") if line.lower().startswith("set-cookie:"))
    connection.close()
    return f"Cookie: {cookie.split(':', 1)[1].split(';')[0].strip()}\r\n"


async def new_incident(process: ServerProcess, cookie: str, title: str = "基准") -> str:
    connection = await Connection.open("127.0.0.1", process.port)
    place = {"lon": 155.0, "lat": 32.0}
    body = msgspec.json.encode({"category": "accident", "level": "IV", "title": title, "place": place})
    status, answer, _ = await connection.request(
        "POST", "/api/v1/incidents", body, f"{cookie}Idempotency-Key: bench-{time.time_ns()}\r\n"
    )
    assert status == 201, answer
    connection.close()
    return str(msgspec.json.decode(answer)["id"])


class _Load:
    def __init__(self, process: ServerProcess, cookie: str, incident: str) -> None:
        self._process, self._cookie = process, cookie
        self._path = f"/api/v1/incidents/{incident}/notes"
        self._count = 0

    async def _note(self, connection: Connection) -> None:
        self._count += 1
        body = msgspec.json.encode({"text": f"{self._count} 现场情况正常"})
        key = f"{self._cookie}Idempotency-Key: b{id(self)}-{self._count}\r\n"
        status, answer, _ = await connection.request("POST", self._path, body, key)
        assert status == 201, answer

    async def closed(self) -> float:
        """Requests a second of `CONNECTIONS` clients that each wait for their answer."""
        connections = [await Connection.open("127.0.0.1", self._process.port) for _ in range(CONNECTIONS)]
        until = time.perf_counter() + SECONDS
        started, first = time.perf_counter(), self._count

        async def client(connection: Connection) -> None:
            while time.perf_counter() < until:
                await self._note(connection)

        await asyncio.gather(*(client(connection) for connection in connections))
        return (self._count - first) / (time.perf_counter() - started)

    async def opened(self) -> list[float]:
        """Latencies in seconds at `RATE` scheduled requests a second."""
        idle: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            idle.put_nowait(await Connection.open("127.0.0.1", self._process.port))
        latencies: list[float] = []

        async def one(due: float) -> None:
            connection = await idle.get()
            await self._note(connection)
            latencies.append(time.perf_counter() - due)
            idle.put_nowait(connection)

        tasks = []
        start = time.perf_counter() + 0.05
        for number in range(int(RATE * SECONDS)):
            due = start + number / RATE
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.ensure_future(one(due)))
        await asyncio.gather(*tasks)
        return sorted(latencies)


async def _measure() -> tuple[float, list[float]]:
    async with demo_server() as process:
        cookie = await sign_in(process, "duty-province")
        load = _Load(process, cookie, await new_incident(process, cookie))
        rate = await load.closed()
        return rate, await load.opened()


def figures() -> Iterator[dict[str, Any]]:
    rate, latencies = uvloop.run(_measure())
    p99 = latencies[int(len(latencies) * 0.99)] * 1000
    yield {
        "name": "api.durable_per_s",
        "value": round(rate),
        "unit": "requests/s",
        "ratio": round(rate / 2000, 3),
        "against": "aim 2,000/s",
        "n": round(rate * SECONDS),
        "connections": CONNECTIONS,
    }
    yield {
        "name": "api.ack_p99_ms",
        "value": round(p99, 2),
        "unit": "ms",
        "ratio": round(p99 / 50, 3),
        "against": "limit 50 ms, open loop at 1,000/s",
        "n": len(latencies),
    }
