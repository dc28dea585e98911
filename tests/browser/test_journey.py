"""The journey: one incident from the report to the conference, on the screens, with real browsers and nothing reloaded.

With SCREENSHOTS=1 the pictures for the README and the docs are written to `docs/screenshots/`.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from command import ca
from tests.browser import harness, lan
from tests.browser.desk import command, sign_in
from tests.browser.harness import Watch
from tests.browser.harness_firefox import Firefox, FirefoxPage
from tests.browser.room import Screen, chromium_screen, firefox_screen
from tests.services import ROOT, ServerProcess

TITLE = "示范一县化工园区仓库起火"
DESK = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
PICTURES = ROOT / "docs" / "screenshots"
DRIVE_S = 12.0
"""Seconds between two fixes of the simulated unit."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def county(own_server: ServerProcess) -> ServerProcess:
    """The journey is told from a demo's first incident."""
    return own_server


async def picture(page: Page, name: str) -> None:
    if os.environ.get("SCREENSHOTS"):
        PICTURES.mkdir(exist_ok=True)
        await page.screenshot(path=PICTURES / f"{name}.png")


async def rows(page: Page, table: str) -> list[dict[str, Any]]:
    """What this screen's live store holds of a table."""
    found: list[dict[str, Any]] = await page.evaluate(
        "(table) => import('/static/live.js').then(({live}) => live.rows(table))", table
    )
    return found


async def report_with_area(page: Page, unit_home: dict[str, float]) -> str:
    """Officer A fills in the form, puts the place, and draws the area on the map with the pointer; the incident's id."""
    await page.locator("#report").click()
    form = page.locator("fh-report")
    await form.locator("[name=title]").fill(TITLE)
    await form.locator("[name=category]").select_option("accident")
    await form.locator("[name=level]").select_option("III")
    await form.locator("[name=description]").fill("群众报告仓库冒烟，有人员被困，情况待核实。")
    await form.locator("[name=lon]").fill(str(unit_home["lon"] + 0.12))
    await form.locator("[name=lat]").fill(str(unit_home["lat"]))
    await form.locator("[name=lat]").press("Tab")
    await form.locator("[name=address]").fill("示范一县 示范路1号")
    await form.locator("[name='casualties.trapped']").fill("2")
    await form.locator("button.small").first.click()
    canvas = form.locator(".map-canvas")
    box = await canvas.bounding_box()
    assert box is not None
    middle = (box["width"] / 2, box["height"] / 2)
    corners = [(-60, -40), (60, -40), (60, 45), (-60, 45)]
    for x, y in corners:
        await canvas.click(position={"x": middle[0] + x, "y": middle[1] + y})
    await canvas.dblclick(position={"x": middle[0] - 70, "y": middle[1]})
    await expect(form.locator(".row.wrap .label", has_text="多边形")).to_be_visible()
    await picture(page, "report")
    await page.locator("fh-report footer button.primary").click()
    await expect(form).to_have_count(0)
    await expect(page.locator("fh-incident-list .card", has_text=TITLE)).to_be_visible()
    return str(next(row["id"] for row in await rows(page, "incident") if row["title"] == TITLE))


async def activate(page: Page, incident: str) -> None:
    await page.goto(page.url.split("#")[0] + f"#/incident/{incident}")
    await page.locator("#activate").click()
    await page.locator("dialog[open] .plan-option", has_text="县级火灾应急预案").locator("input").check()
    await page.locator("dialog[open] button[type=submit]").click()
    dialog = page.locator("dialog[open]", has=page.locator("[name=reason]"))
    await dialog.locator("[name=reason]").fill("火势较大，需要立即增援。")
    await dialog.locator("button[type=submit]").click()
    await expect(page.locator("article.activation")).to_be_visible()


async def approve(page: Page) -> None:
    await expect(page.locator("article.activation", has_text=TITLE)).to_be_visible()
    await picture(page, "approval")
    await page.locator("article.activation button.good").click()
    await page.locator("dialog[open] button[type=submit]").click()
    await expect(page.locator("article.activation")).to_have_count(0)


