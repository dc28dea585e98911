"""The nodes of the tree: who they are, where they stand, and which of them answers for an organisation.

Pure. It knows keys and places, never links (`uplink`) and never who owns an incident (`tenure`). Invariant: a node's id
is a function of its public key, so whoever states the key can't lie about it; a node's place is stated by the node above
it, or by one further up.
"""

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum

from command.base.projection import Row, Rows, Table
from command.base.schema import Id, Instant, Name, ShortText
from command.domain.registry import ORGANISATION

SUBJECT = "tree"
"""The streams that every node of the tree gets: keys, places and revocations must be known even to cousins."""
LINE_MAX = 16
"""Nodes from the root down."""
SUPERIORS_MAX = 64
SAID_OF_NODE = ("name", "kind", "level", "organisation", "parent")
"""What `node.edited` may change: never who a node is, its key, or whether it was revoked."""


class NodeKind(StrEnum):
    """Command centre, vehicle, field post."""

    FIXED = "fixed"
    MOBILE = "mobile"
    ON_SITE = "on_site"


class NodeLevel(StrEnum):
    PROVINCE = "province"
    CITY = "city"
    COUNTY = "county"
    FIELD = "field"


class TreeNode(Row, frozen=True, kw_only=True):
    """One server of the tree. `public_key` raw Ed25519 in hex; `parent` None for the root and for one that nobody admitted;
    `organisation` its seat; `formerly` the nodes that were its parent before it was moved; `revoked` None or
    {stream: [[length, head hash], ...]}: what follows none of them has no effect. `admissions` are the entries by which it was
    admitted ("stream seq hash"): if none has an effect, the node is as one that was revoked before it wrote anything."""

    name: Name
    public_key: str = ""
    kind: NodeKind = NodeKind.FIXED
    level: NodeLevel = NodeLevel.COUNTY
    organisation: Id | None = None
    parent: Id | None = None
    formerly: list[Id] = []
    admitted_at: Instant | None = None
    admissions: list[str] = []
    revoked: dict[str, list[tuple[int, str]]] | None = None
    revoked_at: Instant | None = None
    reason: ShortText = ""


NODE = Table(name="node", row=TreeNode, index=("parent", "organisation"), topics=lambda row: ("tree",))


class Generation(Row, frozen=True, kw_only=True):
    """A generation that a node opened; `after` {stream: [length, head hash]} is where it goes on from."""

    node: Id
    previous: str | None = None
    after: dict[str, tuple[int, str]] = {}
    opened_at: Instant


GENERATION = Table(name="generation", row=Generation, index=("node",))


class Home(Row, frozen=True, kw_only=True):
    """Which other node wrote a row of the registry (`id` is "kind/ID"); rows without one are this node's own."""

    node: Id


HOME = Table(name="home", row=Home, index=("node",))


def node_id(public_key: str) -> str:
    """The id that belongs to a raw public key in hex; "" when it is none."""
    try:
        raw = bytes.fromhex(public_key)
    except ValueError:
        return ""
    return "n" + hashlib.sha256(raw).hexdigest()[:20] if len(raw) == 32 else ""


def line(rows: Rows, node: str) -> list[str]:
    """A node and everything above it, root first. Never loops, whatever the rows say."""
    found = [node]
    while len(found) < LINE_MAX:
        row = rows.get(NODE, found[-1])
        if row is None or row.parent is None or row.parent in found:
            break
        found.append(row.parent)
    return found[::-1]


def above(rows: Rows, superior: str, node: str) -> bool:
    """Whether `superior` stands above `node` (not: is it)."""
    return superior != node and superior in line(rows, node)


def ever_above(rows: Rows, superior: str, node: str) -> bool:
    """Whether `superior` stands above `node`, or stood there before somebody was moved: what it said then stays said."""
    return superior in _superiors(lambda key: rows.get(NODE, key), node)


def _superiors(known: Callable[[str], TreeNode | None], node: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = [node]
    while waiting and len(found) < SUPERIORS_MAX:
        row = known(waiting.pop())
        above = () if row is None else (*([row.parent] if row.parent else ()), *row.formerly)
        new = [one for one in above if one not in found and one != node]
        found.update(new)
        waiting += new
    return frozenset(found)


class Hierarchy:
    """`sharing.Nodes` over the rows of the nodes. `rows` may grow under it."""

    def __init__(self, rows: Mapping[str, TreeNode]) -> None:
        self._rows = rows

    def line(self, node: str) -> tuple[str, ...]:
        """The node and its superiors, the root first; empty for a node that isn't known."""
        found: list[str] = []
        at: str | None = node
        while at is not None and at in self._rows and at not in found and len(found) < LINE_MAX:
            found.append(at)
            at = self._rows[at].parent
        return tuple(reversed(found))

    def level(self, node: str) -> str:
        """One of province, city, county, field; "" for a node that isn't known."""
        row = self._rows.get(node)
        return "" if row is None else row.level.value

    def superiors(self, node: str) -> frozenset[str]:
        """Every node that stands above this one, or stood above it before somebody was moved."""
        return _superiors(self._rows.get, node)


def node_of(rows: Rows, organisation: str, here: str) -> str:
    """The node that answers for an organisation: the nearest ancestor's seat, fixed ones first; `here` when nobody's is."""
    row = rows.get(ORGANISATION, organisation)
    for key in reversed(row.line if row is not None and row.line else [organisation]):
        seats = [one for one in rows.where(NODE, organisation=key) if one.revoked is None]
        if seats:
            return min(seats, key=lambda one: (one.kind is not NodeKind.FIXED, one.id != here, one.id)).id
    return here


def may_place(rows: Rows, origin: str, node: str) -> bool:
    """Whether what `origin` says of the place of `node` counts: itself while nobody placed it, else who stands above it."""
    row = rows.get(NODE, node)
    return row is None or row.parent is None or above(rows, origin, node)


TABLES = (NODE, GENERATION, HOME)
