"""A meeting that another node hosts, on the screens of an invited one: two linked nodes in this process, one window."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.convening import BeginMeeting, ScheduleMeeting
from command.domain.handover import InviteToIncident
from command.domain.incident import ReportIncident
from command.domain.meeting import OpenRoom
from command.domain.membership import EditNode
from command.domain.nodes import NODE
from command.domain.registry import ORGANISATION, Tier
from command.domain.registry_edits import SaveOrganisation
from tests.browser.test_tree_slice import seat, window
from tests.tree.crowd import report
from tests.tree.scene import Member, tree, until

SOON_MS = 20_000
HOUR_US = 3_600_000_000


async def _called(city: Member, county: Member) -> tuple[str, str, ReportIncident]:
    """Organisations with their seats, the city's first, and a report of the city's."""
    above = await city.decide(SaveOrganisation(name="示范市", tier=Tier.CITY))
    below = await city.decide(SaveOrganisation(name="示范县", tier=Tier.COUNTY, parent=above))
    await seat(city, city.id, above)
    await seat(city, county.id, below)
    store = city.node.store
    row = await store.read(lambda connection: store.shelf(NODE).get(connection, city.id))
    assert row is not None
    await city.decide(EditNode(id=city.id, version=row.version, name="city"))

    async def known() -> bool:
        there = county.node.store
        place = await there.read(lambda connection: there.shelf(ORGANISATION).get(connection, below))
        node = await there.read(lambda connection: there.shelf(NODE).get(connection, city.id))
        return place is not None and node is not None and node.name == "city"

    await until(known)
    return above, below, report(above)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_invited_county_sees_who_hosts_a_meeting_when_and_where_to_join(
    chromium: Browser, tmp_path: Path
) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        city, county = nodes["city"], nodes["county"]
        await city.stop()
        address = city.settings["public_url"] = f"http://127.0.0.1:{city.port}"
        await city.start()
        await nodes.linked()
        above, below, reporting = await _called(city, county)
        chair = await city.decide(
            CreateAccount(name="chair", roles=[Role.LEADER], organisation=above, password_hash="x")
        )
        start = city.node.clock.now() + HOUR_US
        times = {"starts_at": start, "ends_at": start + HOUR_US}
        meeting = ScheduleMeeting(
            title="防汛例会", organisation=above, chair=chair, on_duty=[below], notify=False, **times
        )
        planned = await city.decide(meeting)
        page, watch = await window(chromium, county, below)
        await page.goto(f"http://127.0.0.1:{county.port}/#/meetings")
        row = page.locator(f"[data-meeting='{planned}']")
        await expect(row).to_contain_text("防汛例会", timeout=SOON_MS)
        await expect(row.locator(f"[data-host='{city.id}']")).to_contain_text("Held at city")
        await expect(row.locator(f"[data-join='{planned}']")).to_have_attribute("href", f"{address}/#/room/{planned}")
        await city.decide(BeginMeeting(id=planned))
        await page.goto(f"http://127.0.0.1:{county.port}/#/room/{planned}")
        await expect(page.locator("#elsewhere")).to_contain_text("held at city", timeout=SOON_MS)
        await expect(page.locator("#elsewhere [data-join]")).to_have_attribute("href", f"{address}/#/room/{planned}")
        incident = await city.decide(reporting)
        await city.decide(InviteToIncident(incident=incident, nodes=[county.id]))
        room = await city.decide(OpenRoom(incident=incident, title="会商室", chair=chair))
        await page.goto(f"http://127.0.0.1:{county.port}/#/incident/{incident}")
        rooms = page.locator("fh-incident-rooms")
        await expect(rooms).to_contain_text("会商室", timeout=SOON_MS)
        await expect(rooms.locator("[data-join]")).to_have_attribute("href", f"{address}/#/room/{room}")
        watch.assert_clean()
