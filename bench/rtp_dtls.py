"""DTLS-SRTP of the load client: one certificate per process, handshakes in memory, SRTP keys out.

Never touches a socket: datagrams go in and out as bytes. Invariant: only the named SRTP profile is offered, so
both servers of a comparison encrypt with the same one or the handshake gives no keys.

Sources: RFC 5764 (use_srtp, key export), RFC 6347 (records, timers), RFC 7714 (AES-GCM for SRTP).
"""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass
from functools import lru_cache

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

DATAGRAM_BYTES_MAX = 1200
RECORD_HEADER_BYTES = 13
# every key exchange a server may present, for ECDSA and RSA certificates alike
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An SRTP protection profile: OpenSSL's name, libsrtp's number, key and salt lengths in bytes."""

    openssl: bytes
    libsrtp: int
    key_bytes: int
    salt_bytes: int


PROFILES = {
    "AEAD_AES_128_GCM": Profile(
        openssl=b"SRTP_AEAD_AES_128_GCM",
        libsrtp=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        key_bytes=16,
        salt_bytes=12,
    ),
    "AES128_CM_SHA1_80": Profile(
        openssl=b"SRTP_AES128_CM_SHA1_80",
        libsrtp=pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        key_bytes=16,
        salt_bytes=14,
    ),
}


@lru_cache(maxsize=1)
def certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, str]:
    """The process's self-signed certificate, its key and its SHA-256 fingerprint (AA:BB:...)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(tz=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    return made, key, made.fingerprint(hashes.SHA256()).hex(":").upper()


@lru_cache(maxsize=4)
def _context(profile: str) -> SSL.Context:
    made, key, _ = certificate()
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_certificate(made)
    context.use_privatekey(key)
    context.set_cipher_list(CIPHERS)
    context.set_tlsext_use_srtp(PROFILES[profile].openssl)
    return context


class Handshake:
    """A DTLS handshake. `start()`, then `feed()` each datagram; both return datagrams to send."""

    def __init__(self, profile: str, fingerprint: str, *, client: bool = True) -> None:
        self.profile = PROFILES[profile]
        self.fingerprint = fingerprint
        self.done = False
        self._tls = SSL.Connection(_context(profile))
        self._client = client
        if client:
            self._tls.set_connect_state()
        else:
            self._tls.set_accept_state()
        self._tls.set_ciphertext_mtu(DATAGRAM_BYTES_MAX)

    def start(self) -> list[bytes]:
        """The first flight (the client's ClientHello; a server has nothing to say yet)."""
        return self._step()

    def feed(self, datagram: bytes) -> list[bytes]:
        """Give one received DTLS datagram; raises ValueError if the server's certificate is another one."""
        self._tls.bio_write(datagram)
        return self._step()

    def retransmit(self) -> list[bytes]:
        """The current flight again if OpenSSL's own timer has run out."""
        self._tls.DTLSv1_handle_timeout()
        return self._flights()

    def _step(self) -> list[bytes]:
        if not self.done:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                self._check_peer()
                self.done = True
        else:
            with contextlib.suppress(SSL.Error):
                self._tls.recv(2048)
        return self._flights()

    def _check_peer(self) -> None:
        peer = self._tls.get_peer_certificate(as_cryptography=True)
        seen = peer.fingerprint(hashes.SHA256()).hex(":").upper() if peer else "none"
        if seen != self.fingerprint:
            raise ValueError(f"fingerprint {seen}, signalled {self.fingerprint}")

    def _flights(self) -> list[bytes]:
        """What OpenSSL wrote, cut at record borders into datagrams (a memory BIO forgets the borders)."""
        datagrams: list[bytes] = []
        try:
            pending = self._tls.bio_read(65536)
        except SSL.WantReadError:
            return datagrams
        current = b""
        while pending:
            length = RECORD_HEADER_BYTES + int.from_bytes(pending[11:13], "big")
            record, pending = pending[:length], pending[length:]
            if current and len(current) + len(record) > DATAGRAM_BYTES_MAX:
                datagrams.append(current)
                current = b""
            current += record
        return [*datagrams, current] if current else datagrams

    def keys(self) -> tuple[pylibsrtp.Session, pylibsrtp.Session]:
        """(send, receive) SRTP sessions; raises ValueError if the server refused the profile."""
        chosen = self._tls.get_selected_srtp_profile()
        if chosen != self.profile.openssl:
            raise ValueError(f"SRTP profile {chosen!r}, wanted {self.profile.openssl!r}")
        one = self.profile
        material = self._tls.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (one.key_bytes + one.salt_bytes))
        salts = material[2 * one.key_bytes :]
        ours = material[: one.key_bytes] + salts[: one.salt_bytes]
        theirs = material[one.key_bytes : 2 * one.key_bytes] + salts[one.salt_bytes :]
        if not self._client:
            ours, theirs = theirs, ours
        return sending(ours, one), receiving(theirs, one)


def sending(key: bytes, profile: Profile) -> pylibsrtp.Session:
    """A session that protects any SSRC with master key + salt `key`."""
    policy = pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile.libsrtp)
    return pylibsrtp.Session(policy)


def receiving(key: bytes, profile: Profile) -> pylibsrtp.Session:
    """A session that unprotects any SSRC with master key + salt `key`."""
    policy = pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=profile.libsrtp)
    return pylibsrtp.Session(policy)
