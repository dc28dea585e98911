"""Verification: does every stored byte say what its hash, chain and seal say?

Shell; reads only. One pass in the order of writing recomputes every entry's hash and salted private hash, follows every
chain and checks each entry's place in its commit; then the newest seal of each stream (or every seal with every path), and
the witness. Entries of other nodes stand under the seals they came with, which their own keys must have signed; a node's id
is a function of its key, so the keys come from the table of nodes. Invariant: it reports places, never repairs.

Our own entries are canonical, so their first bytes are known beforehand: comparing those with what the stream demands is
the cheap way to check subject, origin, generation, number and predecessor at once. What doesn't compare equal is decoded
and examined field by field; nothing is believed because it is cheap.
"""

from binascii import hexlify
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection

from command.base.entry import NO_HASH, Seal, Stream, check_seal, leaf_hash, merkle, private_hash, root_from_path
from command.base.errors import Corrupt
from command.domain.erasure import Erasure, stream_at
from command.domain.nodes import TreeNode, node_id
from command.log.store import AHEAD, BRANCH, ENTRY, HEAD, RECEIVED_SEAL, SEAL, SQL_VARIABLES_MAX, STREAM

PROBLEMS_MAX = 1_000
FETCH = 500

Heads = dict[str, tuple[int, str]]
Keys = dict[str, Ed25519PublicKey]


class _Row(NamedTuple):
    """An entry as it is stored."""

    stream: int
    seq: int
    position: int
    leaf: int
    hash: bytes
    data: bytes
    salt: bytes | None
    private: bytes | None
    path: bytes
    seal: int | None


_SELECT = f"SELECT {', '.join(_Row._fields)} FROM entry ORDER BY number"  # noqa: S608 - our own names
_I36 = bytes(octet ^ 0x36 for octet in range(256))
_I5C = bytes(octet ^ 0x5C for octet in range(256))
_PAD36, _PAD5C = b"\x36" * 32, b"\x5c" * 32
_PRIVATE = b',"private":"'


class _Link(msgspec.Struct, frozen=True):
    """What the chain needs of an entry; the rest of its bytes is covered by the hash."""

    subject: str
    origin: str
    generation: str
    seq: int
    prev: str
    private: str | None = None


_decode = msgspec.json.Decoder(_Link).decode
_decode_erasure = msgspec.json.Decoder(Erasure).decode
_decode_node = msgspec.json.Decoder(TreeNode).decode


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """`place` names stream and sequence number; `what` one of: chain, hash, private, seal, gap, missing, index, witness."""

    what: str
    place: str
    hint: str


@dataclass
class Report:
    """The outcome. `unwitnessed` are entries after the last witnessed head: nobody but the database vouches for them, and
    whether more of them were there once, nobody can say. `loose` are those beside the chains. `parts` counts private parts
    that are there, `absent` those that an entry names and that are not (erased, or withheld by their origin); `erased` the
    entries held whose erasure is held and counts, none of which may have a part."""

    entries: int = 0
    streams: int = 0
    seals: int = 0
    loose: int = 0
    unwitnessed: int = 0
    parts: int = 0
    absent: int = 0
    erased: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, what: str, place: str, hint: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(what=what, place=place, hint=hint))

    @property
    def good(self) -> bool:
        return not self.problems


class _Chain:
    """One stream while it is followed: what the next entry must begin with, and the newest row seen."""

    __slots__ = ("generation", "head", "last", "mark", "name", "origin", "prefix", "seq", "subject", "witnessed")

    def __init__(self, subject: str, origin: str, generation: str, mark: tuple[int, str]) -> None:
        self.subject, self.origin, self.generation = subject, origin, generation
        self.name = str(Stream(subject, origin, generation))
        names = msgspec.json.encode({"subject": subject, "origin": origin, "generation": generation})
        self.prefix = names[:-1] + b',"seq":'
        self.seq = 0
        self.head = NO_HASH.encode()
        self.mark, self.witnessed = mark
        self.last: _Row | None = None

    def place(self, seq: int) -> str:
        return f"{self.name} #{seq}"


def verify(connection: Connection, keys: Keys, *, all_seals: bool = False, witnessed: Heads | None = None) -> Report:
    """Check the whole log. `keys` are the public keys by node id; `witnessed` the newest witnessed heads."""
    report = Report()
    keys = _all_keys(connection, keys)
    streams = {row.id: row for row in connection.execute(sa.select(STREAM))}
    marks = witnessed or {}
    chains: dict[int, _Chain] = {}
    for key, row in streams.items():
        name = str(Stream(row.subject, row.origin, row.generation))
        chains[key] = _Chain(row.subject, row.origin, row.generation, marks.get(name, (0, "")))
    commits = _Commits(connection, chains, keys, report) if all_seals else None
    _follow(_rows(connection), chains, report, commits)
    _ends(connection, streams, chains, report)
    if commits is not None:
        commits.end()
    else:
        _newest_seals(connection, chains, keys, report)
    for table in (BRANCH, AHEAD):
        _loose(connection, table, keys, report)
    _erased(connection, report)
    _compare(streams, witnessed, report)
    return report


