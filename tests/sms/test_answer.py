"""What an inbound text means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from sms.answer import (
    OPEN_SHOWN_MAX,
    TAGS_MAX,
    TEXT_READ_MAX,
    Ambiguous,
    Answered,
    NothingOpen,
    OpenOrder,
    Unread,
    Word,
    next_tag,
    read,
    resolve,
)

A = OpenOrder(order="o1", tag="A", title="到指挥中心集合")
B = OpenOrder(order="o2", tag="B", title="转移王家村群众并清点人数后上报县指挥部")
YES, NO = Word.ACKNOWLEDGE, Word.DECLINE


@pytest.mark.parametrize(
    "text",
    ["1", "１", " 1。", "1!", "【1】", "(1)", "1️⃣", "收到", "收到！", "收到，收到", "收 到", "Y", "ｙ", "yes.", "OK", "Ok!",
     "o k", "ＯＫ", "okay", "好的", "1\n", "\u200b1", "1 收到", "收到1", "1 ok"],
)  # fmt: skip
def test_these_acknowledge(text: str) -> None:
    assert read(text) == (YES, "")


@pytest.mark.parametrize("text", ["2", "２", "2.", "拒绝", "拒绝。", "N", "no", "No!", "ＮＯ", "无法执行"])
def test_these_decline(text: str) -> None:
    assert read(text) == (NO, "")


@pytest.mark.parametrize(
    "text",
    ["", " ", "11", "12", "1.5", "1,2", "21", "3", "收到，但无法前往", "收到2", "明天到", "now", "not", "noa", "yea",
     "okb", "oka", "not ok", "1 no", "1AAA", "1" * 500, "👍", "١", "no problem", "拒绝收到", "退订", "TD"],
)  # fmt: skip
def test_these_are_left_to_a_person(text: str) -> None:
    assert read(text) is None
    assert resolve(text, [A]) == Unread()


@pytest.mark.parametrize(
    ("text", "found"),
    [("1A", (YES, "A")), ("１ｂ", (YES, "B")), ("1-a", (YES, "A")), ("收到A", (YES, "A")), ("2 B", (NO, "B")),
     ("OK a", (YES, "A")), ("no-b", (NO, "B")), ("1 ab", (YES, "AB"))],
)  # fmt: skip
def test_a_tag_is_read_with_the_word(text: str, found: tuple[Word, str]) -> None:
    assert read(text) == found


def test_with_one_order_open_a_bare_answer_is_its_answer() -> None:
    assert resolve("１", [A]) == Answered(order="o1", word=YES)
    assert resolve("N", [A]) == Answered(order="o1", word=NO)


def test_with_two_orders_open_a_bare_answer_is_asked_back_in_both_languages() -> None:
    found = resolve("1", [A, B])
    assert isinstance(found, Ambiguous)
    assert found.reply("zh") == "请注明是哪一项，回复：1A 到指挥中心集合；1B 转移王家村群众并清点人…"
    assert found.reply("en").startswith("Which one? Reply: 1A ")
    declined = resolve("2", [A, B])
    assert isinstance(declined, Ambiguous) and "2A" in declined.zh


def test_a_tag_picks_its_order() -> None:
    assert resolve("1b", [A, B]) == Answered(order="o2", word=YES)


def test_a_tag_that_is_not_open_is_never_applied_to_the_one_that_is() -> None:
    assert isinstance(resolve("1C", [A]), Ambiguous)


def test_an_answer_with_nothing_open_is_kept_without_effect() -> None:
    assert resolve("1", []) == NothingOpen()


def test_a_reply_names_at_most_a_few_orders() -> None:
    many = [OpenOrder(order=str(n), tag=next_tag([]), title="x" * 50) for n in range(OPEN_SHOWN_MAX + 3)]
    found = resolve("1", many)
    assert isinstance(found, Ambiguous)
    assert found.zh.endswith("另有3项") and found.en.endswith("and 3 more")
    assert len(found.zh) < 140


def test_tags_are_distinct_readable_and_end_somewhere() -> None:
    used: list[str] = []
    for _ in range(TAGS_MAX):
        used.append(next_tag(used))
    assert len(set(used)) == TAGS_MAX
    assert used[:3] == ["A", "B", "C"]
    assert not set("".join(used)) & set("IONYK")
    assert all(read("1" + tag) == (YES, tag) and read("no " + tag) == (NO, tag) for tag in used)
    with pytest.raises(Rejected):
        next_tag(used)


def test_a_text_too_long_to_be_an_answer_is_not_read() -> None:
    assert read("1" + " " * (TEXT_READ_MAX - 1)) == (YES, "")
    assert read("1" + " " * TEXT_READ_MAX) is None


@given(st.text(max_size=TEXT_READ_MAX + 5), st.lists(st.sampled_from([A, B]), max_size=2, unique=True))
def test_any_text_has_a_meaning(text: str, orders: list[OpenOrder]) -> None:
    found = resolve(text, orders)
    if isinstance(found, Answered):
        assert found.order in {order.order for order in orders}
