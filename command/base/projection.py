"""Read tables and how entries become rows in them.

Pure. A projector folds one entry into rows and never refuses; a decider reads rows, may refuse, and answers with drafts.
Invariant: a read table is a function of the log (drop it, project every entry again, get the same rows); a *kept* table
holds what is not in the log (secrets, sessions, the outbox) and is written by deciders only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from command.base.entry import By, Draft, Written
from command.base.naming import bound_id
from command.base.rights import Actor, Scope, Tree, allowed, require


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every row: `id` is the key, `version` what an edit names (rule 8: a stale one is a 409)."""

    id: str
    version: int = 1


R = TypeVar("R", bound=Row)


def no_topics(row: Any) -> tuple[str, ...]:
    """The topics of a table whose changes stay at home."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Table(Generic[R]):
    """A table of rows: `index` names the fields that can be asked for by `where` (text, integer or boolean).

    `topics` says on which live topics a row's changes travel. Raise `revision` when a projector's meaning changes: the
    tables are then rebuilt at the next start.
    """

    name: str
    row: type[R]
    index: tuple[str, ...] = ()
    kept: bool = False
    topics: Callable[[R], tuple[str, ...]] = no_topics
    revision: int = 1

    def __hash__(self) -> int:
        return hash(self.name)


class Rows(Protocol):
    """Rows as of now: everything committed, and everything before this request in its batch."""

    def get(self, table: Table[R], key: str) -> R | None: ...

    def where(self, table: Table[R], **equal: object) -> list[R]:
        """Rows whose indexed fields equal all of `equal`, sorted by id."""
        ...


class Editing(Rows, Protocol):
    """Rows that a projector may change."""

    def put(self, table: Table[R], row: R) -> None: ...

    def add(self, table: Table[R], row: R) -> None:
        """Like `put` for a key that is certainly new; spares the look-up."""
        ...

    def delete(self, table: Table[R], key: str) -> None: ...


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One changed row of a commit, before and after; `before` is None for a new row, `after` for a deleted one."""

    table: str
    key: str
    before: Row | None
    after: Row | None


class Context:
    """What a decider may know besides rows: who asks, the instant, which node and generation this is and where people reach it
    (`link`, "" where it can't know), where new ids come from, and what they may do.

    `actor` is None when the node itself acts (a timer, a gateway, start-up); then everything is allowed. Otherwise the
    decider must call `allow` before it answers: the log refuses decisions for which nobody was asked.
    """

    __slots__ = ("actor", "asked", "by", "generation", "link", "new_id", "node", "now", "tree")

    def __init__(
        self,
        by: By,
        now: int,
        new_id: Callable[[], str],
        actor: Actor | None,
        tree: Tree,
        node: str = "",
        generation: str = "",
        link: str = "",
    ) -> None:
        self.generation, self.link = generation, link
        self.by, self.now, self.new_id, self.actor, self.tree, self.node = by, now, new_id, actor, tree, node
        self.asked = actor is None

    def bound_id(self, within: str) -> str:
        """A new id for what is made here within a subject; see `naming`."""
        return bound_id(self.new_id(), self.node, within)

    def allow(self, right: str, scope: Scope) -> None:
        """Raises `Denied` when the actor does not have `right` on a thing at `scope`."""
        self.asked = True
        if self.actor is not None:
            require(self.actor, right, scope, self.tree)

    def may(self, right: str, scope: Scope) -> bool:
        """Whether `allow` would pass."""
        self.asked = True
        return self.actor is None or allowed(self.actor, right, scope, self.tree)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a decider answers: drafts in order, rows of kept tables to write (`added`: of certainly new keys, which spares
    the look-up), and the id the caller will ask about."""

    drafts: list[Draft] = []
    id: str | None = None
    kept: list[tuple[Table[Any], Row]] = []
    added: list[tuple[Table[Any], Row]] = []
    dropped: list[tuple[Table[Any], str]] = []
    result: dict[str, Any] = {}


Projector = Callable[[Editing, Written], None]
RunProjector = Callable[[Editing, list[Written]], None]
"""Folds entries of one kind and one stream that follow each other, at once; to the same rows as one after the other."""
Decider = Callable[[Rows, Any, Context], Decision]


class Domain:
    """Everything the log must know of a domain: its tables, projectors by kind, deciders by request type.

    Assembled once at start by `server.py` from the modules' `TABLES`, `PROJECTORS` and `DECIDERS`. Several projectors may
    follow one kind; kinds without one are stored and relayed untouched.
    """

    def __init__(self) -> None:
        self.tables: dict[str, Table[Any]] = {}
        self.projectors: dict[str, list[Projector]] = {}
        self.deciders: dict[type, Decider] = {}
        self.runs: dict[str, RunProjector] = {}
        self.link = ""
        """Where people reach this node; "" where it can't know."""

    def register(
        self,
        tables: Iterable[Table[Any]] = (),
        projectors: Mapping[str, Projector] | None = None,
        deciders: Mapping[type, Decider] | None = None,
        runs: Mapping[str, RunProjector] | None = None,
    ) -> "Domain":
        for table in tables:
            assert table.name not in self.tables, f"two tables named {table.name}"
            self.tables[table.name] = table
        for kind, projector in (projectors or {}).items():
            self.projectors.setdefault(kind, []).append(projector)
        for request, decider in (deciders or {}).items():
            assert request not in self.deciders, f"two deciders for {request.__name__}"
            self.deciders[request] = decider
        for kind, run in (runs or {}).items():
            assert kind not in self.runs, f"two ways to fold a run of {kind}"
            self.runs[kind] = run
        return self

    def runs_of(self, kind: str) -> RunProjector | None:
        """How entries of this kind are folded at once; None when each is looked at by itself."""
        return self.runs.get(kind) if len(self.projectors.get(kind, ())) == 1 else None

    def project(self, rows: Editing, written: Written) -> None:
        for projector in self.projectors.get(written.entry.kind, ()):
            projector(rows, written)
