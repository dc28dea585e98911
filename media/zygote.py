"""The process that workers are forked from: it has imported everything once, so that a new worker is there in milliseconds.

Runs before any event loop or thread exists. Never serves media and never reads what a worker is told. Invariant: it lives no
longer than its channel; a worker is reported as ended only after it was reaped.

On the channel (SOCK_SEQPACKET), one JSON object a message. From the parent: `{"fork": true}` with the descriptor of the
worker's control channel, `{"kill": pid}`. To the parent: `{"ready": true}`, `{"pid": pid}` in the order of the forks,
`{"ended": pid, "code": code}` (negative: the signal).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
from typing import Any

MESSAGE_BYTES_MAX = 256


class Zygote:
    """Forks workers on demand. The caller must not have started a thread or a loop."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: set[int] = set()
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)

    def run(self) -> int | None:
        """Serve until the channel ends. In a forked worker: return its control descriptor; in the zygote itself: None."""
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        gc.freeze()  # what is shared with the workers stays shared
        self._say(ready=True)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._reap()
                        continue
                    try:
                        data, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES_MAX, 1)
                    except ConnectionResetError:
                        return None
                    if not data:
                        return None
                    asked = json.loads(data)
                    if "kill" in asked and asked["kill"] in self._children:
                        os.kill(asked["kill"], signal.SIGKILL)
                    elif "fork" in asked and self._fork(descriptors[0]):
                        selector.close()
                        return descriptors[0]

    def _fork(self, control: int) -> bool:
        """True in the child, which has left everything of ours behind."""
        pid = os.fork()
        if pid:
            os.close(control)
            self._children.add(pid)
            self._say(pid=pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._channel, self._waking, self._woken):
            one.close()
        return True

    def _reap(self) -> None:
        self._woken.recv(4096)
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._children.discard(pid)
                self._say(ended=pid, code=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the parent is gone: reading tells, and ends us
            self._channel.send(json.dumps(message).encode())
