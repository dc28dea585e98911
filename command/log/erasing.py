"""Erasing: what an erasure that counts does to this database, whichever of the two comes first.

Shell, in the writer's thread, inside the log's transaction. It deletes private parts and salts where entries are kept, and
notes attachments that nothing names any more; it never touches bytes, hashes, paths or seals. Invariant: after a commit no
part of an entry is stored whose erasure is held and counts, in whatever order the two came.
"""

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Written
from command.domain.erasure import ERASED, ERASED_FILE, ERASURE, ErasedFile, Erasure, counts, erasure_of, stream_at
from command.log.store import AHEAD, BRANCH, ENTRY, LACKING, STREAM
from command.log.submission import Bared
from command.log.workspace import Workspace

FILES = b'"attachments":['
BARE = {"salt": None, "private": None}


class Gone(msgspec.Struct, frozen=True):
    """An entry that has lost its part: as it is now, which fields the part had ([] when it was not here), and where it stands
    (None before its turn)."""

    written: Written
    fields: list[str]
    bared: Bared | None


class Erasing:
    """Belongs to folding. `read` at start and after a failed commit; the rest inside a transaction."""

    def __init__(self, rows: Workspace) -> None:
        self._rows = rows
        self._counting: dict[str, Erasure] = {}
        self._waiting: dict[str, Erasure] = {}
        self._files = False
        self._unstored: list[Written] = []
        """Entries with attachments that were written in this transaction; they are stored at its end."""

    def read(self, connection: Connection) -> None:
        """A node of which nobody erased anything spares itself every look-up."""
        self._unstored.clear()
        found = self._rows.select(connection, ERASURE)
        self._counting = {row.entry: row for row in found if row.counts}
        self._waiting = {row.id: row for row in found if not row.counts}
        self._files = bool(self._rows.select(connection, ERASED_FILE))

    def own(self, written: Written) -> None:
        """An entry of this node: the files it names are wanted, again perhaps."""
        if files_of(written):
            self._unstored.append(written)
            if self._files:
                self._wanted_again([written])

    def stored(self) -> None:
        """What was written is stored."""
        self._unstored.clear()

    def note(self, connection: Connection, written: Written) -> list[Gone]:
        """Take in an `entry.erased`; what is gone by it."""
        row = erasure_of(written)
        if row is None:
            return []
        self._rows.put(ERASURE, row)
        self._waiting[row.id] = row
        return self.moved(connection)

    def moved(self, connection: Connection) -> list[Gone]:
        """The tree has changed, or an erasure has come: look at those that don't count yet."""
        gone: list[Gone] = []
        for row in sorted(self._waiting.values(), key=lambda one: one.id):
            if counts(self._rows, row):
                del self._waiting[row.id]
                row = msgspec.structs.replace(row, counts=True)
                self._rows.put(ERASURE, row)
                self._counting[row.entry] = row
                gone += self._erase(connection, row)
        return gone

    def arrived(self, connection: Connection, fresh: list[Written]) -> list[Written]:
        """Entries that came in just now, without the parts that were erased before they came; their rows too."""
        if self._files:
            self._wanted_again([one for one in fresh if one.hash.hex() not in self._counting])
        if not any(one.hash.hex() in self._counting for one in fresh):
            return fresh
        found = []
        for one in fresh:
            row = self._counting.get(one.hash.hex())
            if row is not None and row.stream == str(one.entry.stream):
                self._erase(connection, row)
                one = msgspec.structs.replace(one, salt=None, private=None)
            found.append(one)
        return found

    def placed(self, connection: Connection, written: Written) -> Bared | None:
        """Where an entry stands that is held."""
        stream = written.entry.stream
        key = sa.select(STREAM.c.id).where(
            STREAM.c.subject == stream.subject,
            STREAM.c.origin == stream.origin,
            STREAM.c.generation == stream.generation,
        )
        chain = sa.select(ENTRY.c.position).where(
            ENTRY.c.stream == key.scalar_subquery(), ENTRY.c.seq == written.entry.seq, ENTRY.c.hash == written.hash
        )
        position = connection.scalar(chain)
        loose = position is None
        if loose:
            position = connection.scalar(sa.select(BRANCH.c.position).where(BRANCH.c.hash == written.hash))
        return None if position is None else Bared(written, position, loose=loose)

    def _erase(self, connection: Connection, row: Erasure) -> list[Gone]:
        stream = stream_at(row.stream)
        assert stream is not None, "only an erasure of a stream counts"
        named = {"subject": stream.subject, "origin": stream.origin, "generation": stream.generation}
        key = connection.scalar(sa.select(STREAM.c.id).filter_by(**named))
        hashed = bytes.fromhex(row.entry)
        places = [
            (table, [table.c.hash == hashed, *(table.c[n] == v for n, v in named.items())]) for table in (BRANCH, AHEAD)
        ]
        if key is not None:
            places.append((ENTRY, [ENTRY.c.stream == key, ENTRY.c.seq == row.seq, ENTRY.c.hash == hashed]))
        gone: list[Gone] = []
        self._rows.purge()
        connection.execute(sa.delete(LACKING).where(LACKING.c.hash == hashed))
        for table, where in places:
            columns = [table.c.data, table.c.hash, table.c.private]
            columns += [] if table is AHEAD else [table.c.position]
            found = connection.execute(sa.select(*columns).where(*where)).first()
            if found is None:
                continue
            connection.execute(sa.update(table).where(*where).values(**BARE))
            fields = [] if found.private is None else sorted(msgspec.json.decode(found.private))
            written = Written(entry=entries.decode(found.data), data=found.data, hash=found.hash)
            bared = None if table is AHEAD else Bared(written, found.position, loose=table is BRANCH)
            gone.append(Gone(written, fields, bared))
            self._unnamed(connection, written, row)
        return gone

    def _unnamed(self, connection: Connection, written: Written, row: Erasure) -> None:
        """The files that hung on an entry, unless another entry that was not erased names them too."""
        for name in files_of(written):
            if not any(one not in self._counting for one in self._naming(connection, name)):
                self._rows.put(ERASED_FILE, ErasedFile(id=name, entry=row.entry))
                self._files = True

    def _naming(self, connection: Connection, name: str) -> list[str]:
        """The hashes of the entries held that name a file."""
        found = [one.hash.hex() for one in self._unstored if name in files_of(one)]
        for table in (ENTRY, BRANCH, AHEAD):
            literal = sa.literal(name.encode(), sa.LargeBinary)
            if connection.dialect.name == "sqlite":
                stands = sa.func.instr(table.c.data, literal) > 0
            else:
                stands = sa.func.position(literal.op("IN")(table.c.data)) > 0
            rows = connection.execute(sa.select(table.c.hash, table.c.data).where(stands))
            found += [one.hash.hex() for one in rows if name in files_in(one.data)]
        return found

    def _wanted_again(self, fresh: list[Written]) -> None:
        """An entry that stands names a file that others had lost."""
        for one in fresh:
            for name in files_of(one):
                if self._rows.get(ERASED_FILE, name) is not None:
                    self._rows.delete(ERASED_FILE, name)


def files_of(written: Written) -> list[str]:
    """The attachments that an entry names, but for what it names as something else."""
    named = written.entry.body.get("attachments") if written.entry.kind != ERASED else None
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def files_in(data: bytes) -> list[str]:
    return files_of(Written(entry=entries.decode(data), data=data, hash=b"")) if FILES in data else []
