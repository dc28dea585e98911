"""The link through a real HTTP proxy that wants to know who asks (proxy.py, a child process): CONNECT, TLS inside."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from command import ca
from command.domain.incident import AddNote
from tests.services import NOT_INSTALLED, die_with_parent, end, signal, wait_until
from tests.tree.scene import Member, until
from tests.tree.test_uplink import report

pytest.importorskip("proxy", reason=f"{NOT_INSTALLED}proxy.py")
START_S = 20.0
USER = "county:p%40ss"


@contextmanager
def proxy(folder: Path) -> Iterator[tuple[int, Path]]:
    """Its port and its log."""
    log, port = folder / "proxy.log", folder / "proxy.port"
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port)]
    alone = ["--num-workers", "1", "--num-acceptors", "1", "--data-dir", str(folder), "--basic-auth", "county:p@ss"]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, *alone], cwd=folder, stdout=written, stderr=written, preexec_fn=die_with_parent
        )
    try:
        wait_until(lambda: port.exists() and port.read_text().strip() != "", process, log, START_S)
        yield int(port.read_text()), log
    finally:
        end(process, signal.SIGINT, START_S)


async def test_a_link_goes_through_a_proxy_that_wants_a_password(tmp_path: Path) -> None:
    made = ca.make(tmp_path / "tls", ["127.0.0.1"])
    city, county = Member("city", tmp_path / "city", None), Member("county", tmp_path / "county", None)
    city.settings = {"tls_certificate": str(made.certificate), "tls_key": str(made.key)}
    with proxy(tmp_path) as (port, log):
        try:
            await city.start()
            way = {"parent": f"https://127.0.0.1:{city.port}", "parent_ca": str(made.authority)}
            county.settings = {**way, "parent_proxy": f"http://county:notthis@127.0.0.1:{port}"}
            with capture_logs() as journal:
                await county.start()
                (county.data / "join.code").write_text(await city.invite("county"))
                await until(lambda: county.uplink.refused == "link.proxy")
                await county.stop()
            assert "407" in str(journal) and "notthis" not in str(journal)

            county.settings["parent_proxy"] = f"http://{USER}@127.0.0.1:{port}"
            await county.start()
            await until(lambda: county.uplink.parent is not None and county.linked())
            incident = await report(county)
            await county.decide(AddNote(id=incident, text="火势扩大"))

            async def held() -> bool:
                return len(await city.entries(f"incident/{incident}")) == 2

            await until(held)
            assert f"CONNECT 127.0.0.1:{city.port}" in log.read_text()
        finally:
            for one in (county, city):
                if one.running:
                    await one.stop()
