"""The four-node demo under test: its addresses and accounts, its wires, and a leader's window at each node.

Invariant: a demo made here is interrupted at the end and leaves no process behind.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.browser.desk import LANGUAGE, READY_MS
from tests.browser.harness import Watch
from tests.services import ROOT, die_with_parent

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
                stdin=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
        self.addresses: dict[str, str] = {}
        self.passwords: dict[str, str] = {}

    def _until(self, ready: Any) -> None:
        until = time.monotonic() + START_S
        while not ready(self.log.read_text()):
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def wait(self) -> None:
        """Until it has printed everything."""
        self._until(lambda printed: "viewer" in printed.rpartition("field, mobile")[2])
        printed = self.log.read_text()
        self.addresses = dict(zip(NAMES, re.findall(r"(http://127\.0\.0\.1:\d+)/$", printed, re.M), strict=True))
        self.passwords = dict(re.findall(r"^    (leader-\w+)\s+(\S+)$", printed, re.M))

    def wire(self, word: str, name: str) -> None:
        """`cut` a node off from its superior, or `join` it again."""
        assert self.process.stdin is not None
        before = self.log.read_text().count(f"{name}: {word}")
        self.process.stdin.write(f"{word} {name}\n")
        self.process.stdin.flush()
        self._until(lambda printed: printed.count(f"{name}: {word}") > before)

    def interrupt(self) -> float:
        """Ctrl-C; seconds until it ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_S + 5)
        return time.monotonic() - began

    def children(self) -> str:
        """The process ids below it."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return found.stdout


async def at(
    browser: Browser, demo: Demo, name: str, path: str = "/tree", *, language: str = "zh", width: int = 1366
) -> tuple[Page, Watch]:
    """A leader's window at a node."""
    height = 768 if width > 640 else 844
    context = await browser.new_context(locale="zh-CN", viewport={"width": width, "height": height})
    await context.add_init_script(f"localStorage.setItem('{LANGUAGE}', '{language}')")
    page = await context.new_page()
    page.set_default_timeout(READY_MS)
    watch = Watch(page)
    await page.goto(demo.addresses[name])
    await page.locator("[name=name]").fill(f"leader-{name}")
    await page.locator("[name=password]").fill(demo.passwords[f"leader-{name}"])
    await page.locator("fh-signin button.primary").click()
    await expect(page.locator("main > *").first).to_be_visible(timeout=READY_MS)
    await page.goto(demo.addresses[name] + f"/#{path}")
    return page, watch
