"""An idle tree: what a node costs when nothing happens, in memory and in CPU time.

As many real servers as are asked for, on loopback: a province, up to four cities, the rest counties; paired, linked, with no
screens, and then left alone. CPU is the run time that the kernel counted for the whole process (user and system) over the
window, so it holds on a loaded machine too. Memory is said three times: RSS (pages shared with the other nodes counted at
each, as `top` shows it; the figure that is held against the limit), PSS (shared pages divided among their users) and USS
(what would be free if this node ended).

Run: `make bench-tree NODES=30`, or `python -m bench tree`.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

import server
from command.base.config import load
from command.base.entry import By
from command.domain.membership import InviteNode
from command.domain.nodes import NodeKind, NodeLevel
from command.edge import requests
from command.service import Service
from command.tree import pairing
from command.uplink.dialler import JOIN_FILE
from command.uplink.uplink import PART

FIGURES = ("node.idle_cpu_pct", "node.memory_mb")
NODES = int(os.environ.get("BENCH_TREE_NODES", "30"))
CITIES = 4
WINDOW_S = float(os.environ.get("BENCH_TREE_WINDOW_S", "60"))
SETTLE_S = 20.0
PATIENCE_S = 420.0
STOP_S = 20.0
CPU_PCT_MAX = 0.5
MEMORY_MB_MAX = 120.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BY = By(account="bench")
ROOT = Path(__file__).parent.parent
LINK_UP = re.compile(rb'^fenghuo_link_up\{node="[^"]+"\} 1\.0$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Post:
    """One node: `above` is the number of its superior in the list, None for the root."""

    name: str
    level: NodeLevel
    above: int | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One process: CPU seconds since its start; memory in MB."""

    cpu_s: float
    rss_mb: float
    pss_mb: float
    uss_mb: float


def shape(nodes: int, cities: int = CITIES) -> list[Post]:
    """One province, `cities` cities as far as they go, counties under them in turn."""
    posts = [Post(name="province", level=NodeLevel.PROVINCE, above=None)]
    cities = min(cities, nodes - 1)
    posts += [Post(name=f"city-{n}", level=NodeLevel.CITY, above=0) for n in range(cities)]
    return posts + [
        Post(name=f"county-{n}", level=NodeLevel.COUNTY, above=1 + n % cities) for n in range(nodes - 1 - cities)
    ]


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in sockets]


