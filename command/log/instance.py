"""The instance marker: a file beside the database that tells whether the database went back in time.

Shell. Whoever copies an old database back, or takes back a snapshot of its disk alone, leaves the marker where it is: it then
names another run than the database does, or a later position. (A snapshot that carries both is told by the neighbours, who
hold what it forgot.) Invariant: the marker never runs ahead of what was committed, so a crash is never taken for a restore.
"""

import os
from pathlib import Path

import msgspec

MARKER = "instance"
KEY = "instance"
"""The name of the run in the database (`store.get_meta`)."""


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    """`run` began last; `next` is about to begin: a crash in between leaves the database with either."""

    run: str
    next: str = ""
    position: int = 0


class Instance:
    """One data directory's marker. `run` is this process's own; None before `begin`."""

    def __init__(self, data: Path) -> None:
        self._path = data / MARKER
        self._run: str | None = None
        self._position = -1

    @property
    def position(self) -> int:
        """What was reached last; -1 before `begin`."""
        return self._position

    def went_back(self, run: str | None, position: int) -> bool:
        """Whether a database that names `run` and stands at `position` is older than this marker has seen.

        A database that has never named a run (made by an earlier program, or just now) is believed.
        """
        if not run:
            return False
        found = self._read()
        if found is None:
            return True  # the database has come to another directory without what stood beside it
        return run not in (found.run, found.next) or position < found.position

    def announce(self, run: str) -> None:
        """Before the database is given the name of this run."""
        found = self._read()
        before = _Marker(run="") if found is None else found
        self._write(_Marker(run=before.run, next=run, position=before.position))

    def begin(self, run: str, position: int) -> None:
        """The database has this run's name."""
        self._run = run
        self.reached(position)

    def reached(self, position: int) -> None:
        """`position` is committed. Called every second or so; a file that can't be written only makes this less precise."""
        if self._run is not None and position != self._position:
            self._write(_Marker(run=self._run, position=position))
            self._position = position

    def _read(self) -> _Marker | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Marker)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, marker: _Marker) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(marker))
            os.replace(temporary, self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
