"""An erased entry loses its private part wherever it went, whenever it comes, and nothing else breaks."""

import hashlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from command.base.entry import Draft
from command.base.errors import Conflict
from command.base.projection import Decision
from command.base.schema import Struct
from command.domain.erasure import ERASED, ERASED_FILE, ERASURE, EraseEntry
from command.domain.incident import AddNote
from command.domain.registry import PERSON
from command.domain.registry_edits import SavePerson
from command.edge.api import Node
from command.log.store import ENTRY, STREAM
from command.tree.item import Received
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import node, world
from tests.tree.crowd import carry, crowd, exchange, held, incident, keys, report, rows, settled
from tests.tree.scene import tree, until
from tests.tree.test_uplink import report as linked_report

SECRET = "李四的电话是13800001111"


async def _noted(n: Node, **more: Any) -> tuple[str, Received]:
    """An incident with a note that says too much; its id, and the note as it travels."""
    w = await world(n)
    key = (await n.log.append(report(w.county), SELF)).id or ""
    await n.log.append(AddNote(id=key, text=SECRET, **more), SELF)
    await n.log.append(AddNote(id=key, text="weiter"), SELF)
    [found] = [one for one in await held(n) if one.written.private and SECRET.encode() in one.written.private]
    return key, found


async def _note_of(n: Node, key: str) -> Received:
    made = await n.log.append(AddNote(id=key, text=SECRET), SELF)
    [found] = [one for one in await held(n) if one.written.hash.hex() in made.entries]
    return found


def _erase(one: Received) -> EraseEntry:
    return EraseEntry(
        entry=one.written.hash.hex(), stream=str(one.stream), seq=one.written.entry.seq, reason="法院令第5号"
    )


async def _parts(n: Node) -> list[bytes]:
    return await n.store.read(lambda c: [bytes(p) for p in c.scalars(sa.select(ENTRY.c.private)) if p is not None])


async def _clean(n: Node) -> bool:
    return not any(SECRET.encode() in part for part in await _parts(n))


