"""The engine says what `fence.step` says for each pair alone, stores little, and survives a restart."""

import json
import random

import pytest
import shapely

from geo import GeoError, coord, engine, fence
from geo.engine import Engine, Outcome
from geo.fence import STATE, Crossing, Fence, Kind, Phase
from geo.track import MICROSECONDS, Fix, Verdict
from geo.window import Window

T0 = 1_700_000_000 * MICROSECONDS
Key = tuple[int, str, str, str, int, bool, bool]


def key(c: Crossing) -> Key:
    return (c.seen_at, c.unit, c.fence, c.kind.value, c.at, c.crossed, c.appeared)


def some_fences(rng: random.Random) -> list[Fence]:
    found = []
    for i in range(40):
        lon, lat = rng.uniform(116.0, 116.03), rng.uniform(39.0, 39.02)
        watched = frozenset({"u1", "u2"}) if i % 5 == 0 else None
        rules = frozenset(Kind) - ({Kind.ABSENT} if watched is None else frozenset())
        windows = (Window(from_at=T0 + 200 * MICROSECONDS, to_at=T0 + 700 * MICROSECONDS),) if i % 7 == 0 else ()
        found.append(
            Fence(
                id=f"f{i}", geometry=coord.circle(lon, lat, rng.uniform(5, 400), 16), rules=rules, units=watched,
                dwell_s=60, absent_s=300, inside_s=20, windows=windows, fixes=rng.choice([1, 2, 3]),
            )
        )  # fmt: skip
    return found


def some_fixes(rng: random.Random) -> list[Fix]:
    """Eight units that drive, stop, jump and arrive out of order."""
    found = []
    for i in range(8):
        lon, lat, now, dx, dy = rng.uniform(116.0, 116.03), rng.uniform(39.0, 39.02), 0.0, 0.0, 0.0
        for _ in range(150):
            now += rng.choice([1, 5, 5, 10, 150])
            if rng.random() < 0.2:
                dx, dy = rng.uniform(-3e-4, 3e-4), rng.uniform(-3e-4, 3e-4)
            lon, lat = min(116.04, max(115.99, lon + dx * 3)), min(39.03, max(38.99, lat + dy * 3))
            jump = 0.5 if rng.random() < 0.03 else 0.0
            accuracy = rng.choice([None, 5.0, 50.0, 300.0])
            found.append(Fix(f"u{i}", lon + jump, lat, T0 + round(now * MICROSECONDS), accuracy))
    return found


def naive(fences: list[Fence], fixes: list[Fix]) -> list[Crossing]:
    told: list[Crossing] = []
    states = {}
    for fix in fixes:
        for area in fences:
            pair = (fix.unit, area.id)
            states[pair], some = fence.step(states.get(pair, STATE), area, fix)
            told += some
    return told


@pytest.mark.parametrize("seed", range(6))
def test_the_engine_tells_what_every_pair_alone_tells(seed: int) -> None:
    rng = random.Random(seed)
    fences, fixes = some_fences(rng), some_fixes(rng)
    fixes.sort(key=lambda f: f.at)
    watch, told, first = Engine(), [], 0
    for area in fences:
        watch.put(area)
    while first < len(fixes):
        size = rng.choice([1, 2, 30, 200])
        batch = fixes[first : first + size]
        rng.shuffle(batch)
        outcome = watch.run(batch)
        watch.apply(outcome)
        told += outcome.crossings
        first += size
    expected = naive(fences, fixes)
    assert sorted(map(key, told)) == sorted(map(key, expected))
    assert len(expected) > 100 and {c.kind for c in expected} >= {Kind.ENTER, Kind.EXIT, Kind.DWELL, Kind.INSIDE}


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_from_what_was_stored_changes_nothing(seed: int) -> None:
    rng = random.Random(100 + seed)
    fences, fixes = some_fences(rng), some_fixes(rng)
    fixes.sort(key=lambda f: f.at)
    trails: dict[str, str] = {}
    pairs: dict[tuple[str, str], str] = {}

    def store(outcome: Outcome) -> None:
        trails.update({u: json.dumps(list(t)) for u, t in outcome.trails.items()})
        for pair, state in outcome.stored.items():
            if state is None:
                pairs.pop(pair, None)
            else:
                pairs[pair] = json.dumps(list(state))

    told = []
    for first in range(0, len(fixes), 40):
        watch = Engine()
        for area in fences:
            watch.put(area)
        watch.restore(
            [(u, json.loads(t)) for u, t in trails.items()], [(u, f, json.loads(s)) for (u, f), s in pairs.items()]
        )
        outcome = watch.run(fixes[first : first + 40])
        store(outcome)
        told += outcome.crossings
    assert sorted(map(key, told)) == sorted(map(key, naive(fences, fixes)))


def box_fence(name: str = "f", **more: object) -> Fence:
    return Fence(id=name, geometry=shapely.box(116, 39, 116.01, 39.01), **more)  # type: ignore[arg-type]


def stay(watch: Engine, seconds: range, lon: float = 116.005, unit: str = "u") -> Outcome:
    outcome = watch.run([Fix(unit, lon, 39.005, T0 + s * MICROSECONDS) for s in seconds])
    watch.apply(outcome)
    return outcome


