"""Random requests about fences: drawn, changed, removed."""

from collections.abc import Callable

from command.domain import fence
from tests.durability.maker import Maker, Values


def _rules(m: Maker) -> list[fence.Rule]:
    rules = [rule for rule in fence.Rule if rule is not fence.Rule.ABSENT]
    return m.chance.sample(rules, m.chance.randrange(1, 4))


def _draw(m: Maker) -> Values:
    values = {"name": m.name(), "geometry": m.area(), "rules": _rules(m)}
    if m.often(0.8):
        values["incident"] = m.id("incident")
    return _timed(values | m.picked(units=lambda: m.ids("unit"), exit_buffer_m=lambda: 30, dwell_s=lambda: 60))


def _timed(values: Values) -> Values:
    """A fence with one time of its own has the others too."""
    if "dwell_s" not in values:
        return values
    return values | {"lost_s": 900, "windows": [fence.TimeWindow(daily_min=(1320, 360), days=[0, 4])]}


def _edit_fence(m: Maker) -> Values:
    changes = m.picked(
        name=m.name, geometry=m.area, rules=lambda: _rules(m), units=lambda: m.ids("unit"), dwell_s=lambda: 90
    )
    return _timed(m.named("fence", active=True) | changes)


MAKE: dict[type, Callable[[Maker], Values]] = {
    fence.DrawFence: _draw,
    fence.EditFence: _edit_fence,
    fence.RemoveFence: lambda m: m.named("fence"),
}
SELDOM: dict[type, float] = {
    fence.RemoveFence: 0.4,
}
