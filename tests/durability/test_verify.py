"""Verification finds what was changed behind the node's back: bits, entries, order, ends, and whole histories."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base import identity
from command.base.clock import Clock
from command.base.entry import Stream
from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.edge.api import Node
from command.log.store import ENTRY, HEAD, SEAL, STREAM
from command.log.verify import Report, verify
from command.log.witness import Witness, read_witness, stream_heads
from tests.node import NODE, node, world

FLIPS = 1_000
INCIDENTS = 3
NOTES = 24
AFTER = 6
"""Notes after the witnessed head."""


class Scene:
    """A log of a few streams, sealed in commits of one and of many, and what stood in it at the witnessed head."""

    def __init__(self, n: Node, key: Ed25519PrivateKey, incidents: list[str]) -> None:
        self.node, self.key, self.incidents = n, key, incidents
        self.witnessed: dict[str, tuple[int, str]] = {}

    def verify(self, connection: Connection, *, all_seals: bool = False, witnessed: bool = False) -> Report:
        keys = {self.node.log.node: self.key.public_key()}
        return verify(connection, keys, all_seals=all_seals, witnessed=self.witnessed if witnessed else None)

    async def within(self, work: Callable[[Connection], Any]) -> Any:
        """Run `work` in a write transaction that is taken back: what it changes is gone afterwards."""

        def run() -> Any:
            with self.node.store.writer_engine.connect() as connection, connection.begin() as transaction:
                try:
                    return work(connection)
                finally:
                    transaction.rollback()

        return await self.node.store.write(run)

    async def notes(self, count: int, first: int = 0) -> None:
        """Some alone in their commits, some together."""
        for number in range(first, first + count // 2):
            await self.node.log.append(AddNote(id=self.incidents[number % INCIDENTS], text=f"续报{number}"), NODE)
        numbers = range(first + count // 2, first + count)
        texts = [AddNote(id=self.incidents[number % INCIDENTS], text=f"续报{number}") for number in numbers]
        await asyncio.gather(*(self.node.log.append(text, NODE) for text in texts))


@asynccontextmanager
async def scene(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        report = ReportIncident(
            category=Category.ACCIDENT,
            level=Level.III,
            title="仓库起火",
            place=Place(lon=155.0, lat=32.0, address="示范路1号"),
            organisation=w.county,
        )
        made = await asyncio.gather(*(n.log.append(report, NODE) for _ in range(INCIDENTS)))
        found = Scene(n, identity.load_or_make(tmp_path), [receipt.id or "" for receipt in made])
        await found.notes(NOTES)
        found.witnessed = await n.store.read(stream_heads)
        await found.notes(AFTER, NOTES)
        for all_seals in (False, True):
            report_ = await found.within(lambda c, a=all_seals: found.verify(c, all_seals=a, witnessed=True))
            assert report_.good and report_.unwitnessed == AFTER, report_
        yield found


CELLS = {
    "data": ENTRY.c.data,
    "hash": ENTRY.c.hash,
    "private": ENTRY.c.private,
    "salt": ENTRY.c.salt,
    "path": ENTRY.c.path,
    "root": SEAL.c.root,
    "signature": SEAL.c.signature,
}
CONTENT = ("data", "hash", "private", "salt")
"""What is found without --all-seals too."""


async def test_every_flipped_bit_is_found(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(4)
    async with scene(database_url, tmp_path) as s:

        def cells(connection: Connection) -> dict[str, list[tuple[Any, bytes]]]:
            found = {}
            for name, column in CELLS.items():
                key = column.table.primary_key.columns[0]
                found[name] = [(k, bytes(v)) for k, v in connection.execute(sa.select(key, column)) if v]
            return found

        stored = await s.node.store.read(cells)

        def flip(connection: Connection) -> str | None:
            name = chance.choice(list(CELLS))
            key, octets = chance.choice(stored[name])
            bit = chance.randrange(8 * len(octets))
            changed = bytearray(octets)
            changed[bit // 8] ^= 1 << bit % 8
            column = CELLS[name]
            where = column.table.primary_key.columns[0] == key
            connection.execute(sa.update(column.table).where(where).values({column: bytes(changed)}))
            found = not s.verify(connection, all_seals=True).good
            if name in CONTENT:
                found = found and not s.verify(connection).good
            return None if found else f"bit {bit} of {name} {key}"

        missed = [miss for _ in range(FLIPS) if (miss := await s.within(flip)) is not None]
        assert not missed, missed


async def test_flips_in_counts_and_places_are_found(database_url: str, tmp_path: Path) -> None:
    """The integers that bind entries to streams and commits, and the index of streams."""
    changes: list[tuple[sa.Table, dict[str, Any]]] = [
        (ENTRY, {"seq": ENTRY.c.seq + 100}),
        (ENTRY, {"stream": 10_000}),
        (ENTRY, {"leaf": ENTRY.c.leaf + 1}),
        (ENTRY, {"position": ENTRY.c.position + 1_000}),
        (SEAL, {"count": SEAL.c.count + 1}),
        (SEAL, {"alg": "sm2"}),
        (STREAM, {"length": STREAM.c.length + 1}),
        (STREAM, {"subject": "incident/none"}),
        (STREAM, {"origin": "nobody"}),
        (STREAM, {"generation": "0" * 32}),
        (HEAD, {"entries": HEAD.c.entries - 1}),
        (HEAD, {"position": HEAD.c.position - 1}),
    ]
    async with scene(database_url, tmp_path) as s:
        for table, values in changes:
            key = table.primary_key.columns[0]
            keys = await s.node.store.read(lambda c, k=key: list(c.scalars(sa.select(k).order_by(k))))
            for one in keys:

                def change(connection: Connection, one: Any = one, table: sa.Table = table, key: Any = key) -> bool:
                    connection.execute(sa.update(table).where(key == one).values(**values))  # noqa: B023
                    return s.verify(connection, all_seals=True).good

                assert not await s.within(change), (table.name, one, values)


async def test_a_bit_of_a_newest_entrys_path_or_seal_is_found_without_all_seals(
    database_url: str, tmp_path: Path
) -> None:
    async with scene(database_url, tmp_path) as s:

        def spoil(connection: Connection) -> list[bool]:
            newest = [connection.scalar(sa.select(sa.func.max(c))) for c in (ENTRY.c.number, SEAL.c.position)]
            found = []
            for statement in (
                sa.update(ENTRY).where(ENTRY.c.number == newest[0]).values(path=bytes(64)),
                sa.update(SEAL).where(SEAL.c.position == newest[1]).values(signature=bytes(64)),
            ):
                connection.execute(statement)
                found.append(s.verify(connection).problems[-1].what == "seal")
            return found

        assert await s.within(spoil) == [True, True]


async def _numbers(s: Scene) -> list[int]:
    return await s.node.store.read(lambda c: list(c.scalars(sa.select(ENTRY.c.number).order_by(ENTRY.c.number))))


async def test_every_deleted_entry_is_found(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        for number in await _numbers(s):

            def delete(connection: Connection, number: int = number) -> tuple[bool, bool]:
                connection.execute(sa.delete(ENTRY).where(ENTRY.c.number == number))
                simple = s.verify(connection).good
                connection.execute(sa.update(HEAD).values(entries=HEAD.c.entries - 1))
                return simple, s.verify(connection).good

            assert await s.within(delete) == (False, False), number


async def test_every_swapped_pair_of_entries_is_found(database_url: str, tmp_path: Path) -> None:
    """Both ways: the contents change places, and the whole rows do."""
    contents = ("hash", "data", "salt", "private")
    places = ("stream", "seq", "position", "leaf", "path")
    async with scene(database_url, tmp_path) as s:
        numbers = await _numbers(s)
        for one, two in itertools.pairwise(numbers):
            for names in (contents, places, contents + places):

                def swap(
                    connection: Connection, one: int = one, two: int = two, names: tuple[str, ...] = names
                ) -> tuple[bool, bool]:
                    rows = [
                        dict(connection.execute(sa.select(ENTRY).where(ENTRY.c.number == number)).one()._mapping)
                        for number in (one, two)
                    ]
                    connection.execute(sa.update(ENTRY).where(ENTRY.c.number == one).values(seq=-1, stream=-1))
                    for number, own, other in ((two, rows[1], rows[0]), (one, rows[0], rows[1])):
                        values = {**own, **{name: other[name] for name in names}, "number": number}
                        connection.execute(sa.update(ENTRY).where(ENTRY.c.number == number).values(**values))
                    return s.verify(connection).good, s.verify(connection, all_seals=True).good

                simple, thorough = await s.within(swap)
                assert not thorough and not simple, (one, two, names)


def _truncate(connection: Connection, stream: Any, length: int) -> None:
    """As somebody who knows the tables would: nothing that is left says that there was more."""
    gone = sa.select(ENTRY.c.position).where(ENTRY.c.stream == stream.id, ENTRY.c.seq > length)
    positions = set(connection.scalars(gone))
    removed = connection.execute(sa.delete(ENTRY).where(ENTRY.c.stream == stream.id, ENTRY.c.seq > length)).rowcount
    for position in positions:
        left = connection.scalar(sa.select(sa.func.count()).select_from(ENTRY).where(ENTRY.c.position == position))
        if not left:
            connection.execute(sa.delete(SEAL).where(SEAL.c.position == position))
    head = connection.scalar(sa.select(ENTRY.c.hash).where(ENTRY.c.stream == stream.id, ENTRY.c.seq == length))
    if length:
        connection.execute(sa.update(STREAM).where(STREAM.c.id == stream.id).values(length=length, head=head))
    else:
        connection.execute(sa.delete(STREAM).where(STREAM.c.id == stream.id))
    connection.execute(sa.update(HEAD).values(entries=HEAD.c.entries - removed))


async def test_every_truncation_before_the_witnessed_head_is_found(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        for stream in await s.node.store.read(lambda c: c.execute(sa.select(STREAM)).all()):
            name = str(Stream(stream.subject, stream.origin, stream.generation))
            for length in range(s.witnessed[name][0]):

                def cut(connection: Connection, stream: Any = stream, length: int = length) -> list[str]:
                    _truncate(connection, stream, length)
                    return [problem.what for problem in s.verify(connection, witnessed=True).problems]

                assert "witness" in await s.within(cut), (name, length)


async def test_truncation_after_the_witnessed_head_leaves_fewer_unwitnessed_entries_and_no_problem(
    database_url: str, tmp_path: Path
) -> None:
    async with scene(database_url, tmp_path) as s:
        alone = f"incident/{s.incidents[0]}"
        for _ in range(3):
            await s.node.log.append(AddNote(id=s.incidents[0], text="无人见证"), NODE)
        streams = await s.node.store.read(lambda c: c.execute(sa.select(STREAM)).all())
        stream = next(stream for stream in streams if stream.subject == alone)

        def cut(connection: Connection) -> list[tuple[bool, int]]:
            found = []
            for length in (stream.length, stream.length - 1, stream.length - 3):
                _truncate(connection, stream, length)
                report = s.verify(connection, witnessed=True)
                found.append((report.good, report.unwitnessed))
            return found

        assert await s.within(cut) == [(True, AFTER + 3), (True, AFTER + 2), (True, AFTER)]


async def test_without_a_witness_every_entry_is_unwitnessed(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        report = await s.within(s.verify)
        assert report.good and report.unwitnessed == report.entries > NOTES


def _rewrite(connection: Connection, number: int, key: Ed25519PrivateKey | None) -> None:
    """Change one entry and everything that depends on it: hashes, chain, head, roots, paths; and with a key the seals."""
    rows = [dict(row._mapping) for row in connection.execute(sa.select(ENTRY).order_by(ENTRY.c.number))]
    heads: dict[int, str] = {}
    for row in rows:
        found = entries.decode(row["data"])
        changes: dict[str, Any] = {"prev": heads.get(row["stream"], entries.NO_HASH)}
        if row["number"] == number:
            changes["kind"] = "incident.stepped"
        written = entries.write(msgspec.structs.replace(found, **changes), row["private"], row["salt"])
        row["data"], row["hash"] = written.data, written.hash
        heads[row["stream"]] = written.hash.hex()
    for position in sorted({row["position"] for row in rows}):
        commit = [row for row in rows if row["position"] == position]
        root, paths = entries.merkle([row["hash"] for row in commit])
        for row, path in zip(commit, paths, strict=True):
            row["path"] = path
        values: dict[str, Any] = {"root": root}
        if key is not None:
            values["signature"] = key.sign(entries.SEAL_CONTEXT + root)
        connection.execute(sa.update(SEAL).where(SEAL.c.position == position).values(**values))
    for row in rows:
        connection.execute(sa.update(ENTRY).where(ENTRY.c.number == row["number"]).values(**row))
    for stream, head in heads.items():
        connection.execute(sa.update(STREAM).where(STREAM.c.id == stream).values(head=bytes.fromhex(head)))


@pytest.mark.parametrize("keys", ["none", "another", "own"])
async def test_a_history_that_was_rewritten_whole_is_found_by_seal_or_witness(
    keys: str, database_url: str, tmp_path: Path
) -> None:
    """Without the node's key by the seals, with or without a witness; with the stolen key by the witness."""
    async with scene(database_url, tmp_path) as s:
        key = {"none": None, "another": Ed25519PrivateKey.generate(), "own": s.key}[keys]
        streams = await s.node.store.read(lambda c: c.execute(sa.select(STREAM.c.id, STREAM.c.subject)).all())
        of = {stream.id: stream.subject for stream in streams}
        chosen = await s.node.store.read(
            lambda c: c.execute(
                sa.select(ENTRY.c.number, ENTRY.c.stream).where(ENTRY.c.seq == 2).order_by(ENTRY.c.number)
            ).all()
        )
        number = next(row.number for row in chosen if of[row.stream].startswith("incident/"))

        def rewrite(connection: Connection) -> tuple[set[str], set[str], set[str]]:
            _rewrite(connection, number, key)
            return tuple(
                {problem.what for problem in report.problems}
                for report in (
                    s.verify(connection),
                    s.verify(connection, all_seals=True),
                    s.verify(connection, witnessed=True),
                )
            )  # type: ignore[return-value]

        plain, thorough, witnessed = await s.within(rewrite)
        if keys == "own":
            assert plain == thorough == set() and witnessed == {"witness"}
        else:
            assert plain == thorough == {"seal"} and witnessed == {"seal", "witness"}


