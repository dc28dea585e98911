"""The exchange of what each side holds, at the start of a link and whenever one of them must say it again.

Pure. Streams of closed subjects are told as one hash per month, and listed one by one only where that differs, so that ten
thousand old incidents cost a few hundred octets. Invariant: nothing counts as lacking at the peer before the peer has said
everything it holds.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from command.base.entry import Stream
from command.base.errors import Corrupt, Denied
from command.tree.cursor import Tips
from command.tree.shelf import Listed, Shelf
from command.tree.wire import EXPAND_MONTHS_MAX, HAVE_STREAMS_MAX, Expand, Have, Message, Tip, stream_of

STREAMS_MAX = 1_000_000
"""More names than this in one exchange and the peer is dropped."""
EXPANDS_MAX = 100
"""The same for lists asked for."""


def month_hash(streams: Iterable[tuple[Stream, Tips]]) -> bytes:
    """SHA-256 over the sorted lines "name length head" of a month's streams."""
    lines = sorted(f"{stream} {tip.length} {tip.head.hex()}" for stream, tips in streams for tip in sorted(tips))
    return hashlib.sha256("\n".join(lines).encode()).digest()


def newest(points: Iterable[Tip], holds: Callable[[Tip], bool]) -> tuple[Tips, list[Tip]]:
    """Of a locator's points, those from where to read on, and those that aren't held.

    A locator goes through each branch from its end backwards; of a run of falling lengths only the first point that is held
    matters. Points in another order cost a longer list and nothing else.
    """
    known: list[Tip] = []
    unknown: list[Tip] = []
    length, found = 0, False
    for tip in points:
        found = found and tip.length < length
        length = tip.length
        if not holds(tip):
            unknown.append(tip)
        elif not found:
            found = True
            known.append(tip)
    return tuple(known), unknown


class Exchange:
    """One side's view of it. Messages to send gather in `outgoing`; `done` once the peer's side is complete."""

    def __init__(self, shelf: Shelf, peer: str) -> None:
        self._shelf, self._peer = shelf, peer
        self._out: list[Message] = []
        self._months: dict[str, bytes] = {}
        self._their_months: dict[str, bytes] = {}
        self._listed: set[str] = set()
        self._awaited: set[str] = set()
        self._said_all = False
        self._expands = 0
        self.done = False

    def begin(self) -> None:
        """Say what we hold: open streams by name, closed ones by month."""
        streams: dict[str, list[Tip]] = {}
        closed: dict[str, list[tuple[Stream, Tips]]] = {}
        for listed in self._shelf.listing(self._peer):
            if listed.month is None:
                streams[str(listed.stream)] = list(listed.tips)
            else:
                closed.setdefault(listed.month, []).append((listed.stream, listed.tips))
        # Older months than fit are listed by name: it costs octets, nothing else.
        for month in sorted(closed)[:-EXPAND_MONTHS_MAX]:
            streams |= {str(stream): list(tips) for stream, tips in closed.pop(month)}
        self._months = {month: month_hash(found) for month, found in closed.items()}
        self._say(streams, months=self._months, done=True, begin=True)

    def ask(self, streams: dict[str, list[Tip]]) -> None:
        """What do you hold of these? We hold this."""
        if streams:
            self._say(streams, ask=True)

    def tell(self, streams: dict[str, list[Tip]]) -> None:
        """We hold this of these streams, whatever was said before."""
        if streams:
            self._say(streams)

    def expand(self, months: list[str]) -> None:
        """Answer an Expand."""
        self._expands += 1
        if self._expands > EXPANDS_MAX:
            raise Denied("link.have", f"More than {EXPANDS_MAX} lists were asked for.")
        wanted = set(months)
        found = {
            str(listed.stream): list(listed.tips)
            for listed in self._shelf.listing(self._peer)
            if listed.month in wanted
        }
        self._say(found, answers=sorted(wanted))

    def heard(self, message: Have) -> None:
        """Take in what the peer says; its streams have been looked at by the link already."""
        if message.ask:
            answer = {}
            for name in message.streams:
                stream = stream_of(name)
                shared = self._shelf.shared(stream, self._peer)
                answer[name] = list(self._shelf.tips(stream)) if shared else []
            self.tell(answer)
        if self.done:
            return
        self._listed.update(message.streams)
        if len(self._listed) > STREAMS_MAX:
            raise Corrupt("link.have", f"More than {STREAMS_MAX} streams.")
        self._their_months |= message.months
        self._awaited.difference_update(message.answers)
        if message.done and not self._said_all:
            self._said_all = True
            differ = sorted(month for month, digest in self._their_months.items() if self._months.get(month) != digest)
            self._awaited.update(differ)
            if differ:
                self._out.append(Expand(months=differ))

    def finished(self) -> bool:
        """True once, when the peer has said everything."""
        if self.done or not self._said_all or self._awaited:
            return False
        self.done = True
        return True

    def unlisted(self) -> Iterator[tuple[Listed, bool]]:
        """Our streams that the peer did not name, and whether they are in a month that is equal on both sides."""
        for listed in self._shelf.listing(self._peer):
            if str(listed.stream) in self._listed:
                continue
            month = listed.month
            equal = month is not None and month in self._months and self._their_months.get(month) == self._months[month]
            yield listed, equal
        self._listed.clear()

    def outgoing(self) -> list[Message]:
        out, self._out = self._out, []
        return out

    def _say(
        self,
        streams: dict[str, list[Tip]],
        *,
        months: dict[str, bytes] | None = None,
        answers: list[str] | None = None,
        ask: bool = False,
        done: bool = False,
        begin: bool = False,
    ) -> None:
        names = sorted(streams)
        cuts = list(range(0, len(names), HAVE_STREAMS_MAX)) or [0]
        for cut in cuts:
            last = cut == cuts[-1]
            self._out.append(
                Have(
                    streams={name: streams[name] for name in names[cut : cut + HAVE_STREAMS_MAX]},
                    months=(months or {}) if last else {},
                    answers=(answers or []) if last else [],
                    ask=ask,
                    done=done and last,
                    begin=begin and cut == 0,
                )
            )
