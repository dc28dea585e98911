"""The command line besides serving: verify, backup, restore, and what an administrator does on the machine itself.

Edge. Prints for people on standard output; errors go to standard error with code and hint, and a non-zero status.
"""

import argparse
import asyncio
import secrets
import sys
import time
from pathlib import Path

from command import tree_cli
from command.base import identity
from command.base.clock import Clock
from command.base.config import Config, describe
from command.base.entry import By
from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.registry import ORGANISATION
from command.log.backup import backup, reading, restore
from command.log.verify import Report, verify
from command.log.witness import longest, read_witness
from command.service import House, Service


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    one = commands.add_parser("verify", help="check every hash, chain, private part and seal of the log")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("--all-seals", action="store_true", help="check every seal, not only the newest of each stream")
    one.add_argument("--witness", type=Path, help="also compare with a file that `witness` wrote at a superior")
    one.add_argument("--witness-by", default="", help="that superior's id, as its operator reads it out")
    one = commands.add_parser("backup", help="write a backup; the node may be running")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("target", type=Path, help="the file to write")
    one = commands.add_parser(
        "restore", help="restore a backup, or what the superior holds, into an empty data directory"
    )
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("archive", type=Path, nargs="?", help="the file to read")
    tree_cli.add_recovery(one)
    tree_cli.add_files(commands)
    admin = commands.add_parser("admin", help="configuration, certificates, first account").add_subparsers(dest="admin")
    admin.add_parser("config", help="print every setting with its value, default and meaning")
    one = admin.add_parser("ca", help="make a site CA and a certificate for this node")
    one.add_argument("--out", type=Path, default=Path("tls"), help="directory for the files")
    one.add_argument("names", nargs="+", help="DNS names and addresses of this node")
    one = admin.add_parser("account", help="make an account (the node must not be running); prints a one-time password")
    one.add_argument("--data", help="FENGHUO_DATA")
    one.add_argument("--organisation", help="organisation id; the first one made if there is none yet")
    one.add_argument("--role", choices=[role.value for role in Role], default=Role.SECURITY_ADMIN.value)
    one.add_argument("name", help="the account's name")
    tree_cli.add_commands(admin)


def run(arguments: argparse.Namespace, config: Config, house: House) -> int:
    """Carry out what `add_commands` offers; the exit status."""
    data = Path(config.data)
    if arguments.command == "verify":
        return _verify(config, house, arguments)
    if arguments.command == "backup":
        with reading(config.database_url, data, house.domain) as store:
            manifest = backup(store, data, arguments.target, Clock())
        print(f"backup: position {manifest.position} of node {manifest.node} in {arguments.target}")
        return 0
    if arguments.command == "restore":
        if arguments.from_parent or arguments.archive is None:
            return tree_cli.recover(arguments, config, house)
        manifest = restore(arguments.archive, config.database_url, data, house.domain, Clock())
        print(f"restored: position {manifest.position} of node {manifest.node}; the next start opens a new generation")
        return 0
    if arguments.command == "witness":
        return tree_cli.witness(arguments, config, house)
    if arguments.command == "export":
        return tree_cli.export(arguments, config, house)
    if arguments.command == "import":
        return asyncio.run(tree_cli.bring(arguments, config, house))
    if arguments.admin == "config":
        for name, value, default, meaning in describe(config):
            print(f"{name}={value}\n    {meaning} Default: {default or '(empty)'}")
        return 0
    if arguments.admin == "ca":
        return _ca(arguments)
    if arguments.admin == "account":
        return asyncio.run(_account(arguments, config, house))
    if arguments.admin in tree_cli.COMMANDS:
        return tree_cli.run(arguments, config, house)
    print("usage: server.py admin config | ca | account | invite | join | nodes | revoke", file=sys.stderr)
    return 2


def _verify(config: Config, house: House, arguments: argparse.Namespace) -> int:
    data = Path(config.data)
    key = identity.load_or_make(data).public_key()
    me = identity.node_id(key)
    witnessed = None
    problems: list[str] = []
    if config.witness:
        witnessed, problems = read_witness(Path(config.witness), key)
    started = time.perf_counter()
    with reading(config.database_url, data, house.domain) as store, store.reader_engine.connect() as connection:
        if arguments.witness is not None:
            superior = tree_cli.key_of(store, connection, arguments.witness_by)
            theirs, wrong = read_witness(arguments.witness, superior)
            problems = [*problems, *wrong]
            witnessed = longest(witnessed or {}, {name: at for name, at in theirs.items() if f"@{me}." in name})
        report = verify(connection, {me: key}, all_seals=arguments.all_seals, witnessed=witnessed)
    seconds = time.perf_counter() - started
    _print(report, problems, seconds)
    return 0 if report.good and not problems else 1


def _print(report: Report, witness_problems: list[str], seconds: float) -> None:
    for problem in report.problems:
        print(f"{problem.what}: {problem.place}: {problem.hint}")
    for text in witness_problems:
        print(f"witness file: {text}")
    rate = report.entries / seconds if seconds else 0
    print(
        f"{report.entries} entries, {report.streams} streams, {report.seals} seals checked in {seconds:.2f} s "
        f"({rate:,.0f} entries/s); {report.erased} erased, {report.unwitnessed} unwitnessed; "
        f"{len(report.problems) + len(witness_problems)} problems"
    )


def _ca(arguments: argparse.Namespace) -> int:
    from command import ca  # X.509 is not needed to serve

    made = ca.make(arguments.out, arguments.names)
    print(f"install {made.authority} in browsers and phones, then start the node with")
    print(f"  FENGHUO_TLS_CERTIFICATE={made.certificate} FENGHUO_TLS_KEY={made.key}")
    return 0


async def _account(arguments: argparse.Namespace, config: Config, house: House) -> int:
    from command.bootstrap import first_organisation

    service = Service(config, house)
    try:
        await service.open()
        organisation = arguments.organisation
        rows = await service.node.store.read(lambda c: service.node.store.shelf(ORGANISATION).select(c, limit=1))
        if organisation is None:
            organisation = rows[0].id if rows else await first_organisation(service.node)
        password = secrets.token_urlsafe(12)
        request = CreateAccount(
            name=arguments.name,
            roles=[Role(arguments.role)],
            organisation=organisation,
            password_hash=await service.node.auth.hash(password),
        )
        await service.node.log.append(request, By(account="node"))
    finally:
        await service.stop()
    print(f"account {arguments.name}: one-time password {password}")
    return 0
