"""Small pages of the harness's own tests, served from memory on a free loopback port with a chosen CSP.

Not part of the product. Invariant: nothing but what is in `documents` and `static/` is ever answered.
"""

import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import PurePosixPath

from aiohttp import web

from tests.services import ROOT

STATIC = ROOT / "static"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
OURS = {"/static/csp-style-map.js", "/static/icons.js"}


def import_map() -> tuple[str, str]:
    """The text of the inline import map, and the CSP source that allows it."""
    text = (STATIC / "importmap.json").read_text()
    return text, f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@contextlib.asynccontextmanager
async def site(documents: Mapping[str, str], policy: str) -> AsyncIterator[str]:
    """Serve `documents` (path -> text), `/static/` and `/vendor/` with Content-Security-Policy `policy`; yields the base URL."""
    allowed = json.loads((STATIC / "vendor.json").read_text())
    packages = tuple(f"{name}/" for name in allowed["packages"])

    async def handle(request: web.Request) -> web.Response:
        path = request.path
        kind = TYPES.get(PurePosixPath(path).suffix, "text/html")
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        if path in documents:
            return web.Response(text=documents[path], content_type=kind, headers=headers)
        name = path.removeprefix("/vendor/")
        if path.startswith("/vendor/") and name.startswith(packages) and name.endswith(tuple(allowed["suffixes"])):
            return web.Response(body=(STATIC / "node_modules" / name).read_bytes(), content_type=kind, headers=headers)
        if path in OURS:
            return web.Response(
                text=(STATIC / PurePosixPath(path).name).read_text(), content_type=kind, headers=headers
            )
        raise web.HTTPNotFound

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    try:
        port: int = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
