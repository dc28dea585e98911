"""The database goes away or has no room: nothing is acknowledged that isn't there, and the log goes on by itself later."""

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from command.base.errors import Unavailable
from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.edge.api import Node
from tests.durability import state
from tests.node import NODE, node, world
from tests.services import START_TIMEOUT_S, Postgres, die_with_parent, end, wait_until

WRITERS = 8


async def begun(n: Node) -> str:
    w = await world(n)
    report = ReportIncident(
        category=Category.ACCIDENT, level=Level.III, title="x", place=Place(lon=155.0, lat=32.0), organisation=w.county
    )
    return (await n.log.append(report, NODE)).id or ""


async def refused(n: Node, incident: str, key: str) -> None:
    with pytest.raises(Unavailable, match=r"store\.failed"):
        await n.log.append(AddNote(id=incident, text=key), NODE, key=key)


async def recovered(n: Node, incident: str, key: str) -> None:
    """As a client would: again and again under one key."""
    async with asyncio.timeout(30):
        while True:
            try:
                await n.log.append(AddNote(id=incident, text=key), NODE, key=key)
            except Unavailable:
                continue
            return


def texts(url: str, data: Path) -> list[str]:
    with state.opened(url, data) as store, store.reader_engine.connect() as connection:
        found = state.all_entries(connection)
        return [one.secrets["text"] for one in found if one.entry.kind == "incident.noted"]


@contextmanager
def no_room(path: Path) -> Iterator[None]:
    """No file of this process can grow beyond the present size of `path` (setrlimit(2)): what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_refuses_and_the_log_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fenghuo.db"
    async with node(url, tmp_path) as n:
        incident = await begun(n)
        await n.log.append(AddNote(id=incident, text="before"), NODE, key="before")
        with no_room(tmp_path / "fenghuo.db-wal"):
            await refused(n, incident, "full")
            await refused(n, incident, "full")
            await n.store.read(lambda connection: None)
        await n.log.append(AddNote(id=incident, text="full"), NODE, key="full")
        assert not n.log.failed
    assert texts(url, tmp_path) == ["before", "full"]
    assert state.verified(url, tmp_path).good and not state.differing(url, tmp_path)


async def test_the_log_survives_a_crash_of_postgresql_without_a_restart_of_its_own(
    postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    async with node(postgres_url, tmp_path) as n:
        incident = await begun(n)
        acknowledged: list[str] = []
        stop = asyncio.Event()

        async def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                key = f"{writer}-{number}"
                await recovered(n, incident, key)
                acknowledged.append(key)
                number += 1

        writers = [asyncio.create_task(write(number)) for number in range(WRITERS)]
        await recovered(n, incident, "first")
        process = postgres_server._process
        assert process is not None
        await asyncio.to_thread(end, process, signal.SIGQUIT, 30.0)  # immediate shutdown: as if it had crashed
        await refused(n, incident, "down")
        again(postgres_server)  # here, not in a thread: it is to die with its parent, which is the thread that made it
        await recovered(n, incident, "down")
        count = len(acknowledged)
        await recovered(n, incident, "last")
        stop.set()
        await asyncio.gather(*writers)
        assert len(acknowledged) > count and not n.log.failed
    found = texts(postgres_url, tmp_path)
    assert sorted(found) == sorted([*acknowledged, "first", "down", "last"])
    assert state.verified(postgres_url, tmp_path).good and not state.differing(postgres_url, tmp_path)


def again(server: Postgres) -> None:
    """The same cluster on the same port."""
    old = server._process
    assert old is not None
    with server.log.open("ab") as log:
        server._process = subprocess.Popen(
            old.args,
            user="postgres" if os.geteuid() == 0 else None,
            cwd=server.directory,
            env=server._environment(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
    wait_until(server._answers, server._process, server.log, START_TIMEOUT_S)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_a_postgresql_that_could_lose_acknowledged_entries_is_refused(
    setting: str, postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    name = sql.Identifier(setting)
    try:
        postgres_server.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(name))
        postgres_server.execute(sql.SQL("SELECT pg_reload_conf()").format())
        with pytest.raises(Unavailable, match=rf"store\.not_durable.*{setting}"):
            async with asyncio.timeout(20):
                await _refused_start(postgres_url, tmp_path)
    finally:
        postgres_server.execute(sql.SQL("ALTER SYSTEM RESET {}").format(name))
        postgres_server.execute(sql.SQL("SELECT pg_reload_conf()").format())


async def _refused_start(url: str, data: Path) -> None:
    """A server's processes learn of a reload a moment later: start until it is refused."""
    while True:
        async with node(url, data):
            pass
