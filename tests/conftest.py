"""Fixtures shared by all tests: real databases, Redis, browsers and the server itself.

A missing program skips the tests that need it, by name, and the closing summary repeats the names. Safe under
pytest-xdist: every worker has servers of its own on ports of its own.
"""

import gc
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.async_api import Browser
from xdist.scheduler import LoadScopeScheduling

from tests import prepared
from tests.browser import harness, harness_firefox
from tests.services import NOT_INSTALLED, Postgres, RedisServer, ServerProcess

DATABASES = ("sqlite", "postgresql")

VIDEO = (
    "browser/test_room.py",
    "browser/test_journey.py",
    "browser/test_meeting.py",
    "media/test_browsers.py",
    "media/test_loss.py",
    "media/test_transport.py",
)
"""Files whose browsers encode and decode pictures: two at once on two cores would measure each other."""

DEAREST = (
    "durability/test_crash.py",
    "browser/test_screens.py",
    "security/test_fuzz_api.py",
    "browser/test_tree_slice.py",
    "durability/test_rebuild.py",
    "security/test_rights.py",
    "security/test_rights_live.py",
    "browser/test_field.py",
    "browser/test_admin.py",
    "browser/test_moves.py",
    "media/test_meeting_control.py",
    "sms/test_worker.py",
    "browser/test_notices.py",
    "browser/test_clean.py",
)
"""The other files of 20 s and more, dearest first, so that none is begun when the other worker is about to end."""

REASON_LINES = 60
"""Of the traceback of a test that was tried again; pytest itself shows none."""

# `make test` on a build machine repeats the same examples, so a red run can be had again; `make fuzz` looks further.
settings.register_profile("check", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.register_profile("fuzz", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile(os.environ.get("CHECK_PROFILE", "check"))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a misspelt database; name the marker that `pytest_collection_modifyitems` sets."""
    config.addinivalue_line("markers", "store: depends on the database (set by itself from `database_url`)")
    chosen = os.environ.get("FENGHUO_TEST_DATABASE", "sqlite")
    if chosen not in DATABASES:
        raise pytest.UsageError(f"FENGHUO_TEST_DATABASE={chosen!r}: expected one of {DATABASES}")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by what a test uses: `store` (unless it says `any_store`), `postgres`, `redis`, `browser`; dearest files first."""
    marks = {
        "database_url": "store",
        "module_databases": "store",
        "postgres_url": "postgres",
        "redis_url": "redis",
        "chromium": "browser",
        "chromium_plain": "browser",
        "firefox": "browser",
    }
    for item in items:
        names: list[str] = getattr(item, "fixturenames", [])
        for fixture, mark in marks.items():
            if fixture in names and not (mark == "store" and item.get_closest_marker("any_store")):
                item.add_marker(mark)
    rank = {name: number for number, name in enumerate((*VIDEO, *DEAREST))}
    items.sort(key=lambda item: rank.get(file_of(item.nodeid), len(rank)))


def file_of(nodeid: str) -> str:
    """A test's file, as `VIDEO` and `DEAREST` name it."""
    return nodeid.partition("::")[0].removeprefix("tests/")


class Files(LoadScopeScheduling):
    """A worker takes whole files, in the order of collection, and one worker takes all of `VIDEO`."""

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        return "video" if file in VIDEO else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Ours for `--dist loadfile`."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # that would be by the number of tests in a file
    return Files(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line per missing program, with the number of tests it cost; and why a test was tried again."""
    missing: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        found = re.search(re.escape(NOT_INSTALLED) + r"([^'\"\n)]+)", str(report.longrepr))
        if found:
            missing[found[1].strip()] += 1
    if missing:
        terminalreporter.section("programs that were not there", red=True, bold=True)
        for name, tests in sorted(missing.items()):
            terminalreporter.line(f"{NOT_INSTALLED}{name} ({tests} tests)", red=True, bold=True)
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"{report.when} of {report.nodeid}, tried again", yellow=True)
        terminalreporter.line("\n".join(str(report.longrepr).splitlines()[-REASON_LINES:]))


@pytest.fixture(scope="module", autouse=True)
def thawed() -> Iterator[None]:
    """A node freezes what is there for its lifetime (`service._settle_memory`); the many of a file would never be freed."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the prepared SQLite file of this test process lies; pytest removes it with the rest."""
    prepared.TEMPLATE.directory = tmp_path_factory.mktemp("template")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One cluster per test process; fsync on."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis per test process."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def prepared_postgres(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with the schema of a node in it, to be copied."""
    name = postgres_server.fresh()
    prepared.lay(postgres_server.url(name), tmp_path_factory.mktemp("prepared"))
    return name


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """`postgresql://...` of a database of this test's own, dropped afterwards."""
    name = postgres_server.fresh()
    yield postgres_server.url(name)
    postgres_server.drop(name)


other_postgres_url = postgres_url
"""A second database beside the first, for what moves from one to another."""


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """`redis://...` of an empty Redis."""
    redis_server.clear()
    return redis_server.url


@pytest.fixture(scope="module")
def module_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """A maker of databases as `database_url`'s that last for all tests of a file: one for each try of what is set up on it,
    for a second try can't go on where the first has failed.
    """
    if os.environ.get("FENGHUO_TEST_DATABASE", "sqlite") == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        template = request.getfixturevalue("prepared_postgres")
        names: list[str] = []

        def fresh() -> str:
            names.append(server.fresh(template))
            return server.url(names[-1])

        yield fresh
        for name in names:
            server.drop(name)
    else:
        yield lambda: f"sqlite:///{tmp_path_factory.mktemp('database') / 'fenghuo.db'}"


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The `FENGHUO_DATABASE` of this run: a SQLite file that is not there yet, or with FENGHUO_TEST_DATABASE=postgresql a
    database with the schema and nothing in it.
    """
    if os.environ.get("FENGHUO_TEST_DATABASE", "sqlite") == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        name = server.fresh(request.getfixturevalue("prepared_postgres"))
        yield server.url(name)
        server.drop(name)
    else:
        yield f"sqlite:///{tmp_path / 'fenghuo.db'}"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium with fake devices, loopback allowed as an ICE candidate."""
    async with harness.chromium() as browser:
        yield browser


@pytest.fixture
async def chromium_plain() -> AsyncIterator[Browser]:
    """Debian's Chromium with fake devices and no ICE flag at all: what a user's browser does."""
    async with harness.chromium(ice_flag=False) as browser:
        yield browser


@pytest.fixture
async def firefox() -> AsyncIterator[harness_firefox.Firefox]:
    """Debian's Firefox with fake devices."""
    async with harness_firefox.firefox() as browser:
        yield browser


@pytest.fixture
def launch_server(tmp_path: Path, database_url: str) -> Iterator[Callable[..., ServerProcess]]:
    """A maker of servers: keywords are ServerProcess's (`data` and `database_url` have defaults); not yet
    started.

    All are killed at the end of the test if the test hasn't stopped them.
    """
    made: list[ServerProcess] = []

    def make(**settings: object) -> ServerProcess:
        settings = {"data": tmp_path / f"node{len(made)}", "database_url": database_url, **settings}
        made.append(ServerProcess(**settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.kill()
