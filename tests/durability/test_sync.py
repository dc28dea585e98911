"""No acknowledgement leaves before its commit is on the disk: watched from outside, call by call (strace).

kill -9 can't show this: the kernel writes what a killed process left, a power cut doesn't. For every acknowledged request:
its own words are found in a write to SQLite's WAL; after that write has ended an fdatasync of the WAL begins and ends well;
only then the bytes of its HTTP answer leave.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.durability.test_crash import client, prepared
from tests.services import ServerProcess, program

REQUESTS = 40
SYNCS = ("fdatasync", "fsync")
CALLS = "fdatasync,fsync,sendto,sendmsg,write,writev,pwrite64,pwritev"
STRING_OCTETS = 4_200
"""More than a page of SQLite and its frame's header."""

_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*?)(?P<end>\) += (?P<result>-?\d+).*| <unfinished \.\.\.>)$")
_RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>.*\) += (?P<result>-?\d+)")


@dataclass
class Call:
    """One system call; `begun` and `ended` are line numbers of the trace, which strace writes in order."""

    name: str
    arguments: str
    begun: int
    ended: int = -1
    result: int = -1


def calls(trace: str) -> Iterator[Call]:
    """All calls that ended, by their beginning."""
    found: list[Call] = []
    running: dict[str, Call] = {}
    for number, line in enumerate(trace.splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        pid, rest = match["pid"], match["rest"]
        if (resumed := _RESUMED.match(rest)) is not None and pid in running:
            call = running.pop(pid)
            call.ended, call.result = number, int(resumed["result"])
        elif (begun := _CALL.match(rest)) is not None:
            call = Call(begun["name"], begun["arguments"], number)
            found.append(call)
            if begun["result"] is None:
                running[pid] = call
            else:
                call.ended, call.result = number, int(begun["result"])
    return iter(call for call in found if call.ended >= 0)


def test_the_reader_of_traces_knows_calls_that_were_interrupted() -> None:
    trace = "\n".join(
        [
            '7 pwrite64(5</x-wal>, "ab", 2, 0 <unfinished ...>',
            '8 write(9<TCP:[1]>, "HTTP/1.1 201 Created", 20) = 20',
            "7 <... pwrite64 resumed>)           = 2",
            "7 fdatasync(5</x-wal>)              = 0",
            "9 +++ killed by SIGKILL +++",
        ]
    )
    assert [(call.name, call.begun, call.ended, call.result) for call in calls(trace)] == [
        ("pwrite64", 0, 2, 2),
        ("write", 1, 1, 20),
        ("fdatasync", 3, 3, 0),
    ]


def _finished(trace: Path) -> None:
    """strace is a foreign process that nobody can wait for: it has written everything when its tracee's end stands there."""
    deadline = time.monotonic() + 10
    while not trace.read_text(errors="replace").rstrip().endswith("+++ exited with 0 +++"):
        assert time.monotonic() < deadline, "strace did not end"
        time.sleep(0.02)


async def test_no_answer_leaves_before_an_fdatasync_that_began_after_its_commit(
    tmp_path: Path, launch_server: Callable[..., ServerProcess]
) -> None:
    strace = program("strace")
    data, url, trace = tmp_path / "node", f"sqlite:///{tmp_path}/fenghuo.db", tmp_path / "trace"
    load = await prepared(url, data)
    server = launch_server(
        data=data,
        database_url=url,
        mode="serve",
        environment={"FENGHUO_TOTP_REQUIRED": "false"},
        command_prefix=(strace, "-D", "-f", "-y", "-e", f"trace={CALLS}", "-s", str(STRING_OCTETS), "-o", str(trace)),
    )
    await asyncio.to_thread(server.start)
    words = [f"marker-{number:04d}-" * 3 for number in range(REQUESTS)]
    ids: list[str] = []
    async with client(server.base_url) as http:
        for number, word in enumerate(words):
            path, headers = (
                f"incidents/{load.incident}/notes",
                {"Idempotency-Key": word, "X-Request-Id": f"watch{number}"},
            )
            async with http.post(path, json={"text": word}, headers=headers) as answer:
                assert answer.status == 201
                ids.append(answer.headers["X-Request-Id"])
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(_finished, trace)
    seen = list(calls(trace.read_text(errors="replace")))
    assert not unsynced(seen, words)
    # The same trace without its syncs, and one whose syncs all end after the answers, are found out.
    lax = [call for call in seen if call.name not in SYNCS]
    assert unsynced(lax, words) == words
    assert unsynced([*lax, *(replace(call, ended=10**9) for call in seen if call.name in SYNCS)], words) == words


def unsynced(seen: list[Call], words: list[str]) -> list[str]:
    """The requests whose answer left before a sync of the WAL that began after their commit was written."""
    wal = [call for call in seen if "-wal>" in call.arguments.split(",")[0]]
    writes = [call for call in wal if call.name.startswith("pwrite")]
    syncs = [call for call in wal if call.name in SYNCS and call.result == 0]
    answers = [call for call in seen if "HTTP/1.1 201" in call.arguments]
    found = []
    for number, word in enumerate(words):
        [sent] = [call for call in answers if f"X-Request-Id: watch{number}\\r" in call.arguments]
        piece = word[: len(word) // 3]
        own = [call for call in writes if piece in call.arguments and call.begun < sent.begun]
        assert own, f"{word}: the answer left before the entry was written"
        # The whole commit: every page that was written to the WAL before the answer.
        last = max(call.ended for call in writes if call.begun < sent.begun)
        if not any(last < call.begun and call.ended < sent.begun for call in syncs):
            found.append(word)
    return found
