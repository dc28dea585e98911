"""What the tests of durability ask of a database that no server holds: its entries, its read tables, its soundness."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

import server
from command.base import identity
from command.base.config import load
from command.base.entry import Written
from command.log.backup import reading
from command.log.rebuild import rebuild, written_from
from command.log.store import Store
from command.log.verify import Report, verify
from command.service import House

CHUNK = 5_000
Rows = dict[str, list[tuple[Any, ...]]]


def house() -> House:
    """The server's own house, with its defaults."""
    make: Any = server.house
    return make(load({})) if inspect.signature(make).parameters else make()  # type: ignore[no-any-return]


@contextmanager
def opened(url: str, data: Path) -> Iterator[Store]:
    """The database of a node that isn't running."""
    with reading(url, data, house().domain) as store:
        yield store


def read_tables(store: Store, connection: Connection) -> Rows:
    """Every read table as it is stored, byte for byte, by table."""
    found: Rows = {}
    for name, shelf in store.shelves.items():
        if not shelf.table.kept:
            rows = connection.execute(sa.select(shelf.sql).order_by(shelf.sql.c.id))
            found[name] = [tuple(row) for row in rows]
    return found


def all_entries(connection: Connection) -> Iterator[Written]:
    """In the order in which they were written."""
    number = 0
    while chunk := written_from(connection, number, CHUNK):
        number = chunk[-1][0]
        yield from (written for _, written in chunk)


def verified(url: str, data: Path, *, all_seals: bool = True) -> Report:
    key = identity.load_or_make(data).public_key()
    with opened(url, data) as store, store.reader_engine.connect() as connection:
        return verify(connection, {identity.node_id(key): key}, all_seals=all_seals)


def differing(url: str, data: Path) -> list[str]:
    """The rows that differ between the read tables as they are and as they are built anew from the log."""
    with opened(url, data) as store:
        return rebuilt_differently(store)


def rebuilt_differently(store: Store) -> list[str]:
    """As `differing`, of an open store whose writer is at rest."""
    with store.reader_engine.connect() as connection:
        live = read_tables(store, connection)
    rebuild(store, house().domain)
    with store.reader_engine.connect() as connection:
        anew = read_tables(store, connection)
    return [
        f"{name} {place}" for name in live if live[name] != anew[name] for place in _unequal(live[name], anew[name])
    ]


def _unequal(live: list[tuple[Any, ...]], anew: list[tuple[Any, ...]]) -> Iterator[str]:
    """The first octets in which each pair of rows differs."""
    one, two = {row[0]: bytes(row[-1]) for row in live}, {row[0]: bytes(row[-1]) for row in anew}
    for key in sorted(one.keys() | two.keys()):
        left, right = one.get(key, b""), two.get(key, b"")
        if left != right:
            at = max(
                0, next((i for i, pair in enumerate(zip(left, right, strict=False)) if len(set(pair)) > 1), 0) - 60
            )
            yield f"{key}: {left[at : at + 120]!r} live, {right[at : at + 120]!r} built anew"
