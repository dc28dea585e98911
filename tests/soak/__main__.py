"""An hour of comings and goings in one node: joins, leaves, reloads, rooms that open and close, worker crashes and hangs.

Not part of the product. The first part of the time only warms up (caches and rings fill); up to the middle nothing breaks, so
that the worker counted there is the one that was counted after the warming; then it is killed and hung again and again.
Before each count everything rests. One JSON line at the end; the exit status is not zero if anything stayed behind.

Run: `make soak MINUTES=60`, or `python -m tests.soak --minutes 5`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from typing import Any

import aiohttp

from tests.soak.guest import Guest

GUESTS = 12
STANDING_ROOMS = 2
WARM_PART, WARM_MIN_S = 0.2, 60.0  # less than ten minutes in all are too few for the memory bound
CRASH_EVERY_S = 40.0
STAY_S = (1.0, 8.0)
AWAY_S = (0.1, 1.5)
REST_S = 8.0  # for goodbyes, and for a worker that was killed a moment ago
MEMORY_MORE_MAX = 0.05
TASKS_MORE_MAX = DESCRIPTORS_MORE_MAX = 2  # what happens to be going on at that moment
WAYS = ("leave", "leave", "drop", "reload")


class Soak:
    """The house in its process, and its guests here."""

    def __init__(self, minutes: float, seed: int) -> None:
        self.minutes, self.seed = minutes, seed
        self.random = random.Random(seed)
        self.counts = {"joins": 0, "reloads": 0, "rooms": 0, "crashes": 0, "hangs": 0, "packets": 0}
        self.failures: dict[str, int] = {}
        self.rooms: list[str] = []
        self._asking = asyncio.Lock()

    async def run(self) -> dict[str, Any]:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.house", str(GUESTS)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._told = await self._hear()
            self._base = f"http://127.0.0.1:{self._told['port']}"
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._http:
                return await self._course()
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(20):
                    await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the house has ended")
        told: dict[str, Any] = json.loads(line)
        return told

    async def _ask(self, **order: Any) -> dict[str, Any]:
        async with self._asking:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            return await self._hear()

    async def _course(self) -> dict[str, Any]:
        body = {"category": "accident", "level": "III", "title": "浸泡", "place": {"lon": 155.0, "lat": 32.0}}
        headers = {"Authorization": f"Bearer {self._told['chair']}", "Idempotency-Key": "soak"}
        async with self._http.post(f"{self._base}/api/v1/incidents", json=body, headers=headers) as answer:
            self._incident = (await answer.json())["id"]
        for number in range(STANDING_ROOMS):
            self.rooms.append((await self._ask(open=f"常设{number}", incident=self._incident))["room"])
        begun_s, whole_s = time.monotonic(), 60 * self.minutes
        await self._churn(begun_s + max(WARM_MIN_S, WARM_PART * whole_s), accidents=False)
        warm = await self._rest()
        await self._churn(max(begun_s + whole_s / 2, time.monotonic() + WARM_MIN_S / 2), accidents=False)
        middle = await self._rest()
        await self._churn(max(begun_s + whole_s, time.monotonic() + 2 * CRASH_EVERY_S))
        return self._line(warm, middle, await self._rest())

    async def _churn(self, until_s: float, *, accidents: bool = True) -> None:
        work = [self._guest(token, until_s) for token in self._told["tokens"]]
        if accidents:
            work.append(self._accidents(until_s))
        await asyncio.gather(*work, self._passing_rooms(until_s))

    async def _guest(self, token: str, until_s: float) -> None:
        guest = Guest(self._http, self._base, token)
        while time.monotonic() < until_s:
            try:
                await guest.come(self.random.choice(self.rooms), publish=self.random.random() < 0.4)
                self.counts["joins"] += 1
                stay_s = self.random.uniform(*STAY_S)
                await asyncio.sleep(stay_s)
            except (aiohttp.ClientError, ConnectionError) as error:
                name = type(error).__name__
                self.failures[name] = self.failures.get(name, 0) + 1
            way = self.random.choice(WAYS)
            self.counts["packets"] += guest.heard
            await guest.go("leave" if way == "leave" else "drop")
            if guest.failed:
                self.failures[guest.failed] = self.failures.get(guest.failed, 0) + 1
                guest.failed = ""
            if way == "reload":
                self.counts["reloads"] += 1
                continue
            guest.member = ""
            await asyncio.sleep(self.random.uniform(*AWAY_S))
        await guest.go("drop")

    async def _accidents(self, until_s: float) -> None:
        """The worker is killed, or hangs, in turn."""
        turn = 0
        while time.monotonic() + CRASH_EVERY_S < until_s:
            await asyncio.sleep(CRASH_EVERY_S * self.random.uniform(0.5, 1.0))
            turn += 1
            hang = turn % 3 == 0
            self.counts["hangs" if hang else "crashes"] += 1
            await self._ask(crash=int(signal.SIGSTOP if hang else signal.SIGKILL))

    async def _passing_rooms(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            room = (await self._ask(open="临时", incident=self._incident))["room"]
            self.counts["rooms"] += 1
            self.rooms.append(room)
            await asyncio.sleep(self.random.uniform(3.0, 8.0))
            self.rooms.remove(room)
            await self._ask(close=room)

    async def _rest(self) -> dict[str, Any]:
        await asyncio.sleep(REST_S)
        return await self._ask(look=True)

    def _line(self, before: dict[str, Any], middle: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """The worker's memory in the middle against the warm one's, which it still is; all else at the end."""
        faults = []
        grown = {"memory_kb": after, "worker_memory_kb": middle}
        for name, later in grown.items():
            if later[name] > before[name] * (1 + MEMORY_MORE_MAX):
                faults.append(f"{name} {before[name]} -> {later[name]}")
        for name, more in (
            ("tasks", TASKS_MORE_MAX),
            ("descriptors", DESCRIPTORS_MORE_MAX),
            ("worker_descriptors", DESCRIPTORS_MORE_MAX),
        ):
            if after[name] > before[name] + more:
                faults.append(f"{name} {before[name]} -> {after[name]}")
        faults += [f"{name} {after[name]}" for name in ("worker_peers", "worker_streams") if after[name]]
        faults += [f"{name} {times} times in the journal" for name, times in after["bugs"].items()]
        if after["worker_rooms"] > STANDING_ROOMS:
            faults.append(f"worker_rooms {after['worker_rooms']}")
        more = {name: round(later[name] / before[name] - 1, 4) for name, later in grown.items()}
        return {
            "name": "soak.memory_more",
            "value": max(more.values()),
            "unit": "part",
            "aim": MEMORY_MORE_MAX,
            "minutes": self.minutes,
            "seed": self.seed,
            **self.counts,
            "failures": self.failures,
            "warm": before,
            "middle": middle,
            "end": after,
            "faults": faults,
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    line = asyncio.run(Soak(chosen.minutes, chosen.seed).run())
    print(json.dumps(line, ensure_ascii=False), flush=True)
    return 1 if line["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
