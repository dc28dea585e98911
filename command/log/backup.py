"""Backup and restore: one tar file with the log, the kept tables, the node's key and the attachments.

Shell. The database travels as a SQLite file whatever engine holds it, copied inside one read transaction, so a backup may
be taken while the node serves and may move a node between engines. Read tables are not copied; they are made anew.

Invariant: a restore always opens a new random generation `after` what the backup held; it never goes on writing streams
that a lost disk, or a second restore of the same file, may have continued. Sessions end.
"""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from command.base import identity
from command.base.clock import Clock
from command.base.errors import Corrupt, Rejected
from command.base.projection import Domain
from command.log.store import STREAM, Store, get_meta, guarded, metadata, open_store, prepare, set_meta
from command.log.timeline import position_of
from command.log.witness import stream_heads

CHUNK_ROWS = 2_000
DATABASE, MANIFEST, ATTACHMENTS = "log.db", "manifest.json", "attachments"
MANIFEST_BYTES_MAX = 64 * 1024 * 1024
FORMAT = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the tar must hold: SHA-256 in hex by member name. In the tar its own SHA-256 stands in a line before it."""

    format: int
    node: str
    generation: str
    position: int
    made_at: int
    files: dict[str, str]


def backup(store: Store, data: Path, target: Path, clock: Clock) -> Manifest:
    """Write a backup of a node to `target` (0600, whole or not at all). The node may be running."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
        copy = Path(folder) / DATABASE
        node, generation, position = _copy_out(store, copy)
        files = {DATABASE: copy}
        key = data / identity.KEY_FILE
        if key.exists():
            files[identity.KEY_FILE] = key
        attachments = data / ATTACHMENTS
        if attachments.is_dir():
            files |= {f"{ATTACHMENTS}/{path.name}": path for path in sorted(attachments.iterdir()) if _kept(path)}
        manifest = Manifest(
            format=FORMAT,
            node=node,
            generation=generation,
            position=position,
            made_at=clock.now(),
            files={name: _sha256(path) for name, path in files.items()},
        )
        temporary = Path(folder) / "backup.tar"
        _pack(temporary, files, manifest)
        os.replace(temporary, target)
    return manifest


def restore(archive: Path, url: str, data: Path, domain: Domain, clock: Clock) -> Manifest:
    """Put a backup into an empty database and data directory, and note that a new generation must be opened.

    Raises `Rejected` when there is something already, `Corrupt` when the archive is damaged.
    """
    if (data / identity.KEY_FILE).exists():
        raise Rejected("restore.not_empty", "The data directory holds a node already; name an empty one.")
    with tempfile.TemporaryDirectory(prefix="fenghuo-restore-") as folder:
        manifest = _unpack(archive, Path(folder))
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = open_store(url, domain.tables.values(), data)
        try:
            store.hold()
            prepare(store)
            _copy_in(Path(folder) / DATABASE, store, domain, data, manifest, clock)
        finally:
            store.close()
        if (Path(folder) / ATTACHMENTS).is_dir():
            shutil.copytree(Path(folder) / ATTACHMENTS, data / ATTACHMENTS, dirs_exist_ok=True)
        identity.write_secret(data / identity.KEY_FILE, (Path(folder) / identity.KEY_FILE).read_bytes())
    return manifest


def _kept(path: Path) -> bool:
    return path.is_file() and not path.name.startswith("upload-")


def _tables(store: Store) -> list[sa.Table]:
    return [*metadata.sorted_tables, *(shelf.sql for shelf in store.shelves.values() if shelf.table.kept)]


def _copy_out(store: Store, copy: Path) -> tuple[str, str, int]:
    engine = sa.create_engine(f"sqlite:///{copy}")
    with guarded(), store.reader_engine.connect() as source, source.begin(), engine.begin() as sink:
        for table in _tables(store):
            table.create(sink)
            _copy_rows(source, sink, table)
        found = get_meta(source, "node") or "", get_meta(source, "generation") or "", position_of(source)
    engine.dispose()
    return found


def _copy_rows(source: Connection, sink: Connection, table: sa.Table, names: set[str] | None = None) -> None:
    """All rows; `names` are the columns that the source has (an older program's table may lack some)."""
    columns = [column for column in table.columns if names is None or column.name in names]
    result = source.execution_options(yield_per=CHUNK_ROWS).execute(sa.select(*columns))
    for chunk in result.partitions(CHUNK_ROWS):
        sink.execute(sa.insert(table), [dict(row._mapping) for row in chunk])


