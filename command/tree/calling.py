"""Who gets which meeting: the nodes whose people are invited, whoever the meeting's incident concerns, and those on the way.

Pure. Only what a node says itself counts for its own streams, so nobody can widen another's meeting. Invariant: who may *hold*
the streams only grows; the private parts of new entries go to those who are invited *now*.
"""

from collections.abc import Callable

import msgspec

from command.base.entry import Entry
from command.tree.sharing import Concerned, Nodes, participants, reaching

SCHEDULED, EDITED, CALLED, ERASED = "meeting.scheduled", "meeting.edited", "meeting.called", "entry.erased"
TELLING = tuple(f'"kind":"{kind}"'.encode() for kind in (SCHEDULED, EDITED, CALLED, ERASED))
"""Octets of which one stands in every entry that says whom a meeting calls."""

Incidents = Callable[[str], Concerned]
"""Whom an incident concerns, by its id: nobody when nothing of it is here."""


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """Whom one node's entries of one meeting call: nodes `ever` named and those named `now`; `incidents` of which everybody is
    called (rooms opened in them), `lines` of which the owner's line is (meetings called for a time about them); `erased`
    are nodes of whose entries it erased some: an erasure goes wherever the erased went."""

    ever: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()
    incidents: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()
    erased: frozenset[str] = frozenset()

    def add(self, entry: Entry) -> "Called":
        """With one entry more of the same node, in its order."""
        body = entry.body
        if entry.kind == ERASED:
            origin = _origin(body.get("stream"), entry.subject)
            return self if origin is None else msgspec.structs.replace(self, erased=self.erased | {origin})
        incident = body.get("incident")
        about = {incident} if isinstance(incident, str) else set()
        if entry.kind == CALLED:
            return msgspec.structs.replace(self, incidents=self.incidents | about)
        named = body.get("nodes")
        if entry.kind not in (SCHEDULED, EDITED) or not isinstance(named, list):
            return self
        nodes = frozenset(one for one in named if isinstance(one, str))
        return msgspec.structs.replace(self, ever=self.ever | nodes, now=nodes, lines=self.lines | about)


def _origin(stream: object, subject: str) -> str | None:
    """The node whose stream of the same subject this names ("subject@origin.generation")."""
    if not isinstance(stream, str) or not stream.startswith(f"{subject}@"):
        return None
    return stream.removeprefix(f"{subject}@").partition(".")[0] or None


def holders(origin: str, called: Called, incidents: Incidents, nodes: Nodes, *, now: bool = False) -> frozenset[str]:
    """The nodes that may hold what `origin` wrote of a meeting; with `now`, those that may read the private parts of what it
    writes from here on. Siblings meet at their common superior, which reads what it passes on."""
    wanted = {origin} | (called.now if now else called.ever)
    for incident in called.incidents:
        wanted |= participants(incidents(incident), nodes)
    for incident in called.lines:
        wanted |= reaching({origin}, incidents(incident).of_right(nodes)[1], nodes)
    return reaching(wanted, (), nodes)
