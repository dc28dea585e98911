"""The gateway to Twilio, or to a host that speaks its Messages API, over the official library without blocking.

Never sends a POST a second time: no retries, no redirects, no replay on a broken connection; Twilio's Messages API
has no idempotency key. Invariant: until the pool hands over a connection the outcome is NotSubmitted; after that
it is Uncertain unless the answer says otherwise.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator, get_signature_algorithm
from twilio.rest import Client
from twilio.twiml.messaging_response import MessagingResponse

from command.base.errors import Denied, Rejected, Unavailable
from sms.gateway import INBOUND_PATH as INBOUND_PATH
from sms.gateway import STATUS_PATH as STATUS_PATH
from sms.gateway import Limits, NotSubmitted, OnInbound, OnReceipt, Refused, Submitted, Uncertain, guard
from sms.message import ID_CHARS_MAX, Kind, Message, outgoing
from sms.receipt import INBOUND_CHARS_MAX, Inbound, Receipt

NAME = "twilio"

RESPONSE_BYTES_MAX = 64 * 1024
FIELD_CHARS_MAX = 64
FIELDS_MAX = 100
SIGNATURE_CHARS_MAX = 200
KEEP_ALIVE_S = 4.0
"""Shorter than any server's: a POST on a connection that the server is closing would be needlessly uncertain."""

# Status of a callback -> what it means to us. "queued" and "accepted" already prove that Twilio has the message.
_STATUS = {
    "accepted": Kind.RECEIPT_SENT,
    "scheduled": Kind.RECEIPT_SENT,
    "queued": Kind.RECEIPT_SENT,
    "sending": Kind.RECEIPT_SENT,
    "sent": Kind.RECEIPT_SENT,
    "delivered": Kind.RECEIPT_DELIVERED,
    "read": Kind.RECEIPT_DELIVERED,
    "undelivered": Kind.RECEIPT_FAILED,
    "failed": Kind.RECEIPT_FAILED,
    "canceled": Kind.RECEIPT_FAILED,
}

# Codes of 4xx answers that aren't about this message (twilio.com/docs/api/errors): too fast, queue full, account
# suspended or not active, sender or messaging service wrong. Retried, and shown as the gateway's fault.
_GATEWAY_CODES = frozenset({14107, 20003, 20005, 20429, 21212, 21603, 21606, 21611, 21659, 21660, 21701, 21705, 30002})
_BUSY_CODES = frozenset({14107, 20429, 21611})
_GATEWAY_STATUS = frozenset({401, 402, 403, 404, 405})
# A 4xx that some proxy between may have made up after the request went through.
_DOUBTFUL_STATUS = frozenset({408, 409, 425, 499})


