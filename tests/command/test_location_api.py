"""Locations over HTTP: who may report and see what, nearest units, tracks, regions, the live picture, hostile bodies."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from command.base.clock import MICROSECONDS
from command.base.projection import Change
from command.base.rights import Role
from command.base.schema import Place
from command.domain.location import LOCATION
from command.domain.registry import UnitKind
from command.domain.registry_edits import SaveUnit
from command.edge.live import SNAPSHOT_TRIES
from command.edge.location_api import FIXES_MAX
from command.edge.recent import CHANGE_OCTETS, RECENT_OCTETS_MAX
from command.log.writer import Commit
from geo import CODES, coord, region
from tests.command.places import LAT, LON, NOW, Places, places

DOCUMENT = Path(__file__).parents[2] / "docs" / "geo.md"


async def people(p: Places) -> str:
    """A field member of the world's unit, an officer and a viewer of its county, an officer of the other county; the id
    of a unit of that other county."""
    w = p.world
    await p.sign_in("field", Role.FIELD_MEMBER, w.county, person=w.member, unit=w.unit)
    await p.sign_in("officer", Role.DUTY_OFFICER, w.county)
    await p.sign_in("viewer", Role.VIEWER, w.county)
    await p.sign_in("elsewhere", Role.DUTY_OFFICER, w.other_county)
    await p.sign_in("above", Role.DUTY_OFFICER, w.province)
    return await p.unit("消防二队", w.other_county)


async def test_everybody_reports_what_is_theirs_and_nothing_else(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        other = await people(p)
        own, foreign = {"fixes": [p.fix()]}, {"fixes": [p.fix(), p.fix(unit=other)]}
        absent = {"fixes": [p.fix(unit="nobody")]}
        assert (await p.call("POST", "/locations", own, by="field"))[0] == 200
        for by, body in (("field", foreign), ("field", absent), ("officer", own), ("viewer", own)):
            status, answer = await p.call("POST", "/locations", body, by=by)
            assert (status, answer["code"]) in ((403, "location.foreign"), (403, "rights.denied")), by
        assert list(await p.places()) == [p.world.unit]
        assert await p.report(p.fix(ago_s=-1), p.fix(unit=other), p.fix(unit="nobody")) == ["new", "new", "unknown"]


async def test_a_report_counts_what_was_taken_and_says_how_it_came(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        fixes = [p.fix(ago_s=10, speed_mps=-1, heading_deg=-1), p.fix(ago_s=20), p.fix(ago_s=-90)]
        status, answer = await p.call("POST", "/locations", {"fixes": fixes}, by="field")
        assert status == 200 and answer["accepted"] == 2
        assert [one["verdict"] for one in answer["results"]] == ["new", "new", "future"]
        _, page = await p.call("GET", "/locations", by="officer")
        (row,) = page["items"]
        assert (row["source"], row["speed_mps"], row["heading_deg"]) == ("app", None, None)
        await p.report(p.fix())
        _, page = await p.call("GET", "/locations", by="officer")
        assert page["items"][0]["source"] == "service"


async def test_locations_are_seen_by_their_line_and_their_own_people_only(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        other = await people(p)
        await p.report(p.fix(), p.fix(LON + 0.1, unit=other))
        mine, theirs = {p.world.unit}, {other}
        wanted = {"field": mine, "officer": mine, "viewer": mine, "elsewhere": theirs, "above": mine | theirs}
        for by, units in wanted.items():
            _, page = await p.call("GET", "/locations", by=by)
            assert {row["id"] for row in page["items"]} == units, by
            _, near = await p.call("GET", f"/units/nearest?lon={LON}&lat={LAT}", by=by)
            assert {row["unit"] for row in near["items"]} == units, by
            for unit in mine | theirs:
                status, _ = await p.call("GET", f"/units/{unit}/track", by=by)
                assert status == (200 if unit in units else 404), (by, unit)
        _, first = await p.call("GET", "/locations?limit=1", by="above")
        _, second = await p.call("GET", f"/locations?limit=1&after={first['items'][0]['id']}", by="above")
        assert {first["items"][0]["id"], second["items"][0]["id"]} == mine | theirs


async def test_nearest_units_come_with_distance_and_honest_age(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        old = await p.unit("消防三队", p.world.county)
        home = await p.decide(
            SaveUnit(
                name="急救一组", kind=UnitKind.MEDICAL, organisation=p.world.county, home=Place(lon=LON + 0.05, lat=LAT)
            )
        )
        await p.unit("工程一队", p.world.county)  # neither seen nor at home anywhere
        await p.report(p.fix(LON + 0.02, ago_s=30), p.fix(LON + 0.01, ago_s=901, unit=old))
        path = f"/units/nearest?lon={LON}&lat={LAT}"
        _, page = await p.call("GET", path, by="officer")
        found = [(one["unit"], one["age_s"], one["stale"]) for one in page["items"]]
        assert found == [(old, 901.0, True), (p.world.unit, 30.0, False), (home, None, True)]
        for one, lon in zip(page["items"], (0.01, 0.02, 0.05), strict=True):
            assert abs(one["distance_m"] - coord.distance_m(LON, LAT, LON + lon, LAT)) < 0.1
            assert one["row"]["id"] == one["unit"]
        _, page = await p.call("GET", f"{path}&kind=medical&status=available", by="officer")
        assert [one["unit"] for one in page["items"]] == [home]
        _, page = await p.call("GET", f"{path}&limit=1", by="officer")
        assert [one["unit"] for one in page["items"]] == [old]


async def test_a_track_is_read_by_span_and_limit_in_order_of_time(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        await p.report(*(p.fix(LON + 0.002 * i, ago_s=100 - 10 * i) for i in range(10)))

        async def times(query: str) -> tuple[list[int], bool]:
            _, page = await p.call("GET", f"/units/{p.world.unit}/track{query}", by="officer")
            return [(NOW - point["at"]) // MICROSECONDS for point in page["items"]], page["more"]

        assert await times("") == ([100, 90, 80, 70, 60, 50, 40, 30, 20, 10], False)
        assert await times("?limit=3") == ([30, 20, 10], True)
        span = f"?since={NOW - 80 * MICROSECONDS}&until={NOW - 50 * MICROSECONDS}"
        assert await times(span) == ([80, 70, 60], False)


async def test_regions_are_the_site_s_own_or_the_demo_s(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        status, found = await p.call("GET", "/regions", by="tracker")
        assert (status, found["source"], found["features"]) == (200, "demo", region.demo()["features"])
        file = tmp_path / "regions.geojson"
        imported = region.demo(seed=2, lon=110.0, lat=30.0)
        file.write_text(json.dumps(imported, ensure_ascii=False))
        status, found = await p.call("GET", "/regions", by="tracker")
        assert (status, found["source"], found["type"]) == (200, "site", "FeatureCollection")
        assert {one["properties"]["code"] for one in found["features"]} == {
            one["properties"]["code"] for one in imported["features"]
        }
        file.write_text('{"type": "FeatureCollection", "features": [{"properties": {"code": "1"}}]}')
        status, answer = await p.call("GET", "/regions", by="tracker")
        assert status == 503 and "features[0]" in answer["details"]["path"]


async def test_the_picture_shows_every_unit_and_each_of_its_moves(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        other = await people(p)
        await p.report(p.fix(), p.fix(LON + 1, unit=other))
        headers = {"Authorization": f"Bearer {p.tokens['officer']}", "Origin": p.base}
        async with p.http.ws_connect(f"{p.base}/api/v1/live", headers=headers) as socket:
            await socket.send_json({"type": "subscribe", "topic": "picture"})
            snapshot = await socket.receive_json()
            assert [row["id"] for row in snapshot["tables"]["location"]] == [p.world.unit]
            p.clock.advance(5)
            await p.report(p.fix(LON + 0.001), p.fix(LON + 1.001, unit=other))
            moves: list[tuple[str, float]] = []
            while (p.world.unit, LON + 0.001) not in moves:
                message = await socket.receive_json()
                rows = [row for row in message.get("rows", []) if row["table"] == "location"]
                moves += [(row["key"], row["row"]["lon"]) for row in rows]
            assert {key for key, _ in moves} == {p.world.unit}


async def test_the_feed_remembers_moves_up_to_a_number_of_octets(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        await p.report(p.fix())
        (row,) = await p.rows(LOCATION)
        newest = p.node.log.position
        count = RECENT_OCTETS_MAX // 2 // (CHANGE_OCTETS + len(msgspec.json.encode(row))) + 1
        half = [Change(table="location", key=str(i), before=None, after=row) for i in range(count)]
        for position in (newest - 1, newest):
            p.live.on_commit(Commit(position=position, changes=half, written=[]))
        for known, answer in ((newest - 2, "snapshot"), (newest - 1, "resumed")):
            async with _screen(p) as socket:
                await socket.send_json({"type": "subscribe", "topic": "picture", "since": known})
                kinds = [(await socket.receive_json())["type"]]
                if kinds == ["changes"]:
                    kinds.append((await socket.receive_json())["type"])
                assert kinds[-1] == answer


async def test_a_screen_that_comes_back_too_late_by_a_moment_gets_the_whole_picture(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        await p.report(p.fix())
        known, read = p.node.log.position - 1, p.node.store.read

        async def slowly(work: Any) -> Any:
            """Meanwhile so much is committed that what the screen lacks is no longer remembered."""
            monkeypatch.setattr(p.node.store, "read", read)
            found = await read(work)
            p.live._recent.clear()
            p.clock.advance(5)
            await p.report(p.fix(LON + 0.001))
            return found

        async with _screen(p) as socket:
            monkeypatch.setattr(p.node.store, "read", slowly)
            await socket.send_json({"type": "subscribe", "topic": "picture", "since": known})
            snapshot = await socket.receive_json()
            assert snapshot["type"] == "snapshot"
            assert [row["id"] for row in snapshot["tables"]["location"]] == [p.world.unit]


async def test_a_screen_that_never_catches_up_with_what_is_committed_is_cut_off(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with places(database_url, tmp_path) as p:
        await people(p)
        await p.report(p.fix())
        read, readings = p.node.store.read, 0

        async def slowly(work: Any) -> Any:
            """After each reading of the picture two commits, of which the first is not remembered."""
            nonlocal readings
            found = await read(work)
            monkeypatch.setattr(p.node.store, "read", read)
            for _ in range(2):
                p.live._recent.clear()
                p.clock.advance(5)
                await p.report(p.fix())
            monkeypatch.setattr(p.node.store, "read", slowly)
            readings += 1
            return found

        async with _screen(p) as socket:
            monkeypatch.setattr(p.node.store, "read", slowly)
            await socket.send_json({"type": "subscribe", "topic": "picture"})
            assert (await socket.receive()).data == 1013
            assert readings == SNAPSHOT_TRIES


def _screen(p: Places) -> Any:
    headers = {"Authorization": f"Bearer {p.tokens['officer']}", "Origin": p.base}
    return p.http.ws_connect(f"{p.base}/api/v1/live", headers=headers)


async def test_a_report_of_more_than_a_thousand_fixes_is_refused(database_url: str, tmp_path: Path) -> None:
    async with places(database_url, tmp_path) as p:
        fixes = [p.fix(ago_s=i / 10) for i in range(FIXES_MAX + 1)]
        status, answer = await p.call("POST", "/locations", {"fixes": fixes}, by="tracker")
        assert (status, answer["code"]) == (422, "body.invalid")
        assert len(await p.report(*fixes[:FIXES_MAX])) == FIXES_MAX
        status, answer = await p.call("POST", "/locations", {"fixes": []}, by="tracker")
        assert status == 422


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    -0.0,
    "",
    "120",
    "\x00",
    "a" * 300,
    [],
    {},
    [[]],
    {"type": "Point"},
    91,
    180.0,
    -180.0000001,
    4_102_444_800_000_001,
)


def _broken(dice: random.Random, p: Places) -> bytes:
    """A report with something wrong in it; now and then a right one, or no JSON at all."""
    fix = p.fix(dice.uniform(-180, 180), dice.uniform(-90, 90), ago_s=dice.uniform(-100, 1e6))
    fix |= {"accuracy_m": dice.choice((None, 5.0)), "heading_deg": dice.choice((None, 359.9))}
    for _ in range(dice.randrange(3)):
        fix[dice.choice([*fix, "altitude_m", "speed_mps", "extra"])] = dice.choice(JUNK)
    if dice.random() < 0.2:
        del fix[dice.choice(list(fix))]
    body: Any = {"fixes": [fix] * dice.randrange(1, 4)}
    if dice.random() < 0.2:
        body = dice.choice([*JUNK, {"fixes": dice.choice(JUNK)}, {**body, "also": 1}])
    data = json.dumps(body).encode()
    if dice.random() < 0.2:
        at = dice.randrange(len(data) + 1)
        data = data[:at] + bytes([dice.randrange(256)]) + data[at + dice.randrange(3) :]
    return data


async def test_hostile_bodies_are_answered_with_a_refusal_and_never_a_bug(database_url: str, tmp_path: Path) -> None:
    dice = random.Random(20261120)
    async with places(database_url, tmp_path) as p:
        seen = set()
        for _ in range(400):
            data = _broken(dice, p)
            status, answer = await p.call("POST", "/locations", by="tracker", data=data)
            assert status in (200, 422), (status, answer, data)
            seen.add(status)
        assert seen == {200, 422}


async def test_hostile_queries_are_answered_with_a_refusal_and_never_a_bug(database_url: str, tmp_path: Path) -> None:
    words = ("nan", "inf", "-1", "181", "%00", "1e999", "x", "99999999999999999999", "")
    async with places(database_url, tmp_path) as p:
        for word in words:
            for path in (
                f"/units/nearest?lon={word}&lat=30",
                f"/units/nearest?lon=120&lat=30&limit={word}",
                f"/units/nearest?lon=120&lat=30&kind={word}",
                f"/units/{p.world.unit}/track?since={word}",
                f"/units/{word or 'x'}/track",
                f"/locations?after={word}",
                f"/locations?limit={word}",
            ):
                status, answer = await p.call("GET", path, by="tracker")
                assert status < 500, (path, answer)


def test_the_page_on_geo_names_every_error_code_with_its_meaning() -> None:
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `geo.")]
    assert {row[1].strip(" `"): row[2].strip() for row in rows} == CODES
