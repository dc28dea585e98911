"""A node whose lives end by kill -9 at named steps, each in a process forked from one that has imported everything: several
deaths for the price of one start. `python -m tests.tree.lives DATA PORT PARENT INCIDENT STEP...`

Prints "noted" for each note that was acknowledged and "died STATUS" after each life. The last one, without a step, says "living
PID", writes nothing and serves until SIGTERM.
"""

import asyncio
import os
import signal
import sys

import server
from command.base import failpoint
from command.base.config import load
from command.base.entry import By
from command.domain.incident import AddNote
from command.service import Service

NOTES_MAX = 200
"""Of one life: a step that is never reached ends it alive."""
PAUSE_S, PAUSE_S_MAX = 0.02, 0.5
"""Between two notes: short at first, then long, so that a slow machine has time to get there."""


async def _live(data: str, port: int, parent: str, incident: str, step: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = load({}, None, data=data, port=port, parent=parent, totp_required=False, log_level="error")
    service = Service(config, server.house(config))
    await service.start()
    if step:
        failpoint._left[step] = 1  # as FENGHUO_CRASH_AT asks for, read once at import
    for number in range(NOTES_MAX if step else 0):
        await service.node.log.append(AddNote(id=incident, text=f"{step} {number}"), By(account="node"))
        print("noted", flush=True)
        await asyncio.sleep(min(PAUSE_S * (number + 1), PAUSE_S_MAX))
    if not step:
        print("living", os.getpid(), flush=True)
        await stop.wait()
    await service.stop()


def main(data: str, port: str, parent: str, incident: str, *steps: str) -> None:
    for step in (*steps, ""):
        life = os.fork()
        if life == 0:
            asyncio.run(_live(data, int(port), parent, incident, step))
            os._exit(0)
        print("died", os.waitstatus_to_exitcode(os.waitpid(life, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