@dataclass(frozen=True, kw_only=True)
class TwilioSettings:
    """How to reach the account. Secrets are left out of the repr.

    `sender` is a number or `service` a messaging service ("MG..."); one of them. `api_key` with `api_secret` may
    stand in for the token when submitting; callbacks are always signed with `auth_token`. `base_url` is the whole
    host for a compatible gateway; `edge` and `region` choose among Twilio's own. `public_url` is the address under
    which Twilio reaches this node, before any proxy, without a path unless the proxy adds one; `proxy_url` the way
    out of this network where there is no direct one.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    public_url: str
    sender: str = ""
    service: str = ""
    api_key: str = ""
    api_secret: str = field(default="", repr=False)
    base_url: str = ""
    edge: str = ""
    region: str = ""
    proxy_url: str = field(default="", repr=False)
    rate_parts_per_s: float = 1.0
    window: int = 10
    connect_timeout_s: float = 5.0
    timeout_s: float = 20.0


def check_settings(settings: TwilioSettings) -> None:
    """Raises Rejected `sms.twilio_settings`, with the name of the setting."""
    account = settings.account_sid
    checks = {
        "account_sid": account.isalnum() and account.isascii() and len(account) <= FIELD_CHARS_MAX,
        "auth_token": bool(settings.auth_token),
        "sender": bool(settings.sender) != bool(settings.service),
        "api_secret": bool(settings.api_key) == bool(settings.api_secret),
        "public_url": _url_allowed(settings.public_url),
        "base_url": not settings.base_url or _url_allowed(settings.base_url),
        "edge": not (settings.base_url and (settings.edge or settings.region)),
        "rate_parts_per_s": settings.rate_parts_per_s > 0 and settings.window > 0,
        "timeout_s": 0 < settings.connect_timeout_s <= settings.timeout_s,
    }
    for name, good in checks.items():
        if not good:
            raise Rejected("sms.twilio_settings", f"check the setting {name}", name=name)


def _url_allowed(url: str) -> bool:
    """https, or http to this machine: the credentials and the texts travel there."""
    try:
        parsed = urlsplit(url)
        host, _ = parsed.hostname, parsed.port
    except ValueError:
        return False
    if parsed.query or parsed.fragment or parsed.username or not host:
        return False
    return parsed.scheme == "https" or (parsed.scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))


class Http(AsyncHttpClient):  # type: ignore[misc]  # the library has no types
    """One request, once, over aiohttp. Logs nothing: the library's own client would log addresses and headers.

    Raises NotSubmitted while no connection was in hand, Uncertain afterwards.
    """

    def __init__(self, settings: TwilioSettings) -> None:
        super().__init__(logging.getLogger("sms.twilio"), True, settings.timeout_s)
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session; the caller must be inside the running loop."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.window, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            timeout=aiohttp.ClientTimeout(
                total=self._settings.timeout_s, sock_connect=self._settings.connect_timeout_s
            ),
            trust_env=False,
        )

    async def request(
        self,
        method: str,
        uri: str,
        params: Any = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        if self._session is None:
            raise NotSubmitted("sms.twilio_closed", "the gateway is not started")
        flight = SimpleNamespace(connected=False)
        try:
            async with self._session.request(
                method,
                uri,
                params=params,
                data=data,
                headers={**(headers or {}), **({"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {})},
                proxy=self._settings.proxy_url or None,
                allow_redirects=False,
                trace_request_ctx=flight,
            ) as answer:
                _check_status(answer.status, answer.headers)
                body = await _read(answer)
                return Response(answer.status, body.decode("utf-8", "replace"), answer.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # `from None`: an aiohttp error shows the request, and with it the account.
            name = type(error).__name__
            if flight.connected:
                raise Uncertain("sms.twilio_no_answer", f"the connection ended without an answer ({name})") from None
            raise NotSubmitted("sms.twilio_unreachable", f"no connection to the gateway ({name})") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
    context.trace_request_ctx.connected = True


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    """What the status alone decides; 2xx and the 4xx that carry a code of Twilio's go on to the library."""
    if status >= 500 or status in _DOUBTFUL_STATUS:
        raise Uncertain("sms.twilio_status", f"the gateway answered {status}: it may have taken the message")
    if status == 429:
        after = headers.get("Retry-After", "")
        after_s = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else None
        raise NotSubmitted("sms.twilio_busy", "the gateway asks to slow down", after_s=after_s)
    if 300 <= status < 400 or status in _GATEWAY_STATUS:
        hint = "check the account, its token and the gateway's address"
        raise NotSubmitted(f"sms.twilio_{status}", hint, blocked=True)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in answer.content.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > RESPONSE_BYTES_MAX:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return body


