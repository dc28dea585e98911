"""The timeline: the entries of an incident as rows to read, newest last.

Not a table: the log itself is the timeline, and a row of it is a function of one entry and of where it is kept. Invariant:
every entry that is held is on it once, those beside the chains too.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import By, Written
from command.base.projection import Row
from command.log.store import BRANCH, ENTRY, HEAD, STREAM

TIMELINE = "timeline"
SNAPSHOT_ITEMS = 300


class TimelineItem(Row, frozen=True, kw_only=True):
    """`id` is the entry's hash; `position` the commit's; `body` and `private` as its kind says; `withheld` says that it has a
    private part that isn't here; `branch` that its stream went on from another entry as well, which a restored database does:
    it counts like all others."""

    subject: str
    origin: str
    generation: str
    seq: int
    position: int
    at: int
    kind: str
    by: By
    seen: dict[str, int] = {}
    body: dict[str, Any]
    private: dict[str, Any] = {}
    withheld: bool = False
    branch: bool = False


def item_of(written: Written, position: int, *, branch: bool = False) -> TimelineItem:
    entry = written.entry
    return TimelineItem(
        id=written.hash.hex(),
        subject=entry.subject,
        origin=entry.origin,
        generation=entry.generation,
        seq=entry.seq,
        position=position,
        at=entry.at,
        kind=entry.kind,
        by=entry.by,
        seen=entry.seen,
        body=msgspec.to_builtins(entry.body),
        private=written.secrets,
        withheld=entry.private is not None and written.private is None,
        branch=branch,
    )


def position_of(connection: Connection) -> int:
    """The log position of this snapshot."""
    return connection.scalar(sa.select(HEAD.c.position)) or 0


def read(connection: Connection, subject: str, *, before: int | None = None, limit: int = SNAPSHOT_ITEMS) -> list[Row]:
    """Items of a subject's streams in the order in which they were written here: the `limit` newest of those before the log
    position `before`, and the others of the oldest position among them (a page never cuts a commit in two)."""
    chain = sa.select(*_columns(ENTRY), ENTRY.c.number.label("place")).join(STREAM, STREAM.c.id == ENTRY.c.stream)
    loose = sa.select(*_columns(BRANCH), BRANCH.c.seq.label("place")).where(BRANCH.c.subject == subject)
    wanted: list[tuple[bool, sa.Table, sa.Select[Any]]] = [
        (False, ENTRY, chain.where(STREAM.c.subject == subject).order_by(ENTRY.c.number.desc())),
        (True, BRANCH, loose.order_by(BRANCH.c.position.desc(), BRANCH.c.seq.desc())),
    ]
    rows: list[tuple[bool, Any]] = []
    for branch, table, every in wanted:
        some = every if before is None else every.where(table.c.position < before)
        rows += [(branch, row) for row in connection.execute(some.limit(limit))]
    rows.sort(key=_place, reverse=True)
    if len(rows) >= limit:
        oldest = rows[limit - 1][1].position
        rows = [one for one in rows if one[1].position > oldest]
        for branch, table, every in wanted:
            rows += [(branch, row) for row in connection.execute(every.where(table.c.position == oldest))]
    return [_item(row, branch=branch) for branch, row in sorted(rows, key=_place)]


def _place(one: tuple[bool, Any]) -> tuple[int, bool, int]:
    return one[1].position, one[0], one[1].place


def _columns(table: sa.Table) -> list[Any]:
    return [table.c[name] for name in ("position", "data", "hash", "private", "salt")]


def _item(row: Any, *, branch: bool) -> TimelineItem:
    written = Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)
    return item_of(written, row.position, branch=branch)
