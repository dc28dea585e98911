"""Presence up and down the line: three real nodes, linked by real WebSockets. Slow: seconds of waiting for real cuts."""

import time
from pathlib import Path

import pytest

from command.domain.presence import PRESENCE, Presence
from tests.tree.scene import Member, tree, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SOON_S = 2.0


async def state(at: Member, of: str) -> Presence | None:
    """What stands at one node about another."""
    store = at.node.store
    found = await store.read(lambda connection: store.shelf(PRESENCE).get(connection, of))
    assert found is None or isinstance(found, Presence)
    return found


async def shown(at: Member, of: str, *, linked: bool, known: bool) -> float:
    """Seconds until it stands there."""
    began = time.monotonic()

    async def stands() -> bool:
        found = await state(at, of)
        return found is not None and (found.linked, found.known) == (linked, known)

    await until(stands, f"{of} linked={linked} known={known}")
    return time.monotonic() - began


async def test_a_node_two_hops_away_is_known_soon_and_never_called_cut_when_nobody_knows(tmp_path: Path) -> None:
    async with tree(tmp_path, "province", "city", "county") as nodes:
        province, city, county = nodes["province"], nodes["city"], nodes["county"]
        key, middle, top = county.id, city.id, province.id
        await nodes.linked()
        await shown(city, key, linked=True, known=True)
        assert await shown(province, key, linked=True, known=True) < SOON_S
        assert await shown(county, province.id, linked=True, known=True) < SOON_S

        await county.stop()
        assert await shown(province, key, linked=False, known=True) < SOON_S

        await county.start()
        await nodes.linked()
        assert await shown(province, key, linked=True, known=True) < SOON_S
        found = await state(province, key)
        assert found is not None and found.via == middle

        await city.stop()  # who told is gone: nobody knows of the county
        assert await shown(province, middle, linked=False, known=True) < SOON_S
        assert await shown(province, key, linked=False, known=False) < SOON_S
        assert await shown(county, top, linked=False, known=False) < SOON_S


async def test_a_standing_link_that_says_nothing_new_is_told_to_nobody(tmp_path: Path) -> None:
    async with tree(tmp_path, "province", "city", "county") as nodes:
        await nodes.linked()
        province, city, county = nodes["province"], nodes["city"], nodes["county"]
        await shown(province, county.id, linked=True, known=True)

        async def quiet() -> bool:
            pairs = ((province, county), (province, city), (city, county), (city, province), (county, city))
            found = [await state(at, of.id) for at, of in pairs]
            return all(one is not None and one.rtt_us is not None and one.lag_entries == 0 for one in found[1:])

        await until(quiet)
        before = await state(province, county.id)
        positions = [one.node.log.position for one in (province, city, county)]
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 8)
        after = await state(province, county.id)
        assert before is not None and after is not None and after.told_at == before.told_at
        assert [one.node.log.position for one in (province, city, county)] == positions
