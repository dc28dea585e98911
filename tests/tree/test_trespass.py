"""What a node says of things that aren't its own: kept, shown, and without effect on them."""

from pathlib import Path
from typing import Any

import pytest

from command.base.entry import Draft
from command.base.errors import Conflict
from command.base.projection import Decision
from command.base.rights import Role
from command.base.schema import Level, Party, PartyKind, Struct
from command.base.timer import TIMER
from command.domain.account import CreateAccount
from command.domain.fence import FENCE, DrawFence
from command.domain.handover import InviteToIncident
from command.domain.incident import ALARM, INCIDENT, AddNote
from command.domain.membership import EditNode
from command.domain.nodes import HOME, NODE
from command.domain.order import ORDER, IssueOrder, Means, Owner, Rung
from command.domain.registry import ACCOUNT, PERSON, SHIFT, UNIT
from command.domain.roster import AddShifts, PlannedShift
from command.domain.tenure import LATE
from command.edge.api import Node
from command.log.audience import Audience, NodeTree
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import World, world
from tests.tree.crowd import carry, crowd, exchange, incident, report, rows, settled
from tests.tree.pen import REPORT

NO_EFFECT = ("late", "erasure", "generation", "node", "home", "presence", "tick")
TABLES = (INCIDENT, ORDER, TIMER, ALARM, FENCE)


class Forge(Struct, frozen=True, kw_only=True):
    """Words that no decider of ours would write; the log signs and chains them all the same."""

    subject: str
    kind: str
    body: dict[str, Any]
    private: dict[str, Any] | None = None
    claim: str | None = None


def _decide(found: Any, request: Forge, context: Any) -> Decision:
    draft = Draft(
        subject=request.subject, kind=request.kind, body=request.body, private=request.private, claim=request.claim
    )
    return Decision(drafts=[draft])


async def _say(
    n: Node, subject: str, what: str, private: dict[str, Any] | None = None, /, under: str | None = None, **body: Any
) -> None:
    """Have a node say something, under the claim that stands or a given one; what its own rows make of it is its own affair."""
    domain = n.log.domain
    if Forge not in domain.deciders:
        domain.register((), None, {Forge: _decide})
    standing = [row.claim for row in await rows(n, INCIDENT) if row.subject == subject]
    claim = under or (standing[0] if standing else None)
    forged = Forge(subject=subject, kind=what, body=body, private=private, claim=claim)
    kept = domain.projectors
    domain.projectors = {kind: found for kind, found in kept.items() if kind != what}
    folding: Any = n.log._folding
    folding.prepare = lambda draft: draft
    try:
        await n.log.append(forged, SELF)
    finally:
        domain.projectors = kept
        del folding.prepare


async def _ordered(n: Node, w: World, *, level: Level = Level.III) -> tuple[str, str]:
    """An incident and an order of it with a ladder."""
    key = (await n.log.append(report(w.county, level=level), SELF)).id or ""
    party = Party(kind=PartyKind.UNIT, id=w.unit)
    rung = Rung(after_s=3600, means=Means.DUTY_LEADER)
    made = await n.log.append(IssueOrder(incident=key, assignee=party, task="侦察", ladder=[rung]), SELF)
    return key, made.id or ""


async def _given(n: Node, key: str) -> set[str]:
    """The nodes to which a node would send an incident."""
    audience = Audience(n.log.node, NodeTree({row.id: row for row in await rows(n, NODE)}))
    return set(await n.store.read(lambda c: audience.nodes(c, f"incident/{key}")))


async def _every_row(n: Node) -> dict[str, list[Any]]:
    """All rows of all read tables but those that say what had no effect, and whose word on erasing doesn't count."""
    tables = [table for name, table in n.log.domain.tables.items() if not table.kept and name not in NO_EFFECT]
    return {table.name: await rows(n, table) for table in tables}


async def _all(n: Node, key: str) -> dict[str, list[Any]]:
    found = {table.name: await rows(n, table) for table in TABLES}
    found["incident"] = [row for row in found["incident"] if row.id == key]
    return found


