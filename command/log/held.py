"""What is held of a subject: its entries as stored, and how far they are folded.

Shell; it reads in the writer's transaction and writes nothing. Invariant: what it gives is the same whatever the order in which
the entries came.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Entry, Written
from command.base.naming import ROOM, bound
from command.log.audience import TELLING, holds_any
from command.log.store import BRANCH, ENTRY, STREAM
from command.tree import sharing
from command.tree.sharing import Nodes

OWNED = {
    "organisation": "organisation",
    "unit": "unit",
    "person": "person",
    "group": "group",
    "template": "template",
    "plan": "plan",
    "report_rule": "report_rule",
}
"""Kinds of registry entries that save a row, and the field of the body that names it."""


def owned(subject: str, kind: str, body: Mapping[str, Any]) -> str | None:
    """The row of the registry ("kind/ID") that an entry saves; None for other entries."""
    if subject != "registry":
        return None
    name = OWNED.get(kind.partition(".")[0])
    key = None if name is None else body.get(name)
    return f"{name}/{key}" if isinstance(key, str) else None


MAKING = {
    "order.issued": "order",
    "notice.issued": "notice",
    "notice.drafted": "notice",
    "fence.drawn": "fence",
    "room.opened": "room",
    "meeting.scheduled": "room",
    "incident.asked": "ask",
    "ownership.offered": "transfer",
    "ownership.requested": "transfer",
    "plan.requested": "activation",
    "report.due": "due",
}
"""Kinds that make something under an id of its maker, and the field that says it (`naming`)."""


def made_by_nobody(connection: Connection, node: str) -> bool:
    """Whether the first thing that this node made has an id bound to nobody (decisions/0009): no program since makes one."""
    kinds = holds_any(connection, [f'"kind":"{kind}"'.encode() for kind in MAKING])
    mine = sa.select(ENTRY.c.data).join(STREAM, STREAM.c.id == ENTRY.c.stream).where(STREAM.c.origin == node, kinds)
    data = connection.scalar(mine.order_by(ENTRY.c.number).limit(1))
    entry = None if data is None else entries.decode(data)
    if entry is None or entry.kind not in MAKING:
        return False
    name = MAKING[entry.kind]
    return not bound(entry.body.get(name), entry, ROOM if name == "room" else None)


def entries_of(connection: Connection, subject: str) -> list[Written]:
    """Every entry held of a subject, on its chains and on branches."""
    chain = sa.select(ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private).join(
        STREAM, STREAM.c.id == ENTRY.c.stream
    )
    rows = connection.execute(chain.where(STREAM.c.subject == subject).order_by(ENTRY.c.number)).all()
    loose = sa.select(BRANCH.c.data, BRANCH.c.hash, BRANCH.c.salt, BRANCH.c.private).where(BRANCH.c.subject == subject)
    return [written_of(row) for row in [*rows, *connection.execute(loose.order_by(BRANCH.c.seq, BRANCH.c.hash)).all()]]


def written_of(row: Any) -> Written:
    return Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)


def standing_in(connection: Connection, subject: str, nodes: Nodes) -> frozenset[str]:
    """The nodes whose word counts in an incident, from those of its entries that say so."""
    data = sa.select(ENTRY.c.data, ENTRY.c.hash).join(STREAM, STREAM.c.id == ENTRY.c.stream)
    chain = connection.execute(data.where(STREAM.c.subject == subject, holds_any(connection, TELLING))).all()
    loose = connection.execute(sa.select(BRANCH.c.data, BRANCH.c.hash).where(BRANCH.c.subject == subject)).all()
    told = (Written(entry=entries.decode(row.data), data=row.data, hash=row.hash) for row in [*chain, *loose])
    return sharing.standing(sharing.concerned(told), nodes)


def of_row(connection: Connection, like: Entry, kind: str, name: str) -> list[Written]:
    """The entries of the node that wrote `like` which are about one row of the registry, in order."""
    columns = sa.select(ENTRY.c.data, ENTRY.c.hash, ENTRY.c.salt, ENTRY.c.private, ENTRY.c.number)
    mine = columns.join(STREAM, STREAM.c.id == ENTRY.c.stream).where(
        STREAM.c.subject == like.subject, STREAM.c.origin == like.origin, holds_any(connection, [name.encode()])
    )
    found = [written_of(row) for row in connection.execute(mine.order_by(ENTRY.c.number))]
    return [one for one in found if one.entry.body.get(kind) == name]
