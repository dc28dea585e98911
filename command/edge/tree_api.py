"""The edge of the tree: the nodes, who owns an incident, and what to do with orders that were given too late.

Edge. Holds no rule of the domain. Pairing and the state of links have an edge of their own. Invariant: a node's private
matters (invitations) are shown to nobody here.
"""

from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from command.base.errors import Missing
from command.base.projection import Row
from command.base.rights import NODE as THIS
from command.base.rights import Scope
from command.base.schema import Id, SomeText, Struct, Value, Version
from command.domain.asking import AnswerAsk, AskOwner
from command.domain.handover import AnswerTransfer, InviteToIncident, OfferOwnership, RequestOwnership, SeizeIncident
from command.domain.incident import INCIDENT
from command.domain.membership import EditNode, RevokeNode
from command.domain.nodes import NODE, TreeNode
from command.domain.order import AdoptOrder, RecallOrder
from command.domain.presence import PRESENCE
from command.edge.api import Call, Route, append, command_route
from command.edge.live import Topic, Visible
from command.log.audience import Audience, NodeTree
from command.log.store import STREAM, Store
from command.log.timeline import position_of
from command.log.witness import stream_heads
from command.log.writer import Receipt


class NodePage(Value, frozen=True, kw_only=True):
    """Every node that is known here; `here` is this one's id."""

    items: list[TreeNode]
    here: str
    position: int


class Participants(Value, frozen=True, kw_only=True):
    """The ids of the nodes that may hold an incident: those it concerns, the superiors that its level demands, and those on
    the way between them."""

    nodes: list[str]


class Revocation(Struct, frozen=True, kw_only=True):
    """The reason is shown with the node."""

    id: Id
    version: Version
    reason: SomeText


async def _nodes(call: Call) -> NodePage:
    def read(connection: Connection) -> NodePage:
        rows = call.node.store.shelf(NODE).select(connection)
        return NodePage(items=rows, here=call.node.log.node, position=position_of(connection))

    return await call.node.store.read(read)


async def _participants(call: Call) -> Participants:
    key, store = call.path["id"], call.node.store

    def read(connection: Connection) -> Participants:
        row = store.shelf(INCIDENT).get(connection, key)
        if row is None or call.node.live.view(call.actor, INCIDENT.name, row) is None:
            raise Missing("incident.missing", f"There is no incident '{key}'.")
        tree = NodeTree({one.id: one for one in store.shelf(NODE).select(connection)})
        return Participants(nodes=sorted(Audience(call.node.log.node, tree).nodes(connection, row.subject)))

    return await store.read(read)


async def _revoke(call: Call) -> Receipt:
    """The heads are those held here now: what the node wrote after them, or hides until later, has no effect."""
    body: Revocation = call.body

    def read(connection: Connection) -> dict[str, tuple[int, str]]:
        return stream_heads(connection, STREAM.c.origin == body.id)

    heads = await call.node.store.read(read)
    return await append(call, RevokeNode(id=body.id, version=body.version, reason=body.reason, heads=heads))


_command = partial(command_route, tag="tree")

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/incidents/{id}/nodes",
        right="incident.read",
        summary="The nodes that take part in an incident",
        response=Participants,
        handler=_participants,
        tag="tree",
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/nodes",
        right="registry.read",
        summary="The nodes of the tree",
        response=NodePage,
        handler=_nodes,
        tag="tree",
    ),
    _command("PATCH", "/nodes/{id}", "node.edit", "Name, kind, level, seat or place of a node", EditNode),
    Route(
        method="POST",
        path="/nodes/{id}/revoke",
        right="node.edit",
        summary="Revoke a node: what it writes from now on has no effect anywhere",
        request=Revocation,
        response=Receipt,
        handler=_revoke,
        keyed=True,
        tag="tree",
        errors=(404, 409),
    ),
    _command(
        "POST",
        "/incidents/{incident}/offer",
        "incident.transfer",
        "Offer an incident to another node",
        OfferOwnership,
        status=201,
    ),
    _command(
        "POST",
        "/incidents/{incident}/request",
        "incident.transfer",
        "Ask its owner for an incident",
        RequestOwnership,
        status=201,
    ),
    _command("POST", "/transfers/{id}/answer", "incident.transfer", "Agree to a transfer, or decline", AnswerTransfer),
    _command(
        "POST", "/incidents/{incident}/seize", "incident.seize", "Take an incident over from below", SeizeIncident
    ),
    _command(
        "POST",
        "/incidents/{incident}/invite",
        "incident.transfer",
        "Share an incident with other nodes",
        InviteToIncident,
    ),
    _command(
        "POST",
        "/incidents/{incident}/asks",
        "incident.note",
        "Ask the owner of an incident to do something",
        AskOwner,
        status=201,
    ),
    _command("POST", "/asks/{id}/answer", "incident.edit", "Answer what was asked", AnswerAsk),
    _command("POST", "/orders/{id}/adopt", "order.edit", "Adopt a late order", AdoptOrder),
    _command("POST", "/orders/{id}/recall", "order.edit", "Recall a late order", RecallOrder),
)


def _tree_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    return {"node": store.shelf(NODE).select(connection), "presence": store.shelf(PRESENCE).select(connection)}


TOPICS: tuple[Topic, ...] = (Topic(name="tree", right="registry.read", rows=_tree_rows),)


def _of_incident(row: Any) -> Scope:
    return Scope(organisation=row.organisation, parties=tuple(row.parties))


def _anywhere(row: Any) -> Scope:
    return THIS


VISIBLE: dict[str, Visible] = {
    "node": Visible(right="registry.read", scope=_anywhere),
    "transfer": Visible(right="incident.read", scope=_of_incident),
    "term": Visible(right="incident.read", scope=_of_incident),
    "late": Visible(right="incident.read", scope=_of_incident),
    "ask": Visible(right="incident.read", scope=_of_incident),
}
