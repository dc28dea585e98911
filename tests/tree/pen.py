"""A foreign node that is nothing but a key: it says whatever a test likes, rightly chained and sealed, and is asked by nobody.

pen = Pen("city")
items = [pen.say("tree", "node.admitted", {"node": ...})]
await n.log.receive(items, keys(pen))
"""

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from command.base import entry as entries
from command.base.entry import NO_HASH, By, Entry, Stream
from command.base.identity import node_id, public_hex
from command.base.naming import bound_id
from command.tree.item import Received

AT = 1_700_000_000_000_000
"""Its clock in microseconds UTC; it goes on by one with each entry."""
REPORT: dict[str, Any] = {
    "category": "accident",
    "level": "I",
    "lon": 106.0,
    "lat": 29.0,
    "area": None,
    "area_notes": [],
    "source": "staff",
    "casualties": {},
    "occurred_at": 0,
    "exercise": False,
}
"""The body of a report, but for its organisation."""


class Pen:
    """`name` makes the key, so that a test is the same each time; `generation` is whatever it claims."""

    def __init__(self, name: str, generation: str = "") -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.key: Ed25519PublicKey = self._key.public_key()
        self.public, self.id = public_hex(self.key), node_id(self.key)
        self.generation = generation or hashlib.sha256(name.encode()).hexdigest()[:32]
        self._tips: dict[Stream, tuple[int, str]] = {}
        self._count = 0

    def name(self, within: str) -> str:
        """A new id for something of its own."""
        self._count += 1
        return bound_id(f"{self._count:026x}", self.id, within)

    def say(
        self,
        subject: str,
        kind: str,
        body: dict[str, Any],
        private: dict[str, Any] | None = None,
        *,
        under: str | None = None,
        seen: dict[str, int] | None = None,
        after: tuple[int, str] | None = None,
    ) -> Received:
        """One more entry of the stream, or with `after` (seq, hash) a branch of it; `under` is the claim it names."""
        stream = Stream(subject, self.id, self.generation)
        seq, prev = after or self._tips.get(stream, (0, NO_HASH))
        self._count += 1
        salt = self._count.to_bytes(32, "big")
        octets = None if private is None else entries.encode_private(private)
        entry = Entry(
            subject=subject,
            origin=self.id,
            generation=self.generation,
            seq=seq + 1,
            prev=prev,
            at=AT + self._count,
            kind=kind,
            by=By(account=f"account-{self.id[:6]}"),
            claim=under,
            seen=seen or {},
            private=None if octets is None else entries.private_hash(salt, octets).hex(),
            body=body,
        )
        written = entries.write(entry, octets, None if octets is None else salt)
        seal, paths = entries.seal(self._key, [written.hash])
        self._tips[stream] = seq + 1, written.hash.hex()
        return Received(written=written, seal=seal, leaf=0, path=paths[0])


def keys(*pens: Pen) -> dict[str, Ed25519PublicKey]:
    """The keys as a door would have them."""
    return {pen.id: pen.key for pen in pens}
