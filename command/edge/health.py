"""Health: is the process alive, can it do its work, and the figures that watchers collect.

Edge. Invariant: `/readyz` says 200 only when a write would be durable now.
"""

import asyncio
import time
from typing import Any, Protocol, runtime_checkable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from sqlalchemy.engine import Connection

from command.base.errors import Denied, FenghuoError, Unauthenticated, Unavailable
from command.base.rights import Relation, widest
from command.base.schema import Value
from command.edge.api import PUBLIC, Call, Route
from command.log.timeline import position_of
from command.log.writer import Commit

LAG_SAMPLE_S = 0.5
LOOPBACK = ("127.0.0.1", "::1")


class Ready(Value, frozen=True, kw_only=True):
    ready: bool
    position: int


@runtime_checkable
class Measured(Protocol):
    """A part of the node that has figures of its own."""

    async def metrics(self) -> bytes: ...


class Metrics:
    """Every figure of this process, documented where it is defined."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        made: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("fenghuo_requests_total", "HTTP requests by status", ["status"], **made)
        self.seconds = Histogram("fenghuo_request_seconds", "Time to answer a request", **made)
        self.entries = Counter("fenghuo_entries_total", "Entries written to the log", **made)
        self.commits = Counter("fenghuo_commits_total", "Commits of the log", **made)
        self.position = Gauge("fenghuo_position", "Position of the log", **made)
        self.waiting = Gauge("fenghuo_log_waiting", "Requests waiting for the writer", **made)
        self.screens = Gauge("fenghuo_screens", "Open live feeds", **made)
        self.lag = Gauge("fenghuo_loop_lag_seconds", "Delay of the event loop, last sample", **made)

    def on_commit(self, commit: Commit) -> None:
        self.commits.inc()
        self.entries.inc(len(commit.written))
        self.position.set(commit.position)

    async def watch_lag(self) -> None:
        """Sample the event loop's delay; run supervised."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_SAMPLE_S)
            self.lag.set(max(0.0, loop.time() - before - LAG_SAMPLE_S))


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


@web.middleware
async def measure(request: web.Request, handler: Any) -> web.StreamResponse:
    """Counts and times requests (WebSockets only when they end)."""
    started = time.perf_counter()
    response: web.StreamResponse = await handler(request)
    metrics = request.app[METRICS]
    metrics.requests.labels(str(response.status)).inc()
    if response.status != 101:
        metrics.seconds.observe(time.perf_counter() - started)
    return response


async def _healthz(call: Call) -> dict[str, bool]:
    return {"alive": True}


async def _readyz(call: Call) -> Ready:
    node = call.node
    if node.log.failed or node.log.stopping:
        raise Unavailable("node.not_ready", node.log.failed or "The server is stopping.")

    def read(connection: Connection) -> int:
        return position_of(connection)

    return Ready(ready=True, position=await node.store.read(read))


async def _metrics(call: Call) -> web.Response:
    """Loopback, the metrics token, or a session with the right."""
    request, config = call.request, call.node.config
    header = request.headers.get("Authorization", "")
    by_token = bool(config.metrics_token) and header == f"Bearer {config.metrics_token}"
    direct = request.remote in LOOPBACK and "X-Forwarded-For" not in request.headers
    if not (by_token or direct):
        try:
            session = await call.node.auth.session_of(request)
        except FenghuoError:
            raise Unauthenticated("auth.none", "Metrics need the metrics token or a session.") from None
        if widest(session.actor, "metrics.read") is Relation.NONE:
            raise Denied("rights.denied", "Your roles do not include 'metrics.read'.")
    metrics = request.app[METRICS]
    metrics.waiting.set(call.node.log.waiting)
    metrics.screens.set(call.node.live.clients)
    body = generate_latest(metrics.registry)
    for part in call.node.parts.values():
        if isinstance(part, Measured):
            body += await part.metrics()
    return web.Response(body=body, content_type="text/plain", charset="utf-8")


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET", path="//healthz", right=PUBLIC, summary="The process is alive", response=dict, handler=_healthz
    ),
    Route(
        method="GET",
        path="//readyz",
        right=PUBLIC,
        summary="The node can do its work",
        response=Ready,
        handler=_readyz,
        errors=(503,),
    ),
    Route(
        method="GET",
        path="//metrics",
        right=PUBLIC,
        summary="Prometheus metrics",
        handler=_metrics,
        produces="text/plain",
        errors=(401, 403),
    ),
)
