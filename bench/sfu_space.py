"""A private network space for benches: loopback and one address nobody else can reach.

Never changes the machine's own network: everything lives in a network namespace that ends with the process.
Invariant: inside, the only interfaces are loopback and a veth pair whose both ends are ours.

Why: Janus refuses to gather candidates on the loopback interface. Packets between local addresses go through
loopback anyway, so figures taken on ADDRESS and on 127.0.0.1 are the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

MARK = "FENGHUO_BENCH_SPACE"
ADDRESS = "10.255.255.1"


def inside() -> bool:
    """True if this process already runs in a space made by `enter()`."""
    return os.environ.get(MARK) == "1"


def enter(module: str) -> str:
    """Run `python -m module` with our arguments again inside a space; returns only on failure, with the reason."""
    if inside():
        return ""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "unshare or ip is not installed"
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"no network namespace may be made here: {probe.stderr.strip()}"
    os.environ[MARK] = "1"
    sys.stdout.flush()
    os.execvp(command[0], [*command, sys.executable, "-m", module, *sys.argv[1:]])  # noqa: S606
    raise AssertionError("execvp does not return")


def furnish() -> None:
    """Bring up loopback and ADDRESS; call once, inside. Raises CalledProcessError."""
    for words in (
        "link set lo up",
        "link add fenghuo0 type veth peer name fenghuo1",
        f"addr add {ADDRESS}/32 dev fenghuo0",
        "link set fenghuo0 up",
        "link set fenghuo1 up",
    ):
        subprocess.run(["ip", *words.split()], check=True, stdout=sys.stderr)
