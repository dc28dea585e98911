"""Files over HTTP: the front end under a strict Content-Security-Policy, its packages from an allow-list, attachments.

Edge. Invariant: nothing outside `static/` and the allow-list is ever served, and an uploaded file is never handed to a
browser as something it could run.
"""

import asyncio
import base64
import gzip
import hashlib
import mimetypes
import os
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from command.base.errors import Missing, Rejected, TooLarge, Unavailable
from command.base.schema import Value
from command.edge.api import Call, Route, chunks

STATIC = Path(__file__).resolve().parents[2] / "static"
PAGES = {"/": "index.html", "/field": "field.html", "/docs/api": "docs/api.html"}
SERVICE_WORKER = "field/sw.js"
SQUEEZED = frozenset({".js", ".css", ".json", ".svg"})
SQUEEZED_BYTES_MIN, SQUEEZED_FILES_MAX = 500, 500
"""Files of the front end from this size on are sent compressed; so many are kept that way, some 700 kB for all pages."""
SQUEEZE_LEVEL = 6  # 9 takes three times as long for 2 % less
CHUNK_BYTES = 256 * 1024
PATH_MAX, NAME_MAX = 1000, 255
SAFE_TYPES = frozenset(
    {"image/jpeg", "image/png", "image/webp", "image/gif", "video/mp4", "audio/mpeg", "application/pdf"}
)
"""Types shown as they are; everything else is offered as a download."""

CSP = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(self), display-capture=(self), usb=(), payment=()",
}
_INLINE = re.compile(rb'<script type="importmap">(.*?)</script>', re.S)

mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("application/json", ".json")
mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("application/manifest+json", ".webmanifest")


def policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: its inline import map is allowed by its hash, nothing else inline."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(match).digest()).decode()}'" for match in _INLINE.findall(page)
    ]
    return CSP.format(scripts=" ".join(hashes)).replace("  ", " ")


