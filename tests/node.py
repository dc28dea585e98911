"""A node inside the test's own process: the real house of `server.py` over a real database, without a listening socket
unless asked for.

    async with node(database_url, tmp_path) as n:
        receipt = await n.log.append(request, By(account="node"))
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import server
from command.base.clock import Clock
from command.base.config import load
from command.base.entry import By
from command.base.rights import Actor, Role
from command.domain.registry import Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SavePerson, SaveUnit
from command.edge.api import Node
from command.service import Service
from tests.prepared import begin

NODE = By(account="node")
HASH_MIB = 19
"""The least there is: the tests hash some hundred passwords."""


@asynccontextmanager
async def service(
    database_url: str, data: Path, *, clock: Clock | None = None, listen: bool = False, **settings: Any
) -> AsyncIterator[Service]:
    """A service over the whole house; with `listen` it serves HTTP on a free port and runs its parts."""
    chosen: dict[str, Any] = {"totp_required": False, "password_hash_mib": HASH_MIB, **settings}
    config = load({}, None, data=str(data), database=database_url, port=0, **chosen)
    begin(config.database_url)
    running = Service(config, server.house(config), clock)
    try:
        await (running.start() if listen else running.open())
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def node(database_url: str, data: Path, *, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Node]:
    """Just the node: log, store, auth, live; nothing listens."""
    async with service(database_url, data, clock=clock, **settings) as running:
        yield running.node


class World:
    """A small tree of organisations with people and a unit, by id."""

    province: str
    city: str
    county: str
    other_county: str
    officer: str
    member: str
    unit: str


async def world(n: Node) -> World:
    """Province, city, two counties; one officer and one member (with a number) and one unit in the first county."""
    made = World()

    async def add(request: Any) -> str:
        return (await n.log.append(request, NODE)).id or ""

    made.province = await add(SaveOrganisation(name="示范省", tier=Tier.PROVINCE))
    made.city = await add(SaveOrganisation(name="示范市", tier=Tier.CITY, parent=made.province))
    made.county = await add(SaveOrganisation(name="示范一县", tier=Tier.COUNTY, parent=made.city))
    made.other_county = await add(SaveOrganisation(name="示范二县", tier=Tier.COUNTY, parent=made.city))
    made.officer = await add(SavePerson(name="人员一", organisation=made.county, phones=["+447700900001"]))
    made.member = await add(SavePerson(name="人员二", organisation=made.county, phones=["+447700900002"]))
    made.unit = await add(
        SaveUnit(name="消防一队", kind=UnitKind.FIRE, organisation=made.county, members=[made.member])
    )
    return made


def actor(role: Role, organisation: str, *, person: str | None = None, unit: str | None = None) -> Actor:
    """An actor as a session would have it."""
    return Actor(account=f"test-{role}", roles=(role,), organisation=organisation, person=person, unit=unit)
