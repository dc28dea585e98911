"""Signatures of the simulation: a fast stand-in, or the real thing."""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from command.base.entry import SEAL_CONTEXT, Seal, check_seal, merkle
from command.base.entry import seal as sign_batch


class Stamp:
    """The stand-in: a keyed hash whose key everybody could make. It shows which node and which octets, and costs 1 us."""

    def __init__(self, node: str) -> None:
        self.public = hashlib.sha256(b"key of " + node.encode()).digest()

    def sign(self, octets: bytes) -> bytes:
        return stamp(self.public, octets)

    def seal(self, leaves: list[bytes]) -> tuple[Seal, list[bytes]]:
        root, paths = merkle(leaves)
        return Seal(root=root, count=len(leaves), signature=self.sign(SEAL_CONTEXT + root)), paths


def stamp(public: bytes, octets: bytes) -> bytes:
    return hmac.digest(public, octets, "sha256") * 2


class Real(Stamp):
    """Ed25519."""

    def __init__(self, node: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"secret of " + node.encode()).digest())
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, octets: bytes) -> bytes:
        return self._key.sign(octets)

    def seal(self, leaves: list[bytes]) -> tuple[Seal, list[bytes]]:
        return sign_batch(self._key, leaves)


class Verifier:
    """Checks either kind."""

    def __init__(self, real: bool) -> None:
        self._real = real

    def key(self, node: str) -> Stamp:
        return Real(node) if self._real else Stamp(node)

    def sealed(self, public: bytes, seal: Seal) -> bool:
        if self._real:
            return check_seal(Ed25519PublicKey.from_public_bytes(public), seal)
        return hmac.compare_digest(stamp(public, SEAL_CONTEXT + seal.root), seal.signature)

    def proves(self, public: bytes, message: bytes, signature: bytes) -> bool:
        if not self._real:
            return hmac.compare_digest(stamp(public, message), signature)
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except Exception:
            return False
        return True
