"""What is forgotten of messages, and what never is."""

from pathlib import Path

from command.domain.notice import NOTICE, NoticeState
from sms.gateway import Refused, Uncertain
from sms.message import State
from sms.outbox import MESSAGE
from sms.retention import Retention
from tests.sms.test_worker import NUMBER, Scripted, all_are, notify, scripted

DAY_S = 24 * 3600


async def test_only_messages_of_a_notice_that_is_over_are_forgotten_and_the_notice_stays(
    database_url: str, tmp_path: Path
) -> None:
    gateway = Scripted()
    gateway.answers = [Refused("x.refused"), Uncertain("x.silent")]
    async with scripted(database_url, tmp_path, gateway) as node:
        over = await notify(node, NUMBER)
        await node.until(MESSAGE, all_are(State.FAILED))
        await node.until(NOTICE, all_finished)
        doubtful = await notify(node, "+8615400000002")
        await node.until(MESSAGE, lambda rows: any(row.state is State.UNKNOWN for row in rows))
        position = node.node.log.position
        retention = Retention(node.node.store, node.node.log, node.clock, 30)
        node.clock.advance(29 * DAY_S)
        await retention.prune()
        assert len(await node.rows(MESSAGE)) == 2 and node.node.log.position == position
        node.clock.advance(2 * DAY_S)
        await Retention(node.node.store, node.node.log, node.clock, 0).prune()
        assert len(await node.rows(MESSAGE)) == 2
        await retention.prune()
        assert [row.notice for row in await node.rows(MESSAGE)] == [doubtful]
        notice = await node.get(NOTICE, over)
        assert notice.state is NoticeState.FINISHED and notice.counts.failed == 1


def all_finished(rows: list[object]) -> bool:
    return bool(rows) and all(getattr(row, "state", None) is NoticeState.FINISHED for row in rows)
