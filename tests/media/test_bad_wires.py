"""Browsers over bad wires: no long freeze, a poor way costs nobody else anything, and voices stay whole.

Run by `make media-wires`. Everything but the watchers lives in the namespace `city`; each watcher's browser in one of its
own, behind a wire with a rate, a delay and a loss.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from media import control
from tests.browser import harness
from tests.media.stage import Stage, stage
from tests.media.test_browsers import decodes, look_until, looker
from tests.wires import Space, Wire

pytestmark = pytest.mark.slow
WATCH_S = 20.0
ANY = "0.0.0.0"  # noqa: S104  # inside a namespace of its own


class Scene:
    """A city with a worker and a publisher, and watchers behind wires."""

    def __init__(self, wires: list[Wire], folder: Path) -> None:
        self.wires = wires
        self.folder = folder
        self.stage: Stage
        self.url = ""

    def program(self, wire: Wire) -> str:
        """A Chromium that lives at the far end of `wire`."""
        path = self.folder / f"chromium-{wire.address_b}"
        inner = harness.program("chromium", "/usr/bin/chromium")
        path.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{os.getpid()}/fd/{wire.b.descriptor} {inner} "$@"\n')
        path.chmod(0o755)
        return str(path)

    @asynccontextmanager
    async def watching(self, wire: Wire, member: str, tile: int) -> AsyncIterator[Page]:
        """A watcher behind `wire` who shows everybody in tiles of this height."""
        async with harness.chromium(executable=self.program(wire)) as browser:
            page = await browser.new_page()
            await page.goto(f"{self.url.replace('127.0.0.1', wire.address_a)}?member={member}&receive=1")
            await look_until(looker(page), decodes(1, frames=3), f"a picture for {member}")
            await page.evaluate("(height) => window.tile(height)", tile)
            yield page

    def estimates(self, member: str, since: int) -> list[int]:
        return [
            event.estimate_bps
            for event in self.stage.events[since:]
            if isinstance(event, control.Quality) and event.member == member and event.estimate_bps is not None
        ]


@contextmanager
def wires(*qualities: dict[str, float]) -> Iterator[list[Wire]]:
    """One wire per quality, all from one city; within, this thread is in the city."""
    with ExitStack() as stack:
        city = stack.enter_context(Space())
        made = [
            stack.enter_context(Wire(city, stack.enter_context(Space()), number=number, seed=number, **quality))
            for number, quality in enumerate(qualities)
        ]
        stack.enter_context(city.inside())
        yield made


@asynccontextmanager
async def scene(made: list[Wire], folder: Path) -> AsyncIterator[Scene]:
    """The worker and a publisher with three layers in the city."""
    addresses = [*(wire.address_a for wire in made), "127.0.0.1"]
    async with stage(addresses=addresses) as inner, inner.site(ANY) as url:
        here = Scene(made, folder)
        here.stage, here.url = inner, url.replace(ANY, "127.0.0.1")
        async with harness.chromium() as browser:
            page = await browser.new_page()
            await page.goto(f"{here.url}?member=speaker&publish=1&layers=all")
            await inner.until(lambda e: isinstance(e, control.TrackAdded) and e.media == "video")
            yield here


async def watch(page: Page, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page saw before and after so many seconds; `gap` is the longest time without a new picture between."""
    await page.evaluate("window.fresh()")
    before = await page.evaluate("window.look()")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await asyncio.sleep(0.5)
    return before, await page.evaluate("window.look()")


def concealed(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The part of the audio samples that was made up."""
    first, last = before["audio"][0], after["audio"][0]
    return float((last["concealed"] - first["concealed"]) / max(1, last["samples"] - first["samples"]))


async def test_five_percent_loss_and_a_long_way_freeze_no_picture(tmp_path: Path) -> None:
    with wires({"rate_bps": 5e6, "delay_s": 0.15, "loss": 0.05, "queue_packets": 200}) as made:
        async with scene(made, tmp_path) as here, here.watching(made[0], "far", 360) as page:
            await watch(page, 5)
            before, after = await watch(page, WATCH_S)
    print({"gap_ms": after["gap"], "concealed": concealed(before, after), "video": after["video"]})
    assert after["gap"] < 2000, after
    assert concealed(before, after) <= 0.05


async def test_a_poor_way_gets_what_it_can_carry_and_costs_the_rich_one_nothing(tmp_path: Path) -> None:
    poor, rich = {"rate_bps": 500_000, "delay_s": 0.05}, {"rate_bps": 20e6, "delay_s": 0.01, "queue_packets": 500}
    with wires(poor, rich) as made:
        async with scene(made, tmp_path) as here, here.watching(made[1], "rich", 700) as wide:
            await look_until(looker(wide), lambda s: s["video"][0]["height"] >= 500, "the top layer")
            async with here.watching(made[0], "poor", 700) as narrow:
                await watch(narrow, 12)
                since = len(here.stage.events)
                alone = await wide.evaluate("window.look()")
                (_, low), (_, high) = await asyncio.gather(watch(narrow, WATCH_S), watch(wide, WATCH_S))
                estimates = here.estimates("poor", since)
    mean = sum(estimates) / len(estimates)
    print({"estimates": estimates, "low": low["video"], "gap_ms": (low["gap"], high["gap"]), "high": high["video"]})
    assert 0.75 * 500_000 <= mean <= 1.25 * 500_000, estimates
    assert high["video"][0]["height"] >= 500
    assert high["gap"] < 1000
    assert high["video"][0]["lost"] - alone["video"][0]["lost"] <= 5
    assert low["gap"] < 2000


async def test_at_twenty_percent_loss_voices_stay_whole(tmp_path: Path) -> None:
    with wires({"rate_bps": 5e6, "delay_s": 0.02, "loss": 0.2, "queue_packets": 200}) as made:
        async with scene(made, tmp_path) as here, here.watching(made[0], "lossy", 180) as page:
            await watch(page, 5)
            before, after = await watch(page, WATCH_S)
    print({"concealed": concealed(before, after), "gap_ms": after["gap"], "video": after["video"]})
    assert concealed(before, after) <= 0.10


async def test_a_late_joiner_of_a_static_slide_sees_it_sharp_within_a_second(chromium: Browser) -> None:
    async with stage(addresses=["127.0.0.1"]) as here, here.site() as url:
        sharing = await chromium.new_page()
        await sharing.goto(f"{url}?member=a&slide=1")
        await look_until(looker(sharing), lambda seen: seen.get("still"), "a slide that stands still")
        await asyncio.sleep(2)
        late = await chromium.new_page()
        await late.goto(f"{url}?member=late&receive=1")
        seen = await look_until(looker(late), lambda seen: seen.get("first"), "the slide")
        difference = await late.evaluate("window.differs()")
    print({"first_ms": seen["first"], "difference": difference, "video": seen["video"]})
    assert seen["first"] <= 1000
    assert difference < 4.0
