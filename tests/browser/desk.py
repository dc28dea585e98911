"""Signing in and the few moves that every test of the screens makes, in Debian's Chromium against the real server.

Invariant: a page made here is watched from before its first navigation.
"""

import asyncio
import re
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser.harness import Kept, Watch
from tests.services import ServerProcess

LANGUAGE = "fenghuo.language"
READY_MS = 20_000
SEA = {"lon": 154.72, "lat": 32.12}


async def sign_in(
    browser: Browser | Kept,
    server: ServerProcess,
    account: str,
    *,
    language: str = "zh",
    path: str = "/",
    **context: Any,
) -> tuple[Page, Watch]:
    """A fresh window of its own, signed in through the form, at the picture (or at `path`'s page)."""
    made: BrowserContext = await browser.new_context(locale="zh-CN" if language == "zh" else "en-GB", **context)
    page = await made.new_page()
    # Of the page, not of the window: that may be handed to the next test.
    await page.add_init_script(
        f"localStorage.getItem('{LANGUAGE}') ?? localStorage.setItem('{LANGUAGE}', '{language}')"
    )
    page.set_default_timeout(READY_MS)
    watch = Watch(page)
    await page.goto(server.base_url + path)
    await page.locator("[name=name]").fill(account)
    await page.locator("[name=password]").fill(server.credentials[account])
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("main > *").first).to_be_visible(timeout=READY_MS)
    return page, watch


async def until(page: Page, expression: str, argument: Any = None) -> None:
    """Wait until `expression` is true. Not `wait_for_function`: it evaluates in the page, which the policy forbids."""
    async with asyncio.timeout(READY_MS / 1000):
        while not await page.evaluate(expression, argument):
            await asyncio.sleep(0.05)


async def command(page: Page, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """A command with this page's session, past the screen: what somebody else did meanwhile."""
    return await page.evaluate(
        "([method, path, body]) => import('/static/api.js').then((api) => api.send(method, path, body))",
        [method, path, body],
    )


async def report(page: Page, title: str, **fields: Any) -> str:
    """Report an incident past the screen; returns its id."""
    body = {"category": "accident", "level": "II", "title": title, "place": {**SEA, "address": "示范一县"}, **fields}
    receipt = await command(page, "POST", "/incidents", body)
    return str(receipt["id"])


async def report_in_form(page: Page, title: str) -> None:
    """Report an incident as a duty officer does: the form, and a click on its map."""
    await page.locator("#report").click()
    form = page.locator("fh-report")
    await form.locator("[name=title]").fill(title)
    await form.locator("[name=category]").select_option("accident")
    await form.locator("[name=level]").select_option("II")
    await form.locator(".map-canvas").click(position={"x": 120, "y": 120})
    await expect(form.locator("[name=lon]")).to_have_value(re.compile(r"^-?\d+(\.\d+)?$"))
    await form.locator("[name=address]").fill("示范一县")
    await page.locator("fh-report footer button.primary").click()
    await expect(form).to_have_count(0)
