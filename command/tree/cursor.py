"""How far the peer is in each stream: cursors in place of a queue.

Pure. The log is the queue; a cursor says which entries the peer holds (`held`), which are on their way (`flight`) and hence
from where to read on (`sent`). Invariant: at most WINDOW entries are on their way per channel.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from command.tree.wire import BRANCHES_MAX, LATER, NOW, Tip

WINDOW = 256
TIPS_MAX = 2 * BRANCHES_MAX
NOW_BACKLOG_MAX = 16
"""A stream that lacks more than this is sent on *later*."""
NOW_BACKLOG_FAR = 2
"""The same where the round trip is long: a line with a long one is a slow one as a rule, and each entry on *now* holds up the
next order."""
RANKS = 5

Tips = tuple[Tip, ...]


def advance(tips: Tips, before: bytes, tip: Tip) -> Tips:
    """`tips` after the entry `tip`, whose predecessor's hash is `before`. Never more than TIPS_MAX: the shortest go first,
    which costs a repetition and nothing else."""
    if len(tips) == 1 and tips[0].head == before:  # as a rule
        return (tip,)
    if tip in tips:
        return tips
    kept = tuple(one for one in tips if one.head != before)
    if len(kept) >= TIPS_MAX:
        kept = tuple(sorted(kept)[1:])
    return (*kept, tip)


class Cursor:
    """One stream and one peer. `held` and `sent` are tips of what the peer holds, or will when `flight` has arrived; `paused`
    when it can't take the stream now. `ahead` are hashes of what was sent ahead, `kept` those of them that are durable there;
    `looked` are the tips that the stream had here when nothing more of it was to be sent ahead."""

    __slots__ = ("ahead", "channel", "flight", "held", "kept", "looked", "paused", "rank", "sent")

    def __init__(self, tips: Iterable[Tip] = (), rank: int = RANKS - 1) -> None:
        self.held: Tips = tuple(tips)
        self.sent: Tips = self.held
        self.flight: deque[tuple[bytes, Tip]] = deque()
        self.channel: str | None = None
        self.rank = rank
        self.ahead: set[bytes] = set()
        self.kept: set[bytes] = set()
        self.looked: Tips = ()
        self.paused = False

    def reset(self, tips: Iterable[Tip]) -> int:
        """The peer says what it holds; what was on its way counts no more. Returns how many entries that were."""
        gone = len(self.flight)
        self.paused = False
        self.looked = ()
        self.held = self.sent = tuple(tips)
        self.flight.clear()
        return gone

    def rewind(self) -> int:
        """The connection is gone: what was on its way goes again. Returns how many entries that were."""
        gone = len(self.flight)
        self.sent = self.held
        self.flight.clear()
        return gone

    def send(self, before: bytes, tip: Tip) -> None:
        self.sent = advance(self.sent, before, tip)
        self.flight.append((before, tip))

    def has(self, before: bytes, tip: Tip) -> None:
        """The peer holds this entry: it sent it to us."""
        self.held, self.sent = advance(self.held, before, tip), advance(self.sent, before, tip)

    def arrived(self, tip: Tip) -> int:
        """The peer holds everything up to `tip`. Returns how many entries left the flight."""
        if all(tip != flying for _, flying in self.flight):
            return 0
        count = 0
        while self.flight:
            before, flying = self.flight.popleft()
            self.held = advance(self.held, before, flying)
            count += 1
            if flying == tip:
                break
        return count


class Todo:
    """Streams that have something to send, per channel, by rank, first come first served. Holds names only."""

    def __init__(self) -> None:
        self._ranks: dict[str, list[dict[str, None]]] = {
            channel: [{} for _ in range(RANKS)] for channel in (NOW, LATER)
        }
        self._place: dict[str, dict[str, None]] = {}

    def add(self, channel: str, rank: int, name: str) -> None:
        """One that is on the list already keeps its turn; one that was elsewhere moves."""
        names = self._ranks[channel][rank]
        if self._place.get(name) is not names:
            self.drop(name)
            names[name] = None
            self._place[name] = names

    def drop(self, name: str) -> None:
        names = self._place.pop(name, None)
        if names is not None:
            del names[name]

    def names(self, channel: str) -> Iterator[str]:
        """A snapshot in the order in which they are due."""
        for names in self._ranks[channel]:
            yield from list(names)

    def on(self, channel: str) -> bool:
        return any(self._ranks[channel])

    def clear(self) -> None:
        self._place.clear()
        for ranks in self._ranks.values():
            for names in ranks:
                names.clear()

    def __len__(self) -> int:
        return len(self._place)
