"""Standing: what the words of several nodes about each other come to, folded: keys, places, and what is good of a revoked one.

Pure. It folds and never refuses: a word that doesn't count changes nothing. Invariant: where a node
stands is the word of whoever stands above it, or its own while nobody has placed it; no word counts that lies beyond what is good
of its writer; when places change, every revocation is looked at anew.
"""

import msgspec
from msgspec.structs import replace

from command.base.entry import Written
from command.base.projection import Editing, Row, Rows, Table
from command.base.schema import Id, Instant, ShortText
from command.domain.nodes import (
    GENERATION,
    NODE,
    SAID_OF_NODE,
    SUBJECT,
    Generation,
    NodeKind,
    NodeLevel,
    TreeNode,
    above,
    line,
    may_place,
    node_id,
)

REVIEWS_MAX = 1_000
"""Nodes that are looked at anew because one was revoked."""
FORMERLY_MAX = ADMISSIONS_MAX = 16
"""Places of a node before the present one that are remembered."""


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
    if not (joined or may_place(rows, entry.origin, body["node"]) or row.admitted_at is None):
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


TABLES = (REVOCATION,)
PROJECTORS = {
    "generation.opened": _opened,
    "generation.continued": _continued,
    "node.admitted": _placed,
    "node.joined": _placed,
    "node.edited": _edited,
    "node.revoked": _revoked,
}
