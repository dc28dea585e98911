"""A telephone number as the registry keeps it: E.164, so that two spellings of one number are equal.

Pure. Never looks a number up; whether a line takes texts is `sms`'s question. Invariant: what `e164` returns is "+" and
8 to 15 digits.
"""

import re
import unicodedata

import phonenumbers

from command.base.errors import Rejected

REGION = "CN"
NUMBER_CHARS_MAX = 40
_SHAPE = re.compile(r"\+[1-9]\d{7,14}")


def e164(text: str, region: str = REGION) -> str:
    """The number as people write it (full-width digits too), in E.164 (ITU-T); a national one is of `region`.

    Numbers of a possible length are taken: numbering plans grow faster than isolated machines are upgraded. Raises
    `Rejected`.
    """
    if len(text) <= NUMBER_CHARS_MAX:
        try:
            number = phonenumbers.parse(unicodedata.normalize("NFKC", text).strip(), region)
        except phonenumbers.NumberParseException:
            number = None
        if number is not None and not number.extension and phonenumbers.is_possible_number(number):
            found = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            if _SHAPE.fullmatch(found):
                return str(found)
    raise Rejected(
        "phone.invalid", "This is no telephone number; write it with its area, for example +86 and 11 digits."
    )
