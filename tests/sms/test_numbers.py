"""Telephone numbers in one spelling, demonstration numbers, masks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from sms.numbers import DEMO_COUNT, NUMBER_CHARS_MAX, demo_number, is_demo, mask, normalise


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        "138 0013 8000",
        "+86 138-0013-8000",
        "１３８００１３８０００",
        "008613800138000",
        "(86)13800138000",
    ],
)
def test_one_mobile_number_has_one_spelling(text: str) -> None:
    assert normalise(text).e164 == "+8613800138000"


@pytest.mark.parametrize(
    "text", ["", "abc", "110", "12345", "1380013800", "+999123456", "13800138000 ext 5", "1" * 400]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        normalise(text)


def test_a_landline_takes_no_text() -> None:
    with pytest.raises(Rejected) as caught:
        normalise("010-65001234")
    assert caught.value.code == "sms.number_not_mobile"


def test_a_prefix_newer_than_our_plan_is_taken_and_said_to_be_unknown() -> None:
    found = normalise("15400000001")
    assert (found.e164, found.known) == ("+8615400000001", False)
    assert normalise("13800138000").known


def test_demonstration_numbers_are_distinct_reserved_and_finite() -> None:
    numbers = [demo_number(index) for index in range(DEMO_COUNT)]
    assert len(set(numbers)) == DEMO_COUNT
    assert all(is_demo(number) and normalise(number).e164 == number for number in numbers)
    for index in (-1, DEMO_COUNT):
        with pytest.raises(Rejected):
            demo_number(index)
    assert not is_demo("+447700901000") and not is_demo("+8613800138000")


def test_a_mask_leaves_two_digits_and_no_length() -> None:
    assert mask("+8613800138012") == mask("+4477009000912") == "***12"
    assert mask("110") == "***"
    assert "0013" not in repr(normalise("13800138000"))


@given(st.text(max_size=NUMBER_CHARS_MAX + 5))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        found = normalise(text)
    except Rejected:
        return
    assert found.e164[0] == "+" and 8 <= len(found.e164) - 1 <= 15 and normalise(found.e164) == found
