"""From an order to its answer, through the real log and the local phones."""

from pathlib import Path

from command.domain.notice import NOTICE, NoticeState
from command.domain.order import ORDER, Progress
from sms.inbox import INBOUND, PHONE_TEXT, Meaning
from sms.message import State
from sms.numbers import demo_number
from sms.outbox import MESSAGE
from tests.sms.node import bench

NUMBER = demo_number(7)


async def test_an_order_reaches_a_local_phone_and_a_1_accepts_it(database_url: str, tmp_path: Path) -> None:
    async with bench(database_url, tmp_path) as node:
        person = await node.person(NUMBER)
        order = await node.order(await node.incident(), person)
        await node.until(ORDER, lambda rows: rows[0].progress is Progress.DELIVERED)
        texts = await node.rows(PHONE_TEXT, number=NUMBER)
        assert [text.text for text in texts] == ["【应急命令】到场增援 回复1确认"]
        assert await node.sms.local.answer(NUMBER, "１", "a1") == ""
        row = await node.get(ORDER, order)
        assert (row.progress, row.answered_by) == (Progress.ACCEPTED, person)
        [message] = await node.rows(MESSAGE)
        assert (message.state, message.answered, message.real) == (State.DELIVERED, True, False)
        [inbound] = await node.rows(INBOUND)
        assert (inbound.meaning, inbound.person, inbound.handled) == (Meaning.ACCEPTED, person, True)
        [notice] = await node.until(
            NOTICE, lambda rows: rows[0].state is NoticeState.FINISHED and rows[0].counts.answered
        )
        assert (notice.counts.total, notice.counts.delivered, notice.counts.answered) == (1, 1, 1)
