"""Ids of what nodes make: nobody takes another's, whoever's word comes first."""

from pathlib import Path
from typing import Any

import pytest

from command.base.entry import NO_HASH, Draft
from command.base.errors import Corrupt
from command.base.naming import bound, bound_id, bound_to
from command.base.projection import Decision
from command.base.schema import Struct
from command.domain.incident import INCIDENT
from command.domain.membership import JoinTree
from command.domain.nodes import NodeKind, NodeLevel
from command.edge.api import Node
from command.tree.claim import incident_id
from command.tree.item import Received
from tests.node import NODE as SELF
from tests.node import node
from tests.tree.crowd import rows, settled
from tests.tree.pen import Pen, keys
from tests.tree.wares import Ids, changing, making

THINGS = {name: name for name in ("order", "fence", "notice", "activation", "room", "ask", "transfer")} | {
    "report_due": "due",
    "chat": "line",
    "roll_call": "call",
    "schedule": "planned",
}
"""By table of what nodes make: the name of its row's id among `Ids`."""


def test_an_id_is_bound_to_its_maker_and_its_place() -> None:
    pen, other = Pen("a"), Pen("b")
    key = bound_id("0123", pen.id, "incident/x")
    assert key.startswith("0123-") and len(key) == 4 + 1 + 16
    assert bound(key, pen.say("incident/x", "k", {}).written.entry)
    assert not bound(key, pen.say("incident/y", "k", {}).written.entry)
    assert not bound(key, other.say("incident/x", "k", {}).written.entry)
    assert not bound_to(key.upper(), pen.id, "incident/x") and not bound(
        None, pen.say("incident/x", "k", {}).written.entry
    )
    standing = bound_id("0123", pen.id, "fence")
    assert bound(standing, pen.say(f"fence/{standing}", "k", {}).written.entry)


def _whole(pen: Pen, x: Ids, to: str) -> list[Received]:
    """An incident of a node with one of everything, and what it says in the streams of its meetings."""
    said = changing(x, to, "")
    first = pen.say(x.subject, "incident.reported", *said["incident.reported"][::-1])
    claim = first.written.hash.hex()
    found = [first]
    for kind, (subject, words) in making(x, to).items():
        if subject != "registry":
            found.append(pen.say(subject or x.subject, kind, *words[::-1], under=None if subject else claim))
    offer = changing(x, to, claim)["ownership.offered"]
    found.append(pen.say(x.subject, "ownership.offered", *offer[::-1]))
    return [
        *found,
        pen.say(x.subject, "incident.asked", {"ask": x.ask, "what": "x"}, {"text": "x"}),
    ]  # of itself, why not


async def _neighbours(n: Node, *pens: Pen) -> None:
    """Nodes above this one, each below the one before."""
    place: dict[str, Any] = {"kind": NodeKind.FIXED, "level": NodeLevel.COUNTY, "organisation": None}
    await n.log.append(JoinTree(public_key=pens[0].public, name="x", **place), SELF)
    for pen in pens[1:]:
        body = {"node": pen.id, "public_key": pen.public, "parent": pens[0].id, "name": "x"} | place
        await n.log.receive([pens[0].say("tree", "node.admitted", body)], keys(*pens))


async def _shown(n: Node, x: Ids) -> dict[str, Any]:
    found = {}
    for table, name in THINGS.items():
        [found[table]] = [row for row in await rows(n, n.log.domain.tables[table]) if row.id == getattr(x, name)]
    return found


@pytest.mark.any_store
@pytest.mark.parametrize("first", ["the thief", "the maker"])
async def test_who_uses_anothers_id_in_an_incident_or_a_room_of_its_own_makes_nothing(
    database_url: str, tmp_path: Path, first: str
) -> None:
    async with node(database_url, tmp_path) as n:
        maker, thief = Pen("maker"), Pen("thief")
        await _neighbours(n, maker, thief)
        x = Ids(maker.id, incident_id("0" * 26, maker.id))
        mine = _whole(maker, x, n.log.node)
        # The very ids of the maker, in an incident that the thief owns, and in streams of the maker's rooms.
        its = Ids(maker.id, x.incident)
        its.incident = incident_id("1" * 26, thief.id)
        its.subject = f"incident/{its.incident}"
        stolen = _whole(thief, its, n.log.node)
        for batch in (stolen, mine) if first == "the thief" else (mine, stolen):
            await n.log.receive(batch, keys(maker, thief))
        while n.log.lagging:
            await n.log.caught_up()
        shown = await _shown(n, x)
        for table, row in shown.items():
            assert getattr(row, "incident", x.incident) in (x.incident, None), table
            assert getattr(row, "node", maker.id) in (maker.id, n.log.node), table
        for table in THINGS:
            assert len(await rows(n, n.log.domain.tables[table])) == (2 if table == "notice" else 1), table


