"""An erasure: the private part and the salt of one entry are deleted wherever the entry went, and who ordered it is kept.

Pure. The entry itself stays, with the hash of what was deleted, so no chain and no seal is broken: that, this entry and the
absence of the part are the proof that it was erased. Invariant: only the node that wrote an entry, or one above it in the
tree, can have it erased; that is judged wherever the erasure arrives, and what is once erased stays so.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from command.base.entry import Draft, Stream, Written
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE as THIS
from command.base.schema import Instant, SomeText, Struct
from command.domain.heads import At, Hex
from command.domain.nodes import NODE, above

ERASED = "entry.erased"


class Erasure(Row, frozen=True, kw_only=True):
    """`id` is the hash of the `entry.erased` entry, which stands at `number` of `within`; `entry` the hash of what it erases, at
    `seq` of `stream`; `by` the node that says so, `counts` whether it may."""

    within: str
    number: int
    entry: str
    stream: str
    seq: int
    by: str
    account: str
    at: Instant
    counts: bool = False


class ErasedFile(Row, frozen=True, kw_only=True):
    """`id` is the SHA-256 of an attachment that is kept and fetched no more: every entry held that names it was erased."""

    entry: str


ERASURE = Table(name="erasure", row=Erasure, index=("entry", "counts"))
ERASED_FILE = Table(name="erased_file", row=ErasedFile)


class EraseEntry(Struct, frozen=True, kw_only=True):
    """The edge fills in where the entry stands."""

    undigested = ("stream", "seq")

    entry: Hex
    reason: SomeText
    stream: At
    seq: Annotated[int, Meta(ge=1, le=2**53)]


class _Body(msgspec.Struct, frozen=True):
    entry: Hex
    stream: At
    seq: int


def stream_at(name: str) -> Stream | None:
    """The stream of that name ("subject@origin.generation"); None when it is none."""
    subject, mark, rest = name.rpartition("@")
    origin, dot, generation = rest.partition(".")
    return Stream(subject, origin, generation) if mark and dot else None


def decide_erase(rows: Rows, request: EraseEntry, context: Context) -> Decision:
    context.allow("entry.erase", THIS)
    stream = stream_at(request.stream)
    if stream is None or not may(rows, context.node, stream.origin):
        hint = "Only the node that wrote it, or one above that, can have it erased."
        raise Conflict("erase.elsewhere", hint, node=None if stream is None else stream.origin)
    if rows.where(ERASURE, entry=request.entry, counts=True):
        return Decision(id=request.entry)
    body = {"entry": request.entry, "stream": request.stream, "seq": request.seq}
    draft = Draft(subject=stream.subject, kind=ERASED, body=body, private={"reason": request.reason})
    return Decision(drafts=[draft], id=request.entry)


def may(rows: Rows, by: str, origin: str) -> bool:
    """Whether what `by` says may erase what `origin` wrote, by the tree as it is known."""
    return by == origin or above(rows, by, origin)


def erasure_of(written: Written) -> Erasure | None:
    """What an entry asks for; None when it asks for nothing readable, or for an entry of another subject."""
    entry = written.entry
    try:
        body = msgspec.convert(entry.body, _Body)
    except msgspec.ValidationError:
        return None
    stream = stream_at(body.stream)
    if stream is None or stream.subject != entry.subject:
        return None
    return Erasure(
        id=written.hash.hex(),
        within=str(entry.stream),
        number=entry.seq,
        entry=body.entry,
        stream=body.stream,
        seq=body.seq,
        by=entry.origin,
        account=entry.by.account[:100],
        at=entry.at,
    )


def counts(rows: Rows, erasure: Erasure) -> bool:
    """Whether it counts by the tree as it is known. A revoked node's erasures count up to where it was cut."""
    stream = stream_at(erasure.stream)
    if stream is None or not may(rows, erasure.by, stream.origin):
        return False
    row = rows.get(NODE, erasure.by)
    if row is None or row.revoked is None:
        return True
    return any(length >= erasure.number for length, _ in row.revoked.get(erasure.within, ()))


TABLES = (ERASURE, ERASED_FILE)
DECIDERS = {EraseEntry: decide_erase}
