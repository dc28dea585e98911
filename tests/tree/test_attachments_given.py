"""Who may have an attachment: whoever may hold an entry that names it, and nobody for knowing its hash."""

import hashlib
from pathlib import Path

import pytest

from command.domain.handover import InviteToIncident
from command.domain.incident import AddNote
from command.domain.nodes import NODE
from command.edge.api import Node
from command.log.audience import Audience, NodeTree
from command.log.holdings import Holdings
from tests.node import NODE as SELF
from tests.node import world
from tests.tree.crowd import carry, crowd, report, rows
from tests.tree.scene import tree, until

FILE, OTHER = "ab" * 32, "cd" * 32


async def _gives(n: Node, file: str, peer: str) -> bool:
    nodes = {row.id: row for row in await rows(n, NODE)}
    holdings = Holdings(n.store, n.log.node, lambda: n.log.generation, nodes, Audience(n.log.node, NodeTree(nodes)))
    with holdings.reading():
        return holdings.gives(file, peer)


async def test_a_file_goes_to_whom_an_entry_that_names_it_may_go(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(city)
        [mine, theirs] = [(await city.log.append(report(w.city), SELF)).id or "" for _ in range(2)]
        await city.log.append(InviteToIncident(incident=theirs, nodes=[county.log.node]), SELF)
        await city.log.append(AddNote(id=mine, text="x", attachments=[FILE]), SELF)
        assert not await _gives(city, FILE, county.log.node) and not await _gives(city, OTHER, county.log.node)
        # Whoever has heard the hash writes it down: that gives nothing.
        await carry(city, county)
        await county.log.append(AddNote(id=theirs, text="x", attachments=[FILE, OTHER]), SELF)
        await carry(county, city)
        assert not await _gives(city, FILE, county.log.node)
        # What it named first it gets back, from a superior that kept it.
        assert await _gives(city, OTHER, county.log.node)
        await city.log.append(InviteToIncident(incident=mine, nodes=[county.log.node]), SELF)
        assert await _gives(city, FILE, county.log.node)


@pytest.mark.slow
async def test_a_neighbour_that_asks_for_what_is_not_for_it_hears_that_it_is_not_here(tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        city, county = nodes["city"], nodes["county"]
        octets = b"\xff\xd8\xff" + bytes(range(256)) * 100
        name = hashlib.sha256(octets).hexdigest()
        (city.data / "attachments").mkdir()
        (city.data / "attachments" / name).write_bytes(octets)
        key = await city.decide(report((await world(city.node)).city))
        await city.decide(AddNote(id=key, text="x", attachments=[name]))
        await county.uplink.courier._want(name)
        await until(lambda: (city.id, name) in county.uplink.courier._absent)
        assert not (county.data / "attachments" / name).exists()
        await city.decide(InviteToIncident(incident=key, nodes=[county.id]))
        city.uplink.courier._given.clear()
        county.uplink.courier._absent.clear()  # both would look again after half a minute
        await until(lambda: (county.data / "attachments" / name).exists())
