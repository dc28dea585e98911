"""Positions per second through 1,000 fences, end to end: HTTP in, pipeline, fences, one durable commit, HTTP out.

A real `server.py` child over SQLite with `synchronous=FULL`; every answer is awaited, so every counted position is durable.
Beside it, in the same run, the plain Shapely loop without any I/O. Client and server share the machine's cores.

Run: `python -m bench.positions`; one JSON line per figure.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import shapely

import server
from command.base.config import load
from command.base.entry import By
from command.base.rights import Actor, Role
from command.domain.account import CreateAccount
from command.domain.fence import DrawFence
from command.domain.registry import ACCOUNT, Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SaveUnit
from command.edge.requests import configure
from command.service import Service
from geo import coord
from tests.services import ServerProcess

FIGURES = ("geo.positions_per_s", "geo.positions_single_per_s", "geo.positions_p99_ms")
FENCES = 1_000
VERTICES = 64
UNITS = 1_000
ROUNDS = 40
STEP_S = 5
BATCH = 200
CALLERS = 4
SINGLE_CALLERS = 50
SINGLE_FIXES = 5_000
NAIVE_FIXES = 1_000
BOX_DEG = (115.0, 30.0, 117.0, 32.0)
US = 1_000_000
NODE = By(account="node")


def _areas(rng: np.random.Generator) -> list[Any]:
    """Wobbly discs of 200 m to 3 km radius with `VERTICES` vertices."""
    turns = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    areas = []
    for _ in range(FENCES):
        lon, lat = rng.uniform(BOX_DEG[:2], BOX_DEG[2:])
        reach = rng.uniform(200, 3000) * rng.uniform(0.8, 1.0, VERTICES)
        east, north = coord.metres_per_degree(lat)
        ring = np.stack((lon + reach * np.cos(turns) / east, lat + reach * np.sin(turns) / north), axis=1)
        areas.append(shapely.Polygon(ring))
    return areas


def _rounds(rng: np.random.Generator, units: list[str], start: int, rounds: int) -> list[list[dict[str, Any]]]:
    """Every unit once per round, driving straight at 5 to 30 m/s, `STEP_S` apart."""
    place = rng.uniform(BOX_DEG[:2], BOX_DEG[2:], (len(units), 2))
    turn, speed = rng.uniform(0, 2 * np.pi, len(units)), rng.uniform(5, 30, len(units))
    move = np.stack((np.cos(turn), np.sin(turn)), axis=1) * speed[:, None] * STEP_S / 100_000
    found = []
    for k in range(rounds):
        here, at = (place + k * move).tolist(), start + k * STEP_S * US
        fixes = zip(units, here, strict=True)
        found.append([{"unit": unit, "lon": x, "lat": y, "at": at, "accuracy_m": 8.0} for unit, (x, y) in fixes])
    return found


def _naive_rate(areas: list[Any], fixes: list[dict[str, Any]]) -> float:
    """Positions per second of a loop that asks every prepared fence about every position."""
    prepared = np.array(areas, dtype=object)
    shapely.prepare(prepared)
    start = time.perf_counter()
    for fix in fixes:
        shapely.contains_xy(prepared, fix["lon"], fix["lat"])
    return len(fixes) / (time.perf_counter() - start)


async def _prepare(data: Path, url: str, areas: list[Any]) -> tuple[list[str], str]:
    """Units, fences and a service account in a fresh data directory; unit ids and the account's token."""
    configure("warning")  # nothing but figures on standard output
    service = Service(load({}, None, data=str(data), database=url), server.house())
    await service.open()
    try:
        node = service.node

        async def add(request: Any) -> str:
            return (await node.log.append(request, NODE)).id or ""

        top = await add(SaveOrganisation(name="示范省", tier=Tier.PROVINCE))
        units = [SaveUnit(name=f"分队{i}", kind=UnitKind.RESCUE, organisation=top) for i in range(UNITS)]
        keys = await asyncio.gather(*(add(unit) for unit in units))
        officer = Actor(account="bench", roles=(Role.LEADER,), organisation=top)
        for area in areas:
            geometry = shapely.geometry.mapping(area)
            request = DrawFence(name="围栏", geometry={"type": "Polygon", "coordinates": _lists(geometry)})
            await node.log.append(request, By(account="bench"), actor=officer)
        made = CreateAccount(name="tracker", roles=[Role.SERVICE], organisation=top, password_hash="none")
        account = await add(made)
        row = await node.store.read(lambda c: node.store.shelf(ACCOUNT).get(c, account))
        token, _ = await node.auth.open(row, token=True)
        return keys, token
    finally:
        await service.stop()


