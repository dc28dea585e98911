"""The tree on the screen: the four-node demo in Debian's Chromium. Slow: `make tree`."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.desk import LANGUAGE, READY_MS
from tests.browser.harness import Watch
from tests.services import ROOT, die_with_parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
START_S = 200.0
STOP_S = 10.0
NAMES = ("province", "city", "county", "vehicle")


class Demo:
    """`server.py demo --tree`: addresses and passwords by node, as it printed them."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "demo.log"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
        command = [sys.executable, str(ROOT / "server.py"), "demo", "--tree", "--data", str(folder), "--port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        self.addresses: dict[str, str] = {}
        self.passwords: dict[str, str] = {}

    def wait(self) -> None:
        """Until it has printed everything."""
        until = time.monotonic() + START_S
        while "viewer" not in self.log.read_text().rpartition("field, mobile")[2]:
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)
        printed = self.log.read_text()
        self.addresses = dict(zip(NAMES, re.findall(r"(http://127\.0\.0\.1:\d+)/$", printed, re.M), strict=True))
        self.passwords = dict(re.findall(r"^    (leader-\w+)\s+(\S+)$", printed, re.M))

    def interrupt(self) -> float:
        """Ctrl-C; seconds until it ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_S + 5)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo-tree"))
    try:
        made.wait()
        yield made
        assert made.interrupt() < STOP_S
        assert made.process.returncode == 0
        assert not _children(made.process.pid)
    finally:
        made.process.kill()


def _children(pid: int) -> str:
    return subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout


async def at(browser: Browser, demo: Demo, name: str) -> tuple[Page, Watch]:
    """A leader's window at a node, on the tree page."""
    context = await browser.new_context(locale="zh-CN", viewport={"width": 1366, "height": 768})
    await context.add_init_script(f"localStorage.setItem('{LANGUAGE}', 'zh')")
    page = await context.new_page()
    page.set_default_timeout(READY_MS)
    watch = Watch(page)
    await page.goto(demo.addresses[name])
    await page.locator("[name=name]").fill(f"leader-{name}")
    await page.locator("[name=password]").fill(demo.passwords[f"leader-{name}"])
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("main > *").first).to_be_visible(timeout=READY_MS)
    await page.goto(demo.addresses[name] + "/#/tree")
    await expect(page.locator("fh-tree-page tbody tr")).to_have_count(4, timeout=READY_MS)
    return page, watch


async def test_each_node_sees_the_line_and_its_links(chromium: Browser, demo: Demo) -> None:
    for name in NAMES:
        page, watch = await at(chromium, demo, name)
        rows = page.locator("fh-tree-page tbody tr")
        await expect(rows.locator(".badge.good")).to_have_count(3, timeout=60_000)
        if name == "city":
            await page.screenshot(path=os.environ.get("TREE_SCREENSHOT", str(demo.log.parent / "tree.png")))
        assert not watch.errors and not watch.violations and not watch.foreign
        await page.context.close()


async def test_the_incident_of_the_demo_is_on_every_screen(chromium: Browser, demo: Demo) -> None:
    for name in NAMES:
        page, _ = await at(chromium, demo, name)
        await page.goto(demo.addresses[name] + "/#/")
        await expect(page.get_by_text("化工园区厂房起火").first).to_be_visible(timeout=READY_MS)
        await page.context.close()
        await asyncio.sleep(0)
