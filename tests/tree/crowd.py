"""Several whole nodes in one process, and entries carried between them as a link or a stick would bring them.

async with crowd(database_url, tmp_path, "province", "city", "county") as (province, city, county):
    await carry(county, city)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.clock import Clock
from command.base.entry import Seal, Stream, Written
from command.base.identity import load_or_make, public_hex
from command.base.projection import Table
from command.base.schema import Category, Level, Place
from command.domain.incident import INCIDENT, Incident, ReportIncident
from command.domain.membership import INVITATION, AdmitNode, InviteNode, JoinTree
from command.domain.nodes import NODE, NodeKind, NodeLevel
from command.edge.api import Node
from command.log.anew import digest
from command.log.intake import Held
from command.log.store import BRANCH, ENTRY, RECEIVED_SEAL, SEAL, STREAM
from command.log.workspace import Workspace
from command.tree.item import Received
from tests.node import NODE as SELF
from tests.node import node

LEVELS = {
    "province": NodeLevel.PROVINCE,
    "city": NodeLevel.CITY,
    "county": NodeLevel.COUNTY,
    "vehicle": NodeLevel.FIELD,
}


@asynccontextmanager
async def crowd(
    database_url: str, data: Path, *names: str, clock: Clock | None = None
) -> AsyncIterator[tuple[Node, ...]]:
    """Nodes from the root down, each the child of the one before, all knowing each other. The last has the test's database,
    the others SQLite."""
    async with AsyncExitStack() as stack:
        made = []
        for name in names:
            url = database_url if name == names[-1] else f"sqlite:///{data / name}/fenghuo.db"
            made.append(await stack.enter_async_context(node(url, data / name, clock=clock)))
        for name, parent, child in zip(names[1:], made, made[1:], strict=False):
            await join(parent, child, name)
        for one in [*made, *made]:  # who is two steps away is known after the first round
            for other in made:
                if one is not other:
                    await carry(other, one, lambda stream: stream.subject == "tree")
        yield tuple(made)


def key_of(n: Node) -> str:
    return public_hex(load_or_make(Path(n.config.data)).public_key())


async def join(parent: Node, child: Node, name: str, organisation: str | None = None) -> None:
    level = LEVELS.get(name, NodeLevel.COUNTY)
    kind = NodeKind.MOBILE if level is NodeLevel.FIELD else NodeKind.FIXED
    place: dict[str, Any] = {"kind": kind, "level": level, "organisation": organisation}
    invitation = await parent.log.append(InviteNode(name=name, code="A" * 20, **place), SELF)
    await parent.log.append(AdmitNode(invitation=invitation.id or "", public_key=key_of(child)), SELF)
    await child.log.append(JoinTree(public_key=key_of(parent), name=name, **place), SELF)
    assert await rows(parent, INVITATION)


async def rows(n: Node, table: Table[Any], **equal: object) -> list[Any]:
    return await n.store.read(lambda c: n.store.shelf(table).select(c, equal=equal))


async def incident(n: Node, key: str) -> Incident:
    [found] = [row for row in await rows(n, INCIDENT) if row.id == key]
    return found  # type: ignore[no-any-return]


async def keys(n: Node) -> dict[str, Ed25519PublicKey]:
    """The keys of all nodes that are registered there."""
    found = await rows(n, NODE)
    return {
        row.id: Ed25519PublicKey.from_public_bytes(bytes.fromhex(row.public_key)) for row in found if row.public_key
    }


def _received(row: Any, seal: Any) -> Received:
    written = Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)
    count = seal._mapping["count"]
    made = Seal(root=seal.root, count=count, signature=seal.signature, alg=seal.alg)
    return Received(written=written, seal=made, leaf=row.leaf, path=row.path)


async def held(n: Node, wanted: Callable[[Stream], bool] = lambda stream: True) -> list[Received]:
    """Everything a node holds of the wanted streams, but for what stays at home, as it was written down there."""

    def read(connection: Connection) -> list[Received]:
        streams = {
            row.id: Stream(row.subject, row.origin, row.generation) for row in connection.execute(sa.select(STREAM))
        }
        seals = {row.position: row for row in connection.execute(sa.select(SEAL))}
        received = {row.id: row for row in connection.execute(sa.select(RECEIVED_SEAL))}
        found = []
        for row in connection.execute(sa.select(ENTRY).order_by(ENTRY.c.number)):
            stream = streams[row.stream]
            if stream.subject != "audit" and wanted(stream):
                found.append(_received(row, seals[row.position] if row.seal is None else received[row.seal]))
        for row in connection.execute(sa.select(BRANCH).order_by(BRANCH.c.seq)):
            if wanted(Stream(row.subject, row.origin, row.generation)):
                found.append(_received(row, row))
        return found

    return await n.store.read(read)


async def carry(
    source: Node, target: Node, wanted: Callable[[Stream], bool] = lambda stream: True
) -> dict[Stream, Held]:
    """Bring everything that `source` holds to `target`, as a link would: what is `target`'s own stays out, and what was
    written by a node that it doesn't know yet."""

    def foreign(stream: Stream) -> bool:
        own = stream.origin == target.log.node and stream.generation == target.log.generation
        return not own and wanted(stream)

    known = await keys(target)
    items = [one for one in await held(source, foreign) if one.stream.origin in known]
    return await target.log.receive(items, known)


async def exchange(*nodes: Node) -> None:
    """Everybody's everything to everybody, twice over, so that what follows from the first round arrives too."""
    for _ in range(2):
        for source in nodes:
            for target in nodes:
                if source is not target:
                    await carry(source, target)


async def settled(n: Node, key: str) -> str:
    """The digest of an incident's rows once nothing of it lags behind."""
    while n.log.lagging:
        await n.log.caught_up()

    def read(connection: Connection) -> str:
        seen = Workspace(n.store)
        seen.begin(connection)
        return digest(seen, key)

    return await n.store.read(read)


def report(organisation: str, title: str = "仓库起火", level: Level = Level.III) -> ReportIncident:
    place = Place(lon=155.0, lat=32.0, address="示范路1号")
    return ReportIncident(category=Category.ACCIDENT, level=level, title=title, place=place, organisation=organisation)
