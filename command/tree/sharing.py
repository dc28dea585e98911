"""Who gets which stream, whole or not at all, never wider than the incident needs; and whose word counts in an incident.

Pure. It reads entries and the tree of nodes, never a table. Nobody comes to an incident by writing in it: only its reporter, its
owners, and whom an owner's entry names (decisions/0008). Invariant: what a node may hold only grows (an entry once sent can't be
taken back), and a stream travels along tree paths only, so that each node on the way may read what it relays.
"""

from collections.abc import Iterable
from typing import Protocol

from command.base.entry import Entry, Stream, Written
from command.base.schema import Level
from command.tree.claim import (
    AGREED,
    CLAIM_KINDS,
    DECISION_KINDS,
    INCIDENT,
    REPORTED,
    SEIZED,
    Claim,
    Hierarchy,
    claim_of,
    rightful,
)

TREE, REGISTRY, AUDIT, MEETING = "tree", "registry", "audit", "meeting"

PROVINCE, CITY, COUNTY, FIELD = "province", "city", "county", "field"
REACH: dict[str, tuple[str, ...]] = {
    Level.I: (PROVINCE, CITY, COUNTY),
    Level.II: (PROVINCE, CITY, COUNTY),
    Level.III: (CITY, COUNTY),
    Level.IV: (COUNTY,),
}
"""The levels of superior nodes that an incident of a level demands (Xi'an 2015 §3.6: I and II start the plans of all three)."""
PERSONAL = ("person.", "account.", "session.", "token.")
"""Kinds of `registry` whose private parts go up the line and not down: names and numbers of people."""


class Nodes(Hierarchy, Protocol):
    """The tree of nodes with their levels, and with the places that they had before."""

    def level(self, node: str) -> str:
        """One of province, city, county, field; "" for a node that isn't known."""
        ...

    def superiors(self, node: str) -> frozenset[str]:
        """Every node that stands above this one, or stood above it before somebody was moved."""
        ...


Said = tuple[str, str | None]
"""Under which claim something was said, and by whom."""


class Concerned:
    """What the entries of one incident say of whom it concerns, as far as they were added: its claims, and what was said under
    each. Whether the speaker had a right to it is asked when it is used: the claim may come later, or the place in the tree."""

    __slots__ = ("_agreed", "_claims", "_levels", "_named")

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._agreed: dict[str, str] = {}
        self._named: dict[Said, set[str]] = {}
        self._levels: dict[Said, set[str]] = {}

    def add(self, one: Written) -> bool:
        """Take in one more entry; whether it may have widened anything."""
        entry = one.entry
        if entry.kind == AGREED:
            self._agreed[one.hash.hex()] = entry.origin
            return True
        if entry.kind not in CLAIM_KINDS and entry.kind not in DECISION_KINDS and entry.claim is None:
            return False
        key = one.hash.hex()
        claim = claim_of(entry, key) if entry.kind in CLAIM_KINDS else None
        new = claim is not None and key not in self._claims
        if claim is not None:
            self._claims[key] = claim
        # Who reports or seizes speaks under its own claim, everybody else under the one that they name.
        said = entry.origin, key if entry.kind in (REPORTED, SEIZED) else entry.claim
        wider = _more(self._named, said, named(entry)) | _more(self._levels, said, levels(entry))
        return wider or new

    def of_right(self, nodes: Hierarchy) -> tuple[set[str], set[str]]:
        """The nodes that it concerns for certain: owners, and whom they named; and the levels that they gave it."""
        claims = rightful(self._claims, self._agreed, nodes)
        found = {node for claim in claims.values() for node in (claim.owner, claim.issuer)}
        reporters = {claim.owner for claim in claims.values() if claim.kind == REPORTED}
        given: set[str] = set()
        for source, target in ((self._named, found), (self._levels, given)):
            for (author, key), said in source.items():
                claim = claims.get(key or "")
                if author in reporters if key is None else claim is not None and claim.owner == author:
                    target |= said
        return found, given


def _more(known: dict[Said, set[str]], said: Said, more: set[str]) -> bool:
    if not more or more <= known.get(said, set()):
        return False
    known.setdefault(said, set()).update(more)
    return True


def concerned(entries: Iterable[Written]) -> Concerned:
    """Whom some entries of one incident concern. Verdicts take no part: what was shared once stays shared."""
    found = Concerned()
    for one in entries:
        found.add(one)
    return found


