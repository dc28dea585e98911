"""Catching up over the link: a county that was cut off wrote 100,000 entries; how long until its city holds them?

Two real servers on loopback, paired, each in a process of its own. Timed from the county's start to the last entry durable
at the city. Beside it: a raw copy of the same rows from one SQLite file into another in batches of 256, durable like the log;
once of six columns of the entries alone, once of everything that the city holds afterwards (whole entries with their indices,
seals, streams, the incident's rows).
"""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

import server
from command.base.config import load
from command.base.entry import By
from command.base.identity import load_or_make, node_id
from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.domain.membership import InviteNode
from command.domain.nodes import NodeKind, NodeLevel
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge import requests
from command.log.store import CACHE_KB, WAL_PAGES_MAX
from command.service import Service
from command.tree import pairing
from command.uplink.dialler import JOIN_FILE
from command.uplink.uplink import PART

FIGURES = ("link.catchup_s", "link.catchup_ratio", "link.held_ratio", "link.cpu_us", "link.memory_mb")
ENTRIES = int(os.environ.get("BENCH_LINK_ENTRIES", "100000"))
AT_ONCE = 1_000
LIMIT_S = 30.0
PATIENCE_S = 400.0
BY = By(account="bench")
ROOT = Path(__file__).parent.parent


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _service(data: Path, port: int, parent: str = "") -> Service:
    config = load({}, None, data=str(data), port=port, parent=parent, totp_required=False)
    return Service(config, server.house(config))


async def _lay_out(folder: Path, ports: tuple[int, int]) -> str:
    """Pair the two nodes, stop them, and let the county write by itself; its incident's subject."""
    city, county = folder / "city", folder / "county"
    above, below = _service(city, ports[0]), _service(county, ports[1], f"http://127.0.0.1:{ports[0]}")
    await above.start()
    code = pairing.new_code(above.node.clock.octets(pairing.CODE_OCTETS))
    invite = InviteNode(name="county", kind=NodeKind.FIXED, level=NodeLevel.COUNTY, code=code)
    await above.node.log.append(invite, BY)
    county.mkdir()
    (county / JOIN_FILE).write_text(code)
    await below.start()
    while not _linked(below):
        await asyncio.sleep(0.05)
    await below.stop()
    await above.stop()
    alone = _service(county, 0)
    await alone.open()
    log = alone.node.log
    root = await log.append(SaveOrganisation(name="基准", tier=Tier.COUNTY), BY)
    request = ReportIncident(
        category=Category.ACCIDENT, level=Level.III, title="基准", place=Place(lon=155, lat=32), organisation=root.id
    )
    incident = (await log.append(request, BY)).id or ""
    for start in range(0, ENTRIES, AT_ONCE):
        count = min(AT_ONCE, ENTRIES - start)
        await asyncio.gather(
            *(log.append(AddNote(id=incident, text=f"{start + n} 现场情况正常"), BY) for n in range(count))
        )
    await alone.stop()
    return f"incident/{incident}"


def _linked(service: Service) -> bool:
    uplink = service.node.parts[PART]
    return uplink.parent is not None and uplink.parent in uplink.peers and uplink.peers[uplink.parent].linked


def _start(data: Path, port: int, parent: str = "") -> subprocess.Popen[bytes]:
    settings = {
        "FENGHUO_DATA": str(data),
        "FENGHUO_PORT": str(port),
        "FENGHUO_PARENT": parent,
        "FENGHUO_LOG_LEVEL": "error",
    }
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
    command = [sys.executable, str(ROOT / "server.py"), "serve"]
    return subprocess.Popen(
        command, cwd=ROOT, env=clean | settings, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )


def _held(data: Path, subject: str, origin: str) -> int:
    """The length of the county's stream at the city."""
    try:
        with sqlite3.connect(f"file:{data / 'fenghuo.db'}?mode=ro", uri=True) as connection:
            found = connection.execute(
                "SELECT length FROM stream WHERE subject = ? AND origin = ?", (subject, origin)
            ).fetchone()
    except sqlite3.OperationalError:
        return 0
    return found[0] if found else 0


