"""WHIP (RFC 9725) and WHEP: one offer, one answer, fragments that trickle or restart ICE, one DELETE.

Edge. Proof of identity is a bearer token. Invariant: a resource that was created is gone after its DELETE, after its member
was removed, or when its connection is lost; a refused PATCH leaves it as it was.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from command.base.errors import Conflict, Denied, FenghuoError, Missing, Rejected
from command.base.schema import Value
from command.edge.api import Call, chunks
from media import sdpfrag
from media.sdp import SDP_BYTES_MAX
from media.sdpfrag import FRAGMENT_BYTES_MAX, FRAGMENT_TYPE, Fragment, Malformed
from media.seat import Frame, IceSession, Seat
from media.signalling import Conferences

SDP_TYPE = "application/sdp"
ANY_TAG = '"*"'  # so RFC 9725's own example writes the *, and so do clients
PREFLIGHT_S = 3600
REFUSED_LINE = re.compile(r"^m=(?:audio|video) 0 ", re.MULTILINE)


class Viewing(Value, frozen=True, kw_only=True):
    """WHEP's query: which member to see; the chair, else the active speaker, when left out."""

    member: str | None = None


@dataclass(kw_only=True)
class _View:
    room: str
    peer: str
    account: str
    ice: IceSession


class Whip:
    """The resources that were created, by id."""

    def __init__(self, conferences: Conferences) -> None:
        self._conferences = conferences
        self._views: dict[str, _View] = {}
        conferences.on_view_closed = lambda peer: self._views.pop(peer, None)
        conferences.on_views_lost = self._views_lost

    def _views_lost(self, room: str) -> None:
        self._views = {peer: view for peer, view in self._views.items() if view.room != room}

    async def publish(self, call: Call) -> web.Response:
        """POST /whip/{room}: the offer in, 201 with the answer and the resource's Location out."""
        assert call.session is not None
        sdp = await _offer(call)
        room = await self._conferences.room_of(call.path["room"], call.session)
        frame = Frame(type="join", audio="m=audio " in sdp, video="m=video " in sdp)
        seat = await self._conferences.seat(room, call.session, frame)
        try:
            worker = await self._conferences.worker(room.id)
            peer, answer = await worker.publish(room.id, seat.member.id, sdp)
            if REFUSED_LINE.search(answer):
                raise Rejected("media.sdp.partial", "One m-line can't be taken, so none is (RFC 9725 §4.4.3).")
        except FenghuoError:
            await self._conferences.leave(seat, "refused")
            raise
        seat.ice = _session(peer, sdp, answer)
        return _created(answer, f"/whip/{room.id}/{seat.member.id}", seat.ice)

    async def repair(self, call: Call) -> web.Response:
        """PATCH /whip/{room}/{resource}: trickle, or ICE restart."""
        seat = self._publication(call)
        if seat.ice is None:
            raise Missing("whip.missing", "There is no such resource.")
        return await self._patch(call, seat.room, seat.ice)

    async def unpublish(self, call: Call) -> web.Response:
        """DELETE /whip/{room}/{resource}."""
        await self._conferences.leave(self._publication(call), "left")
        return web.Response(status=200)

    async def published(self, call: Call) -> web.Response:
        """GET or HEAD /whip/{room}/{resource}: there is one, and it has no representation (RFC 9725 §4.1)."""
        self._publication(call)
        return web.Response(status=204)

    def _publication(self, call: Call) -> Seat:
        seat = self._conferences.find(call.path["room"], call.path["resource"])
        if seat is None or seat.socket is not None:
            raise Missing("whip.missing", "There is no such resource.")
        _own(call, seat.session.actor.account)
        return seat

    async def endpoint(self, call: Call) -> web.Response:
        """GET or HEAD of /whip/{room} or /whep/{room}: nothing to read (RFC 9725 §4.1), but what may be posted, by which
        players know an endpoint (draft-ietf-wish-whep, URL discoverability)."""
        assert call.session is not None
        await self._conferences.room_of(call.path["room"], call.session)
        return web.Response(content_type=SDP_TYPE)

    async def view(self, call: Call) -> web.Response:
        """POST /whep/{room}: one audio and one video track of a member, the chair, or the active speaker."""
        assert call.session is not None
        sdp = await _offer(call)
        room = await self._conferences.room_of(call.path["room"], call.session)
        await self._conferences.passes(room, call.session)
        await self._conferences.ensure(room)
        worker = await self._conferences.worker(room.id)
        peer, answer = await worker.view(room.id, sdp, source=call.query.member)
        ice = _session(peer, sdp, answer)
        self._views[peer] = _View(room=room.id, peer=peer, account=call.actor.account, ice=ice)
        return _created(answer, f"/whep/{room.id}/{peer}", ice)

    async def review(self, call: Call) -> web.Response:
        """PATCH /whep/{room}/{resource}: trickle, or ICE restart."""
        found = self._view(call)
        return await self._patch(call, found.room, found.ice)

    async def unview(self, call: Call) -> web.Response:
        """DELETE /whep/{room}/{resource}."""
        found = self._view(call)
        self._views.pop(found.peer, None)
        with suppress(Missing):  # it ended by itself meanwhile
            worker = await self._conferences.worker(found.room)
            await worker.close_peer(found.peer)
        return web.Response(status=200)

    async def viewed(self, call: Call) -> web.Response:
        """GET or HEAD /whep/{room}/{resource}: as for WHIP."""
        self._view(call)
        return web.Response(status=204)

    def _view(self, call: Call) -> _View:
        found = self._views.get(call.path["resource"])
        if found is None or found.room != call.path["room"]:
            raise Missing("whep.missing", "There is no such resource.")
        _own(call, found.account)
        return found

    async def _patch(self, call: Call, room: str, ice: IceSession) -> web.Response:
        """RFC 9725 §4.3.1. Our side needs no candidates (ICE-lite answers checks), so trickled ones are only read."""
        tags = [tag.strip() for line in call.request.headers.getall("If-Match", []) for tag in line.split(",")]
        if not any(tags):
            raise Unconditional("whip.if_match", "Send If-Match: the resource's ETag, or * to restart ICE.")
        if not {ice.etag, "*", ANY_TAG} & set(tags):
            raise Outdated("whip.etag", "ICE was restarted since; the ETag is another now.")
        fragment = await _fragment(call)
        if fragment.ufrag in ("", ice.remote_ufrag):
            return web.Response(status=204)
        async with ice.restarting:  # whatever the ETag: new credentials are a restart (RFC 9725 §4.3.3)
            worker = await self._conferences.worker(room)
            ours = await worker.restart(room, ice.peer, ufrag=fragment.ufrag, password=fragment.password)
            ice.ufrag, ice.remote_ufrag = ours["ufrag"], fragment.ufrag
        text = sdpfrag.write(fragment, **ours)
        return web.Response(text=text, content_type=FRAGMENT_TYPE, headers={"ETag": ice.etag})


