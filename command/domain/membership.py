"""Membership of the tree, as people decide it: who is invited, comes in, is renamed or moved, and is revoked.

Pure. What the words of several nodes come to is folded in `standing`; this only writes what one node may say. Invariant: only
a node itself, or one that stands above it, says anything about it; and nobody comes to stand below itself.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Draft
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE as THIS
from command.base.schema import Id, Instant, Name, ShortText, SomeText, Struct, Version, fresh, need
from command.domain.heads import Heads, Hex, chunks
from command.domain.nodes import (
    NODE,
    SAID_OF_NODE,
    SUBJECT,
    NodeKind,
    NodeLevel,
    TreeNode,
    above,
    line,
    may_place,
    node_id,
)
from command.domain.registry import ORGANISATION

INVITATION_US = 24 * 3600 * 1_000_000
INVITATIONS_MAX = 100


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
    if row is not None and row.admitted_at is not None and not may_place(rows, context.node, key):
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


TABLES = (INVITATION,)
DECIDERS = {
    InviteNode: decide_invite,
    AdmitNode: decide_admit,
    JoinTree: decide_join,
    EditNode: decide_edit,
    RevokeNode: decide_revoke,
}
