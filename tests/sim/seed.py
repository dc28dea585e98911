"""One seed from beginning to end: the story, the healing, and the reckoning."""

import hashlib
from collections.abc import Iterable
from random import Random
from typing import Any

from command.base.entry import Stream, Written, leaf_hash
from command.tree.sharing import concerned, participants
from tests.sim.fold import fold, short_way
from tests.sim.node import TREE, Node, Rules
from tests.sim.plan import LENGTH, Plan, tree
from tests.sim.world import SECOND, World

HEAL = 900 * SECOND
COUNTED = (
    "nodes",
    "entries",
    "cuts",
    "crashes",
    "torn",
    "restores",
    "restores_twice",
    "seizures",
    "rivals",
    "late",
    "revocations",
    "bundles",
)
ALSO = ("rolled", "redials", "frames", "disk_full", "gone", "lost_disks", "trespasses")


def run(seed: int, rules: Rules | None = None, *, real: bool = False) -> dict[str, Any]:
    """Play a seed. The result holds the counts, `problems` in words, and `trace`: a hash of the whole history."""
    rules = rules or Rules()
    world = World(seed, tree(Random(seed)), rules, real=real)
    plan = Plan(world)
    plan.begin()
    plan.schedule()
    world.run(LENGTH)
    settled = heal(world, plan)
    result = reckon(world, plan, settled)
    result["seed"] = seed
    return result


def heal(world: World, plan: Plan) -> bool:
    """Everything that can come back comes back, the files are read, and the nodes talk until nothing is left to say; then
    each writes once more, and so again."""
    world.calm = True
    for edge in world.edges:
        edge.delay, edge.rate = SECOND // 50, 1_000_000
        for wire in edge.wires.values():
            wire.delay, wire.rate = edge.delay, edge.rate
        edge.up = True
    for machine in world.machines.values():
        if machine.node is None and not machine.gone:
            world.start(machine.name)
        if machine.node is not None:
            machine.node.torn = None
    for edge in world.edges:
        world.dial(edge)
    world.truth.survived = survivors(world, plan)
    settled = True
    for step in range(3):
        world.at(SECOND, lambda: None)
        settled = world.run(world.now + HEAL, quiet=True)
        if step == 0:
            for to, octets in plan.bundles:
                able = [one for one in reversed(world.truth.line(to)) if plan.reachable(one)]
                plan.import_(able[0], octets)
                world.truth.readdressed |= able[0] != to
        elif step == 1:
            for node in plan.alive():
                for subject in sorted(node.streams.subjects):
                    given = subject.startswith("incident/") and node.view(subject).claim is not None
                    if given and not world.machines[node.me].revoked:
                        plan.write(node, [plan._draft(node, node.view(subject))])
    return settled


def survivors(world: World, plan: Plan) -> set[bytes]:
    """What the disks and files hold that are left."""
    found = {key for _, octets in plan.bundles for key in plan.in_file(octets)}
    for machine in world.machines.values():
        if not machine.gone and not machine.revoked:
            found.update(leaf_hash(kept.data) for commit in machine.disk.copy().load() for kept in commit.items)
    return found


def reckon(world: World, plan: Plan, settled: bool) -> dict[str, Any]:
    problems: list[str] = []
    nodes = [node for node in plan.alive() if not world.machines[node.me].revoked]
    subjects = sorted(
        {subject for node in nodes for subject in node.streams.subjects if subject.startswith("incident/")}
    )
    held: dict[str, dict[bytes, Written]] = {subject: {} for subject in subjects}
    for node in nodes:
        for subject in subjects:
            held[subject].update({one.written.hash: one.written for one in node.streams.entries(subject)})
    world.truth.left = {key for node in nodes for branches in node.streams.of.values() for key in branches.all}
    world.truth.revocations_held(
        {key for node in nodes for one in node.streams.entries(TREE) for key in [one.written.hash]}
    )
    diverged = lost = duplicates = late = 0
    digest = hashlib.sha256()
    for subject in subjects:
        holders = [node for node in nodes if any(entitled(world, other, subject, node) for other in nodes)]
        reached = {one.written.hash for node in holders for one in node.streams.entries(subject)}
        pressed = {key for key, one in held[subject].items() if pressed_on(world, one.entry.stream)}
        for key in (world.truth.trespasses | pressed) - reached:
            held[subject].pop(key, None)  # it stayed where nobody is concerned
        for node in holders:
            mine = {one.written.hash for one in node.streams.entries(subject)}
            if missing := set(held[subject]) - mine:
                lost += len(missing)
                first = min((held[subject][key].entry for key in missing), key=lambda one: (one.origin, one.seq))
                problems.append(
                    f"{node.me} lacks {len(missing)} entries of {subject}: {first.origin} #{first.seq} {first.kind}"
                )
        seen = {node.me: node.picture(subject) for node in holders}
        if len({picture.digest() for picture in seen.values()}) > 1:
            diverged += 1
            problems.append(f"{subject}: pictures differ")
        for name, picture in list(seen.items())[:1]:
            wrong = against_truth(world, subject, picture, held[subject])
            diverged += bool(wrong)
            problems += [f"{name}: {text}" for text in wrong]
            late += sum(1 for one in picture.late())
            uids = [one.entry.body.get("uid") for one in picture.counting()]
            duplicates += len(uids) - len(set(uids))
            digest.update(picture.digest().encode())
            fold(picture)
            holder = next(node for node in holders if node.me == name)
            if short_way(holder.arrived[subject], holder, holder.cuts) != [one.hash for one in picture.counting()]:
                diverged += 1
                problems.append(f"{name}: {subject}: the short way of folding gives something else")
    for subject in subjects if not world.truth.readdressed else []:
        about = concerned(held[subject].values())
        for node in nodes:
            authors = {one.written.entry.origin for one in node.streams.entries(subject)} - {node.me}
            strange = {one for one in authors if subject not in world.truth.brazen.get(one, ())}
            strange &= world.truth.standing({key.hex(): one for key, one in held[subject].items()})
            unconcerned = strange and node.me not in participants(about, world.truth)
            if unconcerned and not let_in_by_the_dead(world, subject, held[subject].values(), node.me):
                diverged += 1
                problems.append(f"{node.me} holds {subject}, which doesn't concern it")
    for node in nodes:
        on_disk = {leaf_hash(kept.data) for commit in node.disk.load() for kept in commit.items}
        if on_disk != {key for branches in node.streams.of.values() for key in branches.all}:
            lost += 1
            problems.append(f"{node.me}: the disk holds something else than the memory")
    for key in sorted(world.truth.survived - world.truth.left):
        lost += 1
        problems.append(
            f"{world.truth.acked[key].entry.stream} #{world.truth.acked[key].entry.seq} survived and is not shown"
        )
    died = sum(
        1
        for key, one in world.truth.acked.items()
        if one.entry.subject in held
        and key not in held[one.entry.subject]
        and one.entry.origin not in world.truth.revoked
    )
    forks = unhealed(world, nodes, held, problems)
    if not settled:
        diverged += 1
        problems.append("the nodes never fell silent")
    diverged += len(world.truth.unexpected)
    problems += world.truth.unexpected
    stats = {name: world.stats.get(name, 0) for name in (*COUNTED, *ALSO)}
    stats |= {"nodes": len(world.machines), "late": late}
    digest.update(repr((sorted(world.stats.items()), world.now, sorted(world.bytes.items()))).encode())
    return {
        "diverged": diverged,
        "forks_unhealed": forks,
        "lost": lost,
        "duplicates": duplicates,
        "died_with_disk": died,
        "stats": stats,
        "problems": problems,
        "trace": digest.hexdigest(),
    }


