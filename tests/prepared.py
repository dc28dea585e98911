"""Databases as the first start of a node leaves them before it writes its name: the schema, and nothing in it.

Made once per test process and copied for each test, for laying fifty tables takes longer than most tests. Never used where
the laying is what is tested (a restore, a real process): those begin with nothing. Invariant: a template is never written
to after it was made.
"""

import shutil
from pathlib import Path

import sqlalchemy as sa

import server
from command.log.store import open_store, prepare


def lay(url: str, data: Path) -> None:
    """Make the schema of the whole house in an empty database; `data` is a directory for the store's lock."""
    store = open_store(url, server.house().domain.tables.values(), data)
    try:
        prepare(store)
    finally:
        store.close()


class Template:
    """The SQLite file of a test process, made when it is first asked for."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        """Of the running tests (`template` in conftest.py); None outside them: then a node lays its tables itself."""

    def copy(self, path: Path) -> None:
        if self.directory is None:
            return
        made = self.directory / "fenghuo.db"
        if not made.exists():
            laid = self.directory / "laid.db"
            laid.unlink(missing_ok=True)  # of a test that ran out of time meanwhile
            lay(f"sqlite:///{laid}", self.directory)
            laid.rename(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, path)


TEMPLATE = Template()


def begin(url: str) -> None:
    """Copy the template to where a node is about to make its SQLite file, if there is none yet."""
    if url.startswith("sqlite") and not (path := Path(sa.make_url(url).database or "")).exists():
        TEMPLATE.copy(path)
