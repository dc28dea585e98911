"""One seat in a room: whose it is, what was sent to it and not yet read, and the frames of its socket.

Edge. Knows neither the log nor the worker. Invariant: a browser that does not read is cut off, never waited for.

The wire is `docs/protocol-conference.md`.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from aiohttp import web

from command.base.errors import FenghuoError, Rejected
from command.domain.meeting import Member
from command.edge.auth import Session
from media.control import TILES_MAX, MuteKind
from media.experience import Experience

FRAME_BYTES_MAX = 160 * 1024
PENDING_FRAMES_MAX = 200
LAST = {"removed": 4410, "closed": 4404}
"""Frames after which the socket closes, and its close code."""
LOST_FAIR, LOST_POOR = 0.02, 0.08
"""Fractions of packets lost from which on a member's way to us is fair, or poor."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame from a browser; `type` says which fields matter."""

    type: Annotated[str, msgspec.Meta(max_length=20)]
    sdp: str = ""
    peer: Annotated[str, msgspec.Meta(max_length=64)] = ""
    revision: int = 0
    publish: bool = True
    audio: bool = False
    video: bool = False
    screen: bool = False
    screens: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=2)] = []
    former: Annotated[str, msgspec.Meta(max_length=64)] = ""
    tiles: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[int, msgspec.Meta(ge=0, le=8_192)]],
        msgspec.Meta(max_length=TILES_MAX),
    ] = {}
    freezes: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0


_decode = msgspec.json.Decoder(Frame).decode


def read_frame(text: str) -> Frame | Rejected:
    """The frame, or why it can't be read."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Rejected("signal.unreadable", f"The message can't be read: {error}")


def error_frame(error: FenghuoError, about: str) -> dict[str, Any]:
    """What a browser is told; `about` is the type of the frame that was refused."""
    return {"type": "error", "code": error.code, "hint": error.hint, "about": about}


def grade_of(lost: float) -> int:
    """0 good, 1 fair, 2 poor, from the fraction of packets lost (0-1)."""
    return 2 if lost >= LOST_POOR else 1 if lost >= LOST_FAIR else 0


@dataclass(eq=False, kw_only=True)
class IceSession:
    """The ICE credentials in force on a WHIP or WHEP resource: ours, which are its ETag, and the client's."""

    peer: str
    ufrag: str
    remote_ufrag: str
    restarting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def etag(self) -> str:
        return f'"{self.ufrag}"'


@dataclass(eq=False, kw_only=True)
class Seat:
    """One member of one room, and the socket it is reached by (None for WHIP, which has an `ice` session instead).

    `stopped`: what the worker was told not to forward. The chair did that, or the mode of the microphones.
    """

    room: str
    member: Member
    session: Session
    publish: bool
    socket: web.WebSocketResponse | None = None
    ice: IceSession | None = None
    stopped: set[MuteKind] = field(default_factory=set)
    grade: int = 0
    greeted: bool = False
    experience: Experience = field(default_factory=Experience)
    _frames: deque[dict[str, Any]] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, type_: str, **values: Any) -> None:
        """Queue a frame; never waits."""
        self.put({"type": type_, **values})

    def greet(self, **joined: Any) -> None:
        """The first frame; what happened before it is in it."""
        self.greeted = True
        self.send("joined", **joined)

    def put(self, frame: dict[str, Any]) -> None:
        """As `send`, for a frame that is made already."""
        if self.socket is not None and self.greeted and len(self._frames) <= PENDING_FRAMES_MAX:
            self._frames.append(frame)
            self._wake.set()

    async def write(self) -> None:
        """Send what is queued until the socket closes; the caller runs it as a task of its own."""
        assert self.socket is not None
        while not self.socket.closed:
            await self._wake.wait()
            self._wake.clear()
            if len(self._frames) > PENDING_FRAMES_MAX:
                await self.socket.close(code=1013, message=b"too slow")
                return
            while self._frames:
                frame = self._frames.popleft()
                try:
                    await self.socket.send_json(frame)
                except (ConnectionResetError, RuntimeError):
                    return
                if frame["type"] in LAST:
                    await self.socket.close(code=LAST[frame["type"]])
                    return
