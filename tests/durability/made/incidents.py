"""Random requests about incidents: reports, orders, plans, rules of reporting."""

from collections.abc import Callable
from typing import Any

from command.base.clock import MICROSECONDS
from command.base.schema import Category, Level, Urgency
from command.domain import deadline, incident, order, plan, registry
from tests.durability.maker import Maker, Values


def _report(m: Maker) -> Values:
    values = {"category": m.of(Category), "level": m.of(Level), "title": m.text()[:90], "place": m.place()}
    values |= {"organisation": m.id("organisation"), "exercise": m.often(0.2), "casualties": m.casualties()}
    return values | m.picked(area=m.area, description=m.text, occurred_at=m.clock.now)


def _edit_incident(m: Maker) -> Values:
    return m.named("incident") | m.picked(
        title=lambda: m.text()[:90],
        description=m.text,
        category=lambda: m.of(Category),
        place=m.place,
        area=lambda: m.area() if m.often(0.8) else None,
        occurred_at=m.clock.now,
        casualties=m.casualties,
    )


def _step(m: Maker) -> Values:
    named = m.named("incident")
    row: Any = m.rows["incident"].get(named["id"])
    fitting = [step for state, step in incident.STEPS if row is not None and state is row.state]
    calm = [step for step in fitting if step not in (incident.Step.CLOSE, incident.Step.DISMISS)]
    steps = (calm if m.often(0.7) else fitting) or list(incident.Step)
    return named | {"step": m.chance.choice(steps), "reason": m.text() if m.often() else ""}


def _sub_report(m: Maker) -> Values:
    values = {"id": m.id("incident"), "kind": m.of(incident.SubReportKind), "text": m.text()}
    return values | m.picked(
        casualties=m.casualties, channel=lambda: m.of(incident.Channel), to=lambda: m.id("organisation")
    )


def _note(m: Maker) -> Values:
    return {
        "id": m.id("incident"),
        "text": m.text() if m.often(0.9) else "",
        "attachments": ["ab" * 32][: m.often(0.2)],
    }


def _issue(m: Maker) -> Values:
    values = {
        "incident": m.id("incident", open=True),
        "assignee": m.party(),
        "task": m.text(),
        "urgency": m.of(Urgency),
    }
    return values | m.picked(ladder=m.ladder, due_in_s=lambda: 900, ack_within_s=lambda: m.chance.choice([None, 60]))


def _amend(m: Maker) -> Values:
    due = lambda: m.chance.choice([None, m.clock.now() + 60 * MICROSECONDS])  # noqa: E731
    return m.named("order", open=True) | m.picked(task=m.text, due_at=due)


def _progress(m: Maker) -> Values:
    row = m.some("order", open=True)
    fitting = [to for state, to in order.FORWARD if row is not None and state is row.progress]
    step = m.chance.choice(fitting) if fitting and m.often(0.9) else m.of(order.Progress)
    values = {"id": "nobody" if row is None else row.id, "step": step}
    return values | m.picked(text=m.text, place=m.place)


def _plan(m: Maker) -> Values:
    orders = [{"assignee": m.party(), "task": m.text(), "ladder": m.ladder()} for _ in range(m.chance.randrange(3))]
    values = {"name": m.name(), "organisation": m.id("organisation"), "orders": orders} | m.edited("plan")
    values |= {"retired": not m.often(0.9)}
    return values | m.picked(
        notice=lambda: {"text_zh": "{incident}", "text_en": "{place}", "recipients": m.recipients()},
        room=lambda: {"title": m.name()},
        fence=lambda: {"name": m.name(), "radius_m": 500},
    )


def _report_rule(m: Maker) -> Values:
    order = [registry.Tier.PROVINCE, registry.Tier.CITY, registry.Tier.COUNTY]
    sender = m.chance.randrange(3)
    above = m.chance.choice(list(deadline.Superior)[: sender + 1])
    values = {"name": m.name(), "organisation": m.id("organisation"), "report": m.of(incident.SubReportKind)}
    values |= {"sender_tier": order[sender], "recipient_tier": above, "skip_level": m.often(0.8)}
    limits: list[Values] = [
        {"limit_s": m.chance.choice([20, 60, 600]), "repeat_s": m.chance.choice([None, 600])},
        {"daily_at_min": m.chance.randrange(1440), "repeat_s": 86_400},
        {"working_days": 2, "clock": deadline.Clock.STABLE},
        {"limit_s": 300, "clock": deadline.Clock.OCCURRENCE, "remind_before_s": 290},
    ]
    values |= m.chance.choice(limits) | {"channel": m.of(incident.Channel)} | m.edited("report_rule", 0.8)
    values |= {"retired": not m.often(0.8)}
    return values | m.picked(levels=lambda: [m.of(Level)], categories=lambda: [m.of(Category)])


def _activate(m: Maker) -> Values:
    named = m.named("plan", retired=False)
    return {"incident": m.id("incident", open=True), "plan": named["id"], "version": named["version"], "reason": "x"}


def _decide(m: Maker) -> Values:
    return m.named("activation", state=plan.ActivationState.REQUESTED) | {"approve": m.often(0.7), "reason": m.text()}


MAKE: dict[type, Callable[[Maker], Values]] = {
    incident.ReportIncident: _report,
    incident.EditIncident: _edit_incident,
    incident.StepIncident: _step,
    incident.SetLevel: lambda m: m.named("incident", open=True) | {"level": m.of(Level), "reason": m.text()},
    incident.SubReport: _sub_report,
    incident.AddNote: _note,
    incident.AcknowledgeAlarm: lambda m: {"id": m.id("alarm")},
    order.IssueOrder: _issue,
    order.AmendOrder: _amend,
    order.CancelOrder: lambda m: m.named("order", open=True) | {"reason": m.text() if m.often() else ""},
    order.ProgressOrder: _progress,
    plan.SavePlan: _plan,
    deadline.SaveReportRule: _report_rule,
    plan.RequestActivation: _activate,
    plan.DecideActivation: _decide,
}
SELDOM: dict[type, float] = {
    incident.ReportIncident: 0.5,
    deadline.SaveReportRule: 0.5,
}
