"""A backup taken while the node writes, restored into an empty place: everything is there, nothing is done again by itself,
and what the restored node writes is never mistaken for what the lost one wrote.

Messages that were on their way are `tests/sms/test_restore.py`'s.
"""

import asyncio
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from command.base import identity
from command.base.clock import Clock
from command.base.entry import Draft, Written
from command.base.errors import Conflict, Corrupt, Denied, FenghuoError, Rejected
from command.base.projection import Context, Decision, Rows
from command.base.rights import Role
from command.base.schema import Category, Level, Party, PartyKind, Place, Struct
from command.base.timer import TIMER, ReleaseTimer
from command.domain.account import CreateAccount, OpenSession
from command.domain.incident import AddNote, ReportIncident
from command.domain.order import IssueOrder, Means, Rung
from command.edge.api import Node
from command.log.backup import ATTACHMENTS, backup, restore
from command.log.store import ENTRY, STREAM
from tests.durability import state
from tests.node import NODE, actor, node, world
from tests.sms.node import ShiftedClock

HOUR_S = 3600.0
FLIPS = 60
UNKNOWN = "future.kind"


class WriteUnknown(Struct, frozen=True, kw_only=True):
    """Something that a newer program than this one might write."""

    subject: str


def _unknown(rows: Rows, request: WriteUnknown, context: Context) -> Decision:
    body = {"nested": {"z": [1, 2.5, None], "a": "é"}}
    return Decision(drafts=[Draft(subject=request.subject, kind=UNKNOWN, body=body, private={"text": "秘密"})])


def report(organisation: str) -> ReportIncident:
    return ReportIncident(
        category=Category.ACCIDENT,
        level=Level.III,
        title="仓库起火",
        place=Place(lon=155.0, lat=32.0, address="示范路1号"),
        organisation=organisation,
    )


async def add_unknown(n: Node, subject: str) -> None:
    n.log.domain.deciders.setdefault(WriteUnknown, _unknown)
    await n.log.append(WriteUnknown(subject=subject), NODE)


def engine(name: str, request: pytest.FixtureRequest, data: Path, fixture: str = "postgres_url") -> str:
    """The URL of an empty database of that engine."""
    return str(request.getfixturevalue(fixture)) if name == "postgresql" else f"sqlite:///{data / 'fenghuo.db'}"


def contents(url: str, data: Path) -> tuple[list[Any], dict[str, Any], list[Written]]:
    """Entries with all that is kept beside them, read and kept tables, and the entries decoded."""
    with state.opened(url, data) as store, store.reader_engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(ENTRY).order_by(ENTRY.c.number))]
        tables: dict[str, Any] = dict(state.read_tables(store, connection))
        for name, shelf in store.shelves.items():
            if shelf.table.kept:
                found = connection.execute(sa.select(shelf.sql).order_by(shelf.sql.c.id))
                tables[name] = [tuple(row) for row in found]
        return rows, tables, list(state.all_entries(connection))


