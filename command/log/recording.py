"""Recording: what this node itself writes becomes entries of its streams, chained, sealed and stored.

Shell, in the writer's thread and its transaction. Decides nothing. Invariant: a stream's head in memory is that of the
transaction under way; who undoes a request puts back the heads that it moved, who doubts the commit calls `forget`.
"""

from collections import Counter
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.clock import Clock
from command.base.entry import NO_HASH, SALT_BYTES, Draft, Entry, Stream, Written
from command.domain.incident import INCIDENT
from command.log.filling import Filling
from command.log.folding import Folding
from command.log.intake import Counters, Intake
from command.log.store import ENTRY, HEAD, SEAL, STREAM
from command.log.submission import Submission
from command.log.workspace import Workspace

STREAM_CACHE_MAX = 20_000
SALTS_DRAWN = 64
"""At a time: each look into the kernel's randomness lets go of the interpreter's lock."""

OWN_ENTRIES = Filling(ENTRY, ("number", "stream", "seq", "position", "leaf", "hash", "data", "salt", "private", "path"))
SEALS = Filling(SEAL, ("position", "root", "count", "alg", "signature"))
NEW_STREAMS = Filling(STREAM, ("id", "subject", "origin", "generation", "length", "head"))
GROW = sa.update(STREAM).where(STREAM.c.id == sa.bindparam("key"))
COUNT = sa.update(HEAD)


class StreamHead:
    """`others` are the folded lengths of the subject's other streams, `told` what this stream has named of them (`seen`)."""

    __slots__ = ("head", "id", "length", "others", "stream", "told")

    def __init__(self, id: int, stream: Stream, length: int, head: bytes | None, others: dict[str, int]) -> None:
        self.id, self.stream, self.length, self.head = id, stream, length, head
        self.others = others
        self.told: dict[str, int] = {}


Mark = tuple[int, bytes | None, dict[str, int]]


class Recording:
    """The streams of this node's present `generation`, which the writer sets."""

    def __init__(
        self,
        rows: Workspace,
        clock: Clock,
        key: Ed25519PrivateKey,
        node: str,
        counters: Counters,
        *,
        intake: Intake,
        folding: Folding,
    ) -> None:
        self.generation = ""
        self._rows, self._clock, self._key, self._node = rows, clock, key, node
        self._counters, self._intake, self._folding = counters, intake, folding
        self._streams: dict[str, StreamHead] = {}
        self._salts: list[bytes] = []

    def forget(self, subject: str | None = None) -> None:
        """Read the heads again when they are needed next: of one subject, or of all."""
        if subject is None:
            self._streams.clear()
        else:
            self._streams.pop(subject, None)

    def committed(self) -> None:
        """Keep the memory bounded."""
        if len(self._streams) > STREAM_CACHE_MAX:
            self._streams.clear()

    def undo(self, heads: dict[str, Mark]) -> None:
        """A request was refused after it had recorded: its streams stand where they stood."""
        for name, (length, head, told) in heads.items():
            stream = self._streams[name]
            stream.length, stream.head, stream.told = length, head, told

    def stream(self, connection: Connection, subject: str) -> StreamHead:
        found = self._streams.get(subject)
        if found is not None:
            return found
        stream = Stream(subject, self._node, self.generation)
        rows = connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject)).all()
        mine = [row for row in rows if row.origin == self._node and row.generation == self.generation]
        others: dict[str, int] = {}
        if subject.startswith("incident/"):
            others = self._folding.lengths(connection, subject, rows)
            if (
                not mine
            ):  # the first entry names the generations before it, so that whoever holds the stream knows the order
                others |= {name: others.get(name, 0) for name in self._folding.earlier(self.generation)}
            others.pop(f"{self._node}.{self.generation}", None)
        if mine:
            found = StreamHead(mine[0].id, stream, mine[0].length, mine[0].head, others)
        else:
            self._counters.streams += 1
            found = StreamHead(self._counters.streams, stream, 0, None, others)
        self._streams[subject] = found
        return found

    def based(self, connection: Connection, stream: StreamHead, draft: Draft) -> Draft:
        """A claim with its `base`: the ends of the owner's streams as held here, within which its decisions stand."""
        incident = self._rows.get(INCIDENT, draft.subject.partition("/")[2])
        owner = "" if incident is None else incident.owner
        held = sa.select(STREAM).where(STREAM.c.subject == draft.subject, STREAM.c.origin == owner)
        base = {f"{row.origin}.{row.generation}": [[row.length, row.head.hex()]] for row in connection.execute(held)}
        for name, tips in self._intake.branch_ends(connection, draft.subject, owner).items():
            base.setdefault(name, []).extend(tips)
        if owner == self._node and stream.head is not None:
            base[f"{self._node}.{self.generation}"] = [[stream.length, stream.head.hex()]]
        return msgspec.structs.replace(draft, body=draft.body | {"base": base})

    def record(
        self, connection: Connection, stream: StreamHead, draft: Draft, submission: Submission, now: int
    ) -> Written:
        salt = private = None
        hashed: str | None = None
        if draft.private:
            self._salts = self._salts or self._clock.draws(SALT_BYTES, SALTS_DRAWN)
            private, salt = entries.encode_private(draft.private), self._salts.pop()
            hashed = entries.private_hash(salt, private).hex()
        seen = {} if submission.seen is None else self._seen(connection, stream, submission.seen)
        if stream.others and stream.others != stream.told:
            seen |= {name: length for name, length in stream.others.items() if stream.told.get(name) != length}
            stream.told = stream.others
        record = entries.write(
            Entry(
                subject=stream.stream.subject,
                origin=self._node,
                generation=self.generation,
                seq=stream.length + 1,
                prev=NO_HASH if stream.head is None else stream.head.hex(),
                at=now,
                kind=draft.kind,
                by=submission.by,
                claim=draft.claim,
                seen=seen,
                private=hashed,
                body=draft.body,
            ),
            private,
            salt,
        )
        stream.length, stream.head = stream.length + 1, record.hash
        return record

    def _seen(self, connection: Connection, stream: StreamHead, position: int) -> dict[str, int]:
        """The length that the author's screen had of this stream at `position`."""
        length = connection.scalar(
            sa.select(sa.func.max(ENTRY.c.seq)).where(ENTRY.c.stream == stream.id, ENTRY.c.position <= position)
        )
        return {str(stream.stream): length or 0}

    def insert(self, connection: Connection, written: list[Written], position: int) -> None:
        touched = Counter(record.entry.subject for record in written)
        seal, paths = entries.seal(self._key, [record.hash for record in written])
        first = self._counters.entries + 1
        self._counters.entries += len(written)
        rows = [
            (
                first + leaf,
                self._streams[record.entry.subject].id,
                record.entry.seq,
                position,
                leaf,
                record.hash,
                record.data,
                record.salt,
                record.private,
                path,
            )
            for leaf, (record, path) in enumerate(zip(written, paths, strict=True))
        ]
        OWN_ENTRIES(connection, rows)
        SEALS(connection, [(position, seal.root, seal.count, seal.alg, seal.signature)])
        new: list[tuple[Any, ...]] = []
        grown: list[dict[str, Any]] = []
        for subject, count in touched.items():
            head = self._streams[subject]
            if count == head.length:
                new.append((head.id, subject, self._node, self.generation, head.length, head.head))
            else:
                grown.append({"key": head.id, "length": head.length, "head": head.head})
        if new:
            NEW_STREAMS(connection, new)
        if grown:
            connection.execute(GROW, grown)
        connection.execute(COUNT, {"entries": self._counters.entries})
