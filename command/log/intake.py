"""The intake: entries of other nodes into the log's tables, beside what is held already.

Shell, in the writer's thread; the log owns the transaction. What comes here was checked by `item.Door`; of that, everything
that costs little is checked again. Invariant: a stream's chain in `ENTRY` is dense and each entry follows the one before it;
what follows another entry than the chain's goes to `BRANCH`; nothing that is held is ever replaced.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection

from command.base.entry import (
    NO_HASH,
    Proven,
    Seal,
    Stream,
    Written,
    check_private,
    check_seal_again,
    decode,
    leaf_hash,
)
from command.base.errors import Conflict, Corrupt
from command.log.filling import Filling
from command.log.store import AHEAD, BRANCH, ENTRY, LACKING, RECEIVED_SEAL, SQL_VARIABLES_MAX, STREAM
from command.tree.item import Received
from command.tree.wire import BRANCHES_MAX

RECEIVE_ENTRIES_MAX = 1024
"""Entries of one commit: a bigger batch is cut, so that nobody waits long for the writer."""
AHEAD_ROWS_MAX = 10_000
_PLACE = ("number", "stream", "seq", "position", "leaf")
_insert_entries = Filling(ENTRY, (*_PLACE, "hash", "data", "salt", "private", "path", "seal"))
HEADS_CACHED_MAX = 20_000
SEALS_CACHED_MAX = 1_000

Keys = Mapping[str, Ed25519PublicKey]


@dataclass
class Counters:
    """The last numbers given out; the log reads them at start and after a failed commit."""

    entries: int = 0
    streams: int = 0
    seals: int = 0


class Held(NamedTuple):
    """A stream's chain as it is stored."""

    id: int
    length: int
    head: bytes | None


@dataclass
class Taken:
    """What a batch brought: `fresh` entries in order, `filled` those that were held without the private part that came now,
    `heads` of every stream it named, `confirmed` the subjects of which something had come ahead."""

    fresh: list[Written] = field(default_factory=list)
    filled: list[Written] = field(default_factory=list)
    heads: dict[Stream, Held] = field(default_factory=dict)
    own: set[Stream] = field(default_factory=set)
    branched: set[str] = field(default_factory=set)
    loose: frozenset[bytes] = frozenset()
    confirmed: set[str] = field(default_factory=set)


def recheck(items: Sequence[Received], keys: Keys) -> None:
    """Look at every seal once more, and at the bytes and paths of what no door of this process has proven; pure. Raises `Corrupt`
    with the place, and `Conflict("receive.unknown")` for a node whose key nobody registered."""
    good: dict[tuple[str, bytes], Seal] = {}
    proven: dict[tuple[bytes, int], Proven] = {}
    for one in items:
        entry, seal = one.written.entry, one.seal
        if not one.proven:
            _recheck_bytes(one, proven)
        if good.get((entry.origin, seal.root)) == seal:
            continue
        key = keys.get(entry.origin)
        if key is None:
            hint = f"{entry.place}: nobody registered '{entry.origin}'."
            raise Conflict("receive.unknown", hint, node=entry.origin)
        if seal.alg != "ed25519" or not check_seal_again(key, seal):
            raise Corrupt("receive.seal", f"{entry.place}: the seal is not signed by the node that wrote the entry.")
        good[entry.origin, seal.root] = seal


def _recheck_bytes(one: Received, proven: dict[tuple[bytes, int], Proven]) -> None:
    written, entry, seal = one.written, one.written.entry, one.seal
    if leaf_hash(written.data) != written.hash:
        raise Corrupt("receive.hash", f"{entry.place}: its bytes are not what its hash says.")
    under = proven.get((seal.root, seal.count))
    if under is None:
        under = proven[seal.root, seal.count] = Proven(seal)
    if not under.holds(written.hash, one.leaf, one.path):
        raise Corrupt("receive.path", f"{entry.place}: it is not under the root that was sealed.")
    if not check_private(entry, written.salt, written.private):
        raise Corrupt("receive.private", f"{entry.place}: the private part is not what its salted hash says.")


