"""The command process's end of a media worker: has it started, talks to it, has it started again when it dies.

Never touches media packets and never imports aiortc. Invariant: while a `MediaWorker` is started, either a worker runs
that has heard of every open room and member and answers, or one is being started.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from command.base.errors import Conflict, Denied, FenghuoError, Missing, Rejected, Unavailable
from command.base.supervise import spawn
from media import control
from media.nursery import Nursery

REQUEST_TIMEOUT_S = 5.0
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 3.0
BEAT_S = 0.5
BEATS_MISSED_MAX = 6  # then the worker is hung, not busy: overload shows itself at 30 ms (`media/overload.py`)
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0)
STEADY_S = 30.0  # a worker that ran this long starts the delays anew
WAITING_MAX = 1000
READ_BYTES = 65_536

ERRORS: dict[str, type[FenghuoError]] = {
    "rejected": Rejected,
    "missing": Missing,
    "denied": Denied,
    "conflict": Conflict,
    "unavailable": Unavailable,
}


@dataclass
class _Member:
    publish: bool
    muted: set[control.MuteKind] = field(default_factory=set)


@dataclass
class _Room:
    members: dict[str, _Member] = field(default_factory=dict)
    chair: str | None = None
    focus: control.Focus | None = None


class MediaWorker:
    """One supervised worker.

    `on_event` is called on the loop for each event, in order, and must not block or raise. `addresses` are what the
    candidates say (empty: each interface and 127.0.0.1), `port` the UDP port (0: any, then kept over restarts). Who hands
    in a `nursery` stops it, after the workers that share it.
    """

    def __init__(
        self,
        on_event: Callable[[control.AnyEvent], None],
        *,
        addresses: list[str] | None = None,
        port: int = 0,
        bind: str = "0.0.0.0",  # noqa: S104
        nursery: Nursery | None = None,
    ) -> None:
        self.port = port
        self.addresses: list[str] = addresses or []
        self._on_event = on_event
        self._configured = addresses or []
        self._bind = bind
        self._rooms: dict[str, _Room] = {}
        self._nursery = nursery or Nursery()
        self._shared = nursery is not None
        self._pid: int | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._pid

    async def start(self) -> None:
        """Start the worker and its supervision; raises `Unavailable` if the first one doesn't come up."""
        try:
            await self._launch()
        except BaseException:
            await self._end()
            await self._leave_nursery()
            raise
        self._task = spawn("media worker", self._supervise())
        self._watching = spawn("media heartbeat", self._watch())

    async def stop(self) -> None:
        """Let the worker say goodbye, then end it. Idempotent."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        if self._pid is not None:
            with contextlib.suppress(FenghuoError):
                await self._request(control.Stop(), timeout_s=STOP_TIMEOUT_S)
        await self._end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._leave_nursery()

    async def _leave_nursery(self) -> None:
        if not self._shared:
            await self._nursery.stop()

    async def _end(self) -> int | None:
        """Hang up, and wait until the worker has ended; its exit code."""
        if self._writer is not None:
            self._writer.close()
        pid, self._pid = self._pid, None
        return await self._nursery.end(pid) if pid is not None else None

    def _book(self, room: str) -> _Room:
        """What is to be told to the next worker; Missing if the room was closed while this one was asked."""
        book = self._rooms.get(room)
        if book is None:
            raise Missing("media.room.unknown", "The room was closed meanwhile.")
        return book

    # -- requests; each raises FenghuoError --

    async def open_room(self, room: str) -> None:
        """Open `room`; raises Conflict if it is open."""
        await self._request(control.OpenRoom(room=room))
        self._rooms.setdefault(room, _Room())

    async def close_room(self, room: str) -> None:
        """End every connection of `room`."""
        self._rooms.pop(room, None)
        await self._request(control.CloseRoom(room=room))

    async def join(self, room: str, member: str, *, publish: bool = True, chair: bool = False) -> None:
        """Let `member` in, or change what they may do."""
        await self._request(control.Join(room=room, member=member, publish=publish, chair=chair))
        book = self._book(room)
        known = book.members.setdefault(member, _Member(publish))
        known.publish = publish
        if chair:
            book.chair = member

    async def remove(self, room: str, member: str, reason: str = "asked") -> None:
        """End the member's connections and take them out."""
        book = self._rooms.get(room)
        if book is not None:
            book.members.pop(member, None)
            book.chair = None if book.chair == member else book.chair
        await self._request(control.Remove(room=room, member=member, reason=reason))

    async def set_chair(self, room: str, member: str | None) -> None:
        """Name the chair."""
        await self._request(control.SetChair(room=room, member=member))
        self._book(room).chair = member

    async def mute(self, room: str, member: str, media: control.MuteKind, *, on: bool) -> None:
        """Stop or resume forwarding a member's audio or video."""
        await self._request(control.Mute(room=room, member=member, media=media, on=on))
        known = self._book(room).members.get(member)
        if known is not None:
            (known.muted.add if on else known.muted.discard)(media)

    async def focus(
        self, room: str, members: list[str], *, polled: str | None = None, audience: list[str] | None = None
    ) -> None:
        """Whom everybody should see first; `polled`: whom `audience` alone should."""
        request = control.Focus(room=room, members=members, polled=polled, audience=audience or [])
        await self._request(request)
        book = self._rooms.get(room)
        if book is not None:
            book.focus = request

    async def publish(self, room: str, member: str, sdp: str, *, screens: list[str] | None = None) -> tuple[str, str]:
        """(peer, answer) to a publishing offer (browser or WHIP); `screens` are the mids of shared screens."""
        result = await self._request(control.Publish(room=room, member=member, sdp=sdp, screens=screens or []))
        return result["peer"], result["sdp"]

    async def subscribe(self, room: str, member: str) -> str:
        """The peer id of a new receiving connection; `Offer` events follow."""
        result = await self._request(control.Subscribe(room=room, member=member))
        return str(result["peer"])

    async def answer(self, peer: str, revision: int, sdp: str) -> None:
        """The answer to an `Offer`; Conflict if a newer one is out."""
        await self._request(control.Answer(peer=peer, revision=revision, sdp=sdp))

    async def view(self, room: str, sdp: str, *, source: str | None = None) -> tuple[str, str]:
        """(peer, answer) to a WHEP offer; `source` None follows the chair, else the active speaker."""
        result = await self._request(control.View(room=room, sdp=sdp, source=source))
        return result["peer"], result["sdp"]

    async def restart(
        self, room: str, peer: str, *, member: str | None = None, ufrag: str = "", password: str = ""
    ) -> dict[str, Any]:
        """A new ICE generation. With the client's credentials: ours as {ufrag, password, candidates}; else an `Offer` follows.

        Missing if that connection has ended.
        """
        request = control.RestartIce(room=room, peer=peer, member=member, ufrag=ufrag, password=password)
        return await self._request(request)

    async def close_peer(self, peer: str) -> None:
        """End one connection; Missing if it has ended."""
        await self._request(control.Close(peer=peer))

    async def tiles(self, room: str, member: str, tiles: dict[str, int]) -> None:
        """What `member`'s screen shows: track -> height of its tile in device pixels."""
        await self._request(control.Tiles(room=room, member=member, tiles=tiles))

    async def stats(self) -> dict[str, Any]:
        """Counters since the worker's start."""
        return await self._request(control.Stats())

    # -- inside --

    async def _request(self, request: control.Request, timeout_s: float = REQUEST_TIMEOUT_S) -> dict[str, Any]:
        """Send once and wait for the answer; `Unavailable` if there is no worker, no room in the queue, or no answer."""
        if not self._ready.is_set() and not isinstance(request, control.Start | control.Stop):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ready.wait()
            except TimeoutError:
                raise Unavailable("media.restarting", "The media worker is starting; try again.") from None
        return await self._exchange(request, timeout_s)

    async def _exchange(self, request: control.Request, timeout_s: float) -> dict[str, Any]:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise Unavailable("media.restarting", "The media worker is starting; try again.")
        if len(self._waiting) >= WAITING_MAX:
            raise Unavailable("media.busy", f"{WAITING_MAX} requests wait for the media worker.")
        self._count += 1
        number = self._count
        try:
            frame = control.frame(msgspec.structs.replace(request, n=number))
            control.read_request(frame[4:])  # what the worker can't read it would take for a bug of ours, and end
        except control.FrameError as error:
            raise Rejected("media.request", f"The request can't be sent to the media worker: {error}.") from None
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            writer.write(frame)
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise Unavailable("media.timeout", "The media worker didn't answer in time.") from None
        finally:
            self._waiting.pop(number, None)

    async def _launch(self) -> None:
        """Have a worker forked, tell it all we know, and announce it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._pid = await self._nursery.fork(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = spawn("media control", self._read(reader))
        start = control.Start(addresses=self._configured, port=self.port, bind=self._bind)
        result = await self._exchange(start, START_TIMEOUT_S)
        self.port, self.addresses = result["port"], result["addresses"]
        await self._replay()
        self._ready.set()
        assert self._pid is not None
        self._on_event(control.WorkerReady(pid=self._pid, port=self.port))

    async def _replay(self) -> None:
        """Rooms, members, chairs and mutes, from our books."""
        for ident, room in list(self._rooms.items()):
            await self._exchange(control.OpenRoom(room=ident), REQUEST_TIMEOUT_S)
            for name, member in list(room.members.items()):
                join = control.Join(room=ident, member=name, publish=member.publish, chair=room.chair == name)
                await self._exchange(join, REQUEST_TIMEOUT_S)
                for media in set(member.muted):
                    await self._exchange(control.Mute(room=ident, member=name, media=media, on=True), REQUEST_TIMEOUT_S)
            if room.focus:
                await self._exchange(room.focus, REQUEST_TIMEOUT_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Deliver what the worker says until the channel ends; an unreadable frame ends the worker."""
        frames = control.Frames()
        try:
            while data := await reader.read(READ_BYTES):
                for body in frames.feed(data):
                    self._deliver(control.read_message(body))
        except (control.FrameError, ConnectionError):
            if self._pid is not None:
                self._nursery.kill(self._pid)
        finally:
            self._ready.clear()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Unavailable("media.crashed", "The media worker ended; connect again."))

    def _deliver(self, message: control.FromWorker) -> None:
        if isinstance(message, control.Event):
            self._on_event(message)
            return
        future = self._waiting.get(message.n)
        if future is None or future.done():
            return
        if isinstance(message, control.Done):
            future.set_result(message.result)
        else:
            future.set_exception(ERRORS[message.kind](message.code, message.hint))

    async def _supervise(self) -> None:
        """A worker whose control channel has ended is dead, or as good as dead: the next one takes its place."""
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._stopping:
            since = loop.time()
            if self._reading is not None:
                await asyncio.wait([self._reading])
            if self._stopping:
                return
            pid = self._pid
            code = await self._end()
            if pid is not None:
                self._on_event(control.WorkerLost(pid=pid, code=code))
            failures = 1 if loop.time() - since > STEADY_S else failures + 1
            await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1])
            with contextlib.suppress(FenghuoError, OSError):  # it is hung up on and tried again, later
                await self._launch()
                continue
            await self._hang_up()

    async def _watch(self) -> None:
        """End a worker that has been silent for `BEATS_MISSED_MAX` beats; its channel ends with it, `_supervise` does the rest.

        Beats of this loop are counted, not seconds: a stall of our own process must not be taken for one of the worker.
        """
        missed = 0
        asked: asyncio.Task[None] | None = None
        while not self._stopping:
            await asyncio.sleep(BEAT_S)
            if asked is None or asked.done() or not self._ready.is_set():
                missed = 0
                asked = spawn("media beat", self._beat()) if self._ready.is_set() else None
                continue
            missed += 1
            if missed == BEATS_MISSED_MAX and self._pid is not None:
                self._nursery.kill(self._pid)

    async def _beat(self) -> None:
        with contextlib.suppress(FenghuoError):  # it ended meanwhile
            await self._exchange(control.Ping(), START_TIMEOUT_S)

    async def _hang_up(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
