"""Retention: messages of notices that are over are forgotten after a while; what the log says of them stays.

The request and its decider are pure; `Retention` is the loop around them. It never touches a message that may still have to
be sent, settled or counted. Invariant: of one notice either nothing is forgotten or, chunk by chunk, all.
"""

import asyncio

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS, Clock
from command.base.entry import By
from command.base.projection import Context, Decision, Rows
from command.base.rights import NODE
from command.base.schema import Id, Instant, Struct
from command.domain.notice import NOTICE, NoticeState
from command.log.store import Store
from command.log.writer import Log
from sms.message import FINAL, State
from sms.outbox import MESSAGE

LOOK_EVERY_S = 3600.0
CHUNK = 500
NOTICES_AT_ONCE = 200
DAY_US = 24 * 3600 * MICROSECONDS
OVER = (NoticeState.FINISHED, NoticeState.CANCELLED)
DONE = FINAL | {State.SENT}
"""SENT: the gateway took it and never reported; its notice has ended all the same."""


class PruneMessages(Struct, frozen=True, kw_only=True):
    """Forget up to CHUNK messages of a notice that is over, if none of them moved since `before` and all are done."""

    notice: Id
    before: Instant


def decide_prune(rows: Rows, request: PruneMessages, context: Context) -> Decision:
    context.allow("node.self", NODE)
    notice = rows.get(NOTICE, request.notice)
    if notice is not None and notice.state not in OVER:
        return Decision()
    found = rows.where(MESSAGE, notice=request.notice)
    if any(row.state not in DONE or max(row.since, row.created) >= request.before for row in found):
        return Decision()
    dropped = [(MESSAGE, row.id) for row in found[:CHUNK]]
    return Decision(dropped=list(dropped), result={"more": len(found) > CHUNK})


class Retention:
    """Run `run()` supervised. `days` 0 keeps everything."""

    def __init__(self, store: Store, log: Log, clock: Clock, days: int) -> None:
        self._store, self._log, self._clock, self._days = store, log, clock, days

    async def run(self) -> None:
        while True:
            await self.prune()
            await asyncio.sleep(LOOK_EVERY_S)

    async def prune(self) -> None:
        """Forget what is old enough now."""
        if not self._days:
            return
        before, after = self._clock.now() - self._days * DAY_US, ""
        while found := await self._store.read(lambda connection: self._old(connection, before, after)):  # noqa: B023
            for notice in found:
                more = True
                while more:
                    done = await self._log.append(PruneMessages(notice=notice, before=before), By(account="node"))
                    more = bool(done.result.get("more"))
            after = found[-1]

    def _old(self, connection: Connection, before: int, after: str) -> list[str]:
        """Notices from before that have messages, after one by id."""
        notices, messages = self._store.shelf(NOTICE).sql.c, self._store.shelf(MESSAGE).sql.c
        wanted = sa.select(notices.id).where(
            notices.created_at < before,
            notices.state.in_(OVER),
            notices.id > after,
            sa.exists().where(messages.notice == notices.id),
        )
        return list(connection.scalars(wanted.order_by(notices.id).limit(NOTICES_AT_ONCE)))


TABLES = ()
DECIDERS = {PruneMessages: decide_prune}
