"""Session descriptions as this worker means them: plain records, and the text we send.

Pure. Never parses foreign text beyond choosing its lines (that is `media/rtc.py`).
Invariant: what `write()` gives is one BUNDLE over one
rtcp-mux component with our ICE-lite credentials.

Sources: RFC 8866 (SDP), RFC 8829/9429 (JSEP), RFC 9143 (BUNDLE), RFC 8839 (ICE in SDP), RFC 5888, RFC 4588.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from command.base.errors import Rejected
from media.rtp import (
    LEVEL_URI,
    MID_URI,
    OUT_LEVEL_ID,
    OUT_SEND_TIME_ID,
    OUT_TRANSPORT_ID,
    REPAIRED_RID_URI,
    RID_URI,
    SEND_TIME_URI,
    TRANSPORT_URI,
    ExtensionIds,
)

SDP_BYTES_MAX = 131_072
LINES_MAX = 8_000
LINE_BYTES_MAX = 4_096
PUBLISH_MEDIA_MAX = 8
RECEIVE_MEDIA_MAX = 100
RIDS_MAX = 3
RID_CHARACTERS_MAX = 16
TCP_TYPE_PREFERENCE = 90  # below every UDP candidate: TCP is for networks that let nothing else through
PASSIVE_PREFERENCE = 4
ICE_OPTIONS = "trickle ice2"  # RFC 8838 §5 and RFC 8445 §10: later candidates are welcome; nomination is once

# What we use of an SDP. Candidates are none of our business (an ICE-lite agent only answers), and the rest is decoration.
KNOWN_ATTRIBUTES = frozenset(
    (
        *("group", "mid", "extmap", "fingerprint", "setup", "ice-ufrag", "ice-pwd", "rtpmap", "fmtp", "rtcp-fb"),
        *("ssrc", "ssrc-group", "inactive", "sendonly", "recvonly", "sendrecv", "rid", "simulcast"),
        *("extmap-allow-mixed", "rtcp-mux"),
    )
)
VIDEO_PREFERENCE = ("vp8", "h264", "vp9", "av1")
VIDEO_FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc")
EXTENSION_URIS = {
    "audio": (MID_URI, LEVEL_URI),
    "video": (MID_URI, SEND_TIME_URI, RID_URI, REPAIRED_RID_URI, TRANSPORT_URI),
}
NAMES = {"opus": "opus", "vp8": "VP8", "vp9": "VP9", "h264": "H264", "av1": "AV1", "rtx": "rtx", "red": "red"}
OUT_TYPES = {"opus": (111, 0), "vp8": (96, 97), "vp9": (98, 99), "h264": (102, 103), "av1": (45, 46)}
OUT_RED_TYPE = 63
OUT_FORMATS = {
    "opus": "minptime=10;useinbandfec=1",
    "vp8": "",
    "vp9": "profile-id=0",
    "h264": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "av1": "",
}


class Codec(NamedTuple):
    """One payload type. `name` in lower case; `format` the fmtp parameters as text; `rtx` its RTX type or 0."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 0
    format: str = ""
    feedback: tuple[str, ...] = ()
    rtx: int = 0


class Stream(NamedTuple):
    """One announced SSRC pair; `rtx` is 0 without retransmission."""

    ssrc: int
    rtx: int = 0


