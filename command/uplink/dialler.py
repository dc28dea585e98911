"""The dialler: calls the superior, pairs with it when there is a code, and keeps both channels of the link up.

Shell, part of the uplink. Invariant: it never gives up and never hammers: pauses grow to a few seconds, with jitter; a redial
makes the new connection before it lets the old one go.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from yarl import URL

from command.base.entry import By
from command.base.errors import Denied, FenghuoError, Rejected, Unavailable
from command.base.supervise import end, spawn
from command.domain.membership import JoinTree
from command.domain.nodes import NodeKind, NodeLevel, node_id
from command.edge.api import Node
from command.tree import pairing
from command.tree.wire import LATER, NOW
from command.uplink.channel import FRAME_MAX, Channel
from command.uplink.knocking import knocking
from command.uplink.peer import HANDSHAKE_S, Peer

BY = By(account="node")
JOIN_FILE = "join.code"
DIAL_S = 15.0
CONNECT_S = 5.0
"""For TCP alone: a second SYN and a third have left by then, and fresh attempts beside it (`knocking`)."""
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, connect=DIAL_S)
BACKOFF_S, BACKOFF_MAX_S = 0.5, 4.0
"""After an answer that was no: who is there but won't have us isn't asked more often. Nobody's answer is waited for by knocking
every second, so a line that heals is used at once, however long it was cut."""
LASTING_S = 5.0
"""A connection that lasted so long was a good one, and knocking for so long was slow enough: the next pause is the shortest."""
LOOK_S = 1.0
THROUGH_PROXY = (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError)
"""The proxy isn't there, wants to know who asks (407), or can't or won't reach the superior."""

journal = structlog.get_logger("uplink")


