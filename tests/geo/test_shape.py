"""GeoJSON from outside: repaired with a note, refused with the place, never a crash."""

import json
import random
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import GeoError, shape

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
NESTED = {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def refusal(value: object, **more: Any) -> GeoError:
    with pytest.raises(GeoError) as caught:
        shape.parse(value, **more)
    return caught.value


def test_a_good_square_is_taken_as_it_is() -> None:
    found = shape.parse(polygon(SQUARE))
    assert found.notes == ()
    assert found.geojson == polygon([[float(x), float(y)] for x, y in SQUARE])
    assert found.bbox == (0, 0, 1, 1)
    assert found.area_m2 == pytest.approx(1.230846e10, rel=1e-6)
    assert found.outline == found.geojson


@pytest.mark.parametrize(
    ("rings", "code", "path"),
    [
        ([SQUARE[:-1]], "closed", "coordinates[0]"),
        ([SQUARE[::-1]], "winding", "coordinates[0]"),
        ([[*SQUARE[:2], SQUARE[1], *SQUARE[2:]]], "duplicate", "coordinates[0][2]"),
        ([[[0, 0, 5], *SQUARE[1:]]], "altitude", "coordinates[0][0]"),
        ([SQUARE, [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4], [0.2, 0.2]]], "winding", "coordinates[1]"),
    ],
)
def test_small_faults_are_repaired_with_a_note(rings: list[Any], code: str, path: str) -> None:
    found = shape.parse(polygon(*rings))
    assert [(n.code, n.path) for n in found.notes] == [(code, path)]
    assert found.geometry.is_valid


