"""The link between two nodes: catch-up as the only way to sync, without sockets, clocks or a database.

Pure: frames and the instant go in, commands come out. It never keeps a queue (the log is the queue, `cursor` says how far the
peer is), never believes an entry that `item.Door` hasn't passed, and never crashes on what a peer sends: it answers with a
Refuse and yields `Drop`. Invariant: an entry counts as held by the peer only once the peer said that it is durable there.

The caller must
- make one Link per peer and process run, and feed both channels into it;
- carry out the commands in order, before it feeds the next frame; `Rolled` before anything else is written or stored;
- answer every `Store` with `stored` or `failed`, in order;
- call `grew` when any stream has grown here or is newly shared, and `tick` at least once a second;
- send what `pull` gives whenever the socket takes more (and, on *later*, the pacing allows it).
"""

from collections.abc import Callable, Iterable

from command.base.entry import Stream
from command.base.errors import Corrupt, Denied, FenghuoError
from command.tree.cursor import Tips
from command.tree.handshake import Handshake, Stage
from command.tree.incoming import Arrived, Incoming, acknowledge
from command.tree.item import pack
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
from command.tree.outgoing import Outgoing
from command.tree.reconciliation import Found, Reconciliation
from command.tree.shelf import Shelf
from command.tree.wire import (
    BLOB_BYTES_MAX,
    HAVE_STREAMS_MAX,
    LATER,
    NOW,
    VERSION,
    VERSION_OF_WANT,
    VERSION_OLDEST,
    VERSION_PACKED,
    Ahead,
    AheadHeld,
    Blob,
    Entries,
    Expand,
    Fetch,
    Fork,
    Have,
    Held,
    Hello,
    Line,
    Locations,
    Message,
    Ping,
    Pong,
    Refuse,
    Tip,
    Want,
    decode,
    encode,
    stream_of,
)

SECOND = 1_000_000
PING_US = 5 * SECOND
SILENT_US = 20 * SECOND
RTT_START_US = 2 * SECOND
FETCHES_MAX = 8
FAR_US = 200_000
"""From this round trip on, what is urgent goes on both channels."""
PATIENCE_MAX = 32
"""Times 2 RTT + 1 s: each fruitless fresh connection doubles the patience, for lines slower than their round trip tells."""


class _Channel:
    """One connection: its handshake, and when something was last heard and asked."""

    __slots__ = ("handshake", "heard", "name", "pinged")

    def __init__(self, name: str, handshake: Handshake, now: int) -> None:
        self.name, self.handshake = name, handshake
        self.heard = self.pinged = now

    @property
    def ready(self) -> bool:
        return self.handshake.stage is Stage.READY


