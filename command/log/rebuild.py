"""Read tables made anew: every entry projected again, in the order in which it was written here; then each incident in which
several nodes wrote is folded once in canonical order.

Shell. Kept tables are left alone. Invariant: what comes out equals what projecting at commit time had built.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Written
from command.base.projection import Domain
from command.log.folding import Folding
from command.log.store import AHEAD, BRANCH, ENTRY, STREAM, UNFOLDED, Store, get_meta, guarded
from command.log.workspace import Workspace

CHUNK_ENTRIES = 5_000


def written_from(connection: Connection, number: int, limit: int) -> list[tuple[int, Written]]:
    """Up to `limit` entries after entry `number`, with their numbers."""
    wanted = (
        sa.select(ENTRY.c.number, ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private)
        .where(ENTRY.c.number > number)
        .order_by(ENTRY.c.number)
        .limit(limit)
    )
    return [
        (
            row.number,
            Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private),
        )
        for row in connection.execute(wanted)
    ]


def _chunks(connection: Connection) -> Iterator[list[tuple[int, Written]]]:
    """Every entry in the order of writing, with its position."""
    number = 0
    columns = (ENTRY.c.number, ENTRY.c.position, ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private)
    while True:
        wanted = sa.select(*columns).where(ENTRY.c.number > number).order_by(ENTRY.c.number).limit(CHUNK_ENTRIES)
        found = connection.execute(wanted).all()
        if not found:
            return
        number = found[-1].number
        yield [(row.position, _written(row)) for row in found]


def _written(row: Any) -> Written:
    return Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)


def _branches(connection: Connection) -> list[tuple[int, Written]]:
    """What stands beside the chains of other subjects than incidents; those are folded whole."""
    wanted = sa.select(BRANCH).where(BRANCH.c.subject.not_like("incident/%"))
    return [
        (row.position, _written(row)) for row in connection.execute(wanted.order_by(BRANCH.c.position, BRANCH.c.seq))
    ]


def _shared(connection: Connection, node: str) -> list[str]:
    """The incidents in which another node has written: those are folded in canonical order."""
    wanted = sa.select(STREAM.c.subject).where(STREAM.c.subject.like("incident/%"), STREAM.c.origin != node)
    found = set(connection.scalars(wanted))
    found |= set(connection.scalars(sa.select(BRANCH.c.subject).where(BRANCH.c.subject.like("incident/%"))))
    found |= set(connection.scalars(sa.select(AHEAD.c.subject).where(AHEAD.c.subject.like("incident/%"))))
    return sorted(found)


def rebuild(store: Store, domain: Domain) -> int:
    """Empty the read tables and project the whole log into them, in one transaction; the number of entries.

    The caller must hold the store, and nobody may append meanwhile.
    """
    count = 0
    rows = Workspace(store)
    with guarded(), store.writer_engine.begin() as connection:
        node = get_meta(connection, "node") or ""
        folding = Folding(domain, rows, node)
        for shelf in store.shelves.values():
            if not shelf.table.kept:
                connection.execute(sa.delete(shelf.sql))
        loose = _branches(connection)
        for chunk in _chunks(connection):
            rows.begin(connection)
            for position, written in chunk:
                while loose and loose[0][0] < position:
                    folding.replay(loose.pop(0)[1])
                folding.replay(written)
            rows.flush()
            rows.committed()
            count += len(chunk)
        rows.begin(connection)
        for _, written in loose:
            folding.replay(written)
        late = folding.settled()
        rows.flush()
        rows.committed()
        for subject in sorted({*_shared(connection, node), *late}):
            rows.begin(connection)
            folding.fold(connection, subject)
            rows.flush()
            rows.committed()
        rows.begin(connection)
        folding.fold_rooms(connection)
        rows.flush()
        rows.committed()
        connection.execute(sa.delete(UNFOLDED))
    return count
