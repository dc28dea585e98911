"""The tree on the screen: the four-node demo in Debian's Chromium. Slow: `make tree`."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.desk import READY_MS
from tests.browser.four import NAMES, STOP_S, Demo, at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SOON_MS = 60_000
LINKED, CUT, UNKNOWN = "已连通", "已中断", "尚不明确"
TITLE = "化工园区储罐泄漏"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo-tree"))
    try:
        made.wait()
        yield made
        assert made.interrupt() < STOP_S
        assert made.process.returncode == 0
        assert not made.children()
    finally:
        made.process.kill()


async def test_each_node_sees_the_line_and_its_links(chromium: Browser, demo: Demo) -> None:
    for name in NAMES:
        page, watch = await at(chromium, demo, name)
        rows = page.locator("fh-tree-page tbody tr")
        await expect(rows).to_have_count(4, timeout=READY_MS)
        await expect(rows.locator(".badge.good")).to_have_count(3, timeout=SOON_MS)
        assert not watch.errors and not watch.violations and not watch.foreign
        await page.context.close()


async def test_the_incident_of_the_demo_is_on_every_screen(chromium: Browser, demo: Demo) -> None:
    for name in NAMES:
        page, _ = await at(chromium, demo, name, "/")
        await expect(page.get_by_text("化工园区厂房起火").first).to_be_visible(timeout=READY_MS)
        await page.context.close()
        await asyncio.sleep(0)


# -- the journey


async def picture(page: Page, name: str) -> None:
    """Keep what the screen shows, where TREE_SCREENSHOTS names a folder."""
    folder = os.environ.get("TREE_SCREENSHOTS")
    if folder:
        await page.wait_for_load_state("networkidle")
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def give(page: Page, task: str) -> None:
    """Order the vehicle out, in the form."""
    await page.locator("#give-order").click()
    form = page.locator("dialog[data-name=order]")
    await form.locator(".seg button").nth(2).click()
    await form.locator("[name=assignee]").select_option(label="示范一县指挥车")
    await form.locator("[name=task]").fill(task)
    await form.locator("footer button.primary").click()
    await expect(form).to_have_count(0)


async def reason(page: Page, text: str, name: str = "reason") -> None:
    dialog = page.locator(f"dialog[data-name={name}]")
    await dialog.locator("[name=reason]").fill(text)
    await dialog.locator("footer button[type=submit]").click()
    await expect(dialog).to_have_count(0)


async def owned_by(page: Page, name: str, here: bool) -> None:
    panel = page.locator("fh-incident-ownership")
    await expect(panel.locator(".owner-line b")).to_have_text(name, timeout=SOON_MS)
    await expect(panel.locator("#owner-here")).to_have_text("本节点指挥" if here else "他节点指挥", timeout=SOON_MS)


async def note(page: Page, text: str) -> None:
    await page.locator("fh-incident-write [name=text]").fill(text)
    await page.locator("fh-incident-write button.primary").click()


async def test_an_incident_passes_through_four_nodes_and_each_screen_tells_the_truth(
    chromium: Browser, demo: Demo
) -> None:
    county, county_watch = await at(chromium, demo, "county", "/")
    await county.locator("#report").click()
    form = county.locator("fh-report")
    await form.locator("[name=title]").fill(TITLE)
    await form.locator("[name=category]").select_option("accident")
    await form.locator("[name=level]").select_option("III")
    await form.locator(".map-canvas").click(position={"x": 120, "y": 120})
    await expect(form.locator("[name=lon]")).to_have_value(re.compile(r"^-?\d+(\.\d+)?$"))
    await form.locator("[name=address]").fill("示范一县")
    await form.locator("footer button.primary").click()
    await expect(form).to_have_count(0)
    await county.locator("a[href^='#/incident/']", has_text=TITLE).first.click()
    await expect(county.locator(".incident-head h1")).to_have_text(TITLE)
    key = county.url.rpartition("/")[2]
    where = f"/incident/{key}"

    # The county decides; its order reaches the vehicle and comes back accepted.
    await owned_by(county, "示范一县", True)
    await give(county, "疏散下风向居民")
    vehicle, vehicle_watch = await at(chromium, demo, "vehicle", "/")
    await vehicle.locator(".card", has_text=TITLE).first.wait_for(timeout=SOON_MS)
    await vehicle.goto(demo.addresses["vehicle"] + f"/#{where}")
    await owned_by(vehicle, "示范一县", False)
    await expect(vehicle.locator("#give-order")).to_have_count(0)
    await vehicle.locator(".order", has_text="疏散").locator("button.good").click()
    way = county.locator(".order", has_text="疏散").locator(".way")
    await expect(way.locator("li.yes")).to_have_count(5, timeout=SOON_MS)

    # Raised to II, offered to the city, which agrees: 提级.
    await county.locator("#level").click()
    dialog = county.locator("dialog[data-name=level]")
    await dialog.locator("input[value=II]").check()
    await reason(county, "泄漏扩大", "level")
    city, city_watch = await at(chromium, demo, "city", "/")
    province, province_watch = await at(chromium, demo, "province", "/")
    for page, name in ((city, "city"), (province, "province")):
        await page.locator(".card", has_text=TITLE).first.wait_for(timeout=SOON_MS)
        await page.goto(demo.addresses[name] + f"/#{where}")
    await county.locator("#offer").click()
    await reason(county, "超出本县能力", "offer")
    await city.locator("[data-act=agree]").click(timeout=SOON_MS)
    await reason(city, "同意提级")
    for page in (county, province, vehicle):
        await owned_by(page, "示范西市", False)
    await owned_by(city, "示范西市", True)
    await expect(county.locator("#level")).to_have_count(0)

    # The vehicle is cut off, and works on.
    demo.wire("cut", "vehicle")
    await expect(vehicle.locator("#line")).to_have_class("link-state bad", timeout=SOON_MS)
    chip = "#participants .badge"
    await expect(county.locator(chip, has_text="指挥车")).to_contain_text(CUT, timeout=SOON_MS)
    await expect(province.locator(chip, has_text="指挥车")).to_contain_text(CUT, timeout=SOON_MS)
    await expect(vehicle.locator(chip, has_text="示范西市")).to_contain_text(UNKNOWN, timeout=SOON_MS)
    await note(vehicle, "断网期间：现场已设警戒")
    mine = vehicle.locator(".entry", has_text="断网期间")
    await expect(mine.locator(".ticks")).to_have_text("✓")
    await give(city, "转移伤员")
    waiting = city.locator(".order", has_text="转移伤员").locator(".way li")
    await expect(waiting.locator("xpath=self::*[contains(@class,'yes')]")).to_have_count(2, timeout=SOON_MS)
    other, _ = await at(chromium, demo, "city")
    await expect(other.locator("fh-tree-page tbody tr", has_text="指挥车")).to_contain_text(CUT, timeout=SOON_MS)
    await picture(other, "tree")
    await other.context.close()

    # The city is cut off from the province, which takes over; the city can't know, and gives an order.
    demo.wire("cut", "city")
    await expect(city.locator("#line")).to_have_class("link-state bad", timeout=SOON_MS)
    await province.locator("#seize").click()
    await expect(province.locator("dialog[data-name=reason]")).to_contain_text("迟到")
    await reason(province, "跨市影响，由省里指挥")
    await owned_by(province, "示范省", True)
    await owned_by(city, "示范西市", True)
    await give(city, "封闭高速出口")

    # The vehicle returns: what it wrote is held above, and it accepts what the city ordered.
    demo.wire("join", "vehicle")
    await expect(vehicle.locator("#line")).to_have_class("link-state good", timeout=SOON_MS)
    await expect(mine.locator(".ticks")).to_have_text("✓✓", timeout=SOON_MS)
    await expect(city.locator(".entry", has_text="断网期间")).to_contain_text("来自示范一县指挥车", timeout=SOON_MS)
    await vehicle.locator(".order", has_text="封闭高速").locator("button.good").click(timeout=SOON_MS)
    await expect(city.locator(".order", has_text="封闭高速")).to_contain_text("已接受", timeout=SOON_MS)

    # The city returns: its order was late, somebody is at work on it, and the province adopts it.
    demo.wire("join", "city")
    late = province.locator("[data-late]")
    await expect(late).to_contain_text("请采纳或撤回", timeout=SOON_MS)
    await expect(province.locator(".alarm", has_text="封闭高速")).to_be_visible()
    for page in (city, county, vehicle):
        await owned_by(page, "示范省", False)
    await expect(city.locator("[data-late]")).to_contain_text("等待示范省", timeout=SOON_MS)
    await expect(city.locator("[data-late] button")).to_have_count(0)
    await picture(province, "ownership")
    await late.locator("[data-act=adopt]").click()
    await province.locator("dialog[data-name=confirm] footer button[type=submit]").click()
    for page in (province, city, county, vehicle):
        await expect(page.locator(".order", has_text="封闭高速")).to_contain_text("迟到，已采纳", timeout=SOON_MS)
        await expect(page.locator(".own-terms li")).to_have_count(3)
    await expect(province.locator(".alarm", has_text="封闭高速")).to_have_count(0, timeout=SOON_MS)
    await expect(province.locator(chip, has_text="指挥车")).to_contain_text(LINKED, timeout=SOON_MS)

    # What somebody elsewhere wants is a request, and its answer comes back.
    await county.locator("#ask").click()
    form = county.locator("dialog[data-name=ask]")
    await form.locator("[name=text]").fill("请增派防化分队")
    await form.locator("footer button[type=submit]").click()
    await province.locator("[data-act=grant]").click(timeout=SOON_MS)
    await reason(province, "已安排")
    await expect(county.locator("[data-ask]")).to_contain_text("已同意", timeout=SOON_MS)
    for watch in (county_watch, vehicle_watch, city_watch, province_watch):
        assert not watch.errors and not watch.violations and not watch.foreign
