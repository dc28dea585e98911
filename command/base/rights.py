"""Who may do what: roles, relations, and the assembled table of rights.

Pure. Invariant: fail closed: a right that no row grants is refused, a route or topic whose right is unknown stops the
start, and a decider that never asked `Context.allow` is refused by the log.

A grant is a *relation*: how near the thing must stand to the person. Each relation includes the nearer ones:
SELF (it is me, or mine) < ASSIGNED (an order or membership binds me, my unit or my organisation) < LINE (it belongs to my
organisation or one below it) < ANY (everything on this node).
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from command.base.errors import Denied


class Role(StrEnum):
    """Roles by name. The three administrators are separate on purpose: none can both grant, act and erase the trace."""

    DUTY_OFFICER = "duty_officer"
    LEADER = "leader"
    RESOURCE_OFFICER = "resource_officer"
    FIELD_MEMBER = "field_member"
    MEETING_CHAIR = "meeting_chair"
    NOTICE_REVIEWER = "notice_reviewer"
    VIEWER = "viewer"
    SERVICE = "service"
    SYSTEM_ADMIN = "system_admin"
    SECURITY_ADMIN = "security_admin"
    AUDIT_ADMIN = "audit_admin"


class Relation(IntEnum):
    NONE = 0
    SELF = 1
    ASSIGNED = 2
    LINE = 3
    ANY = 4


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The signed-in account as rights see it. `posts` are the posts the person holds on the roster right now."""

    account: str
    name: str = ""
    roles: tuple[Role, ...] = ()
    organisation: str = ""
    person: str | None = None
    unit: str | None = None
    posts: tuple[str, ...] = ()
    session: str = ""
    language: str = "zh"


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Where a thing stands: the organisation it belongs to, those bound to it (ids of organisations, units, persons), and
    whose own it is (an account or person id)."""

    organisation: str | None = None
    parties: tuple[str, ...] = ()
    owner: str | None = None


NODE = Scope()
"""The node as a whole: only an ANY grant reaches it."""


class Tree(Protocol):
    """The organisations' tree: `line(id)` is the id and all its ancestors."""

    def line(self, organisation: str) -> tuple[str, ...]: ...


Grants = Mapping[Role, Relation]
RIGHTS: dict[str, Grants] = {}

_D, _L, _R, _F = Role.DUTY_OFFICER, Role.LEADER, Role.RESOURCE_OFFICER, Role.FIELD_MEMBER
_C, _N, _V, _S = Role.MEETING_CHAIR, Role.NOTICE_REVIEWER, Role.VIEWER, Role.SERVICE
_SYS, _SEC, _AUD = Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDIT_ADMIN
_STAFF = (_D, _L, _R, _F, _C, _N, _V)
EVERYBODY = tuple(Role)


def grant(right: str, roles: Iterable[Role], relation: Relation) -> None:
    """Add grants to the table; the wider relation wins where a role is named twice."""
    row = dict(RIGHTS.get(right, {}))
    for role in roles:
        row[role] = max(row.get(role, Relation.NONE), relation)
    RIGHTS[right] = row


_ANY, _LINE, _ASSIGNED, _SELF = Relation.ANY, Relation.LINE, Relation.ASSIGNED, Relation.SELF