async def test_nobody_can_report_what_another_reported(database_url: str, tmp_path: Path) -> None:
    """Not even the superior, whose claims win: neither beside the true report nor for want of it."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(county)
        key, _ = await _ordered(county, w)
        seen, before = await settled(county, key), await incident(county, key)
        assert key.endswith(f"-{county.log.node}") and len(key) == 26 + 1 + 21
        body = REPORT | {"organisation": w.county}
        for subject in (f"incident/{key}", f"incident/{key[:-24]}aaa-{county.log.node}", "incident/aa", "incident/aa-"):
            await _say(city, subject, "incident.reported", {"title": "x"}, **body)
        await carry(city, county)
        assert await settled(county, key) != "" and [row.id for row in await rows(county, INCIDENT)] == [key]
        after = await incident(county, key)
        assert (after.owner, after.claim, after.level, after.contested) == (
            county.log.node,
            before.claim,
            Level.III,
            False,
        )
        [late] = [row for row in await rows(county, LATE) if row.incident == key]
        assert (late.kind, late.verdict, late.origin) == ("incident.reported", "unclaimed", city.log.node)
        await county.log.append(AddNote(id=key, text="weiter"), SELF)
        await exchange(city, county)
        assert await settled(county, key) == await settled(city, key) != seen
    assert not state.differing(database_url, tmp_path / "county")


async def test_writing_in_an_incident_gives_a_stranger_nothing_and_changes_nothing(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county", "vehicle") as (city, county, vehicle):
        w = await world(city)
        key, order = await _ordered(city, w)
        subject, claim = f"incident/{key}", (await incident(city, key)).claim
        me = vehicle.log.node
        before, given = await _every_row(city), await _given(city, key)
        assert given == {city.log.node}
        for kind, body in (
            ("incident.reported", REPORT | {"organisation": w.county}),
            ("incident.invited", {"nodes": [me], "parties": [w.county]}),
            ("incident.level_set", {"level": "I"}),
            ("incident.noted", {"node": me, "nodes": [me]}),
            ("order.progressed", {"order": order, "step": "done"}),
            ("order.cancelled", {"order": order, "node": me}),
            ("ownership.requested", {"transfer": "t", "to": me, "direction": "raise", "claim": claim, "nodes": [me]}),
            ("ownership.agreed", {"transfer": "t", "claim": claim}),
            ("ownership.transferred", {"to": me, "agreed": "00" * 32, "base": {}, "nodes": [me]}),
            ("ownership.seized", {"base": {}, "parties": [w.county]}),
            ("room.opened", {"room": "r", "chair": "x", "organisation": w.county}),
            ("timer.fired", {"timer": before["timer"][0].id, "kind": "order.rung"}),
        ):
            await _say(vehicle, subject, kind, under=claim, **body)
        await carry(vehicle, county)
        await carry(vehicle, city)
        assert await settled(city, key)
        assert await _every_row(city) == before and await _given(city, key) == given
        assert {row.verdict for row in await rows(city, LATE)} == {"stranger"}
        assert await rows(city, LATE) and all(row.parties == [] for row in await rows(city, LATE))
        assert not await _given(county, key)  # whoever has nothing but a stranger's word passes nothing on
    assert not state.differing(f"sqlite:///{tmp_path / 'city'}/fenghuo.db", tmp_path / "city")


async def test_a_stranger_that_is_invited_later_has_said_what_it_said(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, _ = await _ordered(city, await world(city))
        await carry(city, county)
        with pytest.raises(Conflict, match=r"incident\.not_given"):
            await county.log.append(AddNote(id=key, text="x"), SELF)
        folding: Any = county.log._folding
        folding._not_a_stranger = lambda incident: None  # a node that does as it likes
        await county.log.append(AddNote(id=key, text="ungefragt"), SELF)
        del folding._not_a_stranger
        await carry(county, city)
        assert (await incident(city, key)).notes == 0
        await city.log.append(InviteToIncident(incident=key, nodes=[county.log.node]), SELF)
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)
        assert (await incident(city, key)).notes == 1 and not await rows(city, LATE)
        await county.log.append(AddNote(id=key, text="gefragt"), SELF)
        await exchange(city, county)
        assert (await incident(city, key)).notes == 2 and await settled(city, key) == await settled(county, key)
    assert not state.differing(database_url, tmp_path / "county")


async def test_moving_a_node_undoes_nothing_that_its_superior_said(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "province", "city", "county") as (province, city, county):
        key, _ = await _ordered(county, await world(county))
        await carry(county, city)
        await city.log.append(AddNote(id=key, text="市"), SELF)
        await exchange(city, county)
        [row] = [one for one in await rows(province, NODE) if one.id == county.log.node]
        await province.log.append(EditNode(id=row.id, version=row.version, parent=province.log.node), SELF)
        await exchange(province, city, county)
        [row] = [one for one in await rows(county, NODE) if one.id == county.log.node]
        assert row.parent == province.log.node and row.formerly == [city.log.node]
        await city.log.append(AddNote(id=key, text="仍在"), SELF)
        await exchange(city, county)
        assert (await incident(county, key)).notes == 2 and await settled(county, key) == await settled(city, key)
    assert not state.differing(
        database_url, tmp_path / "county"
    )  # nor when everything is folded anew, as the tree is now


async def test_nobody_restates_a_nodes_key_its_id_or_its_revocation(database_url: str, tmp_path: Path) -> None:
    """A superior says where a node stands; who it is, is proven by its key alone."""
    async with crowd(database_url, tmp_path, "province", "city", "county") as (province, city, county):
        other = province.log.node
        before = {row.id: row for row in await rows(county, NODE)}
        key = before[city.log.node].public_key
        lie = {"public_key": key, "id": other, "revoked": {}, "admitted_at": 1, "formerly": [city.log.node]}
        for node in (county.log.node, city.log.node, other):
            await _say(city, "tree", "node.edited", node=node, **lie)
        await carry(city, county)
        after = {row.id: row for row in await rows(county, NODE)}
        assert after.keys() == before.keys()
        for name in ("public_key", "revoked", "admitted_at", "formerly", "parent"):
            assert {node: getattr(row, name) for node, row in after.items()} == {
                node: getattr(row, name) for node, row in before.items()
            }
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_guest_neither_stops_nor_holds_the_owners_timers(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, _ = await _ordered(county, await world(county))
        await exchange(county, city)
        armed = await rows(county, TIMER)
        assert armed
        for timer in armed:
            for kind, body in (
                ("timer.fired", {"timer": timer.id, "kind": timer.kind}),
                ("timer.dropped", {"timer": timer.id}),
                ("timers.held", {"timers": [timer.id]}),
            ):
                await _say(city, f"incident/{key}", kind, **body)
                await _say(city, "registry", kind, **body)
        await carry(city, county)
        assert await rows(county, TIMER) == armed
        assert await settled(county, key)
        assert await rows(county, TIMER) == armed
    assert not state.differing(database_url, tmp_path / "county")


async def test_who_owns_one_incident_changes_nothing_of_another(database_url: str, tmp_path: Path) -> None:
    """The city decides, rightly, in its own incident: about the county's order, alarm and fence in the county's."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(county)
        key, order = await _ordered(county, w)
        area = {"type": "Polygon", "coordinates": [[[106.0, 29.0], [106.1, 29.0], [106.1, 29.1], [106.0, 29.0]]]}
        fence = await county.log.append(DrawFence(name="警戒区", geometry=area, incident=key), SELF)
        other = (await city.log.append(report((await world(city)).county), SELF)).id
        await exchange(county, city)
        before, seen = await _all(county, key), await settled(county, key)
        alarm = before["alarm"][0].id
        theirs = f"incident/{other}"
        await _say(city, theirs, "order.cancelled", order=order)
        await _say(city, theirs, "order.amended", {"task": "撤回"}, order=order)
        await _say(city, theirs, "order.progressed", order=order, step="done")
        await _say(city, theirs, "order.overdue", order=order)
        await _say(city, theirs, "order.rung", order=order, rung=7)
        await _say(city, theirs, "order.adopted", order=order, entry="")
        await _say(city, theirs, "alarm.acknowledged", alarm=alarm)
        await _say(city, theirs, "fence.removed", fence=fence.id)
        await _say(city, theirs, "timer.fired", timer=before["timer"][0].id, kind=before["timer"][0].kind)
        taken = before["order"][0]
        issued = {
            "order": order,
            "assignee": {"kind": "unit", "id": w.unit},
            "parties": [],
            "urgency": "normal",
            "exercise": False,
            "node": city.log.node,
            "ladder": [],
            "ack_by": None,
            "due_at": None,
        }
        await _say(city, theirs, "order.issued", {"task": "别的"}, **issued)
        await carry(city, county)
        await settled(county, str(other))
        after = await _all(county, key)
        assert [row for row in after["order"] if row.id == order] == [taken]
        assert taken.owner is Owner.ISSUED
        assert {row.id: row for row in after["alarm"]}[alarm] == before["alarm"][0]
        assert after["fence"] == before["fence"] and after["timer"] == before["timer"]
        assert await settled(county, key) == seen
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_guests_decisions_have_no_effect_in_the_owners_incident(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, order = await _ordered(county, await world(county))
        await exchange(county, city)
        before = await incident(county, key)
        subject = f"incident/{key}"
        for kind, body in (
            ("incident.edited", {"category": "natural"}),
            ("incident.stepped", {"to": "closed"}),
            ("incident.level_set", {"level": "I"}),
            ("incident.invited", {"nodes": [city.log.node], "parties": ["org-x"]}),
            ("order.cancelled", {"order": order}),
            ("order.amended", {"order": order, "due_at": 1}),
            ("order.late", {"order": order}),
            ("alarm.acknowledged", {"alarm": f"incident-{key}"}),
            ("plan.approved", {"activation": "x"}),
            ("ownership.transferred", {"to": city.log.node, "agreed": "00" * 32, "base": {}}),
            ("incident.ask_answered", {"ask": "x", "granted": True}),
        ):
            await _say(city, subject, kind, **body)
        await exchange(city, county)
        await settled(county, key)
        after = await incident(county, key)
        assert (after.owner, after.level, after.state, after.category) == (
            before.owner,
            before.level,
            before.state,
            before.category,
        )
        assert after.parties == before.parties
        [row] = await rows(county, ORDER)
        assert row.owner is Owner.ISSUED and not row.late and row.due_at is None
        assert [one.acknowledged_at for one in await rows(county, ALARM) if one.id == f"incident-{key}"] == [None]
        assert await settled(county, key) == await settled(city, key)
    assert not state.differing(database_url, tmp_path / "county")


async def test_nothing_of_the_registry_or_of_accounts_is_changed_from_an_incident_or_from_below(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(county)
        key, order = await _ordered(county, w)
        hashed = "x"
        made = CreateAccount(name="chef", roles=[Role.DUTY_OFFICER], organisation=w.county, password_hash=hashed)
        account = (await county.log.append(made, SELF)).id
        shift = PlannedShift(person=w.officer, post="duty", starts_at=0, ends_at=86_400_000_000)
        await county.log.append(AddShifts(organisation=w.county, shifts=[shift]), SELF)
        await exchange(county, city)
        tables = (ACCOUNT, PERSON, UNIT, SHIFT, ORDER, HOME)
        before = {table.name: await rows(county, table) for table in tables}
        [watch] = before["shift"]
        for subject in (f"incident/{key}", "registry", "tree"):
            await _say(city, subject, "account.edited", account=account, roles=["security_admin"])
            body = {"account": "evil", "roles": ["security_admin"], "organisation": w.county, "person": None}
            await _say(
                city,
                subject,
                "account.created",
                {"name": "e"},
                **body,
                unit=None,
                language="zh",
                must_change_password=False,
            )
            await _say(
                city, subject, "person.saved", {"name": "别人"}, person=w.officer, version=9, organisation=w.county
            )
            await _say(city, subject, "unit.status_set", unit=w.unit, version=9, status="unavailable")
            await _say(city, subject, "roster.changed", organisation=w.county, removed=[watch.id], added=[])
            if subject != f"incident/{key}":
                await _say(city, subject, "order.cancelled", order=order)
                await _say(city, subject, "alarm.acknowledged", alarm=f"incident-{key}")
        await carry(city, county)
        await settled(county, key)
        assert {table.name: await rows(county, table) for table in tables} == before
        assert [row.acknowledged_at for row in await rows(county, ALARM)] == [None]
    assert not state.differing(database_url, tmp_path / "county")
