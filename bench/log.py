"""The log by itself: durable entries a second and the time to an acknowledgement, with 200 writers.

Beside it: bare sqlite3 that commits the same octets in batches of the size that the log made, nothing else.
"""

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

import server
from command.base.config import load
from command.base.entry import By
from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge import requests
from command.service import Service

FIGURES = ("log.durable_per_s", "log.ack_p99_ms")
WRITERS = 200
SECONDS = 6.0
OCTETS = 620
"""About what one note takes in the entry table."""


async def _write(data: Path, url: str) -> tuple[int, float, list[float], int]:
    """Entries, seconds, latencies and commits of `WRITERS` writers in a closed loop."""
    service = Service(load({}, None, data=str(data), database=url), server.house())
    await service.open()
    node, by = service.node, By(account="bench")
    root = await node.log.append(SaveOrganisation(name="基准", tier=Tier.PROVINCE), by)
    place = Place(lon=155.0, lat=32.0)
    request = ReportIncident(
        category=Category.ACCIDENT, level=Level.IV, title="基准", place=place, organisation=root.id
    )
    incident = (await node.log.append(request, by)).id or ""
    latencies: list[float] = []
    first = node.log.position
    started = time.perf_counter()
    until = started + SECONDS

    async def writer(number: int) -> None:
        count = 0
        while time.perf_counter() < until:
            before = time.perf_counter()
            await node.log.append(AddNote(id=incident, text=f"{number}-{count} 现场情况正常"), by)
            latencies.append(time.perf_counter() - before)
            count += 1

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    seconds = time.perf_counter() - started
    commits = node.log.position - first
    await service.stop()
    return len(latencies), seconds, latencies, commits


def _bare(folder: Path, batch: int) -> float:
    """Entries a second of sqlite3 alone: same octets, same durability, same batches."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, data BLOB)")
    data, number = os.urandom(OCTETS), 0
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS / 2:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO entry VALUES (?, ?)", [(number + i, data) for i in range(batch)])
        connection.execute("COMMIT")
        number += batch
    return number / (time.perf_counter() - started)


def figures() -> Iterator[dict[str, Any]]:
    requests.configure("error")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        entries, seconds, latencies, commits = uvloop.run(_write(data, os.environ.get("FENGHUO_DATABASE", "")))
        bare = _bare(data, max(1, entries // max(1, commits)))
    rate = entries / seconds
    latencies.sort()
    yield {
        "name": "log.durable_per_s",
        "value": round(rate),
        "unit": "entries/s",
        "ratio": round(rate / bare, 3),
        "against": f"bare sqlite3 group commit, {round(bare)}/s",
        "n": entries,
        "batch": round(entries / max(1, commits), 1),
    }
    yield {
        "name": "log.ack_p99_ms",
        "value": round(latencies[int(len(latencies) * 0.99)] * 1000, 2),
        "unit": "ms",
        "ratio": round(latencies[int(len(latencies) * 0.99)] * 1000 / 50, 3),
        "against": "limit 50 ms",
        "n": entries,
    }
