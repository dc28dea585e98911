"""Rules of the design broken on purpose, one at a time: the simulation has to notice each.

`broken(rule)` swaps the rule in the real code while it is entered. Names as in issue 3; `reporter` and `standing` are of
decisions/0007 and 0008.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from command.base.entry import Entry
from command.tree import claim as claims
from command.tree import picture as pictures
from command.tree import sharing
from command.tree.claim import REPORTED, Claim, Claims, Verdict
from command.tree.link import Link
from command.tree.wire import Have, stream_of
from tests.sim.node import Rules


class LengthsOnly(Link):
    """A link whose `have` says lengths and no head hashes."""

    def _have(self, message: Have) -> None:
        streams = {}
        for name, tips in message.streams.items():
            mine = {tip.length: tip for tip in self._shelf.locator_all(stream_of(name))}  # type: ignore[attr-defined]
            streams[name] = [mine.get(tip.length, tip) for tip in tips]
        super()._have(
            Have(
                streams=streams,
                months=message.months,
                answers=message.answers,
                ask=message.ask,
                done=message.done,
                begin=message.begin,
            )
        )


class WithoutHeads(Rules):
    link = LengthsOnly


def _best_by_hash(self: Claims, rivals: list[Claim]) -> Claim:
    """Any order would do, one might think, as long as all have the same."""
    return min(rivals, key=lambda one: one.id)


def _by_author(
    entry: Entry, key: str, subject: object, found: Claims, cache: dict[tuple[str, str], set[str]]
) -> Verdict:
    """A decision counts if its author owned the incident at any time; the claim that it names isn't looked at."""
    mine = [claim for claim in found.chain if claim.owner == entry.origin]
    if not mine:
        return Verdict.LATE
    good = pictures.in_term(entry, key, mine[-1].id, subject, found, cache)  # type: ignore[arg-type]
    return Verdict.EFFECTIVE if good else Verdict.LATE


def _everybody(_: sharing.Concerned, nodes: Any) -> frozenset[str]:
    """Whoever writes is heard."""
    return frozenset(nodes.parents)


RULES = (
    "random_generation",
    "head_in_have",
    "base",
    "claim_order",
    "claim_in_decision",
    "after",
    "reporter",
    "standing",
)


@contextmanager
def broken(rule: str | None) -> Iterator[Rules]:
    """The rules with one of them broken (or none)."""
    if rule == "head_in_have":
        yield WithoutHeads(rule)
    elif rule == "base":
        with patch.object(pictures, "in_term", lambda *_: True):
            yield Rules(rule)
    elif rule == "claim_order":
        with patch.object(Claims, "best", _best_by_hash):
            yield Rules(rule)
    elif rule == "claim_in_decision":
        with patch.object(pictures, "judge", _by_author):
            yield Rules(rule)
    elif rule == "reporter":
        with (
            patch.object(claims, "reports", lambda entry: entry.kind == REPORTED),
            patch.object(pictures, "reports", lambda entry: entry.kind == REPORTED),
        ):
            yield Rules(rule)
    elif rule == "standing":
        with patch.object(pictures, "standing", _everybody):
            yield Rules(rule)
    elif rule == "after":
        with patch.object(claims.Generations, "before", lambda *_: False):
            yield Rules(rule)
    else:
        assert rule in (None, "random_generation"), rule
        yield Rules(rule)
