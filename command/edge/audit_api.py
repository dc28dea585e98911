"""The auditor's view: administration and sign-ins as entries, and any subject's streams to take away and verify.

Edge, reads only. Invariant: an exported line holds the stored bytes as they are, with hash, path and seal, so that a
reader needs nothing but the node's public key; numbers of persons are left out for those who may not read them.
"""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from aiohttp import web
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base import entry as entries
from command.base.entry import Stream, Written
from command.base.errors import Denied, Missing
from command.base.rights import allowed
from command.base.schema import SomeText, Struct
from command.domain.account import AUDIT
from command.domain.erasure import EraseEntry
from command.domain.heads import Hex
from command.domain.incident import INCIDENT
from command.domain.incident import scope as incident_scope
from command.domain.registry import SUBJECT
from command.edge.api import Call, Route, append, encode
from command.log.store import BRANCH, ENTRY, RECEIVED_SEAL, SEAL, STREAM
from command.log.timeline import TimelineItem, item_of, position_of
from command.log.writer import Receipt

EXPORT_PAGE = 500
FORMAT = "fenghuo export 1"

Limit = Annotated[int, Meta(ge=1, le=500)]
Subject = Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[a-z]+(/[A-Za-z0-9][A-Za-z0-9._-]*)?(?!\n)$")]


class AuditQuery(Struct, frozen=True, kw_only=True):
    """`before`: the `next` of the page before."""

    subject: Literal["audit", "registry"] | None = None
    before: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    limit: Limit = 100


class AuditItem(TimelineItem, frozen=True, kw_only=True):
    """`number` counts all entries of this node."""

    number: int


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[AuditItem]
    next: int | None
    position: int


class ExportQuery(Struct, frozen=True, kw_only=True):
    subject: Subject


class Erase(Struct, frozen=True, kw_only=True):
    """`entry` is the hash of an entry, as timelines and the audit name it; the reason is kept with the erasure."""

    entry: Hex
    reason: SomeText


def _phones_hidden(call: Call) -> bool:
    return not call.wide("person.read")


async def audit(call: Call) -> AuditPage:
    """Entries of the streams `audit` and `registry`, newest first."""
    query: AuditQuery = call.query
    subjects = (query.subject,) if query.subject else (AUDIT, SUBJECT)
    hidden = _phones_hidden(call)

    def read(connection: Connection) -> AuditPage:
        wanted = (
            sa.select(ENTRY)
            .join(STREAM, STREAM.c.id == ENTRY.c.stream)
            .where(STREAM.c.subject.in_(subjects))
            .order_by(ENTRY.c.number.desc())
            .limit(query.limit)
        )
        if query.before is not None:
            wanted = wanted.where(ENTRY.c.number < query.before)
        items = [_item(row, hidden) for row in connection.execute(wanted)]
        more = items[-1].number if len(items) == query.limit else None
        return AuditPage(items=items, next=more, position=position_of(connection))

    return await call.node.store.read(read)


def _item(row: Any, hidden: bool) -> AuditItem:
    written = Written(entry=entries.decode(row.data), data=row.data, hash=row.hash, salt=row.salt, private=row.private)
    found = msgspec.structs.asdict(item_of(written, row.position))
    if hidden:
        found["private"] = {name: value for name, value in found["private"].items() if name != "phones"}
    return AuditItem(number=row.number, **found)


def _may_export(call: Call, connection: Connection, subject: str) -> None:
    kind, _, key = subject.partition("/")
    if kind != "incident":
        if not call.wide("audit.read"):
            raise Denied("rights.denied", "Your roles do not include 'audit.read'.", right="audit.read")
        return
    row = call.node.store.shelf(INCIDENT).get(connection, key)
    if row is None or not allowed(call.actor, "incident.export", incident_scope(row), call.node.tree):
        raise Missing("incident.missing", f"There is no incident '{key}'.")


