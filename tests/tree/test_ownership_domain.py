"""Who decides about an incident: offers, requests, agreement, transfer, seizure, and what was decided too late."""

from pathlib import Path

import pytest

from command.base.clock import ManualClock
from command.base.entry import By
from command.base.errors import Conflict
from command.base.schema import Level, Party, PartyKind
from command.base.timer import TIMER
from command.domain.asking import ASK, AnswerAsk, AskOwner
from command.domain.handover import AnswerTransfer, OfferOwnership, RequestOwnership, SeizeIncident
from command.domain.incident import ALARM, AddNote, SetLevel, Step, StepIncident
from command.domain.membership import EditNode, RevokeNode
from command.domain.nodes import NODE
from command.domain.order import ORDER, AdoptOrder, IssueOrder, Progress, ProgressOrder, RecallOrder, Standing
from command.domain.registry import UNIT, Tier, UnitKind, UnitStatus
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.domain.tenure import LATE, TERM, TRANSFER, Direction, TransferState
from command.edge.api import Node
from command.log.witness import stream_heads
from tests.durability import state
from tests.node import NODE as SELF
from tests.tree.crowd import carry, crowd, exchange, incident, report, rows, settled

CREW = By(account="crew")


async def _begin(city: Node, county: Node) -> tuple[str, str]:
    """An incident of the county, and a unit in it that both know."""
    organisation = (await county.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
    unit = (await county.log.append(SaveUnit(name="队", kind=UnitKind.FIRE, organisation=organisation), SELF)).id or ""
    key = (await county.log.append(report(organisation), SELF)).id or ""
    await carry(county, city)
    return key, unit


def _order(key: str, unit: str, task: str = "救援") -> IssueOrder:
    return IssueOrder(
        incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task=task, ack_within_s=600, ladder=[]
    )


async def _agree_everywhere(key: str, *nodes: Node) -> None:
    await exchange(*nodes)
    assert len({await settled(n, key) for n in nodes}) == 1


async def test_an_offer_that_is_agreed_to_moves_the_incident_with_its_timers(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with crowd(database_url, tmp_path, "city", "county", clock=clock) as (city, county):
        key, unit = await _begin(city, county)
        await county.log.append(_order(key, unit), SELF)
        version = (await incident(county, key)).version
        await county.log.append(OfferOwnership(incident=key, version=version, to=city.log.node, reason="提级"), SELF)
        await carry(county, city)
        [offer] = await rows(city, TRANSFER)
        assert offer.direction is Direction.RAISE and offer.state is TransferState.OFFERED and offer.reason == "提级"
        with pytest.raises(Conflict, match=r"ownership\.not_asked"):
            await county.log.append(AnswerTransfer(id=offer.id, version=offer.version, agree=True), SELF)
        await city.log.append(AnswerTransfer(id=offer.id, version=offer.version, agree=True), SELF)
        assert not await rows(city, TIMER)  # the owner's timers run at the owner alone
        await carry(city, county)
        await _fire(county)  # unless the node has done so already
        await settled(county, key)
        assert (await incident(county, key)).owner == city.log.node and not await rows(county, TIMER)
        await _agree_everywhere(key, city, county)
        assert [timer.kind for timer in await rows(city, TIMER)] == ["order.overdue"]
        [term] = await rows(city, TERM)
        assert term.owner == city.log.node and term.standing
        assert [row.state for row in await rows(city, TRANSFER)] == [TransferState.DONE]
        version = (await incident(city, key)).version
        assert await city.log.append(StepIncident(id=key, version=version, step=Step.VERIFY), SELF)
        with pytest.raises(Conflict, match=r"incident\.elsewhere"):
            await county.log.append(StepIncident(id=key, version=version, step=Step.VERIFY), SELF)
    assert not state.differing(database_url, tmp_path / "county")


async def _fire(n: Node) -> None:
    from command.base.timer import FireTimer

    for timer in await rows(n, TIMER):
        if timer.due_at <= n.clock.now():
            await n.log.append(FireTimer(id=timer.id), SELF)


async def test_a_request_is_granted_or_refused_by_the_owner(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key, _ = await _begin(city, county)
        asked = [await city.log.append(RequestOwnership(incident=key, reason=f"{i}"), SELF) for i in range(2)]
        await carry(city, county)
        first, second = (receipt.id or "" for receipt in asked)
        by_id = {row.id: row for row in await rows(county, TRANSFER)}
        await county.log.append(AnswerTransfer(id=first, version=by_id[first].version, agree=False), SELF)
        await county.log.append(AnswerTransfer(id=second, version=by_id[second].version, agree=True), SELF)
        await _agree_everywhere(key, city, county)
        assert (await incident(city, key)).owner == city.log.node
        found = {row.id: row.state for row in await rows(city, TRANSFER)}
        assert found == {first: TransferState.DECLINED, second: TransferState.DONE}


async def test_only_a_superior_of_the_owner_can_seize(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = (await _begin(city, county))[0]
        version = (await incident(city, key)).version
        with pytest.raises(Conflict, match=r"ownership\.not_superior"):
            await county.log.append(SeizeIncident(incident=key, version=version, reason="x"), SELF)
        await city.log.append(SeizeIncident(incident=key, version=version, reason="失联"), SELF)
        await _agree_everywhere(key, city, county)
        assert (await incident(county, key)).owner == city.log.node
        [term] = await rows(county, TERM)
        assert (term.kind, term.reason) == ("ownership.seized", "失联")


async def test_decisions_of_the_one_who_did_not_know_are_late_and_have_no_effect(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = (await _begin(city, county))[0]
        version = (await incident(city, key)).version
        await city.log.append(SeizeIncident(incident=key, version=version, reason="x"), SELF)
        await county.log.append(SetLevel(id=key, version=version, level=Level.I, reason="x"), SELF)
        await county.log.append(AddNote(id=key, text="仍在现场"), SELF)
        assert (await incident(county, key)).level is Level.I
        await _agree_everywhere(key, city, county)
        for n in (city, county):
            found = await incident(n, key)
            assert found.level is Level.III and found.notes == 1 and found.owner == city.log.node
            [late] = await rows(n, LATE)
            assert (late.kind, late.verdict, late.origin) == ("incident.level_set", "late", county.log.node)
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_late_order_that_somebody_accepted_is_adopted_or_recalled(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with crowd(database_url, tmp_path, "city", "county", clock=clock) as (city, county):
        key, unit = await _begin(city, county)
        version = (await incident(city, key)).version
        await city.log.append(SeizeIncident(incident=key, version=version, reason="x"), SELF)
        made = [(await county.log.append(_order(key, unit, f"{i}"), SELF)).id or "" for i in range(3)]
        for order in made[:2]:
            await county.log.append(ProgressOrder(id=order, step=Progress.ACCEPTED), CREW)
        await _agree_everywhere(key, city, county)
        found = {row.id: row for row in await rows(city, ORDER)}
        assert {row.standing for row in found.values()} == {Standing.LATE}
        assert [found[order].open for order in made] == [True, True, False]
        assert all(found[order].decide_by is not None for order in made[:2])
        [squad] = await rows(city, UNIT)
        assert squad.orders == made[:2] and squad.status is UnitStatus.BUSY
        alarms = [row for row in await rows(city, ALARM) if row.kind == "order.late_accepted"]
        assert {alarm.order for alarm in alarms} == set(made[:2])
        with pytest.raises(Conflict, match=r"incident\.elsewhere"):
            await county.log.append(AdoptOrder(id=made[0], version=found[made[0]].version), SELF)
        await city.log.append(AdoptOrder(id=made[0], version=found[made[0]].version), SELF)
        await city.log.append(RecallOrder(id=made[1], version=found[made[1]].version, reason="x"), SELF)
        await _agree_everywhere(key, city, county)
        for n in (city, county):
            found = {row.id: row for row in await rows(n, ORDER)}
            assert [found[order].standing for order in made] == [Standing.ADOPTED, Standing.RECALLED, Standing.LATE]
            assert found[made[0]].progress is Progress.ACCEPTED and found[made[0]].open
            [squad] = await rows(n, UNIT)
            assert squad.orders == made[:1]
        await county.log.append(ProgressOrder(id=made[0], step=Progress.DONE), CREW)
        await _agree_everywhere(key, city, county)
        [squad] = await rows(city, UNIT)
        assert squad.orders == [] and squad.status is UnitStatus.AVAILABLE
    assert not state.differing(database_url, tmp_path / "county")


async def test_nobody_decides_on_a_late_order_in_time_and_the_owner_is_alarmed(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with crowd(database_url, tmp_path, "city", "county", clock=clock) as (city, county):
        key, unit = await _begin(city, county)
        version = (await incident(city, key)).version
        await city.log.append(SeizeIncident(incident=key, version=version, reason="x"), SELF)
        made = (await county.log.append(_order(key, unit), SELF)).id or ""
        await county.log.append(ProgressOrder(id=made, step=Progress.ACCEPTED), CREW)
        await _agree_everywhere(key, city, county)
        assert not await rows(county, TIMER)
        clock.advance(3600)
        await _fire(city)
        await _agree_everywhere(key, city, county)
        kinds = [row.kind for row in await rows(county, ALARM) if row.order == made]
        assert sorted(kinds) == ["order.late_accepted", "order.undecided"]


async def test_an_order_to_another_nodes_organisation_names_the_node_and_is_delivered_there(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        organisation = (await city.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
        [seat] = [row for row in await rows(city, NODE) if row.id == county.log.node]
        await city.log.append(EditNode(id=seat.id, version=seat.version, organisation=organisation), SELF)
        key = (await city.log.append(report(organisation), SELF)).id or ""
        party = Party(kind=PartyKind.ORGANISATION, id=organisation)
        made = (await city.log.append(IssueOrder(incident=key, assignee=party, task="x", ladder=[]), SELF)).id or ""
        await carry(city, county)
        [order] = await rows(county, ORDER)
        assert order.node == county.log.node and order.origin == city.log.node
        while (await rows(county, ORDER))[0].progress is not Progress.DELIVERED:
            await county.log.caught_up()
            await county.log.append(AddNote(id=key, text="x"), SELF)
        await county.log.append(ProgressOrder(id=made, step=Progress.ACCEPTED), CREW)
        await _agree_everywhere(key, city, county)
        assert (await rows(city, ORDER))[0].progress is Progress.ACCEPTED


async def test_what_others_ask_of_the_owner_is_answered_there(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        key = (await _begin(city, county))[0]
        with pytest.raises(Conflict, match=r"ownership\.mine"):
            await county.log.append(AskOwner(incident=key, what="level", text="请提级"), SELF)
        ask = (await city.log.append(AskOwner(incident=key, what="level", text="请提级"), SELF)).id or ""
        await carry(city, county)
        assert [row.text for row in await rows(county, ASK, open=True)] == ["请提级"]
        with pytest.raises(Conflict, match=r"incident\.elsewhere"):
            await city.log.append(AnswerAsk(id=ask, granted=True), SELF)
        await county.log.append(AnswerAsk(id=ask, granted=True, reason="好"), SELF)
        await _agree_everywhere(key, city, county)
        [row] = await rows(city, ASK)
        assert (row.open, row.granted, row.answer) == (False, True, "好")


async def test_rival_seizures_end_in_the_higher_nodes_hands_everywhere(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "province", "city", "county") as nodes:
        province, city, county = nodes
        key = (await _begin(city, county))[0]
        await carry(city, province)
        for n in (city, province):
            version = (await incident(n, key)).version
            await n.log.append(SeizeIncident(incident=key, version=version, reason="x"), SELF)
            version = (await incident(n, key)).version
            level = Level.I if n is province else Level.II
            await n.log.append(SetLevel(id=key, version=version, level=level, reason="x"), SELF)
        await _agree_everywhere(key, *nodes)
        for n in nodes:
            found = await incident(n, key)
            assert found.owner == province.log.node and found.level is Level.I and found.contested
            assert sorted(term.standing for term in await rows(n, TERM)) == [False, True]
    assert not state.differing(database_url, tmp_path / "county")


async def test_what_a_revoked_node_writes_has_no_effect_whenever_it_comes(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "province", "city", "county") as nodes:
        province, city, county = nodes
        key = (await _begin(city, county))[0]
        await exchange(*nodes)
        [row] = [one for one in await rows(city, NODE) if one.id == county.log.node]
        heads = await city.store.read(stream_heads)
        of_county = {name: at for name, at in heads.items() if f"@{county.log.node}." in name}
        await county.log.append(AddNote(id=key, text="danach"), SELF)
        await carry(county, province)  # before province hears of the revocation
        assert (await incident(province, key)).notes == 1
        [above] = [one for one in await rows(county, NODE) if one.id == city.log.node]
        with pytest.raises(Conflict, match=r"node\.elsewhere"):
            await county.log.append(RevokeNode(id=above.id, version=above.version, reason="x", heads={}), SELF)
        await city.log.append(RevokeNode(id=row.id, version=row.version, reason="x", heads=of_county), SELF)
        await _agree_everywhere(key, province, city)
        for n in (province, city):
            assert (await incident(n, key)).notes == 0
            assert [late.verdict for late in await rows(n, LATE)] == ["revoked"]
