"""Edits of organisations, units, persons, groups, the roster and templates, over real HTTP."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from command.base.phone import e164
from command.base.projection import Row
from command.base.rights import Role
from command.domain.account import DAY_US
from command.domain.registry_edits import SavePerson, placeholders
from command.log.rebuild import rebuild
from tests.command.assembly import Assembly, Client, assembled

DAY = 1_800_000_000_000_000
HOUR = DAY_US // 24


async def _id(client: Client, path: str, body: dict[str, Any]) -> str:
    return str((await client.ok("POST", path, body))["id"])


async def _named(client: Client, path: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in (await client.ok("GET", path))["items"]}


async def test_moving_an_organisation_moves_the_lines_of_all_below_it(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, ids = await node.signed_in("system"), node.organisations
        station = await _id(system, "/organisations", {"name": "站", "tier": "department", "parent": ids["东县"]})
        before = (await _named(system, "/organisations"))["东县"]
        body = {"name": "东县", "tier": "county", "parent": ids["省"], "version": before["version"]}
        await system.ok("PUT", f"/organisations/{ids['东县']}", body)
        rows = await _named(system, "/organisations")
        assert rows["东县"]["line"] == [ids["省"], ids["东县"]]
        assert rows["站"]["line"] == [ids["省"], ids["东县"], station]


async def test_an_organisation_never_stands_below_itself_and_the_tree_has_a_depth(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, ids = await node.signed_in("system"), node.organisations
        for above in ("省", "东县"):
            body = {"name": "省", "tier": "province", "parent": ids[above], "version": 1}
            assert await system.refused("PUT", f"/organisations/{ids['省']}", body) == (409, "organisation.cycle")
        above = ids["东县"]
        for number in range(5):
            above = await _id(system, "/organisations", {"name": f"级{number}", "tier": "department", "parent": above})
        body = {"name": "九", "tier": "department", "parent": above}
        assert await system.refused("POST", "/organisations", body) == (422, "organisation.too_deep")


async def test_an_organisation_in_use_is_not_retired(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, ids = await node.signed_in("system"), node.organisations
        retire = {"tier": "county", "parent": ids["市"], "version": 1, "retired": True}
        await node.decide(SavePerson(name="某人", organisation=ids["东县"]))
        code = (await system.refused("PUT", f"/organisations/{ids['东县']}", retire | {"name": "东县"}))[1]
        assert code == "organisation.in_use"
        await system.ok("PUT", f"/organisations/{ids['西县']}", retire | {"name": "西县"})
        assert "西县" not in await _named(system, "/organisations")
        assert "西县" in await _named(system, "/organisations?retired=true")
        assert (await system.refused("POST", "/persons", {"name": "甲", "organisation": ids["西县"]}))[0] == 409


async def test_a_stale_edit_is_refused_with_both_versions(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, city = await node.signed_in("system"), node.organisations["市"]
        key = await _id(system, "/persons", {"name": "甲", "organisation": city})
        await system.ok("PUT", f"/persons/{key}", {"name": "乙", "organisation": city, "version": 1})
        status, answer = await system.call("PUT", f"/persons/{key}", {"name": "丙", "organisation": city, "version": 1})
        assert (status, answer["code"]) == (409, "version.stale")
        assert answer["details"]["current"]["name"] == "乙" and answer["details"]["yours"]["name"] == "丙"
        assert (await system.refused("PUT", f"/persons/{key}", {"name": "丙", "organisation": city}))[0] == 409


async def test_a_repeated_command_answers_the_same_and_writes_once(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, body = await node.signed_in("system"), {"name": "甲", "organisation": node.organisations["市"]}
        first = await system.ok("POST", "/persons", body, key="once")
        again = await system.ok("POST", "/persons", body, key="once")
        assert again == first | {"replayed": True}
        assert (await system.refused("POST", "/persons", body | {"name": "乙"}, key="once"))[1] == "idempotency.reused"


async def test_numbers_are_kept_in_one_spelling_and_only_in_private_parts(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, city = await node.signed_in("system"), node.organisations["市"]
        body = {"name": "某某人", "organisation": city, "phones": ["138 0013 8000", "+86 13800138000", "010-12345678"]}
        key = await _id(system, "/persons", body)
        [row] = (await system.ok("GET", "/persons?q=0013800"))["items"] or [None]
        assert row["id"] == key and row["phones"] == ["+8613800138000", "+861012345678"]
        [entry] = [entry for entry in await node.entries("registry") if entry.kind == "person.saved"]
        assert "某某人" not in str(entry.body) and "13800138000" not in str(entry.body)
        bad = body | {"phones": ["12"]}
        assert (await system.refused("POST", "/persons", bad))[0] == 422


async def test_numbers_are_seen_and_searched_only_by_those_who_may_read_them(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        ids = node.organisations
        await node.decide(SavePerson(name="上级", organisation=ids["省"], phones=["13800138001"]))
        await node.decide(SavePerson(name="下级", organisation=ids["东县"], phones=["13800138002"]))
        officer = await node.signed_in("officer")
        rows = await _named(officer, "/persons")
        assert rows["上级"]["phones"] == [] and rows["下级"]["phones"] == ["+8613800138002"]
        assert list(await _named(officer, "/persons?q=138001380")) == ["下级"]
        audit = await node.signed_in("audit")
        assert "13800138" not in str(await audit.ok("GET", "/audit"))
        assert "13800138" not in await audit.ok("GET", "/audit/export?subject=registry")


async def test_lists_come_in_pages_and_miss_nobody(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system, city = await node.signed_in("system"), node.organisations["市"]
        made = [await node.decide(SavePerson(name=f"人{number}", organisation=city)) for number in range(7)]
        found, after = [], ""
        while True:
            page = await system.ok("GET", f"/persons?limit=3&q=人{after}")
            found += [row["id"] for row in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert found == sorted(made)
        assert (await system.refused("GET", "/persons?limit=501"))[0] == 422


async def test_a_unit_becomes_busy_by_orders_only(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, ids = await node.signed_in("officer"), node.organisations
        member = await node.decide(SavePerson(name="队员", organisation=ids["东县"]))
        body = {"name": "一队", "kind": "fire", "organisation": ids["东县"], "members": [member]}
        key = await _id(officer, "/units", body)
        assert (await officer.refused("POST", f"/units/{key}/status", {"version": 1, "status": "busy"}))[0] == 422
        await officer.ok("POST", f"/units/{key}/status", {"version": 1, "status": "out_of_service"})
        await officer.ok("PUT", f"/units/{key}", body | {"version": 2, "capability": "云梯"})
        row = (await _named(officer, "/units"))["一队"]
        assert row["status"] == "out_of_service" and row["version"] == 3 and row["capability"] == "云梯"
        above = body | {"organisation": ids["省"]}
        assert (await officer.refused("POST", "/units", above))[0] == 403
        assert (await officer.refused("PUT", f"/units/{key}", above | {"version": 3}))[0] == 403
        assert (await officer.refused("POST", "/units", body | {"members": [member, member]}))[1] == "person.twice"


async def test_a_group_takes_persons_that_are_there(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city = await node.signed_in("officer"), node.organisations["市"]
        person = await node.decide(SavePerson(name="甲", organisation=city))
        await _id(officer, "/groups", {"name": "专家", "organisation": city, "persons": [person]})
        assert (await _named(officer, "/groups"))["专家"]["persons"] == [person]
        nobody = {"name": "二", "organisation": city, "persons": ["nobody"]}
        assert await officer.refused("POST", "/groups", nobody) == (404, "person.missing")


def _shift(person: str, start_h: int, end_h: int, post: str = "值班员") -> dict[str, Any]:
    return {"post": post, "person": person, "starts_at": DAY + start_h * HOUR, "ends_at": DAY + end_h * HOUR}


async def _roster(node: Assembly) -> tuple[Client, str, str]:
    city = node.organisations["市"]
    return await node.signed_in("officer"), city, await node.decide(SavePerson(name="甲", organisation=city))


async def test_nobody_stands_in_two_posts_at_one_time(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city, person = await _roster(node)
        both = {"organisation": city, "shifts": [_shift(person, 0, 8), _shift(person, 8, 16)]}
        await officer.ok("POST", "/shifts", both)
        for start, end in ((7, 9), (0, 1), (15, 30), (0, 16)):
            body = {"organisation": city, "shifts": [_shift(person, start, end, "带班")]}
            assert await officer.refused("POST", "/shifts", body) == (409, "roster.double")
        body = {"organisation": city, "shifts": [_shift(person, 20, 24), _shift(person, 23, 25)]}
        assert (await officer.refused("POST", "/shifts", body))[1] == "roster.double"
        body = {"organisation": city, "shifts": [_shift(person, 16, 16)]}
        assert (await officer.refused("POST", "/shifts", body))[1] == "roster.times"
        # Another organisation may share the person.
        county = {"organisation": node.organisations["东县"], "shifts": [_shift(person, 0, 8)]}
        await officer.ok("POST", "/shifts", county)


async def test_people_off_duty_are_not_put_on_the_roster(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city, person = await _roster(node)
        await officer.ok("POST", f"/persons/{person}/off-duty", {"version": 1, "off_duty": True})
        body = {"organisation": city, "shifts": [_shift(person, 0, 8)]}
        assert await officer.refused("POST", "/shifts", body) == (409, "roster.off_duty")


async def test_replacing_a_range_names_every_shift_it_replaces(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city, person = await _roster(node)
        shifts = [_shift(person, 0, 8), _shift(person, 24, 32)]
        first, second = (await officer.ok("POST", "/shifts", {"organisation": city, "shifts": shifts}))["result"][
            "shifts"
        ]
        new = {"organisation": city, "since": DAY, "until": DAY + 24 * HOUR, "shifts": [_shift(person, 1, 9)]}
        assert await officer.refused("PUT", "/shifts", new | {"seen": []}) == (409, "version.stale")
        await officer.ok("PUT", "/shifts", new | {"seen": [{"id": first, "version": 1}]})
        rows = (await officer.ok("GET", f"/shifts?organisation={city}"))["items"]
        assert {row["starts_at"] for row in rows} == {DAY + HOUR, DAY + 24 * HOUR}
        outside = new | {"seen": [], "shifts": [_shift(person, 24, 25)]}
        assert (await officer.refused("PUT", "/shifts", outside))[1] == "roster.range"
        await officer.ok("DELETE", f"/shifts/{second}", {"version": 1})
        page = await officer.ok("GET", f"/shifts?person={person}&since={DAY}&until={DAY + 2 * HOUR}")
        assert len(page["items"]) == 1


async def test_a_template_says_the_same_in_both_languages(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city = await node.signed_in("officer"), node.organisations["市"]
        body = {
            "name": "通知",
            "organisation": city,
            "text_zh": "{{{incident}}}在{place}",
            "text_en": "{incident} at {place}",
        }
        key = await _id(officer, "/templates", body)
        for chinese, code in (
            ("{incident}", "template.differs"),
            ("{incident", "template.braces"),
            ("{incident!r}{place}", "template.placeholder"),
            ("{incident.x}{place}", "template.placeholder"),
            ("{}{place}", "template.placeholder"),
            ("  ", "template.empty"),
        ):
            sent = body | {"text_zh": chinese, "version": 1}
            assert await officer.refused("PUT", f"/templates/{key}", sent) == (422, code), chinese
        await officer.ok("PUT", f"/templates/{key}", body | {"version": 1, "retired": True})


async def test_the_admin_topic_shows_each_session_what_it_may_see(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        seen = {}
        for name in ("officer", "security"):
            client = await node.signed_in(name)
            async with client.http.ws_connect(f"{node.base}/api/v1/live", headers={"Origin": node.base}) as socket:
                await socket.send_json({"type": "subscribe", "topic": "admin"})
                while (message := await socket.receive_json())["type"] != "snapshot":
                    pass
                seen[name] = message["tables"]
        assert len(seen["security"]["account"]) == 4 and all(row["roles"] for row in seen["security"]["account"])
        assert len(seen["officer"]["account"]) == 4 and not any(row["roles"] for row in seen["officer"]["account"])
        assert len(seen["officer"]["organisation"]) == 4


async def test_the_audit_is_paged_newest_first_and_exported_whole(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        audit = await node.signed_in("audit")
        first = await audit.ok("GET", "/audit?limit=5")
        second = await audit.ok("GET", f"/audit?limit=500&before={first['next']}")
        numbers = [item["number"] for item in first["items"] + second["items"]]
        assert numbers == sorted(numbers, reverse=True) and second["next"] is None
        total = len(await node.entries("audit")) + len(await node.entries("registry"))
        assert len(numbers) == total
        lines = [json.loads(line) for line in (await audit.ok("GET", "/audit/export?subject=registry")).splitlines()]
        assert lines[0]["subject"] == "registry"
        entries = [line for line in lines if "entry" in line]
        assert len(entries) == len(await node.entries("registry"))
        for line in entries:
            assert hashlib.sha256(b"\x00" + line["data"].encode()).hexdigest() == line["entry"]
        assert {line["position"] for line in entries} == {line["seal"] for line in lines if "seal" in line}
        officer = await node.signed_in("officer")
        assert (await officer.refused("GET", "/audit"))[0] == 403
        assert (await officer.refused("GET", "/audit/export?subject=registry"))[0] == 403
        assert (await officer.refused("GET", "/audit/export?subject=incident/none"))[0] == 404


async def test_rebuilt_rows_of_the_registry_equal_the_live_ones(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, city, person = await _roster(node)
        await officer.ok("POST", "/shifts", {"organisation": city, "shifts": [_shift(person, 0, 8)]})
        await officer.ok("POST", "/groups", {"name": "专家", "organisation": city, "persons": [person]})
        await officer.ok("POST", "/units", {"name": "一队", "kind": "fire", "organisation": city, "members": [person]})
        text = {"text_zh": "{a}", "text_en": "{a}"}
        await officer.ok("POST", "/templates", {"name": "通知", "organisation": city, **text})
        await node.account("other", [Role.VIEWER], "东县")
        store = node.node.store

        async def rows() -> dict[str, list[Row]]:
            names = ("organisation", "unit", "person", "group", "shift", "template", "account")
            return await store.read(lambda c: {name: store.shelves[name].select(c) for name in names})

        live = await rows()

        def again() -> None:
            with store.writer_engine.begin() as connection:
                for shelf in store.shelves.values():
                    if not shelf.table.kept:
                        connection.execute(shelf.sql.delete())
            rebuild(store, node.service.house.domain)

        await store.write(again)
        assert await rows() == live


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_placeholders_or_numbers(text: str) -> None:
    for read in (placeholders, e164):
        with contextlib.suppress(Rejected):
            read(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13800138000", "+8613800138000"),
        ("１３８ ００１３ ８０００", "+8613800138000"),
        ("+44 7700 900123", "+447700900123"),
        ("(010) 1234-5678", "+861012345678"),
    ],
)
def test_a_number_has_one_spelling(text: str, number: str) -> None:
    assert e164(text) == number
