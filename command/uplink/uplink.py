"""The uplink: this node's place among its neighbours. It dials the superior, takes the calls of subordinates, and carries
entries, presence and locations between them and the log.

Shell. Who may speak says `nodes`, what may travel `sharing`, how it is synchronised `link`; nothing here decides. Invariant:
nothing waits for a neighbour: the log tells this part what was committed and never asks it anything.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import generate_latest

from command.base import identity
from command.base.entry import Entry, Stream
from command.base.supervise import end, forever, spawn
from command.domain.erasure import ERASED_FILE
from command.domain.nodes import NODE, TreeNode
from command.domain.room import ROOM
from command.domain.schedule import SCHEDULE
from command.edge.api import Node
from command.log.audience import Audience, NodeTree
from command.log.holdings import Holdings
from command.log.store import STREAM
from command.log.writer import Commit
from command.tree import pairing
from command.tree.item import Received
from command.tree.outcome import Command, GotBlob, HeldBy, PartsRefused, Told, WantBlob
from command.tree.wire import LATER, Line, Locations
from command.uplink.asker import Asker
from command.uplink.channel import Channel
from command.uplink.courier import Courier
from command.uplink.dialler import Dialler
from command.uplink.doorstep import Doorstep
from command.uplink.line import LineKeeper
from command.uplink.peer import Peer

PART = "uplink"
RECOVERING = "recovering"
"""Among the node's parts while it is made again from its superior: its former generations are expected to come back."""
TICK_S = 1.0
WIDENING = ("order.issued", "incident.", "ownership.", "room.opened", "plan.approved", "meeting.edited")
"""Kinds after which an incident or a meeting may concern another node: then all its streams are looked at, and those of the
incident's meetings, not only those that grew."""
NOT_WIDENING = ("incident.noted",)
"""Written by the thousand, and naming nobody."""

T = TypeVar("T")
journal = structlog.get_logger("uplink")


