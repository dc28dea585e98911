"""The picture: in which order the entries of one incident are folded, and which of them count.

Pure. What strangers wrote is set apart first and takes no part in anything that follows. A function of the set of entries (and
of the tree of nodes and its revocations): no clock and no order of arrival takes part, so nodes that hold the same agree.
Invariant: an entry stands after the one before it in its stream; and, unless rollbacks made a circle, after everything its
author had folded.
"""

import hashlib
import heapq
from collections.abc import Container, Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from command.base.entry import NO_HASH, Entry, Written
from command.base.naming import bound
from command.tree.claim import (
    ADOPTED,
    CLAIM_KINDS,
    DECISION_KINDS,
    REPORTED,
    Claim,
    Claims,
    Cuts,
    Generations,
    Verdict,
    reports,
)
from command.tree.sharing import Nodes, concerned, named, standing

ISSUED, PROGRESSED = "order.issued", "order.progressed"
ISSUED_MAX = 4
"""Entries that give one order: honest nodes write one, the branches of a fork may hold it twice."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What resolving gives: all entries in canonical order (those of strangers last), the verdict on each by hash, the winning
    claims from the root, who owns the incident, and the nodes that have a `standing` in it. `contested`: some claim lost or was
    void; resolve again when the tree of nodes changes, and also when `strangers` wrote. `circular`: rollbacks made a circle, and
    it was broken."""

    order: list[Written]
    verdicts: dict[bytes, Verdict]
    chain: list[Claim]
    owner: str | None
    contested: bool
    circular: bool = False
    standing: frozenset[str] = frozenset()
    strangers: bool = False

    def counting(self) -> list[Written]:
        """What is to be folded, in order."""
        return [one for one in self.order if self.verdicts[one.hash].counts]

    def late(self) -> list[Written]:
        return [one for one in self.order if self.verdicts[one.hash] is Verdict.LATE]

    def digest(self) -> str:
        """SHA-256 over order, verdicts and owner: equal on two nodes exactly when they see the same."""
        found = hashlib.sha256()
        for one in self.order:
            found.update(one.hash + self.verdicts[one.hash].encode() + b"\n")
        found.update("/".join(claim.id for claim in self.chain).encode())
        return found.hexdigest()


def key_of(entry: Entry) -> str:
    """A stream within its subject, as `seen` and `base` name it."""
    return f"{entry.origin}.{entry.generation}"


class _Subject:
    """The entries of one incident, indexed: by hash, by stream and number (several where a stream forked)."""

    def __init__(self, written: Iterable[Written]) -> None:
        self.all: dict[str, Written] = {one.hash.hex(): one for one in written}
        self.at: dict[str, dict[int, list[str]]] = {}
        self.issued: dict[str, list[str]] = {}
        followed = set()
        for key, one in self.all.items():
            if one.entry.kind == ISSUED:
                self.issued.setdefault(str(one.entry.body.get("order")), []).append(key)
            self.at.setdefault(key_of(one.entry), {}).setdefault(one.entry.seq, []).append(key)
            followed.add(one.entry.prev)
        self.tips: dict[str, list[str]] = {
            stream: [key for keys in numbers.values() for key in keys if key not in followed]
            for stream, numbers in self.at.items()
        }
        for name, keys in self.issued.items():
            if len(keys) > 1:  # others may name it too, to crowd it out or to make a circle
                good = [key for key in keys if bound(name, self.all[key].entry)]
                self.issued[name] = sorted(good or keys)[:ISSUED_MAX]

    def upto(self, stream: str, length: int) -> list[str]:
        """The last entries of the stream within `length`: one, or one per branch."""
        numbers = self.at.get(stream, {})
        found = [key for key in self.tips.get(stream, ()) if self.all[key].entry.seq < length]
        return [*numbers.get(length, ()), *found]

    def within(self, heads: Iterable[tuple[int, str]], stream: str) -> set[str]:
        """The entries of the stream that are one of `heads` or before one. A head that isn't held (yet) counts by its length."""
        found: set[str] = set()
        for length, head in heads:
            if head not in self.all:
                numbers = self.at.get(stream, {})
                found.update(key for seq, keys in numbers.items() if seq <= length for key in keys)
            while head in self.all and head not in found:
                found.add(head)
                head = self.all[head].entry.prev
        return found


