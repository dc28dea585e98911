"""Entries of other nodes at the log: stored as they came, once, in order, or not at all."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import server
from command import cli
from command.base.config import load
from command.base.entry import By, Seal, Stream, check_seal, root_from_path
from command.base.errors import Conflict, Corrupt
from command.base.identity import load_or_make
from command.base.schema import Party, PartyKind
from command.domain.handover import InviteToIncident
from command.domain.incident import INCIDENT, AddNote
from command.domain.membership import EditNode
from command.domain.nodes import NODE
from command.domain.order import ORDER, IssueOrder
from command.domain.registry import ORGANISATION, UNIT, Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.edge.api import Node
from command.edge.audit_api import _chunk
from command.log import folding
from command.log.intake import RECEIVE_ENTRIES_MAX
from command.log.store import ENTRY, STREAM
from command.log.verify import verify
from command.log.witness import Witness, checkpoint, read_witness
from command.tree.item import Door, pack
from command.tree.wire import Tip
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import node, world
from tests.tree.crowd import carry, crowd, exchange, held, incident, keys, report, rows, settled


async def _reported(n: Node, notes: int = 0) -> str:
    w = await world(n)
    key = (await n.log.append(report(w.county), SELF)).id or ""
    await asyncio.gather(*(n.log.append(AddNote(id=key, text=f"{i}"), SELF) for i in range(notes)))
    return key


async def test_what_another_node_wrote_is_stored_shown_and_verified(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city, notes=30)
        before = county.log.position
        heads = await carry(city, county)
        assert county.log.position > before
        assert {stream.origin for stream in heads} == {city.log.node}
        there, here = await incident(city, key), await incident(county, key)
        assert here == there and here.owner == city.log.node and here.notes == 30
        assert await settled(city, key) == await settled(county, key)
    assert state.verified(database_url, tmp_path / "county").good
    assert not state.differing(database_url, tmp_path / "county")


async def test_what_is_held_already_is_skipped(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city, notes=5)
        first = await carry(city, county)
        items = await held(city)
        again = await county.log.receive(items + items[::-1], await keys(county))
        assert {again[stream].length - at.length for stream, at in first.items()} == {0}
        assert (await incident(county, key)).notes == 5


async def test_a_gap_is_refused_and_nothing_of_the_batch_is_kept(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        await _reported(city, notes=5)
        items = await held(city)
        whole = [one for one in items if one.stream.subject.startswith("incident/")]
        with pytest.raises(Conflict, match=r"receive\.gap"):
            await county.log.receive([*whole[:2], *whole[3:]], await keys(county))
        assert not await rows(county, INCIDENT)
        await carry(city, county)
        assert await rows(county, INCIDENT)


def _spoilt(one: Any) -> dict[str, Any]:
    written, seal = one.written, one.seal
    change = msgspec.structs.replace
    other = Seal(root=seal.root, count=seal.count, signature=b"\x00" * 64)
    return {
        "receive.hash": change(one, written=change(written, data=written.data.replace(b'"seq":', b'"seq": '))),
        "seal.path": change(one, leaf=one.leaf + 1),
        "receive.private": change(one, written=change(written, private=b"{}", salt=b"\x00" * 32)),
        "receive.seal": change(one, seal=other),
    }


async def test_bytes_that_are_not_what_they_say_are_refused(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        await _reported(city, notes=3)
        items = [one for one in await held(city) if one.stream.subject.startswith("incident/")]
        for code, spoilt in _spoilt(items[-1]).items():
            with pytest.raises(Corrupt) as caught:
                await county.log.receive([*items[:-1], spoilt], await keys(county))
            assert caught.value.code == code
        assert not await rows(county, INCIDENT)


class _Nothing:
    """Who holds nothing and knows one key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def holds(self, stream: Stream, tip: Tip) -> bool:
        return False

    def signed(self, origin: str, seal: Seal) -> bool:
        return check_seal(self._key, seal)


