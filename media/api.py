"""The edge of `media`: routes, and the part that `server.py` starts.

Edge. Everything that touches media packets runs in the worker process.
"""

from collections.abc import Callable
from typing import Any

from prometheus_client import generate_latest

from command.domain.meeting import ChairAct
from command.edge.api import PUBLIC, Call, Node, Route
from command.log.writer import Receipt
from media.sdpfrag import FRAGMENT_TYPE
from media.signalling import Conferences
from media.sockets import Sockets
from media.whip import SDP_TYPE, Viewing, Whip, endpoint_options, resource_options


def _both(first: Callable[[set[str]], None], second: Callable[[set[str]], None]) -> Callable[[set[str]], None]:
    def call(ids: set[str]) -> None:
        first(ids)
        second(ids)

    return call


class Media:
    """What a node has running for conferences."""

    def __init__(self, node: Node) -> None:
        self.conferences = Conferences(node)
        self.sockets = Sockets(node, self.conferences)
        self.whip = Whip(self.conferences)
        node.bus.listen(self.conferences.on_commit)
        node.auth.cut = _both(node.auth.cut, self.sockets.cut)
        node.auth.refreshed = _both(node.auth.refreshed, self.sockets.refresh)

    async def metrics(self) -> bytes:
        """This part's lines of `/metrics`."""
        return generate_latest((await self.conferences.measured()).registry)

    def farewell(self) -> None:
        """Before the server waits for its open requests: the sockets of rooms are among them."""
        self.sockets.farewell()

    async def stop(self) -> None:
        await self.conferences.stop()


async def start(node: Node) -> Media:
    """Nothing runs before the first room is joined: the worker is started then."""
    media = Media(node)
    await media.conferences.sweep()
    return media


def _media(call: Call) -> Media:
    part = call.node.parts["media"]
    assert isinstance(part, Media)
    return part


async def _signal(call: Call) -> Any:
    return await _media(call).sockets.serve(call)


async def _whip(call: Call) -> Any:
    return await _media(call).whip.publish(call)


async def _unwhip(call: Call) -> Any:
    return await _media(call).whip.unpublish(call)


async def _whep(call: Call) -> Any:
    return await _media(call).whip.view(call)


async def _unwhep(call: Call) -> Any:
    return await _media(call).whip.unview(call)


async def _patch_whip(call: Call) -> Any:
    return await _media(call).whip.repair(call)


async def _patch_whep(call: Call) -> Any:
    return await _media(call).whip.review(call)


async def _endpoint(call: Call) -> Any:
    return await _media(call).whip.endpoint(call)


async def _whip_resource(call: Call) -> Any:
    return await _media(call).whip.published(call)


async def _whep_resource(call: Call) -> Any:
    return await _media(call).whip.viewed(call)


def _offer(path: str, summary: str, handler: Any, query: Any = None) -> Route:
    return Route(
        method="POST",
        path=path,
        right="room.join",
        summary=summary,
        handler=handler,
        query=query,
        status=201,
        raw=(SDP_TYPE,),
        produces=SDP_TYPE,
        errors=(404, 409, 503),
    )


def _end(path: str, summary: str, handler: Any) -> Route:
    return Route(
        method="DELETE", path=path, right="room.join", summary=summary, handler=handler, produces="", errors=(404,)
    )


def _patch(path: str, summary: str, handler: Any) -> Route:
    return Route(
        method="PATCH",
        path=path,
        right="room.join",
        summary=summary,
        handler=handler,
        raw=(FRAGMENT_TYPE,),
        produces=FRAGMENT_TYPE,
        errors=(204, 404, 409, 412, 428, 503),
    )


def _read(path: str, summary: str, handler: Any, *, status: int) -> Route:
    return Route(
        method="GET",
        path=path,
        right="room.join",
        summary=summary,
        handler=handler,
        status=status,
        produces=SDP_TYPE if status == 200 else "",
        errors=(404, 409) if status == 200 else (404,),
    )


def _options(path: str, summary: str, handler: Any) -> Route:
    return Route(method="OPTIONS", path=path, right=PUBLIC, summary=summary, handler=handler, produces="")


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/rooms/{id}/signal",
        right="room.join",
        summary="A member's signalling (WebSocket)",
        handler=_signal,
        status=101,
        produces="",
        errors=(404, 409),
    ),
    Route(
        method="POST",
        path="/rooms/{room}/members/{member}/act",
        right="room.join",
        summary="The chair mutes, unmutes or removes a member",
        request=ChairAct,
        response=Receipt,
        errors=(404, 409),
    ),
    _offer("//whip/{room}", "WHIP (RFC 9725): publish into a room", _whip),
    _patch("//whip/{room}/{resource}", "WHIP: trickle, or restart ICE (If-Match: the ETag or *)", _patch_whip),
    _end("//whip/{room}/{resource}", "WHIP: end a publication", _unwhip),
    _offer("//whep/{room}", "WHEP: view one member, the chair or the active speaker", _whep, Viewing),
    _patch("//whep/{room}/{resource}", "WHEP: trickle, or restart ICE (If-Match: the ETag or *)", _patch_whep),
    _end("//whep/{room}/{resource}", "WHEP: end a view", _unwhep),
    _read("//whip/{room}", "WHIP: whether there is an endpoint", _endpoint, status=200),
    _read("//whip/{room}/{resource}", "WHIP: whether a publication is there", _whip_resource, status=204),
    _read("//whep/{room}", "WHEP: whether there is an endpoint", _endpoint, status=200),
    _read("//whep/{room}/{resource}", "WHEP: whether a view is there", _whep_resource, status=204),
    _options("//whip/{room}", "WHIP: what may be posted", endpoint_options),
    _options("//whip/{room}/{resource}", "WHIP: what may be patched", resource_options),
    _options("//whep/{room}", "WHEP: what may be posted", endpoint_options),
    _options("//whep/{room}/{resource}", "WHEP: what may be patched", resource_options),
)
