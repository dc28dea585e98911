"""Foreign entries at the door: is each one what its bytes, its chain, its seal and its origin's key say?

Pure. The link and the files use the same check, so what comes on a USB stick is trusted no more and no less than what comes by
radio. Invariant: a `Received` has been checked completely; the log needs to look only at what it holds already.
"""

import re
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from command.base import entry as entries
from command.base.entry import (
    BATCH_ENTRIES_MAX,
    BODY_BYTES_MAX,
    NO_HASH,
    PRIVATE_BYTES_MAX,
    SALT_BYTES,
    Entry,
    Proven,
    Seal,
    Stream,
    Written,
)
from command.base.errors import Corrupt
from command.tree.wire import Item, SealItem, Tip

SUBJECT = re.compile(r"^[a-z]+(/[A-Za-z0-9_-]{1,80})?\Z")
NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}\Z")
PATH_BYTES_MAX = 32 * 32


class Proof:
    """That a `Door` of this process has checked bytes, private part and path: of these very objects, which can't change."""

    __slots__ = ("_leaf", "_path", "_seal", "_written")

    def __init__(self, written: Written, seal: Seal, leaf: int, path: bytes) -> None:
        self._written, self._seal, self._leaf, self._path = written, seal, leaf, path

    def covers(self, one: "Received") -> bool:
        same = one.written is self._written and one.seal is self._seal
        return same and one.leaf == self._leaf and one.path is self._path

    def __eq__(self, other: object) -> bool:
        """It is no part of what was received."""
        return True

    __hash__ = None  # type: ignore[assignment]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign entry, completely checked, with what is kept beside it: its seal and its place under it. `proof` is there when a
    door of this process has checked it."""

    written: Written
    seal: Seal
    leaf: int
    path: bytes
    proof: Proof | None = None

    @property
    def proven(self) -> bool:
        return self.proof is not None and self.proof.covers(self)

    @property
    def stream(self) -> Stream:
        return self.written.entry.stream

    @property
    def tip(self) -> Tip:
        return Tip(self.written.entry.seq, self.written.hash)


class Placed(NamedTuple):
    """A checked entry, the one that it follows, and its stream and tip."""

    received: Received
    before: Tip
    place: tuple[Stream, Tip]


class Known(Protocol):
    """What the door must know of the node behind it."""

    def holds(self, stream: Stream, tip: Tip) -> bool:
        """Whether this very entry of the stream is held, on its chain or on a branch."""
        ...

    def signed(self, origin: str, seal: Seal) -> bool | None:
        """Whether the seal is that node's; None when its key isn't known (yet)."""
        ...


class Unknown(Exception):
    """The key of an entry's origin is not known yet: neither good nor bad. Never leaves `link` and `bundle`."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(str(stream))
        self.stream = stream


class Gap(Corrupt):
    """An entry whose predecessor isn't here."""

    def __init__(self, stream: Stream, seq: int) -> None:
        super().__init__("item.gap", f"{stream} #{seq} follows an entry that is not here.")
        self.stream = stream


def pack(found: Iterable[Received]) -> tuple[list[SealItem], list[Item]]:
    """Seals once each, and the items that name them by index."""
    seals: dict[bytes, int] = {}
    listed: list[SealItem] = []
    items: list[Item] = []
    for one in found:
        key = one.seal.root + one.seal.signature
        if key not in seals:
            seals[key] = len(listed)
            listed.append(
                SealItem(root=one.seal.root, count=one.seal.count, signature=one.seal.signature, alg=one.seal.alg)
            )
        items.append(
            Item(
                data=one.written.data,
                seal=seals[key],
                leaf=one.leaf,
                path=one.path,
                salt=one.written.salt,
                private=one.written.private,
            )
        )
    return listed, items


