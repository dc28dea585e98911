"""A peer that lies: whatever it sends, the link refuses, hangs up, and takes in nothing that it should not."""

import random
from random import Random
from typing import Any

import msgspec
import pytest

from command.base.entry import Draft, Stream
from command.tree import wire
from command.tree.incoming import GAPS_MAX
from command.tree.item import Received, pack
from command.tree.link import FETCHES_MAX, Link
from command.tree.outcome import Drop, Store
from command.tree.wire import (
    FRAME_BYTES_MAX,
    LATER,
    NOW,
    Ahead,
    Blob,
    Entries,
    Expand,
    Fetch,
    Fork,
    Have,
    Held,
    Hello,
    Item,
    Message,
    Ping,
    Pong,
    Proof,
    Tip,
    encode,
)
from tests.sim.node import Node
from tests.sim.world import World
from tests.tree import pair


class Scene:
    """A parent that is linked to a child; the child's side is ours to abuse."""

    def __init__(self) -> None:
        self.made: World = pair.world()
        self.subject = pair.report(self.made, "n1")
        pair.rest(self.made)
        self.child: Node = pair.node(self.made, "n1")
        self.parent: Link = pair.link(self.made, "n0", "n1")

    def write(self, count: int, **body: Any) -> list[Received]:
        """New entries of the child that the parent hasn't been told."""
        before = len(self.child.streams.entries(self.subject))
        self.child.append([pair.note(self.subject, "secret", **body) for _ in range(count)])
        return self.child.streams.entries(self.subject)[before:]

    def send(self, message: Message, channel: str = NOW) -> list[Any]:
        return self.parent.received(channel, encode(message), self.made.now)

    def stored(self, commands: list[Any]) -> list[Received]:
        return [item for one in commands if isinstance(one, Store) for item in one.items]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def change(one: Received, **fields: Any) -> Entries:
    seals, items = pack([one])
    return Entries(seals=seals, items=[msgspec.structs.replace(items[0], **fields)])


def test_changed_bytes_are_refused(scene: Scene) -> None:
    one = scene.write(1)[0]
    commands = scene.send(change(one, data=one.written.data.replace(b"u", b"v", 1)))
    assert pair.refusal(commands) in ("item.seal", "entry.undecodable", "item.name") and not scene.stored(commands)


def test_a_changed_private_part_is_refused(scene: Scene) -> None:
    commands = scene.send(change(scene.write(1)[0], private=b'{"text":"other"}'))
    assert pair.refusal(commands) == "item.private" and not scene.stored(commands)


def test_an_entry_in_another_nodes_name_is_refused(scene: Scene) -> None:
    one = scene.write(1)[0]
    entry = msgspec.structs.replace(one.written.entry, origin="n0")
    forged = msgspec.structs.replace(one.written, data=msgspec.json.encode(entry, order="deterministic"))
    seal, paths = scene.child.key.seal([_hash(forged.data)])
    made = Received(written=forged, seal=seal, leaf=0, path=paths[0])
    assert pair.refusal(scene.send(Entries(*pack([made])))) == "item.forged"
    assert pair.refusal(Scene().send(Ahead(*pack([made])))) == "item.forged"


def _hash(data: bytes) -> bytes:
    from command.base.entry import leaf_hash

    return leaf_hash(data)


def test_a_gap_is_not_taken_and_a_peer_that_goes_on_making_them_is_dropped(scene: Scene) -> None:
    found = scene.write(2)
    late = Entries(*pack(found[1:]))
    for _ in range(GAPS_MAX):
        commands = scene.send(late)
        assert not pair.refusal(commands) and not scene.stored(commands)
    assert pair.refusal(scene.send(late)) == "item.gap"


def test_a_replay_changes_nothing(scene: Scene) -> None:
    old = scene.child.streams.entries(scene.subject)
    commands = scene.send(Entries(*pack(old)))
    assert not scene.stored(commands) and [type(one) for one in pair.sent(commands)] == [Held]


def test_other_peoples_streams_are_refused(scene: Scene) -> None:
    scene.child.append([Draft(subject="audit", kind="session.opened", body={})])
    audit = scene.child.streams.entries("audit")
    assert pair.refusal(scene.send(Entries(*pack(audit)))) == "link.foreign_stream"


def test_a_peer_that_ignores_the_window_is_dropped_before_memory_grows(scene: Scene) -> None:
    code, frames = "", 0
    while not code and frames < 20:
        code = pair.refusal(scene.send(Entries(*pack(scene.write(200)))))
        frames += 1
    assert code == "link.window" and frames <= 5


