"""Review before publication: forbidden words, however they are spaced, and each person and number only once.

Never blocks by itself; it reports and the notice's reviewer decides. Invariant: positions refer to the text
as given.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from command.base.errors import Rejected

WORDS_MAX = 10_000
WORD_CHARS_MAX = 64
RECIPIENTS_MAX = 50_000


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A forbidden word found: text[start:end] is what to underline."""

    word: str
    start: int
    end: int


class Forbidden:
    """A list of words, ready to search. Build once per edit of the list, not per text."""

    def __init__(self, words: Iterable[str]) -> None:
        """Raises Rejected `sms.words_too_many`, `sms.word_invalid` (too long, or nothing but punctuation)."""
        self._words: dict[str, str] = {}
        for word in words:
            squeezed = "".join(character for character, _ in _squeeze(word))
            if not squeezed or len(word) > WORD_CHARS_MAX:
                raise Rejected("sms.word_invalid", f"a word has 1 to {WORD_CHARS_MAX} letters or digits", word=word)
            self._words.setdefault(squeezed, word)
            if len(self._words) > WORDS_MAX:
                raise Rejected("sms.words_too_many", f"the list has at most {WORDS_MAX} words")

    def find(self, text: str) -> list[Hit]:
        """All hits, by position. Case, width, accents, and whatever stands between the letters don't matter.

        A word of Latin letters or digits must stand alone ("ass" isn't in "class"); a Chinese one is found
        anywhere. Simplified and traditional forms are different words: list both.
        """
        squeezed = list(_squeeze(text))
        line = "".join(character for character, _ in squeezed)
        hits = []
        for needle, word in self._words.items():
            at = line.find(needle)
            while at >= 0:
                start, last = squeezed[at][1], squeezed[at + len(needle) - 1][1]
                if _stands_alone(text, needle, start, last):
                    hits.append(Hit(word=word, start=start, end=last + 1))
                at = line.find(needle, at + 1)
        return sorted(hits, key=lambda hit: (hit.start, hit.end, hit.word))


def _squeeze(text: str) -> Iterable[tuple[str, int]]:
    """Letters and digits of `text`, decomposed and folded, each with the index it came from."""
    for index, character in enumerate(text):
        for plain in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold()):
            if unicodedata.category(plain)[0] in "LN":
                yield plain, index


def _stands_alone(text: str, needle: str, start: int, last: int) -> bool:
    before = start > 0 and needle[0].isascii() and _latin(text[start - 1])
    after = last + 1 < len(text) and needle[-1].isascii() and _latin(text[last + 1])
    return not before and not after


def _latin(character: str) -> bool:
    plain = unicodedata.normalize("NFKD", character)[0]
    return plain.isascii() and plain.isalnum()


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """One person to reach. `number` is E.164 or None; `via` says why they are listed (a group, a fence)."""

    person: str
    number: str | None
    language: str = "zh"
    via: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipients:
    """`kept` in the order given; `same` pairs each one left out with its twin; `unreachable`: no number."""

    kept: tuple[Recipient, ...]
    same: tuple[tuple[Recipient, Recipient], ...]
    unreachable: tuple[Recipient, ...]


def dedupe(people: Iterable[Recipient]) -> Recipients:
    """Each person and each number once; the first mention wins.

    Two people who share a telephone get one message on it; the second is listed under `same`, for a person to
    see. Somebody without a number who appears again with one is reached. Raises Rejected
    `sms.recipients_too_many`.
    """
    by_person: dict[str, Recipient] = {}
    by_number: dict[str, Recipient] = {}
    same: list[tuple[Recipient, Recipient]] = []
    without: dict[str, Recipient] = {}
    for count, recipient in enumerate(people, 1):
        if count > RECIPIENTS_MAX:
            raise Rejected("sms.recipients_too_many", f"a notice reaches at most {RECIPIENTS_MAX} people")
        if recipient.number is None:
            without.setdefault(recipient.person, recipient)
            continue
        first = by_person.get(recipient.person) or by_number.get(recipient.number)
        if first is not None:
            same.append((recipient, first))
            continue
        by_person[recipient.person] = by_number[recipient.number] = recipient
    covered = by_person.keys() | {left_out.person for left_out, _ in same}
    return Recipients(
        kept=tuple(by_person.values()),
        same=tuple(same),
        unreachable=tuple(person for name, person in without.items() if name not in covered),
    )
