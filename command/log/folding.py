"""Folding: entries into rows, wherever they come from and in whatever order they arrive.

Shell, in the writer's thread. An entry written here has seen everything that was folded here, so it is last and is appended.
One received is appended when it provably is last; otherwise its incident is folded anew from all its entries in canonical
order (`picture`), once per batch; a large incident only after its backlog has come in. Invariant: once nothing lags behind,
the rows of an incident are a function of the set of entries held.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Draft, Entry, Written
from command.base.errors import Conflict
from command.base.projection import Domain, Editing, R, Row, Table
from command.base.timer import TIMER, HoldTimers, Timer
from command.domain.erasure import ERASED
from command.domain.fence import FENCE
from command.domain.incident import INCIDENT, Incident
from command.domain.nodes import GENERATION, HOME, NODE, Hierarchy, Home, TreeNode
from command.domain.notice import NOTICE
from command.domain.order import ORDER, Order, Owner, Progress, ProgressOrder, binding, issue_late, occupy, release
from command.domain.tenure import ABOUT_INCIDENT, OWNERS_TIMERS, note_late, settle
from command.log.audience import holds_any
from command.log.erasing import Erasing, Gone
from command.log.intake import Taken
from command.log.store import AHEAD, BRANCH, ENTRY, STREAM, UNFOLDED, set_meta
from command.log.workspace import Scratch, Workspace
from command.tree import picture
from command.tree.claim import ADOPTED, CLAIM_KINDS, REPORTED, Claim, Cuts, Verdict
from command.tree.picture import Picture, key_of

FOLD_AT_ONCE = 2_000
"""Entries of an incident that are folded anew within the batch that asks for it; a larger one waits for its backlog."""
QUIET_S = 0.5
"""A large incident is folded once nothing has come in for so long ..."""
LAG_S_MAX = 10.0
"""... or, while its backlog still comes in, this often."""
KNOWN_MAX = 5_000
TREE = "tree"
OWNED = {
    "organisation": "organisation",
    "unit": "unit",
    "person": "person",
    "group": "group",
    "template": "template",
    "plan": "plan",
}
"""Kinds of registry entries that save a row, and the field of the body that names it."""

SAID_IN: dict[str, tuple[str, ...]] = {
    "incident": (
        *("incident.", "order.", "alarm.", "notice.", "room.", "meeting.", "fence.", "ownership.", "timer."),
        *("plan.requested", "plan.approved", "plan.refused"),
    ),
    "registry": (
        *(f"{kind}.saved" for kind in OWNED),
        "unit.status_set",
        "person.off_duty_set",
        "roster.",
        "generation.",
    ),
    TREE: ("node.",),
}
"""Kinds that have an effect in another node's stream, by its subject: a row of the registry isn't saved in an incident, nor an
order cancelled in the registry. `entry.erased` is looked at on its own."""
KEPT_APART = ("shift",)
"""Tables of the registry of which several rows stand in one entry: each belongs to the node that made it."""

ANSWERS = ("accepted", "declined")
ANSWERS_MAX = 20
"""Words on one order that are compared with each other."""
ACTED_ON_AHEAD = ("order.issued", "order.progressed", "order.amended", "order.cancelled")

journal = structlog.get_logger("fold")


@dataclass
class _Known:
    """What is folded of a subject: lengths by "origin.generation", and what each stream has told that it had seen."""

    lengths: dict[str, int] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] = field(default_factory=dict)


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


class _Quiet:
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
        if self._within(row) and (table is not TIMER or self._armed(row)):
            # Certainly new to its author; here somebody may have taken the id for something else.
            known = self._rows.get(table, row.id)
            if known is None or self._within(known):
                self._rows.put(table, readable(row))

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


class _Guest(_Quiet):
    """Rows for this node's own word in another node's incident: the owner's timers are armed there, all others here."""

    def _armed(self, row: Row) -> bool:
        return not (isinstance(row, Timer) and row.kind.startswith(OWNERS_TIMERS))


