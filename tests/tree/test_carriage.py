"""Files instead of a wire: two nodes exchange bundles both ways and agree."""

from pathlib import Path

import pytest

from command.base.errors import Corrupt
from command.base.identity import load_or_make
from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.uplink.carriage import Carriage
from tests.tree.scene import Member, tree, until


def carriage(member: Member) -> Carriage:
    node = member.node
    return Carriage(node.store, node.log.node, node.clock, load_or_make(member.data))


async def test_two_nodes_exchange_bundles_both_ways_and_agree(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        county, city = nodes["county"], nodes["city"]
        organisation = await county.decide(SaveOrganisation(name="示范县", tier=Tier.COUNTY))
        place = Place(lon=106.0, lat=29.0)
        request = ReportIncident(
            category=Category.ACCIDENT, level=Level.III, title="起火", place=place, organisation=organisation
        )
        incident = await county.decide(request)
        await nodes.same(f"incident/{incident}")
        city_id, county_id = city.id, county.id
        await city.stop()
        await until(lambda: not county.linked())
        for number in range(300):
            await county.decide(AddNote(id=incident, text=f"县{number}"))
        up = tmp_path / "up.bundle"
        carriage(county).export(up, city_id)
        await county.stop()

        await city.start()
        await city.decide(AddNote(id=incident, text="市里"))
        for _ in range(2):  # twice does no harm
            await carriage(city).bring(up, city.node.log)
        assert len(await city.entries(f"incident/{incident}")) == 302
        down = tmp_path / "down.bundle"
        carriage(city).export(down, county_id, frozenset({f"incident/{incident}"}))
        tampered = tmp_path / "tampered.bundle"
        octets = bytearray(up.read_bytes())
        octets[len(octets) // 2] ^= 1
        tampered.write_bytes(octets)
        with pytest.raises(Corrupt, match="At octet"):
            await carriage(city).bring(tampered, city.node.log)
        await city.stop()

        await county.start()
        await carriage(county).bring(down, county.node.log)
        assert len(await county.entries(f"incident/{incident}")) == 302
