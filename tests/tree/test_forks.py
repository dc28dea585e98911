"""A database that went back in time: it is noticed, nothing is written twice under one name, and what was lost comes back."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from command.base.clock import ManualClock
from command.base.entry import Stream
from command.base.errors import Conflict
from command.base.schema import Party, PartyKind
from command.base.timer import TIMER
from command.domain.incident import AddNote
from command.domain.order import IssueOrder
from command.domain.registry import Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.edge.api import Node
from command.log import timeline
from command.log.instance import MARKER, Instance
from command.log.store import BRANCH
from command.tree.wire import BRANCHES_MAX
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import node, service
from tests.tree.crowd import carry, exchange, held, incident, join, keys, report, rows, settled


def url(data: Path) -> str:
    return f"sqlite:///{data}/fenghuo.db"


async def _generations(n: Node) -> list[Any]:
    return [one.written.entry for one in await held(n) if one.written.entry.kind == "generation.opened"]


async def test_a_restart_goes_on_in_the_same_generation(database_url: str, tmp_path: Path) -> None:
    found = set()
    for _ in range(2):
        async with node(database_url, tmp_path) as n:
            found.add(n.log.generation)
    assert len(found) == 1


async def _life(data: Path, notes: int, key: str | None) -> tuple[str, str]:
    """A node runs, writes notes and stops; the incident and the generation."""
    async with service(url(data), data, listen=True) as running:
        n = running.node
        if key is None:
            organisation = await n.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)
            key = (await n.log.append(report(organisation.id or ""), SELF)).id or ""
        for number in range(notes):
            await n.log.append(AddNote(id=key, text=f"{number}"), SELF)
        return key, n.log.generation


async def test_an_old_database_put_back_without_a_word_opens_a_new_generation(tmp_path: Path) -> None:
    data, copy = tmp_path / "n", tmp_path / "copy"
    key, first = await _life(data, 2, None)
    shutil.copytree(data, copy)
    _, same = await _life(data, 3, key)
    for file in data.glob("fenghuo.db*"):
        file.unlink()
    for file in copy.glob("fenghuo.db*"):
        shutil.copy(file, data / file.name)
    _, second = await _life(data, 1, key)
    _, third = await _life(data, 1, key)
    assert first == same != second == third
    async with node(url(data), data) as n:
        [_, opened] = await _generations(n)
        assert opened.body["restored"] and opened.body["previous"] == first
        assert any(name.startswith(f"incident/{key}@") and at[0] == 3 for name, at in opened.body["after"].items())
        wanted = Stream(f"incident/{key}", n.log.node, second)
        first_entry = (await held(n, lambda stream: stream == wanted))[0]
        assert first_entry.written.entry.seen == {f"{n.log.node}.{first}": 3}
        assert (await incident(n, key)).notes == 4


def test_the_marker_tells_an_older_position_and_another_run(tmp_path: Path) -> None:
    one = Instance(tmp_path)
    assert not one.went_back(None, 0) and not one.went_back("", 5)
    assert one.went_back("somewhere else", 5)
    one.announce("a")
    assert not one.went_back("a", 0)
    one.begin("a", 10)
    one.reached(20)
    again = Instance(tmp_path)
    assert not again.went_back("a", 20) and not again.went_back("a", 25)
    assert again.went_back("a", 19) and again.went_back("b", 30)
    again.announce("b")  # a crash here leaves the database with either name
    assert not Instance(tmp_path).went_back("a", 20) and not Instance(tmp_path).went_back("b", 20)
    again.begin("b", 20)
    assert Instance(tmp_path).went_back("a", 20)


def test_a_marker_that_is_no_marker_counts_as_lost(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_bytes(b"\xff\x00")
    assert Instance(tmp_path).went_back("a", 1)


async def test_both_lives_of_a_snapshot_that_carried_the_marker_survive(database_url: str, tmp_path: Path) -> None:
    """The county is taken back to a snapshot of its whole disk, writes on, and meets the city, which holds what it forgot."""
    data, copy = tmp_path / "county", tmp_path / "copy"
    async with node(database_url, tmp_path / "city") as city:
        async with node(url(data), data) as county:
            await join(city, county, "county")
            organisation = (await county.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
            key = (await county.log.append(report(organisation), SELF)).id or ""
            await exchange(city, county)
        shutil.copytree(data, copy)
        async with node(url(data), data) as county:
            for text in ("一", "二", "三"):
                await county.log.append(AddNote(id=key, text=text), SELF)
            await carry(county, city)
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        async with node(url(data), data) as county:
            for text in ("甲", "乙"):
                await county.log.append(AddNote(id=key, text=text), SELF)
            before = county.log.generation
            with pytest.raises(Conflict, match=r"receive\.own"):
                await county.log.receive(await held(city), await keys(county))
            assert await county.log.open_generation() == county.log.generation != before
            await county.log.append(AddNote(id=key, text="新"), SELF)
            await exchange(city, county)
            for n in (city, county):
                assert await settled(n, key)
                assert (await incident(n, key)).notes == 6
            assert await settled(city, key) == await settled(county, key)
            texts = {one.written.secrets.get("text") for one in await held(county)}
            assert {"一", "二", "三", "甲", "乙", "新"} <= texts
            branched = await county.store.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(BRANCH)))
            assert branched == 3
            shown: list[Any] = await county.store.read(lambda c: timeline.read(c, f"incident/{key}"))
            assert {item.id for item in shown if item.branch} and len(shown) == len({item.id for item in shown})
            told = {item.private.get("text") for item in shown}
            assert {"一", "二", "三", "甲", "乙", "新"} <= told
            paged: list[Any] = await county.store.read(
                lambda c: timeline.read(c, f"incident/{key}", before=shown[-1].position, limit=2)
            )
            assert [item.id for item in paged] == [
                item.id for item in shown if paged[0].position <= item.position < shown[-1].position
            ]
            length = len(await held(county))
            await exchange(city, county)
            assert len(await held(county)) == length
    assert state.verified(database_url, tmp_path / "city").good
    assert not state.differing(database_url, tmp_path / "city")
    assert state.verified(url(data), data).good
    assert not state.differing(url(data), data)


async def test_a_new_generation_opened_while_running_survives_a_restart(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        opened = await n.log.open_generation()
    async with node(database_url, tmp_path) as n:
        assert n.log.generation == opened
        assert [entry.generation for entry in await _generations(n)][-1] == opened
    assert state.verified(database_url, tmp_path).good


async def test_timers_that_come_back_with_a_lost_generation_wait_for_a_person(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    data, copy = tmp_path / "county", tmp_path / "copy"
    async with node(database_url, tmp_path / "city", clock=clock) as city:
        async with node(url(data), data, clock=clock) as county:
            await join(city, county, "county")
            organisation = (await county.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
            unit = SaveUnit(name="队", kind=UnitKind.FIRE, organisation=organisation)
            party = Party(kind=PartyKind.UNIT, id=(await county.log.append(unit, SELF)).id or "")
            key = (await county.log.append(report(organisation), SELF)).id or ""
        shutil.copytree(data, copy)
        async with node(url(data), data, clock=clock) as county:
            order = IssueOrder(incident=key, assignee=party, task="x", ladder=[], ack_within_s=60, due_in_s=90_000)
            await county.log.append(order, SELF)
            await exchange(county, city)
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        clock.advance(3600)
        async with node(url(data), data, clock=clock) as county:
            await county.log.open_generation()
            await carry(city, county)
            found = {timer.kind: timer.held for timer in await rows(county, TIMER)}
            assert found == {"order.overdue": True, "order.late": False}
            await county.log.append(AddNote(id=key, text="x"), SELF)  # after what the node wrote about its timers
    assert not state.differing(url(data), data)


@pytest.mark.slow
async def test_an_end_too_many_is_refused(database_url: str, tmp_path: Path) -> None:
    data, copy = tmp_path / "county", tmp_path / "copy"
    async with node(database_url, tmp_path / "city") as city:
        async with node(url(data), data) as county:
            await join(city, county, "county")
            organisation = (await county.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
            key = (await county.log.append(report(organisation), SELF)).id or ""
            await exchange(city, county)
        shutil.copytree(data, copy)
        refused = 0
        for number in range(BRANCHES_MAX + 1):
            shutil.rmtree(data)
            shutil.copytree(copy, data)
            async with node(url(data), data) as county:
                await county.log.append(AddNote(id=key, text=f"{number}"), SELF)
                try:
                    await carry(county, city)
                except Conflict as error:
                    assert error.code == "receive.branches"
                    refused += 1
        assert refused == 1 and (await incident(city, key)).notes == BRANCHES_MAX
