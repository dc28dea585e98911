"""The live feed: one WebSocket per screen; a snapshot of each topic, then every changed row since.

Shell and edge. It knows no domain rule: which rows travel on which topic says the table, who may see them says the rights
table. Invariant: what a session gets is exactly what a fresh snapshot would show it now; a screen that falls behind is cut
off loudly and starts again, never silently thinned.

Wire (JSON text frames). Client: {"type": "subscribe", "topic", "since"?}, {"type": "unsubscribe", "topic"},
{"type": "ping"}. Server: {"type": "snapshot", "topic", "position", "tables": {name: [row]}}, {"type": "resumed", "topic",
"position"}, {"type": "changes", "position", "rows": [{"table", "key", "row" | null}]}, {"type": "position", "position",
"now"} every 5 s, {"type": "error", "code", "hint", "topic"?}. Close codes: 4401 session ended, 4409 rights changed
(connect again), 1013 too slow.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog
from aiohttp import WSMsgType, web
from sqlalchemy.engine import Connection

from command.base.clock import Clock
from command.base.errors import Denied, FenghuoError, Missing, Rejected
from command.base.projection import Change, Row, Table, no_topics
from command.base.rights import RIGHTS, Actor, Relation, Scope, Tree, allowed, widest
from command.base.schema import Id
from command.base.supervise import spawn
from command.edge.auth import Session
from command.edge.recent import Item, Recent
from command.log.store import Store
from command.log.timeline import TIMELINE, item_of, position_of
from command.log.writer import Commit

CLIENTS_MAX = 2_000
TOPICS_MAX = 20
FRAME_BYTES_MAX = 64 * 1024
SNAPSHOT_TRIES = 5
"""How often a snapshot is read again because more was committed meanwhile than is remembered."""
PENDING_FRAMES_MAX = 200
TICK_S = 0.04
TICK_PER_CLIENT_S = 0.0001
"""With many screens fewer, larger frames: each frame costs each screen the same whatever it holds."""
HEARTBEAT_S = 5.0
GOODBYE_S = 0.5
"""How long a closing handshake may take before the connection is torn down."""

journal = structlog.get_logger("live")


@dataclass(frozen=True, kw_only=True)
class Visible:
    """Who may see a table's rows: the right, where a row stands, and what those see who lack the right but have
    `registry.read` (None: nothing). `gated`: its rows travel on topics with a gate only, and whoever passed that may see
    them, whatever was true when they were written."""

    right: str
    scope: Callable[[Any], Scope]
    brief: Callable[[Any], Row] | None = None
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One row of an edge's `TOPICS`: "picture" or "incident/{id}". `rows` reads the snapshot's rows by table; `gate`
    raises `Missing` or returns the scope a subscriber must reach."""

    name: str
    right: str
    rows: Callable[[Store, Connection, str], dict[str, list[Row]]]
    gate: Callable[[Store, Connection, str], Scope] | None = None


def check_topics(topics: Iterable[Topic], visible: Mapping[str, Visible], tables: Iterable[Table[Any]]) -> None:
    """Raises `Rejected` for a topic without a known right or that is there twice, and for a table whose changes travel
    although no rule says who may see its rows."""
    seen: set[str] = set()
    for topic in topics:
        kind = topic.name.partition("/")[0]
        if topic.right not in RIGHTS:
            raise Rejected("rights.unknown", f"The topic '{topic.name}' names no known right: '{topic.right}'.")
        if kind in seen:
            raise Rejected("live.twice", f"There are two topics named '{kind}'.")
        seen.add(kind)
    for name, rule in visible.items():
        if rule.right not in RIGHTS:
            raise Rejected("rights.unknown", f"The rows of '{name}' name no known right: '{rule.right}'.")
    for table in tables:
        if table.topics is not no_topics and table.name not in visible:
            raise Rejected("live.invisible", f"Changes of '{table.name}' travel, but nothing says who may see them.")


@dataclass(eq=False, kw_only=True)
class _Client:
    """`ready` once the upgrade was answered; when the session ends before, `ended` holds the close that is due then."""

    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    session: Session
    ready: bool = False
    ended: tuple[int, bytes] | None = None
    topics: set[str] = field(default_factory=set)
    position: int = 0
    frames: deque[str] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    slow: bool = False


