"""Two real servers, of which the lower one loses its disk: the operators' steps of docs/operations.md, one by one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.tree.processes import cli, lengths, officer, picture_hash
from tests.tree.scene import until
from tests.tree.test_link_processes import Pair, note, pair, report

__all__ = ["pair"]

# tests/tree/test_recovery.py does the same in one process.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_the_steps_of_the_handbook_bring_a_lost_node_back(pair: Pair, tmp_path: Path) -> None:
    county = await pair.at(pair.county)
    incident = await report(county)
    for number in range(30):
        await note(county, incident, f"第{number}条")
    city = await pair.at(pair.city)
    await until(lambda: pair.same(incident, 31))
    await note(city, incident, "市里已知悉")
    await until(lambda: pair.same(incident, 32))
    kept = tmp_path / "kept.key"
    kept.write_bytes((pair.county_data / "node.key").read_bytes())

    pair.county.kill()
    shutil.rmtree(pair.county_data)
    await note(city, incident, "县里没有声音")

    system = await officer(pair.city, "system")
    pair.clients.append(system)
    asked = {"name": "county", "kind": "fixed", "level": "county"}
    status, invited = await system.call("POST", "/tree/invitations", asked)
    assert status == 201, invited
    where = ("--data", str(pair.county_data), "--from-parent", pair.city.base_url, "--key", str(kept))
    said = await asyncio.to_thread(cli, "restore", *where, "--code", invited["code"])
    assert "the next start opens a new generation" in said
    assert picture_hash(pair.county_data) == picture_hash(pair.city_data)
    assert " 0 problems" in await asyncio.to_thread(cli, "verify", "--all-seals", "--data", str(pair.county_data))

    await asyncio.to_thread(
        cli, "admin", "account", "--data", str(pair.county_data), "--role", "security_admin", "again"
    )
    await asyncio.to_thread(pair.county.start)
    await note(city, incident, "县里又在了")
    await until(lambda: pair.same(incident, 34))
    own = {name.partition(".")[0] for name in lengths(pair.county_data, f"incident/{incident}")}
    assert len(own) == 2
    await until(lambda: picture_hash(pair.city_data) == picture_hash(pair.county_data))
