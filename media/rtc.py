"""The gate to aiortc: the only file that imports it, so that what escapes its parsers is re-labelled in one place.

Gives SDP as `media.sdp` records, RTCP as `media.feedback` records, DTLS over our own port, and the delay-based estimator.
Never opens a socket. Invariant: from foreign bytes only `command.errors.Rejected` (SDP) or an empty list (RTCP) comes
out, whatever aiortc (pinned; its private names are touched here) makes of them.

Sources: RFC 8866, RFC 3550 §6, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb-03, RFC 5764, RFC 8827 §6.5.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import takewhile
from struct import Struct
from typing import Any, cast

from aiortc import rtp as foreign_rtp
from aiortc import sdp as foreign_sdp
from aiortc.rate import BandwidthUsage, RemoteBitrateEstimator
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from OpenSSL import SSL

from command.base.errors import Rejected
from media.feedback import Bye, Feedback, KeyRequest, Nack, ReceiverReport, Remb, SenderReport
from media.repair import Report
from media.sdp import RIDS_MAX, Codec, Description, Media, Stream, known_lines, rids_of
from media.srtp import Protector, Unprotector

SENDER_REPORT = Struct("!BBHIQIII")
SOURCE = Struct("!BBHI")
FINGERPRINTS_MAX = 8
SESSION_CHARACTERS_MAX = 64
RTCP_RECORDS_MAX = 64
RTCP_USED = (200, 201, 203, 205, 206)  # SR, RR, BYE, RTPFB, PSFB
NACKS_MAX = 256
DTLS_QUEUE_MAX = 32
DTLS_TIMEOUT_S = 15.0
SRTP_PROFILES = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES128-SHA"
)
DIGESTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
MID = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
DIRECTIONS = ("inactive", "sendonly", "recvonly", "sendrecv")
CREDENTIAL = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")


# -- SDP -------------------------------------------------------------------------------------------------------------


def read_sdp(text: str, media_max: int) -> Description:
    """A foreign offer or answer of at most `media_max` m-lines; raises `Rejected` with a code `media.sdp.*`."""
    lines = known_lines(text, media_max)
    try:
        parsed = foreign_sdp.SessionDescription.parse("\r\n".join(lines) + "\r\n")
        described = _description(parsed, rids_of(lines), _session_direction(lines))
        return described._replace(mixed="a=extmap-allow-mixed" in lines)
    except Rejected:
        raise
    except Exception as error:  # aiortc's parser lets AssertionError, KeyError, StopIteration and others escape
        raise Rejected(
            "media.sdp.unreadable", f"The session description can't be read ({type(error).__name__})."
        ) from None


def _session_direction(lines: list[str]) -> str:
    """The direction of m-lines that say none (RFC 8866 §6.7)."""
    session = list(takewhile(lambda line: not line.startswith("m="), lines))
    return next((line[2:] for line in session if line[2:] in DIRECTIONS), "sendrecv")


def _description(parsed: Any, rids: list[tuple[tuple[str, ...], frozenset[str]]], direction: str) -> Description:
    bundle = next((set(map(str, group.items)) for group in parsed.group if group.semantic == "BUNDLE"), None)
    if not parsed.media:
        raise Rejected("media.sdp.no_media", "The session description has no m-line.")
    if bundle is None and len(parsed.media) > 1:
        raise Rejected("media.sdp.no_bundle", "Several m-lines need BUNDLE (RFC 9143).")
    media = tuple(
        _media(section, bundle, direction)._replace(rids=own[0], paused=own[1])
        for section, own in zip(parsed.media, rids, strict=True)
    )
    if len({line.mid for line in media}) != len(media):
        raise Rejected("media.sdp.unreadable", "Two m-lines have the same mid.")
    live = [section for section, line in zip(parsed.media, media, strict=True) if line.live]
    if not live:
        raise Rejected("media.sdp.no_media", "Every m-line is rejected.")
    if not any(section.rtcp_mux for section in live):
        raise Rejected("media.sdp.no_rtcp_mux", "RTP and RTCP must share a port: a=rtcp-mux (RFC 9143 §9.3).")
    # RFC 9143 §7.1.3: the transport of a bundle is described once, which may be at a data channel that we reject
    bundled = [section for section in parsed.media if bundle is not None and section.rtp.muxId in bundle]
    head = next((section for section in bundled if section.ice.usernameFragment), live[0])
    ufrag, password = head.ice.usernameFragment or "", head.ice.password or ""
    if not CREDENTIAL.fullmatch(ufrag) or not CREDENTIAL.fullmatch(password) or len(password) < 22:
        raise Rejected("media.sdp.no_ice", "ice-ufrag or ice-pwd is missing or malformed (RFC 8839 §5.4).")
    if head.dtls is None:
        raise Rejected("media.sdp.setup", "a=setup is missing.")
    setup = foreign_sdp.DTLS_ROLE_SETUP[head.dtls.role]
    session = " ".join((parsed.origin or "").split()[:2])[:SESSION_CHARACTERS_MAX]
    return Description(ufrag, password, setup, _fingerprints(head), media, session)


def _fingerprints(section: Any) -> tuple[tuple[str, str], ...]:
    found = tuple(
        (item.algorithm.lower(), item.value.upper())
        for item in section.dtls.fingerprints[:FINGERPRINTS_MAX]
        if len(item.value) == 3 * DIGESTS.get(item.algorithm.lower(), 0) - 1
    )
    if not found:
        raise Rejected("media.sdp.no_fingerprint", "No fingerprint with sha-256, sha-384 or sha-512.")
    return found


def _media(section: Any, bundle: set[str] | None, direction: str) -> Media:
    mid = section.rtp.muxId or ""
    if not MID.fullmatch(mid):
        raise Rejected("media.sdp.unreadable", "Each m-line needs a mid of 1-64 characters.")
    if section.kind not in ("audio", "video"):  # a data channel; rejected by port 0 (RFC 3264 §6)
        form = f"{section.profile} {' '.join(section.fmt)}"
        return Media(section.kind, mid, "inactive", (), live=False, form=form)
    live = mid in bundle if bundle is not None else section.port != 0
    return Media(
        kind=section.kind,
        mid=mid,
        direction=section.direction or direction,
        codecs=_codecs(section),
        live=live,
        extensions=tuple((item.uri, item.id) for item in section.rtp.headerExtensions if 1 <= item.id <= 255),
        streams=_streams(section),
        simulcast=_simulcast(section),
    )


def _codecs(section: Any) -> tuple[Codec, ...]:
    rtx: dict[int, int] = {}
    for codec in section.rtp.codecs:
        if codec.mimeType.lower() == "video/rtx":
            rtx[int(codec.parameters.get("apt") or 0)] = codec.payloadType
    return tuple(
        Codec(
            payload_type=codec.payloadType,
            name=codec.mimeType.partition("/")[2].lower(),
            clock_rate=codec.clockRate,
            channels=codec.channels or 0,
            format=foreign_sdp.parameters_to_sdp(codec.parameters),
            feedback=tuple(
                f"{item.type} {item.parameter}" if item.parameter else item.type for item in codec.rtcpFeedback
            ),
            rtx=rtx.get(codec.payloadType, 0),
        )
        for codec in section.rtp.codecs
        if codec.payloadType in section.fmt and codec.payloadType < 128 and codec.clockRate > 0
    )


def _streams(section: Any) -> tuple[Stream, ...]:
    repair = {group.items[0]: group.items[1] for group in section.ssrc_group if group.semantic == "FID"}
    own = [item.ssrc for item in section.ssrc if 0 < item.ssrc <= 0xFFFFFFFF]
    secondary = set(repair.values())
    return tuple(Stream(ssrc, int(repair.get(ssrc, 0))) for ssrc in own if ssrc not in secondary)


def _simulcast(section: Any) -> tuple[int, ...]:
    """The SSRCs of the layers of a client that knows no rid, lowest first, () if it sends one picture."""
    known = {item.ssrc for item in section.ssrc}
    group: list[int] = next((one.items for one in section.ssrc_group if one.semantic == "SIM"), [])
    found = tuple(dict.fromkeys(ssrc for ssrc in group if ssrc in known))[:RIDS_MAX]
    return found if len(found) > 1 else ()


# -- RTCP ------------------------------------------------------------------------------------------------------------


def read_rtcp(data: bytes) -> list[Feedback]:
    """The records of a compound packet that we use; empty if it is malformed.

    What we don't use (SDES, APP, XR, types of the future) is passed over unread: no form of it costs us the rest.
    """
    out: list[Feedback] = []
    try:
        for packet in foreign_rtp.RtcpPacket.parse(_used(data)):
            _read_record(packet, out)
            if len(out) > RTCP_RECORDS_MAX:
                break
    except Exception:  # aiortc promises ValueError; struct.error and IndexError escape
        return []
    return out


def _used(data: bytes) -> bytes:
    """The records of the types that we use; b"" if the lengths don't add up (RFC 3550 §A.2)."""
    kept = bytearray()
    at = 0
    while at < len(data):
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or data[at] >> 6 != 2:
            return b""
        if data[at + 1] in RTCP_USED:
            kept += data[at:end]
        at = end
    return bytes(kept)


