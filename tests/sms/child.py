"""A node in a process of its own that issues one notice to three people and waits to be killed (FENGHUO_CRASH_AT).

python -m tests.sms.child DATABASE DATA URGENCY NUMBER... [-- TWILIO_BASE_URL]
"""

import asyncio
import sys
from pathlib import Path

from command.base.schema import Urgency
from command.domain.notice import NoticeKind, Recipients
from sms.broadcast import DraftNotice
from tests.sms.node import bench, twilio_settings


async def main(database: str, data: str, urgency: str, *rest: str) -> None:
    numbers, outside = list(rest), ""
    if "--" in rest:
        outside = rest[-1]
        numbers = list(rest[: rest.index("--")])
    settings = twilio_settings(outside) if outside else {}
    async with bench(database, Path(data), **settings) as node:
        persons = [await node.person(number) for number in numbers]
        request = DraftNotice(
            kind=NoticeKind.CALL_OUT,
            text_zh="请集合",
            recipients=Recipients(persons=persons),
            urgency=Urgency(urgency),
            organisation=node.organisation,
        )
        await node.ask(request)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
