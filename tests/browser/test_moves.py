"""The moves of a duty officer's hands: drawing, the map's menu by pointer and by keyboard, notes, steps, levels, print."""

import asyncio
import base64
import re

from playwright.async_api import Browser, FilePayload, Page, expect

from tests.browser.desk import READY_MS, SEA, command, report, sign_in, until
from tests.services import ServerProcess

MAP = ".side-map .map-canvas"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
"""A PNG of one red pixel."""
AT_VERSION = """([name, version]) => import('/static/live.js').then(({ live }) =>
    live.rows('fence').some((row) => row.name === name && row.version === version))"""
PIXEL = """([lon, lat]) => import('/static/map/ol.js').then(({ fromLonLat }) => {
    const { map } = document.querySelector('.side-map fh-map');
    const box = map.getTargetElement().getBoundingClientRect();
    map.renderSync();
    const [x, y] = map.getPixelFromCoordinate(fromLonLat([lon, lat]));
    return [box.x + x, box.y + y];
})"""


async def fence_named(page: Page, name: str) -> dict[str, object] | None:
    found: dict[str, object] | None = await page.evaluate(
        "(name) => import('/static/live.js').then(({ live }) => live.rows('fence').find((row) => row.name === name) ?? null)",
        name,
    )
    return found


async def pixel(page: Page, geometry: object) -> tuple[float, float]:
    """Where on the screen a polygon's second corner is, once the map stands still."""
    assert isinstance(geometry, dict)
    await until(page, "!document.querySelector('.side-map fh-map').map.getView().getAnimating()")
    x, y = await page.evaluate(PIXEL, geometry["coordinates"][0][1])
    return x, y


async def settled(page: Page) -> None:
    """The regions are there and the map has gone to them."""
    await until(page, "document.querySelector('.side-map fh-map')?._settled")


async def drawn(page: Page, name: str) -> dict[str, object]:
    form = page.locator("dialog[data-name=fence]")
    await form.locator("[name=name]").fill(name)
    await form.locator("button[type=submit]").click()
    await expect(form).to_have_count(0)
    await until(page, AT_VERSION, [name, 1])
    found = await fence_named(page, name)
    assert found is not None
    return found


async def test_a_circle_fence_is_drawn_with_two_clicks_and_stored_in_metres(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    await settled(page)
    await page.locator(".pens button").last.click()
    await page.locator(MAP).click(position={"x": 160, "y": 400})  # well away from where the polygon is drawn
    await page.locator(MAP).click(position={"x": 200, "y": 400})
    row = await drawn(page, "圆形警戒区")
    geometry = row["geometry"]
    assert isinstance(geometry, dict)
    assert geometry["type"] == "Circle"
    assert 1_000 < geometry["radius_m"] < 50_000
    watch.assert_clean()


async def test_a_polygon_fence_is_drawn_corner_by_corner_and_its_shape_changed_by_dragging(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    await settled(page)
    await page.locator(".pens button").first.click()
    for across, down in ((200, 180), (300, 180), (300, 280)):
        await page.locator(MAP).click(position={"x": across, "y": down})
        await page.wait_for_timeout(300)  # the map takes two clicks within 250 ms for a double click
    await page.locator(MAP).click(position={"x": 200, "y": 180})
    before = await drawn(page, "多边形警戒区")
    await page.locator(MAP).click(position={"x": 280, "y": 200})
    await page.locator(".map-popup button", has_text="调整形状").click()
    async with asyncio.timeout(READY_MS / 1000):
        while True:  # the map may still be moving under the pointer, and looks only when the pointer moves
            x, y = await pixel(page, before["geometry"])
            await page.mouse.move(x + 30, y + 30)
            await page.mouse.move(x, y, steps=4)
            if await page.evaluate(
                "document.querySelector('.side-map fh-map').pen.interactions[0]?.vertexFeature_ != null"
            ):
                break
    await page.mouse.down()
    await page.mouse.move(x + 70, y + 50, steps=8)
    await page.mouse.up()
    await page.locator(".map-pad button.primary").click()
    await page.locator("dialog[data-name=fence] button[type=submit]").click()
    await until(page, AT_VERSION, ["多边形警戒区", 2])
    after = await fence_named(page, "多边形警戒区")
    assert after is not None
    assert after["geometry"] != before["geometry"]
    watch.assert_clean()


async def test_the_keyboard_alone_reports_an_incident_from_the_map(server: ServerProcess, chromium: Browser) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    await settled(page)
    await page.locator(f"{MAP} .ol-zoom-in").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".menu")).to_have_count(0)
    await page.locator(MAP).focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".menu .caption")).to_contain_text("°N")
    await page.keyboard.press("Enter")  # the first item: report here
    form = page.locator("fh-report")
    await expect(form.locator("[name=lon]")).to_have_value(re.compile(r"^15\d\."))
    await expect(form.locator("[name=title]")).to_be_focused()
    await page.keyboard.type("键盘报告")
    await page.keyboard.press("Tab")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await page.keyboard.press("ArrowDown")
    await form.locator("[data-radius]").fill("500")
    await form.locator("[name=lon]").fill("154.5")  # the radius is one around where the place is now
    await form.locator("[name=title]").press("Enter")
    await expect(page.locator("fh-incident-list .card", has_text="键盘报告")).to_be_visible()
    listed = await page.evaluate("() => fetch('/api/v1/incidents').then((answer) => answer.json())")
    [area] = [one["area"] for one in listed["items"] if one["title"] == "键盘报告"]
    assert (area["type"], area["coordinates"][0], area["radius_m"]) == ("Circle", 154.5, 500)
    watch.assert_clean()


