"""What a node that was revoked had said of others: whom it invited and admitted, whom it moved, whom it revoked."""

from pathlib import Path
from typing import Any

import pytest

from command.domain.incident import INCIDENT
from command.domain.membership import JoinTree
from command.domain.nodes import NODE, NodeKind, NodeLevel, TreeNode
from command.domain.tenure import LATE
from command.edge.api import Node
from command.tree.claim import incident_id
from command.tree.item import Received
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import node
from tests.tree.crowd import rows
from tests.tree.pen import Pen, keys
from tests.tree.wares import Ids, changing

PLACE: dict[str, Any] = {"kind": "fixed", "level": "county", "organisation": None, "name": "x"}


def _admits(parent: Pen, child: Pen) -> Received:
    return parent.say(
        "tree", "node.admitted", PLACE | {"node": child.id, "public_key": child.public, "parent": parent.id}
    )


def _revokes(by: Pen, node: Pen, *until: Received) -> Received:
    heads = {str(one.stream): [one.tip.length, one.tip.head.hex()] for one in until}
    return by.say("tree", "node.revoked", {"node": node.id, "heads": heads}, {"reason": "verloren"})


class Scene:
    """A node below a city, which has admitted a county; that admits a vehicle, after its end a puppet, and that another."""

    def __init__(self, n: Node) -> None:
        self.n = n
        self.city, self.county = Pen("city"), Pen("county")
        self.vehicle, self.puppet, self.deeper = Pen("vehicle"), Pen("puppet"), Pen("deeper")
        self.pens = (self.city, self.county, self.vehicle, self.puppet, self.deeper)
        self.first = _admits(self.city, self.county)
        self.good = _admits(self.county, self.vehicle)
        self.beyond = [
            _admits(self.county, self.puppet),
            self.county.say("tree", "node.revoked", {"node": self.vehicle.id, "heads": {}}),
            self.county.say("tree", "node.edited", {"node": self.vehicle.id, "level": "province"}),
        ]
        self.below = _admits(self.puppet, self.deeper)
        self.end = _revokes(self.city, self.county, self.good)

    async def begin(self) -> None:
        joined = JoinTree(
            public_key=self.city.public, name="x", kind=NodeKind.FIXED, level=NodeLevel.COUNTY, organisation=None
        )
        await self.n.log.append(joined, SELF)
        await self.hear(self.first, self.good)

    async def hear(self, *items: Received) -> None:
        await self.n.log.receive(list(items), keys(*self.pens))
        while self.n.log.lagging:
            await self.n.log.caught_up()

    async def seen(self) -> dict[str, TreeNode]:
        return {row.id: row for row in await rows(self.n, NODE)}


@pytest.mark.any_store
@pytest.mark.parametrize("first", ["the end", "what lies beyond it"])
async def test_whom_a_revoked_node_admits_beyond_its_end_has_no_say_anywhere(
    database_url: str, tmp_path: Path, first: str
) -> None:
    async with node(database_url, tmp_path) as n:
        s = Scene(n)
        await s.begin()
        x = Ids(s.puppet.id, incident_id("0" * 26, s.puppet.id))
        said = changing(x, s.city.id, "")["incident.reported"]
        report = s.puppet.say(x.subject, "incident.reported", *said[::-1])
        later = [*s.beyond, s.below, report]
        for one in [s.end, *later] if first == "the end" else [*later, s.end]:
            await s.hear(one)
        seen = await s.seen()
        assert seen[s.county.id].revoked is not None
        # What it said before its end stands: the vehicle is a member, and can be moved or admitted anew.
        assert seen[s.vehicle.id].revoked is None and seen[s.vehicle.id].parent == s.county.id
        for pen in (s.puppet, s.deeper):  # refused at every door, and its entries are marked
            assert seen[pen.id].revoked == {}
        assert not await rows(n, INCIDENT)
        assert {row.verdict for row in await rows(n, LATE)} <= {"revoked", "stranger"}
    assert not state.differing(database_url, tmp_path)


@pytest.mark.any_store
async def test_a_later_revocation_that_names_more_lets_the_admitted_in_again(database_url: str, tmp_path: Path) -> None:
    """Several revocations name together what is good; and whom the superior admits itself needs nobody else's word."""
    async with node(database_url, tmp_path) as n:
        s = Scene(n)
        await s.begin()
        await s.hear(s.beyond[0], s.end)
        assert (await s.seen())[s.puppet.id].revoked == {}
        await s.hear(_revokes(s.city, s.county, s.beyond[0]))
        assert (await s.seen())[s.puppet.id].revoked is None
    assert not state.differing(database_url, tmp_path)


@pytest.mark.any_store
async def test_whoever_the_superior_admits_itself_needs_no_word_of_the_revoked(
    database_url: str, tmp_path: Path
) -> None:
    async with node(database_url, tmp_path) as n:
        s = Scene(n)
        await s.begin()
        await s.hear(s.beyond[0], s.end, _admits(s.city, s.puppet))
        row = (await s.seen())[s.puppet.id]
        assert row.revoked is None and row.parent == s.city.id
