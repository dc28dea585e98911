"""Templates, marks, and the preview of what sending takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from sms.template import (
    PLACEHOLDERS_MAX,
    VALUE_CHARS_MAX,
    Template,
    check,
    mark,
    placeholders,
    preview,
    render,
)
from sms.text import Encoding

CALL = Template(name="call", zh="{place}发生{incident}，回复1确认", en="{incident} at {place}. Reply 1")
ALLOWED = frozenset({"incident", "place", "time"})
VALUES = {"incident": "山洪", "place": "示范县"}


def refusal(call: object, *arguments: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def test_a_template_is_filled_in_both_languages() -> None:
    check(CALL, ALLOWED)
    assert render(CALL, "zh", VALUES) == "示范县发生山洪，回复1确认"
    assert render(CALL, "en", VALUES) == "山洪 at 示范县. Reply 1"


def test_missing_and_unknown_values_are_named() -> None:
    missing = refusal(render, CALL, "zh", {"place": "x"})
    assert (missing.code, missing.details) == ("sms.values_missing", {"names": ["incident"]})
    unknown = refusal(render, CALL, "zh", VALUES | {"time": "9"})
    assert (unknown.code, unknown.details) == ("sms.values_unknown", {"names": ["time"]})


def test_a_value_is_never_read_as_a_template() -> None:
    assert "{place}{0}" in render(CALL, "zh", {"incident": "{place}{0}", "place": "x"})


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{0}", "{中}", "{a b}", "{{a}"])
def test_anything_but_a_plain_placeholder_is_refused(text: str) -> None:
    assert refusal(placeholders, text).code == "sms.template_invalid"


def test_literal_braces_are_written_twice() -> None:
    assert render(Template(name="b", zh="{{{a}}}", en="{{{a}}}"), "zh", {"a": "1"}) == "{1}"


def test_halves_must_name_the_same_placeholders_and_only_offered_ones() -> None:
    assert refusal(check, Template(name="x", zh="{place}", en="x"), ALLOWED).code == "sms.template_differs"
    assert refusal(check, Template(name="x", zh="{salary}", en="{salary}"), ALLOWED).code == "sms.template_unknown"
    assert refusal(check, Template(name="x", zh="x", en=" "), ALLOWED).code == "sms.template_empty"


def test_placeholders_and_values_have_limits() -> None:
    names = "".join(f"{{a{n}}}" for n in range(PLACEHOLDERS_MAX))
    assert len(placeholders(names)) == PLACEHOLDERS_MAX
    assert refusal(placeholders, names + "{b}").code == "sms.template_invalid"
    render(CALL, "zh", VALUES | {"place": "x" * VALUE_CHARS_MAX})
    assert refusal(render, CALL, "zh", VALUES | {"place": "x" * (VALUE_CHARS_MAX + 1)}).code == "sms.value_invalid"
    assert refusal(render, CALL, "zh", VALUES | {"place": "a\x07"}).code == "sms.value_invalid"


@given(st.text(max_size=60))
def test_any_text_as_a_template_is_read_or_refused(text: str) -> None:
    try:
        names = placeholders(text)
    except Rejected:
        return
    assert all(name.isidentifier() for name in names)


def test_a_drill_says_so_first_and_a_second_copy_last() -> None:
    assert mark("集合", "zh", exercise=True, duplicate=True) == "【演习】集合（可能重复）"
    assert mark("Come", "en", exercise=True, duplicate=True) == "EXERCISE: Come (may be a duplicate)"
    assert mark("集合", "zh") == "集合"


def test_a_preview_adds_up_parts_time_and_cost() -> None:
    found = preview([("中" * 71, 10_000), ("a" * 10, 5)], rate_parts_per_s=100, price_per_part=0.05, currency="CNY")
    assert (found.recipients, found.parts, found.parts_each_max) == (10_005, 20_005, 2)
    assert (found.duration_s, found.cost, found.currency) == (201, 1000.25, "CNY")
    assert found.encodings == (Encoding.UCS2, Encoding.GSM7)


def test_ten_thousand_recipients_on_one_long_code_take_hours_and_the_preview_says_so() -> None:
    assert preview([("中" * 100, 10_000)], rate_parts_per_s=1).duration_s == 20_000


def test_a_preview_without_rate_or_price_claims_nothing() -> None:
    found = preview([("a", 1)], rate_parts_per_s=None)
    assert (found.duration_s, found.cost) == (None, None)
    assert preview([], rate_parts_per_s=1).parts == 0
