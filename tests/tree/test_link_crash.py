"""kill -9 of either end at each named step of the link, and a receiver whose disk is full: nothing acknowledged is lost, nothing
counts twice. Real processes."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from command.base.failpoint import LINK_STEPS
from tests.command.assembly import Client
from tests.services import NOT_INSTALLED, NotStarted, ServerProcess
from tests.tree.processes import lay_out, lengths, picture_hash
from tests.tree.scene import until
from tests.tree.test_link_processes import Pair, pair, report

__all__ = ["pair"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COUNTS = (1, 2)
"""The first time a step is reached, on *now*, and the second: for most steps in the middle of the traffic, for a greeting on
*later*."""
NOTES_MAX = 60
OCTETS = 100_000
DISK_OCTETS = 64 * 1024 * 1024


class Notes:
    """What was asked of both ends about one incident, and what they acknowledged."""

    def __init__(self, pair: Pair, incident: str) -> None:
        self.pair, self.incident = pair, incident
        self.asked = self.acknowledged = 1  # the report itself

    async def write(self, at: Client, **more: object) -> bool:
        self.asked += 1
        try:
            status, _ = await at.call(
                "POST", f"/incidents/{self.incident}/notes", {"text": f"第{self.asked}条", **more}
            )
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return False
        self.acknowledged += status == 201
        return status == 201

    def whole(self) -> bool:
        """Both ends hold the same, no less than was acknowledged and no more than was asked."""
        city, county = (
            lengths(data, f"incident/{self.incident}") for data in (self.pair.city_data, self.pair.county_data)
        )
        assert sum(city.values()) <= self.asked and sum(county.values()) <= self.asked
        return city == county and sum(city.values()) >= self.acknowledged

    async def agree(self) -> None:
        await until(self.whole)
        await until(lambda: picture_hash(self.pair.city_data) == picture_hash(self.pair.county_data))


def dead(node: ServerProcess) -> bool:
    assert node.process is not None
    return node.process.poll() is not None


@pytest.mark.parametrize("victim", ["city", "county"])
@pytest.mark.parametrize("step", LINK_STEPS)
async def test_an_end_killed_there_loses_nothing_and_doubles_nothing(pair: Pair, step: str, victim: str) -> None:
    node = pair.city if victim == "city" else pair.county
    if step.startswith("courier.") and victim == "county":
        pytest.skip("the attachment of this test goes up only")
    notes = Notes(pair, await report(await pair.at(pair.county)))
    await notes.agree()
    folder = pair.county_data / "attachments"
    folder.mkdir(exist_ok=True)
    for count in COUNTS:
        octets = random.Random(count).randbytes(OCTETS)
        photo = hashlib.sha256(octets).hexdigest()
        (folder / photo).write_bytes(octets)
        await asyncio.to_thread(node.stop)
        plain = dict(node.environment)
        # The name is given once a file; everything else happens often enough.
        node.environment["FENGHUO_CRASH_AT"] = f"{step}:{1 if step == 'courier.before_name' else count}"
        with contextlib.suppress(NotStarted):  # killed by what the link did while it started
            await asyncio.to_thread(node.start)
        await _until_death(notes, pair, node, photo)
        assert node.process is not None and node.process.wait() == -signal.SIGKILL
        node.environment.clear()
        node.environment.update(plain)
        await asyncio.to_thread(node.start)
        await notes.agree()
        if step.startswith("courier."):
            await until(lambda: (pair.city_data / "attachments" / photo).exists())  # noqa: B023
            assert (pair.city_data / "attachments" / photo).read_bytes() == octets


async def _until_death(notes: Notes, pair: Pair, node: ServerProcess, photo: str) -> None:
    """Write at both ends until the victim is dead."""
    clients: list[Client] = []
    for one in (pair.county, pair.city):
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, AssertionError, TimeoutError):
            if not dead(one):
                clients.append(await pair.at(one))
    if not dead(node) and clients:
        await notes.write(clients[0], attachments=[photo])
    for _ in range(NOTES_MAX):
        if dead(node):
            return
        await asyncio.gather(*(notes.write(client) for client in clients))
        await asyncio.sleep(0.1)
    await until(lambda: dead(node))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own at the folder (tmpfs), which `filled` can fill."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_OCTETS}", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip(f"{NOT_INSTALLED}mounting a tmpfs (root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Nothing more fits on the file system of this folder."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    try:
        yield
    finally:
        filler.unlink()


async def test_a_receiver_whose_disk_is_full_says_so_and_takes_everything_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "city"):
        pair = Pair(await lay_out(tmp_path, "city", "county"))
        try:
            for node in (pair.city, pair.county):
                await asyncio.to_thread(node.start)
            await _full_and_free_again(pair)
        finally:
            await asyncio.gather(*(client.http.close() for client in pair.clients))
            for node in (pair.county, pair.city):
                node.kill()


async def _full_and_free_again(pair: Pair) -> None:
    county, city = await pair.at(pair.county), await pair.at(pair.city)
    notes = Notes(pair, await report(county))
    await notes.agree()
    folder = pair.county_data / "attachments"
    folder.mkdir(exist_ok=True)
    photo = os.urandom(OCTETS)
    name = hashlib.sha256(photo).hexdigest()
    (folder / name).write_bytes(photo)

    async def told() -> bool:
        """The sender sees that the other lacks something."""
        return any(one["lag_entries"] for one in (await county.ok("GET", "/tree/line"))["nodes"])

    with filled(pair.city_data):
        assert await notes.write(county, attachments=[name])
        until_full = 0
        while "link.not_stored" not in pair.city.log.read_text():  # a write-ahead log has some room of its own
            until_full += 1
            assert until_full < 2000 and await notes.write(county, text="火" * 1500)
        assert not notes.whole()
        await until(told)
        await notes.write(city)  # refused, not lost
        status, _ = await city.call("GET", f"/incidents/{notes.incident}")
        assert status == 200  # what it holds can be read
        assert not dead(pair.city) and not (pair.city_data / "attachments" / name).exists()
    await notes.agree()
    assert await notes.write(city)
    await notes.agree()
    await until(lambda: (pair.city_data / "attachments" / name).exists())
    assert (pair.city_data / "attachments" / name).read_bytes() == photo
