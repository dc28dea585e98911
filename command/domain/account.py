"""Accounts, their secrets and their sessions: what may be asked of them, and what is remembered.

Pure. Hashing and clocks are `auth`'s. Invariant: secrets (password hashes, TOTP secrets, session ids) stand in kept tables
only, never in an entry; every grant, sign-in and refusal is an entry.
"""

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict, Rejected, Unauthenticated
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import NODE, Role, Scope
from command.base.schema import Id, Instant, ShortText, Struct, Version, fresh, need
from command.domain.registry import ACCOUNT, ORGANISATION, PERSON, SUBJECT, UNIT, Account

AUDIT = "audit"
ROLES_MAX = len(Role)
SESSIONS_MAX = 20
"""Sessions of one account; the oldest ends when one more is opened."""
TOKENS_MAX = 20
"""API tokens of one service account."""
DAY_US = 24 * 3600 * 1_000_000

Username = Annotated[str, Meta(min_length=2, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*(?!\n)$")]
Roles = Annotated[list[Role], Meta(min_length=1, max_length=ROLES_MAX)]
Label = Annotated[str, Meta(min_length=1, max_length=100)]
TokenDays = Annotated[int, Meta(ge=1, le=1100)]
Language = Annotated[str, Meta(pattern=r"^(zh|en)(?!\n)$")]

SEPARATED = (Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDIT_ADMIN)
"""At most one of these, and none of the others beside it."""


class Credential(Row, frozen=True, kw_only=True):
    """`id` is the account's. `password` an argon2id hash; `totp` the sealed secret; `totp_pending` one not yet confirmed;
    `totp_step` the last time step used, so that no code works twice."""

    password: str
    totp: str | None = None
    totp_pending: str | None = None
    totp_step: int = 0
    failures: int = 0
    locked_until: Instant = 0


class SessionRow(Row, frozen=True, kw_only=True):
    """`id` is the SHA-256 of the token, so that a stolen database opens no session."""

    account: Id
    opened_at: Instant
    expires_at: Instant
    address: ShortText = ""
    agent: ShortText = ""
    token: bool = False
    label: ShortText = ""


CREDENTIAL = Table(name="credential", row=Credential, kept=True)
SESSION = Table(
    name="session", row=SessionRow, index=("account", "expires_at"), kept=True, topics=lambda row: ("sessions",)
)


class CreateAccount(Struct, frozen=True, kw_only=True):
    """`password_hash` is made by the edge; the plain password never comes here."""

    undigested: ClassVar[tuple[str, ...]] = ("password_hash",)
    name: Username
    roles: Roles
    organisation: Id
    person: Id | None = None
    unit: Id | None = None
    language: Language = "zh"
    password_hash: str
    must_change_password: bool = True
    id: Id | None = None


class EditAccount(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: Id
    version: Version
    roles: Roles | UnsetType = UNSET
    organisation: Id | UnsetType = UNSET
    person: Id | UnsetType | None = UNSET
    unit: Id | UnsetType | None = UNSET
    language: Language | UnsetType = UNSET
    locked: bool | UnsetType = UNSET


class SetPassword(Struct, frozen=True, kw_only=True):
    """By the account itself (`must_change` false) or as a reset by the security administrator."""

    undigested: ClassVar[tuple[str, ...]] = ("password_hash",)

    account: Id
    password_hash: str
    must_change: bool


class SetTotp(Struct, frozen=True, kw_only=True):
    """`sealed` None takes the second factor away (a reset); `pending` stores a secret that is not confirmed yet."""

    account: Id
    sealed: str | None
    pending: bool = False
    step: int = 0


class Unlock(Struct, frozen=True, kw_only=True):
    """End a lock-out after wrong passwords; `locked` by hand is an edit."""

    account: Id


class CreateToken(Struct, frozen=True, kw_only=True):
    """An API token of a service account: a session without a cookie. `hashed` is the SHA-256 of the token."""

    undigested: ClassVar[tuple[str, ...]] = ("hashed",)
    account: Id
    hashed: Id
    label: Label
    days: TokenDays


class ChangeLanguage(Struct, frozen=True, kw_only=True):
    """By the account itself."""

    account: Id
    language: Language


class OpenSession(Struct, frozen=True, kw_only=True):
    id: str
    account: Id
    expires_at: Instant
    address: ShortText = ""
    agent: ShortText = ""
    totp_step: int | None = None
    token: bool = False
    label: ShortText = ""


class RefuseSignIn(Struct, frozen=True, kw_only=True):
    """A wrong password or code. `limit` and `lock_us` are the site's lock-out rule; `account` None is a name that nobody
    has (the name isn't kept: people type passwords there)."""

    account: Id | None
    address: ShortText
    limit: int
    lock_us: int


class CloseSession(Struct, frozen=True, kw_only=True):
    """Sign-out, or a revocation by somebody else."""

    id: str


def decide_create(rows: Rows, request: CreateAccount, context: Context) -> Decision:
    context.allow("account.edit", NODE)
    if rows.where(ACCOUNT, name=request.name):
        raise Conflict("account.name_taken", f"There is an account named '{request.name}' already.")
    _check(rows, request.roles, request.organisation, request.person, request.unit)
    key = request.id or context.new_id()
    body = {
        "account": key,
        "roles": request.roles,
        "organisation": request.organisation,
        "person": request.person,
        "unit": request.unit,
        "language": request.language,
        "must_change_password": request.must_change_password,
    }
    draft = Draft(subject=SUBJECT, kind="account.created", body=body, private={"name": request.name})
    return Decision(drafts=[draft], id=key, kept=[(CREDENTIAL, Credential(id=key, password=request.password_hash))])


def decide_edit(rows: Rows, request: EditAccount, context: Context) -> Decision:
    context.allow("account.edit", NODE)
    account = need(rows, ACCOUNT, request.id)
    fresh(account, request.version, request)
    names = ("roles", "organisation", "person", "unit", "language", "locked")
    changes = {name: getattr(request, name) for name in names if getattr(request, name) is not UNSET}
    after = replace(account, **changes)
    _check(rows, after.roles, after.organisation, after.person, after.unit)
    if context.actor is not None and context.actor.account == account.id and {"roles", "locked"} & changes.keys():
        raise Conflict(
            "account.own_roles", "Nobody changes their own roles or locks themselves; ask another administrator."
        )
    draft = Draft(subject=SUBJECT, kind="account.edited", body={"account": account.id, **changes})
    dropped = _sessions(rows, account.id) if changes.get("locked") else []
    return Decision(drafts=[draft], id=account.id, dropped=dropped)


def _check(rows: Rows, roles: list[Role], organisation: str, person: str | None, unit: str | None) -> None:
    need(rows, ORGANISATION, organisation)
    if person is not None:
        need(rows, PERSON, person)
    if unit is not None:
        need(rows, UNIT, unit)
    if len(set(roles)) != len(roles):
        raise Rejected("account.roles", "A role is named twice.")
    if any(role in SEPARATED for role in roles) and len(roles) > 1:
        raise Rejected(
            "account.separation", "System, security and audit administration are separate: one such role alone."
        )


def decide_password(rows: Rows, request: SetPassword, context: Context) -> Decision:
    account = need(rows, ACCOUNT, request.account)
    if request.must_change:
        context.allow("account.edit", NODE)
    else:
        context.allow("self", Scope(owner=account.id))
    credential = rows.get(CREDENTIAL, account.id) or Credential(id=account.id, password="")
    changed = replace(
        credential, version=credential.version + 1, password=request.password_hash, failures=0, locked_until=0
    )
    kind = "account.password_reset" if request.must_change else "account.password_changed"
    draft = Draft(subject=AUDIT, kind=kind, body={"account": account.id})
    mine = context.actor.session if context.actor is not None else ""
    dropped = [item for item in _sessions(rows, account.id) if item[1] != mine]
    return Decision(drafts=[draft], id=account.id, kept=[(CREDENTIAL, changed)], dropped=dropped)


def decide_totp(rows: Rows, request: SetTotp, context: Context) -> Decision:
    account = need(rows, ACCOUNT, request.account)
    credential = need(rows, CREDENTIAL, account.id)
    if request.sealed is None:
        context.allow("account.edit", NODE)
        changed = replace(credential, totp=None, totp_pending=None, totp_step=0)
        draft = Draft(subject=AUDIT, kind="account.totp_reset", body={"account": account.id})
        return Decision(
            drafts=[draft], id=account.id, kept=[(CREDENTIAL, changed)], dropped=_sessions(rows, account.id)
        )
    context.allow("self", Scope(owner=account.id))
    if request.pending:
        return Decision(id=account.id, kept=[(CREDENTIAL, replace(credential, totp_pending=request.sealed))])
    changed = replace(credential, totp=request.sealed, totp_pending=None, totp_step=request.step)
    draft = Draft(subject=AUDIT, kind="account.totp_set", body={"account": account.id})
    return Decision(drafts=[draft], id=account.id, kept=[(CREDENTIAL, changed)])


def decide_unlock(rows: Rows, request: Unlock, context: Context) -> Decision:
    context.allow("account.edit", NODE)
    account = need(rows, ACCOUNT, request.account)
    credential = need(rows, CREDENTIAL, account.id)
    changed = replace(credential, failures=0, locked_until=0)
    draft = Draft(subject=AUDIT, kind="account.unlocked", body={"account": account.id})
    return Decision(drafts=[draft], id=account.id, kept=[(CREDENTIAL, changed)])


def decide_token(rows: Rows, request: CreateToken, context: Context) -> Decision:
    context.allow("account.edit", NODE)
    account = need(rows, ACCOUNT, request.account)
    if list(account.roles) != [Role.SERVICE]:
        raise Conflict("token.not_service", "Tokens are for accounts whose only role is 'service'.")
    standing = [row for row in rows.where(SESSION, account=account.id) if row.token and row.expires_at > context.now]
    if len(standing) >= TOKENS_MAX:
        raise Conflict("token.too_many", f"An account has {TOKENS_MAX} tokens at most; revoke one first.")
    row = SessionRow(
        id=request.hashed,
        account=account.id,
        opened_at=context.now,
        expires_at=context.now + request.days * DAY_US,
        token=True,
        label=request.label,
    )
    body = {"account": account.id, "session": row.id[:16], "expires_at": row.expires_at}
    draft = Draft(subject=AUDIT, kind="token.created", body=body, private={"label": request.label})
    return Decision(drafts=[draft], id=row.id, kept=[(SESSION, row)])


def decide_language(rows: Rows, request: ChangeLanguage, context: Context) -> Decision:
    account = need(rows, ACCOUNT, request.account)
    context.allow("self", Scope(owner=account.id))
    if account.language == request.language:
        return Decision(id=account.id)
    body = {"account": account.id, "language": request.language}
    return Decision(drafts=[Draft(subject=SUBJECT, kind="account.edited", body=body)], id=account.id)


def decide_open(rows: Rows, request: OpenSession, context: Context) -> Decision:
    context.allow("self", Scope(owner=request.account))
    account = need(rows, ACCOUNT, request.account)
    credential = need(rows, CREDENTIAL, account.id)
    if account.locked:
        raise Unauthenticated("auth.locked", "This account is locked; ask a security administrator.")
    if credential.locked_until > context.now and not request.token:
        raise Unauthenticated("auth.locked", "This account is locked for a while.")
    if request.totp_step is not None and request.totp_step <= credential.totp_step:
        raise Unauthenticated("auth.code_used", "This code was used already; wait for the next one.")
    session = SessionRow(
        id=request.id,
        account=account.id,
        opened_at=context.now,
        expires_at=request.expires_at,
        address=request.address,
        agent=request.agent,
        token=request.token,
        label=request.label,
    )
    kept: list[tuple[Table[Any], Row]] = [(SESSION, session)]
    step = credential.totp_step if request.totp_step is None else request.totp_step
    if credential.failures or step != credential.totp_step:
        kept.append((CREDENTIAL, replace(credential, failures=0, locked_until=0, totp_step=step)))
    older = sorted(rows.where(SESSION, account=account.id), key=lambda row: row.opened_at)
    gone = [row for row in older if row.expires_at <= context.now]
    left = [row for row in older if row.expires_at > context.now and not row.token]
    gone += left[: max(0, len(left) + 1 - SESSIONS_MAX)]
    body = {"account": account.id, "session": request.id[:16], "token": request.token}
    draft = Draft(subject=AUDIT, kind="session.opened", body=body, private={"address": request.address})
    return Decision(drafts=[draft], id=request.id, kept=kept, dropped=[(SESSION, row.id) for row in gone])


def decide_refuse(rows: Rows, request: RefuseSignIn, context: Context) -> Decision:
    context.allow("self", Scope(owner=request.account))
    private = {"address": request.address}
    if request.account is None:
        body: dict[str, Any] = {"account": None, "failures": 0, "locked": False}
        return Decision(drafts=[Draft(subject=AUDIT, kind="session.refused", body=body, private=private)])
    credential = need(rows, CREDENTIAL, request.account)
    if credential.locked_until > context.now:
        body = {"account": request.account, "failures": 0, "locked": True}
        return Decision(drafts=[Draft(subject=AUDIT, kind="session.refused", body=body, private=private)])
    failures = credential.failures + 1
    locked = failures >= request.limit
    changed = replace(
        credential,
        failures=0 if locked else failures,
        locked_until=context.now + request.lock_us if locked else credential.locked_until,
    )
    body = {"account": request.account, "failures": failures, "locked": locked}
    draft = Draft(subject=AUDIT, kind="session.refused", body=body, private=private)
    return Decision(drafts=[draft], kept=[(CREDENTIAL, changed)])


def decide_close(rows: Rows, request: CloseSession, context: Context) -> Decision:
    session = rows.get(SESSION, request.id)
    owner = session.account if session is not None else None
    context.allow("session.revoke", Scope(owner=owner))
    if session is None:
        return Decision(id=request.id)
    body = {"account": session.account, "session": session.id[:16]}
    draft = Draft(subject=AUDIT, kind="session.closed", body=body)
    return Decision(drafts=[draft], id=request.id, dropped=[(SESSION, session.id)])


def _sessions(rows: Rows, account: str) -> list[tuple[Table[Any], str]]:
    return [(SESSION, row.id) for row in rows.where(SESSION, account=account)]


def _created(rows: Editing, written: Written) -> None:
    body = written.entry.body
    account = Account(
        id=body["account"],
        name=str(written.secrets.get("name", body["account"])),
        roles=[Role(role) for role in body["roles"]],
        organisation=body["organisation"],
        person=body["person"],
        unit=body["unit"],
        language=body["language"],
        must_change_password=body["must_change_password"],
    )
    rows.put(ACCOUNT, account)


def _edited(rows: Editing, written: Written) -> None:
    body = dict(written.entry.body)
    account = rows.get(ACCOUNT, body.pop("account"))
    if account is not None:
        if "roles" in body:
            body["roles"] = [Role(role) for role in body["roles"]]
        rows.put(ACCOUNT, replace(account, version=account.version + 1, **body))


def _flag(**changes: Any) -> Any:
    def project(rows: Editing, written: Written) -> None:
        account = rows.get(ACCOUNT, written.entry.body["account"])
        if account is not None:
            rows.put(ACCOUNT, replace(account, version=account.version + 1, **changes))

    return project


TABLES: tuple[Table[Any], ...] = (CREDENTIAL, SESSION)
PROJECTORS = {
    "account.created": _created,
    "account.edited": _edited,
    "account.password_reset": _flag(must_change_password=True),
    "account.password_changed": _flag(must_change_password=False),
    "account.totp_set": _flag(totp=True),
    "account.totp_reset": _flag(totp=False),
}
DECIDERS = {
    CreateAccount: decide_create,
    EditAccount: decide_edit,
    SetPassword: decide_password,
    SetTotp: decide_totp,
    ChangeLanguage: decide_language,
    Unlock: decide_unlock,
    CreateToken: decide_token,
    OpenSession: decide_open,
    RefuseSignIn: decide_refuse,
    CloseSession: decide_close,
}
