"""Entries of one incident by hand: nodes write what they say, and hold what they are told."""

from typing import Any

from command.base.entry import NO_HASH, By, Entry, Written, write
from command.tree.claim import Verdict
from command.tree.picture import Picture, merge_seen, resolve

PARENTS: dict[str, str | None] = {
    "province": None,
    "city": "province",
    "county": "city",
    "vehicle": "county",
    "other": "city",
}


SUBJECT = "incident/aa-county"


class Tree:
    """`Hierarchy` and `sharing.Nodes` over a dict."""

    def __init__(self, parents: dict[str, str | None] = PARENTS) -> None:
        self.parents = parents

    def line(self, node: str) -> tuple[str, ...]:
        found: list[str] = []
        at: str | None = node if node in self.parents else None
        while at is not None:
            found.insert(0, at)
            at = self.parents[at]
        return tuple(found)

    def superiors(self, node: str) -> frozenset[str]:
        return frozenset(self.line(node)[:-1])

    def level(self, node: str) -> str:
        return ("", "province", "city", "county", "field")[len(self.line(node))]


TREE = Tree()


class Teller:
    """One node in one generation. `held` is what it knows of the incident; `hear` adds what another knows."""

    def __init__(self, node: str, generation: str = "g1", before: tuple[str, ...] = (), subject: str = SUBJECT) -> None:
        self.node, self.generation, self.before, self.subject = node, generation, before, subject
        self.held: dict[bytes, Written] = {}
        self.seen: dict[str, int] = {}
        self.own: list[Written] = []

    @property
    def key(self) -> str:
        return f"{self.node}.{self.generation}"

    def hear(self, *others: "Teller") -> "Teller":
        for other in others:
            self.held |= other.held
        return self

    def lengths(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self.held.values():
            key = f"{one.entry.origin}.{one.entry.generation}"
            found[key] = max(found.get(key, 0), one.entry.seq)
        return found

    def say(self, kind: str, /, claim: Written | None = None, **body: Any) -> Written:
        seen = {k: n for k, n in self.lengths().items() if n > self.seen.get(k, 0) and k != self.key}
        if not self.own:
            seen |= {f"{self.node}.{life}": self.lengths().get(f"{self.node}.{life}", 0) for life in self.before}
        entry = Entry(
            subject=self.subject,
            origin=self.node,
            generation=self.generation,
            seq=len(self.own) + 1,
            prev=self.own[-1].hash.hex() if self.own else NO_HASH,
            at=0,
            kind=kind,
            by=By(account="duty"),
            claim=claim.hash.hex() if claim else None,
            seen=seen,
            body=body,
        )
        one = write(entry)
        self.seen = merge_seen(self.seen, entry)
        self.own.append(one)
        self.held[one.hash] = one
        return one

    def report(self) -> Written:
        return self.say("incident.reported", level="II")

    def invite(self, claim: Written, *nodes: str) -> Written:
        return self.say("incident.invited", claim, nodes=list(nodes))

    def edit(self, claim: Written) -> Written:
        return self.say("incident.edited", claim)

    def base(self, owner: str) -> dict[str, list[tuple[int, str]]]:
        found: dict[str, Written] = {}
        for one in self.held.values():
            key = f"{one.entry.origin}.{one.entry.generation}"
            if one.entry.origin == owner and (key not in found or found[key].entry.seq < one.entry.seq):
                found[key] = one
        return {key: [(one.entry.seq, one.hash.hex())] for key, one in found.items()}

    def seize(self, claim: Written, owner: str) -> Written:
        return self.say("ownership.seized", claim, base=self.base(owner))

    def agree(self, claim: Written) -> Written:
        return self.say("ownership.agreed", claim=None, of=claim.hash.hex())

    def transfer(self, claim: Written, to: str, agreed: Written) -> Written:
        return self.say("ownership.transferred", claim, to=to, agreed=agreed.hash.hex(), base=self.base(self.node))


def picture(*tellers: Teller, tree: Tree = TREE, cuts: Any = None) -> Picture:
    """What a node sees that has heard them all."""
    held: dict[bytes, Written] = {}
    for one in tellers:
        held |= one.held
    return resolve(held.values(), tree, cuts)


def verdict(seen: Picture, one: Written) -> Verdict:
    return seen.verdicts[one.hash]