class _Anew(_Quiet):
    """Rows for folding an incident anew: what is not a row of the incident, or a timer of its owner, stays as it is."""

    MINE = frozenset(table.name for table in ABOUT_INCIDENT)

    def put(self, table: Table[R], row: R) -> None:
        if table.name in self.MINE:
            super().put(table, row)

    def add(self, table: Table[R], row: R) -> None:
        self.put(table, row)

    def delete(self, table: Table[R], key: str) -> None:
        if table.name in self.MINE and (table is not TIMER or self._owners_own(key)):
            super().delete(table, key)

    def _owners_own(self, key: str) -> bool:
        timer = self._rows.get(TIMER, key)
        return timer is not None and timer.kind.startswith(OWNERS_TIMERS)


class _Apart(_Quiet):
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


class Folding:
    """Belongs to the log. Give it rows inside a transaction; `read` at start and after a failed commit."""

    def __init__(self, domain: Domain, rows: Workspace, node: str) -> None:
        self._domain, self._rows, self._node = domain, rows, node
        self._erasing = Erasing(rows)
        self._scrubbed: set[str] = set()
        """Incidents in whose rows something still stands that was erased."""
        self.generation = ""
        self._known: dict[str, _Known] = {}
        self._lagging: dict[str, tuple[float, float]] = {}
        """Subjects to fold anew, with the instants of the first and the newest reason."""
        self._folded: dict[str, dict[str, int]] = {}
        self.wanted: list[Any] = []
        """Requests of the node itself that follow from what came in; the log queues them after the commit."""
        self._at = 0
        self._crowd = False
        """Whether any entry of another node was ever received: a single node spares itself the look-ups."""

    def read(self, connection: Connection, now: float) -> None:
        self._known.clear()
        self._erasing.read(connection)
        self._folded = {row.subject: msgspec.json.decode(row.folded) for row in connection.execute(sa.select(UNFOLDED))}
        self._lagging = dict.fromkeys(self._folded, (now, now))
        self._crowd = (
            connection.scalar(sa.select(STREAM.c.id).where(STREAM.c.origin != self._node).limit(1)) is not None
        )

    # -- entries of this node

    def prepare(self, draft: Draft) -> Draft:
        """A draft as it may be written here: a decision under the claim that stands.

        Raises `Conflict("incident.elsewhere")` when another node owns the incident, `Conflict("registry.elsewhere")` when it
        wrote the row.
        """
        if draft.subject.startswith("incident/"):
            incident = self._rows.get(INCIDENT, draft.subject.partition("/")[2])
            if self._crowd and draft.kind.startswith("notice."):
                self._own_notice(draft)
            return draft if incident is None else settle(draft, incident, self._node)
        if self._crowd:
            self._own_row(draft)
        return draft

    def _own_row(self, draft: Draft) -> None:
        key = _owned(draft.subject, draft.kind, draft.body)
        home = None if key is None else self._rows.get(HOME, key)
        if home is not None:
            raise Conflict("registry.elsewhere", "Another node wrote this; change it there.", node=home.node)

    def _own_notice(self, draft: Draft) -> None:
        notice = self._rows.get(NOTICE, draft.body["notice"])
        if notice is not None and notice.node != self._node:
            raise Conflict("notice.elsewhere", "Another node issues this notice.", node=notice.node)

    def own(self, written: Written) -> None:
        """Fold an entry written here; it is the last of its subject."""
        entry = written.entry
        incident = self._rows.get(INCIDENT, entry.subject.partition("/")[2]) if self._crowd else None
        elsewhere = incident is not None and incident.owner != self._node
        self._domain.project(_Guest(self._rows) if elsewhere else self._rows, written)
        if entry.kind == ERASED:
            self._erased(written)
        if not entry.subject.startswith("incident/"):
            if self._crowd and entry.subject == TREE:
                self._moved()
            return
        known = self._known.get(entry.subject)
        if known is not None:
            known.lengths[key_of(entry)] = entry.seq
        if self._crowd and entry.kind != REPORTED and (entry.kind in CLAIM_KINDS or entry.kind == ADOPTED):
            self._lag(entry.subject)  # timers and late decisions follow the new owner

    def lengths(self, connection: Connection, subject: str, streams: Iterable[Any]) -> dict[str, int]:
        """What is folded of a subject's streams, for `seen`."""
        if subject in self._folded:
            return dict(self._folded[subject])
        found = {f"{row.origin}.{row.generation}": int(row.length) for row in streams}
        for name, length in self._branch_lengths(connection, subject).items():
            found[name] = max(found.get(name, 0), length)
        return found

    def earlier(self, generation: str) -> list[str]:
        """The names of this node's generations before this one."""
        found = self._rows.where(GENERATION, node=self._node)
        return [f"{self._node}.{row.id}" for row in found if row.id != generation]

    def replay(self, written: Written) -> None:
        """Fold an entry as it was when it came; the caller must `fold` every shared incident afterwards."""
        entry = written.entry
        if entry.kind == ERASED:
            assert self._rows.connection is not None
            self._erasing.note(self._rows.connection, written)
        if entry.origin == self._node and (entry.private is None or written.private is not None):
            self._domain.project(self._rows, written)
        elif entry.origin == self._node:
            self._safely(lambda one: self._domain.project(self._rows, one), written)  # its part was erased
        elif entry.subject.startswith("incident/"):
            key = entry.subject.partition("/")[2]
            incident = self._rows.get(INCIDENT, key)
            self._safely(lambda one: self._of_incident(self._view(incident, key), one), written)
        else:
            self._safely(self._other, written)

    # -- entries of other nodes

    def received(self, connection: Connection, taken: Taken, now: float, *, at: int) -> None:
        """Fold what a batch brought. `now` in monotonic seconds, `at` in microseconds UTC."""
        self.wanted, self._at = [], at
        if not taken.fresh:
            return
        self._crowd = True
        taken.fresh = self._erasing.arrived(connection, taken.fresh)
        tree_moved = False
        by_subject: dict[str, list[Written]] = {}
        for written in taken.fresh:
            subject = written.entry.subject
            if subject.startswith("incident/"):
                by_subject.setdefault(subject, []).append(written)
            else:
                self._safely(self._other, written)
                tree_moved = tree_moved or subject == TREE
        if tree_moved:
            self._moved()
        for subject, fresh in by_subject.items():
            self._incident(connection, subject, fresh, taken, now)
            self._delivered(fresh)
        for written in taken.fresh:
            if written.entry.kind == ERASED:
                self._erased(written)
        if len(self._known) > KNOWN_MAX:
            self._known.clear()

    def ahead(self, fresh: list[Written]) -> None:
        """Act on entries that came before their turn: an order that isn't known yet appears, and so on."""
        self.wanted = []
        assert self._rows.connection is not None
        for written in self._erasing.arrived(self._rows.connection, fresh):
            self._crowd = True
            if written.entry.subject.startswith("incident/"):
                self._safely(self._provisional, written)
        self._delivered(fresh)

    def _delivered(self, fresh: list[Written]) -> None:
        """An order for somebody here has arrived: its owner hears of it."""
        for written in fresh:
            entry = written.entry
            if entry.kind == "order.issued" and entry.body.get("node") == self._node != entry.origin:
                order = self._rows.get(ORDER, str(entry.body.get("order")))
                if order is not None and order.progress is Progress.NONE and order.owner is Owner.ISSUED:
                    self.wanted.append(ProgressOrder(id=order.id, step=Progress.DELIVERED))

    def _incident(self, connection: Connection, subject: str, fresh: list[Written], taken: Taken, now: float) -> None:
        if subject in self._lagging:
            self._lagging[subject] = (self._lagging[subject][0], now)
            return
        known = self._known.get(subject)
        if known is None:
            known = self._known[subject] = _Known(lengths=self._before(connection, subject, fresh))
        before = dict(known.lengths)
        taken_back = any(written.entry.origin == self._node for written in fresh)
        if subject not in taken.branched and subject not in taken.confirmed and not taken_back:
            if all(self._append(known, written) for written in fresh):
                return
            before = dict(known.lengths)
        count = connection.scalar(sa.select(sa.func.sum(STREAM.c.length)).where(STREAM.c.subject == subject)) or 0
        if count <= FOLD_AT_ONCE:
            self.fold(connection, subject)
            return
        self._lag(subject, before, now)

    def _append(self, known: _Known, written: Written) -> bool:
        """Fold an entry as the last one, if it certainly is and certainly counts."""
        entry, name = written.entry, key_of(written.entry)
        seen = picture.merge_seen(known.seen.get(name, {}), entry)
        key = entry.subject.partition("/")[2]
        incident = self._rows.get(INCIDENT, key)
        others = [other for other in known.lengths if other != name]
        node = self._rows.get(NODE, entry.origin)
        if node is not None and node.revoked is not None:
            return False
        if incident is None:
            if others or entry.seq != 1 or entry.kind != REPORTED:
                return False
        elif incident.contested or not picture.appends(entry, seen, known.lengths, _chain(incident)):
            return False
        known.lengths[name], known.seen[name] = entry.seq, seen
        self._safely(lambda one: self._of_incident(self._view(incident, key), one), written)
        return True

    def _of_incident(self, rows: Editing, written: Written) -> None:
        """Project an entry of an incident that counts. What a node says of timers while another owns the incident is about
        its own: a guest can't stop the owner's."""
        entry = written.entry
        incident = self._rows.get(INCIDENT, entry.subject.partition("/")[2])
        if entry.kind.startswith("timer.") and incident is not None and incident.owner != entry.origin:
            return
        if entry.kind.startswith(SAID_IN["incident"]):
            self._domain.project(rows, written)

    def _view(self, incident: Incident | None, key: str) -> Editing:
        """The rows through which another node's entry is folded: the owner's timers run where the incident is owned."""
        return _Quiet(self._rows, owners=incident is not None and incident.owner == self._node, incident=key)

    def _before(self, connection: Connection, subject: str, fresh: list[Written]) -> dict[str, int]:
        """The lengths of a subject's streams before these entries came."""
        rows = connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject))
        found = {f"{row.origin}.{row.generation}": int(row.length) for row in rows}
        for written in reversed(fresh):
            found[key_of(written.entry)] = written.entry.seq - 1
        return {name: length for name, length in found.items() if length}

    def _branch_lengths(self, connection: Connection, subject: str) -> dict[str, int]:
        if not self._crowd:
            return {}
        longest = sa.select(BRANCH.c.origin, BRANCH.c.generation, sa.func.max(BRANCH.c.seq).label("length"))
        rows = connection.execute(
            longest.where(BRANCH.c.subject == subject).group_by(BRANCH.c.origin, BRANCH.c.generation)
        )
        return {f"{row.origin}.{row.generation}": int(row.length) for row in rows}

    # -- rows that are no incident's

    def _other(self, written: Written) -> None:
        """An entry of another node's registry, tree or other streams. It never touches a row that somebody else wrote."""
        entry = written.entry
        if entry.origin == self._node:  # taken back after a restore
            self._domain.project(self._rows, written)
            return
        if not entry.kind.startswith(SAID_IN.get(entry.subject, ())):
            return
        key = _owned(entry.subject, entry.kind, entry.body)
        if key is not None:
            kind, _, name = key.partition("/")
            home = self._rows.get(HOME, key)
            if home is None and self._rows.get(self._domain.tables[kind], name) is not None:
                return
            if home is not None and home.node != entry.origin:
                return
            if home is None:
                self._rows.put(HOME, Home(id=key, node=entry.origin))
        self._domain.project(_Apart(self._rows, entry.origin), written)

    def _safely(self, work: Callable[[Written], None], written: Written) -> None:
        """Foreign bytes never stop a batch: what a projector can't digest has no effect."""
        mark = self._rows.mark()
        try:
            work(written)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, msgspec.MsgspecError) as error:
            self._rows.undo(mark)
            place = f"{written.entry.stream} #{written.entry.seq}"
            journal.error("entry.undigested", entry=place, kind=written.entry.kind, error=repr(error)[:200])

    # -- what was erased

    def settled(self) -> set[str]:
        """After replaying everything: the incidents of which an erasure was found to count only now."""
        assert self._rows.connection is not None
        gone = self._erasing.moved(self._rows.connection)
        return {one.written.entry.subject for one in gone if one.written.entry.subject.startswith("incident/")}

    def _erased(self, written: Written) -> None:
        connection = self._rows.connection
        assert connection is not None
        for gone in self._erasing.note(connection, written):
            self._scrub(connection, gone)

    def _scrub(self, connection: Connection, gone: Gone) -> None:
        """Take what was in a private part out of the rows: an incident is folded anew, a row of the registry takes these fields
        from its entries as they are now; any other row is made anew with all tables at the next start."""
        entry = gone.written.entry
        if entry.subject.startswith("incident/"):
            self._scrubbed.add(entry.subject)
            self._lag(entry.subject)
            return
        key = _owned(entry.subject, entry.kind, entry.body)
        if key is None:
            set_meta(connection, "read_schema", "")
            return
        kind, _, name = key.partition("/")
        table = self._domain.tables[kind]
        row = self._rows.get(table, name)
        home = self._rows.get(HOME, key)
        if row is None or (self._node if home is None else home.node) != entry.origin:
            return
        scratch = Scratch()
        for written in _of_row(connection, entry, kind, name):
            self._safely(lambda one: self._domain.project(scratch, one), written)
        bare = scratch.get(table, name)
        if bare is None:
            self._rows.delete(table, name)
            return
        fields = {field: getattr(bare, field) for field in gone.fields if field in bare.__struct_fields__}
        self._rows.put(table, readable(msgspec.structs.replace(row, **fields)))

    # -- anew

    @property
    def lagging(self) -> int:
        return len(self._lagging)

    def hurry(self) -> None:
        """Wait for no backlog."""
        self._lagging = dict.fromkeys(self._lagging, (0.0, 0.0))

    def due(self, now: float) -> bool:
        return any(_due(times, now) <= now for times in self._lagging.values())

    def pause_s(self, now: float) -> float | None:
        """How long the writer may sleep; None for as long as it likes."""
        if not self._lagging:
            return None
        return max(0.01, min(_due(times, now) for times in self._lagging.values()) - now)

    def later(self, now: float) -> None:
        """The database refused: try again in a while."""
        self._lagging = dict.fromkeys(self._lagging, (now, now))

    def fold_one(self, connection: Connection, now: float, *, at: int) -> str:
        """Fold the incident that has waited longest; its subject."""
        self.wanted, self._at = [], at
        subject = min(self._lagging, key=lambda name: _due(self._lagging[name], now))
        self.fold(connection, subject)
        del self._lagging[subject]
        if subject in self._scrubbed:
            self._scrubbed.discard(subject)
            self._rows.purge()
        self._folded.pop(subject, None)
        connection.execute(sa.delete(UNFOLDED).where(UNFOLDED.c.subject == subject))
        return subject

    def _moved(self) -> None:
        """The tree changed: places and revocations take part in the verdicts where claims compete or nodes were revoked, and
        in whose erasures count."""
        assert self._rows.connection is not None
        for gone in self._erasing.moved(self._rows.connection):
            self._scrub(self._rows.connection, gone)
        revoked = [row.id for row in self._rows.where(NODE) if row.revoked is not None]
        wanted = sa.select(STREAM.c.subject).where(STREAM.c.subject.like("incident/%"), STREAM.c.origin.in_(revoked))
        subjects = set(self._rows.connection.scalars(wanted)) if revoked else set()
        subjects |= {row.subject for row in self._rows.where(INCIDENT, contested=True)}
        for subject in sorted(subjects):
            self._lag(subject)

    def _lag(self, subject: str, folded: dict[str, int] | None = None, now: float = 0.0) -> None:
        """Have an incident folded anew, even if this process ends before: at once, or after its backlog (`now`)."""
        if subject in self._lagging:
            return
        connection = self._rows.connection
        assert connection is not None
        if folded is None:
            streams = connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject)).all()
            folded = self.lengths(connection, subject, streams)
        self._lagging[subject] = (now, now)
        self._folded[subject] = folded
        connection.execute(sa.delete(UNFOLDED).where(UNFOLDED.c.subject == subject))
        connection.execute(sa.insert(UNFOLDED).values(subject=subject, folded=msgspec.json.encode(folded)))

    def fold(self, connection: Connection, subject: str) -> None:
        """An incident's rows from all its entries in canonical order."""
        key = subject.partition("/")[2]
        found = _entries(connection, subject)
        drawn = self.resolve(found)
        before = {order.id: order for order in binding(self._rows, key)}
        inside = {fence.id: fence.inside for fence in self._rows.where(FENCE, incident=key)}
        timers = self._rows.where(TIMER, subject=subject)
        held = {timer.id for timer in timers if timer.held}
        for table, row in rows_of(self._rows, key):
            self._rows.delete(table, row.id)
        anew = _Anew(self._rows, owners=drawn.owner == self._node, incident=key)
        for written in drawn.order:
            self._safely(lambda one: self._project(anew, one, drawn.verdicts[one.hash]), written)
        for order in _contradicted(drawn):
            self._conflict(order)
        doubtful = self._doubtful(found, {timer.id for timer in timers}, subject)
        if doubtful:
            self.wanted.append(HoldTimers(ids=sorted(doubtful)))
        self._after(key, drawn, held | doubtful, inside)
        self._occupied(before, key)
        waiting = connection.execute(sa.select(AHEAD).where(AHEAD.c.subject == subject).order_by(AHEAD.c.seq))
        for found_ahead in waiting.all():
            self._safely(self._provisional, _written(found_ahead))
        self._known[subject] = _learn(found)

    def _project(self, rows: Editing, written: Written, verdict: Verdict) -> None:
        if verdict.counts:
            self._of_incident(rows, written)
            return
        if written.entry.kind == "order.issued" and verdict is Verdict.LATE:
            issue_late(rows, written)
        note_late(rows, written, verdict)

    def _conflict(self, key: str) -> None:
        """Accepted and declined by two who did not know of each other: it counts as declined until the owner has looked."""
        order = self._rows.get(ORDER, key)
        if order is not None:
            progress = Progress.DECLINED if order.progress is Progress.ACCEPTED else order.progress
            self._rows.put(ORDER, msgspec.structs.replace(order, conflict=True, progress=progress))

    def _doubtful(self, found: list[Written], before: set[str], subject: str) -> set[str]:
        """Timers that this node set in a generation it has lost, and that fell due since: a person must say."""
        own = {name for name in self.earlier(self.generation) if self.generation}
        lost = {str(one.entry.body.get("order")) for one in found if key_of(one.entry) in own}
        timers = self._rows.where(TIMER, subject=subject)
        return {one.id for one in timers if one.about in lost and one.id not in before and one.due_at <= self._at}

    def _after(self, key: str, drawn: Picture, held: set[str], inside: dict[str, list[str]]) -> None:
        """What a fold from the start can't know: who is in a fence now, which timers a restore has held."""
        incident = self._rows.get(INCIDENT, key)
        if incident is not None and incident.contested != drawn.contested:
            self._rows.put(INCIDENT, msgspec.structs.replace(incident, contested=drawn.contested))
        for fence in self._rows.where(FENCE, incident=key):
            if fence.id in inside and fence.inside != inside[fence.id]:
                self._rows.put(FENCE, msgspec.structs.replace(fence, inside=inside[fence.id]))
        for name in held:
            timer = self._rows.get(TIMER, name)
            if timer is not None:
                self._rows.put(TIMER, msgspec.structs.replace(timer, held=True))

    def _occupied(self, before: Mapping[str, Order], key: str) -> None:
        """Units are at work on what they were, but for what the fold has changed."""
        after = {order.id: order for order in binding(self._rows, key)}
        for name, order in before.items():
            if name not in after:
                release(self._rows, order)
        for name, order in after.items():
            if name not in before:
                occupy(self._rows, order)

    def _provisional(self, written: Written) -> None:
        """Act on an entry that came ahead: nothing that is known already is made again."""
        entry = written.entry
        order = entry.body.get("order")
        known = self._rows.get(ORDER, order) is not None if isinstance(order, str) else False
        if entry.kind in ACTED_ON_AHEAD and known is (entry.kind != "order.issued"):
            self._domain.project(_Quiet(self._rows, incident=entry.subject.partition("/")[2]), written)

    def resolve(self, found: list[Written]) -> Picture:
        """The canonical order and the verdicts, by the tree as it stands."""
        nodes = self._rows.where(NODE)
        return picture.resolve(found, Hierarchy(nodes), cuts(nodes))


