"""What a node says of things that aren't its own: kept, shown, and without effect on them."""

from pathlib import Path
from typing import Any

from command.base.entry import Draft
from command.base.projection import Decision
from command.base.rights import Role
from command.base.schema import Level, Party, PartyKind, Struct
from command.base.timer import TIMER
from command.domain.account import CreateAccount
from command.domain.fence import FENCE, DrawFence
from command.domain.incident import ALARM, INCIDENT
from command.domain.nodes import HOME
from command.domain.order import ORDER, IssueOrder, Means, Owner, Rung
from command.domain.registry import ACCOUNT, PERSON, SHIFT, UNIT
from command.domain.roster import AddShifts, PlannedShift
from command.edge.api import Node
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import World, world
from tests.tree.crowd import carry, crowd, exchange, incident, report, rows, settled

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


async def _say(n: Node, subject: str, what: str, private: dict[str, Any] | None = None, /, **body: Any) -> None:
    """Have a node say something; what its own rows make of it is its own affair."""
    domain = n.log.domain
    if Forge not in domain.deciders:
        domain.register((), None, {Forge: _decide})
    standing = [row.claim for row in await rows(n, INCIDENT) if row.subject == subject]
    forged = Forge(subject=subject, kind=what, body=body, private=private, claim=standing[0] if standing else None)
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


async def _all(n: Node, key: str) -> dict[str, list[Any]]:
    found = {table.name: await rows(n, table) for table in TABLES}
    found["incident"] = [row for row in found["incident"] if row.id == key]
    return found


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
