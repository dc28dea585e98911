"""Signed files: the link for places that no wire reaches."""

from random import Random

import pytest

from command.base.errors import Corrupt, Denied, FenghuoError
from command.tree.bundle import MAGIC, Header, Opener, Writer
from command.tree.item import Received
from tests.sim.node import Node
from tests.sim.world import World
from tests.tree import pair


def made_by(node: Node, to: str) -> bytes:
    writer = Writer(Header(node.me, node.key.public, 1, to))
    octets = writer.start()
    for stream in sorted(node.streams.of, key=lambda one: (one.subject != "tree", one)):
        if node.shared(stream, to):
            octets += writer.add(node.rest(stream, (), to, 10_000, 0))
    return octets + writer.end(node.key.sign)


def read(node: Node, octets: bytes, piece: int = 700) -> list[Received]:
    opener = Opener(node, lambda maker, key: node.public.get(maker) == key, node.proves)
    found = []
    for start in range(0, len(octets), piece):
        found += opener.feed(octets[start : start + piece])
    opener.close()
    return found


def carry(made: World, giver: str, taker: str) -> None:
    """Twice through the file, as the program does."""
    octets = made_by(pair.node(made, giver), taker)
    read(pair.node(made, taker), octets)
    pair.node(made, taker).store(read(pair.node(made, taker), octets))


def test_two_nodes_that_never_meet_exchange_files_and_agree() -> None:
    made = pair.world(linked=False)
    subject = pair.report(made, "n1")
    carry(made, "n1", "n0")
    pair.write(made, "n0", *[pair.note(subject, f"from above {number}") for number in range(300)])
    pair.write(made, "n1", *[pair.note(subject, f"from below {number}") for number in range(300)])
    carry(made, "n0", "n1")
    carry(made, "n1", "n0")
    carry(made, "n1", "n0")  # again: nothing happens
    pictures = [pair.node(made, name).picture(subject) for name in ("n0", "n1")]
    assert pictures[0].digest() == pictures[1].digest() and len(pictures[0].order) == 601
    assert pictures[0].order[-1].secrets["text"].startswith("from ")


def test_a_changed_octet_anywhere_is_refused_and_its_place_is_named() -> None:
    made = pair.world(linked=False)
    subject = pair.report(made, "n1")
    pair.write(made, "n1", *[pair.note(subject, "secret") for _ in range(5)])
    octets = made_by(pair.node(made, "n1"), "n0")
    rng = Random(3)
    for at in rng.sample(range(len(octets)), 150):
        bad = bytearray(octets)
        bad[at] ^= 1 << rng.randrange(8)
        with pytest.raises((Corrupt, Denied)) as caught:
            read(pair.node(made, "n0"), bytes(bad))
        assert isinstance(caught.value, Denied) or caught.value.hint.startswith("At octet "), caught.value


def test_a_file_that_was_cut_short_or_goes_on_is_refused() -> None:
    made = pair.world(linked=False)
    pair.report(made, "n1")
    octets = made_by(pair.node(made, "n1"), "n0")
    for bad in (octets[:-1], octets[:-80], octets + b"\x00", octets + octets, b"", MAGIC):
        with pytest.raises(Corrupt):
            read(pair.node(made, "n0"), bad)


def test_a_file_by_a_node_that_is_not_known_is_refused() -> None:
    made = pair.world(linked=False)
    pair.report(made, "n1")
    stranger = pair.node(made, "n1")
    stranger.me = "n9"
    with pytest.raises(Denied, match=r"bundle\.unknown_node"):
        read(pair.node(made, "n0"), made_by(stranger, "n0"))


def test_a_piece_of_a_gigabyte_is_refused_before_it_is_read() -> None:
    made = pair.world(linked=False)
    opener = Opener(pair.node(made, "n0"), lambda *_: True, lambda *_: True)
    with pytest.raises(Corrupt, match=r"bundle\.chunk"):
        opener.feed(MAGIC + (2**30).to_bytes(4, "big"))


def test_fuzz_no_file_crashes_the_reader() -> None:
    made = pair.world(linked=False)
    subject = pair.report(made, "n1")
    pair.write(made, "n1", pair.note(subject, "secret"))
    octets = made_by(pair.node(made, "n1"), "n0")
    rng = Random(5)
    for _ in range(300):
        bad = bytearray(octets)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(bad))
            bad[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        try:
            found = read(pair.node(made, "n0"), bytes(bad), rng.choice((1, 50, 5000)))
        except FenghuoError:
            continue
        assert bytes(bad) == octets and found


def test_streams_of_nodes_whose_keys_are_not_known_are_left_out_and_named() -> None:
    made = pair.world(pair.LINE, linked=False)
    made.mend(made.edges[1])
    pair.report(made, "n2")
    pair.rest(made)
    top = pair.node(made, "n0")
    octets = made_by(pair.node(made, "n1"), "n0")
    opener = Opener(top, lambda *_: True, top.proves)
    found = opener.feed(octets)
    opener.close()
    assert {one.origin for one in opener.skipped} == {"n2"} and all(one.stream.origin == "n1" for one in found)
    top.store(found)
    assert {one.stream.origin for one in read(top, octets)} == {"n1", "n2"}
