"""An entry: one immutable, hash-chained fact written by one node; and the seal over a batch of them.

Pure. Never reads a clock, a key file or a database. Invariant: the hash is over the very bytes that are stored and sent,
so a reader verifies bytes first and only then believes what they decode to.

Hashes are domain-separated as in RFC 9162 (Certificate Transparency) §2.1: a leaf is H(0x00 || bytes), an inner node
H(0x01 || left || right). The seal is Ed25519 (RFC 8032) over a context string and the root.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from command.base.errors import Corrupt, Rejected

PRIVATE_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 256 * 1024
SALT_BYTES = 32
BATCH_ENTRIES_MAX = 1024
SEALS_REMEMBERED = 512
NO_HASH = "0" * 64
PLACE_MAX = 300
SEAL_CONTEXT = b"fenghuo seal 1\x00"

Body = dict[str, Any]


class By(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who decided, in which post, from which account. A node acting by itself (timers, gateways) is `account="node"`."""

    account: str
    person: str | None = None
    post: str | None = None
    organisation: str | None = None


class Stream(msgspec.Struct, frozen=True, order=True):
    """All entries of one (subject, origin node, generation): dense sequence numbers from 1, one writer."""

    subject: str
    origin: str
    generation: str

    def __str__(self) -> str:
        return f"{self.subject}@{self.origin}.{self.generation}"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body side of an entry, in the order in which its fields are encoded.

    `prev` is the hex hash of the entry before it in the stream (64 zeros at seq 1); `at` microseconds UTC at the writer;
    `claim` the hash of the claim under which an owner decided; `seen` the lengths of the incident's streams that its
    author had folded ("origin.generation": length; only what changed since its previous entry in this stream; a stream's
    first entry names every earlier generation of its origin, 0 where it held nothing); `private` the hex salted hash of the
    private part, absent when there is none; `was` the name it had in an abandoned generation ("generation/seq").
    """

    v: int = 1
    hash: str = "sha256"
    subject: str
    origin: str
    generation: str
    seq: int
    prev: str
    at: int
    kind: str
    by: By
    claim: str | None = None
    seen: dict[str, int] = {}
    private: str | None = None
    was: str | None = None
    body: Body

    @property
    def stream(self) -> Stream:
        return Stream(self.subject, self.origin, self.generation)

    @property
    def place(self) -> str:
        """Where it stands, for people to read; cut, since an entry that was not checked yet may name a stream of any length."""
        return f"{self.stream} #{self.seq}"[:PLACE_MAX]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What `decide` wants written: an entry without its place in a stream. `private` holds names, numbers and free text."""

    subject: str
    kind: str
    body: Body
    private: dict[str, Any] | None = None
    claim: str | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """An entry with everything that is kept beside it: its bytes, hash, and private part with its salt (or neither)."""

    entry: Entry
    data: bytes
    hash: bytes
    salt: bytes | None = None
    private: bytes | None = None

    @property
    def secrets(self) -> dict[str, Any]:
        """The private part as a dict; empty when there is none, or when it was erased or withheld."""
        return msgspec.json.decode(self.private) if self.private is not None else {}


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """Ed25519 over the Merkle root of `count` leaf hashes; `alg` is named so that SM2 can stand beside it."""

    root: bytes
    count: int
    signature: bytes
    alg: str = "ed25519"


_encoder = msgspec.json.Encoder(order="deterministic")
_decode_entry = msgspec.json.Decoder(Entry).decode
_HMAC_BLOCK = 64
_IPAD, _OPAD = (bytes(octet ^ pad for octet in range(256)) for pad in (0x36, 0x5C))
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def canonical(value: object) -> bytes:
    """Deterministic JSON of `value`: object keys sorted, no spaces, UTF-8.

    Raises `Rejected` for U+0000, lone surrogates and integers beyond 64 bits, none of which every database and every
    peer can carry.
    """
    try:
        data = _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise Rejected("entry.unencodable", f"The text or number can't be stored: {error}") from None
    if has_nul(data):
        raise Rejected("entry.nul", "Text must not contain the character U+0000.")
    return data


