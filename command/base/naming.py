"""Names of what nodes make: an id that is bound to its maker, and to the place where it was made.

Pure. An order, a notice, a fence, a request, a room, a line in a room: each is a row under its id, on every node that hears of
it. Invariant: an id counts in an entry of one node and in one place only, so nobody can take another's id, nor use an own one
for two things in two places (decisions/0009).
"""

import hashlib
from base64 import b32hexencode

from command.base.entry import Entry

MARK_OCTETS = 10
"""Of the hash; 80 bits, like a node's id."""
ROOM = "meeting"
"""Where a room is made, whichever stream tells of it: its entries stand in several, all of its host."""


def bound_id(moment: str, node: str, within: str) -> str:
    """The id of what `node` makes: `moment` (unique, sorts by time, no hyphen), a hyphen, and 16 characters that say by whom
    and `within` which subject ("incident/ID", "meeting/ID"; a thing with a stream of its own: the kind of that)."""
    said = hashlib.sha256(f"fenghuo name 1\n{within}\n{node}\n{moment}".encode()).digest()
    return f"{moment}-{b32hexencode(said[:MARK_OCTETS]).decode().lower()}"


def bound(key: object, entry: Entry, within: str | None = None) -> bool:
    """Whether what `entry` makes may have this id. `within` is the entry's own subject if left out."""
    if not isinstance(key, str):
        return False
    place = entry.subject if within is None else within
    if within is None and not place.startswith("incident/"):
        place = place.partition("/")[0]
    return bound_to(key, entry.origin, place)


def bound_to(key: str, node: str, within: str) -> bool:
    """Whether `node` made what has this id, within this place."""
    return key == bound_id(key.partition("-")[0], node, within)
