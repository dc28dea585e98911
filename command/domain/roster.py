"""The roster: who is in which post of an organisation, and when.

Pure. Invariant: nobody stands in two posts of one organisation at one instant, and nobody who is off duty is put on it.
(`Shift` and `on_duty` are the registry's; here are the edits.)
"""

from typing import Annotated, Any

from msgspec import Meta

from command.base.entry import Draft, Written
from command.base.errors import Conflict, Rejected
from command.base.projection import Context, Decision, Editing, Rows, Table
from command.base.rights import Scope
from command.base.schema import Id, Instant, Name, Struct, Value, Version, fresh, need
from command.domain.registry import ORGANISATION, PERSON, SHIFT, SUBJECT, Shift

SHIFTS_MAX = 500
"""In one request."""
SHIFT_US_MAX = 31 * 24 * 3600 * 1_000_000


class PlannedShift(Value, frozen=True, kw_only=True):
    """From `starts_at` until before `ends_at`, microseconds UTC."""

    post: Name
    person: Id
    starts_at: Instant
    ends_at: Instant
    leader: bool = False


class Replaced(Value, frozen=True, kw_only=True):
    id: Id
    version: Version


class AddShifts(Struct, frozen=True, kw_only=True):
    organisation: Id
    shifts: Annotated[list[PlannedShift], Meta(min_length=1, max_length=SHIFTS_MAX)]


class RemoveShift(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version


class ReplaceShifts(Struct, frozen=True, kw_only=True):
    """All shifts of an organisation that start in [since, until) give way to `shifts`, which start there too.

    `seen` names every shift that stood there when the screen was read; another set is a stale edit.
    """

    organisation: Id
    since: Instant
    until: Instant
    seen: Annotated[list[Replaced], Meta(max_length=SHIFTS_MAX)]
    shifts: Annotated[list[PlannedShift], Meta(max_length=SHIFTS_MAX)]


def decide_add(rows: Rows, request: AddShifts, context: Context) -> Decision:
    context.allow("roster.edit", Scope(organisation=request.organisation))
    need(rows, ORGANISATION, request.organisation)
    return _change(rows, request.organisation, [], request.shifts, context)


def decide_remove(rows: Rows, request: RemoveShift, context: Context) -> Decision:
    shift = need(rows, SHIFT, request.id)
    context.allow("roster.edit", Scope(organisation=shift.organisation))
    fresh(shift, request.version, request)
    return _change(rows, shift.organisation, [shift], [], context)


def decide_replace(rows: Rows, request: ReplaceShifts, context: Context) -> Decision:
    context.allow("roster.edit", Scope(organisation=request.organisation))
    need(rows, ORGANISATION, request.organisation)
    if any(not request.since <= shift.starts_at < request.until for shift in request.shifts):
        raise Rejected("roster.range", "A shift starts outside the range that is replaced.")
    standing = [
        shift
        for shift in rows.where(SHIFT, organisation=request.organisation)
        if request.since <= shift.starts_at < request.until
    ]
    if {(shift.id, shift.version) for shift in standing} != {(shift.id, shift.version) for shift in request.seen}:
        raise Conflict(
            "version.stale",
            "Somebody changed the roster since you read it; compare both versions and send again.",
            current=[_plain(shift) for shift in standing],
            yours=[_plain(shift) for shift in request.shifts],
        )
    return _change(rows, request.organisation, standing, request.shifts, context)


def _plain(shift: Shift | PlannedShift) -> dict[str, Any]:
    return {name: getattr(shift, name) for name in shift.__struct_fields__}


def _change(
    rows: Rows, organisation: str, gone: list[Shift], planned: list[PlannedShift], context: Context
) -> Decision:
    left = {shift.id for shift in gone}
    taken: dict[str, list[tuple[int, int]]] = {}
    for shift in planned:
        if not shift.starts_at < shift.ends_at <= shift.starts_at + SHIFT_US_MAX:
            raise Rejected("roster.times", "A shift ends after it starts, and lasts 31 days at most.")
        if shift.person not in taken:
            person = need(rows, PERSON, shift.person)
            if person.retired or person.off_duty:
                raise Conflict("roster.off_duty", "This person is off duty or no longer here.", person=person.id)
            others = rows.where(SHIFT, person=shift.person, organisation=organisation)
            taken[shift.person] = [(other.starts_at, other.ends_at) for other in others if other.id not in left]
        if any(shift.starts_at < end and start < shift.ends_at for start, end in taken[shift.person]):
            raise Conflict(
                "roster.double",
                "This person has another post of the organisation at that time.",
                person=shift.person,
                starts_at=shift.starts_at,
            )
        taken[shift.person].append((shift.starts_at, shift.ends_at))
    added = [{"id": context.new_id(), **_plain(shift)} for shift in planned]
    body = {"organisation": organisation, "added": added, "removed": sorted(left)}
    draft = Draft(subject=SUBJECT, kind="roster.changed", body=body)
    ids = [shift["id"] for shift in added]
    return Decision(drafts=[draft], id=ids[0] if ids else next(iter(left), organisation), result={"shifts": ids})


def _changed(rows: Editing, written: Written) -> None:
    body = written.entry.body
    for key in body["removed"]:
        rows.delete(SHIFT, key)
    for values in body["added"]:
        rows.add(SHIFT, Shift(organisation=body["organisation"], **values))


TABLES: tuple[Table[Any], ...] = ()
PROJECTORS = {"roster.changed": _changed}
DECIDERS = {AddShifts: decide_add, RemoveShift: decide_remove, ReplaceShifts: decide_replace}
