"""A node with units on the road, for tests of locations: everything over HTTP into the log of a real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from command.base.clock import MICROSECONDS, ManualClock
from command.base.rights import Role
from command.base.schema import Category, Level, Place
from command.domain.account import CreateAccount
from command.domain.fence import FENCE, DrawFence, Fence, Rule
from command.domain.incident import ReportIncident
from command.domain.location import LOCATION, TRACK
from command.domain.registry import ACCOUNT, UnitKind
from command.domain.registry_edits import SaveUnit
from command.edge.live import Live
from command.edge.watch import Watch
from command.log.timeline import read as read_timeline
from command.service import Service
from tests.node import NODE, World, service, world

LON, LAT = 120.0, 30.0
NOW = 1_790_000_000 * MICROSECONDS
STEP_DEG = 0.0005
"""48 m to the east: in 5 s an ordinary vehicle."""
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[LON, LAT], [LON + 0.01, LAT], [LON + 0.01, LAT + 0.01], [LON, LAT + 0.01], [LON, LAT]]],
}
"""About 960 m by 1,110 m, its south-west corner at LON, LAT."""


class Places:
    """A running node and what tests of locations ask of it."""

    def __init__(self, running: Service, clock: ManualClock, made: World) -> None:
        self.service, self.clock, self.world, self.node = running, clock, made, running.node
        self.watch: Watch = running.node.parts["location"].watch
        self.base = f"http://127.0.0.1:{running.port}"
        self.http = aiohttp.ClientSession()
        self.tokens: dict[str, str] = {}

    @property
    def live(self) -> Live:
        return self.node.live

    async def decide(self, request: Any) -> str:
        """As the node itself; the id of what was made."""
        return (await self.node.log.append(request, NODE)).id or ""

    async def sign_in(self, name: str, role: Role, organisation: str, **more: Any) -> None:
        """An account with one role and a token in hand; later calls go `by` its name."""
        rows = await self.node.store.read(lambda c: self.node.store.shelf(ACCOUNT).select(c, equal={"name": name}))
        if not rows:
            made = await self.decide(
                CreateAccount(
                    name=name,
                    roles=[role],
                    organisation=organisation,
                    password_hash="unused",
                    must_change_password=False,
                    **more,
                )
            )
            rows = [await self.node.store.read(lambda c: self.node.store.shelf(ACCOUNT).get(c, made))]
        self.tokens[name], _ = await self.node.auth.open(rows[0])

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str, data: bytes | None = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[by]}", "Content-Type": "application/json"}
        url = f"{self.base}/api/v1{path}"
        async with self.http.request(method, url, json=body, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def report(self, *fixes: dict[str, Any], by: str = "tracker") -> list[str]:
        """The verdicts of a report that must be taken."""
        status, answer = await self.call("POST", "/locations", {"fixes": list(fixes)}, by=by)
        assert status == 200, answer
        return [one["verdict"] for one in answer["results"]]

    def fix(
        self, lon: float = LON, lat: float = LAT, *, unit: str | None = None, ago_s: float = 0.0, **more: Any
    ) -> Any:
        at = self.clock.now() - round(ago_s * MICROSECONDS)
        return {"unit": unit or self.world.unit, "lon": lon, "lat": lat, "at": at, **more}

    async def drive(self, steps: int, *, first: int = 0, unit: str | None = None) -> list[str]:
        """`steps` fixes, 5 s and one step to the east each, from 480 m west of the square's edge at its middle."""
        verdicts = []
        for step in range(first, first + steps):
            self.clock.advance(5)
            verdicts += await self.report(self.fix(LON + (step - 10) * STEP_DEG, LAT + 0.005, unit=unit))
        return verdicts

    async def incident(self) -> str:
        return await self.decide(
            ReportIncident(
                category=Category.ACCIDENT,
                level=Level.III,
                title="仓库起火",
                place=Place(lon=LON, lat=LAT),
                organisation=self.world.county,
            )
        )

    async def draw(self, incident: str | None = None, *rules: Rule, **more: Any) -> str:
        """The square as a fence of `incident`."""
        wanted = {"rules": list(rules)} if rules else {}
        return await self.decide(DrawFence(name="警戒区", geometry=SQUARE, incident=incident, **wanted, **more))

    async def unit(self, name: str, organisation: str, **more: Any) -> str:
        return await self.decide(SaveUnit(name=name, kind=UnitKind.FIRE, organisation=organisation, **more))

    async def rows(self, table: Any) -> list[Any]:
        return await self.node.store.read(lambda connection: self.node.store.shelf(table).select(connection))

    async def fence(self, key: str) -> Fence:
        row = await self.node.store.read(lambda connection: self.node.store.shelf(FENCE).get(connection, key))
        assert isinstance(row, Fence)
        return row

    async def crossings(self, incident: str) -> list[tuple[str, str]]:
        """(event, unit) of the crossings on the incident's timeline, in its order."""
        items: list[Any] = await self.node.store.read(lambda c: read_timeline(c, f"incident/{incident}"))
        return [(item.body["event"], item.body["unit"]) for item in items if item.kind == "fence.crossed"]

    async def places(self) -> dict[str, tuple[float, float]]:
        return {row.id: (row.lon, row.lat) for row in await self.rows(LOCATION)}

    async def track(self) -> list[Any]:
        return sorted(await self.rows(TRACK), key=lambda row: row.at)


@asynccontextmanager
async def places(
    database_url: str, data: Path, *, clock: ManualClock | None = None, made: World | None = None
) -> AsyncIterator[Places]:
    """A node that listens, with a world and a service account "tracker"; give `clock` and `made` of an earlier one to
    start again on its data."""
    clock = clock or ManualClock(NOW)
    async with service(database_url, data, clock=clock, listen=True) as running:
        found = Places(running, clock, made or await world(running.node))
        try:
            await found.sign_in("tracker", Role.SERVICE, found.world.province)
            yield found
        finally:
            await found.http.close()
