"""What really happened in a simulated world, written down as it happens: the yardstick for what the nodes make of it.

Where the very head that a claimant or revoker named was lost with the disks, what it held can't be told from another branch as
long; then the length counts, as documented in `picture`.

It knows what no node knows (the order of a node's lives, what a claimant held when it claimed) and finds owner and verdicts by
its own, slower way, never through `claim` or `picture`.
"""

from command.base.entry import Written
from command.tree.claim import AGREED, DECISION_KINDS, REPORTED, SEIZED, TRANSFERRED

Heads = dict[str, list[tuple[int, bytes]]]
"""Stream name: its ends."""


class Truth:
    def __init__(self, parents: dict[str, str | None]) -> None:
        self.parents = parents
        self.acked: dict[bytes, Written] = {}
        self.held_at_claim: dict[str, set[bytes]] = {}
        self.decided_under: dict[bytes, str | None] = {}
        self.lives: dict[str, list[str]] = {}
        """Of each generation, those before it that its node knew of when it was opened."""
        self.revocations: list[tuple[bytes, str, set[bytes], Heads]] = []
        """The revoking entry, the node, and what the revoker held of it."""
        self.heads_at_claim: dict[str, Heads] = {}
        self.heads_revoked: dict[str, list[Heads]] = {}
        self.left: set[bytes] = set()
        """Every entry that some node holds in the end."""
        self.revoked: dict[str, set[bytes]] = {}
        """What the revokers held of a revoked node, together: of those revocations that are left."""
        self.snapshotted: set[str] = set()
        """Generations in which a snapshot was put back unnoticed: only these may fork."""
        self.survived: set[bytes] = set()
        """What disks and files held when the healing began."""
        self.readdressed = False
        """A file went to a superior of its addressee, who is gone."""
        self.unexpected: list[str] = []
        self.brazen: dict[str, set[str]] = {}
        """Nodes that press their own streams of these incidents on their neighbours, whoever they concern."""
        self.trespasses: set[bytes] = set()
        """What was written by a node in an incident that nobody had given it."""

    def line(self, node: str) -> tuple[str, ...]:
        """The node and its superiors, the root first."""
        found = [node]
        while (parent := self.parents[found[0]]) is not None:
            found.insert(0, parent)
        return tuple(found)

    def level(self, node: str) -> str:
        return ("province", "city", "county", "field")[len(self.line(node)) - 1]

    def revocations_held(self, held: set[bytes]) -> None:
        for key, node, entries, heads in self.revocations:
            if key in held:
                self.revoked.setdefault(node, set()).update(entries)
                self.heads_revoked.setdefault(node, []).append(heads)

    def by_length(self, one: Written, heads: Heads) -> bool:
        """Whether it lies within a head that nobody holds any more."""
        tips = heads.get(str(one.entry.stream), [])
        return any(head not in self.left and one.entry.seq <= length for length, head in tips)

    def good(self, one: Written) -> bool:
        held = self.revoked.get(one.entry.origin)
        if held is None or one.hash in held:
            return True
        return any(self.by_length(one, heads) for heads in self.heads_revoked[one.entry.origin])

    def chain(self, entries: dict[str, Written]) -> list[Written]:
        """The claims that hold, by what really happened."""
        claims = [
            one for one in entries.values() if one.entry.kind in (REPORTED, TRANSFERRED, SEIZED) and self.good(one)
        ]
        found: list[Written] = []
        rivals = [one for one in claims if reported_rightly(one)]
        while rivals:
            won = self._best(rivals)
            found.append(won)
            rivals = [
                one
                for one in claims
                if one.entry.kind != REPORTED and one.entry.claim == won.hash.hex() and self._right(one, won, entries)
            ]
        return found

    def _right(self, claim: Written, before: Written, entries: dict[str, Written]) -> bool:
        owner = owner_of(before)
        if claim.entry.kind == SEIZED:
            return claim.entry.origin in self.line(owner)[:-1]
        agreed = entries.get(claim.entry.body["agreed"])
        agrees = agreed is not None and agreed.entry.kind == AGREED and agreed.entry.origin == claim.entry.body["to"]
        return claim.entry.origin == owner and agrees and self.good(agreed)  # type: ignore[arg-type]

    def _best(self, rivals: list[Written]) -> Written:
        top = min(len(self.line(one.entry.origin)) for one in rivals)
        rivals = [one for one in rivals if len(self.line(one.entry.origin)) == top]

        def earlier(one: Written, other: Written) -> bool:
            before = self.lives.get(other.entry.generation, [])
            return one.entry.origin == other.entry.origin and one.entry.generation in before

        first = [one for one in rivals if not any(earlier(other, one) for other in rivals)]
        return min(first or rivals, key=lambda one: (one.entry.seq, one.hash))

    def counts(self, entries: dict[str, Written]) -> tuple[str | None, set[bytes]]:
        """Owner, and the entries that count (adopted ones too)."""
        chain, standing = self.chain(entries), self.standing(entries)
        keys = [one.hash.hex() for one in chain]
        found = set()
        for one in entries.values():
            if not self.good(one) or one.entry.origin not in standing:
                continue
            if one.entry.kind in (REPORTED, TRANSFERRED, SEIZED):
                if one.hash.hex() in keys:
                    found.add(one.hash)
            elif one.entry.kind not in DECISION_KINDS or self._in_force(one, chain, keys):
                found.add(one.hash)
        adopted = set()
        for one in entries.values():
            if one.entry.kind == "order.adopted" and one.hash in found:
                late = entries.get(one.entry.body["entry"])
                if late is not None and self._late(late, entries, found):
                    adopted.add(late.hash)
        return (owner_of(chain[-1]) if chain else None), found | adopted

    def _in_force(self, one: Written, chain: list[Written], keys: list[str]) -> bool:
        under = self.decided_under[one.hash]
        if under is None and one.entry.claim is None and keys:
            under = keys[0]  # who knows of no claim decides under the report
        if under not in keys:
            return False
        at = keys.index(under)
        if owner_of(chain[at]) != one.entry.origin:
            return False
        if at + 1 == len(keys) or one.hash in self.held_at_claim[keys[at + 1]]:
            return True
        return self.by_length(one, self.heads_at_claim[keys[at + 1]])

    def _late(self, late: Written, entries: dict[str, Written], found: set[bytes]) -> bool:
        under = self.decided_under.get(late.hash)
        claim = entries.get(under) if under else None
        if claim is None or late.hash in found or not (self.good(late) and self.good(claim)):
            return False
        return late.entry.kind == "order.issued" and owner_of(claim) == late.entry.origin

    def standing(self, entries: dict[str, Written]) -> set[str]:
        """Whose word counts: owners of any time, whom they named, and everybody above one of these."""
        terms = {key: one.entry.origin for key, one in entries.items() if reported_rightly(one)}
        before = -1
        while before != len(terms):
            before = len(terms)
            for key, one in entries.items():
                under = entries.get(one.entry.claim or "")
                if one.entry.claim in terms and one.entry.kind in (TRANSFERRED, SEIZED) and under is not None:
                    if one.entry.kind == SEIZED and one.entry.origin in self.line(terms[one.entry.claim])[:-1]:
                        terms[key] = one.entry.origin
                    elif one.entry.kind == TRANSFERRED and one.entry.origin == terms[one.entry.claim]:
                        agreed = entries.get(one.entry.body["agreed"])
                        if agreed is not None and (agreed.entry.kind, agreed.entry.origin) == (
                            AGREED,
                            one.entry.body["to"],
                        ):
                            terms[key] = one.entry.body["to"]
        found = {*terms.values()}
        for one in entries.values():
            if one.entry.claim in terms and terms[one.entry.claim] == one.entry.origin:
                body = one.entry.body
                found |= {body.get("node"), *body.get("nodes", ())} - {None}
                found |= {body["to"]} if one.entry.kind == TRANSFERRED else set()
        return {above for node in found for above in self.line(node)}


def reported_rightly(one: Written) -> bool:
    return one.entry.kind == REPORTED and one.entry.subject.endswith(f"-{one.entry.origin}")


def owner_of(claim: Written) -> str:
    to = claim.entry.body.get("to")
    return to if claim.entry.kind == TRANSFERRED and isinstance(to, str) else claim.entry.origin
