"""Real servers for the tests: PostgreSQL, Redis and Fenghuo itself, child processes on free loopback ports.

Never a double, never a fixed port, never shared between two test runs. Invariant: whatever is started here
is stopped by the same object's `stop()`, and dies with the test process (PR_SET_PDEATHSIG).
"""

import contextlib
import ctypes
import glob
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg import sql

ROOT = Path(__file__).parent.parent
NOT_INSTALLED = "SKIPPED (not installed): "
START_TIMEOUT_S = 180.0
"""A readiness is no promise of the product's: its own bounds are asserted by tests of their own."""
STOP_TIMEOUT_S = 10.0
PATIENT_STOP_S = 60.0
"""Of what is stopped for the next test, on a machine that does other things."""
ANSWER_TIMEOUT_S = 20.0
POLL_S = 0.02
PORT_ATTEMPTS = 5
LOG_TAIL_BYTES = 4000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def program(name: str, *patterns: str) -> str:
    """The path of an installed program: on PATH, else the newest match of `patterns`; skips the test if
    there is none.
    """
    matches = [match for pattern in patterns for match in sorted(glob.glob(pattern), reverse=True)]
    found = shutil.which(name) or next(iter(matches), None)
    if found is None:
        pytest.skip(NOT_INSTALLED + name)
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago. The caller must be ready to try again with
    another.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Run in the child between fork and exec: be killed when the test process is, or the thread that forked (prctl(2))."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class NotStarted(Exception):
    """A child process ended, or was not ready in time; the message holds the end of its log."""


def log_tail(path: Path) -> str:
    """The last LOG_TAIL_BYTES of a log, for messages to people."""
    return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if path.exists() else ""


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Poll a foreign process until `ready()`; there is nothing to wait on but its port.

    Raises NotStarted when the process ends first or `timeout_s` has passed.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise NotStarted(f"{process.args!r} ended with {process.returncode}\n{log_tail(log)}")
        if time.monotonic() > deadline:
            raise NotStarted(f"{process.args!r} not ready in {timeout_s} s\n{log_tail(log)}")
        time.sleep(POLL_S)


def end(process: subprocess.Popen[bytes], number: signal.Signals, timeout_s: float) -> float:
    """Send `number`, wait for the end, return the seconds it took; kills and raises AssertionError after
    `timeout_s`.
    """
    started = time.monotonic()
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{process.args!r} still ran {timeout_s} s after {number.name}") from None
    return time.monotonic() - started


class Postgres:
    """One PostgreSQL cluster in a temporary directory, fsync on, on a free port and a Unix socket beside its
    data.

    Runs as the user `postgres` when the tests run as root (initdb refuses root).
    """

    TEMPLATE = "fenghuo_template"

    def __init__(self) -> None:
        self._bin = Path(program("postgres", "/usr/lib/postgresql/*/bin/postgres")).resolve().parent
        self._user = "postgres" if os.geteuid() == 0 else None
        self._password = secrets.token_hex(16)
        self._names = count()
        # Not below pytest's own directory: that is closed to the user `postgres`.
        self.directory = Path(tempfile.mkdtemp(prefix="fenghuo-pg-", dir="/tmp"))
        self.log = self.directory / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Make the cluster, start it and create the empty template database."""
        secret = self.directory / "password"
        secret.write_text(self._password)
        if self._user:
            ids = pwd.getpwnam(self._user)
            for path in (self.directory, secret):
                os.chown(path, ids.pw_uid, ids.pw_gid)
        command: list[str | Path] = [
            self._bin / "initdb",
            "-D",
            self.directory / "data",
            "-U",
            "fenghuo",
            "--pwfile",
            secret,
        ]
        command += ["-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8"]
        subprocess.run(
            command,
            user=self._user,
            cwd=self.directory,
            env=self._environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._launch()
                break
            except NotStarted:
                if attempt == PORT_ATTEMPTS - 1:
                    raise
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(self.TEMPLATE)))
        return self

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}

    def _launch(self) -> None:
        self.port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "max_connections": 60,
            "shared_buffers": "64MB",
        }
        command = [str(self._bin / "postgres"), "-D", str(self.directory / "data")]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                user=self._user,
                cwd=self.directory,
                env=self._environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        wait_until(self._answers, self._process, self.log, START_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=int(ANSWER_TIMEOUT_S)).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        """The `FENGHUO_DATABASE` value of one of this cluster's databases."""
        return f"postgresql://fenghuo:{self._password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside a transaction, as superuser, in the database `postgres`."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def fresh(self, template: str = TEMPLATE) -> str:
        """The name of a new database copied from `template` (the empty one); that must have no open connection."""
        name = f"test_{next(self._names)}"
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, name: str) -> None:
        """Drop a database, cutting the connections a failed test may have left."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Fast shutdown (SIGINT), then remove everything."""
        try:
            if self._process is not None:
                end(self._process, signal.SIGINT, PATIENT_STOP_S)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


