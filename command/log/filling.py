"""Filling: rows into a table by a statement that is made once, whose values the driver gets as they are.

For what is written at every commit: what SQLAlchemy does for each row costs more than half of what SQLite then does with it,
and making a statement anew ten times what running it costs. It never looks at a value. Invariant: the caller's values are of
types that both drivers take (str, int, bool, bytes, None).
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

ROWS_TOGETHER = 16
"""In one statement, in SQLite: its driver lets go of the interpreter's lock for every row of the others, and on a busy node
the writer then waits for the event loop as often."""
TOGETHER = "together"


class Filling:
    """Rows into `table`, their values in the order of `columns`. With `replace`, a row takes the place of one with its `id`.

    Raises what SQLAlchemy raises.
    """

    def __init__(self, table: sa.Table, columns: Sequence[str], *, replace: bool = False) -> None:
        self._table, self._columns, self._replace = table, list(columns), replace
        self._texts: dict[str, str] = {}

    def __call__(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Insert `rows`; at least one."""
        name = connection.dialect.name
        text = self._texts.get(name) or self._text(name)
        together = 0
        if name == "sqlite":
            together = len(rows) - len(rows) % ROWS_TOGETHER
            for start in range(0, together, ROWS_TOGETHER):
                values = tuple(chain.from_iterable(rows[start : start + ROWS_TOGETHER]))
                connection.exec_driver_sql(self._texts[TOGETHER], values)
        if len(rows) - together == 1:
            connection.exec_driver_sql(text, rows[together])
        elif len(rows) > together:
            connection.exec_driver_sql(text, rows[together:])

    def _text(self, name: str) -> str:
        insert: Any
        dialect: Any
        if name == "sqlite":
            from sqlalchemy.dialects.sqlite import dialect, insert
        else:
            from sqlalchemy.dialects.postgresql import insert
            from sqlalchemy.dialects.postgresql.psycopg import dialect
        statement = insert(self._table)
        if self._replace:
            others = {column: statement.excluded[column] for column in self._columns if column != "id"}
            statement = statement.on_conflict_do_update(index_elements=["id"], set_=others)
        style = "qmark" if name == "sqlite" else "format"
        compiled: Any = statement.compile(dialect=dialect(paramstyle=style), column_keys=self._columns)
        assert compiled.positiontup == self._columns, f"{self._table.name}: {compiled.positiontup}"
        text = str(compiled)
        if name == "sqlite":
            row = f"({', '.join('?' * len(self._columns))})"
            assert text.count(row) == 1, text
            self._texts[TOGETHER] = text.replace(row, ", ".join([row] * ROWS_TOGETHER))
        self._texts[name] = text
        return text
