"""Do people in real browsers see and hear each other in a room, and does it come back by itself?"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser import harness
from tests.browser.harness_firefox import Firefox
from tests.browser.room import READY, Api, Screen, api, chromium_screen, firefox_screen
from tests.services import ServerProcess

RECOVERY_S = 3.0
OTHER = "seen.others[0]"
# What Chromium does of itself; but the test's own looking at the page counts as a tap there.
NO_SOUND_BEFORE_A_TAP = """
let tapped = false;
addEventListener("pointerdown", () => { tapped = true; }, true);
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  return tapped || this.muted ? play.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
};
"""


class Meeting:
    """An incident with an open room; the duty officer of county 1 is its chair."""

    def __init__(self, server: ServerProcess, officer: Api, incident: str, room: str) -> None:
        self.server = server
        self.officer = officer
        self.incident = incident
        self.room = room

    async def enter(self, screen: Screen, name: str, *, button: str = "#join") -> Screen:
        await screen.enter(self.server, name, self.room, button=button)
        return screen

    async def timeline(self) -> list[str]:
        items = await self.officer.ok("GET", f"/incidents/{self.incident}/timeline")
        rows = items["items"] if isinstance(items, dict) else items
        return [row["kind"] for row in rows]

    async def act(self, member: str, act: str, kind: str = "audio") -> None:
        path = f"/rooms/{self.room}/members/{member}/act"
        await self.officer.ok("POST", path, {"act": act, "kind": kind})


@asynccontextmanager
async def held(server: ServerProcess) -> AsyncIterator[Meeting]:
    async with api(server, "duty-county1") as officer:
        incident = await officer.incident()
        yield Meeting(server, officer, incident, await officer.room(incident))


@pytest_asyncio.fixture(loop_scope="module")
async def meeting(server: ServerProcess) -> AsyncIterator[Meeting]:
    async with held(server) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def own_meeting(own_server: ServerProcess) -> AsyncIterator[Meeting]:
    """On a node of its own, on the database of this run."""
    async with held(own_server) as made:
        yield made


def worker_of(server: ServerProcess) -> int:
    """The pid of the media worker: a child of the zygote, which is a child of the server."""
    assert server.process is not None
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if b"media.worker" in (entry / "cmdline").read_bytes():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid for pid, parent in parents.items() if parents.get(parent) == server.process.pid]
    assert found, "there is no media worker"
    return found[0]


async def both(browser: Browser, meeting: Meeting) -> tuple[Screen, Screen]:
    """The chair and a leader, each decoding the other."""
    chair = await meeting.enter(await chromium_screen(browser), "duty-county1")
    leader = await meeting.enter(await chromium_screen(browser), "leader-county1")
    for screen in (chair, leader):
        await screen.decodes(1)
    return chair, leader


def clean(*screens: Screen) -> None:
    for screen in screens:
        assert screen.watch is not None
        screen.watch.assert_clean()
        assert screen.watch.navigations == 1


@pytest.mark.slow  # the journey has it too, and once more without any ICE flag
async def test_two_chromium_windows_and_a_firefox_each_decode_the_two_others(
    own_meeting: Meeting, chromium: Browser, firefox: Firefox
) -> None:
    fox = await own_meeting.enter(await firefox_screen(firefox), "viewer")
    chair = await own_meeting.enter(await chromium_screen(chromium), "duty-county1")
    leader = await own_meeting.enter(await chromium_screen(chromium), "leader-county1")
    for screen in (chair, leader, fox):
        seen = await screen.decodes(2)
        frames = sum(row["frames"] for row in seen["video"])
        await screen.sees(f"seen.video.reduce((sum, row) => sum + row.frames, 0) > {frames} + 20")
    clean(chair, leader)
    seen = await fox.page.seen()  # type: ignore[union-attr]
    assert not seen["errors"]
    assert not [line for line in seen["console"] if "Content-Security-Policy" in line]


@pytest.mark.slow  # the journey has it too, with a third browser
async def test_two_windows_of_a_chromium_without_any_ice_flag_decode_each_other(
    meeting: Meeting, chromium_plain: Browser
) -> None:
    clean(*await both(chromium_plain, meeting))


async def test_mute_by_the_chair_reaches_the_member_and_stops_its_voice(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    await chair.click(".member-list [data-act=mute]")
    await leader.sees("seen.own.muted")
    await leader.until("() => document.querySelector('.stage-notices').textContent.includes('静音')")
    await chair.sees(f"{OTHER}.muted")
    await chair.until("() => document.querySelector('.tile wa-icon.bad[name=mic-mute-fill]') !== null")
    muted = (await chair.look())["audio"][0]["packets"]
    await leader.sees("seen.video[0].frames > 0")
    await chair.click(".member-list [data-act=unmute]")
    await leader.sees("!seen.own.muted")
    await chair.sees(f"seen.audio[0].packets > {muted} + 10")
    clean(chair, leader)


async def test_a_picture_stopped_by_the_chair_is_not_shown_until_it_is_allowed_again(
    meeting: Meeting, chromium: Browser
) -> None:
    chair, leader = await both(chromium, meeting)
    await chair.click(".member-list [data-act=hide]")
    await chair.sees("seen.pictures.length === 0")
    await leader.until("() => document.querySelector('.stage-notices').textContent.includes('画面')")
    await chair.click(".member-list [data-act=show]")
    await chair.sees("seen.pictures.length === 1 && seen.pictures[0] > 5")


async def test_who_is_removed_is_told_and_is_gone_for_the_others(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    await chair.click(".member-list [data-act=remove]")
    await chair.click("dialog button.danger")
    await leader.until("() => document.querySelector('[data-ended=removed]')?.textContent.includes('请出')")
    await chair.sees("seen.others.length === 0")
    kinds = await meeting.timeline()
    assert kinds.count("room.left") == 1
    assert "room.chair_acted" in kinds
    clean(chair, leader)


async def test_opening_joining_and_leaving_stand_on_the_incidents_timeline(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    await leader.click("#leave")
    await leader.until("() => document.querySelector('[data-ended=left]') !== null")
    await chair.sees("seen.others.length === 0")
    kinds = await meeting.timeline()
    assert (kinds.count("room.opened"), kinds.count("room.joined"), kinds.count("room.left")) == (1, 2, 1)
    await leader.click("#again")
    await leader.until(READY)
    await leader.click("#join")
    await leader.decodes(1)


async def test_a_screen_without_a_camera_says_so_and_sees_as_a_viewer(meeting: Meeting, chromium: Browser) -> None:
    chair = await meeting.enter(await chromium_screen(chromium), "duty-county1")
    async with harness.chromium(extra=("--use-fake-device-for-media-stream=device-count=0",)) as bare:
        viewer = await chromium_screen(bare)
        await viewer.sign_in(meeting.server, "viewer", f"#/room/{meeting.room}")
        await viewer.until("() => document.querySelector('[data-problem=\"video.absent\"]') !== null")
        await viewer.until(READY)
        await viewer.page.select_option("select[name=audio]", "none")  # type: ignore[union-attr]
        await viewer.until("() => document.querySelector('#join')?.textContent.includes('仅观看')")
        await viewer.until(READY)
        await viewer.click("#join")
        await viewer.decodes(1)
        await chair.sees(f"{OTHER}.role === 'viewer' && !{OTHER}.audio && !{OTHER}.video")
        clean(viewer)


async def test_a_denied_camera_is_explained_and_one_may_still_watch(meeting: Meeting) -> None:
    async with harness.chromium(extra=("--use-fake-ui-for-media-stream=deny",)) as browser:
        screen = await chromium_screen(browser, devices=False)
        await screen.sign_in(meeting.server, "leader-county1", f"#/room/{meeting.room}")
        text = await screen.until("() => document.querySelector('[data-problem=\"video.denied\"]')?.textContent")
        assert "未授权" in text
        await screen.until(READY)
        await screen.click("#join")
        await screen.sees("seen.phase === 'in' && seen.own.role === 'viewer'")
        clean(screen)


@pytest.mark.parametrize(
    ("script", "problem", "words"),
    [
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotReadableError'); };",
            "busy",
            "占用",
        ),
        ("Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined});", "insecure", "https"),
    ],
)
async def test_a_busy_device_and_an_insecure_page_are_explained(
    meeting: Meeting, chromium: Browser, script: str, problem: str, words: str
) -> None:
    screen = await chromium_screen(chromium)
    await screen.page.add_init_script(script)  # type: ignore[union-attr]
    await screen.sign_in(meeting.server, "leader-county1", f"#/room/{meeting.room}")
    source = f"() => document.querySelector('[data-problem=\"video.{problem}\"]')?.textContent"
    assert words in await screen.until(source)


async def test_everybody_decodes_again_soon_after_the_media_worker_was_killed(
    own_meeting: Meeting, chromium: Browser
) -> None:
    screens = await both(chromium, own_meeting)
    members = [(await screen.look())["me"] for screen in screens]
    os.kill(worker_of(own_meeting.server), signal.SIGKILL)
    killed = time.monotonic()
    gone = "seen.video.length === 0 || seen.states[1] !== 'connected' || seen.video[0].frames < 20"
    await asyncio.gather(*(screen.sees(gone) for screen in screens))
    await asyncio.gather(*(screen.decodes(1, frames=5) for screen in screens))
    took = time.monotonic() - killed
    assert [(await screen.look())["me"] for screen in screens] == members  # the same seats
    assert took < RECOVERY_S, took
    clean(*screens)


async def test_screens_come_back_by_themselves_after_the_server_was_killed(
    own_meeting: Meeting, chromium: Browser
) -> None:
    screens = await both(chromium, own_meeting)
    own_meeting.server.kill()
    for screen in screens:
        await screen.sees("seen.phase === 'waiting'")
    own_meeting.server.start()
    for screen in screens:
        await screen.decodes(1)
        assert screen.watch is not None and screen.watch.navigations == 1


async def test_a_closed_room_is_left_by_all_and_entered_by_none(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    await chair.click("#close-room")
    await chair.click("dialog button.danger")
    for screen in (chair, leader):
        await screen.until("() => document.querySelector('[data-ended=closed]') !== null")
    late = await chromium_screen(chromium)
    await late.sign_in(meeting.server, "duty-west", f"#/room/{meeting.room}")
    await late.until("() => document.querySelector('[data-ended=\"room.closed\"]') !== null")


async def test_after_a_reload_one_is_back_and_taps_to_hear(meeting: Meeting, chromium: Browser) -> None:
    await meeting.enter(await chromium_screen(chromium), "duty-county1")
    screen = await chromium_screen(chromium)
    assert isinstance(screen.page, Page)
    await screen.page.add_init_script(NO_SOUND_BEFORE_A_TAP)
    await meeting.enter(screen, "leader-county1", button="#join-viewer")
    await screen.decodes(1)
    await screen.page.reload()
    await screen.sees("seen.blocked")
    await screen.decodes(1)
    assert "点按收听" in await screen.evaluate("() => document.querySelector('#hear').textContent")
    await screen.click("#hear")
    await screen.sees("!seen.blocked")
    await screen.until("() => [...document.querySelectorAll('audio')].every((player) => !player.paused)")


async def test_the_call_goes_on_while_its_person_looks_at_the_picture(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    await leader.evaluate("() => { location.hash = '#/'; }")
    await leader.until("() => document.querySelector('.room-dock section') !== null")
    before: Any = (await chair.look())["audio"][0]["packets"]
    await chair.sees(f"seen.others.length === 1 && seen.audio[0].packets > {before} + 20")
    await leader.click(".room-dock a")
    await leader.decodes(1)
    clean(chair, leader)


async def test_microphone_and_camera_go_off_and_on_by_keyboard_and_by_button(
    meeting: Meeting, chromium: Browser
) -> None:
    chair, leader = await both(chromium, meeting)
    await leader.page.keyboard.press("m")  # type: ignore[union-attr]
    await chair.sees(f"!{OTHER}.audio")
    await leader.click("#camera")
    await chair.sees(f"!{OTHER}.video && seen.pictures.length === 0")
    await leader.page.keyboard.press("v")  # type: ignore[union-attr]
    await leader.click("#mic")
    seen = await chair.sees(f"{OTHER}.video && {OTHER}.audio && seen.pictures.length === 1")
    await chair.sees(f"seen.video[0].frames > {seen['video'][0]['frames']} + 10 && seen.pictures[0] > 5")


async def test_a_viewer_takes_the_floor_with_the_camera_button(meeting: Meeting, chromium: Browser) -> None:
    chair = await meeting.enter(await chromium_screen(chromium), "duty-county1")
    leader = await meeting.enter(await chromium_screen(chromium), "leader-county1", button="#join-viewer")
    await leader.decodes(1)
    await chair.sees(f"{OTHER}.role === 'viewer'")
    await leader.click("#camera")
    await leader.click("#mic")
    await chair.sees(f"{OTHER}.role === 'speaker'")
    await chair.decodes(1)


async def test_the_meter_follows_the_microphone_and_choices_are_remembered(meeting: Meeting, chromium: Browser) -> None:
    screen = await chromium_screen(chromium)
    assert isinstance(screen.page, Page)
    await screen.sign_in(meeting.server, "leader-county1", f"#/room/{meeting.room}")
    await screen.until("() => Number(document.querySelector('.meter')?.getAttribute('aria-valuenow')) > 20")
    await screen.until("() => document.querySelector('.preview video')?.videoWidth > 0")
    assert await screen.evaluate("() => document.querySelectorAll('select[name=audio] option').length") > 2
    await screen.page.select_option("select[name=video]", "none")
    await screen.until("() => document.querySelector('#join').textContent.includes('仅用麦克风')")
    await screen.page.reload()
    await screen.until("() => document.querySelector('#join')?.textContent.includes('仅用麦克风')")
    await screen.click("#join")
    await screen.sees("seen.own?.audio && !seen.own.video")
    assert screen.watch is not None
    screen.watch.assert_clean()


async def test_a_way_in_doubt_is_mended_on_the_same_connections(meeting: Meeting, chromium: Browser) -> None:
    chair, leader = await both(chromium, meeting)
    ways = """async (call) => Promise.all([call.publishing, call.receiving].map(async ({connection}) => {
      const rows = [...(await connection.getStats()).values()];
      const pair = rows.find((row) => row.id === rows.find((row) => row.type === "transport").selectedCandidatePairId);
      return rows.find((row) => row.id === pair.remoteCandidateId).usernameFragment;
    }))"""
    before = await leader.evaluate(
        f"""async () => {{
          const call = document.querySelector("fh-room-page").call;
          window.kept = [call.publishing, call.receiving];
          const ufrags = await ({ways})(call);
          for (const link of window.kept) link.limping(); // as when the browser says "disconnected"
          return ufrags;
        }}"""
    )
    await leader.until(
        f"""async (before) => {{
          const call = document.querySelector("fh-room-page").call;
          const ufrags = await ({ways})(call);
          const same = call.publishing === window.kept[0] && call.receiving === window.kept[1];
          return same && ufrags.every((ufrag, at) => ufrag && ufrag !== before[at]);
        }}""",
        before,
    )
    for screen in (chair, leader):
        frames = (await screen.look())["video"][0]["frames"]
        await screen.sees(f"seen.video.length === 1 && seen.video[0].frames > {frames} + 20")
    clean(chair, leader)
