"""Forbidden words and recipients named once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from sms.review import RECIPIENTS_MAX, WORD_CHARS_MAX, WORDS_MAX, Forbidden, Hit, Recipient, dedupe


@pytest.mark.parametrize(
    "text", ["赌博", "请勿赌 博！", "赌*博", "赌。。博", "赌\u200b博", "赌\n博", "赌1️⃣".replace("1️⃣", "") + "·博"]
)
def test_a_chinese_word_is_found_however_it_is_spaced(text: str) -> None:
    hits = Forbidden(["赌博"]).find(text)
    assert [text[hit.start] + text[hit.end - 1] for hit in hits] == ["赌博"]


@pytest.mark.parametrize("text", ["spam", "SPAM!", "s p a m", "ｓｐａｍ", "s.p.a.m", "this is spám.", "中spam文"])
def test_a_latin_word_is_found_in_any_case_width_and_accent(text: str) -> None:
    assert len(Forbidden(["Spam"]).find(text)) == 1


@pytest.mark.parametrize("text", ["spammer", "unspam", "class pamphlet", "spa", "spam2"])
def test_a_latin_word_inside_another_is_no_hit(text: str) -> None:
    assert Forbidden(["spam"]).find(text) == []


def test_hits_are_positions_in_the_text_as_given_and_in_order() -> None:
    text = "ﬁrst 赌-博, then 赌博"
    assert Forbidden(["赌博", "first"]).find(text) == [
        Hit(word="first", start=0, end=4),
        Hit(word="赌博", start=5, end=8),
        Hit(word="赌博", start=15, end=17),
    ]


def test_the_list_and_its_words_have_limits() -> None:
    words = [f"w{number}" for number in range(WORDS_MAX)]
    Forbidden(words)
    with pytest.raises(Rejected):
        Forbidden([*words, "one more"])
    Forbidden(["x" * WORD_CHARS_MAX])
    for word in ("x" * (WORD_CHARS_MAX + 1), "", "。！"):
        with pytest.raises(Rejected):
            Forbidden([word])


@given(
    st.text(max_size=80), st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5), max_size=5)
)
def test_any_text_can_be_searched_for_any_words(text: str, words: list[str]) -> None:
    try:
        forbidden = Forbidden(words)
    except Rejected:
        return
    assert all(0 <= hit.start < hit.end <= len(text) for hit in forbidden.find(text))


def person(name: str, number: str | None) -> Recipient:
    return Recipient(person=name, number=number)


def test_each_person_and_each_number_is_kept_once_and_the_rest_is_told() -> None:
    first, shared = person("p1", "+8615400000001"), person("p2", "+8615400000001")
    second_phone, other = person("p1", "+8615400000009"), person("p3", "+8615400000003")
    found = dedupe([first, shared, second_phone, other])
    assert found.kept == (first, other)
    assert found.same == ((shared, first), (second_phone, first))


def test_who_has_no_number_is_told_unless_named_again_with_one() -> None:
    found = dedupe([person("p1", None), person("p2", None), person("p1", "+8615400000001"), person("p2", None)])
    assert [recipient.person for recipient in found.unreachable] == ["p2"]
    assert [recipient.person for recipient in found.kept] == ["p1"]


def test_a_notice_has_a_largest_number_of_recipients() -> None:
    people = [person(f"p{number}", None) for number in range(RECIPIENTS_MAX)]
    assert len(dedupe(people).unreachable) == RECIPIENTS_MAX
    with pytest.raises(Rejected):
        dedupe([*people, person("x", None)])


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, "1", "2", "3"]))))
def test_kept_people_and_numbers_are_distinct_and_nobody_is_forgotten(pairs: list[tuple[str, str | None]]) -> None:
    found = dedupe(person(name, number) for name, number in pairs)
    assert len({kept.person for kept in found.kept}) == len({kept.number for kept in found.kept}) == len(found.kept)
    told = {r.person for r in (*found.kept, *found.unreachable, *(left_out for left_out, _ in found.same))}
    assert told == {name for name, _ in pairs}
