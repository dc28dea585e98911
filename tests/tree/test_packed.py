"""Entries packed for a slow line: the same when they arrive, less on the way, and nothing secret among what is deflated."""

import zlib
from typing import Any

import msgspec
import pytest

from command.base.entry import Draft
from command.base.errors import Corrupt
from command.tree import wire
from command.tree.item import pack
from command.tree.wire import FRAME_BYTES_MAX, NOW, Ahead, Entries, Packed, decode, encode, packed
from tests.tree import pair

SECRET = "李四 13800000000"
ORDER: dict[str, Any] = {
    "order": "01a1ff80bdb649525d5176636a",
    "assignee": {"kind": "organisation", "id": "01a1ff80bdacc8b4be74278405"},
    "ladder": [{"after_s": 0, "means": "app"}, {"after_s": 180, "means": "sms"}, {"after_s": 300, "means": "sms"}],
    "organisation": "01a1ff80bdacc8b4be74278405",
    "parties": ["01a1ff80bdacc8b4be74278405"],
    "urgency": "normal",
    "exercise": False,
}


def _entries(count: int = 1) -> Entries:
    made = pair.world()
    subject = pair.report(made, "n0")
    at = pair.node(made, "n0")
    at.append([Draft(subject=subject, kind="order.issued", body=ORDER, private={"task": SECRET}) for _ in range(count)])
    found = [one for one in at.streams.entries(subject) if one.written.entry.kind == "order.issued"]
    return Entries(*pack(found))


def test_what_is_packed_is_the_same_when_it_arrives() -> None:
    sent = _entries(3)
    assert decode(packed(sent)) == sent
    ahead = Ahead(seals=sent.seals, items=sent.items)
    assert decode(packed(ahead)) == ahead


def test_an_order_takes_little_more_than_half_and_ten_a_third() -> None:
    one, ten = _entries(), _entries(10)
    assert len(packed(one)) < 0.6 * len(encode(one))
    assert len(packed(ten)) < 0.4 * len(encode(ten))


def test_a_private_part_is_never_deflated_with_other_text() -> None:
    sent = _entries()
    frame = packed(sent)
    assert SECRET.encode() in frame
    found = msgspec.msgpack.decode(frame)
    assert SECRET.encode() not in zlib.decompressobj(zdict=wire.BODIES).decompress(found[-1])


def _spoilt(**changes: Any) -> bytes:
    one = _entries(2)
    plain = msgspec.msgpack.Decoder(Packed).decode(packed(one))
    return encode(msgspec.structs.replace(plain, **changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lengths": [10, 10]}, "link.frame"),
        ({"lengths": [FRAME_BYTES_MAX, 1]}, "link.frame_too_large"),
        ({"lengths": [1]}, "link.frame_too_large"),
        ({"bodies": b""}, "link.frame"),
        ({"bodies": b"not deflated"}, "link.frame"),
        ({"bodies": zlib.compress(bytes(64 * 1024 * 1024))}, "link.frame"),
    ],
)
def test_packed_entries_that_are_not_what_they_say_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Corrupt) as caught:
        decode(_spoilt(**changes))
    assert caught.value.code == code


def test_more_entries_ahead_than_a_frame_may_hold_are_refused_packed_too() -> None:
    one = _entries()
    with pytest.raises(Corrupt):
        decode(packed(Ahead(seals=one.seals, items=one.items * 65)))


@pytest.mark.parametrize(("newest", "far", "kind"), [(2, False, Entries), (1, True, Entries), (2, True, Packed)])
def test_only_a_far_peer_that_reads_packed_entries_gets_them(newest: int, far: bool, kind: type[wire.Message]) -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    at, child = pair.node(made, "n1"), pair.link(made, "n1", "n0")
    child._outgoing.packs = newest >= wire.VERSION_PACKED
    child._outgoing.far = far
    at.append([pair.note(subject)])
    at.dirty.clear()
    child.grew(pair.streams(at, subject), made.now)
    data = child.pull(NOW, made.now)
    assert data is not None and msgspec.msgpack.decode(data)[0] == kind.__struct_config__.tag
