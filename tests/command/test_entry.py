"""Entries: canonical bytes, chains of hashes, Merkle paths, seals."""

import hmac
import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from command.base import entry as entries
from command.base.entry import By, Entry
from command.base.errors import Corrupt, Rejected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(part: object) -> object:
        if isinstance(part, dict):
            return {key: turned(part[key]) for key in reversed(part)}
        return [turned(item) for item in part] if isinstance(part, list) else part

    try:
        data = entries.canonical(value)
    except Rejected:
        return
    assert entries.canonical(turned(value)) == data


@given(st.text(), st.text())
def test_a_nul_is_refused_wherever_it_hides_and_nothing_else_is(before: str, after: str) -> None:
    before, after = before.replace("\x00", ""), after.replace("\x00", "")
    with pytest.raises(Rejected, match=r"entry\.(nul|unencodable)"):
        entries.canonical({"text": f"{before}\x00{after}"})
    for harmless in (f"{before}\\u0000{after}", f"{before}\\\\u0000{after}"):
        try:
            assert entries.canonical({"text": harmless})
        except Rejected as error:
            assert error.code == "entry.unencodable"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 200])
def test_every_leaf_reaches_the_root_by_its_path_and_by_no_other(count: int) -> None:
    leaves = [entries.leaf_hash(bytes([i])) for i in range(count)]
    root, paths = entries.merkle(leaves)
    proven = entries.Proven(entries.Seal(root=root, count=count, signature=b""))
    for index, (leaf, path) in enumerate(zip(leaves, paths, strict=True)):
        assert entries.root_from_path(leaf, index, count, path) == root
        assert proven.holds(leaf, index, path)
        if count > 1:
            assert entries.root_from_path(entries.leaf_hash(b"other"), index, count, path) != root


@given(st.integers(0, 2**32))
def test_property_what_paths_have_proven_says_the_same_of_every_other_path(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(1, 40)
    leaves = [entries.leaf_hash(bytes([i])) for i in range(count)]
    root, paths = entries.merkle(leaves)
    proven = entries.Proven(entries.Seal(root=root, count=count, signature=b""))
    for _ in range(30):
        index = rng.randrange(count)
        leaf, place, path = leaves[index], index, bytearray(paths[index])
        if rng.random() < 0.5:
            spoil = rng.randrange(4)
            if spoil == 0:
                leaf = leaves[rng.randrange(count)]
            elif spoil == 1:
                place = rng.randrange(-1, count + 1)
            elif spoil == 2 and path:
                path[rng.randrange(len(path))] ^= 1
            else:
                path = path[:-32] if rng.random() < 0.5 else path + bytes(32)
        assert _said(lambda: proven.holds(leaf, place, bytes(path))) == _said(  # noqa: B023
            lambda: entries.root_from_path(leaf, place, count, bytes(path)) == root  # noqa: B023
        )


def _said(look: Callable[[], bool]) -> bool | str:
    try:
        return look()
    except Corrupt as error:
        return error.code


@given(st.binary(max_size=200), st.integers(-3, 40), st.integers(-3, 40))
def test_fuzz_paths_end_in_a_root_or_are_corrupt(path: bytes, index: int, count: int) -> None:
    try:
        assert len(entries.root_from_path(bytes(32), index, count, path)) == 32
    except Corrupt as error:
        assert error.code == "seal.path"


def test_a_seal_holds_for_its_node_and_its_root_only() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    seal, _ = entries.seal(key, [entries.leaf_hash(b"a"), entries.leaf_hash(b"b")])
    assert entries.check_seal(key.public_key(), seal)
    assert not entries.check_seal(other.public_key(), seal)
    moved = entries.Seal(root=bytes(32), count=seal.count, signature=seal.signature)
    assert not entries.check_seal(key.public_key(), moved)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_the_hash_of_a_private_part_is_the_hmac_of_the_standard_library(salt: bytes, private: bytes) -> None:
    assert entries.private_hash(salt, private) == hmac.digest(salt, private, "sha256")


def test_a_private_part_is_bound_to_its_salt_and_may_be_missing() -> None:
    private, salt = entries.encode_private({"name": "人员"}), bytes(32)
    hashed = entries.private_hash(salt, private).hex()
    by = By(account="node")
    entry = Entry(
        subject="registry", origin="n", generation="g", seq=1, prev="", at=0, kind="k", by=by, private=hashed, body={}
    )
    assert entries.check_private(entry, salt, private)
    assert entries.check_private(entry, None, None)
    assert not entries.check_private(entry, bytes([1]) * 32, private)
    assert not entries.check_private(entry, salt, private + b" ")
    assert not entries.check_private(entry, salt, None)


@given(st.binary(max_size=300))
def test_fuzz_stored_bytes_are_an_entry_or_corrupt(data: bytes) -> None:
    try:
        entries.decode(data)
    except Corrupt as error:
        assert error.code == "entry.undecodable"


def test_a_private_part_has_a_limit() -> None:
    with pytest.raises(Rejected, match="private_too_large"):
        entries.encode_private({"text": "x" * entries.PRIVATE_BYTES_MAX})
