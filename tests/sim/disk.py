"""A disk in memory: commits as octets one after the other, each with its length and checksum, and what a crash leaves of them."""

import zlib

import msgspec

from command.base.entry import Seal


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An entry as stored."""

    data: bytes
    leaf: int
    path: bytes
    seal: Seal
    salt: bytes | None = None
    private: bytes | None = None


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """One transaction: entries, and the meta rows as they are after it. `lives` are the generations, newest first; `keys` the
    idempotency keys used in it."""

    lives: list[str]
    items: list[Kept] = []
    keys: list[str] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Commit).decode


class Disk:
    """What survives a crash. `marker` lies beside the database and names the instance that wrote it last."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.marker = ""

    def append(self, commit: Commit, torn: float | None = None) -> None:
        """Write a commit; with `torn` in [0, 1) only that part of its octets reaches the disk."""
        octets = _encode(commit)
        record = len(octets).to_bytes(4, "big") + zlib.crc32(octets).to_bytes(4, "big") + octets
        self.data += record if torn is None else record[: int(len(record) * torn)]

    def load(self) -> list[Commit]:
        """The whole commits; a torn one at the end is cut off, as recovery does."""
        found, at = [], 0
        while at + 8 <= len(self.data):
            length = int.from_bytes(self.data[at : at + 4], "big")
            octets = bytes(self.data[at + 8 : at + 8 + length])
            if len(octets) < length or zlib.crc32(octets) != int.from_bytes(self.data[at + 4 : at + 8], "big"):
                break
            found.append(_decode(octets))
            at += 8 + length
        del self.data[at:]
        return found

    def copy(self) -> "Disk":
        other = Disk()
        other.data, other.marker = bytearray(self.data), self.marker
        return other