def _read_record(packet: Any, out: list[Feedback]) -> None:
    if isinstance(packet, foreign_rtp.RtcpSrPacket):
        out.append(SenderReport(packet.ssrc, packet.sender_info.ntp_timestamp, packet.sender_info.rtp_timestamp))
    if isinstance(packet, foreign_rtp.RtcpSrPacket | foreign_rtp.RtcpRrPacket):
        out += [
            ReceiverReport(item.ssrc, item.fraction_lost, item.packets_lost, item.jitter, item.lsr, item.dlsr)
            for item in packet.reports
        ]
    elif isinstance(packet, foreign_rtp.RtcpByePacket):
        out.append(Bye(packet.sources))
    elif isinstance(packet, foreign_rtp.RtcpRtpfbPacket) and packet.fmt == foreign_rtp.RTCP_RTPFB_NACK:
        out.append(Nack(packet.media_ssrc, [sequence & 0xFFFF for sequence in packet.lost]))
    elif isinstance(packet, foreign_rtp.RtcpPsfbPacket):
        if packet.fmt == foreign_rtp.RTCP_PSFB_PLI:
            out.append(KeyRequest(packet.media_ssrc))
        elif packet.fmt == foreign_rtp.RTCP_PSFB_FIR:
            out += [
                KeyRequest(int.from_bytes(packet.fci[at : at + 4], "big")) for at in range(0, len(packet.fci) - 7, 8)
            ]
        elif packet.fmt == foreign_rtp.RTCP_PSFB_APP and packet.fci[:4] == b"REMB":
            out.append(Remb(foreign_rtp.unpack_remb_fci(packet.fci)[0]))


