"""Folding anew: the rows of one incident from all its entries, in canonical order.

Shell, in the writer's thread. The order and the verdicts are `picture`'s. Invariant: but for timers, what stands inside a fence
and what came ahead, the rows are a function of the set of entries held.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base.entry import Entry, Written
from command.base.projection import Domain, Editing, Row, Table
from command.base.timer import TIMER, HoldTimers
from command.domain.answering import may_progress
from command.domain.extent import ABOUT_INCIDENT, OWNERS_TIMERS
from command.domain.fence import FENCE
from command.domain.incident import INCIDENT
from command.domain.issuing import issue_late
from command.domain.nodes import NODE, Hierarchy, TreeNode, above
from command.domain.order import ORDER, Order, Progress, binding, occupy, release
from command.domain.tenure import LATE, TRANSFER, TransferState, note_late
from command.log.held import entries_of, written_of
from command.log.projecting import Projecting
from command.log.reach import Anew, Quiet
from command.log.store import AHEAD
from command.log.workspace import Workspace
from command.tree import picture
from command.tree.claim import Cuts, Verdict, reporter
from command.tree.folded import Folded, learn
from command.tree.picture import ISSUED, PROGRESSED, Picture, key_of

ANSWERS = ("accepted", "declined")
ANSWERS_MAX = 20
"""Words on one order that are compared with each other."""
ACTED_ON_AHEAD = ("order.issued", "order.progressed", "order.amended", "order.cancelled")


class FoldingAnew:
    """Of the node `node`, over the rows of a transaction."""

    def __init__(self, domain: Domain, rows: Workspace, node: str, projecting: Projecting) -> None:
        self._domain, self._rows, self._node, self._projecting = domain, rows, node, projecting

    def fold(
        self, connection: Connection, subject: str, *, lost: set[str], at: int, replayed: bool = False
    ) -> tuple[Folded, list[Any]]:
        """An incident's rows from all its entries in canonical order: what is folded then, and the requests of the node itself
        that follow. `lost` names this node's streams of generations before the present one, `at` is in microseconds UTC; rows
        were `replayed` when they came from entries of which nobody had asked whether they count."""
        key = subject.partition("/")[2]
        found = entries_of(connection, subject)
        drawn = self.resolve(found)
        before = {order.id: order for order in binding(self._rows, key)}
        spoilt = replayed and any(
            one.entry.kind == "fence.crossed" and not drawn.verdicts[one.hash].counts for one in drawn.order
        )
        fences = [] if spoilt else self._rows.where(FENCE, incident=key)
        inside = {fence.id: fence.inside for fence in fences}
        timers = self._rows.where(TIMER, subject=subject)
        held = {timer.id for timer in timers if timer.held}
        for table, row in rows_of(self._rows, key):
            self._rows.delete(table, row.id)
        anew = Anew(self._rows, owners=drawn.owner == self._node, incident=key)
        early = []
        for written in drawn.order:
            if not drawn.verdicts[written.hash].counts and self._rows.get(INCIDENT, key) is None:
                early.append(written)  # it may stand before the report; to be told of it, people need the incident
                continue
            self._projecting.safely(lambda one: self._project(anew, one, drawn.verdicts[one.hash]), written)
        for written in early:
            self._projecting.safely(lambda one: self._project(anew, one, drawn.verdicts[one.hash]), written)
        unheard = {row.id for row in self._rows.where(LATE, incident=key)}
        for order in contradicted(drawn, unheard):
            self._conflict(order)
        doubtful = self._doubtful(found, {timer.id for timer in timers}, subject, lost, at)
        self._after(key, drawn, held | doubtful, inside)
        self._occupied(before, key)
        self._ahead(connection, subject, drawn, anew)
        return learn(drawn), [HoldTimers(ids=sorted(doubtful))] if doubtful else []

    def _ahead(self, connection: Connection, subject: str, drawn: Picture, rows: Editing) -> None:
        """Act on what came before its turn, and on the words about such an order that are here already."""
        waiting = connection.execute(sa.select(AHEAD).where(AHEAD.c.subject == subject).order_by(AHEAD.c.seq)).all()
        came = [written_of(row) for row in waiting]
        orders = {one.entry.body.get("order") for one in came if one.entry.kind == ISSUED}
        for written in came:
            self._projecting.safely(self.provisional, written)
        for written in drawn.order if orders else ():
            if written.entry.kind == PROGRESSED and written.entry.body.get("order") in orders:
                self._projecting.safely(lambda one: self._project(rows, one, drawn.verdicts[one.hash]), written)

    def _project(self, rows: Editing, written: Written, verdict: Verdict) -> None:
        if verdict.counts:
            self._projecting.of_incident(rows, written)
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

    def _doubtful(self, found: list[Written], before: set[str], subject: str, own: set[str], at: int) -> set[str]:
        """Timers that this node set in a generation it has lost, and that fell due since: a person must say."""
        mine = [one.entry.body for one in found if key_of(one.entry) in own]
        lost = {str(body.get(name)) for body in mine for name in ("order", "due")}
        timers = self._rows.where(TIMER, subject=subject)
        return {one.id for one in timers if one.about in lost and one.id not in before and one.due_at <= at}

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

    def provisional(self, written: Written) -> None:
        """Act on an entry that came ahead: nothing that is known already is made again, and whoever can have no right to say
        it by what is known here waits for the stream."""
        entry = written.entry
        name = entry.body.get("order")
        order = self._rows.get(ORDER, name) if isinstance(name, str) else None
        due = (order is None) is (entry.kind == "order.issued")
        if entry.kind in ACTED_ON_AHEAD and due and self._may(entry, order):
            self._domain.project(Quiet(self._rows, incident=entry.subject.partition("/")[2]), written)

    def _may(self, entry: Entry, order: Order | None) -> bool:
        key = entry.subject.partition("/")[2]
        incident = self._rows.get(INCIDENT, key)
        if not reporter(entry.subject):
            return False
        if entry.kind == "order.progressed":
            return order is not None and may_progress(self._rows, order, entry.origin)
        decides = incident.owner if incident is not None else order.origin if order is not None else entry.origin
        if entry.origin == decides or above(
            self._rows, entry.origin, decides
        ):  # above: it may have seized the incident
            return True
        offered = (TransferState.OFFERED, TransferState.AGREED)
        return any(row.to == entry.origin and row.state in offered for row in self._rows.where(TRANSFER, incident=key))

    def resolve(self, found: list[Written]) -> Picture:
        """The canonical order and the verdicts, by the tree as it stands."""
        nodes = self._rows.where(NODE)
        return picture.resolve(found, Hierarchy({row.id: row for row in nodes}), cuts(nodes))


def cuts(nodes: Iterable[TreeNode]) -> Cuts:
    """The revocations, as `picture` wants them."""
    return {row.id: row.revoked for row in nodes if row.revoked is not None}


def contradicted(drawn: Picture, unheard: Container[str]) -> list[str]:
    """The orders that were accepted and declined by two authors of whom neither had seen the other's word; `unheard` are the
    hashes, in hex, of words that had no effect."""
    seen: dict[str, dict[str, int]] = {}
    answers: dict[str, list[tuple[str, str, int, dict[str, int]]]] = {}
    for written in drawn.order:
        entry, name = written.entry, key_of(written.entry)
        seen[name] = picture.merge_seen(seen.get(name, {}), entry)
        step = entry.body.get("step")
        heard = drawn.verdicts[written.hash].counts and written.hash.hex() not in unheard
        if entry.kind == PROGRESSED and step in ANSWERS and heard:
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
