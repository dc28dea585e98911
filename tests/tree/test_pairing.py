"""Two nodes prove to each other who they are, and a code makes strangers into child and parent."""

import contextlib
import itertools
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Denied, FenghuoError, Rejected
from command.tree.pairing import (
    ALPHABET,
    HANDSHAKE_BYTES_MAX,
    Handshake,
    Hello,
    Proof,
    Refused,
    Role,
    Welcome,
    decode,
    encode,
    grouped,
    hello,
    new_code,
    read_code,
)

CODE = "ABCDEFGHIJKLMNOPQRST"
OTHER_CODE = "BBCDEFGHIJKLMNOPQRST"
_numbers = itertools.count(1)


def octets(count: int) -> bytes:
    return next(_numbers).to_bytes(count, "big")


def side(role: Role, key: Ed25519PrivateKey | None = None) -> Handshake:
    own = key or Ed25519PrivateKey.generate()
    return Handshake(own, role, hello(own, octets, generation="0" * 32, name="节点", at=1))


def met(child: Handshake, parent: Handshake) -> None:
    parent.met(child.opening)
    child.met(parent.opening)


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def guess(impostor: Handshake) -> Welcome:
    """The Welcome of somebody who holds a key of their own and tries another code."""
    impostor.peer, impostor._code = b"", b"guessed".ljust(32)
    return impostor.welcome()


def join(child: Handshake, parent: Handshake, code: str, invitations: dict[str, str]) -> str | None:
    met(child, parent)
    found = parent.proven(child.proof(code), invitations)
    child.welcomed(parent.welcome(name="东县", kind="fixed", level="county", organisation="o1"))
    return found


def test_a_code_makes_two_strangers_know_each_others_keys() -> None:
    child_key, parent_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    child, parent = side(Role.CHILD, child_key), side(Role.PARENT, parent_key)
    assert join(child, parent, CODE, {"first": OTHER_CODE, "second": CODE}) == "second"
    assert child.peer == raw(parent_key)
    assert parent.peer == raw(child_key)


def test_the_code_is_in_no_frame() -> None:
    child, parent = side(Role.CHILD), side(Role.PARENT)
    met(child, parent)
    proof = child.proof(CODE)
    parent.proven(proof, {"one": CODE})
    for frame in (child.opening, parent.opening, encode(proof), encode(parent.welcome())):
        assert CODE.encode() not in frame


def test_a_wrong_code_is_refused_and_proves_nothing() -> None:
    child, parent = side(Role.CHILD), side(Role.PARENT)
    met(child, parent)
    with pytest.raises(Denied, match=r"pairing\.refused"):
        parent.proven(child.proof(CODE), {"one": OTHER_CODE})
    assert parent.peer is None


def test_a_parent_that_does_not_know_the_code_is_not_believed() -> None:
    """Somebody answers at the parent's address with a key of their own and a good signature."""
    child, impostor = side(Role.CHILD), side(Role.PARENT)
    met(child, impostor)
    child.proof(CODE)
    with pytest.raises(Denied, match=r"pairing\.refused"):
        child.welcomed(guess(impostor))
    assert child.peer is None


def test_the_childs_hmac_sent_back_does_not_pass_for_the_parents() -> None:
    child, impostor = side(Role.CHILD), side(Role.PARENT)
    met(child, impostor)
    proof = child.proof(CODE)
    with pytest.raises(Denied, match=r"pairing\.refused"):
        child.welcomed(Welcome(signature=guess(impostor).signature, join=proof.join))


def test_a_proof_of_one_connection_is_worth_nothing_on_another() -> None:
    key = Ed25519PrivateKey.generate()
    child, parent = side(Role.CHILD, key), side(Role.PARENT)
    met(child, parent)
    old = child.proof(CODE)
    again, other = side(Role.CHILD, key), side(Role.PARENT)
    met(again, other)
    with pytest.raises(Denied, match=r"link\.signature"):
        other.proven(old, {"one": CODE})


def test_a_man_in_the_middle_with_his_own_keys_is_found_out() -> None:
    """He relays everything, but shows each side a key of his own: both signatures fail, and the HMAC as well."""
    child, parent = side(Role.CHILD), side(Role.PARENT)
    to_child, to_parent = side(Role.PARENT), side(Role.CHILD)
    met(child, to_child)
    met(to_parent, parent)
    stolen = child.proof(CODE)
    with pytest.raises(Denied):
        parent.proven(stolen, {"one": CODE})
    with pytest.raises(Denied):
        parent.proven(Proof(signature=to_parent.proof(OTHER_CODE).signature, join=stolen.join), {"one": CODE})


