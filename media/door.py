"""Who stands before a room with a waiting room: their sockets, and what they are told when the chair has decided.

Edge. Decides nothing. Invariant: whoever waits is an entry, and so is their going away.

The wire is `docs/protocol-conference.md`.
"""

from contextlib import suppress
from typing import Any

import structlog
from aiohttp import web

from command.base.errors import FenghuoError
from command.base.supervise import spawn
from command.domain.chairing import Knock
from command.domain.room import Meeting, Room
from command.edge.api import Node, by_of
from command.edge.auth import Session

journal = structlog.get_logger("media")


class Door:
    """The sockets that wait, by room."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: dict[str, dict[web.WebSocketResponse, Session]] = {}

    async def knock(self, room: Room, session: Session, socket: web.WebSocketResponse) -> None:
        """Somebody waits to be let in, until `leave`."""
        self._waiting.setdefault(room.id, {})[socket] = session
        actor = session.actor
        request = Knock(room=room.id, account=actor.account, name=actor.name, organisation=actor.organisation or None)
        await self._node.log.append(request, by_of(actor))

    async def leave(self, room: str, socket: web.WebSocketResponse) -> None:
        """They went in, or away. Idempotent."""
        waiting = self._waiting.get(room, {})
        session = waiting.pop(socket, None)
        if not waiting:
            self._waiting.pop(room, None)
        if session is None or session.actor.account in {other.actor.account for other in waiting.values()}:
            return
        try:
            request = Knock(room=room, account=session.actor.account, left=True)
            await self._node.log.append(request, by_of(session.actor))
        except FenghuoError as error:
            journal.warning("door.log", code=error.code)

    def changed(self, before: Meeting, after: Meeting) -> None:
        """A commit: who was let in is told to join now; who was refused, or finds the room closed, to go."""
        for socket, session in list(self._waiting.get(after.id, {}).items()):
            account = session.actor.account
            if not after.open:
                spawn("door.closed", _refuse(socket, "room.closed", "The room is closed."))
            elif account in after.barred and account not in before.barred:
                spawn("door.refused", _refuse(socket, "room.barred", "The chair has not let you in."))
            elif account in after.admitted and account not in before.admitted:
                spawn("door.admitted", _say(socket, {"type": "admitted"}))


async def _refuse(socket: web.WebSocketResponse, code: str, hint: str) -> None:
    await _say(socket, {"type": "error", "code": code, "hint": hint, "about": "join"})
    await socket.close(code=4400)


async def _say(socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
    """A frame to somebody who has no seat yet."""
    with suppress(ConnectionResetError, RuntimeError):
        await socket.send_json(frame)
