"""Minimal SDP of the load client: offers to publish or to receive, answers to a server's offer.

Never opens a socket and never negotiates more than one video and one audio codec. Invariant: each answer has
the m-lines of its offer in the same order with the same mids (RFC 8829 §5.3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
EXTENSION_URIS = {1: LEVEL_URI, 3: ABS_TIME_URI, 4: MID_URI}
OPUS_PT, VP8_PT, RTX_PT = 111, 96, 97
TRANSPORT_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
RID_URI = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
WIDE_URIS = {5: TRANSPORT_URI, 10: RID_URI}
RIDS = ("l", "h")
FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")


@dataclass(frozen=True, kw_only=True)
class Local:
    """What one client puts into every description it writes."""

    ufrag: str
    password: str
    fingerprint: str
    host: str
    port: int
    audio_ssrc: int
    video_ssrc: int
    wide: bool = False  # transport-wide feedback
    layers: bool = False  # two simulcast layers by rid


@dataclass(kw_only=True)
class Section:
    """One m-line of the server's description."""

    kind: str
    mid: str = ""
    direction: str = "sendrecv"
    port: int = 9
    codecs: dict[str, int] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)
    ssrcs: list[int] = field(default_factory=list)
    ufrag: str = ""
    password: str = ""
    fingerprint: str = ""
    setup: str = ""


@dataclass(kw_only=True)
class Remote:
    """The server's description, as far as the client needs it."""

    ufrag: str = ""
    password: str = ""
    fingerprint: str = ""
    setup: str = ""
    lite: bool = False
    candidates: list[tuple[str, int]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def section(self, kind: str) -> Section | None:
        """The first accepted m-line of `kind` ("audio" or "video")."""
        return next((one for one in self.sections if one.kind == kind and one.port), None)


def _transport(local: Local, setup: str) -> list[str]:
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{setup}",
        "a=rtcp-mux",
        f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host",
        "a=end-of-candidates",
    ]


def _uris(local: Local) -> dict[int, str]:
    return {**EXTENSION_URIS, **(WIDE_URIS if local.wide else {})}


def _codec(kind: str, payload_type: int, rtx: int | None, *, wide: bool = False) -> list[str]:
    if kind == "audio":
        return [f"a=rtpmap:{payload_type} opus/48000/2", f"a=fmtp:{payload_type} minptime=10;useinbandfec=1"]
    lines = [f"a=rtpmap:{payload_type} VP8/90000"]
    lines += [f"a=rtcp-fb:{payload_type} {what}" for what in FEEDBACK + (("transport-cc",) if wide else ())]
    if rtx is not None:
        lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={payload_type}"]
    return lines


def _session(local: Local, mids: list[str]) -> list[str]:
    return [
        "v=0",
        f"o=- {local.video_ssrc} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE " + " ".join(mids),
        "a=msid-semantic: WMS *",
    ]


def offer(local: Local, direction: str, kinds: tuple[str, ...] = ("audio", "video")) -> str:
    """An offer of one m-line per kind, `direction` is "sendonly" (publish) or "recvonly" (WHEP)."""
    lines = _session(local, [str(number) for number in range(len(kinds))])
    for number, kind in enumerate(kinds):
        payload_type = OPUS_PT if kind == "audio" else VP8_PT
        formats = str(payload_type) if kind == "audio" else f"{VP8_PT} {RTX_PT}"
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0"]
        lines += [*_transport(local, "actpass"), f"a=mid:{number}", f"a={direction}"]
        for ident, uri in _uris(local).items():
            if uri != LEVEL_URI or kind == "audio":
                lines.append(f"a=extmap:{ident} {uri}")
        lines += _codec(kind, payload_type, RTX_PT, wide=local.wide)
        if local.layers and kind == "video":
            lines += [f"a=msid:bench {kind}", *(f"a=rid:{rid} send" for rid in RIDS)]
            lines.append(f"a=simulcast:send {';'.join(RIDS)}")
        elif direction == "sendonly":
            ssrc = local.audio_ssrc if kind == "audio" else local.video_ssrc
            lines += [f"a=msid:bench {kind}", f"a=ssrc:{ssrc} cname:bench"]
            if kind == "video":
                lines += [f"a=ssrc-group:FID {ssrc} {ssrc + 1}", f"a=ssrc:{ssrc + 1} cname:bench"]
    return "\r\n".join(lines) + "\r\n"