def cuts(nodes: Iterable[TreeNode]) -> Cuts:
    """The revocations, as `picture` wants them."""
    return {row.id: row.revoked for row in nodes if row.revoked is not None}


def _contradicted(drawn: Picture) -> list[str]:
    """The orders that were accepted and declined by two authors of whom neither had seen the other's word."""
    seen: dict[str, dict[str, int]] = {}
    answers: dict[str, list[tuple[str, str, int, dict[str, int]]]] = {}
    for written in drawn.order:
        entry, name = written.entry, key_of(written.entry)
        seen[name] = picture.merge_seen(seen.get(name, {}), entry)
        step = entry.body.get("step")
        if entry.kind == "order.progressed" and step in ANSWERS and drawn.verdicts[written.hash].counts:
            answers.setdefault(str(entry.body.get("order")), []).append((step, name, entry.seq, seen[name]))
    return [
        order
        for order, said in answers.items()
        if any(
            one[0] != other[0] and one[3].get(other[1], 0) < other[2] and other[3].get(one[1], 0) < one[2]
            for number, one in enumerate(said[:ANSWERS_MAX])
            for other in said[:number]
            if one[1] != other[1]
        )
    ]


def rows_of(rows: Editing, key: str) -> list[tuple[Table[Any], Row]]:
    """Every row of an incident that is a function of its entries."""
    found: list[tuple[Table[Any], Row]] = []
    for table in ABOUT_INCIDENT:
        if table is INCIDENT:
            row = rows.get(INCIDENT, key)
            found += [] if row is None else [(table, row)]
        elif table is TIMER:
            mine = rows.where(TIMER, subject=f"incident/{key}")
            found += [(table, timer) for timer in mine if timer.kind.startswith(OWNERS_TIMERS)]
        else:
            found += [(table, row) for row in rows.where(table, incident=key)]
    return found


