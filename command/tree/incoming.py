"""The receiving side of a link: entries through the door, out to be stored, acknowledged once they are durable.

Pure. Acknowledges nothing that isn't durable. Invariant: what waits to be stored is bounded by what a peer that keeps to the
window may have on its way.
"""

from typing import NamedTuple

from command.base.entry import Stream
from command.base.errors import Corrupt, Denied
from command.tree.cursor import WINDOW, Tips
from command.tree.item import Door, Gap, Received, Unknown
from command.tree.shelf import Shelf
from command.tree.wire import AHEAD_MAX, BRANCHES_MAX, WANT_MAX, Ahead, AheadHeld, Entries, Held, Tip

WAITING_MAX = 2 * WINDOW + 2 * AHEAD_MAX + WANT_MAX
GAPS_MAX = 64
UNKNOWN_MAX = 10_000

Arrived = tuple[Stream, bytes, Tip]
"""An entry that came: its stream, the hash before it, its own tip."""


class Batch(NamedTuple):
    """Entries that were handed out to be stored."""

    channel: str
    items: list[Arrived]
    ahead: bool


class Taken(NamedTuple):
    """What a frame gave: `number` 0 when nothing has to be stored; `not_yet` are streams whose origin's key isn't known."""

    number: int
    items: list[Arrived]
    new: list[Received]
    gaps: list[Stream]
    not_yet: list[Stream]


class Incoming:
    """What came from one peer and isn't durable yet."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.signed = shelf.signed
        self._number = 0
        self._batches: dict[int, Batch] = {}
        self._pending: set[tuple[Stream, Tip]] = set()
        self._unknown: set[Stream] = set()
        self._gaps = 0
        self._branches: dict[Stream, int] = {}

    def holds(self, stream: Stream, tip: Tip) -> bool:
        """Whether the entry is held, or is about to be."""
        return (stream, tip) in self._pending or self._shelf.holds(stream, tip)

    def entries(self, channel: str, message: Entries, peer: str) -> Taken:
        """Check a frame. Raises `Corrupt` or `Denied` when the peer has to be dropped."""
        door = Door(self, message.seals)
        items: list[Arrived] = []
        new: list[Received] = []
        skipped: set[Stream] = set()
        gaps: list[Stream] = []
        not_yet: list[Stream] = []
        fresh: set[tuple[Stream, Tip]] = set()
        admitted: set[Stream] = set()
        for item in message.items:
            try:
                found, before, place = door.placed(item)
            except Unknown as error:
                if error.stream not in skipped:
                    not_yet.append(error.stream)
                skipped.add(error.stream)
                self._remember(error.stream)
                continue
            except Gap as error:
                if error.stream not in skipped and error.stream not in self._unknown:
                    self._count_gap(error)
                    gaps.append(error.stream)
                skipped.add(error.stream)
                continue
            stream, tip = place
            if stream not in admitted:
                self._admit(stream, peer)
                admitted.add(stream)
            if not self._room(stream, before, tip, fresh):
                skipped.add(stream)
                not_yet.append(stream)
                continue
            items.append((stream, before.head, tip))
            if place not in fresh and not self.holds(stream, tip):
                fresh.add(place)
                new.append(found)
            elif found.written.private is not None and self._shelf.lacks(tip):
                new.append(found)
        number = 0
        if items and (new or self._batches):
            number = self._keep(Batch(channel, items, False))
            self._pending |= fresh
        return Taken(number, items, new, gaps, not_yet)

    def ahead(self, channel: str, message: Ahead, peer: str) -> Taken:
        """Check entries that were sent ahead."""
        door = Door(self._shelf, message.seals)
        new: list[Received] = []
        for item in message.items:
            try:
                found = door.alone(item)
            except Unknown:
                continue
            self._admit(found.stream, peer)
            new.append(found)
        items = [(one.stream, b"", one.tip) for one in new]
        number = self._keep(Batch(channel, items, True)) if items else 0
        return Taken(number, items, [one for one in new if not self._shelf.holds(one.stream, one.tip)], [], [])

    def stored(self, number: int) -> tuple[str, Held | AheadHeld] | None:
        """The acknowledgement of a batch and its channel; None when the batch was given up before."""
        batch = self._batches.pop(number, None)
        if batch is None:
            return None
        self._pending.difference_update((stream, tip) for stream, _, tip in batch.items)
        if batch.ahead:
            return batch.channel, AheadHeld(hashes=[tip.head for _, _, tip in batch.items])
        self._gaps = 0
        if not self._batches:
            self._branches.clear()
        return batch.channel, acknowledge(batch.items)

    def failed(self, number: int) -> list[Stream]:
        """This batch and all after it weren't stored; their streams, which will be asked for again."""
        given_up: set[Stream] = set()
        for later in [one for one in self._batches if one >= number]:
            batch = self._batches.pop(later)
            self._pending.difference_update((stream, tip) for stream, _, tip in batch.items)
            for stream, _, _ in batch.items:
                self._remember(stream)
                given_up.add(stream)
        return sorted(given_up)

    def skipped(self) -> dict[str, list[Tip]]:
        """What is held of the streams to ask for again; they count as asked now."""
        found = {str(stream): list(self._shelf.tips(stream)) for stream in sorted(self._unknown)}
        self._unknown.clear()
        return found

    def _room(self, stream: Stream, before: Tip, tip: Tip, fresh: set[tuple[Stream, Tip]]) -> bool:
        """Whether the stream may have one branch more, if this entry begins one: an origin that forks on purpose is heard out
        to BRANCHES_MAX and no further, and whoever passes it on isn't to blame."""
        if (stream, before) in fresh or (stream, before) in self._pending:
            return True
        tips = self._shelf.tips(stream)
        if (tip.length == 1 and not tips) or before in tips or self.holds(stream, tip):
            return True
        if len(tips) + self._branches.get(stream, 0) >= BRANCHES_MAX:
            return False
        self._branches[stream] = self._branches.get(stream, 0) + 1
        return True

    def _keep(self, batch: Batch) -> int:
        if len(batch.items) + sum(len(one.items) for one in self._batches.values()) > WAITING_MAX:
            raise Denied("link.window", f"More than {WINDOW} entries are on their way unacknowledged.")
        self._number += 1
        self._batches[self._number] = batch
        return self._number

    def _admit(self, stream: Stream, peer: str) -> None:
        if not self._shelf.accepts(stream, peer):
            raise Denied("link.foreign_stream", f"{stream} is not for this node, or not from there.")

    def _remember(self, stream: Stream) -> None:
        if len(self._unknown) < UNKNOWN_MAX:
            self._unknown.add(stream)

    def _count_gap(self, error: Corrupt) -> None:
        """A gap follows when something was skipped or given up; a peer that goes on making them is dropped."""
        self._gaps += 1
        if self._gaps > GAPS_MAX:
            raise error


def acknowledge(items: list[Arrived]) -> Held:
    """Of each stream the last entries: those that no other one of them follows."""
    tips: dict[str, Tips] = {}
    names: dict[Stream, str] = {}
    for stream, before, tip in items:
        name = names.get(stream)
        if name is None:
            name = names[stream] = str(stream)
        known = tips.get(name, ())
        if len(known) == 1 and known[0].head == before:
            tips[name] = (tip,)
        else:
            tips[name] = (*(one for one in known if one.head != before), tip)
    return Held(streams={name: list(some) for name, some in tips.items()})
