"""The node under soak: the whole house in a process of its own, asked over its standard input how it is.

Not part of the product. Never a client. One JSON line in, one out: `{"look": true}` gives tasks, descriptors and memory;
`{"open": title}` a new room; `{"close": room}` ends one; `{"crash": signal}` goes to the media worker.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import structlog

from bench.sfu_process import memory_kb
from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.meeting import CloseRoom, OpenRoom
from command.domain.registry import ACCOUNT
from command.edge.api import Node
from command.edge.requests import configure
from command.service import Service
from media.api import Media
from tests.node import NODE, service, world

BUGS = ("request.bug", "task.died", "http.trouble")
"""What the journal says only of mistakes of ours."""


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class House:
    """The service and the accounts of its guests."""

    def __init__(self, running: Service, guests: int, bugs: Counter[str]) -> None:
        self.running = running
        self.node: Node = running.node
        self.guests = guests
        self.chair = self.county = ""
        self.bugs = bugs

    async def furnish(self) -> dict[str, Any]:
        """Accounts, as the first line tells them: where to go, and a token for each guest."""
        self.county = (await world(self.node)).county
        tokens = []
        for number in range(self.guests + 1):
            role = Role.VIEWER if number else Role.DUTY_OFFICER
            request = CreateAccount(
                name=f"guest-{number}",
                roles=[role],
                organisation=self.county,
                password_hash="x",
                must_change_password=False,
            )
            key = (await self.node.log.append(request, NODE)).id or ""
            self.chair = self.chair or key
            shelf = self.node.store.shelf(ACCOUNT)
            row = await self.node.store.read(lambda c, key=key, shelf=shelf: shelf.get(c, key))  # type: ignore[misc]
            token, _ = await self.node.auth.open(row, token=False)
            tokens.append(token)
        return {"port": self.running.port, "tokens": tokens[1:], "chair": tokens[0]}

    async def asked(self, order: dict[str, Any]) -> dict[str, Any]:
        if "open" in order:
            request = OpenRoom(incident=order["incident"], title=order["open"], chair=self.chair)
            return {"room": (await self.node.log.append(request, NODE)).id}
        if "close" in order:
            await self.node.log.append(CloseRoom(id=order["close"]), NODE)
            return {}
        if "crash" in order:
            worker = self._worker()
            if worker is not None and worker.pid is not None:
                os.kill(worker.pid, order["crash"])
            return {}
        return await self._look()

    def _worker(self) -> Any:
        part = self.node.parts["media"]
        assert isinstance(part, Media)
        return next(iter(part.conferences.crew.workers), None)

    async def _look(self) -> dict[str, Any]:
        gc.collect()
        own, worker = os.getpid(), self._worker()
        seen: dict[str, Any] = {
            "tasks": len(asyncio.all_tasks()),
            "descriptors": descriptors(own),
            "memory_kb": memory_kb(own),
            "objects": len(gc.get_objects()),
            "bugs": dict(self.bugs),
        }
        if worker is not None and worker.pid is not None:
            stats = await worker.stats()
            seen |= {"worker_descriptors": descriptors(worker.pid), "worker_memory_kb": memory_kb(worker.pid)}
            seen |= {"worker_peers": stats["peers"], "worker_rooms": stats["rooms"], "worker_streams": stats["streams"]}
        return seen


def keep_journal() -> Counter[str]:
    """Write the journal as a node does; the bugs in it are counted in the answer, as long as it lives."""
    bugs: Counter[str] = Counter()

    def count(_logger: Any, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if line["event"] in BUGS:
            bugs[line["event"]] += 1
        return line

    configure("warning")
    structlog.configure(processors=[count, *structlog.get_config()["processors"]])
    return bugs


async def serve(guests: int) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the journal is no answer
    bugs = keep_journal()
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    with tempfile.TemporaryDirectory(prefix="fenghuo-soak-") as folder:
        database = f"sqlite:///{folder}/fenghuo.db"
        async with service(database, Path(folder), listen=True, log_level="error") as running:
            house = House(running, guests, bugs)
            answers.write(json.dumps(await house.furnish()) + "\n")
            while line := await orders.readline():
                answers.write(json.dumps(await house.asked(json.loads(line))) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(int(sys.argv[1])))