async def export(call: Call) -> web.StreamResponse:
    """JSON lines: a head {"format", "subject", "node", "position"}; then per commit its seal, before the entries it seals:
    {"seal": position, "alg", "root", "count", "signature"}; per entry {"entry": hash, "stream", "seq", "position", "leaf",
    "path", "data", "private", "salt"}. `data` and `private` are the stored bytes as text, hashes and salts hex. An entry of
    another node stands under the seal it came with: that one's line names its "origin", and stands right before it.
    """
    subject: str = call.query.subject
    store = call.node.store

    def begin(connection: Connection) -> tuple[int, int]:
        _may_export(call, connection, subject)
        count = sa.select(sa.func.max(ENTRY.c.number)).join(STREAM, STREAM.c.id == ENTRY.c.stream)
        last = connection.scalar(count.where(STREAM.c.subject == subject))
        if last is None:
            raise Missing("subject.missing", f"Nothing was written about '{subject}'.")
        return position_of(connection), last

    position, last = await store.read(begin)
    bare = subject == SUBJECT and _phones_hidden(call)
    name = subject.replace("/", "-")
    headers = {"Content-Disposition": f'attachment; filename="{name}.jsonl"'}
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/x-ndjson"
    await response.prepare(call.request)
    head = {"format": FORMAT, "subject": subject, "node": call.node.log.node, "position": position}
    await response.write(encode(head) + b"\n")
    number, sealed = 0, 0
    while number < last:
        rows = await store.read(partial(_chunk, subject=subject, after=number, last=last))
        if not rows:
            break
        lines = []
        for row in rows:
            seal = row.position if row.seal is None else -row.seal
            if seal != sealed:
                sealed = seal
                lines.append(_seal_line(row))
            lines.append(_entry_line(row, bare))
        number = rows[-1].number
        await response.write(b"".join(encode(line) + b"\n" for line in lines))
    await response.write_eof()
    return response


def _chunk(connection: Connection, subject: str, after: int, last: int) -> list[Any]:
    came = RECEIVED_SEAL.c
    seal = [
        sa.func.coalesce(came[name], SEAL.c[name], type_=SEAL.c[name].type).label(name)
        for name in ("root", "count", "alg", "signature")
    ]
    wanted = (
        sa.select(ENTRY, STREAM.c.origin, STREAM.c.generation, *seal)
        .join(STREAM, STREAM.c.id == ENTRY.c.stream)
        .outerjoin(RECEIVED_SEAL, came.id == ENTRY.c.seal)
        .outerjoin(SEAL, sa.and_(SEAL.c.position == ENTRY.c.position, ENTRY.c.seal.is_(None)))
        .where(STREAM.c.subject == subject, ENTRY.c.number > after, ENTRY.c.number <= last)
        .order_by(ENTRY.c.number)
        .limit(EXPORT_PAGE)
    )
    return list(connection.execute(wanted))


def _seal_line(row: Any) -> dict[str, Any]:
    came = {} if row.seal is None else {"origin": row.origin}
    return {
        "seal": row.position,
        **came,
        "alg": row.alg,
        "root": row.root.hex(),
        # Row.count is the tuple's own method.
        "count": row._mapping["count"],
        "signature": row.signature.hex(),
    }


def _entry_line(row: Any, bare: bool) -> dict[str, Any]:
    shown = row.private is not None and not bare
    return {
        "entry": row.hash.hex(),
        "stream": f"{row.origin}.{row.generation}",
        "seq": row.seq,
        "position": row.position,
        "leaf": row.leaf,
        "path": row.path.hex(),
        "data": row.data.decode(),
        "private": row.private.decode() if shown else None,
        "salt": row.salt.hex() if shown else None,
    }


async def erase(call: Call) -> Receipt:
    """The private part of an entry goes, everywhere; the entry, its hash and who asked for it stay."""
    body: Erase = call.body
    hashed = bytes.fromhex(body.entry)

    def find(connection: Connection) -> tuple[str, int]:
        chain = sa.select(STREAM.c.subject, STREAM.c.origin, STREAM.c.generation, ENTRY.c.seq)
        chain = chain.join(STREAM, STREAM.c.id == ENTRY.c.stream).where(ENTRY.c.hash == hashed)
        loose = sa.select(BRANCH.c.subject, BRANCH.c.origin, BRANCH.c.generation, BRANCH.c.seq)
        row = connection.execute(chain).first() or connection.execute(loose.where(BRANCH.c.hash == hashed)).first()
        if row is None:
            raise Missing("entry.missing", "No entry of this hash is held here.")
        return str(Stream(row.subject, row.origin, row.generation)), row.seq

    stream, seq = await call.node.store.read(find)
    return await append(call, EraseEntry(entry=body.entry, reason=body.reason, stream=stream, seq=seq))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/audit/erasures",
        right="entry.erase",
        summary="Erase the names, numbers and free text of one entry wherever it went",
        request=Erase,
        response=Receipt,
        handler=erase,
        status=201,
        keyed=True,
        errors=(404, 409),
        tag="audit",
    ),
    Route(
        method="GET",
        path="/audit",
        right="audit.read",
        summary="Administration and sign-ins, newest first",
        query=AuditQuery,
        response=AuditPage,
        handler=audit,
        tag="audit",
    ),
    Route(
        method="GET",
        path="/audit/export",
        right="incident.export",
        summary="All entries of a subject with hashes and seals, as JSON lines",
        query=ExportQuery,
        handler=export,
        produces="application/x-ndjson",
        errors=(404,),
        tag="audit",
    ),
)
