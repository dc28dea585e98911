"""Projecting entries of other nodes: only kinds that belong where they stand, and nothing that a projector can't digest.

Shell, in the writer's thread. Invariant: foreign bytes never stop a batch; what fails leaves no trace in the rows.
"""

from collections.abc import Callable

import msgspec
import structlog

from command.base.entry import Written
from command.base.projection import Domain, Editing
from command.domain.answering import may_progress
from command.domain.incident import INCIDENT
from command.domain.order import ORDER
from command.domain.tenure import note_late
from command.log.held import OWNED
from command.log.workspace import Workspace
from command.tree.claim import Verdict
from command.tree.picture import PROGRESSED

TREE = "tree"
BESIDE = ("room.", "meeting.")
"""Kinds of an incident's entries whose rows are not folded with it, but by `rooms`."""
SAID_IN: dict[str, tuple[str, ...]] = {
    "incident": (
        *("incident.", "order.", "alarm.", "notice.", "room.", "meeting.", "fence.", "ownership.", "timer.", "report."),
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

UNDIGESTED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, msgspec.MsgspecError)
"""What foreign bytes may have a projector raise."""

journal = structlog.get_logger("fold")


class Projecting:
    """The projectors over the rows of a transaction."""

    def __init__(self, domain: Domain, rows: Workspace) -> None:
        self._domain, self._rows = domain, rows

    def of_incident(self, rows: Editing, written: Written) -> None:
        """Project an entry of an incident that counts. What a node says of timers while another owns the incident is about
        its own: a guest can't stop the owner's. Nor can it answer for another's order: that is kept as a stranger's word. What
        is said of rooms is not for here."""
        entry = written.entry
        incident = self._rows.get(INCIDENT, entry.subject.partition("/")[2])
        if entry.kind.startswith("timer.") and incident is not None and incident.owner != entry.origin:
            return
        if entry.kind == PROGRESSED:
            order = rows.get(ORDER, str(entry.body.get("order")))
            if order is not None and not may_progress(self._rows, order, entry.origin):
                note_late(rows, written, Verdict.STRANGER)
                return
        if entry.kind.startswith(SAID_IN["incident"]) and not entry.kind.startswith(BESIDE):
            self._domain.project(rows, written)

    def at_once(self, rows: Editing, run: list[Written]) -> bool:
        """Project a run of notes (`Folded.run`), of which `of_incident` asks nothing. False, and nothing changed, when it can't
        be digested as a whole."""
        project = self._domain.runs_of(run[0].entry.kind)
        mark = self._rows.mark()
        try:
            if project is not None:
                project(rows, run)
        except UNDIGESTED:
            self._rows.undo(mark)
            return False
        return project is not None

    def safely(self, work: Callable[[Written], None], written: Written) -> None:
        """Foreign bytes never stop a batch: what a projector can't digest has no effect."""
        mark = self._rows.mark()
        try:
            work(written)
        except UNDIGESTED as error:
            self._rows.undo(mark)
            place = written.entry.place
            journal.error("entry.undigested", entry=place, kind=written.entry.kind, error=repr(error)[:200])
