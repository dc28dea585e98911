"""Edits of the registry: organisations, units, persons, groups, templates.

Pure. A save is the whole row as it shall be; it names the version that it replaces, and needs none when it makes a row.
Nothing is deleted, only retired: entries name these rows for ever. Invariant: names and numbers go into private parts.
"""

import string
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict, Rejected
from command.base.phone import e164
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import NODE, Scope
from command.base.schema import Id, Name, Phone, Place, ShortText, SomeText, Struct, Urgency, Version, fresh, need
from command.domain.account import Language
from command.domain.registry import (
    GROUP,
    ORGANISATION,
    PERSON,
    SUBJECT,
    TEMPLATE,
    UNIT,
    Group,
    Organisation,
    Person,
    Template,
    Tier,
    Unit,
    UnitKind,
    UnitStatus,
    scope,
)

DEPTH_MAX = 8
"""Organisations from the root down."""
PHONES_MAX = 5
MEMBERS_MAX = 500
GROUP_PERSONS_MAX = 5_000
PLACEHOLDERS_MAX = 32

R = TypeVar("R", bound=Row)
Persons = Annotated[list[Id], Meta(max_length=GROUP_PERSONS_MAX)]


class SaveOrganisation(Struct, frozen=True, kw_only=True):
    """`line` is computed; `parent` None makes a root."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    name_en: ShortText = ""
    tier: Tier
    parent: Id | None = None
    region: ShortText = ""
    place: Place | None = None
    retired: bool = False


class SaveUnit(Struct, frozen=True, kw_only=True):
    """Everything but the status, which has a command of its own."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    kind: UnitKind
    organisation: Id
    members: Annotated[list[Id], Meta(max_length=MEMBERS_MAX)] = []
    home: Place | None = None
    capability: ShortText = ""
    retired: bool = False


class SetUnitStatus(Struct, frozen=True, kw_only=True):
    """`busy` is refused: it follows from accepted orders."""

    id: Id
    version: Version
    status: UnitStatus


class SavePerson(Struct, frozen=True, kw_only=True):
    """Numbers are kept in E.164, each once."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    organisation: Id
    phones: Annotated[list[Phone], Meta(max_length=PHONES_MAX)] = []
    title: ShortText = ""
    language: Language = "zh"
    off_duty: bool = False
    retired: bool = False


class SetOffDuty(Struct, frozen=True, kw_only=True):
    """Leave or illness: people off duty are not called and not put on the roster."""

    id: Id
    version: Version
    off_duty: bool


class SaveGroup(Struct, frozen=True, kw_only=True):
    id: Id | None = None
    version: Version | None = None
    name: Name
    organisation: Id
    persons: Persons = []
    retired: bool = False


class SaveTemplate(Struct, frozen=True, kw_only=True):
    """Both languages, with the same placeholders such as `{incident}`; `{{` and `}}` are literal braces."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    organisation: Id
    kind: ShortText = ""
    text_zh: SomeText
    text_en: SomeText
    urgency: Urgency = Urgency.NORMAL
    retired: bool = False


def _base(
    rows: Rows, table: Table[R], request: Any, context: Context, right: str, where: Scope
) -> tuple[R | None, str, int]:
    """The row that is edited (None for a new one), its id and its next version; asks the right at both ends of a move.

    The right comes first: a stale edit is answered with the row.
    """
    context.allow(right, where)
    row = rows.get(table, request.id) if request.id is not None else None
    if row is None:
        if request.version is not None:
            need(rows, table, request.id or "")
        return None, request.id or context.new_id(), 1
    context.allow(right, NODE if isinstance(row, Organisation) else scope(row))  # type: ignore[arg-type]
    fresh(row, request.version or 0, request)
    return row, row.id, row.version + 1


def _active_organisation(rows: Rows, key: str, before: str | None) -> None:
    if need(rows, ORGANISATION, key).retired and key != before:
        raise Conflict("organisation.retired", "This organisation is no longer in use.", organisation=key)


def _active_persons(rows: Rows, keys: list[str], before: list[str]) -> None:
    if len(set(keys)) != len(keys):
        raise Rejected("person.twice", "A person is named twice.")
    for key in set(keys) - set(before):
        if need(rows, PERSON, key).retired:
            raise Conflict("person.retired", "This person is no longer in the registry.", person=key)


