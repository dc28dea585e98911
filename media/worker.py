"""The media worker: a child process that carries out the requests of `docs/media-control.md` on one port.

Never decides who may do what (its parent did). Invariant: it lives no longer than its control channel.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any

import msgspec
import uvloop

from command.base.clock import Clock
from command.base.errors import Conflict, Denied, FenghuoError, Missing, Unavailable
from media import control
from media.conference import Conference, Surroundings
from media.datagrams import interface_addresses
from media.overload import Overload
from media.port import ANY, Port
from media.publisher import Publisher
from media.quiet import Quiet
from media.rtc import Certificate
from media.track import Layer
from media.zygote import Zygote

TICK_S = 0.025
LAG_WINDOW_S = 5.0
ROOMS_MAX = 200
WRITE_BUFFER_MAX = 16 << 20


class Worker:
    """All conferences of this process."""

    def __init__(self, clock: Clock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clock = clock
        self._reader = reader
        self._writer = writer
        self._rooms: dict[str, Conference] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._pending: list[Layer] = []
        self._active: list[Publisher] = []
        self._lags: deque[tuple[float, float]] = deque()
        self._overload = Overload()
        self._quiet = Quiet()
        self._port = Port(clock=clock, flush=self._flush, log=self._log_drop)
        self._all: Surroundings | None = None

    async def run(self) -> None:
        """Serve until `stop` or until the parent is gone."""
        asyncio.get_running_loop().set_exception_handler(self._stumbled)
        frames = control.Frames()
        ticking = self._spawn("tick", self._tick())
        try:
            while not self._stopping.is_set():
                data = await self._reader.read(65_536)
                if not data:
                    break
                for body in frames.feed(data):
                    self._handle(body)
        finally:
            ticking.cancel()
            for conference in self._rooms.values():
                conference.close()
            await self._finish()

    async def _finish(self) -> None:
        """Let goodbyes out, then go."""
        rest = [task for task in self._tasks if task.get_name().startswith("close ")]
        if rest:
            await asyncio.wait(rest, timeout=1.0)
        self._port.close()
        if not self._writer.is_closing():
            self._writer.close()

    # -- requests --

    def _handle(self, body: bytes) -> None:
        request = control.read_request(body)  # an undecodable request is a bug of ours: end loudly
        try:
            result = self._carry_out(request)
        except FenghuoError as error:
            self._send(control.Failed(n=request.n, kind=_kind(error), code=error.code, hint=error.hint))
            return
        except Exception:  # the supervisor of requests: one bad request of one member must not end every room
            log("error", "request failed", request=type(request).__name__, error=traceback.format_exc())
            self._send(control.Failed(n=request.n, kind="unavailable", code="media.bug", hint="See the worker's log."))
            return
        self._send(control.Done(n=request.n, result=result))

    def _carry_out(self, request: control.AnyRequest) -> dict[str, Any]:
        match request:
            case control.Start():
                return self._start(request)
            case control.Stats():
                return self._stats()
            case control.Ping():
                return {}
            case control.Stop():
                self._stopping.set()
                self._reader.feed_eof()
                return {}
            case control.OpenRoom():
                self._open(request.room)
                return {}
            case control.CloseRoom():
                self._room(request.room).close()
                del self._rooms[request.room]
                return {}
            case control.Answer():
                self._of_peer(request.peer).answer(request)
                return {}
            case control.Close():
                self._of_peer(request.peer).close_peer(request.peer, "asked")
                return {}
        return _in_room(self._room(request.room), request)

    def _start(self, request: control.Start) -> dict[str, Any]:
        if self._all is not None:
            raise Conflict("media.started", "The worker has been started.")
        try:
            self._port.start(request.bind, request.port)
        except OSError as error:
            raise Unavailable("media.port", f"Port {request.port} can't be opened: {error.strerror}.") from None
        addresses = request.addresses
        if not addresses:
            addresses = interface_addresses() if request.bind == ANY else [request.bind]
        addresses = [address for address in addresses if self._port.takes(address)]
        if not addresses:
            raise Unavailable("media.address", "None of the addresses to announce is of a family that works here.")
        self._all = Surroundings(
            port=self._port,
            clock=self._clock,
            certificate=Certificate.generateCertificate(),
            addresses=tuple(addresses[: control.ADDRESSES_MAX]),
            emit=self._send,
            spawn=self._spawn,
            pending=self._pending,
            active=self._active,
            peers={},
            ssrcs=set(),
        )
        return {"port": self._port.number, "addresses": list(self._all.addresses), "tcp": self._port.tcp}

    def _open(self, room: str) -> None:
        if self._all is None:
            raise Conflict("media.not_started", "The worker must be started first.")
        if room in self._rooms:
            raise Conflict("media.room.open", "This room is open.")
        if self._overload.refuses and self._rooms:
            raise Unavailable("media.overloaded", "This media worker can't keep up with the rooms it has; try later.")
        if len(self._rooms) >= ROOMS_MAX:
            raise Unavailable("media.full.rooms", f"A worker takes {ROOMS_MAX} rooms.")
        self._rooms[room] = Conference(room, self._all)
        self._rooms[room].selection.shed(self._overload.cap)

    def _room(self, ident: str) -> Conference:
        found = self._rooms.get(ident)
        if found is None:
            raise Missing("media.room.unknown", "This room is not open.")
        return found

    def _of_peer(self, ident: str) -> Conference:
        found = self._all.peers.get(ident) if self._all is not None else None
        if found is None:
            raise Missing("media.peer.unknown", "This connection has ended.")
        return found

    def _stats(self) -> dict[str, Any]:
        sums: Counter[str] = Counter()
        for conference in self._rooms.values():
            for publisher in conference.publishers.values():
                sums["nacks_out"] += publisher.nacks
                sums["plis_out"] += publisher.key_requests
                for reason, count in publisher.dropped.items():
                    sums["drop " + reason] += count
            for receiving in (*conference.subscribers.values(), *conference.viewers.values()):
                sums["nacks_in"] += receiving.nacks
                sums["plis_in"] += receiving.key_requests
                sums["rtx_packets"] += sum(output.resent for output in receiving.outputs.values())
        dropped = {**self._port.dropped, **{k[5:]: v for k, v in sums.items() if k.startswith("drop ")}}
        counters = self._port.counters
        return {
            "port": self._port.number,
            "gso": self._port.gso,
            "streams": len(self._port.streams.connections),
            "rooms": len(self._rooms),
            "peers": len(self._all.peers) if self._all is not None else 0,
            **{name: counters[name] for name in ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")},
            "dropped": dropped,
            **{name: sums[name] for name in ("rtx_packets", "nacks_in", "nacks_out", "plis_in", "plis_out")},
            "cpu_s": time.process_time(),
            "overload": int(self._overload.level),
            "lag_ms": round(max((lag for _, lag in self._lags), default=0.0) * 1000, 2),
        }

    # -- time and tasks --

    def _flush(self, now_s: float) -> None:
        """The socket is drained: send every layer's burst, then see to repair."""
        if self._pending:
            layers = dict.fromkeys(self._pending)
            self._pending.clear()
            for layer in layers:
                layer.flush(self._port, now_s)
        if self._active:
            for publisher in self._active:
                publisher.after_burst(now_s)
            self._active.clear()

    async def _tick(self) -> None:
        before_s, used_s = self._clock.monotonic(), time.process_time()
        due = before_s + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            now_s, now_used_s = self._clock.monotonic(), time.process_time()
            share = (now_used_s - used_s) / max(now_s - before_s, TICK_S)
            before_s, used_s = now_s, now_used_s
            while self._lags and now_s - self._lags[0][0] >= LAG_WINDOW_S:
                self._lags.popleft()
            self._lags.append((now_s, now_s - due))
            if self._overload.tick(now_s - due, now_s, share):
                log("warning", "overload", sheds=self._overload.level.name, lag_ms=round(self._overload.lag_s * 1000))
                for conference in self._rooms.values():
                    conference.selection.shed(self._overload.cap)
            due = max(due + TICK_S, now_s)
            for conference in self._rooms.values():
                conference.tick(now_s)
            self._port.sweep(now_s)

    def _spawn(self, name: str, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails is a bug of ours: say so, and end, so that the parent starts a sound worker."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log("error", "task failed", task=task.get_name(), error=repr(task.exception()))
            self._reader.feed_eof()

    def _stumbled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed (a bug of ours, on one packet): say so, but never once per packet."""
        error = context.get("exception")
        left_out = self._quiet.swallowed(type(error).__name__, self._clock.monotonic())
        if left_out is not None:
            trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
            log("error", "callback failed", message=str(context.get("message")), error=trace, left_out=left_out)

    # -- out --

    def _send(self, message: msgspec.Struct) -> None:
        if self._writer.transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            log("error", "the parent doesn't read its control channel")
            self._reader.feed_eof()
            return
        self._writer.write(control.frame(message))

    def _log_drop(self, reason: str, source: str, left_out: int) -> None:
        log("warning", "datagram dropped", reason=reason, source=source, left_out=left_out)


def _in_room(conference: Conference, request: control.AnyRequest) -> dict[str, Any]:
    match request:
        case control.Join():
            conference.join(request)
        case control.Remove():
            conference.remove(request.member, request.reason)
        case control.SetChair():
            conference.set_chair(request.member)
        case control.Mute():
            conference.mute(request)
        case control.Focus():
            conference.set_focus(request)
        case control.Publish():
            return conference.publish(request)
        case control.Subscribe():
            return conference.subscribe(request.member)
        case control.View():
            return conference.view(request)
        case control.Tiles():
            conference.tiles(request)
        case control.RestartIce():
            return conference.restart(request)
    return {}


def _kind(error: FenghuoError) -> Any:
    for kind, name in ((Missing, "missing"), (Denied, "denied"), (Conflict, "conflict"), (Unavailable, "unavailable")):
        if isinstance(error, kind):
            return name
    return "rejected"


def log(level: str, event: str, **fields: object) -> None:
    """One JSON line on standard error, which is the parent's."""
    sys.stderr.write(json.dumps({"level": level, "event": event, "part": "media.worker", **fields}) + "\n")
    sys.stderr.flush()


async def serve(control_fd: int) -> None:
    """Run a worker on the socket `control_fd`."""
    sock = socket.socket(fileno=control_fd)
    reader, writer = await asyncio.open_connection(sock=sock)
    await Worker(Clock(), reader, writer).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Media worker; started by media/remote.py.")
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--control-fd", type=int, help="be one worker")
    one.add_argument("--zygote-fd", type=int, help="fork workers on demand")
    arguments = parser.parse_args()
    control_fd: int | None = arguments.control_fd
    if control_fd is None:
        control_fd = Zygote(socket.socket(fileno=arguments.zygote_fd)).run()
    if control_fd is None:
        return
    gc.freeze()
    uvloop.run(serve(control_fd))


if __name__ == "__main__":
    main()