def _all_keys(connection: Connection, keys: Keys) -> Keys:
    """With the keys of every node in the table of nodes: a wrong key there has another id, so nothing is believed."""
    if not sa.inspect(connection).has_table("row_node"):
        return keys
    found = dict(keys)
    for octets in connection.scalars(sa.text('SELECT "row" FROM row_node')):
        row = _decode_node(bytes(octets))
        if node_id(row.public_key) == row.id:
            found.setdefault(row.id, Ed25519PublicKey.from_public_bytes(bytes.fromhex(row.public_key)))
    return found


def _rows(connection: Connection) -> Iterator[tuple[Any, ...]]:
    """Every entry in the order of writing as plain tuples, through the driver's own cursor."""
    driver: Any = connection.connection.driver_connection
    # PostgreSQL: octets as they are (not in hex), a chunk at a time.
    cursor = driver.cursor() if connection.dialect.name == "sqlite" else driver.cursor("verify", binary=True)
    try:
        cursor.execute(_SELECT)
        while chunk := cursor.fetchmany(FETCH):
            yield from chunk
    finally:
        cursor.close()


def _follow(
    rows: Iterable[tuple[Any, ...]], chains: dict[int, _Chain], report: Report, commits: "_Commits | None"
) -> None:
    """The pass over all entries. Long on purpose: this loop is where the time goes, so it calls little."""
    count = parts = absent = 0
    before, leaf_before = 0, -1
    for row in rows:
        stream, seq, position, leaf, stored, data, salt, private, _path, seal = row
        count += 1
        chain = chains.get(stream)
        if chain is None:
            chain = chains[stream] = _Chain(f"stream {stream}", "", "", (0, ""))
            report.add("missing", f"stream {stream}", "Entries of a stream that is not listed.")
        found = sha256(b"\x00" + data).digest()
        expected = b'%b%d,"prev":"%b","at":' % (chain.prefix, seq, chain.head)
        good = seq == chain.seq + 1 and found == stored and data.startswith(expected)
        if salt is not None and private is not None:
            # HMAC-SHA256 (RFC 2104) written out, because hmac.digest takes twice as long for parts this short.
            inner = sha256(salt.translate(_I36) + _PAD36 + private).digest() if len(salt) == 32 else b""
            hashed = sha256(salt.translate(_I5C) + _PAD5C + inner).hexdigest()
            parts += 1
            # What follows it shows that it is the entry's own field: inside a body "body" would stand before "private".
            at = data.find(_PRIVATE, len(expected)) + len(_PRIVATE)
            good = good and len(salt) == 32 and data[at : at + 74] == f'{hashed}","body":{{'.encode()
        elif salt is not None or private is not None:
            good = False
        elif _PRIVATE in data:
            absent += _names_private(data)
        if not good:
            _examine(_Row(*row), chain, found, report)
        chain.seq, chain.head, chain.last = seq, hexlify(found), row  # type: ignore[assignment]
        if seq == chain.mark and chain.head != chain.witnessed.encode():
            report.add("witness", chain.place(seq), "The witness saw another entry here.")
        if position != before:
            if position < before:
                report.add("index", chain.place(seq), "It stands before an entry of an earlier commit.")
            before, leaf_before = position, -1
        if seal is None:
            if leaf != leaf_before + 1:
                report.add("index", chain.place(seq), "Its place in its commit does not follow the one before it.")
            leaf_before = leaf
        if commits is not None:
            commits.take(position, found, row, chain)
    report.entries, report.parts, report.absent = count, parts, absent