def digest(rows: Editing, key: str) -> str:
    """SHA-256 over an incident's rows, in hex: equal on two nodes that hold the same entries of it.

    Timers run on one node only, and who is inside a fence is watched by each node for its own units: they are left out.
    """
    found = hashlib.sha256()
    for table, row in rows_of(rows, key):
        if table is not TIMER:
            plain = msgspec.structs.replace(row, inside=[]) if table is FENCE else row
            found.update(table.name.encode() + b"\x00" + msgspec.json.encode(plain, order="deterministic") + b"\n")
    return found.hexdigest()


def _due(times: tuple[float, float], now: float) -> float:
    first, newest = times
    return min(newest + QUIET_S, first + LAG_S_MAX) if newest else now


def _chain(incident: Incident) -> list[Claim]:
    """The claim that stands, as far as `picture.appends` looks at it."""
    return [Claim(id=incident.claim, kind="", owner=incident.owner, issuer="", generation="", seq=0)]


def _owned(subject: str, kind: str, body: Mapping[str, Any]) -> str | None:
    """The row of the registry ("kind/ID") that an entry saves; None for other entries."""
    if subject != "registry":
        return None
    name = OWNED.get(kind.partition(".")[0])
    key = None if name is None else body.get(name)
    return f"{name}/{key}" if isinstance(key, str) else None


