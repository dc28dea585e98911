"""Rows as the writer sees them: the database, under what this batch has changed so far.

Belongs to the writer thread. Never commits. Invariant: while the log holds the database, a cached row equals the committed
one; after a failed commit the cache is emptied, because it may know rows that never were.
"""

from typing import Any, cast

from sqlalchemy.engine import Connection

from command.base.projection import Change, R, Row, Table
from command.log.store import Store

CACHE_ROWS_MAX = 50_000
CACHE_COMMITS = 1_000
"""A row that no commit has used for so many, or at most twice as many, is forgotten: the memory of a steady node is steady."""

Key = tuple[str, str]
UNKNOWN = object()


class Workspace:
    """Implements `projection.Editing` over a connection. `mark`/`undo` take back one refused request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._young: dict[Key, Row | None] = {}
        self._old: dict[Key, Row | None] = {}
        self._commits = 0
        self._before: dict[Key, Row | None] = {}
        self._dirty: dict[Key, Row | None] = {}
        self._journal: list[tuple[Key, bool, Row | None]] = []
        self.connection: Connection | None = None

    def begin(self, connection: Connection) -> None:
        self.connection = connection
        self._before.clear()
        self._dirty.clear()
        self._journal.clear()

    def mark(self) -> int:
        return len(self._journal)

    def undo(self, mark: int) -> None:
        while len(self._journal) > mark:
            key, was_dirty, old = self._journal.pop()
            if was_dirty:
                self._dirty[key] = old
            else:
                del self._dirty[key]
                del self._before[key]

    def get(self, table: Table[R], key: str) -> R | None:
        name = (table.name, key)
        row: Any = self._dirty.get(name, UNKNOWN)
        if row is UNKNOWN:
            row = self._young.get(name, UNKNOWN)
        if row is UNKNOWN:
            assert self.connection is not None
            row = self._old[name] if name in self._old else self._store.shelf(table).get(self.connection, key)
            self._remember(name, row)
        return row  # type: ignore[no-any-return]

    def where(self, table: Table[R], **equal: object) -> list[R]:
        assert self.connection is not None
        found = {row.id: row for row in self._store.shelf(table).select(self.connection, equal=equal)}
        for (name, key), row in self._dirty.items():
            if name != table.name:
                continue
            if row is not None and all(getattr(row, field) == value for field, value in equal.items()):
                found[key] = row
            else:
                found.pop(key, None)
        return [found[key] for key in sorted(found)]

    def select(self, connection: Connection, table: Table[R]) -> list[R]:
        """Every committed row, outside a batch."""
        return self._store.shelf(table).select(connection)

    def purge(self) -> None:
        """What this batch deletes must be nowhere on this disk soon after its commit."""
        self._store.purging = True

    def put(self, table: Table[R], row: R) -> None:
        key = (table.name, row.id)
        self._set(key, None if key in self._dirty else self.get(table, row.id), row)

    def add(self, table: Table[R], row: R) -> None:
        self._set((table.name, row.id), None, row)

    def delete(self, table: Table[R], key: str) -> None:
        before = self.get(table, key)
        if before is not None:
            self._set((table.name, key), before, None)

    def flush(self) -> list[Change]:
        """Write every dirty row; the changes of this batch, for the live feed."""
        assert self.connection is not None
        upserts: dict[str, list[Row]] = {}
        deletes: dict[str, list[str]] = {}
        changes: list[Change] = []
        for (table, key), row in self._dirty.items():
            before = self._before[table, key]
            if row == before:
                continue
            changes.append(Change(table=table, key=key, before=before, after=row))
            if row is not None:
                upserts.setdefault(table, []).append(row)
            else:
                deletes.setdefault(table, []).append(key)
        for table, rows in upserts.items():
            self._store.shelves[table].upsert(self.connection, rows)
        for table, keys in deletes.items():
            self._store.shelves[table].delete(self.connection, keys)
        return changes

    def committed(self) -> None:
        for key, row in self._dirty.items():
            self._remember(key, row)
        self._commits += 1
        if self._commits % CACHE_COMMITS == 0:
            self._age()

    def forget(self) -> None:
        """After a failed commit."""
        self._young, self._old = {}, {}

    def _set(self, key: Key, before: Row | None, row: Row | None) -> None:
        was_dirty = key in self._dirty
        self._journal.append((key, was_dirty, self._dirty.get(key)))
        if not was_dirty:
            self._before[key] = before
        self._dirty[key] = row

    def _remember(self, key: Key, row: Any) -> None:
        if len(self._young) >= CACHE_ROWS_MAX // 2:
            self._age()
        self._young[key] = row

    def _age(self) -> None:
        """What was used since the last time becomes old; what was old and not used since is forgotten."""
        self._young, self._old = {}, self._young


class Scratch:
    """Implements `projection.Editing` in memory, for working out one row from its entries; it knows no other row."""

    def __init__(self) -> None:
        self._held: dict[Key, Row] = {}

    def get(self, table: Table[R], key: str) -> R | None:
        return cast("R | None", self._held.get((table.name, key)))

    def where(self, table: Table[R], **equal: object) -> list[R]:
        mine = [cast("R", row) for (name, _), row in sorted(self._held.items()) if name == table.name]
        return [row for row in mine if all(getattr(row, field) == value for field, value in equal.items())]

    def put(self, table: Table[R], row: R) -> None:
        self._held[table.name, row.id] = row

    def add(self, table: Table[R], row: R) -> None:
        """What was made first stands, as through `reach.Quiet`."""
        self._held.setdefault((table.name, row.id), row)

    def delete(self, table: Table[R], key: str) -> None:
        self._held.pop((table.name, key), None)
