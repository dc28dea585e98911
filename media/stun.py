"""STUN as an ICE-lite agent needs it: read a Binding request, check it, answer it.

Pure. Never sends requests. Invariant: `read()` either returns a whole, well-formed Binding request or None;
no bytes make it raise.

Sources: RFC 8489 (§5 header, §14.5 MESSAGE-INTEGRITY, §14.7 FINGERPRINT), RFC 8445 §7.3.
"""

from __future__ import annotations

import binascii
import hmac
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

HEADER = Struct("!HHI12s")
ATTRIBUTE = Struct("!HH")
COOKIE = 0x2112A442
REQUEST = 0x0001
INDICATION = b"\x00\x11"
SUCCESS = 0x0101
ERROR = 0x0111
USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
XOR_MAPPED_ADDRESS = 0x0020
USE_CANDIDATE = 0x0025
FINGERPRINT = 0x8028
ICE_CONTROLLED = 0x8029
FINGERPRINT_XOR = 0x5354554E
OPTIONAL = 0x8000  # from here on, who doesn't know an attribute passes over it (RFC 8489 §14)
KNOWN = frozenset((1, 6, 8, 9, 10, 0x14, 0x15, 0x1C, 0x1D, 0x1E, 0x20, 0x24, 0x25))  # RFC 8489 §18.3.1, RFC 8445 §16.1
MESSAGE_BYTES_MAX = 1024
ATTRIBUTES_MAX = 32
USERNAME_BYTES_MAX = 513


class Request(NamedTuple):
    """A Binding request whose form is right; `username` is "ours:theirs", `signed` what the integrity covers, `unknown` the
    attributes that whoever answers must understand and we don't."""

    transaction: bytes
    username: str
    nominated: bool
    controlled: bool
    signed: bytes
    integrity: bytes
    unknown: tuple[int, ...] = ()


def read(data: bytes) -> Request | None:
    """The Binding request in `data`, or None for anything else, however odd."""
    if not HEADER.size <= len(data) <= MESSAGE_BYTES_MAX:
        return None
    kind, length, cookie, transaction = HEADER.unpack_from(data)
    if kind != REQUEST or cookie != COOKIE or length % 4 or HEADER.size + length != len(data):
        return None
    username = b""
    integrity = signed = b""
    nominated = controlled = False
    unknown: dict[int, None] = {}
    at = HEADER.size
    for _ in range(ATTRIBUTES_MAX):
        if at + 4 > len(data):
            break
        attribute, size = ATTRIBUTE.unpack_from(data, at)
        value = data[at + 4 : at + 4 + size]
        if len(value) != size:
            return None
        if attribute == FINGERPRINT:
            if size != 4 or int.from_bytes(value, "big") != _fingerprint(data[:at]):
                return None
            break
        if not integrity:  # RFC 8489 §14.5: what follows MESSAGE-INTEGRITY is not covered and ignored
            if attribute == USERNAME and size <= USERNAME_BYTES_MAX:
                username = value
            elif attribute == MESSAGE_INTEGRITY:
                if size != 20:
                    return None
                integrity, signed = value, _with_length(data[:at], at - HEADER.size + 24)
            elif attribute == USE_CANDIDATE:
                nominated = True
            elif attribute == ICE_CONTROLLED:
                controlled = True
            elif attribute < OPTIONAL and attribute not in KNOWN:
                unknown[attribute] = None
        at += 4 + size + (-size % 4)
    if not integrity or not username:
        return None
    who = username.decode("ascii", "replace")
    return Request(transaction, who, nominated, controlled, signed, integrity, tuple(unknown))


def authentic(request: Request, password: bytes) -> bool:
    """True if the sender of `request` knows `password` (RFC 8489 §9.1.3)."""
    return hmac.compare_digest(request.integrity, hmac.digest(password, request.signed, "sha1"))


def success(request: Request, password: bytes, address: tuple[str, int]) -> bytes:
    """The success response to `request`, which came from `address` (IPv4 or IPv6)."""
    host = ip_address(address[0].partition("%")[0]).packed
    mask = COOKIE.to_bytes(4, "big") + request.transaction
    port = address[1] ^ (COOKIE >> 16)
    family = b"\0\x01" if len(host) == 4 else b"\0\x02"
    masked = bytes(octet ^ key for octet, key in zip(host, mask, strict=False))
    mapped = ATTRIBUTE.pack(XOR_MAPPED_ADDRESS, 4 + len(host)) + family + port.to_bytes(2, "big") + masked
    return _finished(SUCCESS, request.transaction, mapped, password)


def role_conflict(request: Request, password: bytes) -> bytes:
    """The error response 487 (RFC 8445 §7.3.1.1): we are lite and so always controlled."""
    reason = b"\0\0\x04\x57Role Conflict\0\0\0"
    body = ATTRIBUTE.pack(ERROR_CODE, 17) + reason
    return _finished(ERROR, request.transaction, body, password)


def not_understood(request: Request, password: bytes) -> bytes:
    """The error response 420, which names the `unknown` attributes (RFC 8489 §6.3.1)."""
    reason = b"\0\0\x04\x14Unknown Attribute\0\0\0"
    body = ATTRIBUTE.pack(ERROR_CODE, 21) + reason
    names = b"".join(name.to_bytes(2, "big") for name in request.unknown)
    body += ATTRIBUTE.pack(UNKNOWN_ATTRIBUTES, len(names)) + names + bytes(-len(names) % 4)
    return _finished(ERROR, request.transaction, body, password)


def _finished(kind: int, transaction: bytes, body: bytes, password: bytes) -> bytes:
    message = HEADER.pack(kind, len(body) + 24, COOKIE, transaction) + body
    message += ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20) + hmac.digest(password, message, "sha1")
    message = _with_length(message, len(body) + 32)
    return message + ATTRIBUTE.pack(FINGERPRINT, 4) + _fingerprint(message).to_bytes(4, "big")


def _with_length(message: bytes, length: int) -> bytes:
    return message[:2] + length.to_bytes(2, "big") + message[4:]


def _fingerprint(message: bytes) -> int:
    return binascii.crc32(message) ^ FINGERPRINT_XOR
