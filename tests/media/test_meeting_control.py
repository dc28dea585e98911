"""A meeting of a hundred and its chair, over real sockets: every screen shows the same after each of the chair's acts.

Light clients: a signalling socket each (no media) and the live feed of the room. What the worker forwards is in
tests/media/test_worker.py; here is who is told what.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.meeting import OpenRoom
from command.domain.registry import ACCOUNT
from command.edge.api import Node
from tests.node import NODE, service, world

pytestmark = pytest.mark.any_store

MEMBERS = 100
WAIT_S = 60.0


class Client:
    """One screen: its seat, and the rows of the room as the live feed told them."""

    def __init__(self, meeting: "Gathering", account: str, token: str) -> None:
        self.meeting, self.account, self.token = meeting, account, token
        self.rows: dict[tuple[str, str], Any] = {}
        self.frames: list[dict[str, Any]] = []
        self.moved = asyncio.Condition()
        self.ended: int | None = None
        self.signal: aiohttp.ClientWebSocketResponse

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def follow(self) -> None:
        self.live = await self._connect("/live")
        await self.live.send_json({"type": "subscribe", "topic": f"room/{self.meeting.room}"})
        self.meeting.tasks.append(asyncio.ensure_future(self._follow()))
        await self.sees(lambda c: c.control is not None)

    async def sit(self, **fields: Any) -> None:
        self.signal = await self._connect(f"/rooms/{self.meeting.room}/signal")
        self.meeting.tasks.append(asyncio.ensure_future(self._hear()))
        await self.signal.send_json({"type": "join", "publish": False, **fields})

    async def _connect(self, path: str) -> aiohttp.ClientWebSocketResponse:
        url = f"{self.meeting.base}/api/v1{path}"
        return await self.meeting.http.ws_connect(url, headers=self.headers, max_msg_size=0)

    async def _follow(self) -> None:
        async for message in self.live:
            frame = message.json()
            for name, rows in frame.get("tables", {}).items():
                self.rows |= {(name, row["id"]): row for row in rows}
            for change in frame.get("rows", ()):
                self.rows[change["table"], change["key"]] = change["row"]
            await self._tell()

    async def _hear(self) -> None:
        async for message in self.signal:
            self.frames.append(message.json())
            await self._tell()
        self.ended = self.signal.close_code
        await self._tell()

    async def _tell(self) -> None:
        async with self.moved:
            self.moved.notify_all()

    async def sees(self, test: Any) -> None:
        async with asyncio.timeout(WAIT_S), self.moved:
            await self.moved.wait_for(lambda: test(self))

    async def heard(self, type_: str) -> dict[str, Any]:
        await self.sees(lambda c: any(frame["type"] == type_ for frame in c.frames))
        return next(frame for frame in self.frames if frame["type"] == type_)

    @property
    def control(self) -> Any:
        return self.rows.get(("meeting", self.meeting.room))

    @property
    def room(self) -> Any:
        return self.rows.get(("room", self.meeting.room))

    def of(self, table: str) -> list[Any]:
        return [row for (name, _), row in self.rows.items() if name == table and row is not None]

    async def ask(self, method: str, path: str, /, status: int = 200, **body: Any) -> Any:
        self.meeting.asked += 1
        headers = self.headers | {"Idempotency-Key": f"ask-{self.meeting.asked}"}
        url = f"{self.meeting.base}/api/v1{path}"
        async with self.meeting.http.request(method, url, json=body, headers=headers) as answer:
            value = await answer.json()
            assert answer.status == status, (path, value)
            return value


class Gathering:
    """A room and its people; the first is the chair, by name and by right, the others may only join."""

    def __init__(self, n: Node, base: str, http: aiohttp.ClientSession) -> None:
        self.node, self.base, self.http = n, base, http
        self.asked = 0
        self.tasks: list[asyncio.Future[None]] = []
        self.room = ""
        self.clients: list[Client] = []

    async def open(self, members: int) -> None:
        w = await world(self.node)
        accounts = []
        for number in range(members + 1):
            request = CreateAccount(
                name=f"member-{number}",
                roles=[Role.VIEWER if number else Role.DUTY_OFFICER],
                organisation=w.county,
                password_hash="x",
                must_change_password=False,
            )
            accounts.append(asyncio.ensure_future(self.node.log.append(request, NODE)))
        ids = [receipt.id or "" for receipt in await asyncio.gather(*accounts)]
        for key in ids:
            row = await self.node.store.read(lambda c, key=key: self.node.store.shelf(ACCOUNT).get(c, key))  # type: ignore[misc]
            token, _ = await self.node.auth.open(row, token=False)
            self.clients.append(Client(self, key, token))
        place = {"lon": 155.0, "lat": 32.0}
        body = {"category": "accident", "level": "III", "title": "演示事件", "place": place}
        incident = (await self.chair.ask("POST", "/incidents", 201, **body))["id"]
        opening = OpenRoom(incident=incident, title="大会", chair=ids[0])
        self.room = (await self.node.log.append(opening, NODE)).id or ""

    @property
    def chair(self) -> Client:
        return self.clients[0]

    @property
    def members(self) -> list[Client]:
        return self.clients[1:]

    async def sit(self) -> None:
        await asyncio.gather(*(client.follow() for client in self.clients))
        await asyncio.gather(*(client.sit() for client in self.clients))
        await asyncio.gather(*(client.heard("joined") for client in self.clients))
        await self.agree(lambda c: len(c.room["members"]) == len(self.clients))

    async def agree(self, test: Any) -> None:
        """Every screen comes to show it; and then all show the very same."""
        await asyncio.gather(*(client.sees(test) for client in self.clients))
        shown = {repr(sorted(client.control.items())) for client in self.clients}
        assert len(shown) == 1, shown
        members = {repr(client.room["members"]) for client in self.clients}
        assert len(members) == 1


@asynccontextmanager
async def gathering(database_url: str, data: Path, members: int) -> AsyncIterator[Gathering]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(service(database_url, data, listen=True, log_level="error"))
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Gathering(running.node, f"http://127.0.0.1:{running.port}", http)
        try:
            await made.open(members)
            yield made
        finally:
            for task in made.tasks:
                task.cancel()


@pytest.mark.timeout(180)
async def test_a_hundred_screens_agree_after_each_act_of_the_chair(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, MEMBERS) as g:
        await g.sit()
        path = f"/rooms/{g.room}"
        # mute all
        await g.chair.ask("POST", f"{path}/mute-all")
        await g.agree(lambda c: sum(member["muted"] for member in c.room["members"]) == MEMBERS)
        assert set((await g.members[7].heard("stopped"))["audio"]) == {
            member["id"] for member in g.chair.room["members"] if member["account"] != g.chair.account
        }
        await g.chair.ask("POST", f"{path}/mute-all", on=False)
        await g.agree(lambda c: not any(member["muted"] for member in c.room["members"]))
        # only the chair opens microphones; hands go up all at once
        await g.chair.ask("PATCH", f"{path}/control", microphones="chair", layout="one_plus_n")
        await g.agree(lambda c: c.control["microphones"] == "chair" and c.control["layout"] == "one_plus_n")
        await asyncio.gather(*(client.ask("POST", f"{path}/floor", move="raise") for client in g.members))
        await g.agree(lambda c: len(c.control["hands"]) == MEMBERS)
        queue = [hand["account"] for hand in g.chair.control["hands"]]
        assert sorted(queue) == sorted(client.account for client in g.members)
        # the floor goes down the queue
        for account in queue[:2]:
            await g.chair.ask("POST", f"{path}/floor/call", account=account)
        await g.agree(lambda c: c.control["floor"] == queue[:2])
        assert [hand["account"] for hand in g.members[-1].control["hands"]] == queue[2:]
        speaking = [member["account"] for member in g.members[0].room["members"] if not member["muted"]]
        assert sorted(speaking) == sorted([g.chair.account, *queue[:2]])
        # roll call: all but one answer, whom the chair marks
        call = (await g.chair.ask("POST", f"{path}/roll-calls", 201))["id"]
        await g.agree(lambda c: c.control["roll_call"] == call and c.of("roll_call"))
        await asyncio.gather(*(client.ask("POST", f"/roll-calls/{call}/answer") for client in g.members[1:]))
        await g.chair.ask("POST", f"/roll-calls/{call}/mark", called=g.members[0].account, present=False)
        await g.agree(lambda c: c.control["roll_call"] is None and c.of("roll_call")[0]["ended_at"])
        records = {repr(client.of("roll_call")) for client in g.clients}
        assert len(records) == 1
        replies = [one["reply"] for one in g.chair.of("roll_call")[0]["called"]]
        assert (replies.count("answered"), replies.count("absent"), len(replies)) == (MEMBERS - 1, 1, MEMBERS)
        # polling (the round itself, by its timer: tests/command/test_meetings.py)
        sites = [client.account for client in g.members[:3]]
        await g.chair.ask("POST", f"{path}/poll", sites=sites, interval_s=5)
        await g.agree(lambda c: c.control["poll"] and c.control["poll"]["current"] == sites[0])
        await g.chair.ask("POST", f"{path}/poll/stop")
        await g.agree(lambda c: c.control["poll"] is None)
        await g.chair.ask("POST", f"{path}/close")
        await asyncio.gather(*(client.heard("closed") for client in g.clients))


async def test_a_microphone_that_only_the_chair_opens_stays_closed(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, 1) as g:
        await g.sit()
        await g.chair.ask("PATCH", f"/rooms/{g.room}/control", microphones="chair")
        [member] = g.members
        told = await member.heard("muted")
        assert (told["media"], told["on"], told["floor"]) == ("audio", True, False)
        await member.signal.send_json({"type": "state", "audio": True})
        assert (await member.heard("error"))["code"] == "room.microphones"
        member.frames.clear()
        await g.chair.ask("POST", f"/rooms/{g.room}/floor/call", account=member.account)
        told = await member.heard("muted")
        assert (told["on"], told["floor"]) == (False, True)
        await member.signal.send_json({"type": "state", "audio": True})
        await g.agree(lambda c: any(row["audio"] for row in c.room["members"]))
        await member.ask("POST", f"/rooms/{g.room}/floor", move="yield")
        await g.agree(lambda c: any(row["muted"] for row in c.room["members"]))


async def test_who_waits_at_the_door_is_let_in_or_sent_away(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, 3) as g:
        await g.chair.follow()
        await g.chair.sit()
        await g.chair.ask("PATCH", f"/rooms/{g.room}/control", waiting_room=True)
        let_in, sent_away, gone = g.members
        for client in g.members:
            await client.sit()
            await client.heard("waiting")
        await g.chair.sees(lambda c: len(c.control["waiting"]) == 3)
        assert all(one["name"] for one in g.chair.control["waiting"])
        await gone.signal.close()
        await g.chair.sees(lambda c: len(c.control["waiting"]) == 2)
        standing = f"/rooms/{g.room}/standing"
        await g.chair.ask("POST", standing, account=let_in.account, standing="admit")
        await let_in.heard("admitted")
        await let_in.signal.send_json({"type": "join", "publish": False})
        await let_in.heard("joined")
        await g.chair.ask("POST", standing, account=sent_away.account, standing="refuse")
        assert (await sent_away.heard("error"))["code"] == "room.barred"
        await sent_away.sees(lambda c: c.ended == 4400)
        await g.chair.sees(lambda c: not c.control["waiting"])


async def test_a_locked_room_lets_in_only_who_was_there_and_never_who_was_removed(
    database_url: str, tmp_path: Path
) -> None:
    async with gathering(database_url, tmp_path, 3) as g:
        back, late, removed = g.members
        for client in (g.chair, back, removed):
            await client.follow()
            await client.sit()
            await client.heard("joined")
        await g.chair.ask("PATCH", f"/rooms/{g.room}/control", locked=True)
        await late.sit()
        assert (await late.heard("error"))["code"] == "room.locked"
        await back.signal.close()
        back.frames.clear()
        await back.sit()
        await back.heard("joined")
        await g.chair.sees(lambda c: {removed.account} <= {row["account"] for row in c.room["members"]})
        [seat] = [row["id"] for row in g.chair.room["members"] if row["account"] == removed.account]
        await g.chair.ask("POST", f"/rooms/{g.room}/members/{seat}/act", act="remove")
        await removed.heard("removed")
        removed.frames.clear()
        await removed.sit()
        assert (await removed.heard("error"))["code"] == "room.barred"


async def test_a_co_chair_chairs_and_nobody_else(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, 2) as g:
        await g.sit()
        one, other = g.members
        path = f"/rooms/{g.room}"
        await one.ask("POST", f"{path}/mute-all", 403)
        await g.chair.ask("POST", f"{path}/standing", account=one.account, standing="cochair")
        await one.ask("POST", f"{path}/mute-all")
        await g.agree(lambda c: [row["account"] for row in c.room["members"] if row["muted"]] == [other.account])
        await other.ask("PATCH", f"{path}/control", 403, locked=True)
        await g.chair.ask("POST", f"{path}/standing", account=one.account, standing="no_cochair")
        await one.ask("PATCH", f"{path}/control", 403, locked=True)


async def test_one_screen_is_shared_at_a_time_and_the_chair_ends_it(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, 2) as g:
        await g.sit()
        one, other = g.members
        await one.signal.send_json({"type": "state", "screen": True})
        await g.agree(lambda c: sum(row["screen"] for row in c.room["members"]) == 1)
        await other.signal.send_json({"type": "state", "screen": True})
        assert (await other.heard("error"))["code"] == "room.screen_taken"
        [seat] = [row["id"] for row in g.chair.room["members"] if row["screen"]]
        await g.chair.ask("POST", f"/rooms/{g.room}/members/{seat}/act", act="mute", kind="screen")
        assert (await one.heard("muted"))["media"] == "screen"
        await g.agree(lambda c: not any(row["screen"] for row in c.room["members"]))
        await other.signal.send_json({"type": "state", "screen": True})
        await g.agree(lambda c: any(row["screen"] for row in c.room["members"]))


async def test_chat_and_attendance_are_the_same_for_everybody(database_url: str, tmp_path: Path) -> None:
    async with gathering(database_url, tmp_path, 2) as g:
        await g.sit()
        for client in g.clients:
            await client.ask("POST", f"/rooms/{g.room}/chat", 201, text=f"我是 {client.account}")
        await g.agree(lambda c: len(c.of("chat")) == 3)
        await g.members[0].signal.close()
        await g.agree(lambda c: sum(row["present"] for row in c.of("attendance")) == 2)
        outside = g.members[0]
        refused = await outside.ask("POST", f"/rooms/{g.room}/chat", 409, text="x")
        assert refused["code"] == "room.not_in"
        async with g.http.get(f"{g.base}/api/v1/rooms/{g.room}/attendance", headers=g.chair.headers) as answer:
            lines = (await answer.text(encoding="utf-8-sig")).splitlines()
        assert len(lines) == 4 and "member-0" in "".join(lines)
