"""The shell, the picture and the incident page, as a person meets them: Debian's Chromium against the real server."""

import os
import re
import signal
from itertools import combinations
from uuid import uuid4

from playwright.async_api import Browser, Page, expect

from command.base.schema import Category, Level, Urgency
from command.domain import (
    answering,
    asking,
    deadline,
    fence,
    incident,
    issuing,
    meeting,
    notice,
    order,
    owing,
    plan,
    tenure,
)
from tests.browser.desk import READY_MS, command, report, report_in_form, sign_in
from tests.services import ROOT, ServerProcess

STATIC = ROOT / "static"
STALE_MS = 15_000
PARTS = ("base", "picture", "incident", "room", "field", "notices", "admin", "tree", "ownership")
LITERAL = re.compile(r"""\bt\("([\w.]+)\"""")


async def module(page: Page, path: str, name: str = "default") -> object:
    return await page.evaluate(f"import('/static/{path}').then((found) => found[{name!r}])")


async def test_an_incident_reported_in_one_window_shows_in_another_that_nobody_reloaded(
    server: ServerProcess, chromium: Browser
) -> None:
    officer, officer_watch = await sign_in(chromium, server, "duty-province")
    leader, leader_watch = await sign_in(chromium, server, "leader-province", language="en")
    await expect(leader.locator("fh-incident-list")).to_be_visible()
    await report_in_form(officer, "园区仓库起火")
    card = leader.locator("fh-incident-list .card", has_text="园区仓库起火")
    await expect(card).to_be_visible()
    await expect(card.locator(".badge.level")).to_have_text("II Serious")
    await expect(leader.locator(".alarm", has_text="园区仓库起火")).to_be_visible()
    for watch in (officer_watch, leader_watch):
        watch.assert_clean()
        assert watch.navigations == 1


async def test_an_alarm_counts_in_the_title_until_somebody_acknowledges_it(
    server: ServerProcess, chromium: Browser
) -> None:
    officer, _ = await sign_in(chromium, server, "duty-province")
    leader, watch = await sign_in(chromium, server, "leader-province")
    title = f"水库漫坝{uuid4().hex[:6]}"
    await report(officer, title)
    alarm = officer.locator(".alarm", has_text=title)
    await expect(alarm).to_be_visible()
    await expect(leader.locator(".alarm", has_text=title)).to_be_visible()
    count = int(await leader.locator(".alarms .count").inner_text())
    await expect(leader).to_have_title(re.compile(rf"^\({count}\)"))
    await alarm.locator("button", has_text="知悉").click()
    await expect(leader.locator(".alarm", has_text=title)).to_have_count(0)
    await expect(leader).to_have_title(re.compile(rf"^\({count - 1}\)") if count > 1 else "烽火")
    watch.assert_clean()


