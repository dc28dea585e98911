"""The command process's end of the zygote: has workers forked, and hears when they end.

Never touches media packets and never imports aiortc. Invariant: a zygote that died is started again at the next fork; the
workers it had forked live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections import deque
from pathlib import Path

from command.base.errors import Unavailable
from command.base.supervise import spawn

LAUNCH_TIMEOUT_S = 60.0  # it imports everything a worker needs; a machine that starts may have much else to do
FORK_TIMEOUT_S = 15.0
END_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 3.0
MESSAGE_BYTES_MAX = 256
ROOT = Path(__file__).resolve().parent.parent


class Nursery:
    """One zygote and its workers; several `MediaWorker`s may share it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._launching = asyncio.Lock()
        self._forks: deque[asyncio.Future[int]] = deque()
        self._ends: dict[int, asyncio.Future[int | None]] = {}

    async def fork(self, control: socket.socket) -> int:
        """The pid of a new worker that serves `control` (which the caller closes); raises `Unavailable`.

        A zygote that has just died, perhaps with the worker that is to be replaced, is itself replaced first.
        """
        try:
            return await self._fork(control)
        except BrokenPipeError:
            self._gone()
        with contextlib.suppress(BrokenPipeError):
            return await self._fork(control)
        raise Unavailable("media.zygote", "The media worker could not be started.") from None

    async def _fork(self, control: socket.socket) -> int:
        """As `fork()`; raises BrokenPipeError if the zygote is gone."""
        async with self._launching:
            if self._channel is None:
                await self._launch()
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LAUNCH_TIMEOUT_S):
                await self._ready.wait()
            async with asyncio.timeout(FORK_TIMEOUT_S):
                channel = self._channel
                if channel is None:
                    raise ConnectionError
                self._forks.append(forked)
                socket.send_fds(channel, [b'{"fork": true}'], [control.fileno()])
                return await forked
        except BrokenPipeError:
            if forked in self._forks:
                self._forks.remove(forked)
            raise
        except (TimeoutError, OSError):
            raise Unavailable("media.zygote", "The media worker could not be started.") from None

    async def ended(self, pid: int) -> int | None:
        """Wait until worker `pid` has ended and was reaped; its exit code (negative: the signal).

        None if that can't be known, because the zygote itself is gone.
        """
        end = self._ends.get(pid)
        if end is None:
            return None
        code = await asyncio.shield(end)
        self._ends.pop(pid, None)
        return code

    async def end(self, pid: int) -> int | None:
        """As `ended()`, with SIGKILL for a worker that doesn't end in `END_TIMEOUT_S`."""
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                return await self.ended(pid)
        except TimeoutError:
            self.kill(pid)
        return await self.ended(pid)

    def kill(self, pid: int) -> None:
        """SIGKILL for a worker; nothing if it has ended.

        Without a zygote the caller must know that it lives (its control channel is open): then the pid is still its own.
        """
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(json.dumps({"kill": pid}).encode())
                return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the zygote; the caller has ended the workers. Idempotent."""
        self._gone()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    # -- inside --

    async def _launch(self) -> None:
        self._ready.clear()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(ROOT)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "media.worker", "--zygote-fd", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                cwd=root,
                env={**os.environ, "PYTHONPATH": root},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent; it tells us in good order
            )
        except OSError as error:
            ours.close()
            raise Unavailable("media.zygote", f"The media worker could not be started: {error.strerror}.") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        self._reading = spawn("media zygote", self._read(ours, self._process))

    async def _read(self, channel: socket.socket, process: asyncio.subprocess.Process) -> None:
        """Deliver what the zygote says until it is gone."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while data := await loop.sock_recv(channel, MESSAGE_BYTES_MAX):
                    self._heard(json.loads(data))
        finally:  # also when the whole loop is being torn down: whoever waits for a worker's end must not wait for ever
            if self._channel is channel:
                self._reading = None
                self._gone()  # at once: a fork that is asked for meanwhile must not go to the dead
        await process.wait()

    def _heard(self, message: dict[str, int]) -> None:
        if "ready" in message:
            self._ready.set()
        elif "pid" in message:
            self._ends[message["pid"]] = asyncio.get_running_loop().create_future()
            forked = self._forks.popleft()
            if forked.done():  # nobody waits for it any more
                self.kill(message["pid"])
            else:
                forked.set_result(message["pid"])
        elif "ended" in message:
            end = self._ends.get(message["ended"])
            if end is not None and not end.done():
                end.set_result(message["code"])

    def _gone(self) -> None:
        """The zygote has ended, or is to end."""
        self._ready.set()  # whoever waits finds no channel
        channel, self._channel = self._channel, None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if channel is not None:
            channel.close()
        for forked in self._forks:
            if not forked.done():
                forked.set_exception(ConnectionError())
        self._forks.clear()
        for end in self._ends.values():
            if not end.done():
                end.set_result(None)