def _told_twice(*, other_generation: bool) -> tuple[Ids, Pen, list[Received], list[Received]]:
    """A reporter that reports one incident in two ways, and decides on under each: in one stream that forks, or in two
    generations of which neither says that it knows the other."""
    maker = Pen("maker")
    twin = Pen("maker", "f" * 32) if other_generation else maker
    x = Ids(maker.id, incident_id("0" * 26, maker.id))
    told = []
    for number, pen in enumerate((maker, twin)):
        body = changing(x, "", "")["incident.reported"][1]
        body = body | {"level": ("III", "II")[number]}
        first = pen.say(x.subject, "incident.reported", body, {"title": str(number)}, after=(0, NO_HASH))
        claim = first.written.hash.hex()
        level = pen.say(x.subject, "incident.level_set", {"level": ("IV", "I")[number]}, {"reason": "x"}, under=claim)
        told.append([first, level, pen.say(x.subject, "incident.noted", {}, {"text": str(number)})])
    return x, maker, told[0], told[1]


@pytest.mark.any_store
@pytest.mark.parametrize("other_generation", [False, True])
async def test_a_reporter_that_forks_its_own_report_is_seen_alike_everywhere(
    database_url: str, tmp_path: Path, other_generation: bool
) -> None:
    x, maker, one, other = _told_twice(other_generation=other_generation)
    above, seen, owners = Pen("above"), set(), set()
    note = above.say(x.subject, "incident.noted", {}, {"text": "x"}, seen={f"{maker.id}.{maker.generation}": 1})
    orders = ([*one, *other, note], [*other, note, *one], [note, other[0], *one, *other[1:]])
    for number, order in enumerate(orders):
        async with node(f"sqlite:///{tmp_path}/{number}.db", tmp_path / str(number)) as n:
            await _neighbours(n, Pen("above"), maker)
            for item in order:
                await n.log.receive([item], keys(maker, above))
            seen.add(await settled(n, x.incident))
            [row] = await rows(n, INCIDENT)
            owners.add((row.owner, row.claim, row.level, row.contested, row.notes))
    assert len(seen) == len(owners) == 1 and next(iter(owners))[0] == maker.id


class Forge(Struct, frozen=True, kw_only=True):
    subject: str
    body: dict[str, Any]


async def test_a_log_whose_ids_say_nothing_of_their_makers_is_refused_at_the_start(
    database_url: str, tmp_path: Path
) -> None:
    def decide(found: Any, request: Forge, context: Any) -> Decision:
        return Decision(drafts=[Draft(subject=request.subject, kind="fence.drawn", body=request.body)])

    async with node(database_url, tmp_path) as n:
        n.log.domain.register((), None, {Forge: decide})
        await n.log.append(Forge(subject="fence/f", body={"fence": "f"}), SELF)
    with pytest.raises(Corrupt, match=r"log\.incident_ids"):
        async with node(database_url, tmp_path):
            pass


async def test_a_log_whose_incidents_name_no_reporter_is_refused_at_the_start(
    database_url: str, tmp_path: Path
) -> None:
    def decide(found: Any, request: Forge, context: Any) -> Decision:
        return Decision(drafts=[Draft(subject=request.subject, kind="incident.noted", body=request.body)])

    for key, good in ((incident_id("0" * 26, "n1"), True), ("0" * 26, False)):
        async with node(database_url, tmp_path) as n:
            n.log.domain.register((), None, {Forge: decide})
            await n.log.append(Forge(subject=f"incident/{key}", body={}), SELF)
        if good:
            continue
        with pytest.raises(Corrupt, match=r"log\.incident_ids"):
            async with node(database_url, tmp_path):
                pass
