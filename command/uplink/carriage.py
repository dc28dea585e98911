"""The carriage: bundles out of this node and into it, as files on a stick or through a one-way gate.

Shell over `bundle`. A file holds what the link would send to the same node, by the same rules of sharing. Invariant: nothing of a
file is stored before the whole of it was checked, and importing it twice, or in any order, changes nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command.base.clock import Clock
from command.base.entry import Seal, Stream
from command.base.errors import Conflict, Corrupt, Missing, Unavailable
from command.domain.nodes import NODE, TreeNode
from command.log.audience import Audience, NodeTree
from command.log.holdings import Holdings
from command.log.store import Store
from command.log.writer import Log
from command.tree.bundle import Header, Opener, Writer
from command.tree.cursor import Tips
from command.tree.item import Received
from command.tree.wire import FRAME_ENTRIES_MAX, Tip

READ_OCTETS = 1024 * 1024
HEADER_OCTETS = 300
ENTRIES_OCTETS = 8 * 1024 * 1024
FIRST = ("tree", "registry")
"""Subjects in the order in which they stand in a file: keys before what was signed with them."""


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` in the file; `skipped` streams of nodes whose keys aren't known yet: import the file again when they are."""

    maker: str
    entries: int
    skipped: list[str] = []


class Carriage:
    """One node's. For command-line work, or beside a running log."""

    def __init__(self, store: Store, node: str, clock: Clock, key: Ed25519PrivateKey) -> None:
        self._store, self._node, self._clock, self._key = store, node, clock, key
        self._nodes: dict[str, TreeNode] = {}
        self._tree = NodeTree(self._nodes)
        self._holdings = Holdings(store, node, lambda: "", self._nodes, Audience(node, self._tree))

    def export(self, target: Path, to: str, subjects: frozenset[str] = frozenset()) -> int:
        """Write what the node `to` may hold (of some subjects, when there are any) into a file; how many entries.

        Raises `Missing` when no such node is known, `Unavailable` when the file can't be written.
        """
        self._learn()
        if to not in self._nodes:
            raise Missing("node.missing", "There is no such node here; `admin nodes` lists them.")
        public = self._key.public_key().public_bytes_raw()
        writer = Writer(Header(node=self._node, key=public, made_at=self._clock.now(), to=to))
        count = 0
        try:
            with target.open("wb") as file, self._holdings.reading():
                file.write(writer.start())
                for found in self._all(to, subjects):
                    count += len(found)
                    file.write(writer.add(found))
                file.write(writer.end(self._key.sign))
        except OSError as error:
            raise Unavailable("bundle.file", f"The file can't be written: {error.strerror}") from None
        return count

    def _all(self, to: str, subjects: frozenset[str]) -> Iterator[list[Received]]:
        def place(subject: str) -> tuple[int, str]:
            return (FIRST.index(subject) if subject in FIRST else len(FIRST)), subject

        listed = [
            one for one in self._holdings.listing(to) if not subjects or one.stream.subject in (*subjects, *FIRST)
        ]
        for one in sorted(listed, key=lambda one: (place(one.stream.subject), one.stream)):
            held: Tips = ()
            while found := self._holdings.rest(one.stream, held, to, FRAME_ENTRIES_MAX, ENTRIES_OCTETS):
                yield found
                followed = {item.written.entry.prev for item in found}
                held = (*(tip for tip in held if tip.head.hex() not in followed), *_ends(found))

    async def bring(self, source: Path, log: Log) -> Carried:
        """Check a file to its end, then store it. Raises `Corrupt` naming the octet, `Denied`, `Unavailable`."""
        self._learn()
        try:
            opener = self._opener()
            for piece in _pieces(source):
                with self._holdings.reading():
                    opener.feed(piece)
            opener.close()
            assert opener.header is not None
            count, skipped = await self._take(source, log)
            while skipped:  # keys that it needs may stand further on in the same file
                left, (count, skipped) = skipped, await self._take(source, log)
                if skipped == left:
                    break
        except OSError as error:
            raise Unavailable("bundle.file", f"The file can't be read: {error.strerror}") from None
        return Carried(maker=opener.header.node, entries=count, skipped=sorted(map(str, skipped)))

    async def _take(self, source: Path, log: Log) -> tuple[int, set[Stream]]:
        """Store what can be verified with the keys known by now: how many entries, and the streams left out."""
        self._learn()
        opener, count = self._opener(), 0
        for piece in _pieces(source):
            with self._holdings.reading():
                found = opener.feed(piece)
            count += len(found)
            await self._store_all(found, log)
        return count, opener.skipped

    async def _store_all(self, found: list[Received], log: Log) -> None:
        """What this node wrote itself and no longer has comes back under a new generation."""
        try:
            await log.receive(found, self._holdings.keys())
        except Conflict as error:
            if error.code != "receive.own":
                raise
            await log.open_generation()
            await log.receive(found, self._holdings.keys())

    def _opener(self) -> Opener:
        return Opener(self._holdings, self._trusted, self._holdings.proves)

    def _trusted(self, node: str, key: bytes) -> bool:
        row = self._nodes.get(node)
        return row is not None and row.public_key == key.hex() and row.revoked is None

    def _learn(self) -> None:
        with self._holdings.reading():
            rows = self._store.shelf(NODE).select(self._holdings.connection)
        self._nodes.clear()
        self._nodes.update({row.id: row for row in rows})
        self._tree.moved()


def maker_of(source: Path) -> Header:
    """Who says to have made a file; nothing is proven before the whole of it was checked. Raises `Corrupt`, `Unavailable`."""

    class _Nobody:
        def holds(self, stream: Stream, tip: Tip) -> bool:
            return False

        def signed(self, origin: str, seal: Seal) -> bool | None:
            return None

    opener = Opener(_Nobody(), lambda node, key: True, lambda key, message, signature: False)
    try:
        with source.open("rb") as file:
            opener.feed(file.read(HEADER_OCTETS))
    except OSError as error:
        raise Unavailable("bundle.file", f"The file can't be read: {error.strerror}") from None
    except Corrupt:
        if opener.header is None:
            raise
    if opener.header is None:
        raise Corrupt("bundle.cut", "The file ends before it says who made it.")
    return opener.header


def _ends(found: list[Received]) -> list[Tip]:
    """The last entries of what was read: those that no other of them follows."""
    followed = {one.written.entry.prev for one in found}
    return [one.tip for one in found if one.written.hash.hex() not in followed]


def _pieces(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while piece := file.read(READ_OCTETS):
            yield piece