class Media(NamedTuple):
    """One m-line. `live` is False for a rejected one; `extensions` maps URI to id; `rids` are the simulcast layers it
    sends, in the order of a=simulcast, `paused` those that it doesn't send yet; `simulcast` the SSRCs of the layers of a
    client that announces them by ssrc-group:SIM instead; `form` is the protocol and the formats of an m-line that is
    neither audio nor video (a data channel), "" otherwise."""

    kind: str
    mid: str
    direction: str
    codecs: tuple[Codec, ...]
    live: bool = True
    extensions: tuple[tuple[str, int], ...] = ()
    streams: tuple[Stream, ...] = ()
    rids: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()
    simulcast: tuple[int, ...] = ()
    form: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its simulcast layers, () if it has but one."""
        return self.rids or tuple(f"s{at}" for at in range(len(self.simulcast)))

    @property
    def ids(self) -> ExtensionIds:
        known = dict(self.extensions)
        uris = (MID_URI, LEVEL_URI, SEND_TIME_URI, RID_URI, REPAIRED_RID_URI, TRANSPORT_URI)
        return ExtensionIds(*(known.get(uri, 0) for uri in uris))

    def transport_wide(self, codec: Codec) -> bool:
        """Whether transport-wide feedback about `codec` was agreed on."""
        return "transport-cc" in codec.feedback and self.ids.transport != 0


class Description(NamedTuple):
    """A foreign offer or answer that passed the gate. `fingerprints` are (algorithm, value)."""

    ufrag: str
    password: str
    setup: str
    fingerprints: tuple[tuple[str, str], ...]
    media: tuple[Media, ...]
    session: str = ""  # who made it, and which connection (the first two fields of o=)
    mixed: bool = False  # takes one-byte and two-byte header extensions in one stream (RFC 8285 §6)


class Local(NamedTuple):
    """Our side of one connection: credentials, fingerprint (sha-256) and where we listen (`tcp`: on TCP too)."""

    ufrag: str
    password: str
    fingerprint: str
    addresses: tuple[str, ...]
    port: int
    setup: str
    tcp: bool = False


class Line(NamedTuple):
    """One m-line to write. `track` is "" for an idle one; `member` becomes the MediaStream id."""

    kind: str
    mid: str
    direction: str
    codecs: tuple[Codec, ...]
    live: bool = True
    extensions: tuple[tuple[str, int], ...] = ()
    member: str = ""
    track: str = ""
    cname: str = ""
    stream: Stream | None = None
    rids: tuple[str, ...] = ()
    form: str = ""


def choose(media: Media) -> tuple[Codec, ...]:
    """The codec we take from an offered m-line (one, the most widely playable), or none."""
    return playable(media)[:1]


def playable(media: Media) -> tuple[Codec, ...]:
    """The codecs of an offered m-line that we forward, the most widely playable first, one of each name."""
    by_name: dict[str, Codec] = {}
    for codec in media.codecs:
        known = by_name.setdefault(codec.name, codec)
        if codec.name == "h264" and not _fragments(known) and _fragments(codec):
            by_name["h264"] = codec
    wanted = ("opus",) if media.kind == "audio" else VIDEO_PREFERENCE
    return tuple(by_name[name] for name in wanted if name in by_name)


def _fragments(codec: Codec) -> bool:
    """Whether H.264 may come in pieces (RFC 6184 §6.3). Mode 0 is taken where there is nothing else: whoever reads mode 1
    reads its packets too."""
    return "packetization-mode=1" in codec.format


def redundant(media: Media, codec: Codec) -> Codec | None:
    """The RED payload type (RFC 2198) of an audio m-line that carries `codec`, if there is one."""
    if media.kind != "audio":
        return None
    fits = f"{codec.payload_type}/{codec.payload_type}"
    return next((c for c in media.codecs if c.name == "red" and c.format.startswith(fits)), None)


def answer_line(media: Media, codec: Codec | None, direction: str, *others: Codec) -> Line:
    """Our answer to one offered m-line; `codec` None rejects it. `others` may be sent too."""
    if codec is None:
        return Line(media.kind, media.mid, "inactive", media.codecs[:1], live=False, form=media.form)
    taken = tuple((uri, ident) for uri, ident in media.extensions if uri in EXTENSION_URIS[media.kind])
    known = set(VIDEO_FEEDBACK) if media.kind == "video" else set()
    if TRANSPORT_URI not in dict(taken):
        known.discard("transport-cc")
    rids = media.rids if direction == "recvonly" and RID_URI in dict(taken) else ()
    codecs = tuple(
        one._replace(feedback=tuple(item for item in one.feedback if item in known)) for one in (codec, *others)
    )
    red = redundant(media, codec) if direction == "recvonly" else None
    if red is not None:  # first, so that it is what the publisher sends
        codecs = (red._replace(feedback=()), *codecs)
    return Line(media.kind, media.mid, direction, codecs, extensions=taken, rids=rids)


def out_codec(name: str) -> Codec:
    """The codec `name` as we offer it to subscribers: fixed payload types."""
    payload_type, rtx = OUT_TYPES[name]
    if name == "opus":
        return Codec(payload_type, name, 48_000, 2, OUT_FORMATS[name])
    return Codec(payload_type, name, 90_000, 0, OUT_FORMATS[name], VIDEO_FEEDBACK, rtx)


def out_codecs(name: str) -> tuple[Codec, ...]:
    """All that an m-line towards subscribers offers for a track of codec `name`."""
    codec = out_codec(name)
    if name != "opus":
        return (codec,)
    return codec, Codec(OUT_RED_TYPE, "red", 48_000, 2, f"{codec.payload_type}/{codec.payload_type}")


def out_extensions(kind: str) -> tuple[tuple[str, int], ...]:
    """Header extensions towards subscribers of our own offers."""
    if kind == "audio":
        return ((LEVEL_URI, OUT_LEVEL_ID),)
    return ((SEND_TIME_URI, OUT_SEND_TIME_ID), (TRANSPORT_URI, OUT_TRANSPORT_ID))


def write(local: Local, lines: list[Line], *, session: int, version: int, mixed: bool = False) -> str:
    """The whole description, CRLF line ends."""
    bundle = " ".join(line.mid for line in lines if line.live)
    out = [
        "v=0",
        f"o=- {session} {version} IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        f"a=ice-options:{ICE_OPTIONS}",
        f"a=group:BUNDLE {bundle}",
        "a=msid-semantic: WMS *",
    ]
    if mixed:
        out.append("a=extmap-allow-mixed")
    for index, line in enumerate(lines):
        out += _media(local, line, candidates=index == 0 or lines[0].live is False)
    return "\r\n".join(out) + "\r\n"


def _media(local: Local, line: Line, *, candidates: bool) -> list[str]:
    types = [str(number) for codec in line.codecs for number in (codec.payload_type, codec.rtx) if number]
    port = local.port if line.live else 0
    form = line.form or f"UDP/TLS/RTP/SAVPF {' '.join(types) or '0'}"
    out = [
        f"m={line.kind} {port} {form}",
        f"c=IN {'IP6' if ':' in local.addresses[0] else 'IP4'} {local.addresses[0]}",
        f"a=mid:{line.mid}",
        f"a={line.direction}",
    ]
    if not line.live:
        return out
    out += [
        "a=rtcp-mux",
        "a=rtcp-mux-only",  # RFC 9725 §4.4.1
        "a=rtcp-rsize",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{local.setup}",
    ]
    out += [f"a=extmap:{ident} {uri}" for uri, ident in line.extensions]
    for codec in line.codecs:
        out += _codec(codec)
    if line.rids:
        out += [f"a=rid:{rid} recv" for rid in line.rids]
        out.append(f"a=simulcast:recv {';'.join(line.rids)}")
    if line.track:
        out += _source(line)
    if candidates:
        out += candidate_lines(local)
    return out


def candidate_lines(local: Local) -> list[str]:
    """Where we listen: UDP first, then TCP (RFC 8445 §5.1.2.1, RFC 6544 §4.2 and §4.5), all host candidates."""
    out = []
    for index, address in enumerate(local.addresses):
        priority = (126 << 24) | ((65_535 - index) << 8) | 255
        out.append(f"a=candidate:{index + 1} 1 udp {priority} {address} {local.port} typ host")
    for index, address in enumerate(local.addresses if local.tcp else ()):
        preference = (PASSIVE_PREFERENCE << 13) | (8191 - index)
        priority = (TCP_TYPE_PREFERENCE << 24) | (preference << 8) | 255
        foundation = len(local.addresses) + index + 1
        out.append(f"a=candidate:{foundation} 1 tcp {priority} {address} {local.port} typ host tcptype passive")
    return [*out, "a=end-of-candidates"]


def _codec(codec: Codec) -> list[str]:
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    out = [f"a=rtpmap:{codec.payload_type} {NAMES[codec.name]}/{codec.clock_rate}{channels}"]
    out += [f"a=rtcp-fb:{codec.payload_type} {feedback}" for feedback in codec.feedback]
    if codec.format:
        out.append(f"a=fmtp:{codec.payload_type} {codec.format}")
    if codec.rtx:
        out.append(f"a=rtpmap:{codec.rtx} rtx/{codec.clock_rate}")
        out.append(f"a=fmtp:{codec.rtx} apt={codec.payload_type}")
    return out


def _source(line: Line) -> list[str]:
    out = [f"a=msid:{line.member} {line.track}"]
    if line.stream is None:
        return out
    ssrcs = [line.stream.ssrc]
    if line.stream.rtx:
        ssrcs.append(line.stream.rtx)
        out.append(f"a=ssrc-group:FID {line.stream.ssrc} {line.stream.rtx}")
    for ssrc in ssrcs:
        out.append(f"a=ssrc:{ssrc} cname:{line.cname}")
        out.append(f"a=ssrc:{ssrc} msid:{line.member} {line.track}")
    return out


def known_lines(text: str, media_max: int) -> list[str]:
    """The lines of a foreign description that we use, within all limits; raises `Rejected`."""
    if len(text) > SDP_BYTES_MAX:
        raise Rejected("media.sdp.too_long", f"A session description has at most {SDP_BYTES_MAX} bytes.")
    lines = text.split("\n", LINES_MAX + 1)
    if len(lines) > LINES_MAX:
        raise Rejected("media.sdp.too_long", f"A session description has at most {LINES_MAX} lines.")
    kept: list[str] = []
    count = 0
    for raw in lines:
        line = raw.strip("\r")
        if len(line) > LINE_BYTES_MAX or not line.isprintable():
            raise Rejected("media.sdp.unreadable", "A line is too long or holds control characters.")
        if line.startswith("m="):
            count += 1
            if count > media_max:
                raise Rejected("media.sdp.too_many_media", f"At most {media_max} m-lines are accepted.")
            kept.append(line)
        elif line.startswith(("v=", "o=", "s=", "t=")) and not count:
            kept.append(line)
        elif line.startswith("a="):
            name = line[2:].partition(":")[0]
            if name in KNOWN_ATTRIBUTES and (name != "ssrc" or " cname:" in line):
                kept.append(_plain(name, line))
    return _without_orphans(kept)


def _plain(name: str, line: str) -> str:
    """What aiortc stumbles over, in its simplest form: extmap without extension attributes (RFC 8285 §8, "vad=on" of
    RFC 6464 §4), format parameters without blanks between them."""
    if name == "extmap":
        return " ".join(line.split()[:2])
    if name == "fmtp":
        types, _, parameters = line.partition(" ")
        return f"{types} {';'.join(one.strip() for one in parameters.split(';') if one.strip())}"
    return line


def _without_orphans(lines: list[str]) -> list[str]:
    """Leave out parameters of payload types that their m-line doesn't describe (aiortc stumbles over them).

    Firefox writes fmtp before rtpmap, so this needs the whole section.
    """
    described: set[tuple[int, str]] = set()
    section = 0
    for line in lines:
        section += line.startswith("m=")
        if line.startswith("a=rtpmap:"):
            described.add((section, _payload_type(line)))
    section = 0
    kept: list[str] = []
    for line in lines:
        section += line.startswith("m=")
        if not line.startswith("a=fmtp:") or (section, _payload_type(line)) in described:
            kept.append(line)
    return kept


def _payload_type(line: str) -> str:
    return line.partition(":")[2].partition(" ")[0]


def rids_of(lines: list[str]) -> list[tuple[tuple[str, ...], frozenset[str]]]:
    """For each m-line the layers it sends by simulcast (RFC 8853), at most `RIDS_MAX`, one per group of alternatives; and
    which of them are paused at first ("~").

    Anything that isn't described by an a=rid line of its own, or is no rid (RFC 8851 §10), is left out.
    """
    found: list[tuple[tuple[str, ...], frozenset[str]]] = []
    described: set[str] = set()
    for line in lines:
        if line.startswith("m="):
            found.append(((), frozenset()))
            described = set()
        elif found and line.startswith("a=rid:"):
            rid, _, rest = line[6:].partition(" ")
            if rest.startswith("send") and _is_rid(rid):
                described.add(rid)
        elif found and line.startswith("a=simulcast:"):
            words = line[12:].split(" ")
            for direction, value in pairwise(words):
                if direction == "send":
                    firsts = [group.split(",")[0] for group in value.split(";")[: 4 * RIDS_MAX]]
                    rids = tuple(dict.fromkeys(rid for one in firsts if (rid := one.removeprefix("~")) in described))
                    found[-1] = rids[:RIDS_MAX], frozenset(one[1:] for one in firsts if one.startswith("~"))
    return [(rids, paused & set(rids)) if len(rids) > 1 else ((), frozenset()) for rids, paused in found]


def _is_rid(text: str) -> bool:
    return 0 < len(text) <= RID_CHARACTERS_MAX and text.isascii() and all(c.isalnum() or c in "-_" for c in text)
