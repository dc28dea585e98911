"""The frames of the link between two nodes: what each message holds, how it is encoded, and its limits.

Pure. It never decides anything; `link` does. Invariant: `decode` gives a well-formed message or raises `Corrupt`, whatever
the bytes; sizes are bounded before anything is allocated for them.

One binary WebSocket frame is one message: a tagged struct as a msgpack array (msgspec, `array_like`). A newer version may
append fields with defaults; older readers ignore what they don't know. See docs/protocol-link.md.
"""

import zlib
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from command.base.entry import Stream
from command.base.errors import Corrupt

VERSION = 2
VERSION_OLDEST = 1
VERSION_PACKED = 2
"""From this version on a peer reads `Packed`."""
FRAME_BYTES_MAX = 1024 * 1024
FRAME_BYTES_NOW = 32 * 1024
"""A sender ends a frame of entries on *now* once it is this large."""
FRAME_BYTES_LATER = 16 * 1024
"""The same on *later*, so that pacing works on a slow line."""
FRAME_ENTRIES_MAX = 256
HAVE_STREAMS_MAX = 400
EXPAND_MONTHS_MAX = 600
BRANCHES_MAX = 16
LOCATOR_MAX = 64 * BRANCHES_MAX
BLOB_BYTES_MAX = 16 * 1024
LINE_NODES_MAX = 1_000
LOCATIONS_MAX = 1_000
AHEAD_MAX = 64
WANT_MAX = 64
VERSION_OF_WANT = 2
"""From this version on a node may be asked for private parts."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Short = Annotated[str, Meta(max_length=200)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=300,
        pattern=r"^[a-z]+(/[A-Za-z0-9_-]{1,80})?@[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}(?!\n)$",
    ),
]
"""A stream: subject@origin.generation."""
NOW, LATER = "now", "later"


class Tip(NamedTuple):
    """The last entry of a stream, or of one branch of it: its sequence number and its hash (32 octets)."""

    length: Count
    head: Digest


Tips = Annotated[list[Tip], Meta(max_length=BRANCHES_MAX)]
Streams = Annotated[dict[Name, Tips], Meta(max_length=HAVE_STREAMS_MAX)]


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class Hello(Message, frozen=True, tag="hello"):
    """First frame of each side on each channel. `session` names this run of the process: a cursor outlives a connection only
    within one session. `key` is the raw Ed25519 public key, `nonce` 32 random octets."""

    versions: tuple[Count, Count]
    node: Short
    key: Digest
    nonce: Digest
    channel: Short
    session: Short
    program: Short = ""


class Proof(Message, frozen=True, tag="proof"):
    """Signature over `link.challenge` of both Hellos: this side holds the private key of the node it names."""

    signature: Annotated[bytes, Meta(max_length=128)]


class Have(Message, frozen=True, tag="have"):
    """What the sender holds of streams that both may hold.

    `months` gives one hash per month for the subjects that are closed here; `answers` names the months that `streams` lists in
    answer to an Expand; `ask` wants the same streams of the receiver in return; `begin` starts an exchange of everything and
    `done` ends this side of it.
    """

    streams: Streams = {}
    months: Annotated[dict[Short, Digest], Meta(max_length=EXPAND_MONTHS_MAX)] = {}
    answers: Annotated[list[Short], Meta(max_length=EXPAND_MONTHS_MAX)] = []
    ask: bool = False
    done: bool = False
    begin: bool = False


class Expand(Message, frozen=True, tag="expand"):
    """List the streams of these months one by one."""

    months: Annotated[list[Short], Meta(max_length=EXPAND_MONTHS_MAX)]


class Fork(Message, frozen=True, tag="fork"):
    """You name a head of `stream` that is not on my chain. My chains pass through `points`; send what I lack after them.
    `answer` says that this is the reply to a Fork, so that two of them end the exchange."""

    stream: Name
    points: Annotated[list[Tip], Meta(max_length=LOCATOR_MAX)]
    answer: bool = False


class Item(msgspec.Struct, frozen=True, array_like=True):
    """An entry on its way: bytes as stored, its place under the seal `seals[seal]` of the frame, and its private part when
    the receiver is entitled to it."""

    data: bytes
    seal: Count
    leaf: Count
    path: bytes = b""
    salt: bytes | None = None
    private: bytes | None = None


class SealItem(msgspec.Struct, frozen=True, array_like=True):
    """A seal, once per frame."""

    root: Digest
    count: Count
    signature: Annotated[bytes, Meta(max_length=128)]
    alg: Short = "ed25519"


class Entries(Message, frozen=True, tag="entries"):
    """Entries in an order in which each one's predecessor is held by the receiver or stands before it in this frame."""

    seals: Annotated[list[SealItem], Meta(max_length=FRAME_ENTRIES_MAX)]
    items: Annotated[list[Item], Meta(max_length=FRAME_ENTRIES_MAX)]


