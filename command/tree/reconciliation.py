"""What the two ends of a link know of each other's streams: told at the start, asked again wherever it is in doubt.

Pure. It sends nothing and stores nothing: it says what to ask, and sets the cursors of what goes out. Invariant: a cursor stands
where the peer itself has said it is, never where we suppose it to be; while a question is open, nothing counts as complete.
"""

from collections.abc import Iterable, Iterator

from command.base.entry import Stream
from command.tree.cursor import NOW_BACKLOG_MAX
from command.tree.have import Exchange, newest
from command.tree.incoming import Incoming
from command.tree.outcome import Rolled
from command.tree.outgoing import Outgoing
from command.tree.shelf import Shelf
from command.tree.wire import Fork, Have, Message, Tip, stream_of

PROMISED_MAX = 1_000_000
"""Ends of streams that the peer has named and that are not here yet; once there were so many, nothing is complete."""

Found = Iterator[Fork | Rolled]
"""What a message of the peer leads to: branches to tell it on *now*, own entries that only it holds. Must be taken to the end."""


class Reconciliation:
    """From one beginning to the next. `me` and `peer` are node ids."""

    def __init__(self, me: str, peer: str, shelf: Shelf, outgoing: Outgoing, incoming: Incoming) -> None:
        self._me, self._peer = me, peer
        self._shelf, self._outgoing, self._incoming = shelf, outgoing, incoming
        self._exchange = Exchange(shelf, peer)
        self._exchange.begin()
        self._grown: set[Stream] = set()
        self._uncertain: set[str] = set()
        self._promised: set[tuple[Stream, Tip]] = set()

    @property
    def done(self) -> bool:
        """Whether the peer has said everything that it holds."""
        return self._exchange.done

    @property
    def certain(self) -> bool:
        """The same, and no question is open."""
        return self._exchange.done and not self._uncertain

    def complete(self) -> bool:
        """Whether all that the peer has named is durable here."""
        if not self.certain or len(self._promised) == PROMISED_MAX:
            return False
        self._promised = {(stream, tip) for stream, tip in self._promised if not self._shelf.holds(stream, tip)}
        return not self._promised

    def messages(self) -> list[Message]:
        """What is to be said on *now*; each is given once."""
        return self._exchange.outgoing()

    # -- what is asked

    def ask(self, streams: dict[str, list[Tip]]) -> None:
        """What does the peer hold of these? We hold this."""
        self._uncertain.update(streams)
        self._exchange.ask(streams)

    def ask_again(self) -> None:
        """Questions and answers may have been lost with a connection."""
        self.ask({name: list(self._shelf.tips(stream_of(name))) for name in sorted(self._uncertain)})

    def expand(self, months: list[str]) -> None:
        """The peer wants these months by name."""
        self._exchange.expand(months)

    # -- what changes here

    def grew(self, streams: Iterable[Stream]) -> None:
        """These have grown here, or are newly shared."""
        asking: dict[str, list[Tip]] = {}
        for stream in streams:
            if not self._exchange.done:
                self._grown.add(stream)
            if stream in self._outgoing:
                self._outgoing.due(stream)
            elif self._exchange.done and self._shelf.shared(stream, self._peer):
                tips = self._shelf.tips(stream)
                if max((tip.length for tip in tips), default=0) > NOW_BACKLOG_MAX:
                    asking[str(stream)] = list(tips)
                    self._outgoing.ahead_of(stream)
                else:
                    self._outgoing.set(stream, ())
        self.ask(asking)

    def came(self, stream: Stream) -> None:
        """Entries of the stream came: that answers what was asked about it."""
        self._uncertain.discard(str(stream))

    def kept(self, stream: Stream, tip: Tip) -> None:
        """What the peer had named is durable here."""
        self._promised.discard((stream, tip))

    # -- what the peer says

    def have(self, message: Have) -> Found:
        """The peer holds this."""
        for name, tips in message.streams.items():
            stream = stream_of(name)
            if not message.ask:
                self._uncertain.discard(name)
            unknown = [tip for tip in tips if not self._incoming.holds(stream, tip)]
            self._promised.update((stream, tip) for tip in unknown[: PROMISED_MAX - len(self._promised)])
            if stream.origin == self._me and unknown:
                yield Rolled(stream, unknown[0])
            held = self._shelf.tips(stream)
            if not held or not self._shelf.shared(stream, self._peer):
                continue  # no cursor for what isn't here: a peer may name as many streams as it likes
            self._outgoing.set(stream, tuple(tip for tip in tips if tip not in unknown))
            mine = max(tip.length for tip in held)
            if any(tip.length <= mine for tip in unknown):
                self._uncertain.add(name)
                yield self._branches(stream, answer=False)
        self._exchange.heard(message)
        if self._exchange.finished():
            self._finish()

    def fork(self, message: Fork) -> Found:
        """The peer's chains pass through these points; read on from the newest of them that are held here."""
        stream = stream_of(message.stream)
        if message.answer:
            self._uncertain.discard(message.stream)
        if not self._shelf.shared(stream, self._peer):
            return
        known, unknown = newest(message.points, lambda tip: self._incoming.holds(stream, tip))
        if stream.origin == self._me and unknown:
            yield Rolled(stream, unknown[0])
        self._outgoing.set(stream, known)
        if unknown and not message.answer:
            yield self._branches(stream, answer=True)

    def _branches(self, stream: Stream, *, answer: bool) -> Fork:
        return Fork(stream=str(stream), points=self._shelf.locator(stream), answer=answer)

    def _finish(self) -> None:
        """Everything the peer holds is known: what it did not name, it lacks; what is in a month of one hash, it has."""
        asking: dict[str, list[Tip]] = {}
        for listed, equal in self._exchange.unlisted():
            if equal and listed.stream in self._grown:
                asking[str(listed.stream)] = list(listed.tips)
            elif listed.stream in self._outgoing:
                self._outgoing.due(listed.stream)
            else:
                self._outgoing.set(listed.stream, listed.tips if equal else ())
        for stream in sorted(self._grown):
            # Named by the peer before we held it, or came to be shared since.
            if stream in self._outgoing:
                self._outgoing.due(stream)
            elif self._shelf.shared(stream, self._peer):
                asking[str(stream)] = list(self._shelf.tips(stream))
        self._grown.clear()
        self.ask(asking)
