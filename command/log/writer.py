"""The log: the one writer of a node. Requests go in, durable entries come out, then everybody is told.

Shell. It takes turns, commits and publishes; what becomes of a batch says `deciding`, how entries come about `recording`.
Entries of other nodes come in by `receive`, whole batches in one transaction (`intake`, `folding`). Invariant (rule 1): a
receipt is handed out only after the transaction that holds its entries, rows and idempotency key has committed; publishing
comes after that.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from command.base.clock import Clock
from command.base.entry import By, Stream
from command.base.errors import FenghuoError, Unavailable
from command.base.failpoint import reach
from command.base.projection import Domain, Rows
from command.base.rights import Actor, Tree
from command.domain.generation import OpenGeneration
from command.log.deciding import Deciding
from command.log.folding import Folding
from command.log.intake import RECEIVE_ENTRIES_MAX, Counters, Held, Intake, Keys, Taken, recheck
from command.log.recording import COUNT, Recording
from command.log.store import HEAD, STREAM, Store, guarded, set_meta
from command.log.submission import Commit as Commit
from command.log.submission import Receipt as Receipt
from command.log.submission import Submission as Submission
from command.log.workspace import Workspace
from command.tree.item import Received

BATCH_REQUESTS_MAX = 256
QUEUE_MAX = 20_000
ARRIVALS_MAX = 64
"""Batches of other nodes' entries that wait for the writer."""

MOVE = sa.update(HEAD).where(HEAD.c.id == 1, HEAD.c.holder == sa.bindparam("me"))

T = TypeVar("T")
journal = structlog.get_logger("log")


class _Arrival(NamedTuple):
    """A batch of entries of other nodes on its way into the log; or, without entries, incidents to fold anew."""

    items: Sequence[Received]
    ahead: bool
    future: "asyncio.Future[dict[Stream, Held]]"


