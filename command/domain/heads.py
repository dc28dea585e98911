"""Heads of streams, as entries and requests name them: so many entries stand in a stream, and the last has this hash.

Pure. It knows how a head is written, never whose it is. Invariant: what names more heads than one entry holds is cut into
pieces, and together the pieces name every one.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

STREAMS_MAX = 100_000
HEADS_OF_ENTRY = 800
"""Stream heads that one entry names: well below the limit of its size."""
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
At = Annotated[str, Meta(max_length=300)]
Heads = Annotated[dict[At, tuple[Annotated[int, Meta(ge=0, le=2**53)], Hex]], Meta(max_length=STREAMS_MAX)]


def chunks(heads: Mapping[str, tuple[int, str]]) -> list[dict[str, list[int | str]]]:
    """Heads of streams in pieces that fit an entry; one empty piece when there are none."""
    items = sorted(heads.items())
    pieces = [items[at : at + HEADS_OF_ENTRY] for at in range(0, len(items), HEADS_OF_ENTRY)] or [[]]
    return [{stream: [length, head] for stream, (length, head) in piece} for piece in pieces]
