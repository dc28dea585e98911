"""What a link wants done: its commands to the shell that carries it.

Pure. Invariant: the shell carries them out in the order in which they come.
"""

from typing import NamedTuple

from command.base.entry import Stream
from command.tree.cursor import Tips
from command.tree.item import Received
from command.tree.wire import Line, Locations, Tip


class Send(NamedTuple):
    """Send this frame on the channel, after those before it; `bulk` when no entry is waiting: attachments travel last."""

    channel: str
    data: bytes
    bulk: bool = False


class Store(NamedTuple):
    """Make these entries durable in this order, then call `stored(number)`; or `failed(number)` if that is impossible."""

    number: int
    items: list[Received]


class StoreAhead(NamedTuple):
    """Keep these beside the log, then call `stored(number)`."""

    number: int
    items: list[Received]


class Rolled(NamedTuple):
    """The peer holds an entry of ours that we don't: this database is older than what was written from it. Unless that
    generation has ended meanwhile, open a new one before anything else is written."""

    stream: Stream
    tip: Tip


class HeldBy(NamedTuple):
    """The peer holds the stream durably up to these tips: the second tick."""

    stream: Stream
    tips: Tips


class AheadHeldBy(NamedTuple):
    hashes: list[bytes]


class Ready(NamedTuple):
    """The channel is proven."""

    peer: str
    channel: str


class CaughtUp(NamedTuple):
    """Both sides have said what they hold, and everything we had to send has arrived."""

    peer: str


class Contact(NamedTuple):
    """A round trip, and how far the peer's clock is ahead of ours."""

    rtt_us: int
    skew_us: int


class Told(NamedTuple):
    """The peer tells the state of the line, or locations."""

    message: Line | Locations


class WantBlob(NamedTuple):
    """The peer wants a piece of an attachment: answer with `blob(...)`, total 0 if it isn't here or not for the peer."""

    hash: bytes
    offset: int
    length: int


class PartsRefused(NamedTuple):
    """The peer asked for private parts that are not for it: `number` of them."""

    number: int


class GotBlob(NamedTuple):
    hash: bytes
    offset: int
    total: int
    data: bytes


class Redial(NamedTuple):
    """Close the channel's connection and dial a fresh one: nothing arrives on this one."""

    channel: str
    why: str


class Drop(NamedTuple):
    """Close both channels; the peer, or we, refused. Nothing more comes from this Link."""

    code: str
    hint: str


Command = (
    Send
    | Store
    | StoreAhead
    | Rolled
    | HeldBy
    | AheadHeldBy
    | Ready
    | CaughtUp
    | Contact
    | Told
    | WantBlob
    | PartsRefused
    | GotBlob
    | Redial
    | Drop
)
