"""Tasks with names and somebody who notices when they end. The only place where `create_task` stands.

Invariant: a task that dies of a bug is never silent: it is in the journal, and a vital one stops the node.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

journal = structlog.get_logger("supervise")
_tasks: set[asyncio.Task[Any]] = set()


def spawn(
    name: str, work: Coroutine[Any, Any, Any], *, vital: Callable[[str], None] | None = None
) -> asyncio.Task[Any]:
    """Run `work` as a task; `vital` is called with a reason when it ends by an exception."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _tasks.add(task)

    def ended(done: asyncio.Task[Any]) -> None:
        _tasks.discard(done)
        if done.cancelled() or done.exception() is None:
            return
        journal.error("task.died", task=name, exc_info=done.exception())
        if vital is not None:
            vital(f"{name} died: {done.exception()!r}")

    task.add_done_callback(ended)
    return task


async def forever(name: str, work: Callable[[], Coroutine[Any, Any, None]], *, pause_s: float = 1.0) -> None:
    """Run `work` again whenever it fails, after a pause; ends only by cancellation."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            journal.exception("task.failed", task=name)
        await asyncio.sleep(pause_s)


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they are gone."""
    alive = [task for task in tasks if task is not None and not task.done()]
    for task in alive:
        task.cancel()
    await asyncio.gather(*alive, return_exceptions=True)
