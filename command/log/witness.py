"""The witness: signed heads of streams, written outside the data directory: by a node of all it holds, all the time; or by a
superior of what a node below it has written, when somebody asks (`checkpoint`).

Who can change the database can't change what was witnessed before. Each line is JSON: {"body": {...}, "signature": hex};
the body holds the heads that changed since the line before (all of them in a file's first line), and the hash of that
line. Invariant: a line is appended and synced whole, or not at all; a torn last line is ignored by readers.
"""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.engine import Connection

from command.base.clock import Clock
from command.base.entry import Stream
from command.base.errors import Corrupt
from command.log.store import STREAM, Store
from command.log.timeline import position_of

PERIOD_S = 10.0
CONTEXT = b"fenghuo witness 1\x00"
NO_LINE = "0" * 64

Heads = dict[str, tuple[int, str]]
"""{stream: (length, head hash in hex)}"""


class Witnessed(msgspec.Struct, frozen=True, kw_only=True):
    """One line's body. `heads` is {stream: [length, head hash]}."""

    node: str
    at: int
    position: int
    before: str
    heads: dict[str, tuple[int, str]]


class _Line(msgspec.Struct, frozen=True):
    body: msgspec.Raw
    signature: str


def stream_heads(connection: Connection, *conditions: Any) -> dict[str, tuple[int, str]]:
    """Length and head hash of every stream in the database, or of those that meet SQL `conditions`."""
    return {
        str(Stream(row.subject, row.origin, row.generation)): (row.length, row.head.hex())
        for row in connection.execute(sa.select(STREAM).where(*conditions))
    }


def checkpoint(connection: Connection, path: Path, key: Ed25519PrivateKey, node: str, at: int, origin: str) -> int:
    """Sign what `node` holds of `origin`'s streams, as one more line of a file; how many streams. `at` is microseconds UTC.

    For the operator of `origin`, whose `verify` then finds what was cut off there: the superior's database is the memory.
    """
    heads = stream_heads(connection, STREAM.c.origin == origin)
    position = position_of(connection)
    body = Witnessed(node=node, at=at, position=position, before=_last_line_hash(path), heads=heads)
    _append(path, _signed(body, key) + b"\n")
    return len(heads)


def _signed(body: Witnessed, key: Ed25519PrivateKey) -> bytes:
    octets = msgspec.json.encode(body)
    return msgspec.json.encode(_Line(body=msgspec.Raw(octets), signature=key.sign(CONTEXT + octets).hex()))


class Witness:
    """Appends to one file. Run `run()` supervised, call `write()` once more at the stop."""

    def __init__(self, path: Path, store: Store, clock: Clock, key: Ed25519PrivateKey, node: str) -> None:
        self._path, self._store, self._clock, self._key, self._node = path, store, clock, key, node
        self._known: dict[str, tuple[int, str]] | None = None
        self._last = NO_LINE

    async def run(self) -> None:
        while True:
            await self.write()
            await asyncio.sleep(PERIOD_S)

    async def write(self) -> None:
        """Witness what has changed since the last line; nothing when nothing has."""
        position, heads = await self._store.read(lambda connection: (position_of(connection), stream_heads(connection)))
        if self._known is None:
            self._last = await asyncio.to_thread(_last_line_hash, self._path)
        changed = {name: head for name, head in heads.items() if (self._known or {}).get(name) != head}
        if not changed and self._known is not None:
            return
        body = Witnessed(node=self._node, at=self._clock.now(), position=position, before=self._last, heads=changed)
        line = _signed(body, self._key)
        await asyncio.to_thread(_append, self._path, line + b"\n")
        self._known, self._last = heads, hashlib.sha256(line).hexdigest()


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a torn line stays where it is, unreadable, and harms no other
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_line_hash(path: Path) -> str:
    if not path.exists():
        return NO_LINE
    whole = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    return hashlib.sha256(whole[-1]).hexdigest() if whole else NO_LINE


def read_witness(path: Path, key: Ed25519PublicKey) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """The newest witnessed head of every stream, and what is wrong with the file itself (in words, by line).

    Raises `Corrupt` when the file can't be read at all.
    """
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Corrupt("witness.unreadable", f"The witness file can't be read: {error.strerror}") from None
    heads: dict[str, tuple[int, str]] = {}
    wrong: list[str] = []
    before, damaged = NO_LINE, 0
    lines = octets.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        found = _read_line(line, key)
        if found is None:
            # A line torn by a crash was never counted as written: the next one follows the whole line before it. One that
            # was changed later is missed by its successor. What stands at the end without a newline is torn.
            damaged = number if number != len(lines) else damaged
            continue
        if before not in (NO_LINE, found.before):
            wrong.append(f"line {damaged or number} is damaged, missing or not in its place")
        elif damaged and before == NO_LINE:
            wrong.append(f"line {damaged} is damaged or not signed by this node")
        before, damaged = hashlib.sha256(line).hexdigest(), 0
        for name, head in found.heads.items():
            if name in heads and head[0] < heads[name][0]:
                wrong.append(f"line {number} shortens {name}")
            else:
                heads[name] = head
    if damaged:
        wrong.append(f"line {damaged} is damaged or not signed by this node")
    return heads, wrong


def longest(one: Heads, other: Heads) -> Heads:
    """Of each stream the longer of what two witnesses saw."""
    return one | {name: at for name, at in other.items() if name not in one or one[name][0] < at[0]}


def _read_line(line: bytes, key: Ed25519PublicKey) -> Witnessed | None:
    try:
        read: Any = msgspec.json.decode(line, type=_Line)
        signature = bytes.fromhex(read.signature)
        key.verify(signature, CONTEXT + bytes(read.body))
        if msgspec.json.encode(_Line(body=read.body, signature=signature.hex())) != line:
            return None  # it says the same in other octets (hex in capitals): nobody wrote that
        return msgspec.json.decode(read.body, type=Witnessed)
    except (msgspec.MsgspecError, ValueError, InvalidSignature):
        return None
