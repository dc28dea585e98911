"""The grid, the tree and the nearest units agree with brute force."""

import math
import random

import numpy as np
import pytest
import shapely

from geo import GeoError, coord, index
from geo.index import Index, Units


def disc(rng: random.Random, lon: float, lat: float) -> shapely.Polygon:
    reach = 10 ** rng.uniform(-3.5, 0.3)
    turns = [i / 24 * 2 * math.pi for i in range(24)]
    return shapely.Polygon(
        [
            (lon + reach * math.cos(t) * rng.uniform(0.7, 1), lat + reach * math.sin(t) * rng.uniform(0.7, 1))
            for t in turns
        ]
    )


def random_area(rng: random.Random) -> shapely.Polygon:
    return disc(rng, rng.uniform(100, 105), rng.uniform(30, 35))


@pytest.mark.parametrize("seed", range(5))
def test_grid_and_tree_find_what_brute_force_finds_through_adds_replacements_and_removals(seed: int) -> None:
    rng = random.Random(seed)
    found, areas = Index(), {}
    for turn in range(600):
        key = f"f{rng.randrange(250)}"
        if rng.random() < 0.3:
            assert found.remove(key) == (areas.pop(key, None) is not None)
        else:
            areas[key] = random_area(rng)
            found.add(key, areas[key])
        if turn % 40 == 0:
            places = [(rng.uniform(99, 106), rng.uniform(29, 36)) for _ in range(30)]
            expected = [sorted(k for k, a in areas.items() if shapely.intersects_xy(a, *p)) for p in places]
            assert [found.at(*p) for p in places] == expected
            which, keys = found.bulk(*np.array(places).T)
            assert list(zip(which.tolist(), keys, strict=True)) == [
                (i, k) for i, some in enumerate(expected) for k in some
            ]
    assert len(found) == len(areas)


def test_an_area_is_live_at_once_and_gone_at_once() -> None:
    found = Index()
    for i in range(3 * index.NEWCOMERS_MAX):
        key = f"f{i}"
        found.add(key, shapely.box(i / 2, 0, i / 2 + 0.4, 1))
        assert found.at(i / 2 + 0.2, 0.5) == [key]
        assert found.bulk(np.array([i / 2 + 0.2]), np.array([0.5]))[1] == [key]
    found.remove("f3")
    assert found.at(1.7, 0.5) == []
    assert found.bulk(np.array([1.7]), np.array([0.5]))[1] == []


def test_an_index_emptied_again_keeps_nothing() -> None:
    found = Index()
    for i in range(200):
        found.add(f"f{i}", shapely.box(i, 0, i + 1, 1))
    for i in range(200):
        found.remove(f"f{i}")
    assert (len(found), found._cells, found._levels, found._taken) == (0, {}, {}, {})


def test_the_largest_and_the_smallest_area_take_a_bounded_number_of_cells() -> None:
    found = Index()
    found.add("world", shapely.box(-180, -90, 180, 90))
    found.add("spot", shapely.box(1, 1, 1 + 1e-7, 1 + 1e-7))
    found.settle()
    assert all(len(cells) <= index.CELLS_MAX for cells in found._taken.values())
    assert found.at(180.0, 90.0) == ["world"]
    assert found.at(1.00000005, 1.00000005) == ["spot", "world"]


def test_the_index_refuses_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "AREAS_MAX", 2)
    found = Index()
    found.add("a", shapely.box(0, 0, 1, 1))
    found.add("b", shapely.box(0, 0, 1, 1))
    found.add("b", shapely.box(0, 0, 1, 2))
    with pytest.raises(GeoError, match=r"geo\.full"):
        found.add("c", shapely.box(0, 0, 1, 1))


@pytest.mark.parametrize("seed", range(4))
def test_nearest_ranks_by_the_geodesic_all_over_the_earth(seed: int) -> None:
    rng = random.Random(seed)
    spread = (1e-4, 0.1, 5.0, 90.0)[seed]
    units, places = Units(), {}
    for _ in range(500):
        name = f"u{rng.randrange(300)}"
        if rng.random() < 0.2:
            assert units.drop(name) == (places.pop(name, None) is not None)
        else:
            lon = coord.normal_lon(179.9 + rng.uniform(-2, 2) * spread)
            places[name] = (lon, rng.uniform(-1, 1) * min(spread, 90.0))
            units.put(name, *places[name])
    assert len(units) == len(places)
    for _ in range(20):
        here = (coord.normal_lon(179.9 + rng.uniform(-2, 2) * spread), rng.uniform(-1, 1) * min(spread, 90.0))
        ranked = sorted((coord.distance_m(*here, *p), n) for n, p in places.items())
        got = units.nearest(*here, 10)
        assert [n.unit for n in got] == [name for _, name in ranked[:10]]
        assert all(abs(n.distance_m - d) < 1e-3 for n, (d, _) in zip(got, ranked, strict=False))


def test_nearest_can_be_limited_by_distance_and_to_some_units() -> None:
    units = Units()
    for i in range(10):
        units.put(f"u{i}", 116.0 + i / 100, 39.0)
    assert [n.unit for n in units.nearest(116.0, 39.0, 5, within_m=2000)] == ["u0", "u1", "u2"]
    assert [n.unit for n in units.nearest(116.0, 39.0, 5, among=["u7", "u4", "nobody"])] == ["u4", "u7"]
    assert units.nearest(116.0, 39.0, 0) == [] == Units().nearest(0, 0)
    with pytest.raises(GeoError, match=r"geo\.full"):
        units.nearest(0, 0, index.NEAREST_MAX + 1)


def test_the_register_of_units_refuses_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "UNITS_MAX", 1)
    units = Units()
    units.put("a", 0, 0)
    units.put("a", 1, 1)
    with pytest.raises(GeoError, match=r"geo\.full"):
        units.put("b", 0, 0)
