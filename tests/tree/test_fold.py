"""One incident, several authors: whatever the order of arrival, the same rows; and every row the same when built anew."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from command.base.clock import ManualClock
from command.base.entry import By
from command.base.errors import FenghuoError
from command.base.schema import Level, Party, PartyKind
from command.base.timer import TIMER
from command.domain.fence import DrawFence
from command.domain.handover import InviteToIncident
from command.domain.incident import AddNote, EditIncident, SetLevel, Step, StepIncident, SubReport, SubReportKind
from command.domain.notice import NOTICE
from command.domain.order import ORDER, IssueOrder, Progress, ProgressOrder, Standing
from command.domain.registry import UNIT, Tier, UnitKind, UnitStatus
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.edge.api import Node
from command.log.store import UNFOLDED
from tests.durability import state
from tests.node import NODE as SELF
from tests.tree.crowd import carry, crowd, exchange, held, incident, keys, report, rows, settled

AREA = {"type": "Polygon", "coordinates": [[[120.0, 30.0], [120.1, 30.0], [120.1, 30.1], [120.0, 30.0]]]}


async def _world(city: Node, county: Node) -> tuple[str, str, str]:
    """An incident of the city, with an organisation and a unit that both know."""
    organisation = (await city.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
    unit = (await city.log.append(SaveUnit(name="队", kind=UnitKind.FIRE, organisation=organisation), SELF)).id or ""
    key = (await city.log.append(report(organisation), SELF)).id or ""
    await city.log.append(InviteToIncident(incident=key, nodes=[county.log.node]), SELF)
    await carry(city, county)
    return organisation, unit, key


async def test_what_both_wrote_apart_gives_the_same_rows_on_both(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, _, key = await _world(city, county)
        for number in range(5):
            await city.log.append(AddNote(id=key, text=f"市{number}"), SELF)
            await county.log.append(AddNote(id=key, text=f"县{number}"), SELF)
        version = (await incident(city, key)).version
        await city.log.append(SetLevel(id=key, version=version, level=Level.II, reason="x"), SELF)
        assert await settled(city, key) != await settled(county, key)
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)
        found = await incident(county, key)
        assert found.notes == 10 and found.level is Level.II
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_note_that_came_before_the_report_counts_with_it(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county", "vehicle") as (city, county, vehicle):
        organisation = (await city.log.append(SaveOrganisation(name="县", tier=Tier.COUNTY), SELF)).id or ""
        await carry(city, county)
        key = (await county.log.append(report(organisation), SELF)).id or ""
        await exchange(county, city)
        await city.log.append(AddNote(id=key, text="市里"), SELF)
        await carry(city, vehicle, lambda stream: stream.origin == city.log.node)
        await carry(county, vehicle, lambda stream: stream.origin == county.log.node)
        assert (await incident(vehicle, key)).notes == 1
        assert await settled(vehicle, key) == await settled(city, key)


async def test_an_order_and_its_progress_meet_whoever_hears_first(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, unit, key = await _world(city, county)
        order = IssueOrder(incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task="救援", ladder=[])
        made = (await city.log.append(order, SELF)).id or ""
        await carry(city, county)
        await city.log.append(AddNote(id=key, text="meanwhile"), SELF)  # so that what comes back is not last
        await county.log.append(ProgressOrder(id=made, step=Progress.ACCEPTED), By(account="crew"))
        await carry(county, city)
        for n in (city, county):
            [row] = await rows(n, ORDER)
            assert (
                row.progress is Progress.ACCEPTED and row.answered_by == "crew" and row.standing is Standing.EFFECTIVE
            )
            [squad] = await rows(n, UNIT)
            assert squad.status is UnitStatus.BUSY and squad.orders == [made]
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)
        await county.log.append(ProgressOrder(id=made, step=Progress.DONE), By(account="crew"))
        await carry(county, city)
        [squad] = await rows(city, UNIT)
        assert squad.status is UnitStatus.AVAILABLE and squad.orders == []
    assert not state.differing(database_url, tmp_path / "county")


async def test_accepted_here_and_declined_there_is_a_conflict_that_counts_as_declined(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, unit, key = await _world(city, county)
        order = IssueOrder(incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task="救援", ladder=[])
        made = (await city.log.append(order, SELF)).id or ""
        await carry(city, county)
        await city.log.append(ProgressOrder(id=made, step=Progress.ACCEPTED), By(account="operator"))
        await county.log.append(ProgressOrder(id=made, step=Progress.DECLINED), By(account="crew"))
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)
        for n in (city, county):
            [row] = await rows(n, ORDER)
            assert row.conflict and row.progress is Progress.DECLINED
            assert (await rows(n, UNIT))[0].orders == []
    assert not state.differing(database_url, tmp_path / "county")


async def test_timers_and_messages_run_with_the_owner_only(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with crowd(database_url, tmp_path, "city", "county", clock=clock) as (city, county):
        _, unit, key = await _world(city, county)
        order = IssueOrder(incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task="救援", ack_within_s=600)
        await city.log.append(order, SELF)
        await carry(city, county)
        assert await rows(city, TIMER) and not await rows(county, TIMER)
        assert len(await rows(county, ORDER)) == 1
        await county.log.append(AddNote(id=key, text="x"), SELF)
        await exchange(city, county)
        assert await rows(city, TIMER) and not await rows(county, TIMER)


async def test_a_notice_of_another_node_sends_nothing_here(database_url: str, tmp_path: Path) -> None:
    from command.domain.notice import NoticeKind, Recipients
    from command.domain.registry_edits import SavePerson
    from sms.broadcast import DraftNotice
    from sms.outbox import MESSAGE
    from sms.worker import Sms

    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        organisation, _, key = await _world(city, county)
        person = SavePerson(name="人", organisation=organisation, phones=["+447700900001"])
        somebody = (await city.log.append(person, SELF)).id or ""
        notice = DraftNotice(
            kind=NoticeKind.CALL_OUT, text_zh="集合", recipients=Recipients(persons=[somebody]), incident=key
        )
        await city.log.append(notice, SELF)
        await carry(city, county)
        assert len(await rows(county, NOTICE)) == 1
        sms = Sms(county.store, county.log, county.clock)
        assert await sms._expand_one() is False
        assert not await rows(county, MESSAGE)
        assert await Sms(city.store, city.log, city.clock)._expand_one() is True


async def test_a_fence_of_another_node_is_shown_and_its_edit_counts(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, _, key = await _world(city, county)
        await city.log.append(DrawFence(name="圈", geometry=AREA, incident=key), SELF)
        await county.log.append(DrawFence(name="另一圈", geometry=AREA, incident=key), SELF)
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)


async def test_any_order_of_arrival_gives_the_same_rows(database_url: str, tmp_path: Path) -> None:
    """Three nodes write at random, exchange at random halves; in the end all agree, live and built anew."""
    chance, clock = random.Random(7), ManualClock()
    async with crowd(database_url, tmp_path, "province", "city", "county", clock=clock) as nodes:
        _, unit, key = await _world(nodes[1], nodes[2])
        await carry(nodes[1], nodes[0])
        for step in range(120):
            clock.advance(1)
            n = chance.choice(nodes)
            with suppress(FenghuoError):
                await n.log.append(await _anything(n, chance, key, unit, step), By(account=f"a{step}"))
            if chance.random() < 0.2:
                await carry(*chance.sample(nodes, 2))
        await exchange(*nodes)
        assert len({await settled(n, key) for n in nodes}) == 1
        assert len({(await incident(n, key)).version for n in nodes}) == 1
    for name in ("province", "city"):
        assert not state.differing(f"sqlite:///{tmp_path / name}/fenghuo.db", tmp_path / name)
    assert not state.differing(database_url, tmp_path / "county")
    assert state.verified(database_url, tmp_path / "county").good


async def _anything(n: Node, chance: random.Random, key: str, unit: str, step: int) -> object:
    row = await incident(n, key)
    orders = await rows(n, ORDER)
    choice = chance.randrange(6)
    if choice == 0 and orders:
        order = chance.choice(orders)
        return ProgressOrder(id=order.id, step=chance.choice(list(Progress)), text=f"{step}")
    if choice == 1:
        return IssueOrder(incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task=f"{step}", ladder=[])
    if choice == 2:
        return EditIncident(id=key, version=row.version, title=f"t{step}")
    if choice == 3:
        return StepIncident(id=key, version=row.version, step=chance.choice(list(Step)))
    if choice == 4:
        return SubReport(id=key, kind=SubReportKind.FOLLOW_UP, text=f"{step}")
    return AddNote(id=key, text=f"{step}")


async def test_a_decision_about_another_nodes_incident_is_refused_naming_the_owner(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, _, key = await _world(city, county)
        with pytest.raises(FenghuoError) as caught:
            await county.log.append(SetLevel(id=key, version=1, level=Level.I, reason="x"), SELF)
        assert caught.value.code == "incident.elsewhere" and caught.value.details["owner"] == city.log.node
        assert (await county.log.append(AddNote(id=key, text="x"), SELF)).entries


async def test_a_word_on_an_order_that_came_ahead_of_its_stream_counts_everywhere(
    database_url: str, tmp_path: Path
) -> None:
    """The vehicle knew the order, but not what stood before it: no `seen` tells that the word comes after the order."""
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, unit, key = await _world(city, county)
        await city.log.append(AddNote(id=key, text="not known there"), SELF)
        order = IssueOrder(incident=key, assignee=Party(kind=PartyKind.UNIT, id=unit), task="救援", ladder=[])
        made = (await city.log.append(order, SELF)).id or ""
        [ahead] = [one for one in await held(city) if one.written.entry.kind == "order.issued"]
        await county.log.receive_ahead([ahead], await keys(county))
        await county.log.append(ProgressOrder(id=made, step=Progress.ACCEPTED), By(account="crew"))
        await county.log.append(DrawFence(name="圈", geometry=AREA, incident=key), SELF)
        await city.log.append(SubReport(id=key, kind=SubReportKind.FOLLOW_UP, text="folds it anew there"), SELF)
        before_it = [one for one in await held(city) if one.written.entry.seq < ahead.written.entry.seq]
        await county.log.receive(before_it, await keys(county))
        assert [row.progress for row in await rows(county, ORDER)] == [Progress.ACCEPTED]
        await carry(county, city)
        assert [row.progress for row in await rows(city, ORDER)] == [Progress.ACCEPTED]
        await exchange(city, county)
        assert await settled(city, key) == await settled(county, key)
        assert [row.progress for row in await rows(county, ORDER)] == [Progress.ACCEPTED]
    assert not state.differing(database_url, tmp_path / "county")


async def test_a_large_incident_is_folded_after_its_backlog_and_survives_a_stop_before(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import command.log.folding as folding

    monkeypatch.setattr(folding, "FOLD_AT_ONCE", 50)
    monkeypatch.setattr(folding, "QUIET_S", 3600.0)
    monkeypatch.setattr(folding, "LAG_S_MAX", 3600.0)
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        _, _, key = await _world(city, county)
        await city.log.append(SubReport(id=key, kind=SubReportKind.FOLLOW_UP, text="x"), SELF)
        await asyncio.gather(*(city.log.append(AddNote(id=key, text=f"{i}"), SELF) for i in range(59)))
        await county.log.append(DrawFence(name="圈", geometry=AREA, incident=key), SELF)
        await carry(city, county)
        assert county.log.lagging == 1 and (await incident(county, key)).notes == 0
        await county.log.append(AddNote(id=key, text="knowing little"), SELF)
        last = [one for one in await held(county) if one.written.secrets.get("text") == "knowing little"]
        assert set(last[0].written.entry.seen.values()) <= {2}
        assert len(await county.store.read(lambda c: c.execute(UNFOLDED.select()).all())) == 1
        assert await settled(county, key)
        assert (await incident(county, key)).notes == 60
        await county.log.append(AddNote(id=key, text="knowing all"), SELF)
        last = [one for one in await held(county) if one.written.secrets.get("text") == "knowing all"]
        assert list(last[0].written.entry.seen.values()) == [62]
        await city.log.receive(
            [one for one in await held(county) if one.stream.origin == county.log.node], await keys(city)
        )
        assert await settled(city, key) == await settled(county, key)
