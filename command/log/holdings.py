"""Holdings: what this node has, as a link reads it. The `shelf.Shelf` over the real store.

Shell, in the link's own thread: each call of a `Link` runs inside `reading()`, one consistent snapshot. It never writes and
never decides who may have what (`sharing` does). Invariant: what it answers is durable.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection, Row

from command.base import entry as entries
from command.base.entry import Entry, Seal, Stream, Written
from command.domain.incident import INCIDENT
from command.domain.nodes import TreeNode
from command.log.audience import holds_any
from command.log.store import BRANCH, ENTRY, LACKING, RECEIVED_SEAL, SEAL, SQL_VARIABLES_MAX, STREAM, Store, guarded
from command.tree.cursor import Tips
from command.tree.item import Received
from command.tree.shelf import Listed
from command.tree.wire import AHEAD_MAX, FRAME_BYTES_LATER, LOCATOR_MAX, WANT_MAX, Tip

URGENT_WINDOW = 512
"""Of a long backlog this many of the newest entries are looked through for what can't wait."""
URGENT_STREAMS_MAX = 10_000
LACKING_STREAMS_MAX = 16
"""So many streams' missing private parts are asked for at a time."""
URGENT = tuple(
    f'"kind":"{kind}'.encode()
    for kind in (
        "order.issued",
        "order.amended",
        "order.cancelled",
        "order.progressed",
        "order.adopted",
        "order.recalled",
        "ownership.",
        "alarm.",
        "incident.level_set",
    )
)
"""Beginnings of the kinds that somebody waits for; the steps of an order's ladder (`order.rung`) are only notes of this node."""
MICROSECONDS = 1_000_000
_ANY_BRANCH = sa.select(BRANCH.c.seq).limit(1)
_ONE_STREAM = sa.select(STREAM).where(
    *(STREAM.c[name] == sa.bindparam(name) for name in ("subject", "origin", "generation"))
)
_READ_ON = (
    sa.select(ENTRY)
    .where(ENTRY.c.stream == sa.bindparam("stream"), ENTRY.c.seq > sa.bindparam("start"))
    .order_by(ENTRY.c.seq)
    .limit(sa.bindparam("entries", type_=sa.Integer))
)


class Sharing(Protocol):
    """Who may have which stream; see `sharing`."""

    def shared(self, connection: Connection, stream: Stream, peer: str) -> bool: ...

    def accepts(self, connection: Connection, stream: Stream, peer: str) -> bool: ...

    def reads(self, connection: Connection, stream: Stream, node: str) -> bool: ...

    def entitled(self, connection: Connection, entry: Entry, peer: str) -> bool: ...


