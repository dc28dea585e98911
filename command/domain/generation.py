"""A generation: the life of a node's database between restores.

Pure. Its first entry, in `registry`, names the node's public key and, after a restore, for every stream of the generation
before it the length and head hash from which this one starts (`after`). Invariant: an id is random, never a counter, so
one backup restored twice gives two generations that never claim to be one.
"""

from typing import Any

from command.base.entry import Draft
from command.base.projection import Context, Decision, Rows
from command.base.rights import NODE
from command.base.schema import Struct
from command.base.timer import TIMER
from command.domain.heads import chunks
from command.domain.registry import SUBJECT


class OpenGeneration(Struct, frozen=True, kw_only=True):
    """`after` is {stream: [length, head hash]}, empty for a node's first generation. Sent by the node itself."""

    id: str
    public_key: str
    previous: str | None = None
    after: dict[str, tuple[int, str]] = {}
    restored: bool = False


def decide_open(rows: Rows, request: OpenGeneration, context: Context) -> Decision:
    context.allow("node.settle", NODE)
    first, *more = chunks(request.after)
    body: dict[str, Any] = {
        "generation": request.id,
        "public_key": request.public_key,
        "previous": request.previous,
        "after": first,
        "restored": request.restored,
    }
    drafts = [Draft(subject=SUBJECT, kind="generation.opened", body=body)]
    # A node of ten thousand incidents has more heads than one entry may hold.
    drafts += [Draft(subject=SUBJECT, kind="generation.continued", body={"after": piece}) for piece in more]
    if request.restored:
        overdue = [timer.id for timer in rows.where(TIMER, held=False) if timer.due_at <= context.now]
        drafts.append(Draft(subject=SUBJECT, kind="timers.held", body={"timers": overdue}))
    return Decision(drafts=drafts, id=request.id)


DECIDERS = {OpenGeneration: decide_open}