def test_a_frame_of_a_gigabyte_is_refused_by_its_size(scene: Scene) -> None:
    commands = scene.parent.received(NOW, bytes(FRAME_BYTES_MAX + 1), scene.made.now)
    assert pair.refusal(commands) == "link.frame_too_large"


def test_a_stream_with_more_branches_than_allowed_cant_be_named(scene: Scene) -> None:
    stream = str(scene.child.streams.entries(scene.subject)[0].stream)
    tips = [Tip(1, bytes([number]) * 32) for number in range(wire.BRANCHES_MAX + 1)]
    assert pair.refusal(scene.send(Have(streams={stream: tips}))) == "link.frame"


def test_who_forks_on_purpose_is_heard_out_to_the_limit_and_no_further(scene: Scene) -> None:
    """Twenty entries after the same one; the relay that passes them on is not dropped."""
    first = scene.child.streams.entries(scene.subject)[0]
    before, twins = scene.child.disk.copy(), []
    for number in range(20):
        one = scene.write(1, twin=number)[0]
        twins.append(one)
        scene.child.disk = before.copy()
        branches = scene.child.streams.of[first.stream]
        branches.all.pop(one.written.hash)
        branches.line.pop()
        branches.tips = (first.tip,)
    top = pair.node(scene.made, "n0")
    for frame in ([*twins[:10]], [*twins[10:]], [*twins[10:]]):
        commands = scene.send(Entries(*pack(frame)))
        assert not pair.refusal(commands)
        for one in commands:
            if isinstance(one, Store):
                top.store(one.items)
                scene.parent.stored(one.number, scene.made.now)
    assert len(top.tips(first.stream)) == wire.BRANCHES_MAX


def test_naming_streams_that_nobody_has_costs_no_memory(scene: Scene) -> None:
    known = len(scene.parent._outgoing._cursors)
    for number in range(20):
        names = {f"incident/{number}-{n}@n1.g": [Tip(1, b"\x05" * 32)] for n in range(wire.HAVE_STREAMS_MAX)}
        assert not pair.refusal(scene.send(Have(streams=names)))
    assert len(scene.parent._outgoing._cursors) == known


def test_attachments_are_bounded_and_come_only_when_asked_for(scene: Scene) -> None:
    fetch = Fetch(hash=b"h" * 32, offset=0)
    for _ in range(FETCHES_MAX):
        assert not pair.refusal(scene.send(fetch, LATER))
    assert pair.refusal(scene.send(fetch, LATER)) == "link.fetches"
    assert pair.refusal(Scene().send(Blob(hash=b"h" * 32, offset=0, total=1, data=b"x"), LATER)) == "link.unasked"


def test_a_resumed_attachment_must_go_on_where_it_was_asked(scene: Scene) -> None:
    scene.parent.fetch(b"h" * 32, 16)
    assert not pair.refusal(scene.send(Blob(hash=b"h" * 32, offset=16, total=20, data=b"rest"), LATER))
    scene.parent.fetch(b"h" * 32, 16)
    assert pair.refusal(scene.send(Blob(hash=b"h" * 32, offset=0, total=20, data=b"rest"), LATER)) == "link.unasked"


def hello(scene: Scene, **fields: Any) -> Hello:
    made = Hello(versions=(1, 1), node="n1", key=scene.child.key.public, nonce=b"\x07" * 32, channel=NOW, session="s")
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"node": "n9"}, "link.other_node"),
        ({"key": b"k" * 32}, "link.unknown_node"),
        ({"node": "n0"}, "link.other_node"),
        ({"channel": LATER}, "link.channel"),
        ({"versions": (7, 9)}, "link.version"),
    ],
)
def test_a_stranger_is_refused_at_hello(scene: Scene, fields: dict[str, Any], code: str) -> None:
    scene.parent.connected(NOW, b"\x01" * 32, scene.made.now)
    assert pair.refusal(scene.send(hello(scene, **fields))) == code


def test_who_cant_prove_the_key_is_refused(scene: Scene) -> None:
    scene.parent.connected(NOW, b"\x01" * 32, scene.made.now)
    scene.send(hello(scene))
    assert pair.refusal(scene.send(Proof(signature=b"s" * 64))) == "link.unproven"


