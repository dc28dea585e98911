"""Every page, for one account of each kind: nothing is asked of anybody but this server, and the policy is never broken."""

import pytest
from playwright.async_api import Browser

from tests.browser.desk import report, sign_in, until
from tests.services import ServerProcess

ADMIN = (
    "accounts",
    "organisations",
    "units",
    "persons",
    "groups",
    "import",
    "roster",
    "plans",
    "reports",
    "templates",
    "audit",
)
DESK = [
    "/",
    "/incidents",
    "/incident/{incident}",
    "/room/none",
    "/notices",
    "/phones",
    "/field",
    "/admin",
    *(f"/admin/{name}" for name in ADMIN),
]
ACCOUNTS = (
    "duty-province",
    "sysadmin",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("leader-province", "secadmin", "auditor", "fire-county1")
    ),
)
PAGES = ("/field", "/docs/api")
"""Documents of their own, beside the desk."""
SHOWN = """(path) => import('/static/routes.js').then(({ find }) => document.querySelector('main > ' + find(path).route.tag))"""


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_no_page_leaves_this_server_or_breaks_the_policy(
    server: ServerProcess, chromium: Browser, account: str
) -> None:
    page, watch = await sign_in(chromium, server, account)
    incident = await report(page, "逐页检查") if account == "duty-province" else "none"
    for path in DESK:
        await page.evaluate("(path) => { location.hash = path; }", path.format(incident=incident))
        await until(page, SHOWN, path.format(incident=incident))
        await page.wait_for_load_state("networkidle")
    for path in PAGES:
        await page.goto(server.base_url + path)
        await page.wait_for_load_state("networkidle")
    assert len(watch.requests) > len(DESK)
    assert watch.foreign == []
    assert watch.violations == []