class TwilioGateway:
    """The caller routes POSTs to STATUS_PATH + id and INBOUND_PATH to `status()` and `inbound()`."""

    name = NAME
    real = True

    def __init__(self, settings: TwilioSettings) -> None:
        """Raises Rejected as `check_settings()`."""
        check_settings(settings)
        self.settings = settings
        self.limits = Limits(rate_parts_per_s=settings.rate_parts_per_s, window=settings.window)
        self._validator = RequestValidator(settings.auth_token)
        self._http = Http(settings)
        self._client = Client(
            settings.api_key or settings.account_sid,
            settings.api_secret or settings.auth_token,
            account_sid=settings.account_sid,
            edge=settings.edge or None,
            region=settings.region or None,
            http_client=self._http,
            # Not empty, or the library reads TWILIO_EDGE and TWILIO_REGION from the process and bends our host.
            environment={"FENGHUO": "1"},
        )
        if settings.base_url:
            self._client.api.base_url = settings.base_url.rstrip("/")
        self._on_receipt: OnReceipt | None = None
        self._on_inbound: OnInbound | None = None

    def __repr__(self) -> str:
        return f"TwilioGateway({self.settings.account_sid})"

    async def start(self, on_receipt: OnReceipt, on_inbound: OnInbound) -> None:
        self._on_receipt = on_receipt
        self._on_inbound = on_inbound
        self._http.open()

    async def close(self) -> None:
        await self._http.close()

    async def submit(self, message: Message) -> Submitted:
        """One POST. Raises as `Gateway.submit`."""
        guard(message)
        wanted: dict[str, Any] = {"messaging_service_sid": self.settings.service} if self.settings.service else {}
        if self.settings.sender:
            wanted["from_"] = self.settings.sender
        try:
            answer = await self._client.messages.create_async(
                to=message.number,
                body=outgoing(message),
                status_callback=self.settings.public_url.rstrip("/") + STATUS_PATH + quote(message.id, safe=""),
                **wanted,
            )
        except (TwilioRestException, TwilioServiceException) as error:
            # `from None`: its text repeats the number.
            raise _refusal(error.code) from None
        except (TwilioException, ValueError, TypeError, AttributeError, LookupError, RecursionError):
            raise Uncertain("sms.twilio_answer", "the gateway said yes in a way that can't be read") from None
        if not isinstance(answer.sid, str) or not 0 < len(answer.sid) <= FIELD_CHARS_MAX:
            raise Uncertain("sms.twilio_answer", "the gateway said yes without naming the message")
        return Submitted(gateway_id=answer.sid, parts=_count(answer.num_segments))

    async def status(self, path_qs: str, form: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """A status callback: `path_qs` as requested of us, `form` a MultiDict. Returns once the receipt is durable.

        Raises Denied `sms.twilio_signature`; Rejected `sms.twilio_callback`; what the receipt's taker raises. A status
        that we don't know changes nothing.
        """
        self._verify(path_qs, form, headers)
        path = path_qs.partition("?")[0]
        message = path.removeprefix(STATUS_PATH)
        if message == path or not 0 < len(message) <= ID_CHARS_MAX:
            raise Rejected("sms.twilio_callback", "the path names no message")
        gateway_id = _text(form, "MessageSid") or _text(form, "SmsSid")
        status = _text(form, "MessageStatus") or _text(form, "SmsStatus")
        if not gateway_id or not status:
            raise Rejected("sms.twilio_callback", "MessageSid and MessageStatus are needed")
        kind = _STATUS.get(status)
        if kind is None:
            return
        error = _text(form, "ErrorCode")
        code = f"twilio.{error}" if kind is Kind.RECEIPT_FAILED and error.isdigit() else ""
        if self._on_receipt is None:
            raise Unavailable("sms.not_started", "the gateway is not started")
        await self._on_receipt(Receipt(gateway=NAME, gateway_id=gateway_id, kind=kind, message=message, code=code))

    async def inbound(self, path_qs: str, form: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """A text from a phone; returns the TwiML to answer with (`text/xml`), once the text is durable.

        Raises as `status()`.
        """
        self._verify(path_qs, form, headers)
        gateway_id, sender = _text(form, "MessageSid"), _text(form, "From")
        if not gateway_id or not sender:
            raise Rejected("sms.twilio_callback", "MessageSid and From are needed")
        if self._on_inbound is None:
            raise Unavailable("sms.not_started", "the gateway is not started")
        reply = await self._on_inbound(
            Inbound(
                gateway=NAME,
                gateway_id=gateway_id,
                sender=sender,
                recipient=_text(form, "To"),
                text=_text(form, "Body", INBOUND_CHARS_MAX),
            )
        )
        response = MessagingResponse()
        if reply:
            response.message(reply)
        return str(response)

    def _verify(self, path_qs: str, form: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """X-Twilio-Signature over the address Twilio used, which is the configured one, not what a proxy shows us."""
        signature = headers.get("X-Twilio-Signature", "")
        if not signature.isascii() or not 0 < len(signature) <= SIGNATURE_CHARS_MAX or len(form) > FIELDS_MAX:
            raise Denied("sms.twilio_signature", "the request carries no signature of the gateway")
        algorithm = get_signature_algorithm(headers.get("X-Twilio-Webhooks-Signature-Settings", ""))
        url = self.settings.public_url.rstrip("/") + path_qs
        try:
            good = self._validator.validate(url, form, signature, algorithm)
        except (ValueError, TypeError):  # a lone surrogate, or a file in place of a text
            good = False
        if not good:
            raise Denied(
                "sms.twilio_signature", "the signature doesn't fit: check the auth token and the public address"
            )
        if _text(form, "AccountSid") != self.settings.account_sid:
            raise Denied("sms.twilio_account", "the request is about another account")


def _refusal(code: object) -> NotSubmitted | Refused:
    number = code if isinstance(code, int) and not isinstance(code, bool) else 0
    if number in _GATEWAY_CODES:
        return NotSubmitted(
            f"sms.twilio_{number}", "check the account and its sender", blocked=number not in _BUSY_CODES
        )
    return Refused(f"sms.twilio_{number}", "the gateway will not carry this message to this number")


def _count(segments: object) -> int:
    return int(segments) if isinstance(segments, str) and len(segments) < 4 and segments.isdecimal() else 0


def _text(form: Mapping[str, Any], name: str, limit: int = FIELD_CHARS_MAX) -> str:
    """A field of a form as text, cut to `limit`, without what the log refuses (U+0000, half surrogates)."""
    value = form.get(name, "")
    if not isinstance(value, str):
        return ""
    return value[:limit].replace("\0", "").encode("utf-8", "replace").decode("utf-8")