def test_our_own_words_are_no_proof(scene: Scene) -> None:
    """A reflection: the other side sends back what we sent."""
    ours = scene.parent.connected(NOW, b"\x01" * 32, scene.made.now)
    assert pair.refusal(scene.parent.received(NOW, ours[0].data, scene.made.now)) == "link.other_node"  # type: ignore[union-attr]


def test_nothing_passes_before_both_are_proven(scene: Scene) -> None:
    for message in (Have(done=True), Entries(seals=[], items=[]), Ping(clock=1), Held(), Expand(months=[])):
        fresh = Scene()
        fresh.parent.connected(NOW, b"\x01" * 32, fresh.made.now)
        assert pair.refusal(fresh.send(message)) == "link.order"


def test_a_revoked_node_is_refused(scene: Scene) -> None:
    top = pair.node(scene.made, "n0")
    pair.write(scene.made, "n0", Draft(subject="tree", kind="node.revoked", body={"node": "n1", "heads": {}}))
    assert top.admits("n1", scene.child.key.public) == "link.revoked"
    assert scene.parent.dropped == "link.revoked"


def samples(scene: Scene) -> list[bytes]:
    stream = str(scene.child.streams.entries(scene.subject)[0].stream)
    tip = Tip(1, b"\x05" * 32)
    messages: list[Message] = [
        Have(streams={stream: [tip]}, months={"2026-11": b"m" * 32}, done=True, begin=True),
        Have(streams={stream: [tip]}, ask=True),
        Expand(months=["2026-11", "x"]),
        Fork(stream=stream, points=[tip, tip]),
        Entries(*pack(scene.write(3))),
        Ahead(*pack(scene.write(2))),
        Held(streams={stream: [tip]}, not_yet=[stream, "tree@a.b"]),
        Ping(clock=-5),
        Pong(echo=-(2**62), clock=2**62),
        Fetch(hash=b"h" * 32, offset=9),
        Entries(seals=[], items=[Item(data=b"{}", seal=9, leaf=9)]),
    ]
    return [encode(message) for message in messages]


@pytest.mark.parametrize("seed", range(2))
def test_fuzz_no_octets_from_outside_crash_the_link(seed: int) -> None:
    rng = Random(seed)
    scene = Scene()
    good = samples(scene)
    held = set(pair.node(scene.made, "n0").streams.of)
    for _ in range(1500):
        data = _mutated(rng, rng.choice(good))
        commands = scene.parent.received(rng.choice((NOW, LATER)), data, scene.made.now)
        assert not scene.stored(commands) or scene.parent.dropped is None
        for one in scene.stored(commands):
            assert scene.child.holds(one.stream, one.tip), "something was accepted that the child never wrote"
        if any(isinstance(one, Drop) for one in commands):
            scene.parent = _again(scene)
        else:
            scene.parent.pull(NOW, scene.made.now)
    assert held == set(pair.node(scene.made, "n0").streams.of)


def _again(scene: Scene) -> Link:
    """The parent's side of a fresh, proven link, without the world."""
    top, made = pair.node(scene.made, "n0"), scene.made
    links = [made.link(top, "n1", dialer=False), made.link(scene.child, "n0", dialer=True)]
    for channel in (NOW, LATER):
        frames = [link.connected(channel, bytes([number]) * 32, made.now) for number, link in enumerate(links)]
        for _ in range(3):
            said = [[one.data for one in some if hasattr(one, "data")] for some in frames]
            frames = [
                [command for data in said[1] for command in links[0].received(channel, data, made.now)],
                [command for data in said[0] for command in links[1].received(channel, data, made.now)],
            ]
    assert links[0].peer == "n1" and links[0].dropped is None
    return links[0]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    octets = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(octets))
        match rng.randrange(4):
            case 0:
                octets[at] = rng.randrange(256)
            case 1:
                del octets[at : at + rng.randrange(1, 9)]
            case 2:
                octets[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                octets[at] ^= 1 << rng.randrange(8)
        if not octets:
            break
    return bytes(octets)


def test_fuzz_random_octets_are_no_message() -> None:
    rng = Random(11)
    for _ in range(3000):
        try:
            wire.decode(rng.randbytes(rng.randrange(60)))
        except wire.Corrupt:
            continue


def test_names_of_streams_are_checked() -> None:
    assert wire.stream_of("incident/a@n.g") == Stream("incident/a", "n", "g")
    for name in ("", "incident", "incident/a@", "@n.g", "x@n", "x@.g"):
        with pytest.raises(wire.Corrupt):
            wire.stream_of(name)
