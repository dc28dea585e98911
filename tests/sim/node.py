"""A simulated node: the real link, item, claim, picture and sharing code over a disk in memory."""

from collections.abc import Iterable
from random import Random

from command.base.entry import (
    NO_HASH,
    By,
    Draft,
    Entry,
    Seal,
    Stream,
    Written,
    encode_private,
    leaf_hash,
    private_hash,
    write,
)
from command.base.entry import decode as decode_entry
from command.tree import calling, sharing
from command.tree import picture as pictures
from command.tree.claim import CLAIM_KINDS
from command.tree.item import Received
from command.tree.link import Link
from command.tree.picture import Picture, merge_seen
from command.tree.shelf import Listed
from command.tree.wire import AHEAD_MAX, Tip
from tests.sim.acts import View
from tests.sim.disk import Commit, Disk, Kept
from tests.sim.keys import Verifier
from tests.sim.store import Streams, Tips
from tests.sim.truth import Truth

TREE, MEETINGS = "tree", "meeting/"
LEVEL_OF = ("province", "city", "county", "field")
URGENT = ("order.issued", "order.progressed", "ownership.seized", "ownership.transferred")


class Died(Exception):
    """The machine lost its power while it wrote."""


class Rules:
    """Which rules of the design hold; one of them may be broken on purpose."""

    link: type[Link] = Link

    def __init__(self, broken: str | None = None) -> None:
        self.broken = broken

    def generation(self, lives: list[str], rng: Random) -> str:
        if self.broken == "random_generation":
            return f"{len(lives):032d}"
        return f"{rng.getrandbits(128):032x}"


