"""The HTTP edge: routes as data, one way in for every request, one place where errors become status codes.

A route says its method, path, right, request and response; `build` turns a list of them into an aiohttp application. It
holds no domain rule. Invariant (fail closed): a route without a right in the table stops the start; a handler runs only
after the session, the Origin and the right were checked; a command is answered only after its entries are durable.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from command.base.clock import Clock
from command.base.config import Config
from command.base.entry import By
from command.base.errors import Denied, FenghuoError, Rejected, TooLarge, TooSlow, Unauthenticated, Unsupported
from command.base.rights import RIGHTS, Actor, Relation, Tree, widest
from command.base.schema import Id
from command.edge.auth import Auth, Session, bearer_of
from command.edge.live import Live
from command.log.bus import Bus
from command.log.store import Store
from command.log.writer import Log, Receipt

PUBLIC = "public"
"""The right of routes that anybody may call: sign-in, health, the static front end."""

GATEWAY = "gateway"
"""The right of routes that machines call and that prove themselves by a signature of their own, which their handler
checks before anything else: no session, and no Origin to check, because no browser is meant to call them."""

JSON_BYTES_MAX = 1024 * 1024
JSON_TYPE = "application/json"
BODY_S = 30.0
"""How long a JSON body may take to arrive. Uploads have their own limits."""
KEY_MAX = 128
PREFIX = "/api/v1"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""RFC 9110 §9.2.1: they change nothing, so nobody asks where they come from."""
SHARED = ("/whip/", "/whep/")
"""What pages of other sites may call (RFC 9725 §4.2), by bearer token alone: to "*" no browser sends a cookie."""
SHARED_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Location, ETag, Accept-Patch, Accept-Post, Allow, Retry-After",
}

journal = structlog.get_logger("api")


@dataclass(frozen=True, kw_only=True)
class Node:
    """What edge handlers may use. Everything else receives just what it needs."""

    config: Config
    clock: Clock
    store: Store
    log: Log
    auth: Auth
    live: Live
    bus: Bus
    tree: Tree
    parts: dict[str, Any] = field(default_factory=dict)
    """What `sms` and `media` put here for their own handlers, by package name."""


NODE: web.AppKey[Node] = web.AppKey("node", Node)


