"""Rooms and meetings folded from their entries: those that another node hosts, those that came back after a restore, and those
of which a text was erased.

Shell, in the writer's thread. A room has one host, the node to which its id is bound, and only what the host says of it has an
effect. The host's word stands in up to two streams (its incident's and `meeting/ID`), which arrive in any order; they are
merged by the host's own clock. Invariant: the rows of a room that another node hosts are a function of the host's entries
held here and of who is bound to its incident; no entry about one room touches a row of another.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from command.base.entry import Entry, Written
from command.base.naming import ROOM as HOSTED
from command.base.naming import bound
from command.base.projection import Domain, Row, Table
from command.base.timer import TIMER
from command.domain.incident import INCIDENT
from command.domain.minutes import MINUTES
from command.domain.nodes import NODE, Hierarchy
from command.domain.roll_call import CHAT, ROLL_CALL
from command.domain.room import ATTENDANCE, MEETING, ROOM, OfRoom, Room
from command.domain.schedule import SCHEDULE
from command.log.audience import holds_any
from command.log.held import standing_in, written_of
from command.log.projecting import BESIDE, Projecting
from command.log.reach import Hosted, readable
from command.log.store import BRANCH, ENTRY, STREAM
from command.log.workspace import Scratch, Workspace

MEETINGS = "meeting/"
KINDS = tuple(f'"kind":"{kind}'.encode() for kind in BESIDE)
OPENING = ("room.opened", "meeting.scheduled")
LAST_MAX = 5_000
PARTS = ("data", "hash", "salt", "private")

journal = structlog.get_logger("fold")

ONE: tuple[Table[Any], ...] = (ROOM, MEETING, SCHEDULE, MINUTES)
"""Tables with one row of a room, under its id."""
MANY: tuple[Table[Any], ...] = (ATTENDANCE, ROLL_CALL, CHAT)

Key = tuple[int, str, str, int, bytes]


class Rooms:
    """Of the node `node`, over the rows of a transaction. `forget` after a failed commit."""

    def __init__(self, domain: Domain, rows: Workspace, node: str, projecting: Projecting) -> None:
        self._domain, self._rows, self._node, self._projecting = domain, rows, node, projecting
        self._last: dict[str, Key] = {}
        """By room: the place of the newest entry that is folded."""

    def forget(self) -> None:
        self._last.clear()

    # -- what came in

    def received(self, connection: Connection, fresh: Iterable[Written], *, at: int) -> None:
        """Fold what came in about rooms; `at` in microseconds UTC. The entries must be stored."""
        by_room: dict[str, list[Written]] = {}
        for written in fresh:
            key = room_of(written.entry)
            if key is not None and bound(key, written.entry, HOSTED) and self._heard(connection, written.entry):
                by_room.setdefault(key, []).append(written)
        for key, found in by_room.items():
            places = [place(one) for one in found]
            last = self._last.get(key)
            opens = any(one.entry.kind in OPENING for one in found)
            if last is None or opens or places != sorted(places) or places[0] <= last:
                self.fold(connection, key, subjects={one.entry.subject for one in found}, at=at)
                continue
            self._last[key] = places[-1]
            for written in found:
                self._projecting.safely(lambda one: self._domain.project(Hosted(self._rows, key), one), written)  # noqa: B023

    def bound(self, incident: str) -> None:
        """More may have been called to an incident: they may come to those of its rooms that other nodes host, too."""
        row = self._rows.get(INCIDENT, incident)
        if row is None:
            return
        for room in self._rows.where(ROOM, incident=incident):
            for _, (table, of_it) in list(self._held(self._rows, room.id)) if room.node != self._node else ():
                if isinstance(of_it, Room | OfRoom) and not set(row.parties) <= set(of_it.parties):
                    parties = sorted({*of_it.parties, *row.parties})
                    self._rows.put(table, msgspec.structs.replace(of_it, parties=parties))

    # -- folding

    def fold(self, connection: Connection, key: str, *, subjects: Iterable[str] = (), at: int | None = None) -> None:
        """The rows of a room from all entries of its host. Where this node is the host, who is bound to each row stays, and with
        `at` (microseconds UTC) its timers are set too; those that were due by then are held for a person."""
        found = self._entries(connection, key, subjects)
        found = [one for one in found if bound(key, one.entry, HOSTED)]
        host = found[0].entry.origin if found else None
        scratch = Scratch()
        for written in found:
            self._projecting.safely(lambda one: self._domain.project(scratch, one), written)
        before, after = dict(self._held(self._rows, key)), dict(self._held(scratch, key))
        for name, (table, row) in after.items():
            known = self._rows.get(table, row.id)
            if known is not None and name not in before:
                continue  # a line or a roll call of another room has this id
            try:
                self._rows.put(table, readable(self._with_parties(row, known, key, scratch, host)))
            except msgspec.ValidationError as error:  # what strangers wrote stops nothing
                journal.error("room.unreadable", table=table.name, row=row.id[:80], error=str(error)[:200])
        for name, (table, row) in before.items():
            if name not in after:
                self._rows.delete(table, row.id)
        if host == self._node and at is not None:
            for timer in scratch.where(TIMER):
                if self._rows.get(TIMER, timer.id) is None:
                    self._rows.put(TIMER, msgspec.structs.replace(timer, held=timer.due_at <= at))
        if len(self._last) > LAST_MAX:
            self._last.clear()
        if found and host != self._node:
            self._last[key] = max(place(one) for one in found)

    def _with_parties(self, row: Row, known: Row | None, key: str, scratch: Scratch, host: str | None) -> Row:
        if not isinstance(row, Room | OfRoom):
            return row
        if host == self._node and isinstance(known, Room | OfRoom):
            return msgspec.structs.replace(row, parties=known.parties)
        room = scratch.get(ROOM, key)
        incident = self._rows.get(INCIDENT, room.incident) if room is not None and room.incident else None
        bound = set() if incident is None else {*incident.parties}
        return msgspec.structs.replace(row, parties=sorted({*row.parties, *bound}))

    @staticmethod
    def _held(rows: Workspace | Scratch, key: str) -> Iterator[tuple[tuple[str, str], tuple[Table[Any], Row]]]:
        for table in ONE:
            row = rows.get(table, key)
            if row is not None:
                yield (table.name, key), (table, row)
        for table in MANY:
            for row in rows.where(table, room=key):
                yield (table.name, row.id), (table, row)

    def _entries(self, connection: Connection, key: str, subjects: Iterable[str]) -> list[Written]:
        """What is held about a room: as it was written, where all of it was written here; else by the host's clock."""
        row = self._rows.get(ROOM, key)
        wanted = sorted({*subjects, f"{MEETINGS}{key}", *([row.subject] if row is not None else [])})
        about = holds_any(connection, [key.encode()])
        columns = sa.select(*(ENTRY.c[name] for name in (*PARTS, "number", "seal")))
        chain = columns.join(STREAM, STREAM.c.id == ENTRY.c.stream).where(STREAM.c.subject.in_(wanted), about)
        rows = list(connection.execute(chain.order_by(ENTRY.c.number)))
        found = [written_of(one) for one in rows]
        loose = sa.select(*(BRANCH.c[name] for name in PARTS)).where(BRANCH.c.subject.in_(wanted))
        branch = [written_of(one) for one in connection.execute(loose)]
        if branch or any(one.seal is not None for one in rows):
            found = list(merged([*found, *branch]))
        about_it = [one for one in found if room_of(one.entry) == key or _timer(one.entry, key)]
        return [one for one in about_it if self._heard(connection, one.entry)]

    def _heard(self, connection: Connection, entry: Entry) -> bool:
        """Whether it is no stranger's: nobody opens a room in an incident that was not given to its node."""
        if entry.origin == self._node or not entry.subject.startswith("incident/"):
            return True
        incident = self._rows.get(INCIDENT, entry.subject.partition("/")[2])
        if incident is not None and incident.owner == entry.origin:
            return True
        nodes = Hierarchy({row.id: row for row in self._rows.where(NODE)})
        return entry.origin in standing_in(connection, entry.subject, nodes)


