"""One conference in the worker: joins the pure room with peers, tracks and the events that the parent hears.

Never parses foreign bytes itself. Invariant: after each change `_reconcile()` makes subscriptions equal to what the room
says is wanted; nothing else attaches a track to a subscriber.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from command.base.clock import Clock
from command.base.errors import Conflict, Missing, Rejected, Unavailable
from media import control, sdp
from media.output import Output
from media.peer import Peer
from media.port import Port
from media.publisher import Publisher
from media.quality import Meter
from media.room import TRACKS_PER_MEMBER_MAX, Published, Room
from media.rtc import Certificate, read_sdp
from media.sdp import Codec, Media, Stream
from media.selection import Selection
from media.subscriber import ANSWER_TIMEOUT_S, Subscriber
from media.track import Layer, Track
from media.viewer import Viewer, transport_wide, view_lines

OFFER_DELAY_S = 0.02  # changes within it share one offer
QUALITY_INTERVAL_S = 5.0
SPEAKER_INTERVAL_S = 0.2
VIEWS_MAX = 200
PEERS_MAX = 1000


@dataclass
class Surroundings:
    """What every conference of a worker shares."""

    port: Port
    clock: Clock
    certificate: Certificate
    addresses: tuple[str, ...]
    emit: Callable[[control.AnyEvent], None]
    spawn: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
    pending: list[Layer]
    active: list[Publisher]
    peers: dict[str, Conference]
    ssrcs: set[int]

    def ssrc(self) -> int:
        """An SSRC that no track of this worker has."""
        while True:
            ssrc = int.from_bytes(self.clock.octets(4), "big")
            if ssrc > 0xFF and ssrc not in self.ssrcs:
                self.ssrcs.add(ssrc)
                return ssrc


class Conference:
    """A room with its peers. All methods run on the worker's loop."""

    def __init__(self, ident: str, surroundings: Surroundings) -> None:
        self.room = Room(ident)
        self.publishers: dict[str, Publisher] = {}
        self.subscribers: dict[str, Subscriber] = {}
        self.viewers: dict[str, Viewer] = {}
        self._all = surroundings
        self._tracks: dict[str, Track] = {}
        self._peers: dict[str, Peer] = {}
        self._by_role: dict[tuple[str, str], str] = {}
        self._screens: dict[str, frozenset[str]] = {}
        self._offering = False
        self._walled_at_s, self._wall_s = -1.0, 0.0
        self._speakers_at_s = self._quality_at_s = 0.0
        self._meters: dict[str, Meter] = {}
        self._tiles: dict[str, dict[str, int]] = {}
        self.selection = Selection(self.room)

    # -- commands --

    def join(self, request: control.Join) -> None:
        cname = self._all.clock.token(8)
        self._emit(self.room.join(request.member, publish=request.publish, chair=request.chair, cname=cname))
        if not request.publish:
            self._end((request.member, "publish"), "removed")
        self._reconcile()

    def remove(self, member: str, reason: str) -> None:
        self.room.member(member)
        for role in ("publish", "subscribe"):
            self._end((member, role), "removed")
        self._screens.pop(member, None)
        self._tiles.pop(member, None)
        self._emit(self.room.leave(member, reason))
        self._reconcile()

    def set_chair(self, member: str | None) -> None:
        self.room.set_chair(member)
        self._reconcile()

    def mute(self, request: control.Mute) -> None:
        self._emit(self.room.mute(request.member, request.media, on=request.on))
        for ident, track in self._tracks.items():
            if track.member == request.member and self.room.tracks[ident].kind == request.media:
                track.muted = request.on
                if not request.on and track.video:
                    track.want_key()

    def set_focus(self, request: control.Focus) -> None:
        """Whom the meeting's control puts first, for everybody and for the audience of a round."""
        self.room.set_focus(request.members, polled=request.polled, audience=request.audience)
        self.selection.soon.update(self.subscribers.values())
        self._reconcile()

    def publish(self, request: control.Publish) -> dict[str, Any]:
        """Answer a publishing offer; raises Missing, Denied, Rejected, Unavailable."""
        self.room.publisher(request.member)
        offer = read_sdp(request.sdp, sdp.PUBLISH_MEDIA_MAX)
        key = (request.member, "publish")
        publisher = self.publishers.get(self._by_role.get(key, ""))
        if publisher is not None and not publisher.peer.resembles(offer):
            publisher = None
        elif publisher is not None and publisher.peer.ice.remote_ufrag != offer.ufrag:
            publisher.peer.restart(self._credentials())
        if publisher is None:
            if not any(media.live and media.direction in ("sendonly", "sendrecv") for media in offer.media):
                raise Rejected("media.sdp.not_sending", "No m-line of the offer says sendonly or sendrecv.")
            if not any(sdp.choose(media) for media in offer.media if media.live):
                raise Rejected("media.sdp.no_codec", "Neither Opus nor VP8, H.264, VP9 or AV1 is offered.")
            publisher = self._publisher(request.member)
        self._screens[request.member] = frozenset(request.screens)
        lines = publisher.answer(offer)
        peer = publisher.peer
        ours = _answered_setup(offer)
        peer.meet(offer, client=ours == "active", spawn=self._all.spawn)
        self._drop_tracks(publisher.ended())
        return {"peer": peer.ident, "sdp": self._write(peer, lines, ours, 1, mixed=offer.mixed)}

    def _publisher(self, member: str) -> Publisher:
        self._end((member, "publish"), "replaced")
        peer = self._peer(member, "publish")
        speakers = self.room.speakers
        publisher = self.publishers[peer.ident] = Publisher(
            peer,
            make_track=lambda media, codec: self._make_track(member, media, codec),
            level=lambda level, now_s: speakers.level(member, level, now_s),
            pending=self._all.pending.append,
            active=self._all.active.append,
        )
        return publisher

    def subscribe(self, member: str) -> dict[str, Any]:
        """Begin a receiving connection; an offer event follows. Raises Missing, Unavailable."""
        self.room.member(member)
        self._end((member, "subscribe"), "replaced")
        peer = self._peer(member, "subscribe")
        subscriber = self.subscribers[peer.ident] = Subscriber(peer)
        subscriber.tiles = self._tiles.get(member)
        self._reconcile(at_once=True)
        return {"peer": peer.ident}

    def answer(self, request: control.Answer) -> None:
        """The answer to our offer; raises Missing, Conflict (stale), Rejected."""
        subscriber = self.subscribers.get(request.peer)
        if subscriber is None:
            raise Missing("media.peer.unknown", "This receiving connection has ended.")
        if request.revision != subscriber.revision or subscriber.offered_at_s is None:
            raise Conflict("media.answer.stale", "A newer offer is on its way; answer that one.")
        answer = read_sdp(request.sdp, sdp.RECEIVE_MEDIA_MAX)
        if answer.setup not in ("active", "passive"):
            raise Rejected("media.sdp.setup", "The answer must say setup:active or passive.")
        subscriber.peer.meet(answer, client=answer.setup == "passive", spawn=self._all.spawn)
        now_s = self._all.clock.monotonic()
        subscriber.answered(answer, now_s)
        self.selection.soon.add(subscriber)
        self._select(now_s)
        if subscriber.dirty:
            self._offer_soon()

    def tiles(self, request: control.Tiles) -> None:
        """What a member's screen shows now; raises Missing."""
        self.room.member(request.member)
        self._tiles[request.member] = request.tiles
        for subscriber in self.subscribers.values():
            if subscriber.peer.member == request.member:
                subscriber.tiles = request.tiles
                self.selection.soon.add(subscriber)

    def view(self, request: control.View) -> dict[str, Any]:
        """Answer a WHEP offer; raises Missing (source), Rejected, Unavailable."""
        if request.source is not None:
            self.room.member(request.source)
        if len(self.viewers) >= VIEWS_MAX:
            raise Unavailable("media.full.views", f"A room takes {VIEWS_MAX} views.")
        offer = read_sdp(request.sdp, sdp.PUBLISH_MEDIA_MAX)
        kinds = {kind: self.room.shown(request.source, kind) for kind in ("audio", "video")}
        prefer = {kind: track.codec for kind, track in kinds.items() if track is not None}
        cname = self._all.clock.token(8)
        streams = {"audio": Stream(self._all.ssrc(), 0), "video": Stream(self._all.ssrc(), self._all.ssrc())}
        lines = view_lines(offer, prefer, streams)
        if not any(codecs for _, codecs in lines):
            raise Rejected("media.sdp.no_codec", "The offer has no recvonly m-line with a codec that we forward.")
        peer = self._peer("", "view")
        viewer = self.viewers[peer.ident] = Viewer(peer, request.source)
        for line, codecs in lines:
            if not codecs or line.stream is None:
                continue
            first, *others = codecs
            output = Output(
                peer,
                codec=first,
                out=line.stream,
                cname=cname,
                rtx_type=first.rtx,
                others=tuple(others),
                downlink=viewer.downlink if transport_wide(line) else None,
            )
            viewer.switched[line.kind] = output
            viewer.outputs[line.stream.ssrc] = output
        ours = _answered_setup(offer)
        peer.meet(offer, client=ours == "active", spawn=self._all.spawn)
        self._reconcile()
        return {
            "peer": peer.ident,
            "sdp": self._write(peer, [line._replace(cname=cname) for line, _ in lines], ours, 1),
        }

    def restart(self, request: control.RestartIce) -> dict[str, Any]:
        """A new ICE generation on a connection that stays as it is; raises Missing, Rejected."""
        peer = self._peers.get(request.peer)
        if peer is None or request.member not in (None, peer.member):
            raise Missing("media.peer.unknown", "This connection has ended.")
        subscriber = self.subscribers.get(peer.ident)
        if (subscriber is None) != bool(request.ufrag):
            raise Rejected("media.restart", "Who makes the offers restarts ICE.")
        peer.restart(self._credentials())
        if subscriber is not None:
            subscriber.dirty = True
            self._offer_soon()
            return {}
        peer.ice.remote_ufrag = request.ufrag
        local = peer.local(self._all.certificate, self._all.addresses, "passive")
        return {"ufrag": local.ufrag, "password": local.password, "candidates": sdp.candidate_lines(local)}

    def close_peer(self, ident: str, reason: str) -> None:
        """End one connection."""
        peer = self._peers.pop(ident, None)
        if peer is None:
            return
        self._all.peers.pop(ident, None)
        self._meters.pop(ident, None)
        if self._by_role.get((peer.member, peer.role)) == ident:
            del self._by_role[(peer.member, peer.role)]
        publisher = self.publishers.pop(ident, None)
        if publisher is not None:
            self._drop_tracks(publisher.tracks())
        subscriber, viewer = self.subscribers.pop(ident, None), self.viewers.pop(ident, None)
        if subscriber is not None:
            subscriber.end()
        if viewer is not None:
            viewer.end()
            for output in viewer.switched.values():
                self._all.ssrcs -= {output.out.ssrc, output.out.rtx}
        self._all.spawn(f"close {ident}", peer.close())
        self._emit(
            [control.PeerClosed(room=self.room.ident, member=peer.member, peer=ident, role=_role(peer), reason=reason)]
        )

    def close(self) -> None:
        """End every connection of the room."""
        for ident in list(self._peers):
            self.close_peer(ident, "room closed")

    # -- what peers report --

    def connected(self, peer: Peer) -> None:
        self._emit([control.PeerConnected(room=self.room.ident, member=peer.member, peer=peer.ident, role=_role(peer))])
        subscriber = self.subscribers.get(peer.ident)
        receiving = subscriber or self.viewers.get(peer.ident)
        now_s = self._all.clock.monotonic()
        for output in receiving.outputs.values() if receiving is not None else ():
            output.begin(now_s)
            output.send_report()
        if subscriber is not None and subscriber.dirty:
            self._offer_soon()

    def rtp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        publisher = self.publishers.get(peer.ident)
        if publisher is not None:
            if now_s != self._walled_at_s:  # what came together is looked at once
                self._walled_at_s, self._wall_s = now_s, self._all.clock.now() / 1e6
            publisher.rtp(plain, now_s, self._wall_s)

    def rtcp(self, peer: Peer, plain: bytes, now_s: float) -> None:
        publisher = self.publishers.get(peer.ident)
        if publisher is not None:
            publisher.rtcp(plain, now_s)
            return
        receiving = self.subscribers.get(peer.ident) or self.viewers.get(peer.ident)
        if receiving is not None:
            receiving.rtcp(plain, now_s)

    def failed(self, peer: Peer, reason: str) -> None:
        self.close_peer(peer.ident, reason)

    def drained(self, peer: Peer) -> None:
        """A receiving client on a slow TCP connection has caught up: its pictures go on at the next key frame."""
        receiving = self.subscribers.get(peer.ident) or self.viewers.get(peer.ident)
        for output in receiving.outputs.values() if receiving is not None else ():
            output.want_key()

    # -- time --

    def tick(self, now_s: float) -> None:
        """Repair, reports, speakers, consent; call about every 50 ms."""
        for publisher in self.publishers.values():
            publisher.repair(now_s)
            publisher.report(now_s)
        if now_s - self._speakers_at_s >= SPEAKER_INTERVAL_S:
            self._speakers_at_s = now_s
            events = self.room.tick(now_s)
            if events:
                self._emit(events)
                self._reconcile_views()
            self._give_up(now_s)
        if self.selection.due(now_s):
            self._select(now_s)
        if now_s - self._quality_at_s >= QUALITY_INTERVAL_S:
            self._quality_at_s = now_s
            self._emit([event for peer in self._peers.values() if (event := self._quality(peer)) is not None])

    def _select(self, now_s: float) -> None:
        """Layers for everybody."""
        self._emit(self.selection.run(now_s, self._tracks, self.subscribers.values(), self.viewers.values()))
        for publisher in self.publishers.values():
            publisher.cap_bps = self.selection.cap_of(publisher, now_s)

    def _give_up(self, now_s: float) -> None:
        for peer in list(self._peers.values()):
            reason = peer.lost(now_s)
            subscriber = self.subscribers.get(peer.ident)
            if subscriber is not None and subscriber.offered_at_s is not None:
                reason = reason or ("no answer" if now_s - subscriber.offered_at_s > ANSWER_TIMEOUT_S else "")
            if reason:
                self.close_peer(peer.ident, reason)

    def _quality(self, peer: Peer) -> control.Quality | None:
        if peer.protector is None:
            return None
        publisher = self.publishers.get(peer.ident)
        if publisher is not None:
            return self._meters[peer.ident].publishing(self.room.ident, publisher)
        receiving = self.subscribers.get(peer.ident) or self.viewers[peer.ident]
        return self._meters[peer.ident].receiving(self.room.ident, receiving)

    # -- inside --

    def _peer(self, member: str, role: str) -> Peer:
        if len(self._all.peers) >= PEERS_MAX:
            raise Unavailable("media.full.peers", f"A worker takes {PEERS_MAX} connections.")
        clock = self._all.clock
        peer = Peer(
            ident=clock.token(8),
            room=self.room.ident,
            member=member,
            role=role,
            credentials=self._credentials(),
            now_s=clock.monotonic(),
        )
        peer.open(self._all.port, self, self._all.certificate)
        self._peers[peer.ident] = peer
        self._meters[peer.ident] = Meter(QUALITY_INTERVAL_S)
        self._all.peers[peer.ident] = self
        if member:
            self._by_role[(member, role)] = peer.ident
        return peer

    def _credentials(self) -> tuple[str, str]:
        """An ICE ufrag and password (RFC 8839 §5.4: at least 24 and 128 random bits)."""
        return self._all.clock.token(4), self._all.clock.token(16)

    def _end(self, key: tuple[str, str], reason: str) -> None:
        ident = self._by_role.get(key)
        if ident is not None:
            self.close_peer(ident, reason)

    def _make_track(self, member: str, media: Media, codec: Codec) -> Track | None:
        """A publisher's m-line sends its first packet."""
        own = [track for track in self._tracks.values() if track.member == member]
        if len(own) >= TRACKS_PER_MEMBER_MAX:
            return None
        kind: control.MediaKind = "audio" if media.kind == "audio" else "video"
        rtx = self._all.ssrc() if kind == "video" else 0
        known = self.room.members[member]
        published = Published(
            self._all.clock.token(6), member, kind, codec.name, media.mid in self._screens.get(member, ())
        )
        track = Track(
            ident=published.ident,
            member=member,
            media=kind,
            codec=codec.name,
            out=Stream(self._all.ssrc(), rtx),
            cname=known.cname,
            first_sequence=int.from_bytes(self._all.clock.octets(2), "big") & 0x3FFF,
            mid=media.mid,
        )
        track.screen = published.screen
        track.muted = published.kind in known.muted
        self._tracks[track.ident] = track
        self._emit(self.room.publish(published))
        self._reconcile()
        return track

    def _drop_tracks(self, tracks: list[Track]) -> None:
        if not tracks:
            return
        for track in tracks:
            self._tracks.pop(track.ident, None)
            self._all.ssrcs.discard(track.out.ssrc)
            self._all.ssrcs.discard(track.out.rtx)
        self._emit(self.room.unpublish([track.ident for track in tracks]))
        self._reconcile()

    def _reconcile(self, *, at_once: bool = False) -> None:
        """Make what subscribers and views get equal to what the room says."""
        now_s = self._all.clock.monotonic()
        for subscriber in self.subscribers.values():
            wanted = self.room.wanted(subscriber.peer.member)
            subscriber.want([self._tracks[track.ident] for track in wanted], now_s)
        self._reconcile_views()
        if at_once:
            self._offer_all()
        elif any(subscriber.dirty for subscriber in self.subscribers.values()):
            self._offer_soon()

    def _reconcile_views(self) -> None:
        now_s = self._all.clock.monotonic()
        for viewer in self.viewers.values():
            self.selection.soon.add(viewer)
            for kind, output in viewer.switched.items():
                shown = self.room.shown(viewer.source, kind)
                output.show(self._tracks[shown.ident] if shown is not None else None, now_s)

    def _offer_soon(self) -> None:
        if not self._offering:
            self._offering = True
            asyncio.get_running_loop().call_later(OFFER_DELAY_S, self._offer_all)

    def _offer_all(self) -> None:
        self._offering = False
        now_s = self._all.clock.monotonic()
        cnames = {member.ident: member.cname for member in self.room.members.values()}
        for subscriber in self.subscribers.values():
            connecting = subscriber.revision > 0 and subscriber.peer.protector is None
            if not subscriber.dirty or subscriber.offered_at_s is not None or connecting:
                continue  # `answered()` or `connected()` comes back to it; clients stumble over offers while connecting
            lines, tracks = subscriber.offer(cnames, now_s)
            peer = subscriber.peer
            text = self._write(peer, lines, "actpass", subscriber.revision)
            self._emit(
                [
                    control.Offer(
                        room=self.room.ident,
                        member=peer.member,
                        peer=peer.ident,
                        revision=subscriber.revision,
                        sdp=text,
                        tracks=tracks,
                    )
                ]
            )

    def _write(self, peer: Peer, lines: list[sdp.Line], setup: str, version: int, *, mixed: bool = False) -> str:
        local = peer.local(self._all.certificate, self._all.addresses, setup)
        return sdp.write(local, lines, session=int(peer.ident[:15], 16), version=version, mixed=mixed)

    def _emit(self, events: list[control.AnyEvent]) -> None:
        for event in events:
            self._all.emit(event)


def _answered_setup(offer: sdp.Description) -> str:
    """RFC 5763 §5: we wait for the client's handshake, unless it says that it waits for ours."""
    return "active" if offer.setup == "passive" else "passive"


def _role(peer: Peer) -> control.Role:
    return "publish" if peer.role == "publish" else "subscribe" if peer.role == "subscribe" else "view"