def named(entry: Entry) -> set[str]:
    """The nodes that an entry names, if its author may: a transfer's new owner, an order's node, those invited."""
    body, found = entry.body, set()
    if isinstance(node := body.get("node"), str):
        found.add(node)
    if entry.kind in CLAIM_KINDS and isinstance(to := body.get("to"), str):
        found.add(to)
    if isinstance(nodes := body.get("nodes"), list):
        found.update(one for one in nodes if isinstance(one, str))
    return found


def levels(entry: Entry) -> set[str]:
    """The level that an entry gives the incident, if its author may."""
    if entry.kind not in (REPORTED, "incident.level_set"):
        return set()
    level = entry.body.get("level")
    return {level} if isinstance(level, str) and level in REACH else set()


def participants(about: Concerned, nodes: Nodes) -> frozenset[str]:
    """The nodes that may hold an incident: those it concerns, the superiors its levels demand, and every node on the tree
    paths between them. Nobody while its report isn't held."""
    return reaching(*about.of_right(nodes), nodes)


def reaching(concerned: Iterable[str], levels: Iterable[str], nodes: Nodes) -> frozenset[str]:
    """These nodes, the superiors of each that an incident of these levels demands, and every node on the tree paths between."""
    mine = set(concerned)
    reach = {level for found in levels for level in REACH[found]}
    lines = [line for node in sorted(mine) if (line := nodes.line(node))]
    wanted = {line[-1] for line in lines}
    wanted.update(node for line in lines for node in line[:-1] if nodes.level(node) in reach)
    return frozenset(wanted | _between(sorted(wanted), nodes))


def standing(about: Concerned, nodes: Nodes) -> frozenset[str]:
    """The nodes whose word counts in an incident: those it concerns, and whoever stands or stood above one of them. (A superior
    may take the incident over at any time, so its word is no trespass; and a node that was moved has not spoken in vain.)"""
    mine, _ = about.of_right(nodes)
    return frozenset(mine.union(*(nodes.superiors(node) for node in mine)))


def _between(wanted: list[str], nodes: Nodes) -> set[str]:
    """The nodes on the paths between these: their lines below the deepest node that is common to all."""
    lines = [nodes.line(node) for node in wanted]
    if not lines:
        return set()
    common = 0
    while all(len(line) > common for line in lines) and len({line[common] for line in lines}) == 1:
        common += 1
    return {node for line in lines for node in line[max(0, common - 1) :]}


def related(nodes: Hierarchy, one: str, other: str) -> bool:
    """Whether one stands in the line of the other."""
    return one in nodes.line(other) or other in nodes.line(one)


def may_hold(stream: Stream, node: str, about: Concerned | None, nodes: Nodes) -> bool:
    """Whether `node` may hold the stream; `about` is what is known of its incident (None for other subjects)."""
    subject = stream.subject.partition("/")[0]
    if subject == AUDIT:
        return False
    if stream.origin == node:
        return True
    if subject == TREE:
        return bool(nodes.line(node))
    if subject == REGISTRY:
        return related(nodes, node, stream.origin)
    if subject == INCIDENT and about is not None:
        return node in participants(about, nodes)
    return False


def accepts(stream: Stream, peer: str, me: str, nodes: Nodes) -> bool:
    """Whether we take the stream from the peer: from a superior what it gives; from a subordinate what is ours, registries of
    our own line, incidents and meetings. (Whether an incident concerns us can't be known before all its streams are here, and
    a node that was set back has to get back even what came from above.)"""
    subject = stream.subject.partition("/")[0]
    if subject == AUDIT or not nodes.line(stream.origin):
        return False
    if subject in (TREE, INCIDENT, MEETING) or stream.origin == me or peer in nodes.line(me)[:-1]:
        return True
    return subject == REGISTRY and related(nodes, stream.origin, me)


def entitled(entry: Entry, node: str, nodes: Nodes) -> bool:
    """Whether a node that may hold the stream may read the entry's private part too: in an incident always; in the registry
    what is personal goes to superiors of the origin only."""
    if entry.subject != REGISTRY or entry.origin == node:
        return True
    return not entry.kind.startswith(PERSONAL) or node in nodes.line(entry.origin)