def write_nack(ssrc: int, sequences: list[int]) -> bytes:
    """A generic NACK (RFC 4585 §6.2.1) for stream `ssrc`; 16-bit `sequences` in any order, at most `NACKS_MAX` are told.

    Ours: aiortc's fails where the numbers wrap.
    """
    fields: list[tuple[int, int]] = []
    for sequence in sequences[:NACKS_MAX]:
        ahead = (sequence - fields[-1][0] - 1) & 0xFFFF if fields else 16
        if ahead < 16:
            fields[-1] = (fields[-1][0], fields[-1][1] | 1 << ahead)
        else:
            fields.append((sequence, 0))
    fci = b"".join(pid.to_bytes(2, "big") + mask.to_bytes(2, "big") for pid, mask in fields)
    body = (1).to_bytes(4, "big") + ssrc.to_bytes(4, "big") + fci
    return bytes(foreign_rtp.pack_rtcp_packet(foreign_rtp.RTCP_RTPFB, foreign_rtp.RTCP_RTPFB_NACK, body))


def write_key_request(ssrc: int) -> bytes:
    """A PLI (RFC 4585 §6.3.1) for stream `ssrc`."""
    return bytes(foreign_rtp.RtcpPsfbPacket(fmt=foreign_rtp.RTCP_PSFB_PLI, ssrc=1, media_ssrc=ssrc))


def write_receiver_report(blocks: list[tuple[int, Report, int, int]], remb: tuple[int, list[int]] | None) -> bytes:
    """RR with (ssrc, report, last SR, delay) blocks, at most 31, then a REMB (bit/s, SSRCs) if given."""
    reports = [
        foreign_rtp.RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=report.fraction,
            packets_lost=report.lost,
            highest_sequence=report.highest,
            jitter=report.jitter,
            lsr=last,
            dlsr=delay,
        )
        for ssrc, report, last, delay in blocks[:31]
    ]
    out = bytes(foreign_rtp.RtcpRrPacket(ssrc=1, reports=reports))
    if remb is not None:
        fci = foreign_rtp.pack_remb_fci(remb[0], remb[1][:31])
        out += bytes(foreign_rtp.RtcpPsfbPacket(fmt=foreign_rtp.RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci))
    return out