def resolve(written: Iterable[Written], nodes: Nodes, cuts: Cuts | None = None) -> Picture:
    """The picture of one incident from all entries held of it, in any order; `cuts` are the revocations."""
    held = {one.hash: one for one in written}
    of_right = standing(concerned(held.values()), nodes)
    strange = [one for one in held.values() if one.entry.origin not in of_right]
    strange.sort(key=lambda one: (key_of(one.entry), one.entry.seq, one.hash))
    subject = _Subject(one for one in held.values() if one.entry.origin in of_right)
    revoked = _revoked(subject, cuts or {})
    good = [one for key, one in subject.all.items() if key not in revoked]
    generations = Generations(one.entry for one in good)
    claims = Claims(good, nodes, generations)
    verdicts = _verdicts(subject, claims, revoked)
    order, circular = _order(subject, claims, generations)
    found = {subject.all[key].hash: verdict for key, verdict in verdicts.items()}
    return Picture(
        order=[*(subject.all[key] for key in order), *strange],
        verdicts=found | {one.hash: Verdict.STRANGER for one in strange},
        chain=claims.chain,
        owner=claims.owner,
        contested=claims.contested or bool(revoked),
        circular=circular,
        standing=of_right,
        strangers=bool(strange),
    )


def _revoked(subject: _Subject, cuts: Cuts) -> set[str]:
    found: set[str] = set()
    for stream, numbers in subject.at.items():
        cut = cuts.get(stream.partition(".")[0])
        if cut is None:
            continue
        every = {key for keys in numbers.values() for key in keys}
        name = f"{subject.all[next(iter(every))].entry.subject}@{stream}"
        found |= every - subject.within(cut.get(name, ()), stream)
    return found


def _verdicts(subject: _Subject, claims: Claims, revoked: set[str]) -> dict[str, Verdict]:
    cache: dict[tuple[str, str], set[str]] = {}
    verdicts = {key: _verdict(key, subject, claims, revoked, cache) for key in subject.all}
    for key, one in subject.all.items():
        if one.entry.kind == ADOPTED and verdicts[key] is Verdict.EFFECTIVE:
            late = one.entry.body.get("entry")
            if isinstance(late, str) and verdicts.get(late) is Verdict.LATE and subject.all[late].entry.kind == ISSUED:
                verdicts[late] = Verdict.ADOPTED
    return verdicts


def _verdict(
    key: str, subject: _Subject, claims: Claims, revoked: set[str], cache: dict[tuple[str, str], set[str]]
) -> Verdict:
    entry = subject.all[key].entry
    if key in revoked:
        return Verdict.REVOKED
    if entry.kind == REPORTED and not reports(entry):
        return Verdict.UNCLAIMED
    if entry.kind in CLAIM_KINDS:
        return Verdict.EFFECTIVE if claims.winning(key) else Verdict.LATE
    if entry.kind not in DECISION_KINDS:
        return Verdict.EFFECTIVE
    return judge(entry, key, subject, claims, cache)


def judge(entry: Entry, key: str, subject: _Subject, claims: Claims, cache: dict[tuple[str, str], set[str]]) -> Verdict:
    """The verdict on a decision: by the claim it names, its author, and the base of the claim that came after.

    One that names no claim stands under the root claim: that is how nodes wrote before they had neighbours.
    """
    named = entry.claim or claims.root
    if named is None or named not in claims.rightful or claims.rightful[named].owner != entry.origin:
        return Verdict.UNCLAIMED
    if claims.winning(named) is None:
        return Verdict.LATE
    return Verdict.EFFECTIVE if in_term(entry, key, named, subject, claims, cache) else Verdict.LATE


def in_term(
    entry: Entry, key: str, named: str, subject: _Subject, claims: Claims, cache: dict[tuple[str, str], set[str]]
) -> bool:
    """Whether the decision lies within the base of the claim that ended this one's term; true while none did."""
    after = claims.successors.get(named)
    if after is None:
        return True
    stream = key_of(entry)
    if (after.id, stream) not in cache:
        cache[after.id, stream] = subject.within(after.base.get(stream, ()), stream)
    return key in cache[after.id, stream]


# -- order

_Rank = tuple[int, str, int, str]
_Ranked = tuple[_Rank, str]


def _order(subject: _Subject, claims: Claims, generations: Generations) -> tuple[list[str], bool]:
    """Topological (Kahn), ties by claim depth, stream, number and hash. `prev` binds always; what an author had seen, the
    claim of a decision, the base of a claim, the order that a word is about and the order of generations bind unless they form
    a circle: then the smallest entry whose `prev` is placed goes first. Also says whether there was one."""
    ranks = {key: _rank(one, key, claims) for key, one in subject.all.items()}
    after: dict[str, list[str]] = {}
    missing: dict[str, int] = {}
    for key, one in subject.all.items():
        needed = _needed(key, one.entry, subject, claims, generations)
        missing[key] = len(needed)
        for other in needed:
            after.setdefault(other, []).append(key)
    ready = [(ranks[key], key) for key, count in missing.items() if count == 0]
    heapq.heapify(ready)
    order: dict[str, None] = {}
    chained: dict[str, list[str]] = {}
    loose: list[_Ranked] = []
    circular = False
    while len(order) < len(subject.all):
        if not ready and not loose:
            circular = True
            loose, chained = _loose(subject, ranks, order)
        _, key = heapq.heappop(ready or loose)
        if key in order:
            continue
        order[key] = None
        for other in chained.get(key, ()):
            heapq.heappush(loose, (ranks[other], other))
        for other in after.get(key, ()):
            missing[other] -= 1
            if missing[other] == 0 and other not in order:
                heapq.heappush(ready, (ranks[other], other))
    return list(order), circular


