"""Verification: entries a second through `verify`, with the newest seal of every stream, and with every seal.

Beside it: a bare loop over the same rows that only reads and hashes them (SHA-256 of the bytes, HMAC of the private part),
in one process. `FENGHUO_DATABASE` measures another engine than SQLite.
"""

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import Any

import server
from command.base import identity
from command.base.config import load
from command.base.entry import By, Draft
from command.base.projection import Context, Decision, Rows
from command.base.schema import Category, Level, Place, Struct, need
from command.domain.incident import INCIDENT, ReportIncident
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge import requests
from command.log.backup import reading
from command.log.verify import verify
from command.service import House, Service

FIGURES = ("verify.entries_per_s", "verify.all_seals_per_s")
ENTRIES = 250_000
AT_ONCE = 1_000
INCIDENTS = 200
LIMIT_PER_S = 200_000
ROUNDS = 3
BY = By(account="bench")


class Grow(Struct, frozen=True, kw_only=True):
    """So many notes at once on each of these incidents: a long log in little time, through the real log and projectors."""

    incidents: list[str]
    count: int
    first: int


def _decide(rows: Rows, request: Grow, context: Context) -> Decision:
    drafts = []
    for number in range(request.count):
        incident = need(rows, INCIDENT, request.incidents[number % len(request.incidents)])
        private = {"text": f"{request.first + number} 现场情况正常，道路畅通，人员已到位。"}
        drafts.append(
            Draft(subject=incident.subject, kind="incident.noted", body={}, private=private, claim=incident.claim)
        )
    return Decision(drafts=drafts)


def growing() -> House:
    """The server's house that understands `Grow` too."""
    house = server.house()
    house.domain.register(deciders={Grow: _decide})
    return house


async def grow(service: Service, entries: int) -> list[str]:
    """Write about `entries` notes over INCIDENTS new incidents, AT_ONCE a commit; the incidents' ids."""
    log = service.node.log
    root = (await log.append(SaveOrganisation(name="基准", tier=Tier.PROVINCE), BY)).id
    place = Place(lon=155.0, lat=32.0)
    reports = [
        ReportIncident(category=Category.ACCIDENT, level=Level.IV, title=f"基准{n}", place=place, organisation=root)
        for n in range(INCIDENTS)
    ]
    incidents = [receipt.id or "" for receipt in await asyncio.gather(*(log.append(one, BY) for one in reports))]
    for first in range(0, entries, AT_ONCE):
        await log.append(Grow(incidents=incidents, count=min(AT_ONCE, entries - first), first=first), BY)
    return incidents


async def build(data: Path, url: str, entries: int) -> None:
    """A node's data directory and database with a log of about `entries`."""
    service = Service(load({}, None, data=str(data), database=url), growing())
    try:
        await service.open()
        await grow(service, entries)
    finally:
        await service.stop()


def _bare(path: Path) -> float:
    """Entries a second of reading and hashing alone."""
    connection = sqlite3.connect(path)
    started, count = time.perf_counter(), 0
    for data, salt, private in connection.execute("SELECT data, salt, private FROM entry ORDER BY number"):
        sha256(b"\x00" + data).digest()
        if private is not None:
            digest(salt, private, "sha256")
        count += 1
    rate = count / (time.perf_counter() - started)
    connection.close()
    return rate


def _rate(url: str, data: Path, *, all_seals: bool) -> tuple[float, int]:
    """The best of ROUNDS."""
    key = identity.load_or_make(data).public_key()
    best, entries = 0.0, 0
    for _ in range(ROUNDS):
        with reading(url, data, server.house().domain) as store:
            started = time.perf_counter()
            with store.reader_engine.connect() as connection:
                report = verify(connection, {identity.node_id(key): key}, all_seals=all_seals)
            assert report.good, report.problems
            entries = report.entries
            best = max(best, entries / (time.perf_counter() - started))
    return best, entries


def figures() -> Iterator[dict[str, Any]]:
    requests.configure("error")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        url = os.environ.get("FENGHUO_DATABASE") or f"sqlite:///{data / 'fenghuo.db'}"
        asyncio.run(build(data, url, ENTRIES))
        bare = max(_bare(data / "fenghuo.db") for _ in range(ROUNDS)) if url.startswith("sqlite") else None
        for name, all_seals in zip(FIGURES, (False, True), strict=True):
            rate, entries = _rate(url, data, all_seals=all_seals)
            against = f"limit {LIMIT_PER_S}/s" if bare is None else f"bare loop that reads and hashes, {round(bare)}/s"
            yield {
                "name": name,
                "value": round(rate),
                "unit": "entries/s",
                "ratio": round(rate / (bare or LIMIT_PER_S), 3),
                "against": against,
                "n": entries,
            }
