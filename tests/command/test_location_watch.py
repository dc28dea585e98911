"""Units drive through fences of a real node: what stands on the timeline, once, whatever happens in between."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from command.base.clock import MICROSECONDS
from command.base.errors import Rejected, Unavailable
from command.domain.fence import EditFence, RemoveFence, Rule, TimeWindow
from command.domain.incident import Step as IncidentStep
from command.domain.incident import StepIncident
from command.domain.location import FENCE_STATE, FORGET_AT_ONCE, LOCATION, TRACK, TRAIL, RecordFixes, Source, TrackPoint
from command.domain.registry import UnitKind
from command.domain.registry_edits import SaveUnit
from command.edge.watch import FIXES_WAITING_MAX
from geo.track import Fix
from tests.command.places import LAT, LON, NOW, places
from tests.node import NODE


async def test_a_unit_that_drives_through_a_fence_enters_and_leaves_on_the_timeline(
    database_url: str, tmp_path: Path
) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        fence = await p.draw(incident)
        assert set(await p.drive(15)) == {"new"}
        assert await p.crossings(incident) == [("enter", p.world.unit)]
        assert (await p.fence(fence)).inside == [p.world.unit]
        await p.drive(25, first=15)
        assert await p.crossings(incident) == [("enter", p.world.unit), ("exit", p.world.unit)]
        assert (await p.fence(fence)).inside == []


async def test_a_crossing_stands_on_the_timeline_once_across_restarts_at_every_step(
    database_url: str, tmp_path: Path
) -> None:
    clock = made = None
    incident = ""
    for step in range(8, 17):
        async with places(database_url, tmp_path, clock=clock, made=made) as p:
            clock, made = p.clock, p.world
            if not incident:
                incident = await p.incident()
                await p.draw(incident)
            assert await p.drive(1, first=step) == ["new"]
            crossings = await p.crossings(incident)
    assert crossings == [("enter", made.unit)] if made else False


async def test_a_report_sent_again_after_a_restart_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        await p.draw(incident)
        fixes = [p.fix(LON + 0.0018 * i, LAT + 0.005, ago_s=60 - 5 * i) for i in range(1, 6)]
        assert await p.report(*fixes) == ["new"] * 5
        position, wanted = p.node.log.position, await p.crossings(incident)
        assert await p.report(*fixes) == ["duplicate"] * 5
        assert p.node.log.position == position
    async with places(database_url, tmp_path, clock=p.clock, made=p.world) as p:
        again = await p.report(*fixes)
        assert again[-1] == "duplicate" and set(again) <= {"late", "duplicate"}
        assert await p.crossings(incident) == wanted == [("enter", p.world.unit)]
        assert [point.late for point in await p.track()] == [False] * 5


async def test_a_late_fix_is_kept_in_the_track_only(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        await p.draw(incident)
        assert await p.report(p.fix(LON - 0.1, LAT)) == ["new"]
        late = [p.fix(LON + 0.005, LAT + 0.005, ago_s=900 - i) for i in range(5)]
        assert await p.report(*late) == ["late"] * 5
        assert await p.places() == {p.world.unit: (LON - 0.1, LAT)}
        assert [point.late for point in await p.track()] == [True, False]
        assert await p.crossings(incident) == []


async def test_a_unit_already_inside_is_told_of_when_the_fence_is_drawn(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await p.report(p.fix(LON + 0.005, LAT + 0.005))
        incident = await p.incident()
        await p.draw(incident)
        for _ in range(3):
            p.clock.advance(5)
            await p.report(p.fix(LON + 0.005, LAT + 0.005))
        assert await p.crossings(incident) == [("enter", p.world.unit)]


async def test_an_edited_fence_holds_from_the_next_fix(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        fence = await p.draw(incident)
        await p.drive(15)
        east = {"type": "Circle", "coordinates": [LON + 0.5, LAT], "radius_m": 300}
        await p.decide(EditFence(id=fence, version=1, geometry=east))
        await p.drive(3, first=15)
        assert await p.crossings(incident) == [("enter", p.world.unit), ("exit", p.world.unit)]


async def test_a_removed_fence_is_forgotten_with_its_states(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        fence = await p.draw(incident)
        await p.drive(15)
        assert len(await p.rows(FENCE_STATE)) == 1
        await p.decide(RemoveFence(id=fence, version=1))
        await p.drive(25, first=15)
        assert await p.rows(FENCE_STATE) == []
        assert await p.crossings(incident) == [("enter", p.world.unit)]


async def test_a_retired_unit_is_nowhere(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        fence = await p.draw(await p.incident())
        await p.drive(15)
        unit = SaveUnit(
            id=p.world.unit,
            version=1,
            name="消防一队",
            kind=UnitKind.FIRE,
            organisation=p.world.county,
            retired=True,
        )
        await p.decide(unit)
        assert await p.report(p.fix(LON, LAT)) == ["unknown"]
        for table in (LOCATION, TRAIL, FENCE_STATE):
            assert await p.rows(table) == []
        assert (await p.fence(fence)).inside == []
        assert await p.track() != []


async def test_silence_inside_is_told_once_across_a_restart(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        fence = await p.draw(incident)
        await p.drive(15)
        p.clock.advance(599)
        await p.watch.sweep()
        assert await p.crossings(incident) == [("enter", p.world.unit)]
        p.clock.advance(2)
        await p.watch.sweep()
        await p.watch.sweep()
    async with places(database_url, tmp_path, clock=p.clock, made=p.world) as p:
        await p.watch.sweep()
        assert await p.crossings(incident) == [("enter", p.world.unit), ("lost", p.world.unit)]
        assert (await p.fence(fence)).inside == [p.world.unit]


async def test_rule_dwell_and_rule_absent_wait_for_the_fence_s_own_time(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        await p.draw(incident, Rule.DWELL, dwell_s=120)
        away = await p.unit("急救一组", p.world.county)
        await p.draw(incident, Rule.ABSENT, dwell_s=300, units=[away])
        await p.drive(15)
        await p.watch.sweep()
        p.clock.advance(150)
        await p.watch.sweep()
        assert await p.crossings(incident) == [("dwell", p.world.unit)]
        p.clock.advance(200)
        await p.watch.sweep()
        assert await p.crossings(incident) == [("dwell", p.world.unit), ("absent", away)]


async def test_a_fence_says_what_silence_is_and_tells_nothing_outside_its_windows(
    database_url: str, tmp_path: Path
) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        minute = (p.clock.now() // 60_000_000 + 480) % 1440
        later = [TimeWindow(daily_min=((minute + 600) % 1440, (minute + 660) % 1440))]
        patient = await p.draw(incident, lost_s=1200)
        shut = await p.draw(incident, Rule.ENTER, windows=later)
        await p.drive(15)
        p.clock.advance(1190)
        await p.watch.sweep()
        assert await p.crossings(incident) == [("enter", p.world.unit)]
        p.clock.advance(30)
        await p.watch.sweep()
        assert await p.crossings(incident) == [("enter", p.world.unit), ("lost", p.world.unit)]
        assert (await p.fence(shut)).inside == [] and (await p.fence(patient)).inside == [p.world.unit]
        row = await p.fence(shut)
        await p.decide(EditFence(id=shut, version=row.version, windows=[]))
        assert (await p.fence(shut)).windows == []
        with pytest.raises(Rejected) as refused:
            await p.decide(EditFence(id=shut, version=row.version + 1, windows=[TimeWindow(daily_min=(60, 60))]))
        assert refused.value.details == {"field": "windows"}


async def test_a_fence_that_could_not_be_watched_is_refused_when_drawn(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        with pytest.raises(Rejected) as refused:
            await p.draw(await p.incident(), Rule.ABSENT)
        assert refused.value.code == "geo.fence" and refused.value.details == {"field": "units"}
        fence = await p.draw(await p.incident())
        with pytest.raises(Rejected):
            await p.decide(EditFence(id=fence, version=1, rules=[Rule.ABSENT]))


async def test_crossings_after_the_incident_ended_stay_off_its_timeline(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        fence = await p.draw(incident)
        await p.decide(StepIncident(id=incident, version=1, step=IncidentStep.DISMISS))
        await p.drive(15)
        assert await p.crossings(incident) == []
        assert (await p.fence(fence)).inside == [p.world.unit]


async def test_reports_of_many_callers_at_once_are_all_answered(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        units = [await p.unit(f"分队{i}", p.world.county) for i in range(20)]
        incident = await p.incident()
        await p.draw(incident)
        for step in range(5, 16):
            p.clock.advance(5)
            lon = LON + (step - 10) * 0.0005
            answers = await asyncio.gather(*(p.report(p.fix(lon, LAT + 0.005, unit=unit)) for unit in units))
            assert answers == [["new"]] * 20
        assert sorted(await p.crossings(incident)) == sorted(("enter", unit) for unit in units)


async def test_more_waiting_fixes_than_the_limit_are_refused(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        fixes = [Fix(p.world.unit, LON, LAT, NOW)] * (FIXES_WAITING_MAX + 1)
        with pytest.raises(Unavailable) as refused:
            await p.watch.report(fixes, Source.APP)
        assert refused.value.code == "location.busy"


async def test_a_commit_that_fails_loses_no_crossing_and_doubles_none(tmp_path: Path) -> None:
    async with places(f"sqlite:///{tmp_path / 'fenghuo.db'}", tmp_path) as p:
        incident = await p.incident()
        await p.draw(incident)
        await p.drive(12)
        other = sqlite3.connect(tmp_path / "fenghuo.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the database is busy beyond our patience
        p.clock.advance(5)
        fix = p.fix(LON + 0.001, LAT + 0.005)
        status, answer = await p.call("POST", "/locations", {"fixes": [fix]}, by="tracker")
        assert (status, answer["code"]) == (503, "store.failed")
        other.execute("ROLLBACK")
        other.close()
        assert await p.report(fix) == ["new"]
        await p.drive(5, first=13)
        assert await p.crossings(incident) == [("enter", p.world.unit)]


async def test_old_track_points_go_in_bounded_chunks(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        old = NOW - 31 * 86_400 * MICROSECONDS
        points = [
            TrackPoint(id=f"u.{old + i}", unit="u", at=old + i, lon=LON, lat=LAT, received_at=old + i)
            for i in range(FORGET_AT_ONCE + 5)
        ]
        await p.node.log.append(RecordFixes(points=points), NODE)
        await p.report(p.fix())
        p.clock.advance(61)
        await p.watch.sweep()
        assert len(await p.rows(TRACK)) == 6
        await p.watch.sweep()
        assert [point.unit for point in await p.rows(TRACK)] == [p.world.unit]


async def test_a_state_of_another_version_is_forgotten_instead_of_stopping_the_start(
    database_url: str, tmp_path: Path
) -> None:
    async with places(database_url, tmp_path) as p:
        incident = await p.incident()
        await p.draw(incident)
        await p.drive(15)
        (state,) = await p.rows(FENCE_STATE)
        (trail,) = await p.rows(TRAIL)
        broken = RecordFixes(
            states=[type(state)(id=state.id, unit=state.unit, fence=state.fence, state=["elsewhere"])],
            trails=[type(trail)(id=trail.id, map=[1], fences=[])],
        )
        await p.node.log.append(broken, NODE)
    async with places(database_url, tmp_path, clock=p.clock, made=p.world) as p:
        assert await p.drive(3, first=15) == ["new"] * 3
        assert await p.crossings(incident) == [("enter", p.world.unit)] * 2  # the second says that it was there


async def test_a_change_of_members_changes_who_may_see_the_location(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await p.report(p.fix())
        unit = SaveUnit(
            id=p.world.unit, version=1, name="消防一队", kind=UnitKind.FIRE, organisation=p.world.city, members=[]
        )
        await p.decide(unit)
        await p.watch.sweep()
        (row,) = await p.rows(LOCATION)
        assert (row.organisation, row.members) == (p.world.city, [])
