"""Debian's Chromium for the tests, and a watch over what a page does that it must not do.

Never a browser that playwright downloaded. Invariant: a `Watch` sees every request and every console line of
its page from the moment it is made.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Frame, Page, Request, async_playwright

from tests.services import program

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
LOCAL_SCHEMES = {"data", "blob", "about"}

# Fake devices give a moving test picture and a beep; the fake UI says yes to every permission question.
FAKE_MEDIA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
LOOPBACK_ICE = "--allow-loopback-in-peer-connection"
EMPTY_TIMEOUT_S = 20.0
LAUNCH_TIMEOUT_MS = 120_000
QUIET = ("--disable-gpu", "--no-first-run", "--disable-component-update", "--disable-background-networking")


@contextlib.asynccontextmanager
async def chromium(
    *, ice_flag: bool = True, extra: tuple[str, ...] = (), executable: str | None = None
) -> AsyncIterator[Browser]:
    """Debian's Chromium (or a script that runs it), headless, with fake camera and microphone.

    With `ice_flag` it may use 127.0.0.1 as a local ICE candidate; without, it behaves as a user's does.
    Skips if missing.
    """
    path = executable or program("chromium", "/usr/bin/chromium")
    flags = [*QUIET, *FAKE_MEDIA, *([LOOPBACK_ICE] if ice_flag else []), *extra]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=flags, chromium_sandbox=False, timeout=LAUNCH_TIMEOUT_MS
        )
        try:
            yield browser
        finally:
            await browser.close()


class Kept:
    """One Chromium for the tests of a file. Its windows are `Browser`'s; one that was handed back is empty of cookies,
    storage and workers when it is handed out again, but has the page's files in its cache: a window that must fetch those
    three hundred takes three times the processor time to sign in.

    The caller must `hand_back` after each test. Invariant: a window is in the hands of one test at most.
    """

    def __init__(self) -> None:
        self._running = contextlib.AsyncExitStack()
        self._browser: Browser | None = None
        self._out: dict[BrowserContext, tuple[str, set[str]]] = {}
        self._spare: dict[str, list[BrowserContext]] = {}

    async def ready(self) -> None:
        """Launch it, for the first time or after it has died."""
        if self._browser is None or not self._browser.is_connected():
            await self.close()
            self._browser = await self._running.enter_async_context(chromium())

    async def close(self) -> None:
        """End the browser and forget its windows."""
        self._browser = None
        self._out.clear()
        self._spare.clear()
        with contextlib.suppress(Error):  # of a browser that has died
            await self._running.aclose()

    @property
    def out(self) -> set[BrowserContext]:
        """The windows that are in use."""
        return set(self._out)

    async def new_context(self, *, viewport: Any = None, **options: Any) -> BrowserContext:
        """As Browser's; every page of it gets `viewport` (playwright's default if there is none)."""
        assert self._browser is not None, "ready() first"
        name = repr((sorted((viewport or {}).items()), sorted(options.items())))
        if spare := self._spare.get(name):
            context = spare.pop()
            origins: set[str] = set()
        else:
            context = await self._browser.new_context(**{"viewport": viewport} if viewport else {}, **options)
            context.on("page", lambda page: page.on("framenavigated", lambda frame: self._visited(context, frame)))
            origins = set()
        self._out[context] = (name, origins)
        return context

    async def new_page(self, **options: Any) -> Page:
        """A page in a window of its own, as Browser's."""
        return await (await self.new_context(**options)).new_page()

    def _visited(self, context: BrowserContext, frame: Frame) -> None:
        parts = urlsplit(frame.url)
        if context in self._out and parts.scheme in ("http", "https"):
            self._out[context][1].add(f"{parts.scheme}://{parts.netloc}")

    async def hand_back(self, but: set[BrowserContext]) -> None:
        """Take all windows that are in use, `but` those, from whoever has them."""
        await asyncio.gather(*(self._take(context) for context in self.out - but))

    async def _take(self, context: BrowserContext) -> None:
        name, origins = self._out.pop(context)
        try:
            async with asyncio.timeout(EMPTY_TIMEOUT_S):
                await _empty(context, origins)
        except (Error, TimeoutError):  # the test has closed it, or it hangs: not one to hand out
            with contextlib.suppress(Error, TimeoutError):
                async with asyncio.timeout(EMPTY_TIMEOUT_S):
                    await context.close()
        else:
            self._spare.setdefault(name, []).append(context)


async def _empty(context: BrowserContext, origins: set[str]) -> None:
    """Close the pages of a window, and forget all it knows of `origins` but what is in the HTTP cache."""
    page = await context.new_page()
    await asyncio.gather(*(other.close() for other in context.pages if other != page))
    await context.set_offline(False)
    await context.unroute_all()
    await context.clear_cookies()
    session = await context.new_cdp_session(page)
    for origin in origins:
        await session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    await page.close()


def is_foreign(url: str, allowed: frozenset[str] = frozenset()) -> bool:
    """Would this request leave loopback (or the named hosts)?"""
    parts = urlsplit(url)
    return parts.scheme not in LOCAL_SCHEMES and parts.hostname not in LOOPBACK | allowed


class Watch:
    """What one page did that it must not: `foreign` requests, CSP `violations`, other `errors`.

    The caller must make it before the page's first navigation. A failed sub-resource counts as an error.
    """

    def __init__(self, page: Page, *, allowed_hosts: frozenset[str] = frozenset()) -> None:
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.errors: list[str] = []
        self.navigations = 0
        self._allowed = allowed_hosts
        self._page = page
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def foreign(self) -> list[str]:
        """The addresses requested outside loopback."""
        return [url for url in self.requests if is_foreign(url, self._allowed)]

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if request.is_navigation_request() and request.frame == self._page.main_frame:
            self.navigations += 1

    def _on_console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.violations.append(message.text)
        elif message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def assert_clean(self) -> None:
        """Fail, listing everything, unless nothing bad happened so far."""
        seen = {"foreign": self.foreign, "violations": self.violations, "errors": self.errors}
        assert not any(seen.values()), seen
