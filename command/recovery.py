"""Recovery: a node whose disk is gone, made again from what its superior holds, over the link or from a bundle.

Shell over a service that serves nobody: no timer runs and nothing listens while the node's former generations and all else
that it may hold come in. What it needs besides the superior is its key, which has to be kept apart from the disk. Invariant:
a directory is never served before everything that the superior named is durable in it; until then the recovery can be run
again and goes on where it stopped. Afterwards the node is as after a restore: a new generation, overdue timers held, messages
that may have left unknown.
"""

import asyncio
from pathlib import Path

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from command.base import identity
from command.base.clock import Clock
from command.base.config import Config
from command.base.entry import By
from command.base.errors import Corrupt, Denied, Rejected, Unavailable
from command.domain.membership import JoinTree
from command.domain.nodes import NODE
from command.log.backup import reading, regenerate
from command.log.store import STREAM
from command.service import UNFINISHED, House, Service
from command.tree import pairing
from command.uplink.carriage import Carriage, maker_of
from command.uplink.dialler import JOIN_FILE
from command.uplink.uplink import RECOVERING, Uplink, start

BY = By(account="node")
LOOK_S = 0.2
STALLED_S = 60.0
"""Nothing has come in for so long: the recovery stops, and can be run again."""


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` held now; `own` streams that this node had written before."""

    node: str
    entries: int
    own: int


def prepare(data: Path, key: Path) -> str:
    """Put the node's key into an empty data directory, or find it there from a recovery that was not finished; the node's id.

    Raises `Rejected` when the directory holds a node, or an unfinished one with another key; `Corrupt` for a damaged key.
    """
    held, mark = data / identity.KEY_FILE, data / UNFINISHED
    if held.exists() and not mark.exists():
        raise Rejected("restore.not_empty", "The data directory holds a node already; name an empty one.")
    try:
        octets = key.read_bytes()
    except OSError as error:
        raise Rejected("restore.key", f"The node's key can't be read: {error.strerror}") from None
    if held.exists() and held.read_bytes() != octets:
        raise Rejected("restore.other_key", "The recovery of another node was begun here; name an empty directory.")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark.touch()
    identity.write_secret(held, octets)
    try:
        return identity.node_id(identity.load_or_make(data).public_key())
    except Corrupt:
        held.unlink()
        mark.unlink()
        raise


async def over_link(config: Config, house: House, code: str, *, stalled_s: float = STALLED_S) -> Recovered:
    """Bring everything over the link to FENGHUO_PARENT. `code` is an invitation of that superior ("" when a recovery goes on
    that had joined already). Raises `Denied` when it refuses the code, `Unavailable` when nothing more comes in."""
    service = Service(config, house)
    data = Path(config.data)
    uplink: Uplink | None = None
    try:
        await service.open(recovering=True)
        service.node.parts[RECOVERING] = True
        refused = (data / JOIN_FILE).with_suffix(".refused")
        refused.unlink(missing_ok=True)
        if code:
            identity.write_secret(data / JOIN_FILE, pairing.read_code(code).encode())
        uplink = await start(service.node)
        await _arrive(service, uplink, refused, stalled_s)
    finally:
        if uplink is not None:
            uplink.farewell()
            await uplink.stop()
        await service.stop()
    return _finish(config, house)


async def _arrive(service: Service, uplink: Uplink, refused: Path, stalled_s: float) -> None:
    """Until the superior has said everything, and all of it is here and folded."""
    clock, log = service.node.clock, service.node.log
    position, since = log.position, clock.monotonic()
    while True:
        if refused.exists():
            raise Denied(uplink.refused or "pairing.refused", "The superior refused the code; ask for another one.")
        peer = None if uplink.parent is None else uplink.peers.get(uplink.parent)
        if peer is not None and peer.linked and not log.lagging and await uplink.think(peer.link.complete):
            return
        now = clock.monotonic()
        if log.position != position:
            position, since = log.position, now
        if now - since > stalled_s:
            why = uplink.refused or "the line is silent"
            raise Unavailable("restore.stalled", f"Nothing has come in for {stalled_s:.0f} s ({why}); run it again.")
        await asyncio.sleep(LOOK_S)


async def from_bundle(config: Config, house: House, source: Path, superior: str) -> Recovered:
    """Bring everything from a bundle that the superior made for this node. `superior` is its id, read out by its operator: an
    id is a function of the key, so it says whom to believe. Raises `Denied` when somebody else made the file."""
    service = Service(config, house)
    try:
        await service.open(recovering=True)
        node, key = service.node, identity.load_or_make(Path(config.data))
        header = maker_of(source)
        if identity.node_id(Ed25519PublicKey.from_public_bytes(header.key)) != superior or header.node != superior:
            raise Denied("bundle.other_node", f"{header.node} made this file, not {superior}.")
        if header.to not in ("", node.log.node):
            raise Denied("bundle.not_for_us", f"This file was made for {header.to}, not for {node.log.node}.")
        name = config.node_name or node.log.node
        await node.log.append(JoinTree(public_key=header.key.hex(), name=name), BY, key=f"recovery-{superior}")
        carried = await Carriage(node.store, node.log.node, Clock(), key).bring(source, node.log)
        if carried.skipped:
            raise Corrupt("restore.skipped", f"{len(carried.skipped)} streams are of nodes that the file doesn't name.")
        while node.log.lagging:
            await node.log.caught_up()
        rows = await node.store.read(lambda connection: node.store.shelf(NODE).get(connection, node.log.node))
        if rows is None or rows.admitted_at is None:
            raise Denied("bundle.not_admitted", f"{superior} is not the superior of {node.log.node}.")
    finally:
        await service.stop()
    return _finish(config, house)


def _finish(config: Config, house: House) -> Recovered:
    """Everything is here: as after a restore from now on."""
    data = Path(config.data)
    own = regenerate(config.database_url, data, house.domain, Clock())
    with reading(config.database_url, data, house.domain) as store, store.reader_engine.connect() as connection:
        count = connection.scalar(sa.select(sa.func.sum(STREAM.c.length))) or 0
    (data / UNFINISHED).unlink()
    return Recovered(node=identity.node_id(identity.load_or_make(data).public_key()), entries=int(count), own=own)