@dataclass(kw_only=True)
class Call:
    """One request, checked: who asks (None on public and gateway routes), what they sent, and the node."""

    request: web.Request
    node: Node
    session: Session | None
    body: Any = None
    query: Any = None

    @property
    def actor(self) -> Actor:
        assert self.session is not None, "a public route has no actor"
        return self.session.actor

    @property
    def path(self) -> dict[str, str]:
        return dict(self.request.match_info)

    def wide(self, right: str) -> bool:
        """Whether the actor has `right` on everything."""
        return widest(self.actor, right) is Relation.ANY


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of an edge's `ROUTES`.

    With `handler` None the request is a command: the body (with the path's fields put in) becomes `request` and goes to
    the log; the answer is its `Receipt`. `query` is a struct of the query string. `errors` are the documented statuses
    besides those every route has (see `openapi`). `raw` hands the undecoded body to the handler (uploads, SDP) and lists
    the media types it takes. `keyed` says that the handler asks for an Idempotency-Key. `params` are the types of path
    fields that the request struct does not have; any other is an `Id`.
    """

    method: str
    path: str
    right: str
    summary: str
    request: type | None = None
    response: Any = None
    query: type | None = None
    handler: Handler | None = None
    status: int = 200
    raw: tuple[str, ...] = ()
    produces: str = "application/json"
    errors: tuple[int, ...] = ()
    tag: str = ""
    keyed: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> bool:
        return self.handler is None

    @property
    def fields(self) -> list[str]:
        """The names in the path, e.g. ["id"] for "/incidents/{id}"."""
        return re.findall(r"{(\w+)}", self.path)

    def kind_of(self, name: str) -> Any:
        """The type of a path field."""
        known = {f.encode_name: f.type for f in msgspec.structs.fields(self.request)} if self.request else {}
        return known.get(name) or self.params.get(name, Id)


def command_route(
    method: str, path: str, right: str, summary: str, request: type, *, status: int = 200, tag: str = ""
) -> Route:
    """The route of a command: its body goes to the log, and the answer is the `Receipt`."""
    return Route(
        method=method,
        path=path,
        right=right,
        summary=summary,
        request=request,
        response=Receipt,
        status=status,
        errors=(404, 409),
        tag=tag,
    )


def encode(value: object) -> bytes:
    """The JSON of a response."""
    return msgspec.json.encode(value)


def problem(error: FenghuoError) -> dict[str, Any]:
    """The body of every error: code, hint, and details where there are any."""
    body: dict[str, Any] = {"code": error.code, "hint": error.hint}
    if error.details:
        body["details"] = error.details
    return body


def check_routes(routes: Iterable[Route]) -> None:
    """Raises `Rejected` for a route whose right is not in the table, or that is there twice."""
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if route.right not in (PUBLIC, GATEWAY) and route.right not in RIGHTS:
            raise Rejected("rights.unknown", f"{route.method} {route.path} names no known right: '{route.right}'.")
        shape = (route.method, re.sub(r"{\w+}", "{}", route.path))
        if shape in seen:
            raise Rejected("api.twice", f"{route.method} {route.path} is declared twice.")
        if route.command and route.request is None:
            raise Rejected("api.no_request", f"{route.method} {route.path} has neither a handler nor a request.")
        seen.add(shape)


def check_origin(request: web.Request, config: Config) -> None:
    """Refuse a cross-site request: browsers name their Origin on every unsafe method and every WebSocket.

    A caller that proves itself by a bearer token needs none: its cookie doesn't count, and no foreign page knows the token.
    """
    if bearer_of(request) is not None:
        return
    origin = request.headers.get("Origin")
    own = config.origin or f"{request.scheme}://{request.host}"
    if origin != own:
        raise Denied(
            "origin.foreign", "This request came from another site or named no Origin; open the page from this server."
        )


def request_key(request: web.Request) -> str:
    """The Idempotency-Key header of a command."""
    key = request.headers.get("Idempotency-Key", "")
    if not key or len(key) > KEY_MAX or not key.isprintable():
        raise Rejected("idempotency.missing", f"Send an Idempotency-Key header of 1 to {KEY_MAX} printable characters.")
    return key


def _seen(request: web.Request) -> int | None:
    value = request.headers.get("Fenghuo-Seen")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise Rejected("seen.unreadable", "The Fenghuo-Seen header is the log position that the screen showed.")
    return int(value)


async def read_json(request: web.Request, limit: int = JSON_BYTES_MAX) -> Any:
    """The decoded JSON body; an empty body is an empty object. Raises `Rejected`."""
    if (request.content_length or 0) > limit:
        raise TooLarge("body.too_large", f"The body is larger than {limit} octets.")
    try:
        async with asyncio.timeout(BODY_S):
            data = await _octets(request, limit)
    except TimeoutError:
        raise TooSlow("body.too_slow", f"The body did not arrive within {BODY_S:.0f} seconds.") from None
    if not data:
        return {}
    if request.content_type != JSON_TYPE:
        raise Unsupported("body.type", f"Send the body as {JSON_TYPE}.")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected("body.not_json", f"The body is not JSON: {error}") from None


async def _octets(request: web.Request, limit: int) -> bytes:
    """The body, decompressed; what comes out is limited, however small it travelled."""
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise TooLarge("body.too_large", f"The body is larger than {limit} octets.")
    return bytes(data)


async def chunks(request: web.Request, size: int) -> AsyncIterator[bytes]:
    """An upload's body piece by piece. Raises `TooSlow` when the next piece does not come within `BODY_S`."""
    pieces = request.content.iter_chunked(size).__aiter__()
    while True:
        try:
            async with asyncio.timeout(BODY_S):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise TooSlow("body.too_slow", f"Nothing came for {BODY_S:.0f} seconds.") from None
        if piece is None:
            return
        yield piece


def convert(value: Any, kind: Any, what: str = "body", *, strict: bool = True) -> Any:
    """`value` as `kind`; raises `Rejected` with the path of what does not fit."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
        raise Rejected(f"{what}.invalid", str(error)) from None


def _check_path(kinds: Mapping[str, Any], request: web.Request) -> None:
    """What stands in a path goes to the database: it must be what it is called before anybody looks it up."""
    for name, value in request.match_info.items():
        convert(value, kinds[name], "path")


async def _body(route: Route, request: web.Request) -> Any:
    if route.raw and route.right != GATEWAY and request.content_type not in route.raw:
        raise Unsupported("body.type", f"Send the body as {' or '.join(route.raw)}.", accept=list(route.raw))
    if route.request is None or route.raw:
        return None
    value = await read_json(request)
    if route.fields:
        if not isinstance(value, dict):
            raise Rejected("body.invalid", "Expected an object.")
        value = {**value, **{name: request.match_info[name] for name in route.fields}}
    return convert(value, route.request)


def _query(route: Route, request: web.Request) -> Any:
    if route.query is None:
        return None
    fields = {f.encode_name: f for f in msgspec.structs.fields(route.query)}
    found: dict[str, Any] = {}
    for name, value in request.query.items():
        if name not in fields:
            raise Rejected("query.unknown", f"There is no query parameter '{name[:50]}'.")
        if name in found:
            raise Rejected("query.twice", f"The query parameter '{name}' is given twice.")
        found[name] = value
    query = convert(found, route.query, "query", strict=False)
    for name in found:  # msgspec's lax mode reads "null" as None; in a query that is a word like any other
        if getattr(query, name) is None:
            raise Rejected("query.invalid", f"The query parameter '{name}' has no such value; leave it out instead.")
    return query


async def append(call: Call, request: Any) -> Receipt:
    """Send a command of this call to the log under its Idempotency-Key."""
    actor = call.actor
    return await call.node.log.append(
        request,
        by_of(actor),
        actor=actor,
        key=request_key(call.request),
        seen=_seen(call.request),
    )


def by_of(actor: Actor) -> By:
    """The author of entries that this actor causes."""
    return By(
        account=actor.account,
        person=actor.person,
        post=actor.posts[0] if actor.posts else None,
        organisation=actor.organisation or None,
    )


def limited(session: Session) -> Denied:
    """The refusal while a session still owes something; `demanded` says what."""
    return Denied(
        "session.limited",
        f"Set first what this account still lacks: {', '.join(session.demanded)}.",
        demanded=list(session.demanded),
    )


def _endpoint(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    kinds = {name: route.kind_of(name) for name in route.fields}

    async def endpoint(request: web.Request) -> web.StreamResponse:
        node = request.app[NODE]
        open_to_all = route.right in (PUBLIC, GATEWAY)
        if not open_to_all and not node.auth.proof(request):
            raise Unauthenticated("auth.none", "Sign in first, or send a bearer token.")
        if request.method not in SAFE_METHODS and route.right != GATEWAY:
            check_origin(request, node.config)
        session = None
        if not open_to_all:
            session = await node.auth.session_of(request)
            if widest(session.actor, route.right) is Relation.NONE:
                raise Denied("rights.denied", f"Your roles do not include '{route.right}'.", right=route.right)
            if session.limited and route.right != "self":
                raise limited(session)
        _check_path(kinds, request)
        call = Call(request=request, node=node, session=session)
        call.query = _query(route, request)
        call.body = await _body(route, request)
        result = await (append(call, call.body) if route.handler is None else route.handler(call))
        if isinstance(result, web.StreamResponse):
            return result
        return web.Response(body=encode(result), status=route.status, content_type="application/json")

    return endpoint


@web.middleware
async def sharing(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Lets pages of other sites read what `SHARED` answers. Stands outside `errors`: they are to read errors too."""
    response = await handler(request)
    if request.path.startswith(SHARED):
        response.headers.update(SHARED_HEADERS)
    return response


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The one place where an error becomes a status, and where a bug becomes a 500 with a line in the journal."""
    try:
        return await handler(request)
    except FenghuoError as error:
        if error.status >= 500:
            journal.warning("request.failed", code=error.code, hint=error.hint, path=request.path)
        wait_s = error.details.get("retry_after_s", 1)
        headers = {"Retry-After": str(wait_s)} if error.status in (429, 503) else {}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §15.5.2
        accepted = error.details.get("accept")
        if isinstance(accepted, list):  # RFC 5789 §2.2; Linked Data Platform 1.0 §7.1.2 for POST
            headers["Accept-Patch" if request.method == "PATCH" else "Accept-Post"] = ", ".join(accepted)
        return web.Response(
            body=encode(problem(error)), status=error.status, content_type="application/json", headers=headers
        )
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        if not request.path.startswith(("/api/", *SHARED)):
            return web.Response(text=error.reason, status=error.status, headers=headers)
        body = {"code": f"http.{error.status}", "hint": error.reason}
        return web.Response(body=encode(body), status=error.status, content_type="application/json", headers=headers)
    except (web.RequestPayloadError, HttpProcessingError) as error:
        body = {"code": "body.unreadable", "hint": f"The body is not what its headers say ({type(error).__name__})."}
        return web.Response(body=encode(body), status=400, content_type="application/json")
    except ConnectionResetError:
        raise
    except Exception:
        journal.exception("request.bug", path=request.path, method=request.method)
        body = {"code": "server.bug", "hint": "The server made a mistake; it is in its journal under this request id."}
        return web.Response(body=encode(body), status=500, content_type="application/json")


def add_routes(app: web.Application, routes: Iterable[Route], prefix: str = PREFIX) -> None:
    """Put checked routes into the application. The caller must have called `check_routes` on all of them together."""
    for route in routes:
        path = route.path[1:] if route.path.startswith("//") else prefix + route.path
        endpoint = _endpoint(route)
        app.router.add_route(route.method, path, endpoint)
        if route.method == "GET" and path.startswith(SHARED):  # players look at what an endpoint is before they call it
            app.router.add_route("HEAD", path, endpoint)
