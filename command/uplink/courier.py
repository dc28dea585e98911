"""The courier: attachments by hash, piece by piece, from whichever neighbour has them.

Shell. It travels on *later* only, asks for the next piece when the one before is on disk, and goes on where it stopped, after a
cut or a restart. Invariant: a file gets its name (its SHA-256) only after its octets were checked; what is wanted stands on
disk as an empty or unfinished `.part` file, so nothing has to be remembered.

A neighbour gets a file when an entry that it may hold names it (`holdings.gives`); knowing the hash is not enough.
"""

import asyncio
import hashlib
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import structlog

from command.base.clock import Clock
from command.base.entry import Entry
from command.base.failpoint import reach
from command.tree.outcome import GotBlob, WantBlob
from command.tree.wire import LATER
from command.uplink.peer import Peer

AT_ONCE = 4
"""Files from one neighbour at the same time; half of what a link allows."""
PIECE_S = 120.0
"""A piece that has not come by then is asked for again."""
ABSENT_S = 30.0
"""A neighbour that doesn't have a file yet is asked again after so long."""
WANTED_MAX = 10_000
PART = ".part"
NAME = re.compile(r"[0-9a-f]{64}")
KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"%PDF-", "application/pdf"),
)
"""The type of a file is no part of its hash: a received one is shown as what its first octets say, else offered for download."""

journal = structlog.get_logger("courier")


