"""What happens in one seed: people at work, and everything that can go wrong, until it is time to heal."""

from random import Random

from command.base.entry import Draft, Seal, Stream
from command.base.errors import FenghuoError
from command.tree.bundle import Header, Opener, Writer
from command.tree.claim import incident_id
from command.tree.wire import Tip
from tests.sim import acts
from tests.sim.disk import Disk
from tests.sim.node import TREE, Died, Node
from tests.sim.world import SECOND, Edge, World

LENGTH = 90 * SECOND
ACTS = 90
INCIDENTS = 3


class Plan:
    """Drives a world. Everything random comes from the world's generator."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self.names = list(world.machines)
        self.uids = 0
        self.backups: dict[str, list[tuple[Disk, str]]] = {name: [] for name in self.names}
        self.bundles: list[tuple[str, bytes]] = []
        self.skew = {name: self.rng.randrange(-30, 30) * SECOND for name in self.names}
        self.incidents: list[str] = []

    # -- people

    def uid(self) -> str:
        self.uids += 1
        return f"u{self.uids}"

    def alive(self) -> list[Node]:
        return [node for machine in self.world.machines.values() if (node := machine.node) is not None]

    def write(self, node: Node, drafts: list[Draft]) -> bool:
        """Write; a client whose node died meanwhile asks again with the same key when it is back."""
        machine = self.world.machines[node.me]
        node.clock = self.world.now + self.skew[node.me]
        key = f"key-{self.uid()}"
        try:
            written = node.append(drafts, key)
        except Died:
            self.world.count("torn")
            machine.retries.append(lambda: self._retry(node.me, drafts, key))
            self.world.crash(node.me, self._pause())
            return False
        self.world.count("entries", len(drafts))
        if any(one.body.get("trespass") for one in drafts):
            self.world.truth.trespasses.update(one.hash for one in written)
        self.world.spread(node)
        for peer in list(node.links):
            self.world.pump(node, peer)
        if self.rng.random() < 0.01 and not self.world.calm:
            machine.retries.append(lambda: self._retry(node.me, drafts, key))
            self.crash(node.me)
        return True

    def _retry(self, name: str, drafts: list[Draft], key: str) -> None:
        node = self.world.machines[name].node
        if node is not None and key not in node.keys:
            self.write(node, drafts)

    def act(self) -> None:
        alive = self.alive()
        if not alive:
            return
        node = self.rng.choice(alive)
        subjects = sorted(subject for subject in node.streams.subjects if subject.startswith("incident/"))
        if not subjects or (len(self.incidents) < INCIDENTS and self.rng.random() < 0.1):
            if len(self.incidents) < INCIDENTS:
                self.report(node)
            return
        view = node.view(self.rng.choice(subjects))
        if view.claim is None:
            return
        self.write(node, [self._draft(node, view)])

    def report(self, node: Node) -> None:
        subject = f"incident/{incident_id(f'{self.rng.getrandbits(64):016x}', node.me)}"
        self.incidents.append(subject)
        self.write(node, [acts.report(subject, self.uid(), node.me, self.rng)])

    def _draft(self, node: Node, view: acts.View) -> Draft:
        if view.owner == node.me:
            targets = [name for name in sorted(node.parents) if name != node.me]
            return acts.decide(view, self.uid(), self.rng, targets, node.base(view.subject, node.me))
        return acts.contribute(view, self.uid(), self.rng, node.me)

    def seize(self, name: str, subject: str) -> str | None:
        """The node takes the incident from a node below it; the claim that it took."""
        node = self.world.machines[name].node
        if node is None or subject not in node.streams.subjects:
            return None
        view = node.view(subject)
        if view.owner is None or name not in node.line(view.owner)[:-1]:
            return None
        if not self.write(node, [acts.seize(view, self.uid(), node.base(subject, view.owner))]):
            return None
        self.world.count("seizures")
        return view.claim

    def seize_any(self) -> None:
        for node in self.rng.sample(self.alive(), len(self.alive())):
            for subject in sorted(node.streams.subjects):
                if subject.startswith("incident/") and self.seize(node.me, subject):
                    return

    def trespass(self) -> None:
        """A node writes in an incident that it only knows the name of, and presses it on its neighbours."""
        for subject in self.rng.sample(self.incidents, len(self.incidents)):
            claims = [node.view(subject).claim for node in self.alive() if subject in node.streams.subjects]
            able = [node for node in self.alive() if subject not in node.streams.subjects]
            if able and any(claims):
                node, claim = self.rng.choice(able), next(one for one in claims if one)
                self.world.truth.brazen.setdefault(node.me, set()).add(subject)
                for draft in acts.trespass(subject, claim, node.me, self.rng, self.uid):
                    if self.world.machines[node.me].node is node and self.write(node, [draft]):
                        self.world.count("trespasses")
                return

    def rivals(self) -> None:
        """Two superiors that can't hear each other take the same claim."""
        for subject in self.rng.sample(self.incidents, len(self.incidents)):
            views = [(node, node.view(subject)) for node in self.alive() if subject in node.streams.subjects]
            able = [(node, view) for node, view in views if view.owner and node.me in node.line(view.owner)[:-1]]
            for one, seen in able:
                for other, also in able:
                    if one.me < other.me and seen.claim == also.claim:
                        self.isolate(one.me)
                        if self.seize(one.me, subject) and self.seize(other.me, subject):
                            self.world.count("rivals")
                        return

    def seize_twice(self) -> None:
        """A node takes an incident, tells it, is set back to a backup from before, and takes it again."""
        for node in self.rng.sample(self.alive(), len(self.alive())):
            for subject in sorted(node.streams.subjects):
                view = node.view(subject) if subject.startswith("incident/") else None
                if view is None or view.owner is None or node.me not in node.line(view.owner)[:-1]:
                    continue
                name = node.me
                backup = (node.disk.copy(), node.generation)
                if self.seize(name, subject):
                    self.world.at(5 * SECOND, self._set_back, name, subject, backup)
                return

    def _set_back(self, name: str, subject: str, backup: tuple[Disk, str]) -> None:
        if self.world.machines[name].node is None or self.world.calm:
            return
        self.isolate(name)
        self.restore(name, "declared", backup, at_once=True)
        if self.seize(name, subject):
            self.world.count("rivals")

    # -- faults

    def _pause(self) -> int:
        return self.rng.randrange(SECOND, 10 * SECOND)

    def isolate(self, name: str) -> None:
        for edge in self.world.edges:
            if name in (edge.child, edge.parent) and edge.up:
                self.cut(edge)

    def cut_any(self) -> None:
        self.cut(self.rng.choice(self.world.edges))

    def cut(self, edge: Edge) -> None:
        if not edge.up:
            return
        self.world.count("cuts")
        self.world.cut(edge)
        edge.delay = self.rng.choice((SECOND // 100, SECOND // 10, SECOND))
        edge.rate = self.rng.choice((8_000, 100_000, 1_000_000))
        self.world.at(self.rng.randrange(2 * SECOND, 40 * SECOND), self.world.mend, edge)

    def crash(self, name: str) -> None:
        if self.world.machines[name].node is not None:
            self.world.count("crashes")
            self.world.crash(name, self._pause())

    def tear(self) -> None:
        """The next commit of some node will be cut short."""
        if alive := self.alive():
            self.rng.choice(alive).torn = self.rng.random()

    def backup(self, name: str) -> None:
        node = self.world.machines[name].node
        if node is not None:
            self.backups[name].append((node.disk.copy(), node.generation))

    def restore(self, name: str, kind: str, backup: tuple[Disk, str], *, at_once: bool = False) -> None:
        """Put a backup back. `declared`: with the command; `forgotten`: the marker tells; `snapshot`: marker and all."""
        machine = self.world.machines[name]
        if machine.gone or machine.revoked or self.world.calm:
            return
        self.world.count("restores")
        disk, generation = backup
        machine.disk = disk.copy()
        machine.reopen = kind != "snapshot"
        machine.retries.clear()
        if kind == "snapshot":
            self.world.truth.snapshotted.add(generation)
        self.world.crash(name, 10 * SECOND if at_once else self._pause())
        if at_once:
            self.world.start(name)

    def restore_any(self) -> None:
        found = [name for name in self.names if self.backups[name] and self.world.machines[name].node is not None]
        if found:
            name = self.rng.choice(found)
            self.restore(
                name, self.rng.choice(("declared", "forgotten", "snapshot")), self.rng.choice(self.backups[name])
            )

    def restore_twice(self) -> None:
        found = [name for name in self.names if self.backups[name] and self.world.machines[name].node is not None]
        if not found:
            return
        name = self.rng.choice(found)
        backup = self.rng.choice(self.backups[name])
        kinds = [self.rng.choice(("declared", "forgotten", "snapshot")) for _ in range(2)]
        self.restore(name, kinds[0], backup)
        self.world.at(self.rng.randrange(8 * SECOND, 25 * SECOND), self.restore, name, kinds[1], backup)
        self.world.count("restores_twice")

    def fork(self) -> None:
        """A snapshot is put back after its machine had told more, and goes on as if nothing had been: as much again."""
        able = [
            (node, subject)
            for node in self.alive()
            for subject in sorted(node.streams.subjects)
            if subject in self.incidents and node.view(subject).claim is not None
        ]
        if not able:
            return
        node, subject = self.rng.choice(able)
        backup, more = (node.disk.copy(), node.generation), self.rng.randrange(1, 4)
        if self._notes(node.me, subject, more):
            self.world.at(self._pause(), self._fork, node.me, subject, backup, more)

    def _fork(self, name: str, subject: str, backup: tuple[Disk, str], more: int) -> None:
        if self.world.machines[name].node is not None and not self.world.calm:
            self.isolate(name)
            self.restore(name, "snapshot", backup, at_once=True)
            self._notes(name, subject, more)

    def _notes(self, name: str, subject: str, count: int) -> bool:
        for _ in range(count):
            node = self.world.machines[name].node
            if node is None:
                return False
            note = Draft(subject=subject, kind="incident.noted", body={"uid": self.uid()})
            self.write(node, [note])
        return True

    def lose_disk(self, name: str) -> None:
        """The disk is lost and there is no backup: the node begins anew and gets back what others hold."""
        machine = self.world.machines[name]
        if machine.node is None or machine.revoked:
            return
        self.world.count("lost_disks")
        machine.disk = Disk()
        machine.retries.clear()
        self.world.crash(name, self._pause())

    def die(self, name: str) -> None:
        machine = self.world.machines[name]
        machine.gone = True
        self.world.count("gone")
        self.world.crash(name)

    def revoke(self, name: str) -> None:
        above = [one for one in self.world.truth.line(name)[:-1] if self.world.machines[one].node is not None]
        if not above:
            return
        node = self.world.machines[self.rng.choice(above)].node
        assert node is not None
        held = {found.written.hash for s, b in node.streams.of.items() if s.origin == name for found in b.all.values()}
        body = {"node": name, "heads": {k: [list(tip) for tip in tips] for k, tips in node.heads_of(name).items()}}
        heads = {
            str(s): [(tip.length, tip.head) for tip in b.tips] for s, b in node.streams.of.items() if s.origin == name
        }
        machine = self.world.machines[name]
        if not self.write(node, [Draft(subject=TREE, kind="node.revoked", body=body)]):
            self.world.machines[node.me].retries.clear()
            return
        entry = max(node.streams.of[Stream(TREE, node.me, node.generation)].all.values(), key=lambda one: one.tip)
        self.world.truth.revocations.append((entry.written.hash, name, held, heads))
        machine.revoked = True
        self.world.count("revocations")

    def export(self) -> None:
        """A signed file from one node for another."""
        alive = self.alive()
        if len(alive) < 2:
            return
        maker = self.rng.choice(alive)
        to = self.rng.choice([name for name in self.names if name != maker.me])
        streams = [stream for stream in sorted(maker.streams.of) if maker.shared(stream, to)]
        writer = Writer(Header(maker.me, maker.key.public, self.world.now, to))
        octets = writer.start()
        for stream in sorted(streams, key=lambda one: one.subject != TREE):
            octets += writer.add(maker.rest(stream, (), to, 100_000, 0))
        self.bundles.append((to, octets + writer.end(maker.key.sign)))
        self.world.count("bundles")
        if self.rng.random() < 0.7:
            self.world.at(self._pause(), self.import_, *self.bundles[-1])

    def reachable(self, name: str) -> bool:
        machine = self.world.machines[name]
        return machine.node is not None and not machine.revoked

    def in_file(self, octets: bytes) -> list[bytes]:
        """The entries in a bundle, whoever may read it."""

        class Anybody:
            def holds(self, stream: Stream, tip: Tip) -> bool:
                return True

            def signed(self, origin: str, seal: Seal) -> bool:
                return True

        opener = Opener(Anybody(), lambda *_: True, lambda *_: True)
        return [one.written.hash for one in opener.feed(octets)]

    def import_(self, name: str, octets: bytes) -> None:
        node = self.world.machines[name].node
        if node is None or self.world.machines[name].revoked:
            return
        try:
            for store in (False, True):
                opener = Opener(node, lambda maker, key: node.public.get(maker) == key, node.proves)
                for start in range(0, len(octets), 3000):
                    found = opener.feed(octets[start : start + 3000])
                    if store and found:
                        for one in found:
                            strange = not node.ended(one.stream.generation) and not node.holds(one.stream, one.tip)
                            if one.stream.origin == node.me and strange:
                                node.rolled(one.stream)
                        node.store(found)
                opener.close()
        except Died:
            self.world.crash(name)
            return
        except FenghuoError as error:
            if error.code != "bundle.unknown_node":
                self.world.truth.unexpected.append(f"bundle at {name}: {error}")
            return
        self.world.spread(node)
        for peer in list(node.links):
            self.world.pump(node, peer)

    # -- the story

    def begin(self) -> None:
        """Every node starts, admits the nodes below it, and the first incident is reported."""
        for name in self.names:
            self.world.start(name)
        low = max(self.names, key=lambda name: len(self.world.truth.line(name)))
        node = self.world.machines[low].node
        if node is not None:
            self.report(node)

    def schedule(self) -> None:
        rng, world = self.rng, self.world
        leaves = [name for name in self.names if name not in set(world.parents.values())]
        for _ in range(ACTS):
            world.at(rng.randrange(2 * SECOND, LENGTH), self.act)
        for what, times in (
            (self.cut_any, rng.randrange(6, 10)),
            (self.tear, 3),
            (self.restore_any, rng.randrange(1, 3)),
            (self.restore_twice, 1 if rng.random() < 0.9 else 2),
            (self.seize_any, 2),
            (self.rivals, 2),
            (self.seize_twice, 1),
            (self.export, 2),
            (self.fork, 1),
            (self.trespass, 2),
        ):
            for _ in range(times):
                world.at(rng.randrange(15 * SECOND, LENGTH), what)
        for _ in range(6):
            name = rng.choice(self.names)
            world.at(rng.randrange(3 * SECOND, LENGTH // 2), self.backup, name)
        for _ in range(2):
            name = rng.choice(self.names)
            world.at(rng.randrange(LENGTH), self.crash, name)
        leaf = rng.choice(leaves)
        for _ in range(rng.choice((1, 1, 1, 2))):
            world.at(rng.randrange(LENGTH // 2, LENGTH), self.revoke, leaf)
        if rng.random() < 0.3:
            name = rng.choice(self.names)
            world.at(rng.randrange(LENGTH), self.lose_disk, name)
        others = [name for name in leaves if name != leaf]
        if others and rng.random() < 0.2:
            gone = rng.choice(others)
            world.at(rng.randrange(LENGTH), self.die, gone)


def tree(rng: Random) -> dict[str, str | None]:
    """5 to 8 nodes: a line of four at least, the others anywhere above the last level."""
    parents: dict[str, str | None] = {"n0": None, "n1": "n0", "n2": "n1", "n3": "n2"}
    depth = {"n0": 0, "n1": 1, "n2": 2, "n3": 3}
    for number in range(4, rng.randrange(5, 9)):
        parent = rng.choice([name for name in parents if depth[name] < 3])
        parents[f"n{number}"], depth[f"n{number}"] = parent, depth[parent] + 1
    return parents
