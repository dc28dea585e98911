"""GStreamer's webrtcbin as publisher (WHIP) and viewer (WHEP): RSA certificates, libnice, its own SRTP; frames counted."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.media.test_whip import Site, site  # noqa: F401  # the fixture
from tests.services import NOT_INSTALLED, die_with_parent, program

pytestmark = pytest.mark.any_store

SCRIPT = Path(__file__).with_name("gst_client.py")
PACKAGES = "python3-gst-1.0 gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice gstreamer1.0-plugins-base/good/bad"
PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstWebRTC', '1.0');"
    "from gi.repository import Gst, GstWebRTC; Gst.init(None);"
    "assert all(map(Gst.ElementFactory.find, ('webrtcbin', 'nicesrc', 'dtlsenc', 'vp8enc', 'vp8dec', 'opusenc', 'opusdec')))"
)
FRAMES = 30


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that has GStreamer's bindings, or a skip that names the packages."""
    found = program("/usr/bin/python3")
    if subprocess.run([found, "-c", PROBE], capture_output=True, check=False).returncode:
        pytest.skip(NOT_INSTALLED + PACKAGES)
    return found


class Webrtcbin:
    """One running client and its news."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The next news that has these values, or frames of both kinds from `decoded` on."""
        assert self._process.stdout is not None
        seen = b""
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                seen += line
                news: dict[str, Any] = json.loads(line)
                if "decoded" in wanted:
                    if all(count >= wanted["decoded"] for count in news.get("decoded", {"": 0}).values()):
                        return news
                elif all(news.get(name) == value for name, value in wanted.items()):
                    return news
        raise AssertionError(seen)


@asynccontextmanager
async def webrtcbin(python: str, role: str, site: Site, path: str) -> AsyncIterator[Webrtcbin]:  # noqa: F811
    process = await asyncio.create_subprocess_exec(
        python,
        *(str(SCRIPT), role, site.base + path, site.token),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        preexec_fn=die_with_parent,
    )
    assert process.stdin is not None
    try:
        yield Webrtcbin(process)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def test_webrtcbin_publishes_and_views_with_frames_counted(python: str, site: Site) -> None:  # noqa: F811
    async with webrtcbin(python, "publish", site, f"/whip/{site.room}") as publisher:
        await publisher.until(state="connected")
        ours, _ = await site.camera(f"/whep/{site.room}", publish=False)
        await ours.decoded()  # what GStreamer sends, another implementation decodes
        async with webrtcbin(python, "view", site, f"/whep/{site.room}") as viewer:
            await viewer.until(decoded=FRAMES)
