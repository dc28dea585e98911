"""What a node keeps in memory of its latest commits: a bounded number of octets, and rows as long as they are used."""

from pathlib import Path

import msgspec

from command.base import entry as entries
from command.base.entry import By, Entry
from command.base.projection import Row, Table
from command.edge.recent import CHANGE_OCTETS, RECENT_OCTETS_MAX, Item, Recent
from command.log.store import open_store
from command.log.workspace import CACHE_COMMITS, Workspace


class Place(Row, frozen=True, kw_only=True):
    text: str = ""


PLACES = Table(name="place", row=Place)


def recent() -> Recent:
    return Recent(lambda table, row: msgspec.json.decode(row, type=Place))


def moved(key: str, *, text: str = "", topic: str = "picture") -> Item:
    before, after = Place(id=key), Place(id=key, version=2, text=text)
    return Item(table="place", key=key, topics=frozenset((topic,)), before=before, after=after)


def test_what_travelled_since_a_position_comes_back_as_it_was() -> None:
    kept = recent()
    entry = Entry(
        subject="incident/i", origin="n", generation="g", seq=1, prev="", at=1, kind="k", by=By(account="a"), body={}
    )
    written = entries.write(entry, None, None)
    line = Item(table="timeline", key="h", topics=frozenset(("incident/i",)), written=written, branch=True, position=2)
    kept.add(1, [moved("a", text="甲")])
    kept.add(2, [moved("b", text="乙"), line])
    [item] = kept.since(1, "picture")
    assert (item.key, item.before, item.after) == ("b", Place(id="b"), Place(id="b", version=2, text="乙"))
    [item] = kept.since(0, "incident/i")
    assert (item.written, item.branch, item.position) == (written, True, 2)
    assert [item.key for item in kept.since(0, "picture")] == ["a", "b"]


def test_the_oldest_commits_are_forgotten_when_they_cost_too_much() -> None:
    kept, text, count = recent(), "x" * 100_000, 2 * RECENT_OCTETS_MAX // 100_000
    for position in range(1, count + 1):
        kept.add(position, [moved("a", text=text)])
        assert kept.octets <= RECENT_OCTETS_MAX
    assert not kept.reaches(0) and kept.reaches(count - 30) and len(kept.since(0, "picture")) >= 30


def test_a_commit_without_changes_costs_something_too() -> None:
    kept = recent()
    for position in range(1, 2 * RECENT_OCTETS_MAX // CHANGE_OCTETS):
        kept.add(position, [])
    assert not kept.reaches(0) and kept.octets <= RECENT_OCTETS_MAX


def test_the_newest_commit_is_held_whatever_it_costs() -> None:
    kept = recent()
    kept.add(1, [moved("a")])
    kept.add(2, [moved("b", text="x" * RECENT_OCTETS_MAX)])
    assert not kept.reaches(0) and kept.reaches(1) and [item.key for item in kept.since(1, "picture")] == ["b"]


def test_a_row_that_many_commits_did_not_use_is_read_again(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/x.db", [PLACES], tmp_path)
    try:
        with store.writer_engine.begin() as connection:
            store.rows.create_all(connection)
            rows, shelf = Workspace(store), store.shelf(PLACES)
            shelf.upsert(connection, [Place(id="used"), Place(id="idle")])
            rows.begin(connection)
            assert [row.version for key in ("used", "idle") if (row := rows.get(PLACES, key))] == [1, 1]
            shelf.upsert(connection, [Place(id=key, version=2) for key in ("used", "idle")])  # behind its back
            for _ in range(2 * CACHE_COMMITS):
                rows.begin(connection)
                rows.get(PLACES, "used")
                rows.committed()
            assert [row.version for key in ("used", "idle") if (row := rows.get(PLACES, key))] == [1, 2]
    finally:
        store.close()
