"""A network of the test's own: a namespace with one address that is not loopback.

What a phone on the LAN meets (HTTPS, no loopback privileges) without sending a packet anywhere. Invariant: the namespace is
gone when the context ends.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.services import NOT_INSTALLED

ADDRESS = "10.77.0.1"
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Network:
    """`prefix` runs a command inside; `inside()` puts this thread there for a moment."""

    name: str
    address: str = ADDRESS

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def wrap(self, folder: Path, program: str) -> str:
        """A script that runs `program` inside, for those who want one executable."""
        script = folder / f"{Path(program).name}-in-{self.name}"
        script.write_text(f'#!/bin/sh\nexec {" ".join(self.prefix)} {program} "$@"\n')
        script.chmod(0o755)
        return str(script)

    @contextmanager
    def inside(self) -> Iterator[None]:
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _enter(libc, there.fileno())
            try:
                yield
            finally:
                _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network() -> Iterator[Network]:
    """A fresh namespace with `ADDRESS` on a pair of its own; skips where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip(f"{NOT_INSTALLED}network namespaces (root and iproute2)")
    made = Network(f"fenghuo-{uuid4().hex[:8]}")
    try:
        _ip("netns", "add", made.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{NOT_INSTALLED}network namespaces ({error.stderr.decode().strip()})")
    try:
        _ip("-n", made.name, "link", "set", "lo", "up")
        _ip("-n", made.name, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        for link in ("lan0", "lan1"):
            _ip("-n", made.name, "link", "set", link, "up")
        _ip("-n", made.name, "addr", "add", f"{made.address}/24", "dev", "lan0")
        yield made
    finally:
        _ip("netns", "del", made.name)