def room_of(entry: Entry) -> str | None:
    """The room that an entry is about; None when it is about none, or isn't where it belongs."""
    key = entry.body.get("room")
    if not entry.kind.startswith(BESIDE) or not isinstance(key, str):
        return None
    return None if entry.subject.startswith(MEETINGS) and entry.subject != f"{MEETINGS}{key}" else key


def _timer(entry: Entry, key: str) -> bool:
    return entry.kind.startswith("timer.") and entry.subject == f"{MEETINGS}{key}"


def place(written: Written) -> Key:
    """Where an entry comes among those of its room."""
    entry = written.entry
    return entry.at, entry.subject, entry.generation, entry.seq, written.hash


def merged(found: Iterable[Written]) -> Iterator[Written]:
    """Streams of one node, each in its own order, whichever comes next by the node's clock."""
    streams: dict[str, list[Written]] = {}
    for one in found:
        streams.setdefault(str(one.entry.stream), []).append(one)
    heads = []
    for stream in streams.values():
        stream.sort(key=lambda one: (one.entry.seq, one.hash))
        heads.append((place(stream[0]), iter(stream[1:]), stream[0]))
    heapq.heapify(heads)
    while heads:
        _, rest, one = heapq.heappop(heads)
        yield one
        following = next(rest, None)
        if following is not None:
            heapq.heappush(heads, (place(following), rest, following))


def received_rooms(connection: Connection) -> dict[str, set[str]]:
    """The rooms of which something was received, by their ids, and the subjects in which it stands."""
    columns = sa.select(*(ENTRY.c[name] for name in PARTS))
    chain = columns.where(ENTRY.c.seal.is_not(None), holds_any(connection, KINDS))
    loose = sa.select(*(BRANCH.c[name] for name in PARTS))
    rows = [*connection.execute(chain), *connection.execute(loose)]
    found: dict[str, set[str]] = {}
    for row in rows:
        entry = written_of(row).entry
        key = room_of(entry)
        if key is not None:
            found.setdefault(key, set()).add(entry.subject)
    return found