def _lists(geometry: dict[str, Any]) -> Any:
    return [[list(position) for position in ring] for ring in geometry["coordinates"]]


class _Client:
    """Posts bodies and keeps what came of them."""

    def __init__(self, base_url: str, token: str) -> None:
        self._url = f"{base_url}/api/v1/locations"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.seconds: list[float] = []
        self.accepted = 0

    async def post(self, callers: int, batches: list[list[dict[str, Any]]]) -> float:
        """Send every batch in order, `callers` at a time, each as soon as its caller is free; the seconds it took."""
        bodies = iter([json.dumps({"fixes": batch}).encode() for batch in batches])
        self.seconds, self.accepted = [], 0
        async with aiohttp.ClientSession(headers=self._headers) as http:
            started = time.perf_counter()
            await asyncio.gather(*(self._caller(http, bodies) for _ in range(callers)))
            return time.perf_counter() - started

    async def _caller(self, http: aiohttp.ClientSession, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            started = time.perf_counter()
            async with http.post(self._url, data=body) as answer:
                found = await answer.json()
                assert answer.status == 200, found
            self.seconds.append(time.perf_counter() - started)
            self.accepted += found["accepted"]


def _batches(rounds: list[list[dict[str, Any]]], size: int) -> list[list[dict[str, Any]]]:
    return [fixes[first : first + size] for fixes in rounds for first in range(0, len(fixes), size)]


async def _measure() -> list[dict[str, Any]]:
    rng = np.random.default_rng(20_26)
    areas = _areas(rng)
    with tempfile.TemporaryDirectory(prefix="fenghuo-bench-") as name:
        data = Path(name) / "node"
        url = f"sqlite:///{data}/fenghuo.db"
        units, token = await _prepare(data, url, areas)
        begin = time.time_ns() // 1000 - 3600 * US
        rounds = _rounds(rng, units, begin, ROUNDS + 2 + SINGLE_FIXES // UNITS)
        naive = _naive_rate(areas, rounds[0][:NAIVE_FIXES])
        process = ServerProcess(data=data, database_url=url, mode="serve")
        process.start()
        try:
            client = _Client(process.base_url, token)
            await client.post(1, _batches(rounds[:2], BATCH))  # warm: rows exist, code is loaded
            bulk = rounds[2 : 2 + ROUNDS]
            took = await client.post(CALLERS, _batches(bulk, BATCH))
            rate, n, accepted = ROUNDS * UNITS / took, ROUNDS * UNITS, client.accepted
            assert accepted >= 0.99 * n, f"only {accepted} of {n} were accepted"
            slowest = float(np.percentile(client.seconds, 99)) * 1000
            took = await client.post(SINGLE_CALLERS, _batches(rounds[2 + ROUNDS :], 1))
            single = client.accepted / took
        finally:
            process.stop()
    against = f"a Shapely loop over {FENCES} prepared fences without I/O, {naive:.0f}/s"
    about = f"{CALLERS} callers, {BATCH} positions a request, answered when durable"
    return [
        {
            "name": "geo.positions_per_s",
            "value": round(rate),
            "unit": "1/s",
            "ratio": round(rate / naive, 2),
            "against": against,
            "n": n,
            "setting": about,
        },
        {
            "name": "geo.positions_single_per_s",
            "value": round(single),
            "unit": "1/s",
            "ratio": round(single / naive, 2),
            "against": against,
            "n": SINGLE_FIXES,
            "setting": f"{SINGLE_CALLERS} callers, one position a request, answered when durable",
        },
        {
            "name": "geo.positions_p99_ms",
            "value": round(slowest, 1),
            "unit": "ms",
            "ratio": None,
            "against": f"time to answer at full load; {about}",
            "n": n // BATCH,
        },
    ]


def figures() -> Iterator[dict[str, Any]]:
    """One dict per figure: name, value, unit, ratio, against, n."""
    yield from asyncio.run(_measure())


if __name__ == "__main__":
    for figure in figures():
        print(json.dumps(figure, ensure_ascii=False), flush=True)
    sys.exit(0)
