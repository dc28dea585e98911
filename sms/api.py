"""The edge of messages: notices, what became of them, the local phones, and what Twilio calls.

Edge. Holds no rule: commands are decided in `broadcast`, `outbox` and `inbox`. Invariant: a row leaves here only as the
live feed would show it to the same person, and a callback is believed only by its signature.
"""

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import sqlalchemy as sa
from aiohttp import web
from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.errors import Missing, Rejected
from command.base.projection import Row
from command.base.rights import NODE as WHOLE_NODE
from command.base.rights import Scope, require
from command.base.schema import Id, Phone, Struct, Value
from command.domain.notice import NOTICE, Notice, NoticeKind, NoticeState, scope
from command.edge.api import GATEWAY as SIGNED
from command.edge.api import Call, Route, command_route, request_key
from command.edge.live import Topic, Visible
from command.log.store import Store
from sms import broadcast, inbox, outbox
from sms.broadcast import CancelNotice, DraftNotice, Preview, ReviewNotice
from sms.gateway import INBOUND_PATH, STATUS_PATH
from sms.inbox import INBOUND, PHONE_TEXT, HandleInbound, InboundText
from sms.local import ANSWER_CHARS_MAX, PhoneText
from sms.message import Message, Next, State, next_action
from sms.numbers import normalise
from sms.outbox import GATEWAY, MESSAGE, GatewayState, SettleMessage
from sms.worker import Sms

if TYPE_CHECKING:
    from sms.twilio import TwilioGateway

PAGE_MAX = 500
RECENT_NOTICES = 200
RECENT_TEXTS = 500
PHONES_MAX = 1_000
UNSETTLED_MAX = 1_000
CALLBACK_BYTES_MAX = 16 * 1024
FORM = "application/x-www-form-urlencoded"


class NoticeListing(Value, frozen=True, kw_only=True):
    """Query of the notices, newest first: `before` is the last id of the page before."""

    state: NoticeState | None = None
    kind: NoticeKind | None = None
    incident: Id | None = None
    limit: int = 100
    before: Id | None = None


class MessageListing(Value, frozen=True, kw_only=True):
    """Query of a notice's messages: `after` is the last id of the page before."""

    state: State | None = None
    limit: int = 100
    after: Id | None = None


class TextListing(Value, frozen=True, kw_only=True):
    """Query of a phone's inbox: the `limit` newest texts."""

    limit: int = 100


class NoticePage(Value, frozen=True, kw_only=True):
    items: list[Notice]


class MessagePage(Value, frozen=True, kw_only=True):
    """`next` is what to ask as `after` for the following page, None at the end."""

    items: list[Message]
    next: str | None = None


class InboundPage(Value, frozen=True, kw_only=True):
    items: list[InboundText]


class LocalPhone(Value, frozen=True, kw_only=True):
    """A phone of the local gateway: who has this number (person ids), how many texts, and the newest."""

    number: str
    persons: list[str]
    texts: int
    last: PhoneText


class LocalPhones(Value, frozen=True, kw_only=True):
    items: list[LocalPhone]


class PhoneTexts(Value, frozen=True, kw_only=True):
    """Oldest first."""

    items: list[PhoneText]


class AnswerPhone(Struct, frozen=True, kw_only=True):
    """Type `text` on a local phone and send it."""

    number: Phone
    text: Annotated[str, Meta(min_length=1, max_length=ANSWER_CHARS_MAX)]


class PhoneAnswered(Value, frozen=True, kw_only=True):
    """`reply` is what the node sent back at once, "" for nothing."""

    reply: str


def _sms(call: Call) -> Sms:
    part: Sms = call.node.parts["sms"]
    return part


