"""Nodes of a tree as real processes, each with its own data directory; prepared through the real log before they start."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import server
from command.base.config import load
from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.incident import INCIDENT
from command.domain.membership import EditNode
from command.domain.nodes import NODE as NODES
from command.domain.nodes import NodeLevel
from command.domain.order import ORDER
from command.domain.registry import ORGANISATION, Tier
from command.domain.registry_edits import SaveOrganisation
from command.domain.tenure import LATE, TERM
from command.log.backup import reading
from command.log.store import STREAM
from tests.command.assembly import PASSWORD, Client
from tests.services import ROOT, ServerProcess
from tests.tree.scene import Member, tree, until

LEVELS = {"province": "province", "city": "city", "county": "county", "vehicle": "field"}


@dataclass
class Laid:
    """A paired node at rest: where its data is, how to start it, its organisation."""

    name: str
    data: Path
    server: ServerProcess
    organisation: str


async def lay_out(folder: Path, *names: str, **more: Any) -> dict[str, Laid]:
    """A line of paired nodes with an organisation, an officer and a leader each, made in this process and stopped again."""
    found: dict[str, Laid] = {}
    async with tree(folder, *names) as nodes:
        root = nodes[names[0]]
        organisations: dict[str, str] = {}
        above: str | None = None
        for name in names:
            tier = Tier.DEPARTMENT if name == "vehicle" else Tier(name)
            above = organisations[name] = await root.decide(SaveOrganisation(name=name, tier=tier, parent=above))
        for name, member in nodes.items():
            await until(lambda: known(member, organisations[name]))  # noqa: B023
            await _accounts(member, organisations[name])
            if member.superior is None:
                await seat(member, organisations)
        addresses = {name: f"http://127.0.0.1:{member.port}" for name, member in nodes.items()}
        ports = {name: member.port for name, member in nodes.items()}
    for name, before in zip(names, (None, *names), strict=False):
        one = process(folder / name, addresses[before] if before else "", port=ports[name], **more)
        found[name] = Laid(name=name, data=folder / name, server=one, organisation=organisations[name])
    return found


async def known(member: Member, organisation: str) -> bool:
    store = member.node.store
    return await store.read(lambda c: store.shelf(ORGANISATION).get(c, organisation)) is not None


async def seat(root: Member, organisations: dict[str, str]) -> None:
    """Give every node its organisation, at the root."""
    store = root.node.store
    for row in await store.read(lambda c: store.shelf(NODES).select(c)):
        name = row.name if row.name in organisations else root.name
        request = EditNode(
            id=row.id, version=row.version, name=name, organisation=organisations[name], level=NodeLevel(LEVELS[name])
        )
        await root.decide(request)


async def _accounts(member: Member, organisation: str) -> None:
    hashed = await member.node.auth.hash(PASSWORD)
    for account, role in (("officer", Role.DUTY_OFFICER), ("leader", Role.LEADER), ("system", Role.SYSTEM_ADMIN)):
        made = CreateAccount(
            name=account, roles=[role], organisation=organisation, password_hash=hashed, must_change_password=False
        )
        await member.decide(made)


def cli(*arguments: str) -> str:
    """What `server.py ARGUMENTS` prints; it has to end well."""
    command = [sys.executable, str(ROOT / "server.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=unset(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def admin(data: Path, *arguments: str, parent: str = "") -> str:
    """What `server.py admin ...` prints."""
    command = [sys.executable, str(ROOT / "server.py"), "admin", *arguments[:1], "--data", str(data), *arguments[1:]]
    environment = {"FENGHUO_PARENT": parent} if parent else {}
    done = subprocess.run(
        command, cwd=ROOT, env={**unset(), **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def unset() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}


def code_in(printed: str) -> str:
    """The code that `admin invite` printed."""
    return printed.strip().rsplit(" ", 1)[1]


def process(data: Path, parent: str = "", **more: Any) -> ServerProcess:
    """`server.py serve` on the directory; not yet started."""
    environment = {"FENGHUO_TOTP_REQUIRED": "false", "FENGHUO_PARENT": parent, **more.pop("environment", {})}
    return ServerProcess(
        data=data, database_url=f"sqlite:///{data / 'fenghuo.db'}", mode="serve", environment=environment, **more
    )


def addressed(laid: dict[str, Laid], authority: Path, name: str, host: str, parent: str, **environment: str) -> None:
    """Give a laid-out node an address that others reach over a wire: its server speaks TLS there."""
    one = laid[name].server
    one.host = host
    one.environment = {
        **one.environment,
        "FENGHUO_PARENT": parent,
        "FENGHUO_PARENT_CA": str(authority),
        **environment,
    }


async def officer(node: ServerProcess, name: str = "officer") -> Client:
    """Signed in at a node."""
    client = Client(node.base_url)
    await client.sign_in(name)
    return client


def look(data: Path, read: Callable[[Any, Any], Any]) -> Any:
    """What `read(store, connection)` finds in a node's database; the node may be running."""
    config = load({}, None, data=str(data))
    with reading(config.database_url, data, server.house(config).domain) as store, store.reader_engine.connect() as c:
        return read(store, c)


def picture_hash(data: Path) -> str:
    """One hash over what the node would show of incidents: their rows, orders, terms of ownership and late decisions."""

    def read(store: Any, connection: Any) -> str:
        digest = hashlib.sha256()
        for table in (INCIDENT, ORDER, TERM, LATE):
            for row in store.shelf(table).select(connection):
                digest.update(msgspec.json.encode(row, order="sorted"))
        return digest.hexdigest()

    return str(look(data, read))


def lengths(data: Path, subject: str) -> dict[str, int]:
    """The length of every stream of a subject."""

    def read(store: Any, connection: Any) -> dict[str, int]:
        rows = connection.execute(STREAM.select().where(STREAM.c.subject == subject))
        return {f"{row.origin}.{row.generation}": row.length for row in rows}

    found: dict[str, int] = look(data, read)
    return found
