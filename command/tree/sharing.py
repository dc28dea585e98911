"""Who gets which stream: whole or not at all, never wider than the incident needs.

Pure. It reads entries and the tree of nodes, never a table. Invariant: what a node may hold only grows (an entry once sent
can't be taken back), and a stream travels along tree paths only, so that each node on the way may read what it relays.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from command.base.entry import Entry, Stream
from command.base.schema import Level
from command.tree.claim import Hierarchy

TREE, REGISTRY, AUDIT, INCIDENT, MEETING = "tree", "registry", "audit", "incident", "meeting"

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
    """The tree of nodes with their levels."""

    def level(self, node: str) -> str:
        """One of province, city, county, field; "" for a node that isn't known."""
        ...


class Concerned(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an incident concerns, as its entries say: nodes that wrote in it or are named, and the levels it ever had."""

    nodes: frozenset[str] = frozenset()
    levels: frozenset[str] = frozenset()

    def add(self, entry: Entry) -> "Concerned":
        """With one entry more; the same object when it adds nothing."""
        nodes, level = _named(entry), _level(entry)
        if nodes <= self.nodes and (level is None or level in self.levels):
            return self
        return Concerned(nodes=self.nodes | nodes, levels=self.levels | ({level} if level else set()))


def concerned(entries: Iterable[Entry]) -> Concerned:
    """Whom some entries of one incident concern. Verdicts take no part: what was shared once stays shared."""
    found = Concerned()
    for entry in entries:
        found = found.add(entry)
    return found


def _named(entry: Entry) -> frozenset[str]:
    body, found = entry.body, {entry.origin}
    if isinstance(node := body.get("node"), str):
        found.add(node)
    if entry.kind.startswith("ownership.") and isinstance(to := body.get("to"), str):
        found.add(to)
    if isinstance(nodes := body.get("nodes"), list):
        found.update(one for one in nodes if isinstance(one, str))
    return frozenset(found)


def _level(entry: Entry) -> str | None:
    if entry.kind not in ("incident.reported", "incident.level_set"):
        return None
    level = entry.body.get("level")
    return level if isinstance(level, str) and level in REACH else None


def participants(about: Concerned, nodes: Nodes) -> frozenset[str]:
    """The nodes that may hold an incident: those it concerns, the superiors its levels demand, and every node on the tree
    paths between them."""
    reach = {level for found in about.levels for level in REACH[found]}
    lines = [line for node in sorted(about.nodes) if (line := nodes.line(node))]
    wanted = {line[-1] for line in lines}
    wanted.update(node for line in lines for node in line[:-1] if nodes.level(node) in reach)
    return frozenset(wanted | _between(sorted(wanted), nodes))


def _between(wanted: list[str], nodes: Nodes) -> set[str]:
    """The nodes on the paths between these: their lines below the deepest node that is common to all."""
    lines = [nodes.line(node) for node in wanted]
    if not lines:
        return set()
    common = 0
    while all(len(line) > common for line in lines) and len({line[common] for line in lines}) == 1:
        common += 1
    return {node for line in lines for node in line[max(0, common - 1) :]}


def related(nodes: Nodes, one: str, other: str) -> bool:
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
