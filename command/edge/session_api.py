"""Sign-in and oneself: the session, its password and second factor, and the list of sessions that can be ended.

Edge over `auth` and `account`; decides nothing. Invariant: while a new password or second factor is demanded, only these
routes answer; and no answer tells whether a name exists.
"""

import io
from typing import Annotated, Any

import msgspec
import pyotp
import segno
from aiohttp import web
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.entry import By
from command.base.errors import Conflict, Missing, Rejected
from command.base.projection import Row
from command.base.rights import RIGHTS, Relation, Role, Scope, widest
from command.base.schema import Id, Instant, Struct
from command.domain.account import (
    CREDENTIAL,
    SESSION,
    ChangeLanguage,
    CloseSession,
    Language,
    SessionRow,
    SetPassword,
    SetTotp,
)
from command.domain.registry import ACCOUNT, ORGANISATION, PERSON, UNIT, Account, Organisation, Person, Unit
from command.edge.api import PUBLIC, Call, Route, by_of, encode
from command.edge.auth import COOKIE, PASSWORD_MAX, token_hash
from command.edge.live import Topic, Visible
from command.log.store import Store
from command.log.writer import Log

SESSIONS_SHOWN_MAX = 500

Typed = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Password = Annotated[str, Meta(min_length=1, max_length=PASSWORD_MAX)]
Code = Annotated[str, Meta(min_length=1, max_length=12)]


class SignIn(Struct, frozen=True, kw_only=True):
    """`code` is the second factor; send it when the answer was `auth.code_needed`."""

    name: Typed
    password: Password
    code: Code | None = None


class EditSession(Struct, frozen=True, kw_only=True):
    language: Language


class ChangePassword(Struct, frozen=True, kw_only=True):
    old: Password
    new: Password


class StartTotp(Struct, frozen=True, kw_only=True):
    """`password` is needed when a second factor is set already."""

    password: Password | None = None


class ConfirmTotp(Struct, frozen=True, kw_only=True):
    code: Code


class TotpSecret(msgspec.Struct, frozen=True, kw_only=True):
    """Shown once: the base32 secret, its otpauth address, and that address as a QR code (an SVG element)."""

    secret: str
    uri: str
    svg: str


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in, and what they may do. `rights` has only what is granted: right -> widest relation (SELF,
    ASSIGNED, LINE or ANY). `demanded` ("password", "totp") must be set before anything else answers. `node` is this node's name,
    `here` its id."""

    session: str
    account: str
    name: str
    roles: list[Role]
    posts: list[str]
    organisation: Organisation | None
    person: Person | None
    unit: Unit | None
    rights: dict[str, str]
    language: str
    limited: bool
    demanded: list[str]
    totp: bool
    expires_at: Instant
    node: str
    here: str
    position: int
    now: Instant


class ShownSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session or API token as its owner and the security administrator see it; `current` is the one that asks."""

    id: str
    account: str
    opened_at: Instant
    expires_at: Instant
    address: str
    agent: str
    token: bool
    label: str
    current: bool


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    items: list[ShownSession]


class SessionQuery(Struct, frozen=True, kw_only=True):
    """`account` by the security administrator; absent: one's own."""

    account: Id | None = None


class EndSession(Struct, frozen=True, kw_only=True):
    id: Id


def _by(account: str) -> By:
    return By(account=account)


async def sign_in(call: Call) -> web.Response:
    """Open a session under a new token; the one the browser came with ends."""
    request, node = call.request, call.node
    wanted: SignIn = call.body
    token, session = await node.auth.sign_in(
        wanted.name, wanted.password, wanted.code, request.remote or "", request.headers.get("User-Agent", "")
    )
    old = request.cookies.get(COOKIE)
    if old:
        await _close(node.log, node.store, token_hash(old))
    call.session = session
    response = web.Response(body=encode(await me(call)), content_type="application/json")
    response.set_cookie(
        COOKIE,
        token,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=node.config.tls or node.config.public_url.startswith("https://"),
        max_age=node.config.session_hours * 3600,
    )
    return response