async def test_a_right_click_offers_the_nearest_units_with_distance(server: ServerProcess, chromium: Browser) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    await settled(page)
    await page.locator(MAP).click(button="right", position={"x": 260, "y": 260})
    await page.locator(".menu button", has_text="就近队伍").click()
    rows = page.locator("dialog[data-name=nearest] tbody tr")
    await expect(rows.first).to_contain_text("km")
    watch.assert_clean()


async def test_steps_level_note_with_picture_and_report_upward_stand_in_the_timeline(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    rule = {
        "name": "特大事件初报",
        "report": "first",
        "levels": ["I"],
        "sender_tier": "province",
        "recipient_tier": "state",
    }
    await command(page, "POST", "/report-rules", {**rule, "limit_s": 7200})
    key = await report(page, "山体滑坡", level="III")
    await page.goto(f"{server.base_url}/#/incident/{key}")
    await page.locator("[data-step=verify]").click()
    await page.locator("dialog[data-name=reason] button[type=submit]").click()
    await expect(page.locator(".incident-head")).to_contain_text("已核实")
    await page.locator("#level").click()
    form = page.locator("dialog[data-name=level]")
    await form.locator("[name=level][value=I]").check()
    await form.locator("[name=reason]").fill("伤亡扩大")
    await form.locator("button[type=submit]").click()
    await expect(page.locator(".incident-head .badge.level")).to_have_text("I 特别重大")
    picture: FilePayload = {"name": "现场.png", "mimeType": "image/png", "buffer": DOT}
    await page.locator("fh-incident-write input[type=file]").set_input_files(picture)
    await page.locator("fh-incident-write [name=text]").fill("现场照片")
    await page.locator("fh-incident-write button.primary").click()
    await expect(page.locator("[data-kind='incident.noted'] .file img")).to_be_visible()
    owed = page.locator("#dues [data-report=first]")
    await expect(owed).to_contain_text("初报（书面）→ 国家")
    await owed.locator("[data-act=report]").click()
    form = page.locator("dialog[data-name=sub-report]")
    await form.locator("[name=text]").fill("截至目前两人受伤。")
    await form.locator("button[type=submit]").click()
    await expect(page.locator("#dues [data-state=done]")).to_contain_text("已报")
    story = page.locator(".story")
    for said in ("核实，状态变为“已核实”", "级别由 III 较大 提高到 I 特别重大", "现场照片", "初报（第 1 次上报）"):
        await expect(story).to_contain_text(said)
    watch.assert_clean()


async def test_a_viewer_sees_everything_and_is_offered_nothing(server: ServerProcess, chromium: Browser) -> None:
    officer, _ = await sign_in(chromium, server, "duty-province")
    key = await report(officer, "只读查看")
    page, watch = await sign_in(chromium, server, "viewer", path=f"/#/incident/{key}")
    await expect(page.locator(".incident-head h1")).to_have_text("只读查看")
    for control in ("[data-step]", "#edit", "#level", "#give-order", "#activate", "fh-incident-write form"):
        await expect(page.locator(control)).to_have_count(0)
    watch.assert_clean()


async def test_a_session_ended_elsewhere_shows_the_sign_in_page_and_coming_back_works(
    server: ServerProcess, chromium: Browser
) -> None:
    page, _ = await sign_in(chromium, server, "duty-west")
    other, _ = await sign_in(chromium, server, "duty-west")
    sessions = await other.evaluate("import('/static/api.js').then((api) => api.get('/sessions'))")
    for session in sessions["items"]:
        if not session["current"]:
            await command(other, "DELETE", f"/sessions/{session['id']}")
    await expect(page.locator("fh-signin form")).to_be_visible()
    await page.locator("[name=name]").fill("duty-west")
    await page.locator("[name=password]").fill(server.credentials["duty-west"])
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("fh-incident-list")).to_be_visible()


async def test_a_command_repeated_after_a_lost_answer_is_done_once(server: ServerProcess, chromium: Browser) -> None:
    page, _ = await sign_in(chromium, server, "duty-province")
    lost = 0

    async def lose_the_first_answer(route) -> None:  # type: ignore[no-untyped-def]
        nonlocal lost
        if route.request.method != "POST" or lost:
            await route.continue_()
            return
        lost += 1
        await route.fetch()  # the server does it
        await route.abort("connectionreset")  # and nobody hears

    await page.route("**/api/v1/incidents", lose_the_first_answer)
    await report(page, "只记一次", place={**SEA, "address": ""})
    await page.unroute("**/api/v1/incidents")
    assert lost == 1
    await expect(page.locator("fh-incident-list .card", has_text="只记一次")).to_have_count(1)
