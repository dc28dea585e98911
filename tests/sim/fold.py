"""What a picture is for: rows. The real projectors over rows in memory, and the short way of folding beside the long one."""

from collections.abc import Iterable
from typing import Any

from command.base.entry import Written
from command.base.projection import Domain, R, Row, Table
from command.domain import answering, incident, issuing
from command.tree import picture as pictures
from command.tree.claim import Cuts
from command.tree.picture import Picture, key_of, merge_seen
from command.tree.sharing import Nodes, named


class Memory:
    """`projection.Editing` over a dict."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def get(self, table: Table[R], key: str) -> R | None:
        return self.rows.get((table.name, key))  # type: ignore[return-value]

    def where(self, table: Table[R], **equal: object) -> list[R]:
        found: list[Any] = [row for (name, _), row in sorted(self.rows.items()) if name == table.name]
        return [row for row in found if all(getattr(row, name) == value for name, value in equal.items())]

    def put(self, table: Table[R], row: R) -> None:
        self.rows[table.name, row.id] = row

    def add(self, table: Table[R], row: R) -> None:
        self.rows.setdefault((table.name, row.id), row)

    def delete(self, table: Table[R], key: str) -> None:
        self.rows.pop((table.name, key), None)


def domain() -> Domain:
    return (
        Domain().register(projectors=incident.PROJECTORS).register(projectors=issuing.PROJECTORS | answering.PROJECTORS)
    )


def fold(picture: Picture) -> dict[tuple[str, str], Row]:
    """The rows that a picture gives. Whatever the order and whatever is missing, a projector never refuses."""
    rows, known = Memory(), domain()
    for one in picture.counting():
        known.project(rows, one)
    return rows.rows


def short_way(arrived: Iterable[Written], nodes: Nodes, cuts: Cuts) -> list[bytes]:
    """What is folded, and in which order, when each entry that simply comes last is appended, and all is resolved again only
    when one doesn't: as a node does it, entry by entry as they came."""
    held: list[Written] = []
    folded: list[bytes] = []
    seen: dict[str, dict[str, int]] = {}
    lengths: dict[str, int] = {}
    every: dict[str, int] = {}
    picture = pictures.resolve(held, nodes, cuts)
    standing, forked = picture.standing, False
    for one in arrived:
        entry, stream = one.entry, key_of(one.entry)
        held.append(one)
        forked = forked or entry.seq != every.get(stream, 0) + 1
        seen[stream] = merge_seen(seen.get(stream, {}), entry)
        simple = not forked and entry.origin not in cuts
        chain, strangers = picture.chain, picture.strangers
        if simple and pictures.appends(entry, seen[stream], lengths, chain, standing, strangers=strangers):
            folded.append(one.hash)
            if pictures.widens(entry, standing):  # as `Folded.widen`
                standing = standing.union(named(entry), *(nodes.superiors(node) for node in named(entry)))
        else:
            picture = pictures.resolve(held, nodes, cuts)
            standing, folded = picture.standing, [two.hash for two in picture.counting()]
        every[stream] = max(entry.seq, every.get(stream, 0))
        lengths = {name: length for name, length in every.items() if name.partition(".")[0] in standing}
    return folded