class Holdings:
    """`nodes` gives the tree's rows as of the last commit; `sharing` the rules over them."""

    def __init__(
        self, store: Store, node: str, generation: Callable[[], str], nodes: Mapping[str, TreeNode], sharing: Sharing
    ) -> None:
        self._store, self._node, self._generation = store, node, generation
        self._nodes, self._sharing = nodes, sharing
        self._keys: dict[str, tuple[str, Ed25519PublicKey]] = {}
        self._stack: contextlib.ExitStack | None = None
        self._open: Connection | None = None
        self._branched = False
        self._urgent: dict[int, tuple[int, list[int]]] = {}
        """By stream: its length when it was looked at, and the numbers of the urgent entries."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One snapshot for everything within, taken when something is read first: a tick of an idle link reads nothing.
        The caller must be the link's thread."""
        with guarded(), contextlib.ExitStack() as stack:
            self._stack = stack
            self._rows: dict[Stream, Row[Any] | None] = {}
            try:
                yield
            finally:
                self._stack = self._open = None

    # -- who is who

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """The registered public keys by node."""
        return {node: key for node in list(self._nodes) if (key := self.key(node)) is not None}

    def key(self, node: str) -> Ed25519PublicKey | None:
        row = self._nodes.get(node)
        if row is None or not row.public_key:
            return None
        known = self._keys.get(node)
        if known is None or known[0] != row.public_key:
            known = row.public_key, Ed25519PublicKey.from_public_bytes(bytes.fromhex(row.public_key))
            self._keys[node] = known
        return known[1]

    def admits(self, node: str, key: bytes) -> str | None:
        row = self._nodes.get(node)
        if row is None or row.public_key != key.hex():
            return "link.stranger"
        if row.revoked is not None:
            return "link.revoked"
        me = self._nodes.get(self._node)
        if row.parent != self._node and (me is None or me.parent != node):
            return "link.no_neighbour"
        return None

    def proves(self, key: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def signed(self, origin: str, seal: Seal) -> bool | None:
        key = self.key(origin)
        if key is None:
            return None
        return seal.alg == "ed25519" and entries.check_seal_again(key, seal)

    # -- who may have what

    def shared(self, stream: Stream, peer: str) -> bool:
        return self._sharing.shared(self.connection, stream, peer)

    def accepts(self, stream: Stream, peer: str) -> bool:
        return self._sharing.accepts(self.connection, stream, peer)

    def ended(self, generation: str) -> bool:
        if generation == self._generation():
            return False
        found = sa.select(STREAM.c.id).where(STREAM.c.generation == generation, STREAM.c.origin == self._node).limit(1)
        return self.connection.execute(found).first() is not None

    def open_subject(self, subject: str) -> bool:
        if not subject.startswith("incident/"):
            return False
        sql = self._store.shelf(INCIDENT).sql
        found = self.connection.execute(sa.select(sql.c.open).where(sql.c.id == subject.partition("/")[2])).first()
        return found is None or bool(found.open)

    # -- what is here

    def listing(self, peer: str) -> Iterable[Listed]:
        sql = self._store.shelf(INCIDENT).sql
        closed = {
            f"incident/{row.id}": month_of(row.reported_at)
            for row in self.connection.execute(sa.select(sql.c.id, sql.c.reported_at).where(sql.c.open.is_(False)))
        }
        for row in self.connection.execute(sa.select(STREAM)).all():
            stream = Stream(row.subject, row.origin, row.generation)
            if self._sharing.shared(self.connection, stream, peer):
                yield Listed(stream, self._tips_of(row, stream), closed.get(row.subject))
        for stream in self._only_branched():
            if self._sharing.shared(self.connection, stream, peer):
                yield Listed(stream, self.tips(stream), closed.get(stream.subject))

    def tips(self, stream: Stream) -> Tips:
        row = self._row(stream)
        return self._tips_of(row, stream) if row is not None else tuple(self._branch_tips(stream))

    def holds(self, stream: Stream, tip: Tip) -> bool:
        row = self._row(stream)
        if row is not None and tip.length > row.length and not self._branched:
            return False
        if row is not None and self._chained(row, tip):
            return True
        return any(one.hash == tip.head and one.seq == tip.length for one in self._branch(stream))

    def rest(self, stream: Stream, tips: Tips, peer: str, entries: int, octets: int) -> list[Received]:
        row, branch = self._row(stream), self._branch(stream)
        start, covered = self._covered(row, branch, tips)
        found: list[Received] = []
        end: int | None = None
        if row is not None:
            at = {"stream": row.id, "start": start, "entries": entries}
            rows = self.connection.execute(_READ_ON, at).all()
            found = self._received(rows, peer, octets)
            end = found[-1].tip.length if len(rows) == entries or len(found) < len(rows) else None
        loose = [one for one in branch if one.hash not in covered and (end is None or one.seq <= end)]
        if loose:
            found = sorted([*found, *(self._loose(one, peer) for one in loose)], key=lambda one: one.tip)[:entries]
        return _within(found, octets)

    def lacks(self, tip: Tip) -> bool:
        return self.connection.execute(sa.select(LACKING.c.seq).where(LACKING.c.hash == tip.head)).first() is not None

    def parts(self, stream: Stream, tips: list[Tip], peer: str) -> tuple[list[Received], int]:
        if not self._sharing.shared(self.connection, stream, peer):
            return [], len(tips)
        row, heads = self._row(stream), {tip.head for tip in tips}
        found: list[Received] = []
        if row is not None:
            wanted = sa.select(ENTRY).where(ENTRY.c.stream == row.id, ENTRY.c.seq.in_([tip.length for tip in tips]))
            chain = self.connection.execute(wanted.order_by(ENTRY.c.seq)).all()
            found = self._received([one for one in chain if one.hash in heads and one.private is not None], peer)
        loose = [one for one in self._branch(stream) if one.hash in heads and one.private is not None]
        found += [self._loose(one, peer) for one in loose]
        given = [one for one in found if one.written.private is not None]
        return _within(given, FRAME_BYTES_LATER), len(found) - len(given)

    def lacking(self) -> dict[Stream, list[Tip]]:
        """Entries held without a private part that this node may read by now, WANT_MAX of each stream at most."""
        names = ("subject", "origin", "generation")
        streams = self.connection.execute(sa.select(*(LACKING.c[name] for name in names)).distinct())
        found: dict[Stream, list[Tip]] = {}
        for stream in [Stream(*row) for row in streams]:
            if not self._sharing.reads(self.connection, stream, self._node):
                continue
            mine = [LACKING.c[name] == getattr(stream, name) for name in names]
            wanted = sa.select(LACKING.c.seq, LACKING.c.hash).where(*mine).order_by(LACKING.c.seq).limit(WANT_MAX)
            found[stream] = [Tip(row.seq, row.hash) for row in self.connection.execute(wanted)]
            if len(found) >= LACKING_STREAMS_MAX:
                break
        return found

    def gives(self, file: str, peer: str) -> bool:
        """Whether a neighbour may have the attachment with this SHA-256 (hex): an entry that it may hold names it. Its own entry
        counts only if nobody's here named the file before: writing down a hash gives nobody what it stands for."""
        number = sa.func.min(ENTRY.c.number)
        names = (STREAM.c.subject, STREAM.c.origin, STREAM.c.generation)
        wanted = sa.select(*names).join(ENTRY, ENTRY.c.stream == STREAM.c.id).group_by(*names).order_by(number)
        rows = self.connection.execute(wanted.where(holds_any(self.connection, [file.encode()]))).all()
        if self._branched:
            loose = self.connection.execute(sa.select(BRANCH).order_by(BRANCH.c.position, BRANCH.c.seq))
            rows = [*rows, *(row for row in loose if file.encode() in row.data)]
        found = [Stream(row.subject, row.origin, row.generation) for row in rows]
        shared = [one for one in found if one.origin != peer and self._sharing.shared(self.connection, one, peer)]
        return bool(shared) or (bool(found) and found[0].origin == peer)

    def urgent(self, stream: Stream, tips: Tips, peer: str) -> list[Received]:
        row = self._row(stream)
        if row is None or not stream.subject.startswith("incident/"):
            return []
        known = self._urgent.get(row.id)
        if known is None or known[0] != row.length:
            known = self._urgent[row.id] = row.length, self._look_for_urgent(row)
        if not known[1]:
            return []
        start = self._covered(row, [], tips)[0]
        numbers = [seq for seq in known[1] if seq > start]
        wanted = sa.select(ENTRY).where(ENTRY.c.stream == row.id, ENTRY.c.seq.in_(numbers)).order_by(ENTRY.c.seq)
        return self._received(self.connection.execute(wanted).all(), peer)

    def _look_for_urgent(self, row: Row[Any]) -> list[int]:
        """The numbers of what can't wait among the newest entries of a stream."""
        if len(self._urgent) > URGENT_STREAMS_MAX:
            self._urgent.clear()
        newest = ENTRY.c.seq > row.length - URGENT_WINDOW
        wanted = sa.select(ENTRY.c.seq).where(ENTRY.c.stream == row.id, newest, holds_any(self.connection, URGENT))
        return list(self.connection.execute(wanted.order_by(ENTRY.c.seq)).scalars())[-AHEAD_MAX:]

    def locator(self, stream: Stream) -> list[Tip]:
        found: set[Tip] = set()
        row, branch = self._row(stream), {one.hash: one for one in self._branch(stream)}
        for tip in self.tips(stream):
            steps = _steps(tip.length)
            at = branch.get(tip.head)
            while at is not None:
                if at.seq in steps:
                    found.add(Tip(at.seq, at.hash))
                before = bytes.fromhex(entries.decode(at.data).prev)
                lowest, at = at.seq, branch.get(before)
                if at is None:
                    steps = {step for step in steps if step < lowest}
            if row is not None and steps:
                wanted = sa.select(ENTRY.c.seq, ENTRY.c.hash).where(ENTRY.c.stream == row.id, ENTRY.c.seq.in_(steps))
                found.update(Tip(one.seq, one.hash) for one in self.connection.execute(wanted))
        return sorted(found)[-LOCATOR_MAX:]

    # -- rows of the log

    @property
    def connection(self) -> Connection:
        if self._open is None:
            assert self._stack is not None, "a link reads only inside reading()"
            self._open = self._stack.enter_context(self._store.reader_engine.connect())
            self._stack.enter_context(self._open.begin())
            self._branched = self._open.execute(_ANY_BRANCH).first() is not None
        return self._open

    def _row(self, stream: Stream) -> Row[Any] | None:
        """The stream's row, read once per snapshot: a frame asks for it at every entry."""
        if stream not in self._rows:
            name = {"subject": stream.subject, "origin": stream.origin, "generation": stream.generation}
            self._rows[stream] = self.connection.execute(_ONE_STREAM, name).first()
        return self._rows[stream]

    def _branch(self, stream: Stream) -> list[Row[Any]]:
        """Entries of the stream that stand beside its chain, predecessors first."""
        connection = self.connection
        if not self._branched:
            return []
        wanted = sa.select(BRANCH).where(
            BRANCH.c.subject == stream.subject,
            BRANCH.c.origin == stream.origin,
            BRANCH.c.generation == stream.generation,
        )
        return list(connection.execute(wanted.order_by(BRANCH.c.seq, BRANCH.c.hash)))

    def _branch_tips(self, stream: Stream) -> list[Tip]:
        branch = self._branch(stream)
        followed = {entries.decode(one.data).prev for one in branch}
        return [Tip(one.seq, one.hash) for one in branch if one.hash.hex() not in followed]

    def _tips_of(self, row: Row[Any], stream: Stream) -> Tips:
        return (Tip(row.length, row.head), *self._branch_tips(stream))

    def _only_branched(self) -> list[Stream]:
        """Streams of which nothing is on a chain. The intake puts a first entry on the chain, so there are none so far."""
        return []

    def _chained(self, row: Row[Any], tip: Tip) -> bool:
        if tip.length == row.length:
            return bool(row.head == tip.head)
        if not 1 <= tip.length < row.length:
            return False
        found = sa.select(ENTRY.c.hash).where(ENTRY.c.stream == row.id, ENTRY.c.seq == tip.length)
        return self.connection.scalar(found) == tip.head

    def _covered(self, row: Row[Any] | None, branch: Sequence[Row[Any]], tips: Tips) -> tuple[int, set[bytes]]:
        """How much of the chain, and which entries beside it, `tips` and everything before them are."""
        by_hash = {one.hash: one for one in branch}
        start, covered = 0, set[bytes]()
        for tip in tips:
            at = by_hash.get(tip.head)
            if at is None:
                if row is not None and tip.length > start and self._chained(row, tip):
                    start = tip.length
                continue
            while at is not None and at.hash not in covered:
                covered.add(at.hash)
                before = bytes.fromhex(entries.decode(at.data).prev)
                if before not in by_hash:
                    start = max(start, at.seq - 1)
                at = by_hash.get(before)
        return start, covered

    def _received(self, rows: Sequence[Row[Any]], peer: str, octets: int | None = None) -> list[Received]:
        """Stored rows as they travel, with their seals; none more after `octets`: what wouldn't fit isn't decoded."""
        own = self._seals(SEAL, SEAL.c.position, {row.position for row in rows if row.seal is None})
        foreign = self._seals(RECEIVED_SEAL, RECEIVED_SEAL.c.id, {row.seal for row in rows if row.seal is not None})
        found: list[Received] = []
        for row in rows:
            written = self._written(row, peer)
            seal = own[row.position] if row.seal is None else foreign[row.seal]
            found.append(Received(written=written, seal=seal, leaf=row.leaf, path=row.path))
            if octets is not None:
                octets -= _octets(found[-1])
                if octets <= 0:
                    break
        return found

    def _loose(self, row: Row[Any], peer: str) -> Received:
        seal = Seal(root=row.root, count=row._mapping["count"], alg=row.alg, signature=row.signature)
        return Received(written=self._written(row, peer), seal=seal, leaf=row.leaf, path=row.path)

    def _written(self, row: Row[Any], peer: str) -> Written:
        entry = entries.decode(row.data)
        given = row.private is not None and self._sharing.entitled(self.connection, entry, peer)
        salt, part = (row.salt, row.private) if given else (None, None)
        return Written(entry=entry, data=row.data, hash=row.hash, salt=salt, private=part)

    def _seals(self, table: sa.Table, key: sa.Column[Any], wanted: set[int]) -> dict[int, Seal]:
        found: dict[int, Seal] = {}
        numbers = sorted(wanted)
        for start in range(0, len(numbers), SQL_VARIABLES_MAX):
            some = numbers[start : start + SQL_VARIABLES_MAX]
            columns = sa.select(key.label("key"), table.c.root, table.c.count, table.c.alg, table.c.signature)
            for row in self.connection.execute(columns.where(key.in_(some))):
                found[row.key] = Seal(root=row.root, count=row[2], alg=row.alg, signature=row.signature)
        return found


def month_of(at: int) -> str:
    """ "2026-11" of an instant, UTC: the same on every node."""
    return datetime.fromtimestamp(at / MICROSECONDS, UTC).strftime("%Y-%m")


def _steps(length: int) -> set[int]:
    """length, and 1, 2, 4, 8 ... before it, down to 1."""
    found, back = {length, 1}, 1
    while length - back > 1:
        found.add(length - back)
        back *= 2
    return found


def _within(found: list[Received], octets: int) -> list[Received]:
    """None more after `octets`; at least one, whatever its size."""
    total = 0
    for number, one in enumerate(found):
        total += _octets(one)
        if total >= octets:
            return found[: number + 1]
    return found


def _octets(one: Received) -> int:
    """About how many it takes in a frame."""
    return len(one.written.data) + len(one.written.private or b"") + len(one.path) + 140