def test_a_ring_that_crosses_itself_is_rebuilt_and_the_note_names_the_spot() -> None:
    found = shape.parse(polygon([[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]))
    note = found.notes[-1]
    assert (note.code, note.lon, note.lat) == ("crossing", 0.5, 0.5)
    assert found.kind == "MultiPolygon" and found.geometry.is_valid


def test_parts_that_overlap_are_joined_not_cut_out() -> None:
    other = [[x + 0.5, y + 0.5] for x, y in SQUARE]
    found = shape.parse({"type": "MultiPolygon", "coordinates": [[SQUARE], [other]]})
    assert found.geometry.area == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        (polygon([[0, 0], [1, 0], [1, "1"], [0, 0]]), "geo.coordinate", "coordinates[0][2][1]"),
        (polygon([[0, 0], [1, 0], [1, True], [0, 0]]), "geo.coordinate", "coordinates[0][2][1]"),
        (polygon([[0, 0], [1, 0], [10**400, 0], [0, 0]]), "geo.coordinate", "coordinates[0][2][0]"),
        (polygon([[0, 0], [1, 0], [float("nan"), 0], [0, 0]]), "geo.coordinate", "coordinates[0][2][0]"),
        (polygon([[0, 0], [1, 0], [181, 0], [0, 0]]), "geo.coordinate", "coordinates[0][2]"),
        (polygon([[0, 0], [1], [1, 1], [0, 0]]), "geo.structure", "coordinates[0][1]"),
        (polygon([[0, 0], [1, 0], [0, 0]]), "geo.degenerate", "coordinates[0]"),
        (polygon([[0, 0], [1, 0], [2, 0], [0, 0]]), "geo.degenerate", "coordinates"),
        (polygon(), "geo.degenerate", "coordinates"),
        (polygon([[170, 0], [-170, 0], [-170, 5], [170, 0]]), "geo.antimeridian", "coordinates[0][1]"),
        ({"type": "Polygon"}, "geo.structure", "coordinates"),
        ({"type": "Blob", "coordinates": []}, "geo.structure", "type"),
        ({"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 91]}}, "geo.coordinate", "geometry.coordinates"),
        ({"type": "Circle", "coordinates": [0, 0]}, "geo.radius", "radius_m"),
        ({"type": "Circle", "coordinates": [0, 0], "radius_m": -5}, "geo.radius", "radius_m"),
        ({"type": "Circle", "coordinates": [0, 89.9999], "radius_m": 500}, "geo.pole", "radius_m"),
        (NESTED, "geo.type", "geometries[0]."),
        ([], "geo.structure", ""),
        (None, "geo.structure", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_refused_with_the_place(value: object, code: str, path: str) -> None:
    error = refusal(value)
    assert (error.code, error.details.get("path")) == (code, path)
    json.dumps(error.details)


def test_swapped_coordinates_get_a_hint() -> None:
    error = refusal({"type": "Point", "coordinates": [39.9, 116.4]})
    assert "swapped" in error.hint and (error.details["lon"], error.details["lat"]) == (39.9, 116.4)


def test_a_type_that_is_not_wanted_is_refused() -> None:
    assert refusal({"type": "Point", "coordinates": [0, 0]}, allow=shape.AREAS).code == "geo.type"


def test_a_circle_stays_a_circle_and_shows_its_outline() -> None:
    given_ = {"type": "Circle", "coordinates": [116.39, 39.9], "radius_m": 500}
    found = shape.parse(given_)
    assert found.kind == "Circle" and found.geojson == given_ and found.centre == (116.39, 39.9)
    assert found.outline["type"] == "Polygon"
    assert found.area_m2 == pytest.approx(785_398, rel=1e-5)


def test_every_type_of_rfc_7946_is_read() -> None:
    for kind, coordinates in [
        ("Point", [1, 2]), ("MultiPoint", [[1, 2]]), ("LineString", [[1, 2], [3, 4]]),
        ("MultiLineString", [[[1, 2], [3, 4]]]), ("Polygon", [SQUARE]), ("MultiPolygon", [[SQUARE]]),
    ]:  # fmt: skip
        assert shape.parse({"type": kind, "coordinates": coordinates}).kind == kind
    both = {"type": "GeometryCollection", "geometries": [polygon(SQUARE), {"type": "Point", "coordinates": [1, 2]}]}
    found = shape.parse(json.dumps(both))
    assert found.kind == "GeometryCollection" and found.area_m2 > 1e10


def test_text_that_is_not_json_or_too_deep_or_too_large_is_refused() -> None:
    for text in ("{", b"\xff\xfe", "[" * 100_000, '{"type":"Point","coordinates":[' + "9" * 5000 + ",0]}"):
        assert refusal(text).code == "geo.json"
    assert refusal(" " * (shape.OCTETS_MAX + 1)).code == "geo.json"
    assert refusal('{"type":"Point","coordinates":[Infinity,0]}').code == "geo.coordinate"


def test_more_positions_or_parts_than_the_limit_are_refused() -> None:
    line = [[i / 1e6, 0.0] for i in range(shape.VERTICES_MAX + 1)]
    error = refusal({"type": "LineString", "coordinates": line})
    assert (error.code, error.details["path"]) == ("geo.vertices", f"coordinates[{shape.VERTICES_MAX}]")
    assert refusal(polygon(SQUARE), vertices_max=4).code == "geo.vertices"
    assert refusal({"type": "MultiPolygon", "coordinates": [0] * (shape.PARTS_MAX + 1)}).code == "geo.vertices"


def test_a_hopeless_tangle_is_refused_instead_of_computed_for_ever() -> None:
    rng = random.Random(1)
    ring = [[rng.uniform(0, 1), rng.uniform(0, 1)] for _ in range(5000)]
    error = refusal(polygon(ring))
    assert error.code == "geo.tangled" and 0 <= float(str(error.details["lon"])) <= 1


def test_notes_are_limited() -> None:
    parts = [[[[i / 10, 0], [i / 10, 0.05], [i / 10 + 0.05, 0.05]]] for i in range(200)]
    found = shape.parse({"type": "MultiPolygon", "coordinates": parts})
    assert len(found.notes) == shape.NOTES_MAX


small = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.sampled_from([179.9, -179.9, 180, -180, 89, 90]))
rings = st.lists(st.lists(small, min_size=2, max_size=3), min_size=1, max_size=9)


@settings(max_examples=400, deadline=None)
@given(st.lists(rings, min_size=1, max_size=3), st.booleans())
def test_whatever_is_accepted_is_valid_and_parses_to_itself_without_a_note(found: list[Any], multi: bool) -> None:
    value = {"type": "MultiPolygon", "coordinates": [[r] for r in found]} if multi else polygon(*found)
    try:
        once = shape.parse(value)
    except GeoError as error:
        json.dumps(error.details)
        return
    assert once.geometry.is_valid and not once.geometry.is_empty and once.area_m2 >= 0
    again = shape.parse(json.loads(json.dumps(once.geojson)))
    assert (again.geojson, again.notes) == (once.geojson, ())
    assert shapely.intersects_xy(once.geometry, *once.centre) or once.geometry.area < 1e-10


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just([1, 2])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.sampled_from(["type", "coordinates", "geometry", "geometries", "radius_m"]), inner),
        st.fixed_dictionaries({"type": st.sampled_from([*sorted(shape.ANY), "Feature"]), "coordinates": inner}),
    ),
    max_leaves=25,
)


@settings(max_examples=600, deadline=None)
@given(st.one_of(anything, st.text(), st.binary()))
def test_no_input_crashes(value: object) -> None:
    try:
        shape.parse(value)
    except GeoError as error:
        assert error.hint
        json.dumps(error.details)