class Dialler:
    """Run `run` and `keep(LATER)` supervised; `stop` first of all at the end."""

    def __init__(self, node: Node, uplink: Any) -> None:
        self._node, self._uplink = node, uplink
        self.refused = ""
        """Why the superior could not be reached, or would not have us, most recently."""
        self._address = 0
        self._dialling: dict[str, float] = {}
        """Channels that are being dialled, and since when (monotonic seconds)."""
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        """Pair when there is a code, then keep *now* up."""
        code = Path(self._node.config.data) / JOIN_FILE
        while not self._stopping:
            if code.exists() and self.addresses():
                await self._join(code)
            if self._uplink.parent is not None and self.addresses():
                await self.keep(NOW)
            await asyncio.sleep(LOOK_S)

    async def _join(self, code: Path) -> None:
        text = await asyncio.to_thread(code.read_text)
        for address in self.addresses():
            try:
                await self._join_at(address, pairing.read_code(text))
            except (Unavailable, aiohttp.ClientError, OSError, TimeoutError) as error:
                self._failed(address, error)
                continue
            except FenghuoError as error:
                self._failed(address, error)
                await asyncio.to_thread(code.rename, code.with_suffix(".refused"))
                return
            await asyncio.to_thread(code.unlink)
            self.refused = ""
            return
        await asyncio.sleep(BACKOFF_S)

    async def _join_at(self, address: str, code: str) -> None:
        async with knocking("pair", lambda session: self._connect(session, address, "pair"), TIMEOUT) as socket:
            channel = Channel(socket, paced=False)
            handshake = self._uplink.pairing(pairing.Role.CHILD)
            await channel.send(handshake.opening)
            handshake.met(_agreed(await channel.frame(HANDSHAKE_S)))
            await channel.send(pairing.encode(handshake.proof(code)))
            welcome = pairing.decode(_agreed(await channel.frame(HANDSHAKE_S)))
            if not isinstance(welcome, pairing.Welcome):
                raise Rejected("link.handshake", "A Welcome comes after the Proof.")
            handshake.welcomed(welcome)
            assert handshake.peer is not None
            joined = JoinTree(
                public_key=handshake.peer.hex(),
                name=welcome.name,
                kind=NodeKind(welcome.kind),
                level=NodeLevel(welcome.level),
                organisation=welcome.organisation,
            )
            await self._node.log.append(joined, BY)
            journal.info("pairing.joined", parent=node_id(joined.public_key))
            await channel.close()

    async def keep(self, name: str) -> None:
        """Keep one channel to the superior up: dial, carry, back off. A redial dials first and then lets the old one go."""
        pause, standing = BACKOFF_S, set[asyncio.Task[None]]()
        try:
            while not self._stopping:
                parent = self._uplink.parent
                if parent is None or not self.addresses() or (name == LATER and not self._uplink.peer(parent).linked):
                    await asyncio.sleep(LOOK_S / 4)
                    continue
                peer, began = self._uplink.peer(parent), self._uplink.clock.monotonic()
                peer.redial[name].clear()
                carrying = spawn(f"link.{name}", self._carry(peer, name))
                standing.add(carrying)
                carrying.add_done_callback(standing.discard)
                again = spawn("link.redial", self._wanted(peer, name))
                await asyncio.wait([carrying, again], return_when=asyncio.FIRST_COMPLETED)
                lasted = self._uplink.clock.monotonic() - began
                await end(again)
                if not carrying.done():
                    pause = BACKOFF_S
                    continue
                pause = BACKOFF_S if lasted > LASTING_S else min(2 * pause, BACKOFF_MAX_S)
                await asyncio.sleep(pause * (0.5 + self._jitter()))
        finally:
            await end(*standing)

    async def _wanted(self, peer: Peer, name: str) -> None:
        """Until a new connection is wanted. One that has just been dialled will be as fresh as another."""
        while True:
            await peer.redial[name].wait()
            since = self._dialling.get(name)
            if since is None or self._uplink.clock.monotonic() - since > DIAL_S:
                return
            peer.redial[name].clear()

    def _jitter(self) -> float:
        return int.from_bytes(self._uplink.clock.octets(2), "big") / 65536

    async def _carry(self, peer: Peer, name: str) -> None:
        """One connection, from the dialling to its end; failures are remembered, not raised."""
        addresses = self.addresses()
        address = addresses[self._address % len(addresses)]
        began = self._dialling[name] = self._uplink.clock.monotonic()
        try:
            async with knocking(name, lambda session: self._connect(session, address, name), TIMEOUT) as socket:
                self._dialling.pop(name, None)
                await peer.dial(name, Channel(socket, paced=name == LATER))
        except (FenghuoError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._failed(address, error)
            if isinstance(error, Denied) and not peer.linked:
                peer.refused = error.code  # stays when the next address isn't reached: this was an answer
                self._uplink.changed(peer)
            if name == NOW:
                self._address += 1
        finally:
            if self._dialling.get(name) == began:
                del self._dialling[name]

    def _failed(self, address: str, error: Exception) -> None:
        code = "link.proxy" if isinstance(error, THROUGH_PROXY) else "link.unreachable"
        if isinstance(error, FenghuoError):
            code = error.code
        if code != self.refused:
            journal.warning("uplink.failed", address=address, code=code, error=str(error))
        self.refused = code

    def addresses(self) -> list[str]:
        """Where the superior may be, in order."""
        return [one.strip().rstrip("/") for one in self._node.config.parent.split(",") if one.strip()]

    def _connect(self, session: aiohttp.ClientSession, address: str, name: str) -> Any:
        config = self._node.config
        proxy, who = _proxy(config.parent_proxy)
        return session.ws_connect(
            f"{address}/link/{name}",
            ssl=_tls(config.parent_ca) if address.startswith("https:") else True,
            proxy=proxy,
            proxy_headers=who,
            max_msg_size=FRAME_MAX,
            autoping=True,
            compress=0,
        )


def _agreed(frame: bytes) -> bytes:
    """The frame, unless it refuses. Raises `Denied` with what the other side said."""
    message = pairing.decode(frame)
    if isinstance(message, pairing.Refused):
        raise Denied(message.code, message.hint)
    return frame


def _proxy(address: str) -> tuple[URL | None, dict[str, str] | None]:
    """The proxy and who asks, apart: aiohttp's errors name the URL, and errors are written to the journal."""
    if not address:
        return None, None
    url = URL(address)
    if url.user is None:
        return url, None
    who = aiohttp.encode_basic_auth(url.user, url.password or "")
    return url.with_user(None), {"Proxy-Authorization": who}


def _tls(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
