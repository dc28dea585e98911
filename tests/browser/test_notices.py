"""Notices and phone inboxes on the screen: Debian's Chromium against the real server with its local gateway."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.desk import READY_MS, sign_in
from tests.services import Seed, ServerProcess

DESK = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
FORBIDDEN = "内部绝密"


@pytest.fixture(scope="module")
def server(seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("notices")
    words = directory / "words.txt"
    words.write_text(f"{FORBIDDEN}\n")
    process = seed.node(directory / "demo", environment={"FENGHUO_FORBIDDEN_WORDS": str(words)})
    with process.running():
        yield process


async def open_page(page: Page, name: str) -> None:
    await page.goto(page.url.split("#")[0] + f"#/{name}")
    await expect(page.locator(f"fh-{name}-page > *").first).to_be_visible(timeout=READY_MS)


async def compose(page: Page, text: str, kind: str = "meeting") -> Locator:
    """The dialog, filled in for everybody of the first group."""
    await page.locator("#compose").click()
    dialog = page.locator("dialog[data-name=compose]")
    await dialog.locator(f"[data-kind={kind}]").click()
    await dialog.locator("[name=text_zh]").fill(text)
    await dialog.locator("[data-way=groups]").click()
    await dialog.locator(".choices input").first.check()
    return dialog


async def test_a_notice_is_previewed_sent_delivered_and_answered_on_a_phone(
    server: ServerProcess, chromium: Browser
) -> None:
    desk, watch = await sign_in(chromium, server, "duty-province", viewport=DESK)
    await open_page(desk, "notices")
    dialog = await compose(desk, "【会议通知】今日三点防汛会商，请回复1确认。")
    await expect(dialog.locator("[data-figure=recipients]")).to_have_text("9")
    await expect(dialog.locator("[data-figure=parts]")).to_have_text("9")
    await dialog.locator("#send-notice").click()
    detail = desk.locator(".detail")
    await expect(detail.locator("[data-count=delivered]")).to_have_text("9", timeout=READY_MS)
    await expect(detail.locator("tr[data-message]")).to_have_count(9)
    phones, phones_watch = await sign_in(chromium, server, "sysadmin", viewport=DESK)
    await open_page(phones, "phones")
    await phones.locator(".phone-row", has_text="防汛会商").first.click()
    await expect(phones.locator(".bubble")).to_contain_text("防汛会商")
    await phones.locator("[data-quick='1']").click()
    await expect(phones.locator(".bubble.mine")).to_contain_text("1")
    await expect(detail.locator("tr[data-message]", has_text="已回复")).to_have_count(1)
    for one in (watch, phones_watch):
        one.assert_clean()
        assert one.navigations == 1


async def test_a_forbidden_word_is_marked_and_stops_the_sending(server: ServerProcess, chromium: Browser) -> None:
    desk, watch = await sign_in(chromium, server, "duty-province", viewport=DESK)
    await open_page(desk, "notices")
    dialog = await compose(desk, f"会议材料{FORBIDDEN}，请勿外传")
    await expect(dialog.locator("mark")).to_have_text(FORBIDDEN)
    await expect(dialog.locator("#send-notice")).to_be_disabled()
    await dialog.locator("[name=text_zh]").fill("会议材料请勿外传")
    await expect(dialog.locator("#send-notice")).to_be_enabled()
    await expect(dialog.locator("mark")).to_have_count(0)
    watch.assert_clean()


async def test_a_bulletin_waits_for_a_reviewer_and_is_refused_only_with_a_reason(
    server: ServerProcess, chromium: Browser
) -> None:
    desk, watch = await sign_in(chromium, server, "duty-province", viewport=DESK)
    reviewer, reviewer_watch = await sign_in(chromium, server, "reviewer", viewport=DESK)
    await open_page(desk, "notices")
    await open_page(reviewer, "notices")
    await expect(reviewer.locator("#compose")).to_have_count(0)
    await expect(reviewer.locator("[data-tab=unsettled], [data-tab=held]")).to_have_count(0)
    for text, passed in (("汛情通报第一期", True), ("汛情通报第二期", False)):
        dialog = await compose(desk, text, "bulletin")
        await dialog.locator("#send-notice").click()
        await expect(desk.locator(".detail header")).to_contain_text("待审核")
        await expect(desk.locator("#pass")).to_have_count(0)
        await reviewer.locator("[data-tab=review]").click()
        await reviewer.locator(".notice-row", has_text=text).click()
        await reviewer.locator("#pass" if passed else "#refuse").click()
        submit = reviewer.locator("dialog[open] button[type=submit]")
        if not passed:
            await submit.click()
            await expect(reviewer.locator("dialog[open]")).to_be_visible()
            await reviewer.locator("dialog textarea").fill("数据尚未核实")
        await submit.click()
        await expect(reviewer.locator("dialog[open]")).to_have_count(0)
        await expect(desk.locator(".detail header")).to_contain_text("已完成" if passed else "未通过", timeout=READY_MS)
    await expect(desk.locator(".detail")).to_contain_text("数据尚未核实")
    watch.assert_clean()
    reviewer_watch.assert_clean()


async def test_a_template_asks_for_its_values(server: ServerProcess, chromium: Browser) -> None:
    desk, watch = await sign_in(chromium, server, "duty-province", viewport=DESK, language="en")
    await open_page(desk, "notices")
    await desk.locator("#compose").click()
    dialog = desk.locator("dialog[data-name=compose]")
    await dialog.locator("[name=template]").select_option(index=1)
    for name, value in (("title", "防汛会商"), ("time", "15:00"), ("place", "三楼")):
        await dialog.locator(f"[name=value-{name}]").fill(value)
    await dialog.locator("[data-way=on_duty]").click()
    await dialog.locator(".choices input").first.check()
    await expect(dialog.locator("[data-figure=recipients]")).to_have_text("2")
    await expect(dialog.locator(".sms").first).to_contain_text("防汛会商，15:00，地点：三楼")
    watch.assert_clean()


async def test_notices_and_phones_fit_a_narrow_screen(server: ServerProcess, chromium: Browser) -> None:
    page, watch = await sign_in(chromium, server, "leader-province", viewport=PHONE)
    for name in ("notices", "phones"):
        await open_page(page, name)
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    watch.assert_clean()