async def test_a_private_part_that_is_taken_away_is_counted(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:

        def take(connection: Connection) -> tuple[int, int, int]:
            before = s.verify(connection)
            number = connection.scalar(sa.select(sa.func.max(ENTRY.c.number)))
            connection.execute(sa.update(ENTRY).where(ENTRY.c.number == number).values(private=None, salt=None))
            after = s.verify(connection)
            return before.absent, after.absent, before.parts - after.parts

        assert await s.within(take) == (0, 1, 1)


# -- the witness file


async def test_every_flipped_bit_of_the_witness_file_is_found(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    async with scene(database_url, tmp_path) as s:
        path = tmp_path / "outside" / "witness"
        witness = Witness(path, s.node.store, Clock(), s.key, s.node.log.node)
        for number in range(4):
            await s.node.log.append(AddNote(id=s.incidents[0], text=f"{number}"), NODE)
            await witness.write()
        octets, key = path.read_bytes(), s.key.public_key()
        heads, wrong = read_witness(path, key)
        assert not wrong and heads == await s.node.store.read(stream_heads)
        for _ in range(200):
            changed = bytearray(octets[:-1])
            bit = chance.randrange(8 * len(changed))
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bytes(changed) + b"\n")
            assert read_witness(path, key)[1], bit
        rest, mark, signature = octets.rpartition(b'"signature":')
        path.write_bytes(rest + mark + signature.upper())
        assert read_witness(path, key)[1], "the same signature, written otherwise"
        for lines in ([0, 1, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3]):
            whole = octets.split(b"\n")
            path.write_bytes(b"".join(whole[line] + b"\n" for line in lines))
            assert read_witness(path, key)[1], lines


async def test_a_line_torn_by_a_crash_harms_no_other(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        path, key = tmp_path / "outside" / "witness", s.key.public_key()
        await Witness(path, s.node.store, Clock(), s.key, s.node.log.node).write()
        whole = path.read_bytes()
        path.write_bytes(whole + whole[: len(whole) // 2])
        assert read_witness(path, key) == (await s.node.store.read(stream_heads), [])
        await s.node.log.append(AddNote(id=s.incidents[0], text="之后"), NODE)
        await Witness(path, s.node.store, Clock(), s.key, s.node.log.node).write()
        assert read_witness(path, key) == (await s.node.store.read(stream_heads), [])
