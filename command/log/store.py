"""The database of a node: tables of the log, read tables, and the connections to them.

Shell over SQLAlchemy Core: the same queries run on SQLite (WAL, synchronous=FULL) and on PostgreSQL. It never decides
anything. Invariant: one writer thread, whose every transaction takes the write lock first and moves `head.position` under
the holder's name, so that a second writer's transaction fails instead of interleaving.
"""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from command.base.errors import Corrupt, FenghuoError, Rejected, Unavailable
from command.base.projection import Row, Table
from command.log.filling import Filling

T = TypeVar("T")
SCHEMA_HEAD = "0003"
READERS = 4
ADVISORY_LOCK = 0x66656E67
HOLD_TRIES = 15
HOLD_PAUSE_S = 0.1
SQL_VARIABLES_MAX = 900
WAL_PAGES_MAX = 16_000
"""The writer checkpoints by itself only when `Store.checkpoint` fell this far behind (64 MB)."""
BUSY_MS = 5_000
"""How long a statement waits for another's lock in SQLite."""
PURGE_WAIT_MS = 250
"""Emptying the WAL waits for its readers with the writer's lock in hand: a long one (a backup) must not stop the commits."""

CACHE_KB = 4_096
"""Of each of several connections; what they don't keep, the kernel's page cache does, at the same speed: with 64 MB an entry
cost the writer as much CPU, and the node grew by 20 MB an hour until they were full."""

metadata = sa.MetaData()
_Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class _Octets(sa.LargeBinary):
    """BLOB or BYTEA without a conversion per value: both drivers take and give `bytes` as they are."""

    cache_ok = True

    def bind_processor(self, dialect: Any) -> None:
        return None

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        return None


