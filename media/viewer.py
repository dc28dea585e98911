"""A WHEP connection: one audio and one video whose source changes while the client notices nothing.

Never renegotiates. Invariant: each kind has at most one m-line that sends.

Sources: draft-ietf-wish-whep, RFC 9429.
"""

from __future__ import annotations

from media.output import Output
from media.peer import Peer
from media.rtp import TRANSPORT_URI
from media.sdp import Codec, Description, Line, Stream, answer_line, out_extensions, playable
from media.subscriber import Feedback


class Viewer(Feedback):
    """A WHEP connection; `source` None follows the chair or the active speaker."""

    def __init__(self, peer: Peer, source: str | None) -> None:
        super().__init__(peer)
        self.source = source
        self.switched: dict[str, Output] = {}

    def end(self) -> None:
        for output in self.switched.values():
            output.show(None, 0.0)


def view_lines(
    offer: Description, prefer: dict[str, str], make: dict[str, Stream]
) -> list[tuple[Line, tuple[Codec, ...]]]:
    """Our answer to a WHEP offer: the first recvonly line of each kind sends its stream of `make`, others are rejected.

    All codecs that we forward are taken, so that whoever comes into view can be shown; first the one that `prefer` names
    per kind if the source is known. Header extensions are taken where the client happens to give them our numbers, for a
    packet is made once for everybody; Chromium does, and so gets the transport-wide estimate.
    """
    out: list[tuple[Line, tuple[Codec, ...]]] = []
    taken: set[str] = set()
    for media in offer.media:
        wanted = media.live and media.direction in ("recvonly", "sendrecv") and media.kind not in taken
        codecs = tuple(sorted(playable(media), key=lambda codec: codec.name != prefer.get(media.kind)))
        if not wanted or not codecs:
            out.append((answer_line(media, None, "inactive"), ()))
            continue
        taken.add(media.kind)
        ours = tuple(one for one in media.extensions if one in out_extensions(media.kind))
        line = answer_line(media._replace(extensions=ours), codecs[0], "sendonly", *codecs[1:])
        stream = make[media.kind]
        if not any(codec.rtx for codec in codecs):
            stream = Stream(stream.ssrc)
        out.append((line._replace(stream=stream, member="fenghuo", track=media.kind), codecs))
    return out


def transport_wide(line: Line) -> bool:
    """Whether the client tells the arrival of every packet of this line, whatever codec it comes in. (What is sent twice
    under one number must not differ, so that every codec needs its RTX.)"""
    agreed = TRANSPORT_URI in dict(line.extensions)
    return agreed and all(codec.rtx and "transport-cc" in codec.feedback for codec in line.codecs)
