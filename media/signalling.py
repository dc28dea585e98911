"""Who sits in which room of this node, and the worker that carries their media.

Edge. Never sees a media packet and never imports aiortc. Invariant: the log is the authority on rooms: a room that closes
there closes here, a chair's act takes effect when its entry is durable, and whoever comes or goes is an entry.

The wire is `docs/protocol-conference.md`.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from aiohttp import web
from msgspec.structs import replace

from command.base.config import media_addresses
from command.base.entry import By
from command.base.errors import Conflict, Denied, FenghuoError, Missing, Unavailable
from command.base.rights import allowed
from command.base.supervise import spawn
from command.domain.chairing import Knock
from command.domain.meeting import Fact, MemberFact
from command.domain.room import (
    MEETING,
    ROOM,
    Meeting,
    Member,
    Microphones,
    Room,
    admit,
    held,
    scope,
)
from command.edge.api import Node, by_of
from command.edge.auth import Session
from command.log.reading import ReadRows
from command.log.writer import Commit
from media import control
from media.conduct import Conduct
from media.crew import Crew
from media.door import Door
from media.experience import MediaMetrics
from media.remote import MediaWorker
from media.seat import Frame, Seat, grade_of

MEMBERS_MAX = 200
SEATS_PER_ACCOUNT_MAX = 4
STATS_S = 1.0

journal = structlog.get_logger("media")


class Conferences:
    """Every open room of this node. Owns the workers; the first is started at the first room that somebody joins."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seats: dict[str, dict[str, Seat]] = {}
        self._opened: set[str] = set()
        config = node.config
        self.crew = Crew(
            self._on_event,
            self._restarted,
            addresses=media_addresses(config),
            port=config.media_port,
            most=config.media_workers,
        )
        self._speakers: dict[str, str | None] = {}
        self.conduct = Conduct(self.crew, self._seats, self._tell)
        self.door = Door(node)
        self.metrics = MediaMetrics()
        self.on_view_closed: Callable[[str], object] = lambda peer: None
        """Called with the id of a WHEP connection that ended."""
        self.on_views_lost: Callable[[str], object] = lambda room: None
        """Called with a room all of whose WHEP connections ended."""

    # -- the workers

    async def worker(self, room: str) -> MediaWorker:
        """The worker of an open room. Raises `Missing`."""
        return await self.crew.home(room)

    async def measured(self) -> MediaMetrics:
        """The metrics, with the workers' counters of now."""
        stats = None
        with suppress(TimeoutError):
            async with asyncio.timeout(STATS_S):
                stats = await self.crew.stats()
        self.metrics.counters(stats)
        self.metrics.workers.set(len(self.crew.workers))
        self.metrics.members.set(sum(len(seats) for seats in self._seats.values()))
        return self.metrics

    async def _warm(self) -> None:
        try:
            await self.crew.ready()
        except FenghuoError as error:  # whoever joins tries again, and is told
            journal.error("worker.unavailable", code=error.code)

    async def stop(self) -> None:
        for seats in list(self._seats.values()):
            for seat in list(seats.values()):
                await self.leave(seat, "server stopping")
        await self.crew.stop()

    async def sweep(self) -> None:
        """After a start nobody sits anywhere: what the log still shows as present has left."""
        shelf = self._node.store.shelf(ROOM)
        rooms: list[Room] = await self._node.store.read(lambda c: shelf.select(c, equal={"open": True}))
        for room in [one for one in rooms if one.node == self._node.log.node]:
            for member in room.members:
                request = MemberFact(room=room.id, member=member, fact=Fact.LEFT)
                await self._node.log.append(request, By(account="node"))
            for waiting in (await self._control(room.id)).waiting:
                await self._node.log.append(Knock(room=room.id, account=waiting.account, left=True), By(account="node"))

    # -- rooms and seats

    async def room_of(self, key: str, session: Session) -> Room:
        """The open room of this node that this session may join. Raises `Missing`, `Denied` or `Conflict`."""
        row: Room | None = await self._node.store.read(lambda c: self._node.store.shelf(ROOM).get(c, key))
        if row is None:
            raise Missing("room.missing", f"There is no room '{key[:64]}'.")
        if not allowed(session.actor, "room.join", scope(row), self._node.tree):
            raise Denied("rights.denied", "Your roles do not include joining this room.")
        if not row.open:
            raise Conflict("room.closed", "The room is closed.")
        if row.node != self._node.log.node:
            hint = "Another node hosts this room; join it there."
            raise Conflict("room.elsewhere", hint, node=row.node, link=row.link)
        return row

    async def seat(
        self, room: Room, session: Session, frame: Frame, *, socket: web.WebSocketResponse | None = None
    ) -> Seat:
        """Take a seat: known to the worker, and an entry that says so. Raises `Unavailable` when the room is full."""
        await self.passes(room, session)
        await self._give_way(room.id, frame.former, session)
        seats = self._seats.setdefault(room.id, {})
        if len(seats) >= MEMBERS_MAX:
            raise Unavailable("room.full", f"The room has {MEMBERS_MAX} members already.")
        account = session.actor.account
        if sum(seat.session.actor.account == account for seat in seats.values()) >= SEATS_PER_ACCOUNT_MAX:
            raise Conflict("room.seats", "This account sits in the room too often; leave somewhere else first.")
        chair = room.chair in (account, session.actor.person)
        self.conduct.meetings[room.id] = meeting = await self._control(room.id)
        member = self._member(session, frame, chair=chair, meeting=meeting)
        seat = Seat(room=room.id, member=member, session=session, publish=frame.publish, socket=socket)
        stopped = self.conduct.stopped(member, meeting)
        seats[member.id] = seat  # before the worker knows, so that nothing it says is lost and the limits hold
        try:
            await self.ensure(room)
            worker = await self.worker(room.id)
            await worker.join(room.id, member.id, publish=frame.publish, chair=chair)
            for kind in stopped:
                await worker.mute(room.id, member.id, kind, on=True)
            seat.stopped = stopped
            await self._fact(seat, Fact.JOINED)
            await self.room_of(room.id, session)  # it may have closed meanwhile
            await self.conduct.settle(room.id)
        except BaseException:
            await self.leave(seat, "refused")
            if not await self._is_open(room.id):  # it closed meanwhile, and may have been opened again for this seat
                await self._close(room.id)
            raise
        return seat

    async def _is_open(self, room: str) -> bool:
        row: Room | None = await self._node.store.read(lambda c: self._node.store.shelf(ROOM).get(c, room))
        return row is not None and row.open

    async def _control(self, room: str) -> Meeting:
        """What the chair has set."""
        row: Meeting | None = await self._node.store.read(lambda c: self._node.store.shelf(MEETING).get(c, room))
        if row is None:
            raise Missing("room.missing", f"There is no room '{room[:64]}'.")
        return row

    def _member(self, session: Session, frame: Frame, *, chair: bool, meeting: Meeting) -> Member:
        actor = session.actor
        member = Member(
            id=self._node.clock.id(),
            account=actor.account,
            name=actor.name,
            organisation=actor.organisation or None,
            role="chair" if chair else ("speaker" if frame.publish else "viewer"),
            joined_at=self._node.clock.now(),
            audio=frame.audio,
            video=frame.video,
        )
        muted = held(member, meeting)
        closed = muted and meeting.microphones is Microphones.CHAIR
        return replace(member, muted=muted, audio=frame.audio and not closed)

    async def _give_way(self, room: str, former: str, session: Session) -> None:
        """A member who comes back over a new socket leaves the seat that the dead one still holds."""
        seat = self.find(room, former) if former else None
        if seat is None or seat.session.id != session.id:
            return
        await self.leave(seat, "left")
        if seat.socket is not None:
            spawn("seat.former", seat.socket.close())

    async def ensure(self, room: Room) -> None:
        """A worker knows the room. Raises `Conflict` if it was closed before the worker had opened it."""
        if room.id in self._opened:
            return
        self._opened.add(room.id)
        try:
            await self.crew.open(room.id)
        except BaseException:
            self._opened.discard(room.id)
            raise
        if room.id not in self._opened:
            await self.crew.close(room.id)  # the first time, there was nothing to close
            raise Conflict("room.closed", "The room is closed.")

    async def _fact(self, seat: Seat, fact: Fact) -> None:
        actor = seat.session.actor
        quality = seat.experience.summary() if fact is Fact.LEFT else None
        request = MemberFact(room=seat.room, member=seat.member, fact=fact, quality=quality)
        await self._node.log.append(request, by_of(actor))
        self._tell(seat.room, "member", fact=fact, member=msgspec.to_builtins(seat.member))

    async def leave(self, seat: Seat, reason: str = "left") -> None:
        """Give up a seat. Idempotent."""
        seats = self._seats.get(seat.room, {})
        if seats.pop(seat.member.id, None) is None:
            return
        self.metrics.left(seat.room, seat.member.id)
        try:
            worker = self.crew.of(seat.room)
            if worker is not None:
                await worker.remove(seat.room, seat.member.id, reason)
        except Missing:
            pass  # the room was closed, or that worker crashed
        except FenghuoError as error:
            journal.warning("leave.worker", code=error.code)
        try:
            await self._fact(seat, Fact.LEFT)
        except FenghuoError as error:
            journal.warning("leave.log", code=error.code)

    def find(self, room: str, member: str) -> Seat | None:
        return self._seats.get(room, {}).get(member)

    def _tell(self, room: str, type_: str, **values: Any) -> None:
        for seat in self._seats.get(room, {}).values():
            seat.send(type_, **values)

    def joined(self, seat: Seat) -> dict[str, Any]:
        """The room as a member finds it: the fields of its `joined` frame."""
        seats = self._seats.get(seat.room, {}).values()
        return {
            "member": seat.member.id,
            "role": seat.member.role,
            "members": [msgspec.to_builtins(other.member) for other in seats],
            "dark": [other.member.id for other in seats if "video" in other.stopped],
            "grades": {other.member.id: other.grade for other in seats if other.grade},
            "speaker": self._speakers.get(seat.room),
        }

    async def change(self, seat: Seat, **values: Any) -> None:
        """A member's facts change: an entry, and everybody hears of it. Raises `Denied` `room.microphones` for a microphone
        that only the chair opens, `Conflict` `room.screen_taken`."""
        if values.get("audio") and seat.member.muted and self.conduct.only_chair_opens(seat.room):
            raise Denied("room.microphones", "Only the chair opens microphones; raise your hand.")
        before = seat.member
        seat.member = replace(before, **values)
        try:
            await self._fact(seat, Fact.CHANGED)
        except FenghuoError:
            seat.member = replace(seat.member, **{name: getattr(before, name) for name in values})
            raise
        worker = self.crew.of(seat.room)
        if values.get("screen") and "screen" in seat.stopped and worker is not None:
            seat.stopped.discard("screen")
            await worker.mute(seat.room, seat.member.id, "screen", on=False)

    # -- the door

    async def passes(self, room: Room, session: Session) -> None:
        """Whether this session may watch without a seat. Raises as `room.admit`: a view passes the same door."""
        member = Member(id="view", account=session.actor.account, name="", joined_at=0)
        if room.chair not in (session.actor.account, session.actor.person):
            await self._node.store.read(lambda c: admit(ReadRows(self._node.store, c), room, member))

    def publishers(self) -> list[Seat]:
        """Who came by WHIP: seats without a socket."""
        return [seat for seats in self._seats.values() for seat in seats.values() if seat.socket is None]

    # -- what the log says

    def on_commit(self, commit: Commit) -> None:
        """Rooms that closed, chairs that acted."""
        for change in commit.changes:
            before, after = change.before, change.after
            if isinstance(after, Room) and not after.open:
                spawn("room.close", self._close(after.id))
            if isinstance(after, Meeting) and after.id in self.conduct.meetings:
                self.conduct.meetings[after.id] = after
                spawn("room.settle", self.conduct.settle(after.id))
            if isinstance(before, Meeting) and isinstance(after, Meeting):
                self.door.changed(before, after)
        for written in commit.written:
            if written.entry.kind == "room.opened" and self._node.parts.get("media") is not None:
                spawn("worker.early", self._warm())  # so that the first to join need not wait for it
            if written.entry.kind == "room.chair_acted":
                spawn("chair.act", self._act(written.entry.body, written.entry.by))

    async def _close(self, room: str) -> None:
        """What is kept of a room goes with it. Idempotent."""
        seats = self._seats.pop(room, {})
        self._speakers.pop(room, None)
        self.conduct.forget(room)
        for seat in seats.values():
            seat.send("closed")
        self._opened.discard(room)
        await self.crew.close(room)

    async def _act(self, body: dict[str, Any], by: By) -> None:
        seat = self.find(body["room"], body["member"])
        worker = self.crew.of(body["room"])
        if seat is None or worker is None:
            return
        if body["act"] == "remove":
            seat.send("removed", by=by.account)
            await self.leave(seat, "removed by the chair")
            return
        if body["kind"] == "screen" and body["act"] == "mute" and seat.member.screen:
            seat.stopped.add("screen")
            await worker.mute(seat.room, seat.member.id, "screen", on=True)
            self._tell(seat.room, "muted", member=seat.member.id, media="screen", on=True, floor=False, closed=False)
            await self.change(seat, screen=False)

    # -- what the worker says

    def _on_event(self, event: control.AnyEvent) -> None:
        match event:
            case control.Offer():
                seat = self.find(event.room, event.member)
                if seat is not None:
                    tracks = msgspec.to_builtins(event.tracks)
                    seat.send("offer", peer=event.peer, revision=event.revision, sdp=event.sdp, tracks=tracks)
            case control.Speaker():
                self._speakers[event.room] = event.member
                self._tell(event.room, "speaker", member=event.member)
            case control.Quality():
                self._measured(event)
            case control.Layers():
                seat = self.find(event.room, event.member)
                if seat is not None:
                    seat.send("layers", mid=event.mid, rids=event.rids)
            case control.PeerClosed():
                self._peer_closed(event)
            case control.WorkerLost():
                journal.error("worker.lost", pid=event.pid, code=event.code)
            case _:
                pass

    def _restarted(self, rooms: Collection[str], peers: Collection[str]) -> None:
        """A worker was started again and every connection of its rooms is gone: browsers are told to connect again; who came
        by WHIP finds out and posts again."""
        for peer in peers:
            self.metrics.closed(peer)
        for seat in self.publishers():
            if seat.room in rooms:
                spawn("whip.gone", self.leave(seat, "worker restarted"))
        for room in rooms:
            self.on_views_lost(room)
            self._tell(room, "restarted")

    def froze(self, seat: Seat, count: int) -> None:
        """A browser tells how often its pictures have frozen since it told last."""
        seat.experience.freezes += count
        self.metrics.froze(seat.room, seat.member.id, count)

    def _measured(self, event: control.Quality) -> None:
        self.metrics.quality(event)
        seat = self.find(event.room, event.member)
        if seat is None:
            return
        seat.experience.add(event)
        measured = msgspec.to_builtins(event)
        for name in ("t", "room", "member"):
            measured.pop(name)
        seat.send("quality", **measured)
        grade = grade_of(event.lost)
        if event.role == "publish" and grade != seat.grade:
            seat.grade = grade
            self._tell(seat.room, "grade", member=seat.member.id, grade=grade)

    def _peer_closed(self, event: control.PeerClosed) -> None:
        self.metrics.closed(event.peer)
        if event.role == "view":
            self.on_view_closed(event.peer)
            return
        seat = self.find(event.room, event.member)
        if seat is None or event.reason in ("asked", "replaced", "room closed", "removed"):
            return
        if seat.socket is None:
            spawn("whip.gone", self.leave(seat, event.reason))
        else:
            seat.send("reconnect", role=event.role, reason=event.reason)
