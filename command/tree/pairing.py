"""Pairing: the code that is read over the telephone, and the handshake by which it makes two strangers child and parent.

Pure. It never decides whether a proven node may come in (`membership`), never sends (`uplink`). Invariant: the code never
travels; what travels are HMACs under it, over both nodes' public keys and both nonces, one for each direction.

Identity is a signed challenge *inside* the connection, so that a proxy that opens TLS breaks nothing and proves nothing:

    child                                   parent
    Hello  -->                          <-- Hello        keys, nonces, versions, generation, clock
    Proof  -->                                           signature; join = HMAC(code, "child" ...)
                                        <-- Welcome      signature; join = HMAC(code, "parent" ...); place of the child

The signature is Ed25519 (RFC 8032) over a context string, the role, the transcript (SHA-256 of both Hellos' octets as they
travelled) and, in a Welcome, the place it gives. The code is base32 (RFC 4648 §6), 100 random bits; its key is HKDF-SHA256
(RFC 5869) of it.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta
from msgspec.structs import replace

from command.base.errors import Denied, Rejected

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
CODE_CHARACTERS = 20
CODE_OCTETS = 13
GROUP = 4
NONCE_OCTETS = 32
HANDSHAKE_BYTES_MAX = 4096
VERSIONS = (1,)
"""Versions of the pairing that this program speaks; the one before the newest stays for one release."""

_MISHEARD = str.maketrans({"0": "O", "1": "I", "8": "B"})
_SEPARATORS = str.maketrans("", "", " -\u2010\u2011\u2012\u2013\u2014\u3000_.,:·\t\r\n")
_CONTEXT = b"fenghuo pairing 1\x00"
_JOIN = b"fenghuo join 1\x00"

Octets32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Text = Annotated[str, Meta(max_length=200)]


class Role(StrEnum):
    CHILD = "child"
    PARENT = "parent"


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", omit_defaults=True):
    """What each side says first. `at` is its clock, microseconds UTC."""

    versions: Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=1, max_length=16)]
    public_key: Octets32
    nonce: Octets32
    generation: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
    name: Text = ""
    at: int = 0


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof", omit_defaults=True):
    """The child's: its signature, and its HMAC under the code."""

    signature: Signature
    join: Octets32


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome", omit_defaults=True):
    """The parent's: its signature and HMAC, and the place that the child was given when it was admitted."""

    signature: Signature
    join: Octets32
    name: Text = ""
    kind: Text = ""
    level: Text = ""
    organisation: Text | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Instead of any of the above, before the connection is closed."""

    code: Annotated[str, Meta(max_length=100)]
    hint: Annotated[str, Meta(max_length=500)] = ""


Message = Hello | Proof | Welcome | Refused
_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode


# -- the code


def new_code(octets: bytes) -> str:
    """20 base32 characters from `CODE_OCTETS` random octets (100 of their bits)."""
    assert len(octets) == CODE_OCTETS
    number = int.from_bytes(octets, "big") >> (8 * CODE_OCTETS - 5 * CODE_CHARACTERS)
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(CODE_CHARACTERS)))


def grouped(code: str) -> str:
    """As it is read aloud: five groups of four."""
    return "-".join(code[at : at + GROUP] for at in range(0, CODE_CHARACTERS, GROUP))


def read_code(text: str) -> str:
    """The code somebody typed: any case, spaces and dashes anywhere; 0, 1 and 8, which no code has, are O, I and B.

    Raises `Rejected` when it can't be one.
    """
    letters = text.translate(_SEPARATORS)
    found = letters.upper().translate(_MISHEARD) if letters.isascii() else ""
    if len(found) != CODE_CHARACTERS or any(letter not in ALPHABET for letter in found):
        raise Rejected(
            "pairing.code", f"A code has {CODE_CHARACTERS} letters A-Z and digits 2-7 in five groups of four."
        )
    return found


def _key_of(code: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"fenghuo invitation 1").derive(code.encode())


# -- the handshake


def encode(message: Message) -> bytes:
    """One binary frame."""
    return _encode(message)


def decode(data: bytes) -> Message:
    """Raises `Rejected` when the frame is too large or is none of the messages of a handshake."""
    if len(data) > HANDSHAKE_BYTES_MAX:
        raise Rejected("link.handshake", f"A frame of the handshake has at most {HANDSHAKE_BYTES_MAX} octets.")
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected("link.handshake", f"This is no message of the handshake: {error}") from None


class Handshake:
    """One side of one connection. The caller must send `opening` first, and close after any error raised here.

    Both call `met(frame)` with the other's first frame. Then a child calls `proof(...)` and `welcomed(Welcome)`; a parent
    calls `proven(Proof, ...)`, decides, and then `welcome(...)`. `other` is the other's Hello; `peer` is its raw public key
    once it is *proven* and None before; `version` is agreed with the two Hellos.
    """

    def __init__(self, key: Ed25519PrivateKey, role: Role, hello: Hello) -> None:
        self.role = role
        self.opening = encode(hello)
        self.other: Hello | None = None
        self.peer: bytes | None = None
        self.version = 0
        self._hello, self._key = hello, key
        self._public = _raw(key.public_key())
        assert hello.public_key == self._public, "a node says hello under its own key"
        self._transcript = b""
        self._code: bytes | None = None

    def met(self, frame: bytes) -> Hello:
        """Take the other's Hello. Raises `Rejected` when it is none, or when the versions don't meet, `Denied` for
        an echo."""
        other = decode(frame)
        if not isinstance(other, Hello) or self.other is not None:
            raise Rejected("link.handshake", "A handshake begins with one Hello.")
        common = set(self._hello.versions) & set(other.versions)
        if not common:
            raise Rejected(
                "link.version",
                f"The other node speaks version {max(other.versions)} of the pairing, this one {max(self._hello.versions)}; "
                "upgrade the older one.",
            )
        if other.public_key == self._public or other.nonce == self._hello.nonce:
            raise Denied("link.mirror", "The other node shows this node's own words.")
        mine, theirs = (hashlib.sha256(octets).digest() for octets in (self.opening, frame))
        self._transcript = mine + theirs if self.role is Role.CHILD else theirs + mine
        self.version, self.other = max(common), other
        return other

    # -- the child's side

    def proof(self, code: str) -> Proof:
        """Answer the parent's Hello: this node holds its key, and knows the invitation's code."""
        assert self.other is not None, "met() comes first"
        self._code = _key_of(code)
        return Proof(signature=self._sign(), join=self._join(self._code, Role.CHILD))

    def welcomed(self, welcome: Welcome) -> None:
        """Check the parent's answer; afterwards `peer` is its key. Raises `Denied`."""
        assert self.other is not None, "met() comes first"
        place = _place(welcome)
        self._check(welcome.signature, Role.PARENT, place)
        if self._code is None or not _same(welcome.join, self._join(self._code, Role.PARENT, place)):
            raise Denied("pairing.refused", "The node at this address does not know the invitation's code.")
        self.peer = self.other.public_key

    # -- the parent's side

    def proven(self, proof: Proof, invitations: Mapping[str, str]) -> str:
        """Check the child's Proof; afterwards `peer` is its key. The id of the invitation that it knows.

        `invitations` is {id: code} of those that may still be used. Raises `Denied` for a false signature and for an HMAC
        under no such code.
        """
        assert self.other is not None, "met() comes first"
        self._check(proof.signature, Role.CHILD)
        found = self._invited(proof.join, invitations.items())
        if found is None:
            raise Denied("pairing.refused", "There is no such invitation, or it was used or is older than 24 h.")
        self.peer = self.other.public_key
        return found

    def welcome(self, *, name: str = "", kind: str = "", level: str = "", organisation: str | None = None) -> Welcome:
        """The parent's answer, once the caller has decided that `peer` may come in and what was decided is durable."""
        assert self.peer is not None and self._code is not None, "proven() comes first"
        given = Welcome(
            signature=bytes(64), join=bytes(32), name=name, kind=kind, level=level, organisation=organisation
        )
        place = _place(given)
        join = self._join(self._code, Role.PARENT, place)
        return replace(given, signature=self._sign(place), join=join)

    # -- both

    def _invited(self, join: bytes, invitations: Iterable[tuple[str, str]]) -> str | None:
        found = None
        for key, code in invitations:
            derived = _key_of(code)
            if _same(join, self._join(derived, Role.CHILD)):
                found, self._code = key, derived
        return found

    def _signed(self, role: Role, place: bytes) -> bytes:
        return _CONTEXT + role.encode() + b"\x00" + self._transcript + place

    def _sign(self, place: bytes = b"") -> bytes:
        return self._key.sign(self._signed(self.role, place))

    def _check(self, signature: bytes, role: Role, place: bytes = b"") -> None:
        assert self.other is not None
        try:
            key = Ed25519PublicKey.from_public_bytes(self.other.public_key)
            key.verify(signature, self._signed(role, place))
        except (InvalidSignature, ValueError):
            raise Denied("link.signature", "The other node could not prove that it holds its key.") from None

    def _join(self, derived: bytes, role: Role, place: bytes = b"") -> bytes:
        """HMAC over both public keys (and nonces, through the transcript); the role tells the directions apart."""
        assert self.other is not None
        child, parent = self._public, self.other.public_key
        if self.role is Role.PARENT:
            child, parent = parent, child
        text = _JOIN + role.encode() + b"\x00" + child + parent + self._transcript + place
        return hmac.digest(derived, text, "sha256")


def _place(welcome: Welcome) -> bytes:
    return hashlib.sha256(encode(replace(welcome, signature=bytes(64), join=bytes(32)))).digest()


def _same(given: bytes, wanted: bytes) -> bool:
    return hmac.compare_digest(given, wanted)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def hello(key: Ed25519PrivateKey, octets: Callable[[int], bytes], *, generation: str, name: str, at: int) -> Hello:
    """This node's Hello for one connection; `octets` gives random ones."""
    return Hello(
        versions=list(VERSIONS),
        public_key=_raw(key.public_key()),
        nonce=octets(NONCE_OCTETS),
        generation=generation,
        name=name[:200],
        at=at,
    )