def _examine(row: _Row, chain: _Chain, found: bytes, report: Report) -> None:
    """Say what is wrong with an entry that is not as the fast comparison wants it; nothing may be, for foreign bytes."""
    place = chain.place(row.seq)
    if row.seq != chain.seq + 1:
        report.add("gap", chain.place(chain.seq + 1), f"Entry {chain.seq + 1} is missing; {row.seq} comes next.")
    if found != row.hash:
        report.add("hash", place, "The entry's bytes are not what its hash says.")
    try:
        link = _decode(row.data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        report.add("hash", place, "The entry's bytes can't be read.")
        return
    if link.prev.encode() != chain.head:
        report.add("chain", place, "It does not follow the entry before it.")
    if (link.subject, link.origin, link.generation, link.seq) != (
        chain.subject,
        chain.origin,
        chain.generation,
        row.seq,
    ):
        report.add("index", place, "It stands in another place than its own bytes say.")
    if (row.private is not None or row.salt is not None) and not _private(link, row.salt, row.private):
        report.add("private", place, "The private part is not what the entry's salted hash says.")


def _names_private(data: bytes) -> bool:
    try:
        return _decode(data).private is not None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _private(link: _Link, salt: bytes | None, private: bytes | None) -> bool:
    if salt is None or private is None or link.private is None:
        return False
    return private_hash(salt, private).hex() == link.private


def _ends(connection: Connection, streams: dict[int, Any], chains: dict[int, _Chain], report: Report) -> None:
    """Does every stream end where it is said to, and the log as a whole?"""
    report.streams = len(streams)
    for key, row in streams.items():
        chain = chains[key]
        if chain.seq != row.length:
            hint = f"The stream should have {row.length} entries, the last found is {chain.seq}."
            report.add("missing", chain.place(row.length), hint)
        elif chain.head != hexlify(row.head):
            report.add("chain", chain.place(row.length), "The head is not the one that is listed.")
    head = connection.execute(sa.select(HEAD.c.entries, HEAD.c.position)).first()
    listed, position = (0, 0) if head is None else head
    if listed != report.entries:
        report.add("missing", "log", f"The log should have {listed} entries and has {report.entries}.")
    last = connection.scalar(sa.select(sa.func.max(SEAL.c.position))) or 0
    if last > position:
        report.add("index", "log", f"The log should end at commit {position} and has a seal of commit {last}.")


class _Seals:
    """Signatures, each checked once."""

    def __init__(self, keys: Keys, report: Report) -> None:
        self._keys, self._report = keys, report
        self._checked: dict[tuple[bytes, str], bool] = {}

    def signed(self, seal: Any, origin: str, place: str) -> None:
        known = (seal.root + seal.signature, origin)
        if known in self._checked:
            return
        self._report.seals += 1
        key = self._keys.get(origin)
        made = Seal(root=seal.root, count=seal._mapping["count"], signature=seal.signature, alg=seal.alg)
        self._checked[known] = good = key is not None and seal.alg == "ed25519" and check_seal(key, made)
        if not good:
            self._report.add("seal", place, "The seal is not signed by the node that wrote the entry.")


def _newest_seals(connection: Connection, chains: dict[int, _Chain], keys: Keys, report: Report) -> None:
    ends = [(_Row(*chain.last), chain) for chain in chains.values() if chain.last is not None]
    found = _of(connection, SEAL, SEAL.c.position, {row.position for row, _ in ends if row.seal is None})
    came = _of(connection, RECEIVED_SEAL, RECEIVED_SEAL.c.id, {row.seal for row, _ in ends if row.seal is not None})
    seals = _Seals(keys, report)
    for row, chain in ends:
        seal = found.get(row.position) if row.seal is None else came.get(row.seal)
        _under(row, seal, chain.origin, chain.place(row.seq), seals, report)


def _of(connection: Connection, table: sa.Table, column: Any, wanted: set[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    listed = sorted(wanted)
    for start in range(0, len(listed), SQL_VARIABLES_MAX):
        some = column.in_(listed[start : start + SQL_VARIABLES_MAX])
        found |= {row._mapping[column.name]: row for row in connection.execute(sa.select(table).where(some))}
    return found


def _under(row: Any, seal: Any, origin: str, place: str, seals: "_Seals", report: Report) -> None:
    """Whether an entry stands under a seal of its origin."""
    if seal is None:
        report.add("seal", place, "The seal of its commit is missing.")
        return
    count = seal._mapping["count"]
    try:
        root = root_from_path(leaf_hash(row.data), row.leaf, count, row.path)
    except Corrupt as error:
        report.add("seal", place, error.hint)
        return
    if root != seal.root:
        report.add("seal", place, "The entry is not under the root that was sealed.")
    else:
        seals.signed(seal, origin, place)


def _loose(connection: Connection, table: sa.Table, keys: Keys, report: Report) -> None:
    """Entries that stand on no chain: each alone, with the seal it came under."""
    if not sa.inspect(connection).has_table(table.name):
        return
    seals = _Seals(keys, report)
    for row in connection.execute(sa.select(table).order_by(table.c.subject, table.c.seq, table.c.hash)):
        place = f"{table.name} {Stream(row.subject, row.origin, row.generation)} #{row.seq}"
        report.loose += 1
        if leaf_hash(row.data) != row.hash:
            report.add("hash", place, "The entry's bytes are not what its hash says.")
        try:
            link = _decode(row.data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            report.add("hash", place, "The entry's bytes can't be read.")
            continue
        if (link.subject, link.origin, link.generation, link.seq) != tuple(row[1:5]):
            report.add("index", place, "It stands in another place than its own bytes say.")
        if (row.private is not None or row.salt is not None) and not _private(link, row.salt, row.private):
            report.add("private", place, "The private part is not what the entry's salted hash says.")
        _under(row, row, row.origin, place, seals, report)


def _erased(connection: Connection, report: Report) -> None:
    """Is everything gone that was erased?"""
    if not sa.inspect(connection).has_table("row_erasure"):
        return
    for octets in connection.scalars(sa.text('SELECT "row" FROM row_erasure ORDER BY id')).all():
        row = _decode_erasure(bytes(octets))
        stream = stream_at(row.stream)
        if not row.counts or stream is None:
            continue
        hashed = bytes.fromhex(row.entry)
        chain = sa.select(ENTRY.c.salt, ENTRY.c.private).join(STREAM, STREAM.c.id == ENTRY.c.stream)
        named = [STREAM.c.subject == stream.subject, STREAM.c.origin == stream.origin]
        found = list(connection.execute(chain.where(*named, ENTRY.c.seq == row.seq, ENTRY.c.hash == hashed)))
        for table in (BRANCH, AHEAD):
            mine = [table.c.hash == hashed, table.c.origin == stream.origin]
            found += connection.execute(sa.select(table.c.salt, table.c.private).where(*mine)).all()
        report.erased += bool(found)
        if any(one.salt is not None or one.private is not None for one in found):
            report.add("private", f"{row.stream} #{row.seq}", "It was erased, and its private part is still here.")


class _Commits:
    """Every commit whole: its entries' Merkle tree made again, compared with the sealed root and with each stored path."""

    def __init__(self, connection: Connection, chains: dict[int, _Chain], keys: Keys, report: Report) -> None:
        self._chains, self._report, self._seals = chains, report, _Seals(keys, report)
        self._waiting: dict[int, Any] = {row.position: row for row in connection.execute(sa.select(SEAL))}
        self._received: dict[int, Any] = {row.id: row for row in connection.execute(sa.select(RECEIVED_SEAL))}
        self._position = 0
        self._leaves: list[bytes] = []
        self._entries: list[tuple[tuple[Any, ...], _Chain]] = []

    def take(self, position: int, leaf: bytes, row: tuple[Any, ...], chain: _Chain) -> None:
        if row[9] is not None:
            found = _Row(*row)
            _under(found, self._received.get(row[9]), chain.origin, chain.place(found.seq), self._seals, self._report)
            return
        if position != self._position:
            self._check()
            self._position = position
        self._leaves.append(leaf)
        self._entries.append((row, chain))

    def end(self) -> None:
        self._check()
        for position in self._waiting:
            self._report.add("missing", f"seal {position}", "No entry stands under this seal.")

    def _check(self) -> None:
        leaves, rows = self._leaves, self._entries
        self._leaves, self._entries = [], []
        if not leaves:
            return
        first, last = _Row(*rows[0][0]), _Row(*rows[-1][0])
        place = rows[0][1].place(first.seq)
        seal = self._waiting.pop(self._position, None)
        if seal is None:
            self._report.add("seal", place, "The seal of its commit is missing.")
            return
        root, paths = merkle(leaves)
        count = seal._mapping["count"]
        if count != len(leaves):
            hint = f"Commit {self._position} should have {count} entries and has {len(leaves)}."
            self._report.add("seal", rows[-1][1].place(last.seq), hint)
        elif root != seal.root:
            self._report.add("seal", place, f"The entries of commit {self._position} are not what was sealed.")
        for (row, chain), path in zip(rows, paths, strict=True):
            if row[8] != path:
                self._report.add("seal", chain.place(row[1]), "The entry's path does not lead to the root.")
        for origin in sorted({chain.origin for _, chain in rows}):
            self._seals.signed(seal, origin, place)


def _compare(streams: dict[int, Any], witnessed: Heads | None, report: Report) -> None:
    marks = witnessed or {}
    present = {str(Stream(row.subject, row.origin, row.generation)): row for row in streams.values()}
    for name, (length, _head) in marks.items():
        found = present[name].length if name in present else 0
        if found < length:
            report.add("witness", f"{name} #{found + 1}", f"The witness saw {length} entries; {found} are left.")
    for name, row in present.items():
        report.unwitnessed += max(0, row.length - marks.get(name, (0, ""))[0])
