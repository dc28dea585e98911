"""Request ids and the JSON journal.

Edge. Every line that a request causes carries its id, which the answer names in `X-Request-Id`. Secrets never get here:
nobody logs bodies, cookies or tokens.
"""

import logging
import re
import secrets
import sys
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

HEADER = "X-Request-Id"
_WELL_FORMED = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def configure(level: str) -> None:
    """JSON lines on standard error: time, level, event, request id, and what the event says."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"event":"%(name)s","level":"%(levelname)s"}')
    logging.getLogger("aiohttp.server").addHandler(_Bugs())
    logging.getLogger("aiohttp.server").propagate = False


class _Bugs(logging.Handler):
    """What aiohttp itself has to say (bad requests on the wire, bugs outside handlers), as our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger("http").warning("http.trouble", message=record.getMessage()[:500])


@web.middleware
async def request_ids(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Bind a request id to everything that happens meanwhile; a well-formed one from a proxy is kept."""
    given = request.headers.get(HEADER, "")
    key = given if _WELL_FORMED.match(given) else secrets.token_hex(8)
    with structlog.contextvars.bound_contextvars(request=key):
        response = await handler(request)
    if not response.prepared:
        response.headers[HEADER] = key
    return response
