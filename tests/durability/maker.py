"""What random requests are made of: a node's rows as they are now, and pieces of requests about them; seeded, so that a red run
can be had again.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, TypeVar

from command.base.clock import MICROSECONDS, ManualClock
from command.base.entry import Written
from command.base.projection import Row
from command.base.rights import Actor
from command.domain import order
from command.edge.api import Node
from command.log.writer import Commit

Values = dict[str, Any]
E = TypeVar("E", bound=Enum)
DAY = 24 * 3600 * MICROSECONDS
TEXTS = ("现场情况正常", 'a "quoted" \\ word', "é€🚒", "{incident} {{x}}", "line\nbreak\ttab", "\\u0000", "x" * 180)
FENCED = (155.0, 32.0)


class Maker:
    """Keeps the node's rows from what the log publishes, and makes pieces of requests about them."""

    def __init__(self, n: Node, clock: ManualClock, seed: int) -> None:
        self.node, self.clock, self.chance = n, clock, Random(seed)
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in n.store.shelves}
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.number = 0
        self.told: list[Written] = []
        """Entries of incidents and meetings that have a private part: what can be erased with an effect at once."""
        n.bus.listen(self._learn)

    def _learn(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.after is None:
                self.rows[change.table].pop(change.key, None)
            else:
                self.rows[change.table][change.key] = change.after
        folded = (one for one in commit.written if one.entry.subject.startswith(("incident/", "meeting/")))
        self.told += [one for one in folded if one.private]

    # -- pieces

    def often(self, share: float = 0.5) -> bool:
        return self.chance.random() < share

    def of(self, kind: type[E]) -> E:
        return self.chance.choice(list(kind))

    def some(self, table: str, **equal: object) -> Any:
        """A row of `table` with these fields; None when there is none."""
        found = [
            row
            for row in self.rows[table].values()
            if all(getattr(row, name) == value for name, value in equal.items())
        ]
        return self.chance.choice(found) if found else None

    def id(self, table: str, **equal: object) -> str:
        row = self.some(table, **equal)
        return "nobody" if row is None or not self.often(0.98) else row.id

    def ids(self, table: str, most: int = 3) -> list[str]:
        found = sorted(self.rows[table])
        return self.chance.sample(found, min(len(found), self.chance.randrange(most + 1)))

    def text(self) -> str:
        return f"{self.chance.choice(TEXTS)} {self.chance.randrange(1000)}"

    def name(self) -> str:
        self.number += 1
        return f"名{self.number}"

    def edited(self, table: str, share: float = 0.6, **equal: object) -> Values:
        """`id` and `version` of a row to save again; empty for a new one."""
        row = self.some(table, **equal)
        return {} if row is None or not self.often(share) else {"id": row.id, "version": self.version(row)}

    def version(self, row: Any) -> int:
        return 1 if row is None else row.version + (not self.often(0.97))

    def named(self, table: str, **equal: object) -> Values:
        """`id` and `version` of a row that must exist."""
        row = self.some(table, **equal)
        return {"id": "nobody" if row is None else row.id, "version": self.version(row)}

    def place(self) -> Values:
        lon, lat = (at + self.chance.uniform(-0.2, 0.2) for at in FENCED)
        return {"lon": lon if self.often(0.9) else 155, "lat": round(lat, 5), "address": self.text()}

    def area(self) -> Values:
        lon, lat = (round(at + self.chance.uniform(-0.2, 0.2), 6) for at in FENCED)
        if self.often():
            return {"type": "Circle", "coordinates": [lon, lat], "radius_m": self.chance.randrange(50, 5_000)}
        ring = [[lon, lat], [lon + 0.01, lat], [lon + 0.01, lat + 0.01], [lon, lat + 0.01], [lon, lat]]
        if not self.often(0.9):
            ring[1], ring[2] = ring[2], ring[1]  # crosses itself: repaired with a note, or refused
        return {"type": "Polygon", "coordinates": [ring]}

    def party(self) -> Values:
        kind = self.chance.choice(["unit", "unit", "person", "organisation"])
        return {"kind": kind, "id": self.id(kind)}

    def recipients(self) -> Values:
        people = {"persons": self.ids("person"), "groups": self.ids("group"), "units": self.ids("unit")}
        return people | {"on_duty": self.ids("organisation", 2)}

    def ladder(self) -> list[Values]:
        return [
            {"after_s": self.chance.randrange(0, 900), "means": self.of(order.Means)}
            for _ in range(self.chance.randrange(4))
        ]

    def casualties(self) -> Values:
        return {"dead": self.chance.randrange(5), "injured": self.chance.randrange(50)}

    def picked(self, **fields: Callable[[], Any]) -> Values:
        """Some of these fields."""
        return {name: make() for name, make in fields.items() if self.often(0.4)}

    # -- who asks

    def actor(self) -> Actor | None:
        """Mostly the node itself; else an account with whatever rights it has."""
        row = self.some("account")
        if row is None or self.often(0.6):
            return None
        return Actor(
            account=row.id, roles=tuple(row.roles), organisation=row.organisation, person=row.person, unit=row.unit
        )