class Intake:
    """Give it a connection inside a transaction; after the commit tell it `committed(taken)`."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._heads: dict[Stream, Held] = {}
        self._sealed: dict[tuple[str, bytes], int] = {}
        """The ids of seals that were met lately."""
        self.branched: set[str] = set()
        self.ahead: set[str] = set()
        self._lacks = False
        """Whether any entry is held without its private part."""

    def read(self, connection: Connection) -> None:
        """At start, and after a failed commit."""
        self._heads.clear()
        self._sealed.clear()
        self._counters.seals = connection.scalar(sa.select(sa.func.max(RECEIVED_SEAL.c.id))) or 0
        self.branched = set(connection.scalars(sa.select(BRANCH.c.subject).distinct()))
        self.ahead = set(connection.scalars(sa.select(AHEAD.c.subject).distinct()))
        self._lacks = connection.execute(sa.select(LACKING.c.hash).limit(1)).first() is not None

    def committed(self, taken: Taken) -> None:
        if len(self._heads) > HEADS_CACHED_MAX:
            self._heads.clear()
        self._heads.update((stream, at) for stream, at in taken.heads.items() if stream not in taken.own)
        self.branched |= taken.branched

    def take(self, connection: Connection, items: Sequence[Received], position: int, *, own: tuple[str, str]) -> Taken:
        """Store what is not held yet, and the private parts of what is held without. `own` is this node and its present
        generation.

        Raises `Conflict("receive.gap")` when an entry follows none that is held, `Conflict("receive.own")` for one of the
        present generation that is not held here: then this database is older than what the node has written.
        """
        taken = Taken()
        chain: list[tuple[Received, int]] = []
        loose: dict[bytes, Received] = {}
        held = self._held_hashes(connection, items, taken)
        if self._lacks:
            taken.filled = self._fill(connection, [one.written for one in items if one.written.hash in held])
        taken.own = {stream for stream in taken.heads if (stream.origin, stream.generation) == own}
        for one in items:
            entry, written = one.written.entry, one.written
            if written.hash in held or written.hash in loose:
                continue
            stream = one.stream
            at = taken.heads[stream]
            if (entry.origin, entry.generation) == own:
                place = f"{stream} #{entry.seq}"
                raise Conflict("receive.own", f"{place} is this node's own and not here.", stream=str(stream))
            if entry.seq == at.length + 1 and entry.prev == (NO_HASH if at.head is None else at.head.hex()):
                taken.heads[stream] = Held(at.id, entry.seq, written.hash)
                chain.append((one, at.id))
            else:
                self._branches(one, held, loose)
                loose[written.hash] = one
                taken.branched.add(entry.subject)
            held.add(written.hash)
            taken.fresh.append(written)
        if chain:
            self._insert(connection, chain, position)
            self._settle(connection, {one.written.entry.stream for one, _ in chain}, taken.heads)
        if loose:
            self._within(connection, loose.values())
            taken.loose = frozenset(loose)
            connection.execute(sa.insert(BRANCH), [_loose(one, position) for one in loose.values()])
        if self.ahead:
            self._confirm(connection, taken)
        self._note_bare(connection, taken.fresh)
        return taken

    def _note_bare(self, connection: Connection, fresh: Sequence[Written]) -> None:
        """Remember what came without its private part."""
        rows = [
            {"hash": one.hash, **_named(one.entry.stream), "seq": one.entry.seq}
            for one in fresh
            if one.entry.private is not None and one.private is None
        ]
        if rows:
            connection.execute(sa.insert(LACKING), rows)
            self._lacks = True

    @staticmethod
    def _fill(connection: Connection, known: Sequence[Written]) -> list[Written]:
        """Give entries that are held without their private part the one that came, which `recheck` has compared with the hash
        in the entry. Coming twice changes nothing."""
        given = {one.hash: one for one in known if one.private is not None}
        rows = _in_pieces(connection, sa.select(LACKING), LACKING.c.hash, sorted(given))
        for row in rows:
            one = given[row.hash]
            part = {"salt": one.salt, "private": one.private}
            stream = sa.select(STREAM.c.id).filter_by(**_named(one.entry.stream)).scalar_subquery()
            place = (ENTRY.c.stream == stream, ENTRY.c.seq == row.seq, ENTRY.c.hash == row.hash)
            connection.execute(sa.update(ENTRY).where(*place).values(**part))
            connection.execute(sa.update(BRANCH).where(BRANCH.c.hash == row.hash).values(**part))
            connection.execute(sa.delete(LACKING).where(LACKING.c.hash == row.hash))
        return [given[row.hash] for row in rows]

    def take_ahead(self, connection: Connection, items: Sequence[Received], position: int) -> Taken:
        """Keep entries beside the log until their streams reach them; what is held already is left out."""
        taken = Taken()
        known = self._held_hashes(connection, items, taken)
        new = {one.written.hash: one for one in items if one.written.hash not in known}
        for found in _in_pieces(connection, sa.select(AHEAD.c.hash), AHEAD.c.hash, list(new)):
            new.pop(found.hash, None)
        if (connection.scalar(sa.select(sa.func.count()).select_from(AHEAD)) or 0) + len(new) > AHEAD_ROWS_MAX:
            raise Conflict("receive.ahead", f"More than {AHEAD_ROWS_MAX} entries wait for their streams already.")
        if new:
            connection.execute(sa.insert(AHEAD), [_loose(one, position) for one in new.values()])
        taken.fresh = [one.written for one in new.values()]
        taken.heads.clear()
        return taken

    def _held_hashes(self, connection: Connection, items: Sequence[Received], taken: Taken) -> set[bytes]:
        """Which of these entries, and of those they follow, are stored; fills in the heads of their streams."""
        asked: dict[Stream, set[int]] = {}
        for one in items:
            entry, stream = one.written.entry, one.stream
            at = taken.heads.get(stream)
            if at is None:
                at = taken.heads[stream] = self._head(connection, stream)
            if entry.seq <= at.length:
                asked.setdefault(stream, set()).update((entry.seq, entry.seq - 1))
        held: set[bytes] = set()
        for stream, numbers in asked.items():
            wanted = sa.select(ENTRY.c.hash).where(ENTRY.c.stream == taken.heads[stream].id)
            held.update(row.hash for row in _in_pieces(connection, wanted, ENTRY.c.seq, sorted(numbers)))
        for at in taken.heads.values():
            if at.head is not None:
                held.add(at.head)
        subjects = {stream.subject for stream in taken.heads} & self.branched
        for subject in subjects:
            held.update(connection.scalars(sa.select(BRANCH.c.hash).where(BRANCH.c.subject == subject)))
        return held

    def _head(self, connection: Connection, stream: Stream) -> Held:
        found = self._heads.get(stream)
        if found is None:
            row = connection.execute(
                sa.select(STREAM.c.id, STREAM.c.length, STREAM.c.head).where(
                    STREAM.c.subject == stream.subject,
                    STREAM.c.origin == stream.origin,
                    STREAM.c.generation == stream.generation,
                )
            ).first()
            found = Held(0, 0, None) if row is None else Held(row.id, row.length, row.head)
        return found

    @staticmethod
    def _branches(one: Received, held: set[bytes], loose: Mapping[bytes, Received]) -> None:
        entry = one.written.entry
        if entry.seq == 1 and entry.prev == NO_HASH:
            return
        before = bytes.fromhex(entry.prev)
        if before not in held and before not in loose:
            place = entry.place
            raise Conflict("receive.gap", f"{place} follows an entry that is not here.", stream=str(entry.stream))

    def branch_ends(self, connection: Connection, subject: str, origin: str) -> dict[str, list[list[Any]]]:
        """The ends beside the chains, {"origin.generation": [[length, head in hex], ...]}."""
        if subject not in self.branched:
            return {}
        rows = connection.execute(
            sa.select(BRANCH).where(BRANCH.c.subject == subject, BRANCH.c.origin == origin).order_by(BRANCH.c.hash)
        ).all()
        before = {decode(row.data).prev for row in rows}
        found: dict[str, list[list[Any]]] = {}
        for row in rows:
            if row.hash.hex() not in before:
                found.setdefault(f"{row.origin}.{row.generation}", []).append([row.seq, row.hash.hex()])
        return found

    @staticmethod
    def _within(connection: Connection, loose: Iterable[Received]) -> None:
        """A stream has a bounded number of ends."""
        found = list(loose)
        for stream in {one.written.entry.stream for one in found}:
            mine = [one.written for one in found if one.written.entry.stream == stream]
            known = connection.execute(
                sa.select(BRANCH.c.hash, BRANCH.c.data).where(
                    BRANCH.c.subject == stream.subject,
                    BRANCH.c.origin == stream.origin,
                    BRANCH.c.generation == stream.generation,
                )
            ).all()
            if len(known) + len(mine) < BRANCHES_MAX:
                continue
            before = {decode(row.data).prev for row in known} | {one.entry.prev for one in mine}
            ends = {row.hash.hex() for row in known} | {one.hash.hex() for one in mine}
            if len(ends - before) >= BRANCHES_MAX:  # the chain has one too
                raise Conflict("receive.branches", f"{stream} has more than {BRANCHES_MAX} ends.", stream=str(stream))

    def _insert(self, connection: Connection, chain: list[tuple[Received, int]], position: int) -> None:
        seals = self._seals(connection, [one for one, _ in chain])
        streams: dict[Stream, int] = {}
        rows = []
        for one, key in chain:
            written = one.written
            if not key:
                stream = one.stream
                key = streams.get(stream, 0)
                if not key:
                    self._counters.streams += 1
                    key = streams[stream] = self._counters.streams
            self._counters.entries += 1
            seal = seals[written.entry.origin, one.seal.root]
            place = (self._counters.entries, key, written.entry.seq, position, one.leaf)
            rows.append((*place, written.hash, written.data, written.salt, written.private, one.path, seal))
        _insert_entries(connection, rows)
        self._new_streams = streams

    def _settle(self, connection: Connection, streams: set[Stream], heads: dict[Stream, Held]) -> None:
        new, grown = [], []
        for stream in sorted(streams):
            at = heads[stream]
            key = at.id or self._new_streams[stream]
            heads[stream] = Held(key, at.length, at.head)
            if at.id:
                grown.append({"key": key, "length": at.length, "head": at.head})
            else:
                name = {"subject": stream.subject, "origin": stream.origin, "generation": stream.generation}
                new.append({"id": key, "length": at.length, "head": at.head, **name})
        if new:
            connection.execute(sa.insert(STREAM), new)
        if grown:
            connection.execute(sa.update(STREAM).where(STREAM.c.id == sa.bindparam("key")), grown)

    def _seals(self, connection: Connection, items: list[Received]) -> dict[tuple[str, bytes], int]:
        """The stored ids of these entries' seals; new ones are stored."""
        wanted = {(one.written.entry.origin, one.seal.root): one.seal for one in items}
        if len(self._sealed) > SEALS_CACHED_MAX:
            self._sealed.clear()
        found = {key: self._sealed[key] for key in wanted if key in self._sealed}
        roots = sorted({key[1] for key in wanted if key not in found})
        columns = sa.select(RECEIVED_SEAL.c.id, RECEIVED_SEAL.c.origin, RECEIVED_SEAL.c.root)
        for row in _in_pieces(connection, columns, RECEIVED_SEAL.c.root, roots):
            found[row.origin, row.root] = row.id
        rows = []
        for (origin, root), seal in wanted.items():
            if (origin, root) not in found:
                self._counters.seals += 1
                found[origin, root] = self._counters.seals
                named = {"id": self._counters.seals, "origin": origin, "root": root, "count": seal.count}
                rows.append({**named, "alg": seal.alg, "signature": seal.signature})
        if rows:
            connection.execute(sa.insert(RECEIVED_SEAL), rows)
        self._sealed.update((key, found[key]) for key in wanted)  # a failed commit has `read` forget it
        return found

    def _confirm(self, connection: Connection, taken: Taken) -> None:
        hashes = [written.hash for written in taken.fresh if written.entry.subject in self.ahead]
        for start in range(0, len(hashes), SQL_VARIABLES_MAX):
            some = AHEAD.c.hash.in_(hashes[start : start + SQL_VARIABLES_MAX])
            subjects = set(connection.scalars(sa.select(AHEAD.c.subject).where(some)))
            if subjects:
                connection.execute(sa.delete(AHEAD).where(some))
                taken.confirmed |= subjects


def _in_pieces(connection: Connection, statement: Any, column: Any, values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(values), SQL_VARIABLES_MAX):
        found += connection.execute(statement.where(column.in_(values[start : start + SQL_VARIABLES_MAX])))
    return found


def _named(stream: Stream) -> dict[str, str]:
    return {"subject": stream.subject, "origin": stream.origin, "generation": stream.generation}


def _loose(one: Received, position: int) -> dict[str, Any]:
    entry, written, seal = one.written.entry, one.written, one.seal
    return {
        "hash": written.hash,
        "subject": entry.subject,
        "origin": entry.origin,
        "generation": entry.generation,
        "seq": entry.seq,
        "position": position,
        "leaf": one.leaf,
        "data": written.data,
        "salt": written.salt,
        "private": written.private,
        "path": one.path,
        "root": seal.root,
        "count": seal.count,
        "alg": seal.alg,
        "signature": seal.signature,
    }
