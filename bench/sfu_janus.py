"""Janus as the peer of the SFU bench: its own configuration in a temporary directory, one videoroom.

Never reads /etc/janus and loads no plugin but videoroom (the streaming plugin's demo mountpoints would bind every
interface). Janus skips the loopback interface when it gathers candidates and then falls back to all the others,
so it runs only inside the private network space of `bench/sfu_space.py`, where no packet can leave. Invariant:
Janus forwards the same packets, under the same SRTP profile, to the same client as our worker.

Source: Janus 1.1 documentation, videoroom plugin and WebSocket API ("janus-protocol").
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from bench import rtp_sdp, sfu_process
from bench.rtp_client import Leg

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/janus")
ROOM = 2026
FEED = 1
ANSWER_S = 10.0

CORE_CONFIG = """
general: {{
  configs_folder = "{folder}"
  plugins_folder = "{folder}/plugins"
  transports_folder = "{folder}/transports"
  events_folder = "{folder}/none"
  loggers_folder = "{folder}/none"
  debug_level = 2
  session_timeout = 0
  interface = "{host}"
  server_name = "bench"
{more} }}
media: {{ ipv6 = false }}
nat: {{
  nice_debug = false
  ice_lite = true
  full_trickle = false
  ice_enforce_list = "{host}"
}}
"""
SOCKET_CONFIG = """
general: {{ json = "compact"  ws = true  ws_port = {port}  ws_ip = "127.0.0.1"  wss = false }}
admin: {{ admin_ws = false  admin_wss = false }}
"""
ROOM_CONFIG = """
general: {{ events = false }}
room-{room}: {{
  description = "bench"
  publishers = 4
  bitrate = 50000000
  fir_freq = 0
  audiocodec = "opus"
  videocodec = "vp8"
  record = false
}}
"""


def missing() -> str:
    """Why Janus cannot be measured here; empty if it can."""
    if shutil.which("janus") is None:
        return "janus is not installed"
    if not (LIBRARY / "transports/libjanus_websockets.so").exists():
        return "the WebSocket transport of janus is not installed"
    return ""


def version() -> str:
    """The line in which janus names its version (it has no option for it, and says so afterwards)."""
    done = subprocess.run(["janus", "--version"], capture_output=True, text=True, check=False)
    return next((line for line in done.stdout.splitlines() if "version" in line), "Janus")


class Janus:
    """One Janus process and one API session. `start()`, `publish()`, `subscribe()`, `close()`."""

    layers = False

    def __init__(self, folder: Path, core: int, host: str, *, event_loops: int = 0, name: str = "janus") -> None:
        self.name = name
        self.host = host
        self._folder = folder
        self.log = folder / "janus.log"
        self._core = core
        self._event_loops = event_loops
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._session = 0

    async def start(self) -> None:
        """Write the configuration, start the process and open the API session."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._configure(port)
        command = ["janus", "-F", str(self._folder), "-C", str(self._folder / "janus.jcfg")]
        self.process = sfu_process.start(command, self._core, self.log)
        self._http = aiohttp.ClientSession()
        for _ in range(200):
            try:
                url = f"http://127.0.0.1:{port}/"
                self._socket = await self._http.ws_connect(url, protocols=["janus-protocol"])
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
        else:
            raise TimeoutError("janus did not open its WebSocket")
        self._reader = asyncio.create_task(self._read())
        created = await self._ask({"janus": "create"})
        self._session = created["data"]["id"]

    def _configure(self, port: int) -> None:
        more = f"  event_loops = {self._event_loops}\n" if self._event_loops else ""
        files = {
            "janus.jcfg": CORE_CONFIG.format(folder=self._folder, host=self.host, more=more),
            "janus.transport.websockets.jcfg": SOCKET_CONFIG.format(port=port),
            "janus.plugin.videoroom.jcfg": ROOM_CONFIG.format(room=ROOM),
        }
        for name, text in files.items():
            (self._folder / name).write_text(text)
        for kind, library in (("plugins", "videoroom"), ("transports", "websockets"), ("none", "")):
            (self._folder / kind).mkdir(exist_ok=True)
            if library:
                target = f"libjanus_{library}.so"
                (self._folder / kind / target).symlink_to(LIBRARY / kind / target)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            said = message.json()
            # a plugin request is first acknowledged, then answered by an event of the same transaction
            if said["janus"] == "ack":
                continue
            future = self._waiting.pop(said.get("transaction", ""), None)
            if future is not None and not future.done():
                future.set_result(said)

    async def _ask(self, body: dict[str, Any], handle: int = 0) -> dict[str, Any]:
        transaction = f"t{next(self._numbers)}"
        future = self._waiting[transaction] = asyncio.get_running_loop().create_future()
        where = {key: value for key, value in (("session_id", self._session), ("handle_id", handle)) if value}
        await self._socket.send_json({**body, **where, "transaction": transaction})
        answer: dict[str, Any] = await asyncio.wait_for(future, ANSWER_S)
        data = answer.get("plugindata", {}).get("data", {})
        if answer["janus"] == "error" or "error" in data:
            raise RuntimeError(f"janus refused: {answer.get('error') or data}")
        return answer

    async def _attach(self) -> int:
        said = await self._ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        return int(said["data"]["id"])

    async def publish(self, leg: Leg, kinds: tuple[str, ...]) -> rtp_sdp.Remote:
        """Join as publisher with the leg's offer; returns Janus's answer, the leg is connecting."""
        handle = await self._attach()
        join = {"request": "join", "ptype": "publisher", "room": ROOM, "id": FEED}
        await self._ask({"janus": "message", "body": join}, handle)
        body = {"request": "publish", "audiocodec": "opus", "videocodec": "vp8"}
        jsep = {"type": "offer", "sdp": rtp_sdp.offer(leg.local, "sendonly", kinds), "trickle": False}
        said = await self._ask({"janus": "message", "body": body, "jsep": jsep}, handle)
        remote = rtp_sdp.parse(said["jsep"]["sdp"])
        leg.connect(remote)
        return remote

    async def subscribe(self, leg: Leg) -> rtp_sdp.Remote:
        """Join as subscriber, answer Janus's offer; the leg is connecting."""
        handle = await self._attach()
        body = {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": FEED}]}
        said = await self._ask({"janus": "message", "body": body}, handle)
        remote = rtp_sdp.parse(said["jsep"]["sdp"])
        leg.connect(remote)
        jsep = {"type": "answer", "sdp": rtp_sdp.answer(leg.local, remote), "trickle": False}
        await self._ask({"janus": "message", "body": {"request": "start"}, "jsep": jsep}, handle)
        return remote

    def pids(self) -> list[int]:
        """Processes whose CPU time counts."""
        return sfu_process.tree(self.process.pid)

    async def close(self) -> None:
        """End the API session and the process."""
        if hasattr(self, "_reader"):
            self._reader.cancel()
            await self._socket.close()
        if hasattr(self, "_http"):
            await self._http.close()
        if hasattr(self, "process"):
            await asyncio.to_thread(sfu_process.stop, self.process)
