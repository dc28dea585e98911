"""Our own media worker as the subject of the SFU bench and of the hostile-datagram tests.

Never goes through the web server: it speaks the control channel of `docs/media-control.md` to a worker process
it started itself, so that the process can be pinned and its log kept apart. Invariant: subscribers are served
through the same `subscribe` / `offer` / `answer` exchange that browsers use.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from bench import rtp_sdp, sfu_process
from bench.rtp_client import Leg

ROOM = "bench"
ANSWER_S = 10.0
START_S = 60.0
"""Until the first answer: the process has its imports before it."""
STOP_S = 5.0
SPEAKER = "speaker"


class WorkerRefused(Exception):
    """The worker answered `failed`; the text holds kind, code and hint."""


class Worker:
    """One worker process. `start()`, `publish()`, `subscribe()`, `close()`."""

    name = "worker"
    layers = True

    def __init__(self, folder: Path, core: int | None, host: str = "127.0.0.1", *, under: tuple[str, ...] = ()) -> None:
        self.host = host
        self._under = under  # what the interpreter runs the worker under, for instance cProfile
        self.log = folder / "worker.log"
        self.port = 0
        self.events: list[dict[str, Any]] = []
        self.members: dict[Leg, str] = {}
        self._core = core
        self._numbers = itertools.count(1)
        self._members = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._offers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._tracks = asyncio.Event()
        self._published = 0

    async def start(self) -> None:
        """Start the process, open its port on loopback and a room with one publishing member."""
        ours, theirs = socket.socketpair()
        number = str(theirs.fileno())
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = sfu_process.start(
            [sys.executable, *self._under, "-m", "media.worker", "--control-fd", number],
            self._core,
            self.log,
            pass_fds=[theirs.fileno()],
            env=environment,
        )
        theirs.close()
        self._in, self._out = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read())
        said = await self.ask("start", START_S, addresses=[self.host], port=0, bind=self.host)
        self.port = said["port"]
        await self.ask("room.open", room=ROOM)
        await self.ask("join", room=ROOM, member=SPEAKER, publish=True, chair=True)

    async def _read(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._in.readexactly(4), "big")
                said = msgspec.msgpack.decode(await self._in.readexactly(length))
                self._take(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("the worker closed its control channel"))

    def _take(self, said: dict[str, Any]) -> None:
        if said["t"] in ("done", "failed"):
            future = self._waiting.pop(said["n"], None)
            if future is not None and not future.done():
                future.set_result(said)
            return
        if said["t"] == "offer":
            self._offers.setdefault(said["member"], asyncio.Queue()).put_nowait(said)
            return
        if said["t"] == "track.added":
            self._tracks.set()
        self.events.append(said)

    async def ask(self, kind: str, timeout_s: float = ANSWER_S, /, **fields: Any) -> dict[str, Any]:
        """One request; returns its result, raises WorkerRefused, or TimeoutError after `timeout_s`."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        frame = msgspec.msgpack.encode({"t": kind, "n": number, **fields})
        self._out.write(len(frame).to_bytes(4, "big") + frame)
        await self._out.drain()
        said = await asyncio.wait_for(future, timeout_s)
        if said["t"] == "failed":
            raise WorkerRefused(f"{kind}: {said.get('kind')} {said.get('code')} {said.get('hint')}")
        result: dict[str, Any] = said["result"]
        return result

    async def publish(self, leg: Leg, kinds: tuple[str, ...], member: str = "") -> rtp_sdp.Remote:
        """Publish with the leg's offer, as the chair and then as further members; returns the worker's answer, the leg
        is connecting."""
        member = member or (f"speaker{self._published}" if self._published else SPEAKER)
        self._published += 1
        if member != SPEAKER:
            await self.ask("join", room=ROOM, member=member, publish=True, chair=False)
        sdp = rtp_sdp.offer(leg.local, "sendonly", kinds)
        said = await self.ask("publish", room=ROOM, member=member, sdp=sdp)
        remote = rtp_sdp.parse(said["sdp"])
        leg.connect(remote)
        return remote

    async def tracks(self) -> None:
        """Wait for the first packet of a track to be noticed; raises TimeoutError."""
        await asyncio.wait_for(self._tracks.wait(), ANSWER_S)

    async def subscribe(self, leg: Leg) -> rtp_sdp.Remote:
        """Join as a new member and receive what is published; the leg is connecting."""
        member = self.members[leg] = f"m{next(self._members)}"
        await self.ask("join", room=ROOM, member=member, publish=False, chair=False)
        offers = self._offers.setdefault(member, asyncio.Queue())
        await self.ask("subscribe", room=ROOM, member=member)
        said = await asyncio.wait_for(offers.get(), ANSWER_S)
        remote = rtp_sdp.parse(said["sdp"])
        leg.connect(remote)
        sdp = rtp_sdp.answer(leg.local, remote)
        await self.ask("answer", peer=said["peer"], revision=said["revision"], sdp=sdp)
        return remote

    async def leave(self, leg: Leg) -> None:
        """End a subscriber's membership."""
        await self.ask("remove", room=ROOM, member=self.members.pop(leg), reason="left")

    def pids(self) -> list[int]:
        """Processes whose CPU time counts."""
        return sfu_process.tree(self.process.pid)

    async def close(self) -> None:
        """Ask the worker to stop; end it if it doesn't."""
        if hasattr(self, "_reading") and self.process.poll() is None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self.ask("stop")
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.process.wait, STOP_S)
        if hasattr(self, "_reading"):
            self._reading.cancel()
            self._out.close()
        if hasattr(self, "process"):
            await asyncio.to_thread(sfu_process.stop, self.process)
