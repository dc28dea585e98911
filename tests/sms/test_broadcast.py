"""Notices on a whole node: who gets them, who must agree, what is refused, what is taken back."""

from pathlib import Path
from typing import Any

import pytest

from command.base.errors import Conflict, Denied, Missing, Rejected
from command.base.rights import RIGHTS, Relation, Role
from command.base.schema import Urgency
from command.domain.notice import NOTICE, Notice, NoticeKind, NoticeState, Recipients
from command.domain.registry import UnitKind
from command.domain.registry_edits import SaveGroup, SaveTemplate, SaveUnit
from sms.broadcast import CancelNotice, DraftNotice, ReviewNotice, preview, read_words
from sms.expansion import CHUNK, CHUNK_PERSONS
from sms.inbox import PHONE_TEXT
from sms.message import State
from sms.numbers import demo_number
from sms.outbox import MESSAGE
from tests.sms.node import Bench, bench, twilio_settings


def meeting(**changes: Any) -> DraftNotice:
    plain: dict[str, Any] = {
        "kind": NoticeKind.MEETING,
        "text_zh": "今天15时开会",
        "text_en": "Meeting at 15:00",
        "recipients": Recipients(),
    }
    return DraftNotice(**(plain | changes))


async def finished(node: Bench, key: str | None) -> Notice:
    def done(rows: list[Any]) -> bool:
        return any(row.id == key and row.state is NoticeState.FINISHED for row in rows)

    rows = await node.until(NOTICE, done)
    return next(row for row in rows if row.id == key)


