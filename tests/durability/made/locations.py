"""Random requests about where units are."""

from collections.abc import Callable

from command.domain import fence, location
from tests.durability.maker import FENCED, Maker, Values


def _record(m: Maker) -> Values:
    unit, now = m.some("unit"), m.clock.now()
    if unit is None:
        return {}
    lon, lat = (at + m.chance.uniform(-0.1, 0.1) for at in FENCED)
    fix = {"lon": lon, "lat": lat, "at": now, "received_at": now}
    row = fix | {"id": unit.id, "organisation": unit.organisation, "members": unit.members, "source": "app"}
    point = fix | {"id": f"{unit.id}-{now}", "unit": unit.id, "late": m.often(0.2)}
    watched = m.some("fence", active=True)
    values: Values = {"locations": [row], "points": [point], "trails": [{"id": unit.id, "map": [], "fences": []}]}
    if watched is not None:
        rule = m.chance.choice([fence.Rule.ENTER, fence.Rule.EXIT, fence.Rule.INSIDE, fence.Rule.LOST])
        crossing = {"fence": watched.id, "unit": unit.id, "event": rule, "at": now, "seen_at": now}
        values["crossings"] = [crossing | {"lon": lon, "lat": lat, "crossed": m.often(0.1)}]
        values["states"] = [{"id": f"{unit.id}-{watched.id}", "unit": unit.id, "fence": watched.id, "state": [1, "x"]}]
    old = m.some("track")
    if old is not None and m.often():
        values["forgotten"] = [["track", old.id]]
    if m.often(0.1):
        values["retired"] = [m.id("unit")]
    return values


MAKE: dict[type, Callable[[Maker], Values]] = {
    location.RecordFixes: _record,
}