class Door:
    """Checks items one after the other; remembers signatures and the entries of the frame it has passed.

    `check` raises `Corrupt` with the place in the hint, or `Unknown`. The caller must make a new Door for each frame.
    """

    def __init__(self, known: Known, seals: Sequence[SealItem]) -> None:
        self._known = known
        self._seals = [Seal(root=s.root, count=s.count, signature=s.signature, alg=s.alg) for s in seals]
        self._good: set[tuple[int, str]] = set()
        self._passed: set[tuple[Stream, Tip]] = set()
        self._proven: dict[int, Proven] = {}
        self._streams: dict[tuple[str, str, str], Stream] = {}

    def check(self, item: Item) -> Received:
        """The entry, when everything about it is right and its predecessor is held here or was passed before it."""
        return self.placed(item).received

    def placed(self, item: Item) -> Placed:
        """The same with its place. Raises as `check`."""
        found = self.alone(item)
        entry, stream = found.written.entry, self._stream(found.written.entry)
        before = Tip(entry.seq - 1, _octets(entry.prev, stream, entry.seq))
        if entry.seq == 1:
            if entry.prev != NO_HASH:
                raise Corrupt("item.chain", f"{stream} #1 names an entry before it.")
        elif (stream, before) not in self._passed and not self._known.holds(stream, before):
            raise Gap(stream, entry.seq)
        place = (stream, Tip(entry.seq, found.written.hash))
        self._passed.add(place)
        return Placed(found, before, place)

    def _stream(self, entry: Entry) -> Stream:
        """One object for each stream of the frame."""
        name = (entry.subject, entry.origin, entry.generation)
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = Stream(*name)
        return found

    def alone(self, item: Item) -> Received:
        """Everything but its place after the entry before it: for what was sent ahead."""
        written = _written(item, self._streams)
        entry = written.entry
        if item.seal >= len(self._seals):
            raise Corrupt("item.seal", f"{entry.place} names a seal that is not in the frame.")
        seal = self._seals[item.seal]
        if not 1 <= seal.count <= BATCH_ENTRIES_MAX or len(item.path) > PATH_BYTES_MAX:
            raise Corrupt("item.seal", f"{entry.place}: the seal has the wrong shape.")
        if not self._under(item.seal).holds(written.hash, item.leaf, item.path):
            raise Corrupt("item.seal", f"{entry.place} is not under the root that was sealed.")
        if (item.seal, entry.origin) not in self._good:
            signed = self._known.signed(entry.origin, seal)
            if signed is None:
                raise Unknown(entry.stream)
            if not signed:
                raise Corrupt("item.forged", f"{entry.place}: the seal is not {entry.origin}'s.")
            self._good.add((item.seal, entry.origin))
        proof = Proof(written, seal, item.leaf, item.path)
        return Received(written=written, seal=seal, leaf=item.leaf, path=item.path, proof=proof)

    def _under(self, seal: int) -> Proven:
        found = self._proven.get(seal)
        if found is None:
            found = self._proven[seal] = Proven(self._seals[seal])
        return found


def _octets(text: str, stream: Stream, seq: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Corrupt("item.chain", f"{stream} #{seq}: 'prev' is no hash.")
    return found


def _written(item: Item, named: Container[tuple[str, str, str]]) -> Written:
    """`named` are streams whose names were found good."""
    if len(item.data) > BODY_BYTES_MAX:
        raise Corrupt("item.too_large", f"An entry of {len(item.data)} octets; at most {BODY_BYTES_MAX}.")
    entry = entries.decode(item.data)
    name = (entry.subject, entry.origin, entry.generation)
    if name not in named and not (SUBJECT.match(name[0]) and NAME.match(name[1]) and NAME.match(name[2])):
        raise Corrupt("item.name", f"{entry.place!r} is not the name of a stream.")
    if entry.v != 1 or entry.hash != "sha256":
        raise Corrupt("item.version", f"{entry.place} is of a version or with a hash that this program doesn't know.")
    if not 1 <= entry.seq < 2**53 or not -(2**63) <= entry.at < 2**63:
        raise Corrupt("item.number", f"{entry.place}: a number is out of bounds.")
    if entries.has_nul(item.data):
        raise Corrupt("item.nul", f"{entry.place} holds the character U+0000.")
    part = item.private
    if part is not None and (len(part) > PRIVATE_BYTES_MAX or item.salt is None or len(item.salt) != SALT_BYTES):
        raise Corrupt("item.private", f"{entry.place}: the private part has the wrong shape.")
    if not entries.check_private(entry, item.salt, part):
        raise Corrupt("item.private", f"{entry.place}: the private part is not what the entry's salted hash says.")
    return Written(entry=entry, data=item.data, hash=entries.leaf_hash(item.data), salt=item.salt, private=part)
