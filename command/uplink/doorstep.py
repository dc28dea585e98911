"""The doorstep: who calls this node, and whether they are let in. Subordinates prove themselves, strangers show a code.

Shell, part of the uplink. Invariant: a connection disturbs no link before it has proven who it is; what proves nothing is
told why and hung up on, and only so many may try at once.
"""

import contextlib
from typing import Any

import structlog

from command.base.entry import By
from command.base.errors import Denied, FenghuoError, Rejected, Unavailable
from command.domain.membership import INVITATION, AdmitNode
from command.edge.api import Node
from command.tree import pairing
from command.tree.wire import Hello, Refuse, decode, encode
from command.uplink.channel import Channel
from command.uplink.peer import GOODBYE, HANDSHAKE_S

BY = By(account="node")
HANDSHAKES_MAX = 64
"""Connections that have not proven anything yet."""

journal = structlog.get_logger("uplink")


class Doorstep:
    """`answer` and `pair` carry a WebSocket that somebody opened, until it ends."""

    def __init__(self, node: Node, uplink: Any) -> None:
        self._node, self._uplink = node, uplink
        self._handshakes = 0

    async def answer(self, name: str, channel: Channel) -> None:
        """Carry a link over a WebSocket that a subordinate opened, until it ends."""
        try:
            hello = await self._stranger(channel)
            message = decode(hello)
            if isinstance(message, Refuse):
                return
            if not isinstance(message, Hello):
                raise Rejected("link.order", "A link begins with a Hello.")
            refusal = await self._uplink.think(lambda: self._uplink.shelf().admits(message.node, message.key))
            if refusal is not None or message.node == self._uplink.parent:
                raise Denied(refusal or "link.direction", "This node doesn't take your calls.")
            await self._uplink.peer(message.node).accept(name, channel, hello)
        except FenghuoError as error:
            await self._turn_away(channel, error)

    async def _stranger(self, channel: Channel) -> bytes:
        if self._handshakes >= HANDSHAKES_MAX:
            raise Unavailable("link.busy", "Too many connections are waiting to prove themselves.")
        self._handshakes += 1
        try:
            return await channel.frame(HANDSHAKE_S)
        finally:
            self._handshakes -= 1

    async def _turn_away(self, channel: Channel, error: FenghuoError) -> None:
        journal.info("link.refused", code=error.code, hint=error.hint)
        if not channel.closed:
            with contextlib.suppress(FenghuoError):
                await channel.send(encode(Refuse(code=error.code[:200], hint=error.hint[:1000])))
            await channel.close(GOODBYE, error.code)

    async def pair(self, channel: Channel) -> None:
        """The parent's side of a pairing, over a WebSocket that a stranger opened."""
        handshake = self._uplink.pairing(pairing.Role.PARENT)
        try:
            frame = await self._stranger(channel)
            handshake.met(frame)
            await channel.send(handshake.opening)
            proof = pairing.decode(await channel.frame(HANDSHAKE_S))
            if not isinstance(proof, pairing.Proof):
                raise Rejected("link.handshake", "A Proof comes after the Hello.")
            assert handshake.other is not None
            invitations = await self._invitations(handshake.other.public_key.hex())
            invitation = handshake.proven(proof, {key: row.code for key, row in invitations.items()})
            await self._node.log.append(
                AdmitNode(invitation=invitation, public_key=handshake.other.public_key.hex()), BY
            )
            row = invitations[invitation]
            welcome = handshake.welcome(name=row.name, kind=row.kind, level=row.level, organisation=row.organisation)
            await channel.send(pairing.encode(welcome))
        except FenghuoError as error:
            journal.warning("pairing.refused", code=error.code, hint=error.hint)
            if not channel.closed:
                with contextlib.suppress(FenghuoError):
                    await channel.send(pairing.encode(pairing.Refused(code=error.code, hint=error.hint[:500])))
        await channel.close()

    async def _invitations(self, public_key: str) -> dict[str, Any]:
        now = self._uplink.clock.now()
        rows = await self._node.store.read(lambda c: self._node.store.shelf(INVITATION).select(c))
        return {row.id: row for row in rows if row.expires_at > now and row.used_by in ("", public_key)}
