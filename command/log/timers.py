"""The shell of timers: sleeps until the next is due, then asks the log to fire it.

Decides nothing: `timer.decide_fire` looks again in the transaction. Invariant: a crash here loses nothing, because the row
is still there at the next start.
"""

import asyncio

from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS, Clock
from command.base.entry import By
from command.base.errors import FenghuoError
from command.base.timer import TIMER, FireTimer, Timer
from command.log.store import Store
from command.log.writer import Commit, Log

DUE_AT_ONCE = 500
SLEEP_MAX_S = 30.0
RETRY_S = 1.0


class Timers:
    def __init__(self, store: Store, log: Log, clock: Clock) -> None:
        self._store, self._log, self._clock = store, log, clock
        self._wake = asyncio.Event()

    def on_commit(self, commit: Commit) -> None:
        """A timer was set or moved: look again."""
        if any(change.table == TIMER.name and change.after is not None for change in commit.changes):
            self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            due, next_at = await self._store.read(self._look)
            failed = 0
            for timer in due:
                try:
                    await self._log.append(FireTimer(id=timer.id), By(account="node"))
                except FenghuoError:
                    failed += 1  # the log said why; the row is still there
            if due and not failed:
                continue
            pause = RETRY_S if failed else SLEEP_MAX_S
            if next_at is not None and not failed:
                pause = min(pause, max(0.01, (next_at - self._clock.now()) / MICROSECONDS))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _look(self, connection: Connection) -> tuple[list[Timer], int | None]:
        shelf = self._store.shelf(TIMER)
        columns = shelf.sql.c
        rows: list[Timer] = shelf.select(connection, columns.held.is_(False), order=columns.due_at, limit=DUE_AT_ONCE)
        now = self._clock.now()
        due = [row for row in rows if row.due_at <= now]
        waiting = [row.due_at for row in rows if row.due_at > now]
        return due, waiting[0] if waiting else None
