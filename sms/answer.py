"""What an inbound text means: an acknowledgement, a refusal, or something a person must read.

Pure. Never guesses: whatever isn't exactly one of the known words is left to a person. Invariant: an answer
is only
ever applied to one order, and when two are open the sender is asked which.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from command.base.errors import Rejected
from sms.template import Language

TITLE_CHARS_MAX = 12
OPEN_SHOWN_MAX = 5
TEXT_READ_MAX = 100

# No I and O (read as 1 and 0), no N and Y (they are answers), no K (OK).
_LETTERS = "ABCDEFGHJLMPQRSTUVWXZ"
TAGS_MAX = len(_LETTERS) * (len(_LETTERS) + 1)


class Word(Enum):
    ACKNOWLEDGE = "acknowledge"
    DECLINE = "decline"


_ACKNOWLEDGE = r"1(?:收到|好的|ok)?|(?:收到)+1?|好的"
_DECLINE = r"2|拒绝|无法执行"
_ACKNOWLEDGE_EN = r"okay|ok|yes|y"
_DECLINE_EN = r"no|n"
_BARE = re.compile(rf"(?P<yes>{_ACKNOWLEDGE}|{_ACKNOWLEDGE_EN})|(?P<no>{_DECLINE}|{_DECLINE_EN})")
# A tag may touch a digit or a Chinese word, never an English one: "now" doesn't decline order W.
_TAGGED = re.compile(
    rf"(?:(?P<yes>(?:{_ACKNOWLEDGE}) ?|(?:{_ACKNOWLEDGE_EN}) )|(?P<no>(?:{_DECLINE}) ?|(?:{_DECLINE_EN}) ))"
    rf"(?P<tag>[{_LETTERS.lower()}]{{1,2}})"
)


@dataclass(frozen=True, kw_only=True)
class OpenOrder:
    """An order this number may answer. `tag` comes from `next_tag()` when the message was made."""

    order: str
    tag: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Answered:
    """`word` answers `order`."""

    order: str
    word: Word


@dataclass(frozen=True, kw_only=True)
class Ambiguous:
    """An answer, but to which? `reply(language)` is the text to send back."""

    zh: str
    en: str

    def reply(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, kw_only=True)
class NothingOpen:
    """An answer, but nothing is open for this number: kept and shown, no reply."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Not an answer: free text, for a person to read."""


Answer = Answered | Ambiguous | NothingOpen | Unread


def read(text: str) -> tuple[Word, str] | None:
    """The word and the tag ("" for none) in `text`, or None if it is anything else.

    Width, case, spaces and punctuation don't matter: `１。`, `Ok!`, `收到`, `1 a`, `【2】`.
    """
    if len(text) > TEXT_READ_MAX:
        return None
    plain = unicodedata.normalize("NFKC", text).casefold()
    marked = "".join(c if unicodedata.category(c)[0] in "LN" else " " for c in plain)
    words = marked.split()
    if bare := _BARE.fullmatch("".join(words)):
        return (Word.ACKNOWLEDGE if bare["yes"] else Word.DECLINE), ""
    if tagged := _TAGGED.fullmatch(" ".join(words)):
        return (Word.ACKNOWLEDGE if tagged["yes"] else Word.DECLINE), str(tagged["tag"]).upper()
    return None


def resolve(text: str, orders: Sequence[OpenOrder]) -> Answer:
    """What `text` does, given the orders that are open for the sender's number, oldest first."""
    found = read(text)
    if found is None:
        return Unread()
    word, tag = found
    if not orders:
        return NothingOpen()
    if tag:
        named = [order for order in orders if order.tag == tag]
        return Answered(order=named[0].order, word=word) if len(named) == 1 else _ask(word, orders)
    if len(orders) == 1:
        return Answered(order=orders[0].order, word=word)
    return _ask(word, orders)


def next_tag(used: Sequence[str]) -> str:
    """The first free tag for a number; the caller must count tags of orders that closed lately as used, so
    that a
    late "1A" can't acknowledge another order. Raises Rejected `sms.tags_exhausted` after TAGS_MAX."""
    taken = set(used)
    for first in ("", *_LETTERS):
        for second in _LETTERS:
            if first + second not in taken:
                return f"{first}{second}"
    raise Rejected("sms.tags_exhausted", "this number has too many open orders")


def _ask(word: Word, orders: Sequence[OpenOrder]) -> Ambiguous:
    shown = orders[:OPEN_SHOWN_MAX]
    digit = "1" if word is Word.ACKNOWLEDGE else "2"
    zh = "；".join(f"{digit}{order.tag} {_short(order.title)}" for order in shown)
    en = "; ".join(f"{digit}{order.tag} {_short(order.title)}" for order in shown)
    left = len(orders) - len(shown)
    return Ambiguous(
        zh=f"请注明是哪一项，回复：{zh}" + (f"；另有{left}项" if left else ""),
        en=f"Which one? Reply: {en}" + (f"; and {left} more" if left else ""),
    )


def _short(title: str) -> str:
    line = " ".join(title.split())
    return line if len(line) <= TITLE_CHARS_MAX else line[: TITLE_CHARS_MAX - 1] + "…"
