"""A peer: one neighbour in the tree, its `Link`, and the sockets that carry it.

Shell. It carries out what the link says and decides nothing. Invariant: the link sees proven connections only, and every
`Store` is answered in order; what waits here for a socket is bounded, and a peer that lets it overflow is dropped loudly.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import structlog

from command.base.clock import Clock
from command.base.entry import Stream
from command.base.errors import Denied, FenghuoError, Unavailable
from command.base.failpoint import reach
from command.base.supervise import end, spawn
from command.tree.handshake import Handshake, Stage
from command.tree.item import Received
from command.tree.link import Link
from command.tree.outcome import (
    AheadHeldBy,
    CaughtUp,
    Command,
    Contact,
    Drop,
    GotBlob,
    HeldBy,
    PartsRefused,
    Ready,
    Redial,
    Rolled,
    Send,
    Store,
    StoreAhead,
    Told,
    WantBlob,
)
from command.tree.wire import LATER, NOW, VERSION, VERSION_OLDEST, Hello, Refuse, decode, encode
from command.uplink.channel import Channel

CONTROLS_OCTETS_MAX = 16 * 1024 * 1024
"""Answers that wait for one socket; a peer that asks and does not read is dropped beyond it."""
HANDSHAKE_S = 30.0
RETRY_S = 2.0
"""After the disk was full, the peer is asked again for what could not be stored."""
GOODBYE = 4403

T = TypeVar("T")
journal = structlog.get_logger("link")


class House(Protocol):
    """What a peer needs of the node around it; `Uplink` is one."""

    me: str
    key: bytes
    clock: Clock

    def sign(self, octets: bytes) -> bytes: ...

    def shelf(self) -> Any: ...

    async def think(self, work: Callable[[], T]) -> T:
        """Run something of a link in the thread of links, in one snapshot of the database."""
        ...

    async def store(self, items: list[Received], *, ahead: bool) -> None: ...

    async def rolled(self, stream: Stream) -> None: ...

    def changed(self, peer: "Peer") -> None:
        """Linked, caught up or refused: look at the peer's attributes."""
        ...

    def heard(self, peer: "Peer", command: Command) -> None:
        """`HeldBy`, `Told`, `WantBlob`, `GotBlob` or `PartsRefused`."""
        ...


