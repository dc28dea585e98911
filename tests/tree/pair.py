"""Two or more linked nodes for tests of the link: the world of the simulation on a fair day."""

from random import Random
from typing import Any

from command.base.entry import Draft, Stream
from command.tree.claim import incident_id
from command.tree.link import Link
from command.tree.outcome import Drop, Send
from command.tree.wire import Message, Refuse, decode
from tests.sim import acts
from tests.sim.node import Node, Rules
from tests.sim.world import SECOND, World

PAIR: dict[str, str | None] = {"n0": None, "n1": "n0"}
LINE: dict[str, str | None] = {"n0": None, "n1": "n0", "n2": "n1"}


def world(parents: dict[str, str | None] = PAIR, *, linked: bool = True) -> World:
    """Nodes of this tree; started and at rest when `linked`."""
    made = World(1, parents, Rules(), real=True)
    made.calm = True
    for edge in made.edges:
        edge.up = linked
    for name in parents:
        made.start(name)
    if linked:
        rest(made)
    return made


def rest(made: World, limit: int = 600 * SECOND) -> None:
    made.at(SECOND, lambda: None)
    assert made.run(made.now + limit, quiet=True), "the nodes never fell silent"


def node(made: World, name: str) -> Node:
    found = made.machines[name].node
    assert found is not None
    return found


def link(made: World, name: str, peer: str) -> Link:
    return node(made, name).links[peer]


def report(made: World, name: str, incident: str = "aa", level: str = "I") -> str:
    """An incident reported at a node; its subject."""
    draft = acts.report(f"incident/{incident_id(incident, name)}", f"uid-{incident}", name, Random(1))
    draft.body["level"] = level
    write(made, name, draft)
    return draft.subject


def note(subject: str, text: str = "", **body: Any) -> Draft:
    return Draft(subject=subject, kind="incident.noted", body=body, private={"text": text} if text else None)


def write(made: World, name: str, *drafts: Draft) -> None:
    at = node(made, name)
    at.append(list(drafts))
    made.spread(at)


def streams(at: Node, subject: str) -> set[Stream]:
    return set(at.streams.subjects.get(subject, {}))


def refusal(commands: list[Any]) -> str:
    """The code with which the peer was dropped; "" when it wasn't. A refusal is said before it is done."""
    dropped = [one.code for one in commands if isinstance(one, Drop)]
    if dropped:
        said = [decode(one.data) for one in commands if isinstance(one, Send)]
        assert all(isinstance(one, Refuse) and one.code == dropped[0] for one in said) and said
    return dropped[0] if dropped else ""


def sent(commands: list[Any]) -> list[Message]:
    return [decode(one.data) for one in commands if isinstance(one, Send)]
