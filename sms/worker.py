"""The worker: turns issued notices into messages, sends them, and writes back what happened.

Shell. Owns the lanes and the loops around them. Invariant: everything it knows is in the database; hints only make it
faster, so a lost one costs a poll (POLL_S while anything waits, else IDLE_POLL_S), and a crash costs nothing but time.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS, Clock
from command.base.entry import By, Written
from command.base.errors import Unavailable
from command.base.schema import Urgency
from command.base.supervise import end, forever, spawn
from command.domain.notice import NOTICE, Counts, Notice, NoticeState
from command.log.store import Store
from command.log.workspace import Workspace
from command.log.writer import Commit, Log
from sms.broadcast import resolve
from sms.expansion import CHUNK, ExpandChunk, ProgressNotice, ResolveNotice
from sms.gateway import Gateway
from sms.inbox import PHONE_TEXT, PHONE_TEXTS_KEPT, PRUNE_MAX, LandText, PruneTexts, TakeInbound, TellTexts, understand
from sms.lane import IDLE_POLL_S, Lane
from sms.local import LocalGateway, PhoneText
from sms.message import FINAL, Message, Next, State, best, next_action
from sms.outbox import MESSAGE, CancelQueued, MarkCrashed, MarkRestored, ResendUnknown, TakeReceipt
from sms.receipt import EarlyReceipts, Inbound, Receipt
from sms.retention import Retention
from sms.review import Forbidden

POLL_S = 1.0
PROGRESS_EVERY_S = 1.0
"""At most one `notice.progressed` per notice in this time, so that 10,000 recipients don't make 40,000 entries."""
RECOUNT_EVERY_S = 600.0
SENT_WAIT_S = 24 * 3600
"""A message that the gateway took and never reported on is waited for so long before its notice counts as finished."""
RESENDS_MAX = 200
DOUBTFUL_READ_MAX = 5_000
STUCK_RETRY_S = 30.0
PRUNE_EVERY_S = 60.0

NODE = By(account="node")
journal = structlog.get_logger("sms")