async def _close(log: Log, store: Store, key: str) -> None:
    row: SessionRow | None = await store.read(lambda connection: store.shelf(SESSION).get(connection, key))
    if row is not None and not row.token:
        await log.append(CloseSession(id=key), _by(row.account))


async def sign_out(call: Call) -> web.Response:
    await call.node.log.append(CloseSession(id=call.actor.session), by_of(call.actor), actor=call.actor)
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/")
    return response


async def me(call: Call) -> Me:
    """Read anew each time: posts change with the clock, names with the registry."""
    assert call.session is not None
    session, actor, store = call.session, call.session.actor, call.node.store

    def read(connection: Connection) -> tuple[Account | None, Organisation | None, Person | None, Unit | None]:
        return (
            store.shelf(ACCOUNT).get(connection, actor.account),
            store.shelf(ORGANISATION).get(connection, actor.organisation),
            store.shelf(PERSON).get(connection, actor.person) if actor.person else None,
            store.shelf(UNIT).get(connection, actor.unit) if actor.unit else None,
        )

    account, organisation, person, unit = await store.read(read)
    wide = {right: widest(actor, right) for right in sorted(RIGHTS)}
    return Me(
        session=session.id,
        account=actor.account,
        name=actor.name,
        roles=list(actor.roles),
        posts=list(actor.posts),
        organisation=organisation,
        person=person,
        unit=unit,
        rights={right: relation.name for right, relation in wide.items() if relation is not Relation.NONE},
        language=account.language if account is not None else actor.language,
        limited=session.limited,
        demanded=list(session.demanded),
        totp=account is not None and account.totp,
        expires_at=session.expires_at,
        node=call.node.config.node_name,
        here=call.node.log.node,
        position=call.node.log.position,
        now=call.node.clock.now(),
    )


async def _again(call: Call) -> Me:
    """`Me` after a change of oneself: the session is read again."""
    call.session = await call.node.auth.session_of(call.request)
    return await me(call)


async def edit_session(call: Call) -> Me:
    request = ChangeLanguage(account=call.actor.account, language=call.body.language)
    await call.node.log.append(request, by_of(call.actor), actor=call.actor)
    return await _again(call)


async def change_password(call: Call) -> Me:
    """The account's other sessions end; this one goes on."""
    wanted: ChangePassword = call.body
    auth, actor = call.node.auth, call.actor
    if wanted.new == wanted.old:
        raise Rejected("password.same", "Choose another password than the present one.")
    if wanted.new.lower() == actor.name:
        raise Rejected("password.weak", "The password must not be the account's name.")
    await auth.prove(actor.account, wanted.old, call.request.remote or "")
    request = SetPassword(account=actor.account, password_hash=await auth.hash(wanted.new), must_change=False)
    await call.node.log.append(request, by_of(actor), actor=actor)
    return await _again(call)


async def start_totp(call: Call) -> TotpSecret:
    """A new secret that takes effect once a code from it was confirmed."""
    auth, actor, store = call.node.auth, call.actor, call.node.store
    account = await store.read(lambda connection: store.shelf(ACCOUNT).get(connection, actor.account))
    if account.totp:
        if call.body.password is None:
            raise Rejected("password.needed", "Give your password to replace the second factor.")
        await auth.prove(actor.account, call.body.password, call.request.remote or "")
    secret = pyotp.random_base32()
    request = SetTotp(account=actor.account, sealed=auth.seal(secret, actor.account), pending=True)
    await call.node.log.append(request, by_of(actor), actor=actor)
    uri = pyotp.TOTP(secret).provisioning_uri(name=actor.name, issuer_name=call.node.config.node_name)
    picture = io.BytesIO()
    segno.make(uri, error="m").save(picture, kind="svg", scale=4, border=4, light="#fff", xmldecl=False)
    return TotpSecret(secret=secret, uri=uri, svg=picture.getvalue().decode().strip())


