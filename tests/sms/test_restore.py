"""Restored from a backup while 500 messages were sent meanwhile: nothing is sent again without a person's word."""

from pathlib import Path

import pytest

from command.base.config import load
from command.base.errors import Conflict, Denied
from command.base.schema import Urgency
from command.domain.notice import NoticeKind, Recipients
from command.domain.registry_edits import SaveGroup
from command.log.backup import backup, restore
from sms.broadcast import DraftNotice
from sms.message import UNKNOWN_GRACE_S, Doubt, State
from sms.outbox import MESSAGE, Settlement, SettleMessage
from tests.sms.node import ShiftedClock, bench, house, twilio_settings
from tests.sms.twilio_double import TwilioDouble

COUNT = 500


async def test_a_restore_sends_none_of_500_messages_again(database_url: str, tmp_path: Path) -> None:
    double = TwilioDouble()
    await double.start()
    archive, first, second = tmp_path / "backup.tar", tmp_path / "first", tmp_path / "second"
    try:
        async with bench(database_url, first, **twilio_settings("http://127.0.0.1:1")) as node:
            persons = [await node.person(f"+861540000{index:04d}") for index in range(COUNT)]
            group = (await node.ask(SaveGroup(name="组", organisation=node.organisation, persons=persons))).id or ""
            request = DraftNotice(
                kind=NoticeKind.CALL_OUT,
                text_zh="请集合",
                recipients=Recipients(groups=[group]),
                urgency=Urgency.EMERGENCY,
                organisation=node.organisation,
            )
            await node.ask(request)
            await node.until(MESSAGE, lambda rows: len(rows) == COUNT)
            backup(node.node.store, first, archive, node.clock)
            accounts = node.accounts
        async with bench(database_url, first, seed=False, **twilio_settings(double.base_url)) as node:
            node.clock.advance(600)  # the tries that failed are due again
            await node.until(MESSAGE, lambda rows: all(row.state is State.SENT for row in rows))
        assert len(double.posts) == COUNT
        generations = set()
        for number in range(2):
            data = second / str(number)
            url = f"sqlite:///{data}/fenghuo.db"
            config = load({}, None, data=str(data), database=url)
            restore(archive, url, data, house(config).domain, ShiftedClock())
            async with bench(url, data, seed=False, **twilio_settings(double.base_url)) as node:
                generations.add(node.node.log.generation)
                rows = await node.rows(MESSAGE)
                assert {(row.state, row.doubt) for row in rows} == {(State.UNKNOWN, Doubt.RESTORE)}
                node.clock.advance(UNKNOWN_GRACE_S + 1)
                await node.sms.lanes[1]._step()
                assert await node.node.store.read(node.sms._doubtful) == []
                assert len(double.posts) == COUNT + number
                word = SettleMessage(id=rows[number].id, action=Settlement.RESEND)
                with pytest.raises(Denied):
                    await node.ask(word, accounts["reviewer"])
                await node.ask(word, accounts["duty"])
                await node.until(MESSAGE, lambda rows: any(row.copy > 1 and row.state is State.SENT for row in rows))
                assert double.posts[-1]["Body"].endswith("（可能重复）")
                with pytest.raises(Conflict):
                    await node.ask(word, accounts["duty"])
                left = rows[number + 1].id
                await node.ask(SettleMessage(id=left, action=Settlement.ABANDON), accounts["duty"])
                assert (await node.get(MESSAGE, left)).state is State.CANCELLED
        assert len(generations) == 2 and len(double.posts) == COUNT + 2
    finally:
        await double.stop()


async def test_a_notice_that_was_not_expanded_at_the_backup_waits_for_a_person_too(
    database_url: str, tmp_path: Path
) -> None:
    archive, first, second = tmp_path / "backup.tar", tmp_path / "first", tmp_path / "second"
    async with bench(database_url, first) as node:
        person = await node.person("+447700900001")
        await node.sms.stop()
        request = DraftNotice(
            kind=NoticeKind.CALL_OUT,
            text_zh="请集合",
            recipients=Recipients(persons=[person]),
            urgency=Urgency.EMERGENCY,
            organisation=node.organisation,
        )
        await node.ask(request)
        backup(node.node.store, first, archive, node.clock)
    url = f"sqlite:///{second}/fenghuo.db"
    restore(archive, url, second, house(load({}, None, data=str(second), database=url)).domain, ShiftedClock())
    async with bench(url, second, seed=False) as node:
        [message] = await node.until(MESSAGE, bool)
        assert (message.state, message.doubt) == (State.UNKNOWN, Doubt.RESTORE)
