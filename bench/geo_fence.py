"""Fence throughput without I/O: fixes per second through 1,000 fences, beside a plain Shapely loop in the same run.

Never touches network or disk. Run: `python -m bench.geo_fence`; one JSON line per figure.
"""

import json
import time
from collections.abc import Iterator

import numpy as np
import shapely

from geo import coord
from geo.engine import Engine
from geo.fence import Fence
from geo.index import Index, Units
from geo.track import Fix

FENCES = 1_000
VERTICES = 64
UNITS = 1_000
ROUNDS = 40
STEP_US = 5_000_000
START_US = 1_700_000_000_000_000
NAIVE_FIXES = 2_000
BOX_DEG = (115.0, 30.0, 117.0, 32.0)


def _fences(rng: np.random.Generator) -> list[Fence]:
    """Wobbly discs of 200 m to 3 km radius with `VERTICES` vertices."""
    turns = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    fences = []
    for i in range(FENCES):
        lon, lat = rng.uniform(BOX_DEG[:2], BOX_DEG[2:])
        reach = rng.uniform(200, 3000) * rng.uniform(0.8, 1.0, VERTICES)
        east, north = coord.metres_per_degree(lat)
        ring = np.stack((lon + reach * np.cos(turns) / east, lat + reach * np.sin(turns) / north), axis=1)
        fences.append(Fence(id=f"fence-{i}", geometry=shapely.Polygon(ring)))
    return fences


def _rounds(rng: np.random.Generator) -> list[list[Fix]]:
    """`ROUNDS` batches: every unit once per batch, driving straight at 5 to 30 m/s, 5 s apart."""
    place = rng.uniform(BOX_DEG[:2], BOX_DEG[2:], (UNITS, 2))
    turn, speed = rng.uniform(0, 2 * np.pi, UNITS), rng.uniform(5, 30, UNITS)
    move = np.stack((np.cos(turn), np.sin(turn)), axis=1) * speed[:, None] * (STEP_US / 1e6) / 100_000
    batches = []
    for k in range(ROUNDS):
        here = place + k * move
        at = START_US + k * STEP_US
        batches.append([Fix(f"unit-{i}", x, y, at) for i, (x, y) in enumerate(here.tolist())])
    return batches


def _engine_rate(fences: list[Fence], batches: list[list[Fix]], size: int) -> tuple[float, int, int]:
    """Fixes per second with batches of at most `size`, how many fixes, how many crossings."""
    engine = Engine()
    for fence in fences:
        engine.put(fence)
    fixes = [fix for batch in batches for fix in batch]
    engine.run(fixes[:1])
    crossings = 0
    start = time.perf_counter()
    for first in range(0, len(fixes), size):
        outcome = engine.run(fixes[first : first + size])
        engine.apply(outcome)
        crossings += len(outcome.crossings)
    return len(fixes) / (time.perf_counter() - start), len(fixes), crossings


def _naive_rate(fences: list[Fence], fixes: list[Fix]) -> float:
    """Fixes per second of a loop that asks every prepared fence about every fix, in one Shapely call per fix."""
    areas = np.array([fence.geometry for fence in fences], dtype=object)
    start = time.perf_counter()
    for fix in fixes:
        shapely.contains_xy(areas, fix.lon, fix.lat)
    return len(fixes) / (time.perf_counter() - start)


def _index_rate(fences: list[Fence], fixes: list[Fix]) -> float:
    """Locations per second, one at a time, through the grid."""
    index = Index()
    for fence in fences:
        index.add(fence.id, fence.geometry)
    index.settle()
    start = time.perf_counter()
    for fix in fixes:
        index.at(fix.lon, fix.lat)
    return len(fixes) / (time.perf_counter() - start)


def _nearest_rate(fixes: list[Fix], queries: int = 1_000) -> float:
    """Queries per second for the ten nearest of `UNITS` units."""
    units = Units()
    for fix in fixes[:UNITS]:
        units.put(fix.unit, fix.lon, fix.lat)
    start = time.perf_counter()
    for fix in fixes[-queries:]:
        units.nearest(fix.lon, fix.lat, 10)
    return queries / (time.perf_counter() - start)


def figures() -> Iterator[dict[str, object]]:
    """One dict per figure: name, value, unit, ratio, against, n."""
    rng = np.random.default_rng(20_26)
    fences, batches = _fences(rng), _rounds(rng)
    fixes = [fix for batch in batches for fix in batch]
    naive = _naive_rate(fences, fixes[:NAIVE_FIXES])
    against = f"a Shapely loop over {FENCES} prepared fences, {naive:.0f}/s"

    def line(name: str, value: float, n: int) -> dict[str, object]:
        ratio = round(value / naive, 1)
        return {"name": name, "value": round(value), "unit": "1/s", "ratio": ratio, "against": against, "n": n}

    rate, n, _ = _engine_rate(fences, batches, 1_000)
    yield line("geo.fence_fixes_per_s", rate, n)
    rate, n, _ = _engine_rate(fences, batches[:5], 1)
    yield line("geo.fence_single_fixes_per_s", rate, n)
    yield line("geo.index_points_per_s", _index_rate(fences, fixes), len(fixes))
    value = _nearest_rate(fixes)
    yield {
        "name": "geo.nearest_queries_per_s",
        "value": round(value),
        "unit": "1/s",
        "ratio": None,
        "against": f"ten of {UNITS} units by brute force; no peer",
        "n": 1_000,
    }


if __name__ == "__main__":
    for figure in figures():
        print(json.dumps(figure), flush=True)
