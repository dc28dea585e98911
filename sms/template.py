"""Templates of messages, the marks a text may carry, and the preview shown before anything is sent.

Never sends. Invariant: a rendered text has no placeholder left, and a value is never read as a template.
"""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from command.base.errors import Rejected
from sms.text import Encoding, parts

Language = Literal["zh", "en"]

VALUE_CHARS_MAX = 500
PLACEHOLDERS_MAX = 32

EXERCISE = {"zh": "【演习】", "en": "EXERCISE: "}
DUPLICATE = {"zh": "（可能重复）", "en": " (may be a duplicate)"}


@dataclass(frozen=True, kw_only=True)
class Template:
    """One text in both languages; the caller must have passed it through `check()` before storing it."""

    name: str
    zh: str
    en: str

    def text(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


def placeholders(text: str) -> frozenset[str]:
    """Names in `{name}`; `{{` and `}}` are literal braces.

    Raises Rejected `sms.template_invalid` for unbalanced braces, empty or dotted names, conversions and
    formats.
    """
    names = set()
    try:
        for _, name, spec, conversion in string.Formatter().parse(text):
            if name is None:
                continue
            if spec or conversion or not name.isascii() or not name.isidentifier():
                raise Rejected("sms.template_invalid", "a placeholder is {name}: letters, digits and _ only", name=name)
            names.add(name)
    except ValueError:
        raise Rejected("sms.template_invalid", "write a literal brace twice: {{ or }}") from None
    if len(names) > PLACEHOLDERS_MAX:
        raise Rejected("sms.template_invalid", f"a template has at most {PLACEHOLDERS_MAX} placeholders")
    return frozenset(names)


def check(template: Template, allowed: frozenset[str]) -> None:
    """Refuse a template with an empty half, an unknown placeholder, or halves that don't name the same ones.

    Raises Rejected: `sms.template_empty`, `sms.template_unknown` (with `names`), `sms.template_differs`.
    """
    if not template.zh.strip() or not template.en.strip():
        raise Rejected("sms.template_empty", "a template needs both a Chinese and an English text")
    zh, en = placeholders(template.zh), placeholders(template.en)
    if unknown := sorted((zh | en) - allowed):
        raise Rejected("sms.template_unknown", "these placeholders are not offered here", names=unknown)
    if zh != en:
        raise Rejected("sms.template_differs", "both languages must say the same things", names=sorted(zh ^ en))
    parts(template.zh)
    parts(template.en)


def render(template: Template, language: Language, values: Mapping[str, str]) -> str:
    """Fill in `values`; each must be there, none may be left over.

    Raises Rejected: `sms.values_missing`, `sms.values_unknown` (both with `names`), `sms.value_invalid`,
    `sms.text_too_long`, `sms.text_invalid`.
    """
    text = template.text(language)
    wanted = placeholders(text)
    if missing := sorted(wanted - values.keys()):
        raise Rejected("sms.values_missing", "the template needs these values", names=missing)
    if unknown := sorted(values.keys() - wanted):
        raise Rejected("sms.values_unknown", "the template has no such placeholders", names=unknown)
    for name, value in values.items():
        if len(value) > VALUE_CHARS_MAX or any(c < " " and c != "\n" for c in value):
            raise Rejected(
                "sms.value_invalid", f"a value has at most {VALUE_CHARS_MAX} printable characters", name=name
            )
    rendered = "".join(
        literal + (values[name] if name is not None else "") for literal, name, _, _ in string.Formatter().parse(text)
    )
    parts(rendered)
    return rendered


def mark(text: str, language: Language, *, exercise: bool = False, duplicate: bool = False) -> str:
    """`text` as it leaves: a drill says so first, a possible second copy says so last."""
    before = EXERCISE[language] if exercise else ""
    after = DUPLICATE[language] if duplicate else ""
    return before + text + after


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What sending would take. `duration_s` is at the gateway's rate, None when the gateway names none.

    `cost` is parts times the price of a part in `currency`, None without a price.
    """

    recipients: int
    parts: int
    parts_each_max: int
    encodings: tuple[Encoding, ...]
    duration_s: int | None
    cost: float | None
    currency: str


def preview(
    texts: Sequence[tuple[str, int]],
    *,
    rate_parts_per_s: float | None,
    price_per_part: float | None = None,
    currency: str = "",
) -> Preview:
    """Add up `texts`: pairs of a text as it leaves (marks included) and the number of its recipients.

    Raises Rejected as `parts()` does.
    """
    cuts = [(parts(text), recipients) for text, recipients in texts]
    total = sum(cut.count * recipients for cut, recipients in cuts)
    return Preview(
        recipients=sum(recipients for _, recipients in cuts),
        parts=total,
        parts_each_max=max((cut.count for cut, _ in cuts), default=0),
        encodings=tuple(dict.fromkeys(cut.encoding for cut, _ in cuts)),
        duration_s=None if rate_parts_per_s is None else math.ceil(total / rate_parts_per_s),
        cost=None if price_per_part is None else round(total * price_per_part, 4),
        currency=currency,
    )
