"""kill -9 at the two named steps of a submit, with a real process: nothing is lost, nothing doubles silently."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command.domain.notice import NOTICE
from sms.inbox import PHONE_TEXT
from sms.message import UNKNOWN_GRACE_S, Doubt, State
from sms.numbers import demo_number
from sms.outbox import MESSAGE
from sms.template import DUPLICATE
from tests.sms.node import Bench, bench, twilio_settings
from tests.sms.twilio_double import TwilioDouble

STEPS = ("sms.submitting", "sms.submitted")
LOCAL = [demo_number(index) for index in range(3)]
REAL = [f"+861540000000{index}" for index in range(3)]
COPY_MARK = DUPLICATE["zh"]

pytestmark = pytest.mark.crash


@pytest.fixture
async def double() -> AsyncIterator[TwilioDouble]:
    made = TwilioDouble()
    await made.start()
    yield made
    await made.stop()


async def die(step: str, *arguments: str) -> None:
    """Run the child until it kills itself at `step`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sms.child", *arguments, env=os.environ | {"FENGHUO_CRASH_AT": step}
    )
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL


async def settled(node: Bench, count: int) -> None:
    """Let the grace of unknown emergencies pass; wait until `count` rows are there and none is on its way."""
    node.clock.advance(UNKNOWN_GRACE_S + 1)
    moving = (State.QUEUED, State.SUBMITTING)
    await node.until(MESSAGE, lambda rows: len(rows) == count and not any(row.state in moving for row in rows))


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_every_local_text_lands_once(database_url: str, tmp_path: Path, step: str) -> None:
    await die(step, database_url, str(tmp_path), "emergency", *LOCAL)
    async with bench(database_url, tmp_path, seed=False) as node:
        landed = {row.id for row in await node.rows(PHONE_TEXT)}
        # A landed text tells its receipt by itself; the others are unknown, and sent once more.
        await node.until(MESSAGE, lambda rows: all(row.state is State.DELIVERED for row in rows if row.id in landed))
        await settled(node, 3 + 3 - len(landed))
        await node.until(MESSAGE, lambda rows: sum(row.state is State.DELIVERED for row in rows) == 3)
        texts = Counter(row.number for row in await node.rows(PHONE_TEXT))
        assert texts == Counter(LOCAL)
        [notice] = await node.until(NOTICE, lambda rows: rows[0].counts.delivered == 3)
        assert (notice.counts.total, notice.counts.unknown) == (3, 0)


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_an_emergency_doubles_at_most_once_and_says_so(
    database_url: str, tmp_path: Path, double: TwilioDouble, step: str
) -> None:
    await die(step, database_url, str(tmp_path), "emergency", *REAL, "--", double.base_url)
    before = len(double.posts)
    async with bench(database_url, tmp_path, seed=False, **twilio_settings(double.base_url)) as node:
        unknown = [row for row in await node.rows(MESSAGE) if row.state is State.UNKNOWN]
        assert unknown and all(row.doubt is Doubt.CRASH for row in unknown)
        await settled(node, 3 + len(unknown))
        posts = Counter(post["To"] for post in double.posts)
        assert set(posts) == set(REAL) and max(posts.values()) <= 2
        doubtful = {row.number for row in unknown}
        for post in double.posts[before:]:
            assert post["Body"].endswith(COPY_MARK) == (post["To"] in doubtful)
        assert not any(post["Body"].endswith(COPY_MARK) for post in double.posts[:before])


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_crash_a_normal_message_never_doubles(
    database_url: str, tmp_path: Path, double: TwilioDouble, step: str
) -> None:
    await die(step, database_url, str(tmp_path), "normal", *REAL, "--", double.base_url)
    before = len(double.posts)
    async with bench(database_url, tmp_path, seed=False, **twilio_settings(double.base_url)) as node:
        await settled(node, 3)
        # What was queued at the crash is sent now; what was submitting waits for a person.
        unknown = {row.number for row in await node.rows(MESSAGE) if row.state is State.UNKNOWN}
        assert unknown
        assert not unknown & {post["To"] for post in double.posts[before:]}
        assert max(Counter(post["To"] for post in double.posts).values(), default=0) <= 1