def has_nul(data: bytes) -> bool:
    """Whether JSON `data` holds the character U+0000, which not every database can carry."""
    return b"\\" in data and b"\\u0000" in data and _NUL.search(data) is not None


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), 32 octets (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def private_hash(salt: bytes, private: bytes) -> bytes:
    """HMAC-SHA256 of the private part under its own random salt: without the salt, a phone number can't be guessed.

    By RFC 2104 §2 on `hashlib`, because `hmac.digest` takes twice as long and lets go of the interpreter's lock each time: the
    writer, which does this for every entry of a batch, would wait for the event loop as often.
    """
    key = salt if len(salt) <= _HMAC_BLOCK else hashlib.sha256(salt).digest()
    key = key.ljust(_HMAC_BLOCK, b"\x00")
    return hashlib.sha256(key.translate(_OPAD) + hashlib.sha256(key.translate(_IPAD) + private).digest()).digest()


def write(entry: Entry, private: bytes | None = None, salt: bytes | None = None) -> Written:
    """Encode and hash `entry`. The caller must have set `entry.private` from the same `private` and `salt`.

    What comes back is what the bytes say, not what was given (key order, 155 for 155.0, lists for tuples): projecting an
    entry when it is written and when it is read again must give the same rows.
    """
    data = canonical(entry)
    if len(data) > BODY_BYTES_MAX:
        raise Rejected("entry.too_large", f"The request is larger than {BODY_BYTES_MAX} octets.")
    return Written(entry=decode(data), data=data, hash=leaf_hash(data), salt=salt, private=private)


def encode_private(private: dict[str, Any]) -> bytes:
    """Canonical bytes of a private part. Raises `Rejected` above 16 kB: longer texts travel as attachments."""
    data = canonical(private)
    if len(data) > PRIVATE_BYTES_MAX:
        raise Rejected(
            "entry.private_too_large",
            f"The text is longer than {PRIVATE_BYTES_MAX} octets; attach it as a file.",
        )
    return data


def decode(data: bytes) -> Entry:
    """The entry in `data`. Raises `Corrupt` when the bytes aren't one. Says nothing about hashes; see `check`."""
    try:
        return _decode_entry(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt("entry.undecodable", f"The stored bytes are not an entry: {error}") from None


def check_private(entry: Entry, salt: bytes | None, private: bytes | None) -> bool:
    """Whether `private` is what the body's salted hash promises; a missing part (erased, withheld) is no contradiction."""
    if private is None and salt is None:
        return True
    if private is None or salt is None or entry.private is None:
        return False
    return hmac.compare_digest(private_hash(salt, private).hex(), entry.private)


def merkle(leaves: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Root and, per leaf, its inclusion path (sibling hashes from the leaf upward, concatenated; empty for one leaf).

    Level by level: the last node of an odd number goes up as it is, which is the tree of RFC 9162 §2.1.1.
    """
    sha256 = hashlib.sha256
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[::2], below[1::2], strict=False)
        above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        levels.append(above + below[-1:] if len(below) & 1 else above)
    paths = [b""]
    for level in reversed(levels[:-1]):
        under: list[bytes] = []
        for left, right, path in zip(level[::2], level[1::2], paths, strict=False):
            under += (right + path, left + path)
        paths = under + paths[-1:] if len(level) & 1 else under
    return levels[-1][0], paths


def root_from_path(leaf: bytes, index: int, count: int, path: bytes) -> bytes:
    """The root that `leaf` at `index` of `count` gives with `path` (RFC 9162 §2.1.3.2). Raises `Corrupt` on bad shapes."""
    if not 0 <= index < count or len(path) % 32:
        raise Corrupt("seal.path", "The Merkle path has the wrong shape.")
    siblings = [path[i : i + 32] for i in range(0, len(path), 32)]
    node, fn, sn = leaf, index, count - 1
    for sibling in siblings:
        if sn == 0:
            raise Corrupt("seal.path", "The Merkle path is too long.")
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise Corrupt("seal.path", "The Merkle path is too short.")
    return node


class Proven:
    """The tree under one seal, as far as paths have proven it: what one path proved needs no hashing for the next, so that a
    whole batch costs about two hashes an entry instead of one for each level. It says exactly what `root_from_path` says.
    """

    def __init__(self, seal: "Seal") -> None:
        self._root, self._count = seal.root, seal.count
        self._known: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        """By level and place: the node, and the path from there to the root."""

    def holds(self, leaf: bytes, index: int, path: bytes) -> bool:
        """Whether `leaf` stands at `index` under the root, as `path` says. Raises `Corrupt` on bad shapes."""
        if not 0 <= index < self._count or len(path) % 32:
            raise Corrupt("seal.path", "The Merkle path has the wrong shape.")
        node, level, fn, sn, at = leaf, 0, index, self._count - 1, 0
        met: list[tuple[int, int, bytes, int]] = []
        while True:
            while sn and fn == sn and not fn & 1:  # the last one of an odd number goes up as it is
                level, fn, sn = level + 1, fn >> 1, sn >> 1
            if not sn:
                break
            known = self._known.get((level, fn))
            if known is not None and known[0] == node and known[1] == path[at:]:
                self._learn(met, path)
                return True
            if at == len(path):
                raise Corrupt("seal.path", "The Merkle path is too short.")
            met.append((level, fn, node, at))
            sibling = path[at : at + 32]
            node = hashlib.sha256(b"\x01" + (sibling + node if fn & 1 else node + sibling)).digest()
            level, fn, sn, at = level + 1, fn >> 1, sn >> 1, at + 32
        if at != len(path):
            raise Corrupt("seal.path", "The Merkle path is too long.")
        if node == self._root:
            self._learn(met, path)
        return node == self._root

    def _learn(self, met: list[tuple[int, int, bytes, int]], path: bytes) -> None:
        for level, fn, node, at in met[1:]:
            self._known[level, fn] = node, path[at:]


def seal(key: Ed25519PrivateKey, leaves: Sequence[bytes]) -> tuple[Seal, list[bytes]]:
    """Seal a commit batch: the seal, and each entry's path in the order of `leaves`."""
    root, paths = merkle(leaves)
    return Seal(root=root, count=len(leaves), signature=key.sign(SEAL_CONTEXT + root)), paths


def check_seal(key: Ed25519PublicKey, seal: Seal) -> bool:
    """Whether the signature is the node's own over this root."""
    try:
        key.verify(seal.signature, SEAL_CONTEXT + seal.root)
    except InvalidSignature:
        return False
    return True


def check_seal_again(key: Ed25519PublicKey, seal: Seal) -> bool:
    """What `check_seal` says, remembered for a while: entries under one seal come in several frames, and are looked at twice."""
    return _signed(key.public_bytes_raw(), seal.signature, seal.root)


@lru_cache(SEALS_REMEMBERED)
def _signed(key: bytes, signature: bytes, root: bytes) -> bool:
    return check_seal(Ed25519PublicKey.from_public_bytes(key), Seal(root=root, count=1, signature=signature))