def test_a_place_changed_on_the_way_is_refused() -> None:
    child, parent = side(Role.CHILD), side(Role.PARENT)
    met(child, parent)
    parent.proven(child.proof(CODE), {"one": CODE})
    told = parent.welcome(level="county")
    changed = Welcome(signature=told.signature, join=told.join, level="province")
    with pytest.raises(Denied):
        child.welcomed(changed)


def test_an_echo_is_refused() -> None:
    child = side(Role.CHILD)
    with pytest.raises(Denied, match=r"link\.mirror"):
        child.met(child.opening)


def test_versions_must_meet() -> None:
    key = Ed25519PrivateKey.generate()
    opening = hello(key, octets, generation="0" * 32, name="", at=0)
    newer = Hello(**{name: getattr(opening, name) for name in opening.__struct_fields__} | {"versions": [9]})
    with pytest.raises(Rejected, match=r"link\.version"):
        side(Role.PARENT).met(encode(newer))


def test_the_signature_covers_the_octets_as_they_travelled() -> None:
    """A later version may say more in its Hello; this one doesn't understand it and still agrees on what was signed."""
    import msgspec

    key = Ed25519PrivateKey.generate()
    child = Handshake(key, Role.CHILD, hello(key, octets, generation="0" * 32, name="", at=0))
    child.opening = msgspec.msgpack.encode({**msgspec.msgpack.decode(child.opening), "tomorrow": 1})
    parent = side(Role.PARENT)
    met(child, parent)
    parent.proven(child.proof(CODE), {"one": CODE})
    assert parent.peer == raw(key)


def test_a_code_is_read_however_it_was_heard() -> None:
    code = new_code(bytes(range(13)))
    assert len(code) == 20 and set(code) <= set(ALPHABET)
    for typed in (code, grouped(code), grouped(code).lower(), grouped(code).replace("-", " "), f" {code}\n"):
        assert read_code(typed) == code
    assert read_code("0000-1111-8888-OOOO-IIII") == "OOOOIIIIBBBBOOOOIIII"


@pytest.mark.parametrize(
    "text",
    ["", "ABCD", CODE + "A", "ABCDEFGHIJKLMNOPQRS9", "一二三四五六七八九十一二三四五六七八九十", CODE[:-1] + "ı"],
)
def test_what_can_be_no_code_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match=r"pairing\.code"):
        read_code(text)


@given(st.binary(min_size=13, max_size=13))
def test_property_every_code_reads_back(random: bytes) -> None:
    assert read_code(grouped(new_code(random))) == new_code(random)


@given(st.text(max_size=60))
def test_fuzz_a_typed_code_is_a_code_or_refused(text: str) -> None:
    with contextlib.suppress(Rejected):
        assert set(read_code(text)) <= set(ALPHABET)


def _frames() -> list[Callable[[], bytes]]:
    return [
        lambda: side(Role.CHILD).opening,
        lambda: encode(Proof(signature=bytes(64), join=bytes(32))),
        lambda: encode(Welcome(signature=bytes(64), join=bytes(32), level="county")),
        lambda: encode(Refused(code="x", hint="y")),
    ]


@given(st.binary(max_size=300))
def test_fuzz_random_octets_never_pass_a_handshake(data: bytes) -> None:
    try:
        side(Role.PARENT).met(data)
    except FenghuoError:
        return
    raise AssertionError("random octets were taken for a Hello")


@given(
    st.sampled_from(_frames()), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_fuzz_changed_frames_are_refused_or_read(make: Callable[[], bytes], changes: list[tuple[int, int]]) -> None:
    data = bytearray(make())
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(Rejected):
        decode(bytes(data))


@given(st.integers(0, 63), st.integers(1, 255))
def test_fuzz_a_changed_signature_is_refused(place: int, change: int) -> None:
    child, parent = side(Role.CHILD), side(Role.PARENT)
    met(child, parent)
    proof = child.proof(CODE)
    signature = bytearray(proof.signature)
    signature[place] ^= change
    with pytest.raises(Denied):
        parent.proven(Proof(signature=bytes(signature), join=proof.join), {"one": CODE})
    assert parent.peer is None


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(Rejected, match="at most"):
        decode(bytes(HANDSHAKE_BYTES_MAX + 1))


def test_a_second_hello_is_refused() -> None:
    child, parent = side(Role.CHILD), side(Role.PARENT)
    parent.met(child.opening)
    with pytest.raises(Rejected):
        parent.met(child.opening)