def _limited(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


# -- notices


async def _preview(call: Call) -> Preview:
    sms, request = _sms(call), call.body

    def read(connection: Connection) -> Preview:
        rows = sms.rows(connection)
        found = broadcast.draft_scope(rows, request, call.actor.organisation)
        require(call.actor, "notice.draft", found, call.node.tree)
        return broadcast.preview(
            rows,
            request,
            call.actor.organisation,
            call.node.clock.now(),
            forbidden=sms.forbidden,
            rate_parts_per_s=sms.rate_parts_per_s,
        )

    return await call.node.store.read(read)


async def _notices(call: Call) -> NoticePage:
    query: NoticeListing = call.query
    shelf = call.node.store.shelf(NOTICE)
    columns = shelf.sql.c
    conditions = [columns[name] == value for name in ("state", "incident") if (value := getattr(query, name))]

    def read(connection: Connection) -> NoticePage:
        found: list[Any] = []
        wanted, before = _limited(query.limit), query.before
        while len(found) < wanted:
            more = [columns.id < before] if before is not None else []
            rows = shelf.select(connection, *conditions, *more, order=columns.id.desc(), limit=PAGE_MAX)
            matching = [row for row in rows if query.kind is None or row.kind is query.kind]
            found += call.node.live.view_all(call.actor, NOTICE.name, matching)
            if len(rows) < PAGE_MAX:
                break
            before = rows[-1].id
        return NoticePage(items=found[:wanted])

    return await call.node.store.read(read)


def _seen_notice(call: Call, connection: Connection) -> Notice:
    """The notice of the path, if the caller may see it."""
    key = call.path["id"]
    row: Notice | None = call.node.store.shelf(NOTICE).get(connection, key)
    if row is None or call.node.live.view(call.actor, NOTICE.name, row) is None:
        raise Missing("notice.missing", f"There is no notice '{key[:64]}'.")
    return row


async def _messages(call: Call) -> MessagePage:
    query: MessageListing = call.query
    shelf = call.node.store.shelf(MESSAGE)
    columns = shelf.sql.c

    def read(connection: Connection) -> MessagePage:
        conditions = [columns.notice == _seen_notice(call, connection).id]
        if query.state is not None:
            conditions.append(columns.state == query.state)
        if query.after is not None:
            conditions.append(columns.id > query.after)
        limit = _limited(query.limit)
        rows = shelf.select(connection, *conditions, limit=limit)
        items: list[Any] = call.node.live.view_all(call.actor, MESSAGE.name, rows)
        return MessagePage(items=items, next=rows[-1].id if len(rows) == limit else None)

    return await call.node.store.read(read)


async def _answers(call: Call) -> InboundPage:
    shelf = call.node.store.shelf(INBOUND)

    def read(connection: Connection) -> InboundPage:
        equal = {"notice": _seen_notice(call, connection).id}
        rows = shelf.select(connection, equal=equal, order=shelf.sql.c.at.desc(), limit=PAGE_MAX)
        items: list[Any] = call.node.live.view_all(call.actor, INBOUND.name, rows)
        return InboundPage(items=items)

    return await call.node.store.read(read)


async def _unsettled(call: Call) -> MessagePage:
    shelf, now = call.node.store.shelf(MESSAGE), call.node.clock.now()

    def read(connection: Connection) -> MessagePage:
        rows = shelf.select(
            connection, shelf.sql.c.resent.is_(False), equal={"state": State.UNKNOWN}, limit=UNSETTLED_MAX
        )
        waiting = [row for row in rows if next_action(row, now) is Next.ASK]
        items: list[Any] = call.node.live.view_all(call.actor, MESSAGE.name, waiting)
        return MessagePage(items=items)

    return await call.node.store.read(read)


# -- local phones


async def _phones(call: Call) -> LocalPhones:
    shelf = call.node.store.shelf(PHONE_TEXT)
    columns = shelf.sql.c

    def read(connection: Connection) -> LocalPhones:
        newest = sa.select(columns.number, sa.func.max(columns.at).label("at"), sa.func.count().label("texts"))
        grouped = newest.group_by(columns.number).order_by(sa.desc("at")).limit(PHONES_MAX)
        found = []
        for number, at, texts in connection.execute(grouped):
            last = shelf.select(connection, equal={"number": number, "at": at}, limit=1)
            seen: list[Any] = call.node.live.view_all(call.actor, PHONE_TEXT.name, last)
            if seen:
                persons = _persons(call.node.store, connection, number)
                found.append(LocalPhone(number=number, persons=persons, texts=texts, last=seen[0]))
        return LocalPhones(items=found)

    return await call.node.store.read(read)


def _persons(store: Store, connection: Connection, number: str) -> list[str]:
    shelf = store.shelf(MESSAGE)
    rows = shelf.select(connection, equal={"number": number}, order=shelf.sql.c.id.desc(), limit=5)
    return list(dict.fromkeys(row.person for row in rows))


async def _texts(call: Call) -> PhoneTexts:
    number = normalise(call.path["number"]).e164
    shelf = call.node.store.shelf(PHONE_TEXT)

    def read(connection: Connection) -> PhoneTexts:
        order = shelf.sql.c.at.desc()
        rows = shelf.select(connection, equal={"number": number}, order=order, limit=_limited(call.query.limit))
        items: list[Any] = call.node.live.view_all(call.actor, PHONE_TEXT.name, rows[::-1])
        return PhoneTexts(items=items)

    return await call.node.store.read(read)


async def _answer(call: Call) -> PhoneAnswered:
    if not call.wide("phone.answer"):
        raise Missing("phone.missing", "There is no such phone.")
    key = hashlib.sha256(f"{call.actor.account}/{request_key(call.request)}".encode()).hexdigest()[:40]
    return PhoneAnswered(reply=await _sms(call).local.answer(call.body.number, call.body.text, f"answer-{key}"))


# -- what Twilio calls


def _twilio(call: Call) -> "TwilioGateway":
    gateway = _sms(call).outside
    if gateway is not None:
        from sms.twilio import TwilioGateway  # loaded already: only who has one pays for its library

        if isinstance(gateway, TwilioGateway):
            return gateway
    raise Missing("sms.no_twilio", "This node has no Twilio gateway.")


async def _form(request: web.Request) -> Any:
    """The fields of a callback. Raises `Rejected` for anything but a small form of known length."""
    if request.content_type != FORM or request.content_length is None or request.content_length > CALLBACK_BYTES_MAX:
        raise Rejected("sms.twilio_callback", f"Expected a form of at most {CALLBACK_BYTES_MAX} octets.")
    try:
        return await request.post()
    except (ValueError, LookupError):
        raise Rejected("sms.twilio_callback", "The form can't be read.") from None


async def _twilio_status(call: Call) -> web.Response:
    request = call.request
    await _twilio(call).status(request.path_qs, await _form(request), request.headers)
    return web.Response(status=204)


async def _twilio_inbound(call: Call) -> web.Response:
    request = call.request
    twiml = await _twilio(call).inbound(request.path_qs, await _form(request), request.headers)
    return web.Response(text=twiml, content_type="text/xml")


_command = partial(command_route, "POST")


def _list(path: str, right: str, summary: str, response: type, handler: Any, query: type | None = None) -> Route:
    return Route(
        method="GET", path=path, right=right, summary=summary, response=response, handler=handler, query=query,
        errors=(404,), params={"number": Phone},
    )  # fmt: skip


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/notices/preview",
        right="notice.draft",
        summary="What a notice would take: recipients, parts, time, forbidden words; nothing is written",
        request=DraftNotice,
        response=Preview,
        handler=_preview,
        errors=(404,),
    ),
    _command(
        "/notices", "notice.draft", "Draft a notice; kinds without review are issued at once", DraftNotice, status=201
    ),
    _command("/notices/{id}/review", "notice.review", "Pass or refuse a notice", ReviewNotice),
    _command("/notices/{id}/cancel", "notice.draft", "Cancel a notice: what hasn't left isn't sent", CancelNotice),
    _list("/notices", "notice.read", "Notices, newest first", NoticePage, _notices, NoticeListing),
    _list("/notices/{id}/messages", "notice.read", "A notice's messages", MessagePage, _messages, MessageListing),
    _list("/notices/{id}/answers", "notice.read", "What people wrote back", InboundPage, _answers),
    _list("/messages/unsettled", "notice.settle", "Messages that wait for a person", MessagePage, _unsettled),
    _command("/messages/{id}/settle", "notice.settle", "Send again, leave, or count as delivered", SettleMessage),
    _command("/inbound/{id}/handle", "notice.settle", "A person has read this text", HandleInbound),
    _list("/phones", "phone.read", "Phones of the local gateway", LocalPhones, _phones),
    _list("/phones/{number}/texts", "phone.read", "One phone's inbox", PhoneTexts, _texts, TextListing),
    Route(
        method="POST",
        path="/phones/{number}/answer",
        right="phone.answer",
        summary="Answer on a local phone; the Idempotency-Key makes a repeated click harmless",
        request=AnswerPhone,
        response=PhoneAnswered,
        handler=_answer,
        errors=(404, 409),
        keyed=True,
    ),
    Route(
        method="POST",
        path=f"/{STATUS_PATH}{{message}}",
        right=SIGNED,
        summary="Twilio tells what became of a message",
        handler=_twilio_status,
        raw=(FORM,),
        status=204,
        produces="",
        errors=(404, 409),
        tag="gateways",
    ),
    Route(
        method="POST",
        path=f"/{INBOUND_PATH}",
        right=SIGNED,
        summary="Twilio brings a text from a phone",
        handler=_twilio_inbound,
        raw=(FORM,),
        produces="text/xml",
        errors=(404,),
        tag="gateways",
    ),
)


