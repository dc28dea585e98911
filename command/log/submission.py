"""What goes into the log and what comes back: a request on its way, its receipt, and the commit that is published.

Pure. Invariant: a receipt names what is durable; it is made in the transaction and handed out after it.
"""

import asyncio
import hashlib
from typing import Any, NamedTuple

import msgspec

from command.base.entry import By, Written
from command.base.projection import Change
from command.base.rights import Actor


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller gets once their request is durable.

    `position` is the commit's; `id` the thing made or changed; `entries` the hex hashes of what was written; `replayed`
    says that this Idempotency-Key had been used for the same request before and nothing was written now.
    """

    position: int
    id: str | None = None
    entries: list[str] = []
    result: dict[str, Any] = {}
    replayed: bool = False


class Bared(NamedTuple):
    """An entry that lost its private part, or got it, as it is now, and where it stands: the position of its commit, on a branch
    or not."""

    written: Written
    position: int
    loose: bool


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What is published after a commit: its position, the changed rows, and the entries in order; `loose` are the hashes of those
    that went to a branch, `bared` the earlier entries whose private part was erased, or has come only now."""

    position: int
    changes: list[Change]
    written: list[Written]
    loose: frozenset[bytes] = frozenset()
    bared: tuple[Bared, ...] = ()


class Submission(NamedTuple):
    """A request on its way into the log."""

    request: Any
    by: By
    actor: Actor | None
    key: str | None
    seen: int | None
    future: "asyncio.Future[Receipt] | None"


def digest(request: Any) -> bytes:
    """What a repeated Idempotency-Key is compared by. Fields that a request type names in `undigested` (hashes of secrets
    that the edge makes anew for each try) take no part."""
    hidden: tuple[str, ...] = getattr(type(request), "undigested", ())
    compared = msgspec.structs.asdict(request) if hidden else request
    for name in hidden:
        compared.pop(name)
    return hashlib.sha256(
        type(request).__name__.encode() + b"\x00" + msgspec.json.encode(compared, order="deterministic")
    ).digest()