def decide_organisation(rows: Rows, request: SaveOrganisation, context: Context) -> Decision:
    row, key, version = _base(rows, ORGANISATION, request, context, "registry.edit", NODE)
    line = [key]
    if request.parent is not None:
        parent = need(rows, ORGANISATION, request.parent)
        if parent.retired and not request.retired:
            raise Conflict("organisation.retired", "The organisation above is no longer in use.")
        if key in parent.line:
            raise Conflict("organisation.cycle", "An organisation can't stand below itself.")
        line = [*parent.line, key]
    if len(line) + (_depth(rows, key) if row is not None else 0) > DEPTH_MAX:
        raise Rejected("organisation.too_deep", f"The tree has {DEPTH_MAX} levels at most.")
    if request.retired and row is not None and not row.retired:
        _unused(rows, key)
    body = {
        "organisation": key,
        "version": version,
        "tier": request.tier,
        "parent": request.parent,
        "line": line,
        "region": request.region,
        "retired": request.retired,
    }
    private = {"name": request.name, "name_en": request.name_en, "place": request.place}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="organisation.saved", body=body, private=private)], id=key)


def _depth(rows: Rows, key: str) -> int:
    """Levels below an organisation."""
    return max((1 + _depth(rows, child.id) for child in rows.where(ORGANISATION, parent=key)), default=0)


def _unused(rows: Rows, key: str) -> None:
    busy = any(not child.retired for child in rows.where(ORGANISATION, parent=key))
    busy = busy or bool(rows.where(UNIT, organisation=key, retired=False))
    busy = busy or bool(rows.where(PERSON, organisation=key, retired=False))
    if busy:
        raise Conflict("organisation.in_use", "Retire or move its organisations, units and persons first.")


def decide_unit(rows: Rows, request: SaveUnit, context: Context) -> Decision:
    row, key, version = _base(rows, UNIT, request, context, "unit.edit", Scope(organisation=request.organisation))
    _active_organisation(rows, request.organisation, row.organisation if row else None)
    _active_persons(rows, request.members, row.members if row else [])
    if request.retired and row is not None and row.orders:
        raise Conflict("unit.busy", "The unit has open orders; finish or cancel them first.", orders=row.orders)
    body = {
        "unit": key,
        "version": version,
        "kind": request.kind,
        "organisation": request.organisation,
        "members": request.members,
        "retired": request.retired,
    }
    private = {"name": request.name, "capability": request.capability, "home": request.home}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="unit.saved", body=body, private=private)], id=key)


def decide_unit_status(rows: Rows, request: SetUnitStatus, context: Context) -> Decision:
    unit = need(rows, UNIT, request.id)
    context.allow("unit.edit", scope(unit))
    fresh(unit, request.version, request)
    if request.status is UnitStatus.BUSY:
        raise Rejected("unit.status", "A unit becomes busy by accepting an order, not by hand.")
    if request.status is UnitStatus.AVAILABLE and unit.status is UnitStatus.BUSY:
        raise Conflict("unit.busy", "The unit has open orders; finish or cancel them first.", orders=unit.orders)
    body = {"unit": unit.id, "version": unit.version + 1, "status": request.status}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="unit.status_set", body=body)], id=unit.id)


def decide_person(rows: Rows, request: SavePerson, context: Context) -> Decision:
    row, key, version = _base(rows, PERSON, request, context, "person.edit", Scope(organisation=request.organisation))
    _active_organisation(rows, request.organisation, row.organisation if row else None)
    return Decision(drafts=[person_draft(key, version, request)], id=key)


def person_draft(key: str, version: int, request: SavePerson) -> Draft:
    """The entry of a person; imports write through this too. Raises `Rejected` for a number that is none."""
    body = {
        "person": key,
        "version": version,
        "organisation": request.organisation,
        "language": request.language,
        "off_duty": request.off_duty,
        "retired": request.retired,
    }
    phones = list(dict.fromkeys(e164(phone) for phone in request.phones))
    private = {"name": request.name, "title": request.title, "phones": phones}
    return Draft(subject=SUBJECT, kind="person.saved", body=body, private=private)


def decide_off_duty(rows: Rows, request: SetOffDuty, context: Context) -> Decision:
    person = need(rows, PERSON, request.id)
    context.allow("roster.edit", scope(person))
    fresh(person, request.version, request)
    body = {"person": person.id, "version": person.version + 1, "off_duty": request.off_duty}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="person.off_duty_set", body=body)], id=person.id)


def decide_group(rows: Rows, request: SaveGroup, context: Context) -> Decision:
    row, key, version = _base(rows, GROUP, request, context, "group.edit", Scope(organisation=request.organisation))
    _active_organisation(rows, request.organisation, row.organisation if row else None)
    _active_persons(rows, request.persons, row.persons if row else [])
    return Decision(drafts=[group_draft(key, version, request)], id=key)


def group_draft(key: str, version: int, request: SaveGroup) -> Draft:
    body = {
        "group": key,
        "version": version,
        "organisation": request.organisation,
        "persons": request.persons,
        "retired": request.retired,
    }
    return Draft(subject=SUBJECT, kind="group.saved", body=body, private={"name": request.name})


