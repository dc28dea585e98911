"""Do real browsers see and hear each other through a real worker?"""

import asyncio
import time
from typing import Any

from playwright.async_api import Browser, Page

from tests.browser.harness_firefox import Firefox
from tests.media.stage import stage

WAIT_S = 25


async def look_until(look: Any, test: Any, what: str) -> dict[str, Any]:
    """Poll a page's own figures until `test` holds; says what was seen if it never does."""
    end = time.monotonic() + WAIT_S
    while True:
        seen: dict[str, Any] = await look()
        if test(seen):
            return seen
        assert time.monotonic() < end, f"{what}: {seen}"
        await asyncio.sleep(0.2)


def decodes(videos: int, frames: int = 30) -> Any:
    def test(seen: dict[str, Any]) -> bool:
        full = [row for row in seen["video"] if row["frames"] >= frames]
        return len(full) >= videos and sum(p > 5 for p in seen["pictures"]) >= videos and not seen["errors"]

    return test


def looker(page: Page) -> Any:
    return lambda: page.evaluate("window.look()")


async def test_two_chromium_pages_exchange_video_and_audio(chromium: Browser) -> None:
    async with stage() as scene, scene.site() as url:
        pages = []
        for member in ("a", "b"):
            page = await chromium.new_page()
            await page.goto(f"{url}?member={member}&publish=1&receive=1")
            pages.append(page)
        for page in pages:
            seen = await look_until(looker(page), decodes(1), "video of the other")
            assert seen["audio"][0]["bytes"] > 0
            assert seen["received"] == "connected"


async def test_chromium_without_any_ice_flag_is_connected_too(chromium_plain: Browser) -> None:
    async with stage() as scene, scene.site() as url:
        pages = []
        for member in ("a", "b"):
            page = await chromium_plain.new_page()
            await page.goto(f"{url}?member={member}&publish=1&receive=1")
            pages.append(page)
        for page in pages:
            await look_until(looker(page), decodes(1), "video of the other")


async def test_two_chromium_pages_and_a_firefox_decode_the_two_others(chromium: Browser, firefox: Firefox) -> None:
    async with stage() as scene, scene.site() as url:
        looks = []
        for member in ("a", "b"):
            page = await chromium.new_page()
            await page.goto(f"{url}?member={member}&publish=1&receive=1")
            looks.append(looker(page))
        fox = await firefox.open(f"{url}?member=c&publish=1&receive=1")
        looks.append(lambda: fox.evaluate("() => window.look()"))
        for look in looks:
            await look_until(look, decodes(2), "video of the two others")


async def test_a_member_who_leaves_and_comes_back_is_seen_again(chromium: Browser) -> None:
    async with stage() as scene, scene.site() as url:
        watcher = await chromium.new_page()
        await watcher.goto(f"{url}?member=w&receive=1")
        page = await chromium.new_page()
        await page.goto(f"{url}?member=a&publish=1")
        await look_until(looker(watcher), decodes(1), "first time")
        await page.reload()
        before = await watcher.evaluate("window.look()")
        frames = sum(row["frames"] for row in before["video"])
        await look_until(
            looker(watcher),
            lambda s: len(s["tracks"]) == 2 and sum(r["frames"] for r in s["video"]) > frames + 40 and not s["errors"],
            "after the reload",
        )


async def test_a_view_follows_the_chair_at_a_key_frame_without_freezing(chromium: Browser) -> None:
    async with stage() as scene, scene.site() as url:
        for member in ("a", "b"):
            page = await chromium.new_page()
            await page.goto(f"{url}?member={member}&publish=1")
        await scene.until(lambda e: getattr(e, "track", "") != "" and getattr(e, "member", "") == "b")
        await scene.worker.set_chair("room", "a")
        viewer = await chromium.new_page()
        await viewer.goto(f"{url}?member=v")
        await viewer.evaluate("view('')")
        first = await look_until(looker(viewer), decodes(1), "the chair's video")
        for chair in ("b", "a", "b"):
            before = (await viewer.evaluate("window.look()"))["video"][0]
            await scene.worker.set_chair("room", chair)
            after = await look_until(
                looker(viewer),
                lambda s, b=before: s["video"][0]["frames"] >= b["frames"] + 40 and s["video"][0]["keys"] > b["keys"],
                f"video of {chair}",
            )
            assert after["video"][0]["freezes"] == first["video"][0]["freezes"]
