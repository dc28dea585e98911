"""kill -9 at each named step, under load: what was acknowledged is there once, what wasn't at most once, and a retry
under the same key makes it once.

kill -9 alone proves no durability (the kernel still writes), so `test_sync.py` watches the order of fdatasync and answer.
"""

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.verify import build
from command.base.clock import Clock
from command.base.failpoint import STEPS
from command.base.rights import Role
from command.base.schema import Category, Level, Place
from command.domain.account import CreateAccount, OpenSession
from command.domain.incident import ReportIncident
from sms.inbox import PHONE_TEXT
from sms.message import UNKNOWN_GRACE_S, State
from sms.outbox import MESSAGE
from sms.template import DUPLICATE
from tests.durability import state
from tests.node import NODE, node, service, world
from tests.services import NotStarted, ServerProcess
from tests.sms.node import Bench, ShiftedClock

REPEATS = int(os.environ.get("CRASH_REPEATS", "2"))
"""Kills at each step."""
CLIENTS = 24
ORDERS = 12
TOKEN = "token-of-the-crash-test"  # of a session in a database of the test's own
HOUR_US = 3_600_000_000
DIE_S = 30.0
READY_S = 3.0
READY_TRIES = 2
ENTRIES = 100_000

pytestmark = pytest.mark.crash


@dataclass
class Load:
    """What was asked of the server, by Idempotency-Key, and what it acknowledged."""

    incident: str
    person: str
    begun: int = 0
    asked: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    acknowledged: dict[str, dict[str, Any]] = field(default_factory=dict)

    def make(self) -> str:
        """A new request under a new key; its text is the key."""
        number = len(self.asked)
        key = f"k{number:06d}"
        # A few orders at the beginning of each run, then notes: a node that gets hundreds of orders a second resolves
        # their notices before it expands any.
        if number % 6 or number >= self.begun + 6 * ORDERS:
            self.asked[key] = (f"/incidents/{self.incident}/notes", {"text": key})
        else:
            order = {
                "incident": self.incident,
                "assignee": {"kind": "person", "id": self.person},
                "task": key,
                "urgency": "emergency" if number % 12 else "normal",
                "ladder": [{"after_s": 0, "means": "sms"}],
            }
            self.asked[key] = ("/orders", order)
        return key

    @property
    def open(self) -> list[str]:
        """Keys that nobody answered."""
        return [key for key in self.asked if key not in self.acknowledged]


async def prepared(url: str, data: Path) -> Load:
    """A node with an incident, somebody to order about, and a session for TOKEN."""
    async with node(url, data) as n:
        w = await world(n)
        report = ReportIncident(
            category=Category.ACCIDENT,
            level=Level.III,
            title="x",
            place=Place(lon=155.0, lat=32.0),
            organisation=w.county,
        )
        incident = (await n.log.append(report, NODE)).id or ""
        request = CreateAccount(
            name="duty",
            roles=[Role.DUTY_OFFICER],
            organisation=w.county,
            password_hash="x",
            must_change_password=False,
        )
        account = (await n.log.append(request, NODE)).id or ""
        session = OpenSession(
            id=hashlib.sha256(TOKEN.encode()).hexdigest(), account=account, expires_at=Clock().now() + HOUR_US
        )
        await n.log.append(session, NODE)
        return Load(incident, w.member)


def client(url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"{url}/api/v1/",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=aiohttp.ClientTimeout(total=DIE_S),
        connector=aiohttp.TCPConnector(limit=CLIENTS),
    )


async def send(http: aiohttp.ClientSession, load: Load, key: str) -> None:
    """Raises ClientError when the server died meanwhile; then nobody knows."""
    path, body = load.asked[key]
    async with http.post(path[1:], json=body, headers={"Idempotency-Key": key}) as answer:
        receipt = await answer.json()
    assert answer.status in (200, 201), (key, answer.status, receipt)
    before = load.acknowledged.setdefault(key, receipt)
    assert (before["id"], before["entries"]) == (receipt["id"], receipt["entries"]), key


async def until_death(server: ServerProcess, load: Load) -> None:
    """First the retries of what nobody answered and of some that were answered, then new requests without end."""
    assert server.process is not None
    load.begun = len(load.asked)
    again = load.open + random.Random(1).sample(sorted(load.acknowledged), min(20, len(load.acknowledged)))

    async def write(http: aiohttp.ClientSession) -> None:
        while True:
            await send(http, load, again.pop() if again else load.make())

    async with client(server.base_url) as http, asyncio.timeout(DIE_S):
        results = await asyncio.gather(*(write(http) for _ in range(CLIENTS)), return_exceptions=True)
        for result in results:
            if not isinstance(result, aiohttp.ClientError | ConnectionError):
                raise AssertionError("a client stopped for another reason than death") from result  # type: ignore[misc]
        status = await asyncio.to_thread(server.process.wait)
    assert status == -9, (status, server.log.read_text()[-2000:])


async def settle(url: str, load: Load) -> None:
    """Everything nobody answered, once more under its key."""
    async with client(url) as http:
        for key in load.open:
            await send(http, load, key)
    assert not load.open


def written(url: str, data: Path) -> tuple[Counter[str], set[str]]:
    """How often each key stands in the log, and the hashes of all entries."""
    found: Counter[str] = Counter()
    hashes: set[str] = set()
    with state.opened(url, data) as store, store.reader_engine.connect() as connection:
        for one in state.all_entries(connection):
            hashes.add(one.hash.hex())
            if one.entry.kind in ("incident.noted", "order.issued"):
                found[one.secrets.get("text") or one.secrets.get("task") or ""] += 1
    return found, hashes