class Tree:
    """Lay out with `lay_out`, `start`, read with `sample`; the caller must `stop` it."""

    def __init__(self, folder: Path, posts: Sequence[Post]) -> None:
        self._folder, self._posts = folder, posts
        self._ports = _ports(len(posts))
        self._processes: list[subprocess.Popen[bytes]] = []

    def _parent(self, number: int) -> str:
        above = self._posts[number].above
        return "" if above is None else f"http://127.0.0.1:{self._ports[above]}"

    async def lay_out(self, number: int = 0, code: str = "") -> None:
        """Pair a node with its superior (which runs, in this process), then everything below it; at most three run at a time."""
        post = self._posts[number]
        data = self._folder / post.name
        data.mkdir(mode=0o700)
        if code:
            (data / JOIN_FILE).write_text(code)
        config = load(
            {}, None, data=str(data), port=self._ports[number], parent=self._parent(number), totp_required=False
        )
        service = Service(config, server.house(config))
        await service.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while code and not _linked(service):
                    await asyncio.sleep(0.05)
            for below, other in enumerate(self._posts):
                if other.above == number:
                    await self.lay_out(below, await _invite(service, other))
        finally:
            await service.stop()

    def start(self) -> None:
        """Start every node as a process, superiors first, and wait until every link stands."""
        for number, post in enumerate(self._posts):
            settings = {
                "FENGHUO_DATA": str(self._folder / post.name),
                "FENGHUO_PORT": str(self._ports[number]),
                "FENGHUO_PARENT": self._parent(number),
                "FENGHUO_LOG_LEVEL": "error",
                "FENGHUO_WITNESS": str(self._folder / f"{post.name}.witness"),
            }
            clean = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, str(ROOT / "server.py"), "serve"],
                    cwd=ROOT,
                    env=clean | settings,
                    stdout=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                )
            )
        started = time.monotonic()
        for number in range(len(self._posts)):
            wanted = sum(1 for post in self._posts if post.above == number) + (number > 0)
            while (links := self._links(number)) < wanted:
                if time.monotonic() - started > PATIENCE_S:
                    name = self._posts[number].name
                    raise TimeoutError(f"{name} had {links} of {wanted} links after {PATIENCE_S:.0f} s")
                time.sleep(0.5)

    def _links(self, number: int) -> int:
        """How many of its links stand, as the node itself says."""
        with contextlib.suppress(OSError):
            address = f"http://127.0.0.1:{self._ports[number]}/metrics"
            with urllib.request.urlopen(address, timeout=10) as answer:
                return len(LINK_UP.findall(answer.read()))
        return -1

    def sample(self) -> list[Sample]:
        """Of every node, in the order of the posts."""
        return [sample(process.pid) for process in self._processes]

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def sample(pid: int) -> Sample:
    """What the kernel says of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    kilobytes = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in kilobytes:
            kilobytes[name] = int(rest.split()[0])
    return Sample(
        cpu_s=(int(stat[11]) + int(stat[12])) / TICKS_PER_S,
        rss_mb=kilobytes["Rss"] / 1024,
        pss_mb=kilobytes["Pss"] / 1024,
        uss_mb=(kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1024,
    )


def _linked(service: Service) -> bool:
    uplink = service.node.parts[PART]
    return uplink.parent is not None and uplink.parent in uplink.peers and uplink.peers[uplink.parent].linked


async def _invite(service: Service, post: Post) -> str:
    code = pairing.new_code(service.node.clock.octets(pairing.CODE_OCTETS))
    invite = InviteNode(name=post.name, kind=NodeKind.FIXED, level=post.level, code=code)
    await service.node.log.append(invite, BY)
    return code


def figures() -> Iterator[dict[str, Any]]:
    requests.configure("error")
    posts = shape(NODES)
    with tempfile.TemporaryDirectory() as name:
        tree = Tree(Path(name), posts)
        uvloop.run(tree.lay_out())
        try:
            tree.start()
            time.sleep(SETTLE_S)
            before, at = tree.sample(), time.monotonic()
            time.sleep(WINDOW_S)
            after, window_s = tree.sample(), time.monotonic() - at
        finally:
            tree.stop()
    cpu = [100 * (b.cpu_s - a.cpu_s) / window_s for a, b in zip(before, after, strict=True)]
    levels = {
        level.value: round(statistics.mean(pct for pct, post in zip(cpu, posts, strict=True) if post.level == level), 3)
        for level in sorted({post.level for post in posts})
    }
    yield {
        "name": "node.idle_cpu_pct",
        "value": round(statistics.mean(cpu), 3),
        "unit": "% of a core",
        "ratio": round(statistics.mean(cpu) / CPU_PCT_MAX, 3),
        "against": f"limit {CPU_PCT_MAX} %; mean of all nodes",
        "n": len(posts),
        "max": round(max(cpu), 3),
        "window_s": round(window_s),
        **levels,
    }
    largest = max(one.rss_mb for one in after)
    yield {
        "name": "node.memory_mb",
        "value": round(largest, 1),
        "unit": "MB",
        "ratio": round(largest / MEMORY_MB_MAX, 3),
        "against": f"limit {MEMORY_MB_MAX:.0f} MB; RSS of the largest node",
        "n": len(posts),
        "rss_mean": round(statistics.mean(one.rss_mb for one in after), 1),
        "pss_mean": round(statistics.mean(one.pss_mb for one in after), 1),
        "uss_mean": round(statistics.mean(one.uss_mb for one in after), 1),
    }
