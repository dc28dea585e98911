"""Folded: what is folded of one incident, and whether an entry that came may be folded onto it as if it came last.

Pure; the short way beside `picture`. It keeps numbers, never entries, and gives no verdict. Invariant: what `takes` says yes to
leaves, folded last, the very rows that folding everything anew in canonical order would leave.

Some kinds need not come last, because they leave the same rows wherever they stand (COMMUTING): a note, that a timer ran
out (it ran where the incident is owned, and nowhere else), and a notice (its id is bound to the node that makes it, and only
that node's word on it has an effect), anywhere after the report; and a word on an order, as long as its
author knew every other word on that order. What the owner decides then comes last as soon as its author knew all that was
decided: contributions it didn't know stand before it (depth 0, `picture`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from command.base.entry import Entry
from command.tree.claim import ADOPTED, DECISION_KINDS, REPORTED, Claim
from command.tree.picture import ISSUED, PROGRESSED, Picture, appends, heard, key_of, merge_seen, widens
from command.tree.sharing import Nodes, named

RUNG, ACKNOWLEDGED = "order.rung", "alarm.acknowledged"
NOTICES = "notice."
NOTED = "incident.noted"
NAMING = frozenset({"order", "node", "nodes"})
"""What `_order` and `sharing.named` look at."""
ANYWHERE = frozenset(
    {
        NOTED,
        "timer.fired",
        "timer.dropped",
        *(f"{NOTICES}{step}" for step in ("drafted", "issued", "reviewed", "cancelled", "progressed")),
    }
)
COMMUTING = ANYWHERE | {PROGRESSED}


class Folded:
    """`lengths` by "origin.generation", `seen` what each stream has told that it had seen.

    The caller must `note` and `widen` with every entry that it folds onto the rows, and `learn` after folding anew. One that is
    made with the lengths alone, or of an incident with a fork, a second generation or a missing entry, knows the plain short way
    only.
    """

    def __init__(self, lengths: Mapping[str, int] | None = None) -> None:
        self.lengths = dict(lengths or {})
        self.seen: dict[str, dict[str, int]] = {}
        self._exact = not self.lengths
        self._report: tuple[str, int] | None = None
        self._decided: dict[str, int] = {}
        """By stream, the last entry that doesn't commute."""
        self._words: dict[str, dict[str, int]] = {}
        """By order that was issued, the last word on it of each stream."""
        self._early: set[str] = set()
        """Orders on which there is a word, but not the order itself."""
        self.standing: frozenset[str] = frozenset()
        """The nodes whose word counts, as far as they are known beside the owner's."""
        self.strangers = False
        """Whether others wrote. Their streams have no lengths here."""

    def takes(self, entry: Entry, chain: list[Claim]) -> bool:
        """Whether the entry may be folded as the last one, and counts. `chain` as in `picture.appends`."""
        name = key_of(entry)
        seen = self._knows(entry, name)
        if entry.kind == ISSUED and _order(entry) in self._early:
            return False
        if not heard(entry, chain[-1].owner if chain else None, self.standing, strangers=self.strangers):
            return False
        if appends(entry, seen, self.lengths, chain, self.standing, strangers=self.strangers):
            return True
        if not self._exact or not self._next(entry, name):
            return False
        if entry.kind in ANYWHERE:
            return self._report is not None and _knew(seen, name, dict([self._report]))
        if entry.kind == PROGRESSED:  # of an order that isn't here it says nothing yet
            return _knew(seen, name, self._words.get(_order(entry), {}))
        return self._last_decided(entry, name, seen, chain)

    def _last_decided(self, entry: Entry, name: str, seen: Mapping[str, int], chain: list[Claim]) -> bool:
        if entry.kind not in DECISION_KINDS or entry.kind == ADOPTED or _order(entry) in self._early:
            return False
        words = self._words.get(_order(entry))
        new = entry.kind != ISSUED or words is None
        answered = any(self.seen.get(other, {}).get(name, 0) >= entry.seq for other in words or () if other != name)
        standing = bool(chain) and entry.claim == chain[-1].id and entry.origin == chain[-1].owner
        return new and standing and not answered and _knew(seen, name, self._decided)

    def _next(self, entry: Entry, name: str) -> bool:
        """Whether it follows in its stream, the only one of its node. What it names need not be here: each entry is looked at
        when it comes, whoever knew it already."""
        if entry.seq != self.lengths.get(name, 0) + 1:
            return False
        return entry.seq > 1 or not any(stream.startswith(f"{entry.origin}.") for stream in self.lengths)

    def note(self, entry: Entry) -> None:
        """The entry was folded."""
        name = key_of(entry)
        self._exact = self._exact and self._next(entry, name)
        if entry.kind == ISSUED:
            self._issue(_order(entry))
        self._word(entry, name)
        self._seen(entry, name)

    def run(self, notes: Sequence[Entry]) -> int:
        """How many of these entries are notes that follow the first one, in its stream and with nothing new but their texts: when
        `takes` says yes to the first, it would say yes to each. At least 1."""
        first, count = notes[0], 1
        if first.kind != NOTED or not _plain(first):
            return 1
        for entry in notes[1:]:
            follows = entry.seq == first.seq + count and entry.origin == first.origin
            same = follows and entry.generation == first.generation and entry.subject == first.subject
            if not same or entry.kind != NOTED or entry.seen or not _plain(entry):
                break
            count += 1
        return count

    def note_run(self, run: Sequence[Entry]) -> None:
        """The same as to `note` each of a `run`."""
        self.note(run[0])
        name = key_of(run[0])
        self.lengths[name] = max(run[-1].seq, self.lengths[name])

    def widen(self, entry: Entry, nodes: Nodes) -> None:
        """An entry of the owner that was folded may give nodes a standing."""
        if widens(entry, self.standing):
            more = named(entry)
            self.standing = self.standing.union(more, *(nodes.superiors(node) for node in more))

    def _issue(self, order: str) -> None:
        self._exact = self._exact and order not in self._words and order not in self._early
        self._words.setdefault(order, {})

    def _word(self, entry: Entry, name: str) -> None:
        order = _order(entry)
        if order and entry.kind not in (ISSUED, RUNG):
            if order in self._words:
                self._words[order][name] = entry.seq
            else:
                self._early.add(order)

    def _seen(self, entry: Entry, name: str) -> None:
        if entry.kind == REPORTED:
            self._exact = self._exact and self._report is None
            self._report = (name, entry.seq)
        if entry.kind not in COMMUTING:
            self._decided[name] = max(entry.seq, self._decided.get(name, 0))
        self.lengths[name] = max(entry.seq, self.lengths.get(name, 0))
        self.seen[name] = self._knows(entry, name)

    def _knows(self, entry: Entry, name: str) -> dict[str, int]:
        """What the author had folded, with this entry. Not to be changed."""
        known = self.seen.get(name, {})
        return merge_seen(known, entry) if entry.seen else known