def check(url: str, data: Path, load: Load, *, complete: bool = False) -> None:
    found, hashes = written(url, data)
    assert set(found) <= load.asked.keys()
    lost = [key for key in load.acknowledged if found[key] != 1]
    doubled = [key for key, count in found.items() if count > 1]
    assert not lost and not doubled, (lost, doubled)
    assert all(entry in hashes for receipt in load.acknowledged.values() for entry in receipt["entries"])
    report = state.verified(url, data, all_seals=complete)
    assert report.good, report.problems
    if complete:
        assert set(found) == load.asked.keys()


async def restarted(url: str, data: Path, load: Load) -> None:
    """Started once more, nothing stays open. Every order's text reached its phone; one that can have left before a crash
    came twice at most, marked, and only when it is an emergency. The clock stands a while later: no grace is left."""
    moving = (State.QUEUED, State.SUBMITTING, State.SENT)
    clock = ShiftedClock()
    async with service(url, data, clock=clock, listen=True) as running:
        await settle(f"http://127.0.0.1:{running.port}", load)
        clock.advance(UNKNOWN_GRACE_S + 1)
        bench = Bench(running, clock)

        given = sum("task" in body for _, body in load.asked.values())

        def at_rest(rows: list[Any]) -> bool:
            copied = {row.root or row.id for row in rows if row.state is State.DELIVERED}
            waiting = [row for row in rows if row.urgency == "emergency" and (row.root or row.id) not in copied]
            return (
                len({row.order for row in rows}) == given
                and not waiting
                and not any(row.state in moving for row in rows)
            )

        messages = {row.id: row for row in await bench.until(MESSAGE, at_rest)}
        texts = [row for row in await bench.rows(PHONE_TEXT) if not row.answer]
    orders = Counter(messages[text.id].order for text in texts)
    assert {row.order for row in messages.values() if row.urgency == "emergency"} <= orders.keys()
    for text in texts:
        message = messages[text.id]
        assert orders[message.order] <= (2 if message.urgency == "emergency" else 1), message
        assert text.text.endswith(DUPLICATE["zh"]) == (message.copy == 2), message
    normal = [row for row in messages.values() if row.urgency == "normal"]
    strange = [row for row in normal if row.state not in (State.DELIVERED, State.UNKNOWN) or row.copy > 1]
    assert not strange, [(row.state, row.code, row.copy) for row in strange]


def counts(step: str, repeat: int) -> int:
    """The how manieth time the step is reached; a message's steps come seldom."""
    chance = random.Random(f"{step}/{repeat}")
    if step.startswith("sms."):
        return chance.randrange(1, 4)
    return chance.randrange(150, 400) if step == "log.accepted" else chance.randrange(15, 60)


@pytest.mark.timeout(240 + 20 * REPEATS)
@pytest.mark.parametrize("step", STEPS)
async def test_killed_there_it_loses_nothing_and_doubles_nothing(
    step: str, database_url: str, tmp_path: Path, launch_server: Callable[..., ServerProcess]
) -> None:
    data = tmp_path / "node"
    load = await prepared(database_url, data)
    kills = 0
    for attempt in range(3 * REPEATS):
        if kills == REPEATS:
            break
        environment = {"FENGHUO_CRASH_AT": f"{step}:{counts(step, attempt)}", "FENGHUO_TOTP_REQUIRED": "false"}
        server = launch_server(data=data, mode="serve", environment=environment)
        before = len(load.acknowledged)
        try:
            await asyncio.to_thread(server.start)
            await until_death(server, load)
        except NotStarted:  # killed while it took up what the last run had left: checked all the same
            assert server.process is not None and server.process.returncode == -9
        check(database_url, data, load)
        kills += len(load.acknowledged) > before or step.startswith("sms.")
    assert kills == REPEATS, "too often it died before it had done anything"
    await restarted(database_url, data, load)
    check(database_url, data, load, complete=True)
    assert not state.differing(database_url, data)


async def test_a_node_with_a_hundred_thousand_entries_is_ready_in_three_seconds(
    database_url: str, tmp_path: Path, launch_server: Callable[..., ServerProcess]
) -> None:
    """From exec to the first 200 of /readyz after kill -9. On a machine that has more to do than processors, the CPU time
    that the start took is what counts."""
    data = tmp_path / "node"
    await build(data, database_url, ENTRIES)
    seconds = []
    for _ in range(READY_TRIES):
        server = launch_server(data=data, mode="serve", environment={"FENGHUO_TOTP_REQUIRED": "false"})
        wall_s = await asyncio.to_thread(server.start)
        assert server.process is not None
        used_s = sum(processor_seconds(server.process.pid))
        busy = os.getloadavg()[0] > (os.cpu_count() or 1)
        seconds.append(min(wall_s, used_s) if busy else wall_s)
        print(f"ready after {wall_s:.2f} s, {used_s:.2f} s of them on a processor")
        await asyncio.to_thread(server.kill)
    if min(seconds) > READY_S and busy:
        pytest.skip(f"the machine is too busy to measure a start: {seconds} s of CPU, load {os.getloadavg()[0]}")
    assert min(seconds) <= READY_S, seconds


def processor_seconds(pid: int) -> tuple[float, float]:
    """User and system CPU seconds of a process (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return tuple(int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[11:13])  # type: ignore[return-value]
