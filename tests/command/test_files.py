"""The front end's files over HTTP: compressed for who can read that, and not sent again while they are the same."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web import Application

from command.edge.files import FrontEnd

TEXT = "export const name = '烽火';\n" * 100


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a server of a front end with two modules and a font."""
    (tmp_path / "vendor.json").write_text('{"packages": [], "suffixes": []}')
    (tmp_path / "long.js").write_text(TEXT)
    (tmp_path / "short.js").write_text("export {};\n")
    (tmp_path / "font.woff2").write_bytes(bytes(5000))
    app = Application()
    FrontEnd(tmp_path).add_to(app)
    async with TestServer(app) as server:
        yield str(server.make_url("/static/"))


async def fetched(url: str, **headers: str) -> tuple[int, str, bytes, str]:
    """(status, Content-Encoding, body as sent, ETag)."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(url, headers={"Accept-Encoding": "gzip, br", **headers}) as answer,
    ):
        assert answer.headers["Vary"] == "Accept-Encoding"
        return answer.status, answer.headers.get("Content-Encoding", ""), await answer.read(), answer.headers["ETag"]


async def test_a_long_text_is_sent_compressed_and_comes_out_as_it_is(site: str) -> None:
    status, encoding, body, _ = await fetched(f"{site}long.js")
    assert (status, encoding) == (200, "gzip") and len(body) < len(TEXT.encode()) / 5
    async with aiohttp.ClientSession() as http, http.get(f"{site}long.js") as answer:
        assert await answer.text() == TEXT and answer.content_type == "text/javascript"


async def test_what_is_short_or_dense_or_wanted_as_it_is_stays_so(site: str) -> None:
    for name, accept, size in (
        ("short.js", "gzip", 11),
        ("font.woff2", "gzip", 5000),
        ("long.js", "identity", len(TEXT.encode())),
    ):
        status, encoding, body, _ = await fetched(site + name, **{"Accept-Encoding": accept})
        assert (status, encoding, len(body)) == (200, "", size), name


async def test_a_file_is_sent_again_only_when_it_has_changed(site: str, tmp_path: Path) -> None:
    *_, tag = await fetched(f"{site}long.js")
    assert await fetched(f"{site}long.js", **{"If-None-Match": f'"other", {tag}'}) == (304, "", b"", tag)
    (tmp_path / "long.js").write_text(TEXT.upper())
    os.utime(tmp_path / "long.js", ns=(1, 1))
    status, encoding, _, newer = await fetched(f"{site}long.js", **{"If-None-Match": tag})
    assert (status, encoding) == (200, "gzip") and newer != tag
