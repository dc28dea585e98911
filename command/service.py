"""A running node: opens what it needs in order, and closes it in the reverse order.

Shell. Holds no domain rule; `server.py` says of which modules the node consists. Invariant: nothing listens before the log
can write, and nothing that was accepted is left unwritten at a stop.
"""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from command.base import identity
from command.base.clock import Clock
from command.base.config import Config
from command.base.entry import By
from command.base.errors import Corrupt, Rejected
from command.base.projection import Domain, Rows
from command.base.rights import Tree
from command.base.supervise import end, forever, spawn
from command.domain.generation import OpenGeneration
from command.domain.registry import ORGANISATION, OrganisationTree
from command.edge import health
from command.edge.api import NODE, Node, Route, add_routes, check_routes, errors, sharing
from command.edge.auth import Auth
from command.edge.files import FrontEnd, security_headers
from command.edge.live import Live, Topic, Visible, check_topics
from command.edge.openapi import route_of
from command.edge.patience import KEEPALIVE_S, Patience
from command.edge.requests import request_ids
from command.log.bus import Bus, RedisHints
from command.log.held import made_by_nobody
from command.log.instance import KEY as INSTANCE
from command.log.instance import Instance
from command.log.rebuild import rebuild
from command.log.store import STREAM, get_meta, guarded, open_store, prepare, reported_by_nobody, set_meta
from command.log.timeline import position_of
from command.log.timers import Timers
from command.log.witness import Witness, stream_heads
from command.log.writer import Log

SHUTDOWN_S = 6.0
CHECKPOINT_S = 1.0
UNFINISHED = "recovering"
"""A file in the data directory while a node is made again from its superior (`recovery`)."""
VERSION = "0.1.0"

journal = structlog.get_logger("service")


class Part(Protocol):
    """What `sms` and `media` start for themselves."""

    async def stop(self) -> None: ...


