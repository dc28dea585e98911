"""A WebRTC endpoint as light as a load client needs: ICE, DTLS and SRTP over one plain UDP socket.

Never sets UDP_GRO (it would make the sender look cheaper), never decodes, never runs a thread of its own.
Invariant: a `Leg` is "open" only after a check with USE-CANDIDATE was answered under the signalled password
and the DTLS handshake gave keys of the wanted SRTP profile.

Sources: RFC 8445 (ICE, controlling role), RFC 8489 (STUN), RFC 7983 (first byte), RFC 5764 (DTLS-SRTP).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from enum import Enum
from struct import Struct

import pylibsrtp
from aioice import stun

from bench import rtp_feedback, rtp_packet, rtp_sdp
from bench.rtp_count import Counter
from bench.rtp_dtls import Handshake, certificate

CHECK_EVERY_S = 0.05
CONSENT_EVERY_S = 4.0
HELLO_EVERY_S = 0.05
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
TIMESPEC = Struct("@qq")


class State(Enum):
    """Life of a leg."""

    NEW = "new"
    CHECKING = "checking"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class Leg:
    """One endpoint. Give it a description with `connect()`, then call `receive()` and `tick()`."""

    def __init__(
        self,
        *,
        profile: str,
        host: str = "127.0.0.1",
        timestamps: bool = True,
        wide: bool = False,
        layers: bool = False,
    ) -> None:
        self.profile = profile
        self.state = State.NEW
        self.remote: rtp_sdp.Remote | None = None
        self.closed_by_peer = False
        self.error = ""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER_BYTES)  # SO_RCVBUFFORCE
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if timestamps:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.local = rtp_sdp.Local(
            ufrag=secrets.token_hex(4),
            password=secrets.token_hex(12),
            fingerprint=certificate()[2],
            host=host,
            port=self.socket.getsockname()[1],
            audio_ssrc=secrets.randbits(31) | 1,
            video_ssrc=(secrets.randbits(31) | 1) + 1,
            wide=wide,
            layers=layers,
        )
        self.outgoing: pylibsrtp.Session | None = None
        self.incoming: pylibsrtp.Session | None = None
        self._handshake: Handshake | None = None
        self._hello: list[bytes] = []
        self._next_hello = 0.0
        self._next_check = 0.0
        self._tie_breaker = secrets.randbits(64)

    # --- set-up

    def connect(self, remote: rtp_sdp.Remote, address: tuple[str, int] | None = None) -> None:
        """Take the server's description; checks start with the next `tick()`."""
        self.remote = remote
        local = [one for one in remote.candidates if one[0] == self.local.host]
        self.address = address or (local or remote.candidates)[0]
        self.socket.connect(self.address)
        self.state = State.CHECKING

    def tick(self, now: float) -> None:
        """Send what is due at `now` (monotonic seconds): checks, consent, DTLS retransmissions."""
        if self.state in (State.NEW, State.CLOSED):
            return
        if now >= self._next_check:
            self._next_check = now + (CHECK_EVERY_S if self.state is State.CHECKING else CONSENT_EVERY_S)
            self.send(self.binding_request())
        if self.state is State.HANDSHAKE and self._handshake is not None:
            # browsers repeat their first flight after 50 ms, OpenSSL after a second: a server that isn't ready
            # for DTLS the moment it answers a check would look slow
            if self._hello and now >= self._next_hello:
                self._next_hello = now + HELLO_EVERY_S
                self._send_all(self._hello)
            self._send_all(self._handshake.retransmit())

    def binding_request(self) -> bytes:
        """A connectivity check that nominates (RFC 8445 §7.1.1, aggressive use of USE-CANDIDATE)."""
        assert self.remote is not None
        message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{self.remote.ufrag}:{self.local.ufrag}"
        message.attributes["PRIORITY"] = 1862270975
        message.attributes["ICE-CONTROLLING"] = self._tie_breaker
        message.attributes["USE-CANDIDATE"] = None
        message.add_message_integrity(self.remote.password.encode())
        return bytes(message)

    def receive(self, data: bytes) -> None:
        """Handle one datagram that is not RTP: STUN, DTLS or RTCP; anything else is ignored."""
        if len(data) < 2:
            return
        first = data[0]
        if first < 4:
            self._on_stun(data)
        elif 20 <= first <= 63:
            self._on_dtls(data)
        elif 128 <= first <= 191 and 192 <= data[1] <= 223 and self.incoming is not None:
            try:
                plain = self.incoming.unprotect_rtcp(data)
            except pylibsrtp.Error:
                return
            self.on_rtcp(plain)

    def on_rtcp(self, compound: bytes) -> None:
        """Hook for publishers; `compound` is unprotected."""

    def on_open(self) -> None:
        """Hook: keys are there."""

    def _on_stun(self, data: bytes) -> None:
        assert self.remote is not None
        try:
            message = stun.parse_message(data)
        except ValueError:
            return
        if message.message_class is stun.Class.REQUEST:
            self._answer_check(message)
            return
        if message.message_class is not stun.Class.RESPONSE:
            return
        if not message.check_message_integrity(self.remote.password.encode()):
            return
        if self.state is State.CHECKING:
            self.state = State.HANDSHAKE
            client = self.remote.setup != "active"
            self._handshake = Handshake(self.profile, self.remote.fingerprint, client=client)
            self._hello = self._handshake.start()
            self._next_hello = time.monotonic() + HELLO_EVERY_S
            self._send_all(self._hello)

    def _answer_check(self, request: stun.Message) -> None:
        if not request.check_message_integrity(self.local.password.encode()):
            return
        message = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        message.attributes["XOR-MAPPED-ADDRESS"] = self.address
        message.add_message_integrity(self.local.password.encode())
        self.send(bytes(message))

    def _on_dtls(self, data: bytes) -> None:
        if self._handshake is None:
            return
        if self.state is State.OPEN and data[0] == 21:
            self.closed_by_peer = True
        self._hello = []
        try:
            self._send_all(self._handshake.feed(data))
            if self._handshake.done and self.state is State.HANDSHAKE:
                self.outgoing, self.incoming = self._handshake.keys()
                self.state = State.OPEN
                self.on_open()
        except ValueError as problem:
            self.error = str(problem)
            self.state = State.CLOSED

    # --- sending

    def send(self, datagram: bytes) -> bool:
        """Send one datagram; False where the kernel refuses (no room, or the peer's port is closed)."""
        try:
            self.socket.send(datagram)
        except (BlockingIOError, ConnectionRefusedError):
            return False
        return True

    def send_rtcp(self, compound: bytes) -> None:
        """Protect and send one RTCP compound; the leg must be open."""
        assert self.outgoing is not None
        self.send(self.outgoing.protect_rtcp(compound))

    def _send_all(self, datagrams: list[bytes]) -> None:
        for one in datagrams:
            self.send(one)

    def close(self) -> None:
        """Close the socket; nothing is said to the server."""
        self.state = State.CLOSED
        self.socket.close()


