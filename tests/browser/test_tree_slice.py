"""The least of the tree on the screen that every check walks through: two linked nodes in this process, two windows."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from command.base.rights import Role
from command.base.schema import Category, Level, Place
from command.domain.account import CreateAccount
from command.domain.incident import ReportIncident
from command.domain.membership import EditNode
from command.domain.nodes import NODE as NODES
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from tests.browser.desk import LANGUAGE, READY_MS
from tests.browser.harness import Watch
from tests.tree.scene import Member, tree, until

PASSWORD = "slice-of-the-tree-8"
SOON_MS = 15_000


async def seat(at: Member, node: str, organisation: str) -> None:
    row = await at.node.store.read(lambda connection: at.node.store.shelf(NODES).get(connection, node))
    assert row is not None
    await at.decide(EditNode(id=node, version=row.version, organisation=organisation))


async def window(chromium: Browser, at: Member, organisation: str) -> tuple[Page, Watch]:
    """A leader's, signed in through the form."""
    hashed = await at.node.auth.hash(PASSWORD)
    roles = [Role.LEADER]
    account = CreateAccount(
        name="leader", roles=roles, organisation=organisation, password_hash=hashed, must_change_password=False
    )
    await at.decide(account)
    context = await chromium.new_context(viewport={"width": 1366, "height": 768})
    await context.add_init_script(f"localStorage.setItem('{LANGUAGE}', 'en')")
    page = await context.new_page()
    page.set_default_timeout(READY_MS)
    watch = Watch(page)
    await page.goto(f"http://127.0.0.1:{at.port}/")
    await page.locator("[name=name]").fill("leader")
    await page.locator("[name=password]").fill(PASSWORD)
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("fh-picture-page")).to_be_visible(timeout=READY_MS)
    return page, watch


@pytest.mark.timeout(120)
async def test_an_incident_is_handed_up_and_both_screens_name_its_owner(chromium: Browser, tmp_path: Path) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        city, county = nodes["city"], nodes["county"]
        above = await city.decide(SaveOrganisation(name="示范市", tier=Tier.CITY))
        below = await city.decide(SaveOrganisation(name="示范县", tier=Tier.COUNTY, parent=above))
        await seat(city, city.id, above)
        await seat(city, county.id, below)
        shelf = county.node.store.shelf(NODES)

        async def seated() -> bool:
            row = await county.node.store.read(lambda connection: shelf.get(connection, county.id))
            return row is not None and row.organisation == below

        await until(seated)
        incident = await county.decide(
            ReportIncident(
                category=Category.ACCIDENT,
                level=Level.III,
                title="厂房起火",
                place=Place(lon=154.7, lat=32.2, address="示范县"),
                organisation=below,
            )
        )
        lower, lower_watch = await window(chromium, county, below)
        upper, upper_watch = await window(chromium, city, above)
        for page in (lower, upper):
            await page.locator(f"a[href='#/incident/{incident}']").first.click(timeout=SOON_MS)
        owner = "fh-incident-ownership #owner-here"
        await expect(lower.locator(owner)).to_have_text("Decided here")
        await expect(upper.locator(owner)).to_have_text("Decided elsewhere")
        await expect(upper.locator("#level")).to_have_count(0)
        await expect(lower.locator(".entry .ticks").first).to_have_text("✓✓", timeout=SOON_MS)

        await lower.locator("#offer").click()
        form = lower.locator("dialog[data-name=offer]")
        await form.locator("[name=reason]").fill("beyond us")
        await form.locator("button[type=submit]").click()
        await expect(upper.locator("[data-awaits]")).to_contain_text("A transfer waits", timeout=SOON_MS)
        await upper.locator("[data-act=agree]").click(timeout=SOON_MS)
        await upper.locator("dialog[data-name=reason] button[type=submit]").click()
        await expect(upper.locator(owner)).to_have_text("Decided here", timeout=SOON_MS)
        await expect(lower.locator(owner)).to_have_text("Decided elsewhere", timeout=SOON_MS)
        await expect(upper.locator("[data-awaits]")).to_have_count(0)
        await expect(lower.locator(".own-terms li")).to_have_count(2)
        for watch in (lower_watch, upper_watch):
            assert not watch.errors and not watch.violations and not watch.foreign
        for page in (lower, upper):
            await page.context.close()