def write_sender_report(*, ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, cname: str) -> bytes:
    """SR and SDES CNAME of one outgoing stream (RFC 3550 §6.4.1, §6.5). One per subscriber and second: kept cheap."""
    name = cname.encode()[:255]
    report = SENDER_REPORT.pack(0x80, 200, 6, ssrc, ntp, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    item = bytes((1, len(name))) + name
    item += bytes(4 - len(item) % 4)
    return report + SOURCE.pack(0x81, 202, 1 + len(item) // 4, ssrc) + item


class DelayEstimator:
    """A delay-based estimator for `media.bandwidth.Uplink`."""

    def __init__(self) -> None:
        self._estimator = RemoteBitrateEstimator()

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        """One arrival; (bit/s, SSRCs) when there is a new estimate."""
        return self._estimator.add(arrival_time_ms, abs_send_time, payload_size, ssrc)

    @property
    def overusing(self) -> bool:
        """True while queues on the way grow."""
        return self._estimator.detector.state() is BandwidthUsage.OVERUSING


# -- DTLS ------------------------------------------------------------------------------------------------------------


class Certificate(RTCCertificate):
    """The worker's certificate, for peers with ECDSA and with RSA certificates (GStreamer presents RSA)."""

    def _create_ssl_context(self, srtp_profiles: list[Any]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context

    @property
    def sha256(self) -> str:
        """The fingerprint as it stands in SDP."""
        return next(str(item.value) for item in self.getFingerprints() if item.algorithm == "sha-256")


class _Wire:
    """What RTCDtlsTransport takes for an ICE transport: a bounded queue in, a function out."""

    role = "controlled"
    state = "completed"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(DTLS_QUEUE_MAX)
        self.closed = False
        self._out = send

    async def _recv(self) -> bytes:
        data = await self.queue.get()
        if self.closed:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        self._out(data)


class Dtls:
    """One DTLS association over our port. `feed()` takes records from an open address."""

    def __init__(self, certificate: Certificate, send: Callable[[bytes], None]) -> None:
        self._wire = _Wire(send)
        self._transport = RTCDtlsTransport(cast(Any, self._wire), [certificate])
        self._transport._srtp_profiles = SRTP_PROFILES

    def feed(self, record: bytes) -> bool:
        """False if the record was dropped because the queue is full."""
        if self._wire.queue.full():
            return False
        self._wire.queue.put_nowait(record)
        return True

    async def handshake(
        self, fingerprints: tuple[tuple[str, str], ...], *, client: bool
    ) -> tuple[Unprotector, Protector, str] | None:
        """SRTP sessions (receive, send) and the profile's name, or None if it failed or took `DTLS_TIMEOUT_S`."""
        self._transport._set_role("client" if client else "server")
        parameters = RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(*item) for item in fingerprints])
        try:
            async with asyncio.timeout(DTLS_TIMEOUT_S):
                await self._transport.start(parameters)
        except Exception:  # whatever a handshake with a stranger can raise: it failed
            return None
        if self._transport.state != "connected":
            return None
        return self._keys(client)

    def _keys(self, client: bool) -> tuple[Unprotector, Protector, str] | None:
        connection: Any = self._transport._ssl
        name = connection.get_selected_srtp_profile()
        profile = next((item for item in SRTP_PROFILES if item.openssl_profile == name), None)
        if profile is None:
            return None
        secret = connection.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        own, theirs = (0, 1) if client else (1, 0)  # RFC 5764 §4.2: client's key first
        kind = profile.libsrtp_profile
        receive = Unprotector(profile.get_key_and_salt(secret, theirs), kind)
        return receive, Protector(profile.get_key_and_salt(secret, own), kind), name.decode()

    async def ended(self) -> None:
        """Returns when the other side closed the association."""
        if self._transport._task is not None:
            await asyncio.wait([self._transport._task])

    async def close(self) -> None:
        """Send close_notify and stop."""
        self._wire.closed = True
        try:
            await self._transport.stop()
        except Exception:  # a half-open association has nothing to say goodbye with
            return