GRANTS: tuple[tuple[str, tuple[Role, ...], Relation], ...] = (
    # Oneself
    ("self", EVERYBODY, _SELF),
    ("session.read", EVERYBODY, _SELF),
    ("session.read", (_SEC,), _ANY),
    ("session.revoke", EVERYBODY, _SELF),
    ("session.revoke", (_SEC,), _ANY),
    # The registry: who and what there is
    ("registry.read", (*_STAFF, _SYS, _SEC, _AUD, _S), _ANY),
    ("registry.edit", (_SYS,), _ANY),
    ("person.read", (_D, _L, _R, _C, _N), _LINE),
    ("person.read", (_SYS, _SEC), _ANY),
    ("person.edit", (_SYS,), _ANY),
    ("unit.edit", (_R, _D), _LINE),
    ("unit.edit", (_SYS,), _ANY),
    ("group.edit", (_D, _L, _R), _LINE),
    ("group.edit", (_SYS,), _ANY),
    ("roster.edit", (_D, _L), _LINE),
    ("plan.edit", (_D, _L), _LINE),
    ("report_rule.edit", (_D, _L), _LINE),
    ("template.edit", (_D, _N), _LINE),
    # Incidents
    ("incident.read", (_D, _L, _R, _N, _C, _V, _S), _LINE),
    ("incident.read", (_F,), _ASSIGNED),
    ("incident.report", (_D, _L, _F, _S), _LINE),
    ("incident.edit", (_D, _L), _LINE),
    ("incident.level", (_D, _L), _LINE),
    ("incident.close", (_L,), _LINE),
    ("incident.transfer", (_D, _L), _LINE),
    ("incident.seize", (_L,), _LINE),
    ("incident.note", (_D, _L, _R, _S), _LINE),
    ("incident.note", (_F, _C, _N), _ASSIGNED),
    ("incident.export", (_D, _L), _LINE),
    ("incident.export", (_AUD,), _ANY),
    ("alarm.acknowledge", (_D, _L), _LINE),
    # Orders and plans
    ("order.read", (_D, _L, _R, _V, _S), _LINE),
    ("order.read", (_F, _C, _N), _ASSIGNED),
    ("order.issue", (_D, _L), _LINE),
    ("order.edit", (_D, _L), _LINE),
    ("order.progress", (_D, _L, _R, _F, _C, _N, _S), _ASSIGNED),
    ("plan.activate", (_D, _L), _LINE),
    ("plan.approve", (_L,), _LINE),
    # Notices
    ("notice.read", (_D, _L, _N, _C), _LINE),
    ("notice.draft", (_D, _L, _C), _LINE),
    ("notice.review", (_N, _L), _LINE),
    ("notice.settle", (_D, _L), _LINE),
    ("phone.read", (_SYS, _D, _L, _N), _ANY),
    ("phone.answer", (_SYS, _D, _L, _N), _ANY),
    # Conference
    ("room.read", (_D, _L, _R, _C, _V, _N), _LINE),
    ("room.read", (_F,), _ASSIGNED),
    ("room.open", (_D, _L, _C), _LINE),
    ("room.join", (_D, _L, _R, _C, _V, _N, _S), _LINE),
    ("room.join", (_F,), _ASSIGNED),
    ("room.chair", (_D, _L, _C), _LINE),
    # Fences and locations
    ("fence.read", _STAFF, _ANY),
    ("fence.edit", (_D, _L, _R), _LINE),
    ("location.report", (_F, _D, _R), _ASSIGNED),
    ("location.report", (_S,), _ANY),
    ("location.read", (_D, _L, _R, _V, _S), _LINE),
    ("location.read", (_F,), _ASSIGNED),
    # Administration: three keys
    ("account.read", (_SEC, _AUD), _ANY),
    ("account.edit", (_SEC,), _ANY),
    ("audit.read", (_AUD,), _ANY),
    ("audit.verify", (_AUD, _SYS), _ANY),
    ("entry.erase", (_AUD,), _ANY),
    ("node.read", (_SYS, _AUD), _ANY),
    ("node.settle", (_D, _L), _ANY),
    ("node.edit", (_SYS,), _ANY),
    ("import.persons", (_SYS,), _ANY),
    # Machines that watch: metrics are also open to loopback
    ("metrics.read", (_SYS, _S), _ANY),
)

for _right, _roles, _relation in GRANTS:
    grant(_right, _roles, _relation)


def widest(actor: Actor, right: str) -> Relation:
    """The widest relation any of the actor's roles has on `right`; NONE when there is none."""
    row = RIGHTS.get(right, {})
    return max((row.get(role, Relation.NONE) for role in actor.roles), default=Relation.NONE)


def relation(actor: Actor, scope: Scope, tree: Tree) -> Relation:
    """The nearest relation in which the thing stands to the actor; ANY when it is nothing to them."""
    if scope.owner is not None and scope.owner in (actor.account, actor.person):
        return Relation.SELF
    mine = {actor.person, actor.unit, actor.organisation, actor.account} - {None, ""}
    if mine & set(scope.parties):
        return Relation.ASSIGNED
    if scope.organisation and actor.organisation and actor.organisation in tree.line(scope.organisation):
        return Relation.LINE
    return Relation.ANY


def allowed(actor: Actor, right: str, scope: Scope, tree: Tree) -> bool:
    """Whether `actor` has `right` on a thing that stands at `scope`."""
    wide = widest(actor, right)
    return wide is Relation.ANY or (wide > Relation.NONE and relation(actor, scope, tree) <= wide)


def require(actor: Actor, right: str, scope: Scope, tree: Tree) -> None:
    """Raises `Denied` naming the right, when `allowed` says no."""
    if not allowed(actor, right, scope, tree):
        raise Denied("rights.denied", f"Your roles do not include '{right}' here.", right=right)
