"""Chromium sends three layers: what each subscriber gets follows the size of its tile, without a freeze or a lost packet."""

from typing import Any

from playwright.async_api import Browser, Page

from media import control
from tests.media.stage import stage
from tests.media.test_browsers import decodes, look_until, looker


def height(least: int, most: int) -> Any:
    return lambda seen: bool(seen["video"]) and least <= seen["video"][0]["height"] <= most


async def shows(page: Page, tile: int, least: int, most: int) -> dict[str, Any]:
    await page.evaluate("(height) => window.tile(height)", tile)
    return await look_until(looker(page), height(least, most), f"a tile of {tile}")


async def test_each_subscribers_layer_follows_its_tile_and_what_nobody_wants_is_paused(chromium: Browser) -> None:
    async with stage(addresses=["127.0.0.1"]) as scene, scene.site() as url:
        publisher = await chromium.new_page()
        await publisher.goto(f"{url}?member=a&publish=1&layers=start")
        small, large = await chromium.new_page(), await chromium.new_page()
        for member, page in (("small", small), ("large", large)):
            await page.goto(f"{url}?member={member}&receive=1")
            await look_until(looker(page), decodes(1, frames=5), "a picture")
        await shows(small, 140, 90, 180)
        await shows(large, 700, 500, 720)  # paused at first: it is asked for because one tile is large
        assert height(90, 180)(await small.evaluate("window.look()"))
        await shows(small, 330, 270, 360)
        after = await shows(large, 140, 90, 180)
        wanted = await scene.until(lambda e: isinstance(e, control.Layers) and "f" in e.rids)
        begun = scene.events.index(wanted)
        await scene.until(
            lambda e: isinstance(e, control.Layers) and "f" not in e.rids and scene.events.index(e) > begun
        )
        for seen in (after, await small.evaluate("window.look()")):
            assert seen["video"][0]["lost"] <= 0
            assert seen["video"][0]["frozen"] < 2.0
            assert not seen["errors"]
