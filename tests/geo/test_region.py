"""Jurisdictions and the demo province."""

import contextlib
import json

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import GeoError, region, shape

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["type", "features", "properties", "geometry", "code"]), inner, max_size=4),
    ),
    max_leaves=12,
)


def test_the_parent_is_the_prefix() -> None:
    assert region.parent_of("110105") == "110100"
    assert region.parent_of("110100") == "110000"
    assert region.parent_of("110000") is None


@pytest.mark.parametrize("code", ["", "11010", "1101050", "１１０１０５", "11a105", "000000"])
def test_a_code_that_is_not_six_digits_is_refused(code: str) -> None:
    with pytest.raises(GeoError, match=r"geo\.region"):
        region.level_of(code)


def test_the_demo_province_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert json.dumps(region.demo(7)) == json.dumps(region.demo(7))
    assert region.demo(7) != region.demo(8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(-179, 179), st.floats(-60, 60))
def test_counties_share_borders_vertex_for_vertex_and_fill_the_province(seed: int, lon: float, lat: float) -> None:
    features = region.demo(seed, lon, lat)["features"]
    assert [f["properties"]["code"] for f in features] == [
        "990000", "990100", "990200", "990121", "990122", "990221", "990222",
    ]  # fmt: skip
    areas = [shapely.geometry.shape(f["geometry"]) for f in features]
    assert all(a.geom_type == "Polygon" and a.is_valid and not a.interiors for a in areas)
    counties = areas[3:]
    assert shapely.symmetric_difference(shapely.union_all(counties), areas[0]).area == 0
    assert all(a.intersection(b).area == 0 for i, a in enumerate(counties) for b in counties[:i])
    corners = set().union(*(set(c.exterior.coords) for c in counties))
    assert set(areas[0].exterior.coords) <= corners
    assert all(not shape.parse(f["geometry"]).notes for f in features)


def test_a_point_has_one_chain_even_on_a_shared_border() -> None:
    regions = region.load(region.demo())
    for child in regions.children("990100"):
        for lon, lat in child.area.geojson["coordinates"][0]:
            chain = regions.at(lon, lat)
            assert [r.level for r in chain] == ["province", "city", "county"]
            assert [r.parent for r in chain] == [None, "990000", chain[1].code]
    assert regions.at(0.0, 0.0) == []
    assert regions.get("990222") is not None and regions.get("990223") is None
    assert [r.code for r in regions.children(None)] == ["990000"]


def test_a_region_without_its_parent_is_refused() -> None:
    collection = region.demo()
    collection["features"] = collection["features"][3:]
    with pytest.raises(GeoError, match="parent 990100 is missing"):
        region.load(collection)


def test_a_bad_border_names_its_feature() -> None:
    collection = json.loads(json.dumps(region.demo()))
    collection["features"][2]["geometry"]["coordinates"][0][5] = [999, 0]
    with pytest.raises(GeoError) as caught:
        region.load(collection)
    assert caught.value.details["path"] == "features[2].geometry.coordinates[0][5]"


def test_more_regions_than_the_limit_are_refused() -> None:
    with pytest.raises(GeoError, match=r"geo\.full"):
        region.load({"type": "FeatureCollection", "features": [None] * (region.REGIONS_MAX + 1)})


@settings(max_examples=200)
@given(json_values)
def test_no_collection_crashes(value: object) -> None:
    for tried in (value, {"type": "FeatureCollection", "features": [value]}):
        with contextlib.suppress(GeoError):
            region.load(tried)