class Courier:
    """Feed it entries with `read`, answers with `got`, questions with `asked`; call `look` when something may be due."""

    def __init__(self, data: Path, clock: Clock, octets_max: int, gives: Callable[[str, str], Awaitable[bool]]) -> None:
        self._folder, self._clock, self._octets_max, self._gives = data / "attachments", clock, octets_max, gives
        self._given: dict[tuple[str, str], float] = {}
        """By neighbour and file that is here: infinity when it may have it, else until when that isn't asked again."""
        self._active: dict[tuple[str, str], float] = {}
        self._absent: dict[tuple[str, str], float] = {}
        self._wanted: dict[str, None] = {}
        self._erased: set[str] = set()

    async def open(self, erased: Iterable[str] = ()) -> None:
        """Go on with what was wanted before the restart, and finish deleting what was `erased`."""
        await self.erase(erased)
        found = await asyncio.to_thread(lambda: sorted(self._folder.glob(f"*{PART}")) if self._folder.is_dir() else [])
        self._wanted = {path.stem: None for path in found if NAME.fullmatch(path.stem)}

    @property
    def waiting(self) -> int:
        """Files that are not here yet."""
        return len(self._wanted)

    async def read(self, entries: Iterable[Entry]) -> None:
        """Want what these entries name and is not here."""
        for entry in entries:
            named = entry.body.get("attachments")
            for name in named if isinstance(named, list) else ():
                known = isinstance(name, str) and NAME.fullmatch(name) and name not in self._erased
                if known and len(self._wanted) < WANTED_MAX:
                    await self._want(name)

    async def _want(self, name: str) -> None:
        def begin() -> bool:
            if (self._folder / name).exists():
                return False
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{name}{PART}").touch()
            return True

        if name not in self._wanted and await asyncio.to_thread(begin):
            self._wanted[name] = None

    async def erase(self, names: Iterable[str]) -> None:
        """Delete these files, and want them no more until `stand` says so."""
        for name in names:
            self._erased.add(name)
            self._wanted.pop(name, None)
            for path in (self._folder / name, *(self._folder / f"{name}{suffix}" for suffix in (".type", PART))):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def stand(self, name: str) -> None:
        """An entry that was not erased names this file."""
        self._erased.discard(name)

    async def look(self, peers: Iterable[Peer]) -> None:
        """Ask neighbours for what is wanted, `AT_ONCE` files each."""
        now = self._clock.monotonic()
        self._active = {key: until for key, until in self._active.items() if until > now}
        self._absent = {key: until for key, until in self._absent.items() if until > now}
        for peer in peers:
            if LATER not in peer.proven:
                # What was asked on a connection that is gone will not be answered.
                self._active = {key: until for key, until in self._active.items() if key[0] != peer.node}
                continue
            busy = sum(1 for node, _ in self._active if node == peer.node)
            for name in self._wanted:
                if busy >= AT_ONCE:
                    break
                taken = any(other == name for _, other in self._active)
                if not taken and (peer.node, name) not in self._absent:
                    busy += 1
                    await self._ask(peer, name)

    async def _ask(self, peer: Peer, name: str) -> None:
        path = self._folder / f"{name}{PART}"
        offset = await asyncio.to_thread(lambda: path.stat().st_size if path.exists() else 0)
        self._active[peer.node, name] = self._clock.monotonic() + PIECE_S
        await peer.tell(lambda link: link.fetch(bytes.fromhex(name), offset))

    async def got(self, peer: Peer, piece: GotBlob) -> None:
        """Write a piece down, and ask for the next."""
        name = piece.hash.hex()
        if name not in self._wanted:
            self._active.pop((peer.node, name), None)
            return
        self._active[peer.node, name] = self._clock.monotonic() + PIECE_S  # while it is being written down, too
        try:
            more = await self._take(peer, name, piece)
        except OSError as error:
            journal.error("attachment.not_written", hash=name, error=str(error.strerror))
            self._absent[peer.node, name] = self._clock.monotonic() + ABSENT_S
            more = False
        if not more:
            self._active.pop((peer.node, name), None)

    async def _take(self, peer: Peer, name: str, piece: GotBlob) -> bool:
        """Whether more was asked for."""
        whole = 0 < piece.total <= piece.offset  # it was here already, and had not got its name yet
        if piece.total == 0 or (not whole and not piece.data):
            self._absent[peer.node, name] = self._clock.monotonic() + ABSENT_S
            return False
        if piece.total > self._octets_max:
            journal.warning("attachment.too_large", hash=name, octets=piece.total)
            await self._forget(name)
            return False
        reach("courier.before_write")
        if not whole and await asyncio.to_thread(self._write, name, piece) < piece.total:
            await self._ask(peer, name)
            return True
        if await asyncio.to_thread(self._finish, name):
            self._wanted.pop(name, None)
        else:
            journal.warning("attachment.wrong", hash=name, peer=peer.node)
            self._absent[peer.node, name] = self._clock.monotonic() + ABSENT_S
        return False

    async def asked(self, peer: Peer, question: WantBlob) -> None:
        """Answer with a piece; with a total of 0 when the file is not here, or not for this neighbour."""
        path = self._folder / question.hash.hex()
        may = await asyncio.to_thread(path.is_file) and await self._may(peer.node, path.name)
        channel = peer.channels.get(LATER)
        octets = question.length if channel is None else min(question.length, channel.piece_octets())

        def piece() -> tuple[int, bytes]:
            if not may or not path.is_file():
                return 0, b""
            with path.open("rb") as file:
                total = os.fstat(file.fileno()).st_size
                file.seek(min(question.offset, total))
                return total, file.read(octets)

        total, data = await asyncio.to_thread(piece)
        await peer.tell(lambda link: link.blob(question.hash, question.offset, total, data))

    async def _may(self, node: str, name: str) -> bool:
        """Whether a neighbour may have a file that is here; asked of the log once, as what it may hold only grows."""
        now = self._clock.monotonic()
        until = self._given.get((node, name), 0.0)
        if until <= now:
            if len(self._given) >= WANTED_MAX:
                self._given.clear()
            until = self._given[node, name] = math.inf if await self._gives(name, node) else now + ABSENT_S
            if until != math.inf:
                journal.warning("attachment.not_given", hash=name, peer=node)
        return until == math.inf

    def _write(self, name: str, piece: GotBlob) -> int:
        """The length of the part afterwards; a piece that doesn't go on where it ends is left out."""
        path = self._folder / f"{name}{PART}"
        with path.open("ab") as file:
            if file.tell() == piece.offset:
                file.write(piece.data)
            return file.tell()

    def _finish(self, name: str) -> bool:
        """Give the file its name if it is what its hash says; else begin again."""
        path = self._folder / f"{name}{PART}"
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            digest: Any = hashlib.file_digest(file, "sha256")
            file.seek(0)
            first = file.read(16)
        if digest.hexdigest() != name:
            path.write_bytes(b"")
            return False
        kind = next((kind for magic, kind in KINDS if first.startswith(magic)), "application/octet-stream")
        (self._folder / name).with_suffix(".type").write_text(kind)
        reach("courier.before_name")
        os.replace(path, self._folder / name)
        return True

    async def _forget(self, name: str) -> None:
        self._wanted.pop(name, None)
        await asyncio.to_thread((self._folder / f"{name}{PART}").unlink, True)
