"""A lane: queued messages on their way through one gateway, at its pace and within its window.

Shell. Decides nothing: whether a message may leave is `outbox`'s word, what came of it the gateway's. Invariant:
`submitting` is durable before the gateway is called, and every call's outcome is told, `uncertain` when nobody knows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS, Clock
from command.base.entry import By
from command.base.errors import FenghuoError, Unavailable
from command.base.failpoint import reach
from command.base.schema import Urgency
from command.base.supervise import end, spawn
from command.log.store import Store
from command.log.writer import Log
from sms.gateway import Gateway, NotSubmitted, Refused, Uncertain
from sms.message import Kind, Message, State, apply, cut
from sms.outbox import MESSAGE, SUBMIT_MAX, MarkMessage, ReportGateway, SubmitMessages
from sms.pace import Pace, retry_at

READY_MAX = 1_000
POLL_S = 1.0
IDLE_POLL_S = 30.0
"""With nothing in the queue at all: whatever enters it nudges the lane, so this finds only what a bug forgot."""
BLOCKED_RETRY_S = 60.0
RECORD_RETRY_S = 1.0
STOP_WAIT_S = 4.0
BURST_S = 0.25
"""Parts of so much time may leave together, so that a fast gateway doesn't cost a commit per message."""
NODE = By(account="node")

journal = structlog.get_logger("sms")