def _in_files(folder: Path) -> bool:
    """Whether the octets stand in any file of a node that is at rest."""
    return any(SECRET.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_what_is_erased_goes_everywhere_and_the_chain_stays(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, note = await _noted(county)
        await exchange(county, city)
        assert not await _clean(city)
        await county.log.append(_erase(note), SELF)
        assert await _clean(county)
        assert await settled(county, key)
        await exchange(county, city)
        assert await _clean(city)
        [row] = await rows(city, ERASURE)
        assert row.entry == note.written.hash.hex() and row.by == county.log.node and row.counts
        assert await settled(city, key) == await settled(county, key)
        assert (await incident(city, key)).notes == 2
        again = await county.log.append(_erase(note), SELF)
        assert not again.entries
        await county.log.append(AddNote(id=key, text="danach"), SELF)
    for url, data in (
        (database_url, tmp_path / "county"),
        (f"sqlite:///{tmp_path / 'city'}/fenghuo.db", tmp_path / "city"),
    ):
        found = state.verified(url, data)
        assert found.good and found.erased == 1
        assert not state.differing(url, data)
        assert not _in_files(data)


async def test_who_gets_the_old_bytes_later_keeps_no_part_of_them(database_url: str, tmp_path: Path) -> None:
    """An old bundle, a node that was set back, a relay that has not heard yet: they all still carry the part."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, note = await _noted(county)
        old = await held(county)
        await county.log.append(_erase(note), SELF)
        await carry(county, city)
        await city.log.receive(old, await keys(city))
        await city.log.receive_ahead([note], await keys(city))
        assert await _clean(city)
    assert not _in_files(tmp_path / "city")


async def test_a_superior_erases_what_was_written_below_it_and_nobody_else_does(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, mine = await _noted(county)
        await exchange(county, city)
        theirs = await _note_of(city, key)
        await exchange(county, city)
        with pytest.raises(Conflict, match=r"erase\.elsewhere"):
            await county.log.append(_erase(theirs), SELF)
        await city.log.append(_erase(mine), SELF)
        await exchange(county, city)
        assert (await settled(county, key)) == (await settled(city, key))
        assert [row.counts for row in await rows(county, ERASURE)] == [True]
        assert any(SECRET.encode() in part for part in await _parts(county))  # the city's own note stands
        await _forge(county, theirs)
        await exchange(county, city)
        assert sorted(row.counts for row in await rows(city, ERASURE)) == [False, True]
        assert any(SECRET.encode() in part for part in await _parts(city))


async def _forge(n: Node, one: Received) -> None:
    """Write an erasure that the node's own decider would refuse."""

    class Forge(Struct, frozen=True, kw_only=True):
        pass

    body = {"entry": one.written.hash.hex(), "stream": str(one.stream), "seq": one.written.entry.seq}
    draft = Draft(subject=one.stream.subject, kind=ERASED, body=body)

    def decide(found: Any, request: Any, context: Any) -> Decision:
        return Decision(drafts=[draft])

    n.log.domain.register((), None, {Forge: decide})
    await n.log.append(Forge(), SELF)


async def test_a_person_is_erased_from_the_registry_too(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(county)
        person = await county.log.append(SavePerson(name=SECRET, organisation=w.county, phones=["+447700900009"]), SELF)
        await carry(county, city)
        [saved] = [one for one in await held(county) if one.written.hash.hex() in person.entries]
        await county.log.append(_erase(saved), SELF)
        await carry(county, city)
        for n in (county, city):
            [row] = [one for one in await rows(n, PERSON) if one.id == person.id]
            assert row.name == f"person/{person.id}" and row.phones == [] and row.organisation == w.county
            assert await _clean(n)
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_file_goes_with_the_last_entry_that_names_it(database_url: str, tmp_path: Path) -> None:
    name = "ab" * 32
    async with node(database_url, tmp_path / "county") as county:
        key, note = await _noted(county, attachments=[name])
        other = await county.log.append(AddNote(id=key, text="dasselbe Bild", attachments=[name]), SELF)
        await county.log.append(_erase(note), SELF)
        assert not await rows(county, ERASED_FILE)
        [second] = [one for one in await held(county) if one.written.hash.hex() in other.entries]
        await county.log.append(_erase(second), SELF)
        assert [row.id for row in await rows(county, ERASED_FILE)] == [name]


@pytest.mark.slow  # each order is a whole node
@pytest.mark.parametrize("seed", range(12))
async def test_every_order_of_arrival_ends_the_same(seed: int, tmp_path: Path) -> None:
    """Streams interleaved at random, parts and erasures in any order, in batches and ahead."""
    random = Random(seed)
    url = f"sqlite:///{tmp_path / 'vehicle'}/fenghuo.db"
    async with crowd(url, tmp_path, "city", "county", "vehicle") as (city, county, vehicle):
        key, note = await _noted(county)
        await exchange(county, city)
        before = await held(county)
        await (county if seed % 2 else city).log.append(_erase(note), SELF)
        await city.log.append(AddNote(id=key, text="市里"), SELF)
        await exchange(county, city)
        after = await held(county)
        known = await keys(vehicle)
        streams: dict[Any, list[Received]] = {}
        for one in sorted([*before, *after], key=lambda item: item.tip.length):
            if one.stream.origin != vehicle.log.node:
                streams.setdefault(one.stream, []).append(one)
        while streams:
            stream = random.choice(sorted(streams))
            count = random.randint(1, 4)
            some, streams[stream] = streams[stream][:count], streams[stream][count:]
            if random.random() < 0.3 and stream.subject.startswith("incident/"):
                await vehicle.log.receive_ahead(some, known)
            await vehicle.log.receive(some, known)
            if not streams[stream]:
                del streams[stream]
        assert await _clean(vehicle)
        assert await settled(vehicle, key) == await settled(city, key) == await settled(county, key)
    assert state.verified(url, tmp_path / "vehicle").good
    assert not state.differing(url, tmp_path / "vehicle")
    assert not _in_files(tmp_path / "vehicle")


async def test_verify_finds_a_part_that_should_be_gone(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path / "county") as county:
        _, note = await _noted(county)
        await county.log.append(_erase(note), SELF)
    with state.opened(database_url, tmp_path / "county") as store, store.writer_engine.begin() as connection:
        stream = connection.scalar(sa.select(STREAM.c.id).where(STREAM.c.subject == note.stream.subject))
        where = [ENTRY.c.stream == stream, ENTRY.c.seq == note.written.entry.seq]
        found = {"salt": note.written.salt, "private": note.written.private}
        connection.execute(sa.update(ENTRY).where(*where).values(**found))
    report_ = state.verified(database_url, tmp_path / "county")
    assert [problem.what for problem in report_.problems] == ["private"]


@pytest.mark.slow  # two linked nodes
async def test_an_attachment_is_deleted_where_the_link_had_brought_it(tmp_path: Path) -> None:
    octets = b"\xff\xd8\xff" + b"bild" * 5_000
    name = hashlib.sha256(octets).hexdigest()
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        (county.data / "attachments").mkdir()
        (county.data / "attachments" / name).write_bytes(octets)
        key = await linked_report(county)
        await county.decide(AddNote(id=key, text=SECRET, attachments=[name]))
        there = city.data / "attachments" / name
        await until(there.exists)
        [note] = [
            one for one in await held(county.node) if one.written.private and SECRET.encode() in one.written.private
        ]
        await county.decide(_erase(note))
        for folder in (there.parent, county.data / "attachments"):
            await until(lambda: not list(folder.glob(f"{name}*")))  # noqa: B023
        await until(lambda: _clean(city.node))