async def accept_on_field_page(page: Page) -> None:
    card = page.locator("[data-order]", has_text="赶赴现场灭火救援")
    await expect(card).to_be_visible()
    await picture(page, "field")
    await card.locator("[data-act=accept]").click()
    await expect(page.locator("[data-order][data-state=accepted]")).to_be_visible()


async def accept_by_sms(page: Page, number: str) -> None:
    await page.goto(page.url.split("#")[0] + "#/phones")
    await page.locator(f"[data-number='{number}']").click()
    await expect(page.locator(".bubble", has_text="赶赴现场救治伤员").first).to_be_visible()
    await page.locator("[data-quick='1']").click()
    await expect(page.locator(".bubble.mine").first).to_be_visible()
    await picture(page, "phones")


async def drive(page: Page, unit: str, home: dict[str, float], to: dict[str, float]) -> None:
    """The simulated unit reports fixes from its home into the fence, at about 60 km/h on the clock of the fixes."""
    now = int(await page.evaluate("Date.now() * 1000"))
    steps = 14
    fixes = [
        {
            "unit": unit,
            "lon": home["lon"] + (to["lon"] - home["lon"]) * min(1.0, number / 10),
            "lat": home["lat"] + (to["lat"] - home["lat"]) * min(1.0, number / 10),
            "at": now - int((steps - number) * 60 * 1e6),
            "accuracy_m": 8.0,
        }
        for number in range(steps)
    ]
    for fix in fixes:
        answer = await command(page, "POST", "/locations", {"fixes": [fix]})
        assert answer["accepted"] == 1, answer


async def stale_edit(officer: Page, leader: Page, incident: str) -> None:
    """The leader changes the title while the officer's form is open: the officer sees both versions."""
    await officer.goto(officer.url.split("#")[0] + f"#/incident/{incident}")
    await officer.locator("#edit").click()
    form = officer.locator("dialog[open]")
    await form.locator("[name=title]").fill(TITLE + "（已核实）")
    row = next(row for row in await rows(leader, "incident") if row["id"] == incident)
    changed = TITLE + "（升级）"
    await command(leader, "PATCH", f"/incidents/{incident}", {"version": row["version"], "title": changed})
    await form.locator("button[type=submit]").click()
    conflict = officer.locator("dialog[open] table.data")
    await expect(conflict).to_contain_text("（升级）")
    await expect(conflict).to_contain_text("（已核实）")
    await picture(officer, "conflict")
    await officer.locator("dialog[open] footer button.primary").last.click()
    await expect(officer.locator("h1", has_text="（已核实）")).to_be_visible()


async def tell(browser: Browser, server: ServerProcess) -> tuple[Page, Page, Page, str, list[Watch]]:
    """Report to crossing; officer, leader and field pages, the incident, and everybody's watch."""
    officer, w1 = await sign_in(browser, server, "duty-county1", viewport=DESK)
    leader, w2 = await sign_in(browser, server, "leader-county1", viewport=DESK)
    field, w3 = await sign_in(browser, server, "fire-county1", path="/field", viewport=PHONE)
    units = await rows(officer, "unit")
    fire = next(unit for unit in units if unit["kind"] == "fire" and "一县" in unit["name"])
    medical = next(unit for unit in units if unit["kind"] == "medical" and "一县" in unit["name"])
    incident = await report_with_area(officer, fire["home"])
    await activate(officer, incident)
    await approve(leader)
    await accept_on_field_page(field)
    persons = {person["id"]: person for person in await rows(officer, "person")}
    await accept_by_sms(officer, persons[medical["members"][0]]["phones"][0])
    await officer.goto(officer.url.split("#")[0] + f"#/incident/{incident}")
    accepted = officer.locator("li[data-kind='order.progressed']", has_text=re.compile("接受|已受领|受领"))
    await expect(accepted).to_have_count(2)
    fence = next(row for row in await rows(officer, "fence") if row["incident"] == incident)
    corners = fence["geometry"]["coordinates"][0][:-1]
    middle = {name: sum(corner[axis] for corner in corners) / len(corners) for axis, name in enumerate(("lon", "lat"))}
    await drive(field, fire["id"], fire["home"], middle)
    await expect(officer.locator("li[data-kind='fence.crossed']").first).to_be_visible()
    await picture(officer, "incident")
    await stale_edit(officer, leader, incident)
    await officer.goto(officer.url.split("#")[0] + "#/")
    await expect(officer.locator("fh-incident-list .card", has_text=TITLE)).to_be_visible()
    await picture(officer, "picture")
    return officer, leader, field, incident, [w1, w2, w3]


