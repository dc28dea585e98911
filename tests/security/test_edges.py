"""The edges of the API under hostile hands: origins, cookies, files, bodies, paths, headers and slow peers.

Whatever comes, the answer is a refusal that the document names, never a 5xx.
"""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yarl

import server
from command.base.clock import ManualClock
from command.base.entry import By
from command.base.rights import Role
from command.domain.account import SESSION, OpenSession
from command.edge import api, files
from command.edge.api import GATEWAY, JSON_BYTES_MAX, PUBLIC, SAFE_METHODS, Route
from command.edge.auth import COOKIE, TRIES_PER_MINUTE
from command.edge.openapi import address, statuses
from command.edge.patience import FIRST_REQUEST_S
from command.log.submission import Receipt
from tests.command.assembly import PASSWORD, Assembly, assembled
from tests.security.scene import ANY, Scene, scene

ROUTES = server.house().routes
GUARDED = [route for route in ROUTES if route.right not in (PUBLIC, GATEWAY)]
UNSAFE = [route for route in ROUTES if route.method not in SAFE_METHODS and route.right != GATEWAY]
ID = "00000000000000000000000000"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def s(module_databases: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One for all tests of this file that leave nothing behind but what they made."""
    async with scene(module_databases(), tmp_path_factory.mktemp("scene"), log_level="error") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def bare(database_url: str, tmp_path: Path) -> AsyncIterator[Assembly]:
    async with assembled(database_url, tmp_path) as made:
        yield made


def path_of(route: Route, value: str = ID) -> str:
    path = address(route)
    for name in route.fields:
        known = {"number": "+447700900001", "hash": "0" * 64}.get(name, ID)
        path = path.replace(f"{{{name}}}", known if value == ID else value)
    return path


async def send(s: Scene, method: str, path: str, headers: dict[str, str], data: Any = None) -> tuple[int, str]:
    """Status and code. `path` goes out as it is written."""
    url = yarl.URL(s.base + path, encoded=True)
    async with s.http.request(method, url, data=data, headers=headers, allow_redirects=False) as answer:
        body = await answer.read()
        code = json.loads(body).get("code", "") if answer.content_type == "application/json" and body else ""
        return answer.status, code


# -- who asks


async def test_no_route_answers_without_a_session(s: Scene) -> None:
    for route in GUARDED:
        for cookie in ({}, {"Cookie": f"{COOKIE}=nonsense"}, {"Authorization": "Bearer nonsense"}):
            headers = {"Origin": s.base, **cookie}
            status, code = await send(s, route.method, path_of(route), headers)
            assert status == 401 and code in ("auth.none", "auth.ended"), (route.method, route.path, status)


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1", "{base}.evil.example"])
async def test_a_foreign_or_missing_origin_is_refused_on_every_unsafe_method_and_both_sockets(
    s: Scene, origin: str | None
) -> None:
    headers = {"Cookie": f"{COOKIE}={s.tokens[Role.SYSTEM_ADMIN]}", "Idempotency-Key": "x"}
    if origin is not None:
        headers["Origin"] = origin.format(base=s.base)
    for route in UNSAFE:
        assert await send(s, route.method, path_of(route), headers) == (403, "origin.foreign"), route.path
    headers["Cookie"] = f"{COOKIE}={s.tokens[Role.DUTY_OFFICER]}"
    for path in ("/api/v1/live", f"/api/v1/rooms/{s.things['room'][ANY]}/signal"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await s.http.ws_connect(s.base + path, headers=headers)
        assert refused.value.status == 403


async def test_a_bearer_token_needs_no_origin_but_another_scheme_does(s: Scene) -> None:
    token = s.tokens[Role.DUTY_OFFICER]
    path, body = "/api/v1/session", b'{"language":"zh"}'
    typed = {"Content-Type": "application/json"}
    assert (await send(s, "PATCH", path, {"Authorization": f"Bearer {token}", **typed}, body))[0] == 200
    headers = {"Authorization": "Basic eDp5", "Cookie": f"{COOKIE}={token}", **typed}
    assert await send(s, "PATCH", path, headers, body) == (403, "origin.foreign")


async def test_a_limited_session_is_told_what_is_demanded(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path, totp_required=True) as node:
        client = await node.signed_in("officer")
        status, answer = await client.call("GET", "/incidents")
        assert (status, answer["code"], answer["details"]) == (403, "session.limited", {"demanded": ["totp"]})


@pytest.mark.any_store
async def test_too_many_tries_are_a_429_that_says_when_to_come_back(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()  # all within one minute, however slow the machine is at hashing
    async with assembled(database_url, tmp_path, clock=clock) as node:
        client = node.client()
        wrong = {"name": "nobody", "password": "not the password"}
        tries = (client.call("POST", "/session", wrong) for _ in range(TRIES_PER_MINUTE * 2))
        answers = Counter(status for status, _ in await asyncio.gather(*tries))
        assert answers == {401: TRIES_PER_MINUTE, 429: TRIES_PER_MINUTE}
        status, answer = await client.call("POST", "/session", wrong)
        assert (status, answer["code"]) == (429, "auth.too_many")
        assert client.answer.headers["Retry-After"] == str(answer["details"]["retry_after_s"])
        assert 0 < answer["details"]["retry_after_s"] <= 60


async def test_the_cookie_is_strict_and_out_of_reach_of_scripts(bare: Assembly) -> None:
    client = bare.client()
    await client.sign_in("officer")
    cookie = client.answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert "domain=" not in cookie


# -- what is documented is what is answered


async def test_every_route_refuses_a_wrong_type_a_large_body_and_an_unreadable_path_as_documented(s: Scene) -> None:
    admins = {role: s.headers(role) for role in Role}
    for route in ROUTES:
        if route.right == GATEWAY:
            continue
        role = next((role for role in Role if route.right == PUBLIC or granted(role, route.right)), Role.DUTY_OFFICER)
        headers = {**admins[role], "Idempotency-Key": f"{route.method}{route.path}"}
        known = statuses(route)
        if route.fields:
            for hostile in ("%00", "%0a", "..%2f", "%f0%28%8c%28", "x" * 201, "a%0a", "%20"):
                found = await send(s, route.method, path_of(route, hostile), headers)
                assert found == (422, "path.invalid"), (route.method, route.path, hostile, found)
                assert 422 in known
        if (route.request is not None and not route.raw) or route.raw:
            wrong = await send(s, route.method, path_of(route), headers | {"Content-Type": "text/x-none"}, b"{}")
            assert wrong == (415, "body.type"), (route.method, route.path, wrong)
            assert {400, 408, 413, 415} <= set(known)
        if route.request is not None and not route.raw:
            sent = headers | {"Content-Type": "application/json"}
            found = await send(s, route.method, path_of(route), sent, b" " * (JSON_BYTES_MAX + 1))
            assert found == (413, "body.too_large"), (route.method, route.path, found)
        if route.query is not None and not route.raw:
            found = await send(s, route.method, f"{path_of(route)}?none_such=1", headers)
            assert found == (422, "query.unknown"), (route.method, route.path, found)
        if route.command:
            sent = {name: value for name, value in headers.items() if name != "Idempotency-Key"}
            status, _ = await send(s, route.method, path_of(route), sent | {"Content-Type": "application/json"}, b"{}")
            assert status == 422, (route.method, route.path)


def granted(role: Role, right: str) -> bool:
    from command.base.rights import RIGHTS

    return role in RIGHTS[right]


async def test_the_document_describes_every_route_and_names_no_500(s: Scene) -> None:
    async with s.http.get(f"{s.base}/api/v1/openapi.json") as answer:
        document = await answer.json()
    described = {(method.upper(), path) for path, ways in document["paths"].items() for method in ways}
    assert {(route.method, address(route)) for route in ROUTES} < described
    operations = [way for ways in document["paths"].values() for way in ways.values()]
    assert not any("500" in way["responses"] for way in operations)
    names = [way["operationId"] for way in operations]
    assert len(set(names)) == len(names)
    text = json.dumps([way["parameters"] for way in operations])
    assert '"null"' not in text and '"default": null' not in text
    sockets = {path for path, ways in document["paths"].items() if "101" in ways.get("get", {}).get("responses", {})}
    links = {"/link/now", "/link/later", "/link/pair"}
    assert sockets == {"/api/v1/live", "/api/v1/rooms/{id}/signal", *links}


# -- bodies


def _report(**changes: Any) -> bytes:
    body = {"category": "accident", "level": "IV", "title": "x", "place": {"lon": 1, "lat": 1}, **changes}
    return json.dumps(body).encode()


DEEP = b'{"area":' + b'{"a":' * 900 + b"1" + b"}" * 901
POLYGON = b'"category":"accident","level":"IV","title":"x","place":{"lon":1,"lat":1}'
HOSTILE = {
    "depth bomb of arrays": b"[" * 100_000,
    "depth bomb of objects": b'{"a":' * 100_000,
    "deep but closed": DEEP,
    "deep inside a geometry": b"{" + POLYGON + b',"area":{"type":"Polygon","coordinates":' + b"[" * 950 + b"]" * 950 + b"}}",
    "deep foreign member": b"{" + POLYGON + b',"area":{"type":"Polygon","coordinates":[[[1,1],[2,1],[2,2],[1,1]]],"x":'
    + b"[" * 950 + b"]" * 950 + b"}}",
    "huge integer": _report().replace(b'"lon": 1', b'"lon": ' + b"9" * 5_000),
    "huge integer in a geometry": b"{" + POLYGON + b',"area":{"type":"Polygon","coordinates":[[[' + b"9" * 400
    + b",1],[2,1],[2,2],[1,1]]]}}",
    "overflowing float": _report().replace(b'"lon": 1', b'"lon": 1e999'),
    "not a number": _report().replace(b'"lon": 1', b'"lon": NaN'),
    "infinite": _report().replace(b'"lon": 1', b'"lon": Infinity'),
    "invalid utf-8": _report(title="?").replace(b"?", b"\xff\xfe"),
    "overlong utf-8": _report(title="?").replace(b"?", b"\xc0\xaf"),
    "encoded surrogate": _report(title="?").replace(b"?", b"\xed\xa0\x80"),
    "lone high surrogate": _report(title="?").replace(b"?", rb"\ud800"),
    "lone low surrogate": _report(title="?").replace(b"?", rb"\udc00x"),
    "reversed surrogates": _report(title="?").replace(b"?", rb"\udc00\ud800"),
    "u+0000": _report(title="?").replace(b"?", rb"\u0000"),
    "u+0000 in a description": _report(description="a\x00b"),
    "byte order mark": b"\xef\xbb\xbf" + _report(),
    "utf-16": _report().decode().encode("utf-16"),
    "truncated": _report()[:-1],
    "two values": _report() + _report(),
    "a number": b"1",
    "a string": b'"x"',
    "null": b"null",
    "unknown field": _report(none_such=1),
    "wrong types": _report(title=1),
    "bool for a number": _report(place={"lon": True, "lat": 1}),
}  # fmt: skip


async def test_hostile_json_is_refused_and_never_a_bug(s: Scene) -> None:
    for number, (name, body) in enumerate(HOSTILE.items()):
        headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/json", "Idempotency-Key": f"h{number}"}
        status, _ = await send(s, "POST", "/api/v1/incidents", headers, body)
        assert status in (413, 422), (name, status)
        path = f"/api/v1/incidents/{s.things['incident'][ANY]}/notes"
        status, _ = await send(s, "POST", path, headers | {"Idempotency-Key": f"n{number}"}, body)
        assert status in (403, 413, 422), (name, status)
    assert not s.service.failed.is_set()


async def test_of_a_member_given_twice_the_last_counts_and_the_path_beats_the_body(s: Scene) -> None:
    """As I-JSON allows; what matters is that check and use read the same value."""
    headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/json"}
    body = _report()[:-1] + b',"title":"y"}'
    async with s.http.post(f"{s.base}/api/v1/incidents", data=body, headers=headers) as answer:
        key = (await answer.json())["id"]
    status, found = await s.ask(Role.DUTY_OFFICER, "GET", f"/incidents/{key}")
    assert (status, found["incident"]["title"]) == (200, "y")
    status, receipt = await s.ask(
        Role.DUTY_OFFICER, "POST", f"/incidents/{key}/notes", {"id": s.things["incident"][ANY], "text": "x"}
    )
    assert (status, receipt["id"]) == (201, key)


async def test_a_compressed_bomb_is_stopped_at_the_limit(s: Scene) -> None:
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert await send(s, "POST", "/api/v1/incidents", headers, bomb) == (413, "body.too_large")
    for junk in (b"junk", bomb[:50]):
        try:
            status, _ = await send(s, "POST", "/api/v1/incidents", headers, junk)
        except aiohttp.ServerDisconnectedError:
            continue  # the server's parser gave up on the connection
        assert status in (400, 422), status
    good = gzip.compress(_report())
    assert (await send(s, "POST", "/api/v1/incidents", headers, good))[0] == 201


async def test_an_attachment_over_the_limit_leaves_nothing_behind(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path, attachment_bytes_max=100_000) as s:
        headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/octet-stream"}
        found = await send(s, "POST", "/api/v1/attachments", headers, b"x" * 100_001)
        assert found == (413, "attachment.too_large")
        assert [path.name for path in (tmp_path / "attachments").iterdir() if path.name.startswith("upload-")] == []


async def test_a_disk_that_takes_no_attachment_is_a_503_in_words(bare: Assembly) -> None:
    client = await bare.signed_in("officer")
    (Path(bare.service.config.data) / "attachments").write_text("in the way")
    typed = {"Content-Type": "application/octet-stream"}
    assert await client.refused("POST", "/attachments", data=b"x", **typed) == (503, "attachment.disk")


async def raw(s: Scene | Assembly, text: bytes, *, hang_up: bool = True) -> bytes:
    """What the server answers to these octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", s.service.port)
    try:
        writer.write(text)
        await writer.drain()
        if hang_up and writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_broken_http_is_a_400_and_never_a_bug(s: Scene) -> None:
    token = s.tokens[Role.DUTY_OFFICER]
    head = (
        f"POST /api/v1/incidents HTTP/1.1\r\nHost: 127.0.0.1:{s.service.port}\r\nOrigin: {s.base}\r\n"
        f"Cookie: {COOKIE}={token}\r\nContent-Type: application/json\r\nIdempotency-Key: raw\r\nConnection: close\r\n"
    ).encode()
    for text in (
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 1e3\r\n\r\n",
        head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
    ):
        answer = await raw(s, text)
        assert answer == b"" or answer.split(b" ")[1] in (b"400", b"404", b"422"), (text[:60], answer[:200])
        assert b"Traceback" not in answer and b"site-packages" not in answer
    await raw(s, head + b"Content-Length: 1000\r\n\r\n{")  # hangs up in the middle: nobody is left to answer
    assert (await s.ask(Role.DUTY_OFFICER, "GET", "/incidents"))[0] == 200


async def test_headers_that_lie_are_refused(s: Scene) -> None:
    path, body = "/api/v1/incidents", _report()
    headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/json"}
    for seen in ("²", "-1", "1.5", "9" * 19, "x", "１２"):
        found = await send(s, "POST", path, headers | {"Fenghuo-Seen": seen}, body)
        assert found == (422, "seen.unreadable"), (seen, found)
    for key in ("", "x" * 129, "a\tb"):
        found = await send(s, "POST", path, headers | {"Idempotency-Key": key}, body)
        assert found == (422, "idempotency.missing"), (key, found)
    for method in ("TRACE", "CONNECT", "OPTIONS", "HEAD", "PROPFIND"):
        status, _ = await send(s, method, path, headers)
        assert status in (400, 403, 404, 405), (method, status)


async def test_header_octets_that_are_no_utf_8_open_a_session_like_any_other_and_prove_nothing(bare: Assembly) -> None:
    body = json.dumps({"name": "officer", "password": PASSWORD}).encode()
    typed = f"Origin: {bare.base}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    host = f"Host: 127.0.0.1:{bare.service.port}\r\n".encode()
    common = b" /api/v1/session HTTP/1.1\r\nConnection: close\r\nUser-Agent: \xff\xfe\r\n" + host
    for proof in (b"Cookie: fenghuo=\xff\xfe\r\n", b"Authorization: Bearer \xff\r\n"):
        opened = await raw(bare, b"POST" + common + proof + typed + b"\r\n" + body, hang_up=False)
        assert opened.startswith(b"HTTP/1.1 200"), opened[:300]
        asked = await raw(bare, b"GET" + common + proof + b"\r\n", hang_up=False)
        assert asked.startswith(b"HTTP/1.1 401") and b'"auth.ended"' in asked, asked[:300]
    client = await bare.signed_in("officer")
    assert "??" in {shown["agent"] for shown in (await client.ok("GET", "/sessions"))["items"]}


async def test_a_row_that_no_store_can_hold_fails_its_own_request_and_the_node_goes_on(bare: Assembly) -> None:
    account, log = bare.accounts["officer"], bare.node.log
    wanted = [
        OpenSession(id=f"row-{number}", account=account, expires_at=4 * 10**15, agent=agent)
        for number, agent in enumerate(("a", "\udcff", "b"))
    ]
    done = await asyncio.gather(*(log.append(one, By(account=account)) for one in wanted), return_exceptions=True)
    assert [type(one) for one in done] == [Receipt, UnicodeEncodeError, Receipt]
    kept = await bare.node.store.read(lambda c: bare.node.store.shelf(SESSION).select(c))
    assert {row.agent for row in kept} == {"a", "b"}
    assert not bare.service.failed.is_set()


# -- slow peers


async def test_who_sends_half_a_header_is_cut_off_and_who_was_heard_is_not(bare: Assembly) -> None:
    patience, runner, now = bare.service._patience, bare.service._runner, asyncio.get_running_loop().time()
    assert runner is not None and runner.server is not None
    heard_reader, heard = await asyncio.open_connection("127.0.0.1", bare.service.port)
    heard.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/1.1 200" in await heard_reader.readline()
    reader, writer = await asyncio.open_connection("127.0.0.1", bare.service.port)
    writer.write(b"GET / HTTP/1.1\r\nHost:")
    await writer.drain()
    async with asyncio.timeout(10):
        while len(runner.server.connections) == len(patience._heard & set(runner.server.connections)):
            await asyncio.sleep(0)  # until the server has accepted it
    assert patience.sweep(runner.server, now) == 0
    assert patience.sweep(runner.server, now + FIRST_REQUEST_S) == 1
    heard.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        while b"HTTP/1.1 200" not in await heard_reader.readline():
            pass
    writer.close()
    heard.close()


async def test_a_body_that_never_ends_is_given_up(s: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_S", 0.2)
    for path, kind in (("/api/v1/incidents", "application/json"), ("/api/v1/attachments", "application/octet-stream")):
        headers = s.headers(Role.DUTY_OFFICER)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        text = f"POST {path} HTTP/1.1\r\nHost: {s.base[7:]}\r\n{lines}Content-Type: {kind}\r\nContent-Length: 100\r\n\r\n{{"
        reader, writer = await asyncio.open_connection("127.0.0.1", s.service.port)
        writer.write(text.encode())
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408"), path
        writer.close()


# -- files


TRAVERSALS = (
    "/static/../server.py",
    "/static/%2e%2e/server.py",
    "/static/%2e%2e%2fserver.py",
    "/static/..%2fserver.py",
    "/static/..%5cserver.py",
    "/static/i18n/../../server.py",
    "/static//etc/passwd",
    "/static/%2fetc/passwd",
    "/static/./app.js",
    "/static/%00",
    "/static/app.js%00.css",
    "/static/app.js/",
    "/static/i18n",
    "/static/",
    "/static/node_modules/lit/package.json",
    "/static/i18n/../node_modules/lit/index.js",
    "/static/%6eode_modules/lit/index.js",
    "/vendor/../server.py",
    "/vendor/lit/../../../server.py",
    "/vendor/lit/%2e%2e/%2e%2e/%2e%2e/server.py",
    "/vendor/typescript/lib/typescript.js",
    "/vendor/playwright-core/index.js",
    "/vendor/lit",
    "/vendor/litter/index.js",
    "/vendor/%00/x.js",
    "/static/%ff%fe",
    "/static/" + "a/" * 2_000 + "x",
    "/static/" + "a" * 5_000,
)


async def test_nothing_outside_the_front_end_and_the_allow_list_is_served(s: Scene) -> None:
    for path in TRAVERSALS:
        status, _ = await send(s, "GET", path, {})
        assert status in (400, 403, 404), (path, status)
    assert (await send(s, "GET", "/static/app.js", {}))[0] == 200


async def test_pages_carry_a_strict_policy_and_every_answer_the_protecting_headers(s: Scene) -> None:
    for path in (*files.PAGES, "/static/app.js", "/api/v1/session", "/none", "/healthz"):
        async with s.http.get(s.base + path) as answer:
            headers = answer.headers
            if answer.status == 404 and path in files.PAGES:
                continue  # a page that isn't built yet
            for name, value in files.HEADERS.items():
                assert headers[name] == value, (path, name)
            policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'", path
            text = headers["Content-Security-Policy"]
            assert "unsafe" not in text and "http:" not in text and "*" not in text, path
            if path in files.PAGES:
                assert policy["script-src"].startswith("'self' 'sha256-") or policy["script-src"] == "'self'", path
                page = await answer.text()
                assert " style=" not in page and "<style" not in page and "onclick=" not in page, path


async def test_an_uploaded_page_is_only_ever_a_download(s: Scene) -> None:
    headers = s.headers(Role.DUTY_OFFICER) | {"Content-Type": "application/octet-stream"}
    url = f"{s.base}/api/v1/attachments?type=text/html"
    async with s.http.post(url, data=b"<script>alert(1)</script>", headers=headers) as answer:
        name = (await answer.json())["hash"]
    async with s.http.get(f"{s.base}/api/v1/attachments/{name}", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
