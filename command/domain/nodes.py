"""The nodes of the tree: who they are, where they stand, and which of them answers for an organisation.

Pure. It knows keys and places, never links (`uplink`) and never who owns an incident (`ownership`). Invariant: a node's id
is a function of its public key, so whoever states the key can't lie about it; a node's place is stated by the node above
it, or by one further up.
"""

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import NODE as THIS
from command.base.schema import Id, Instant, Name, ShortText, SomeText, Struct, Version, fresh, need
from command.domain.registry import ORGANISATION

SUBJECT = "tree"
"""The streams that every node of the tree gets: keys, places and revocations must be known even to cousins."""
LINE_MAX = 16
"""Nodes from the root down."""
REVIEWS_MAX = 1_000
"""Nodes that are looked at anew because one was revoked."""
SUPERIORS_MAX = 64
FORMERLY_MAX = ADMISSIONS_MAX = 16
"""Places of a node before the present one that are remembered."""
SAID_OF_NODE = ("name", "kind", "level", "organisation", "parent")
"""What `node.edited` may change: never who a node is, its key, or whether it was revoked."""
INVITATION_US = 24 * 3600 * 1_000_000
INVITATIONS_MAX = 100
STREAMS_MAX = 100_000
HEADS_OF_ENTRY = 800
"""Stream heads that one entry names: well below the limit of its size."""
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
At = Annotated[str, Meta(max_length=300)]
Heads = Annotated[dict[At, tuple[Annotated[int, Meta(ge=0, le=2**53)], Hex]], Meta(max_length=STREAMS_MAX)]


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


class Revocation(Row, frozen=True, kw_only=True):
    """What `by` said of a node in the entry at `place`; it counts once `by` is known to stand above it, unless that entry is
    beyond what is good of `by` itself. Several together may revoke one node."""

    node: Id
    by: Id
    heads: dict[str, tuple[int, str]]
    reason: ShortText = ""
    at: Instant
    place: str = ""


REVOCATION = Table(name="revocation", row=Revocation, index=("node",))


class Home(Row, frozen=True, kw_only=True):
    """Which other node wrote a row of the registry (`id` is "kind/ID"); rows without one are this node's own."""

    node: Id


HOME = Table(name="home", row=Home, index=("node",))


class Invitation(Row, frozen=True, kw_only=True):
    """A code read over the telephone, good for one node and 24 h. `code` is the secret: kept here, never in an entry.

    `used_by` is the public key that used it: it is kept until it expires, because the answer may be lost on a bad radio."""

    code: str
    name: Name
    kind: NodeKind
    level: NodeLevel
    organisation: Id | None = None
    expires_at: Instant
    used_by: ShortText = ""


INVITATION = Table(name="invitation", row=Invitation, index=("expires_at",), kept=True)


class InviteNode(Struct, frozen=True, kw_only=True):
    """The edge makes the `code` (20 base32 characters). A repeated request with another code is the same request."""

    undigested = ("code",)

    name: Name
    kind: NodeKind
    level: NodeLevel
    organisation: Id | None = None
    code: Annotated[str, Meta(pattern=r"^[A-Z2-7]{20}(?!\n)$")]


class AdmitNode(Struct, frozen=True, kw_only=True):
    """Somebody proved that they know the code and the key. Sent by the node itself, once the proof was checked."""

    invitation: Id
    public_key: Hex


class JoinTree(Struct, frozen=True, kw_only=True):
    """This node was admitted by `parent`. Sent by the node itself, once the parent's proof was checked."""

    public_key: Hex
    name: Name
    kind: NodeKind = NodeKind.FIXED
    level: NodeLevel = NodeLevel.CITY
    organisation: Id | None = None


class EditNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Name, kind, level, seat, and place in the tree. Fields left out stay."""

    id: Id
    version: Version
    name: Name | UnsetType = UNSET
    kind: NodeKind | UnsetType = UNSET
    level: NodeLevel | UnsetType = UNSET
    organisation: Id | UnsetType | None = UNSET
    parent: Id | UnsetType = UNSET


class RevokeNode(Struct, frozen=True, kw_only=True):
    """`heads` are the length and head hash of each of its streams that is held here; the edge fills them in."""

    undigested = ("heads",)

    id: Id
    version: Version
    reason: SomeText
    heads: Heads = {}


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


def chunks(heads: Mapping[str, tuple[int, str]]) -> list[dict[str, list[int | str]]]:
    """Heads of streams in pieces that fit an entry; one empty piece when there are none."""
    items = sorted(heads.items())
    pieces = [items[at : at + HEADS_OF_ENTRY] for at in range(0, len(items), HEADS_OF_ENTRY)] or [[]]
    return [{stream: [length, head] for stream, (length, head) in piece} for piece in pieces]


def decide_invite(rows: Rows, request: InviteNode, context: Context) -> Decision:
    context.allow("node.edit", THIS)
    if request.organisation is not None:
        need(rows, ORGANISATION, request.organisation)
    old = [row for row in rows.where(INVITATION) if row.expires_at <= context.now]
    if len(rows.where(INVITATION)) - len(old) >= INVITATIONS_MAX:
        raise Conflict("node.invitations", f"At most {INVITATIONS_MAX} invitations wait at a time; let some expire.")
    key = context.new_id()
    row = Invitation(
        id=key,
        code=request.code,
        name=request.name,
        kind=request.kind,
        level=request.level,
        organisation=request.organisation,
        expires_at=context.now + INVITATION_US,
    )
    body = {"invitation": key, "kind": request.kind, "level": request.level, "organisation": request.organisation}
    draft = Draft(subject=SUBJECT, kind="node.invited", body=body, private={"name": request.name})
    dropped: list[tuple[Table[Any], str]] = [(INVITATION, one.id) for one in old]
    return Decision(drafts=[draft], id=key, kept=[(INVITATION, row)], dropped=dropped)


def decide_admit(rows: Rows, request: AdmitNode, context: Context) -> Decision:
    context.allow("node.edit", THIS)
    invitation = need(rows, INVITATION, request.invitation)
    key = node_id(request.public_key)
    if invitation.expires_at <= context.now:
        raise Conflict("node.invitation_expired", "The invitation is older than 24 h; make a new one.")
    if invitation.used_by == request.public_key:
        return Decision(id=key)
    if invitation.used_by:
        raise Conflict("node.invitation_used", "Another node has used this invitation; make a new one.")
    if key == context.node or key in line(rows, context.node):
        raise Conflict("node.cycle", "A node can't be admitted by one below it.")
    row = rows.get(NODE, key)
    if row is not None and row.revoked is not None:
        raise Conflict("node.revoked", "This node was revoked; it must come back with a new key.")
    if row is not None and row.admitted_at is not None and not _may(rows, context.node, key):
        raise Conflict(
            "node.joined", "This node stands in the tree already; its superior can move it.", node=row.parent
        )
    # One that comes back with its old key (its disk was lost) keeps its seat, unless the invitation names another.
    seat = row.organisation if row is not None and invitation.organisation is None else invitation.organisation
    body = {
        "node": key,
        "public_key": request.public_key,
        "kind": invitation.kind,
        "level": invitation.level,
        "organisation": seat,
        "parent": context.node,
        "name": invitation.name,
    }
    draft = Draft(subject=SUBJECT, kind="node.admitted", body=body)
    used = replace(invitation, used_by=request.public_key, version=invitation.version + 1)
    return Decision(drafts=[draft], id=key, kept=[(INVITATION, used)])


def decide_join(rows: Rows, request: JoinTree, context: Context) -> Decision:
    context.allow("node.edit", THIS)
    parent = node_id(request.public_key)
    if parent == context.node or context.node in line(rows, parent):
        raise Conflict("node.cycle", "A node can't join one below it.")
    row = rows.get(NODE, context.node)
    if row is not None and row.admitted_at is not None and row.parent != parent:
        raise Conflict("node.joined", "This node stands in the tree already; its superior can move it.")
    body = {
        "node": context.node,
        "parent": parent,
        "public_key": request.public_key,
        "name": request.name,
        "kind": request.kind,
        "level": request.level,
        "organisation": request.organisation,
    }
    return Decision(drafts=[Draft(subject=SUBJECT, kind="node.joined", body=body)], id=parent)


def decide_edit(rows: Rows, request: EditNode, context: Context) -> Decision:
    context.allow("node.edit", THIS)
    row = need(rows, NODE, request.id)
    fresh(row, request.version, request)
    _governs(rows, row, context)
    changes = {name: getattr(request, name) for name in SAID_OF_NODE}
    body = {name: value for name, value in changes.items() if value is not UNSET}
    if body.get("organisation") is not None:
        need(rows, ORGANISATION, body["organisation"])
    if "parent" in body:
        if body["parent"] != context.node and not above(rows, context.node, need(rows, NODE, body["parent"]).id):
            raise Conflict("node.elsewhere", "A node can only be moved to a place below this one.", node=body["parent"])
        if row.id in line(rows, body["parent"]):
            raise Conflict("node.cycle", "A node can't stand below itself.")
    if not body:
        return Decision(id=row.id)
    return Decision(drafts=[Draft(subject=SUBJECT, kind="node.edited", body={"node": row.id, **body})], id=row.id)


def decide_revoke(rows: Rows, request: RevokeNode, context: Context) -> Decision:
    context.allow("node.edit", THIS)
    row = need(rows, NODE, request.id)
    fresh(row, request.version, request)
    if row.id == context.node:
        raise Conflict("node.self", "A node can't revoke itself; its superior can.")
    _governs(rows, row, context)
    if row.revoked is not None:
        return Decision(id=row.id)
    drafts = [
        Draft(
            subject=SUBJECT,
            kind="node.revoked",
            body={"node": row.id, "heads": heads},
            private={"reason": request.reason},
        )
        for heads in chunks(request.heads)
    ]
    return Decision(drafts=drafts, id=row.id)


def _governs(rows: Rows, row: TreeNode, context: Context) -> None:
    if row.id != context.node and not above(rows, context.node, row.id):
        raise Conflict("node.elsewhere", "Only a node above this one may change it.", node=row.parent)


# -- folding


def _may(rows: Rows, origin: str, node: str) -> bool:
    """Whether what `origin` says of the place of `node` counts: itself while nobody placed it, else who stands above it."""
    row = rows.get(NODE, node)
    return row is None or row.parent is None or above(rows, origin, node)


def _place(written: Written) -> str:
    return f"{written.entry.stream} {written.entry.seq} {written.hash.hex()}"


def _beyond(rows: Rows, place: str) -> bool:
    """Whether the entry at a place ("stream seq hash") lies beyond what is good of a revoked node. (Of a stream that forked, what
    is no longer than a named head counts: which branch it stands on is not asked.)"""
    stream, _, rest = place.partition(" ")
    row = rows.get(NODE, stream.partition("@")[2].partition(".")[0])
    if row is None or row.revoked is None:
        return False
    seq = int(rest.partition(" ")[0])
    return not any(seq < length or place.endswith(f" {length} {hash}") for length, hash in row.revoked.get(stream, ()))


def _opened(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    generation = Generation(
        id=f"{entry.origin}.{entry.generation}",
        node=entry.origin,
        previous=body.get("previous"),
        after={stream: (at[0], at[1]) for stream, at in body.get("after", {}).items()},
        opened_at=entry.at,
    )
    rows.put(GENERATION, generation)
    _known(rows, entry.origin, body.get("public_key", ""))


def _continued(rows: Editing, written: Written) -> None:
    row = rows.get(GENERATION, f"{written.entry.origin}.{written.entry.generation}")
    if row is not None:
        more = {stream: (at[0], at[1]) for stream, at in written.entry.body["after"].items()}
        rows.put(GENERATION, replace(row, after=row.after | more))


def _known(rows: Editing, node: str, public_key: str) -> TreeNode | None:
    """The node's row with its key; None when the key isn't its own."""
    row = rows.get(NODE, node)
    if node_id(public_key) != node:
        return None
    if row is None or not row.public_key:
        row = (
            replace(row, public_key=public_key)
            if row is not None
            else TreeNode(id=node, name=node, public_key=public_key)
        )
        rows.put(NODE, row)
    return row


def _placed(rows: Editing, written: Written) -> None:
    """`node.admitted`: the superior's word; `node.joined`: the node's own, for its own tables until the other arrives."""
    entry, body = written.entry, written.entry.body
    joined = entry.kind == "node.joined"
    if joined and (entry.origin != body["node"] or _known(rows, body["parent"], body["public_key"]) is None):
        return
    if not joined and (body["parent"] != entry.origin or _known(rows, body["node"], body["public_key"]) is None):
        return
    row = rows.get(NODE, body["node"])
    if row is not None and row.admissions and _beyond(rows, _place(written)):
        return
    if row is None or (joined and row.admitted_at is not None) or body["node"] in line(rows, body["parent"]):
        return
    if not (joined or _may(rows, entry.origin, body["node"]) or row.admitted_at is None):
        return
    rows.put(
        NODE,
        replace(
            row,
            version=row.version + 1,
            name=body["name"],
            kind=NodeKind(body["kind"]),
            level=NodeLevel(body["level"]),
            organisation=body["organisation"],
            parent=body["parent"],
            formerly=_formerly(row, body["parent"]),
            admitted_at=row.admitted_at if joined else entry.at,
            admissions=row.admissions if joined else [*row.admissions[: ADMISSIONS_MAX - 1], _place(written)],
        ),
    )
    _review_all(rows)
    _review(rows, row.id)


def _formerly(row: TreeNode, parent: str | None) -> list[str]:
    """The former parents of a node that gets this one."""
    if row.parent is None or row.parent == parent:
        return row.formerly
    return [*(one for one in row.formerly if one != row.parent), row.parent][-FORMERLY_MAX:]


def _edited(rows: Editing, written: Written) -> None:
    origin = written.entry.origin
    row = rows.get(NODE, written.entry.body["node"])
    body = {name: value for name, value in written.entry.body.items() if name in SAID_OF_NODE}
    if row is None or (origin != row.id and not above(rows, origin, row.id)) or _beyond(rows, _place(written)):
        return
    if origin == row.id and row.parent is not None:
        body = {name: value for name, value in body.items() if name == "name"}  # its place is not its own to say
    if body.get("parent") is not None and row.id in line(rows, body["parent"]):
        return
    more = {"version": row.version + 1, "formerly": _formerly(row, body.get("parent", row.parent))}
    rows.put(NODE, msgspec.convert(msgspec.to_builtins(row) | body | more, TreeNode))
    if "parent" in body:
        _review_all(rows)


def _revoked(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    row = Revocation(
        id=written.hash.hex(),
        node=body["node"],
        by=entry.origin,
        heads={stream: (at[0], at[1]) for stream, at in body["heads"].items()},
        reason=written.secrets.get("reason", "")[:200],
        at=entry.at,
        place=_place(written),
    )
    rows.put(REVOCATION, row)
    _review(rows, row.node)


def _review_all(rows: Editing) -> None:
    """Places changed: whose word counts may have changed with them."""
    for node in sorted({row.node for row in rows.where(REVOCATION)}):
        _review(rows, node)


def _review(rows: Editing, node: str) -> None:
    """Look again at what is good of a node, and then of those of whom it said something, as long as anything changes (which
    ends by itself, unless nodes have revoked each other in a circle)."""
    waiting, left = [node], REVIEWS_MAX
    while waiting and left:
        left -= 1
        waiting += _reviewed(rows, waiting.pop(0))


def _reviewed(rows: Editing, node: str) -> list[str]:
    """What is before any head that one of the counting revocations names is good; nothing of a node whose admission isn't. The
    nodes to look at next."""
    row = rows.get(NODE, node)
    if row is None:
        return []
    heads: dict[str, list[tuple[int, str]]] = {}
    said = rows.where(REVOCATION, node=node)
    counting = [one for one in said if above(rows, one.by, node) and not _beyond(rows, one.place)]
    void = row.admissions != [] and all(_beyond(rows, one) for one in row.admissions)
    for one in counting:
        for stream, at in one.heads.items():
            known = heads.setdefault(stream, [])
            if at not in known:
                known.append(at)
    changed = replace(
        row,
        revoked={} if void else {stream: sorted(at) for stream, at in heads.items()} if counting else None,
        revoked_at=min((one.at for one in counting), default=None),
        reason=next((one.reason for one in counting if one.reason), ""),
    )
    if changed == row:
        return []
    rows.put(NODE, replace(changed, version=row.version + 1))
    # What it said of others may count no longer, or again: whom it admitted, whom it revoked.
    mine = f"{SUBJECT}@{node}."
    others = {one.id for one in rows.where(NODE) if any(place.startswith(mine) for place in one.admissions)}
    others |= {one.node for one in rows.where(REVOCATION) if one.by == node}
    return sorted(others - {node})


TABLES = (NODE, GENERATION, REVOCATION, HOME, INVITATION)
PROJECTORS = {
    "generation.opened": _opened,
    "generation.continued": _continued,
    "node.admitted": _placed,
    "node.joined": _placed,
    "node.edited": _edited,
    "node.revoked": _revoked,
}
DECIDERS = {
    InviteNode: decide_invite,
    AdmitNode: decide_admit,
    JoinTree: decide_join,
    EditNode: decide_edit,
    RevokeNode: decide_revoke,
}