class Peer:
    """One neighbour. `proven` are the channels that stand and are proven, `linked` says that *now* is among them; `contact_at` is
    the newest Pong (microseconds UTC), `caught_up_at` when the peer last had everything, `refused` why it was dropped last.
    """

    def __init__(self, house: House, node: str, *, dialer: bool) -> None:
        self.node, self.dialer = node, dialer
        self.linked = False
        self.contact_at = 0
        self.rtt_us: int | None = None
        self.skew_us = 0
        self.caught_up_at = 0
        self.caught_up = asyncio.Event()
        self.refused = ""
        self.redials = 0
        self._signs = 0
        self.redial = {NOW: asyncio.Event(), LATER: asyncio.Event()}
        self.channels: dict[str, Channel] = {}
        self.proven: set[str] = set()
        self._house = house
        self._hurry = asyncio.Event()
        """What is urgent has gone on *now*, and is to follow on *later*."""
        self._wake = {NOW: asyncio.Event(), LATER: asyncio.Event()}
        self._controls: dict[str, deque[bytes]] = {NOW: deque(), LATER: deque()}
        self._bulk: deque[bytes] = deque()
        """Pieces of attachments: as many as a link allows to be asked for."""
        self._work: deque[Store | StoreAhead | Rolled] = deque()
        self._working: asyncio.Task[None] | None = None
        self._fresh()

    def _fresh(self) -> None:
        """A new link: at the start, and after one was dropped."""
        self._session = self._house.clock.token()
        self.link = Link(
            me=self._house.me,
            key=self._house.key,
            session=self._session,
            dialer=self.dialer,
            shelf=self._house.shelf(),
            sign=self._house.sign,
            expected=self.node,
        )
        self._work.clear()

    # -- a connection

    async def dial(self, name: str, channel: Channel) -> None:
        """Prove a connection that we dialled, then carry the link over it until it ends. Raises as `accept`."""
        nonce = self._house.clock.octets(32)
        handshake, opening = self._handshake(name, nonce)
        await channel.send(opening)
        hello = await channel.frame(HANDSHAKE_S)
        proof = await self._answer(handshake, hello)
        await channel.send(proof)
        final = await channel.frame(HANDSHAKE_S)
        await self._answer(handshake, final)
        await self._carry(name, channel, nonce, (hello, final), {opening, proof})

    async def accept(self, name: str, channel: Channel, hello: bytes) -> None:
        """The same for one that dialled us and whose Hello was read. Raises `Denied` or `Corrupt` when it proves nothing,
        `Unavailable` when it falls silent."""
        nonce = self._house.clock.octets(32)
        handshake, opening = self._handshake(name, nonce)
        proof = await self._answer(handshake, hello)
        await channel.send(opening)
        await channel.send(proof)
        final = await channel.frame(HANDSHAKE_S)
        await self._answer(handshake, final)
        await self._carry(name, channel, nonce, (hello, final), {opening, proof})

    def _handshake(self, name: str, nonce: bytes) -> tuple[Handshake, bytes]:
        """The handshake apart from the link: a connection that proves nothing must not disturb the one that stands."""
        if self.link.dropped:
            self._fresh()
        hello = Hello(
            versions=(VERSION_OLDEST, VERSION),
            node=self._house.me,
            key=self._house.key,
            nonce=nonce,
            channel=name,
            session=self._session,
        )
        return Handshake(hello, self.dialer, self._house.shelf(), self._house.sign, self.node), encode(hello)

    async def _answer(self, handshake: Handshake, frame: bytes) -> bytes:
        message = decode(frame)
        if isinstance(message, Refuse):
            raise Denied(message.code or "link.refused", message.hint)
        answers = await self._house.think(lambda: handshake.received(message))
        assert answers or handshake.stage is Stage.READY
        return encode(answers[0]) if answers else b""

    async def _carry(
        self, name: str, channel: Channel, nonce: bytes, theirs: tuple[bytes, bytes], said: set[bytes]
    ) -> None:
        """Give the link the handshake that took place (it says the same things itself: they have been sent), then frames."""
        if self.link.dropped:
            raise Unavailable("link.again", "The link was dropped meanwhile; dial again.")
        link, old = self.link, self.channels.get(name)
        self.channels[name] = channel
        self._controls[name].clear()
        if name == LATER:
            self._bulk.clear()
        if old is not None:
            old.abort()

        def greet() -> list[Command]:
            now = self._house.clock.now()
            found = link.connected(name, nonce, now)
            for frame in theirs:
                found = [*found, *link.received(name, frame, now)]
            return found

        commands = await self._house.think(greet)
        reach("link.greeted")
        self._carry_out([one for one in commands if not (isinstance(one, Send) and one.data in said)])
        sender = spawn(f"link.send.{name}", self._send(link, name, channel))
        try:
            async for frame in channel.frames():
                if self.channels.get(name) is not channel:
                    return
                self._carry_out(await self._received(link, name, frame))
        except FenghuoError as error:
            code, hint = error.code, error.hint
            self._carry_out(await self._house.think(lambda: link.refuse(code, hint)))
        finally:
            if link.dropped:
                await asyncio.wait([sender], timeout=1.0)
            await end(sender)
            await channel.close()
            if self.channels.get(name) is channel:
                del self.channels[name]
                self.proven.discard(name)
                if name == NOW and self.linked:
                    self.linked = False
                    self._house.changed(self)
                if link is self.link:
                    self._carry_out(await self._house.think(lambda: link.disconnected(name, self._house.clock.now())))

    async def _received(self, link: Link, name: str, frame: bytes) -> list[Command]:
        reach("link.received")
        return await self._house.think(lambda: link.received(name, frame, self._house.clock.now()))

    async def _send(self, link: Link, name: str, channel: Channel) -> None:
        """Answers first, then what the log has for the peer, chosen at the last moment."""
        controls, wake, followed = self._controls[name], self._wake[name], True
        try:
            while True:
                wake.clear()
                if not link.hurried:
                    self._hurry.clear()
                    await channel.free(self._hurry)
                if controls and not (name == LATER and link.hurried):
                    await channel.send(controls.popleft())
                    followed = False
                    continue
                if link.dropped:
                    await channel.close(GOODBYE, link.dropped)
                    return
                frame = await self._next(link, name, channel)
                if frame is None and name == LATER and self._bulk:
                    frame = self._bulk.popleft()
                if frame is not None:
                    reach("link.before_send")
                    await channel.send(frame)
                    reach("link.after_send")
                if name == LATER:
                    if frame is None:
                        await wake.wait()
                elif frame is not None or not followed:
                    self._follow(link, len(frame or b""))
                    await channel.nudge()
                    followed = True
                else:
                    await channel.settle(wake)
        except Unavailable:
            channel.abort()

    def _follow(self, link: Link, octets: int) -> None:
        """What went on *now* has the line first; what is urgent in it follows on *later*."""
        later = self.channels.get(LATER)
        if later is not None:
            later.give_way(octets)
        if link.hurried:
            self._hurry.set()
            self._wake[LATER].set()

    async def _next(self, link: Link, name: str, channel: Channel) -> bytes | None:
        if not link.offers(name):  # an idle link costs no look at the log
            return None
        octets = channel.frame_octets
        return await self._house.think(lambda: link.pull(name, self._house.clock.now(), octets))

    # -- what the node tells the link

    async def tell(self, work: Callable[[Link], list[Command]]) -> None:
        """Call something of the link and carry out what it says."""
        link = self.link
        commands = await self._house.think(lambda: work(link))
        if link is self.link:
            self._carry_out(commands)

    async def grew(self, streams: Iterable[Stream]) -> None:
        found = list(streams)
        await self.tell(lambda link: link.grew(found, self._house.clock.now()))

    async def stop(self) -> None:
        for channel in list(self.channels.values()):
            await channel.close(1001, "stopping")
        await end(self._working)

    # -- what the link says

    def _carry_out(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Send(channel, data, bulk):
                    (self._bulk if bulk else self._controls[channel]).append(data)
                case Store() | StoreAhead() | Rolled():
                    self._work.append(command)
                    if self._working is None or self._working.done():
                        self._working = spawn("link.store", self._store_all())
                case Ready():
                    self._ready(command)
                case CaughtUp():
                    self.caught_up_at = self._house.clock.now()
                    self.caught_up.set()
                    self._house.changed(self)
                case Contact(rtt, skew):
                    self._signs = 0
                    self.rtt_us, self.skew_us, self.contact_at = rtt, skew, self._house.clock.now()
                case HeldBy() | Told() | WantBlob() | GotBlob() | PartsRefused():
                    if isinstance(command, HeldBy):
                        reach("link.held")
                    self._signs = 0
                    self._house.heard(self, command)
                case Redial(channel, why):
                    self._redial(channel, why)
                case Drop(code, hint):
                    self.refused = code
                    journal.warning("peer.dropped", peer=self.node, code=code, hint=hint)
                    self._house.changed(self)
                case AheadHeldBy():
                    pass
        for name, controls in self._controls.items():
            waiting = [*controls, *self._bulk] if name == LATER else controls
            if sum(map(len, waiting)) > CONTROLS_OCTETS_MAX:
                journal.warning("peer.too_slow", peer=self.node, channel=name)
                controls.clear()
                self._bulk.clear()
                self.refused = "link.too_slow"
                self._abort(name)
        for wake in self._wake.values():
            wake.set()

    def _ready(self, command: Ready) -> None:
        self.proven.add(command.channel)
        if command.channel == NOW and not self.linked:
            self.linked, self.refused = True, ""
            self.contact_at = self._house.clock.now()
            self._house.changed(self)
        later = self.channels.get(LATER)
        if command.channel == NOW and later is not None and later.asleep:
            self._redial(LATER, "silent")  # the line has just carried a handshake; TCP will not look for seconds

    def _redial(self, name: str, why: str) -> None:
        """The side that dials makes a new connection, and only then lets the old one go. The other side can only hang up, and
        TCP may mend the old connection sooner than a new one stands: it waits for a second sign that nothing arrives."""
        self.redials += 1
        journal.info("link.redial", peer=self.node, channel=name, why=why)
        if self.dialer:
            self.redial[name].set()
            return
        self._signs += 1
        if why == "silent" or self._signs > 1:
            self._signs = 0
            self._abort(name)

    def _abort(self, name: str) -> None:
        channel = self.channels.get(name)
        if channel is not None:
            channel.abort()

    async def _store_all(self) -> None:
        """Store in order. What fails is forgotten by the link together with everything after it, and asked for again."""
        link = self.link
        while self._work and link is self.link:
            work = self._work.popleft()
            try:
                if isinstance(work, Rolled):
                    await self._house.rolled(work.stream)
                    continue
                reach("link.before_store")
                await self._house.store(work.items, ahead=isinstance(work, StoreAhead))
                reach("link.after_store")
            except FenghuoError as error:
                journal.error("link.not_stored", peer=self.node, code=error.code, hint=error.hint)
                if isinstance(work, Rolled):
                    await self.tell(lambda link, error=error: link.refuse(error.code, error.hint))  # type: ignore[misc]
                    return
                await self._failed(link, work.number)
                continue
            number = work.number
            await self.tell(lambda link, number=number: link.stored(number, self._house.clock.now()))  # type: ignore[misc]

    async def _failed(self, link: Link, number: int) -> None:
        while self._work:
            self._work.popleft()
        await self.tell(lambda link: link.failed(number, self._house.clock.now()))
        await asyncio.sleep(RETRY_S)
        if link is self.link:
            await self.tell(lambda link: link.again(self._house.clock.now()))
