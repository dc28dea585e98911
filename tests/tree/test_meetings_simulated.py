"""Meetings in the simulation: called, changed and talked in while wires are cut and machines crash; then all heals."""

from random import Random

import pytest

from command.base.entry import Draft
from command.tree import calling
from command.tree.calling import Called
from command.tree.sharing import Concerned, concerned
from tests.sim import acts
from tests.sim.node import MEETINGS, Node, Rules
from tests.sim.world import SECOND, World

PARENTS: dict[str, str | None] = {
    "n0": None,
    "n1": "n0",
    "n2": "n0",
    "n3": "n1",
    "n4": "n1",
    "n5": "n2",
    "n6": "n3",
}
STEPS = 60
HEAL = 3_000 * SECOND


class Storm:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World(seed, PARENTS, Rules())
        self.world.calm = True
        for edge in self.world.edges:
            edge.up = True
        for name in PARENTS:
            self.world.start(name)
        self.world.run(30 * SECOND)
        self.meetings: list[tuple[str, str]] = []
        self.incidents: list[tuple[str, str]] = []
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"x{self.number}"

    def say(self, name: str, subject: str, kind: str, /, **body: object) -> None:
        node = self.world.machines[name].node
        if node is not None:
            node.clock = self.world.now
            node.append([Draft(subject=subject, kind=kind, body={**body}, private={"text": kind})])
            self.world.spread(node)

    def some(self) -> list[str]:
        return self.rng.sample(sorted(PARENTS), self.rng.randrange(3))

    def step(self) -> None:
        roll, name, key = self.rng.random(), self.rng.choice(sorted(PARENTS)), self.name()
        if roll < 0.1:
            node = self.world.machines[name].node
            if node is not None:
                node.append([acts.report(f"incident/{key}", key, name, self.rng)])
                self.world.spread(node)
                self.incidents.append((name, key))
        elif roll < 0.2:
            self.say(name, f"{MEETINGS}{key}", calling.SCHEDULED, nodes=self.some())
            self.meetings.append((name, key))
        elif roll < 0.3 and self.incidents:
            host, incident = self.rng.choice(self.incidents)
            if self.rng.random() < 0.5:
                self.say(host, f"{MEETINGS}{key}", calling.CALLED, incident=incident)
            else:
                self.say(host, f"{MEETINGS}{key}", calling.SCHEDULED, nodes=self.some(), incident=incident)
            self.meetings.append((host, key))
        elif roll < 0.4 and self.incidents:
            host, incident = self.rng.choice(self.incidents)
            self.say(host, f"incident/{incident}", "incident.invited", nodes=self.some())
        elif roll < 0.5 and self.meetings:
            host, meeting = self.rng.choice(self.meetings)
            self.say(host, f"{MEETINGS}{meeting}", calling.EDITED, nodes=self.some())
        elif roll < 0.55 and self.meetings:  # what another says widens nothing
            meeting = self.rng.choice(self.meetings)[1]
            self.say(name, f"{MEETINGS}{meeting}", calling.EDITED, nodes=sorted(PARENTS))
        elif roll < 0.8 and self.meetings:
            host, meeting = self.rng.choice(self.meetings)
            self.say(host, f"{MEETINGS}{meeting}", "meeting.said", line=key)
        elif roll < 0.9:
            edge = self.rng.choice(self.world.edges)
            self.world.cut(edge)
            self.world.at(self.rng.randrange(SECOND, 30 * SECOND), self.world.mend, edge)
        else:
            self.world.crash(name, self.rng.randrange(SECOND, 20 * SECOND))
        self.world.run(self.world.now + self.rng.randrange(5 * SECOND))

    def play(self) -> list[Node]:
        for _ in range(STEPS):
            self.step()
        for edge in self.world.edges:
            self.world.mend(edge)
        self.world.run(self.world.now + 60 * SECOND)
        self.world.at(SECOND, lambda: None)
        assert self.world.run(self.world.now + HEAL, quiet=True), "the nodes never fell silent"
        return [node for machine in self.world.machines.values() if (node := machine.node) is not None]


def _knowing(nodes: list[Node], stream_of: str) -> set[str]:
    """Who may hold what a node wrote of a meeting, by all that anybody holds."""
    subject, _, origin = stream_of.partition("@")
    origin = origin.partition(".")[0]
    author = next(node for node in nodes if node.me == origin)
    subjects = {subject for node in nodes for subject in node.about}
    incidents = {key: concerned(one.written for node in nodes for one in node.streams.entries(key)) for key in subjects}
    called = author.calls.get((subject, origin), Called())
    return {*calling.holders(origin, called, lambda key: incidents.get(f"incident/{key}", Concerned()), author)}


def _problems(seed: int) -> list[str]:
    nodes = Storm(seed).play()
    problems = []
    streams = {stream for node in nodes for stream in node.streams.of if stream.subject.startswith(MEETINGS)}
    assert len(nodes) == len(PARENTS) and streams
    for stream in sorted(streams):
        holding = {node.me for node in nodes if stream in node.streams.of}
        wanted = _knowing(nodes, str(stream))
        if holding != wanted:
            problems.append(f"{stream}: held by {sorted(holding)}, wanted {sorted(wanted)}")
        if len({node.tips(stream) for node in nodes if node.me in holding}) != 1:
            problems.append(f"{stream}: not the same everywhere")
    return problems


def test_after_a_storm_exactly_the_invited_hold_a_meeting_and_all_of_it() -> None:
    assert [problem for seed in range(3) for problem in _problems(seed)] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_three_hundred_storms_too() -> None:
    assert [f"{seed}: {problem}" for seed in range(300) for problem in _problems(seed)] == []
