"""The sending side of a link: which entries the peer lacks, read on from the log as the window allows.

Pure. Keeps no entries, only cursors. Invariant: at most WINDOW entries per channel are on their way, and a stream is on one
channel at a time.
"""

from command.base.entry import Stream
from command.tree.cursor import NOW_BACKLOG_FAR, NOW_BACKLOG_MAX, WINDOW, Cursor, Tips, Todo
from command.tree.item import Received, pack
from command.tree.shelf import Shelf
from command.tree.wire import (
    AHEAD_MAX,
    FRAME_BYTES_LATER,
    FRAME_BYTES_NOW,
    FRAME_ENTRIES_MAX,
    LATER,
    NOW,
    Ahead,
    Entries,
    Held,
    Tip,
    encode,
    packed,
    stream_of,
)

AHEAD_FRAME_MAX = 8
"""Entries sent ahead in one frame: less than a second of 64 kbit/s."""
ROOM_MIN = WINDOW // 4
PACKED_GAIN = 2
"""Entries take about this many times less when they are packed."""


class Outgoing:
    """Cursors of one peer. `flight` counts the entries on their way per channel, `moved` is when it last changed.

    `far` says that a round trip is long: then what is urgent also goes *ahead* on *later*, so that one lost packet delays it
    no more. Whoever gets it twice keeps it once.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.peer = ""
        self.flight = {NOW: 0, LATER: 0}
        self.moved = {NOW: 0, LATER: 0}
        self.far = False
        self.packs = False
        """Whether the peer reads packed entries."""
        self._ahead_flight = {NOW: 0, LATER: 0}
        self._copies: list[Received] = []
        self._cursors: dict[str, Cursor] = {}
        self._paused: set[str] = set()
        self._todo = Todo()
        self._ahead: dict[str, None] = {}

    def clear(self) -> None:
        """Nothing is known of the peer any more."""
        self._cursors.clear()
        self._paused.clear()
        self._todo.clear()
        self._ahead.clear()
        self._copies.clear()
        self.flight = {NOW: 0, LATER: 0}
        self._ahead_flight = {NOW: 0, LATER: 0}

    def __contains__(self, stream: Stream) -> bool:
        return str(stream) in self._cursors

    def held(self, stream: Stream) -> Tips:
        """What the peer is known to hold."""
        cursor = self._cursors.get(str(stream))
        return () if cursor is None else cursor.held

    def waiting(self) -> int:
        """0 when the peer has everything it may have."""
        return len(self._todo) + sum(self.flight.values())

    @property
    def eager(self) -> bool:
        """Whether some stream may have something to send. Looks at lengths only, so any thread may ask."""
        return bool(self._todo) or bool(self._ahead) or bool(self._copies)

    def offers(self, channel: str) -> bool:
        """Whether `pull` may give something for this channel. Looks at lengths only, so any thread may ask."""
        if (channel == NOW and self._ahead) or (channel == LATER and self._copies):
            return True
        return self._todo.on(channel) and self._room(channel) > 0

    def _room(self, channel: str) -> int:
        """How many entries the next frame may hold. What can wait is not sent entry by entry as a full window opens: each
        frame costs a transaction at the other end."""
        room = min(WINDOW - self.flight[channel], FRAME_ENTRIES_MAX)
        return 0 if channel == LATER and self.flight[channel] and room < ROOM_MIN else room

    @property
    def paused(self) -> int:
        """How many streams the peer can't take now. Any thread may ask."""
        return len(self._paused)

    @property
    def hurried(self) -> bool:
        """Whether the next frame on *later* is urgent. Any thread may ask."""
        return bool(self._copies)

    def set(self, stream: Stream, tips: Tips) -> None:
        """The peer holds exactly this (of what is held here)."""
        name = str(stream)
        cursor = self._cursors.get(name)
        if cursor is None:
            self._cursors[name] = Cursor(tips, self._rank(stream))
        else:
            self._land(cursor, cursor.reset(tips))
            self._paused.discard(name)
            cursor.channel = None
        self.due(stream)

    def ahead_of(self, stream: Stream) -> None:
        """What the peer holds is being asked; meanwhile send what matters."""
        name = str(stream)
        self._cursors.setdefault(name, Cursor((), self._rank(stream))).channel = None
        self._ahead[name] = None

    def has(self, stream: Stream, before: bytes, tip: Tip) -> None:
        """The peer sent us this entry, so it holds it."""
        name = str(stream)
        if name not in self._cursors:
            self._cursors[name] = Cursor((), self._rank(stream))
        self._cursors[name].has(before, tip)

    def due(self, stream: Stream) -> None:
        """Put the stream on the list of its channel, if there is anything to send and the peer may have it."""
        name = str(stream)
        cursor = self._cursors[name]
        tips = self._shelf.tips(stream)
        lacking = [tip for tip in tips if tip not in cursor.sent]
        if not lacking and not cursor.flight:
            cursor.ahead.clear()
            cursor.kept.clear()
        if not lacking or cursor.paused or not self._shelf.shared(stream, self.peer):
            self._todo.drop(name)
            return
        if not cursor.flight or cursor.channel is None:
            self._todo.drop(name)
            behind = max(tip.length for tip in lacking) - max((tip.length for tip in cursor.sent), default=0)
            small = abs(behind) <= (NOW_BACKLOG_FAR if self.far else NOW_BACKLOG_MAX) or stream.subject == "tree"
            cursor.channel = NOW if small else LATER
        self._todo.add(cursor.channel, cursor.rank, name)
        if cursor.channel == LATER and cursor.looked != tips:
            self._ahead[name] = None

    def arrived(self, held: Held, now: int) -> list[tuple[Stream, Tips]]:
        """The peer acknowledges; what it holds now of each stream."""
        found = []
        for name, tips in held.streams.items():
            cursor, stream = self._cursors.get(name), stream_of(name)
            if cursor is None:
                continue
            for tip in tips:
                if count := cursor.arrived(tip):
                    self.moved[cursor.channel or NOW] = now
                    self._land(cursor, count)
            self.due(stream)
            found.append((stream, cursor.held))
        for name in held.not_yet:
            if name in self._cursors:
                cursor = self._cursors[name]
                self._land(cursor, cursor.rewind())
                cursor.paused = True
                self._paused.add(name)
                self._todo.drop(name)
        return found

    def ahead_arrived(self, channel: str, hashes: list[bytes]) -> None:
        """The peer keeps these beside its log: they needn't go ahead again, whatever becomes of the connection."""
        self._ahead_flight[channel] = max(0, self._ahead_flight[channel] - len(hashes))
        for cursor in self._cursors.values():
            if cursor.ahead:
                cursor.kept.update(cursor.ahead.intersection(hashes))

    def rewind(self, channel: str) -> None:
        """The channel's connection is gone."""
        self.flight[channel] = self._ahead_flight[channel] = 0
        if channel == LATER:
            self.far = False
            self._copies.clear()
        for name, cursor in self._cursors.items():
            if cursor.channel == channel and cursor.flight:
                cursor.rewind()
                self.due(stream_of(name))
            if channel == NOW and cursor.ahead:
                cursor.ahead &= cursor.kept
                self._ahead[name] = None

    def pull(self, channel: str, now: int, octets: int | None = None) -> bytes | None:
        """The next frame for the channel, or None; about `octets` large at most, if that is given."""
        if channel == NOW and self._ahead:
            frame = self._pull_ahead()
            if frame is not None:
                return frame
        if channel == LATER and self._copies:
            copies, self._copies = self._copies, []
            return self._pack_ahead(LATER, copies)
        before = self.flight[channel]
        room = self._room(channel)
        if octets is None:
            octets = FRAME_BYTES_LATER if channel == LATER else FRAME_BYTES_NOW
        if self._packing:
            octets *= PACKED_GAIN
        found: list[Received] = []
        for name in self._todo.names(channel):
            if room <= 0 or octets <= 0:
                break
            before_it = self._cursors[name].sent
            took = self._take(name, room, octets)
            if channel == NOW and self.far:
                self._copy(name, before_it, took)
            room -= len(took)
            octets -= sum(weight(one) for one in took)
            found += took
        if not found:
            return None
        self.flight[channel] += len(found)
        if not before:
            self.moved[channel] = now
        seals, items = pack(found)
        return self._frame(Entries(seals=seals, items=items))

    def _take(self, name: str, entries: int, octets: int) -> list[Received]:
        """Read on in one stream, and note what is on its way."""
        cursor = self._cursors[name]
        found = self._shelf.rest(stream_of(name), cursor.sent, self.peer, entries, octets)
        if len(found) < entries and sum(weight(one) for one in found) < octets:
            self._todo.drop(name)
        for one in found:
            cursor.send(bytes.fromhex(one.written.entry.prev), one.tip)
        return found

    def _pull_ahead(self) -> bytes | None:
        found: list[Received] = []
        for name in list(self._ahead):
            room = min(AHEAD_MAX - self._ahead_flight[NOW], AHEAD_FRAME_MAX) - len(found)
            cursor = self._cursors[name]
            urgent = self._shelf.urgent(stream_of(name), cursor.held, self.peer)
            due = [one for one in urgent if one.tip.head not in cursor.ahead]
            cursor.ahead.update(one.tip.head for one in due[:room])
            found += due[:room]
            if len(due) > room:
                break
            cursor.looked = self._shelf.tips(stream_of(name))
            del self._ahead[name]
        if not found:
            return None
        if self.far:
            self._copies += found[: self._copies_room()]
        return self._pack_ahead(NOW, found)

    def _pack_ahead(self, channel: str, found: list[Received]) -> bytes:
        self._ahead_flight[channel] += len(found)
        seals, items = pack(found)
        return self._frame(Ahead(seals=seals, items=items))

    @property
    def _packing(self) -> bool:
        """Where a round trip is long the line is slow as a rule, and octets cost more than the time to pack them."""
        return self.far and self.packs

    def _frame(self, message: Entries | Ahead) -> bytes:
        return packed(message) if self._packing else encode(message)

    def _copy(self, name: str, sent: Tips, took: list[Received]) -> None:
        """Remember what is urgent among `took` for *later*; when too much of it is on its way already, once has to do."""
        heads = {one.tip.head for one in took}
        urgent = [one for one in self._shelf.urgent(stream_of(name), sent, self.peer) if one.tip.head in heads]
        self._copies += urgent[: self._copies_room()]

    def _copies_room(self) -> int:
        return max(0, AHEAD_MAX - self._ahead_flight[LATER] - len(self._copies))

    def _land(self, cursor: Cursor, count: int) -> None:
        if cursor.channel is not None:
            self.flight[cursor.channel] = max(0, self.flight[cursor.channel] - count)

    def _rank(self, stream: Stream) -> int:
        """Streams in the order in which they are needed; entries within one keep theirs."""
        if stream.subject == "tree":
            return 0
        if stream.subject == "registry":
            return 2
        if self._shelf.open_subject(stream.subject):
            return 1
        return 4 if stream.subject.startswith("incident/") else 3


def weight(one: Received) -> int:
    """About how many octets it takes in a frame."""
    return len(one.written.data) + len(one.written.private or b"") + len(one.path) + 140
