"""The messages between the command process and a media worker, and their frames. Described in `docs/media-control.md`.

Pure. Never imports aiortc. Invariant: what `Frames` and the decoders let through has bounded size and the types below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, field
from msgspec.msgpack import Decoder, Encoder

from media.sdp import SDP_BYTES_MAX

FRAME_BYTES_MAX = 262_144
ADDRESSES_MAX = 16
SCREENS_MAX = 2
FOCUS_MAX = 16
TILES_MAX = 400
QUALITY_TRACKS_MAX = 40

Ident = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]
Text = Annotated[str, Meta(max_length=200)]
Sdp = Annotated[str, Meta(max_length=SDP_BYTES_MAX)]
MediaKind = Literal["audio", "video"]
MuteKind = Literal["audio", "video", "screen"]
"""What is muted: a microphone, a camera, a shared screen. (A screen is a track of media `video`.)"""
Role = Literal["publish", "subscribe", "view"]


class Request(Struct, kw_only=True, frozen=True, tag_field="t", forbid_unknown_fields=True):
    """`n` is the parent's number for the request; the answer repeats it."""

    n: int = 0


class Start(Request, tag="start", frozen=True):
    addresses: Annotated[list[Annotated[str, Meta(max_length=45)]], Meta(max_length=ADDRESSES_MAX)] = field(
        default_factory=list
    )
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    bind: Annotated[str, Meta(max_length=45)] = "0.0.0.0"  # noqa: S104  # which addresses are told is `addresses`


class OpenRoom(Request, tag="room.open", frozen=True):
    room: Ident


class CloseRoom(Request, tag="room.close", frozen=True):
    room: Ident


class Join(Request, tag="join", frozen=True):
    room: Ident
    member: Ident
    publish: bool = True
    chair: bool = False


class Remove(Request, tag="remove", frozen=True):
    room: Ident
    member: Ident
    reason: Text = "asked"


class SetChair(Request, tag="chair", frozen=True):
    room: Ident
    member: Ident | None


class Mute(Request, tag="mute", frozen=True):
    room: Ident
    member: Ident
    media: MuteKind
    on: bool


class Focus(Request, tag="focus", frozen=True):
    """Whom everybody should see first, in this order: the broadcast site, the polled one, the spotlight.

    `polled`: the site of a round that is held for `audience` (the chairs) alone; nobody else gets it first.
    """

    room: Ident
    members: Annotated[list[Ident], Meta(max_length=FOCUS_MAX)] = field(default_factory=list)
    polled: Ident | None = None
    audience: Annotated[list[Ident], Meta(max_length=FOCUS_MAX)] = field(default_factory=list)


class Publish(Request, tag="publish", frozen=True):
    """`screens`: mids of the offer's m-lines that carry a shared screen."""

    room: Ident
    member: Ident
    sdp: Sdp
    screens: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=SCREENS_MAX)] = field(
        default_factory=list
    )


class Subscribe(Request, tag="subscribe", frozen=True):
    room: Ident
    member: Ident


class Answer(Request, tag="answer", frozen=True):
    peer: Ident
    revision: int
    sdp: Sdp


class View(Request, tag="view", frozen=True):
    room: Ident
    sdp: Sdp
    source: Ident | None = None


class Tiles(Request, tag="tiles", frozen=True):
    """What `member`'s screen shows: track -> height of its tile in device pixels; what isn't there isn't shown."""

    room: Ident
    member: Ident
    tiles: Annotated[dict[Ident, Annotated[int, Meta(ge=0, le=8_192)]], Meta(max_length=TILES_MAX)] = field(
        default_factory=dict
    )


class RestartIce(Request, tag="restart", frozen=True):
    """Begin a new ICE generation on `peer` of `room`. With the client's new credentials: it offers (publish, view).

    Without: we offer (subscribe), and an `offer` event follows. `member`: only if the connection is this member's.
    """

    room: Ident
    peer: Ident
    member: Ident | None = None
    ufrag: Annotated[str, Meta(max_length=256)] = ""
    password: Annotated[str, Meta(max_length=256)] = ""


class Close(Request, tag="close", frozen=True):
    peer: Ident


class Stats(Request, tag="stats", frozen=True):
    pass


class Ping(Request, tag="ping", frozen=True):
    """Answered as soon as the worker's loop comes to it."""


class Stop(Request, tag="stop", frozen=True):
    pass


AnyRequest = (
    Start
    | OpenRoom
    | CloseRoom
    | Join
    | Remove
    | SetChair
    | Mute
    | Focus
    | Publish
    | Subscribe
    | Answer
    | View
    | Tiles
    | RestartIce
    | Close
    | Stats
    | Ping
    | Stop
)


class Done(Struct, kw_only=True, frozen=True, tag_field="t", tag="done"):
    n: int
    result: dict[str, Any]


