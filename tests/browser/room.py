"""Screens in a room: one face for Chromium's and Firefox's pages, and a small client for the commands behind.

Not part of the product; drives the real page against a real server. Invariant: nothing here waits for a fixed time.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from playwright.async_api import Browser, Page

from tests.browser.harness import Kept, Watch
from tests.browser.harness_firefox import Firefox, FirefoxPage
from tests.services import ServerProcess

WAIT_S = 30.0
POLL_S = 0.1
"""Between two looks at a page: a look costs the page as much as a picture, and it is the pictures that are waited for."""
SIGNED_IN = "() => document.querySelector('fh-app main') !== null"
READY = "() => document.querySelector('fh-room-prejoin #join')?.disabled === false"
LOOK = """async () => {
  const call = document.querySelector("fh-room-page")?.call;
  if (!call) return {phase: "none", others: [], video: [], audio: [], pictures: []};
  const dark = (video) => {
    const canvas = document.createElement("canvas");
    canvas.width = 32; canvas.height = 18;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 32, 18);
    const pixels = context.getImageData(0, 0, 32, 18).data;
    let sum = 0;
    for (let at = 0; at < pixels.length; at += 4) sum += pixels[at] + pixels[at + 1] + pixels[at + 2];
    return sum / (pixels.length / 4 * 3);
  };
  const others = [...call.members.values()].filter((member) => member.id !== call.me);
  const tiles = others.map((member) => document.querySelector(`.tile[data-member="${member.id}"] video`)).filter(Boolean);
  const seen = {phase: call.phase, me: call.me, others, own: call.own ?? null, speaker: call.speaker, joined_ms: call.joined_ms,
    pictures: tiles.map(dark), video: [], audio: [], blocked: call.sound.blocked, hint: call.hint,
    states: [call.publishing?.state ?? "", call.receiving?.state ?? ""]};
  for (const row of (await call.receiving?.connection.getStats())?.values() ?? [])
    if (row.type === "inbound-rtp") seen[row.kind].push({frames: row.framesDecoded ?? 0, packets: row.packetsReceived,
      lost: row.packetsLost, energy: row.totalAudioEnergy ?? 0, freezes: row.freezeCount ?? 0});
  return seen;
}"""
UNTIL = """async ([look, test]) => { const seen = await eval(look)(); return eval(test)(seen) ? seen : null; }"""


class Api:
    """Commands of one signed-in account."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http = http
        self._base = base

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Idempotency-Key": uuid4().hex, "Origin": self._base}
        async with self._http.request(method, f"{self._base}/api/v1{path}", json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, (await answer.json()) if text else None

    async def ok(self, method: str, path: str, body: object = None) -> Any:
        status, value = await self.call(method, path, body)
        assert status < 300, (status, value)
        return value

    async def incident(self) -> str:
        body = {
            "category": "accident",
            "level": "III",
            "title": "会商演示事件",
            "place": {"lon": 155.1, "lat": 32.1, "address": "示范一县"},
        }
        return str((await self.ok("POST", "/incidents", body))["id"])

    async def room(self, incident: str) -> str:
        return str((await self.ok("POST", "/rooms", {"incident": incident, "title": "应急会商"}))["id"])


@asynccontextmanager
async def api(server: ServerProcess, name: str) -> AsyncIterator[Api]:
    """`name` signed in."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        made = Api(http, server.base_url)
        await made.ok("POST", "/session", {"name": name, "password": server.credentials[name]})
        yield made


class Screen:
    """One page of either browser."""

    def __init__(self, page: Page | FirefoxPage, watch: Watch | None = None) -> None:
        self.page = page
        self.watch = watch

    async def evaluate(self, source: str, argument: object = None) -> Any:
        return await self.page.evaluate(source, argument)

    async def click(self, selector: str) -> None:
        await self.page.click(selector)

    async def until(self, source: str, argument: object = None, timeout_s: float = WAIT_S) -> Any:
        """Poll a function of the page (it may be async) until it gives something true; say what it gave if it never does."""
        end = time.monotonic() + timeout_s
        while True:
            value = await self.evaluate(source, argument)
            if value:
                return value
            assert time.monotonic() < end, f"never true: {source[:300]} {argument}"
            await asyncio.sleep(POLL_S)

    async def look(self) -> Any:
        return await self.evaluate(LOOK)

    async def sees(self, test: str, timeout_s: float = WAIT_S) -> Any:
        """Poll what the call looks like until the JavaScript expression `test` over `seen` holds."""
        end = time.monotonic() + timeout_s
        while True:
            seen = await self.look()
            if await self.evaluate(f"(seen) => Boolean({test})", seen):
                return seen
            assert time.monotonic() < end, (test, seen)
            await asyncio.sleep(POLL_S)

    async def decodes(self, others: int, timeout_s: float = WAIT_S, frames: int = 20) -> Any:
        """Wait until pictures of so many others are decoded, drawn and not black, and their voices arrive."""
        test = (
            f"seen.video.filter((v) => v.frames >= {frames}).length >= {others}"
            f" && seen.pictures.filter((p) => p > 5).length >= {others}"
            f" && seen.audio.filter((a) => a.packets > 5).length >= {others}"
        )
        return await self.sees(test, timeout_s)

    async def sign_in(self, server: ServerProcess, name: str, path: str, *, shown: str = "") -> None:
        await self.page.goto(f"{server.base_url}/{path}")
        await self.page.fill("input[name=name]", name)
        await self.page.fill("input[name=password]", server.credentials[name])
        await self.click(".signin button.primary")
        await self.until(f"() => document.querySelector('{shown}') !== null" if shown else SIGNED_IN)

    async def enter(self, server: ServerProcess, name: str, room: str, *, button: str = "#join") -> None:
        """Sign in at the room's address and join with whatever the browser gives."""
        await self.sign_in(server, name, f"#/room/{room}")
        await self.until(READY)
        await self.click(f"fh-room-prejoin {button}")
        await self.sees("seen.phase === 'in'")


async def chromium_screen(
    browser: Browser | Kept, *, width: int = 1366, height: int = 768, devices: bool = True
) -> Screen:
    """A new window with cookies of its own."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        permissions=["camera", "microphone"] if devices else [],
        locale="zh-CN",
    )
    page = await context.new_page()
    return Screen(page, Watch(page))


async def firefox_screen(browser: Firefox) -> Screen:
    return Screen(await browser.open())
