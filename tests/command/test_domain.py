"""The domain through the log: incident, order with its ladder, plan in one decision."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from command.base.clock import ManualClock
from command.base.entry import By
from command.base.errors import Conflict, Denied
from command.base.rights import Role
from command.base.schema import Category, Level, Party, PartyKind
from command.base.timer import TIMER, FireTimer
from command.domain.account import CreateAccount
from command.domain.incident import ALARM, INCIDENT, STEPS, AcknowledgeAlarm, Incident, State, Step, StepIncident, step
from command.domain.notice import NOTICE, Recipients
from command.domain.order import (
    ANSWERED,
    FORWARD,
    ORDER,
    CancelOrder,
    IssueOrder,
    Means,
    Order,
    Progress,
    ProgressOrder,
    Rung,
    forward,
)
from command.domain.plan import (
    ACTIVATION,
    DecideActivation,
    PlannedFence,
    PlannedNotice,
    PlannedOrder,
    PlannedRoom,
    RequestActivation,
    SavePlan,
)
from command.domain.registry import UNIT, UnitStatus
from command.edge.api import Node
from tests.command.test_log import report
from tests.node import NODE, World, actor, node, world


def test_every_step_that_the_table_lacks_is_a_conflict_that_names_both() -> None:
    for state in State:
        for action in Step:
            if (state, action) in STEPS:
                assert step(state, action) is STEPS[state, action]
            else:
                with pytest.raises(Conflict) as refused:
                    step(state, action)
                assert refused.value.details == {"state": state, "step": action}


def test_progress_never_moves_back() -> None:
    order = list(Progress)
    for (before, _), after in FORWARD.items():
        assert order.index(after) >= order.index(before)
    with pytest.raises(Conflict):
        forward(Progress.DONE, Progress.READ)


async def get(n: Node, table: Any, key: str) -> Any:
    return await n.store.read(lambda c: n.store.shelf(table).get(c, key))


async def fire_due(n: Node) -> int:
    """Fire every timer that is due, as the shell would."""
    timers = await n.store.read(lambda c: n.store.shelf(TIMER).select(c, equal={"held": False}))
    due = sorted((timer for timer in timers if timer.due_at <= n.clock.now()), key=lambda timer: timer.due_at)
    for timer in due:
        await n.log.append(FireTimer(id=timer.id), NODE)
    return len(due)


async def issued(n: Node, w: World, **changes: Any) -> tuple[str, str]:
    incident = (await n.log.append(report(w.county), NODE)).id or ""
    ladder = [Rung(after_s=0, means=Means.SMS), Rung(after_s=120, means=Means.SMS)]
    values: dict[str, Any] = {
        "incident": incident,
        "assignee": Party(kind=PartyKind.UNIT, id=w.unit),
        "task": "赶赴现场",
        "ack_within_s": 300,
        "ladder": ladder,
    }
    order = (await n.log.append(IssueOrder(**values | changes), NODE)).id or ""
    return incident, order


async def test_silence_becomes_messages_then_an_alarm_and_an_answer_ends_both(
    database_url: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        w = await world(n)
        incident, key = await issued(n, w)
        assert await fire_due(n) == 1
        clock.advance(121)
        assert await fire_due(n) == 1
        notices = await n.store.read(lambda c: n.store.shelf(NOTICE).select(c, equal={"order": key}))
        assert [notice.recipients.persons for notice in notices] == [[w.member]] * 2
        clock.advance(200)
        assert await fire_due(n) == 1
        assert (await get(n, ORDER, key)).overdue
        alarm = await get(n, ALARM, f"order-{key}-overdue")
        assert alarm.acknowledged_at is None
        await n.log.append(ProgressOrder(id=key, step=Progress.ACCEPTED), By(account="field", person=w.member))
        order: Order = await get(n, ORDER, key)
        assert order.progress is Progress.ACCEPTED and not order.overdue
        assert (await get(n, ALARM, alarm.id)).acknowledged_at is not None
        assert not await n.store.read(lambda c: n.store.shelf(TIMER).select(c, equal={"about": key}))
        assert (await get(n, INCIDENT, incident)).parties == sorted({w.unit, w.member})


async def test_a_timer_fires_once_however_often_it_is_asked(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        _, key = await issued(n, w, ladder=[Rung(after_s=0, means=Means.SMS)])
        timer = f"{key}-rung-0"
        await asyncio.gather(*(n.log.append(FireTimer(id=timer), NODE) for _ in range(5)))
        notices = await n.store.read(lambda c: n.store.shelf(NOTICE).select(c, equal={"order": key}))
        assert len(notices) == 1


async def test_a_second_order_does_not_reset_a_busy_unit(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        _, first = await issued(n, w)
        await n.log.append(ProgressOrder(id=first, step=Progress.ACCEPTED), NODE)
        _, second = await issued(n, w)
        assert (await get(n, UNIT, w.unit)).status is UnitStatus.BUSY
        await n.log.append(CancelOrder(id=second, version=1), NODE)
        assert (await get(n, UNIT, w.unit)).status is UnitStatus.BUSY
        await n.log.append(ProgressOrder(id=first, step=Progress.DONE), NODE)
        assert (await get(n, UNIT, w.unit)).status is UnitStatus.AVAILABLE


async def test_a_cancelled_order_takes_no_more_answers(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        _, key = await issued(n, w)
        await n.log.append(CancelOrder(id=key, version=1, reason="误报"), NODE)
        for answer in ANSWERED:
            with pytest.raises(Conflict, match=r"order\.cancelled"):
                await n.log.append(ProgressOrder(id=key, step=answer), NODE)


async def test_only_the_bound_may_answer_an_order(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        _, key = await issued(n, w)
        stranger = actor(Role.FIELD_MEMBER, w.other_county, person=w.officer)
        with pytest.raises(Denied):
            await n.log.append(ProgressOrder(id=key, step=Progress.READ), By(account="x"), actor=stranger)
        member = actor(Role.FIELD_MEMBER, w.county, person=w.member)
        await n.log.append(ProgressOrder(id=key, step=Progress.READ), By(account="y"), actor=member)
        assert (await get(n, ORDER, key)).progress is Progress.READ


async def plan_of(n: Node, w: World) -> str:
    plan = SavePlan(
        name="预案",
        organisation=w.county,
        categories=[Category.ACCIDENT],
        levels=[Level.III],
        orders=[PlannedOrder(assignee=Party(kind=PartyKind.UNIT, id=w.unit), task="出动")],
        notice=PlannedNotice(
            text_zh="{incident}：到岗", text_en="{incident}", recipients=Recipients(persons=[w.officer])
        ),
        room=PlannedRoom(title="会商"),
        fence=PlannedFence(name="警戒区", radius_m=500),
    )
    return (await n.log.append(plan, NODE)).id or ""


async def test_a_plan_becomes_everything_in_one_decision_and_only_on_approval(
    database_url: str, tmp_path: Path
) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        plan = await plan_of(n, w)
        incident = (await n.log.append(report(w.county), NODE)).id or ""
        asked = await n.log.append(RequestActivation(incident=incident, plan=plan, version=1), NODE)
        assert not await n.store.read(lambda c: n.store.shelf(ORDER).select(c))
        key = asked.id or ""
        duty = actor(Role.DUTY_OFFICER, w.county)
        with pytest.raises(Denied):
            await n.log.append(DecideActivation(id=key, version=1, approve=True), By(account="d"), actor=duty)
        leader = actor(Role.LEADER, w.county)
        before = n.log.position
        receipt = await n.log.append(DecideActivation(id=key, version=1, approve=True), By(account="l"), actor=leader)
        assert n.log.position == before + 1 and len(receipt.entries) == 7
        activation = await get(n, ACTIVATION, key)
        assert activation.orders and activation.notice and activation.room and activation.fence
        found: Incident = await get(n, INCIDENT, incident)
        assert found.state is State.RESPONDING
        notice = await get(n, NOTICE, activation.notice)
        assert notice.text_zh == "仓库起火：到岗"
        with pytest.raises(Conflict):
            await n.log.append(DecideActivation(id=key, version=2, approve=True), By(account="l"), actor=leader)


async def test_an_edit_of_the_plan_does_not_change_a_running_activation(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        plan = await plan_of(n, w)
        incident = (await n.log.append(report(w.county), NODE)).id or ""
        asked = await n.log.append(RequestActivation(incident=incident, plan=plan, version=1), NODE)
        await n.log.append(SavePlan(id=plan, version=1, name="改过的预案", organisation=w.county), NODE)
        await n.log.append(DecideActivation(id=asked.id or "", version=1, approve=True), NODE)
        assert (await get(n, ACTIVATION, asked.id or "")).plan.name == "预案"
        assert len(await n.store.read(lambda c: n.store.shelf(ORDER).select(c))) == 1


async def test_a_stale_step_is_refused_and_an_alarm_is_acknowledged_once(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        key = (await n.log.append(report(w.county), NODE)).id or ""
        await n.log.append(StepIncident(id=key, version=1, step=Step.VERIFY), NODE)
        with pytest.raises(Conflict, match=r"version\.stale"):
            await n.log.append(StepIncident(id=key, version=1, step=Step.RESPOND), NODE)
        first = await n.log.append(AcknowledgeAlarm(id=f"incident-{key}"), NODE)
        again = await n.log.append(AcknowledgeAlarm(id=f"incident-{key}"), NODE)
        assert len(first.entries) == 1 and not again.entries


async def test_an_account_name_is_taken_once(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        account = CreateAccount(name="duty", roles=[Role.DUTY_OFFICER], organisation=w.county, password_hash="x")
        await n.log.append(account, NODE)
        with pytest.raises(Conflict, match=r"account\.name_taken"):
            await n.log.append(account, NODE)
