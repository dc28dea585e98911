"""Two and more nodes in one process, linked by real WebSockets."""

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.domain.location import Source
from command.domain.membership import RevokeNode
from command.domain.nodes import NODE as NODES
from command.domain.presence import PRESENCE, TICK
from command.domain.registry import Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.uplink.dialler import JOIN_FILE
from geo.track import Fix
from tests.tree.scene import Member, tree, until


async def report(at: Member, level: Level = Level.III) -> str:
    """An incident that is shared upward as far as its level demands; its id."""
    organisation = await at.decide(SaveOrganisation(name="示范县", tier=Tier.COUNTY))
    return await at.decide(
        ReportIncident(
            category=Category.ACCIDENT,
            level=level,
            title="厂房起火",
            place=Place(lon=106.0, lat=29.0, address="示范一县"),
            organisation=organisation,
        )
    )


async def test_an_invited_node_is_linked(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        assert nodes["county"].uplink.parent == nodes["city"].id
        await until(lambda: nodes["city"].uplink.peers[nodes["county"].id].linked)


async def test_what_one_side_writes_the_other_holds(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        incident = await report(county)
        held = await nodes.same(f"incident/{incident}")
        assert len(held) == 1
        await county.decide(AddNote(id=incident, text="火势扩大"))
        await city.decide(AddNote(id=incident, text="已知悉"))
        await nodes.same(f"incident/{incident}", count=3)


async def test_a_node_works_on_while_cut_off_and_catches_up(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        incident = await report(county)
        await nodes.same(f"incident/{incident}")
        await city.stop()
        await until(lambda: not county.linked())
        await asyncio.gather(*(county.decide(AddNote(id=incident, text=f"第{n}条")) for n in range(300)))
        await city.start()
        await nodes.linked()
        await nodes.same(f"incident/{incident}", count=301)


async def test_an_attachment_follows_its_note_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    octets = random.Random(1).randbytes(200_000)
    name = hashlib.sha256(octets).hexdigest()
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        for member, held, kind in ((county, octets, ""), (city, octets[:70_000], ".part")):
            (member.data / "attachments").mkdir()
            (member.data / "attachments" / f"{name}{kind}").write_bytes(held)
        incident = await report(county)
        await county.decide(AddNote(id=incident, text="现场照片", attachments=[name]))
        await until(lambda: (city.data / "attachments" / name).exists())
        assert (city.data / "attachments" / name).read_bytes() == octets


async def test_an_attachment_that_was_whole_but_had_no_name_yet_gets_it(tmp_path: Path) -> None:
    octets = random.Random(2).randbytes(20_000)
    name = hashlib.sha256(octets).hexdigest()
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        for member, kind in ((county, ""), (city, ".part")):
            (member.data / "attachments").mkdir()
            (member.data / "attachments" / f"{name}{kind}").write_bytes(octets)
        incident = await report(county)
        await county.decide(AddNote(id=incident, text="现场照片", attachments=[name]))
        await until(lambda: (city.data / "attachments" / name).exists())
        assert (city.data / "attachments" / name).read_bytes() == octets


async def test_the_last_place_of_a_unit_goes_up_the_line(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        organisation = await county.decide(SaveOrganisation(name="示范县", tier=Tier.COUNTY))
        unit = await county.decide(SaveUnit(name="消防一队", kind=UnitKind.FIRE, organisation=organisation))
        at = county.node.clock.now()
        await county.node.parts["location"].watch.report([Fix(unit=unit, lon=106.5, lat=29.5, at=at)], Source.SERVICE)
        await until(lambda: city.node.parts["location"].watch.locations.get(unit))
        assert city.node.parts["location"].watch.locations[unit].at == at


async def test_ticks_say_what_the_superior_holds(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county = nodes["county"]
        incident = await report(county)

        async def ticked() -> bool:
            store = county.node.store
            rows = await store.read(lambda c: store.shelf(TICK).select(c, equal={"subject": f"incident/{incident}"}))
            return [row.length for row in rows] == [1]

        await until(ticked)


async def test_a_revoked_node_is_cut_off_and_not_let_in_again(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        store = city.node.store
        row = await store.read(lambda c: store.shelf(NODES).get(c, county.id))
        assert row is not None
        await city.decide(RevokeNode(id=county.id, version=row.version, reason="设备遗失"))
        await until(lambda: not county.linked())
        await until(lambda: county.uplink.refused in ("link.revoked", "link.lost"))
        assert not city.uplink.peers[county.id].linked


@pytest.mark.slow
async def test_a_node_says_why_it_is_not_taken_and_after_a_restart_too(tmp_path: Path) -> None:
    async with tree(tmp_path, "city") as nodes:
        city, county = nodes["city"], Member("county", tmp_path / "county", nodes["city"])
        (tmp_path / "county").mkdir()
        await county.start()
        try:
            (county.data / JOIN_FILE).write_text("AAAA-BBBB-CCCC-DDDD-EEEE")
            await until(lambda: county.uplink.refused == "pairing.refused")
            assert not (county.data / JOIN_FILE).exists()
            await county.join(await city.invite("county"))
            await until(county.linked)
            assert county.uplink.refused == ""

            # The screen of a revoked node goes by this row: "cut off" would be half the truth.
            row = await city.node.store.read(lambda c: city.node.store.shelf(NODES).get(c, county.id))
            assert row is not None
            await city.decide(RevokeNode(id=county.id, version=row.version, reason="设备遗失"))
            await until(lambda: not county.linked())
            await county.stop()
            await county.start()

            async def told() -> bool:
                state = await county.node.store.read(lambda c: county.node.store.shelf(PRESENCE).get(c, city.id))
                if state is None or not state.known or state.linked:
                    return False
                # Nor is anything made up of what it lacks, or forgotten of when it was heard.
                return state.refused == "link.revoked" and not state.lag_known and state.contact_at > 0

            await until(told)
        finally:
            await county.stop()
