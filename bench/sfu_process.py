"""Server processes of the SFU bench: started pinned to one core, their CPU time read, ended by pid.

Never kills by name. Invariant: `cpu_ns()` covers all threads of all given processes, from
/proc/PID/task/*/schedstat (time on the CPU in nanoseconds, soft interrupts in its context included).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

STOP_S = 5.0


@cache
def cores() -> tuple[int, int]:
    """(server core, client core): different ones where this process may use two.

    As it was when this was asked first: a client that has pinned itself may use one only.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def start(command: list[str], core: int | None, log: Path, **more: object) -> subprocess.Popen[bytes]:
    """Start `command` pinned to `core`; both output streams go to the file `log`."""
    pinned = command if core is None else ["taskset", "-c", str(core), *command]
    with log.open("ab") as out:
        options: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **more}
        return subprocess.Popen(pinned, **options)  # type: ignore[call-overload,no-any-return]


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL after STOP_S seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split() if int(child) not in found]
            except OSError:
                continue
    return found


def pin(pid: int, core: int) -> None:
    """Pin all threads of a process that runs already."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), {core})
        except ProcessLookupError:
            continue


class Meter:
    """CPU time of some processes; a thread that ends keeps the time it had when last read."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._tasks: dict[str, int] = {}

    def cpu_ns(self) -> int:
        """CPU nanoseconds of all threads since they began."""
        for pid in self._pids:
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    self._tasks[str(path)] = int(path.read_text().split()[0])
                except (OSError, IndexError):
                    continue
        return sum(self._tasks.values())


def idle_ns(core: int) -> int:
    """Nanoseconds in which this core had nothing to do (unit 10 ms).

    A kernel that stops its tick when idle takes this time by the clock; what was busy it only samples at each tick, which
    bursts may be in step with.
    """
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            return (int(values[3]) + int(values[4])) * tick_ns
    return 0


def memory_kb(pid: int) -> int:
    """Resident memory of one process in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def wait_for(what: str, ready: object, timeout_s: float = 10.0) -> None:
    """Poll `ready()` (the start of a foreign process has no better signal); raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if callable(ready) and ready():
            return
        time.sleep(0.05)
    raise TimeoutError(f"{what} was not ready in {timeout_s:.0f} s")
