"""The command process's end of the zygote, when its own tasks are taken away."""

import asyncio
import socket

from media.nursery import Nursery


async def test_nobody_waits_for_ever_when_every_task_is_cancelled() -> None:
    """As a loop does that is torn down in the middle of something."""
    nursery = Nursery()
    ours, theirs = socket.socketpair()
    pid = await nursery.fork(theirs)
    theirs.close()
    try:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        ours.close()
        async with asyncio.timeout(20):
            assert await nursery.end(pid) is None
    finally:
        await nursery.stop()