def learn(drawn: Picture) -> Folded:
    """What is folded after everything was, in canonical order."""
    known, every = Folded(), [one.entry for one in drawn.order if one.entry.origin in drawn.standing]
    known.standing, known.strangers = drawn.standing, drawn.strangers
    counts: dict[str, int] = {}
    for entry in every:
        if entry.kind == ISSUED:
            known._issue(_order(entry))
    for entry in every:
        name = key_of(entry)
        counts[name] = counts.get(name, 0) + 1
        known._word(entry, name)
        known._seen(entry, name)
    lengths = known.lengths
    dense = counts == lengths and len({name.partition(".")[0] for name in lengths}) == len(lengths)
    known._exact = known._exact and dense and not drawn.circular
    return known


def _knew(seen: Mapping[str, int], name: str, needed: Mapping[str, int]) -> bool:
    """Whether the author of an entry of the stream `name` had folded these lengths of the other streams."""
    return all(seen.get(stream, 0) >= length for stream, length in needed.items() if stream != name)


def _plain(entry: Entry) -> bool:
    """Whether the body names neither an order nor a node."""
    return entry.body.keys().isdisjoint(NAMING)


def _order(entry: Entry) -> str:
    """The order that an entry is about; "" when it is about none."""
    if entry.kind.startswith(NOTICES):  # what it tells of changes nothing
        return ""
    found: Any = entry.body.get("order")
    if entry.kind == ACKNOWLEDGED:  # its alarm is named after it
        kind, _, rest = str(entry.body.get("alarm")).partition("-")
        found = rest.rpartition("-")[0] if kind == "order" else ""
    return found if isinstance(found, str) else ""
