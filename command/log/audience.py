"""The audience: who may have which stream, kept up with the log by reading on in it.

Shell over `sharing`, which has the rules. Belongs to the link's thread. Invariant: what it knows of an incident covers every
entry of it that is durable at the time of asking.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Entry, Stream, Written
from command.domain.nodes import Hierarchy, TreeNode
from command.log.store import BRANCH, ENTRY, STREAM
from command.tree import calling, sharing
from command.tree.calling import Called
from command.tree.claim import INCIDENT
from command.tree.sharing import MEETING, Concerned

SUBJECTS_MAX = 50_000
TELLING = (b'"node', b'"kind":"incident.reported"', b'"kind":"incident.level_set"', b'"kind":"ownership.')
"""Octets of which at least one stands in every entry that widens an audience: the database looks for them, so that of a
hundred thousand entries a handful is decoded."""


class NodeTree(Hierarchy):
    """`sharing.Nodes` over the rows of the tree. `rows` may grow under it; the caller then calls `moved`."""

    def __init__(self, rows: Mapping[str, TreeNode]) -> None:
        super().__init__(rows)
        self._lines: dict[str, tuple[str, ...]] = {}
        self.revision = 0

    def moved(self) -> None:
        self._lines.clear()
        self.revision += 1

    def line(self, node: str) -> tuple[str, ...]:
        found = self._lines.get(node)
        if found is None:
            found = self._lines[node] = super().line(node)
        return found


class _About:
    """What is known of one incident, and how far each of its streams was read for it."""

    __slots__ = ("branches", "concerned", "nodes", "read", "revision")

    def __init__(self) -> None:
        self.concerned = Concerned()
        self.read: dict[int, int] = {}
        self.branches = 0
        self.nodes: frozenset[str] = frozenset()
        self.revision = -1


class _Calls:
    """What is known of one meeting: whom each node calls that wrote in it, and how far each stream was read for it."""

    __slots__ = ("branches", "called", "read")

    def __init__(self) -> None:
        self.called: dict[str, Called] = {}
        self.read: dict[int, int] = {}
        self.branches = 0


class Audience:
    """`holdings.Sharing`. Each call reads in the snapshot it is given."""

    def __init__(self, node: str, tree: NodeTree) -> None:
        self._node, self._tree = node, tree
        self._about: dict[str, _About] = {}
        self._calls: dict[str, _Calls] = {}
        self._snapshot: Connection | None = None
        self._answers: dict[tuple[str, str, bool], frozenset[str]] = {}
        """Of the snapshot that was asked last: a frame asks at every entry."""

    def shared(self, connection: Connection, stream: Stream, peer: str) -> bool:
        if stream.subject.startswith(MEETING + "/"):
            return stream.origin == peer or peer in self._called(connection, stream.subject, stream.origin)
        about = self._of(connection, stream.subject)
        if about is not None and about.nodes:
            return stream.origin == peer or peer in about.nodes
        return sharing.may_hold(stream, peer, None, self._tree)

    def nodes(self, connection: Connection, subject: str) -> frozenset[str]:
        """The nodes that may hold an incident; empty for another subject."""
        about = self._of(connection, subject)
        return frozenset() if about is None else about.nodes

    def accepts(self, connection: Connection, stream: Stream, peer: str) -> bool:
        return sharing.accepts(stream, peer, self._node, self._tree)

    def reads(self, connection: Connection, stream: Stream, node: str) -> bool:
        """Whether a node may read all private parts of a stream."""
        if stream.subject.startswith(MEETING + "/"):
            return stream.origin == node or node in self._called(connection, stream.subject, stream.origin, now=True)
        if stream.subject.startswith(INCIDENT + "/"):
            return self.shared(connection, stream, node)
        return stream.origin == node or node in self._tree.line(stream.origin)

    def entitled(self, connection: Connection, entry: Entry, peer: str) -> bool:
        if entry.subject.startswith(MEETING + "/"):
            return entry.origin == peer or peer in self._called(connection, entry.subject, entry.origin, now=True)
        return sharing.entitled(entry, peer, self._tree)

    def _of(self, connection: Connection, subject: str) -> _About | None:
        if not subject.startswith(INCIDENT + "/"):
            return None
        about = self._about.get(subject)
        if about is None:
            if len(self._about) >= SUBJECTS_MAX:
                self._about.clear()
            about = self._about[subject] = _About()
        before = about.revision == self._tree.revision
        for row in connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject)).all():
            before &= not self._read_on(connection, about, row)
        before &= not self._read_branches(connection, about, subject)
        if not before:
            about.nodes, about.revision = sharing.participants(about.concerned, self._tree), self._tree.revision
        return about

    def _called(self, connection: Connection, subject: str, origin: str, *, now: bool = False) -> frozenset[str]:
        """Who may hold what a node wrote of a meeting, or read its private parts now."""
        if connection is not self._snapshot:
            self._snapshot = connection
            self._answers.clear()
        asked = (subject, origin, now)
        if asked in self._answers:
            return self._answers[asked]
        calls = self._calls_of(connection, subject)

        def incident(key: str) -> Concerned:
            about = self._of(connection, f"{INCIDENT}/{key}")
            return Concerned() if about is None else about.concerned

        found: set[str] = set()
        for one in {origin, *(calls.called.get(origin, Called()).erased)}:
            found |= calling.holders(one, calls.called.get(one, Called()), incident, self._tree, now=now)
        answer = self._answers[asked] = frozenset(found)
        return answer

    def _calls_of(self, connection: Connection, subject: str) -> _Calls:
        calls = self._calls.get(subject)
        if calls is None:
            if len(self._calls) >= SUBJECTS_MAX:
                self._calls.clear()
            calls = self._calls[subject] = _Calls()
        for row in connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject)).all():
            done = calls.read.get(row.id, 0)
            if done < row.length:
                telling = holds_any(connection, calling.TELLING)
                wanted = sa.select(ENTRY.c.data).where(ENTRY.c.stream == row.id, ENTRY.c.seq > done, telling)
                self._hear(calls, connection.execute(wanted.order_by(ENTRY.c.seq)).scalars())
                calls.read[row.id] = row.length
        mine = BRANCH.c.subject == subject
        count = connection.scalar(sa.select(sa.func.count()).select_from(BRANCH).where(mine)) or 0
        if count != calls.branches:
            self._hear(calls, connection.execute(sa.select(BRANCH.c.data).where(mine).order_by(BRANCH.c.seq)).scalars())
            calls.branches = count
        return calls

    @staticmethod
    def _hear(calls: _Calls, found: Iterable[bytes]) -> None:
        for data in found:
            entry = entries.decode(data)
            calls.called[entry.origin] = calls.called.get(entry.origin, Called()).add(entry)

    def _read_on(self, connection: Connection, about: _About, row: Any) -> bool:
        """Whether there was news in a stream."""
        done = about.read.get(row.id, 0)
        if done >= row.length:
            return False
        wanted = sa.select(ENTRY.c.data, ENTRY.c.hash).where(
            ENTRY.c.stream == row.id, ENTRY.c.seq > done, holds_any(connection, TELLING)
        )
        news = [about.concerned.add(_told(one)) for one in connection.execute(wanted.order_by(ENTRY.c.seq))]
        about.read[row.id] = row.length
        return any(news)

    def _read_branches(self, connection: Connection, about: _About, subject: str) -> bool:
        mine = BRANCH.c.subject == subject
        count = connection.scalar(sa.select(sa.func.count()).select_from(BRANCH).where(mine)) or 0
        if count == about.branches:
            return False
        about.branches = count
        branches = connection.execute(sa.select(BRANCH.c.data, BRANCH.c.hash).where(mine))
        news = [about.concerned.add(_told(one)) for one in branches]
        return any(news)


def _told(row: Any) -> Written:
    return Written(entry=entries.decode(row.data), data=row.data, hash=row.hash)


def holds_any(connection: Connection, wanted: Iterable[bytes]) -> sa.ColumnElement[bool]:
    """Whether any of these octets stand in an entry: looked for by the database, without decoding anything."""

    def stands(octets: bytes) -> sa.ColumnElement[bool]:
        literal = sa.literal(octets, sa.LargeBinary)
        if connection.dialect.name == "sqlite":
            return sa.func.instr(ENTRY.c.data, literal) > 0
        found: sa.ColumnElement[bool] = sa.func.position(literal.op("IN")(ENTRY.c.data)) > 0
        return found

    return sa.or_(*(stands(octets) for octets in wanted))
