"""The line: what this node notes and tells of its links: presence, the second tick, last locations.

Shell, part of the uplink. It decides nothing and syncs nothing. Invariant: what is written down changes only when it says
something new, so that an idle tree writes nothing.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Protocol

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge

from command.base.clock import Clock
from command.base.entry import By, Stream
from command.base.errors import Unavailable
from command.domain.location import Source
from command.domain.nodes import TreeNode
from command.domain.presence import PRESENCE, TICKS_MAX, NotePresence, NoteTicks, Presence, Tick
from command.edge.api import Node
from command.log.audience import NodeTree
from command.log.holdings import Holdings
from command.tree.cursor import Tips
from command.tree.wire import LOCATIONS_MAX, Line, Locations, NodeState
from command.tree.wire import Place as WirePlace
from command.uplink.peer import Peer
from geo.track import Fix

BY = By(account="node")
PRESENCE_S, LAGGING_S = 5.0, 2.0
"""Lag and round trips are written down so often, more often while a neighbour lags or is cut; a link that came or went, and what
a neighbour tells, at once."""
TICKS_S = 1.0
SETTLE_S = 15.0
"""A neighbour that has not linked so long after the start is cut; before that nobody knows."""
CONTACT_TOLD_US = 300_000_000
"""A link that stands and says nothing new is told again so often: about 60 octets a node."""
CONTACT_US = 60_000_000
"""A contact that is newer by so much is written down though nothing else has changed."""
LINE_MAX = 1_000
TOLD_MAX = 4_000
"""Nodes of which the neighbours may have told; what they say of more is not kept."""


class Around(Protocol):
    """What it needs of the uplink."""

    me: str
    clock: Clock
    nodes: dict[str, TreeNode]
    peers: dict[str, Peer]
    tree: NodeTree

    @property
    def parent(self) -> str | None: ...

    def shelf(self) -> Holdings: ...

    async def think(self, work: Any) -> Any: ...


class LineKeeper:
    """Run `run` supervised; tell it `held`, `told`, `located`, and `look` when a link came or went."""

    def __init__(self, node: Node, uplink: Around) -> None:
        self._node, self._uplink = node, uplink
        self._figures = Figures()
        self.registry = self._figures.registry
        self._ticks: dict[str, Tick] = {}
        self._states: dict[str, Presence] = {}
        self._told: dict[str, Presence] = {}
        self._said: dict[str, dict[str, Presence]] = {}
        self._linked_once: set[str] = set()
        self._started = uplink.clock.monotonic()
        self._due = 0.0
        self._located_at: dict[str, int] = {}
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Something changed at a link."""
        self._wake.set()

    def refused(self, node: str, count: int) -> None:
        """A neighbour asked for private parts that are not for it."""
        self._figures.parts_refused.labels(node).inc(count)

    def held(self, stream: Stream, tips: Tips) -> None:
        """The superior holds a stream durably up to these tips."""
        length = max((tip.length for tip in tips), default=0)
        self._ticks[str(stream)] = Tick(
            id=str(stream), subject=stream.subject, length=length, at=self._uplink.clock.now()
        )

    async def _begin(self) -> None:
        """After a start nobody is linked and nobody is cut: what was written down before it is no longer known."""
        store = self._node.store
        rows = await store.read(lambda connection: store.shelf(PRESENCE).select(connection))
        self._states = {row.id: replace(row, linked=False, known=False) for row in rows}
        stale = [self._states[row.id] for row in rows if row.linked or row.known]
        if stale:
            await self._node.log.append(NotePresence(states=stale[:LINE_MAX]), BY)

    async def run(self) -> None:
        """Write down what changed: ticks once a second, presence at once when a link comes or goes, else every few seconds;
        and tell the neighbours what is news to them."""
        located = 0.0
        await self._begin()
        while True:
            try:
                async with asyncio.timeout(TICKS_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            now = self._uplink.clock.monotonic()
            await self._note_ticks()
            if now >= self._due or self._turned():
                await self._note_presence()
                near = [self._states.get(peer.node) for peer in self._uplink.peers.values()]
                lagging = any(state is None or state.lag_entries or not state.linked for state in near)
                self._due = now + (LAGGING_S if lagging else PRESENCE_S)
            await self._tell_line()
            if now >= located:
                located = now + PRESENCE_S
                await self._tell_locations()
            await asyncio.sleep(0.2)

    def _turned(self) -> bool:
        """Whether some link came or went, or became known, since it was written down."""
        here = {peer.node: (peer.linked, self._known(peer)) for peer in self._uplink.peers.values()}
        there = {node: (state.linked, state.known) for node, state in self._heard().items()}
        return any(
            node not in self._states or (self._states[node].linked, self._states[node].known) != state
            for node, state in (there | here).items()
        )

    def _known(self, peer: Peer) -> bool:
        """Whether we can say of a neighbour that it is linked or cut."""
        if peer.linked:
            self._linked_once.add(peer.node)
        return peer.node in self._linked_once or bool(peer.refused) or self._absent()

    def _heard(self) -> dict[str, Presence]:
        """What neighbours have told of nodes that are not neighbours: known only while whoever told is linked."""
        peers = self._uplink.peers
        found = {}
        for node, state in self._told.items():
            if node in peers or node == self._uplink.me or node not in self._uplink.nodes:
                continue
            teller = peers.get(state.via or "")
            sure = teller is not None and teller.linked
            found[node] = state if sure else replace(state, linked=False, known=False)
        return found

    async def _note_ticks(self) -> None:
        names = list(self._ticks)[:TICKS_MAX]
        if names:
            await self._node.log.append(NoteTicks(ticks=[self._ticks.pop(name) for name in names]), BY)

    async def _note_presence(self) -> None:
        now = self._uplink.clock.now()
        states = {peer.node: await self._state(peer, now) for peer in list(self._uplink.peers.values())}
        states |= {node: state for node, state in self._heard().items() if node not in states}
        states |= {
            node: replace(state, known=True)
            for node, state in self._states.items()
            if node not in states and not state.known and state.via is None and self._absent()
        }
        changed = [state for node, state in states.items() if _differs(self._states.get(node), state)]
        if changed:  # one commit a minute for all contacts, not one for each
            noted = {state.id for state in changed}
            changed += [one for node, one in states.items() if node not in noted and _newer(self._states[node], one)]
        self._figures.look(self._uplink.peers.values(), states, self._uplink.parent)
        if changed:
            await self._node.log.append(NotePresence(states=changed[:LINE_MAX]), BY)
            self._states.update({state.id: state for state in changed})

    def _absent(self) -> bool:
        """Whether a subordinate that has not called since the start has had the time to."""
        return self._uplink.clock.monotonic() - self._started > SETTLE_S

    async def _state(self, peer: Peer, now: int) -> Presence:
        known, met = self._known(peer), peer.node in self._linked_once
        lacking = met and (peer.link.waiting() or peer.link.paused)
        waiting, lag = await self._uplink.think(lambda: self._lag(peer)) if lacking else (0, 0)
        if met and not waiting:
            peer.caught_up_at = now
        before = self._states.get(peer.node)
        return Presence(
            id=peer.node,
            linked=peer.linked,
            known=known,
            contact_at=peer.contact_at or (before.contact_at if before is not None else 0),
            lag_entries=lag,
            lag_s=round(max(0, now - peer.caught_up_at) / 1e6, 1) if peer.caught_up_at else 0.0,
            lag_known=met,
            skew_us=peer.skew_us,
            rtt_us=peer.rtt_us,
            waiting=waiting,
            refused=peer.refused,
            told_at=now,
        )

    def _lag(self, peer: Peer) -> tuple[int, int]:
        """Streams with something to send, and how many entries that is."""
        if not peer.link.waiting() and not peer.link.paused:
            return 0, 0
        streams = lag = 0
        for listed in self._uplink.shelf().listing(peer.node):
            held = max((tip.length for tip in peer.link.held_tips(listed.stream)), default=0)
            missing = max((tip.length for tip in listed.tips), default=0) - held
            if missing > 0:
                streams, lag = streams + 1, lag + missing
        return streams, lag

    async def _tell_line(self) -> None:
        """Upward what is below us, downward what is above: each neighbour learns of the line through us. Everything when its
        link comes, later only what is news."""
        above = set(self._uplink.tree.line(self._uplink.me)[:-1])
        for peer in list(self._uplink.peers.values()):
            if not peer.linked:
                self._said.pop(peer.node, None)
                continue
            upward = peer.node == self._uplink.parent
            said = self._said.setdefault(peer.node, {})
            news = [
                state
                for state in self._states.values()
                if state.id != peer.node
                and state.via != peer.node
                and (state.id in above) != upward
                and _news(said.get(state.id), state)
            ][:LINE_MAX]
            if news:
                said.update({state.id: state for state in news})
                line = Line(nodes=[_told_as(state) for state in news])
                await peer.tell(lambda link, line=line: link.tell(line))  # type: ignore[misc]

    def told(self, peer: Peer, nodes: Iterable[NodeState]) -> None:
        """What a neighbour says of the line, of nodes that we haven't heard of yet too: it is said once."""
        now = self._uplink.clock.now()
        for state in nodes:
            if state.node in self._told or len(self._told) < TOLD_MAX:
                self._told[state.node] = Presence(
                    id=state.node,
                    linked=state.linked,
                    known=state.known,
                    via=peer.node,
                    contact_at=state.contact_at,
                    lag_entries=state.lag_entries,
                    lag_s=state.lag_s,
                    skew_us=state.skew_us,
                    told_at=now,
                )
        self._due = 0.0
        self.look()

    async def _tell_locations(self) -> None:
        """Upward only, the last value per unit, only what is newer than what was told."""
        peer = self._uplink.peers.get(self._uplink.parent or "")
        watch = getattr(self._node.parts.get("location"), "watch", None)
        if peer is None or not peer.linked or watch is None:
            return
        fresh = [one for one in watch.locations.values() if one.at > self._located_at.get(one.id, 0)][:LOCATIONS_MAX]
        if fresh:
            self._located_at.update({one.id: one.at for one in fresh})
            places = [WirePlace(one.id, one.at, one.lon, one.lat, one.accuracy_m) for one in fresh]
            await peer.tell(lambda link: link.tell(Locations(places=places)))

    async def located(self, places: Iterable[WirePlace]) -> None:
        """Where units below us are: through the same pipeline as a report of our own."""
        watch = getattr(self._node.parts.get("location"), "watch", None)
        fixes = [
            Fix(unit=one.unit, at=one.at, lon=one.lon, lat=one.lat, accuracy_m=one.accuracy_m)
            for one in places
            if abs(one.lon) <= 180 and abs(one.lat) <= 90
        ]
        if watch is not None and fixes:
            with contextlib.suppress(Unavailable):  # the next ones follow
                await watch.report(fixes, Source.SERVICE)


class Figures:
    """Figures of the link, for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.linked = Gauge("fenghuo_link_up", "1 while the link to this neighbour stands", ["node"], **made)
        self.lag = Gauge("fenghuo_link_lag_entries", "Entries that the neighbour lacks", ["node"], **made)
        self.lag_s = Gauge("fenghuo_link_lag_seconds", "Since the neighbour had everything", ["node"], **made)
        self.waiting = Gauge("fenghuo_link_waiting_streams", "Streams with something to send", ["node"], **made)
        self.rtt = Gauge("fenghuo_link_rtt_seconds", "Newest round trip", ["node"], **made)
        self.skew = Gauge("fenghuo_link_skew_seconds", "How far the neighbour's clock is ahead", ["node"], **made)
        self.parts_refused = Counter(
            "fenghuo_link_parts_refused",
            "Private parts that the neighbour asked for and may not read",
            ["node"],
            **made,
        )
        self.redials = Gauge("fenghuo_link_redials", "Connections replaced because nothing arrived", ["node"], **made)

    def look(self, peers: Iterable[Peer], states: dict[str, Presence], parent: str | None) -> None:
        for peer in peers:
            state = states.get(peer.node)
            if state is None:  # came while the others were looked at
                continue
            self.linked.labels(peer.node).set(peer.linked)
            self.lag.labels(peer.node).set(state.lag_entries)
            self.lag_s.labels(peer.node).set(state.lag_s)
            self.waiting.labels(peer.node).set(state.waiting)
            self.rtt.labels(peer.node).set((peer.rtt_us or 0) / 1e6)
            self.skew.labels(peer.node).set(peer.skew_us / 1e6)
            self.redials.labels(peer.node).set(peer.redials)


def _differs(before: Presence | None, after: Presence) -> bool:
    """Whether it is worth writing down: a link that came or went, another lag, a clock that moved, a contact a minute newer."""
    if before is None:
        return True
    return (
        before.linked != after.linked
        or before.known != after.known
        or before.via != after.via
        or before.lag_entries != after.lag_entries
        or before.lag_known != after.lag_known
        or before.refused != after.refused
        or (before.rtt_us is None) != (after.rtt_us is None)
        or before.skewed != after.skewed
        or abs(after.lag_s - before.lag_s) > 30
        or after.contact_at - before.contact_at > CONTACT_US
    )


def _newer(before: Presence, after: Presence) -> bool:
    """Whether a contact is so much newer that it may go along with what is written down anyway."""
    return after.contact_at - before.contact_at > CONTACT_US // 4


def _news(before: Presence | None, after: Presence) -> bool:
    """Whether it is worth the octets to tell: less than what is worth writing down, for a lag changes with every entry."""
    if before is None:
        return True
    less, more = sorted((before.lag_entries, after.lag_entries))
    return (
        before.linked != after.linked
        or before.known != after.known
        or before.skewed != after.skewed
        or more > 2 * less
        or after.contact_at - before.contact_at > CONTACT_TOLD_US
    )


def _told_as(state: Presence) -> NodeState:
    return NodeState(
        node=state.id,
        linked=state.linked,
        contact_at=state.contact_at,
        lag_entries=state.lag_entries,
        lag_s=state.lag_s,
        skew_us=state.skew_us,
        known=state.known,
    )