async def confirm_totp(call: Call) -> Me:
    auth, actor, store = call.node.auth, call.actor, call.node.store
    credential = await store.read(lambda connection: store.shelf(CREDENTIAL).get(connection, actor.account))
    if credential is None or credential.totp_pending is None:
        raise Conflict("totp.none_pending", "Ask for a new secret first.")
    step = auth.totp_step(auth.unseal(credential.totp_pending, actor.account), call.body.code)
    if step is None:
        raise Rejected("totp.wrong", "This is not the present code; check the clock of the phone.")
    request = SetTotp(account=actor.account, sealed=credential.totp_pending, step=step)
    await call.node.log.append(request, by_of(actor), actor=actor)
    return await _again(call)


async def list_sessions(call: Call) -> SessionList:
    """Sessions and API tokens of one account, newest first, without those that ran out."""
    actor, store, now = call.actor, call.node.store, call.node.clock.now()
    account = call.query.account or actor.account
    shelf = store.shelf(SESSION)
    rows: list[Any] = await store.read(
        lambda connection: shelf.select(
            connection, shelf.sql.c.expires_at > now, equal={"account": account}, limit=SESSIONS_SHOWN_MAX
        )
    )
    seen = call.node.live.view_all(actor, SESSION.name, rows)
    shown = [_shown(row, actor.session) for row in seen]
    return SessionList(items=sorted(shown, key=lambda row: -row.opened_at))


def _shown(row: Any, current: str) -> ShownSession:
    names = ("id", "account", "opened_at", "expires_at", "address", "agent", "token", "label")
    return ShownSession(**{name: getattr(row, name) for name in names}, current=row.id == current)


async def end_session(call: Call) -> web.Response:
    """Its sockets close within the same publish."""
    store, key = call.node.store, call.body.id
    row = await store.read(lambda connection: store.shelf(SESSION).get(connection, key))
    if row is None or not call.node.live.view_all(call.actor, SESSION.name, [row]):
        raise Missing("session.missing", "There is no such session.")
    await call.node.log.append(CloseSession(id=key), by_of(call.actor), actor=call.actor)
    return web.Response(status=204)


def _session_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    shelf = store.shelf(SESSION)
    newest = shelf.sql.c.expires_at.desc()
    return {SESSION.name: shelf.select(connection, order=newest, limit=SESSIONS_SHOWN_MAX)}


_TAG = "session"
ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/session",
        right=PUBLIC,
        summary="Sign in",
        request=SignIn,
        response=Me,
        handler=sign_in,
        errors=(401, 429, 503),
        tag=_TAG,
    ),
    Route(method="DELETE", path="/session", right="self", summary="Sign out", handler=sign_out, status=204, tag=_TAG),
    Route(method="GET", path="/session", right="self", summary="Who I am", response=Me, handler=me, tag=_TAG),
    Route(
        method="PATCH",
        path="/session",
        right="self",
        summary="Choose the language of screens and messages",
        request=EditSession,
        response=Me,
        handler=edit_session,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/session/password",
        right="self",
        summary="Change the password; other sessions end",
        request=ChangePassword,
        response=Me,
        handler=change_password,
        errors=(429, 503),
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/session/totp",
        right="self",
        summary="A new second factor, in force once confirmed",
        request=StartTotp,
        response=TotpSecret,
        handler=start_totp,
        errors=(429, 503),
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/session/totp/confirm",
        right="self",
        summary="Confirm the new second factor with a code",
        request=ConfirmTotp,
        response=Me,
        handler=confirm_totp,
        errors=(409,),
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/sessions",
        right="session.read",
        summary="Sessions and API tokens of an account",
        response=SessionList,
        query=SessionQuery,
        handler=list_sessions,
        tag=_TAG,
    ),
    Route(
        method="DELETE",
        path="/sessions/{id}",
        right="session.revoke",
        summary="End a session or revoke a token; its sockets are cut",
        request=EndSession,
        handler=end_session,
        status=204,
        errors=(404,),
        tag=_TAG,
    ),
)

TOPICS: tuple[Topic, ...] = (Topic(name="sessions", right="session.read", rows=_session_rows),)
VISIBLE: dict[str, Visible] = {
    SESSION.name: Visible(right="session.read", scope=lambda row: Scope(owner=row.account)),
}
