"""Administration over HTTP: lists and edits of the registry, the roster, templates and accounts.

Edge over `registry_edits`, `roster` and `account`; decides nothing. Invariant: a one-time password or token is in one
answer only: never in an entry, a receipt or the journal; a repeated request says that it was shown.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.errors import Missing
from command.base.projection import Row, Table
from command.base.rights import NODE
from command.base.schema import Id, Instant, ShortText, Struct
from command.domain.account import (
    CREDENTIAL,
    SESSION,
    CreateAccount,
    CreateToken,
    EditAccount,
    Label,
    Language,
    Roles,
    SetPassword,
    SetTotp,
    TokenDays,
    Unlock,
    Username,
)
from command.domain.deadline import REPORT_RULE
from command.domain.plan import PLAN
from command.domain.registry import (
    ACCOUNT,
    GROUP,
    ORGANISATION,
    PERSON,
    SHIFT,
    TEMPLATE,
    UNIT,
    Account,
    Group,
    Organisation,
    Person,
    Shift,
    Template,
    Unit,
    scope,
)
from command.domain.registry_edits import (
    SaveGroup,
    SaveOrganisation,
    SavePerson,
    SaveTemplate,
    SaveUnit,
    SetOffDuty,
    SetUnitStatus,
)
from command.domain.roster import AddShifts, RemoveShift, ReplaceShifts
from command.edge.api import Call, Route, append, command_route
from command.edge.auth import token_hash
from command.edge.live import Topic, Visible
from command.log.store import Store
from command.log.timeline import position_of
from command.log.writer import Receipt

PAGE_MAX = 500
SNAPSHOT_ROWS_MAX = 20_000
"""Rows of one table in a snapshot of the topic `admin`; larger registries are read page by page."""

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]


class RegistryQuery(Struct, frozen=True, kw_only=True):
    """`q`: every word must occur. `after`: the `next` of the page before. Retired rows only when asked for."""

    q: ShortText = ""
    organisation: Id | None = None
    retired: bool = False
    limit: Limit = 100
    after: Id | None = None


class ShiftQuery(Struct, frozen=True, kw_only=True):
    """Shifts that touch [since, until)."""

    organisation: Id | None = None
    person: Id | None = None
    since: Instant = 0
    until: Instant | None = None
    limit: Limit = 500
    after: Id | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """`next` is the `after` of the next page; None at the end."""

    next: str | None
    position: int


class OrganisationPage(Page, frozen=True, kw_only=True):
    items: list[Organisation]


class UnitPage(Page, frozen=True, kw_only=True):
    items: list[Unit]


class PersonPage(Page, frozen=True, kw_only=True):
    """Numbers only of those whose numbers the caller may read."""

    items: list[Person]


class GroupPage(Page, frozen=True, kw_only=True):
    items: list[Group]


class ShiftPage(Page, frozen=True, kw_only=True):
    items: list[Shift]


class TemplatePage(Page, frozen=True, kw_only=True):
    items: list[Template]


class AccountPage(Page, frozen=True, kw_only=True):
    items: list[Account]


class AccountFile(msgspec.Struct, frozen=True, kw_only=True):
    """One account, and how it stands with signing in: `locked_until` > 0 is a lock-out after wrong passwords."""

    account: Account
    failures: int
    locked_until: Instant
    sessions: int
    tokens: int


class NewAccount(Struct, frozen=True, kw_only=True):
    name: Username
    roles: Roles
    organisation: Id
    person: Id | None = None
    unit: Id | None = None
    language: Language = "zh"


class OfAccount(Struct, frozen=True, kw_only=True):
    id: Id


class NewToken(Struct, frozen=True, kw_only=True):
    id: Id
    label: Label
    days: TokenDays = 365


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A secret in its only answer. `secret` is None and `shown` true when this Idempotency-Key was answered before: the
    secret can't be had again, reset it instead."""

    receipt: Receipt
    secret: str | None
    shown: bool = False


def _issued(receipt: Receipt, secret: str) -> Issued:
    return Issued(receipt=receipt, secret=None if receipt.replayed else secret, shown=receipt.replayed)


def _text(row: Any) -> str:
    names = ("id", "name", "name_en", "title", "region", "kind", "capability", "text_zh", "text_en")
    words = [str(getattr(row, name, "")) for name in names]
    return " ".join([*words, *getattr(row, "phones", ())]).casefold()


