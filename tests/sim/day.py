"""`python -m tests.sim.day`: a province of 135 nodes (1 + 14 + 120) through a day; what each link carries, and how long
catching up takes. The last line is the result as JSON.

The day: each county reports three incidents (level IV 70 %, III 20 %, II 8 %, I 2 %), works on each for up to three hours with 20
decisions, and whoever else holds it adds a note now and then; each node changes its registry 20 times. Each county's line is
down twice for up to half an hour, each city's once for up to six hours.
"""

import json
import sys
import time
from random import Random
from typing import Any
from unittest.mock import patch

from command.base.entry import Draft
from command.tree import link
from command.tree.claim import incident_id
from tests.sim import acts
from tests.sim.node import Node, Rules
from tests.sim.world import SECOND, Edge, World

CITIES, COUNTIES = 14, 120
HOUR = 3600 * SECOND
DAY = 24 * HOUR
INCIDENTS, DECISIONS, REGISTRY = 3, 20, 20
CITY_LINE, COUNTY_LINE = (SECOND // 50, 1_000_000), (SECOND // 10, 64_000)
"""One way delay in microseconds, octets per second."""
PING_OCTETS_A_DAY = 3 * 24 * 720 * 30
"""*Now* both ways, *later* by the dialler, every 5 s, ping and pong of about 15 octets: left out of the simulation, named
beside its figures."""


class Day:
    def __init__(self, seed: int, cities: int = CITIES, counties: int = COUNTIES) -> None:
        self.rng = Random(seed)
        parents: dict[str, str | None] = {"p": None}
        parents |= {f"c{number}": "p" for number in range(cities)}
        parents |= {f"x{number}": f"c{number % cities}" for number in range(counties)}
        self.world = World(seed, parents, Rules())
        self.world.calm, self.world.tick = True, HOUR
        self.caught_up: list[float] = []
        self.entries = 0
        self.incidents: list[str] = []
        for edge in self.world.edges:
            edge.delay, edge.rate = CITY_LINE if edge.parent == "p" else COUNTY_LINE
        for name in parents:
            self.world.start(name)
        self.world.at(SECOND, lambda: None)
        assert self.world.run(HOUR, quiet=True)

    def node(self, name: str) -> Node:
        found = self.world.machines[name].node
        assert found is not None
        return found

    def note(self, name: str, draft: Draft) -> None:
        self.write(name, draft)

    def write(self, name: str, draft: Draft) -> str:
        node = self.node(name)
        hashed = node.append([draft])[0].hash.hex()
        self.entries += 1
        self.world.spread(node)
        for peer in list(node.links):
            self.world.pump(node, peer)
        return hashed

    def report(self, name: str) -> None:
        subject = f"incident/{incident_id(f'{self.rng.getrandbits(64):016x}', name)}"
        self.incidents.append(subject)
        draft = acts.report(subject, subject, name, self.rng)
        draft.body["level"] = self.rng.choices(("IV", "III", "II", "I"), (70, 20, 8, 2))[0]
        claim = self.write(name, draft)
        for number in range(DECISIONS):
            self.world.at(self.rng.randrange(3 * HOUR), self._decide, name, subject, claim, f"{number}")

    def _decide(self, name: str, subject: str, claim: str, uid: str) -> None:
        private = {"description": "现场情况更新：" + "火势已控制，" * 10}
        self.write(
            name, Draft(subject=subject, kind="incident.edited", body={"uid": uid}, private=private, claim=claim)
        )
        others = [one for one in self.node(name).line(name)[:-1] if subject in self.node(one).streams.subjects]
        if others and self.rng.random() < 0.2:
            note = Draft(
                subject=subject, kind="incident.noted", body={"uid": f"n{uid}"}, private={"text": "已阅，请继续。"}
            )
            self.write(self.rng.choice(others), note)

    def cut(self, edge: Edge, longest: int) -> None:
        if edge.up:
            self.world.cut(edge)
            self.world.at(self.rng.randrange(60 * SECOND, longest), self._mend, edge)

    def _mend(self, edge: Edge) -> None:
        self.world.mend(edge)
        self._watch(edge, self.world.now)

    def _watch(self, edge: Edge, since: int) -> None:
        """Note when both ends are level again."""
        if not edge.up:
            return
        child, parent = self.node(edge.child).links[edge.parent], self.node(edge.parent).links[edge.child]
        if child.settled and parent.settled:
            self.caught_up.append((self.world.now - since) / SECOND)
        else:
            self.world.at(SECOND // 10, self._watch, edge, since)

    def run(self) -> dict[str, Any]:
        started, setup = self.world.now, dict(self.world.bytes)
        for name in self.world.parents:
            for _ in range(REGISTRY):
                body = {"unit": f"u{self.rng.randrange(50)}", "status": "available", "note": "x" * 100}
                draft = Draft(subject="registry", kind="unit.status_set", body=body)
                self.world.at(self.rng.randrange(DAY), self.note, name, draft)
            if name.startswith("x"):
                for _ in range(INCIDENTS):
                    self.world.at(self.rng.randrange(DAY - 3 * HOUR), self.report, name)
        for edge in self.world.edges:
            for _ in range(1 if edge.parent == "p" else 2):
                longest = 6 * HOUR if edge.parent == "p" else HOUR // 2
                self.world.at(self.rng.randrange(DAY - 6 * HOUR), self.cut, edge, longest)
        self.world.run(started + DAY)
        settled = self.world.run(self.world.now + HOUR, quiet=True)
        return self.figures(setup, settled)

    def figures(self, setup: dict[tuple[str, str], int], settled: bool) -> dict[str, Any]:
        links: dict[str, list[int]] = {"city": [], "county": []}
        for edge in self.world.edges:
            ends = ((edge.child, edge.parent), (edge.parent, edge.child))
            octets = sum(self.world.bytes.get(way, 0) - setup.get(way, 0) for way in ends)
            links["city" if edge.parent == "p" else "county"].append(octets)
        diverged = 0 if settled else 1
        for subject in self.incidents:
            holders = [m.node for m in self.world.machines.values() if m.node and subject in m.node.streams.subjects]
            diverged += len({node.picture(subject).digest() for node in holders}) > 1
        caught = sorted(self.caught_up)
        line: dict[str, Any] = {"name": "sim.day", "nodes": len(self.world.parents), "entries": self.entries}
        line["ping_octets"] = PING_OCTETS_A_DAY
        for kind, found in links.items():
            found.sort()
            line |= {f"{kind}_link_octets_p50": found[len(found) // 2], f"{kind}_link_octets_max": found[-1]}
        line |= {"cuts": len(caught), "catchup_p50_s": caught[len(caught) // 2], "catchup_max_s": caught[-1]}
        line["stored_entries"] = sum(
            len(b.all) for m in self.world.machines.values() if m.node for b in m.node.streams.of.values()
        )
        return line | {"diverged": diverged, "lost": len(self.world.truth.unexpected)}


def play(seed: int, **shape: int) -> dict[str, Any]:
    with patch.multiple(link, SILENT_US=10 * DAY, PING_US=10 * DAY):
        return Day(seed, **shape).run()


def main() -> int:
    started = time.monotonic()
    line = play(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    line["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(line))
    return int(bool(line["diverged"] or line["lost"]))


if __name__ == "__main__":
    sys.exit(main())