def decide_template(rows: Rows, request: SaveTemplate, context: Context) -> Decision:
    where = Scope(organisation=request.organisation)
    row, key, version = _base(rows, TEMPLATE, request, context, "template.edit", where)
    _active_organisation(rows, request.organisation, row.organisation if row else None)
    if not request.text_zh.strip() or not request.text_en.strip():
        raise Rejected("template.empty", "A template needs both a Chinese and an English text.")
    chinese, english = placeholders(request.text_zh), placeholders(request.text_en)
    if chinese != english:
        raise Rejected(
            "template.differs", "Both languages must use the same placeholders.", names=sorted(chinese ^ english)
        )
    body = {
        "template": key,
        "version": version,
        "organisation": request.organisation,
        "kind": request.kind,
        "urgency": request.urgency,
        "retired": request.retired,
    }
    private = {"name": request.name, "text_zh": request.text_zh, "text_en": request.text_en}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="template.saved", body=body, private=private)], id=key)


def placeholders(text: str) -> frozenset[str]:
    """The names in `{name}`. Raises `Rejected` for loose braces, formats, conversions and anything but plain names."""
    found = set()
    try:
        for _, name, format_, conversion in string.Formatter().parse(text):
            if name is None:
                continue
            if format_ or conversion or not (name.isascii() and name.isidentifier()):
                raise Rejected(
                    "template.placeholder", "A placeholder is {name}: letters, digits and _ only.", name=name[:50]
                )
            found.add(name)
    except ValueError:
        raise Rejected("template.braces", "Write a literal brace twice: {{ or }}.") from None
    if len(found) > PLACEHOLDERS_MAX:
        raise Rejected("template.placeholder", f"A template has {PLACEHOLDERS_MAX} placeholders at most.")
    return frozenset(found)


def _values(written: Written, key: str, row: type[Row]) -> dict[str, Any]:
    """The fields of a saved row; what was erased or withheld leaves the id as its name."""
    body = dict(written.entry.body)
    found = {"id": body.pop(key), **body, **written.secrets}
    found.setdefault("name", f"{key}/{found['id']}"[:100])
    for name in ("text_zh", "text_en"):
        if name in row.__struct_fields__:
            found.setdefault(name, "")
    return {name: value for name, value in found.items() if name in row.__struct_fields__}


def _organisation_saved(rows: Editing, written: Written) -> None:
    row = msgspec.convert(_values(written, "organisation", Organisation), Organisation)
    before = rows.get(ORGANISATION, row.id)
    rows.put(ORGANISATION, row)
    if before is not None and before.line != row.line:
        _move_below(rows, row)


def _move_below(rows: Editing, above: Organisation) -> None:
    for child in rows.where(ORGANISATION, parent=above.id):
        moved = replace(child, line=[*above.line, child.id])
        rows.put(ORGANISATION, moved)
        _move_below(rows, moved)


def _unit_saved(rows: Editing, written: Written) -> None:
    values = _values(written, "unit", Unit)
    before = rows.get(UNIT, values["id"])
    row = msgspec.convert(values, Unit)
    rows.put(UNIT, row if before is None else replace(row, status=before.status, orders=before.orders))


def _unit_status_set(rows: Editing, written: Written) -> None:
    body = written.entry.body
    unit = rows.get(UNIT, body["unit"])
    if unit is not None:
        status = UnitStatus(body["status"])
        if status is UnitStatus.AVAILABLE and unit.orders:
            status = UnitStatus.BUSY
        rows.put(UNIT, replace(unit, version=body["version"], status=status))


def _person_saved(rows: Editing, written: Written) -> None:
    rows.put(PERSON, msgspec.convert(_values(written, "person", Person), Person))


def _off_duty_set(rows: Editing, written: Written) -> None:
    body = written.entry.body
    person = rows.get(PERSON, body["person"])
    if person is not None:
        rows.put(PERSON, replace(person, version=body["version"], off_duty=body["off_duty"]))


def _group_saved(rows: Editing, written: Written) -> None:
    rows.put(GROUP, msgspec.convert(_values(written, "group", Group), Group))


def _template_saved(rows: Editing, written: Written) -> None:
    rows.put(TEMPLATE, msgspec.convert(_values(written, "template", Template), Template))


TABLES: tuple[Table[Any], ...] = ()
PROJECTORS = {
    "organisation.saved": _organisation_saved,
    "unit.saved": _unit_saved,
    "unit.status_set": _unit_status_set,
    "person.saved": _person_saved,
    "person.off_duty_set": _off_duty_set,
    "group.saved": _group_saved,
    "template.saved": _template_saved,
}
DECIDERS = {
    SaveOrganisation: decide_organisation,
    SaveUnit: decide_unit,
    SetUnitStatus: decide_unit_status,
    SavePerson: decide_person,
    SetOffDuty: decide_off_duty,
    SaveGroup: decide_group,
    SaveTemplate: decide_template,
}