async def _page(
    call: Call, table: Table[Any], kind: type[Page], keep: Callable[[Any], bool], *conditions: Any, **equal: object
) -> Page:
    """One page by id of the rows that the caller may see; what is searched is what is seen."""
    store, live, actor, query = call.node.store, call.node.live, call.actor, call.query
    shelf = store.shelf(table)

    def read(connection: Connection) -> Page:
        found: list[Row] = []
        last: str | None = query.after
        while True:
            after = () if last is None else (shelf.sql.c.id > last,)
            rows = shelf.select(connection, *conditions, *after, equal=equal, limit=PAGE_MAX)
            found += [row for row in live.view_all(actor, table.name, rows) if keep(row)]
            if len(found) > query.limit or len(rows) < PAGE_MAX:
                break
            last = rows[-1].id
        more = found[query.limit - 1].id if len(found) > query.limit else None
        items: Any = found[: query.limit]
        return kind(items=items, next=more, position=position_of(connection))  # type: ignore[call-arg]

    return await store.read(read)


def _listing(table: Table[Any], kind: type[Page]) -> Callable[[Call], Any]:
    async def handler(call: Call) -> Page:
        query: RegistryQuery = call.query
        words = query.q.casefold().split()

        def keep(row: Any) -> bool:
            if getattr(row, "retired", False) and not query.retired:
                return False
            if query.organisation is not None and getattr(row, "organisation", row.id) != query.organisation:
                return False
            text = _text(row) if words else ""
            return all(word in text for word in words)

        equal = {}
        if query.organisation is not None and "organisation" in table.index:
            equal["organisation"] = query.organisation
        return await _page(call, table, kind, keep, **equal)

    return handler


async def list_shifts(call: Call) -> Page:
    query: ShiftQuery = call.query
    equal = {name: value for name in ("organisation", "person") if (value := getattr(query, name)) is not None}
    ends_at = call.node.store.shelf(SHIFT).sql.c.ends_at

    def keep(row: Shift) -> bool:
        return query.until is None or row.starts_at < query.until

    return await _page(call, SHIFT, ShiftPage, keep, ends_at > query.since, **equal)


async def account_file(call: Call) -> AccountFile:
    key = call.path["id"]
    store, now = call.node.store, call.node.clock.now()

    def read(connection: Connection) -> AccountFile:
        account = store.shelf(ACCOUNT).get(connection, key)
        if account is None:
            raise Missing("account.missing", "There is no such account.")
        credential = store.shelf(CREDENTIAL).get(connection, key)
        rows = store.shelf(SESSION).select(connection, equal={"account": key})
        tokens = [row.token for row in rows if row.expires_at > now]
        locked_until = credential.locked_until if credential is not None else 0
        return AccountFile(
            account=account,
            failures=credential.failures if credential is not None else 0,
            locked_until=locked_until if locked_until > now else 0,
            sessions=tokens.count(False),
            tokens=tokens.count(True),
        )

    return await store.read(read)


async def create_account(call: Call) -> Issued:
    """With a one-time password that must be changed at the first sign-in."""
    wanted: NewAccount = call.body
    secret = call.node.auth.one_time_password()
    hashed = await call.node.auth.hash(secret)
    receipt = await append(call, CreateAccount(password_hash=hashed, **msgspec.structs.asdict(wanted)))
    return _issued(receipt, secret)


async def reset_password(call: Call) -> Issued:
    """A one-time password; every session of the account ends."""
    secret = call.node.auth.one_time_password()
    request = SetPassword(account=call.body.id, password_hash=await call.node.auth.hash(secret), must_change=True)
    return _issued(await append(call, request), secret)


async def reset_totp(call: Call) -> Receipt:
    return await append(call, SetTotp(account=call.body.id, sealed=None))


async def create_token(call: Call) -> Issued:
    wanted: NewToken = call.body
    secret = call.node.clock.token(32)
    request = CreateToken(account=wanted.id, hashed=token_hash(secret), label=wanted.label, days=wanted.days)
    return _issued(await append(call, request), secret)


def _list(path: str, table: Table[Any], kind: type[Page], right: str, summary: str) -> Route:
    return Route(
        method="GET",
        path=path,
        right=right,
        summary=summary,
        query=RegistryQuery,
        response=kind,
        handler=_listing(table, kind),
        tag="admin",
    )


_command = partial(command_route, tag="admin")


def _asked(method: str, path: str, summary: str, request: type, response: type, handler: Any) -> Route:
    return Route(
        keyed=True,
        method=method,
        path=path,
        right="account.edit",
        summary=summary,
        request=request,
        response=response,
        handler=handler,
        errors=(404, 409, 503),
        tag="admin",
    )


