"""The timeline: the entries of an incident as rows to read, newest last.

Not a table: the log itself is the timeline, and a row of it is a function of one entry.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import By, Written
from command.base.projection import Row
from command.log.store import ENTRY, HEAD, STREAM

TIMELINE = "timeline"
SNAPSHOT_ITEMS = 300


class TimelineItem(Row, frozen=True, kw_only=True):
    """`id` is the entry's hash; `position` the commit's; `body` and `private` as its kind says."""

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


def item_of(written: Written, position: int) -> TimelineItem:
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
    )


def position_of(connection: Connection) -> int:
    """The log position of this snapshot."""
    return connection.scalar(sa.select(HEAD.c.position)) or 0


def read(connection: Connection, subject: str, *, before: int | None = None, limit: int = SNAPSHOT_ITEMS) -> list[Row]:
    """Items of a subject's streams in the order in which they were written here: the `limit` newest of those before the log
    position `before`, and the others of the oldest position among them (a page never cuts a commit in two)."""
    wanted = (
        sa.select(ENTRY.c.number, ENTRY.c.position, ENTRY.c.data, ENTRY.c.hash, ENTRY.c.private, ENTRY.c.salt)
        .join(STREAM, STREAM.c.id == ENTRY.c.stream)
        .where(STREAM.c.subject == subject)
        .order_by(ENTRY.c.number.desc())
    )
    newest = wanted if before is None else wanted.where(ENTRY.c.position < before)
    rows = list(connection.execute(newest.limit(limit)))
    if len(rows) == limit:
        rest = wanted.where(ENTRY.c.position == rows[-1].position, ENTRY.c.number < rows[-1].number)
        rows += connection.execute(rest)
    return [_item(row) for row in reversed(rows)]


def _item(row: Any) -> TimelineItem:
    written = Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)
    return item_of(written, row.position)
