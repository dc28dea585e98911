"""A node whose disk is gone, made again from its superior: over the link, and from a bundle."""

import asyncio
import shutil
from pathlib import Path

import pytest

import server
from command import recovery
from command.base.clock import Clock
from command.base.config import Config, load
from command.base.errors import Denied, Rejected
from command.base.identity import KEY_FILE, load_or_make
from command.base.schema import Party, PartyKind
from command.base.timer import TIMER
from command.domain.incident import INCIDENT, AddNote
from command.domain.nodes import GENERATION
from command.domain.nodes import NODE as NODES
from command.domain.order import ORDER, IssueOrder, Means, Rung
from command.domain.registry import UNIT, UnitKind
from command.domain.registry_edits import SaveUnit
from command.service import UNFINISHED
from command.uplink.carriage import Carriage
from tests.durability import state
from tests.node import service
from tests.tree.crowd import rows
from tests.tree.processes import picture_hash
from tests.tree.scene import Member, Tree, tree
from tests.tree.test_uplink import report

HOUR_US = 3600 * 1_000_000


class Later(Clock):
    """Two hours on."""

    def now(self) -> int:
        return super().now() + 2 * HOUR_US


async def _worked(nodes: Tree) -> str:
    """An incident of the county with an order and its ladder, and a note of the city; its id."""
    county, city = nodes["county"], nodes["city"]
    await nodes.linked()
    incident = await report(county)
    [row] = await rows(county.node, INCIDENT)
    unit = await county.decide(SaveUnit(name="一队", kind=UnitKind.FIRE, organisation=row.organisation))
    rung = Rung(after_s=3600, means=Means.DUTY_LEADER)
    party = Party(kind=PartyKind.UNIT, id=unit)
    await county.decide(IssueOrder(incident=incident, assignee=party, task="侦察", ladder=[rung]))
    await nodes.same(f"incident/{incident}", count=2)
    await city.decide(AddNote(id=incident, text="市里已知悉"))
    await nodes.same(f"incident/{incident}", count=3)
    await nodes.same("registry", count=3)
    return incident


async def _lose(county: Member) -> Path:
    """The county's disk is gone; where its key was kept."""
    await county.stop()
    kept = county.data.parent / "kept.key"
    kept.write_bytes((county.data / KEY_FILE).read_bytes())
    shutil.rmtree(county.data)
    return kept


def _config(county: Member) -> Config:
    assert county.superior is not None
    parent = f"http://127.0.0.1:{county.superior.port}"
    return load({}, None, data=str(county.data), totp_required=False, node_name="county", parent=parent)


async def _as_before(nodes: Tree, incident: str, before: str) -> None:
    """What was lost is back, is held for a person where it must be, and goes on."""
    county, city = nodes["county"], nodes["city"]
    config = _config(county)
    url = config.database_url
    assert state.verified(url, county.data).good
    async with service(url, county.data, clock=Later()) as opened:
        n = opened.node
        assert n.parts["restored"] is True
        timers = await rows(n, TIMER)
        assert timers and all(timer.held for timer in timers)
        [row] = await rows(n, INCIDENT)
        assert row.id == incident and row.owner == n.log.node and row.notes == 1
        assert [one.name for one in await rows(n, UNIT)] == ["一队"]
        assert len(await rows(n, ORDER)) == 1
        lives = await rows(n, GENERATION, node=n.log.node)
        newest = next(one for one in lives if one.id == f"{n.log.node}.{n.log.generation}")
        assert any(name.startswith(f"incident/{incident}@{n.log.node}.") for name in newest.after)
    assert picture_hash(county.data) == before == picture_hash(city.data)
    assert not state.differing(url, county.data)
    await county.start()
    await county.decide(AddNote(id=incident, text="县里又在了"))
    await nodes.linked()
    await nodes.same(f"incident/{incident}", count=4)
    here = await rows(city.node, NODES, parent=city.id)
    assert [one.name for one in here] == ["county"]


async def test_a_lost_node_comes_back_from_its_superior_over_the_link(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        county, city = nodes["county"], nodes["city"]
        incident = await _worked(nodes)
        kept = await _lose(county)
        before = picture_hash(city.data)
        config = _config(county)
        me = recovery.prepare(county.data, kept)
        found = await recovery.over_link(config, server.house(config), await city.invite("county"))
        assert found.node == me and found.own >= 3 and not (county.data / UNFINISHED).exists()
        await _as_before(nodes, incident, before)


@pytest.mark.slow  # the first test does most of it in CI
async def test_a_lost_node_comes_back_from_a_bundle_of_its_superior(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        county, city = nodes["county"], nodes["city"]
        incident = await _worked(nodes)
        me, superior = county.id, city.id
        kept = await _lose(county)
        before = picture_hash(city.data)
        key = load_or_make(city.data)
        await asyncio.to_thread(Carriage(city.node.store, city.id, Clock(), key).export, tmp_path / "stick", me)
        config = _config(county)
        recovery.prepare(county.data, kept)
        with pytest.raises(Denied, match=r"bundle\.other_node"):
            await recovery.from_bundle(config, server.house(config), tmp_path / "stick", "n" + "0" * 20)
        await recovery.from_bundle(config, server.house(config), tmp_path / "stick", superior)
        await _as_before(nodes, incident, before)


@pytest.mark.slow
async def test_a_bundle_that_names_its_nodes_as_it_goes_brings_a_lost_node_back_at_once(tmp_path: Path) -> None:
    async with tree(tmp_path, "province", "city", "county", "vehicle") as nodes:
        county, city = nodes["county"], nodes["city"]
        await nodes.linked()
        await nodes.same("tree", count=8)
        me, superior = county.id, city.id
        assert await rows(city.node, NODES, parent=me)  # the vehicle, of which the county will learn from its own words
        await nodes["vehicle"].stop()
        kept = await _lose(county)
        key = load_or_make(city.data)
        await asyncio.to_thread(Carriage(city.node.store, city.id, Clock(), key).export, tmp_path / "stick", me)
        config = _config(county)
        recovery.prepare(county.data, kept)
        found = await recovery.from_bundle(config, server.house(config), tmp_path / "stick", superior)
        assert found.node == me and found.own >= 2


@pytest.mark.slow  # the first test does most of it in CI
async def test_an_unfinished_recovery_is_not_served_and_goes_on(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        county, city = nodes["county"], nodes["city"]
        incident = await _worked(nodes)
        kept = await _lose(county)
        config = _config(county)
        recovery.prepare(county.data, kept)
        with pytest.raises(Denied):
            await recovery.over_link(config, server.house(config), "AAAA-BBBB-CCCC-DDDD-EEEE")
        with pytest.raises(Rejected, match=r"restore\.unfinished"):
            await county.start()
        (tmp_path / "other.key").write_bytes((city.data / KEY_FILE).read_bytes())
        with pytest.raises(Rejected, match=r"restore\.other_key"):
            recovery.prepare(county.data, tmp_path / "other.key")
        recovery.prepare(county.data, kept)
        await recovery.over_link(config, server.house(config), await city.invite("county"))
        with pytest.raises(Rejected, match=r"restore\.not_empty"):
            recovery.prepare(county.data, kept)
        await county.start()
        await nodes.same(f"incident/{incident}", count=3)
