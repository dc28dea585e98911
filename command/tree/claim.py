"""Claims: who owns an incident, as a function of the entries held and of nothing else.

Pure; the heart of `tenure`. A claim begins a term of ownership; claims form a tree; at a fork the claim issued by the node
higher in the tree of nodes wins. The first claim is the report, and who may make it stands in the incident's id. No clock and no
order of arrival takes part. Invariant: two nodes that hold the same entries and know the same tree of nodes find the same
winning chain.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from command.base.entry import Entry, Written

REPORTED, TRANSFERRED, SEIZED, AGREED = (
    "incident.reported",
    "ownership.transferred",
    "ownership.seized",
    "ownership.agreed",
)
CLAIM_KINDS = frozenset({REPORTED, TRANSFERRED, SEIZED})
ADOPTED = "order.adopted"
DECISION_KINDS = frozenset(
    {
        "incident.edited",
        "incident.stepped",
        "incident.level_set",
        "incident.sub_report",
        "incident.invited",
        "order.issued",
        "order.amended",
        "order.cancelled",
        "order.overdue",
        "order.late",
        "order.rung",
        "order.undecided",
        "order.recalled",
        ADOPTED,
        "plan.requested",
        "plan.approved",
        "plan.refused",
        "alarm.acknowledged",
        "report.due",
        "report.soon",
        "report.overdue",
    }
)
"""Entries that only the owner may write with effect; everything else in an incident is a contribution."""


INCIDENT = "incident"


def incident_id(moment: str, node: str) -> str:
    """The id of an incident that `node` reports: `moment` (unique, sorts by time, no hyphen), a hyphen, and the node's id.

    A node's id is a function of its public key, so everybody who sees an incident's id knows whose report it is (decisions/0007).
    """
    return f"{moment}-{node}"


def reporter(subject: str) -> str:
    """The one node that can report the incident whose streams have this subject; "" when it is no incident's or names none."""
    kind, _, key = subject.partition("/")
    return key.partition("-")[2] if kind == INCIDENT else ""


def reports(entry: Entry) -> bool:
    """Whether an entry is the report of its incident, by the node that the incident's id names."""
    return entry.kind == REPORTED and entry.origin == reporter(entry.subject)


class Hierarchy(Protocol):
    """The tree of nodes."""

    def line(self, node: str) -> tuple[str, ...]:
        """The node and its superiors, the root first; empty for a node that isn't known."""
        ...


def superior(hierarchy: Hierarchy, node: str, to: str) -> bool:
    """Whether `node` stands above `to`."""
    return node in hierarchy.line(to)[:-1]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One claim. `id` is the entry's hash in hex; `base` {"origin.generation": [(length, head), ...]} of the streams of
    the owner before, usually one head each; `depth` its distance from the root claim."""

    id: str
    kind: str
    owner: str
    issuer: str
    generation: str
    seq: int
    predecessor: str | None = None
    base: dict[str, list[tuple[int, str]]] = {}
    agreed: str | None = None
    depth: int = 0

    @property
    def stream(self) -> str:
        return f"{self.issuer}.{self.generation}"


def claim_of(entry: Entry, key: str) -> Claim | None:
    """The claim in an entry whose hash is `key`; None when it isn't one, is malformed, or reports what is another's to report."""
    if entry.kind not in CLAIM_KINDS:
        return None
    common: dict[str, Any] = {
        "id": key,
        "kind": entry.kind,
        "issuer": entry.origin,
        "generation": entry.generation,
        "seq": entry.seq,
    }
    if entry.kind == REPORTED:
        return Claim(owner=entry.origin, **common) if reports(entry) else None
    base, to, agreed = entry.body.get("base"), entry.body.get("to"), entry.body.get("agreed")
    if entry.claim is None or not isinstance(base, dict):
        return None
    try:
        heads = msgspec.convert(base, dict[str, list[tuple[int, str]]])
    except msgspec.ValidationError:
        return None
    if entry.kind == SEIZED:
        return Claim(owner=entry.origin, predecessor=entry.claim, base=heads, **common)
    if not isinstance(to, str) or not isinstance(agreed, str):
        return None
    return Claim(owner=to, predecessor=entry.claim, base=heads, agreed=agreed, **common)


def valid(claim: Claim, before: Claim, agreed: Mapping[str, str], hierarchy: Hierarchy) -> bool:
    """Whether its issuer had the right to it: the owner, with the agreement of the new one; or a superior of the owner.

    `agreed` says by hash who agreed in which entry."""
    if claim.kind == SEIZED:
        return superior(hierarchy, claim.issuer, before.owner)
    willing = claim.agreed is not None and agreed.get(claim.agreed) == claim.owner
    return claim.kind == TRANSFERRED and claim.issuer == before.owner and willing


def rightful(claims: Mapping[str, Claim], agreed: Mapping[str, str], hierarchy: Hierarchy) -> dict[str, Claim]:
    """The claims to which an unbroken line of rights leads from the report, whether they win or lose."""
    after: dict[str | None, list[Claim]] = {}
    for claim in claims.values():
        after.setdefault(claim.predecessor, []).append(claim)
    found = {claim.id: claim for claim in after.get(None, ())}
    waiting = list(found.values())
    while waiting:
        before = waiting.pop()
        for claim in after.get(before.id, ()):
            if valid(claim, before, agreed, hierarchy):
                found[claim.id] = claim
                waiting.append(claim)
    return found


class Generations:
    """Which generation of a node came before which: said by the first entry of each stream, in its `seen`."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._before: set[tuple[str, str]] = set()
        for entry in entries:
            if entry.seq == 1:
                here = f"{entry.origin}.{entry.generation}"
                before = [key for key in entry.seen if key != here and key.startswith(entry.origin + ".")]
                self._before.update((key, here) for key in before)

    def before(self, one: str, other: str) -> bool:
        """Whether "origin.generation" `one` is earlier than `other` (of the same origin) for certain."""
        return (one, other) in self._before and (other, one) not in self._before


