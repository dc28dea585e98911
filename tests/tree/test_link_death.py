"""kill -9 of a node where it has received and not yet stored, and where it has sent and not yet heard: the slice of
`test_link_crash.py` that every check runs."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from command.base.schema import Category, Level, Place
from command.domain.incident import AddNote, ReportIncident
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from tests.services import ROOT
from tests.tree.processes import lengths, picture_hash
from tests.tree.scene import Member, tree, until

STEPS = ("link.before_store", "link.after_send")


@asynccontextmanager
async def lives(member: Member, incident: str) -> AsyncIterator[Process]:
    """The lives of a node that is at rest, one after the other."""
    assert member.superior is not None
    parent = f"http://127.0.0.1:{member.superior.port}"
    command = ["-m", "tests.tree.lives", str(member.data), str(member.port), parent, incident, *STEPS]
    made = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=PIPE, start_new_session=True)
    try:
        yield made
    finally:
        if made.returncode is None:
            os.killpg(made.pid, signal.SIGKILL)
            await made.wait()


async def reported(county: Member) -> str:
    root = await county.decide(SaveOrganisation(name="县", tier=Tier.COUNTY))
    place = Place(lon=106.0, lat=29.0)
    request = ReportIncident(
        category=Category.ACCIDENT, level=Level.II, title="厂房起火", place=place, organisation=root
    )
    return await county.decide(request)


async def test_a_node_killed_while_it_receives_and_while_it_sends_loses_nothing_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with tree(tmp_path, "city", "county") as nodes:
        city, county = nodes["city"], nodes["county"]
        incident = await reported(county)
        subject = f"incident/{incident}"
        await nodes.same(subject)
        await county.stop()
        told, acknowledged = [], 1  # the report
        async with lives(county, incident) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                told.append(line.decode().split())
                if told[-1] == ["noted"]:
                    await city.decide(AddNote(id=incident, text=f"{len(told)}"))
                    acknowledged += 2
                if told[-1][0] == "living":
                    break

            def agree() -> bool:
                held = lengths(city.data, subject)
                return sum(held.values()) >= acknowledged and held == lengths(county.data, subject)

            await until(agree)
            await until(lambda: picture_hash(city.data) == picture_hash(county.data))
            os.kill(int(told[-1][1]), signal.SIGTERM)
            assert await process.wait() == 0
        assert [line for line in told if line[0] == "died"] == [["died", "-9"], ["died", "-9"]]
        total = sum(lengths(city.data, subject).values())
        assert (
            acknowledged <= total <= acknowledged + len(STEPS)
        )  # of each life at most one more, that it couldn't answer
