"""The registry: organisations in their tree, units, persons, groups, posts on the roster, templates, accounts.

Pure. It knows who there is, never who is signed in (`auth`) and never what happens (`incident`). Invariant: names and
numbers of persons stand in the private part of entries only.
"""

from enum import StrEnum
from typing import Any

from command.base.projection import Row, Rows, Table
from command.base.rights import Role, Scope
from command.base.schema import Id, Instant, Name, Phone, Place, ShortText, Text, Urgency

SUBJECT = "registry"


class Tier(StrEnum):
    """The level of an organisation in the tree."""

    PROVINCE = "province"
    CITY = "city"
    COUNTY = "county"
    DEPARTMENT = "department"


class Organisation(Row, frozen=True, kw_only=True):
    """A government or department. `line` is itself and its ancestors, root first; `region` its code (GB/T 2260)."""

    name: Name
    name_en: ShortText = ""
    tier: Tier
    parent: Id | None = None
    line: list[Id] = []
    region: ShortText = ""
    place: Place | None = None
    retired: bool = False


class UnitKind(StrEnum):
    FIRE = "fire"
    MEDICAL = "medical"
    POLICE = "police"
    RESCUE = "rescue"
    ENGINEERING = "engineering"
    VEHICLE = "vehicle"
    OTHER = "other"


class UnitStatus(StrEnum):
    """`busy` follows from accepted orders and is never set by hand; a second order does not reset it."""

    AVAILABLE = "available"
    BUSY = "busy"
    OFF_DUTY = "off_duty"
    OUT_OF_SERVICE = "out_of_service"


class Unit(Row, frozen=True, kw_only=True):
    """Something that can be sent. `orders` are the ids of its open orders; `members` person ids."""

    name: Name
    kind: UnitKind
    organisation: Id
    status: UnitStatus = UnitStatus.AVAILABLE
    members: list[Id] = []
    orders: list[Id] = []
    home: Place | None = None
    capability: ShortText = ""
    retired: bool = False


class Person(Row, frozen=True, kw_only=True):
    """Somebody who can be called. Numbers in E.164; `language` chooses the template."""

    name: Name
    organisation: Id
    phones: list[Phone] = []
    title: ShortText = ""
    language: str = "zh"
    off_duty: bool = False
    retired: bool = False


class Group(Row, frozen=True, kw_only=True):
    name: Name
    organisation: Id
    persons: list[Id] = []
    retired: bool = False


class Shift(Row, frozen=True, kw_only=True):
    """One person in one post of one organisation, from `starts_at` until before `ends_at` (microseconds UTC)."""

    organisation: Id
    post: Name
    person: Id
    starts_at: Instant
    ends_at: Instant
    leader: bool = False


class Template(Row, frozen=True, kw_only=True):
    """A message text in both languages with named placeholders such as `{incident}`."""

    name: Name
    organisation: Id
    kind: ShortText = ""
    text_zh: Text
    text_en: Text
    urgency: Urgency = Urgency.NORMAL
    retired: bool = False


class Account(Row, frozen=True, kw_only=True):
    """An account without its secrets. `locked` is set by hand; lock-out after failures lives with the credentials."""

    name: Name
    roles: list[Role]
    organisation: Id
    person: Id | None = None
    unit: Id | None = None
    language: str = "zh"
    locked: bool = False
    totp: bool = False
    must_change_password: bool = False


def _registry(row: Row) -> tuple[str, ...]:
    return ("picture", "admin")


ORGANISATION = Table(name="organisation", row=Organisation, index=("parent",), topics=_registry)
UNIT = Table(name="unit", row=Unit, index=("organisation", "retired"), topics=_registry)
PERSON = Table(name="person", row=Person, index=("organisation", "retired"), topics=_registry)
GROUP = Table(name="group", row=Group, index=("organisation",), topics=_registry)
SHIFT = Table(name="shift", row=Shift, index=("organisation", "person", "ends_at"), topics=_registry)
TEMPLATE = Table(name="template", row=Template, index=("organisation",), topics=_registry)
ACCOUNT = Table(name="account", row=Account, index=("name", "person", "unit"), topics=_registry)

TABLES: tuple[Table[Any], ...] = (ORGANISATION, UNIT, PERSON, GROUP, SHIFT, TEMPLATE, ACCOUNT)


class OrganisationTree:
    """`rights.Tree` over the organisation rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def line(self, organisation: str) -> tuple[str, ...]:
        row = self._rows.get(ORGANISATION, organisation)
        return (organisation,) if row is None else tuple(row.line)


def on_duty(rows: Rows, organisation: str, now: int, *, leader: bool = False) -> list[Shift]:
    """Shifts of `organisation` that cover `now`; only leaders' when asked. Never people who are off duty."""
    shifts = rows.where(SHIFT, organisation=organisation)
    return [shift for shift in shifts if shift.starts_at <= now < shift.ends_at and (shift.leader or not leader)]


def scope(row: Unit | Person | Group | Shift | Template | Account) -> Scope:
    """Where a row of the registry stands for rights."""
    return Scope(organisation=row.organisation, parties=(row.id,))