def answer(local: Local, remote: Remote) -> str:
    """A receive-only answer to `remote`: VP8 and Opus taken, DTLS client (a=setup:active)."""
    accepted = [one for one in remote.sections if _wanted(one)]
    lines = _session(local, [one.mid for one in accepted])
    for one in remote.sections:
        codec = _wanted(one)
        if codec is None:
            lines += [f"m={one.kind} 0 UDP/TLS/RTP/SAVPF 0", "c=IN IP4 0.0.0.0", f"a=mid:{one.mid}", "a=inactive"]
            continue
        rtx = one.codecs.get("rtx/90000")
        formats = f"{codec} {rtx}" if rtx is not None and one.kind == "video" else str(codec)
        lines += [f"m={one.kind} 9 UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0"]
        lines += [*_transport(local, "active"), f"a=mid:{one.mid}"]
        lines.append("a=recvonly" if one.direction in ("sendonly", "sendrecv") else "a=inactive")
        for uri in _uris(local).values():
            if uri in one.extensions:
                lines.append(f"a=extmap:{one.extensions[uri]} {uri}")
        lines += _codec(one.kind, codec, rtx, wide=local.wide)
    return "\r\n".join(lines) + "\r\n"


def _wanted(one: Section) -> int | None:
    if not one.port:
        return None
    return one.codecs.get("vp8/90000" if one.kind == "video" else "opus/48000")


def parse(text: str) -> Remote:
    """The server's description; raises ValueError if it has no ICE credentials or no candidate."""
    remote = Remote()
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "m":
            kind, port, _, *_ = value.split()
            remote.sections.append(Section(kind=kind, port=int(port)))
        elif name == "a":
            _attribute(remote, value)
    # the client needs bundle: one transport, described in the first live section or at session level
    for one in remote.sections:
        remote.ufrag = remote.ufrag or one.ufrag
        remote.password = remote.password or one.password
        remote.fingerprint = remote.fingerprint or one.fingerprint
        remote.setup = remote.setup or one.setup
    if not (remote.ufrag and remote.password and remote.candidates):
        raise ValueError("the server's description has no ICE credentials or no UDP candidate")
    return remote


def _attribute(remote: Remote, text: str) -> None:
    key, _, value = text.partition(":")
    holder: Remote | Section = remote.sections[-1] if remote.sections else remote
    if key == "ice-ufrag":
        holder.ufrag = value
    elif key == "ice-pwd":
        holder.password = value
    elif key == "fingerprint" and value.lower().startswith("sha-256"):
        holder.fingerprint = value.split()[1].upper()
    elif key == "setup":
        holder.setup = value
    elif key == "ice-lite":
        remote.lite = True
    elif key == "candidate":
        parts = value.split()
        address = (parts[4], int(parts[5]))
        if parts[2].lower() == "udp" and parts[1] == "1" and address not in remote.candidates:
            remote.candidates.append(address)
    elif isinstance(holder, Section):
        _media_attribute(holder, key, value)


def _media_attribute(section: Section, key: str, value: str) -> None:
    if key in ("sendonly", "recvonly", "sendrecv", "inactive"):
        section.direction = key
    elif key == "mid":
        section.mid = value
    elif key == "rtpmap":
        payload_type, name = value.split(" ", 1)
        name = "/".join(name.lower().split("/")[:2])
        section.codecs.setdefault(name, int(payload_type))
    elif key == "extmap":
        ident, uri = value.split()[:2]
        section.extensions[uri] = int(ident.split("/")[0])
    elif key == "ssrc":
        ssrc = int(value.split()[0])
        if ssrc not in section.ssrcs:
            section.ssrcs.append(ssrc)
