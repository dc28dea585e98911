"""Nodes and browsers for the tests on the screen: demos that begin with what one first start has made, and one Chromium
for all tests of a file.

All tests and asynchronous fixtures here run in the loop of their file: a browser belongs to the loop that started it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import harness, harness_firefox
from tests.services import STOP_TIMEOUT_S, Seed, ServerProcess

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The loop of the file, for all tests here."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept() -> AsyncIterator[harness.Kept]:
    """The Chromium of a file. What is set up for the whole file takes its windows from here."""
    made = harness.Kept()
    await made.ready()
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def chromium(kept: harness.Kept) -> AsyncIterator[harness.Kept]:
    """Debian's Chromium with fake devices, loopback allowed as an ICE candidate; every window empty."""
    await kept.ready()
    before = kept.out
    yield kept
    await kept.hand_back(before)


@pytest_asyncio.fixture(loop_scope="module")
async def chromium_plain() -> AsyncIterator[Browser]:
    """As the one in tests/conftest.py."""
    async with harness.chromium(ice_flag=False) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def firefox() -> AsyncIterator[harness_firefox.Firefox]:
    """As the one in tests/conftest.py."""
    async with harness_firefox.firefox() as browser:
        yield browser


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    """One first start of a demo per test process."""
    return Seed(tmp_path_factory.mktemp("seed")).make()


@pytest.fixture(scope="module")
def server(seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running demo for all tests of a file: each looks only at what it made.

    Stopped by SIGTERM, which must end with status 0.
    """
    with seed.node(tmp_path_factory.mktemp("demo") / "house").running() as process:
        yield process


@pytest.fixture
def own_server(
    seed: Seed, tmp_path: Path, database_url: str, launch_server: Callable[..., ServerProcess]
) -> Iterator[ServerProcess]:
    """A running demo of this test's own, to kill or to look at from its first incident.

    Stopped by SIGTERM, which must take < 10 s and end with status 0.
    """
    if database_url.startswith("sqlite"):
        process = seed.node(tmp_path / "own")
    else:
        process = launch_server()  # the seed is a SQLite file
    with process.running(STOP_TIMEOUT_S):
        yield process