ROUTES: tuple[Route, ...] = (
    _list("/organisations", ORGANISATION, OrganisationPage, "registry.read", "Organisations"),
    _command("POST", "/organisations", "registry.edit", "Add an organisation", SaveOrganisation),
    _command("PUT", "/organisations/{id}", "registry.edit", "Edit, move or retire an organisation", SaveOrganisation),
    _list("/units", UNIT, UnitPage, "registry.read", "Units"),
    _command("POST", "/units", "unit.edit", "Add a unit", SaveUnit),
    _command("PUT", "/units/{id}", "unit.edit", "Edit or retire a unit", SaveUnit),
    _command("POST", "/units/{id}/status", "unit.edit", "Set a unit's status by hand", SetUnitStatus),
    _list("/persons", PERSON, PersonPage, "registry.read", "Persons, searched by name, title or number"),
    _command("POST", "/persons", "person.edit", "Add a person", SavePerson),
    _command("PUT", "/persons/{id}", "person.edit", "Edit or retire a person", SavePerson),
    _command("POST", "/persons/{id}/off-duty", "roster.edit", "Put a person off duty, or back", SetOffDuty),
    _list("/groups", GROUP, GroupPage, "registry.read", "Groups"),
    _command("POST", "/groups", "group.edit", "Add a group", SaveGroup),
    _command("PUT", "/groups/{id}", "group.edit", "Edit or retire a group", SaveGroup),
    Route(
        method="GET",
        path="/shifts",
        right="registry.read",
        summary="The roster",
        query=ShiftQuery,
        response=ShiftPage,
        handler=list_shifts,
        tag="admin",
    ),
    _command("POST", "/shifts", "roster.edit", "Add shifts", AddShifts),
    _command("PUT", "/shifts", "roster.edit", "Replace the shifts of a range of time", ReplaceShifts),
    _command("DELETE", "/shifts/{id}", "roster.edit", "Remove a shift", RemoveShift),
    _list("/templates", TEMPLATE, TemplatePage, "registry.read", "Message templates"),
    _command("POST", "/templates", "template.edit", "Add a template", SaveTemplate),
    _command("PUT", "/templates/{id}", "template.edit", "Edit or retire a template", SaveTemplate),
    _list("/accounts", ACCOUNT, AccountPage, "account.read", "Accounts"),
    Route(
        method="GET",
        path="/accounts/{id}",
        right="account.read",
        summary="One account and how it stands with signing in",
        response=AccountFile,
        handler=account_file,
        errors=(404,),
        tag="admin",
    ),
    _asked("POST", "/accounts", "Add an account with a one-time password", NewAccount, Issued, create_account),
    _command("PATCH", "/accounts/{id}", "account.edit", "Edit roles, bindings or the lock", EditAccount),
    _asked("POST", "/accounts/{id}/password", "Reset to a one-time password", OfAccount, Issued, reset_password),
    _asked("DELETE", "/accounts/{id}/totp", "Take the second factor away", OfAccount, Receipt, reset_totp),
    _command("POST", "/accounts/{account}/unlock", "account.edit", "End a lock-out", Unlock),
    _asked("POST", "/accounts/{id}/tokens", "Make an API token", NewToken, Issued, create_token),
)

_ADMINISTERED: tuple[Table[Any], ...] = (ORGANISATION, UNIT, PERSON, GROUP, SHIFT, TEMPLATE, ACCOUNT, PLAN, REPORT_RULE)


def _admin_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    """Newest first where there are too many: ids and ends of shifts grow with time."""
    found: dict[str, list[Row]] = {}
    for table in _ADMINISTERED:
        shelf = store.shelf(table)
        order = shelf.sql.c.ends_at.desc() if table is SHIFT else shelf.sql.c.id.desc()
        found[table.name] = shelf.select(connection, order=order, limit=SNAPSHOT_ROWS_MAX)
    return found


def _named(row: Account) -> Account:
    """Who an author is, for those who may not see accounts: the name and nothing that rights follow from."""
    return Account(
        id=row.id, version=row.version, name=row.name, roles=[], organisation=row.organisation, person=row.person
    )


def _brief(row: Person) -> Person:
    return msgspec.structs.replace(row, phones=[])


TOPICS: tuple[Topic, ...] = (Topic(name="admin", right="registry.read", rows=_admin_rows),)
VISIBLE: dict[str, Visible] = {
    ORGANISATION.name: Visible(right="registry.read", scope=lambda row: NODE),
    UNIT.name: Visible(right="registry.read", scope=lambda row: NODE),
    PERSON.name: Visible(right="person.read", scope=scope, brief=_brief),
    GROUP.name: Visible(right="registry.read", scope=lambda row: NODE),
    SHIFT.name: Visible(right="registry.read", scope=lambda row: NODE),
    TEMPLATE.name: Visible(right="registry.read", scope=lambda row: NODE),
    ACCOUNT.name: Visible(right="account.read", scope=lambda row: NODE, brief=_named),
}
