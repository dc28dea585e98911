"""Ways to the worker in real browsers: TCP where UDP is blocked, another address in mid-call, an ICE restart."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page

from media import control
from media.port import ANY
from tests.browser.harness_firefox import Firefox
from tests.media.relay import Relay
from tests.media.stage import ROOM, Stage, stage
from tests.media.test_browsers import decodes, look_until, looker

PAIR = """async (peer) => {
  const rows = [...(await peer().getStats()).values()];
  const transport = rows.find((row) => row.type === "transport");
  const pair = rows.find((row) => row.id === transport.selectedCandidatePairId);
  const [local, remote] = [pair.localCandidateId, pair.remoteCandidateId].map((id) => rows.find((row) => row.id === id));
  return {protocol: remote.protocol, type: local.tcpType || "", ufrag: remote.usernameFragment || ""};
}"""


class BlockedUdp(Stage):
    """What browsers are told names TCP only, as if a firewall let no UDP through."""

    def _told(self, sdp: str) -> str:
        return re.sub(r"a=candidate:\S+ 1 udp [^\r]*\r\n", "", super()._told(sdp))


@asynccontextmanager
async def blocked() -> AsyncIterator[BlockedUdp]:
    made = BlockedUdp()
    await made.open(addresses=["127.0.0.1"])
    try:
        yield made
    finally:
        await made.worker.stop()


async def pair(page: Page, which: str) -> dict[str, str]:
    found: dict[str, str] = await page.evaluate(f"() => ({PAIR})(() => {which})")
    return found


async def test_two_chromium_pages_decode_each_other_where_only_tcp_gets_through(chromium: Browser) -> None:
    async with blocked() as scene, scene.site() as url:
        pages = []
        for member in ("a", "b"):
            page = await chromium.new_page()
            await page.goto(f"{url}?member={member}&publish=1&receive=1")
            pages.append(page)
        for page in pages:
            seen = await look_until(looker(page), decodes(1), "video of the other over TCP")
            assert seen["audio"][0]["bytes"] > 0
            for which in ("publishing", "receiving"):
                found = await pair(page, which)
                assert (found["protocol"], found["type"]) == ("tcp", "active")
        stats = await scene.worker.stats()
        assert stats["streams"] >= 4
        assert not stats["dropped"].get("slow stream")


async def test_an_ice_restart_of_either_connection_keeps_it_and_its_tracks(chromium: Browser) -> None:
    async with stage(addresses=["127.0.0.1"]) as scene, scene.site() as url:
        publisher, watcher = await chromium.new_page(), await chromium.new_page()
        await publisher.goto(f"{url}?member=a&publish=1")
        await watcher.goto(f"{url}?member=b&receive=1")
        before = await look_until(looker(watcher), decodes(1), "video before the restart")
        first = [await pair(publisher, "publishing"), await pair(watcher, "receiving")]
        await publisher.evaluate(
            """async () => {
              publishing.restartIce();
              await publishing.setLocalDescription();
              say({t: "publish", sdp: publishing.localDescription.sdp});
            }"""
        )
        [peer] = [e.peer for e in scene.events if isinstance(e, control.PeerConnected) and e.member == "b"]
        await scene.worker.restart(ROOM, peer, member="b")
        for page, which, former in ((publisher, "publishing", first[0]), (watcher, "receiving", first[1])):

            async def look(page: Page = page, which: str = which) -> dict[str, str]:
                return await pair(page, which)

            await look_until(look, lambda s, f=former: s["ufrag"] != f["ufrag"], f"{which}: new credentials")
        frames = (await watcher.evaluate("window.look()"))["video"][0]["frames"]
        after = await look_until(
            looker(watcher),
            lambda s: s["video"][0]["frames"] > frames + 40 and not s["errors"],
            "video after the restart",
        )
        assert len(after["video"]) == len(before["video"]) == 1
        assert not any(isinstance(e, control.PeerClosed | control.TrackRemoved) for e in scene.events)


@pytest.mark.slow  # beside Chromium's in test_loss
async def test_media_follows_a_firefox_whose_address_changes(chromium: Browser, firefox: Firefox) -> None:
    """Firefox nominates once: the new address is checked, but never nominated."""
    async with stage() as scene, scene.site() as url:
        relay = Relay(scene.worker.port, up_loss=0.0, down_loss=0.0)
        await relay.open(ANY)  # Firefox passes 127.0.0.1 over
        scene.relay_port = relay.port
        fox = await firefox.open(f"{url}?member=a&publish=1&receive=1")
        page = await chromium.new_page()
        await page.goto(f"{url}?member=b&publish=1&receive=1")

        async def seen_by_fox() -> dict[str, object]:
            found: dict[str, object] = await fox.evaluate("() => window.look()")
            return found

        before = [await look_until(look, decodes(1), "video before") for look in (seen_by_fox, looker(page))]
        relay.rebind()
        for look, seen in zip((seen_by_fox, looker(page)), before, strict=True):
            frames = seen["video"][0]["frames"]
            await look_until(look, lambda s, f=frames: s["video"][0]["frames"] > f + 45, "video after the change")
        assert not any(isinstance(e, control.PeerClosed) for e in scene.events)
        relay.close()
