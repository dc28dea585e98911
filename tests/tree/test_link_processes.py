"""Two real servers: paired by a code over the telephone, written to on both sides, cut, healed, killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.command.assembly import Client
from tests.services import ServerProcess
from tests.tree.processes import Laid, admin, code_in, lay_out, lengths, officer, picture_hash, process
from tests.tree.scene import until

pytestmark = pytest.mark.slow  # `make tree`; tests/tree/test_uplink.py does the same in one process

REPORT = {
    "category": "accident",
    "level": "III",
    "title": "厂房起火",
    "place": {"lon": 106.0, "lat": 29.0, "address": "示范一县"},
}


class Pair:
    """A city and a county below it, as processes."""

    def __init__(self, laid: dict[str, Laid]) -> None:
        self.city_data, self.county_data = laid["city"].data, laid["county"].data
        self.city, self.county = laid["city"].server, laid["county"].server
        self.clients: list[Client] = []

    async def at(self, node: ServerProcess) -> Client:
        self.clients.append(await officer(node))
        return self.clients[-1]

    def same(self, incident: str, count: int) -> bool:
        """Both hold the same streams of the incident, `count` entries in all."""
        city, county = (lengths(data, f"incident/{incident}") for data in (self.city_data, self.county_data))
        return city == county and sum(city.values()) == count


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(await lay_out(tmp_path, "city", "county"))
    try:
        for node in (made.city, made.county):
            await asyncio.to_thread(node.start)
        yield made
    finally:
        await asyncio.gather(*(client.http.close() for client in made.clients))
        for node in (made.county, made.city):
            node.kill()


async def report(client: Client) -> str:
    status, answer = await client.call("POST", "/incidents", REPORT)
    assert status == 201, answer
    found: str = answer["id"]
    return found


async def note(client: Client, incident: str, text: str) -> Any:
    status, answer = await client.call("POST", f"/incidents/{incident}/notes", {"text": text})
    assert status == 201, answer
    return answer


async def test_two_servers_write_on_both_sides_of_a_cut_and_agree_after_it(pair: Pair) -> None:
    county, city = await pair.at(pair.county), await pair.at(pair.city)
    incident = await report(county)
    await until(lambda: pair.same(incident, 1))
    await note(city, incident, "市里已知悉")
    await until(lambda: pair.same(incident, 2))

    await asyncio.to_thread(pair.city.stop)
    for number in range(20):
        await note(county, incident, f"县里第{number}条")
    await asyncio.to_thread(pair.county.stop)
    await asyncio.to_thread(pair.city.start)
    city = await pair.at(pair.city)
    for number in range(20):
        await note(city, incident, f"市里第{number}条")
    await asyncio.to_thread(pair.county.start)
    await until(lambda: pair.same(incident, 42))
    await until(lambda: picture_hash(pair.city_data) == picture_hash(pair.county_data))


async def test_a_kill_of_either_end_loses_nothing(pair: Pair) -> None:
    county = await pair.at(pair.county)
    incident = await report(county)
    written = 1
    for victim in (pair.city, pair.county, pair.city):
        for number in range(10):
            await note(county, incident, f"第{number}条")
            written += 1
            if number == 5:
                victim.kill()
                if victim is pair.county:
                    await asyncio.to_thread(pair.county.start)
                    county = await pair.at(pair.county)
        if victim is pair.city:
            await asyncio.to_thread(pair.city.start)
    await until(lambda: pair.same(incident, written))
    await until(lambda: picture_hash(pair.city_data) == picture_hash(pair.county_data))


async def test_the_command_line_pairs_two_servers(tmp_path: Path) -> None:
    city = process(tmp_path / "city")
    code = code_in(admin(city.data, "invite", "--level", "county", "东县"))
    try:
        await asyncio.to_thread(city.start)
        county = process(tmp_path / "county", city.base_url)
        admin(county.data, "join", code, parent=city.base_url)
        await asyncio.to_thread(county.start)
        await until(lambda: " linked " in admin(city.data, "nodes"))
        assert "东县" in admin(county.data, "nodes")
        county.stop()
    finally:
        city.kill()