class Failed(Struct, kw_only=True, frozen=True, tag_field="t", tag="failed"):
    n: int
    kind: Literal["rejected", "missing", "denied", "conflict", "unavailable"]
    code: str
    hint: str


class Event(Struct, kw_only=True, frozen=True, tag_field="t"):
    """Something happened in `room`."""

    room: str = ""


class MemberJoined(Event, tag="member.joined", frozen=True):
    member: str


class MemberLeft(Event, tag="member.left", frozen=True):
    member: str
    reason: str


class TrackAdded(Event, tag="track.added", frozen=True):
    member: str
    track: str
    media: MediaKind


class TrackRemoved(Event, tag="track.removed", frozen=True):
    member: str
    track: str
    media: MediaKind


class TrackMuted(Event, tag="track.muted", frozen=True):
    member: str
    media: MuteKind
    on: bool


class Speaker(Event, tag="speaker", frozen=True):
    member: str | None


class OfferedTrack(Struct, kw_only=True, frozen=True):
    mid: str
    member: str
    track: str
    media: MediaKind
    screen: bool = False


class Offer(Event, tag="offer", frozen=True):
    member: str
    peer: str
    revision: int
    sdp: str
    tracks: list[OfferedTrack]


class Layers(Event, tag="layers", frozen=True):
    """The simulcast layers of `member`'s m-line `mid` that anybody wants now; the others needn't be sent."""

    member: str
    mid: str
    rids: list[str]


class PeerConnected(Event, tag="peer.connected", frozen=True):
    member: str
    peer: str
    role: Role


class PeerClosed(Event, tag="peer.closed", frozen=True):
    member: str
    peer: str
    role: Role
    reason: str


class TrackQuality(Struct, kw_only=True, frozen=True):
    """One track (published: one layer of it) over the last interval.

    `layer` counts from 0, the lowest. `height` in pixels, 0 if not known. `lost` 0-1.
    """

    track: str
    member: str
    media: MediaKind
    layer: int
    layers: int
    height: int
    bitrate_bps: int
    lost: float


class Quality(Event, tag="quality", frozen=True):
    """Counted over the last interval; `lost` is a fraction 0-1, `rtt_ms` None if not known yet.

    `estimate_bps` is what the subscriber's way can carry, None while nothing is known; `remb_bps` what we or it said.
    """

    member: str
    peer: str
    role: Role
    bitrate_bps: int
    packets: int
    lost: float
    rtt_ms: int | None
    nacks: int
    keyframes: int
    remb_bps: int | None
    estimate_bps: int | None = None
    tracks: Annotated[list[TrackQuality], Meta(max_length=QUALITY_TRACKS_MAX)] = field(default_factory=list)


class WorkerLost(Event, tag="worker.lost", frozen=True):
    """Made by `media/remote.py`: the worker process ended unasked."""

    pid: int
    code: int | None


class WorkerReady(Event, tag="worker.ready", frozen=True):
    """Made by `media/remote.py`: a worker runs and has heard of all rooms and members."""

    pid: int
    port: int


AnyEvent = (
    MemberJoined
    | MemberLeft
    | TrackAdded
    | TrackRemoved
    | TrackMuted
    | Speaker
    | Offer
    | Layers
    | PeerConnected
    | PeerClosed
    | Quality
    | WorkerLost
    | WorkerReady
)
FromWorker = Done | Failed | AnyEvent

encoder = Encoder()
request_decoder: Decoder[AnyRequest] = Decoder(AnyRequest)
worker_decoder: Decoder[FromWorker] = Decoder(FromWorker)


class FrameError(ValueError):
    """The other end of the channel broke the framing."""


def read_request(body: bytes) -> AnyRequest:
    """What the parent sent; raises `FrameError`."""
    try:
        return request_decoder.decode(body)
    except (DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter escape
        raise FrameError(str(error)) from None


def read_message(body: bytes) -> FromWorker:
    """What the worker sent; raises `FrameError`."""
    try:
        return worker_decoder.decode(body)
    except (DecodeError, UnicodeDecodeError) as error:
        raise FrameError(str(error)) from None


def frame(message: Struct) -> bytes:
    """`message` with its length in front; raises `FrameError` if it is too large or holds half a character."""
    try:
        body = encoder.encode(message)
    except UnicodeEncodeError as error:
        raise FrameError(str(error)) from None
    if len(body) > FRAME_BYTES_MAX:
        raise FrameError(f"frame of {len(body)} bytes")
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Cuts a byte stream into frame bodies. Holds at most one frame of `FRAME_BYTES_MAX` and one read."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes; raises `FrameError` for a length over the limit."""
        self._buffer += data
        out: list[bytes] = []
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > FRAME_BYTES_MAX:
                raise FrameError(f"frame of {size} bytes")
            if len(self._buffer) < 4 + size:
                break
            out.append(bytes(self._buffer[4 : 4 + size]))
            del self._buffer[: 4 + size]
        return out
