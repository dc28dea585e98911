"""A signed file of chosen streams: the link for places that no wire reaches (a USB stick, an optical one-way gate).

Pure: octets in, octets out; `uplink` reads and writes the files. It carries the frames of the link as they are, so an entry is
checked by the same door. Invariant: an item is handed out only after it was checked by itself, and `Opener.complete` says
whether the file is whole and by whom it was made; the caller must store nothing of a file that isn't.

Layout: MAGIC, then chunks of a 4-octet length (big-endian) and that many octets: one Header, `Entries` frames, one Trailer whose
signature covers SHA-256 of everything before it.
"""

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from command.base.entry import Stream
from command.base.errors import Corrupt, Denied
from command.tree.item import Door, Known, Received, Unknown, pack
from command.tree.wire import FRAME_BYTES_MAX, FRAME_ENTRIES_MAX, Digest, Entries, Short, Tip, decode, encode

MAGIC = b"fenghuo bundle 1\n"
CONTEXT = b"fenghuo bundle 1\x00"
FRAME_OCTETS = 256 * 1024


class Header(msgspec.Struct, frozen=True, array_like=True, tag="header"):
    """Who made it, with which key (raw Ed25519), for whom ("" for anybody), and when by its clock (microseconds UTC)."""

    node: Short
    key: Digest
    made_at: int
    to: Short = ""


class Trailer(msgspec.Struct, frozen=True, array_like=True, tag="trailer"):
    """`entries` in the file, and the signature."""

    entries: int
    signature: bytes


_encode = msgspec.msgpack.Encoder().encode
_header = msgspec.msgpack.Decoder(Header).decode
_trailer = msgspec.msgpack.Decoder(Trailer).decode


class Writer:
    """Makes a bundle: `start`, `add` as often as needed, `end`; the caller writes what they return, in order."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._digest = hashlib.sha256()
        self._entries = 0

    def start(self) -> bytes:
        return self._put(MAGIC + _chunk(_encode(self._header)))

    def add(self, found: Iterable[Received]) -> bytes:
        """Entries of a stream in an order in which predecessors come first; private parts as the receiver may have them."""
        out, frame, octets = b"", [], 0
        for one in found:
            frame.append(one)
            octets += len(one.written.data) + len(one.written.private or b"") + len(one.path) + 200
            if len(frame) == FRAME_ENTRIES_MAX or octets > FRAME_OCTETS:
                out += self._frame(frame)
                frame, octets = [], 0
        return out + (self._frame(frame) if frame else b"")

    def end(self, sign: Callable[[bytes], bytes]) -> bytes:
        return _chunk(_encode(Trailer(self._entries, sign(CONTEXT + self._digest.digest()))))

    def _frame(self, found: list[Received]) -> bytes:
        self._entries += len(found)
        seals, items = pack(found)
        return self._put(_chunk(encode(Entries(seals=seals, items=items))))

    def _put(self, octets: bytes) -> bytes:
        self._digest.update(octets)
        return octets


class Opener:
    """Reads a bundle piece by piece.

    `feed` hands out the entries of each whole chunk; `close` says that the file has ended. Raises `Corrupt` naming the octet
    where it went wrong, or `Denied`. `header` is set after the first chunk; `skipped` are streams of nodes whose keys aren't
    known: import the file again when they are. The caller must go through the file once to the end, and only then, in a
    second pass with a new Opener, store what comes out.
    """

    def __init__(
        self, known: Known, trusted: Callable[[str, bytes], bool], proves: Callable[[bytes, bytes, bytes], bool]
    ) -> None:
        self._known, self._trusted, self._proves = known, trusted, proves
        self._buffer = bytearray()
        self._offset = 0
        self._digest = hashlib.sha256()
        self._passed: set[bytes] = set()
        self._entries = 0
        self.signed = known.signed
        self.header: Header | None = None
        self.complete = False
        self.skipped: set[Stream] = set()

    def holds(self, stream: Stream, tip: Tip) -> bool:
        return tip.head in self._passed or self._known.holds(stream, tip)

    def feed(self, octets: bytes) -> list[Received]:
        self._buffer += octets
        found: list[Received] = []
        if self.header is None and self._offset == 0:
            if len(self._buffer) < len(MAGIC):
                return found
            if not self._buffer.startswith(MAGIC):
                raise Corrupt("bundle.magic", "At octet 0: this is not a bundle of Fenghuo.")
            self._take(len(MAGIC))
        while (chunk := self._next()) is not None:
            found += self._chunk(chunk)
        return found

    def close(self) -> None:
        """Raises `Corrupt` when the file ends before its trailer."""
        if not self.complete or self._buffer:
            raise Corrupt("bundle.cut", f"At octet {self._offset}: the file ends too early or goes on too long.")

    def _take(self, count: int) -> bytes:
        octets = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._digest.update(octets)
        self._offset += count
        return octets

    def _next(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if length > FRAME_BYTES_MAX:
            raise Corrupt("bundle.chunk", f"At octet {self._offset}: a piece of {length} octets.")
        if len(self._buffer) < 4 + length:
            return None
        return bytes(self._buffer[4 : 4 + length])

    def _chunk(self, chunk: bytes) -> list[Received]:
        place = f"At octet {self._offset}"
        if self.complete:
            raise Corrupt("bundle.chunk", f"{place}: something follows the signature.")
        try:
            if self.header is None:
                self._begin(_header(chunk))
                found = []
            elif chunk[1:9] == b"\xa7trailer":
                self._end(_trailer(chunk), place)
                return []
            else:
                found = self._items(chunk)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Corrupt("bundle.chunk", f"{place}: {error}") from None
        except Corrupt as error:
            raise Corrupt(error.code, f"{place}: {error.hint}") from None
        self._take(4 + len(chunk))
        return found

    def _begin(self, header: Header) -> None:
        if not self._trusted(header.node, header.key):
            raise Denied("bundle.unknown_node", f"{header.node} is not a node of this tree, or has another key.")
        self.header = header

    def _end(self, trailer: Trailer, place: str) -> None:
        assert self.header is not None
        if trailer.entries != self._entries:
            raise Corrupt("bundle.count", f"{trailer.entries} entries are promised and {self._entries} are there.")
        if not self._proves(self.header.key, CONTEXT + self._digest.digest(), trailer.signature):
            raise Corrupt("bundle.signature", "The file is not as its maker signed it.")
        self.complete = True
        self._buffer = self._buffer[4 + int.from_bytes(self._buffer[:4], "big") :]

    def _items(self, chunk: bytes) -> list[Received]:
        message = decode(chunk)
        if not isinstance(message, Entries):
            raise Corrupt("bundle.chunk", "This piece holds no entries.")
        door = Door(self, message.seals)
        found: list[Received] = []
        for item in message.items:
            self._entries += 1
            try:
                one = door.check(item)
            except Unknown as error:
                self.skipped.add(error.stream)
                continue
            except Corrupt as error:
                if getattr(error, "stream", None) in self.skipped:
                    continue
                raise
            self._passed.add(one.written.hash)
            found.append(one)
        return found


def _chunk(octets: bytes) -> bytes:
    return len(octets).to_bytes(4, "big") + octets
