"""A WHEP connection: one audio and one video whose source changes while the client notices nothing.

Never renegotiates. Invariant: each kind has at most one m-line that sends.

Sources: draft-ietf-wish-whep, RFC 9429.
"""

from __future__ import annotations

from media.output import Output
from media.peer import Peer
from media.sdp import Codec, Description, Line, Stream, answer_line, choose
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


def view_lines(offer: Description, prefer: dict[str, str], make: list[Stream]) -> list[tuple[Line, Codec | None]]:
    """Our answer to a WHEP offer: the first recvonly line of each kind sends `make`'s streams, others are rejected.

    `prefer` names the codec per kind if the source is known.
    """
    out: list[tuple[Line, Codec | None]] = []
    taken: set[str] = set()
    for media in offer.media:
        wanted = media.live and media.direction in ("recvonly", "sendrecv") and media.kind not in taken
        codec = next((c for c in media.codecs if c.name == prefer.get(media.kind)), None)
        codec = codec or next(iter(choose(media)), None)
        if not wanted or codec is None:
            out.append((answer_line(media, None, "inactive"), None))
            continue
        taken.add(media.kind)
        line = answer_line(media._replace(extensions=()), codec, "sendonly")
        stream = make.pop(0)
        if not codec.rtx:
            stream = Stream(stream.ssrc)
        out.append((line._replace(stream=stream, member="fenghuo", track=media.kind), codec))
    return out