async def room_of(page: Page, incident: str) -> str:
    return str(next(room["id"] for room in await rows(page, "room") if room["incident"] == incident))


async def meet(browser: Browser, firefox: Firefox, server: ServerProcess, room: str) -> list[Screen]:
    """Two Chromium windows and one Firefox, each of which decodes the two others, and none of which complains."""
    screens = [await chromium_screen(browser), await chromium_screen(browser), await firefox_screen(firefox)]
    for screen, name in zip(screens, ("duty-county1", "leader-county1", "duty-west"), strict=True):
        await screen.enter(server, name, room)
    for screen in screens:
        before = await screen.decodes(2)
        more = min(video["frames"] for video in before["video"]) + 10
        await screen.decodes(2, frames=more)
        if screen.watch is not None:
            screen.watch.assert_clean()
            assert screen.watch.navigations == 1
    fox = screens[2].page
    assert isinstance(fox, FirefoxPage)
    seen = await fox.seen()
    assert not seen["errors"]
    assert not [line for line in seen["console"] if "Content-Security-Policy" in line]
    return screens


async def test_the_journey_from_the_report_to_the_conference(
    county: ServerProcess, chromium: Browser, firefox: Firefox
) -> None:
    _, leader, _, incident, watches = await tell(chromium, county)
    screens = await meet(chromium, firefox, county, await room_of(leader, incident))
    assert isinstance(screens[0].page, Page)
    await picture(screens[0].page, "room")
    officers, *others = watches
    stale = [error for error in officers.errors if "409" in error and incident in error]
    assert len(stale) == 1 and officers.errors == stale, "the browser's own line about the one stale edit, and no other"
    officers.errors.clear()
    for watch in (officers, *others):
        watch.assert_clean()
        assert watch.navigations == 1, "nothing was reloaded"


async def test_three_browsers_meet_though_chromium_got_no_ice_flag(
    county: ServerProcess, chromium_plain: Browser, firefox: Firefox
) -> None:
    officer, watch = await sign_in(chromium_plain, county, "duty-county1", viewport=DESK)
    place = {"lon": 155.0, "lat": 32.0, "address": "示范一县"}
    body = {"category": "accident", "level": "III", "title": TITLE, "place": place}
    incident = (await command(officer, "POST", "/incidents", body))["id"]
    room = (await command(officer, "POST", "/rooms", {"incident": incident, "title": "应急会商"}))["id"]
    await meet(chromium_plain, firefox, county, room)
    watch.assert_clean()


async def test_the_phone_page_works_over_https_on_a_lan_address(tmp_path: Path, database_url: str) -> None:
    if database_url.startswith("postgresql"):
        pytest.skip("the network of its own has no PostgreSQL in it; SQLite covers this test")
    with lan.network() as net:
        made = ca.make(tmp_path / "tls", [net.address])
        server = ServerProcess(
            data=tmp_path / "node",
            database_url=database_url,
            host=net.address,
            tls=(made.certificate, made.key),
        )
        with net.inside():
            server.start()
        try:
            async with harness.chromium(executable=net.wrap(tmp_path, "/usr/bin/chromium")) as browser:
                context = await browser.new_context(
                    ignore_https_errors=True, viewport=PHONE, permissions=["geolocation", "camera", "microphone"]
                )
                page = await context.new_page()
                watch = Watch(page, allowed_hosts=frozenset((net.address,)))
                await page.goto(f"{server.base_url}/field")
                await page.locator("[name=name]").fill("fire-county1")
                await page.locator("[name=password]").fill(server.credentials["fire-county1"])
                await page.locator("fh-signin button.primary").click()
                await expect(page.locator("[data-tab]").first).to_be_visible()
                assert await page.evaluate("isSecureContext && navigator.mediaDevices !== undefined")
                assert not watch.foreign and not watch.violations
        finally:
            with net.inside():
                server.stop()
