"""Strangers at the door of a real node: nothing they send disturbs a link that stands, and they are told why they go."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command.base.identity import node_id
from command.domain.nodes import NODE as NODES
from command.tree import pairing
from command.tree.wire import FRAME_BYTES_MAX, Hello, Refuse, decode, encode
from command.uplink.doorstep import HANDSHAKES_MAX
from tests.tree.scene import Member, tree, until


def hello(node: str, key: bytes, channel: str = "now", versions: tuple[int, int] = (1, 1)) -> bytes:
    return encode(Hello(versions=versions, node=node, key=key, nonce=bytes(32), channel=channel, session="s"))


async def refused(at: Member, path: str, *frames: Any) -> str:
    """The code with which the node hangs up on somebody who sends these frames; "" when it hangs up without a word."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{at.port}/link/{path}") as socket,
    ):
        for frame in frames:
            await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        code = ""
        async for message in socket:
            assert isinstance(message.data, bytes)
            if path == "pair":
                said = pairing.decode(message.data)
                code = said.code if isinstance(said, pairing.Refused) else code
            else:
                answer = decode(message.data)
                code = answer.code if isinstance(answer, Refuse) else code
        return code


async def test_strangers_are_told_why_and_a_standing_link_is_not_disturbed(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().public_key()
    stranger, raw = node_id(key), key.public_bytes_raw()
    async with tree(tmp_path, "city", "county") as nodes:
        await nodes.linked()
        city, county = nodes["city"], nodes["county"]
        await until(lambda: city.uplink.peers[county.id].linked)
        before = city.uplink.peers[county.id].channels["now"]
        row = await city.node.store.read(lambda c: city.node.store.shelf(NODES).get(c, county.id))
        assert row is not None
        public = bytes.fromhex(row.public_key)

        assert await refused(city, "now", b"\xc1 garbage") == "link.frame"
        assert await refused(city, "now", "text") == "link.text"
        assert await refused(city, "now", bytes(FRAME_BYTES_MAX + 10_000)) == ""
        assert await refused(city, "now", encode(Refuse(code="x"))) == ""
        assert await refused(city, "now", hello(stranger, raw)) == "link.stranger"
        assert await refused(city, "now", hello(county.id, raw)) == "link.stranger"
        assert await refused(city, "now", hello(county.id, public, versions=(8, 9))) == "link.version"
        assert await refused(city, "now", hello(county.id, public, "later")) == "link.channel"
        # It knows the name and the key of a neighbour, but can't sign.
        assert await refused(city, "now", hello(county.id, public), encode(Refuse(code="y"))) != "link.stranger"
        assert await refused(city, "pair", b"garbage") == "link.handshake"

        assert city.uplink.peers[county.id].channels["now"] is before
        assert county.linked()


@pytest.mark.slow
async def test_only_so_many_may_stand_at_the_door(tmp_path: Path) -> None:
    async with tree(tmp_path, "city") as nodes, aiohttp.ClientSession() as session:
        address = f"http://127.0.0.1:{nodes['city'].port}/link/now"
        waiting = [await session.ws_connect(address) for _ in range(HANDSHAKES_MAX)]
        await until(lambda: nodes["city"].uplink._doorstep._handshakes == HANDSHAKES_MAX)
        assert await refused(nodes["city"], "now", b"x") == "link.busy"
        await asyncio.gather(*(socket.close() for socket in waiting))
