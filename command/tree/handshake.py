"""The first two frames on each channel of a link: who are you, and can you prove it?

Pure. TLS carries the link but says nothing about who speaks: each side signs both Hellos with its node's key, so a proxy that
opens TLS can read along and can't pretend. Invariant: nothing but Hello, Proof and Refuse passes before both are proven.
"""

import hashlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from command.base.errors import Corrupt, Denied
from command.tree.wire import VERSION, VERSION_OLDEST, Hello, Message, Proof, encode

CONTEXT = b"fenghuo link 1\x00"


class Doorkeeper(Protocol):
    """What the handshake must know of the nodes around."""

    def admits(self, node: str, key: bytes) -> str | None:
        """None when the node is a neighbour of ours with this very key and not revoked; otherwise the code of the refusal."""
        ...

    def proves(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `signature` over `message` is by the raw public `key`."""
        ...


class Stage(Enum):
    CLOSED = auto()
    HELLO = auto()
    PROOF = auto()
    READY = auto()


class Handshake:
    """One channel's handshake. `dialer` is the child's side. `peer` is set once READY; `hello` once the other's Hello came."""

    def __init__(
        self, me: Hello, dialer: bool, doorkeeper: Doorkeeper, sign: Callable[[bytes], bytes], expected: str | None
    ) -> None:
        self.stage = Stage.HELLO
        self.hello: Hello | None = None
        self._me, self._dialer, self._doorkeeper, self._sign, self._expected = me, dialer, doorkeeper, sign, expected

    def received(self, message: Message) -> list[Message]:
        """What to answer. Raises `Denied` or `Corrupt`; the caller must then refuse and hang up."""
        match self.stage, message:
            case Stage.HELLO, Hello():
                self._check(message)
                self.hello, self.stage = message, Stage.PROOF
                return [Proof(signature=self._sign(self._challenge(mine=True)))]
            case Stage.PROOF, Proof():
                assert self.hello is not None
                if not self._doorkeeper.proves(self.hello.key, self._challenge(mine=False), message.signature):
                    raise Denied("link.unproven", "The signature is not by the key that was shown.")
                self.stage = Stage.READY
                return []
        raise Corrupt("link.order", f"A {type(message).__name__} at stage {self.stage.name}.")

    def _check(self, hello: Hello) -> None:
        low, high = hello.versions
        if min(high, VERSION) < max(low, VERSION_OLDEST):
            raise Denied(
                "link.version", f"This node speaks versions {VERSION_OLDEST} to {VERSION}, you {low} to {high}."
            )
        if hello.channel != self._me.channel:
            raise Corrupt("link.channel", f"This is channel {self._me.channel!r}, not {hello.channel!r}.")
        if hello.node == self._me.node or (self._expected is not None and hello.node != self._expected):
            raise Denied("link.other_node", f"{hello.node} is not the node that was expected here.")
        if hello.nonce == self._me.nonce:
            raise Denied("link.echo", "That is our own Hello.")
        refusal = self._doorkeeper.admits(hello.node, hello.key)
        if refusal is not None:
            raise Denied(refusal, f"{hello.node} is not admitted here.")

    def _challenge(self, *, mine: bool) -> bytes:
        """What `mine` (or the other's) signature covers: both Hellos, the dialer's first, and the signer's role."""
        assert self.hello is not None
        ours, theirs = hashlib.sha256(encode(self._me)).digest(), hashlib.sha256(encode(self.hello)).digest()
        first, second = (ours, theirs) if self._dialer else (theirs, ours)
        return CONTEXT + (b"dialer" if self._dialer == mine else b"answer") + first + second