async def test_what_a_door_has_proven_is_looked_at_again_as_soon_as_anything_of_it_is_another(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        await _reported(city, notes=3)
        known = await keys(county)
        seals, packed = pack([one for one in await held(city) if one.stream.subject.startswith("incident/")])
        door = Door(_Nothing(known[city.log.node]), seals)
        items = [door.check(one) for one in packed]
        assert all(one.proven for one in items)
        for code, spoilt in _spoilt(items[-1]).items():
            assert not spoilt.proven
            with pytest.raises(Corrupt) as caught:
                await county.log.receive([*items[:-1], spoilt], known)
            assert caught.value.code == code
        other = known | {city.log.node: known[county.log.node]}
        with pytest.raises(Corrupt, match=r"receive\.seal"):  # what a door has proven needs the key all the same
            await county.log.receive(items, other)
        with pytest.raises(Conflict, match=r"receive\.unknown"):
            await county.log.receive(items, {})
        assert not await rows(county, INCIDENT)
        await county.log.receive(items, known)
        [found] = await rows(county, INCIDENT)
        assert found.notes == 3


async def test_who_is_not_registered_is_refused(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (_, county):
        async with node(f"sqlite:///{tmp_path}/stranger/f.db", tmp_path / "stranger") as stranger:
            await _reported(stranger)
            items = await held(stranger)
            with pytest.raises(Conflict, match=r"receive\.unknown"):
                await county.log.receive(items, await keys(county))
        assert not await rows(county, INCIDENT)


async def test_its_own_entries_come_back_without_effect(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(county, notes=3)
        await exchange(county, city)
        before = len(await held(county))
        await county.log.receive(await held(city), await keys(county))
        assert len(await held(county)) == before and (await incident(county, key)).notes == 3
        assert (await county.log.append(AddNote(id=key, text="weiter"), SELF)).entries


async def test_a_long_batch_is_written_in_pieces(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city, notes=RECEIVE_ENTRIES_MAX + 200)
        before = county.log.position
        await carry(city, county)
        assert county.log.position - before >= 2
        assert (await incident(county, key)).notes == RECEIVE_ENTRIES_MAX + 200


async def test_foreign_bytes_that_no_projector_digests_have_no_effect_and_stop_nothing(
    database_url: str, tmp_path: Path
) -> None:
    """The sender's own projector is told to write nonsense: a kind that is known with a body that is not."""
    from command.base.entry import Draft
    from command.base.projection import Decision
    from command.base.schema import Struct

    class Nonsense(Struct, frozen=True, kw_only=True):
        id: str

    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city, notes=1)
        bad = Draft(subject=f"incident/{key}", kind="fence.drawn", body={"fence": 5})

        def decide(found: Any, request: Any, context: Any) -> Decision:
            return Decision(drafts=[bad])

        city.log.domain.register((), None, {Nonsense: decide})
        city.log.domain.projectors, kept = {}, city.log.domain.projectors
        await city.log.append(Nonsense(id=key), SELF)
        city.log.domain.projectors = kept
        await city.log.append(AddNote(id=key, text="weiter"), SELF)
        await carry(city, county)
        assert (await incident(county, key)).notes == 2
    assert state.verified(database_url, tmp_path / "county").good


async def test_an_entry_that_would_make_an_unreadable_row_has_no_effect(database_url: str, tmp_path: Path) -> None:
    """An author's name that no id allows would poison the table of orders: encoding a row checks nothing."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city)
        [squad] = await rows(city, UNIT)
        party = Party(kind=PartyKind.UNIT, id=squad.id)
        order = IssueOrder(incident=key, assignee=party, task="x", ladder=[])
        good = (await city.log.append(order, SELF)).id
        await city.log.append(order, By(account="no id, with spaces"))
        await city.log.append(InviteToIncident(incident=key, nodes=[county.log.node]), SELF)
        await carry(city, county)
        assert [row.id for row in await rows(county, ORDER)] == [good]
        await county.log.append(AddNote(id=key, text="x"), SELF)
        assert await settled(county, key)


async def test_a_row_of_the_registry_belongs_to_the_node_that_wrote_it(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        for n, name in ((county, "县的"), (city, "市的")):
            await n.log.append(SaveOrganisation(id="org-1", name=name, tier=Tier.COUNTY), SELF)
        made = await city.log.append(SaveUnit(name="市队", kind=UnitKind.FIRE, organisation="org-1"), SELF)
        await carry(city, county)
        assert [row.name for row in await rows(county, UNIT)] == ["市队"]
        found = {row.id: row.name for row in await rows(county, ORGANISATION)}
        assert found == {"org-1": "县的"}
        edit = SaveUnit(id=made.id, version=1, name="改", kind=UnitKind.FIRE, organisation="org-1")
        with pytest.raises(Conflict, match=r"registry\.elsewhere"):
            await county.log.append(edit, SELF)
    assert not state.differing(database_url, tmp_path / "county")


async def test_every_node_knows_itself_and_its_line(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "province", "city", "county") as nodes:
        await exchange(*nodes)
        for n in nodes:
            found = {row.id: row.parent for row in await rows(n, NODE)}
            province, city, county = (one.log.node for one in nodes)
            assert found == {province: None, city: province, county: city}


async def test_an_export_names_the_seal_of_each_author(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(city, notes=3)
        await city.log.append(InviteToIncident(incident=key, nodes=[county.log.node]), SELF)
        await carry(city, county)
        await county.log.append(AddNote(id=key, text="县"), SELF)
        found = await county.store.read(lambda c: _chunk(c, f"incident/{key}", 0, 2**53))
        assert len(found) == 6 and {row.origin for row in found} == {city.log.node, county.log.node}
        known = await keys(county)
        for row in found:
            count = row._mapping["count"]
            assert root_from_path(row.hash, row.leaf, count, row.path) == row.root
            assert check_seal(known[row.origin], Seal(root=row.root, count=count, signature=row.signature))


def _cut(url: str, data: Path, key: str) -> None:
    """Take the last entry of an incident's only stream out of a database, as if it had never been."""
    with state.opened(url, data) as store, store.writer_engine.begin() as connection:
        row = connection.execute(sa.select(STREAM).where(STREAM.c.subject == f"incident/{key}")).one()
        before = sa.select(ENTRY.c.hash).where(ENTRY.c.stream == row.id, ENTRY.c.seq == row.length - 1)
        head = connection.scalar(before)
        connection.execute(sa.delete(ENTRY).where(ENTRY.c.stream == row.id, ENTRY.c.seq == row.length))
        connection.execute(sa.update(STREAM).where(STREAM.c.id == row.id).values(length=row.length - 1, head=head))


def _verified(url: str, data: Path, *more: str) -> int:
    """The exit status of `server.py verify`."""
    asked = server.parser().parse_args(["verify", "--data", str(data), *more])
    config = load({}, None, data=str(data), database=url)
    return cli.run(asked, config, server.house(config))


async def test_a_superiors_checkpoint_finds_what_was_cut_off_below_it(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(county, notes=3)
        await carry(county, city)
        me, superior, secret = county.log.node, city.log.node, load_or_make(tmp_path / "city")
        for _ in range(2):
            await city.store.read(lambda c: checkpoint(c, tmp_path / "w", secret, superior, city.clock.now(), me))
    witness = ("--witness", str(tmp_path / "w"), "--witness-by", superior)
    assert _verified(database_url, tmp_path / "county", *witness) == 0
    _cut(database_url, tmp_path / "county", key)
    assert _verified(database_url, tmp_path / "county", *witness) == 1
    said = capsys.readouterr().out
    assert f"witness: incident/{key}@{me}." in said and "saw 4 entries; 3 are left" in said
    other = ("--witness", str(tmp_path / "w"), "--witness-by", me)
    assert _verified(database_url, tmp_path / "county", *other) == 1
    assert "not signed by this node" in capsys.readouterr().out


async def test_a_parents_witness_holds_a_child_to_what_it_wrote(database_url: str, tmp_path: Path) -> None:
    """The child's own disk is changed behind its back; what the parent has witnessed of it shows the place."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = await _reported(county, notes=3)
        await carry(county, city)
        secret = load_or_make(tmp_path / "city")
        await Witness(tmp_path / "w", city.store, city.clock, secret, city.log.node).write()
        me = county.log.node
    heads, wrong = read_witness(tmp_path / "w", secret.public_key())
    mine = {name: head for name, head in heads.items() if f"@{me}." in name}
    assert not wrong and any(name.startswith(f"incident/{key}@") for name in mine)
    own = load_or_make(tmp_path / "county").public_key()
    with state.opened(database_url, tmp_path / "county") as store:
        with store.reader_engine.connect() as connection:
            assert verify(connection, {me: own}, witnessed=mine).good
        with store.writer_engine.begin() as connection:
            cut = connection.execute(sa.select(STREAM).where(STREAM.c.subject == f"incident/{key}")).one()
            before = sa.select(ENTRY.c.hash).where(ENTRY.c.stream == cut.id, ENTRY.c.seq == cut.length - 1)
            head = connection.scalar(before)
            connection.execute(sa.delete(ENTRY).where(ENTRY.c.stream == cut.id, ENTRY.c.seq == cut.length))
            connection.execute(sa.update(STREAM).where(STREAM.c.id == cut.id).values(length=cut.length - 1, head=head))
        with store.reader_engine.connect() as connection:
            problems = verify(connection, {me: own}, witnessed=mine).problems
    assert any(problem.what == "witness" and f"incident/{key}@" in problem.place for problem in problems)


async def test_an_order_that_comes_in_a_long_backlog_is_reported_delivered(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows lag behind the entries then: the order isn't among them yet when it arrives."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(county)
        key = (await county.log.append(report(w.county), SELF)).id or ""
        await exchange(county, city)
        [row] = await rows(city, NODE, parent=None)
        await city.log.append(EditNode(id=row.id, version=row.version, organisation=w.city), SELF)
        await exchange(county, city)
        await city.log.append(AddNote(id=key, text="市里"), SELF)
        monkeypatch.setattr(folding, "FOLD_AT_ONCE", 0)
        party = Party(kind=PartyKind.ORGANISATION, id=w.city)
        order = IssueOrder(incident=key, assignee=party, task="增援", ladder=[])
        made = await county.log.append(order, SELF)
        await carry(county, city)
        await settled(city, key)
        await city.log.append(AddNote(id=key, text="danach"), SELF)
        assert {row.id: row.progress.value for row in await rows(city, ORDER)} == {made.id: "delivered"}