class Node:
    """The process: everything in memory, made anew at each start from the disk. Implements `shelf.Shelf`."""

    def __init__(
        self,
        me: str,
        disk: Disk,
        neighbours: dict[str, str | None],
        rng: Random,
        rules: Rules,
        verifier: Verifier,
        truth: Truth,
    ) -> None:
        self.me, self.disk, self.rng, self.rules, self.verifier, self.truth = me, disk, rng, rules, verifier, truth
        self.key = verifier.key(me)
        self.session = f"{rng.getrandbits(64):016x}"
        self.neighbours = neighbours
        self.streams = Streams()
        self.keys: set[str] = set()
        self.lives: list[str] = []
        self.links: dict[str, Link] = {}
        self.linked = 0
        self.seen: dict[str, dict[str, int]] = {}
        self.revocations: list[Entry] = []
        self.arrived: dict[str, list[Written]] = {}
        self.cuts: dict[str, dict[str, list[tuple[int, str]]]] = {}
        self.parents: dict[str, str | None] = {}
        self.public: dict[str, bytes] = {}
        self.about: dict[str, sharing.Concerned] = {}
        self.calls: dict[tuple[str, str], calling.Called] = {}
        """By meeting and author: whom the author calls."""
        self.dirty: set[Stream] = set()
        self.tree_changed = False
        self.torn: float | None = None
        self.clock = 0
        self.closed_always = False
        self.stored_at = 0
        self.handed: dict[str, int] = {}
        self.given_up: dict[str, int] = {}
        self._views: dict[str, tuple[tuple[int, int], View]] = {}
        self._lines: dict[str, tuple[str, ...]] = {}
        self._shared: dict[tuple[Stream, str], tuple[int, int, bool]] = {}
        """The answer, and of what it is a function: the news of whom the incident concerns, and how much of the tree is known."""
        self._news: dict[str, int] = {}
        self._tree_version = 0
        for node, parent in neighbours.items():
            self._learn(node, parent, verifier.key(node).public)
        for commit in disk.load():
            if self.lives != commit.lives:
                self.lives = commit.lives
                self.seen.clear()
            self.keys.update(commit.keys)
            for kept in commit.items:
                self._take(_received(kept))
        self.dirty.clear()

    # -- lives

    @property
    def generation(self) -> str:
        return self.lives[0]

    def open_generation(self, also: str | None = None) -> None:
        """Start a new life; `also` is one of ours that we heard of."""
        known = [*self.lives, *([also] if also and also not in self.lives else [])]
        fresh = self.rules.generation(known, self.rng)
        self.truth.lives[fresh] = list(known)
        self.lives = [fresh, *known]
        self.disk.marker = fresh
        self.append([Draft(subject="registry", kind="generation.opened", body={"after": len(known)})])

    def admit(self, children: list[str]) -> None:
        """Admit the nodes below, if no entry says so (yet, or any more)."""
        said = {one.written.entry.body.get("node") for one in self.streams.entries(TREE)}
        drafts = [
            Draft(
                subject=TREE, kind="node.admitted", body={"node": one, "parent": self.me, "key": self.public[one].hex()}
            )
            for one in children
            if one not in said
        ]
        if drafts:
            self.append(drafts)

    def rolled(self, stream: Stream) -> None:
        if stream.generation == self.generation or stream.generation not in self.lives:
            self.open_generation(stream.generation)

    # -- writing

    def append(self, drafts: list[Draft], key: str | None = None) -> list[Written]:
        """Decide, write, make durable; what comes back is acknowledged. Raises `Died` when the power goes meanwhile."""
        written: list[Written] = []
        before = dict(self.seen)
        try:
            for draft in drafts:
                one, self.seen[draft.subject] = self._entry(draft, written)
                written.append(one)
        except BaseException:
            self.seen = before
            raise
        seal, paths = self.key.seal([one.hash for one in written])
        found = [
            Received(written=one, seal=seal, leaf=leaf, path=path)
            for leaf, (one, path) in enumerate(zip(written, paths, strict=True))
        ]
        self._commit(found, [key] if key else [])
        for made in found:
            assert self._take(made)
        for one in written:
            self.truth.acked[one.hash] = one
        return written

    def _entry(self, draft: Draft, before: list[Written]) -> tuple[Written, dict[str, int]]:
        stream = Stream(draft.subject, self.me, self.generation)
        tips = self.streams.tips(stream)
        assert len(tips) < 2, "writing in a generation that forked"
        last = [one for one in before if one.entry.subject == draft.subject]
        seq, prev = (
            (last[-1].entry.seq, last[-1].hash) if last else ((tips[0].length, tips[0].head) if tips else (0, None))
        )
        lengths = self.streams.lengths(draft.subject)
        known = self.seen.get(draft.subject, {}) if seq else {}
        seen = {name: n for name, n in lengths.items() if n > known.get(name, 0) and name != key_of_stream(stream)}
        if seq == 0:
            seen |= {f"{self.me}.{life}": lengths.get(f"{self.me}.{life}", 0) for life in self.lives[1:]}
        salt = private = None
        if draft.private:
            private, salt = encode_private(draft.private), self.rng.randbytes(32)
        entry = Entry(
            subject=draft.subject,
            origin=self.me,
            generation=self.generation,
            seq=seq + 1,
            prev=NO_HASH if prev is None else prev.hex(),
            at=self.clock,
            kind=draft.kind,
            by=By(account="duty"),
            claim=draft.claim,
            seen=seen,
            private=private_hash(salt, private).hex() if private and salt else None,
            body=draft.body,
        )
        one = write(entry, private, salt)
        self.truth.decided_under[one.hash] = draft.claim
        if draft.kind in CLAIM_KINDS:
            held = {found.written.hash for found in self.streams.entries(draft.subject)}
            self.truth.held_at_claim[one.hash.hex()] = held | {w.hash for w in before}
            of = self.streams.subjects.get(draft.subject, {})
            self.truth.heads_at_claim[one.hash.hex()] = {str(s): [*b.tips] for s, b in of.items()}
        return one, merge_seen(known, entry)

    def store(self, found: list[Received]) -> None:
        """Foreign entries, made durable in one transaction."""
        fresh = [one for one in found if not self.streams.holds(one.stream, one.tip)]
        if fresh:
            self._commit(fresh, [])
        for one in fresh:
            self._take(one)

    def _commit(self, found: list[Received], keys: list[str]) -> None:
        items = [
            Kept(one.written.data, one.leaf, one.path, one.seal, one.written.salt, one.written.private) for one in found
        ]
        torn, self.torn = self.torn, None
        self.disk.append(Commit(self.lives, items, keys), torn)
        if torn is not None:
            raise Died

    def _take(self, one: Received) -> bool:
        if not self.streams.add(one):
            return False
        entry = one.written.entry
        self.dirty.add(one.stream)
        if entry.subject == TREE:
            self._tree_entry(entry)
        if entry.subject.startswith("incident/"):
            self.arrived.setdefault(entry.subject, []).append(one.written)
            if self.about.setdefault(entry.subject, sharing.Concerned()).add(one.written):
                self._news[entry.subject] = self._news.get(entry.subject, 0) + 1
                self.dirty.update(self.streams.subjects[entry.subject])
                self.dirty.update(stream for stream in self.streams.of if stream.subject.startswith(MEETINGS))
        elif entry.subject.startswith(MEETINGS):
            asked = (entry.subject, entry.origin)
            called = self.calls.get(asked, calling.Called())
            self.calls[asked] = called.add(entry)
            if self.calls[asked] != called:
                self.dirty.update(self.streams.subjects[entry.subject])
        if entry.origin == self.me and self.lives and entry.generation == self.generation:
            self.seen[entry.subject] = merge_seen(self.seen.get(entry.subject, {}), entry)
        return True

    def _tree_entry(self, entry: Entry) -> None:
        body = entry.body
        if entry.kind == "node.admitted":
            self._learn(body["node"], body["parent"], bytes.fromhex(body["key"]))
        elif entry.kind == "node.revoked":
            self.revocations.append(entry)
        self._cut()
        self.tree_changed = True
        self._tree_version += 1

    def _cut(self) -> None:
        """Whether a revocation counts is asked when it is used: the place of the revoked node may be learned after it."""
        self.cuts = {}
        for entry in self.revocations:
            if entry.origin in self.line(entry.body["node"])[:-1]:
                cut = self.cuts.setdefault(entry.body["node"], {})
                for name, tips in entry.body["heads"].items():
                    cut.setdefault(name, []).extend((length, head) for length, head in tips)

    def _learn(self, node: str, parent: str | None, public: bytes) -> None:
        if node not in self.parents:
            self.parents[node], self.public[node] = parent, public
            self._lines.clear()

    # -- Nodes

    def line(self, node: str) -> tuple[str, ...]:
        if node not in self._lines:
            found: list[str] = []
            at: str | None = node
            while at is not None:
                if at not in self.parents:
                    found = []
                    break
                found.append(at)
                at = self.parents[at]
            self._lines[node] = tuple(reversed(found))
        return self._lines[node]

    def superiors(self, node: str) -> frozenset[str]:
        return frozenset(self.line(node)[:-1])

    def level(self, node: str) -> str:
        depth = len(self.line(node))
        return LEVEL_OF[min(depth, 4) - 1] if depth else ""

    # -- Shelf

    def listing(self, peer: str) -> Iterable[Listed]:
        for stream, branches in self.streams.of.items():
            if self.shared(stream, peer):
                closed = stream.subject.startswith("incident/") and (
                    self.closed_always or self.view(stream.subject).closed
                )
                yield Listed(stream, branches.tips, "2026-11" if closed else None)

    def tips(self, stream: Stream) -> Tips:
        return self.streams.tips(stream)

    def holds(self, stream: Stream, tip: Tip) -> bool:
        return self.streams.holds(stream, tip)

    def rest(self, stream: Stream, tips: Tips, peer: str, entries: int, octets: int) -> list[Received]:
        branches = self.streams.of.get(stream)
        return [] if branches is None else branches.rest(tips, entries)

    def lacks(self, tip: Tip) -> bool:
        return False

    def parts(self, stream: Stream, tips: list[Tip], peer: str) -> tuple[list[Received], int]:
        return [], len(tips)

    def urgent(self, stream: Stream, tips: Tips, peer: str) -> list[Received]:
        rest = self.rest(stream, tips, peer, 100_000, 0)
        return [one for one in rest if one.written.entry.kind in URGENT][:AHEAD_MAX]

    def locator(self, stream: Stream) -> list[Tip]:
        return self.streams.of[stream].locator() if stream in self.streams.of else []

    def locator_all(self, stream: Stream) -> list[Tip]:
        """Every entry of the stream, for the link that knows lengths only."""
        found = self.streams.of.get(stream)
        return [] if found is None else [one.tip for one in found.all.values()]

    def shared(self, stream: Stream, peer: str) -> bool:
        if stream.subject.startswith(MEETINGS):
            return stream.origin == peer or peer in self.callees(stream)
        if stream.origin == self.me and stream.subject in self.truth.brazen.get(self.me, ()):
            return True
        about, news = self.about.get(stream.subject), self._news.get(stream.subject, 0)
        asked = (stream, peer)
        known = self._shared.get(asked)
        if known is None or known[0] != news or known[1] != len(self.parents):
            known = (news, len(self.parents), sharing.may_hold(stream, peer, about, self))
            self._shared[asked] = known
        return known[2]

    def callees(self, stream: Stream) -> frozenset[str]:
        """Who may hold what a node wrote of a meeting."""
        called = self.calls.get((stream.subject, stream.origin), calling.Called())
        return calling.holders(
            stream.origin, called, lambda key: self.about.get(f"incident/{key}", sharing.Concerned()), self
        )

    def accepts(self, stream: Stream, peer: str) -> bool:
        return sharing.accepts(stream, peer, self.me, self)

    def ended(self, generation: str) -> bool:
        return generation in self.lives[1:]

    def open_subject(self, subject: str) -> bool:
        return subject.startswith("incident/")

    def signed(self, origin: str, seal: Seal) -> bool | None:
        public = self.public.get(origin)
        return None if public is None else self.verifier.sealed(public, seal)

    def admits(self, node: str, key: bytes) -> str | None:
        if node not in self.neighbours or self.public[node] != key:
            return "link.unknown_node"
        return "link.revoked" if node in self.cuts else None

    def proves(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return self.verifier.proves(key, message, signature)

    # -- seeing

    def view(self, subject: str) -> View:
        version = (self.streams.versions.get(subject, 0), self._tree_version)
        found = self._views.get(subject)
        if found is None or found[0] != version:
            found = (version, View(subject, self.picture(subject)))
            self._views[subject] = found
        return found[1]

    def picture(self, subject: str) -> Picture:
        return pictures.resolve([one.written for one in self.streams.entries(subject)], self, self.cuts)

    def base(self, subject: str, owner: str) -> dict[str, list[tuple[int, str]]]:
        """The heads that this node holds of an owner's streams of an incident."""
        found = self.streams.subjects.get(subject, {})
        return {
            key_of_stream(stream): [(tip.length, tip.head.hex()) for tip in branches.tips]
            for stream, branches in found.items()
            if stream.origin == owner
        }

    def heads_of(self, node: str) -> dict[str, list[tuple[int, str]]]:
        return {
            str(stream): [(tip.length, tip.head.hex()) for tip in branches.tips]
            for stream, branches in self.streams.of.items()
            if stream.origin == node
        }


def key_of_stream(stream: Stream) -> str:
    return f"{stream.origin}.{stream.generation}"


def _received(kept: Kept) -> Received:
    entry = decode_entry(kept.data)
    one = Written(entry=entry, data=kept.data, hash=leaf_hash(kept.data), salt=kept.salt, private=kept.private)
    return Received(written=one, seal=kept.seal, leaf=kept.leaf, path=kept.path)
