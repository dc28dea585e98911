"""Administration on the screen: Debian's Chromium against the real server."""

import datetime
import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.desk import READY_MS, command, sign_in
from tests.browser.harness import Watch
from tests.services import ServerProcess

DESK = {"width": 1366, "height": 768}
SECTIONS = {
    "secadmin": ["accounts"],
    "sysadmin": ["organisations", "units", "persons", "groups", "import"],
    "auditor": ["accounts", "audit"],
    "duty-county1": ["units", "persons", "groups", "roster", "plans", "reports", "templates"],
}
TABLE = """姓名,单位,电话,职务
导入甲,示范省,+447700900801,值班员
导入乙,没有的单位,123,
导入丙,示范西市,+447700900802,
"""


async def open_section(page: Page, name: str) -> None:
    await page.goto(page.url.split("#")[0] + f"#/admin/{name}")
    await expect(page.locator(f"fh-admin-{name}")).to_be_visible(timeout=READY_MS)


async def at_section(browser: Browser, server: ServerProcess, account: str, name: str) -> tuple[Page, Watch]:
    page, watch = await sign_in(browser, server, account, viewport=DESK)
    await open_section(page, name)
    return page, watch


async def submit(page: Page) -> None:
    await page.locator("dialog[open] button[type=submit]").last.click()


@pytest.mark.parametrize("account", SECTIONS)
async def test_only_the_sections_that_the_rights_allow_are_shown(
    server: ServerProcess, chromium: Browser, account: str
) -> None:
    page, watch = await at_section(chromium, server, account, SECTIONS[account][0])
    links = await page.locator(".admin-nav a").evaluate_all("(all) => all.map((a) => a.hash.split('/').at(-1))")
    assert links == SECTIONS[account]
    for name in links:
        await open_section(page, name)
    watch.assert_clean()


async def test_a_new_account_gets_a_password_once_must_change_it_and_loses_its_session_when_locked(
    server: ServerProcess, chromium: Browser
) -> None:
    admin, watch = await at_section(chromium, server, "secadmin", "accounts")
    await admin.locator("[data-act=add]").click()
    await admin.locator("dialog [name=name]").fill("newcomer")
    await admin.locator("dialog [value=viewer]").check()
    await submit(admin)
    secret = await admin.locator("#secret").inner_text()
    await admin.locator("dialog[open] button.primary").click()
    await expect(admin.locator("#secret")).to_have_count(0)
    assert secret not in await admin.content()

    context = await chromium.new_context(locale="zh-CN")
    person = await context.new_page()
    await person.goto(server.base_url)
    await person.locator("[name=name]").fill("newcomer")
    await person.locator("[name=password]").fill(secret)
    await person.locator("button.primary").click()
    await person.locator("[name=old]").fill(secret)
    for name in ("new", "again"):
        await person.locator(f"[name={name}]").fill("correct horse battery")
    await person.locator("button.primary").click()
    await expect(person.locator("main > *").first).to_be_visible(timeout=READY_MS)

    await admin.locator("tr", has_text="newcomer").locator("[data-act=open]").click()
    await admin.locator("dialog [data-act=lock]").click()
    await submit(admin)
    await expect(person.locator("fh-signin")).to_be_visible(timeout=READY_MS)
    await expect(admin.locator("tr", has_text="newcomer")).to_contain_text("已锁定")
    watch.assert_clean()


