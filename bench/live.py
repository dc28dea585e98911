"""From commit to 500 screens: 50 notes a second into one incident, every screen follows the picture and the incident.

The screens run in a process of their own (one loop, plain WebSocket clients); latency is from the note's `at` in the row,
which the writer stamped before the commit, to the arrival of the frame. Both processes read the same machine clock.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import uvloop

from bench.api import demo_server, new_incident, sign_in
from bench.http_client import Connection

FIGURES = ("live.p95_ms",)
SCREENS = 500
RATE = 50
SECONDS = 10.0
CONNECT_AT_ONCE = 25


class _Row(msgspec.Struct):
    table: str
    row: dict[str, Any] | None = None


class _Frame(msgspec.Struct):
    type: str
    rows: list[_Row] = []


_decode = msgspec.json.Decoder(_Frame).decode


async def _screens(port: int, cookie: str, incident: str, ready: Any, results: Any) -> None:
    """Open `SCREENS` sockets, then collect latencies until told to stop by the server's close or time."""
    latencies: list[float] = []
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)
    opened = asyncio.Semaphore(0)
    name, _, value = cookie.removeprefix("Cookie: ").strip().partition("=")
    headers = {"Origin": f"http://127.0.0.1:{port}", "Cookie": f"{name}={value}"}

    async def screen(session: aiohttp.ClientSession) -> None:
        async with gate:
            socket = await session.ws_connect(f"http://127.0.0.1:{port}/api/v1/live", headers=headers, max_msg_size=0)
            for topic in ("picture", f"incident/{incident}"):
                await socket.send_str(json.dumps({"type": "subscribe", "topic": topic}))
        seen = 0
        async for message in socket:
            frame = _decode(message.data)
            if frame.type == "snapshot":
                seen += 1
                if seen == 2:
                    opened.release()
            now = time.time()
            latencies.extend(
                now - row.row["at"] / 1e6 for row in frame.rows if row.table == "timeline" and row.row is not None
            )

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        tasks = [asyncio.ensure_future(screen(session)) for _ in range(SCREENS)]
        for _ in range(SCREENS):
            await opened.acquire()
        ready.set()
        await asyncio.sleep(SECONDS + 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    results.put(sorted(latencies))


def _screens_process(port: int, cookie: str, incident: str, ready: Any, results: Any) -> None:
    uvloop.run(_screens(port, cookie, incident, ready, results))


async def _measure() -> list[float]:
    context = multiprocessing.get_context("spawn")
    ready, results = context.Event(), context.Queue()
    async with demo_server() as process:
        cookie = await sign_in(process, "duty-province")
        incident = await new_incident(process, cookie)
        child = context.Process(target=_screens_process, args=(process.port, cookie, incident, ready, results))
        child.start()
        assert await asyncio.to_thread(ready.wait, 60), "the screens did not open"
        connection = await Connection.open("127.0.0.1", process.port)
        start = time.perf_counter()
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
            body = msgspec.json.encode({"text": f"{number} 现场情况正常"})
            key = f"{cookie}Idempotency-Key: live-{number}-{time.time_ns()}\r\n"
            status, answer, _ = await connection.request("POST", f"/api/v1/incidents/{incident}/notes", body, key)
            assert status == 201, answer
        latencies: list[float] = await asyncio.to_thread(results.get, True, 60)
        child.join()
        return latencies


def figures() -> Iterator[dict[str, Any]]:
    latencies = uvloop.run(_measure())
    expected = int(RATE * SECONDS) * SCREENS
    p95 = latencies[int(len(latencies) * 0.95)] * 1000
    yield {
        "name": "live.p95_ms",
        "value": round(p95, 1),
        "unit": "ms",
        "ratio": round(p95 / 200, 3),
        "against": "limit 200 ms",
        "n": len(latencies),
        "delivered": round(len(latencies) / expected, 5),
        "screens": SCREENS,
    }
