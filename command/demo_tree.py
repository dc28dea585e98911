"""The demo of the tree: a province, a city, a county and a command vehicle as four servers on loopback, linked, with an incident
that passes through them.

Shell; the composition root hands it the house. A line `cut vehicle` (or city, county) on standard input cuts a node off from
its superior, `join vehicle` joins it again. The first run lays the nodes out (organisations at the province, people at each
node, pairing by real invitations), every later one finds them again. Invariant: each node keeps its own data and credentials
in a directory of its own, and Ctrl-C leaves no process behind.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from command.base.config import Config, load
from command.base.entry import By
from command.base.identity import write_secret
from command.base.rights import Role
from command.base.schema import Place
from command.base.supervise import spawn
from command.demo import CREDENTIALS, NUMBER_PREFIX, name_node
from command.demo_wire import Wire
from command.domain.account import CreateAccount
from command.domain.membership import InviteNode
from command.domain.nodes import NodeKind, NodeLevel
from command.domain.registry import ORGANISATION, Tier, UnitKind
from command.domain.registry_edits import SaveOrganisation, SavePerson, SaveUnit
from command.service import House, Service
from command.tree import pairing
from command.uplink.dialler import JOIN_FILE

BY = By(account="node")
LAID_OUT = "laid-out"
FIRST_PORT = 8080
PATIENCE_S = 60.0
LOOK_S = 0.1
STOP_S = 9.0
ROLES = {
    "sysadmin": Role.SYSTEM_ADMIN,
    "secadmin": Role.SECURITY_ADMIN,
    "auditor": Role.AUDIT_ADMIN,
    "viewer": Role.VIEWER,
}


@dataclass(frozen=True, kw_only=True)
class Post:
    """One node of the demo; `region` is the code of its organisation."""

    name: str
    title: str
    region: str
    tier: Tier
    kind: NodeKind
    level: NodeLevel
    lon: float
    lat: float


POSTS = (
    Post(name="province", title="示范省", region="990000", tier=Tier.PROVINCE, kind=NodeKind.FIXED,
         level=NodeLevel.PROVINCE, lon=154.98, lat=31.99),
    Post(name="city", title="示范西市", region="990100", tier=Tier.CITY, kind=NodeKind.FIXED,
         level=NodeLevel.CITY, lon=154.66, lat=31.99),
    Post(name="county", title="示范一县", region="990121", tier=Tier.COUNTY, kind=NodeKind.FIXED,
         level=NodeLevel.COUNTY, lon=154.71, lat=32.22),
    Post(name="vehicle", title="示范一县指挥车", region="990121-1", tier=Tier.DEPARTMENT, kind=NodeKind.MOBILE,
         level=NodeLevel.FIELD, lon=154.74, lat=32.18),
)  # fmt: skip


def _ports(first: int) -> list[int]:
    """Four ports from `first` on; free ones when it is 0."""
    if first:
        return [first + number for number in range(len(POSTS))]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in POSTS]
        return [int(one.getsockname()[1]) for one in sockets]


class DemoTree:
    """Lay out with `lay_out`, then `run`."""

    def __init__(self, folder: Path, first_port: int, house: Callable[[Config], House]) -> None:
        self._folder, self._house = folder, house
        self._ports = dict(zip((post.name for post in POSTS), _ports(first_port), strict=True))
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._wires: dict[str, Wire] = {}

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _settings(self, number: int) -> dict[str, Any]:
        post = POSTS[number]
        parent = self.address(POSTS[number - 1].name) if number else ""
        if post.name in self._wires:
            parent = f"http://127.0.0.1:{self._wires[post.name].port}"
        return {
            "data": str(self._folder / post.name),
            "port": self._ports[post.name],
            "node_name": post.title,
            "parent": parent,
            "totp_required": "false",
        }

    # -- the first time

    async def lay_out(self) -> None:
        """Make what isn't there: every node in turn, in this process, paired with the one above; then stop them."""
        if (self._folder / LAID_OUT).exists():
            return
        running: list[Service] = []
        code = ""
        try:
            for number, post in enumerate(POSTS):
                data = self._folder / post.name
                data.mkdir(parents=True, exist_ok=True, mode=0o700)
                config = load({}, None, **self._settings(number))
                service = Service(config, self._house(config))
                running.append(service)
                if number:
                    write_secret(data / JOIN_FILE, code.encode())
                await service.start()
                if number == 0:
                    await _organisations(service)
                organisation = await _known(service, post.region)
                if number == 0:
                    await name_node(service, post.title, post.kind, post.level, organisation)
                await _people(service, post, organisation)
                if number + 1 < len(POSTS):
                    code = await _invite(service, POSTS[number + 1])
        finally:
            for service in reversed(running):
                await service.stop()
        (self._folder / LAID_OUT).touch()

    # -- every time

    async def run(self) -> int:
        """Serve until SIGINT or SIGTERM, or until one of the nodes ends."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        working = spawn("demo.tree", self._work())
        waiting = spawn("demo.stop", _wait(stop))
        try:
            await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            waiting.cancel()
            await self._stop()
        return 0 if stop.is_set() else 1

    async def _work(self) -> None:
        await self.lay_out()
        for above, post in pairwise(POSTS):
            self._wires[post.name] = Wire(self._ports[above.name])
            await self._wires[post.name].open()
        for number, post in enumerate(POSTS):
            self._processes[post.name] = await self._start(number)
        for post in POSTS:
            await self._ready(post.name)
        await self._incident()
        self._announce()
        ended = [spawn(f"demo.{name}", _ended(process)) for name, process in self._processes.items()]
        listening = spawn("demo.listen", self._listen())
        try:
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            for name, process in self._processes.items():
                if process.returncode is not None:
                    print(f"\n{name} has ended; {self._folder / name}.log says why.", file=sys.stderr, flush=True)
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        """What is typed, until standard input ends; a file or nothing there says nothing."""
        if not (sys.stdin.isatty() or stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)):
            return
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while octets := await reader.readline():
            word, _, name = octets.decode(errors="replace").strip().partition(" ")
            if name not in self._wires or word not in ("cut", "join"):
                names = ", ".join(self._wires)
                print(f"Type `cut NAME` or `join NAME`; NAME is one of {names}.", flush=True)
                continue
            await (self._wires[name].close() if word == "cut" else self._wires[name].open())
            print(f"{name}: {word}", flush=True)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        settings = {f"FENGHUO_{name.upper()}": str(value) for name, value in self._settings(number).items()}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
        log = self._folder / f"{POSTS[number].name}.log"
        with log.open("ab") as file:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                sys.argv[0],
                "serve",
                env=inherited | settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )

    async def _ready(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.address(name)}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(LOOK_S)

    async def _stop(self) -> None:
        for wire in self._wires.values():
            await wire.close()
        alive = [process for process in self._processes.values() if process.returncode is None]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(process.wait() for process in alive))
        except TimeoutError:
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    def credentials(self, name: str) -> dict[str, str]:
        lines = (self._folder / name / CREDENTIALS).read_text().splitlines()
        return dict(line.split(" ", 1) for line in lines if line)

    def _announce(self) -> None:
        print("\n烽火 Fenghuo demo of the tree:", flush=True)
        for post in POSTS:
            print(f"\n  {post.title} ({post.level}, {post.kind}): {self.address(post.name)}/", flush=True)
            for name, password in self.credentials(post.name).items():
                print(f"    {name:<16} {password}", flush=True)
        print("\n  `cut vehicle` cuts the vehicle off from the county, `join vehicle` joins it again.", flush=True)

    # -- the incident

    async def _incident(self) -> None:
        """The county reports, orders its vehicle out, raises the level and offers the incident to the city, which takes it over
        and gives an order of its own; the province looks on."""
        done = self._folder / "incident"
        if done.exists():
            return
        async with contextlib.AsyncExitStack() as stack:
            desks = {post.name: await self._desk(stack, post.name) for post in POSTS}
            county, vehicle, city = desks["county"], desks["vehicle"], desks["city"]
            post = POSTS[2]
            place = {"lon": post.lon, "lat": post.lat, "address": f"{post.title}化工园区"}
            report = {"category": "accident", "level": "III", "title": "化工园区厂房起火（演示）", "place": place}
            incident = (await county.post("/incidents", report))["id"]
            file = f"/incidents/{incident}"
            seats = {one["region"]: one["id"] for one in (await county.get("/organisations?limit=500"))["items"]}

            def order(region: str, task: str) -> dict[str, Any]:
                return {
                    "incident": incident,
                    "assignee": {"kind": "organisation", "id": seats[region]},
                    "task": task,
                }

            await county.post("/orders", order(POSTS[3].region, "赶赴现场，建立前方指挥点"))
            row = await county.seen(file)
            level = {"version": row["incident"]["version"], "level": "II", "reason": "火势蔓延，请求市里支援"}
            await county.post(f"{file}/level", level)
            found = await vehicle.seen(file, lambda file: file["orders"])
            await vehicle.post(f"/orders/{found['orders'][0]['id']}/progress", {"step": "accepted"})

            here = (await city.get("/nodes"))["here"]
            row = await county.seen(file)
            offer = {"version": row["incident"]["version"], "to": here, "reason": "超出本县处置能力，请求提级"}
            transfer = (await county.post(f"{file}/offer", offer))["id"]
            await city.seen(file, lambda file: any(one["kind"] == "ownership.offered" for one in file["timeline"]))
            await city.post(
                f"/transfers/{transfer}/answer", {"version": 1, "agree": True, "reason": "同意，由市里指挥"}
            )
            await city.seen(file, lambda file: file["incident"]["owner"] == here)
            await city.post("/orders", order(POSTS[2].region, "疏散下风向五百米内人员"))
            await county.seen(file, lambda file: len(file["orders"]) == 2)
            await desks["province"].seen(file)
        done.touch()

    async def _desk(self, stack: contextlib.AsyncExitStack, name: str) -> "_Desk":
        jar = aiohttp.CookieJar(unsafe=True)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        desk = _Desk(session, self.address(name))
        account = f"leader-{name}"
        await desk.post("/session", {"name": account, "password": self.credentials(name)[account], "code": None})
        return desk


class _Desk:
    """A signed-in leader at one node."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session, self._base = session, base

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Origin": self._base, "Idempotency-Key": secrets.token_hex(8)}
        async with self._session.post(f"{self._base}/api/v1{path}", json=body, headers=headers) as answer:
            found = await answer.json()
            if answer.status >= 400:
                print(f"demo: {path}: {found}", file=sys.stderr, flush=True)
            return found

    async def get(self, path: str) -> Any:
        async with self._session.get(f"{self._base}/api/v1{path}") as answer:
            return await answer.json() if answer.status == 200 else None

    async def seen(self, path: str, enough: Callable[[Any], Any] = bool) -> Any:
        """What stands at `path` once it is there: it comes over the link."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.get(path)
                if found and enough(found):
                    return found
                await asyncio.sleep(LOOK_S)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()


async def _add(service: Service, request: Any) -> str:
    return (await service.node.log.append(request, BY)).id or ""


async def _organisations(service: Service) -> None:
    """All of them at the province: they come to the others over the links."""
    above: str | None = None
    for post in POSTS:
        place = Place(lon=post.lon, lat=post.lat, address=post.title)
        above = await _add(
            service, SaveOrganisation(name=post.title, tier=post.tier, parent=above, region=post.region, place=place)
        )


async def _known(service: Service, region: str) -> str:
    """The id of an organisation, once it is here."""
    store = service.node.store
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for row in await store.read(lambda connection: store.shelf(ORGANISATION).select(connection)):
                if row.region == region:
                    return str(row.id)
            await asyncio.sleep(LOOK_S)


async def _invite(service: Service, post: Post) -> str:
    organisation = await _known(service, post.region)
    code = pairing.new_code(service.node.clock.octets(pairing.CODE_OCTETS))
    await _add(
        service, InviteNode(name=post.title, kind=post.kind, level=post.level, organisation=organisation, code=code)
    )
    return code


async def _people(service: Service, post: Post, organisation: str) -> None:
    """Three persons, a unit where there is a field, accounts with random passwords."""
    first = 3 * POSTS.index(post)
    persons = [
        await _add(
            service,
            SavePerson(
                name=f"演示人员{first + number + 1:02d}",
                organisation=organisation,
                phones=[f"{NUMBER_PREFIX}{first + number:03d}"],
                title=title,
            ),
        )
        for number, title in enumerate(("值班员", "带班领导", "队员"))
    ]
    if post.tier in (Tier.COUNTY, Tier.DEPARTMENT):
        home = Place(lon=post.lon, lat=post.lat, address=post.title)
        await _add(
            service,
            SaveUnit(
                name=f"{post.title}消防队",
                kind=UnitKind.FIRE,
                organisation=organisation,
                members=persons[2:],
                home=home,
            ),
        )
    wanted: dict[str, tuple[Role, str | None]] = {
        f"duty-{post.name}": (Role.DUTY_OFFICER, persons[0]),
        f"leader-{post.name}": (Role.LEADER, persons[1]),
    }
    wanted |= {name: (role, None) for name, role in ROLES.items()}
    passwords = {name: secrets.token_urlsafe(9) for name in wanted}
    for name, (role, person) in wanted.items():
        account = CreateAccount(
            name=name,
            roles=[role],
            organisation=organisation,
            person=person,
            password_hash=await service.node.auth.hash(passwords[name]),
            must_change_password=False,
        )
        await _add(service, account)
    lines = "".join(f"{name} {password}\n" for name, password in passwords.items())
    write_secret(Path(service.config.data) / CREDENTIALS, lines.encode())
