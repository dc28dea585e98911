"""Read tables are a function of the log; and a screen that folds changed rows holds what a fresh snapshot shows."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from command.base.clock import ManualClock
from command.base.errors import FenghuoError
from command.base.rights import Actor, Role
from command.domain import roll_call
from command.edge.auth import Session
from command.edge.live import _Client
from command.log.timeline import TIMELINE
from command.log.writer import Commit
from sms import broadcast, expansion, outbox
from tests.durability import state
from tests.durability.requests import ELSEWHERE, MAKE, Asker
from tests.node import node

ACCEPTED = 10_000
AT_ONCE = 50
EACH_MIN = 4
"""Accepted requests of each kind."""
WATCHED_EACH = 2
WATCHED_MAX = 10_000
"""Far above what it takes (about 2,000): how many depends on what the requests before have left."""
SENT = (
    broadcast.DraftNotice,
    broadcast.ReviewNotice,
    expansion.ResolveNotice,
    expansion.ExpandChunk,
    outbox.SubmitMessages,
)
BEFORE: dict[type, tuple[type, ...]] = {
    outbox.MarkMessage: SENT,
    outbox.TakeReceipt: SENT,
    outbox.ResendUnknown: (*SENT, outbox.MarkCrashed),
    outbox.SettleMessage: (*SENT, outbox.MarkCrashed),
    roll_call.AnswerRollCall: (roll_call.StartRollCall,),
    roll_call.MarkRollCall: (roll_call.StartRollCall,),
    roll_call.EndRollCall: (roll_call.StartRollCall,),
}
"""What a kind needs done at once before it: what they leave does not stay as it is for long."""


def test_every_decider_has_a_generator_of_requests() -> None:
    deciders = state.house().domain.deciders
    assert not deciders.keys() - MAKE.keys() - set(ELSEWHERE), "write a generator in tests/durability/made"


async def test_rebuilt_read_tables_equal_the_live_ones(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        maker = Asker(n, clock, seed=1)
        await maker.settle()
        while maker.accepted.total() < ACCEPTED:
            await asyncio.gather(*(maker.ask(maker.kind()) for _ in range(AT_ONCE)))
        few = {kind.__name__: maker.accepted[kind.__name__] for kind in MAKE}
        few = {name: count for name, count in few.items() if count < EACH_MIN}
        assert not few, (few, sorted(maker.refused.items()))
        assert maker.refused.total() > ACCEPTED // 50
        strange = {code for code in maker.refused if " invalid: " in code or "unasked" in code}
        assert not strange, strange
        while n.log.lagging:
            await n.log.caught_up()  # incidents of which something was erased are folded anew
    assert not state.differing(database_url, tmp_path)
    assert state.verified(database_url, tmp_path).good
    with state.opened(database_url, tmp_path) as store, store.reader_engine.connect() as connection:
        for name, shelf in store.shelves.items():
            stored = {row.id: row for row in shelf.select(connection)}
            published = maker.rows[name]
            assert {key: msgspec.json.encode(row) for key, row in stored.items()} == {
                key: msgspec.json.encode(row) for key, row in published.items()
            }, name


class Screen:
    """One subscription of one actor, over the protocol of the socket but without one."""

    def __init__(self, maker: Asker, actor: Actor, topic: str) -> None:
        self.live, self.actor, self.topic = maker.node.live, actor, topic
        self.position = 0
        self.rows: dict[tuple[str, str], Any] = {}
        self.there = False

    async def _ask(self, since: int | None) -> list[dict[str, Any]]:
        session = Session(
            id="s", actor=self.actor, expires_at=2**60, valid_until=2**60, demanded=(), limited=False, bearer=False
        )
        client = _Client(socket=None, transport=None, session=session)  # type: ignore[arg-type]
        question = {"type": "subscribe", "topic": self.topic, "since": since}
        await self.live._receive(client, json.dumps(question))
        return [json.loads(frame) for frame in client.frames]

    async def snapshot(self) -> None:
        """Begin afresh; `there` is False where this actor may not follow the topic."""
        frames = await self._ask(None)
        self.there = frames[0]["type"] == "snapshot"
        if self.there:
            self._fold(frames)

    async def follow(self) -> None:
        """Take the changed rows since the position that was reached."""
        self._fold(await self._ask(self.position))

    def _fold(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            assert frame["type"] in ("snapshot", "changes", "resumed"), frame
            if frame["type"] == "snapshot":  # also when somebody moved in the tree since: then nobody can resume
                tables = frame["tables"].items()
                self.rows = {(table, row["id"]): row for table, rows in tables for row in rows}
            for change in frame.get("rows", ()):
                key = (change["table"], change["key"])
                if change["row"] is None:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = change["row"]
            self.position = frame["position"]


def difference(maker: Asker, old: Screen, fresh: Screen) -> list[str]:
    """What of `old` (followed until now) is not what `fresh` shows. A snapshot leaves out what has ended; a screen that
    has followed may still hold such a row, but only as it is now."""
    wrong = [f"{key} {old.rows.get(key)} != {row}" for key, row in fresh.rows.items() if old.rows.get(key) != row]
    for table, key in old.rows.keys() - fresh.rows.keys():
        if table == TIMELINE:
            continue
        row = maker.rows[table].get(key)
        seen = None if row is None else maker.node.live.view(fresh.actor, table, row)
        if seen is None or json.loads(msgspec.json.encode(seen)) != old.rows[table, key]:
            wrong.append(f"{table} {key} is still there")
    return wrong


def watchers(maker: Asker) -> list[Actor]:
    """Somebody of every role, from different places of the tree."""
    return [
        Actor(account=row.id, roles=tuple(row.roles), organisation=row.organisation, person=row.person, unit=row.unit)
        for row in maker.rows["account"].values()
        if row.name.startswith("role-")  # type: ignore[attr-defined]
    ]


@pytest.mark.any_store  # rows are compared as the bus and the snapshot tell them
async def test_an_old_snapshot_and_the_changed_rows_make_a_fresh_snapshot(database_url: str, tmp_path: Path) -> None:
    """For every kind of request, every topic it touches, and the roles in turn."""
    clock = ManualClock()
    async with node(database_url, tmp_path, clock=clock) as n:
        maker = Asker(n, clock, seed=2)
        await maker.settle()
        actors = watchers(maker)
        assert {role for actor in actors for role in actor.roles} == set(Role)
        still = [topic.name for topic in state.house().topics if "/" not in topic.name]
        touched: set[str] = set()

        def hear(commit: Commit) -> None:
            for change in commit.changes:
                table = n.store.shelves[change.table].table
                for row in (change.before, change.after):
                    touched.update(table.topics(row) if row is not None else ())

        n.bus.listen(hear)
        screens: dict[tuple[str, str], Screen] = {}
        seen: dict[str, int] = dict.fromkeys((kind.__name__ for kind in MAKE), 0)
        due: list[type] = []
        for number in range(WATCHED_MAX):
            waiting = [kind for kind in MAKE if seen[kind.__name__] < WATCHED_EACH]
            if not waiting:
                break
            if not due:
                kind = maker.chance.choice(waiting) if number % 3 == 0 else maker.kind()
                due = [*BEFORE.get(kind, ()), kind]
            kind = due.pop(0)
            touched.clear()
            if isinstance(await maker.ask(kind), FenghuoError):
                continue
            seen[kind.__name__] += 1
            for topic in sorted(touched | {maker.chance.choice(still)}):
                for actor in maker.chance.sample(actors, 2):
                    await _compare(maker, screens, actor, topic, kind)
        assert not waiting, waiting


async def _compare(maker: Asker, screens: dict[tuple[str, str], Screen], actor: Actor, topic: str, kind: type) -> None:
    fresh = Screen(maker, actor, topic)
    await fresh.snapshot()
    old = screens.get((actor.account, topic))
    if old is not None and old.there and fresh.there:
        await old.follow()
        while fresh.position != old.position:  # a timer fired in between
            await fresh.snapshot()
            await old.follow()
        wrong = difference(maker, old, fresh)
        assert not wrong, (kind.__name__, topic, actor.roles, wrong[:5])
    screens[actor.account, topic] = fresh