def test_run_changes_nothing_until_it_is_applied() -> None:
    watch = Engine()
    watch.put(box_fence())
    batch = [Fix("u", 116.005, 39.005, T0 + s) for s in range(3)]
    assert watch.run(batch) == watch.run(batch)
    assert watch.inside("f") == [] and watch.state("u", "f") is None
    watch.apply(watch.run(batch))
    assert watch.inside("f") == ["u"]


def test_a_unit_that_stays_inside_needs_nothing_stored_but_its_trail() -> None:
    watch = Engine()
    watch.put(box_fence())
    assert set(stay(watch, range(3)).stored) == {("u", "f")}
    later = stay(watch, range(3, 100))
    assert later.stored == {} and set(later.trails) == {"u"}


def test_a_fence_drawn_around_a_unit_tells_that_it_appeared_inside() -> None:
    watch = Engine()
    stay(watch, range(3))
    watch.put(box_fence())
    told = stay(watch, range(3, 6)).crossings
    assert [(c.kind, c.appeared, c.at) for c in told] == [(Kind.ENTER, True, T0 + 3 * MICROSECONDS)]


def test_a_changed_fence_keeps_its_states_and_a_removed_one_forgets_them() -> None:
    watch = Engine()
    watch.put(box_fence())
    stay(watch, range(3))
    watch.put(Fence(id="f", geometry=shapely.box(117, 39, 117.01, 39.01)))
    assert [c.kind for c in stay(watch, range(3, 64)).crossings] == [Kind.EXIT]
    watch.put(box_fence())
    stay(watch, range(64, 67))
    assert watch.remove("f") == [("u", "f")]
    assert watch.inside("f") == [] and len(watch) == 0
    assert stay(watch, range(67, 70)).crossings == []


def test_a_forgotten_unit_begins_anew() -> None:
    watch = Engine()
    watch.put(box_fence())
    stay(watch, range(3))
    watch.forget("u")
    assert watch.inside("f") == []
    assert [c.appeared for c in stay(watch, range(3, 6)).crossings] == [True]


def test_sweeping_tells_lost_inside_and_absent_once() -> None:
    watch = Engine()
    watch.put(box_fence())
    watch.put(box_fence("guard", rules=frozenset({Kind.ABSENT}), units=frozenset({"nobody", "u"}), absent_s=100))
    stay(watch, range(3))
    told = []
    for now in range(10, 1000, 10):
        outcome = watch.sweep(T0 + now * MICROSECONDS)
        watch.apply(outcome)
        told += outcome.crossings
    assert [(c.kind, c.unit, (c.at - T0) // MICROSECONDS) for c in told] == [
        (Kind.ABSENT, "nobody", 110),
        (Kind.LOST, "u", 602),
    ]


def test_a_ship_across_the_antimeridian_crosses_nothing_on_the_other_side_of_the_earth() -> None:
    watch = Engine()
    watch.put(Fence(id="g", geometry=shapely.box(-0.1, -1, 0.1, 1)))
    watch.put(Fence(id="h", geometry=coord.circle(180.0, 0.0, 5000)))
    places = [(179.999 + s / 1000) if s < 1 else -180.0 + s / 1000 for s in range(4)]
    told = watch.run([Fix("u", x, 0.0, T0 + 9 * s * MICROSECONDS) for s, x in enumerate(places)]).crossings
    assert [(c.fence, c.kind) for c in told] == [("h", Kind.ENTER)]


def test_each_fix_gets_its_verdict_in_the_order_given() -> None:
    watch = Engine()
    watch.put(box_fence())
    far = [Fix("u", 116.0, 39.0, T0 + 5), Fix("u", 120.0, 39.0, T0 + 6), Fix("u", 116.0, 39.0, T0 + 4),
           Fix("u", 116.0, 39.0, T0 + 7, 999.0), Fix("u", 116.0, 39.0, T0 + 5)]  # fmt: skip
    verdicts = watch.run(far).verdicts
    assert verdicts == [Verdict.NEW, Verdict.TOO_FAST, Verdict.NEW, Verdict.INACCURATE, Verdict.DUPLICATE]


def test_the_limits_of_batch_units_and_pairs_are_kept_and_a_refused_batch_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Engine()
    watch.put(box_fence())
    monkeypatch.setattr(engine, "UNITS_MAX", 2)
    monkeypatch.setattr(engine, "BATCH_MAX", 5)
    stay(watch, range(3), unit="a")
    stay(watch, range(3), unit="b")
    with pytest.raises(GeoError, match="2 units"):
        stay(watch, range(3), unit="c")
    with pytest.raises(GeoError, match="5 fixes"):
        stay(watch, range(6))
    monkeypatch.setattr(engine, "UNITS_MAX", 9)
    monkeypatch.setattr(engine, "PAIRS_MAX", 2)
    with pytest.raises(GeoError, match="2 pairs"):
        stay(watch, range(3), unit="c")
    assert watch.inside("f") == ["a", "b"]


def test_a_state_stored_under_a_fence_that_is_gone_is_left_out() -> None:
    watch = Engine()
    watch.restore([("u", [T0, 116.0, 39.0, 0])], [("u", "gone", list(STATE._replace(phase=Phase.INSIDE)))])
    assert watch.inside("gone") == []
    with pytest.raises(GeoError, match=r"geo\.state"):
        watch.restore([("u", [T0, 116.0, 39.0])], [])
