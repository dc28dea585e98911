"""What an administrator does about the tree on the machine itself: invite, join, list and revoke nodes.

Edge. `invite` and `revoke` write to the log and so need the node to be stopped (on a running one the screen does the same);
`join` and `nodes` don't. Invariant: a code is printed once and stored nowhere but in the invitation.
"""

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import structs
from sqlalchemy.engine import Connection

from command import recovery
from command.base.clock import Clock
from command.base.config import Config
from command.base.entry import By
from command.base.errors import Missing, Rejected
from command.base.identity import load_or_make, node_id, write_secret
from command.domain import nodes
from command.domain.membership import InviteNode, RevokeNode
from command.domain.nodes import NODE, NodeKind, NodeLevel
from command.domain.presence import PRESENCE
from command.log.backup import reading
from command.log.store import STREAM, Store
from command.log.witness import checkpoint, stream_heads
from command.service import House, Service
from command.tree import pairing
from command.uplink.carriage import Carriage
from command.uplink.dialler import JOIN_FILE

COMMANDS = ("invite", "join", "nodes", "revoke")
BY = By(account="node")


def add_commands(admin: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    one = admin.add_parser("invite", help="invite a node below this one (which must not be running); prints a code")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("--kind", choices=[kind.value for kind in NodeKind], default=NodeKind.FIXED.value)
    one.add_argument("--level", choices=[level.value for level in NodeLevel], required=True)
    one.add_argument("--organisation", help="id of the organisation whose seat it will be")
    one.add_argument("name", help="what the node will be called")
    one = admin.add_parser(
        "join", help="join the tree with the code that the superior read out; set FENGHUO_PARENT too"
    )
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("code", nargs="+", help="five groups of four; case and spaces don't matter")
    one = admin.add_parser("nodes", help="list the nodes of the tree; the node may be running")
    one.add_argument("--data", help="FENGHUO_DATA")
    one = admin.add_parser("revoke", help="revoke a node (this one must not be running)")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("node", help="its id, as `nodes` prints it")
    one.add_argument("reason", help="why; it is shown with the node")


def add_files(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`export` and `import`: the link as files."""
    one = commands.add_parser(
        "export", help="write what another node may hold into a signed file; the node may be running"
    )
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("--to", required=True, help="id of the node it is for, as `admin nodes` prints it")
    one.add_argument("--incident", action="append", default=[], help="only this incident (may be repeated)")
    one.add_argument("target", type=Path, help="the file to write")
    one = commands.add_parser(
        "witness", help="sign what is held here of another node's streams, for its `verify`; the node may be running"
    )
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("--of", required=True, help="id of that node, as `admin nodes` prints it")
    one.add_argument("target", type=Path, help="the file to write, or to go on with")
    one = commands.add_parser("import", help="take in such a file (the node must not be running); twice does no harm")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("source", type=Path, help="the file to read")


def add_recovery(restore: argparse.ArgumentParser) -> None:
    """`restore --from-parent`: for a node whose disk is gone and of which there is no backup."""
    restore.add_argument(
        "--from-parent", metavar="WHERE", help="https://host:port of the superior, or a bundle that it exported for us"
    )
    restore.add_argument("--key", type=Path, help="the node's key, as it was kept apart from the disk (node.key)")
    restore.add_argument(
        "--code", nargs="+", default=[], help="an invitation of the superior, read out by its operator"
    )
    restore.add_argument("--parent-id", default="", help="with a bundle: the superior's id, read out by its operator")


def recover(arguments: argparse.Namespace, config: Config, house: House) -> int:
    where, data = arguments.from_parent, Path(config.data)
    if where is None:
        raise Rejected("restore.nothing", "Name a backup to restore, or --from-parent.")
    if arguments.key is None:
        hint = "Without its key a node can't come back as itself: docs/operations.md says how another takes its place."
        raise Rejected("restore.no_key", f"Name the node's key with --key. {hint}")
    linked = where.startswith(("http://", "https://"))
    if not linked and not arguments.parent_id:
        raise Rejected(
            "restore.parent_id", "Name the superior by --parent-id; its operator reads it from `admin nodes`."
        )
    recovery.prepare(data, arguments.key)
    if linked:
        there = structs.replace(config, parent=where)
        found = asyncio.run(recovery.over_link(there, house, " ".join(arguments.code)))
    else:
        found = asyncio.run(recovery.from_bundle(config, house, Path(where), arguments.parent_id))
    print(
        f"restored: {found.entries} entries of node {found.node}, {found.own} streams of its own; "
        "the next start opens a new generation"
    )
    return 0


def export(arguments: argparse.Namespace, config: Config, house: House) -> int:
    data = Path(config.data)
    key = load_or_make(data)
    with reading(config.database_url, data, house.domain) as store:
        carriage = Carriage(store, node_id(key.public_key()), Clock(), key)
        subjects = frozenset(f"incident/{one}" for one in arguments.incident)
        count = carriage.export(arguments.target, arguments.to, subjects)
    print(f"exported: {count} entries for {arguments.to} in {arguments.target}")
    return 0


def witness(arguments: argparse.Namespace, config: Config, house: House) -> int:
    data = Path(config.data)
    key, clock = load_or_make(data), Clock()
    with reading(config.database_url, data, house.domain) as store, store.reader_engine.connect() as connection:
        me = node_id(key.public_key())
        count = checkpoint(connection, arguments.target, key, me, clock.now(), arguments.of)
    if not count:
        raise Missing("node.missing", "Nothing of such a node is held here; `admin nodes` lists them.")
    print(f"witnessed: {count} streams of {arguments.of} by {me} in {arguments.target}")
    return 0


def key_of(store: Store, connection: Connection, node: str) -> Ed25519PublicKey:
    """The key of a node that is known here. An id is a function of the key, so the table can't lie about it."""
    row = store.shelf(NODE).get(connection, node)
    if row is None or nodes.node_id(row.public_key) != node:
        raise Missing("node.missing", "Name the superior whose file it is by --witness-by; `admin nodes` lists them.")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(row.public_key))


async def bring(arguments: argparse.Namespace, config: Config, house: House) -> int:
    service = Service(config, house)
    try:
        await service.open()
        node, key = service.node, load_or_make(Path(config.data))
        carried = await Carriage(node.store, node.log.node, node.clock, key).bring(arguments.source, node.log)
    finally:
        await service.stop()
    print(f"imported: {carried.entries} entries made by {carried.maker}")
    if carried.skipped:
        print(
            f"{len(carried.skipped)} streams are of nodes whose keys are not known here yet; import the file again later"
        )
    return 0


def run(arguments: argparse.Namespace, config: Config, house: House) -> int:
    """Carry out one of COMMANDS; the exit status."""
    if arguments.admin == "invite":
        return asyncio.run(_invite(arguments, config, house))
    if arguments.admin == "join":
        return _join(arguments, config)
    if arguments.admin == "nodes":
        return _nodes(config, house)
    return asyncio.run(_revoke(arguments, config, house))


async def _invite(arguments: argparse.Namespace, config: Config, house: House) -> int:
    service = Service(config, house)
    try:
        await service.open()
        code = pairing.new_code(service.node.clock.octets(pairing.CODE_OCTETS))
        request = InviteNode(
            name=arguments.name,
            kind=NodeKind(arguments.kind),
            level=NodeLevel(arguments.level),
            organisation=arguments.organisation,
            code=code,
        )
        await service.node.log.append(request, BY)
    finally:
        await service.stop()
    print(f"code for {arguments.name}, good once and for 24 h: {pairing.grouped(code)}")
    return 0


def _join(arguments: argparse.Namespace, config: Config) -> int:
    code = pairing.read_code(" ".join(arguments.code))
    if not config.parent:
        raise Rejected("link.no_parent", "Set FENGHUO_PARENT to the superior's address first.")
    data = Path(config.data)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(data / JOIN_FILE, code.encode())
    print(f"the node joins {config.parent} as soon as it runs and reaches it")
    return 0


def _nodes(config: Config, house: House) -> int:
    opened = reading(config.database_url, Path(config.data), house.domain)
    with opened as store, store.reader_engine.connect() as connection:
        rows = store.shelf(NODE).select(connection)
        states = {row.id: row for row in store.shelf(PRESENCE).select(connection)}
    for row in rows:
        state = states.get(row.id)
        contact = "-" if state is None or not state.contact_at else _shown(state.contact_at)
        linked = "revoked" if row.revoked is not None else "linked" if state is not None and state.linked else "-"
        print(f"{row.id}  {row.level:<8} {row.kind:<7} {linked:<7} {contact}  {row.name}  below {row.parent or '-'}")
    print(f"{len(rows)} nodes")
    return 0


def _shown(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _revoke(arguments: argparse.Namespace, config: Config, house: House) -> int:
    node = arguments.node
    service = Service(config, house)
    try:
        await service.open()
        store = service.node.store
        row = await store.read(lambda connection: store.shelf(NODE).get(connection, node))
        if row is None:
            raise Missing("node.missing", "There is no such node here; `admin nodes` lists them.")
        heads = await store.read(lambda connection: stream_heads(connection, STREAM.c.origin == node))
        await service.node.log.append(
            RevokeNode(id=node, version=row.version, reason=arguments.reason, heads=heads), BY
        )
    finally:
        await service.stop()
    print(f"revoked: {row.name} ({node}); {len(heads)} of its streams count as far as they are held here")
    return 0
