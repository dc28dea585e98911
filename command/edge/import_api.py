"""Upload of a table of persons: read in a thread, checked row by row, then asked (dry run) or written in chunks.

Edge. Holds no rule of its own. Invariant: nothing of a file is believed before `sheet` has bounded it.
"""

import asyncio
import threading
from typing import Any

from aiohttp import BodyPartReader, web
from sqlalchemy.engine import Connection

from command.base.errors import Rejected, TooLarge, TooSlow, Unavailable
from command.base.projection import Context, Decision
from command.base.schema import Struct, Value
from command.domain.imports import ImportPersons, RowError, Sheet, decide_import
from command.domain.registry import ORGANISATION, Organisation
from command.domain.sheet import FILE_BYTES_MAX, read_table
from command.edge.api import BODY_S, Call, Route, by_of, chunks, request_key
from command.log.reading import ReadRows
from command.log.timeline import position_of

CHUNK = 200
"""Persons per command."""
ERRORS_SHOWN_MAX = 500
IMPORTS_AT_ONCE = 2
PARTS_MAX = 10
CHUNK_BYTES = 64 * 1024

_running = threading.BoundedSemaphore(IMPORTS_AT_ONCE)


class RowOutcome(Value, frozen=True, kw_only=True):
    """`outcome` is created, changed or unchanged; `same_name` warns of another person of that name and organisation."""

    row: int
    outcome: str
    name: str
    person: str | None = None
    same_name: bool = False


class ImportReport(Value, frozen=True, kw_only=True):
    """`errors` holds the first 500; `failed` counts the rows that were left out. `ignored` are unknown columns."""

    dry_run: bool
    rows: int
    created: int
    changed: int
    unchanged: int
    failed: int
    errors: list[RowError]
    items: list[RowOutcome]
    ignored: list[str]
    position: int


class ImportQuery(Struct, frozen=True, kw_only=True):
    """`dry_run`: say what would happen, and write nothing."""

    dry_run: bool = False


async def _upload(request: web.Request) -> bytes:
    """The file's octets, from a form's first file or the bare body. Raises `Rejected`."""
    if not request.content_type.startswith("multipart/"):
        return await _limited(chunks(request, CHUNK_BYTES))
    try:
        reader = await request.multipart()
        for _ in range(PARTS_MAX):
            part = await reader.next()
            if part is None:
                break
            if isinstance(part, BodyPartReader) and part.filename:
                return await _limited(_chunks(part))
    except (ValueError, LookupError, AssertionError, RuntimeError) as error:
        raise Rejected("import.multipart", f"The form can't be read ({type(error).__name__}).") from None
    raise Rejected("import.no_file", "The form holds no file.")


async def _chunks(part: BodyPartReader) -> Any:
    while True:
        try:
            async with asyncio.timeout(BODY_S):
                chunk = await part.read_chunk(CHUNK_BYTES)
        except TimeoutError:
            raise TooSlow("body.too_slow", f"Nothing came for {BODY_S:.0f} seconds.") from None
        if not chunk:
            return
        yield chunk


async def _limited(chunks: Any) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > FILE_BYTES_MAX:
            raise TooLarge("import.too_large", f"The file is larger than {FILE_BYTES_MAX} octets; split it.")
    return bytes(data)


def _parse(data: bytes, organisations: list[Organisation]) -> Sheet:
    if not _running.acquire(blocking=False):
        raise Unavailable("import.busy", "Other imports are running; try again in a few seconds.")
    try:
        return Sheet(read_table(data), organisations)
    finally:
        _running.release()


async def import_persons(call: Call) -> ImportReport:
    """Sound rows are imported, the others are named; a dry run writes nothing."""
    key = "" if call.query.dry_run else request_key(call.request)
    node, actor = call.node, call.actor
    data = await _upload(call.request)
    organisations: list[Any] = await node.store.read(lambda c: node.store.shelf(ORGANISATION).select(c))
    sheet = await asyncio.to_thread(_parse, data, organisations)
    outcomes: list[Any] = []
    if call.query.dry_run:

        def ask(connection: Connection) -> Decision:
            context = Context(by_of(actor), node.clock.now(), node.clock.id, actor, node.tree)
            return decide_import(ReadRows(node.store, connection), ImportPersons(persons=sheet.good), context)

        outcomes = (await node.store.read(ask)).result["rows"]
    else:
        for start in range(0, len(sheet.good), CHUNK):
            request = ImportPersons(persons=sheet.good[start : start + CHUNK])
            receipt = await node.log.append(request, by_of(actor), actor=actor, key=f"{key}/{start}")
            outcomes += receipt.result["rows"]
    position = await node.store.read(position_of)
    return _report(sheet, outcomes, dry_run=call.query.dry_run, position=position)


def _report(sheet: Sheet, outcomes: list[Any], *, dry_run: bool, position: int) -> ImportReport:
    names = {imported.row: imported.name for imported in sheet.good}
    items = [
        RowOutcome(
            row=row,
            outcome=outcome,
            name=names[row],
            person=None if dry_run and outcome == "created" else person,
            same_name=same_name,
        )
        for row, outcome, person, same_name in outcomes
    ]
    counts = {name: sum(item.outcome == name for item in items) for name in ("created", "changed", "unchanged")}
    return ImportReport(
        dry_run=dry_run,
        rows=len(sheet.good) + sheet.failed,
        failed=sheet.failed,
        errors=sheet.errors[:ERRORS_SHOWN_MAX],
        items=items,
        ignored=sheet.ignored,
        position=position,
        **counts,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/import/persons",
        right="import.persons",
        summary="Import persons from .xlsx or .csv; `dry_run=true` only says what would happen",
        query=ImportQuery,
        response=ImportReport,
        handler=import_persons,
        raw=(
            "multipart/form-data",
            "text/csv",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/octet-stream",
        ),
        errors=(404, 409),
        tag="admin",
        keyed=True,
    ),
)