class Lane:
    """Run `run()` supervised. `real` None takes every queued message, else only those of that kind."""

    def __init__(
        self,
        gateway: Gateway,
        store: Store,
        log: Log,
        clock: Clock,
        *,
        real: bool | None,
        accepted: Callable[[str, str], None],
    ) -> None:
        self.gateway = gateway
        self._store, self._log, self._clock = store, log, clock
        self._real = real
        self._accepted = accepted
        rate = gateway.limits.rate_parts_per_s
        self._pace = Pace(rate, burst=1 if rate is None else int(rate * BURST_S))
        self._ready: deque[Message] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._blocked_until = 0.0
        self.blocked: str = ""
        self._stopping = False

    def nudge(self, message: Message | None = None) -> None:
        """Something may be due. An emergency overtakes what was read before it."""
        if message is not None and message.urgency is Urgency.EMERGENCY:
            self._ready.clear()
        self._wake.set()

    async def run(self) -> None:
        """Submit what is due, for ever."""
        while True:
            self._wake.clear()
            wait_s = await self._step()
            if wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def stop(self) -> None:
        """Wait STOP_WAIT_S for calls in flight, then let go of them: what those did is written as uncertain. The caller
        must have cancelled `run()`."""
        self._stopping = True
        try:
            async with asyncio.timeout(STOP_WAIT_S):
                while self._flying:
                    await asyncio.wait(set(self._flying))
        except TimeoutError:
            await end(*self._flying)

    async def _step(self) -> float:
        """Submit one batch; the seconds to wait for the next unless woken."""
        monotonic_s = self._clock.monotonic()
        if monotonic_s < self._blocked_until:
            return self._blocked_until - monotonic_s
        free = min(self.gateway.limits.window - len(self._flying), SUBMIT_MAX)
        if self._blocked_until:
            free = min(free, 1 - len(self._flying))  # one message tries whether the gateway passes them again
        if free <= 0:
            return POLL_S
        if not self._ready:
            self._ready.extend(await self._store.read(self._due))
        if not self._ready:
            return POLL_S if await self._store.read(self._queued) else IDLE_POLL_S
        now, wait_s = round(monotonic_s * MICROSECONDS), 0.0
        batch: list[Message] = []
        while self._ready and len(batch) < free:
            wait_s = self._pace.wait_s(now)
            if wait_s > 0:
                break
            message = self._ready.popleft()
            self._pace.spend(cut(message).count, now)
            batch.append(message)
        if batch:
            # A task of its own: cancelled between the commit and the call, messages would be `submitting` for nothing.
            launch = self._fly(self._launch(batch))
            await asyncio.wait([launch])
            launch.result()
        return wait_s

    def _queued(self, connection: Connection) -> bool:
        """Whether anything waits in the queue, be it due or not."""
        found = sa.select(self._store.shelf(MESSAGE).sql.c.id).where(*self._in_queue()).limit(1)
        return connection.execute(found).first() is not None

    def _in_queue(self) -> list[Any]:
        columns = self._store.shelf(MESSAGE).sql.c
        mine = [] if self._real is None else [columns.real.is_(self._real)]
        return [columns.state == State.QUEUED, *mine]

    def _due(self, connection: Connection) -> list[Message]:
        shelf = self._store.shelf(MESSAGE)
        columns = shelf.sql.c
        conditions = [*self._in_queue(), columns.not_before <= self._clock.now()]
        # By name, "emergency" stands before "normal"; ids begin with the notice's instant.
        order = columns.urgency.concat(columns.id)
        return shelf.select(connection, *conditions, order=order, limit=READY_MAX)

    async def _launch(self, batch: list[Message]) -> None:
        request = SubmitMessages(
            ids=[message.id for message in batch], gateway=self.gateway.name, real=self.gateway.real
        )
        receipt = await self._log.append(request, NODE)
        reach("sms.submitting")
        going = set(receipt.result["ids"])
        for message in batch:
            if message.id in going:
                submitting = apply(message, Kind.SUBMIT, self._clock.now(), gateway=self.gateway.name)
                self._fly(self._submit(submitting))

    def _fly(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = spawn("sms.submit", work)
        self._flying.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._wake.set()

    async def _submit(self, message: Message) -> None:
        mark = MarkMessage(id=message.id, kind=Kind.UNCERTAIN, code="sms.interrupted")
        try:
            mark = await self._outcome(message)
        finally:
            # Also when we are stopped in the middle, or a gateway has a bug: then nobody knows.
            await self._record(mark)
        if mark.kind is Kind.ACCEPTED:
            self._accepted(mark.gateway, mark.gateway_id)

    async def _outcome(self, message: Message) -> MarkMessage:
        try:
            submitted = await self.gateway.submit(message)
            reach("sms.submitted")
        except NotSubmitted as error:
            await self._blocked(error)
            share = self._clock.octets(1)[0] / 256
            again = retry_at(message, self._clock.now(), share, error.after_s)
            kind = Kind.GIVE_UP if again is None else Kind.NOT_SUBMITTED
            return MarkMessage(id=message.id, kind=kind, code=error.code, not_before=again or 0)
        except Refused as error:
            return MarkMessage(id=message.id, kind=Kind.REFUSED, code=error.code)
        except Uncertain as error:
            return MarkMessage(id=message.id, kind=Kind.UNCERTAIN, code=error.code)
        if self.blocked:
            await self._free()
        return MarkMessage(
            id=message.id, kind=Kind.ACCEPTED, gateway=self.gateway.name, gateway_id=submitted.gateway_id
        )

    async def _record(self, mark: MarkMessage) -> None:
        while True:
            try:
                await self._log.append(mark, NODE)
                return
            except Unavailable:
                # The row says `submitting` and stays so: at worst the next start finds it and calls it unknown.
                if self._stopping:
                    return
            except FenghuoError as error:
                journal.error("mark.refused", message=mark.id, kind=mark.kind, code=error.code)
                return
            await asyncio.sleep(RECORD_RETRY_S)

    async def _blocked(self, error: NotSubmitted) -> None:
        if not error.blocked:
            return
        self._blocked_until = self._clock.monotonic() + BLOCKED_RETRY_S
        self._ready.clear()
        if not self.blocked:
            self.blocked = error.code
            journal.error("gateway.blocked", gateway=self.gateway.name, code=error.code, hint=error.hint)
            request = ReportGateway(gateway=self.gateway.name, blocked=True, code=error.code, hint=error.hint)
            await self._log.append(request, NODE)

    async def _free(self) -> None:
        self.blocked, self._blocked_until = "", 0.0
        await self._log.append(ReportGateway(gateway=self.gateway.name, blocked=False), NODE)
