"""A stand-in for Twilio: a real HTTP server with Basic auth, ids, signed callbacks in any order, and bad days.

It signs with its own code, not the library's. Invariant: `posts` counts every POST that arrived, `accepted` holds
what a real Twilio would have sent, whatever it answered.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from aiohttp import ClientSession, web

ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "a-token-only-for-tests"
SENDER = "+15005550006"


class Mode(Enum):
    """What to do with the next POST. Those from ERROR_AFTER on accept the message first."""

    BUSY = auto()  # 429 with Retry-After
    BAD_NUMBER = auto()  # 400, code 21211
    BAD_SENDER = auto()  # 400, code 21606
    NOT_FOUND = auto()  # 404 of some other server
    REDIRECT = auto()  # 307 to an address of ours that counts as a POST
    REQUEST_TIMEOUT = auto()  # 408 of a proxy
    ODD_CODE = auto()  # 400 whose code is no number
    PROBLEM = auto()  # 400 as RFC 9457
    ERROR_AFTER = auto()  # 500
    UNAVAILABLE_AFTER = auto()  # 503
    SILENT_AFTER = auto()  # no answer until `release`
    DROP_AFTER = auto()  # connection reset
    TORN_AFTER = auto()  # half an answer, then closed
    GARBLED_AFTER = auto()  # 201 with a page of HTML
    NAMELESS_AFTER = auto()  # 201 without a sid
    LIST_AFTER = auto()  # 201 with a JSON list
    HUGE_AFTER = auto()  # 201 with a body that is too long


_ERRORS: dict[Mode, tuple[int, Any]] = {
    Mode.BUSY: (429, {"code": 20429, "message": "Too Many Requests", "status": 429}),
    Mode.BAD_NUMBER: (400, {"code": 21211, "message": "The 'To' number +8615400000001 is not valid.", "status": 400}),
    Mode.BAD_SENDER: (400, {"code": 21606, "message": "The From number is not yours", "status": 400}),
    Mode.NOT_FOUND: (404, {"detail": "no such page"}),
    Mode.REQUEST_TIMEOUT: (408, {}),
    Mode.ODD_CODE: (400, {"code": ["x"], "message": {}, "status": "400"}),
    Mode.PROBLEM: (400, {"type": "x", "title": "y", "status": 500, "code": 21211}),
    Mode.ERROR_AFTER: (500, {"code": 20500, "message": "Internal Server Error", "status": 500}),
    Mode.UNAVAILABLE_AFTER: (503, {"code": 20503, "message": "Service unavailable", "status": 503}),
    Mode.LIST_AFTER: (201, ["SM"]),
    Mode.NAMELESS_AFTER: (201, {"status": "queued"}),
}


class TwilioDouble:
    """Start it, point `base_url` at it; `modes` is consumed one per POST, then all is well."""

    def __init__(self, account: str = ACCOUNT, token: str = TOKEN) -> None:
        self.account, self.token = account, token
        self.modes: deque[Mode] = deque()
        self.posts: list[dict[str, str]] = []
        self.accepted: dict[str, dict[str, str]] = {}
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.base_url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/2010-04-01/Accounts/{account}/Messages.json", self._create)
        app.router.add_post("/elsewhere", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.release.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def callback(self, sid: str, status: str, *, token: str | None = None, **fields: str) -> int:
        """One signed status callback; returns the HTTP status it met."""
        message = self.accepted[sid]
        form = {
            "AccountSid": self.account,
            "MessageSid": sid,
            "SmsSid": sid,
            "MessageStatus": status,
            "SmsStatus": status,
            "To": message["To"],
            "From": message.get("From", SENDER),
            "ApiVersion": "2010-04-01",
        } | fields
        return (await self._post(message["StatusCallback"], form, token or self.token))[0]

    async def callbacks(self, sid: str, statuses: Sequence[str]) -> list[int]:
        return [await self.callback(sid, status) for status in statuses]

    async def inbound(self, url: str, sender: str, text: str, *, sid: str = "SMin1", token: str | None = None,
                      **fields: str) -> tuple[int, str]:  # fmt: skip
        """One signed inbound text; returns the HTTP status and the TwiML."""
        form = {
            "AccountSid": self.account,
            "MessageSid": sid,
            "From": sender,
            "To": SENDER,
            "Body": text,
            "NumMedia": "0",
            "NumSegments": "1",
        } | fields
        return await self._post(url, form, token or self.token)

    async def _post(self, url: str, form: dict[str, str], token: str) -> tuple[int, str]:
        headers = {"X-Twilio-Signature": sign(url, form, token), "I-Twilio-Idempotency-Token": "0" * 32}
        async with ClientSession() as session, session.post(url, data=form, headers=headers) as answer:
            return answer.status, await answer.text()

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.posts.append({"elsewhere": "1"})
        return web.Response(status=500)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.posts.append(form)
        self.arrived.set()
        wanted = "Basic " + base64.b64encode(f"{self.account}:{self.token}".encode()).decode()
        if request.headers.get("Authorization") != wanted or request.match_info["account"] != self.account:
            return web.json_response({"code": 20003, "message": "Authenticate", "status": 401}, status=401)
        mode = self.modes.popleft() if self.modes else None
        if mode is not None and mode.value < Mode.ERROR_AFTER.value:
            return self._refuse(mode)
        sid = f"SM{len(self.accepted) + 1:032x}"
        self.accepted[sid] = form
        return await self._answer(request, mode, sid, form)

    def _refuse(self, mode: Mode) -> web.StreamResponse:
        if mode is Mode.REDIRECT:
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        status, body = _ERRORS[mode]
        headers = {"Retry-After": "7"} if mode is Mode.BUSY else {}
        return web.json_response(body, status=status, headers=headers)

    async def _answer(
        self, request: web.Request, mode: Mode | None, sid: str, form: dict[str, str]
    ) -> web.StreamResponse:
        if mode in _ERRORS:
            status, body = _ERRORS[mode]
            return web.json_response(body, status=status)
        if mode is Mode.SILENT_AFTER:
            await self.release.wait()
        if mode in (Mode.DROP_AFTER, Mode.TORN_AFTER):
            assert request.transport is not None
            if mode is Mode.TORN_AFTER:
                request.transport.write(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"sid": "SM')
                request.transport.close()
            else:
                request.transport.abort()
            await asyncio.Event().wait()  # the handler ends when the server sees the connection go
        if mode is Mode.GARBLED_AFTER:
            return web.Response(status=201, text="<html>welcome to the captive portal</html>", content_type="text/html")
        if mode is Mode.HUGE_AFTER:
            return web.Response(status=201, text='"' + "x" * 200_000 + '"')
        resource = {
            "sid": sid,
            "account_sid": self.account,
            "to": form["To"],
            "from": form.get("From"),
            "body": form["Body"],
            "status": "queued",
            "num_segments": "2",
            "date_created": "Fri, 20 Nov 2026 12:00:00 +0000",
            "error_code": None,
        }
        return web.json_response(resource, status=201)


def sign(url: str, form: dict[str, str], token: str) -> str:
    """X-Twilio-Signature: HMAC-SHA1 over the address and the sorted fields, base64."""
    line = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), line.encode(), hashlib.sha1).digest()).decode()
