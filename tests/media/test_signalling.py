"""The signalling socket as a client meets it: frames, refusals, limits, sessions that end. No media packets here."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Conflict, Rejected
from command.base.rights import Actor, Role
from command.domain.account import CloseSession, CreateAccount
from command.domain.meeting import CloseRoom, Member, OpenRoom
from command.domain.registry import ACCOUNT
from command.edge.auth import Session
from media.api import Media
from media.seat import PENDING_FRAMES_MAX, Frame, Seat, grade_of, read_frame
from media.signalling import SEATS_PER_ACCOUNT_MAX
from tests.node import NODE, service, world

pytestmark = pytest.mark.any_store


class Table:
    """A listening node with an open room, and members who speak JSON."""

    def __init__(self, n: Any, base: str, http: aiohttp.ClientSession) -> None:
        self.n, self.base, self.http = n, base, http
        self.room = self.token = self.session = ""

    async def open(self) -> None:
        w = await world(self.n)
        request = CreateAccount(
            name="officer",
            roles=[Role.DUTY_OFFICER],
            organisation=w.county,
            password_hash="x",
            must_change_password=False,
        )
        account = (await self.n.log.append(request, NODE)).id
        row = await self.n.store.read(lambda c: self.n.store.shelf(ACCOUNT).get(c, account))
        self.token, session = await self.n.auth.open(row, token=False)
        self.session = session.id
        self.actor = Actor(account=account or "", roles=(Role.DUTY_OFFICER,), organisation=w.county)
        body = {"category": "accident", "level": "III", "title": "演示事件", "place": {"lon": 155.0, "lat": 32.0}}
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": "one"}
        async with self.http.post(f"{self.base}/api/v1/incidents", json=body, headers=headers) as answer:
            incident = (await answer.json())["id"]
        self.room = (await self.n.log.append(OpenRoom(incident=incident, title="会商", chair=account), NODE)).id

    async def act(self, member: str, act: str) -> None:
        path = f"{self.base}/api/v1/rooms/{self.room}/members/{member}/act"
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": f"{member}{act}"}
        async with self.http.post(path, json={"act": act}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def socket(self, room: str = "") -> aiohttp.ClientWebSocketResponse:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.ws_connect(f"{self.base}/api/v1/rooms/{room or self.room}/signal", headers=headers)

    async def join(self, **fields: Any) -> tuple[aiohttp.ClientWebSocketResponse, dict[str, Any]]:
        socket = await self.socket()
        await socket.send_json({"type": "join", **fields})
        return socket, await heard(socket, "joined")


async def heard(socket: aiohttp.ClientWebSocketResponse, type_: str) -> dict[str, Any]:
    """The next frame of this type."""
    async with asyncio.timeout(15):
        while True:
            frame: dict[str, Any] = await socket.receive_json()
            if frame["type"] == type_:
                return frame


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(5):
        async for _ in socket:
            pass
    return socket.close_code


@pytest.fixture
async def table(tmp_path: Path, database_url: str) -> AsyncIterator[Table]:
    async with service(database_url, tmp_path, listen=True) as running, aiohttp.ClientSession() as http:
        made = Table(running.node, f"http://127.0.0.1:{running.port}", http)
        await made.open()
        yield made


async def test_who_joins_hears_who_is_there_and_the_others_hear_of_them(table: Table) -> None:
    first, joined = await table.join(audio=True, video=True)
    assert joined["role"] == "chair"
    second, other = await table.join(publish=False)
    assert {member["id"] for member in other["members"]} == {joined["member"], other["member"]}
    told = await heard(first, "member")
    assert (told["fact"], told["member"]["id"]) == ("joined", other["member"])
    await second.send_json({"type": "state", "audio": True, "video": False})
    assert (await heard(first, "member"))["member"]["audio"] is True
    await second.send_json({"type": "leave"})
    assert (await heard(first, "member"))["fact"] == "left"


async def test_a_seat_is_taken_over_by_its_own_session_coming_back(table: Table) -> None:
    old, before = await table.join()
    _, after = await table.join(former=before["member"])
    assert [member["id"] for member in after["members"]] == [after["member"]]
    assert await closed(old) is not None


async def test_an_account_has_only_so_many_seats(table: Table) -> None:
    sockets = [(await table.join())[0] for _ in range(SEATS_PER_ACCOUNT_MAX)]
    last = await table.socket()
    await last.send_json({"type": "join"})
    assert (await heard(last, "error"))["code"] == "room.seats"
    assert len(sockets) == SEATS_PER_ACCOUNT_MAX


async def test_a_room_that_cannot_be_entered_says_why_on_the_socket(table: Table) -> None:
    socket = await table.socket("nowhere")
    assert (await heard(socket, "error"))["code"] == "room.missing"
    assert await closed(socket) == 4400


async def test_frames_before_join_and_of_no_type_are_refused_and_cost_nothing(table: Table) -> None:
    socket = await table.socket()
    await socket.send_json({"type": "subscribe"})
    assert (await heard(socket, "error"))["code"] == "signal.join_first"
    await socket.send_str("{")
    assert (await heard(socket, "error"))["code"] == "signal.unreadable"
    await socket.send_json({"type": "join"})
    await heard(socket, "joined")
    await socket.send_json({"type": "dance"})
    error = await heard(socket, "error")
    assert (error["code"], error["about"]) == ("signal.type", "dance")
    await socket.send_json({"type": "publish", "sdp": "v=0"})
    assert (await heard(socket, "error"))["code"].startswith("media.sdp.")
    await socket.send_json({"type": "ping"})
    await heard(socket, "pong")


async def test_a_session_that_ends_is_cut_off_at_once_and_its_seat_is_left(table: Table) -> None:
    socket, _ = await table.join()
    await table.n.log.append(CloseSession(id=table.session), NODE)
    assert await closed(socket) == 4401


async def test_a_room_that_closes_tells_its_members(table: Table) -> None:
    socket, _ = await table.join()
    await table.n.log.append(CloseRoom(id=table.room), NODE)
    await heard(socket, "closed")
    assert await closed(socket) == 4404


async def test_a_room_that_closes_before_a_new_worker_has_opened_it_leaves_nothing_behind(table: Table) -> None:
    part = table.n.parts["media"]
    assert isinstance(part, Media)
    rooms = part.conferences
    await rooms.crew.ready()
    (worker,) = rooms.crew.workers
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    socket = await table.socket()
    async with asyncio.timeout(15):
        while worker._ready.is_set():
            await asyncio.sleep(0)
        await socket.send_json({"type": "join"})
        while table.room not in rooms._opened:
            await asyncio.sleep(0)
    await table.n.log.append(CloseRoom(id=table.room), NODE)
    assert (await heard(socket, "error"))["code"] == "room.closed"
    assert (await worker.stats())["rooms"] == 0
    assert (worker._rooms, rooms._opened, rooms._seats, rooms.conduct.meetings) == ({}, set(), {}, {})


async def test_who_enters_with_an_old_look_at_a_room_that_closed_opens_nothing(table: Table) -> None:
    part = table.n.parts["media"]
    assert isinstance(part, Media)
    rooms = part.conferences
    session = Session(id="s", actor=table.actor, expires_at=2**60)
    room = await rooms.room_of(table.room, session)
    await table.n.log.append(CloseRoom(id=table.room), NODE)
    with pytest.raises(Conflict):
        await rooms.seat(room, session, Frame(type="join"))
    await rooms.crew.ready()
    stats = await rooms.crew.stats()
    assert stats is not None and stats["rooms"] == 0
    assert (rooms._opened, rooms._seats, rooms.conduct.meetings) == (set(), {}, {})


async def test_who_was_muted_by_the_chair_is_still_muted_after_coming_back(table: Table) -> None:
    socket, joined = await table.join(audio=True)
    await table.act(joined["member"], "mute")
    assert (await heard(socket, "muted"))["on"] is True
    await socket.close()
    again, joined = await table.join(audio=True)
    assert [member["muted"] for member in joined["members"] if member["id"] == joined["member"]] == [True]
    await table.act(joined["member"], "unmute")
    assert (await heard(again, "muted"))["on"] is False
    await again.close()
    _, joined = await table.join(audio=True)
    assert [member["muted"] for member in joined["members"] if member["id"] == joined["member"]] == [False]


class _Deaf(web.WebSocketResponse):
    """A socket whose client reads nothing: `write` must end it, never wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.code = 0

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        self.code = code
        return True


async def test_a_browser_that_does_not_read_is_cut_off() -> None:
    member = Member(id="m", account="a", name="n", joined_at=0)
    session = Session(id="s", actor=Actor(account="a"), expires_at=0)
    deaf = _Deaf()
    seat = Seat(room="r", member=member, session=session, publish=True, socket=deaf)
    seat.greet()
    for _ in range(PENDING_FRAMES_MAX * 2):
        seat.send("speaker", member=None)
    await seat.write()
    assert deaf.code == 1013


def test_the_grade_follows_the_loss() -> None:
    assert [grade_of(lost) for lost in (0.0, 0.019, 0.02, 0.079, 0.08, 1.0)] == [0, 0, 1, 1, 2, 2]


@given(st.text() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(str))
def test_any_text_is_a_frame_or_refused(text: str) -> None:
    assert isinstance(read_frame(text), Frame | Rejected)


@given(
    st.dictionaries(
        st.sampled_from(["type", "sdp", "peer", "revision", "publish", "former"]), st.text() | st.integers()
    )
)
def test_any_object_is_a_frame_or_refused(value: dict[str, Any]) -> None:
    assert isinstance(read_frame(json.dumps(value)), Frame | Rejected)
