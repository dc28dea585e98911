"""The second factor on the screen: enrolment that is demanded, sign-in with the code, a wrong code in words. Slow."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.desk import LANGUAGE, READY_MS
from tests.browser.harness import Watch
from tests.services import Seed, ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STEP_S = 30


@pytest.fixture(scope="module")
def server(seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo that demands the second factor of every account."""
    process = seed.node(tmp_path_factory.mktemp("factor") / "demo", environment={"FENGHUO_TOTP_REQUIRED": "true"})
    with process.running():
        yield process


async def picture(page: Page, name: str) -> None:
    folder = os.environ.get("TREE_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def at_the_door(chromium: Browser, server: ServerProcess, account: str, language: str, width: int) -> Page:
    """The form filled in and sent with the right password."""
    context = await chromium.new_context(viewport={"width": width, "height": 844 if width < 640 else 768})
    await context.add_init_script(
        f"localStorage.getItem('{LANGUAGE}') ?? localStorage.setItem('{LANGUAGE}', '{language}')"
    )
    page = await context.new_page()
    page.set_default_timeout(READY_MS)
    await page.goto(server.base_url)
    await page.locator("[name=name]").fill(account)
    await page.locator("[name=password]").fill(server.credentials[account])
    await page.locator("fh-signin button.primary").click()
    return page


async def test_an_account_without_a_second_factor_enrols_before_anything_else_and_signs_in_with_it(
    server: ServerProcess, chromium: Browser
) -> None:
    page = await at_the_door(chromium, server, "leader-province", "zh", 390)
    watch = Watch(page)
    form = page.locator("fh-totp form")
    await expect(form.locator("img")).to_be_visible(timeout=READY_MS)
    await expect(page.locator("fh-signin .note-line")).to_contain_text("动态口令")
    assert await form.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    await picture(page, "enrol-phone")
    secret = (await form.locator("code").inner_text()).replace(" ", "")
    await form.locator("[name=code]").fill("000000")
    await form.locator("button.primary").click()
    await expect(form.locator("[role=alert]")).to_have_text("口令不正确，请核对手机时间")
    code = pyotp.TOTP(secret)
    await form.locator("[name=code]").fill(code.now())
    used = int(time.time()) // STEP_S
    await form.locator("button.primary").click()
    await expect(page.locator("fh-picture-page")).to_be_visible(timeout=READY_MS)
    assert not watch.violations and not watch.foreign

    other = await at_the_door(chromium, server, "leader-province", "en", 1366)
    field = other.locator("fh-signin [name=code]")
    await expect(field).to_be_focused(timeout=READY_MS)
    await picture(other, "code")
    await field.fill("123456")
    await other.locator("fh-signin button.primary").click()
    await expect(other.locator("fh-signin [role=alert]")).to_be_visible()
    while int(time.time()) // STEP_S <= used:
        await other.wait_for_timeout(500)
    await field.fill(code.now())
    await other.locator("fh-signin button.primary").click()
    await expect(other.locator("fh-picture-page")).to_be_visible(timeout=READY_MS)
    await other.locator("#account").click()
    await other.locator(".menu button", has_text="Second factor").click()
    await expect(other.locator("dialog[data-name=totp]")).to_contain_text("password")
    await picture(other, "replace")
