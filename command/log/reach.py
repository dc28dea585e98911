"""Reach: the rows that an entry may touch, when another node wrote it or when its incident is folded anew.

Each class stands between a projector and the rows. Decides no verdict. Invariant: whatever an entry names, what it puts can be
read again, is within its incident or its node's own, and arms no timer that runs elsewhere.
"""

from typing import Any

import msgspec

from command.base.projection import Editing, R, Row, Table
from command.base.timer import TIMER, Timer
from command.domain.extent import ABOUT_INCIDENT, OWNERS_TIMERS
from command.domain.incident import Incident
from command.domain.nodes import HOME, Home

KEPT_APART = ("shift",)
"""Tables of the registry of which several rows stand in one entry: each belongs to the node that made it."""

_decoders: dict[type[Row], msgspec.json.Decoder[Any]] = {}


def readable(row: R) -> R:
    """`row`, once it is certain that it can be read again: encoding checks no patterns or bounds, and a row that can't be
    decoded would take its whole table with it. Raises `msgspec.ValidationError`."""
    kind = type(row)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    decoder.decode(msgspec.json.encode(row))
    return row


class Quiet:
    """Rows through which no timer is armed: that is done where the incident is owned, or where the thing was arranged.

    `incident` is the one whose entries are folded: rows of any other are out of reach, whatever an entry names."""

    def __init__(self, rows: Editing, *, owners: bool = False, incident: str | None = None) -> None:
        self._rows, self._owners, self._incident = rows, owners, incident

    def get(self, table: Table[R], key: str) -> R | None:
        row = self._rows.get(table, key)
        return row if row is not None and self._within(row) else None

    def where(self, table: Table[R], **equal: object) -> list[R]:
        return [row for row in self._rows.where(table, **equal) if self._within(row)]

    def put(self, table: Table[R], row: R) -> None:
        if self._reaches(table, row.id) and self._within(row) and (table is not TIMER or self._armed(row)):
            self._rows.put(table, readable(row))

    def add(self, table: Table[R], row: R) -> None:
        # Certainly new to its author, who can say so twice all the same: what was made first stands.
        if self._rows.get(table, row.id) is None:
            self.put(table, row)

    def delete(self, table: Table[R], key: str) -> None:
        if self._reaches(table, key):
            self._rows.delete(table, key)

    def _reaches(self, table: Table[R], key: str) -> bool:
        known = self._rows.get(table, key)
        return known is None or self._within(known)

    def _within(self, row: Row) -> bool:
        if self._incident is None:
            return True
        if isinstance(row, Incident):
            return row.id == self._incident
        if isinstance(row, Timer):
            return row.subject == f"incident/{self._incident}"
        return bool(getattr(row, "incident", self._incident) == self._incident)

    def _armed(self, row: Row) -> bool:
        return self._owners and isinstance(row, Timer) and row.kind.startswith(OWNERS_TIMERS)


class Guest(Quiet):
    """Rows for this node's own word in another node's incident: the owner's timers are armed there, all others here."""

    def _armed(self, row: Row) -> bool:
        return not (isinstance(row, Timer) and row.kind.startswith(OWNERS_TIMERS))


class Anew(Quiet):
    """Rows for folding an incident anew: what is not a row of the incident, or a timer of its owner, stays as it is."""

    MINE = frozenset(table.name for table in ABOUT_INCIDENT)

    def put(self, table: Table[R], row: R) -> None:
        if table.name in self.MINE:
            super().put(table, row)

    def delete(self, table: Table[R], key: str) -> None:
        if table.name in self.MINE and (table is not TIMER or self._owners_own(key)):
            super().delete(table, key)

    def _owners_own(self, key: str) -> bool:
        timer = self._rows.get(TIMER, key)
        return timer is not None and timer.kind.startswith(OWNERS_TIMERS)


class Hosted(Quiet):
    """Rows for a room that another node hosts: that room's and no other's; its timers run there."""

    def __init__(self, rows: Editing, room: str) -> None:
        super().__init__(rows)
        self._room = room

    def _within(self, row: Row) -> bool:
        return bool(getattr(row, "room", row.id) == self._room)


class Apart(Quiet):
    """Rows for another node's registry: of what stands several in an entry, each row is its own node's to change."""

    def __init__(self, rows: Editing, origin: str) -> None:
        super().__init__(rows)
        self._origin = origin

    def _reaches(self, table: Table[R], key: str) -> bool:
        if table.name not in KEPT_APART:
            return True
        home = self._rows.get(HOME, f"{table.name}/{key}")
        return home.node == self._origin if home is not None else self._rows.get(table, key) is None

    def add(self, table: Table[R], row: R) -> None:
        if self._reaches(table, row.id):
            if table.name in KEPT_APART:
                self._rows.put(HOME, Home(id=f"{table.name}/{row.id}", node=self._origin))
            super().add(table, row)