def _loose(
    subject: _Subject, ranks: Mapping[str, _Rank], placed: Container[str]
) -> tuple[list[_Ranked], dict[str, list[str]]]:
    """A heap of the entries that may break a circle, since their `prev` is placed or not here; and the others by `prev`."""
    loose: list[_Ranked] = []
    chained: dict[str, list[str]] = {}
    for key, one in subject.all.items():
        prev = one.entry.prev
        if key in placed:
            continue
        if prev in subject.all and prev not in placed:
            chained.setdefault(prev, []).append(key)
        else:
            loose.append((ranks[key], key))
    heapq.heapify(loose)
    return loose, chained


def _rank(one: Written, key: str, claims: Claims) -> _Rank:
    entry = one.entry
    decision = entry.kind in DECISION_KINDS or entry.kind in CLAIM_KINDS
    depth = claims.depth(entry.claim) if decision else 0
    return (depth, key_of(entry), entry.seq, key)


def _needed(key: str, entry: Entry, subject: _Subject, claims: Claims, generations: Generations) -> set[str]:
    """What has to stand before an entry."""
    here = key_of(entry)
    found = {entry.prev} if entry.prev in subject.all else set()
    for stream, length in entry.seen.items():
        if stream != here:
            found.update(subject.upto(stream, length))
    if entry.claim in subject.all:
        found.add(entry.claim)
    if entry.kind == PROGRESSED:  # its author may have had the order ahead of its stream, so that `seen` doesn't tell
        found.update(subject.issued.get(str(entry.body.get("order")), ()))
    claim = claims.all.get(key)
    if claim is not None:
        found.update(head for heads in claim.base.values() for _, head in heads if head in subject.all)
    if entry.seq == 1 and entry.prev == NO_HASH:
        earlier = [stream for stream in entry.seen if stream != here and generations.before(stream, here)]
        for stream in earlier:
            found.update(subject.tips.get(stream, ()))
    found.discard(key)
    return found


# -- the short way


def merge_seen(seen: Mapping[str, int], entry: Entry) -> dict[str, int]:
    """What the author of `entry` had folded, from what it had at its entry before in the same stream."""
    found = dict(seen)
    for stream, length in entry.seen.items():
        found[stream] = max(length, found.get(stream, 0))
    return found


def covers(seen: Mapping[str, int], lengths: Mapping[str, int], own: str) -> bool:
    """Whether an author that had folded `seen` had folded all of `lengths` but its own stream `own`: then its entry is last."""
    return all(seen.get(stream, 0) >= length for stream, length in lengths.items() if stream != own)


def widens(entry: Entry, known: AbstractSet[str]) -> bool:
    """Whether others than the `known` nodes may have a standing in the incident by this entry."""
    return (entry.claim is not None or entry.kind in DECISION_KINDS) and not named(entry) <= known


def heard(entry: Entry, owner: str | None, standing: AbstractSet[str], *, strangers: bool) -> bool:
    """Whether an entry is no stranger's, and makes nobody heard but by the owner's word, and none of the `strangers`."""
    if entry.origin != owner and entry.origin not in standing:
        return False
    return not widens(entry, standing) or (entry.origin == owner and not strangers)


def appends(
    entry: Entry,
    seen: Mapping[str, int],
    lengths: Mapping[str, int],
    chain: list[Claim],
    standing: AbstractSet[str],
    *,
    strangers: bool,
) -> bool:
    """Whether a received entry simply comes last and counts, so that it may be folded onto the rows as they are.

    `seen` is what its author had folded (`merge_seen` up to and with it), `lengths` what is held here of each stream of the
    incident but strangers', `chain` the winning claims, `standing` and `strangers` as `Picture` has them. The caller must
    resolve again when this says no, when a stream of the incident has forked, and when its origin is revoked; and must not go
    on with the same `standing` after an entry that `widens`.
    """
    if entry.kind in CLAIM_KINDS or entry.kind == ADOPTED or not covers(seen, lengths, key_of(entry)):
        return False
    if not heard(entry, chain[-1].owner if chain else None, standing, strangers=strangers):
        return False
    if entry.kind not in DECISION_KINDS:
        return True
    return bool(chain) and entry.claim == chain[-1].id and entry.origin == chain[-1].owner
