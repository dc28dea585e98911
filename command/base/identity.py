"""The node's own identity: its Ed25519 key, its name in entries, and keys derived from it.

Shell over two files in the data directory. Invariant: the private key never leaves its file (mode 0600); the node's id is
a function of the public key, so nobody else can write under it.
"""

import hashlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from command.base.errors import Corrupt

KEY_FILE = "node.key"
ID_OCTETS = 10


def node_id(key: Ed25519PublicKey) -> str:
    """ "n" and 20 hex digits of the SHA-256 of the raw public key."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return "n" + hashlib.sha256(raw).hexdigest()[: 2 * ID_OCTETS]


def load_or_make(data: Path) -> Ed25519PrivateKey:
    """The node's key from `data`, made at the first start. Raises `Corrupt` when the file is not an Ed25519 key."""
    path = data / KEY_FILE
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = Ed25519PrivateKey.generate()
        write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return key
    try:
        loaded = load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise Corrupt(
            "identity.key", f"{KEY_FILE} is not a readable key: {error}; restore it from the backup."
        ) from None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise Corrupt("identity.key", f"{KEY_FILE} is not an Ed25519 key; restore it from the backup.")
    return loaded


def derive(key: Ed25519PrivateKey, purpose: str) -> bytes:
    """32 octets for one purpose, by HKDF-SHA256 (RFC 5869) from the private key."""
    secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return HKDF(SHA256(), 32, salt=None, info=b"fenghuo " + purpose.encode()).derive(secret)


def public_hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def write_secret(path: Path, octets: bytes) -> None:
    """Write a file that only its owner may read, durably and whole or not at all."""
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
