"""The simulated world: nodes in a tree, wires between them, and the clock. One seed, one history, byte for byte."""

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

from command.base.entry import Stream
from command.tree.link import Link
from command.tree.outcome import Command, Drop, Redial, Rolled, Send, Store, StoreAhead
from command.tree.wire import LATER, NOW
from tests.sim.disk import Disk
from tests.sim.keys import Verifier
from tests.sim.node import Died, Node, Rules
from tests.sim.truth import Truth

SECOND = 1_000_000
HONEST_DROPS = ("link.revoked", "link.session")


class Wire:
    """One connection on one channel of one edge."""

    def __init__(self, delay: int, rate: int) -> None:
        self.delay, self.rate = delay, rate
        self.alive = True
        self.busy: dict[str, int] = {}
        self.pumping: set[str] = set()


class Edge:
    """A tree edge: the child dials."""

    def __init__(self, child: str, parent: str) -> None:
        self.child, self.parent = child, parent
        self.up = True
        self.delay, self.rate = SECOND // 50, 1_000_000
        self.wires: dict[str, Wire] = {}

    def other(self, node: str) -> str:
        return self.parent if node == self.child else self.child


class Machine:
    """A place where a node runs, or not just now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = Disk()
        self.node: Node | None = None
        self.gone = False
        self.revoked = False
        self.reopen = False
        self.retries: list[Callable[[], None]] = []


class World:
    """`parents` is the tree by name, the root first."""

    def __init__(self, seed: int, parents: dict[str, str | None], rules: Rules, *, real: bool = False) -> None:
        self.rng = Random(seed)
        self.rules, self.parents = rules, parents
        self.verifier = Verifier(real)
        self.truth = Truth(parents)
        self.now = 0
        self.machines = {name: Machine(name) for name in parents}
        self.edges = [Edge(child, parent) for child, parent in parents.items() if parent is not None]
        self._edge = {ends: e for e in self.edges for ends in ((e.child, e.parent), (e.parent, e.child))}
        self.stats: dict[str, int] = {}
        self.bytes: dict[tuple[str, str], int] = {}
        self._events: list[tuple[int, int, bool, partial[None]]] = []
        self._number = 0
        self._busy = 0
        self.calm = False
        self.tick = SECOND

    # -- time

    def at(self, delay: int, action: Callable[..., None], *given: object, idle: bool = False) -> None:
        """Do it in `delay` microseconds; `idle` things (ticks) don't keep the world from being quiet."""
        self._number += 1
        self._busy += not idle
        event = (self.now + delay, self._number, idle, partial(action, *given))
        heapq.heappush(self._events, event)

    def run(self, until: int, *, quiet: bool = False) -> bool:
        """Go on until an instant, or (with `quiet`) until nothing is left to do. Whether it became quiet."""
        while self._events and self._events[0][0] <= until:
            self.now, _, idle, action = heapq.heappop(self._events)
            self._busy -= not idle
            action()
            if quiet and self._busy == 0 and self.settled():
                return True
        self.now = max(self.now, until)
        return False

    def settled(self) -> bool:
        for edge in self.edges:
            if not self.connectable(edge):
                continue
            child, parent = self.machines[edge.child].node, self.machines[edge.parent].node
            assert child is not None and parent is not None
            links = child.links.get(edge.parent), parent.links.get(edge.child)
            if any(link is None or not link.settled for link in links):
                return False
        return True

    def count(self, what: str, by: int = 1) -> None:
        self.stats[what] = self.stats.get(what, 0) + by

    # -- machines

    def start(self, name: str) -> None:
        machine = self.machines[name]
        if machine.node is not None or machine.gone:
            return
        neighbours: dict[str, str | None] = {name: self.parents[name]}
        for edge in self.edges:
            if name in (edge.child, edge.parent):
                neighbours[edge.other(name)] = self.parents[edge.other(name)]
        for above in self.truth.line(name):
            neighbours.setdefault(above, self.parents[above])
        node = Node(name, machine.disk, neighbours, self.rng, self.rules, self.verifier, self.truth)
        machine.node = node
        try:
            if not node.lives or machine.reopen:
                node.open_generation()
            machine.reopen = False
            node.admit([child for child, parent in self.parents.items() if parent == name])
        except Died:
            self.crash(name)
            return
        self._tick(name, node)
        for edge in self.edges:
            if name in (edge.child, edge.parent):
                self.dial(edge)
        retries, machine.retries = machine.retries, []
        for retry in retries:
            retry()

    def crash(self, name: str, back: int | None = None) -> None:
        """The power goes. `back` is when the machine starts again."""
        machine = self.machines[name]
        if machine.node is not None:
            machine.node = None
            for edge in self.edges:
                if name in (edge.child, edge.parent):
                    self.hang_up(edge)
        if not machine.gone:
            self.at(SECOND if back is None else back, self.start, name)

    def _tick(self, name: str, node: Node) -> None:
        if self.machines[name].node is not node:
            return
        for peer in list(node.links):
            if peer in node.links:
                self.carry_out(node, peer, node.links[peer].tick(self.now))
        self.at(self.tick, self._tick, name, node, idle=True)

    # -- wires

    def connectable(self, edge: Edge) -> bool:
        ends = [self.machines[edge.child], self.machines[edge.parent]]
        return edge.up and all(one.node is not None and not one.revoked for one in ends)

    def edge(self, one: str, other: str) -> Edge:
        return self._edge[one, other]

    def dial(self, edge: Edge) -> None:
        """Connect what isn't connected."""
        for channel in (NOW, LATER):
            if channel not in edge.wires or not edge.wires[channel].alive:
                delay = self.rng.randrange(SECOND // 10, SECOND)
                self.at(delay, self._connect, edge, channel)

    def _connect(self, edge: Edge, channel: str) -> None:
        if not self.connectable(edge) or (channel in edge.wires and edge.wires[channel].alive):
            return
        wire = edge.wires[channel] = Wire(edge.delay, edge.rate)
        for name in (edge.child, edge.parent):
            node, peer = self.machines[name].node, edge.other(name)
            assert node is not None
            link = node.links.get(peer)
            if link is None or link.dropped:
                link = node.links[peer] = self.link(node, peer, dialer=name == edge.child)
                node.given_up[peer] = 0
            nonce = self.rng.randbytes(32)
            self.carry_out(node, peer, link.connected(channel, nonce, self.now))
            if not wire.alive:
                return

    def link(self, node: Node, peer: str, *, dialer: bool) -> Link:
        node.linked += 1
        made = self.rules.link(
            me=node.me,
            key=node.key.public,
            session=f"{node.session}-{node.linked}",
            dialer=dialer,
            shelf=node,
            sign=node.key.sign,
            expected=peer if dialer else None,
        )
        made.peer = peer
        return made

    def cut(self, edge: Edge) -> None:
        edge.up = False
        self.hang_up(edge)

    def mend(self, edge: Edge) -> None:
        edge.up = True
        self.dial(edge)

    def hang_up(self, edge: Edge, channels: tuple[str, ...] = (NOW, LATER)) -> None:
        """The connections are lost, with what was on its way; each end notices in its own time."""
        for channel in channels:
            wire = edge.wires.pop(channel, None)
            if wire is None:
                continue
            wire.alive = False
            for name in (edge.child, edge.parent):
                node = self.machines[name].node
                if node is not None:
                    self.at(self.rng.randrange(SECOND), self._notice, node, edge, channel)

    def _notice(self, node: Node, edge: Edge, channel: str) -> None:
        peer = edge.other(node.me)
        if self.machines[node.me].node is node and channel not in edge.wires and peer in node.links:
            node.links[peer].disconnected(channel, self.now)

    def send(self, node: Node, peer: str, channel: str, data: bytes) -> None:
        edge = self.edge(node.me, peer)
        wire = edge.wires.get(channel)
        if wire is None or not wire.alive:
            return
        rate = wire.rate if channel == NOW else wire.rate * 2 // 5
        start = max(self.now, wire.busy.get(node.me, 0))
        wire.busy[node.me] = start + len(data) * SECOND // rate
        self.bytes[node.me, peer] = self.bytes.get((node.me, peer), 0) + len(data)
        self.count("frames")
        self.at(wire.busy[node.me] + wire.delay - self.now, self._arrive, edge, wire, channel, peer, node.me, data)

    def _arrive(self, edge: Edge, wire: Wire, channel: str, name: str, sender: str, data: bytes) -> None:
        node = self.machines[name].node
        if not wire.alive or node is None or sender not in node.links:
            return
        self.carry_out(node, sender, node.links[sender].received(channel, data, self.now))

    def pump(self, node: Node, peer: str) -> None:
        """Send what the link has, as the wire takes it."""
        link = node.links.get(peer)
        if link is None or not link.eager:
            return
        edge = self.edge(node.me, peer)
        for channel, wire in list(edge.wires.items()):
            if node.me in wire.pumping:
                continue
            while wire.alive and wire.busy.get(node.me, 0) <= self.now:
                data = link.pull(channel, self.now)
                if data is None:
                    break
                self.send(node, peer, channel, data)
            else:
                if wire.alive and link.waiting():
                    wire.pumping.add(node.me)
                    self.at(wire.busy[node.me] - self.now, self._again, node, peer, wire)

    def _again(self, node: Node, peer: str, wire: Wire) -> None:
        wire.pumping.discard(node.me)
        if wire.alive and self.machines[node.me].node is node:
            self.pump(node, peer)

    # -- commands

    def carry_out(self, node: Node, peer: str, commands: list[Command]) -> None:
        for command in commands:
            if self.machines[node.me].node is not node:
                return
            match command:
                case Send(channel, data):
                    self.send(node, peer, channel, data)
                case Store() | StoreAhead():
                    node.stored_at = max(node.stored_at, self.now + self.rng.randrange(SECOND // 20))
                    node.handed[peer] = command.number
                    self.at(node.stored_at - self.now, self._store, node, peer, node.links.get(peer), command)
                case Rolled(stream, _):
                    self._rolled(node, stream)
                case Redial(channel, _):
                    edge = self.edge(node.me, peer)
                    self.count("redials")
                    self.hang_up(edge, (channel,))
                    self.dial(edge)
                case Drop(code, hint):
                    self._dropped(node, peer, code, hint)
                case _:
                    pass
        if self.machines[node.me].node is node:
            self.spread(node)
            self.pump(node, peer)

    def _rolled(self, node: Node, stream: Stream) -> None:
        self.count("rolled")
        try:
            node.rolled(stream)
        except Died:
            self.crash(node.me)

    def _store(self, node: Node, peer: str, link: Link | None, command: Store | StoreAhead) -> None:
        if (
            self.machines[node.me].node is not node
            or node.links.get(peer) is not link
            or link is None
            or command.number <= node.given_up.get(peer, 0)
        ):
            return
        if isinstance(command, Store):
            if not self.calm and self.rng.random() < 0.01:
                self.count("disk_full")
                link.failed(command.number, self.now)
                node.given_up[peer] = node.handed[peer]
                self.at(2 * SECOND, self._room, node, peer)
                return
            try:
                node.store(command.items)
            except Died:
                self.crash(node.me)
                return
        commands = link.stored(command.number, self.now)
        self.spread(node)
        self.carry_out(node, peer, commands)

    def _room(self, node: Node, peer: str) -> None:
        if self.machines[node.me].node is node and peer in node.links:
            self.carry_out(node, peer, node.links[peer].again(self.now))

    def spread(self, node: Node) -> None:
        """Tell all links of a node what has grown."""
        if not node.dirty and not node.tree_changed:
            return
        streams = sorted(node.streams.of) if node.tree_changed else sorted(node.dirty)
        changed, node.tree_changed = node.tree_changed, False
        node.dirty.clear()
        for peer in list(node.links):
            if peer not in node.links:
                continue
            self.carry_out(node, peer, node.links[peer].grew(streams, self.now))
            if changed and peer in node.links:
                self.carry_out(node, peer, node.links[peer].again(self.now))
                if node.me in self.machines and peer in node.cuts:
                    self.carry_out(node, peer, node.links[peer].refuse("link.revoked", "This node was revoked."))

    def _dropped(self, node: Node, peer: str, code: str, hint: str) -> None:
        node.links.pop(peer, None)
        edge = self.edge(node.me, peer)
        if code not in HONEST_DROPS and peer not in node.cuts:
            self.truth.unexpected.append(f"{node.me} dropped {peer}: {code} {hint}")
        self.hang_up(edge)
        self.at(3 * SECOND, self.dial, edge)
