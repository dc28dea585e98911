"""How many parts a text costs: the GSM 7-bit default alphabet, UCS-2, and where a long text is cut.

Never talks to a gateway and never changes a text. Invariant: the parts joined give the text back, and no part
holds half of an escape sequence or half of a surrogate pair.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from command.base.errors import Rejected

TEXT_UNITS_MAX = 1600
"""Longest text in UTF-16 code units; the documented limit of Twilio's `Body`, and 24 parts of UCS-2."""

BREAKING_SHOWN_MAX = 8
"""How many of the characters that force UCS-2 a `Segmentation` names."""

# 3GPP TS 23.038 §6.2.1, in code order; position 0x1B is the escape and stands for no character.
GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = "\f^{}\\[~]|€"
"""3GPP TS 23.038 §6.2.1.1: each costs two septets, the escape and itself."""

_SEPTETS = {character: 1 for character in GSM_BASIC if character != "\x1b"} | dict.fromkeys(GSM_EXTENSION, 2)
_ZWJ = "\u200d"


class Encoding(Enum):
    """What the air interface carries; the value is the name shown to people."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


# Units (septets, UTF-16 code units) of a text alone in its message, and of each part behind a 6-octet
# concatenation header: 3GPP TS 23.040 §9.2.3.24.1.
UNITS_SINGLE = {Encoding.GSM7: 160, Encoding.UCS2: 70}
UNITS_PART = {Encoding.GSM7: 153, Encoding.UCS2: 67}


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What `parts()` found.

    `parts`: the text of each part. `units`: septets or UTF-16 code units of the whole text. `left`: units
    free in the last part before another one begins. `breaking`: the first distinct characters that are not in
    the GSM alphabet. `notes`: "combining" when a mark belongs to the character before it, "joined" when a
    zero-width joiner makes one picture of several, "cut" when such a cluster was longer than a part and had
    to be cut.
    """

    encoding: Encoding
    parts: tuple[str, ...]
    units: int
    left: int
    breaking: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of parts, which is what a carrier bills."""
        return len(self.parts)


def parts(text: str) -> Segmentation:
    """Cut `text` into the parts a carrier sends and bills.

    Raises Rejected: `sms.text_too_long` above TEXT_UNITS_MAX, `sms.text_invalid` for U+0000 or a lone
    surrogate.
    """
    check(text)
    breaking = tuple(dict.fromkeys(character for character in text if character not in _SEPTETS))
    encoding = Encoding.UCS2 if breaking else Encoding.GSM7
    atoms = [text[i] for i in range(len(text))] if encoding is Encoding.GSM7 else list(_clusters(text))
    sizes = [_size(atom, encoding) for atom in atoms]
    units = sum(sizes)
    notes = _notes(text) if breaking else ()
    if units <= UNITS_SINGLE[encoding]:
        pieces, room = [text], UNITS_SINGLE[encoding] - units
    else:
        capacity = UNITS_PART[encoding]
        if max(sizes) > capacity:
            notes = (*notes, "cut")
            atoms = [piece for atom in atoms for piece in (atom if _size(atom, encoding) > capacity else (atom,))]
        pieces, room = _fill(atoms, encoding, capacity)
    return Segmentation(
        encoding=encoding,
        parts=tuple(pieces),
        units=units,
        left=room,
        breaking=breaking[:BREAKING_SHOWN_MAX],
        notes=notes,
    )


def check(text: str) -> None:
    """Refuse what no gateway can carry; raises Rejected as `parts()` does."""
    if len(text) > TEXT_UNITS_MAX or _utf16_units(text) > TEXT_UNITS_MAX:
        raise Rejected("sms.text_too_long", f"a text has at most {TEXT_UNITS_MAX} characters", limit=TEXT_UNITS_MAX)
    if any(character == "\0" or 0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise Rejected("sms.text_invalid", "a text has no U+0000 and no half surrogate pair")


def _utf16_units(text: str) -> int:
    return sum(2 if ord(character) > 0xFFFF else 1 for character in text)


def _size(atom: str, encoding: Encoding) -> int:
    return _SEPTETS[atom] if encoding is Encoding.GSM7 else _utf16_units(atom)


def _fill(atoms: list[str], encoding: Encoding, capacity: int) -> tuple[list[str], int]:
    """Put whole atoms into parts of `capacity` units; returns the parts and the room left in the last."""
    pieces: list[list[str]] = [[]]
    room = capacity
    for atom in atoms:
        size = _size(atom, encoding)
        if size > room:
            pieces.append([])
            room = capacity
        pieces[-1].append(atom)
        room -= size
    return ["".join(piece) for piece in pieces], room


def _clusters(text: str) -> Iterator[str]:
    """Characters with what clings to them (marks, joiners, skin tones, the second half of a flag).

    A cluster is kept in one part so that no phone shows a torn one when a part is late; an approximation of
    UAX #29 that needs no tables beyond `unicodedata`.
    """
    cluster = ""
    for character in text:
        if cluster and _clings(cluster, character):
            cluster += character
            continue
        if cluster:
            yield cluster
        cluster = character
    if cluster:
        yield cluster


def _clings(cluster: str, character: str) -> bool:
    if cluster in ("\r", "\n"):
        return False
    if character == _ZWJ or unicodedata.category(character) in ("Mn", "Mc", "Me"):
        return True
    if cluster[-1] == _ZWJ:
        return len(cluster) > 1 and _pictograph(character)
    if 0x1F3FB <= ord(character) <= 0x1F3FF:
        return _pictograph(cluster[0])
    return _flag(character) and len(cluster) == 1 and _flag(cluster)


def _pictograph(character: str) -> bool:
    return ord(character) >= 0x1F000 or unicodedata.category(character) == "So"


def _flag(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def _notes(text: str) -> tuple[str, ...]:
    combining = any(unicodedata.category(character) in ("Mn", "Mc", "Me") for character in text)
    return tuple(name for name, found in (("combining", combining), ("joined", _ZWJ in text)) if found)
