"""After a restore: held timers and messages of unknown fate wait on the notices page for a person. Slow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.desk import command, report, sign_in
from tests.services import ROOT, Seed, ServerProcess, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SOON_S = 12
REAL = {
    "FENGHUO_SMS_GATEWAY": "twilio",
    "FENGHUO_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "FENGHUO_TWILIO_AUTH_TOKEN": "token",
    "FENGHUO_TWILIO_FROM": "+15005550006",
    "FENGHUO_TWILIO_BASE_URL": "http://127.0.0.1:1",
}
"""A gateway that nobody answers at: what is sent there stays on its way."""


def real(port: int) -> dict[str, str]:
    return REAL | {"FENGHUO_PUBLIC_URL": f"http://127.0.0.1:{port}", "FENGHUO_TOTP_REQUIRED": "false"}


def run(server: ServerProcess, *arguments: str) -> None:
    """A sub-command of server.py over the data of `server`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
    settings = {"FENGHUO_DATA": str(server.data), "FENGHUO_DATABASE": server.database_url}
    done = subprocess.run(
        [sys.executable, str(ROOT / "server.py"), *arguments],
        cwd=ROOT,
        env=clean | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def picture(page: Page, name: str) -> None:
    folder = os.environ.get("TREE_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def test_what_a_restore_can_not_know_waits_for_a_person_on_one_page(
    seed: Seed, tmp_path: Path, chromium: Browser
) -> None:
    port, other_port = free_port(), free_port()
    first = seed.node(tmp_path / "first", port=port, environment=real(port))
    first.start()
    archive = tmp_path / "backup.tar"
    try:
        duty, _ = await sign_in(chromium, first, "duty-province")
        admin, _ = await sign_in(chromium, first, "sysadmin")
        organisation = await duty.evaluate("import('/static/session.js').then((found) => found.who().organisation.id)")
        body = {"name": "外线人员", "organisation": organisation, "phones": ["+8615400001234"]}
        person = (await command(admin, "POST", "/persons", body))["id"]
        incident = await report(duty, "恢复演示：仓库起火")
        order = {
            "incident": incident,
            "assignee": {"kind": "person", "id": person},
            "task": "赶赴仓库集合",
            "ack_within_s": SOON_S,
            "ladder": [{"after_s": 0, "means": "sms"}, {"after_s": SOON_S, "means": "sms"}],
        }
        await command(duty, "POST", "/orders", order)
        await duty.wait_for_timeout(2000)
        run(first, "backup", str(archive))
        await duty.wait_for_timeout(1000 * (SOON_S + 1))
        first.stop()
    finally:
        first.kill()

    data = tmp_path / "second" / "node"
    second = ServerProcess(
        data=data,
        database_url=f"sqlite:///{data}/fenghuo.db",
        mode="serve",
        port=other_port,
        environment=real(other_port),
    )
    data.parent.mkdir()
    run(second, "restore", str(archive))
    shutil.copy(first.data / "demo-credentials", data / "demo-credentials")
    second.start()
    try:
        page, watch = await sign_in(chromium, second, "duty-province", viewport={"width": 1366, "height": 768})
        await page.goto(second.base_url + "/#/notices")
        unknown, held = page.locator("[data-tab=unsettled]"), page.locator("[data-tab=held]")
        await expect(page.locator("nav .count")).to_have_text("3")
        await expect(unknown.locator(".count")).to_have_text("1")
        await unknown.click()
        message = page.locator("tr[data-message]")
        await expect(message).to_contain_text("外线人员")
        await picture(page, "unknown")
        count = int(await held.locator(".count").inner_text())
        assert count == 2
        await held.click()
        timers = page.locator("tr[data-timer]")
        await expect(timers).to_have_count(count)
        await expect(timers.filter(has_text="赶赴仓库集合")).to_have_count(count)
        await picture(page, "held")
        await page.set_viewport_size({"width": 390, "height": 844})
        await picture(page, "held-phone")
        await timers.first.locator("button.danger").click()
        await expect(timers).to_have_count(count - 1)
        await timers.first.locator("button").first.click()
        await expect(timers).to_have_count(count - 2)
        assert not watch.violations and not watch.foreign and not watch.errors
        second.stop()
    finally:
        second.kill()