@runtime_checkable
class Guested(Protocol):
    """A part with open requests of its own (sockets): it lets go of them before the server waits for them to end."""

    def farewell(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class House:
    """Of what a node consists: assembled by `server.py`, checked here."""

    domain: Domain
    routes: Sequence[Route]
    topics: Sequence[Topic]
    visible: dict[str, Visible]
    parts: dict[str, Callable[[Node], Awaitable[Part]]] = field(default_factory=dict)


class Organisations:
    """`rights.Tree` for readers: the organisations as of the last commit."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, ...]] = {}

    def line(self, organisation: str) -> tuple[str, ...]:
        return self._lines.get(organisation, (organisation,))

    def learn(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._lines[row.id] = tuple(row.line)

    def on_commit(self, commit: Any) -> None:
        self.learn(change.after for change in commit.changes if change.table == "organisation" and change.after)


def tree_of(rows: Rows) -> Tree:
    """`rights.Tree` for deciders: the organisations as of this request."""
    return OrganisationTree(rows)


class Service:
    """Start with `start()`, wait on `failed`, end with `stop()`."""

    def __init__(self, config: Config, house: House, clock: Clock | None = None) -> None:
        self.config, self.house, self.clock = config, house, clock or Clock()
        self.failed: asyncio.Event = asyncio.Event()
        self.reason = ""
        self.node: Node
        self.port = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._writer: asyncio.Task[Any] | None = None
        self._parts: list[Part] = []
        self._runner: web.AppRunner | None = None
        self._hints: RedisHints | None = None
        self._witness: Witness | None = None
        self._patience = Patience()
        self._recovering = False

    async def open(self, *, recovering: bool = False) -> None:
        """Open the database and take the log; nothing listens yet. For command-line work and as the first half of `start`.

        `recovering`: no timer runs, because what is coming in may have armed timers that fell due long ago. Raises `Rejected`
        for a directory whose recovery was not finished.
        """
        data = Path(self.config.data)
        if (data / UNFINISHED).exists() and not recovering:
            hint = (
                "This node is being made again from its superior; run `restore --from-parent` again to the end first."
            )
            raise Rejected("restore.unfinished", hint)
        self._recovering = recovering
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.node = await self._open(data, identity.load_or_make(data))
        _settle_memory()

    async def start(self, prepare_data: Callable[["Service"], Awaitable[None]] | None = None) -> None:
        """Open the database, take the log, start the parts, let `prepare_data` write what must be there, then listen."""
        every = [*self.house.routes, route_of(self.house.routes, VERSION)]
        check_routes(every)
        check_topics(self.house.topics, self.house.visible, self.house.domain.tables.values())
        await self.open()
        for name, start in self.house.parts.items():
            part = await start(self.node)
            self.node.parts[name] = part
            self._parts.append(part)
        await self.node.store.write(self._settled)
        if prepare_data is not None:
            await prepare_data(self)
        await self._listen(every)
        journal.info("node.ready", node=self.node.log.node, port=self.port, position=self.node.log.position)

    async def _open(self, data: Path, key: Ed25519PrivateKey) -> Node:
        config, clock, domain = self.config, self.clock, self.house.domain
        store = open_store(config.database_url, domain.tables.values(), data)
        name = identity.node_id(key.public_key())
        bus, organisations = Bus(), Organisations()
        await store.write(store.hold)
        if await store.write(lambda: prepare(store)):
            count = await store.write(lambda: rebuild(store, domain))
            journal.info("tables.rebuilt", entries=count)
        self._instance = Instance(data)
        generation, pending = await store.write(lambda: self._generation(store, name))
        log = Log(store, domain, clock, key, name, bus.publish, tree_of)
        await log.start(generation)
        self._writer = spawn("log", log.run(), vital=self._fail)
        auth = Auth(config, clock, store, log, identity.derive(key, "vault"))
        live = Live(store, clock, organisations, self.house.topics, self.house.visible)
        live.begin(log.position)
        auth.cut, auth.refreshed = live.cut, live.refresh
        timers = Timers(store, log, clock)
        metrics = health.Metrics()
        for listener in (organisations, auth, live, timers, metrics):
            bus.listen(listener.on_commit)
        rows = await store.read(lambda connection: store.shelf(ORGANISATION).select(connection))
        organisations.learn(rows)
        node = Node(config=config, clock=clock, store=store, log=log, auth=auth, live=live, bus=bus, tree=organisations)
        self._metrics = metrics
        if pending is not None:
            public = identity.public_hex(key.public_key())
            request = OpenGeneration(id=generation, public_key=public, **pending)
            # The key: a start that was killed before it had settled doesn't open the generation again.
            await log.append(request, By(account="node"), key=f"generation-{generation}")
            node.parts["restored"] = bool(pending.get("restored"))
        self._start_tasks(node, key, live, timers, metrics)
        return node

    def _start_tasks(
        self, node: Node, key: Ed25519PrivateKey, live: Live, timers: Timers, metrics: health.Metrics
    ) -> None:
        self._tasks += [
            spawn("live", forever("live", live.run), vital=self._fail),
            spawn("lag", metrics.watch_lag()),
            spawn("checkpoint", forever("checkpoint", node.store.checkpoint, pause_s=CHECKPOINT_S)),
            spawn("instance", forever("instance", self._mark, pause_s=CHECKPOINT_S)),
        ]
        if not self._recovering:
            self._tasks.append(spawn("timers", forever("timers", timers.run), vital=self._fail))
        if self.config.witness:
            self._witness = Witness(Path(self.config.witness), node.store, self.clock, key, node.log.node)
            self._tasks.append(spawn("witness", forever("witness", self._witness.run)))
        if self.config.redis:
            self._hints = RedisHints(self.config.redis, node.log.node, lambda hint: None)
            node.bus.listen(self._hints.on_commit)
            self._tasks += [spawn("hints.send", self._hints.send()), spawn("hints.receive", self._hints.receive())]

    def _generation(self, store: Any, node: str) -> tuple[str, dict[str, Any] | None]:
        """The current generation and, when it has not been opened in the log yet, what its first entry must say."""
        with guarded(), store.writer_engine.begin() as connection:
            owner = get_meta(connection, "node")
            if owner is not None and owner != node:
                raise Corrupt(
                    "identity.foreign",
                    "This database belongs to another node; put its node.key into the data directory.",
                )
            if owner is None:
                set_meta(connection, "node", node)
                set_meta(connection, "generation", self.clock.token())
                set_meta(connection, "opening", "{}")
            elif reported_by_nobody(connection, node) or made_by_nobody(connection, node):
                raise Corrupt(
                    "log.incident_ids",
                    "This log holds incidents or orders whose ids don't say who made them, as programs before the first release "
                    "wrote them; begin with an empty data directory.",
                )
            elif self._instance.went_back(get_meta(connection, INSTANCE), position_of(connection)):
                self._went_back(connection, node)
            generation = get_meta(connection, "generation")
            opening = get_meta(connection, "opening")
            run = self.clock.token()
            self._instance.announce(run)
            set_meta(connection, INSTANCE, run)
            position = position_of(connection)
        self._instance.begin(run, position)
        assert generation is not None
        return generation, msgspec.json.decode(opening) if opening else None

    def _went_back(self, connection: Connection, node: str) -> None:
        """Somebody put an old database back and did not say so: what `restore` notes is noted here."""
        generation = get_meta(connection, "generation")
        after = stream_heads(connection, STREAM.c.origin == node, STREAM.c.generation == generation)
        if get_meta(connection, "opening"):
            return  # a restore that was announced, or a start that was not finished
        journal.warning("database.went_back", generation=generation)
        opening = {"previous": generation, "after": after, "restored": True}
        set_meta(connection, "generation", self.clock.token())
        set_meta(connection, "opening", msgspec.json.encode(opening).decode())

    async def _mark(self) -> None:
        if self._instance.position == self.node.log.position:
            return  # an idle node wakes no thread
        await asyncio.to_thread(self._instance.reached, self.node.log.position)

    def _settled(self) -> None:
        """Everything that follows the opening of a generation is durable: don't open it again."""
        with guarded(), self.node.store.writer_engine.begin() as connection:
            set_meta(connection, "opening", "")

    async def _listen(self, routes: Sequence[Route]) -> None:
        patience = self._patience
        app = web.Application(
            middlewares=[patience.hear, request_ids, health.measure, security_headers, sharing, errors],
            client_max_size=4 * 1024 * 1024,
        )
        app[NODE] = self.node
        app[health.METRICS] = self._metrics
        add_routes(app, routes)
        FrontEnd().add_to(app)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, handle_signals=False, keepalive_timeout=KEEPALIVE_S
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "the runner was set up"
        self._tasks.append(spawn("patience", forever("patience", lambda: patience.run(server))))
        site = web.TCPSite(self._runner, self.config.host, self.config.port, ssl_context=tls(self.config), backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self.failed.set()

    async def stop(self) -> None:
        """Refuse new work, finish what was accepted, close. Safe after a start that failed half-way."""
        node: Node | None = getattr(self, "node", None)
        if node is not None:
            await node.live.stop()
        for part in self._parts:
            if isinstance(part, Guested):
                part.farewell()
        if self._runner is not None:
            await self._runner.cleanup()
        for part in reversed(self._parts):
            await part.stop()
        await end(*self._tasks)
        if node is not None:
            node.log.stop()
            if self._writer is not None:
                await asyncio.wait([self._writer], timeout=SHUTDOWN_S)
            if self._witness is not None:
                await self._witness.write()
            await self._mark()
            node.store.close()
        if self._hints is not None:
            await self._hints.close()
        journal.info("node.stopped")


def _settle_memory() -> None:
    """Take everything that was imported and opened out of the garbage collector's sight.

    Without this each full collection walks some 500,000 lasting objects and stops the node for 150 ms and more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def tls(config: Config) -> ssl.SSLContext | None:
    """What HTTPS is served with; None for plain HTTP. Raises `Rejected` `config.tls` naming the files."""
    if not config.tls:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except OSError as error:  # neither the files nor OpenSSL's words say which setting it is
        files = f"{config.tls_certificate} and {config.tls_key}"
        raise Rejected("config.tls", f"{files} can't be read as a certificate chain and its key: {error}") from None
    return context