class Log:
    """Owns the writer thread's work. Start with `start()`, run `run()` as a task, ask with `append()`."""

    def __init__(
        self,
        store: Store,
        domain: Domain,
        clock: Clock,
        key: Ed25519PrivateKey,
        node: str,
        publish: Callable[[Commit], None],
        tree: Callable[[Rows], Tree],
    ) -> None:
        self.store = store
        self.domain = domain
        self.clock = clock
        self.node = node
        self.generation = ""
        self.position = 0
        self._key = key
        self._publish = publish
        self._rows = Workspace(store)
        self._queue: list[Submission] = []
        self._wake = asyncio.Event()
        self._holder = clock.token()
        self._counters = Counters()
        self._intake = Intake(self._counters)
        self._folding = Folding(domain, self._rows, node)
        self._recording = Recording(
            self._rows, clock, key, node, self._counters, intake=self._intake, folding=self._folding
        )
        self._deciding = Deciding(
            domain, self._rows, clock, node, tree, folding=self._folding, recording=self._recording
        )
        self._arrivals: deque[_Arrival] = deque()
        self._reopenings: list[asyncio.Future[str]] = []
        self._turns: list[asyncio.Future[None]] = []
        self._catching_up = False
        self._connection: Connection | None = None
        self._stopping = False
        self.failed: str | None = None

    # -- what callers see

    async def append(
        self, request: Any, by: By, *, actor: Actor | None = None, key: str | None = None, seen: int | None = None
    ) -> Receipt:
        """Decide `request` and return once its entries are durable.

        `key` is the Idempotency-Key (scoped to the account), `seen` the position the author's screen showed.
        Raises what the decider raises, `Conflict` for a reused key, `Unavailable` when the queue is full or the commit
        failed (then nothing was written, or the same key will find out).
        """
        if self._stopping or self.failed:
            raise Unavailable("log.stopped", self.failed or "The server is stopping; try again shortly.")
        if len(self._queue) >= QUEUE_MAX:
            raise Unavailable("log.busy", "Too many requests are waiting to be written; try again shortly.")
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        scoped = None if key is None else f"{by.account}/{key}"
        self._queue.append(Submission(request, by, actor, scoped, seen, future))
        reach("log.accepted")
        self._wake.set()
        return await future

    async def receive(self, items: Sequence[Received], keys: Keys) -> dict[Stream, Held]:
        """Make entries of other nodes durable, with their rows; the chains' ends as stored, of every stream named.

        The items must have passed `item.Door`; `keys` are the registered public keys by node. What is held already is
        skipped, so sending again is safe. Raises `Corrupt` and `Conflict("receive.unknown")` as `intake.recheck`,
        `Conflict("receive.gap")` for an entry that follows none held here, `Conflict("receive.own")` for one of this node's
        present generation that is not here (the caller must `open_generation` first), `Unavailable` when nothing was written.
        """
        heads: dict[Stream, Held] = {}
        for start in range(0, len(items), RECEIVE_ENTRIES_MAX):
            heads |= await self._arrive(items[start : start + RECEIVE_ENTRIES_MAX], keys, ahead=False)
        return heads

    async def receive_ahead(self, items: Sequence[Received], keys: Keys) -> None:
        """Keep entries that came before their streams reached them, and act on them at once. Raises as `receive`."""
        await self._arrive(items, keys, ahead=True)

    async def open_generation(self) -> str:
        """Stop writing the present generation, because somebody holds entries of it that are not here: this database is
        older than what this node has written. Opens a new one `after` what is held; its id. Timers that fell due meanwhile
        are held for a person, as after a restore."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reopenings.append(future)
        self._wake.set()
        return await future

    async def _arrive(self, items: Sequence[Received], keys: Keys, *, ahead: bool) -> dict[Stream, Held]:
        if self._stopping or self.failed:
            raise Unavailable("log.stopped", self.failed or "The server is stopping; try again shortly.")
        if len(self._arrivals) >= ARRIVALS_MAX:
            raise Unavailable("log.busy", "Too many entries of other nodes are waiting to be written.")
        if all(one.proven for one in items):
            recheck(items, keys)  # seals only, which the door has just verified
        else:
            await asyncio.to_thread(recheck, items, keys)
        future: asyncio.Future[dict[Stream, Held]] = asyncio.get_running_loop().create_future()
        self._arrivals.append(_Arrival(items, ahead, future))
        self._wake.set()
        return await future

    async def start(self, generation: str) -> None:
        """Take the head under our name. The caller must hold the store and have prepared it."""
        self.generation = self._folding.generation = self._recording.generation = generation
        await self.store.write(self._take_over)

    async def run(self) -> None:
        """Commit batches until `stop()`; the caller must supervise this task and treat its failure as fatal.

        Own requests and entries of other nodes take turns, so that a long catch-up holds nobody up.
        """
        while True:
            await self._awake()
            self._wake.clear()
            while self._queue or self._arrivals or self._reopenings:
                if self._reopenings:
                    await self._reopen()
                if self._queue:
                    batch, self._queue = self._queue[:BATCH_REQUESTS_MAX], self._queue[BATCH_REQUESTS_MAX:]
                    await self._write(batch)
                if self._arrivals:
                    await self._take(self._arrivals.popleft())
            if self._folding.due(self.clock.monotonic()):
                await self._catch_up()
            turns, self._turns = self._turns, []
            for turn in turns:
                turn.set_result(None)
            if self._stopping:
                await self.store.write(self._hang_up)
                return

    async def _awake(self) -> None:
        """Until there is work, or an incident that lags behind should be folded."""
        try:
            async with asyncio.timeout(self._folding.pause_s(self.clock.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    def stop(self) -> None:
        """Refuse new requests; `run()` ends when what was accepted is durable."""
        self._stopping = True
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def lagging(self) -> int:
        """How many incidents and rooms wait to be folded anew: their rows don't show everything that is held. One that is being
        folded counts until that is durable."""
        return max(self._folding.lagging, int(self._catching_up))

    async def caught_up(self) -> None:
        """Wait until nothing lags behind any more: folds at once what waits for the rest of its backlog."""
        while self.lagging:
            self._folding.hurry()
            self._wake.set()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(waiter)
            await waiter

    @property
    def waiting(self) -> int:
        return len(self._queue)

    # -- the event loop's side of a batch

    async def _write(self, batch: list[Submission]) -> None:
        try:
            results, commit = await self.store.write(lambda: self._commit(batch))
        except FenghuoError as error:
            for submission in batch:
                if submission.future is not None and not submission.future.done():
                    submission.future.set_exception(error)
            return
        reach("log.before_ack")
        for submission, result in zip(batch, results, strict=True):
            if submission.future is None or submission.future.done():
                continue
            if isinstance(result, Receipt):
                submission.future.set_result(result)
            else:
                submission.future.set_exception(result)
        reach("log.before_publish")
        self._publish(commit)

    async def _take(self, arrival: _Arrival) -> None:
        try:
            taken, commit = await self.store.write(lambda: self._transact(lambda found: self._receive(found, arrival)))
        except Exception as error:
            # An edge: what strangers wrote must not stop the writer, whatever bug of ours it meets.
            known = isinstance(error, FenghuoError)
            if not known:
                journal.exception("receive.failed", items=len(arrival.items))
            if not arrival.future.done():
                hint = "What came could not be stored; the journal says why."
                arrival.future.set_exception(error if known else Unavailable("receive.failed", hint))
            return
        reach("log.received")
        if not arrival.future.done():
            arrival.future.set_result(taken.heads)
        self._publish(commit)
        self._follow()

    def _follow(self) -> None:
        """Queue what the node itself has to say to what came in."""
        wanted, self._folding.wanted = self._folding.wanted, []
        self._queue += [Submission(request, By(account="node"), None, None, None, None) for request in wanted]

    async def _reopen(self) -> None:
        futures, self._reopenings = self._reopenings, []
        try:
            generation, commit = await self.store.write(lambda: self._transact(self._new_generation))
        except FenghuoError as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        self.generation = self._folding.generation = self._recording.generation = generation
        for future in futures:
            if not future.done():
                future.set_result(generation)
        self._publish(commit)

    async def _catch_up(self) -> None:
        """Fold what lags behind; when the database refuses, the next turn tries again."""
        self._catching_up = True
        try:
            _, commit = await self.store.write(lambda: self._transact(self._fold_due))
        except Exception as error:  # an edge, as in `_take`
            self._folding.later(self.clock.monotonic())
            journal.exception("fold.failed", error=repr(error)[:200])
            return
        finally:
            self._catching_up = False
        self._publish(commit)
        self._follow()

    # -- the writer thread's side

    def _connect(self, *, take_over: bool) -> None:
        with guarded():
            self._connection = self.store.writer_engine.connect()
            with self._connection.begin():
                found = self._connection.execute(sa.select(HEAD)).first()
                if found is None:
                    self._connection.execute(sa.insert(HEAD).values(id=1, position=0, entries=0, holder=self._holder))
                elif take_over:
                    self._connection.execute(sa.update(HEAD).values(holder=self._holder))
                self.position, self._counters.entries = (0, 0) if found is None else (found.position, found.entries)
                self._counters.streams = self._connection.scalar(sa.select(sa.func.max(STREAM.c.id))) or 0
                self._intake.read(self._connection)
                self._folding.read(self._connection, self.clock.monotonic())

    def _take_over(self) -> None:
        self._connect(take_over=True)

    def _hang_up(self) -> None:
        """Give the connection back, so that closing the store closes it: SQLite then empties its WAL into the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit(self, batch: list[Submission]) -> tuple[list[Receipt | Exception], Commit]:
        reach("log.in_batch")
        return self._transact(lambda connection: self._decide(connection, batch))

    def _transact(self, work: Callable[[Connection], tuple[T, Commit]]) -> tuple[T, Commit]:
        """Run `work` in one transaction that moves the position."""
        if self._connection is None:
            self._connect(take_over=False)
        assert self._connection is not None
        try:
            with guarded(), self._connection.begin():
                self._rows.begin(self._connection)
                result, commit = work(self._connection)
                bared = self._folding.bared()
                commit = msgspec.structs.replace(commit, bared=bared) if bared else commit
                reach("log.before_commit")
        except BaseException as error:
            # Whether the commit took place may be unknown: believe nothing, read the head again before the next batch.
            self._rows.forget()
            self._recording.forget()
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
            if isinstance(error, FenghuoError):
                journal.error("commit.failed", code=error.code, hint=error.hint)
            raise
        reach("log.after_commit")
        self.position = commit.position
        self._rows.committed()
        self._recording.committed()
        return result, commit

    def _move(self, connection: Connection) -> int:
        """The next position, under our name."""
        position = self.position + 1
        moved = connection.execute(MOVE, {"me": self._holder, "position": position})
        if moved.rowcount != 1:
            self.failed = "Another server has taken over this database."
            raise Unavailable("log.lease_lost", self.failed)
        return position

    def _receive(self, connection: Connection, arrival: _Arrival) -> tuple[Taken, Commit]:
        position = self._move(connection)
        if arrival.ahead:
            taken = self._intake.take_ahead(connection, arrival.items, position)
            self._folding.ahead(taken.fresh)
            self._intake.ahead |= {written.entry.subject for written in taken.fresh}
        else:
            taken = self._intake.take(connection, arrival.items, position, own=(self.node, self.generation))
            self._folding.received(connection, taken, self.clock.monotonic(), at=self.clock.now())
            self._intake.committed(taken)
        for subject in {one.entry.subject for one in taken.fresh}:
            self._recording.forget(subject)  # what others wrote there is named by the next own entry
        changes = self._rows.flush()
        connection.execute(COUNT, {"entries": self._counters.entries})
        written = [] if arrival.ahead else taken.fresh
        return taken, Commit(position=position, changes=changes, written=written, loose=taken.loose)

    def _new_generation(self, connection: Connection) -> tuple[str, Commit]:
        """The first entry of the new generation and the note that it is the present one, in one transaction."""
        before, generation = self.generation, self.clock.token()
        mine = sa.select(STREAM).where(STREAM.c.origin == self.node, STREAM.c.generation == before)
        after = {
            str(Stream(row.subject, row.origin, row.generation)): (row.length, row.head.hex())
            for row in connection.execute(mine)
        }
        raw = self._key.public_key().public_bytes_raw().hex()
        request = OpenGeneration(id=generation, public_key=raw, previous=before, after=after, restored=True)
        self._recording.forget()
        self._recording.generation = generation
        try:
            [result], commit = self._decide(
                connection, [Submission(request, By(account="node"), None, None, None, None)]
            )
        finally:
            self._recording.generation = before
            self._recording.forget()
        if isinstance(result, Exception):
            raise result
        set_meta(connection, "generation", generation)
        return generation, commit

    def _decide(self, connection: Connection, batch: list[Submission]) -> tuple[list[Receipt | Exception], Commit]:
        return self._deciding.batch(connection, batch, self._move(connection))

    def _fold_due(self, connection: Connection) -> tuple[None, Commit]:
        position = self._move(connection)
        began = self.clock.monotonic()
        subject = self._folding.fold_one(connection, began, at=self.clock.now())
        ended = self.clock.monotonic()
        self._folding.resting.took(subject, ended, ended - began)
        self._recording.forget(subject)
        return None, Commit(position=position, changes=self._rows.flush(), written=[])