def entitled(world: World, knower: Node, subject: str, node: Node) -> bool:
    """Whether by what `knower` holds of it, `node` may have the incident: not only what it wrote there itself."""
    others = [
        stream for stream in knower.streams.subjects.get(subject, {}) if stream.origin not in (node.me, knower.me)
    ]
    mine = [stream for stream in knower.streams.subjects.get(subject, {}) if stream.origin == knower.me != node.me]
    pressed = subject in world.truth.brazen.get(knower.me, ())
    return any(knower.shared(stream, node.me) for stream in [*others, *([] if pressed else mine)])


def pressed_on(world: World, stream: Stream) -> bool:
    """Whether its author pressed it on neighbours, concerned or not. Those who aren't send it nowhere: where the author is
    gone or revoked they may be the only ones who have it."""
    return stream.subject in world.truth.brazen.get(stream.origin, ())


def let_in_by_the_dead(world: World, subject: str, entries: Iterable[Written], node: str) -> bool:
    """Whether only what died with the disks named this node: what it had got by then stays with it, and nothing follows."""
    told = [one for one in world.truth.acked.values() if one.entry.subject == subject]
    now, once = (participants(concerned(found), world.truth) for found in (entries, told))
    return node in once and node not in now


def against_truth(world: World, subject: str, picture: Any, entries: dict[bytes, Written]) -> list[str]:
    owner, counts = world.truth.counts({key.hex(): one for key, one in entries.items()})
    wrong = []
    if owner != picture.owner:
        wrong.append(f"{subject}: the owner is {owner}, not {picture.owner}")
    found = {one.hash for one in picture.counting()}
    for key in sorted(found ^ counts):
        more = "counts and should not" if key in found else "should count and does not"
        one = entries[key].entry
        wrong.append(f"{subject}: {one.kind} {one.stream} #{one.seq} {picture.verdicts.get(key)}: {more}")
    return wrong


def unhealed(world: World, nodes: list[Node], held: dict[str, dict[bytes, Written]], problems: list[str]) -> int:
    """Forks that are left: a stream whose ends differ between nodes, one that its living origin still writes to, and one of a
    generation that no snapshot explains. `held` are the entries of each incident that are left."""
    count = 0
    streams: dict[Stream, list[Node]] = {}
    for node in nodes:
        for stream in node.streams.of:
            streams.setdefault(stream, []).append(node)
    for stream, holders in sorted(streams.items()):
        if stream.subject in world.truth.brazen.get(
            stream.origin, ()
        ):  # on others it was pressed, as far as it was then
            concerns = [node for node in holders if any(entitled(world, one, stream.subject, node) for one in nodes)]
            holders = concerns or holders[:1]
        ends = {tuple(sorted(node.tips(stream))) for node in holders}
        if len(ends) > 1 and stream.subject in held:
            found = held[stream.subject].values()
            holders = [one for one in holders if not let_in_by_the_dead(world, stream.subject, found, one.me)]
            ends = {tuple(sorted(node.tips(stream))) for node in holders}
        forked = any(len(tips) > 1 for tips in ends)
        writing = any(node.me == stream.origin and node.generation == stream.generation for node in holders)
        if len(ends) > 1 or (forked and (writing or stream.generation not in world.truth.snapshotted)):
            count += 1
            problems.append(f"fork: {stream} {len(ends)} {'still written' if writing else ''}")
    return count