class FrontEnd:
    """Serves `static/`: pages with their policy, our modules, and packages from the allow-list in `vendor.json`."""

    def __init__(self, root: Path = STATIC) -> None:
        self._root = root
        allowed = msgspec.json.decode((root / "vendor.json").read_bytes())
        self._packages = tuple(allowed["packages"])
        self._suffixes = frozenset(allowed["suffixes"])

    def add_to(self, app: web.Application) -> None:
        for path, file in PAGES.items():
            app.router.add_get(path, self._page(file))
        app.router.add_get("/static/{path:.+}", self._own)
        app.router.add_get("/vendor/{path:.+}", self._vendor)

    def _page(self, file: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def page(request: web.Request) -> web.StreamResponse:
            path = self._root / file
            if not path.is_file():
                raise web.HTTPNotFound
            octets = await asyncio.to_thread(path.read_bytes)
            headers = {"Content-Security-Policy": policy(octets), "Cache-Control": "no-cache"}
            return web.Response(body=octets, content_type="text/html", charset="utf-8", headers=headers)

        return page

    async def _own(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        response = await self._file(request, self._root, path, hidden=("node_modules",))
        if path == SERVICE_WORKER:
            # It stands below /static/ but serves /field, and what it fetches is subject to its own policy.
            response.headers["Service-Worker-Allowed"] = "/field"
            response.headers["Content-Security-Policy"] = policy(b"")
        return response

    async def _vendor(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if not path.startswith(tuple(f"{package}/" for package in self._packages)):
            raise web.HTTPNotFound
        if Path(path).suffix not in self._suffixes:
            raise web.HTTPNotFound
        return await self._file(request, self._root / "node_modules", path, cache="max-age=86400")

    async def _file(
        self, request: web.Request, root: Path, path: str, *, hidden: tuple[str, ...] = (), cache: str = "no-cache"
    ) -> web.StreamResponse:
        parts = path.split("/")
        if any(part in ("", ".", "..") or part in hidden or "\x00" in part for part in parts):
            raise web.HTTPNotFound
        if len(path) > PATH_MAX or any(len(part.encode(errors="replace")) > NAME_MAX for part in parts):
            raise web.HTTPNotFound  # asking the file system would be an error of its own
        found = root.joinpath(*parts)
        if not found.is_file() or not found.resolve().is_relative_to(root.resolve()):
            raise web.HTTPNotFound
        kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        headers = {"Content-Type": kind, "Cache-Control": cache, "Vary": "Accept-Encoding"}
        if found.suffix in SQUEEZED and "gzip" in request.headers.get("Accept-Encoding", ""):
            state = found.stat()
            if state.st_size >= SQUEEZED_BYTES_MIN:
                return await _squeezed(request, found, state, headers)
        return web.FileResponse(found, headers=headers)


async def _squeezed(
    request: web.Request, file: Path, state: os.stat_result, headers: dict[str, str]
) -> web.StreamResponse:
    """The file compressed, or that what the browser has is still right."""
    tag = f"{state.st_mtime_ns:x}-{state.st_size:x}-gzip"
    if any(known.value == tag for known in request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    else:
        octets = await asyncio.to_thread(_compressed, file, state.st_mtime_ns, state.st_size)
        response = web.Response(body=octets, headers={**headers, "Content-Encoding": "gzip"})
    response.etag = tag
    return response


@lru_cache(SQUEEZED_FILES_MAX)
def _compressed(file: Path, _modified_ns: int, _size: int) -> bytes:
    """Of a file as it is now: another modification, another entry."""
    return gzip.compress(file.read_bytes(), SQUEEZE_LEVEL, mtime=0)


@web.middleware
async def security_headers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Headers that every answer carries."""
    response = await handler(request)
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        if request.secure:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return response


# -- attachments


class Attachment(Value, frozen=True, kw_only=True):
    """A stored file: its SHA-256 in hex is its name."""

    hash: str
    size: int
    type: str


class UploadQuery(Value, frozen=True, kw_only=True):
    type: Annotated[str, Meta(max_length=100, pattern=r"^[a-z]+/[A-Za-z0-9.+-]+(?!\n)$")] = "application/octet-stream"


def _directory(call: Call) -> Path:
    return Path(call.node.config.data) / "attachments"


async def _upload(call: Call) -> Attachment:
    """Stream the body to disk under a temporary name, sync, then give it its hash as a name."""
    limit = call.node.config.attachment_bytes_max
    directory = _directory(call)
    temporary = directory / f"upload-{call.node.clock.token()}"
    digest, size = hashlib.sha256(), 0
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        file = await asyncio.to_thread(open, temporary, "wb")
    except OSError as error:
        raise _no_disk(error) from None
    try:
        async for chunk in chunks(call.request, CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                raise TooLarge("attachment.too_large", f"The file is larger than {limit} octets.")
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
        if size == 0:
            raise Rejected("attachment.empty", "The file is empty.")
        name = digest.hexdigest()
        await asyncio.to_thread(_settle, file, temporary, directory / name, call.query.type)
    except OSError as error:
        raise _no_disk(error) from None
    finally:
        file.close()
        temporary.unlink(missing_ok=True)
    return Attachment(hash=name, size=size, type=call.query.type)


def _no_disk(error: OSError) -> Unavailable:
    return Unavailable("attachment.disk", f"The file could not be stored: {error.strerror}")


def _settle(file: object, temporary: Path, final: Path, kind: str) -> None:
    file.flush()  # type: ignore[attr-defined]
    os.fsync(file.fileno())  # type: ignore[attr-defined]
    final.with_suffix(".type").write_text(kind)
    os.replace(temporary, final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _download(call: Call) -> web.StreamResponse:
    name = call.path["hash"]
    path = _directory(call) / name
    if not re.fullmatch("[0-9a-f]{64}", name) or not path.is_file():
        raise Missing("attachment.missing", "There is no such attachment on this node.")
    kind_file = path.with_suffix(".type")
    kind = kind_file.read_text() if kind_file.is_file() else "application/octet-stream"
    safe = kind in SAFE_TYPES
    headers = {
        "Content-Type": kind if safe else "application/octet-stream",
        "Content-Disposition": "inline" if safe else f'attachment; filename="{name[:16]}"',
        "Cache-Control": "private, max-age=86400",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return web.FileResponse(path, headers=headers)


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/attachments",
        right="incident.note",
        summary="Upload a file; the answer's hash goes into a note",
        query=UploadQuery,
        response=Attachment,
        handler=_upload,
        status=201,
        raw=("application/octet-stream",),
        errors=(503,),
    ),
    Route(
        method="GET",
        path="/attachments/{hash}",
        right="incident.read",
        summary="Download a file",
        handler=_download,
        produces="application/octet-stream",
        errors=(404,),
    ),
)