class RedisServer:
    """One Redis server without persistence on a free port of 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self._program = program("redis-server")
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "redis.log"
        self.port = 0

    @property
    def url(self) -> str:
        """The `FENGHUO_REDIS` value of this server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start and wait for the port. May be called again after `stop()`: the port stays the same then."""
        for attempt in range(PORT_ATTEMPTS):
            self.port = self.port or free_port()
            command = [
                self._program,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self._directory),
            ]
            command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
                )
            try:
                wait_until(self._answers, self._process, self.log, START_TIMEOUT_S)
                return self
            except NotStarted:
                if attempt == PORT_ATTEMPTS - 1:
                    raise
                self.port = 0
        raise AssertionError("unreachable")

    def _answers(self) -> bool:
        return self._ask(b"PING\r\n") == b"+PONG\r\n"

    def _ask(self, line: bytes) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), ANSWER_TIMEOUT_S) as connection:
                connection.sendall(line)
                return connection.recv(100)
        except OSError:
            return b""

    def clear(self) -> None:
        """Forget every key."""
        assert self._ask(b"FLUSHALL\r\n") == b"+OK\r\n"

    def stop(self) -> None:
        """Stop; tests also call it to take Redis away from under a running node."""
        if self._process is not None:
            end(self._process, signal.SIGTERM, PATIENT_STOP_S)


@dataclass(kw_only=True)
class ServerProcess:
    """`server.py` as a real child process.

    `mode` is the sub-command (`demo` or `serve`); `data` its data directory; `environment` further FENGHUO_*
    variables,
    which win over those made here. `base_url` is known before the start; `credentials` after it (demo only).
    """

    data: Path
    database_url: str
    mode: str = "demo"
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    command_prefix: tuple[str, ...] = ()  # e.g. strace and its options
    host: str = "127.0.0.1"  # or an address of the LAN; then TLS is needed
    port: int = 0
    tls: tuple[Path, Path] | None = None  # certificate chain and key, PEM
    process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """Where standard output and error go, over all starts."""
        return self.data.parent / f"{self.data.name}.log"

    @property
    def credentials(self) -> dict[str, str]:
        """Account name -> password, from the demo's file (JSON object, or lines `account password ...`)."""
        text = (self.data / "demo-credentials").read_text()
        if text.lstrip().startswith("{"):
            return dict(json.loads(text))
        pairs = (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#"))
        return {words[0].rstrip(":"): words[1] for words in pairs if len(words) >= 2}

    def start(self, timeout_s: float = START_TIMEOUT_S) -> float:
        """Start and wait for `/readyz`; returns the seconds that took. Raises NotStarted with the end of the
        log.
        """
        self.port = self.port or free_port()
        settings = {
            "FENGHUO_DATA": str(self.data),
            "FENGHUO_HOST": self.host,
            "FENGHUO_PORT": str(self.port),
            "FENGHUO_DATABASE": self.database_url,
            "FENGHUO_PASSWORD_HASH_MIB": "19",  # the least there is: a demo hashes thirty passwords
        }
        if self.tls:
            settings |= {"FENGHUO_TLS_CERTIFICATE": str(self.tls[0]), "FENGHUO_TLS_KEY": str(self.tls[1])}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FENGHUO_")}
        command = [*self.command_prefix, sys.executable, str(ROOT / "server.py"), self.mode, *self.arguments]
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**inherited, **settings, **self.environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        try:
            wait_until(self.ready, self.process, self.log, timeout_s)
        except NotStarted:
            self.kill()
            raise
        return time.monotonic() - started

    def ready(self) -> bool:
        """Does `/readyz` answer 200? Whether the certificate is good is not asked here."""
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        try:
            with urllib.request.urlopen(
                f"{self.base_url}/readyz", timeout=ANSWER_TIMEOUT_S, context=trusting
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @contextlib.contextmanager
    def running(self, stop_s: float = PATIENT_STOP_S) -> Iterator[Self]:
        """Started, for as long as this is entered; ended by SIGTERM with status 0 within `stop_s`, or killed if anything
        goes wrong.
        """
        try:
            self.start()
            yield self
            self.stop(stop_s)
        finally:
            self.kill()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> float:
        """SIGTERM; fails the test unless it ended within `timeout_s` with status 0 (or was killed before); returns
        seconds.
        """
        assert self.process is not None, "start() first"
        already = self.process.poll()
        took = end(self.process, signal.SIGTERM, timeout_s)
        assert already is not None or self.process.returncode == 0, (
            f"server.py ended with {self.process.returncode}\n{log_tail(self.log)}"
        )
        return took

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()


class Seed:
    """What the first start of a demo leaves on SQLite, made once and copied for every node that may begin there.

    That start takes 6 s of CPU (a hash for each account); a copy none of it. All copies are the same node, so they must
    never meet: no two of them on one link.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self) -> Self:
        """Start a demo over nothing, and stop it."""
        with self._over(self._directory, {}).running():
            return self

    def node(self, directory: Path, **settings: Any) -> ServerProcess:
        """A demo over a copy in `directory`, which must not exist; `settings` are ServerProcess's. Not yet started."""
        shutil.copytree(self._directory, directory)
        return self._over(directory, settings)

    def _over(self, directory: Path, settings: Mapping[str, Any]) -> ServerProcess:
        url = f"sqlite:///{directory / 'fenghuo.db'}"
        return ServerProcess(data=directory / "node", database_url=url, **settings)
