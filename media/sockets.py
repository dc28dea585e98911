"""The sockets of rooms: one conversation with each browser (`docs/protocol-conference.md`).

Edge. Decides nothing: seats are `media/signalling.py`'s. Invariant: a socket that ends leaves its seat, and a session that
ends loses its sockets at once.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from command.base.errors import Conflict, FenghuoError, Rejected, Unauthenticated
from command.base.supervise import spawn
from command.domain.meeting import Room
from command.edge.api import Call, Node, check_origin
from command.edge.auth import Session
from media.seat import FRAME_BYTES_MAX, Frame, Seat, error_frame, read_frame
from media.signalling import Conferences


class Sockets:
    """Every open signalling socket of this node."""

    def __init__(self, node: Node, rooms: Conferences) -> None:
        self._node, self._rooms = node, rooms
        self._sockets: dict[web.WebSocketResponse, Session] = {}

    async def serve(self, call: Call) -> web.WebSocketResponse:
        """A member's socket, until it closes. A browser can't read why an upgrade was refused: it is told on the socket."""
        check_origin(call.request, self._node.config)
        assert call.session is not None
        socket = web.WebSocketResponse(heartbeat=15, max_msg_size=FRAME_BYTES_MAX, compress=False)
        upgrade = socket.can_prepare(call.request).ok
        try:
            room = await self._rooms.room_of(call.path["id"], call.session)
        except FenghuoError as error:
            if not upgrade:
                raise
            await socket.prepare(call.request)
            with suppress(ConnectionResetError):
                await socket.send_json(error_frame(error, "join"))
                await socket.close(code=4400)
            return socket
        await socket.prepare(call.request)
        self._sockets[socket] = call.session
        try:
            with suppress(ConnectionResetError):  # gone while it was answered
                await self._converse(room, call.session, socket)
        finally:
            del self._sockets[socket]
        return socket

    async def _converse(self, room: Room, session: Session, socket: web.WebSocketResponse) -> None:
        seat: Seat | None = None
        writer: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                frame = read_frame(message.data)
                if isinstance(frame, Rejected):
                    await socket.send_json(error_frame(frame, ""))
                elif seat is not None:
                    await self._receive(seat, frame)
                else:
                    seat = await self._enter(room, session, frame, socket)
                    writer = spawn("seat.writer", seat.write()) if seat is not None else None
        finally:
            await self._rooms.door.leave(room.id, socket)
            if seat is not None:
                await self._rooms.leave(seat)
            if writer is not None:
                writer.cancel()

    async def _enter(self, room: Room, session: Session, frame: Frame, socket: web.WebSocketResponse) -> Seat | None:
        try:
            if frame.type == "ping":
                await socket.send_json({"type": "pong"})
                return None
            if frame.type != "join":
                raise Rejected("signal.join_first", "Send join first.")
            seat = await self._rooms.seat(room, session, frame, socket=socket)
            await self._rooms.door.leave(room.id, socket)
        except FenghuoError as error:
            await socket.send_json(await self._outside(room, session, socket, frame, error))
            return None
        seat.greet(**self._rooms.joined(seat))
        return seat

    async def _outside(
        self, room: Room, session: Session, socket: web.WebSocketResponse, frame: Frame, error: FenghuoError
    ) -> dict[str, Any]:
        """What somebody without a seat is told: that they wait, or why they are refused."""
        if error.code != "room.waiting":
            return error_frame(error, frame.type)
        try:
            await self._rooms.door.knock(room, session, socket)
        except FenghuoError as refused:
            return error_frame(refused, frame.type)
        return {"type": "waiting"}

    async def _receive(self, seat: Seat, frame: Frame) -> None:
        try:
            if seat.session.expires_at <= self._node.clock.now():
                raise Unauthenticated("auth.ended", "The session has ended; sign in again.")
            await self._carry_out(seat, frame)
        except Unauthenticated:
            assert seat.socket is not None
            await seat.socket.close(code=4401, message=b"session ended")
        except FenghuoError as error:
            seat.put(error_frame(error, frame.type))

    async def _carry_out(self, seat: Seat, frame: Frame) -> None:
        match frame.type:
            case "ping":
                seat.send("pong")
            case "publish":
                await self._publish(seat, frame)
            case "subscribe":
                await (await self._rooms.worker(seat.room)).subscribe(seat.room, seat.member.id)
            case "answer":
                with suppress(Conflict):  # a newer offer is on its way (docs/media-control.md)
                    await (await self._rooms.worker(seat.room)).answer(frame.peer, frame.revision, frame.sdp)
            case "restart":
                await (await self._rooms.worker(seat.room)).restart(seat.room, frame.peer, member=seat.member.id)
            case "state":
                said = {name: getattr(frame, name) for name in ("audio", "video", "screen")}
                changed = {name: on for name, on in said.items() if on is not getattr(seat.member, name)}
                if changed:
                    await self._rooms.change(seat, **changed)
            case "view":
                await (await self._rooms.worker(seat.room)).tiles(seat.room, seat.member.id, frame.tiles)
            case "seen":
                self._rooms.froze(seat, frame.freezes)
            case "leave":
                assert seat.socket is not None
                await seat.socket.close()
            case _:
                raise Rejected("signal.type", f"There is no message of type '{frame.type}'.")

    async def _publish(self, seat: Seat, frame: Frame) -> None:
        worker = await self._rooms.worker(seat.room)
        if not seat.publish:  # a viewer who takes the floor
            chair = seat.member.role == "chair"
            await worker.join(seat.room, seat.member.id, publish=True, chair=chair)
            seat.publish = True
            await self._rooms.change(seat, role="chair" if chair else "speaker")
        _, answer = await worker.publish(seat.room, seat.member.id, frame.sdp, screens=frame.screens)
        seat.send("published", sdp=answer)

    def cut(self, sessions: set[str]) -> None:
        """Close the sockets of sessions that ended."""
        self._cut(lambda session: session.id in sessions, 4401, b"session ended")

    def refresh(self, accounts: set[str]) -> None:
        """Close the sockets of accounts whose rights changed: whoever still may, joins again by itself."""
        self._cut(lambda session: session.actor.account in accounts, 4409, b"rights changed")

    def farewell(self) -> None:
        """The server stops; browsers come back by themselves."""
        self._cut(lambda session: True, 1001, b"server stopping")

    def _cut(self, which: Callable[[Session], bool], code: int, reason: bytes) -> None:
        for socket, session in self._sockets.items():
            if which(session):
                spawn("signal.close", socket.close(code=code, message=reason))
        for seat in self._rooms.publishers():
            if which(seat.session):
                spawn("whip.cut", self._rooms.leave(seat, "session ended"))