class Subscriber(Leg):
    """A leg that receives; `counter` says what arrived."""

    def __init__(self, *, profile: str, host: str = "127.0.0.1", sample_every: int = 8, wide: bool = False) -> None:
        super().__init__(profile=profile, host=host, wide=wide)
        self.counter = Counter(sample_every=sample_every)
        self.feedback: rtp_feedback.Feedback | None = None
        self._told = 0  # the highest number when it reported last

    def learn(self, remote: rtp_sdp.Remote) -> None:
        """Take the payload types from the server's description."""
        for kind in ("video", "audio"):
            section = remote.section(kind)
            codec = section.codecs.get("vp8/90000" if kind == "video" else "opus/48000") if section else None
            if codec is not None:
                setattr(self.counter, f"{kind}_pt", codec)
            if section is not None and kind == "video" and self.local.wide:
                ident = section.extensions.get(rtp_sdp.TRANSPORT_URI, 0)
                self.feedback = rtp_feedback.Feedback(ident) if ident else None

    def on_media(self, data: bytes, arrived_ns: int) -> None:
        """One RTP datagram."""
        if self.feedback is not None:
            self.feedback.on_media(data, arrived_ns)
        self.counter.on_media(data, arrived_ns)

    def tell_arrivals(self) -> None:
        """Transport-wide feedback, where it was agreed on and something arrived."""
        if self.feedback is not None and self.state is State.OPEN:
            compound = self.feedback.arrivals(self.counter.ssrc)
            if compound is not None:
                self.send_rtcp(compound)

    def on_open(self) -> None:
        """Let the counter check authentication from now on."""
        self.counter.incoming = self.incoming

    def report(self) -> None:
        """Send one RR about the video received so far (none before the first packet)."""
        if self.counter.ssrc and self.state is State.OPEN:
            self.send_rtcp(rtp_packet.receiver_report(self.local.video_ssrc, self.counter.ssrc, self.counter.highest))
            if self.local.wide:
                came = ((self.counter.highest - self._told) & 0x7FFF) * self.counter.streams
                self._told = self.counter.highest
                self.send_rtcp(rtp_feedback.nack(self.local.video_ssrc, self.counter.ssrc, self.counter.highest, came))

    def ask_key_frame(self) -> None:
        """Send one PLI about the video received so far."""
        if self.counter.ssrc and self.state is State.OPEN:
            self.send_rtcp(rtp_packet.picture_loss(self.local.video_ssrc, self.counter.ssrc))


class Publisher(Leg):
    """A leg that remembers when the server asked for a key frame."""

    def __init__(self, *, profile: str, host: str = "127.0.0.1", wide: bool = False, layers: bool = False) -> None:
        super().__init__(profile=profile, host=host, wide=wide, layers=layers)
        self.key_frame_wanted = True
        self.key_frame_requests = 0

    def on_rtcp(self, compound: bytes) -> None:
        """Notice PLI and FIR."""
        if rtp_packet.asks_for_key_frame(compound):
            self.key_frame_wanted = True
            self.key_frame_requests += 1
