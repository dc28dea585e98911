"""The edge of the link: the WebSockets that subordinates dial, invitations, and the state of the line.

Edge over `uplink`, `pairing` and `membership`; decides nothing. Invariant: an invitation's code is in one answer only: never in
an entry, a receipt or the journal.
"""

from pathlib import Path
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace
from sqlalchemy.engine import Connection

from command.base.errors import Conflict, Missing, Unavailable
from command.base.identity import write_secret
from command.base.rights import NODE, Scope
from command.base.schema import Id, Name, Struct, Value
from command.domain.incident import INCIDENT
from command.domain.membership import InviteNode
from command.domain.nodes import NodeKind, NodeLevel
from command.domain.presence import PRESENCE, TICK, Presence, Tick
from command.edge.api import GATEWAY, Call, Route, append
from command.edge.live import Visible
from command.log.writer import Receipt
from command.tree import pairing
from command.tree.wire import LATER, NOW
from command.uplink.channel import FRAME_MAX, Channel
from command.uplink.dialler import JOIN_FILE
from command.uplink.peer import Peer
from command.uplink.uplink import PART, Uplink

HEARTBEAT_S = 30.0
TICKS_PAGE_MAX = 1_000


class Invite(Struct, frozen=True, kw_only=True):
    """A node to be: what it will be called, and where it will stand under this one."""

    name: Name
    kind: NodeKind
    level: NodeLevel
    organisation: Id | None = None


class Invited(Value, frozen=True, kw_only=True):
    """`code` in five groups, to be read over the telephone; None when this Idempotency-Key was answered before."""

    receipt: Receipt
    code: str | None


class Join(Struct, frozen=True, kw_only=True):
    """The code that the superior's operator read out, however it was typed."""

    code: Annotated[str, Meta(min_length=20, max_length=60)]


class Joining(Value, frozen=True, kw_only=True):
    """The node dials FENGHUO_PARENT now; `parents` are its addresses."""

    parents: list[str]


class LineState(Value, frozen=True, kw_only=True):
    """This node, its superior, and what is known of every other node of the line. `refused` is why the superior was not
    reached, or did not take the call, the last time."""

    here: str
    parent: str | None
    linked: bool
    refused: str
    nodes: list[Presence]


class Ticks(Value, frozen=True, kw_only=True):
    """Streams of the incident that the superior holds durably, and how far."""

    items: list[Tick]


def uplink_of(call: Call) -> Uplink:
    found = call.node.parts.get(PART)
    if not isinstance(found, Uplink):
        raise Unavailable("link.not_running", "This node's links are not running yet.")
    return found


async def _open(call: Call, *, paced: bool) -> tuple[web.WebSocketResponse, Channel]:
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=FRAME_MAX, compress=False)
    await socket.prepare(call.request)
    return socket, Channel(socket, paced=paced)


async def _now(call: Call) -> Any:
    uplink = uplink_of(call)
    socket, channel = await _open(call, paced=False)
    await uplink.answer(NOW, channel)
    return socket


async def _later(call: Call) -> Any:
    uplink = uplink_of(call)
    socket, channel = await _open(call, paced=True)
    await uplink.answer(LATER, channel)
    return socket


async def _pair(call: Call) -> Any:
    uplink = uplink_of(call)
    socket, channel = await _open(call, paced=False)
    await uplink.pair(channel)
    return socket


async def _invite(call: Call) -> Invited:
    body: Invite = call.body
    code = pairing.new_code(call.node.clock.octets(pairing.CODE_OCTETS))
    request = InviteNode(name=body.name, kind=body.kind, level=body.level, organisation=body.organisation, code=code)
    receipt = await append(call, request)
    return Invited(receipt=receipt, code=None if receipt.replayed else pairing.grouped(code))


async def _join(call: Call) -> Joining:
    body: Join = call.body
    uplink = uplink_of(call)
    code = pairing.read_code(body.code)
    if uplink.parent is not None:
        raise Conflict("node.joined", "This node stands in the tree already; its superior can move it.")
    parents = uplink.addresses()
    if not parents:
        raise Conflict("link.no_parent", "Set FENGHUO_PARENT to the superior's address first.")
    write_secret(Path(call.node.config.data) / JOIN_FILE, code.encode())
    return Joining(parents=parents)


async def _line(call: Call) -> LineState:
    uplink = uplink_of(call)
    rows = await call.node.store.read(lambda connection: call.node.store.shelf(PRESENCE).select(connection))
    parent = uplink.parent
    linked = parent is not None and parent in uplink.peers and uplink.peers[parent].linked
    nodes = [_newest(row, uplink.peers.get(row.id)) for row in rows]
    return LineState(here=uplink.me, parent=parent, linked=linked, refused=uplink.refused, nodes=nodes)


def _newest(row: Presence, peer: Peer | None) -> Presence:
    """A neighbour's row with its last contact and round trip of this moment: while a link stands they are seldom written."""
    return row if peer is None else replace(row, contact_at=peer.contact_at or row.contact_at, rtt_us=peer.rtt_us)


async def _ticks(call: Call) -> Ticks:
    key = call.path["id"]

    def read(connection: Connection) -> Ticks:
        row = call.node.store.shelf(INCIDENT).get(connection, key)
        if row is None or call.node.live.view(call.actor, INCIDENT.name, row) is None:
            raise Missing("incident.missing", f"There is no incident '{key}'.")
        shelf = call.node.store.shelf(TICK)
        return Ticks(items=shelf.select(connection, equal={"subject": row.subject}, limit=TICKS_PAGE_MAX))

    return await call.node.store.read(read)


def _socket(path: str, summary: str, handler: Any) -> Route:
    return Route(
        method="GET",
        path=f"//link/{path}",
        right=GATEWAY,
        summary=summary,
        handler=handler,
        status=101,
        errors=(400, 503),
        tag="link",
    )


ROUTES: tuple[Route, ...] = (
    _socket("now", "The link's connection for what is urgent (WebSocket)", _now),
    _socket("later", "The link's connection for what can wait (WebSocket)", _later),
    _socket("pair", "A pairing by an invitation's code (WebSocket)", _pair),
    Route(
        method="POST",
        path="/tree/invitations",
        right="node.edit",
        summary="Invite a node: a code to be read over the telephone",
        request=Invite,
        response=Invited,
        handler=_invite,
        status=201,
        keyed=True,
        tag="tree",
        errors=(404, 409),
    ),
    Route(
        method="POST",
        path="/tree/join",
        right="node.edit",
        summary="Join the tree under the superior that gave the code",
        request=Join,
        response=Joining,
        handler=_join,
        tag="tree",
        errors=(409, 503),
    ),
    Route(
        method="GET",
        path="/tree/line",
        right="registry.read",
        summary="The state of the links of the line",
        response=LineState,
        handler=_line,
        tag="tree",
        errors=(503,),
    ),
    Route(
        method="GET",
        path="/incidents/{id}/ticks",
        right="incident.read",
        summary="What of an incident the superior holds",
        response=Ticks,
        handler=_ticks,
        tag="tree",
        errors=(404,),
    ),
)


def _anywhere(row: Any) -> Scope:
    return NODE


VISIBLE: dict[str, Visible] = {
    PRESENCE.name: Visible(right="registry.read", scope=_anywhere),
    TICK.name: Visible(right="registry.read", scope=_anywhere),
}