class Claims:
    """All claims among some entries of one incident, and the chain that wins.

    `chain` goes from the root to the claim that holds now; `rightful` are those to which somebody had a right, whether they won;
    `contested` says that some claim lost or was void, so that news
    of the tree of nodes may change the outcome.
    """

    def __init__(self, written: Iterable[Written], hierarchy: Hierarchy, generations: Generations) -> None:
        self._hierarchy, self._generations = hierarchy, generations
        self.all: dict[str, Claim] = {}
        self._agreed: dict[str, str] = {}
        self._depths: dict[str, int] = {}
        for one in written:
            key = one.hash.hex()
            claim = claim_of(one.entry, key)
            if claim is not None:
                self.all[key] = claim
            elif one.entry.kind == AGREED:
                self._agreed[key] = one.entry.origin
        self._children: dict[str | None, list[Claim]] = {}
        for key in sorted(self.all):
            self._children.setdefault(self.all[key].predecessor, []).append(self.all[key])
        self.chain = self._win()
        self.rightful = rightful(self.all, self._agreed, hierarchy)
        self.contested = len(self.chain) != len(self.all)
        self.successors: dict[str, Claim] = {
            one.id: after for one, after in zip(self.chain, self.chain[1:], strict=False)
        }
        self._place = {claim.id: claim for claim in self.chain}

    @property
    def owner(self) -> str | None:
        """Who owns the incident; None while no report of it is held."""
        return self.chain[-1].owner if self.chain else None

    @property
    def root(self) -> str | None:
        return self.chain[0].id if self.chain else None

    def winning(self, key: str) -> Claim | None:
        """The claim, if it is on the winning chain."""
        return self._place.get(key)

    def depth(self, key: str | None) -> int:
        """How far from the root a claim stands, winning or not; 0 when it isn't known."""
        path: list[str] = []
        while key in self.all and key not in self._depths and key not in path:
            path.append(key)
            key = self.all[key].predecessor
        depth = self._depths.get(key or "", 0)
        for one in reversed(path):
            depth += 1
            self._depths[one] = depth
        return depth if not path else self._depths[path[0]]

    def _win(self) -> list[Claim]:
        chain: list[Claim] = []
        rivals = self._children.get(None, [])
        while rivals:
            won = self.best(rivals)
            chain.append(msgspec.structs.replace(won, depth=len(chain)))
            rivals = [one for one in self._children.get(won.id, ()) if valid(one, won, self._agreed, self._hierarchy)]
        return chain

    def best(self, rivals: list[Claim]) -> Claim:
        """The one that wins: issued higher in the tree; by the earlier generation; then the earlier, then the smaller hash."""
        height = min(self._height(one) for one in rivals)
        level = [one for one in rivals if self._height(one) == height]
        streams = {one.stream for one in level}
        beaten = {one for one in streams if any(self._generations.before(other, one) for other in streams)}
        first = [one for one in level if one.stream not in beaten]
        return min(first or level, key=lambda one: (one.seq, one.id))

    def _height(self, claim: Claim) -> int:
        return len(self._hierarchy.line(claim.issuer)) or 1_000


class Verdict(StrEnum):
    """What an entry counts for. EFFECTIVE and ADOPTED entries are folded; the others are kept and shown, without effect.
    UNCLAIMED: a decision of somebody who did not own the incident, or a report of another's; STRANGER: the word of a node that
    was neither given the incident nor stands above one that was."""

    EFFECTIVE = "effective"
    ADOPTED = "adopted"
    LATE = "late"
    UNCLAIMED = "unclaimed"
    STRANGER = "stranger"
    REVOKED = "revoked"

    @property
    def counts(self) -> bool:
        return self in (Verdict.EFFECTIVE, Verdict.ADOPTED)


Cuts = Mapping[str, Mapping[str, list[tuple[int, str]]]]
"""Revocations: {node: {stream name: [(length, head in hex), ...]}}; a stream that isn't named was cut at its start."""