async def test_a_notice_reaches_everybody_once_in_their_own_language(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        chinese = await node.person(demo_number(1))
        english = await node.person(demo_number(2), language="en")
        shared = await node.person(demo_number(1))
        away = await node.person(demo_number(3), off_duty=True)
        called = await node.person(demo_number(4), off_duty=True)
        nowhere = await node.person()
        group = await node.ask(
            SaveGroup(name="组", organisation=node.organisation, persons=[chinese, english, shared, away, nowhere])
        )
        unit = await node.ask(
            SaveUnit(name="队", kind=UnitKind.FIRE, organisation=node.organisation, members=[chinese, away])
        )
        wanted = Recipients(persons=[called, english], groups=[group.id or ""], units=[unit.id or ""])
        made = await node.ask(meeting(recipients=wanted), node.accounts["duty"])
        notice = await finished(node, made.id)
        assert (notice.counts.total, notice.counts.delivered, notice.counts.failed) == (4, 3, 1)
        messages = {row.person: row for row in await node.rows(MESSAGE, notice=made.id)}
        assert set(messages) == {chinese, english, called, nowhere}
        assert messages[english].text == "Meeting at 15:00" and messages[chinese].text == "今天15时开会"
        assert (messages[nowhere].state, messages[nowhere].code) == (State.FAILED, "sms.no_number")
        assert len(await node.rows(PHONE_TEXT)) == 3


async def test_more_than_a_chunk_of_recipients_is_expanded_to_the_last(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        persons = [await node.person(f"+861390000{index:04d}") for index in range(CHUNK_PERSONS + 1)]
        group = await node.ask(SaveGroup(name="组", organisation=node.organisation, persons=persons))
        made = await node.ask(meeting(recipients=Recipients(groups=[group.id or ""])), node.accounts["duty"])
        notice = await finished(node, made.id)
        assert notice.counts.delivered == notice.counts.total == CHUNK_PERSONS + 1
        assert await node.rows(CHUNK) == []
        assert len(await node.rows(PHONE_TEXT)) == CHUNK_PERSONS + 1


async def test_a_bulletin_waits_for_a_reviewer_who_is_not_its_author(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        person = await node.person(demo_number(1))
        leader, reviewer = node.accounts["leader"], node.accounts["reviewer"]
        request = meeting(kind=NoticeKind.BULLETIN, recipients=Recipients(persons=[person]))
        key = (await node.ask(request, leader)).id or ""
        assert (await node.get(NOTICE, key)).state is NoticeState.REVIEW
        with pytest.raises(Conflict, match=r"notice\.own"):
            await node.ask(ReviewNotice(id=key, version=1, passed=True), leader)
        with pytest.raises(Denied):
            await node.ask(ReviewNotice(id=key, version=1, passed=True), node.accounts["duty"])
        with pytest.raises(Rejected, match=r"notice\.reason"):
            await node.ask(ReviewNotice(id=key, version=1, passed=False), reviewer)
        await node.ask(ReviewNotice(id=key, version=1, passed=True), reviewer)
        with pytest.raises(Conflict, match=r"version\.stale"):
            await node.ask(ReviewNotice(id=key, version=1, passed=True), reviewer)
        notice = await finished(node, key)
        assert (notice.reviewed_by, notice.counts.delivered) == (reviewer.account, 1)


async def test_a_refused_notice_sends_nothing_and_keeps_the_reason(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        person = await node.person(demo_number(1))
        request = meeting(kind=NoticeKind.ALERT, recipients=Recipients(persons=[person]))
        key = (await node.ask(request, node.accounts["duty"])).id or ""
        await node.ask(ReviewNotice(id=key, version=1, passed=False, reason="数字有误"), node.accounts["reviewer"])
        notice = await node.get(NOTICE, key)
        assert (notice.state, notice.review_reason) == (NoticeState.REFUSED, "数字有误")
        assert await node.rows(MESSAGE) == []


async def test_forbidden_words_stop_a_draft_and_an_issue(database_url: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("# 不得出现\n谣言\n", encoding="utf-8")
    data = tmp_path / "data"
    async with bench(database_url, data) as node:
        person = await node.person(demo_number(1))
        request = meeting(kind=NoticeKind.BULLETIN, text_zh="谣 言", recipients=Recipients(persons=[person]))
        key = (await node.ask(request, node.accounts["duty"])).id or ""
        accounts = node.accounts
    async with bench(database_url, data, seed=False, forbidden_words=str(words)) as node:
        with pytest.raises(Rejected) as refused:
            await node.ask(request, accounts["duty"])
        assert refused.value.code == "notice.forbidden_words"
        assert refused.value.details["words"] == [{"language": "zh", "word": "谣言", "start": 0, "end": 3}]
        with pytest.raises(Rejected, match=r"notice\.forbidden_words"):
            await node.ask(ReviewNotice(id=key, version=1, passed=True), accounts["reviewer"])


async def test_a_preview_counts_and_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        chinese, english = await node.person(demo_number(1)), await node.person(demo_number(2), language="en")
        nowhere = await node.person()
        position = node.node.log.position
        request = meeting(
            text_zh="中" * 71, kind=NoticeKind.BULLETIN, recipients=Recipients(persons=[chinese, english, nowhere])
        )
        found = await node.node.store.read(
            lambda connection: preview(
                node.sms.rows(connection),
                request,
                node.organisation,
                node.clock.now(),
                forbidden=read_words("中中\nmeeting"),
                rate_parts_per_s=2.0,
            )
        )
        assert (found.recipients, found.parts, found.parts_each_max, found.duration_s) == (2, 3, 2, 2)
        assert found.encodings == ["UCS-2", "GSM-7"] and found.unreachable == [nowhere] and found.needs_review
        assert {word.word for word in found.forbidden} == {"中中", "meeting"}
        assert node.node.log.position == position


async def test_a_template_is_filled_in_both_languages(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        person = await node.person(demo_number(1), language="en")
        template = SaveTemplate(
            name="会议",
            organisation=node.organisation,
            text_zh="{time}开会",
            text_en="Meeting at {time}",
            urgency=Urgency.EMERGENCY,
        )
        key = (await node.ask(template)).id
        wanted = {"text_zh": "", "text_en": "", "template": key, "recipients": Recipients(persons=[person])}
        with pytest.raises(Rejected, match=r"sms\.values_missing"):
            await node.ask(meeting(**wanted), node.accounts["duty"])
        await node.ask(meeting(**wanted, values={"time": "15:00"}), node.accounts["duty"])
        [message] = await node.until(MESSAGE, bool)
        assert (message.text, message.urgency) == ("Meeting at 15:00", Urgency.EMERGENCY)


async def test_a_notice_needs_recipients_a_text_and_the_right(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        duty, reviewer = node.accounts["duty"], node.accounts["reviewer"]
        person = await node.person(demo_number(1))
        somebody = Recipients(persons=[person])
        with pytest.raises(Rejected, match=r"notice\.nobody"):
            await node.ask(meeting(), duty)
        with pytest.raises(Rejected, match=r"notice\.empty"):
            await node.ask(meeting(text_zh=" ", text_en="", recipients=somebody), duty)
        with pytest.raises(Rejected, match=r"sms\.text_too_long"):
            await node.ask(meeting(text_zh="中" * 1601, recipients=somebody), duty)
        with pytest.raises(Missing):
            await node.ask(meeting(recipients=Recipients(groups=["nobody"])), duty)
        with pytest.raises(Denied):
            await node.ask(meeting(recipients=somebody), reviewer)


async def test_a_cancelled_notice_takes_back_what_has_not_left(database_url: str, tmp_path: Path) -> None:
    # Nothing listens on port 1 (tcpmux), so every message stays in the queue and is tried again.
    async with bench(database_url, tmp_path, **twilio_settings("http://127.0.0.1:1")) as node:
        persons = [await node.person(f"+861540000000{index}") for index in range(3)]
        made = await node.ask(meeting(recipients=Recipients(persons=persons)), node.accounts["duty"])
        await node.until(MESSAGE, lambda rows: len(rows) == 3 and any(row.tries for row in rows))
        await node.ask(CancelNotice(id=made.id or "", version=1), node.accounts["duty"])
        await node.until(MESSAGE, lambda rows: all(row.state is State.CANCELLED for row in rows))
        [notice] = await node.until(NOTICE, lambda rows: rows[0].counts.cancelled == 3)
        assert notice.state is NoticeState.CANCELLED
        with pytest.raises(Conflict, match=r"notice\.over"):
            await node.ask(CancelNotice(id=notice.id, version=notice.version), node.accounts["duty"])


def test_whoever_may_read_a_notice_may_read_its_persons() -> None:
    for role in Role:
        assert RIGHTS["notice.read"].get(role, Relation.NONE) <= RIGHTS["person.read"].get(role, Relation.NONE)
