"""What a lossy wire costs: the gaps are repaired, in both directions, and nobody's picture stops."""

import time

from playwright.async_api import Browser

from media import control
from tests.media.relay import Relay
from tests.media.stage import stage
from tests.media.test_browsers import decodes, look_until, looker

LOSS = 0.05
DELAY_S = 0.015
FRAMES = 160
"""So many are encoded while we watch: eight seconds of Chromium's camera, more on a machine that can't keep up with it."""
DECODED_MIN = 0.75
FROZEN_MAX = 0.125
"""Of the time. Chromium counts a gap of 150 ms as a freeze, which a busy machine alone can cause."""


async def test_media_follows_a_client_whose_address_changes(chromium: Browser) -> None:
    async with stage(addresses=["127.0.0.1"]) as scene, scene.site() as url:
        relay = Relay(scene.worker.port, up_loss=0.0, down_loss=0.0)
        await relay.open()
        scene.relay_port = relay.port
        publisher, watcher = await chromium.new_page(), await chromium.new_page()
        await publisher.goto(f"{url}?member=a&publish=1")
        await watcher.goto(f"{url}?member=b&receive=1")
        before = await look_until(looker(watcher), decodes(1), "video before the change")
        relay.rebind()
        frames = before["video"][0]["frames"]
        await look_until(looker(watcher), lambda s: s["video"][0]["frames"] > frames + 60, "video after the change")
        assert not any(isinstance(e, control.PeerClosed) for e in scene.events)
        relay.close()


async def test_five_percent_loss_up_and_down_is_repaired(chromium: Browser) -> None:
    async with stage(addresses=["127.0.0.1"]) as scene, scene.site() as url:
        relay = Relay(scene.worker.port, up_loss=LOSS, down_loss=LOSS, delay_s=DELAY_S)
        await relay.open()
        scene.relay_port = relay.port
        publisher, watcher = await chromium.new_page(), await chromium.new_page()
        await publisher.goto(f"{url}?member=a&publish=1")
        await watcher.goto(f"{url}?member=b&receive=1")
        before = await look_until(looker(watcher), decodes(1), "video over a lossy wire")
        began = time.monotonic()
        first = (await publisher.evaluate("window.look()"))["sent"]["frames"]
        last = await look_until(looker(publisher), lambda s: s["sent"]["frames"] >= first + FRAMES, "frames encoded")
        after = await watcher.evaluate("window.look()")
        encoded, elapsed = last["sent"]["frames"] - first, time.monotonic() - began
        decoded = after["video"][0]["frames"] - before["video"][0]["frames"]
        stats = await scene.worker.stats()
        relay.close()
        assert relay.dropped > 50
        assert decoded > encoded * DECODED_MIN, (decoded, encoded, elapsed, stats, after)
        assert stats["rtx_packets"] > 10
        assert stats["nacks_in"] >= stats["rtx_packets"] * 0.5
        assert stats["nacks_out"] > 10
        assert after["video"][0]["frozen"] - before["video"][0]["frozen"] < FROZEN_MAX * elapsed, (elapsed, after)