def _entries(connection: Connection, subject: str) -> list[Written]:
    """Every entry held of a subject, on its chains and on branches."""
    chain = sa.select(ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private).join(
        STREAM, STREAM.c.id == ENTRY.c.stream
    )
    rows = connection.execute(chain.where(STREAM.c.subject == subject).order_by(ENTRY.c.number)).all()
    loose = sa.select(BRANCH.c.data, BRANCH.c.hash, BRANCH.c.salt, BRANCH.c.private).where(BRANCH.c.subject == subject)
    return [_written(row) for row in [*rows, *connection.execute(loose.order_by(BRANCH.c.seq, BRANCH.c.hash)).all()]]


def _written(row: Any) -> Written:
    return Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)


def _of_row(connection: Connection, like: Entry, kind: str, name: str) -> list[Written]:
    """The entries of the node that wrote `like` which are about one row of the registry, in order."""
    columns = sa.select(ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private, ENTRY.c.number)
    mine = columns.join(STREAM, STREAM.c.id == ENTRY.c.stream).where(
        STREAM.c.subject == like.subject, STREAM.c.origin == like.origin, holds_any(connection, [name.encode()])
    )
    found = [_written(row) for row in connection.execute(mine.order_by(ENTRY.c.number))]
    return [one for one in found if one.entry.body.get(kind) == name]


def _learn(found: Iterable[Written]) -> _Known:
    """Lengths, and what the author of each stream's end has told that it had seen."""
    known = _Known()
    for written in found:
        name = key_of(written.entry)
        known.lengths[name] = max(written.entry.seq, known.lengths.get(name, 0))
        known.seen[name] = picture.merge_seen(known.seen.get(name, {}), written.entry)
    return known
