"""Parts of a text, against the vectors of another implementation (`segments.json`, data only) and by property.

The vectors were made once: npm sms-segments-calculator 1.3.0, `new SegmentedMessage(text)`, over every character of
the alphabet, the edges of each limit, and seeded mixtures of GSM, Chinese, emoji and joined clusters.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from sms.text import GSM_BASIC, GSM_EXTENSION, TEXT_UNITS_MAX, UNITS_PART, UNITS_SINGLE, Encoding, parts

VECTORS = json.loads((Path(__file__).parent / "segments.json").read_text())["vectors"]
GSM = GSM_BASIC.replace("\x1b", "") + GSM_EXTENSION


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def septets(text: str) -> int:
    return sum(2 if character in GSM_EXTENSION else 1 for character in text)


def test_parts_agree_with_the_oracle_on_every_vector() -> None:
    assert len(VECTORS) > 300
    for text, encoding, lengths, units in VECTORS:
        found = parts(text)
        assert (found.encoding.value, [utf16(part) for part in found.parts], found.units) == (encoding, lengths, units)


def test_the_alphabet_has_its_128_places() -> None:
    assert len(GSM_BASIC) == 128 and GSM_BASIC[0x1B] == "\x1b" and len(set(GSM_BASIC)) == 128
    assert (GSM_BASIC[0x00], GSM_BASIC[0x40], GSM_BASIC[0x5F], GSM_BASIC[0x7F]) == ("@", "¡", "§", "à")


@pytest.mark.parametrize(
    ("text", "count"),
    [("a" * 160, 1), ("a" * 161, 2), ("中" * 70, 1), ("中" * 71, 2), ("€" * 80, 1), ("€" * 81, 2)],
)
def test_a_text_grows_by_a_part_at_its_limit(text: str, count: int) -> None:
    assert parts(text).count == count


def test_one_chinese_comma_turns_160_into_70_and_is_named() -> None:
    found = parts("a" * 100 + "，" + "b" * 20)
    assert (found.encoding, found.count, found.breaking) == (Encoding.UCS2, 2, ("，",))


def test_what_is_left_in_the_last_part_is_told() -> None:
    assert parts("").left == 160
    assert parts("中" * 68).left == 2
    assert parts("a" * 161).left == 153 - 8


def test_an_escape_sequence_is_never_torn() -> None:
    found = parts("a" * 152 + "€" + "b" * 20)
    assert [len(part) for part in found.parts] == [152, 21]


def test_clusters_stay_whole_and_are_noted() -> None:
    family = "👨‍👩‍👧"
    found = parts("中" * 65 + family + "中" * 9)
    assert found.parts[1].startswith(family)
    assert found.notes == ("joined",)
    assert parts("中" * 66 + "e\u0301" + "中" * 9).notes == ("combining",)


def test_a_cluster_longer_than_a_part_is_cut_and_noted() -> None:
    found = parts("e" + "\u0301" * 200)
    assert found.notes == ("combining", "cut")
    assert "".join(found.parts) == "e" + "\u0301" * 200
    assert found.count == 3


def test_the_longest_text_passes_and_one_more_is_refused() -> None:
    assert parts("中" * TEXT_UNITS_MAX).count == 24
    for text in ("a" * (TEXT_UNITS_MAX + 1), "😀" * (TEXT_UNITS_MAX // 2 + 1)):
        with pytest.raises(Rejected):
            parts(text)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udc00a"])
def test_a_null_or_half_a_pair_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        parts(text)


texts = st.one_of(
    st.text(st.sampled_from(GSM), max_size=900),
    st.text(st.sampled_from(GSM + "中，😀\u0301\u200d🇨🇳👍🏽\ufe0f"), max_size=700),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300),
)


@given(texts)
def test_parts_joined_give_the_text_back_and_none_is_too_long(text: str) -> None:
    found = parts(text)
    size = septets if found.encoding is Encoding.GSM7 else utf16
    assert "".join(found.parts) == text
    assert found.units == size(text)
    limit = UNITS_SINGLE if found.count == 1 else UNITS_PART
    assert all(size(part) <= limit[found.encoding] for part in found.parts)
    assert found.left == limit[found.encoding] - size(found.parts[-1])
    assert (found.encoding is Encoding.GSM7) == all(character in GSM for character in text)


@given(texts, st.text(st.sampled_from(GSM + "中"), min_size=1, max_size=5))
def test_a_longer_text_never_has_fewer_parts(text: str, more: str) -> None:
    assert parts(text + more).count >= parts(text).count