def _memory_mb(process: subprocess.Popen[bytes]) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    """User and system time of the whole process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Run(NamedTuple):
    """Seconds, and of the sender and the receiver: CPU seconds meanwhile, and peak memory in MB."""

    seconds: float
    cpu_s: tuple[float, float]
    memory_mb: tuple[float, float]


def _catch_up(folder: Path, subject: str, ports: tuple[int, int]) -> _Run:
    city, county = folder / "city", folder / "county"
    origin = node_id(load_or_make(county).public_key())
    receiver = _start(city, ports[0])
    time.sleep(4.0)
    sender = _start(county, ports[1], f"http://127.0.0.1:{ports[0]}")
    began, before = 0.0, (0.0, 0.0)
    started = time.monotonic()
    try:
        while (held := _held(city, subject, origin)) < ENTRIES + 1:
            if held and not began:
                began, before = time.monotonic(), (_cpu_s(sender), _cpu_s(receiver))
            if time.monotonic() - started > PATIENCE_S:
                raise TimeoutError(f"only {held} entries after {PATIENCE_S:.0f} s")
            time.sleep(0.05)
        cpu_s = (_cpu_s(sender) - before[0], _cpu_s(receiver) - before[1])
        return _Run(time.monotonic() - began, cpu_s, (_memory_mb(sender), _memory_mb(receiver)))
    finally:
        for process in (sender, receiver):
            process.send_signal(signal.SIGTERM)
        for process in (sender, receiver):
            process.wait(20)


def _raw(folder: Path) -> float:
    """Seconds to copy the same rows with sqlite3 alone."""
    source = sqlite3.connect(folder / "county" / "fenghuo.db")
    target = sqlite3.connect(folder / "raw.db", isolation_level=None)
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=FULL")
    target.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, stream, seq, hash BLOB, data BLOB, path BLOB)")
    started = time.perf_counter()
    rows = source.execute("SELECT number, stream, seq, hash, data, path FROM entry ORDER BY number")
    while batch := rows.fetchmany(256):
        target.execute("BEGIN IMMEDIATE")
        target.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", batch)
        target.execute("COMMIT")
    return time.perf_counter() - started


def _raw_held(folder: Path) -> float:
    """Seconds to copy everything the city holds, table by table into the same tables and indices, with the log's settings."""
    source = sqlite3.connect(folder / "city" / "fenghuo.db")
    target = sqlite3.connect(folder / "held.db", isolation_level=None)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"cache_size=-{CACHE_KB}",
        f"wal_autocheckpoint={WAL_PAGES_MAX}",
    ):
        target.execute(f"PRAGMA {pragma}")
    made = source.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    )
    tables = []
    for kind, name, sql in sorted(made.fetchall(), key=lambda one: one[0] != "table"):
        target.execute(sql)
        tables += [name] if kind == "table" else []
    started = time.perf_counter()
    for name in tables:
        rows = source.execute(f'SELECT * FROM "{name}"')  # noqa: S608, a table of our own
        places = ", ".join("?" * len(rows.description))
        while batch := rows.fetchmany(256):
            target.execute("BEGIN IMMEDIATE")
            target.executemany(f'INSERT INTO "{name}" VALUES ({places})', batch)  # noqa: S608
            target.execute("COMMIT")
    return time.perf_counter() - started


def figures() -> Iterator[dict[str, Any]]:
    requests.configure("error")
    ports = (_port(), _port())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject = uvloop.run(_lay_out(folder, ports))
        run = _catch_up(folder, subject, ports)
        raw, held = _raw(folder), _raw_held(folder)
    seconds, (sender_mb, receiver_mb) = run.seconds, run.memory_mb
    sender_us, receiver_us = (1e6 * cpu_s / ENTRIES for cpu_s in run.cpu_s)
    yield {
        "name": "link.catchup_s",
        "value": round(seconds, 1),
        "unit": "s",
        "ratio": round(seconds / LIMIT_S, 3),
        "against": f"limit {LIMIT_S:.0f} s",
        "n": ENTRIES,
        "per_s": round(ENTRIES / seconds),
    }
    yield {
        "name": "link.catchup_ratio",
        "value": round(seconds / raw, 1),
        "unit": "x",
        "ratio": round(seconds / raw / 10, 3),
        "against": f"raw SQLite copy of six columns of the entries, without an index, {raw:.2f} s; limit 10 x",
        "n": ENTRIES,
    }
    yield {
        "name": "link.held_ratio",
        "value": round(seconds / held, 1),
        "unit": "x",
        "ratio": round(seconds / held / 10, 3),
        "against": f"raw SQLite copy of all rows and indices that the receiver holds afterwards, {held:.2f} s; limit 10 x",
        "n": ENTRIES,
    }
    yield {
        "name": "link.cpu_us",
        "value": round(sender_us + receiver_us, 1),
        "unit": "us",
        "ratio": round((sender_us + receiver_us) * ENTRIES / 1e6 / raw, 1),
        "against": f"CPU of both ends per entry; the raw copy took {1e6 * raw / ENTRIES:.1f} us",
        "n": ENTRIES,
        "sender": round(sender_us, 1),
        "receiver": round(receiver_us, 1),
    }
    yield {
        "name": "link.memory_mb",
        "value": round(max(sender_mb, receiver_mb), 1),
        "unit": "MB",
        "ratio": round(max(sender_mb, receiver_mb) / 300, 3),
        "against": "300 MB; peak of both ends",
        "n": ENTRIES,
        "sender": round(sender_mb, 1),
        "receiver": round(receiver_mb, 1),
    }