class Link:
    """One peer. `peer` is None until a channel is proven; `rtt_us` and `skew_us` follow the newest Pong; `dropped` is the code
    once the link is dead. `key` is our raw public key, `sign` signs octets with the private one; `session` names this
    Link: fresh for each one; `expected` is whom we dial (None when we were dialled)."""

    def __init__(
        self,
        *,
        me: str,
        key: bytes,
        session: str,
        dialer: bool,
        shelf: Shelf,
        sign: Callable[[bytes], bytes],
        expected: str | None = None,
        program: str = "",
    ) -> None:
        self.me, self.peer = me, expected
        self.rtt_us, self.skew_us = RTT_START_US, 0
        self.dropped: str | None = None
        self._key, self._session, self._dialer, self._program = key, session, dialer, program
        self._shelf, self._sign, self._expected = shelf, sign, expected
        self._session_of_peer: str | None = None
        self._version_of_peer = 0
        self._channels: dict[str, _Channel] = {}
        self._out: list[Command] = []
        self._both: Reconciliation | None = None
        self._arriving: dict[int, list[Arrived]] = {}
        self._outgoing = Outgoing(shelf)
        self._incoming = Incoming(shelf)
        self._fetching: dict[tuple[bytes, int], int] = {}
        self._asked = 0
        self._caught_up = False
        self._patience = 1

    # -- what the shell calls

    def connected(self, channel: str, nonce: bytes, now: int) -> list[Command]:
        """A WebSocket stands. `nonce` is 32 fresh random octets."""
        if self.dropped:
            return []
        self._lose(channel)
        hello = Hello(
            versions=(VERSION_OLDEST, VERSION),
            node=self.me,
            key=self._key,
            nonce=nonce,
            channel=channel,
            session=self._session,
            program=self._program,
        )
        expected = self._expected if self._session_of_peer is None else self.peer
        handshake = Handshake(hello, self._dialer, self._shelf, self._sign, expected)
        self._channels[channel] = _Channel(channel, handshake, now)
        return [Send(channel, encode(hello))]

    def disconnected(self, channel: str, now: int) -> list[Command]:
        """The WebSocket is gone; what was on its way on it will go again."""
        self._lose(channel)
        return []

    def received(self, channel: str, data: bytes, now: int) -> list[Command]:
        """A frame came. Whatever is in it, this returns."""
        if self.dropped or channel not in self._channels:
            return []
        at = self._channels[channel]
        at.heard = now
        try:
            message = decode(data)
            if isinstance(message, Refuse):
                return self._die(message.code, message.hint)
            if at.ready:
                self._handle(at, message, now)
            else:
                self._greet(at, message)
        except FenghuoError as error:
            return self.refuse(error.code, error.hint)
        return self._flush()

    def refuse(self, code: str, hint: str) -> list[Command]:
        """Say why on every channel, and hang up."""
        said: list[Command] = [Send(name, encode(Refuse(code[:200], hint[:1000]))) for name in self._channels]
        return [*said, *self._die(code, hint)]

    def grew(self, streams: Iterable[Stream], now: int) -> list[Command]:
        """These streams have grown here, or are newly shared. The caller must name all streams of a newly shared subject."""
        if self.dropped or self._both is None:
            return []
        streams = list(streams)
        self._durable(set(streams))
        self._both.grew(streams)
        return self._flush()

    def stored(self, number: int, now: int) -> list[Command]:
        """What `Store` or `StoreAhead` handed out is durable. The caller must call `grew` of every link after this."""
        answer = self._incoming.stored(number)
        self._peer_has(self._arriving.pop(number, []))
        if answer is not None:
            self._send(*answer)
        return self._flush()

    def failed(self, number: int, now: int) -> list[Command]:
        """It couldn't be stored (disk full). Everything handed out since is forgotten too; `again` asks for it."""
        self._arriving = {one: items for one, items in self._arriving.items() if one < number}
        self._not_yet(self._incoming.failed(number))
        return self._flush()

    def again(self, now: int) -> list[Command]:
        """Ask once more for streams that couldn't be taken: their origin's key has come, or there is room on the disk."""
        if self._ready(NOW) and self._both is not None:
            self._both.ask(self._incoming.skipped())
        return self._flush()

    def tell(self, message: Line | Locations) -> list[Command]:
        """Tell the state of the line, or last locations."""
        if not self._ready(NOW):
            return []
        return [Send(NOW, encode(message))]

    def want(self, stream: Stream, tips: list[Tip]) -> list[Command]:
        """Ask for the private parts of entries that are held without: at most WANT_MAX. What comes is stored like any entry."""
        ready = self._ready(LATER) and self._both is not None and self._both.done
        if not ready or self._version_of_peer < VERSION_OF_WANT:
            return []
        return [Send(LATER, encode(Want(stream=str(stream), tips=tips)))]

    def fetch(self, hash: bytes, offset: int) -> list[Command]:
        """Ask for a piece of an attachment; the answer is `GotBlob`."""
        if not self._ready(LATER):
            return []
        self._fetching[hash, offset] = self._fetching.get((hash, offset), 0) + 1
        return [Send(LATER, encode(Fetch(hash=hash, offset=offset)))]

    def blob(self, hash: bytes, offset: int, total: int, data: bytes) -> list[Command]:
        """Answer `WantBlob`; at most BLOB_BYTES_MAX octets."""
        self._asked = max(0, self._asked - 1)
        if not self._ready(LATER):
            return []
        assert len(data) <= BLOB_BYTES_MAX
        return [Send(LATER, encode(Blob(hash=hash, offset=offset, total=total, data=data)), bulk=True)]

    def tick(self, now: int) -> list[Command]:
        """Ping, and notice what does not arrive. What isn't acknowledged on *now* within 2 RTT + 1 s goes again on a fresh
        connection; so does a channel on which nothing is heard."""
        if self.dropped:
            return []
        moved = self._outgoing.moved
        for at in self._channels.values():
            if now - at.heard > SILENT_US:
                self._out.append(Redial(at.name, "silent"))
                at.heard = now
            elif at.name == NOW and self._outgoing.flight[NOW] and now - moved[NOW] > self._due_us():
                self._out.append(Redial(at.name, "unacknowledged"))
                self._patience = min(2 * self._patience, PATIENCE_MAX)
                moved[NOW] = now
            elif self._pings(at, now):
                at.pinged = now
                self._send(at.name, Ping(clock=now))
        return self._flush()

    def quiet(self, now: int) -> bool:
        """Whether `tick` would do nothing. Changes nothing and looks at nothing that could tear: any thread may ask."""
        return not any(
            now - at.heard > SILENT_US
            or self._pings(at, now)
            or (at.name == NOW and self._outgoing.flight[NOW] and now - self._outgoing.moved[NOW] > self._due_us())
            for at in list(self._channels.values())
        )

    @property
    def eager(self) -> bool:
        """Whether `pull` may give something; any thread may ask. What changes it is followed by commands or an acknowledged
        call, so whoever looks again after each of those misses nothing."""
        return self._outgoing.eager

    def offers(self, channel: str) -> bool:
        """The same for one channel, with room in its window; any thread may ask."""
        return self._outgoing.offers(channel)

    @property
    def hurried(self) -> bool:
        """Whether what `pull` gives next for *later* must not wait for the pacing, nor for answers; any thread may ask."""
        return self._outgoing.hurried

    def _pings(self, at: _Channel, now: int) -> bool:
        """On *later* the dialler alone asks: its question is a sign of life to the other side, the answer one to itself."""
        return at.ready and (self._dialer or at.name == NOW) and now - at.pinged >= PING_US

    def pull(self, channel: str, now: int, octets: int | None = None) -> bytes | None:
        """The next frame of entries for the channel, of about `octets` at most; None when there is nothing to send, or the
        window is full. A line that was measured to be fast takes larger frames than the channel's own."""
        if self.dropped or self._both is None or not self._ready(channel):
            return None
        return self._outgoing.pull(channel, now, octets)

    def waiting(self) -> int:
        """How many streams have something to send and entries are on their way: 0 when the peer has all it may have."""
        return self._outgoing.waiting()

    @property
    def paused(self) -> int:
        """How many streams the peer can't take now, because its disk is full or an origin's key isn't known there; any thread
        may ask. They don't count as waiting: there is nothing to send until the peer names them."""
        return self._outgoing.paused

    @property
    def settled(self) -> bool:
        """Whether both channels stand, the peer has said everything, nothing is asked, and it has all that it may have."""
        ready = self._ready(NOW) and self._ready(LATER)
        return ready and self._both is not None and self._both.certain and self.waiting() == 0

    def complete(self) -> bool:
        """Whether the peer has said everything it holds for us, and all of it is durable here. The caller must read in one
        snapshot, as for every other call."""
        return self._both is not None and self._both.complete()

    def held_tips(self, stream: Stream) -> Tips:
        """What the peer is known to hold of a stream."""
        return self._outgoing.held(stream)

    # -- frames that came

    def _greet(self, at: _Channel, message: Message) -> None:
        for answer in at.handshake.received(message):
            self._send(at.name, answer)
        if not at.ready:
            return
        hello = at.handshake.hello
        assert hello is not None
        self.peer = self._outgoing.peer = hello.node
        self._version_of_peer = hello.versions[1]
        self._outgoing.packs = hello.versions[1] >= VERSION_PACKED
        self._out.append(Ready(hello.node, at.name))
        if hello.session != self._session_of_peer:
            self._session_of_peer = hello.session
            self._both = None
            self._outgoing.clear()
        if at.name != NOW:
            return
        if self._both is None or not self._both.done:
            self._begin()
        else:
            self._both.ask_again()

    def _begin(self) -> None:
        """Say everything from the start; what was known of the peer counts no more."""
        self._outgoing.clear()
        self._caught_up = False
        self._both = Reconciliation(self.me, self._peer(), self._shelf, self._outgoing, self._incoming)

    def _handle(self, at: _Channel, message: Message, now: int) -> None:
        match message:
            case Entries():
                self._entries(at, message)
            case Held():
                self._patience = 1
                self._out += [HeldBy(stream, tips) for stream, tips in self._outgoing.arrived(message, now)]
            case Have():
                self._have(message)
            case Expand():
                self._reconciling().expand(message.months)
            case Fork():
                if self._both is not None:  # else it is of a session before: everything is asked anew
                    self._follow(self._both.fork(message))
            case Ahead():
                taken = self._incoming.ahead(at.name, message, self._peer())
                if taken.number:
                    self._out.append(StoreAhead(taken.number, taken.new))
            case AheadHeld():
                self._outgoing.ahead_arrived(at.name, message.hashes)
                self._out.append(AheadHeldBy(list(message.hashes)))
            case Ping():
                self._send(at.name, Pong(echo=message.clock, clock=now))
            case Pong():
                if at.name == NOW:  # on *later* it waited for the pacing
                    self._pong(message, now)
            case Line() | Locations():
                self._out.append(Told(message))
            case Want():
                self._want(message)
            case Fetch():
                self._fetch(message)
            case Blob():
                self._blob(message)
            case _:
                raise Corrupt("link.order", f"A {type(message).__name__} after the handshake.")

    def _peer_has(self, items: list[Arrived]) -> None:
        """What came from the peer needn't go back to it. Noted only once it is durable here: a cursor that is ahead of the
        shelf would read on from nowhere, and send the whole stream back."""
        for stream, before, tip in items:
            self._outgoing.has(stream, before, tip)
            if self._both is not None:
                self._both.kept(stream, tip)
        for stream in sorted({stream for stream, _, _ in items}):
            self._outgoing.due(stream)

    def _durable(self, grown: set[Stream]) -> None:
        """What came from the peer may be known as grown before `stored` says so: it needn't go back even then."""
        for number, items in self._arriving.items():
            here: list[Arrived] = []
            rest: list[Arrived] = []
            followed: set[bytes] = set()
            for stream, before, tip in reversed(items):  # what an entry that is held follows is held
                if stream in grown and (tip.head in followed or self._shelf.holds(stream, tip)):
                    followed.add(before)
                    here.append((stream, before, tip))
                else:
                    rest.append((stream, before, tip))
            if here:
                self._arriving[number] = rest[::-1]
                self._peer_has(here[::-1])

    def _entries(self, at: _Channel, message: Entries) -> None:
        both = self._reconciling()
        taken = self._incoming.entries(at.name, message, self._peer())
        for stream, _, _ in taken.items:
            both.came(stream)
        if taken.number:
            self._arriving[taken.number] = taken.items
        else:
            self._peer_has(taken.items)
        for one in taken.new:
            if one.stream.origin == self.me:
                self._roll(Rolled(one.stream, one.tip))
        if taken.number:
            self._out.append(Store(taken.number, taken.new))
        elif taken.items:
            self._send(at.name, acknowledge(taken.items))
        self._not_yet(taken.not_yet)
        both.ask({str(stream): list(self._shelf.tips(stream)) for stream in taken.gaps})

    def _not_yet(self, streams: list[Stream]) -> None:
        if streams:
            self._send(NOW, Held(not_yet=[str(stream) for stream in streams[:HAVE_STREAMS_MAX]]))

    def _have(self, message: Have) -> None:
        if message.begin and self._reconciling().done:
            self._begin()
        self._follow(self._reconciling().have(message))

    def _follow(self, found: Found) -> None:
        for one in found:
            if isinstance(one, Rolled):
                self._roll(one)
            else:
                self._send(NOW, one)

    def _roll(self, rolled: Rolled) -> None:
        if not self._shelf.ended(rolled.stream.generation):
            self._out.append(rolled)

    def _pong(self, message: Pong, now: int) -> None:
        rtt = now - message.echo
        if 0 <= rtt <= 3 * SILENT_US:
            self.rtt_us = rtt
            self._outgoing.far = rtt >= FAR_US and self._ready(LATER)
            self.skew_us = message.clock - (message.echo + rtt // 2)
            self._out.append(Contact(rtt, self.skew_us))

    def _want(self, message: Want) -> None:
        """Give again what the peer may read by now; on *later*, when no other entry is waiting."""
        self._reconciling()
        found, refused = self._shelf.parts(stream_of(message.stream), message.tips, self._peer())
        if refused:
            self._out.append(PartsRefused(refused))
        if found:
            seals, items = pack(found)
            self._out.append(Send(LATER, encode(Entries(seals=seals, items=items)), bulk=True))

    def _fetch(self, message: Fetch) -> None:
        self._asked += 1
        if self._asked > FETCHES_MAX:
            raise Denied("link.fetches", f"More than {FETCHES_MAX} pieces were asked for at once.")
        self._out.append(WantBlob(message.hash, message.offset, message.length))

    def _blob(self, message: Blob) -> None:
        asked, left = (message.hash, message.offset), self._fetching.pop((message.hash, message.offset), 0)
        if not left:
            raise Corrupt("link.unasked", "A piece of an attachment that was not asked for.")
        if left > 1:  # asked again when the answer took long
            self._fetching[asked] = left - 1
        self._out.append(GotBlob(message.hash, message.offset, message.total, message.data))

    # -- small things

    def _due_us(self) -> int:
        """When what was sent on *now* should have been acknowledged."""
        return self._patience * (2 * self.rtt_us + SECOND)

    def _peer(self) -> str:
        assert self.peer is not None
        return self.peer

    def _reconciling(self) -> Reconciliation:
        if self._both is None:
            raise Corrupt("link.order", "Nothing may come before *now* is proven.")
        return self._both

    def _ready(self, channel: str) -> bool:
        return channel in self._channels and self._channels[channel].ready

    def _send(self, channel: str, message: Message) -> None:
        if channel in self._channels:
            self._out.append(Send(channel, encode(message)))

    def _flush(self) -> list[Command]:
        both = self._both
        if both is not None and self._ready(NOW):
            for message in both.messages():
                self._send(NOW, message)
            if both.done and not self._caught_up and self.waiting() == 0:
                self._caught_up = True
                self._out.append(CaughtUp(self._peer()))
        out, self._out = self._out, []
        return out

    def _lose(self, channel: str) -> None:
        self._channels.pop(channel, None)
        self._outgoing.rewind(channel)
        if channel == LATER:
            self._fetching.clear()
            self._asked = 0

    def _die(self, code: str, hint: str) -> list[Command]:
        out, self._out = self._out, []
        self.dropped = code
        return [*[one for one in out if not isinstance(one, Send)], Drop(code, hint)]
