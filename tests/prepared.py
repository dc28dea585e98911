"""Databases as the first start of a node leaves them before it writes its name: the schema, and nothing in it.

Made once per test process and copied for each test, for laying fifty tables takes longer than most tests. Never used where
the laying is what is tested (a restore, a real process): those begin with nothing. Invariant: a template is never written
to after it was made.
"""

import functools
import shutil
import tempfile
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


@functools.cache
def _template() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="fenghuo-template-"))
    made = directory / "fenghuo.db"
    lay(f"sqlite:///{made}", directory)
    return made


def forget() -> None:
    """Remove the template, if one was made."""
    if _template.cache_info().currsize:
        shutil.rmtree(_template().parent, ignore_errors=True)
        _template.cache_clear()


def begin(url: str) -> None:
    """Copy the template to where a node is about to make its SQLite file, if there is none yet."""
    if not url.startswith("sqlite"):
        return
    path = Path(sa.make_url(url).database or "")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_template(), path)
