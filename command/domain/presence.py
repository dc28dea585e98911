"""Presence: how the nodes of the line are doing, and how far the parent holds what was written here (the second tick).

Pure: kept tables and the requests that write them; none of it is in the log. It says nothing about what anybody decided.
Invariant: a row names who told it; what a node says of itself by being linked outweighs what others tell of it; what nobody
knows is never shown as cut.
"""

from typing import Annotated

from msgspec import Meta

from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE
from command.base.schema import Id, Instant, Struct
from command.domain.nodes import NODE as NODES

STATES_MAX = 1_000
TICKS_MAX = 2_000
SKEW_ALARM_US = 2_000_000
"""Clocks further apart than this raise an alarm on the tree page."""

Count = Annotated[int, Meta(ge=0, le=2**53)]


class Presence(Row, frozen=True, kw_only=True):
    """One node (`id`). `via` is the neighbour that told, None for a neighbour of our own; `known` False: nobody can say now
    whether it is linked (just started, or whoever told is cut off itself), and `linked` is no statement; `contact_at` when
    it was heard last, by the clock of whoever heard it; `lag_entries` and `lag_s` what it lacks of what it may hold there;
    `lag_known` False: it has not been linked since the start, so nobody knows what it lacks;
    `skew_us` how far its clock is ahead; `waiting` streams with something to send to it; `rtt_us` the newest round trip."""

    linked: bool
    known: bool = True
    via: Id | None = None
    contact_at: Instant = 0
    lag_entries: Count = 0
    lag_s: float = 0.0
    lag_known: bool = True
    skew_us: int = 0
    rtt_us: int | None = None
    waiting: Count = 0
    refused: str = ""
    told_at: Instant = 0

    @property
    def skewed(self) -> bool:
        return abs(self.skew_us) > SKEW_ALARM_US


class Tick(Row, frozen=True, kw_only=True):
    """A stream (`id` its name) that the parent holds durably up to `length`."""

    subject: str
    length: Count
    at: Instant


PRESENCE = Table(name="presence", row=Presence, kept=True, topics=lambda row: ("tree",))
TICK = Table(
    name="tick",
    row=Tick,
    index=("subject",),
    kept=True,
    topics=lambda row: (row.subject,) if row.subject.startswith("incident/") else (),
)


class NotePresence(Struct, frozen=True, kw_only=True):
    """The states of some nodes as of now. Sent by the node itself."""

    states: Annotated[list[Presence], Meta(max_length=STATES_MAX)]


class NoteTicks(Struct, frozen=True, kw_only=True):
    """How far the parent holds some streams. Sent by the node itself."""

    ticks: Annotated[list[Tick], Meta(max_length=TICKS_MAX)]


def decide_presence(rows: Rows, request: NotePresence, context: Context) -> Decision:
    """Only of nodes of the tree: a neighbour can't fill the table with names."""
    context.allow("node.edit", NODE)
    return Decision(kept=[(PRESENCE, state) for state in request.states if rows.get(NODES, state.id) is not None])


def decide_ticks(rows: Rows, request: NoteTicks, context: Context) -> Decision:
    context.allow("node.edit", NODE)
    return Decision(kept=[(TICK, tick) for tick in request.ticks])


TABLES = (PRESENCE, TICK)
DECIDERS = {NotePresence: decide_presence, NoteTicks: decide_ticks}
