"""Fenghuo (烽火): the composition root and the command line. It holds no logic.

    python server.py serve | demo | verify | backup | restore | admin ...

Here stands of which modules a node consists; each declares its own tables, deciders, routes and rights.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from command import cli, demo, demo_tree
from command.base import timer
from command.base.config import Config, load
from command.base.errors import FenghuoError
from command.base.projection import Domain
from command.domain import (
    account,
    answering,
    asking,
    chairing,
    deadline,
    erasure,
    fence,
    floor,
    generation,
    handover,
    imports,
    incident,
    issuing,
    ladder,
    location,
    meeting,
    membership,
    minutes,
    nodes,
    notice,
    order,
    owing,
    plan,
    presence,
    registry,
    registry_edits,
    reporting,
    roll_call,
    roster,
    schedule,
    standing,
    tenure,
)
from command.edge import (
    admin_api,
    audit_api,
    files,
    health,
    import_api,
    location_api,
    meeting_api,
    report_api,
    requests,
    routes,
    session_api,
    tree_api,
)
from command.service import House, Service, tls
from command.uplink import link_api, uplink
from media import api as media
from sms import api as sms_api
from sms import part as sms

DOMAIN = (
    registry,
    registry_edits,
    roster,
    imports,
    account,
    incident,
    order,
    issuing,
    answering,
    ladder,
    plan,
    notice,
    meeting,
    floor,
    chairing,
    roll_call,
    minutes,
    schedule,
    fence,
    location,
    timer,
    nodes,
    membership,
    standing,
    erasure,
    generation,
    tenure,
    handover,
    asking,
    deadline,
    owing,
    reporting,
    presence,
)
EDGES = (
    session_api,
    admin_api,
    import_api,
    audit_api,
    routes,
    report_api,
    meeting_api,
    tree_api,
    link_api,
    location_api,
    files,
    health,
    sms_api,
    media,
)
PARTS: dict[str, Any] = {"sms": sms.start, "location": location_api.start, "media": media.start, "uplink": uplink.start}


def house(config: Config | None = None) -> House:
    """Everything a node consists of. The configuration is asked only for the site's forbidden words."""
    domain = Domain()
    for module in DOMAIN:
        domain.register(
            getattr(module, "TABLES", ()),
            getattr(module, "PROJECTORS", None),
            getattr(module, "DECIDERS", None),
            getattr(module, "RUNS", None),
        )
    domain.link = config.link if config is not None else ""
    sms.register(domain, config or Config())
    return House(
        domain=domain,
        routes=[route for edge in EDGES for route in edge.ROUTES],
        topics=[topic for edge in EDGES for topic in getattr(edge, "TOPICS", ())],
        visible={name: rule for edge in EDGES for name, rule in getattr(edge, "VISIBLE", {}).items()},
        parts=PARTS,
    )


async def run(config: Config, *, as_demo: bool = False) -> int:
    """Serve until SIGTERM, SIGINT or the failure of something vital."""
    service = Service(config, house(config))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await service.start(demo.make if as_demo else None)
        if as_demo:
            demo.announce(service)
        await asyncio.wait(
            [loop.create_task(stop.wait()), loop.create_task(service.failed.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        await service.stop()
    if service.reason:
        print(f"fenghuo: {service.reason}", file=sys.stderr)
    return 1 if service.reason else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="server.py", description="Fenghuo: emergency command and video conferencing.")
    found.add_argument("--config", type=Path, help="TOML file (or FENGHUO_CONFIG)")
    found.add_argument("--check-config", action="store_true", help="check the configuration and stop")
    commands = found.add_subparsers(dest="command")
    for name, meaning in (("serve", "serve this node"), ("demo", "serve a demo node with synthetic data")):
        one = commands.add_parser(name, help=meaning)
        one.add_argument("--data", help="FENGHUO_DATA")
        one.add_argument("--host", help="FENGHUO_HOST")
        one.add_argument("--port", type=int, help="FENGHUO_PORT")
        if name == "demo":
            one.add_argument(
                "--tree", action="store_true", help="four linked nodes, on this port and the three after it"
            )
    cli.add_commands(commands)
    return found


def configuration(arguments: argparse.Namespace) -> Config:
    path = arguments.config or os.environ.get("FENGHUO_CONFIG")
    overrides = {
        name: getattr(arguments, name)
        for name in ("data", "host", "port")
        if getattr(arguments, name, None) is not None
    }
    if arguments.command == "demo":
        overrides.setdefault("totp_required", os.environ.get("FENGHUO_TOTP_REQUIRED", "false"))
    return load(os.environ, Path(path).read_bytes() if path else None, **overrides)


def main() -> int:
    arguments = parser().parse_args()
    try:
        config = configuration(arguments)
        requests.configure(config.log_level)
        if arguments.check_config:
            tls(config)
            print("configuration: good")
            return 0
        if arguments.command == "serve":
            return uvloop.run(run(config))
        if arguments.command == "demo" and arguments.tree:
            tree = demo_tree.DemoTree(Path(config.data) / "tree", config.port, house)
            return uvloop.run(tree.run())
        if arguments.command == "demo":
            return uvloop.run(run(config, as_demo=True))
        if arguments.command is None:
            parser().print_help()
            return 2
        return cli.run(arguments, config, house(config))
    except FenghuoError as error:
        print(f"fenghuo: {error.code}: {error.hint}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fenghuo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
