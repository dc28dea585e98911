"""Distances against published geodesics, circles, and the domestic systems there and back."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import GeoError, coord, shape

lons, lats = st.floats(-180, 180), st.floats(-90, 90)

# (lon1, lat1, lon2, lat2), metres, azimuth: from Karney's own GeographicLib.
KARNEY = [
    ((116.3913, 39.9075, 121.4737, 31.2304), 1066799.0767, 152.907513),
    ((108.94, 34.34, 108.95, 34.34), 920.1508, 89.997179),
    ((0, 0, 0.001, 0.001), 156.9035, 45.192423),
    ((0, -30, 179.8, 29.9), 19989832.8276, 161.890525),
    ((20, 0.3, -160.2, -0.25), 19994997.9905, 17.773405),
    ((-179.9, 10, 179.9, 10), 21927.8725, 270.017365),
    ((30, -89.9999, -100, -89.9999), 20.2458, 205.0),
    ((87.6, 43.8, 126.6, 45.75), 3063939.6038, 72.133330),
]
# Two shortest lines, mirror images of each other: only the length is one.
KARNEY_TWINS = [
    ((10, 0, -170.5, 0), 19980861.9089),
    ((0, 0, 179.7, 0), 19995624.8900),
    ((5, 90, 77, -90), 20003931.4586),
    ((0, 0, 180, 0), 20003931.4586),
]


@pytest.mark.parametrize(("pair", "length", "azimuth"), KARNEY)
def test_geodesics_agree_with_karney(pair: tuple[float, ...], length: float, azimuth: float) -> None:
    found = coord.inverse(*pair)
    assert found.distance_m == pytest.approx(length, abs=2e-4)
    assert found.bearing_deg == pytest.approx(azimuth, abs=2e-6)


@pytest.mark.parametrize(("pair", "length"), KARNEY_TWINS)
def test_geodesics_between_antipodes_agree_with_karney(pair: tuple[float, ...], length: float) -> None:
    assert coord.distance_m(*pair) == pytest.approx(length, abs=2e-4)


@settings(max_examples=500, deadline=None)
@given(lons, lats, lons, lats)
def test_destination_undoes_inverse_everywhere(lon1: float, lat1: float, lon2: float, lat2: float) -> None:
    found = coord.inverse(lon1, lat1, lon2, lat2)
    assert 0 <= found.distance_m <= 20_003_931.46
    assert 0 <= found.bearing_deg <= 360
    if found.distance_m < 20_000_000:
        there = coord.destination(lon1, lat1, found.bearing_deg, found.distance_m)
        assert coord.distance_m(*there, lon2, lat2) < 5e-4


@settings(max_examples=300, deadline=None)
@given(lons, lats, st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 12))
def test_near_antipodes_converge_and_are_symmetric(lon: float, lat: float, dx: float, dy: float, tiny: int) -> None:
    other = (coord.normal_lon(lon + 180 + dx / 10**tiny), max(-90.0, min(90.0, -lat + dy / 10**tiny)))
    there, back = coord.distance_m(lon, lat, *other), coord.distance_m(*other, lon, lat)
    assert there == pytest.approx(back, abs=2e-3)
    assert 19_700_000 < there <= 20_003_931.46


@settings(max_examples=100, deadline=None)
@given(lons, lats, st.lists(st.tuples(lons, lats), min_size=1, max_size=20))
def test_the_array_gives_what_the_single_gives(lon: float, lat: float, others: list[tuple[float, float]]) -> None:
    found = coord.distances_m(lon, lat, *np.array(others).T)
    assert found.tolist() == pytest.approx([coord.distance_m(lon, lat, *o) for o in others], abs=1e-3)


@settings(max_examples=300)
@given(lons, st.floats(-79, 79), st.floats(-1, 1), st.floats(-0.9, 0.9))
def test_the_quick_distance_errs_less_than_a_tenth_of_a_metre_per_kilometre(
    lon: float, lat: float, dx: float, dy: float
) -> None:
    other = (coord.normal_lon(lon + dx), lat + dy)
    exact = coord.distance_m(lon, lat, *other)
    assert abs(coord.near_m(lon, lat, *other) - exact) <= 1e-4 * exact + 1e-6


@pytest.mark.parametrize("bad", [(math.nan, 0), (0, math.inf), (180.1, 0), (0, -90.1)])
def test_coordinates_out_of_range_are_refused(bad: tuple[float, float]) -> None:
    for call in (coord.wgs84_to_gcj02, coord.bd09_to_wgs84, lambda x, y: coord.distance_m(x, y, 0, 0)):
        with pytest.raises(GeoError, match=r"geo\.coordinate"):
            call(*bad)


@settings(max_examples=60, deadline=None)
@given(lons, st.floats(-80, 80), st.floats(1, 1e6))
def test_a_circle_has_the_area_of_a_circle_and_its_vertices_the_right_distance(
    lon: float, lat: float, radius_m: float
) -> None:
    try:
        outline = coord.circle(lon, lat, radius_m)
    except GeoError as error:
        assert error.code == "geo.pole"
        return
    flat = math.pi * radius_m**2
    assert shape.area_m2(outline) == pytest.approx(flat, rel=0.003 if radius_m > 1e5 else 3e-5)
    if outline.geom_type == "Polygon":
        for x, y in outline.exterior.coords:
            assert coord.distance_m(lon, lat, x, y) == pytest.approx(radius_m * 1.0002008, rel=1e-6, abs=1e-3)
    west, south, east, north = outline.bounds
    assert -180 <= west <= east <= 180 and -90 <= south <= north <= 90


def test_a_circle_across_the_antimeridian_is_cut_into_two() -> None:
    outline = coord.circle(179.99, 10, 5000)
    assert len(outline.geoms) == 2 and outline.is_valid
    assert shapely.intersects_xy(outline, -179.99, 10) and shapely.intersects_xy(outline, 179.97, 10)


@pytest.mark.parametrize(
    ("args", "code"),
    [((0, 89.99, 5000), "geo.pole"), ((0, 0, 0.5), "geo.radius"), ((0, 0, math.nan), "geo.radius"),
     ((0, 0, 2e6), "geo.radius"), ((0, 0, 9, 7), "geo.vertices"), ((0, 0, 9, 5000), "geo.vertices")],
)  # fmt: skip
def test_impossible_circles_are_refused_with_a_code(args: tuple[float, ...], code: str) -> None:
    with pytest.raises(GeoError) as caught:
        coord.circle(*args)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_gcj02_and_bd09_give_the_published_values() -> None:
    assert coord.wgs84_to_gcj02(116.404, 39.915) == pytest.approx((116.41024449917, 39.91640428150), abs=1e-10)
    assert coord.wgs84_to_bd09(116.404, 39.915) == pytest.approx((116.41662724379, 39.92269955222), abs=1e-10)


@settings(max_examples=300)
@given(st.floats(72.1, 137.8), st.floats(0.9, 55.8))
def test_the_domestic_systems_invert_within_a_micrometre(lon: float, lat: float) -> None:
    gcj, bd = coord.wgs84_to_gcj02(lon, lat), coord.wgs84_to_bd09(lon, lat)
    assert 5 < coord.distance_m(lon, lat, *gcj) < 750
    assert coord.distance_m(lon, lat, *coord.gcj02_to_wgs84(*gcj)) < 1e-6
    assert coord.distance_m(lon, lat, *coord.bd09_to_wgs84(*bd)) < 1e-6


@given(lons, lats)
def test_outside_the_box_nothing_is_shifted(lon: float, lat: float) -> None:
    if not (72 <= lon <= 138 and 0.8 <= lat <= 56):
        assert coord.wgs84_to_gcj02(lon, lat) == (lon, lat) == coord.bd09_to_wgs84(lon, lat)


def test_the_whole_earth_has_its_published_area() -> None:
    ring = np.array([[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]], dtype=float)
    assert coord.ring_area_m2(ring) == pytest.approx(510_065_621_724_089, rel=1e-12)
