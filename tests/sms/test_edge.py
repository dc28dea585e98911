"""Messages over HTTP: the pages of notices, the local phones, the live feed, and Twilio's callbacks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command.base.rights import Role
from command.domain.notice import NOTICE, NoticeKind, NoticeState, Recipients
from command.domain.order import ORDER, Progress
from sms.api import CALLBACK_BYTES_MAX
from sms.broadcast import DraftNotice
from sms.inbox import INBOUND, PHONE_TEXT, Meaning
from sms.message import State
from sms.numbers import demo_number
from sms.outbox import MESSAGE
from sms.twilio import INBOUND_PATH, STATUS_PATH
from tests.services import free_port
from tests.sms.node import Bench, bench, twilio_settings
from tests.sms.twilio_double import TwilioDouble

REAL = "+8615400000001"


@pytest.fixture
async def double() -> AsyncIterator[TwilioDouble]:
    made = TwilioDouble()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def twilio(database_url: str, tmp_path: Path, double: TwilioDouble) -> AsyncIterator[Bench]:
    port = free_port()
    settings = twilio_settings(double.base_url, f"http://127.0.0.1:{port}")
    async with bench(database_url, tmp_path, port=port, **settings) as node:
        yield node


async def test_twilio_carries_an_order_its_receipts_in_any_order_and_its_answer(
    twilio: Bench, double: TwilioDouble
) -> None:
    person = await twilio.person(REAL)
    order = await twilio.order(await twilio.incident(), person)
    [message] = await twilio.until(MESSAGE, lambda rows: bool(rows) and rows[0].state is State.SENT)
    [sid] = double.accepted
    assert double.posts[0]["To"] == REAL and message.gateway_id == sid
    assert await double.callbacks(sid, ["delivered", "sent", "queued"]) == [204, 204, 204]
    assert (await twilio.get(MESSAGE, message.id)).state is State.DELIVERED
    assert (await twilio.get(ORDER, order)).progress is Progress.DELIVERED
    url = twilio.url + INBOUND_PATH
    assert (await double.inbound(url, REAL, "1", sid="SMin1"))[0] == 200
    assert (await double.inbound(url, REAL, "1", sid="SMin1"))[0] == 200  # told twice, written once
    row = await twilio.get(ORDER, order)
    assert (row.progress, row.answered_by) == (Progress.ACCEPTED, person)
    assert len(await twilio.rows(INBOUND)) == 1 and len(double.posts) == 1


async def test_a_callback_without_the_right_signature_changes_nothing(twilio: Bench, double: TwilioDouble) -> None:
    await twilio.order(await twilio.incident(), await twilio.person(REAL))
    [message] = await twilio.until(MESSAGE, lambda rows: bool(rows) and rows[0].state is State.SENT)
    [sid] = double.accepted
    assert await double.callback(sid, "delivered", token="another") == 403
    async with twilio.client("duty") as http:  # a session is no signature
        path = f"{twilio.url}{STATUS_PATH}{message.id}"
        assert (await http.post(path, data={"MessageSid": sid})).status == 403
        assert (await http.post(path, data="x" * (CALLBACK_BYTES_MAX + 1))).status == 422
        assert (await http.post(path, json={})).status == 422
    assert (await twilio.get(MESSAGE, message.id)).state is State.SENT


async def test_a_drill_leaves_nothing_to_the_real_gateway(twilio: Bench, double: TwilioDouble) -> None:
    person = await twilio.person(REAL)
    await twilio.order(await twilio.incident(exercise=True), person)
    request = DraftNotice(
        kind=NoticeKind.CALL_OUT,
        text_zh="请集合",
        recipients=Recipients(persons=[person]),
        organisation=twilio.organisation,
        exercise=True,
    )
    await twilio.ask(request)
    await twilio.until(NOTICE, lambda rows: len(rows) == 2 and all(row.state is NoticeState.FINISHED for row in rows))
    assert double.posts == []
    texts = [row.text for row in await twilio.rows(PHONE_TEXT, number=REAL)]
    assert len(texts) == 2 and all(text.startswith("【演习】") for text in texts)


async def test_numbers_of_nobody_stay_on_this_node(twilio: Bench, double: TwilioDouble) -> None:
    await twilio.order(await twilio.incident(), await twilio.person(demo_number(5)))
    await twilio.until(MESSAGE, lambda rows: bool(rows) and rows[0].state is State.DELIVERED)
    assert double.posts == [] and len(await twilio.rows(PHONE_TEXT)) == 1


async def test_two_open_orders_are_told_apart_by_their_letters(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node, node.client("duty") as http:
        number = demo_number(8)
        person, incident = await node.person(number), await node.incident()
        first = await node.order(incident, person, "甲")
        await node.until(PHONE_TEXT, lambda rows: len(rows) == 1)
        second = await node.order(incident, person, "乙")
        await node.until(PHONE_TEXT, lambda rows: len(rows) == 2)
        texts = {row.text for row in await node.rows(PHONE_TEXT)}
        assert texts == {"【应急命令】甲 回复1确认", "【应急命令】乙 回复1B确认"}

        async def answer(text: str, key: str) -> str:
            body = {"text": text}
            async with http.post(f"phones/{number}/answer", json=body, headers={"Idempotency-Key": key}) as reply:
                assert reply.status == 200, await reply.text()
                return str((await reply.json())["reply"])

        assert await answer("1", "k1") == "请注明是哪一项，回复：1A 甲；1B 乙"
        assert await answer("1", "k1") == "请注明是哪一项，回复：1A 甲；1B 乙"
        assert await answer("2b", "k2") == ""
        assert await answer("收到", "k3") == ""
        assert (await node.get(ORDER, first)).progress is Progress.ACCEPTED
        assert (await node.get(ORDER, second)).progress is Progress.DECLINED
        inbox = await (await http.get(f"phones/{number}/texts")).json()
        assert [row["text"] for row in inbox["items"] if row["answer"]] == ["1", "2b", "收到"]
        [phone] = (await (await http.get("phones")).json())["items"]
        assert (phone["number"], phone["persons"], phone["texts"]) == (number, [person], 6)


async def test_free_text_waits_on_its_notice_for_a_person_to_read(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node, node.client("duty") as http:
        number, incident = demo_number(9), await node.incident()
        await node.order(incident, await node.person(number))
        await node.until(MESSAGE, lambda rows: bool(rows) and rows[0].state is State.DELIVERED)
        await node.sms.local.answer(number, "路断了，绕行", "a1")
        await node.sms.local.answer(demo_number(99), "你是谁", "a2")
        [notice] = (await (await http.get("notices")).json())["items"]
        [text] = (await (await http.get(f"notices/{notice['id']}/answers")).json())["items"]
        assert (text["text"], text["meaning"], text["handled"]) == ("路断了，绕行", Meaning.UNREAD, False)
        timeline = (await (await http.get(f"incidents/{incident}/timeline")).json())["items"]
        [said] = [item for item in timeline if item["kind"] == "message.answered"]
        assert said["private"] == {"text": "路断了，绕行"} and "路断" not in str(said["body"])
        done = await http.post(f"inbound/{text['id']}/handle", headers={"Idempotency-Key": "h"})
        assert done.status == 200 and (await node.get(INBOUND, text["id"])).handled
        strangers = await node.rows(INBOUND, notice=None)
        assert [(row.text, row.organisation) for row in strangers] == [("你是谁", node.organisation)]


async def test_the_pages_of_notices_are_for_those_who_may_read_them(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        node.accounts["viewer"] = await node.account("viewer", Role.VIEWER)
        persons = [await node.person(demo_number(index)) for index in range(3)]
        async with node.client("duty") as http, node.client("viewer") as viewer:
            body = {"kind": "meeting", "text_zh": "开会", "recipients": {"persons": persons}}
            seen = await (await http.post("notices/preview", json=body)).json()
            assert (seen["recipients"], seen["parts"], seen["duration_s"]) == (3, 3, None)
            made = await http.post("notices", json=body, headers={"Idempotency-Key": "n"})
            assert made.status == 201
            key = (await made.json())["id"]
            await node.until(MESSAGE, lambda rows: sum(row.state is State.DELIVERED for row in rows) == 3)
            page = await (await http.get(f"notices/{key}/messages?limit=2")).json()
            assert len(page["items"]) == 2 and page["items"][0]["number"].startswith("+44")
            rest = await (await http.get(f"notices/{key}/messages?limit=2&after={page['next']}")).json()
            assert len(rest["items"]) == 1 and rest["next"] is None
            assert (await (await http.get("messages/unsettled")).json())["items"] == []
            assert (await http.get("notices/none/messages")).status == 404
            for path in ("notices", f"notices/{key}/messages", "messages/unsettled", "phones"):
                assert (await viewer.get(path)).status == 403
            assert (await viewer.post("notices/preview", json=body)).status == 403


async def test_the_live_feed_brings_messages_and_phones(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node, node.client("duty") as http:
        request = DraftNotice(
            kind=NoticeKind.MEETING,
            text_zh="开会",
            recipients=Recipients(persons=[await node.person(demo_number(1))]),
            organisation=node.organisation,
        )
        key = (await node.ask(request)).id
        await node.until(MESSAGE, lambda rows: bool(rows) and rows[0].state is State.DELIVERED)
        async with http.ws_connect("live") as socket:
            for topic, table in (
                (f"notice/{key}", "message"),
                ("notices", "notice"),
                ("phones", "phone_text"),
                ("unsettled", "message"),
            ):
                await socket.send_json({"type": "subscribe", "topic": topic})
                answer = await socket.receive_json()
                while answer["type"] != "snapshot":
                    answer = await socket.receive_json()
                assert answer["topic"] == topic and len(answer["tables"][table]) == (topic != "unsettled")
            await socket.send_json({"type": "subscribe", "topic": "notice/none"})
            assert (await socket.receive_json())["code"] == "live.topic"
