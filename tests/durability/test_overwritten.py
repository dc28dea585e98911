"""What is erased is nowhere on the disk any more: neither in a page of the database, nor in a free one, nor in the WAL.

SQLite only: PostgreSQL needs a `VACUUM` for it, as docs/security.md says.
"""

import asyncio
import shutil
from pathlib import Path

import sqlalchemy as sa

from command.domain.erasure import EraseEntry
from command.domain.incident import AddNote
from command.edge.api import Node
from command.log.store import META, Store, open_store, set_meta
from tests.command.test_log import report
from tests.durability import state
from tests.node import NODE, node, world
from tests.prepared import lay

SECRET = "zebra-7431-quagga"
LONG = " ".join([SECRET] * 200)
"""Takes pages of its own, which become free ones."""


def found_in(folder: Path) -> list[str]:
    """The files that hold the secret."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes())


async def erased(n: Node) -> None:
    """Two notes with the secret, each in a commit of its own, and both erased."""
    w = await world(n)
    incident = (await n.log.append(report(w.county), NODE)).id or ""
    for text in (SECRET, LONG):
        [key] = (await n.log.append(AddNote(id=incident, text=text), NODE)).entries
        written = await n.store.read(lambda c: list(state.all_entries(c)))
        [entry] = [one.entry for one in written if one.hash.hex() == key]
        request = EraseEntry(entry=key, stream=str(entry.stream), seq=entry.seq, reason="依法删除")
        await n.log.append(request, NODE)
    while n.log.lagging:
        await n.log.caught_up()


async def emptied(store: Store, wal: Path) -> None:
    """Checkpoint until the WAL is empty; the node does so too, and whoever comes second leaves it to the first."""
    async with asyncio.timeout(60):
        await store.checkpoint()
        while wal.stat().st_size:
            await store.checkpoint()


async def test_an_erased_part_is_in_no_page_and_not_in_the_wal_after_the_next_checkpoint(tmp_path: Path) -> None:
    async with node(f"sqlite:///{tmp_path / 'fenghuo.db'}", tmp_path) as n:
        await erased(n)
        await emptied(n.store, tmp_path / "fenghuo.db-wal")
        assert found_in(tmp_path) == []


async def test_after_a_kill_the_first_checkpoint_of_the_next_start_empties_the_wal(tmp_path: Path) -> None:
    first, killed = tmp_path / "first", tmp_path / "killed"
    first.mkdir()
    lay(f"sqlite:///{first / 'fenghuo.db'}", first)
    store = open_store(f"sqlite:///{first / 'fenghuo.db'}", [], first)
    for value in (SECRET, ""):
        with store.writer_engine.begin() as connection:
            set_meta(connection, "read_schema", value)
    shutil.copytree(first, killed)  # what a kill -9 would leave
    store.close()
    assert found_in(killed) == ["fenghuo.db-wal"]
    store = open_store(f"sqlite:///{killed / 'fenghuo.db'}", [], killed)
    try:
        await emptied(store, killed / "fenghuo.db-wal")
        assert found_in(killed) == []
    finally:
        store.close()


async def test_a_long_reader_puts_the_emptying_off_and_stops_no_commit(tmp_path: Path) -> None:
    lay(f"sqlite:///{tmp_path / 'fenghuo.db'}", tmp_path)
    store = open_store(f"sqlite:///{tmp_path / 'fenghuo.db'}", [], tmp_path)

    def write(value: str) -> None:
        with store.writer_engine.begin() as connection:
            set_meta(connection, "read_schema", value)

    try:
        write(SECRET)
        with store.reader_engine.connect() as reader, reader.begin():
            reader.execute(sa.select(META)).all()
            write("")
            await store.checkpoint()
            assert store.purging
            write("x")
        await emptied(store, tmp_path / "fenghuo.db-wal")
        assert found_in(tmp_path) == [] and not store.purging
    finally:
        store.close()
