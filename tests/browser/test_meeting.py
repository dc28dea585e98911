"""Meeting control as a chair and members meet it: in real browsers, against a real server."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.desk import sign_in
from tests.browser.harness import Kept
from tests.browser.room import READY, Api, Screen, api, chromium_screen
from tests.services import ServerProcess

SHOTS = os.environ.get("FENGHUO_SCREENSHOTS", "")
"""A directory for pictures of what these tests see; for the documentation."""
OTHER = "seen.others[0]"
WAY_MS = 20_000
"""Quality is told every 5 s (`QUALITY_INTERVAL_S`), the round trip after the first reports."""
FREE = {
    "microphones": "free",
    "layout": "free",
    "locked": False,
    "waiting_room": False,
    "broadcast": None,
    "spotlight": [],
}


class Hall:
    """A room, the duty officer in its chair and a leader, each seeing the other."""

    def __init__(self, server: ServerProcess, officer: Api, room: str, chair: Screen, member: Screen) -> None:
        self.server, self.officer, self.room = server, officer, room
        self.chair, self.member = chair, member

    async def reset(self) -> None:
        """As if nothing had been set."""
        path = f"/rooms/{self.room}"
        await self.officer.ok("PATCH", f"{path}/control", FREE)
        await self.officer.ok("POST", f"{path}/mute-all", {"on": False})
        await self.officer.ok("POST", f"{path}/floor/clear", {"speakers": True})
        await self.officer.ok("POST", f"{path}/poll/stop", {})
        await self.officer.ok("POST", f"{path}/mute-all", {"on": False})

    @property
    def chair_page(self) -> Page:
        assert isinstance(self.chair.page, Page)
        return self.chair.page

    @property
    def member_page(self) -> Page:
        assert isinstance(self.member.page, Page)
        return self.member.page

    async def leaf(self, page: Page, name: str) -> None:
        await page.locator(f"#leaf-{name}").click()

    async def shot(self, page: Page, name: str) -> None:
        if SHOTS:
            await page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))

    def clean(self) -> None:
        for screen in (self.chair, self.member):
            assert screen.watch is not None
            screen.watch.assert_clean()


@asynccontextmanager
async def hall(server: ServerProcess, browser: Kept) -> AsyncIterator[Hall]:
    async with api(server, "duty-county1") as officer:
        room = await officer.room(await officer.incident())
        chair = await chromium_screen(browser)
        member = await chromium_screen(browser)
        await chair.enter(server, "duty-county1", room)
        await member.enter(server, "viewer", room)
        for screen in (chair, member):
            await screen.decodes(1)
        yield Hall(server, officer, room, chair, member)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(server: ServerProcess, kept: Kept) -> AsyncIterator[Hall]:
    before = kept.out
    try:
        async with hall(server, kept) as made:
            yield made
    finally:  # also when somebody didn't get in: the next try must not have those windows beside it
        await kept.hand_back(before)


@pytest_asyncio.fixture(loop_scope="module")
async def meeting(shared: Hall) -> Hall:
    """The same room for all tests that leave it open."""
    await shared.reset()
    return shared


async def test_only_the_chair_opens_microphones_and_hands_are_called_in_their_order(meeting: Hall) -> None:
    chair, member = meeting.chair_page, meeting.member_page
    await meeting.leaf(chair, "control")
    await chair.locator("#chair-mics").check()
    await expect(member.locator("#chair-opens")).to_be_visible()
    await meeting.member.sees("seen.own.muted && !seen.own.audio")
    before = (await meeting.chair.look())["audio"][0]["packets"]
    await member.locator("#mic").click()  # refused: a word, and nothing opens
    await expect(member.locator(".toast")).to_contain_text("举手")
    await meeting.member.sees("!seen.own.audio")
    await member.keyboard.press("h")
    await meeting.leaf(chair, "hands")
    await expect(chair.locator("#queue li")).to_have_count(1)
    await meeting.shot(chair, "meeting-hands")
    await chair.locator("#queue [data-act=call]").click()
    await expect(member.locator("#has-floor")).to_be_visible()
    await meeting.member.sees("seen.own.audio && !seen.own.muted")
    await meeting.chair.sees(f"seen.audio[0].packets > {before} + 20")
    await member.locator("#hand").click()  # has finished
    await meeting.chair.sees(f"{OTHER}.muted && !{OTHER}.audio")
    await expect(chair.locator("#floor li")).to_have_count(0)
    meeting.clean()


async def test_a_roll_call_is_answered_and_its_record_stays(meeting: Hall) -> None:
    chair, member = meeting.chair_page, meeting.member_page
    await meeting.leaf(chair, "roll")
    await chair.locator("#start-roll").click()
    await expect(chair.locator("[data-reply=waiting]")).to_have_count(1)
    await expect(member.locator("#roll-asked")).to_be_visible()
    await meeting.shot(member, "meeting-roll-asked")
    await member.locator("#roll-here").click()
    await expect(chair.locator("[data-reply=answered]")).to_have_count(1)
    await expect(member.locator("#roll-asked")).to_have_count(0)
    await expect(chair.locator(".roll h3")).to_contain_text("到会 1 / 应到 1")
    await meeting.shot(chair, "meeting-roll")
    meeting.clean()


async def test_everybody_sees_the_broadcast_site_and_the_layout_of_the_chair(meeting: Hall) -> None:
    chair, member = meeting.chair_page, meeting.member_page
    await meeting.leaf(chair, "control")
    await chair.locator("#layout-all").select_option("one_plus_n")
    for page in (chair, member):
        await expect(page.locator(".stage[data-layout=one_plus_n]")).to_have_count(1)
        await expect(page.locator("#layout")).to_have_count(0)
    await meeting.shot(chair, "meeting-control")
    await chair.locator("#layout-all").select_option("grid")
    await meeting.leaf(chair, "people")
    await chair.locator("[data-act=broadcast]").click()
    for page in (chair, member):
        await expect(page.locator("#shown-now")).to_contain_text("正在广播会场")
        await expect(page.locator(".stage[data-layout=speaker]")).to_have_count(1)
    shown = (await meeting.member.look())["me"]
    await expect(chair.locator(f".chief .tile[data-member='{shown}']")).to_be_visible()
    await meeting.leaf(chair, "control")
    await chair.locator("#end-broadcast").click()
    await expect(member.locator("#shown-now")).to_have_count(0)
    await chair.locator("#start-poll").click()
    await expect(member.locator("#shown-now")).to_contain_text("正在轮询")
    await chair.locator("#stop-poll").click()
    await expect(member.locator("#shown-now")).to_have_count(0)
    meeting.clean()


async def test_a_shared_screen_is_seen_large_beside_its_persons_camera_and_the_chair_ends_it(meeting: Hall) -> None:
    chair, member = meeting.chair_page, meeting.member_page
    await member.locator("#share").click()
    await expect(chair.locator(".tile.screen")).to_be_visible()
    source = "() => (document.querySelector('.tile.screen video')?.videoWidth ?? 0) > 0"
    await meeting.chair.until(source)
    await meeting.chair.sees("seen.video.filter((v) => v.frames > 2).length >= 2")
    await meeting.shot(chair, "meeting-screen")
    await meeting.leaf(chair, "people")
    await chair.locator("[data-act=stop_screen]").click()
    await expect(chair.locator(".tile.screen")).to_have_count(0)
    await expect(member.locator("#share")).to_have_attribute("aria-pressed", "false")
    await meeting.chair.decodes(1)
    meeting.clean()


async def test_the_list_of_members_says_how_each_is_reached(meeting: Hall) -> None:
    await meeting.leaf(meeting.chair_page, "people")
    ours = meeting.chair_page.locator(f".member-list li[data-member='{(await meeting.chair.look())['me']}'] [data-way]")
    theirs = meeting.chair_page.locator(
        f".member-list li[data-member='{(await meeting.member.look())['me']}'] [data-way]"
    )
    await expect(ours).to_have_count(2, timeout=WAY_MS)  # what we send, and what comes
    await expect(ours.nth(0)).to_have_text(re.compile(r"^上行 \d+ kbit/s · 丢包 \d+\.\d%$"), timeout=WAY_MS)
    down = r"^下行 \d+ kbit/s · 丢包 \d+\.\d% · 往返 \d+ ms · 卡顿 \d+ 次$"
    await expect(ours.nth(1)).to_have_text(re.compile(down), timeout=WAY_MS)
    await expect(theirs).to_have_text(re.compile(r"^\d+p · .*\d+ kbit/s"), timeout=WAY_MS)
    await meeting.shot(meeting.chair_page, "meeting-ways")
    meeting.clean()


async def test_who_comes_while_there_is_a_waiting_room_waits_until_the_chair_admits_them(
    meeting: Hall, chromium: Kept
) -> None:
    chair = meeting.chair_page
    await meeting.leaf(chair, "control")
    await chair.locator("#waiting-room").check()
    late = await chromium_screen(chromium)
    await late.sign_in(meeting.server, "leader-county1", f"#/room/{meeting.room}")
    await late.until(READY)
    await late.click("fh-room-prejoin #join")
    await late.until("() => document.querySelector('#at-door') !== null")
    await expect(chair.locator("#door li")).to_have_count(1)
    await meeting.shot(chair, "meeting-door")
    await chair.locator("#door [data-act=admit]").click()
    await late.decodes(2)
    await expect(chair.locator("#door li")).to_have_count(0)
    await late.click("#leave")
    await meeting.chair.sees("seen.others.length === 1")
    meeting.clean()


async def test_chat_minutes_and_attendance_are_there_for_everybody_and_after_the_meeting(
    server: ServerProcess, chromium: Kept
) -> None:
    async with hall(server, chromium) as meeting:
        await _chat_and_minutes(meeting)


async def _chat_and_minutes(meeting: Hall) -> None:
    chair, member = meeting.chair_page, meeting.member_page
    await meeting.leaf(member, "chat")
    await member.locator(".chat-form input").fill("现场道路已通")
    await member.keyboard.press("Enter")
    await expect(chair.locator("#leaf-chat .count")).to_have_text("1")
    await meeting.leaf(chair, "chat")
    await expect(chair.locator(".chat li")).to_contain_text("现场道路已通")
    await meeting.leaf(chair, "record")
    await chair.locator("#minutes").fill("议定：增援一队")
    await chair.locator("#save-minutes").click()
    await meeting.leaf(member, "record")
    await expect(member.locator(".record .prose")).to_contain_text("议定：增援一队")
    await expect(member.locator("#attendance li")).to_have_count(2)
    await chair.locator("#close-room").click()
    await chair.locator("dialog button.danger").click()
    await expect(member.locator("[data-ended=closed]")).to_be_visible()
    await expect(member.locator(".record .prose")).to_contain_text("议定：增援一队")
    meeting.clean()


async def test_a_meeting_is_scheduled_its_people_are_told_and_it_begins(server: ServerProcess, chromium: Kept) -> None:
    page, watch = await sign_in(chromium, server, "duty-county1")
    title = f"防汛例会{uuid4().hex[:5]}"
    await page.goto(f"{server.base_url}/#/meetings")
    await page.locator("#schedule").click()
    form = page.locator("dialog[data-name=schedule]")
    await form.locator("[name=title]").fill(title)
    await form.locator("[name=agenda]").fill("一、雨情；二、物资")
    await form.locator("[name=on_duty]").first.check()
    await form.locator("[name=groups]").first.check()
    if SHOTS:
        await page.screenshot(path=str(Path(SHOTS) / "meeting-schedule.png"))
    await form.locator("button[type=submit]").click()
    item = page.locator("#upcoming li", has_text=title)
    await expect(item).to_contain_text("已预约")
    if SHOTS:
        await page.screenshot(path=str(Path(SHOTS) / "meetings.png"))
    key = await item.get_attribute("data-meeting")
    found = await page.evaluate(f"fetch('/api/v1/meetings/{key}/calendar').then((answer) => answer.text())")
    assert re.search(r"BEGIN:VCALENDAR\r\n", found) and title in found.replace("\r\n ", "")
    async with api(server, "duty-county1") as officer:
        notices = (await officer.ok("GET", "/notices?limit=100"))["items"]
    assert [row for row in notices if title in row["text_zh"] and f"#/room/{key}" in row["text_zh"]]
    await item.locator("a", has_text="打开").click()
    await expect(page.locator("#planned")).to_contain_text("一、雨情")
    await page.locator("#begin-meeting").click()
    await expect(page.locator("fh-room-prejoin")).to_be_visible()
    watch.assert_clean()


async def test_a_field_member_joins_the_room_inside_the_field_page(server: ServerProcess, chromium: Kept) -> None:
    async with api(server, "duty-county1") as officer, api(server, "fire-county1") as member:
        unit = (await member.ok("GET", "/session"))["unit"]["id"]
        incident = await officer.incident()
        room = await officer.room(incident)
        order = {"incident": incident, "assignee": {"kind": "unit", "id": unit}, "task": "赶赴现场", "ladder": []}
        await officer.ok("POST", "/orders", order)  # after the room was opened: it lets them in all the same
    screen = await chromium_screen(chromium, width=375, height=667)
    await screen.sign_in(server, "fire-county1", f"field#/room/{room}", shown="fh-field-app main")
    assert isinstance(screen.page, Page)
    await screen.until(READY)
    await screen.click("fh-room-prejoin #join")
    await screen.sees("seen.phase === 'in'")
    if SHOTS:
        await screen.page.screenshot(path=str(Path(SHOTS) / "meeting-field.png"))
    await screen.click("#back")
    await expect(screen.page.locator("fh-field-page")).to_be_visible()
    await expect(screen.page.locator(".room-dock section")).to_be_visible()  # the call goes on
    await screen.click(".room-dock a")
    await screen.sees("seen.phase === 'in'")
    await screen.click("#leave")
    await expect(screen.page.locator("[data-ended=left]")).to_be_visible()


async def test_on_a_phone_every_control_is_within_reach(server: ServerProcess, chromium: Kept) -> None:
    async with api(server, "duty-county1") as officer:
        room = await officer.room(await officer.incident())
    screen = await chromium_screen(chromium, width=375, height=667)
    await screen.enter(server, "duty-county1", room)
    assert isinstance(screen.page, Page)
    await screen.click("#people")
    for leaf in ("control", "hands", "roll", "chat", "record", "people"):
        await screen.click(f"#leaf-{leaf}")
        wide = "() => document.documentElement.scrollWidth <= innerWidth"
        assert await screen.evaluate(wide), leaf
        if SHOTS and leaf == "control":
            await screen.page.screenshot(path=str(Path(SHOTS) / "meeting-phone.png"))
    small = """() => [...document.querySelectorAll('.stage-bar button')].filter((button) => button.offsetParent)
      .filter((button) => button.getBoundingClientRect().width < 40 || button.getBoundingClientRect().right > innerWidth)
      .map((button) => button.id)"""
    assert await screen.evaluate(small) == []