class Live:
    """Owns the sockets. Feed it with `on_commit`; run `run()` supervised; hand requests to `serve()`."""

    def __init__(
        self, store: Store, clock: Clock, tree: Tree, topics: Iterable[Topic], visible: dict[str, Visible]
    ) -> None:
        self._store, self._clock, self._tree = store, clock, tree
        self._topics = {topic.name.partition("/")[0]: topic for topic in topics}
        self._visible = visible
        self._clients: set[_Client] = set()
        self._recent = Recent(lambda table, row: store.shelves[table].decode(row))
        self._fresh: list[Item] = []
        self._position = 0
        self._wake = asyncio.Event()

    def begin(self, position: int) -> None:
        """The position of the log before the first commit of this run."""
        self._position = position

    # -- what may be seen

    def view(self, actor: Actor, table: str, row: Row) -> Row | None:
        """The row as `actor` may see it, or None."""
        rule = self._visible.get(table)
        if rule is None:
            return None
        if rule.gated or allowed(actor, rule.right, rule.scope(row), self._tree):
            return row
        if rule.brief is not None and widest(actor, "registry.read") is not Relation.NONE:
            return rule.brief(row)
        return None

    def view_all(self, actor: Actor, table: str, rows: Iterable[Row]) -> list[Row]:
        return [seen for row in rows if (seen := self.view(actor, table, row)) is not None]

    # -- the feed

    def on_commit(self, commit: Commit) -> None:
        """Remember the changes of a commit and wake the sender. Called in commit order."""
        items = []
        for change in commit.changes:
            topics = self._store.shelves[change.table].table.topics
            before = frozenset(topics(change.before) if change.before is not None else ())
            now = frozenset(topics(change.after) if change.after is not None else ())
            if before - now:
                # Nothing more of it will travel there: gone for who follows only those topics, else the row comes next.
                items.append(Item(table=change.table, key=change.key, before=change.before, topics=before - now))
            if now:
                item = Item(table=change.table, key=change.key, before=change.before, after=change.after, topics=now)
                items.append(item)
        timelines: dict[str, frozenset[str]] = {}
        for written in commit.written:
            subject = written.entry.subject
            if subject.startswith("incident/"):
                topics_of = timelines.setdefault(subject, frozenset((subject,)))
                key = written.hash.hex()
                position, loose = commit.position, written.hash in commit.loose
                items.append(
                    Item(table=TIMELINE, key=key, topics=topics_of, written=written, position=position, branch=loose)
                )
        for written, position, loose in commit.bared:
            topics_of = frozenset((written.entry.subject,))
            key = written.hash.hex()
            items.append(
                Item(table=TIMELINE, key=key, topics=topics_of, written=written, position=position, branch=loose)
            )
        self._position = commit.position
        self._recent.add(commit.position, items)
        self._fresh.extend(items)
        self._wake.set()
        if any(_moved(change) for change in commit.changes):
            # Who stands above whom decides what everybody sees, and no row of theirs has changed: all begin afresh.
            self._recent.clear()
            self._close(lambda client: True, 4409, b"rights changed")

    async def run(self) -> None:
        """Send what was committed, coalesced per tick, and a heartbeat."""
        loop = asyncio.get_running_loop()
        beat = loop.time()
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            items, self._fresh = self._fresh, []
            if items:
                self._fan_out(items, self._position)
            if loop.time() - beat >= HEARTBEAT_S:
                beat = loop.time()
                self._heartbeat()
            await asyncio.sleep(TICK_S + TICK_PER_CLIENT_S * len(self._clients))

    def _fan_out(self, items: list[Item], position: int) -> None:
        memo: dict[Any, str | None] = {}
        frames: dict[tuple[str, ...], str] = {}
        for client in self._clients:
            if position <= client.position or not client.topics:
                continue
            parts = tuple(self._fragments(client, items, memo))
            client.position = position
            if not parts:
                continue
            frame = frames.get(parts)
            if frame is None:
                frame = f'{{"type":"changes","position":{position},"rows":[{",".join(parts)}]}}'
                frames[parts] = frame
            self._send(client, frame)

    def _fragments(self, client: _Client, items: Iterable[Item], memo: dict[Any, str | None]) -> Iterable[str]:
        actor = client.session.actor
        for item in items:
            if client.topics.isdisjoint(item.topics):
                continue
            key = (id(item), self._standing(actor, item))
            if key not in memo:
                memo[key] = self._fragment(actor, item)
            fragment = memo[key]
            if fragment is not None:
                yield fragment

    def _standing(self, actor: Actor, item: Item) -> Any:
        """What of the actor matters for this item: two actors of equal standing see the same."""
        mine = {actor.person, actor.unit, actor.account}
        near = []
        rule = self._visible.get(item.table)
        for row in (item.before, item.after):
            if rule is not None and row is not None and not rule.gated:
                scope = rule.scope(row)
                near.append((scope.owner in mine, not mine.isdisjoint(scope.parties)))
        return (actor.roles, actor.organisation, *near)

    def _fragment(self, actor: Actor, item: Item) -> str | None:
        if item.written is not None:
            return _change(TIMELINE, item.key, item_of(item.written, item.position, branch=item.branch))
        after = self.view(actor, item.table, item.after) if item.after is not None else None
        if after is not None:
            return _change(item.table, item.key, after)
        seen = item.before is not None and self.view(actor, item.table, item.before) is not None
        return _change(item.table, item.key, None) if seen else None

    def _heartbeat(self) -> None:
        now = self._clock.now()
        frame = f'{{"type":"position","position":{self._position},"now":{now}}}'
        ended = {client.session.id for client in self._clients if client.session.expires_at <= now}
        for client in self._clients:
            self._send(client, frame)
        if ended:
            self.cut(ended)

    def _send(self, client: _Client, frame: str) -> None:
        if len(client.frames) < PENDING_FRAMES_MAX:
            client.frames.append(frame)
            client.wake.set()
        else:
            self._drop_slow(client)

    def _drop_slow(self, client: _Client) -> None:
        if not client.slow:
            client.slow = True  # its writer waits for a buffer that nobody empties: don't wait for it
            journal.warning("client.too_slow", account=client.session.actor.account)
            spawn("live.slow", self._goodbye(client, 1013, b"too slow"))

    # -- sockets

    def cut(self, sessions: set[str]) -> None:
        """Close the sockets of sessions that ended."""
        self._close(lambda client: client.session.id in sessions, 4401, b"session ended")

    def refresh(self, accounts: set[str]) -> None:
        """Close the sockets of accounts whose rights changed; their screens connect again."""
        self._close(lambda client: client.session.actor.account in accounts, 4409, b"rights changed")

    def _close(self, which: Callable[[_Client], bool], code: int, reason: bytes) -> None:
        for client in [client for client in self._clients if which(client)]:
            self._clients.discard(client)
            client.topics.clear()
            client.ended = code, reason
            if client.ready:
                spawn("live.close", self._goodbye(client, code, reason))

    async def _goodbye(self, client: _Client, code: int, reason: bytes) -> None:
        """Close with a word, and without the other side's help when it gives none in time."""
        self._clients.discard(client)
        client.frames.clear()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await client.socket.close(code=code, message=reason)
        except TimeoutError:
            if client.transport is not None:
                client.transport.abort()

    async def stop(self) -> None:
        """Say goodbye to every screen at once; they reconnect by themselves."""
        going = [self._goodbye(client, 1001, b"server stopping") for client in list(self._clients)]
        await asyncio.gather(*going, return_exceptions=True)

    @property
    def clients(self) -> int:
        return len(self._clients)

    async def serve(self, request: web.Request, session: Session) -> web.WebSocketResponse:
        """One screen's socket, until it closes. The caller must have checked session and Origin."""
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=FRAME_BYTES_MAX, compress=False)
        client = _Client(socket=socket, transport=request.transport, session=session, position=self._position)
        if len(self._clients) >= CLIENTS_MAX:
            await socket.prepare(request)
            await self._goodbye(client, 1013, b"too many screens")
            return socket
        self._clients.add(client)  # before the first await: a session that ends meanwhile must find its socket here
        try:
            await socket.prepare(request)
        except BaseException:
            self._clients.discard(client)
            raise
        client.ready = True
        if client.ended is not None:
            await self._goodbye(client, *client.ended)
            return socket
        writer = spawn("live.writer", self._write(client))
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                await self._receive(client, message.data)
        finally:
            self._clients.discard(client)
            writer.cancel()
        return socket

    async def _write(self, client: _Client) -> None:
        while not client.socket.closed:
            await client.wake.wait()
            client.wake.clear()
            while client.frames:
                frame = client.frames.popleft()
                try:
                    await client.socket.send_str(frame)
                except (ConnectionResetError, RuntimeError):
                    return

    async def _receive(self, client: _Client, text: str) -> None:
        topic = ""
        try:
            value = _decode(text)
            topic = value.topic
            if value.type == "subscribe":
                await self._subscribe(client, topic, value.since)
            elif value.type == "unsubscribe":
                client.topics.discard(topic)
            elif value.type == "ping":
                self._send(client, f'{{"type":"position","position":{self._position},"now":{self._clock.now()}}}')
            else:
                raise Rejected("live.type", "Send subscribe, unsubscribe or ping.")
        except FenghuoError as error:
            body = {"type": "error", "code": error.code, "hint": error.hint, "topic": topic}
            self._send(client, msgspec.json.encode(body).decode())

    async def _subscribe(self, client: _Client, name: str, since: int | None) -> None:
        kind, _, key = name.partition("/")
        topic = self._topics.get(kind)
        if topic is None or ("/" in topic.name) != bool(key) or not _sound(key):
            raise Missing("live.topic", f"There is no topic '{name[:80]}'.")
        actor = client.session.actor
        if widest(actor, topic.right) is Relation.NONE:
            raise Denied("rights.denied", f"Your roles do not include '{topic.right}'.")
        if len(client.topics) >= TOPICS_MAX and name not in client.topics:
            raise Rejected("live.topics", f"One socket follows {TOPICS_MAX} topics at most.")

        def read(connection: Connection, *, whole: bool) -> tuple[int, Scope | None, dict[str, list[Row]]]:
            scope = topic.gate(self._store, connection, key) if topic.gate is not None else None
            return position_of(connection), scope, topic.rows(self._store, connection, key) if whole else {}

        for _ in range(SNAPSHOT_TRIES):
            resumes = since is not None and self._resumable(since)
            position, scope, tables = await self._store.read(partial(read, whole=not resumes))
            if scope is not None and not allowed(actor, topic.right, scope, self._tree):
                raise Missing("live.topic", f"There is no topic '{name[:80]}'.")
            if resumes and since is not None and self._resumable(since):
                client.topics.add(name)
                self._resume(client, name, since)
                return
            if not resumes and (position >= self._position or self._recent.reaches(position)):
                client.topics.add(name)
                self._show(client, name, position, tables)
                return
        self._drop_slow(client)

    def _show(self, client: _Client, name: str, position: int, tables: dict[str, list[Row]]) -> None:
        """A snapshot, and what was committed since it was read."""
        actor = client.session.actor
        seen = {
            table: self.view_all(actor, table, rows) if table != TIMELINE else rows for table, rows in tables.items()
        }
        body = {"type": "snapshot", "topic": name, "position": position, "tables": seen}
        self._send(client, msgspec.json.encode(body).decode())
        self._catch_up(client, name, position)

    def _resumable(self, since: int) -> bool:
        return since == self._position or (since < self._position and self._recent.reaches(since))

    def _resume(self, client: _Client, name: str, since: int) -> None:
        self._catch_up(client, name, since)
        self._send(
            client, f'{{"type":"resumed","topic":{msgspec.json.encode(name).decode()},"position":{self._position}}}'
        )

    def _catch_up(self, client: _Client, name: str, since: int) -> None:
        """Changes of one topic between a snapshot (or the client's last word) and now, before it joins the feed."""
        parts = list(self._fragments(client, self._recent.since(since, name), {}))
        if parts:
            self._send(client, f'{{"type":"changes","position":{self._position},"rows":[{",".join(parts)}]}}')


class _Message(msgspec.Struct, frozen=True):
    type: str
    topic: str = ""
    since: int | None = None


def _sound(key: str) -> bool:
    """Whether a topic's key can be an id at all: only then does the database see it."""
    try:
        msgspec.convert(key or "x", Id)
    except msgspec.ValidationError:
        return False
    return True


_decoder = msgspec.json.Decoder(_Message)


def _decode(text: str) -> _Message:
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Rejected("live.unreadable", f"The message can't be read: {error}") from None


def _moved(change: Change) -> bool:
    """Whether an organisation stands in another place of the tree than before."""
    return change.table == "organisation" and getattr(change.before, "line", None) not in (
        None,
        getattr(change.after, "line", None),
    )


def _change(table: str, key: str, row: object) -> str:
    return msgspec.json.encode({"table": table, "key": key, "row": row}).decode()
