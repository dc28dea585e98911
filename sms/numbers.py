"""Telephone numbers: one spelling (E.164), a reserved range for demonstrations, and a mask for logs.

Never looks a number up anywhere. Invariant: what `normalise()` returns starts with "+" and has 8 to 15
digits.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers

from command.base.errors import Rejected

REGION = "CN"
NUMBER_CHARS_MAX = 40
NUMBERS_CACHED_MAX = 50_000

# Ofcom reserves 07700 900000-900999 for drama: never assigned to anybody, so a mistaken gateway reaches
# nobody. China has no such range, and an unassigned prefix may be assigned tomorrow.
DEMO_PREFIX = "+447700900"
DEMO_COUNT = 1000

_CHINA_MOBILE = re.compile(r"\+861[3-9]\d{9}")
_TEXTABLE = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)


@dataclass(frozen=True, kw_only=True)
class Number:
    """`e164`, and whether the numbering plan we carry knows it (`known`); old plans grow stale."""

    e164: str
    known: bool

    def __repr__(self) -> str:
        return f"Number({mask(self.e164)})"


def normalise(text: str, region: str = REGION) -> Number:
    """Read a number as people write it, full-width digits included; a national one is of `region`.

    Raises Rejected: `sms.number_invalid`, or `sms.number_not_mobile` for a line that takes no text.
    """
    if len(text) > NUMBER_CHARS_MAX:
        raise Rejected("sms.number_invalid", f"a number has at most {NUMBER_CHARS_MAX} characters")
    try:
        number = phonenumbers.parse(unicodedata.normalize("NFKC", text).strip(), region)
    except phonenumbers.NumberParseException:
        raise Rejected("sms.number_invalid", "write the number with its area, for example +86 and 11 digits") from None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if number.extension or not re.fullmatch(r"\+[1-9]\d{7,14}", e164):
        raise Rejected("sms.number_invalid", "write the number with its area, for example +86 and 11 digits")
    if is_demo(e164):
        return Number(e164=e164, known=True)
    if phonenumbers.is_valid_number(number):
        if phonenumbers.number_type(number) not in _TEXTABLE:
            raise Rejected("sms.number_not_mobile", "a text needs a mobile number")
        return Number(e164=e164, known=True)
    # New prefixes appear faster than isolated machines are upgraded: take an 11-digit Chinese mobile, say
    # it's unknown.
    if _CHINA_MOBILE.fullmatch(e164):
        return Number(e164=e164, known=False)
    raise Rejected("sms.number_invalid", "no numbering plan has this number")


@lru_cache(NUMBERS_CACHED_MAX)
def e164_or_none(text: str) -> str | None:
    """`normalise`, or None where it refuses: for people who are listed with a number that takes no text."""
    try:
        return normalise(text).e164
    except Rejected:
        return None


def demo_number(index: int) -> str:
    """The `index`-th (0-999) number of the range for fiction. Raises Rejected `sms.demo_exhausted`."""
    if not 0 <= index < DEMO_COUNT:
        raise Rejected("sms.demo_exhausted", f"there are {DEMO_COUNT} demonstration numbers")
    return f"{DEMO_PREFIX}{index:03d}"


def is_demo(e164: str) -> bool:
    """Whether the number belongs to nobody; real gateways refuse it."""
    return len(e164) == len(DEMO_PREFIX) + 3 and e164.startswith(DEMO_PREFIX)


def mask(number: str) -> str:
    """For logs: the last two digits only, and always the same length."""
    return f"***{number[-2:]}" if len(number) > 4 else "***"
