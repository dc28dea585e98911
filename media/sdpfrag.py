"""SDP fragments of WHIP's and WHEP's PATCH: ICE credentials and candidates, without the rest of a description.

Pure. Never looks at a session. Invariant: no text makes `read()` raise anything but `Malformed`, and what it gives is bounded.

Sources: RFC 8840 §9 (application/trickle-ice-sdpfrag), RFC 9725 §4.3, RFC 8839 §5.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from command.base.errors import Rejected
from media.sdp import ICE_OPTIONS

FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"
FRAGMENT_BYTES_MAX = 16_384
LINES_MAX = 256
UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
MID = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
CANDIDATE = re.compile(
    r"[A-Za-z0-9+/]{1,32} [0-9]{1,5} [A-Za-z0-9-]{1,16} [0-9]{1,10} [^ ]{1,255} [0-9]{1,5} typ [a-z0-9-]{1,16}( .*)?"
)
ANSWERED_UFRAG = re.compile(r"^a=ice-ufrag:([^\r\n ]+)", re.MULTILINE)


class Malformed(Rejected):
    """RFC 9725 §4.3 by way of RFC 5789 §2.2: a PATCH whose body can't be read."""

    status = 400


class Fragment(NamedTuple):
    """`ufrag` and `password` are "" where the fragment has none; `media` and `mid` are of its first m-line."""

    ufrag: str = ""
    password: str = ""
    media: str = "audio"
    mid: str = "0"
    candidates: int = 0


def read(text: str) -> Fragment:
    """The fragment in `text`; raises `Malformed`. Attributes that we don't use are passed over (RFC 8840 §9)."""
    if len(text) > FRAGMENT_BYTES_MAX:
        raise Malformed("whip.fragment", f"A fragment has at most {FRAGMENT_BYTES_MAX} octets.")
    lines = [line.removesuffix("\r") for line in text.split("\n", LINES_MAX)]
    if len(lines) > LINES_MAX:
        raise Malformed("whip.fragment", f"A fragment has fewer than {LINES_MAX} lines.")
    ufrag = password = media = mid = ""
    candidates = 0
    for line in filter(None, lines):
        name, _, value = line[2:].partition(":")
        if not line.isprintable() or line[:2] not in ("a=", "m="):
            raise Malformed("whip.fragment", "A fragment consists of lines that begin with a= or m=.")
        if line.startswith("m="):
            media = media or line[2:].partition(" ")[0]
        elif name == "ice-ufrag":
            ufrag = ufrag or _fits(UFRAG, value, name)
        elif name == "ice-pwd":
            password = password or _fits(PASSWORD, value, name)
        elif name == "mid":
            mid = mid or _fits(MID, value, name)
        elif name == "candidate":
            _fits(CANDIDATE, value, name)
            candidates += 1
    if bool(ufrag) != bool(password):
        raise Malformed("whip.fragment", "ice-ufrag and ice-pwd come together (RFC 8839 §5.4).")
    if media not in ("", "audio", "video"):
        raise Malformed("whip.fragment", "Only audio and video.")
    return Fragment(ufrag, password, media or "audio", mid or "0", candidates)


def _fits(pattern: re.Pattern[str], value: str, name: str) -> str:
    if not pattern.fullmatch(value):
        raise Malformed("whip.fragment", f"This is no {name}.")
    return value


def write(asked: Fragment, *, ufrag: str, password: str, candidates: list[str]) -> str:
    """Our side after an ICE restart; `candidates` are whole SDP lines."""
    lines = [
        "a=ice-lite",
        f"a=ice-options:{ICE_OPTIONS}",  # as in the answer (RFC 9725 §4.3.3)
        f"m={asked.media} 9 UDP/TLS/RTP/SAVPF 0",
        f"a=mid:{asked.mid}",
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{password}",
        *candidates,
    ]
    return "\r\n".join(lines) + "\r\n"


def ufrag_of(sdp: str) -> str:
    """The first ICE user fragment in one of our own answers or in an offer that we took; "" if there is none."""
    found = ANSWERED_UFRAG.search(sdp)
    return found[1] if found else ""
