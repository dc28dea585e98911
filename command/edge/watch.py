"""The watch: the one owner of the fence engine and of every unit's last place.

Shell. Fixes, sweeps and changed fences come through its mailbox; it decides nothing (`geo` and `location` do) and answers a
report only after its batch is durable. Invariant: what the engine remembers is what the tables say: an outcome is applied
after its commit, and after any doubt (a failed commit, a bug) everything is read from the tables again, so that no
crossing is told twice or lost.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import structlog

from command.base.clock import MICROSECONDS, Clock
from command.base.entry import By
from command.base.errors import FenghuoError, Unavailable
from command.base.projection import Change
from command.base.supervise import end, forever, spawn
from command.domain import location
from command.domain.fence import FENCE, WATCHED, Fence, watched
from command.domain.location import (
    FENCE_STATE,
    FORGET_AT_ONCE,
    KEPT_DAYS,
    NOTHING,
    TRACK,
    Key,
    Location,
    Memory,
    RecordFixes,
    Reply,
    Sifted,
    Source,
)
from command.domain.registry import UNIT, Unit
from command.log.recall import memory, points_before, readable, recall
from command.log.store import Store
from command.log.writer import Commit, Log
from geo.engine import Engine, Outcome
from geo.errors import GeoError
from geo.index import Units
from geo.track import Fix

FIXES_AT_ONCE = 2_000
"""Fixes in one commit; a single larger report still goes in one piece."""
FIXES_WAITING_MAX = 50_000
SWEEP_S = 5.0
RETENTION_S = 60.0
DAY_US = 24 * 3600 * MICROSECONDS
NODE = By(account="node")

journal = structlog.get_logger("watch")


@dataclass(eq=False, slots=True)
class _Report:
    fixes: Sequence[Fix]
    source: Source
    future: "asyncio.Future[list[Reply]]"


@dataclass(slots=True)
class _Owed:
    """What changed fences and units ask of the tables, until it is written."""

    forgotten: set[Key] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)
    moved: dict[str, Location] = field(default_factory=dict)


class Near(NamedTuple):
    """`location` None: the unit never reported, and the distance is to its home."""

    unit: Unit
    location: Location | None
    distance_m: float


class Watch:
    """Start with `open()`, feed with `on_commit`, ask with `report()`; end with `stop()`.

    `units` and `locations` are what is committed, by unit id; `unwatched` are fences that this version can't watch.
    """

    def __init__(self, store: Store, log: Log, clock: Clock) -> None:
        self._store, self._log, self._clock = store, log, clock
        self.units: dict[str, Unit] = {}
        self.locations: dict[str, Location] = {}
        self.unwatched: set[str] = set()
        self._near = Units()
        self._engine = Engine()
        self._memories: dict[str, Memory] = {}
        self._position = 0
        self._fresh = False
        self._owed = _Owed()
        self._changes: deque[tuple[int, Change]] = deque()
        self._reports: deque[_Report] = deque()
        self._waiting = 0
        self._sweepers: list[asyncio.Future[None]] = []
        self._sweep_at = self._forget_at = 0.0
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # -- what others see

    async def open(self) -> None:
        """Read everything and begin to work. Raises `Unavailable` when the tables can't be read."""
        await self._load()
        self._task = spawn("location", forever("location", self.run))

    async def stop(self) -> None:
        """Refuse new reports; those accepted but not yet durable are refused too, and their callers told."""
        self._stopping = True
        await end(self._task)

    def on_commit(self, commit: Commit) -> None:
        """Fences and units of this commit are seen by the next fix."""
        for change in commit.changes:
            if change.table in (FENCE.name, UNIT.name):
                self._changes.append((commit.position, change))
                self._wake.set()

    async def report(self, fixes: Sequence[Fix], source: Source) -> list[Reply]:
        """Send fixes through the pipeline; one reply for each, once all that follows from them is durable.

        Raises `Unavailable` when too many wait, the commit failed, or the engine is full; sending them again is safe.
        """
        if self._stopping:
            raise Unavailable("location.stopped", "The server is stopping; try again shortly.")
        if self._waiting + len(fixes) > FIXES_WAITING_MAX:
            raise Unavailable("location.busy", "Too many locations are waiting; try again shortly.")
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._reports.append(_Report(fixes, source, future))
        self._waiting += len(fixes)
        self._wake.set()
        return await future

    async def sweep(self) -> None:
        """Look now at what the mere passing of time makes true; returns once that is durable. Happens by itself every
        `SWEEP_S`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sweepers.append(future)
        self._wake.set()
        await future

    def nearest(
        self, lon: float, lat: float, count: int, wanted: Callable[[Unit, Location | None], bool]
    ) -> list[Near]:
        """Up to `count` units by geodesic distance among those `wanted`; one that never reported counts at its home."""
        among = [key for key, unit in self.units.items() if wanted(unit, self.locations.get(key))]
        found = self._near.nearest(lon, lat, count, among=among)
        return [Near(self.units[one.unit], self.locations.get(one.unit), one.distance_m) for one in found]

    # -- the owner task

    async def run(self) -> None:
        """Work off the mailbox until cancelled. Whoever still waits when this ends is told to try again."""
        try:
            while True:
                if not self._fresh:
                    await self._load()
                await self._settle()
                if self._sweepers or self._sweep_due():
                    await self._sweep()
                elif self._reports:
                    await self._batch()
                else:
                    await self._sleep()
        finally:
            self._fresh = False
            self._refuse(Unavailable("location.unavailable", "Locations can't be stored now; try again shortly."))

    async def _sleep(self) -> None:
        """Until there is something in the mailbox, or a sweep is due."""
        try:
            async with asyncio.timeout(min(SWEEP_S, max(0.05, self._sweep_at - self._clock.monotonic()))):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _sweep_due(self) -> bool:
        return self._clock.monotonic() >= self._sweep_at

    def _refuse(self, error: FenghuoError) -> None:
        for report in self._reports:
            _fail(report.future, error)
        for sweeper in self._sweepers:
            _fail(sweeper, error)
        self._reports.clear()
        self._sweepers.clear()
        self._waiting = 0

    async def _batch(self) -> None:
        """Reports of several callers as one commit."""
        batch: list[_Report] = []
        count = 0
        while self._reports and (not batch or count + len(self._reports[0].fixes) <= FIXES_AT_ONCE):
            batch.append(self._reports.popleft())
            count += len(batch[-1].fixes)
        self._waiting -= count
        try:
            replies = await self._record([fix for report in batch for fix in report.fixes], _sources(batch))
        except BaseException as error:
            for report in batch:
                _fail(report.future, error)
            if not isinstance(error, FenghuoError):
                raise
            return
        for report in batch:
            mine, replies = replies[: len(report.fixes)], replies[len(report.fixes) :]
            if not report.future.done():
                report.future.set_result(mine)

    async def _record(self, fixes: list[Fix], sources: dict[str, Source]) -> list[Reply]:
        """The pipeline, the commit, and only then the memory."""
        known = [fix for fix in fixes if fix.unit in self.units]
        now = self._clock.now()
        try:
            sifted, outcome = await asyncio.to_thread(self._through, known, now)
        except GeoError as error:
            raise Unavailable(error.code, error.hint) from None
        memories = dict(sifted.memories)
        for unit, trail in outcome.trails.items():
            memories[unit] = replace(memories.get(unit) or self._memories.get(unit, NOTHING), fences=trail)
        moved = [
            location.location_row(fix, self.units[unit], sources[unit], now) for unit, fix in sifted.newest.items()
        ]
        request = RecordFixes(
            locations=moved,
            points=[location.point_row(fix, now, late=late) for fix, late in sifted.points],
            trails=[location.trail_row(unit, after) for unit, after in memories.items() if self._moves(unit, after)],
            states=location.states_of(outcome),
            forgotten=location.gone_of(outcome),
            crossings=location.crossings_of(outcome),
        )
        await self._append(request)
        self._engine.apply(outcome)
        self._memories.update(memories)
        for row in moved:
            self._place(row)
        verdicts = iter(sifted.verdicts)
        return [Reply(next(verdicts)) if fix.unit in self.units else Reply.UNKNOWN for fix in fixes]

    def _through(self, fixes: list[Fix], now: int) -> tuple[Sifted, Outcome]:
        """Runs in a thread; reads what only the owner changes, and the owner waits."""
        sifted = location.sift(fixes, lambda unit: self._memories.get(unit, NOTHING), now)
        return sifted, self._engine.run(sifted.watched)

    def _moves(self, unit: str, after: Memory) -> bool:
        before = self._memories.get(unit, NOTHING)
        return (after.trail, after.fences) != (before.trail, before.fences)

    def _place(self, row: Location) -> None:
        self.locations[row.id] = row
        self._near.put(row.id, row.lon, row.lat)

    async def _append(self, request: RecordFixes) -> None:
        if request == RecordFixes():
            return
        try:
            await self._log.append(request, NODE)
        except BaseException:
            self._fresh = False  # it may have been written all the same
            raise

    async def _sweep(self) -> None:
        """LOST, DWELL and ABSENT, then a chunk of what is older than `KEPT_DAYS`."""
        self._sweep_at = self._clock.monotonic() + SWEEP_S
        sweepers, self._sweepers = self._sweepers, []
        try:
            outcome = await asyncio.to_thread(self._engine.sweep, self._clock.now())
            request = RecordFixes(
                states=location.states_of(outcome),
                forgotten=location.gone_of(outcome),
                crossings=location.crossings_of(outcome),
            )
            await self._append(request)
            self._engine.apply(outcome)
            await self._forget()
        except BaseException as error:
            for future in sweepers:
                _fail(future, error)
            raise
        for future in sweepers:
            if not future.done():
                future.set_result(None)

    async def _forget(self) -> None:
        """Delete a chunk of old track points; again at the next sweep if there were more."""
        if self._clock.monotonic() < self._forget_at:
            return
        before = self._clock.now() - KEPT_DAYS * DAY_US
        old = await self._store.read(lambda connection: points_before(self._store, connection, before))
        if len(old) < FORGET_AT_ONCE:
            self._forget_at = self._clock.monotonic() + RETENTION_S
        await self._append(RecordFixes(forgotten=[(TRACK.name, key) for key in old]))

    # -- fences and units

    async def _settle(self) -> None:
        """Let the engine know of changed fences and units, and the tables of what follows from that."""
        while self._changes:
            position, change = self._changes.popleft()
            if position <= self._position:
                continue
            if change.table == FENCE.name:
                self._fence_changed(change)
            else:
                self._unit_changed(change)
        owed = self._owed
        if owed != _Owed():
            request = RecordFixes(
                locations=list(owed.moved.values()), forgotten=sorted(owed.forgotten), retired=sorted(owed.retired)
            )
            await self._append(request)
            self._owed = _Owed()

    def _fence_changed(self, change: Change) -> None:
        after = change.after
        assert after is None or isinstance(after, Fence)
        if after is None or not after.active:
            self.unwatched.discard(change.key)
            self._owed.forgotten.update(map(location.pair_key, self._engine.remove(change.key)))
        elif change.before is None or any(getattr(after, name) != getattr(change.before, name) for name in WATCHED):
            self._put(after)

    def _put(self, row: Fence) -> None:
        try:
            self._engine.put(watched(row))
            self.unwatched.discard(row.id)
        except GeoError as error:
            # Drawn by an earlier version, or one too many: nobody is left to refuse it to.
            journal.error("fence.unwatched", fence=row.id, code=error.code, hint=error.hint)
            self.unwatched.add(row.id)

    def _unit_changed(self, change: Change) -> None:
        after = change.after
        assert after is None or isinstance(after, Unit)
        if after is None or after.retired:
            self.units.pop(change.key, None)
            self.locations.pop(change.key, None)
            self._memories.pop(change.key, None)
            self._near.drop(change.key)
            self._engine.forget(change.key)
            self._owed.moved.pop(change.key, None)
            self._owed.retired.add(change.key)
            return
        self.units[after.id] = after
        row = self.locations.get(after.id)
        if row is not None:
            self.locations[after.id] = self._followed(row, after)
        else:
            self._at_home(after)

    def _at_home(self, unit: Unit) -> None:
        if unit.home is None:
            self._near.drop(unit.id)
        else:
            self._near.put(unit.id, unit.home.lon, unit.home.lat)

    def _followed(self, row: Location, unit: Unit) -> Location:
        """The location with its unit's present organisation and members, which decide who may see it."""
        if (row.organisation, row.members) == (unit.organisation, unit.members):
            return row
        row = msgspec.structs.replace(row, organisation=unit.organisation, members=unit.members)
        self._owed.moved[unit.id] = row
        return row

    # -- start, and start again

    async def _load(self) -> None:
        """Forget everything and read it from the tables."""
        stored = await self._store.read(lambda connection: recall(self._store, connection))
        self._position, self._owed = stored.position, _Owed()
        self._engine, self._near = Engine(), Units()
        self.units = {row.id: row for row in stored.units}
        self.unwatched.clear()
        for fence in stored.fences:
            self._put(fence)
        self.locations = {}
        for row in stored.units:
            self._at_home(row)
        for place in stored.locations:
            unit = self.units.get(place.id)
            if unit is not None:
                self._place(self._followed(place, unit))
            else:
                self._owed.retired.add(place.id)
        self._memories = {
            row.id: memory(row, self.locations[row.id]) for row in stored.trails if row.id in self.locations
        }
        watching = {row.id for row in stored.fences} - self.unwatched
        pairs = [row for row in stored.states if row.fence in watching and row.unit in self.units and readable(row)]
        kept = {row.id for row in pairs}
        self._owed.forgotten.update((FENCE_STATE.name, row.id) for row in stored.states if row.id not in kept)
        self._engine.restore(
            ((unit, list(known.fences)) for unit, known in self._memories.items()),
            ((row.unit, row.fence, row.state) for row in pairs),
        )
        self._fresh = True


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    """Tell somebody who waits; what is no error of ours by name stays in the journal."""
    if not future.done():
        known = isinstance(error, FenghuoError)
        future.set_exception(error if known else Unavailable("location.failed", "Try again shortly."))


def _sources(batch: list[_Report]) -> dict[str, Source]:
    return {fix.unit: report.source for report in batch for fix in report.fixes}
