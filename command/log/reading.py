"""Committed rows through a reading connection, for deciders that are only asked (a dry run).

Belongs to the reader thread that made it; never writes. Invariant: one consistent snapshot.
"""

from typing import cast

from sqlalchemy.engine import Connection

from command.base.projection import R, Table
from command.log.store import Store


class ReadRows:
    """Implements `projection.Rows`."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store, self._connection = store, connection

    def get(self, table: Table[R], key: str) -> R | None:
        return cast("R | None", self._store.shelf(table).get(self._connection, key))

    def where(self, table: Table[R], **equal: object) -> list[R]:
        return self._store.shelf(table).select(self._connection, equal=equal)
