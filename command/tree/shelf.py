"""What a link reads of its own node: the log's streams, who may hold them, and who is known.

Pure (a protocol, as `projection.Rows` is for deciders). Never awaits anything. Invariant: what a shelf answers is durable; an
entry that is only about to be stored isn't held.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from command.base.entry import Stream
from command.tree.cursor import Tips
from command.tree.handshake import Doorkeeper
from command.tree.item import Known, Received
from command.tree.wire import Tip


class Listed(NamedTuple):
    """A stream held here. `month` ("2026-11", of its subject's first entry) when the subject is closed here."""

    stream: Stream
    tips: Tips
    month: str | None


class Shelf(Known, Doorkeeper, Protocol):
    """What a link reads of its own node: from memory, or by one indexed read of the local database."""

    def listing(self, peer: str) -> Iterable[Listed]:
        """Every stream held here that the peer may hold."""
        ...

    def tips(self, stream: Stream) -> Tips:
        """The ends of its branches, usually one; empty when nothing of it is held."""
        ...

    def rest(self, stream: Stream, tips: Tips, peer: str, entries: int, octets: int) -> list[Received]:
        """Entries that are neither one of `tips` nor before one, predecessors first: at most `entries`, and none more after
        `octets`. Tips that aren't held here count for nothing. Private parts only if the peer is entitled to them."""
        ...

    def lacks(self, tip: Tip) -> bool:
        """Whether the entry is held without its private part, which was not erased."""
        ...

    def parts(self, stream: Stream, tips: list[Tip], peer: str) -> tuple[list[Received], int]:
        """Of these entries those that are held here with their private part and whose part the peer may read; and how many of
        them are not for it. About FRAME_BYTES_LATER octets at most, but at least one."""
        ...

    def urgent(self, stream: Stream, tips: Tips, peer: str) -> list[Received]:
        """Of `rest`, what the peer must see before its turn (orders for it and their answers); at most AHEAD_MAX."""
        ...

    def locator(self, stream: Stream) -> list[Tip]:
        """Of each branch its last entry and those 1, 2, 4, 8 ... before it, and its very first."""
        ...

    def shared(self, stream: Stream, peer: str) -> bool:
        """Whether the peer may hold this stream."""
        ...

    def accepts(self, stream: Stream, peer: str) -> bool:
        """Whether we take this stream from the peer."""
        ...

    def ended(self, generation: str) -> bool:
        """Whether it is an earlier generation of ours, which nothing more is written to."""
        ...

    def open_subject(self, subject: str) -> bool:
        """Whether it is an incident that isn't closed: its streams go first."""
        ...