@pytest.mark.parametrize(
    ("source", "target"),
    [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite"), ("postgresql", "postgresql")],
)
async def test_a_backup_of_a_running_node_brings_everything_back_but_sessions(
    source: str, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "backup.tar"
    first_url, second_url = engine(source, request, first), engine(target, request, second, "other_postgres_url")
    attachment = first / ATTACHMENTS / ("ab" * 32)
    async with node(first_url, first) as n:
        w = await world(n)
        incident = (await n.log.append(report(w.county), NODE)).id or ""
        await add_unknown(n, f"incident/{incident}")
        account = CreateAccount(name="duty", roles=[Role.DUTY_OFFICER], organisation=w.county, password_hash="hash")
        key = (await n.log.append(account, NODE)).id or ""
        await n.log.append(OpenSession(id="cd" * 32, account=key, expires_at=Clock().now() + 10**12), NODE)
        attachment.parent.mkdir(exist_ok=True)
        attachment.write_bytes(b"photo")
        before = n.log.position
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await n.log.append(AddNote(id=incident, text="同时"), NODE)

        writers = [asyncio.create_task(write()) for _ in range(8)]
        manifest = await asyncio.to_thread(backup, n.store, first, archive, Clock())
        stop.set()
        await asyncio.gather(*writers)
        assert before <= manifest.position <= n.log.position
    assert archive.stat().st_mode & 0o777 == 0o600
    restore(archive, second_url, second, state.house().domain, Clock())
    assert (second / ATTACHMENTS / attachment.name).read_bytes() == b"photo"
    assert (second / identity.KEY_FILE).read_bytes() == (first / identity.KEY_FILE).read_bytes()
    async with node(second_url, second) as n:
        generation = n.log.generation
    assert generation != manifest.generation
    entries, tables, _ = contents(first_url, first)
    again, tables_again, written = contents(second_url, second)
    count = len([row for row in entries if row[3] <= manifest.position])
    assert again[:count] == entries[:count]
    new = [one.entry for one in written[count:]]
    assert new[0].kind == "generation.opened" and {entry.generation for entry in new} == {generation}
    assert tables_again["session"] == [] and len(tables["session"]) == 1
    assert tables_again["credential"] == tables["credential"] != []
    still = {
        name: rows for name, rows in tables.items() if name not in ("session", "incident", "gateway", "generation")
    }
    assert {name: tables_again[name] for name in still} == still
    assert [one.entry.body for one in written if one.entry.kind == UNKNOWN] == [
        {"nested": {"z": [1, 2.5, None], "a": "é"}}
    ]
    assert state.verified(second_url, second).good and not state.differing(second_url, second)


async def test_the_same_backup_restored_twice_gives_two_generations_after_the_same_heads(
    database_url: str, tmp_path: Path
) -> None:
    first, archive = tmp_path / "first", tmp_path / "backup.tar"
    async with node(database_url, first) as n:
        w = await world(n)
        incident = (await n.log.append(report(w.county), NODE)).id or ""
        manifest = backup(n.store, first, archive, Clock())
        heads = await n.store.read(
            lambda c: {
                f"{row.subject}@{row.origin}.{row.generation}": [row.length, row.head.hex()]
                for row in c.execute(sa.select(STREAM))
            }
        )
    opened, streams = [], []
    for number in range(2):
        data = tmp_path / str(number)
        url = f"sqlite:///{data}/fenghuo.db"
        restore(archive, url, data, state.house().domain, Clock())
        async with node(url, data) as n:
            await n.log.append(AddNote(id=incident, text="此后"), NODE)
        async with node(url, data) as n:
            await n.log.append(AddNote(id=incident, text="再次启动，同一代"), NODE)
        assert state.verified(url, data).good
        _, _, written = contents(url, data)
        opened += [one.entry.body for one in written if one.entry.kind == "generation.opened"][1:]
        streams.append([one.entry for one in written if one.secrets.get("text") in ("此后", "再次启动，同一代")])
    assert len(opened) == 2
    assert {body["previous"] for body in opened} == {manifest.generation}
    assert all(body["after"] == heads and body["restored"] for body in opened)
    assert len({manifest.generation, opened[0]["generation"], opened[1]["generation"]}) == 3
    for entries, body in zip(streams, opened, strict=True):
        assert [(entry.seq, entry.generation) for entry in entries] == [
            (1, body["generation"]),
            (2, body["generation"]),
        ]


async def test_timers_due_since_the_backup_are_held_until_a_person_lets_them_fire_or_drops_them(
    database_url: str, tmp_path: Path
) -> None:
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "backup.tar"
    async with node(database_url, first) as n:
        w = await world(n)
        incident = (await n.log.append(report(w.county), NODE)).id or ""
        order = IssueOrder(
            incident=incident,
            assignee=Party(kind=PartyKind.PERSON, id=w.member),
            task="到场",
            ack_within_s=600,
            due_in_s=3 * 3600,
            ladder=[Rung(after_s=300, means=Means.SMS)],
        )
        await n.log.append(order, NODE)
        backup(n.store, first, archive, Clock())
    url = f"sqlite:///{second}/fenghuo.db"
    restore(archive, url, second, state.house().domain, Clock())
    async with node(url, second, clock=ShiftedClock(HOUR_S)) as n:

        async def timers() -> dict[str, bool]:
            rows = await n.store.read(lambda c: n.store.shelf(TIMER).select(c))
            return {row.kind: row.held for row in rows}

        async def kinds() -> list[str]:
            def read(connection: Any) -> list[str]:
                return [one.entry.kind for one in state.all_entries(connection)]

            return [kind for kind in await n.store.read(read) if kind.startswith(("timer", "order.", "notice."))]

        assert await timers() == {"order.overdue": True, "order.rung": True, "order.late": False}
        assert await kinds() == ["order.issued", "timers.held"]
        held = {row.kind: row.id for row in await n.store.read(lambda c: n.store.shelf(TIMER).select(c)) if row.held}
        word = ReleaseTimer(id=held["order.overdue"], fire=True)
        with pytest.raises(Denied):
            await n.log.append(word, NODE, actor=actor(Role.FIELD_MEMBER, w.county))
        duty = actor(Role.DUTY_OFFICER, w.county)
        await n.log.append(word, NODE, actor=duty)
        await n.log.append(ReleaseTimer(id=held["order.rung"], fire=False), NODE, actor=duty)
        assert (await kinds())[2:] == ["timer.fired", "order.overdue", "timer.dropped"]
        assert await timers() == {"order.late": False}


async def test_a_damaged_archive_is_refused_with_the_place_and_leaves_nothing(tmp_path: Path) -> None:
    first, archive = tmp_path / "first", tmp_path / "backup.tar"
    async with node(f"sqlite:///{first}/fenghuo.db", first) as n:
        await world(n)
        (first / ATTACHMENTS).mkdir(exist_ok=True)
        (first / ATTACHMENTS / ("ab" * 32)).write_bytes(b"photo" * 1000)
        backup(n.store, first, archive, Clock())
    octets, chance = archive.read_bytes(), random.Random(6)
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert len(members) == 4
    spoilt = tmp_path / "spoilt.tar"
    domain = state.house().domain

    def refused(changed: bytes) -> FenghuoError:
        spoilt.write_bytes(changed)
        target = tmp_path / "target"
        with pytest.raises(Corrupt) as caught:
            restore(spoilt, f"sqlite:///{target}/fenghuo.db", target, domain, Clock())
        assert not (target / identity.KEY_FILE).exists() and not (target / "fenghuo.db").exists()
        return caught.value

    for number in range(FLIPS):
        member = members[number % len(members)]
        # Of a header the name, mode, owner and size: what follows is the checksum with its own filling.
        start, end = (member.offset, member.offset + 136) if number % 3 == 0 else (member.offset_data, 0)
        bit = chance.randrange(8 * start, 8 * (end or member.offset_data + member.size))
        changed = bytearray(octets)
        changed[bit // 8] ^= 1 << bit % 8
        error = refused(bytes(changed))
        if number % 3:
            assert member.name in error.hint, (bit, error.hint)
    for length in chance.sample(range(members[-1].offset_data + members[-1].size), 20):
        refused(octets[:length])
    refused(b"")
    refused(os.urandom(20_000))


async def test_a_restore_never_writes_over_a_node(tmp_path: Path) -> None:
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "backup.tar"
    domain = state.house().domain
    for data in (first, second):
        async with node(f"sqlite:///{data}/fenghuo.db", data) as n:
            await world(n)
            backup(n.store, data, archive, Clock())
    with pytest.raises(Rejected, match=r"restore\.not_empty"):
        restore(archive, f"sqlite:///{second}/fenghuo.db", second, domain, Clock())
    empty = tmp_path / "empty"
    with pytest.raises(Rejected, match=r"restore\.not_empty"):
        restore(archive, f"sqlite:///{second}/fenghuo.db", empty, domain, Clock())


async def test_a_restore_that_dies_before_its_generation_was_settled_opens_the_same_one(tmp_path: Path) -> None:
    """`open()` without `start()` is what a start that is killed half-way leaves behind."""
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "backup.tar"
    async with node(f"sqlite:///{first}/fenghuo.db", first) as n:
        await world(n)
        backup(n.store, first, archive, Clock())
    url = f"sqlite:///{second}/fenghuo.db"
    restore(archive, url, second, state.house().domain, Clock())
    generations = set()
    for _ in range(2):
        async with node(url, second) as n:
            generations.add(n.log.generation)
    _, _, written = contents(url, second)
    opened = [one.entry for one in written if one.entry.kind == "generation.opened" and one.entry.body["restored"]]
    assert len(opened) == len(generations) == 1 and opened[0].generation in generations


# -- who may not start


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        await world(n)
        with n.store.writer_engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Rejected, match=r"store\.newer"):
        async with node(database_url, tmp_path):
            pass
    assert state.verified(database_url, tmp_path).good


async def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        with pytest.raises(FenghuoError, match=r"store\.held"):
            async with node(database_url, tmp_path):
                pass
        assert (await n.log.append(report(w.county), NODE)).id


async def test_the_database_of_another_node_is_refused(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path / "one"):
        pass
    with pytest.raises(Corrupt, match=r"identity\.foreign"):
        async with node(database_url, tmp_path / "two"):
            pass


async def test_a_reused_key_survives_the_restore(database_url: str, tmp_path: Path) -> None:
    """A client that retries across the restore gets its old answer, not a second entry."""
    first, second, archive = tmp_path / "first", tmp_path / "second", tmp_path / "backup.tar"
    async with node(database_url, first) as n:
        w = await world(n)
        receipt = await n.log.append(report(w.county), NODE, key="k")
        backup(n.store, first, archive, Clock())
    url = f"sqlite:///{second}/fenghuo.db"
    restore(archive, url, second, state.house().domain, Clock())
    async with node(url, second) as n:
        again = await n.log.append(report(w.county), NODE, key="k")
        assert again.replayed and again.id == receipt.id
        with pytest.raises(Conflict):
            await n.log.append(report(w.city), NODE, key="k")