class Uplink:
    """A part: start it with `start`, hand WebSockets to `answer` and `pair`. Implements `peer.House`."""

    def __init__(self, node: Node, key: Ed25519PrivateKey) -> None:
        self._node, self._private = node, key
        self.me, self.clock = node.log.node, node.clock
        self.key = key.public_key().public_bytes_raw()
        self.nodes: dict[str, TreeNode] = {}
        self.peers: dict[str, Peer] = {}
        self.tree = NodeTree(self.nodes)
        self._holdings = Holdings(
            node.store, self.me, lambda: node.log.generation, self.nodes, Audience(self.me, self.tree)
        )
        self.courier = Courier(Path(node.config.data), node.clock, node.config.attachment_bytes_max, self._gives)
        self._asker = Asker(self.me, node.clock, self.tree)
        self._news: list[Entry] = []
        self._gone: list[str] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="link")
        self._grown: set[Stream] = set()
        self._widened: set[str] = set()
        self._moved = False
        self._wake = asyncio.Event()
        self._left: set[str] = set()
        self._line = LineKeeper(node, self)
        self._dialler = Dialler(node, self)
        self._doorstep = Doorstep(node, self)
        self._tasks: list[asyncio.Task[Any]] = []

    # -- life

    async def open(self) -> None:
        """Read who is who, and begin to dial."""
        rows = await self._node.store.read(lambda c: self._node.store.shelf(NODE).select(c))
        self.nodes.update({row.id: row for row in rows})
        gone = await self._node.store.read(lambda c: self._node.store.shelf(ERASED_FILE).select(c))
        await self.courier.open([row.id for row in gone])
        self._node.bus.listen(self.on_commit)
        self._tasks = [
            spawn("uplink.grow", forever("uplink.grow", self._grow)),
            spawn("uplink.tick", forever("uplink.tick", self._tick)),
            spawn("uplink.line", forever("uplink.line", self._line.run)),
            spawn("uplink.dial", forever("uplink.dial", self._dialler.run)),
            spawn("uplink.later", forever("uplink.later", lambda: self._dialler.keep(LATER))),
        ]

    def farewell(self) -> None:
        """Let go of every socket before the server waits for its requests to end."""
        self._dialler.stop()
        for peer in self.peers.values():
            for channel in list(peer.channels.values()):
                spawn("link.bye", channel.close(1001, "stopping"))

    async def stop(self) -> None:
        self._dialler.stop()
        await end(*self._tasks)
        await asyncio.gather(*(peer.stop() for peer in self.peers.values()), return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def metrics(self) -> bytes:
        """Our figures, for `/metrics`."""
        return generate_latest(self._line.registry)

    @property
    def parent(self) -> str | None:
        """The superior's id; None for the root and for a node that was never paired."""
        row = self.nodes.get(self.me)
        return None if row is None else row.parent

    def peer(self, node: str) -> Peer:
        """The neighbour's `Peer`, made when it is needed first."""
        found = self.peers.get(node)
        if found is None:
            found = self.peers[node] = Peer(self, node, dialer=node == self.parent)
        return found

    # -- the log tells

    def on_commit(self, commit: Commit) -> None:
        """Remember what grew; a task tells the links."""
        for written in commit.written:
            entry = written.entry
            self._grown.add(entry.stream)
            if "attachments" in entry.body:
                self._news.append(entry)
            widens = entry.kind.startswith(WIDENING) and entry.kind not in NOT_WIDENING
            if widens and entry.subject.startswith(("incident/", "meeting/")):
                self._widened.add(entry.subject)
        for change in commit.changes:
            if change.table == ERASED_FILE.name and change.after is None:
                self.courier.stand(change.key)
            elif change.table == ERASED_FILE.name:
                self._gone.append(change.key)
        moved = [change for change in commit.changes if change.table == NODE.name]
        for change in moved:
            if isinstance(change.after, TreeNode):
                self.nodes[change.key] = change.after
            else:
                self.nodes.pop(change.key, None)
        if moved:
            self._moved = True
        if commit.written or moved or self._gone:
            self._asker.wake()
            self._wake.set()

    async def _grow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            grown, self._grown = self._grown, set()
            widened, self._widened = self._widened, set()
            moved, self._moved = self._moved, False
            if moved:
                await self._look_at_tree()
            gone, self._gone = self._gone, []
            await self.courier.erase(gone)
            news, self._news = self._news, []
            await self.courier.read(news)
            if not self.peers:
                continue
            grown |= await self.think(lambda: self._streams_of(None if moved else widened))  # noqa: B023
            for peer in list(self.peers.values()):
                await peer.grew(grown)

    async def _look_at_tree(self) -> None:
        """The tree changed: lines, keys and revocations."""
        await self.think(self.tree.moved)
        for peer in list(self.peers.values()):
            row = self.nodes.get(peer.node)
            if row is not None and row.revoked is not None and peer.channels:
                await peer.tell(lambda link: link.refuse("link.revoked", "This node was revoked by its superior."))
            await peer.tell(lambda link: link.again(self.clock.now()))
        parent = self.parent
        for node in [node for node, peer in self.peers.items() if peer.dialer and node != parent]:
            await self.peers.pop(node).stop()

    def _streams_of(self, subjects: set[str] | None) -> set[Stream]:
        """All streams of some subjects, and of the meetings of those that are incidents; of all when None."""
        if subjects is not None and not subjects:
            return set()
        if subjects is not None:
            keys = [one.partition("/")[2] for one in sorted(subjects) if one.startswith("incident/")][:400]
            for table in (ROOM, SCHEDULE):
                sql = self._node.store.shelf(table).sql
                rows = self._holdings.connection.execute(sa.select(sql.c.id).where(sql.c.incident.in_(keys)))
                subjects = subjects | {f"meeting/{row.id}" for row in rows}
        wanted = sa.select(STREAM.c.subject, STREAM.c.origin, STREAM.c.generation)
        if subjects is not None:
            wanted = wanted.where(STREAM.c.subject.in_(sorted(subjects)[:900]))
        return {Stream(*row) for row in self._holdings.connection.execute(wanted)}

    # -- peer.House

    def sign(self, octets: bytes) -> bytes:
        return self._private.sign(octets)

    def shelf(self) -> Holdings:
        return self._holdings

    async def think(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread of links, in one snapshot of the database."""

        def run() -> T:
            with self._holdings.reading():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def store(self, items: list[Received], *, ahead: bool) -> None:
        keys = self._holdings.keys()
        if ahead:
            await self._node.log.receive_ahead(items, keys)
        else:
            await self._node.log.receive(items, keys)

    async def rolled(self, stream: Stream) -> None:
        """A peer holds more of what we wrote than we do: this database is older than its own entries. Every stream of that
        generation says so; one new generation is the answer to them all."""
        if stream.generation in self._left or RECOVERING in self._node.parts:
            return
        self._left.add(stream.generation)
        journal.warning("generation.rolled", stream=str(stream))
        await self._node.log.open_generation()

    def changed(self, peer: Peer) -> None:
        self._asker.wake()
        self._line.look()

    def heard(self, peer: Peer, command: Command) -> None:
        match command:
            case HeldBy(stream, tips):
                if peer.node == self.parent and tips:
                    self._line.held(stream, tips)
            case Told(Line(nodes)):
                self._line.told(peer, nodes)
            case Told(Locations(places)):
                spawn("uplink.located", self._line.located(places))
            case PartsRefused(count):
                journal.warning("link.parts_refused", peer=peer.node, count=count)
                self._line.refused(peer.node, count)
            case WantBlob():
                spawn("courier.asked", self.courier.asked(peer, command))
            case GotBlob():
                spawn("courier.got", self.courier.got(peer, command))

    async def _gives(self, file: str, peer: str) -> bool:
        return await self.think(lambda: self._holdings.gives(file, peer))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for peer in list(self.peers.values()):
                if peer.channels and not peer.link.quiet(self.clock.now()):
                    await peer.tell(lambda link: link.tick(self.clock.now()))
            await self.courier.look(list(self.peers.values()))
            if self.clock.monotonic() >= self._asker.due and any(peer.linked for peer in self.peers.values()):
                await self._asker.look(await self.think(self._holdings.lacking), list(self.peers.values()))

    # -- for the edge

    @property
    def refused(self) -> str:
        """Why the superior could not be reached, or would not have us, most recently."""
        return self._dialler.refused

    def addresses(self) -> list[str]:
        """Where the superior may be, in order."""
        return self._dialler.addresses()

    async def answer(self, name: str, channel: Channel) -> None:
        """Carry a link over a WebSocket that a subordinate opened, until it ends."""
        await self._doorstep.answer(name, channel)

    async def pair(self, channel: Channel) -> None:
        """The parent's side of a pairing, over a WebSocket that a stranger opened."""
        await self._doorstep.pair(channel)

    def pairing(self, role: pairing.Role) -> pairing.Handshake:
        """This node's side of a pairing."""
        log, name = self._node.log, self._node.config.node_name
        opening = pairing.hello(
            self._private, self.clock.octets, generation=log.generation, name=name, at=self.clock.now()
        )
        return pairing.Handshake(self._private, role, opening)


async def start(node: Node) -> Uplink:
    """Start the part."""
    key = await asyncio.to_thread(identity.load_or_make, Path(node.config.data))
    uplink = Uplink(node, key)
    await uplink.open()
    return uplink
