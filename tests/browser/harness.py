"""Debian's Chromium for the tests, and a watch over what a page does that it must not do.

Never a browser that playwright downloaded. Invariant: a `Watch` sees every request and every console line of
its page from the moment it is made.
"""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from tests.services import program

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
LOCAL_SCHEMES = {"data", "blob", "about"}

# Fake devices give a moving test picture and a beep; the fake UI says yes to every permission question.
FAKE_MEDIA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
LOOPBACK_ICE = "--allow-loopback-in-peer-connection"
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
        browser = await playwright.chromium.launch(executable_path=path, args=flags, chromium_sandbox=False)
        try:
            yield browser
        finally:
            await browser.close()


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