# -- the live feed


def _recent(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    notices, inbound = store.shelf(NOTICE), store.shelf(INBOUND)
    return {
        NOTICE.name: notices.select(connection, order=notices.sql.c.id.desc(), limit=RECENT_NOTICES),
        INBOUND.name: inbound.select(
            connection, inbound.sql.c.handled.is_(False), order=inbound.sql.c.at.desc(), limit=RECENT_NOTICES
        ),
        GATEWAY.name: store.shelf(GATEWAY).select(connection),
    }


def _one_notice(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    inbound = store.shelf(INBOUND)
    equal = {"notice": key}
    return {
        MESSAGE.name: store.shelf(MESSAGE).select(connection, equal=equal, limit=PAGE_MAX),
        INBOUND.name: inbound.select(connection, equal=equal, order=inbound.sql.c.at.desc(), limit=PAGE_MAX),
    }


def _gate(store: Store, connection: Connection, key: str) -> Scope:
    row = store.shelf(NOTICE).get(connection, key)
    if row is None:
        raise Missing("live.topic", f"There is no topic 'notice/{key[:64]}'.")
    return scope(row)


def _recent_texts(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    shelf = store.shelf(PHONE_TEXT)
    return {PHONE_TEXT.name: shelf.select(connection, order=shelf.sql.c.at.desc(), limit=RECENT_TEXTS)}


def _unsettled_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    equal = {"state": State.UNKNOWN}
    return {MESSAGE.name: store.shelf(MESSAGE).select(connection, equal=equal, limit=UNSETTLED_MAX)}


TOPICS: tuple[Topic, ...] = (
    Topic(name="unsettled", right="notice.settle", rows=_unsettled_rows),
    Topic(name="notices", right="notice.read", rows=_recent),
    Topic(name="notice/{id}", right="notice.read", rows=_one_notice, gate=_gate),
    Topic(name="phones", right="phone.read", rows=_recent_texts),
)


def _everywhere(row: PhoneText | GatewayState) -> Scope:
    return WHOLE_NODE


def _brief_gateway(row: GatewayState) -> GatewayState:
    return row


# Numbers need no mask: whoever may read a notice may read its persons, which a test holds against the rights table.
VISIBLE: dict[str, Visible] = {
    "message": Visible(right="notice.read", scope=outbox.scope),
    "inbound": Visible(right="notice.read", scope=inbox.scope),
    "phone_text": Visible(right="phone.read", scope=_everywhere),
    "gateway": Visible(right="notice.settle", scope=_everywhere, brief=_brief_gateway),
}