async def endpoint_options(call: Call) -> web.Response:
    """OPTIONS of an endpoint (RFC 9725 §4.2): what may be posted, by pages of other sites too (Fetch §3.2.2)."""
    return _options("GET, HEAD, OPTIONS, POST", **{"Accept-Post": SDP_TYPE})


async def resource_options(call: Call) -> web.Response:
    """OPTIONS of a resource: what may be patched."""
    return _options("DELETE, GET, HEAD, OPTIONS, PATCH", **{"Accept-Patch": FRAGMENT_TYPE})


def _options(methods: str, **accepted: str) -> web.Response:
    allowed = {
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }
    return web.Response(headers=allowed | accepted)


async def _offer(call: Call) -> str:
    if call.request.content_type != SDP_TYPE:
        raise Unsupported("whip.type", f"Send the offer as {SDP_TYPE}.")
    data = await _body(call, SDP_BYTES_MAX)
    if len(data) > SDP_BYTES_MAX:
        raise Rejected("media.sdp.too_long", f"The offer is larger than {SDP_BYTES_MAX} octets.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Rejected("media.sdp.unreadable", "The offer is not UTF-8.") from None


async def _fragment(call: Call) -> Fragment:
    data = await _body(call, FRAGMENT_BYTES_MAX)
    try:
        return sdpfrag.read(data.decode())
    except UnicodeDecodeError:
        raise Malformed("whip.fragment", "The fragment is not UTF-8.") from None


async def _body(call: Call, limit: int) -> bytes:
    """The whole body, in however many pieces it comes; where it is longer than `limit`, enough to see that it is."""
    data = bytearray()
    async for piece in chunks(call.request, limit + 1):
        data += piece
        if len(data) > limit:
            break
    return bytes(data)


def _session(peer: str, offer: str, answer: str) -> IceSession:
    return IceSession(peer=peer, ufrag=sdpfrag.ufrag_of(answer), remote_ufrag=sdpfrag.ufrag_of(offer))


class Unconditional(Rejected):
    """RFC 9725 §4.3.1: a PATCH that doesn't say which ICE session it means."""

    status = 428


class Outdated(Conflict):
    """RFC 9725 §4.3.1: a PATCH that means an ICE session of the past."""

    status = 412


class Unsupported(Rejected):
    """RFC 9725 §4.2: another content type than application/sdp."""

    status = 415


def _created(answer: str, location: str, ice: IceSession) -> web.Response:
    headers = {"Location": location, "ETag": ice.etag, "Accept-Patch": FRAGMENT_TYPE}
    return web.Response(text=answer, status=201, content_type=SDP_TYPE, headers=headers)


def _own(call: Call, account: str) -> None:
    if call.actor.account != account:
        raise Denied("whip.foreign", "Only who made this resource may end it.")