class Ahead(Message, frozen=True, tag="ahead"):
    """Entries sent before their turn because they matter; verified alone, kept beside the log."""

    seals: Annotated[list[SealItem], Meta(max_length=AHEAD_MAX)]
    items: Annotated[list[Item], Meta(max_length=AHEAD_MAX)]


class Packed(Message, frozen=True, tag="packed"):
    """`Entries` (or, when `ahead`, `Ahead`) for a slow line: the items' `data`, of `lengths` octets each, stand deflated (RFC
    1950, with the dictionary `BODIES`) in `bodies`. Private parts stay as they are: nothing secret is ever compressed beside
    what somebody else wrote, so the length of a frame tells nothing of it."""

    ahead: bool
    seals: Annotated[list[SealItem], Meta(max_length=FRAME_ENTRIES_MAX)]
    items: Annotated[list[Item], Meta(max_length=FRAME_ENTRIES_MAX)]
    lengths: Annotated[list[Count], Meta(max_length=FRAME_ENTRIES_MAX)]
    bodies: bytes


class Held(Message, frozen=True, tag="held"):
    """Durable at the sender of this message, up to these tips: the second tick. `not_yet` are streams that it can't take now
    (key of the origin unknown, disk full): send nothing of them until a Have names them."""

    streams: Streams = {}
    not_yet: Annotated[list[Name], Meta(max_length=HAVE_STREAMS_MAX)] = []


class AheadHeld(Message, frozen=True, tag="ahead-held"):
    """The entries with these hashes, sent ahead, are durable at the sender of this message."""

    hashes: Annotated[list[Digest], Meta(max_length=AHEAD_MAX)]


class Want(Message, frozen=True, tag="want"):
    """These entries of a stream are held by the sender without their private part, to which it is entitled by now: send them
    again, with it. The answer is an `entries`."""

    stream: Name
    tips: Annotated[list[Tip], Meta(min_length=1, max_length=WANT_MAX)]


class Fetch(Message, frozen=True, tag="fetch"):
    """Send the attachment with this SHA-256 from `offset` on."""

    hash: Digest
    offset: Count
    length: Annotated[int, Meta(ge=1, le=BLOB_BYTES_MAX)] = BLOB_BYTES_MAX


class Blob(Message, frozen=True, tag="blob"):
    """A piece of an attachment of `total` octets; `total` 0 says that it isn't here (yet)."""

    hash: Digest
    offset: Count
    total: Count
    data: Annotated[bytes, Meta(max_length=BLOB_BYTES_MAX)]


class Ping(Message, frozen=True, tag="ping"):
    """`clock` is the sender's clock, microseconds UTC; it comes back in the Pong."""

    clock: int


class Pong(Message, frozen=True, tag="pong"):
    echo: int
    clock: int


class NodeState(msgspec.Struct, frozen=True, array_like=True):
    """One node of the line as the sender sees it: last contact in microseconds UTC at the sender, lag in entries and seconds,
    skew in microseconds; `known` False: the sender can't say now whether it is linked."""

    node: Short
    linked: bool
    contact_at: int
    lag_entries: Count = 0
    lag_s: float = 0.0
    skew_us: int = 0
    known: bool = True


