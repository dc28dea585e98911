"""The log through its front door: durable, idempotent, chained, fail-closed."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from command.base.entry import By
from command.base.errors import Conflict, Denied, Rejected
from command.base.rights import Role
from command.base.schema import Category, Level, Place
from command.domain.incident import INCIDENT, EditIncident, ReportIncident
from command.log.store import ENTRY
from tests.node import NODE, actor, node, world


def report(organisation: str, title: str = "仓库起火") -> ReportIncident:
    return ReportIncident(
        category=Category.ACCIDENT,
        level=Level.III,
        title=title,
        place=Place(lon=155.0, lat=32.0, address="示范路1号"),
        organisation=organisation,
    )


async def test_the_same_key_gives_the_same_answer_and_writes_once(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        first = await n.log.append(report(w.county), NODE, key="k1")
        again = await n.log.append(report(w.county), NODE, key="k1")
        assert again.replayed and again.id == first.id and again.entries == first.entries
        rows = await n.store.read(lambda c: n.store.shelf(INCIDENT).select(c))
        assert [row.id for row in rows] == [first.id]


async def test_a_key_used_for_another_request_is_a_conflict(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        await n.log.append(report(w.county), NODE, key="k1")
        with pytest.raises(Conflict, match=r"idempotency\.reused"):
            await n.log.append(report(w.county, "另一件事"), NODE, key="k1")


async def test_a_stale_edit_is_refused_with_both_versions(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        key = (await n.log.append(report(w.county), NODE)).id or ""
        edits = [EditIncident(id=key, version=1, title=title) for title in ("甲", "乙")]
        results = await asyncio.gather(*(n.log.append(edit, NODE) for edit in edits), return_exceptions=True)
        refused = [result for result in results if isinstance(result, Conflict)]
        assert len(refused) == 1 and refused[0].code == "version.stale"
        assert refused[0].details["current"]["title"] == "甲" and refused[0].details["yours"]["title"] == "乙"


async def test_a_refused_request_leaves_nothing_behind_in_its_batch(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        good = [n.log.append(report(w.county, f"{i}"), NODE) for i in range(5)]
        bad = [n.log.append(report("nowhere"), NODE) for _ in range(5)]
        results = await asyncio.gather(*good, *bad, return_exceptions=True)
        assert sum(isinstance(result, Rejected) for result in results) == 5
        rows = await n.store.read(lambda c: n.store.shelf(INCIDENT).select(c))
        assert sorted(row.title for row in rows) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("count", [16, 33])
async def test_a_batch_of_any_size_is_stored_whole(database_url: str, tmp_path: Path, count: int) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        requests = [(report(w.county, f"{number}"), f"k{number}") for number in range(count)]
        first = await asyncio.gather(*(n.log.append(request, NODE, key=key) for request, key in requests))
        again = await asyncio.gather(*(n.log.append(request, NODE, key=key) for request, key in requests))
        assert len({receipt.position for receipt in first}) < count
        assert [one.entries for one in again] == [one.entries for one in first] and all(one.replayed for one in again)
        rows = await n.store.read(lambda c: n.store.shelf(INCIDENT).select(c))
        assert {row.id: row.title for row in rows} == {one.id: f"{place}" for place, one in enumerate(first)}
        stored = await n.store.read(lambda c: {row.hash.hex() for row in c.execute(sa.select(ENTRY.c.hash))})
        assert stored >= {name for one in first for name in one.entries}


async def test_who_is_outside_the_line_may_not_report_there(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        above, beside = actor(Role.DUTY_OFFICER, w.city), actor(Role.DUTY_OFFICER, w.other_county)
        await n.log.append(report(w.county), By(account="a"), actor=above)
        with pytest.raises(Denied):
            await n.log.append(report(w.county), By(account="b"), actor=beside)


async def test_text_that_no_database_carries_is_refused(database_url: str, tmp_path: Path) -> None:
    async with node(database_url, tmp_path) as n:
        w = await world(n)
        for title in ("a\x00b", "a\ud800b"):
            with pytest.raises(Rejected):
                await n.log.append(report(w.county, title), NODE)
        assert (await n.log.append(report(w.county, "a\\u0000b"), NODE)).id


async def test_a_stopped_node_holds_its_database_no_longer_and_leaves_one_file(tmp_path: Path) -> None:
    async with node(f"sqlite:///{tmp_path / 'fenghuo.db'}", tmp_path) as n:
        await world(n)
        assert any(name.endswith("fenghuo.db") for name in open_files())
    assert not [name for name in open_files() if "fenghuo.db" in name and str(tmp_path) in name]
    assert [path.name for path in tmp_path.glob("fenghuo.db*")] == ["fenghuo.db"]  # the WAL is in it


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory's own
            found.append(os.readlink(entry))
    return found
