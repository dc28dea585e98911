"""Nodes for the tests on the screen: demos that begin with what one first start has made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services import Seed, ServerProcess


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    """One first start of a demo per test process."""
    return Seed(tmp_path_factory.mktemp("seed")).make()


@pytest.fixture(scope="module")
def server(seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running demo for all tests of a file: each looks only at what it made.

    Stopped by SIGTERM, which must take < 10 s and end with status 0.
    """
    process = seed.node(tmp_path_factory.mktemp("demo") / "house")
    try:
        process.start()
        yield process
        process.stop()
    finally:
        process.kill()


@pytest.fixture
def own_server(
    seed: Seed, tmp_path: Path, database_url: str, launch_server: Callable[..., ServerProcess]
) -> Iterator[ServerProcess]:
    """A running demo of this test's own, to kill or to look at from its first incident."""
    if database_url.startswith("sqlite"):
        process = seed.node(tmp_path / "own")
    else:
        process = launch_server()  # the seed is a SQLite file
    try:
        process.start()
        yield process
        process.stop()
    finally:
        process.kill()