class Line(Message, frozen=True, tag="line"):
    """The state of the line."""

    nodes: Annotated[list[NodeState], Meta(max_length=LINE_NODES_MAX)]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The last location of a unit, degrees WGS-84; `at` in microseconds UTC."""

    unit: Short
    at: int
    lon: float
    lat: float
    accuracy_m: float | None = None


class Locations(Message, frozen=True, tag="locations"):
    """Last locations, upward only."""

    places: Annotated[list[Place], Meta(max_length=LOCATIONS_MAX)]


class Refuse(Message, frozen=True, tag="refuse"):
    """The last message of a connection: why the sender hangs up."""

    code: Short
    hint: Annotated[str, Meta(max_length=1000)] = ""


Any_ = (
    Hello
    | Proof
    | Have
    | Expand
    | Fork
    | Entries
    | Ahead
    | Packed
    | Held
    | AheadHeld
    | Want
    | Fetch
    | Blob
    | Ping
    | Pong
    | Line
    | Locations
    | Refuse
)
BODIES = (
    b'"kind":"incident.edited","kind":"incident.stepped","kind":"order.cancelled","kind":"notice.issued","by":{"account":"'
    b'"person":"person/","area":null,"casualties":{"casualties":{"dead":0,"injured":0,"missing":0},"category":"accident"'
    b'"occurred_at":null,"source":"phone","lat":"lon":"attachments":["accepted","read","done","step":"delivered"}}'
    b'"kind":"timer.fired","by":{"account":"node"},"body":{"kind":"order.rung","timer":"-rung-0"}}'
    b'"kind":"order.rung","by":{"account":"node"},"claim":"","body":{"means":"app","order":"","rung":0}}'
    b'"kind":"order.progressed","by":{"account":"node"},"seen":{},"body":{"order":"","step":"delivered"}}'
    b'"kind":"order.issued","by":{"account":"officer","person":""},"claim":"","seen":{},"private":"","body":{"ack_by":'
    b'"assignee":{"id":"","kind":"organisation"},"due_at":null,"exercise":false,"ladder":[{"after_s":0,"means":"app"},'
    b'{"after_s":0,"means":"sms"},{"after_s":180,"means":"sms"},{"after_s":300,"means":"duty_leader"},{"after_s":900,'
    b'"means":"superior"}],"node":"","order":"","organisation":"","parties":[""],"urgency":"normal"}}'
    b'{"subject":"incident/","origin":"","generation":"","seq":1,"prev":"","at":179,"kind":"incident.noted","by":{"account":"'
    b'"},"claim":"","private":"","body":{}}'
)
"""What entries are full of. Part of version 2: it never changes, a better one is a new version."""
DEFLATE_LEVEL = 9

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Any_).decode


def encode(message: Message) -> bytes:
    """The frame. Its size is the sender's duty; `link` never makes one above FRAME_BYTES_MAX."""
    data = _encode(message)
    assert len(data) <= FRAME_BYTES_MAX, f"a {type(message).__name__} of {len(data)} octets"
    return data


def decode(data: bytes) -> Message:
    """The message in `data`. Raises `Corrupt` for anything that is not one, or is too large."""
    if len(data) > FRAME_BYTES_MAX:
        raise Corrupt("link.frame_too_large", f"A frame of {len(data)} octets; at most {FRAME_BYTES_MAX}.")
    try:
        found: Message = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Corrupt("link.frame", f"The frame is no message: {error}") from None
    return _unpacked(found) if isinstance(found, Packed) else found


def packed(message: Entries | Ahead) -> bytes:
    """The frame, its entries deflated: about half as large."""
    deflate = zlib.compressobj(DEFLATE_LEVEL, zdict=BODIES)
    bodies = deflate.compress(b"".join(item.data for item in message.items)) + deflate.flush()
    return encode(
        Packed(
            ahead=isinstance(message, Ahead),
            seals=message.seals,
            items=[msgspec.structs.replace(item, data=b"") for item in message.items],
            lengths=[len(item.data) for item in message.items],
            bodies=bodies,
        )
    )


def _unpacked(message: Packed) -> Entries | Ahead:
    """What was packed. Raises `Corrupt` for anything but exactly these lengths, before it takes more memory than a frame."""
    total = sum(message.lengths)
    if total > FRAME_BYTES_MAX or len(message.lengths) != len(message.items):
        raise Corrupt("link.frame_too_large", f"Packed entries of {total} octets; at most {FRAME_BYTES_MAX}.")
    inflate = zlib.decompressobj(zdict=BODIES)
    try:
        bodies = inflate.decompress(message.bodies, total + 1)
    except zlib.error as error:
        raise Corrupt("link.frame", f"The packed entries can't be read: {error}") from None
    if len(bodies) != total or not inflate.eof or inflate.unused_data:
        raise Corrupt("link.frame", "The packed entries are not as long as they say.")
    items, start = [], 0
    for item, length in zip(message.items, message.lengths, strict=True):
        items.append(msgspec.structs.replace(item, data=bodies[start : start + length]))
        start += length
    if not message.ahead:
        return Entries(seals=message.seals, items=items)
    if max(len(items), len(message.seals)) > AHEAD_MAX:
        raise Corrupt("link.frame", f"More than {AHEAD_MAX} entries ahead in one frame.")
    return Ahead(seals=message.seals, items=items)


def stream_of(name: str) -> Stream:
    """The stream a name stands for. Raises `Corrupt` on a name that `Name` would not admit."""
    subject, at, place = name.partition("@")
    origin, dot, generation = place.partition(".")
    if not (at and dot and subject and origin and generation):
        raise Corrupt("link.stream", "That is not the name of a stream.")
    return Stream(subject, origin, generation)