async def test_a_screen_says_since_when_it_is_stale_and_recovers_by_itself(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    await expect(page.locator(".link-state.good")).to_be_visible()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        banner = page.locator("#stale")
        await expect(banner).to_contain_text(re.compile(r"连接中断，数据截至 \d\d:\d\d:\d\d"), timeout=STALE_MS)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    await expect(banner).to_have_count(0, timeout=STALE_MS)
    await report(page, "恢复之后")
    await expect(page.locator("fh-incident-list .card", has_text="恢复之后")).to_be_visible()
    assert watch.navigations == 1


async def test_the_language_changes_at_once_everywhere(server: ServerProcess, chromium: Browser) -> None:
    page, watch = await sign_in(chromium, server, "duty-province")
    key = await report(page, "桥梁受损")
    await page.goto(f"{server.base_url}/#/incident/{key}")
    await expect(page.locator("[data-step=verify]")).to_have_text("核实")
    await page.locator("#language").click()
    await expect(page.locator("[data-step=verify]")).to_have_text("Verify")
    await expect(page.locator(".entry-title").last).to_contain_text("Reported: 桥梁受损 (II Serious)")
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    watch.assert_clean()


async def test_a_stale_edit_shows_both_versions_and_sends_what_was_chosen(
    server: ServerProcess, chromium: Browser
) -> None:
    mine, _ = await sign_in(chromium, server, "duty-province")
    theirs, _ = await sign_in(chromium, server, "leader-province")
    key = await report(mine, "原来的标题")
    await mine.goto(f"{server.base_url}/#/incident/{key}")
    await mine.locator("#edit").click()
    form = mine.locator("dialog[data-name=edit-incident]")
    await form.locator("[name=title]").fill("我的标题")
    await form.locator("[name=description]").fill("我的描述")
    await command(theirs, "PATCH", f"/incidents/{key}", {"version": 1, "title": "他人的标题"})
    await expect(mine.locator(".incident-head h1")).to_have_text("他人的标题")
    await form.locator("button[type=submit]").click()
    conflict = mine.locator("dialog[data-name=conflict]")
    await expect(conflict).to_contain_text("他人的标题")
    await expect(conflict).to_contain_text("我的标题")
    await conflict.locator("tr", has_text="标题").locator("input[type=radio]").first.check()  # keep theirs
    await conflict.locator("button.primary").click()
    await expect(form).to_have_count(0)
    await expect(mine.locator("fh-incident-facts")).to_contain_text("我的描述")
    await expect(mine.locator(".incident-head h1")).to_have_text("他人的标题")


async def test_an_order_is_given_from_the_incident_and_followed_on_the_picture(
    server: ServerProcess, chromium: Browser
) -> None:
    officer, watch = await sign_in(chromium, server, "duty-province")
    leader, _ = await sign_in(chromium, server, "leader-province")
    key = await report(officer, "仓库起火")
    await officer.goto(f"{server.base_url}/#/incident/{key}")
    await officer.locator("#give-order").click()
    form = officer.locator("dialog[data-name=order]")
    await form.locator("[name=assignee]").select_option(index=1)
    await form.locator("[name=task]").fill("赶赴现场集结")
    await form.locator("button[type=submit]").click()
    await expect(officer.locator("fh-incident-orders .order", has_text="赶赴现场集结")).to_be_visible()
    card = leader.locator("fh-open-orders .order", has_text="赶赴现场集结")
    await expect(card.locator(".countdown")).to_contain_text("剩余")
    watch.assert_clean()


async def test_a_plan_waits_for_the_leader_and_then_does_everything_it_said(
    server: ServerProcess, chromium: Browser
) -> None:
    officer, _ = await sign_in(chromium, server, "duty-province")
    leader, watch = await sign_in(chromium, server, "leader-province")
    key = await report(officer, "储罐泄漏")
    await officer.goto(f"{server.base_url}/#/incident/{key}")
    await officer.locator("#activate").click()
    await officer.locator("dialog[data-name=choose-plan] button[type=submit]").click()
    await officer.locator("dialog[data-name=activate] button[type=submit]").click()
    await leader.locator(".activation", has_text="储罐泄漏").locator("button.good").click()
    await leader.locator("dialog[data-name=reason] button[type=submit]").click()
    await expect(officer.locator("fh-incident-orders .order")).to_have_count(2)
    await expect(officer.locator("fh-incident-rooms")).to_contain_text("应急会商")
    await expect(officer.locator("fh-incident-facts")).to_contain_text("警戒区")
    await expect(leader.locator(".activation", has_text="储罐泄漏")).to_have_count(0)
    watch.assert_clean()


async def test_the_sign_in_page_refuses_a_wrong_password_in_words(server: ServerProcess, chromium: Browser) -> None:
    page = await chromium.new_page(locale="zh-CN")
    await page.goto(server.base_url)
    await page.locator("[name=name]").fill("duty-province")
    await page.locator("[name=password]").fill("wrong-password")
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("fh-signin [role=alert]")).to_have_text("账号或密码错误", timeout=READY_MS)


async def test_both_languages_have_the_same_texts_and_every_text_a_script_asks_for(
    server: ServerProcess, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(server.base_url)
    for language in ("zh", "en"):
        keys = {part: set(await module(page, f"i18n/{language}/{part}.js")) for part in PARTS}  # type: ignore[call-overload]
        for one, other in combinations(PARTS, 2):
            assert keys[one] & keys[other] == set(), (language, one, other)
    zh, en = await module(page, "i18n/zh.js"), await module(page, "i18n/en.js")
    assert isinstance(zh, dict)
    assert isinstance(en, dict)
    assert zh.keys() ^ en.keys() == set()
    holes = re.compile(r"{\w+}", re.ASCII)
    values = [key for key in zh if not key.startswith("error.template.")]  # these speak of placeholders
    assert [key for key in values if set(holes.findall(zh[key])) != set(holes.findall(en[key]))] == []
    scripts = [path for path in STATIC.rglob("*.js") if "node_modules" not in path.parts]
    asked = {key: path.name for path in scripts for key in LITERAL.findall(path.read_text())}
    assert {key: name for key, name in asked.items() if key not in zh} == {}


async def test_the_screens_mirror_of_the_domain_is_true(server: ServerProcess, chromium: Browser) -> None:
    page = await chromium.new_page()
    await page.goto(server.base_url)
    steps = await module(page, "domain.js", "STEPS")
    assert isinstance(steps, dict)
    assert {(state, step) for state, found in steps.items() for step in found} == set(incident.STEPS)
    for name, kind in (
        ("CATEGORIES", Category),
        ("LEVELS", Level),
        ("SOURCES", incident.SourceKind),
        ("SUB_REPORTS", incident.SubReportKind),
        ("CHANNELS", incident.Channel),
        ("CLOCKS", deadline.Clock),
        ("SUPERIORS", deadline.Superior),
        ("MEANS", order.Means),
        ("RULES", fence.Rule),
        ("URGENCIES", Urgency),
    ):
        assert await module(page, "domain.js", name) == [str(code) for code in kind], name
    told = await module(page, "incident/words.js", "KINDS")
    assert isinstance(told, list)
    written = {
        kind
        for each in (incident, issuing, answering, plan, meeting, fence, notice, owing, tenure, asking)
        for kind in each.PROJECTORS
    }
    elsewhere = {"plan.saved", "unit.saved"}  # of the registry, on no incident's timeline
    assert written - elsewhere <= set(told)
