"""The recent changes: what the latest commits changed, in octets, for screens that come back after a moment.

Pure. It does not know who may see what. Invariant: it holds the newest commits without a gap, and they cost
`RECENT_OCTETS_MAX` at most; only the very newest is held whatever it costs.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from command.base import entry as entries
from command.base.entry import Written
from command.base.projection import Row

RECENT_OCTETS_MAX = 4 * 1024 * 1024
"""Seconds to minutes of a busy node. Who was away for longer gets a fresh snapshot, which is always right."""
COMMIT_OCTETS, CHANGE_OCTETS, TOPIC_OCTETS = 250, 300, 100
"""What one costs beside the rows in it."""


class Item(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One change as it travels: `topics` it goes to, the rows before and after; or, on a timeline, the entry and its
    position, which become a row only when somebody looks."""

    table: str
    key: str
    topics: frozenset[str]
    before: Row | None = None
    after: Row | None = None
    written: Written | None = None
    branch: bool = False
    position: int = 0


class _Packed(NamedTuple):
    """An `Item` with its rows in JSON; `entry` is its `written` as it is stored: data, hash, salt, private part."""

    table: str
    key: str
    topics: tuple[str, ...]
    before: bytes | None
    after: bytes | None
    entry: tuple[bytes, bytes, bytes | None, bytes | None] | None
    branch: bool
    position: int

    @property
    def octets(self) -> int:
        rows = len(self.before or b"") + len(self.after or b"")
        if self.entry is not None:
            data, hashed, salt, private = self.entry
            rows += len(data) + len(hashed) + len(salt or b"") + len(private or b"")
        return CHANGE_OCTETS + TOPIC_OCTETS * len(self.topics) + rows


class _Commit(NamedTuple):
    position: int
    octets: int
    changes: tuple[_Packed, ...]


class Recent:
    """`decode` makes a row of a table out of its JSON."""

    def __init__(self, decode: Callable[[str, bytes], Row]) -> None:
        self._decode = decode
        self._commits: deque[_Commit] = deque()
        self.octets = 0

    def add(self, position: int, items: list[Item]) -> None:
        """The changes of the commit that follows the newest one held."""
        changes = tuple(_pack(item) for item in items)
        octets = COMMIT_OCTETS + sum(change.octets for change in changes)
        self._commits.append(_Commit(position, octets, changes))
        self.octets += octets
        while self.octets > RECENT_OCTETS_MAX and len(self._commits) > 1:
            self.octets -= self._commits.popleft().octets

    def clear(self) -> None:
        self._commits.clear()
        self.octets = 0

    def reaches(self, position: int) -> bool:
        """Whether every commit after `position` is here, up to the newest."""
        return bool(self._commits) and self._commits[0].position <= position + 1

    def since(self, position: int, topic: str) -> list[Item]:
        """What travelled on `topic` after `position`, oldest first."""
        later = [commit for commit in self._commits if commit.position > position]
        return [self._unpack(change) for commit in later for change in commit.changes if topic in change.topics]

    def _unpack(self, change: _Packed) -> Item:
        return Item(
            table=change.table,
            key=change.key,
            topics=frozenset(change.topics),
            before=None if change.before is None else self._decode(change.table, change.before),
            after=None if change.after is None else self._decode(change.table, change.after),
            written=None if change.entry is None else _written(*change.entry),
            branch=change.branch,
            position=change.position,
        )


def _pack(item: Item) -> _Packed:
    written = item.written
    return _Packed(
        item.table,
        item.key,
        tuple(item.topics),
        None if item.before is None else msgspec.json.encode(item.before),
        None if item.after is None else msgspec.json.encode(item.after),
        None if written is None else (written.data, written.hash, written.salt, written.private),
        item.branch,
        item.position,
    )


def _written(data: bytes, hashed: bytes, salt: bytes | None, private: bytes | None) -> Written:
    return Written(entry=entries.decode(data), data=data, hash=hashed, salt=salt, private=private)
