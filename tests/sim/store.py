"""The log of a simulated node in memory: streams with their branches, as a shelf reads them."""

from command.base.entry import NO_HASH, Stream
from command.tree.item import Received
from command.tree.wire import Tip

Tips = tuple[Tip, ...]


class Branches:
    """One stream: entries by hash, and the ends of its branches."""

    def __init__(self) -> None:
        self.all: dict[bytes, Received] = {}
        self.line: list[Received] = []
        self.tips: Tips = ()
        self.forked = False

    def add(self, one: Received) -> bool:
        """Whether it was new. The entry before it must be here."""
        if one.written.hash in self.all:
            return False
        prev = one.written.entry.prev
        assert prev == NO_HASH or bytes.fromhex(prev) in self.all, "a gap in the log"
        if not self.forked and len(self.line) == one.written.entry.seq - 1:
            self.line.append(one)
        else:
            self.forked = True
        self.all[one.written.hash] = one
        before = bytes.fromhex(prev)
        self.tips = (*(tip for tip in self.tips if tip.head != before), one.tip)
        return True

    @property
    def length(self) -> int:
        return max((tip.length for tip in self.tips), default=0)

    def rest(self, tips: Tips, entries: int) -> list[Received]:
        known = [tip for tip in tips if tip.head in self.all]
        if not self.forked:
            return self.line[max((tip.length for tip in known), default=0) :][:entries]
        covered: set[bytes] = set()
        for tip in known:
            head = tip.head
            while head in self.all and head not in covered:
                covered.add(head)
                head = bytes.fromhex(self.all[head].written.entry.prev)
        return [one for head, one in self.all.items() if head not in covered][:entries]

    def locator(self) -> list[Tip]:
        found = []
        for end in self.tips:
            chain, head = [], end.head
            while head in self.all:
                chain.append(self.all[head].tip)
                head = bytes.fromhex(self.all[head].written.entry.prev)
            back = 0
            while back < len(chain):
                found.append(chain[back])
                back = max(1, back * 2)
            if chain and found[-1] != chain[-1]:
                found.append(chain[-1])
        return found


class Streams:
    """All streams of a node, by subject too."""

    def __init__(self) -> None:
        self.of: dict[Stream, Branches] = {}
        self.subjects: dict[str, dict[Stream, Branches]] = {}
        self.versions: dict[str, int] = {}

    def add(self, one: Received) -> bool:
        stream = one.stream
        branches = self.of.get(stream)
        if branches is None:
            branches = self.of[stream] = Branches()
            self.subjects.setdefault(stream.subject, {})[stream] = branches
        if not branches.add(one):
            return False
        self.versions[stream.subject] = self.versions.get(stream.subject, 0) + 1
        return True

    def tips(self, stream: Stream) -> Tips:
        branches = self.of.get(stream)
        return () if branches is None else branches.tips

    def holds(self, stream: Stream, tip: Tip) -> bool:
        branches = self.of.get(stream)
        return branches is not None and tip.head in branches.all and branches.all[tip.head].tip == tip

    def entries(self, subject: str) -> list[Received]:
        return [one for branches in self.subjects.get(subject, {}).values() for one in branches.all.values()]

    def lengths(self, subject: str) -> dict[str, int]:
        """As `seen` names them."""
        found = self.subjects.get(subject, {})
        return {f"{stream.origin}.{stream.generation}": branches.length for stream, branches in found.items()}
