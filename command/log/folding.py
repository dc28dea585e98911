"""Folding: entries into rows, wherever they come from and in whatever order they arrive.

Shell, in the writer's thread. An entry written here has seen everything that was folded here, so it is last and is appended.
One received is appended when it provably is last; otherwise its incident is folded anew from all its entries in canonical
order (`picture`), once per batch; a large incident only after its backlog has come in. Invariant: once nothing lags behind,
the rows of an incident are a function of the set of entries held.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base.entry import Draft, Entry, Written
from command.base.errors import Conflict
from command.base.projection import Domain, Editing
from command.domain.erasure import ERASED
from command.domain.incident import INCIDENT, Incident
from command.domain.nodes import GENERATION, HOME, NODE, Hierarchy, Home
from command.domain.notice import NOTICE
from command.domain.order import ORDER, Owner, Progress, ProgressOrder
from command.domain.owing import reviewed
from command.domain.tenure import LATE, settle
from command.log.anew import FoldingAnew
from command.log.erasing import Erasing, Gone
from command.log.held import of_row, owned, standing_in
from command.log.intake import Taken
from command.log.projecting import SAID_IN, TREE, Projecting
from command.log.reach import Apart, Guest, Quiet, readable
from command.log.resting import Resting
from command.log.rooms import MEETINGS, Rooms, received_rooms, room_of
from command.log.store import BRANCH, STREAM, UNFOLDED, set_meta
from command.log.submission import Bared
from command.log.workspace import Scratch, Workspace
from command.tree import picture
from command.tree.claim import ADOPTED, CLAIM_KINDS, REPORTED, Claim, Verdict, reports
from command.tree.folded import NOTED, Folded
from command.tree.picture import key_of

FOLD_AT_ONCE = 2_000
"""Entries of an incident that are folded anew within the batch that asks for it; a larger one waits for its backlog."""
QUIET_S = 0.5
"""A large incident is folded once nothing has come in for so long ..."""
LAG_S_MAX = 10.0
"""... or, while its backlog still comes in, this often; a very large one less often, or folding would take all the time."""
KNOWN_MAX = 5_000


class Folding:
    """Belongs to the log. Give it rows inside a transaction; `read` at start and after a failed commit."""

    def __init__(self, domain: Domain, rows: Workspace, node: str) -> None:
        self._domain, self._rows, self._node = domain, rows, node
        self._erasing = Erasing(rows)
        self._projecting = Projecting(domain, rows)
        self._anew = FoldingAnew(domain, rows, node, self._projecting)
        self._rooms = Rooms(domain, rows, node, self._projecting)
        self._scrubbed: set[str] = set()
        """Incidents and meetings in whose rows something still stands that was erased."""
        self._bared: list[Bared] = []
        self.generation = ""
        self._known: dict[str, Folded] = {}
        self._lagging: dict[str, tuple[float, float]] = {}
        """Subjects to fold anew, with the instants of the first and the newest reason."""
        self.resting = Resting()
        self._folded: dict[str, dict[str, int]] = {}
        self._bound: set[str] = set()
        """Incidents whose rooms know all who are bound to it, for nothing but notes came since that was looked at."""
        self._speaking: set[str] = set()
        """Incidents of other nodes in which this one's word counts."""
        self.wanted: list[Any] = []
        """Requests of the node itself that follow from what came in; the log queues them after the commit."""
        self._at = 0
        self._crowd = False
        """Whether any entry of another node was ever received: a single node spares itself the look-ups."""

    def read(self, connection: Connection, now: float) -> None:
        self._known.clear()
        self._speaking.clear()
        self._bound.clear()
        self._bared.clear()
        self._rooms.forget()
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
            draft = reviewed(self._rows, draft)
            if self._crowd and draft.kind.startswith("notice."):
                self._own_notice(draft)
            if incident is None:
                return draft
            settled = settle(draft, incident, self._node)
            if self._crowd and incident.owner != self._node:
                self._not_a_stranger(incident)
            return settled
        if self._crowd:
            self._own_row(draft)
        return draft

    def _not_a_stranger(self, incident: Incident) -> None:
        """What has no effect elsewhere is not written here either."""
        if incident.id in self._speaking:
            return
        assert self._rows.connection is not None
        if self._node not in standing_in(self._rows.connection, incident.subject, self._nodes()):
            hint = "The owner of this incident has not given it to this node; have the owner invite it."
            raise Conflict("incident.not_given", hint, owner=incident.owner)
        if len(self._speaking) >= KNOWN_MAX:
            self._speaking.clear()
        self._speaking.add(incident.id)

    def _nodes(self) -> Hierarchy:
        return Hierarchy({row.id: row for row in self._rows.where(NODE)})

    def _own_row(self, draft: Draft) -> None:
        key = owned(draft.subject, draft.kind, draft.body)
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
        if entry.kind != NOTED:
            self._bound.clear()
        incident = self._rows.get(INCIDENT, entry.subject.partition("/")[2]) if self._crowd else None
        elsewhere = incident is not None and incident.owner != self._node
        self._domain.project(Guest(self._rows) if elsewhere else self._rows, written)
        self._erasing.own(written)
        if entry.kind == ERASED:
            self._erased(written)
        if not entry.subject.startswith("incident/"):
            if self._crowd and entry.subject == TREE:
                self._moved()
            return
        known = self._known.get(entry.subject)
        if known is None and self._crowd and entry.kind == REPORTED:
            known = self._known[entry.subject] = Folded()
            known.standing = self._nodes().superiors(self._node) | {self._node}
        if self._crowd and picture.widens(entry, frozenset() if known is None else known.standing):
            self._strangers_again(entry.subject)
        if known is not None:
            known.note(entry)
            self._widen(known, entry)
        if self._crowd and "parties" in entry.body:
            self._rooms.bound(entry.subject.partition("/")[2])
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
        return [row.id for row in found if row.id != f"{self._node}.{generation}"]

    def replay(self, written: Written) -> None:
        """Fold an entry as it was when it came; the caller must `fold` every shared incident afterwards, then `fold_rooms`."""
        entry = written.entry
        if entry.kind == ERASED:
            assert self._rows.connection is not None
            self._erasing.note(self._rows.connection, written)
        if entry.origin == self._node and (entry.private is None or written.private is not None):
            self._domain.project(self._rows, written)
        elif entry.origin == self._node:
            self._projecting.safely(lambda one: self._domain.project(self._rows, one), written)  # its part was erased
        elif entry.subject.startswith("incident/"):
            key = entry.subject.partition("/")[2]
            incident = self._rows.get(INCIDENT, key)
            self._projecting.safely(lambda one: self._projecting.of_incident(self._view(incident, key), one), written)
        elif not entry.subject.startswith(MEETINGS):
            self._projecting.safely(self._other, written)

    # -- entries of other nodes

    def received(self, connection: Connection, taken: Taken, now: float, *, at: int) -> None:
        """Fold what a batch brought. `now` in monotonic seconds, `at` in microseconds UTC."""
        self.wanted, self._at = [], at
        if not (taken.fresh or taken.filled):
            return
        self._crowd = True
        taken.fresh = self._erasing.arrived(connection, taken.fresh)
        self._filled(connection, taken)
        only_notes = all(written.entry.kind == NOTED for written in taken.fresh)
        if taken.filled or not only_notes:
            self._bound.clear()
        tree_moved = False
        by_subject: dict[str, list[Written]] = {}
        for written in taken.fresh:
            subject = written.entry.subject
            if subject.startswith("incident/"):
                by_subject.setdefault(subject, []).append(written)
            elif not subject.startswith(MEETINGS):
                self._projecting.safely(self._other, written)
                tree_moved = tree_moved or subject == TREE
        if tree_moved:
            self._moved()
        for subject, fresh in by_subject.items():
            self._incident(connection, subject, fresh, taken, now)
            self._delivered(fresh)
            if subject not in self._bound:
                self._rooms.bound(subject.partition("/")[2])
                if only_notes:
                    self._bound.add(subject)
        self._rooms.received(connection, taken.fresh, at=at)
        for written in taken.fresh:
            if written.entry.kind == ERASED:
                self._erased(written)
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
            self._bound.clear()

    def ahead(self, fresh: list[Written]) -> None:
        """Act on entries that came before their turn: an order that isn't known yet appears, and so on."""
        self.wanted = []
        self._bound.clear()
        assert self._rows.connection is not None
        for written in self._erasing.arrived(self._rows.connection, fresh):
            self._crowd = True
            if written.entry.subject.startswith("incident/"):
                self._projecting.safely(self._anew.provisional, written)
        self._delivered(fresh)

    def _delivered(self, fresh: list[Written]) -> None:
        """An order for somebody here has arrived: its owner hears of it."""
        for written in fresh:
            entry = written.entry
            if entry.kind == "order.issued" and entry.body.get("node") == self._node != entry.origin:
                order = self._rows.get(ORDER, str(entry.body.get("order")))
                if order is not None and order.progress is Progress.NONE and order.owner is Owner.ISSUED:
                    self.wanted.append(ProgressOrder(id=order.id, step=Progress.DELIVERED))

    def _received_late(self, key: str) -> None:
        """The same for an incident whose rows lagged behind while its orders came in."""
        for order in self._rows.where(ORDER, incident=key):
            new = order.progress is Progress.NONE and order.owner is Owner.ISSUED and order.open
            if new and order.node == self._node != order.origin:
                self.wanted.append(ProgressOrder(id=order.id, step=Progress.DELIVERED))

    def _incident(self, connection: Connection, subject: str, fresh: list[Written], taken: Taken, now: float) -> None:
        if subject in self._lagging:
            self._lagging[subject] = (self._lagging[subject][0], now)
            return
        known = self._known.get(subject)
        if known is None:
            known = self._known[subject] = self._before(connection, subject, fresh)
        before = dict(known.lengths)
        taken_back = any(written.entry.origin == self._node for written in fresh)
        if subject not in taken.branched and subject not in taken.confirmed and not taken_back:
            if self._append_all(known, fresh):
                return
            before = dict(known.lengths)
        count = connection.scalar(sa.select(sa.func.sum(STREAM.c.length)).where(STREAM.c.subject == subject)) or 0
        if count <= FOLD_AT_ONCE:
            self.fold(connection, subject)
            return
        self._lag(subject, before, now)

    def _append_all(self, known: Folded, fresh: list[Written]) -> bool:
        """Fold entries one after the other, and notes that follow each other at once, as long as `_append` says yes."""
        every, start = [written.entry for written in fresh], 0
        while start < len(fresh):
            count = known.run(every[start:]) if self._domain.runs_of(every[start].kind) is not None else 1
            if not self._append(known, fresh[start : start + count]):
                return False
            start += count
        return True

    def _append(self, known: Folded, run: list[Written]) -> bool:
        """Fold entries as the last ones, if that is certain to give the right rows and they certainly count; more than one only
        as `Folded.run` has found them."""
        written = run[0]
        entry, name = written.entry, key_of(written.entry)
        key = entry.subject.partition("/")[2]
        incident = self._rows.get(INCIDENT, key)
        node = self._rows.get(NODE, entry.origin)
        if node is not None and node.revoked is not None:
            return False
        if incident is None:
            early = known.strangers or any(other != name for other in known.lengths)
            if entry.seq != 1 or not reports(entry) or early:  # what came before the report may count with it
                return False
        elif incident.contested or not known.takes(entry, _chain(incident)):
            return False
        known.note_run([one.entry for one in run])
        self._widen(known, entry)
        rows = self._view(incident, key)
        if len(run) == 1 or not self._projecting.at_once(rows, run):
            for one in run:
                self._projecting.safely(lambda one: self._projecting.of_incident(rows, one), one)
        return True

    def _strangers_again(self, subject: str) -> None:
        """What a stranger said may count now."""
        if self._rows.where(LATE, incident=subject.partition("/")[2], verdict=Verdict.STRANGER):
            self._lag(subject)

    def _widen(self, known: Folded, entry: Entry) -> None:
        if picture.widens(entry, known.standing):
            known.widen(entry, self._nodes())

    def _view(self, incident: Incident | None, key: str) -> Editing:
        """The rows through which another node's entry is folded: the owner's timers run where the incident is owned."""
        return Quiet(self._rows, owners=incident is not None and incident.owner == self._node, incident=key)

    def _before(self, connection: Connection, subject: str, fresh: list[Written]) -> Folded:
        """What was known of a subject before these entries came; but who has a standing is as of now."""
        rows = connection.execute(sa.select(STREAM).where(STREAM.c.subject == subject))
        found = {f"{row.origin}.{row.generation}": int(row.length) for row in rows}
        for written in reversed(fresh):
            found[key_of(written.entry)] = written.entry.seq - 1
        standing = standing_in(connection, subject, self._nodes())
        lengths = {name: length for name, length in found.items() if length}
        mine = {name: length for name, length in lengths.items() if name.partition(".")[0] in standing}
        known = Folded(mine)
        known.standing, known.strangers = standing, len(mine) < len(lengths)
        return known

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
        key = owned(entry.subject, entry.kind, entry.body)
        if key is not None:
            kind, _, name = key.partition("/")
            home = self._rows.get(HOME, key)
            if home is None and self._rows.get(self._domain.tables[kind], name) is not None:
                return
            if home is not None and home.node != entry.origin:
                return
            if home is None:
                self._rows.put(HOME, Home(id=key, node=entry.origin))
        self._domain.project(Apart(self._rows, entry.origin), written)

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

    def bared(self) -> tuple[Bared, ...]:
        """At the end of a transaction: the entries that lost their part in it."""
        self._erasing.stored()
        found, self._bared = tuple(self._bared), []
        return found

    def _filled(self, connection: Connection, taken: Taken) -> None:
        """Private parts came of entries that were held without; those that were erased meanwhile stay so."""
        for written in self._erasing.arrived(connection, taken.filled):
            if written.private is not None:
                bared = self._erasing.placed(connection, written)
                self._bared += [] if bared is None else [bared]
                self._reread(connection, written.entry, sorted(written.secrets))

    def _scrub(self, connection: Connection, gone: Gone) -> None:
        """Take what was in a private part out of the rows: an incident and a room are folded anew, a row of the registry takes
        these fields from its entries as they are now; any other row is made anew with all tables at the next start."""
        entry = gone.written.entry
        self._bared += [] if gone.bared is None else [gone.bared]
        room = room_of(entry)
        if room is not None or entry.subject.startswith("incident/"):
            self._scrubbed.add(entry.subject if room is None else f"{MEETINGS}{room}")
        self._reread(connection, entry, gone.fields)

    def _reread(self, connection: Connection, entry: Entry, fields: list[str]) -> None:
        """The private part of an entry, which has or had these fields, is another now: make its rows anew."""
        room = room_of(entry)
        if room is not None or entry.subject.startswith("incident/"):
            self._lag(entry.subject if room is None else f"{MEETINGS}{room}")
            return
        key = owned(entry.subject, entry.kind, entry.body)
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
        for written in of_row(connection, entry, kind, name):
            self._projecting.safely(lambda one: self._domain.project(scratch, one), written)
        bare = scratch.get(table, name)
        if bare is None:
            self._rows.delete(table, name)
            return
        found = {field: getattr(bare, field) for field in fields if field in bare.__struct_fields__}
        self._rows.put(table, readable(msgspec.structs.replace(row, **found)))

    # -- anew

    @property
    def lagging(self) -> int:
        return len(self._lagging)

    def hurry(self) -> None:
        """Wait for no backlog."""
        self._lagging = dict.fromkeys(self._lagging, (0.0, 0.0))

    def due(self, now: float) -> bool:
        return any(self._due(name, now) <= now for name in self._lagging)

    def pause_s(self, now: float) -> float | None:
        """How long the writer may sleep; None for as long as it likes."""
        if not self._lagging:
            return None
        return max(0.01, min(self._due(name, now) for name in self._lagging) - now)

    def _due(self, subject: str, now: float) -> float:
        first, newest = self._lagging[subject]
        return max(self.resting.until(subject), min(newest + QUIET_S, first + LAG_S_MAX)) if newest else now

    def later(self, now: float) -> None:
        """The database refused: try again in a while."""
        self._lagging = dict.fromkeys(self._lagging, (now, now))

    def fold_one(self, connection: Connection, now: float, *, at: int) -> str:
        """Fold the incident that has waited longest; its subject."""
        self.wanted, self._at = [], at
        subject = min(self._lagging, key=lambda name: self._due(name, now))
        self.fold(connection, subject)
        if subject.startswith("incident/"):
            self._received_late(subject.partition("/")[2])
            self._rooms.bound(subject.partition("/")[2])
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
        subjects |= {f"incident/{row.incident}" for row in self._rows.where(LATE, verdict=Verdict.STRANGER)}
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

    def fold_rooms(self, connection: Connection) -> None:
        """After replaying everything and folding the incidents: the rooms of which something was received."""
        for key, subjects in sorted(received_rooms(connection).items()):
            self._rooms.fold(connection, key, subjects=subjects)

    def fold(self, connection: Connection, subject: str) -> None:
        """An incident's rows from all its entries in canonical order, or a room's from all its host's."""
        self._bound.discard(subject)
        if subject.startswith(MEETINGS):
            self._bound.clear()
            self._rooms.fold(connection, subject.removeprefix(MEETINGS))
            return
        lost = set(self.earlier(self.generation)) if self.generation else set()
        replayed = not self.generation
        self._known[subject], wanted = self._anew.fold(connection, subject, lost=lost, at=self._at, replayed=replayed)
        self.wanted += wanted


def _chain(incident: Incident) -> list[Claim]:
    """The claim that stands, as far as `picture.appends` looks at it."""
    return [Claim(id=incident.claim, kind="", owner=incident.owner, issuer="", generation="", seq=0)]