def _copy_in(copy: Path, store: Store, domain: Domain, data: Path, manifest: Manifest, clock: Clock) -> None:
    engine = sa.create_engine(f"sqlite:///file:{copy}?mode=ro&uri=true")
    present = set(sa.inspect(engine).get_table_names())
    with guarded(), engine.connect() as source, store.writer_engine.begin() as sink:
        if sink.scalar(sa.select(sa.func.count()).select_from(STREAM)):
            raise Rejected("restore.not_empty", "The database holds a log already; name an empty one.")
        for table in _tables(store):
            if table.name not in present or table.name == "row_session":
                continue
            sink.execute(sa.delete(table))
            names = {column["name"] for column in sa.inspect(engine).get_columns(table.name)}
            _copy_rows(source, sink, table, names)
        mine = sa.and_(STREAM.c.origin == manifest.node, STREAM.c.generation == manifest.generation)
        _reopen(sink, manifest.generation, mine, clock)
        set_meta(sink, "instance", "")
    engine.dispose()


def _reopen(connection: Connection, previous: str, mine: sa.ColumnElement[bool], clock: Clock) -> None:
    """Note that the next start has to open a new generation `after` these streams, and to make the read tables anew."""
    heads = stream_heads(connection, mine)
    opening: dict[str, Any] = {"previous": previous, "after": heads, "restored": True}
    set_meta(connection, "generation", clock.token())
    set_meta(connection, "opening", msgspec.json.encode(opening).decode())
    set_meta(connection, "read_schema", "")


def regenerate(url: str, data: Path, domain: Domain, clock: Clock) -> int:
    """Of a node that was made again from others and is at rest: the next start opens a new generation `after` everything this
    node ever wrote, as after a restore; how many streams that are."""
    store = open_store(url, domain.tables.values(), data)
    try:
        store.hold()
        with guarded(), store.writer_engine.begin() as connection:
            node, generation = get_meta(connection, "node") or "", get_meta(connection, "generation") or ""
            mine = STREAM.c.origin == node
            _reopen(connection, generation, mine, clock)
            return connection.scalar(sa.select(sa.func.count()).select_from(STREAM).where(mine)) or 0
    finally:
        store.close()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(target: Path, files: dict[str, Path], manifest: Manifest) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            encoded = msgspec.json.encode(manifest)
            octets = hashlib.sha256(encoded).hexdigest().encode() + b"\n" + encoded
            header = tarfile.TarInfo(MANIFEST)
            header.size, header.mode = len(octets), 0o600
            tar.addfile(header, io.BytesIO(octets))
            for name, path in files.items():
                tar.add(path, arcname=name, recursive=False)
        file.flush()
        os.fsync(file.fileno())


def _unpack(archive: Path, folder: Path) -> Manifest:
    try:
        with tarfile.open(archive) as tar:
            first = tar.next()
            source = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
            if source is None or first is None or first.size > MANIFEST_BYTES_MAX:
                raise Corrupt("restore.manifest", "This is not a backup of Fenghuo.")
            digest, _, encoded = source.read().partition(b"\n")
            if digest != hashlib.sha256(encoded).hexdigest().encode():
                raise Corrupt("restore.damaged", f"'{MANIFEST}' in the backup is damaged.")
            manifest = msgspec.json.decode(encoded, type=Manifest)
            if manifest.format != FORMAT:
                raise Rejected("restore.newer", "The backup was made by a newer program.")
            for member in _members(tar, manifest):
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, msgspec.MsgspecError, EOFError, ValueError, OSError) as error:
        raise Corrupt("restore.damaged", f"The backup can't be read: {error}") from None
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file() or _sha256(path) != wanted:
            raise Corrupt("restore.damaged", f"'{name}' in the backup is damaged or missing.")
    return manifest


def _members(tar: tarfile.TarFile, manifest: Manifest) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if member.name in manifest.files and member.isfile():
            yield member


@contextmanager
def reading(url: str, data: Path, domain: Domain) -> Iterator[Store]:
    """A store for reading beside a running node."""
    store = open_store(url, domain.tables.values(), data)
    try:
        yield store
    finally:
        store.close()