META = sa.Table(
    "meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
HEAD = sa.Table(
    "head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", _Big, nullable=False),
    sa.Column("entries", _Big, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
)
STREAM = sa.Table(
    "stream",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("generation", sa.Text, nullable=False),
    sa.Column("length", _Big, nullable=False),
    sa.Column("head", _Octets, nullable=False),
    sa.UniqueConstraint("subject", "origin", "generation"),
)
SEAL = sa.Table(
    "seal",
    metadata,
    sa.Column("position", _Big, primary_key=True, autoincrement=False),
    sa.Column("root", _Octets, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("alg", sa.Text, nullable=False),
    sa.Column("signature", _Octets, nullable=False),
)
ENTRY = sa.Table(
    "entry",
    metadata,
    sa.Column("number", _Big, primary_key=True, autoincrement=False),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("seq", _Big, nullable=False),
    sa.Column("position", _Big, nullable=False, index=True),
    sa.Column("leaf", sa.Integer, nullable=False),
    sa.Column("hash", _Octets, nullable=False),
    sa.Column("data", _Octets, nullable=False),
    sa.Column("salt", _Octets),
    sa.Column("private", _Octets),
    sa.Column("path", _Octets, nullable=False),
    sa.Column("seal", _Big),
    sa.UniqueConstraint("stream", "seq"),
)
"""`seal` is None for entries of this node (the seal of their position is theirs), else the id of a `RECEIVED_SEAL`; `leaf` is
the place under that seal."""
RECEIVED_SEAL = sa.Table(
    "received_seal",
    metadata,
    sa.Column("id", _Big, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("root", _Octets, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("alg", sa.Text, nullable=False),
    sa.Column("signature", _Octets, nullable=False),
    sa.UniqueConstraint("origin", "root"),
)


def _loose(name: str) -> sa.Table:
    """Entries that stand on no chain here, each with its own seal."""
    return sa.Table(
        name,
        metadata,
        sa.Column("hash", _Octets, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False, index=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("seq", _Big, nullable=False),
        sa.Column("position", _Big, nullable=False),
        sa.Column("leaf", sa.Integer, nullable=False),
        sa.Column("data", _Octets, nullable=False),
        sa.Column("salt", _Octets),
        sa.Column("private", _Octets),
        sa.Column("path", _Octets, nullable=False),
        sa.Column("root", _Octets, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("alg", sa.Text, nullable=False),
        sa.Column("signature", _Octets, nullable=False),
    )


BRANCH = _loose("branch")
"""The other ends of forks: entries whose stream goes on elsewhere in `ENTRY`. They have effect like all others."""
AHEAD = _loose("ahead")
"""Entries that came before their stream reached them: acted on at once, confirmed when it does."""
LACKING = sa.Table(
    "lacking",
    metadata,
    sa.Column("hash", _Octets, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("generation", sa.Text, nullable=False),
    sa.Column("seq", _Big, nullable=False),
)
"""Entries that are held without their private part and were not erased: it is asked for once this node is entitled to it."""
UNFOLDED = sa.Table(
    "unfolded", metadata, sa.Column("subject", sa.Text, primary_key=True), sa.Column("folded", _Octets, nullable=False)
)
"""Incidents whose rows lag behind the entries held, with the stream lengths (JSON) that are in the rows."""
IDEMPOTENCY = sa.Table(
    "idempotency",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", _Octets, nullable=False),
    sa.Column("receipt", _Octets, nullable=False),
    sa.Column("at", _Big, nullable=False, index=True),
)


def _column_type(table: Table[Any], name: str) -> sa.types.TypeEngine[Any]:
    annotation = next(f.type for f in msgspec.structs.fields(table.row) if f.name == name)
    types = annotation.__args__ if hasattr(annotation, "__args__") else (annotation,)
    if int in types and bool not in types:
        return _Big
    return sa.Boolean() if bool in types else sa.Text()


def sql_table(table: Table[Any], into: sa.MetaData) -> sa.Table:
    """The SQL table of a row table: `id`, the indexed fields, and the whole row as JSON octets."""
    indexed = [sa.Column(name, _column_type(table, name), index=True) for name in table.index]
    return sa.Table(
        f"row_{table.name}",
        into,
        sa.Column("id", sa.Text, primary_key=True),
        *indexed,
        sa.Column("row", _Octets, nullable=False),
    )


class Shelf:
    """The SQL side of one row table: statements made once, rows encoded and decoded."""

    def __init__(self, table: Table[Any], into: sa.MetaData) -> None:
        self.table = table
        self.sql = sql_table(table, into)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(table.row).decode
        self._columns = ("id", *table.index)
        self._fill = Filling(self.sql, [*self._columns, "row"], replace=True)
        self._get = sa.select(self.sql.c.row).where(self.sql.c.id == sa.bindparam("key"))

    def upsert(self, connection: Connection, rows: Iterable[Row]) -> None:
        encode = msgspec.json.encode
        self._fill(connection, [(*[getattr(row, name) for name in self._columns], encode(row)) for row in rows])

    def delete(self, connection: Connection, keys: list[str]) -> None:
        connection.execute(sa.delete(self.sql).where(self.sql.c.id == sa.bindparam("key")), [{"key": k} for k in keys])

    def get(self, connection: Connection, key: str) -> Any:
        found = connection.execute(self._get, {"key": key}).scalar()
        return None if found is None else self.decode(found)

    def select(
        self,
        connection: Connection,
        *conditions: Any,
        order: Any = None,
        limit: int | None = None,
        equal: Mapping[str, object] = MappingProxyType({}),
    ) -> list[Any]:
        """Rows by equality on indexed fields and further SQL `conditions` on `self.sql.c`."""
        statement = sa.select(self.sql.c.row).where(*(self.sql.c[k] == v for k, v in equal.items()), *conditions)
        statement = statement.order_by(self.sql.c.id if order is None else order).limit(limit)
        return [self.decode(row) for row in connection.execute(statement).scalars()]


class Store:
    """One database: a writer engine used by one thread only, and readers that see consistent snapshots."""

    def __init__(self, url: str, tables: Iterable[Table[Any]], data: Path) -> None:
        self.url = url
        self.data = data
        self.sqlite = url.startswith("sqlite")
        self.rows = sa.MetaData()
        self.shelves = {table.name: Shelf(table, self.rows) for table in tables}
        self._moved: tuple[int, int] | None = None
        self.purging = self.sqlite
        """Set in a transaction that erases something: SQLite's WAL still holds it until the next checkpoint has emptied it. At
        the start nobody knows what the process before left in it."""
        self._lock_file: Any = None
        self._lock_connection: Connection | None = None
        self.writer_engine = self._engine(immediate=True)
        self.reader_engine = self._engine(immediate=False)
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="log-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    def shelf(self, table: Table[Any]) -> Shelf:
        return self.shelves[table.name]

    async def write(self, work: Callable[[], T]) -> T:
        """Run `work` in the writer thread. The caller must be the log (or start-up code before the log runs)."""
        return await asyncio.get_running_loop().run_in_executor(self._writer_thread, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a reader thread inside one read transaction (a consistent snapshot).

        Raises `Unavailable` when the database can't be reached.
        """

        def run() -> T:
            with guarded(), self.reader_engine.connect() as connection, connection.begin():
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reader_threads, run)

    async def checkpoint(self) -> None:
        """Move committed pages from SQLite's WAL into the database beside the writer, so that no commit pays for it.

        Does nothing, and wakes no thread, while nothing was committed since the last one that moved everything.
        """
        if self.purging:
            await asyncio.get_running_loop().run_in_executor(self._reader_threads, self._purge)
            return
        written = self._wal_written() if self.sqlite else None
        if written == self._moved:
            return

        def run() -> bool:
            with guarded(), self.reader_engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                busy, pages, moved = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                return bool(not busy and pages == moved)

        if await asyncio.get_running_loop().run_in_executor(self._reader_threads, run):
            self._moved = written

    def _purge(self) -> None:
        """Empty the WAL; once more later when a reader still needs what is in it."""
        self.purging = False
        if not self.sqlite:
            return
        emptied = False
        try:
            with guarded(), self.reader_engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute(f"PRAGMA busy_timeout={PURGE_WAIT_MS}")
                try:
                    emptied = not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                finally:
                    driver.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        finally:
            if not emptied:
                self.purging = True

    def _wal_written(self) -> tuple[int, int] | None:
        """Something that changes with every commit: the size of the WAL, and when it was written. None when there is none."""
        try:
            found = os.stat(f"{sa.make_url(self.url).database}-wal")
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def close(self) -> None:
        self._writer_thread.shutdown()
        self._reader_threads.shutdown()
        if self.purging:
            self._purge()
        self.reader_engine.dispose()
        if self._lock_connection is not None:
            self._lock_connection.close()
        self.writer_engine.dispose()
        if self._lock_file is not None:
            self._lock_file.close()

    def hold(self) -> None:
        """Become this database's one writer. Raises `Unavailable` when another process is."""
        if self.sqlite:
            self._lock_file = open(self.data / "writer.lock", "w")  # noqa: SIM115 - held until close
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable(
                    "store.held", "Another server is running on this data directory; stop it first."
                ) from None
            return
        with guarded():
            self._lock_connection = self.reader_engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Out of the pool: the lock lasts as long as its session, so closing must end the session, not give it back.
        self._lock_connection.detach()
        for _ in range(HOLD_TRIES):
            if self._lock_connection.scalar(sa.select(sa.func.pg_try_advisory_lock(ADVISORY_LOCK))):
                return
            time.sleep(HOLD_PAUSE_S)  # PostgreSQL may not have noticed yet that a killed predecessor is gone
        raise Unavailable("store.held", "Another server holds this database; stop it first.")

    def _engine(self, *, immediate: bool) -> Engine:
        if not self.sqlite:
            url = sa.make_url(self.url).set(drivername="postgresql+psycopg")
            isolation = "READ COMMITTED" if immediate else "REPEATABLE READ"
            return sa.create_engine(url, isolation_level=isolation, pool_size=READERS + 2, pool_pre_ping=True)
        engine = sa.create_engine(self.url, connect_args={"check_same_thread": False, "isolation_level": None})

        def connected(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                f"busy_timeout={BUSY_MS}",
                f"cache_size=-{CACHE_KB}",
                f"wal_autocheckpoint={WAL_PAGES_MAX}",
                "secure_delete=ON",  # what is deleted is overwritten: an erased part must not stay in a free page
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        sa.event.listen(engine, "connect", connected)
        sa.event.listen(engine, "begin", begin)
        return engine


class guarded:
    """Turns errors of the database into `Unavailable`, so that callers see the culprit and not the driver."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sa.exc.SQLAlchemyError):
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise Unavailable("store.failed", f"The database refused the work: {cause}") from error


def prepare(store: Store) -> bool:
    """Bring the schema up to date; True when the read tables were made anew and must be rebuilt.

    Raises `Rejected` when the database is newer than this program, `Unavailable` when it is not set to be durable.
    """
    with guarded(), store.writer_engine.begin() as connection:
        _check_durability(store, connection)
        found = _schema_version(connection)
    if found != SCHEMA_HEAD:
        _migrate(store, found)
    with guarded(), store.writer_engine.begin() as connection:
        for shelf in store.shelves.values():
            if shelf.table.kept:
                shelf.sql.create(connection, checkfirst=True)
        wanted = _read_schema(store)
        if get_meta(connection, "read_schema") == wanted:
            return False
        inspector = sa.inspect(connection)
        present = set(inspector.get_table_names())
        for shelf in store.shelves.values():
            if not shelf.table.kept:
                if shelf.sql.name in present:
                    connection.exec_driver_sql(f'DROP TABLE "{shelf.sql.name}"')
                shelf.sql.create(connection)
        set_meta(connection, "read_schema", wanted)
        return True


def _schema_version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(store: Store, found: str | None) -> None:
    import alembic.command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise Rejected(
            "store.newer",
            f"The database has schema {found}, newer than this program ({SCHEMA_HEAD}); start the newer program.",
        )
    with guarded(), store.writer_engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _check_durability(store: Store, connection: Connection) -> None:
    if store.sqlite:
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        wanted = {"synchronous": (str(level), "2")}
    else:
        wanted = {
            name: (str(connection.exec_driver_sql(f"SHOW {name}").scalar()), "on")
            for name in ("fsync", "synchronous_commit", "full_page_writes")
        }
    for name, (value, good) in wanted.items():
        if value not in (good, "remote_apply", "remote_write", "local"):
            raise Unavailable(
                "store.not_durable",
                f"The database runs with {name}={value}; acknowledged entries could be lost.",
            )


def _read_schema(store: Store) -> str:
    digest = hashlib.sha256()
    for name, shelf in sorted(store.shelves.items()):
        if not shelf.table.kept:
            shape = msgspec.json.schema(shelf.table.row)
            digest.update(repr((name, shelf.table.index, shelf.table.revision, shape)).encode())
    return digest.hexdigest()


def get_meta(connection: Connection, key: str) -> str | None:
    found: str | None = connection.execute(sa.select(META.c.value).where(META.c.key == key)).scalar()
    return found


def reported_by_nobody(connection: Connection, node: str) -> bool:
    """Whether this node has written in an incident whose id names no reporter (decisions/0007): no program since has."""
    subject = STREAM.c.subject
    nameless = sa.and_(subject.like("incident/%"), subject.not_like("incident/%-%"))
    return connection.scalar(sa.select(STREAM.c.id).where(STREAM.c.origin == node, nameless).limit(1)) is not None


def set_meta(connection: Connection, key: str, value: str) -> None:
    if connection.execute(sa.update(META).where(META.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(sa.insert(META).values(key=key, value=value))


def open_store(url: str, tables: Iterable[Table[Any]], data: Path) -> Store:
    """Open (and make, where missing) the database. The caller must `hold()` it before writing."""
    data.mkdir(parents=True, exist_ok=True)
    if url.startswith("sqlite"):
        path = Path(sa.make_url(url).database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            os.chmod(path, 0o600)
        else:
            path.touch(0o600)
    try:
        return Store(url, tables, data)
    except FenghuoError:
        raise
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise Rejected("config.database", f"FENGHUO_DATABASE can't be read: {error}") from None


def only(rows: list[Any], what: str) -> Any:
    """The single row of `rows`; raises `Corrupt` otherwise."""
    if len(rows) != 1:
        raise Corrupt("store.not_single", f"Expected one {what}, found {len(rows)}.")
    return rows[0]
