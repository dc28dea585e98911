"""Reports upward before their deadline: the rules as data, what is owed, what silence leads to, and what a report ends."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command.base.clock import ManualClock
from command.base.errors import Denied, Rejected
from command.base.rights import Role
from command.base.schema import Category, Level
from command.base.timer import TIMER
from command.domain.deadline import (
    DAY,
    REPORT_RULE,
    SECOND,
    Clock,
    ReportRule,
    SaveReportRule,
    Superior,
    first_due,
    next_due,
    remind_at,
)
from command.domain.generation import OpenGeneration
from command.domain.incident import (
    ALARM,
    INCIDENT,
    AcknowledgeAlarm,
    Channel,
    EditIncident,
    ReportIncident,
    SetLevel,
    Step,
    StepIncident,
    SubReport,
    SubReportKind,
)
from command.domain.owing import REPORT_DUE, DueState, ReportDue
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge.api import Node
from tests.command.test_domain import fire_due, get
from tests.command.test_log import report
from tests.node import NODE, actor, node, world

MINUTE = 60
CHINA = timezone(timedelta(hours=8))
INSTANTS = st.integers(0, 4_000_000_000 * SECOND)
FIRST: dict[str, Any] = {"report": SubReportKind.FIRST, "sender_tier": Tier.COUNTY, "recipient_tier": Superior.CITY}


def rule(**terms: Any) -> ReportRule:
    return ReportRule(**{"id": "r", "name": "规则", "organisation": "o", **FIRST, **terms})


def at(day: int, hour: int, minute: int = 0) -> int:
    """In May 2026, whose first day is a Friday."""
    return int(datetime(2026, 5, day, hour, minute, tzinfo=CHINA).timestamp()) * SECOND


@settings(max_examples=100, deadline=None)
@given(start=INSTANTS, limit=st.integers(0, 30 * 86_400))
def test_a_limit_counts_from_the_start_of_the_clock(start: int, limit: int) -> None:
    assert first_due(rule(limit_s=limit), start) == start + limit * SECOND


@settings(max_examples=100, deadline=None)
@given(start=INSTANTS, minute=st.integers(0, 1439), offset=st.integers(-840, 840))
def test_a_time_of_day_is_the_next_such_time_and_never_the_start_itself(start: int, minute: int, offset: int) -> None:
    due = first_due(rule(daily_at_min=minute, utc_offset_min=offset), start)
    local = datetime.fromtimestamp(due // SECOND, timezone(timedelta(minutes=offset)))
    assert 0 < due - start <= DAY
    assert (local.hour * 60 + local.minute, local.second, due % SECOND) == (minute, 0, 0)


@settings(max_examples=100, deadline=None)
@given(start=INSTANTS, days=st.integers(1, 60), offset=st.integers(-840, 840))
def test_working_days_pass_over_weekends_and_over_nothing_else(start: int, days: int, offset: int) -> None:
    due = first_due(rule(working_days=days, utc_offset_min=offset), start)
    zone = timezone(timedelta(minutes=offset))
    first, last = (datetime.fromtimestamp(us // SECOND, zone) for us in (start, due))
    passed = [first.date() + timedelta(days=n) for n in range(1, (last.date() - first.date()).days + 1)]
    assert sum(day.weekday() < 5 for day in passed) == days and last.weekday() < 5
    assert first.time() == last.time()


@settings(max_examples=100, deadline=None)
@given(due=INSTANTS, repeat=st.integers(600, 30 * 86_400), later=st.integers(-(10**15), 10**15))
def test_a_repetition_is_the_first_after_now_in_its_own_beat(due: int, repeat: int, later: int) -> None:
    now = due + later
    found = next_due(due, repeat, now)
    assert found > now and found > due and (found - due) % (repeat * SECOND) == 0
    assert found - repeat * SECOND in (due, *range(due, now + 1, repeat * SECOND)[-1:])


def test_what_the_rules_of_the_field_ask_for_can_be_said() -> None:
    assert first_due(rule(daily_at_min=540), at(1, 8, 59)) == at(1, 9)
    assert first_due(rule(daily_at_min=540), at(1, 9)) == at(2, 9)
    assert first_due(rule(working_days=2), at(1, 17)) == at(5, 17)
    assert remind_at(rule(limit_s=900), 0, 900 * SECOND) == 600 * SECOND
    assert remind_at(rule(limit_s=300), 0, 300 * SECOND) is None


async def dues(n: Node, incident: str, **equal: object) -> list[ReportDue]:
    found = await n.store.read(lambda c: n.store.shelf(REPORT_DUE).select(c, equal={"incident": incident, **equal}))
    return sorted(found, key=lambda due: (due.due_at, due.id))


async def saved(n: Node, organisation: str, **terms: Any) -> str:
    values = {"name": "规则", "organisation": organisation, **FIRST, **terms}
    key = (await n.log.append(SaveReportRule(**values), NODE)).id or ""
    if isinstance(n.clock, ManualClock):
        n.clock.at += 1  # it holds for what is decided after it
    return key


async def reported(n: Node, organisation: str, **changes: Any) -> str:
    told = report(organisation)
    values = {name: getattr(told, name) for name in ReportIncident.__struct_fields__}
    return (await n.log.append(ReportIncident(**{**values, **changes}), NODE)).id or ""


async def version(n: Node, incident: str) -> int:
    return int((await get(n, INCIDENT, incident)).version)


async def step(n: Node, incident: str, action: Step) -> None:
    await n.log.append(StepIncident(id=incident, version=await version(n, incident), step=action), NODE)
    await fire_due(n)


async def test_a_first_report_is_reminded_of_then_overdue_and_a_report_ends_both(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        await saved(n, w.province, levels=[Level.III], limit_s=30 * MINUTE)
        await saved(n, w.province, levels=[Level.III], limit_s=15 * MINUTE, channel=Channel.PHONE)
        incident = await reported(n, w.county, level=Level.III)
        await fire_due(n)
        phone, writing = await dues(n, incident)
        assert (phone.channel, writing.channel) == (Channel.PHONE, Channel.WRITING)
        assert phone.due_at == phone.starts_at + 15 * MINUTE * SECOND
        assert (phone.sender, phone.recipient, phone.number) == (w.county, w.city, 1)
        clock.advance(10 * MINUTE)
        await fire_due(n)
        assert (await get(n, ALARM, f"report-{phone.id}-soon")).acknowledged_at is None
        clock.advance(5 * MINUTE)
        await fire_due(n)
        assert [due.overdue for due in await dues(n, incident, open=True)] == [True, False]
        assert (await get(n, ALARM, f"report-{phone.id}-soon")).acknowledged_at is not None
        spoken = SubReport(id=incident, kind=SubReportKind.FIRST, text="电话报告", channel=Channel.PHONE)
        await n.log.append(spoken, NODE)
        assert (await get(n, ALARM, f"report-{phone.id}-overdue")).acknowledged_at is not None
        [left] = await dues(n, incident, open=True)
        assert left.id == writing.id
        await n.log.append(SubReport(id=incident, kind=SubReportKind.FIRST, text="书面报告"), NODE)
        done = {due.id: due for due in await dues(n, incident)}
        assert [done[one.id].state for one in (phone, writing)] == [DueState.DONE, DueState.DONE]
        assert [done[one.id].late for one in (phone, writing)] == [True, False]
        clock.advance(3_600)
        assert await fire_due(n) == 0


async def test_a_report_fulfils_only_its_kind_and_its_recipient(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        await saved(n, w.province, limit_s=3_600)
        await saved(n, w.province, limit_s=7_200, recipient_tier=Superior.PROVINCE, skip_level=True)
        incident = await reported(n, w.county)
        await fire_due(n)
        assert [due.recipient for due in await dues(n, incident, open=True)] == [w.city, w.province]
        await n.log.append(SubReport(id=incident, kind=SubReportKind.FOLLOW_UP, text="续报"), NODE)
        assert len(await dues(n, incident, open=True)) == 2
        await n.log.append(SubReport(id=incident, kind=SubReportKind.FIRST, text="初报", to=w.province), NODE)
        assert [due.recipient for due in await dues(n, incident, open=True)] == [w.city]


async def test_only_the_rules_of_the_level_the_category_and_the_line_apply(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        office = (await n.log.append(SaveOrganisation(name="局", tier=Tier.DEPARTMENT, parent=w.county), NODE)).id or ""
        mine = await saved(n, w.city, levels=[Level.I, Level.II], limit_s=900)
        await saved(n, w.other_county, limit_s=900)
        await saved(n, w.city, limit_s=900, categories=[Category.PUBLIC_HEALTH])
        await saved(n, w.city, limit_s=900, retired=True)
        await saved(n, w.city, limit_s=900, recipient_tier=Superior.PROVINCE)  # past the city, and not said so
        await saved(n, w.province, limit_s=900, sender_tier=Tier.CITY, recipient_tier=Superior.PROVINCE)
        grave = await reported(n, office, level=Level.I, category=Category.ACCIDENT)
        small = await reported(n, office, level=Level.IV, category=Category.ACCIDENT)
        await fire_due(n)
        assert [(due.rule, due.sender) for due in await dues(n, grave)] == [(mine, w.county)]
        assert not await dues(n, small)


async def test_a_raised_level_owes_more_and_a_lowered_one_no_longer(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        await saved(n, w.province, levels=[Level.II], limit_s=1_800)
        incident = await reported(n, w.county, level=Level.IV)
        await fire_due(n)
        assert not await dues(n, incident)
        clock.advance(3_600)

        async def raised(level: Level) -> list[DueState]:
            request = SetLevel(id=incident, version=await version(n, incident), level=level, reason="变化")
            await n.log.append(request, NODE)
            await fire_due(n)
            return [due.state for due in await dues(n, incident)]

        assert await raised(Level.II) == [DueState.OPEN]
        assert (await dues(n, incident))[0].due_at == n.clock.now() + 1_800 * SECOND
        assert await raised(Level.III) == [DueState.LAPSED]
        clock.advance(60)
        assert await raised(Level.II) == [DueState.LAPSED, DueState.OPEN]
        clock.advance(1_801)
        await fire_due(n)
        assert await raised(Level.III) == [DueState.LAPSED, DueState.OPEN], "what is overdue stays until it is reported"
        edit = EditIncident(id=incident, version=await version(n, incident), category=Category.PUBLIC_HEALTH)
        await n.log.append(edit, NODE)
        await fire_due(n)
        assert len(await dues(n, incident)) == 2


async def test_a_zero_report_comes_every_day_until_the_incident_is_stable(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        zero = await saved(
            n, w.province, report=SubReportKind.FOLLOW_UP, daily_at_min=540, repeat_s=86_400, remind_before_s=0
        )
        check = await saved(
            n, w.province, report=SubReportKind.VERIFICATION, clock=Clock.STABLE, working_days=2, remind_before_s=0
        )
        incident = await reported(n, w.county)
        await fire_due(n)
        [first] = await dues(n, incident)
        assert first.rule == zero and first.due_at > n.clock.now()
        await n.log.append(SubReport(id=incident, kind=SubReportKind.FOLLOW_UP, text="零报告"), NODE)
        clock.advance(86_400)
        await fire_due(n)
        [second] = await dues(n, incident, open=True)
        assert (second.number, second.due_at) == (2, first.due_at + DAY)
        clock.advance(3 * 86_400)  # nobody reported, and the node slept
        await fire_due(n)
        [third] = await dues(n, incident, open=True)
        assert third.number == 3 and 0 < third.due_at - n.clock.now() <= DAY and not third.overdue
        assert (await get(n, REPORT_DUE, second.id)).state is DueState.MISSED
        assert (await get(n, ALARM, f"report-{second.id}-overdue")).acknowledged_at is None
        await n.log.append(AcknowledgeAlarm(id=f"report-{second.id}-overdue"), NODE)
        await step(n, incident, Step.RESPOND)
        await step(n, incident, Step.STABILISE)
        assert [(due.rule, due.number) for due in await dues(n, incident, open=True)] == [(check, 1)]
        await step(n, incident, Step.RESPOND)
        assert [due.rule for due in await dues(n, incident, open=True)] == [zero]
        await step(n, incident, Step.STABILISE)
        await step(n, incident, Step.CLOSE)
        assert [due.rule for due in await dues(n, incident, open=True)] == [check], "it outlives the incident"
        clock.advance(6 * 86_400)
        await fire_due(n)
        assert [due.overdue for due in await dues(n, incident, open=True)] == [True]


async def test_a_dismissed_incident_owes_nothing_and_leaves_no_timer(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        await saved(n, w.province, limit_s=3_600)
        await saved(n, w.province, report=SubReportKind.FOLLOW_UP, limit_s=3_600, repeat_s=3_600)
        incident = await reported(n, w.county)
        await fire_due(n)
        assert len(await dues(n, incident, open=True)) == 2
        await step(n, incident, Step.DISMISS)
        assert not await dues(n, incident, open=True)
        assert not await n.store.read(lambda c: n.store.shelf(TIMER).select(c))


async def test_a_rule_reaches_back_to_nothing_and_its_edit_changes_nothing_that_is_owed(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        before = await reported(n, w.county)
        clock.advance(1)
        key = await saved(n, w.province, limit_s=3_600)
        incident = await reported(n, w.county)
        await fire_due(n)
        assert not await dues(n, before)
        [due] = await dues(n, incident)
        await saved(n, w.province, id=key, version=1, limit_s=60)
        assert (await get(n, REPORT_RULE, key)).limit_s == 60
        assert await dues(n, incident) == [due]


async def test_after_a_restore_a_deadline_that_has_passed_waits_for_a_person(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        await saved(n, w.province, limit_s=3_600, remind_before_s=0)
        incident = await reported(n, w.county)
        await fire_due(n)
        clock.advance(3_601)
        await n.log.append(OpenGeneration(id=n.clock.token(), public_key="", restored=True), NODE)
        held = await n.store.read(lambda c: n.store.shelf(TIMER).select(c, equal={"held": True}))
        assert [timer.kind for timer in held] == ["report.overdue"]
        assert await fire_due(n) == 0
        assert [due.overdue for due in await dues(n, incident)] == [False]


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "report_rule.limit"),
    ({"limit_s": 60, "working_days": 2}, "report_rule.limit"),
    ({"limit_s": 60, "recipient_tier": Superior.COUNTY}, "report_rule.direction"),
    ({"limit_s": 60, "sender_tier": Tier.DEPARTMENT}, "report_rule.direction"),
    ({"working_days": 2, "repeat_s": 86_400}, "report_rule.repeat"),
    ({"limit_s": 60, "repeat_s": 60}, "report_rule.repeat"),
    ({"limit_s": 60, "repeat_s": 86_400, "clock": Clock.STABLE}, "report_rule.repeat"),
)


async def test_a_rule_that_no_instant_follows_from_is_refused(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        for terms, code in REFUSED:
            with pytest.raises(Rejected) as refused:
                await saved(n, w.province, **terms)
            assert refused.value.code == code, terms


async def test_a_rule_is_saved_by_those_who_lead_its_line(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        request = SaveReportRule(name="规则", organisation=w.county, limit_s=60, **FIRST)
        await n.log.append(request, NODE, actor=actor(Role.LEADER, w.city))
        for role, where in ((Role.LEADER, w.other_county), (Role.FIELD_MEMBER, w.county)):
            with pytest.raises(Denied):
                await n.log.append(request, NODE, actor=actor(role, where))
