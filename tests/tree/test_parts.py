"""Private parts that come after their entries: to whom, when, and that nothing erased comes back."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from command.base.errors import Corrupt
from command.base.schema import Level
from command.domain.convening import BeginMeeting, EditMeeting
from command.domain.erasure import EraseEntry
from command.domain.handover import InviteToIncident
from command.domain.incident import INCIDENT, AddNote
from command.domain.meeting import OpenRoom
from command.domain.nodes import NODE, TreeNode
from command.domain.registry import ORGANISATION, PERSON, Tier
from command.domain.registry_edits import SaveOrganisation, SavePerson
from command.domain.roll_call import CHAT, Say
from command.domain.room import ROOM
from command.domain.schedule import SCHEDULE
from command.edge.api import Node
from command.log.audience import Audience, NodeTree
from command.log.holdings import Holdings
from command.log.store import ENTRY, LACKING, STREAM, prepare
from command.tree.item import Received
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import world
from tests.tree.crowd import carry, crowd, held, incident, keys, report, rows, settled
from tests.tree.scene import Member, tree, until
from tests.tree.test_meetings_shared import _account, _scheduled, _shown, _sit

SECRET = "李四的电话是13800001111"


def bare(one: Received) -> Received:
    return replace(one, written=replace(one.written, salt=None, private=None))


def erasing(one: Received) -> EraseEntry:
    where = {"stream": str(one.stream), "seq": one.written.entry.seq}
    return EraseEntry(entry=one.written.hash.hex(), reason="法院令", **where)


async def lacking(n: Node, subject: str = "%") -> int:
    count = sa.select(sa.func.count()).select_from(LACKING).where(LACKING.c.subject.like(subject))
    return await n.store.read(lambda c: c.scalar(count) or 0)


async def _told(n: Node) -> tuple[str, str, str]:
    """An incident with a note, a person, and a room with a line of chat, each with the secret in it; their ids."""
    w = await world(n)
    key = (await n.log.append(report(w.county, title=SECRET), SELF)).id or ""
    await n.log.append(AddNote(id=key, text=SECRET), SELF)
    person = (await n.log.append(SavePerson(name=SECRET, organisation=w.county), SELF)).id or ""
    account = await _account(n, w.county, "one")
    room = (await n.log.append(OpenRoom(incident=key, title=SECRET, chair=account), SELF)).id or ""
    await _sit(n, room, account, SECRET)
    await n.log.append(Say(room=room, text=SECRET), SELF)
    return key, person, room


async def test_parts_that_come_later_fill_entries_and_rows_once(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "county", "city") as (county, city):
        key, person, room = await _told(county)
        found = [one for one in await held(county) if one.stream.origin == county.log.node]
        await city.log.receive([bare(one) for one in found], await keys(city))
        assert await settled(city, key) != await settled(county, key)
        assert await lacking(city) > 5
        assert SECRET not in str([await _shown(city, room), await incident(city, key), await rows(city, PERSON)])
        for _ in range(2):
            await city.log.receive(found, await keys(city))
            assert await settled(city, key) == await settled(county, key)
            assert await lacking(city) == 0
            assert await _shown(city, room) == await _shown(county, room)
            assert (await incident(city, key)).title == SECRET
            assert [row.name for row in await rows(city, PERSON) if row.id == person] == [SECRET]
    assert state.verified(database_url, tmp_path / "city").good
    assert not state.differing(database_url, tmp_path / "city")


@pytest.mark.any_store
async def test_a_part_that_is_not_what_the_entry_says_is_refused(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "county", "city") as (county, city):
        await _told(county)
        found = [one for one in await held(county) if one.stream.origin == county.log.node]
        await city.log.receive([bare(one) for one in found], await keys(city))
        before = await lacking(city)
        parts = [one for one in found if one.written.private is not None]
        wrong = replace(parts[0], written=replace(parts[0].written, private=parts[1].written.private))
        with pytest.raises(Corrupt, match=r"receive\.private"):
            await city.log.receive([wrong], await keys(city))
        assert await lacking(city) == before


@pytest.mark.parametrize("known", ["before", "after"])
async def test_what_was_erased_is_not_filled_again(known: str, database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "county", "city") as (county, city):
        key, _, room = await _told(county)
        found = [one for one in await held(county) if one.stream.origin == county.log.node]
        await city.log.receive([bare(one) for one in found], await keys(city))
        erased = [one for one in found if one.written.entry.kind in ("incident.noted", "meeting.said")]
        for one in erased:
            await county.log.append(erasing(one), SELF)
        if known == "before":
            await carry(county, city)
        await city.log.receive(found, await keys(city))
        await carry(county, city)
        assert await settled(city, key) and await lacking(city) == 0
        hashes = [one.written.hash for one in erased]
        stored = sa.select(ENTRY.c.private).where(ENTRY.c.hash.in_(hashes))
        assert await city.store.read(lambda c: list(c.scalars(stored))) == [None, None]
        assert [row.text for row in await rows(city, CHAT)] == [""]
        assert [row.title for row in await rows(city, ROOM) if row.id == room] == [SECRET]
    assert not state.differing(database_url, tmp_path / "city")


@pytest.mark.any_store
async def test_who_may_not_read_a_part_is_not_given_it_and_what_was_asked_in_vain_is_counted(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(city)
        await city.log.append(SavePerson(name=SECRET, organisation=w.county), SELF)
        place = (await city.log.append(report(w.city, level=Level.IV), SELF)).id or ""
        found = [one for one in await held(city) if one.written.private is not None]
        nodes: dict[str, TreeNode] = {row.id: row for row in await rows(city, NODE)}
        places = NodeTree(nodes)
        audience = Audience(city.log.node, places)
        holdings = Holdings(city.store, city.log.node, lambda: city.log.generation, nodes, audience)

        def asked(subject: str, kind: str) -> tuple[int, int]:
            some = [one for one in found if one.stream.subject == subject and one.written.entry.kind.startswith(kind)]
            assert some
            given, refused = holdings.parts(some[0].stream, [one.tip for one in some], county.log.node)
            return len(given), refused

        with holdings.reading():
            assert asked("registry", "person.") == (0, 3)
            assert asked(f"incident/{place}", "incident.") == (0, 1)
            nodes[county.log.node] = replace(nodes[county.log.node], parent=None)
            nodes[city.log.node] = replace(nodes[city.log.node], parent=county.log.node)
            places.moved()  # the county stands above now
            assert asked("registry", "person.") == (3, 0)


async def _metric(at: Member) -> str:
    lines = (await at.uplink.metrics()).decode().splitlines()
    return next((line.rpartition(" ")[2] for line in lines if line.startswith("fenghuo_link_parts_refused_total")), "0")


@pytest.mark.slow  # two linked nodes
async def test_who_is_invited_late_reads_what_was_said_before_and_who_is_no_longer_reads_nothing_new(
    tmp_path: Path,
) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        city, county = nodes["city"], nodes["county"]
        place = await county.decide(SaveOrganisation(name="示范一县", tier=Tier.COUNTY))
        guest = await county.decide(SavePerson(name="赴会者", organisation=place))
        region = await city.decide(SaveOrganisation(name="示范市", tier=Tier.CITY))

        async def known() -> bool:
            people, places = await rows(city.node, PERSON), await rows(city.node, ORGANISATION)
            return guest in {row.id for row in people} and place in {row.id for row in places}

        await until(known)
        room = await _scheduled(city.node, region, persons=[guest])

        async def plan(at: Member) -> list[tuple[int, str, list[str]]]:
            return [(row.version, row.title, row.people) for row in await rows(at.node, SCHEDULE) if row.id == room]

        async def here() -> bool:
            return await plan(county) == await plan(city) != []

        await until(here)
        await city.decide(EditMeeting(id=room, version=1, persons=[], title="内部例会", notify=False))

        async def left() -> bool:
            return bool(await plan(county)) and (await plan(county))[0][2] == []

        await until(left)
        assert (await plan(county))[0][1] == "防汛例会"  # the new title was not given
        assert await lacking(county.node, f"meeting/{room}") == 1
        [stream] = [one.stream for one in await held(city.node) if one.stream.subject == f"meeting/{room}"][:1]
        tips = [one.tip for one in await held(city.node) if one.stream == stream and one.written.private is not None]
        await county.uplink.peers[city.id].tell(lambda link: link.want(stream, tips))

        async def counted() -> bool:
            return float(await _metric(city)) == len(tips)

        await until(counted)
        assert await lacking(county.node, f"meeting/{room}") == 1
        await city.decide(EditMeeting(id=room, version=2, persons=[guest], notify=False))

        async def read() -> bool:
            return await plan(county) == await plan(city) and await lacking(county.node, f"meeting/{room}") == 0

        await until(read)
        assert (await plan(county))[0][1] == "内部例会"
        await city.decide(BeginMeeting(id=room))


@pytest.mark.slow  # two linked nodes
async def test_who_is_invited_late_to_an_incident_reads_its_earlier_notes(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        city, county = nodes["city"], nodes["county"]
        region = await city.decide(SaveOrganisation(name="示范市", tier=Tier.CITY))
        key = await city.decide(report(region, level=Level.IV))
        await city.decide(AddNote(id=key, text=SECRET))
        held_here = sa.select(STREAM.c.id).where(STREAM.c.subject == f"incident/{key}")
        assert await county.node.store.read(lambda c: c.execute(held_here).first()) is None
        await city.decide(InviteToIncident(incident=key, nodes=[county.id]))
        await nodes.same(f"incident/{key}", count=3)
        texts = [item.private.get("text") for item in await county.entries(f"incident/{key}")]
        assert SECRET in texts
        assert [row.title for row in await rows(county.node, INCIDENT)] == ["仓库起火"]


async def test_a_database_of_before_learns_which_parts_it_lacks(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "county", "city") as (county, city):
        await _told(county)
        found = [one for one in await held(county) if one.stream.origin == county.log.node]
        await city.log.receive([bare(one) for one in found], await keys(city))
        before = await lacking(city)
    with state.opened(database_url, tmp_path / "city") as store:
        with store.writer_engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE lacking")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
        prepare(store)
        with store.reader_engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(LACKING)) == before > 0
