"""Two servers that never meet: what they know of each other goes to and fro on a stick, by `server.py export` and `import`."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import ROOT
from tests.tree.processes import Laid, cli, lay_out, lengths, officer, picture_hash, unset
from tests.tree.test_link_processes import REPORT

# tests/tree/test_bundle.py has the format, this the whole way: some twenty runs of the command line.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def _write(node: Laid, *texts: str, incident: str = "") -> str:
    """Run a node without any line, and write: a report when no incident is named, then notes."""
    node.server.environment = {**node.server.environment, "FENGHUO_PARENT": ""}
    await asyncio.to_thread(node.server.start)
    client = await officer(node.server)
    try:
        if not incident:
            status, answer = await client.call("POST", "/incidents", {**REPORT, "level": "II"})
            assert status == 201, answer
            incident = answer["id"]
        for text in texts:
            status, answer = await client.call("POST", f"/incidents/{incident}/notes", {"text": text})
            assert status == 201, answer
    finally:
        await client.http.close()
        await asyncio.to_thread(node.server.stop)
    return incident


async def _carry(source: Laid, target: Laid, stick: Path) -> None:
    """Over the operators' hands: out here, in there."""
    nodes = await asyncio.to_thread(cli, "admin", "nodes", "--data", str(source.data))
    to = next(line.split()[0] for line in nodes.splitlines() if f"  {target.name}  " in line)
    await asyncio.to_thread(cli, "export", "--data", str(source.data), "--to", to, str(stick))
    said = await asyncio.to_thread(cli, "import", "--data", str(target.data), str(stick))
    assert said.startswith("imported: ")


def _refused(node: Laid, stick: Path) -> str:
    """What `server.py import` says of a file that it doesn't take."""
    command = [sys.executable, str(ROOT / "server.py"), "import", "--data", str(node.data), str(stick)]
    done = subprocess.run(command, cwd=ROOT, env=unset(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


async def test_nodes_that_never_meet_agree_by_files_and_refuse_a_tampered_one(tmp_path: Path) -> None:
    laid = await lay_out(tmp_path, "province", "city", "county")
    province, county, stick = laid["province"], laid["county"], tmp_path / "stick"
    incident = await _write(county, "县里第1条")
    await _carry(county, province, stick)
    await _write(province, "省里已知悉", incident=incident)
    await _write(county, "县里第2条", incident=incident)
    old = stick.read_bytes()
    await _carry(province, county, tmp_path / "down")
    await _carry(county, province, tmp_path / "up")
    await _carry(province, county, tmp_path / "down")
    (tmp_path / "old").write_bytes(old)
    await asyncio.to_thread(cli, "import", "--data", str(province.data), str(tmp_path / "old"))  # late, and twice
    subject = f"incident/{incident}"
    assert lengths(province.data, subject) == lengths(county.data, subject)
    assert sum(lengths(province.data, subject).values()) == 4
    assert picture_hash(province.data) == picture_hash(county.data)
    for node in (province, county):
        assert " 0 problems" in await asyncio.to_thread(cli, "verify", "--all-seals", "--data", str(node.data))

    await _write(county, "县里第3条", incident=incident)
    good = tmp_path / "good"
    nodes = await asyncio.to_thread(cli, "admin", "nodes", "--data", str(county.data))
    to = next(line.split()[0] for line in nodes.splitlines() if "  province  " in line)
    await asyncio.to_thread(cli, "export", "--data", str(county.data), "--to", to, str(good))
    octets = good.read_bytes()
    before = lengths(province.data, subject)
    for at in (3, len(octets) // 3, len(octets) // 2, len(octets) - 40, len(octets) - 1):
        bad = bytearray(octets)
        bad[at] ^= 1
        (tmp_path / "bad").write_bytes(bytes(bad))
        said = await asyncio.to_thread(_refused, province, tmp_path / "bad")
        assert "At octet " in said, (at, said)
    (tmp_path / "bad").write_bytes(octets[: len(octets) // 2])
    assert "At octet " in await asyncio.to_thread(_refused, province, tmp_path / "bad")
    assert lengths(province.data, subject) == before
    await asyncio.to_thread(cli, "import", "--data", str(province.data), str(good))
    assert sum(lengths(province.data, subject).values()) == 5
