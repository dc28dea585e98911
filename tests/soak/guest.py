"""One guest of the soak: a signalling socket, a light publishing and a light receiving connection.

Not part of the product. Invariant: after `go()` nothing of it is left here, whatever the way in which it went.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp

from bench import rtp_sdp
from bench.rtp_client import Leg, Publisher, State, Subscriber
from bench.rtp_pump import Shape, Stream

PROFILE = "AEAD_AES_128_GCM"
SHAPE = Shape(packets_per_s=20, burst=2, packet_bytes=700, audio=True, full=True)
TICK_S, FRAME_S, ARRIVALS_S = 0.05, 0.1, 0.2
DRAIN_MAX = 32
BYTES_MAX = 2048


class Guest:
    """`come()`, then `go()`; `heard` counts the packets of pictures that arrived since it came."""

    def __init__(self, http: aiohttp.ClientSession, base: str, token: str) -> None:
        self._http, self._base, self._token = http, base, token
        self.member = ""
        self.failed = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._legs: dict[str, Leg] = {}
        self._peer = ""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def heard(self) -> int:
        leg = self._legs.get("subscribe")
        return leg.counter.unique if isinstance(leg, Subscriber) else 0

    async def come(self, room: str, *, publish: bool) -> None:
        """Sit down and begin. `member` of an earlier stay is told as `former`: that is a reload."""
        self.publish, former, self.member = publish, self.member, ""
        url = f"{self._base}/api/v1/rooms/{room}/signal"
        headers = {"Authorization": f"Bearer {self._token}"}
        self._socket = await self._http.ws_connect(url, headers=headers, max_msg_size=0)
        await self._say("join", publish=publish, audio=publish, video=publish, former=former)
        self._tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._turn())]

    async def go(self, how: str) -> None:
        """`leave`: as the page does; `drop`: the line is cut, nothing is said."""
        if how == "leave" and self._socket is not None and not self._socket.closed:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._say("leave")
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                self.failed = f"guest: {ended!r}"
        for role in list(self._legs):
            self._end(role)
        if self._socket is not None:
            await self._socket.close()

    async def _say(self, kind: str, **fields: Any) -> None:
        assert self._socket is not None
        await self._socket.send_json({"type": kind, **fields})

    async def _listen(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            frame = message.json()
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._take(frame)

    async def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "joined":
            self.member = frame["member"]
            await self._begin()
        elif kind == "restarted":
            await self._begin()
        elif kind == "reconnect":
            await self._begin(frame["role"])
        elif kind == "published" and "publish" in self._legs:
            leg = self._legs["publish"]
            remote = rtp_sdp.parse(frame["sdp"])
            self._stream = Stream(leg, SHAPE, remote)  # type: ignore[arg-type]
            leg.connect(remote)
        elif kind == "offer":
            await self._answer(frame)
        elif kind == "error" and frame["code"] not in ("media.restarting", "media.crashed", "media.timeout"):
            self.failed = frame["code"]

    async def _begin(self, only: str = "") -> None:
        if self.publish and only in ("", "publish"):
            self._end("publish")
            leg = self._legs["publish"] = Publisher(profile=PROFILE, wide=True, layers=True)
            self._watch(leg)
            await self._say("publish", sdp=rtp_sdp.offer(leg.local, "sendonly"))
        if only in ("", "subscribe"):
            self._end("subscribe")
            await self._say("subscribe")

    async def _answer(self, frame: dict[str, Any]) -> None:
        remote = rtp_sdp.parse(frame["sdp"])
        leg = self._legs.get("subscribe")
        if leg is None or self._peer != frame["peer"]:
            self._end("subscribe")
            leg = self._legs["subscribe"] = Subscriber(profile=PROFILE, wide=True)
            self._peer = frame["peer"]
            self._watch(leg)
            leg.connect(remote)
        assert isinstance(leg, Subscriber)
        leg.learn(remote)
        await self._say("answer", peer=frame["peer"], revision=frame["revision"], sdp=rtp_sdp.answer(leg.local, remote))

    def _watch(self, leg: Leg) -> None:
        asyncio.get_running_loop().add_reader(leg.socket.fileno(), self._drain, leg)

    def _end(self, role: str) -> None:
        leg = self._legs.pop(role, None)
        if leg is not None:
            asyncio.get_running_loop().remove_reader(leg.socket.fileno())
            leg.close()

    def _drain(self, leg: Leg) -> None:
        for _ in range(DRAIN_MAX):
            try:
                data = leg.socket.recv(BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue
            if isinstance(leg, Subscriber) and 128 <= data[0] <= 191 and not 192 <= data[1] <= 223:
                leg.on_media(data, 1)
            else:
                leg.receive(data)

    async def _turn(self) -> None:
        """Checks, frames and feedback, as they fall due."""
        loop = asyncio.get_running_loop()
        frame_due = arrivals_due = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for leg in list(self._legs.values()):
                leg.tick(now)
            publishing, receiving = self._legs.get("publish"), self._legs.get("subscribe")
            if publishing is not None and publishing.state is State.OPEN and now >= frame_due:
                frame_due = now + FRAME_S
                with contextlib.suppress(OSError):  # the worker is gone; `restarted` comes
                    self._stream.send_frame()
                    publishing.send(self._stream.sound())
            if isinstance(receiving, Subscriber) and now >= arrivals_due:
                arrivals_due = now + ARRIVALS_S
                receiving.tell_arrivals()
                receiving.report()