async def test_a_stale_edit_of_a_unit_shows_both_versions_and_keeps_what_is_chosen(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await at_section(chromium, server, "sysadmin", "units")
    row = page.locator("tr", has_text="示范一县消防一队")
    await row.locator("[data-act=edit]").click()
    await page.locator("dialog [name=capability]").fill("泡沫车两辆")
    found = await page.evaluate(
        "import('/static/live.js').then(({live}) => live.rows('unit').find((one) => one.name === '示范一县消防一队'))"
    )
    names = ("version", "kind", "organisation", "members", "home")
    other = {"name": "示范一县消防一大队", "capability": "云梯车", **{name: found[name] for name in names}}
    await command(page, "PUT", f"/units/{found['id']}", other)
    await submit(page)
    conflict = page.locator("dialog[data-name=conflict]")
    await expect(conflict).to_contain_text("示范一县消防一大队")
    await expect(conflict).to_contain_text("泡沫车两辆")
    await conflict.locator("tr", has_text="示范一县消防一大队").locator("input").first.check()
    await conflict.locator("footer button.primary").click()
    await expect(conflict).to_have_count(0)
    await expect(page.locator("tr", has_text="示范一县消防一大队")).to_contain_text("泡沫车两辆")
    assert not watch.violations
    assert [error for error in watch.errors if "409" not in error] == []


async def test_an_import_names_its_errors_by_row_before_it_writes_the_sound_rows(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await at_section(chromium, server, "sysadmin", "import")
    table = {"name": "persons.csv", "mimeType": "text/csv", "buffer": TABLE.encode()}
    await page.locator("fh-admin-import input[type=file]").set_input_files(table)  # type: ignore[arg-type]
    await expect(page.locator("[data-figure=created]")).to_have_text("2")
    errors = page.locator("#import-errors tbody tr")
    await expect(errors).to_have_count(2)
    await expect(errors.first).to_contain_text("3")
    await expect(errors.first).to_contain_text("没有这个单位")
    assert not await page.evaluate(
        "import('/static/live.js').then(({live}) => live.rows('person').some((one) => one.name.startsWith('导入')))"
    )
    await page.locator("#write").click()
    await expect(page.locator("#import-done")).to_contain_text("新增 2 人")
    await open_section(page, "persons")
    await page.locator("fh-admin-persons input[type=search]").fill("导入")
    await expect(page.locator("fh-admin-persons tbody tr")).to_have_count(2)
    watch.assert_clean()


async def test_a_shift_is_added_given_to_another_and_removed_while_somebody_else_watches(
    server: ServerProcess, chromium: Browser
) -> None:
    page, watch = await at_section(chromium, server, "duty-county2", "roster")
    leader, _ = await at_section(chromium, server, "leader-county2", "roster")
    await page.locator("[data-act=add]").click()
    dialog = page.locator("dialog[data-name=shift]")
    await dialog.locator("[name=post]").fill("信息员")
    today = datetime.date.today().isoformat()
    await dialog.locator("[name=starts_at]").fill(f"{today}T00:30")
    await dialog.locator("[name=ends_at]").fill(f"{today}T23:30")
    await dialog.locator(".choices label", has_text="示范二县").last.locator("input").check()
    first = (await dialog.locator(".chip").inner_text()).strip()
    await submit(page)
    bar = leader.locator(".week-row", has_text="信息员").locator(".bar")
    await expect(bar).to_contain_text(first)
    await page.locator(".week-row", has_text="信息员").locator(".bar").click()
    await dialog.locator(".choices input:not(:checked)").last.check()
    second = (await dialog.locator(".chip").inner_text()).strip()
    assert second != first
    await submit(page)
    await expect(bar).to_contain_text(second)
    await page.locator(".week-row", has_text="信息员").locator(".bar").click()
    await dialog.locator("[data-act=remove]").click()
    await submit(page)
    await expect(bar).to_have_count(0)
    watch.assert_clean()


async def test_a_plan_is_edited_to_a_new_version(server: ServerProcess, chromium: Browser) -> None:
    page, watch = await at_section(chromium, server, "duty-county1", "plans")
    card = page.locator("[data-plan]", has_text="县级火灾应急预案")
    await card.locator("[data-act=edit]").click()
    dialog = page.locator("dialog[data-name=plan]")
    await dialog.locator("[data-act=add-order]").click()
    order = dialog.locator(".plan-order").last
    await order.locator("[data-field=kind]").select_option("organisation")
    await order.locator("[data-field=assignee]").select_option(label="示范一县")
    await order.locator("[data-field=task]").fill("开放应急避难场所")
    await dialog.locator("[data-part=fence]").uncheck()
    await submit(page)
    await expect(card).to_contain_text("开放应急避难场所")
    await expect(card).to_contain_text("第 2 版")
    await expect(card).not_to_contain_text("警戒区")
    watch.assert_clean()


async def test_the_auditor_sees_who_signed_in_and_takes_the_log_away(
    server: ServerProcess, chromium: Browser, tmp_path: Path
) -> None:
    page, watch = await at_section(chromium, server, "auditor", "audit")
    newest = page.locator("#audit tbody tr[data-kind='session.opened']").first
    await expect(newest).to_contain_text("auditor")
    await newest.locator("button").click()
    await expect(page.locator(".entry")).to_contain_text('"subject": "audit"')
    async with page.expect_download() as waiting:
        await page.locator("#export").click()
    path = tmp_path / "audit.jsonl"
    await (await waiting.value).save_as(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["subject"] == "audit"
    assert any("entry" in line for line in lines)
    watch.assert_clean()


async def test_the_api_documentation_lists_every_operation_without_a_session(
    server: ServerProcess, chromium: Browser
) -> None:
    page = await chromium.new_page(locale="en-GB")
    watch = Watch(page)
    await page.goto(f"{server.base_url}/docs/api")
    await expect(page.locator("details.operation").first).to_be_visible()
    document = await page.evaluate("fetch('/api/v1/openapi.json').then((answer) => answer.json())")
    operations = sum(len(item) for item in document["paths"].values())
    await expect(page.locator("details.operation")).to_have_count(operations)
    await page.locator("input[type=search]").fill("POST /orders issue")
    await expect(page.locator("details.operation")).to_have_count(1)
    await page.locator("details.operation summary").first.click()
    await expect(page.locator("details.operation")).to_contain_text(re.compile("assignee"))
    watch.assert_clean()