class Inboxes:
    """`local.Phones` over the log."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log

    async def land(self, text: PhoneText) -> bool:
        receipt = await self._log.append(LandText(text=text), NODE)
        return bool(receipt.result["new"])

    async def awaiting(self, limit: int) -> list[PhoneText]:
        shelf = self._store.shelf(PHONE_TEXT)
        return await self._store.read(
            lambda connection: shelf.select(
                connection, shelf.sql.c.waiting.is_(True), order=shelf.sql.c.at, limit=limit
            )
        )

    async def told(self, ids: list[str]) -> None:
        await self._log.append(TellTexts(ids=ids), NODE)


class Sms:
    """Start with `start()`, feed `on_commit`, end with `stop()`. `gateway` None: everything stays on this node.
    `kept_days`: how long messages of notices that are over are kept, 0 for ever."""

    def __init__(
        self,
        store: Store,
        log: Log,
        clock: Clock,
        *,
        gateway: Gateway | None = None,
        forbidden: Forbidden | None = None,
        kept_days: int = 0,
    ) -> None:
        self.store, self.log, self.clock = store, log, clock
        self.forbidden = forbidden or Forbidden(())
        self.local = LocalGateway(Inboxes(store, log), clock)
        self.retention = Retention(store, log, clock, kept_days)
        self.outside = gateway
        self.early = EarlyReceipts()
        self.lanes = [self._lane(self.local, None if gateway is None else False)]
        if gateway is not None:
            self.lanes.append(self._lane(gateway, True))
        self._tasks: list[asyncio.Task[None]] = []
        self._expand = asyncio.Event()
        self._count = asyncio.Event()
        self._unknown = asyncio.Event()
        self._dirty: set[str] = set()
        self._cancelled: set[str] = set()
        self._stuck: dict[str, float] = {}
        self._chunk_next = False

    def _lane(self, gateway: Gateway, real: bool | None) -> Lane:
        return Lane(gateway, self.store, self.log, self.clock, real=real, accepted=self._accepted)

    @property
    def rate_parts_per_s(self) -> float | None:
        """What the gateway for real messages takes, for previews."""
        return (self.outside or self.local).limits.rate_parts_per_s

    @property
    def blocked(self) -> dict[str, str]:
        """Error codes of gateways that pass nothing, by name."""
        return {lane.gateway.name: lane.blocked for lane in self.lanes if lane.blocked}

    async def start(self, *, restored: bool = False) -> None:
        """Take up what a crash or a restore left, then send. Raises as the gateways' `start`."""
        if restored:
            await self.log.append(MarkRestored(), NODE)
        await self.log.append(MarkCrashed(), NODE)
        for lane in self.lanes:
            await lane.gateway.start(self.on_receipt, self.on_inbound)
        self._dirty |= await self.store.read(self._unfinished)
        self._cancelled |= await self.store.read(self._cancelled_with_queue)
        work = [("sms.deliver", self.local.deliver), ("sms.expand", self._expanding), ("sms.count", self._counting)]
        work += [("sms.resend", self._resending), ("sms.prune", self._pruning)]
        work += [("sms.retention", self.retention.run)]
        work += [(f"sms.{lane.gateway.name}", lane.run) for lane in self.lanes]
        self._tasks = [spawn(name, forever(name, run)) for name, run in work]

    async def stop(self) -> None:
        await end(*self._tasks)
        for lane in self.lanes:
            await lane.stop()
            await lane.gateway.close()

    # -- hints

    def on_commit(self, commit: Commit) -> None:
        """Called for every commit, in order."""
        if any(written.entry.kind == "generation.opened" and self._own(written) for written in commit.written):
            # This database turned out to be older than what the node has written: what isn't final may have been sent.
            spawn("sms.restored", self._restored())
        for change in commit.changes:
            if change.table == MESSAGE.name and isinstance(change.after, Message):
                self._dirty.add(change.after.notice)
                self._count.set()
                before = change.before.state if isinstance(change.before, Message) else None
                if change.after.state is State.QUEUED and before is not State.QUEUED:
                    self._nudge(change.after)
                elif change.after.state is State.UNKNOWN:
                    self._unknown.set()
            elif change.table == NOTICE.name and isinstance(change.after, Notice):
                if change.after.state is NoticeState.CANCELLED:
                    self._cancelled.add(change.key)
                self._expand.set()

    def _own(self, written: Written) -> bool:
        return written.entry.origin == self.log.node and bool(written.entry.body.get("restored"))

    async def _restored(self) -> None:
        await self.log.append(MarkRestored(), NODE)

    def _nudge(self, message: Message) -> None:
        for lane in self.lanes:
            lane.nudge(message)

    def _accepted(self, gateway: str, gateway_id: str) -> None:
        for receipt in self.early.take(gateway, gateway_id):
            spawn("sms.early", self.on_receipt(receipt))

    # -- what gateways tell

    async def on_receipt(self, receipt: Receipt) -> None:
        """Durable on return. Raises `Unavailable` for one that names no message yet: the gateway should tell it again."""
        request = TakeReceipt(
            gateway=receipt.gateway,
            gateway_id=receipt.gateway_id,
            kind=receipt.kind,
            message=receipt.message,
            code=receipt.code,
        )
        done = await self.log.append(request, NODE)
        if done.result.get("unknown") and not receipt.message:
            for dropped in self.early.hold(receipt, self.clock.now()):
                journal.warning("receipt.dropped", gateway=dropped.gateway, gateway_id=dropped.gateway_id)
            raise Unavailable("sms.early_receipt", "No message has this id yet; tell it again.")

    async def on_inbound(self, inbound: Inbound) -> str:
        """Durable on return; the reply to send back, "" for none."""
        person = await self.store.read(lambda connection: self._whose(connection, inbound))
        request = TakeInbound(
            gateway=inbound.gateway,
            gateway_id=inbound.gateway_id,
            sender=inbound.sender,
            recipient=inbound.recipient,
            text=inbound.text,
        )
        done = await self.log.append(request, By(account="gateway", person=person))
        return str(done.result["reply"])

    def _whose(self, connection: Connection, inbound: Inbound) -> str | None:
        return understand(self.rows(connection), inbound.sender, inbound.text).person

    def rows(self, connection: Connection) -> Workspace:
        """Rows of one read transaction, for deciders' helpers."""
        rows = Workspace(self.store)
        rows.begin(connection)
        return rows

    # -- loops

    async def _expanding(self) -> None:
        """Issued notices into messages, chunk by chunk, emergencies first; cancelled ones back out of the queue."""
        while True:
            self._expand.clear()
            for notice in sorted(self._cancelled):
                await self._take_back(notice)
            if not await self._expand_one():
                await _either(self._expand, POLL_S if self._stuck else IDLE_POLL_S)

    async def _take_back(self, notice: str) -> None:
        more = True
        while more:
            done = await self.log.append(CancelQueued(notice=notice), NODE)
            more = bool(done.result.get("more"))
        self._cancelled.discard(notice)

    async def _expand_one(self) -> bool:
        """One chunk, or one notice resolved; False when there is nothing to do."""
        chunk, notice = await self.store.read(self._next_job)
        job = chunk or (notice.id if notice is not None else None)
        if job is None:
            return False
        # Should it fail, the others go on meanwhile.
        self._stuck[job] = self.clock.monotonic() + STUCK_RETRY_S
        self._chunk_next = chunk is None
        if chunk is not None:
            await self.log.append(ExpandChunk(id=chunk), NODE)
        elif notice is not None:
            await self._resolve(notice)
        del self._stuck[job]
        return True

    async def _resolve(self, notice: Notice) -> None:
        found = await self.store.read(
            lambda connection: resolve(self.rows(connection), notice.recipients, self.clock.now())
        )
        if found.left_out:
            journal.error("notice.too_many_recipients", notice=notice.id, left_out=found.left_out)
        await self.log.append(ResolveNotice(notice=notice.id, people=found.people), NODE)

    def _next_job(self, connection: Connection) -> tuple[str | None, Notice | None]:
        chunks, notices = self.store.shelf(CHUNK), self.store.shelf(NOTICE)
        now_s = self.clock.monotonic()
        stuck = [job for job, again_s in self._stuck.items() if again_s > now_s]
        order = chunks.sql.c.urgency.concat(chunks.sql.c.id)
        waiting = sa.select(chunks.sql.c.id).where(chunks.sql.c.id.not_in(stuck))
        chunk = connection.scalar(waiting.order_by(order).limit(1))
        pending = sa.select(chunks.sql.c.notice)
        found = notices.select(
            connection,
            notices.sql.c.state == NoticeState.ISSUED,
            notices.sql.c.expanded.is_(False),
            notices.sql.c.node == self.log.node,
            notices.sql.c.id.not_in(pending),
            notices.sql.c.id.not_in(stuck),
            limit=1,
        )
        # A new notice is resolved soon, since its list of people is that of its moment of issue; but turn and turn about
        # with the chunks of older ones, so that a flood of notices keeps nobody from being sent anything.
        if found and (chunk is None or not self._chunk_next):
            return None, found[0]
        return chunk, None

    def _unfinished(self, connection: Connection) -> set[str]:
        """Notices whose counts may have been left behind by a crash."""
        columns = self.store.shelf(NOTICE).sql.c
        open_ones = connection.scalars(sa.select(columns.id).where(columns.state == NoticeState.ISSUED))
        since = self.clock.now() - SENT_WAIT_S * MICROSECONDS
        late = connection.scalars(sa.select(columns.id).where(columns.created_at > since))
        return {*open_ones, *late}

    def _cancelled_with_queue(self, connection: Connection) -> set[str]:
        notices, messages = self.store.shelf(NOTICE).sql.c, self.store.shelf(MESSAGE).sql.c
        queued = sa.select(messages.notice).where(messages.state == State.QUEUED).distinct()
        wanted = sa.select(notices.id).where(notices.state == NoticeState.CANCELLED, notices.id.in_(queued))
        return set(connection.scalars(wanted))

    async def _counting(self) -> None:
        """Counts of the notices that moved, each at most once in PROGRESS_EVERY_S."""
        recount_at = self.clock.monotonic() + RECOUNT_EVERY_S
        while True:
            if self.clock.monotonic() >= recount_at:
                recount_at = self.clock.monotonic() + RECOUNT_EVERY_S
                self._dirty |= await self.store.read(self._unfinished)
            self._count.clear()
            taken, self._dirty = self._dirty, set()
            for notice in sorted(taken):
                await self._tell_counts(notice)
            if not self._dirty:
                await _either(self._count, RECOUNT_EVERY_S)
            await asyncio.sleep(PROGRESS_EVERY_S)

    async def _tell_counts(self, key: str) -> None:
        found = await self.store.read(lambda connection: self._counts(connection, key))
        if found is None:
            return
        notice, counts, finished = found
        if counts != notice.counts or (finished and notice.state is NoticeState.ISSUED):
            await self.log.append(ProgressNotice(notice=key, counts=counts, finished=finished), NODE)

    def _counts(self, connection: Connection, key: str) -> tuple[Notice, Counts, bool] | None:
        notice: Notice | None = self.store.shelf(NOTICE).get(connection, key)
        if notice is None:
            return None
        shelf = self.store.shelf(MESSAGE)
        columns = shelf.sql.c
        single = (columns.notice == key, columns.resent.is_(False), columns.root == "")
        grouped = sa.select(columns.state, sa.func.count()).where(*single).group_by(columns.state)
        by_state = {State(state): int(count) for state, count in connection.execute(grouped)}
        copied = shelf.select(connection, columns.notice == key, columns.resent.is_(True) | (columns.root != ""))
        for state in _best_of_copies(copied):
            by_state[state] = by_state.get(state, 0) + 1
        answered = sa.select(sa.func.count()).where(columns.notice == key, columns.answered.is_(True))
        counts = _as_counts(by_state, connection.scalar(answered) or 0)
        return notice, counts, self._finished(notice, by_state)

    def _finished(self, notice: Notice, by_state: dict[State, int]) -> bool:
        waiting = {state for state, count in by_state.items() if count} - FINAL
        if waiting == {State.SENT} and notice.issued_at is not None:
            return self.clock.now() > notice.issued_at + SENT_WAIT_S * MICROSECONDS
        return notice.expanded and not waiting

    async def _resending(self) -> None:
        """The crash rule: emergencies whose fate is unknown are sent once more, marked."""
        while True:
            self._unknown.clear()
            for key in await self.store.read(self._doubtful):
                await self.log.append(ResendUnknown(id=key), NODE)
            self.early.expire(self.clock.now())
            if await self.store.read(self._in_doubt):
                await asyncio.sleep(POLL_S)
            else:
                await _either(self._unknown, IDLE_POLL_S)

    def _in_doubt(self, connection: Connection) -> bool:
        """Whether any emergency's fate is unknown: one may come to be due without anything being written."""
        found = sa.select(self.store.shelf(MESSAGE).sql.c.id).where(*self._doubt()).limit(1)
        return connection.execute(found).first() is not None

    def _doubt(self) -> tuple[Any, ...]:
        columns = self.store.shelf(MESSAGE).sql.c
        return columns.state == State.UNKNOWN, columns.resent.is_(False), columns.urgency == Urgency.EMERGENCY

    def _doubtful(self, connection: Connection) -> list[str]:
        shelf, now = self.store.shelf(MESSAGE), self.clock.now()
        found: Iterable[Message] = shelf.select(
            connection, *self._doubt(), order=shelf.sql.c.id.desc(), limit=DOUBTFUL_READ_MAX
        )
        return [row.id for row in found if next_action(row, now) is Next.RESEND][:RESENDS_MAX]

    async def _pruning(self) -> None:
        """The local phones keep their newest PHONE_TEXTS_KEPT texts."""
        while True:
            old = await self.store.read(self._old_texts)
            if old:
                await self.log.append(PruneTexts(ids=old), NODE)
            if len(old) < PRUNE_MAX:
                await asyncio.sleep(PRUNE_EVERY_S)

    def _old_texts(self, connection: Connection) -> list[str]:
        columns = self.store.shelf(PHONE_TEXT).sql.c
        newest = sa.select(columns.id).order_by(columns.at.desc()).limit(PHONE_TEXTS_KEPT)
        count = connection.scalar(sa.select(sa.func.count()).select_from(newest.subquery())) or 0
        if count < PHONE_TEXTS_KEPT:
            return []
        old = sa.select(columns.id).where(columns.waiting.is_(False)).order_by(columns.at.desc())
        return list(connection.scalars(old.offset(PHONE_TEXTS_KEPT).limit(PRUNE_MAX)))


def _best_of_copies(copies: Iterable[Message]) -> Iterable[State]:
    by_root: dict[str, list[State]] = {}
    for row in copies:
        by_root.setdefault(row.root or row.id, []).append(row.state)
    return [state for states in by_root.values() if (state := best(states)) is not None]


def _as_counts(by_state: dict[State, int], answered: int) -> Counts:
    return Counts(
        total=sum(by_state.values()),
        queued=by_state.get(State.QUEUED, 0) + by_state.get(State.SUBMITTING, 0),
        sent=by_state.get(State.SENT, 0),
        delivered=by_state.get(State.DELIVERED, 0),
        failed=by_state.get(State.FAILED, 0),
        unknown=by_state.get(State.UNKNOWN, 0),
        held=by_state.get(State.HELD, 0),
        cancelled=by_state.get(State.CANCELLED, 0),
        answered=answered,
    )


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
