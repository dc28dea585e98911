"""WHIP and WHEP from outside: an aiortc peer publishes into a room with a bearer token, another views it."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aioice import stun
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError

from command.base.rights import Role
from command.domain.account import CreateAccount
from command.domain.meeting import ROOM, CloseRoom, OpenRoom, Room
from command.domain.registry import ACCOUNT
from command.edge.api import Node
from command.edge.auth import COOKIE
from media.sdp import SDP_BYTES_MAX
from media.sdpfrag import FRAGMENT_BYTES_MAX, FRAGMENT_TYPE
from tests.node import NODE, World, service, world

pytestmark = pytest.mark.any_store

SDP = "application/sdp"
FRAMES = 15


class Camera:
    """A WHIP or WHEP client: one aiortc connection, and the frames it decoded."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection()
        self.frames: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._pull(track))))

    async def offer(self, *, publish: bool) -> str:
        if publish:
            self.connection.addTrack(AudioStreamTrack())
            self.connection.addTrack(VideoStreamTrack())
        else:
            self.connection.addTransceiver("audio", direction="recvonly")
            self.connection.addTransceiver("video", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def take(self, answer: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def _pull(self, track: Any) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                async with self._changed:
                    self.frames[track.kind] = self.frames.get(track.kind, 0) + 1
                    self._changed.notify_all()

    async def decoded(self) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: all(self.frames.get(k, 0) >= FRAMES for k in ("audio", "video")))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.connection.close()


class Site:
    """A listening node with one incident and one open room in the county; `token` is a service account's."""

    def __init__(self, n: Node, base: str, w: World, http: aiohttp.ClientSession) -> None:
        self.n, self.base, self.w, self.http = n, base, w, http
        self.room = self.token = ""
        self.cameras: list[Camera] = []

    async def account(self, name: str, role: Role, organisation: str) -> str:
        request = CreateAccount(
            name=name, roles=[role], organisation=organisation, password_hash="x", must_change_password=False
        )
        return (await self.n.log.append(request, NODE)).id or ""

    async def session(self, account: str) -> str:
        row = await self.n.store.read(lambda c: self.n.store.shelf(ACCOUNT).get(c, account))
        token, _ = await self.n.auth.open(row, token=False)
        return str(token)

    async def open(self) -> None:
        officer = await self.account("officer", Role.DUTY_OFFICER, self.w.county)
        self.officer = await self.session(officer)
        body = {"category": "accident", "level": "III", "title": "演示事件", "place": {"lon": 155.0, "lat": 32.0}}
        incident = (await self.json("POST", "/api/v1/incidents", self.officer, body))["id"]
        opened = OpenRoom(incident=incident, title="会商", chair=officer)
        self.room = (await self.n.log.append(opened, NODE)).id or ""
        encoder = await self.account("encoder", Role.SERVICE, self.w.county)
        security = await self.session(await self.account("sec", Role.SECURITY_ADMIN, self.w.province))
        made = await self.json("POST", f"/api/v1/accounts/{encoder}/tokens", security, {"label": "摄像头", "days": 1})
        self.token = made["secret"]

    async def json(self, method: str, path: str, token: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex}
        async with self.http.request(method, self.base + path, json=body, headers=headers) as answer:
            assert answer.status < 300, (answer.status, await answer.text())
            return await answer.json()

    async def send(
        self, method: str, path: str, data: str | bytes = b"", *, token: str | None = None, kind: str = SDP
    ) -> tuple[int, str, str]:
        """(status, Location, body or error code)."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {token or self.token}"}
        async with self.http.request(method, self.base + path, data=data, headers=headers) as answer:
            text = await answer.text()
            code = text
            if answer.status >= 400:
                code = (await answer.json())["code"] if answer.content_type == "application/json" else ""
            return answer.status, answer.headers.get("Location", ""), code

    async def patch(self, location: str, fragment: str, match: str = "", **sent: str) -> tuple[int, str, str]:
        """(status, ETag, body or error code)."""
        headers = {"Content-Type": FRAGMENT_TYPE, "Authorization": f"Bearer {sent.pop('token', self.token)}"} | sent
        headers |= {"If-Match": match} if match else {}
        async with self.http.patch(self.base + location, data=fragment, headers=headers) as answer:
            text = await answer.text()
            code = (await answer.json())["code"] if answer.status >= 400 else text
            return answer.status, answer.headers.get("ETag", ""), code

    async def camera(self, path: str, *, publish: bool) -> tuple[Camera, str]:
        """A client whose offer was answered, and its resource."""
        made = Camera()
        self.cameras.append(made)
        status, location, answer = await self.send("POST", path, await made.offer(publish=publish))
        assert status == 201, answer
        await made.take(answer)
        return made, location

    async def members(self) -> list[str]:
        row: Room = await self.n.store.read(lambda c: self.n.store.shelf(ROOM).get(c, self.room))
        return [member.id for member in row.members]


@pytest.fixture
async def site(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with service(database_url, tmp_path, listen=True) as running, aiohttp.ClientSession() as http:
        made = Site(running.node, f"http://127.0.0.1:{running.port}", await world(running.node), http)
        await made.open()
        yield made
        for camera in made.cameras:
            await camera.close()


async def test_what_one_publishes_by_whip_another_decodes_by_whep(site: Site) -> None:
    _, published = await site.camera(f"/whip/{site.room}", publish=True)
    viewer, viewed = await site.camera(f"/whep/{site.room}", publish=False)
    await viewer.decoded()
    assert await site.members() == [published.rpartition("/")[2]]
    assert (await site.send("DELETE", viewed))[0] == 200
    assert (await site.send("DELETE", viewed))[0] == 404
    assert (await site.send("DELETE", published))[0] == 200
    assert (await site.send("DELETE", published))[0] == 404
    assert await site.members() == []


async def test_an_offer_and_a_fragment_may_come_in_many_pieces(site: Site) -> None:
    async def pieces(text: str) -> AsyncIterator[bytes]:
        for at in range(0, len(text), 700):
            yield text[at : at + 700].encode()
            await asyncio.sleep(0.002)  # a segment of its own

    offer = await Camera().offer(publish=True)
    headers = {"Content-Type": f"{SDP}; charset=utf-8", "Authorization": f"Bearer {site.token}"}
    async with site.http.post(f"{site.base}/whip/{site.room}", data=pieces(offer), headers=headers) as answer:
        assert answer.status == 201
        text, location, etag = await answer.text(), answer.headers["Location"], answer.headers["ETag"]
    assert text.count("a=mid:") == offer.count("a=mid:") == 2 and text.count("a=rtcp-mux-only\r\n") == 2
    headers |= {"Content-Type": FRAGMENT_TYPE, "If-Match": etag}
    async with site.http.patch(site.base + location, data=pieces(TRICKLED * 9 + "nonsense"), headers=headers) as answer:
        assert answer.status == 400  # all of it was read
    async with site.http.patch(site.base + location, data=pieces(TRICKLED * 9), headers=headers) as answer:
        assert answer.status == 204 and "ETag" not in answer.headers


async def test_a_view_of_one_member_shows_that_member(site: Site) -> None:
    _, published = await site.camera(f"/whip/{site.room}", publish=True)
    member = published.rpartition("/")[2]
    viewer, _ = await site.camera(f"/whep/{site.room}?member={member}", publish=False)
    await viewer.decoded()


async def test_a_view_of_nobody_is_refused(site: Site) -> None:
    offer = await Camera().offer(publish=False)
    assert (await site.send("POST", f"/whep/{site.room}?member=nobody", offer))[::2] == (404, "media.member.unknown")
    assert (await site.send("POST", f"/whep/{site.room}?member=no%20body", offer))[0] == 422
    assert (await site.send("POST", f"/whep/{site.room}?colour=red", offer))[::2] == (422, "query.unknown")


@pytest.mark.parametrize("edge", ["whip", "whep"])
async def test_offers_that_cannot_be_taken_are_refused_with_their_reason(site: Site, edge: str) -> None:
    offer = await Camera().offer(publish=edge == "whip")
    path = f"/{edge}/{site.room}"
    stranger = await site.session(await site.account("stranger", Role.DUTY_OFFICER, site.w.other_county))
    auditor = await site.session(await site.account("auditor", Role.AUDIT_ADMIN, site.w.province))
    refused = {
        (await site.send("POST", path, offer, token="wrong"))[0]: 401,
        (await site.send("POST", path, offer, token=auditor))[0]: 403,
        (await site.send("POST", f"/{edge}/nowhere", offer))[0]: 404,
        (await site.send("POST", path, offer, kind="application/json"))[0]: 415,
        (await site.send("POST", path, "v=0"))[0]: 422,
    }
    assert all(got == wanted for got, wanted in refused.items()) and len(refused) == 5
    assert (await site.send("POST", path, offer, token=stranger))[0] == 403
    idle = (422, "media.sdp.not_sending" if edge == "whip" else "media.sdp.no_codec")
    assert (await site.send("POST", path, re.sub("a=(send|recv)(only|recv)", "a=inactive", offer)))[::2] == idle
    assert (await site.send("POST", path, b"\xff\xfe"))[::2] == (422, "media.sdp.unreadable")
    assert (await site.send("POST", path, "v" * (SDP_BYTES_MAX + 1)))[::2] == (422, "media.sdp.too_long")
    assert (await site.send("PATCH", f"{path}/x", "a=end-of-candidates", kind=FRAGMENT_TYPE))[0] == 404
    for method, status in (("GET", 404), ("PUT", 405), ("POST", 405)):
        assert (await site.send(method, f"{path}/x", offer))[0] == status
    assert await site.members() == []


async def test_an_offer_is_taken_whole_or_not_at_all(site: Site) -> None:
    offer = await Camera().offer(publish=True)
    path = f"/whip/{site.room}"
    for part in (offer.replace("opus/48000", "codec2/8000"), offer.replace("BUNDLE 0 1", "BUNDLE 1")):
        assert (await site.send("POST", path, part))[::2] == (422, "media.sdp.partial")
    assert await site.members() == []
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\n"
    status, _, answer = await site.send("POST", path, offer.replace("BUNDLE 0 1", "BUNDLE 0 1 d") + data)
    assert status == 201
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n" in answer and "a=group:BUNDLE 0 1\r\n" in answer


async def test_a_resource_ends_only_by_its_maker_and_with_its_room(site: Site) -> None:
    _, published = await site.camera(f"/whip/{site.room}", publish=True)
    _, viewed = await site.camera(f"/whep/{site.room}", publish=False)
    for location in (published, viewed):
        assert (await site.send("DELETE", location, token=site.officer))[0] == 403
    await site.n.log.append(CloseRoom(id=site.room), NODE)
    async with asyncio.timeout(5):
        while (await site.send("DELETE", viewed))[0] != 404 or (await site.send("DELETE", published))[0] != 404:
            await asyncio.sleep(0.02)
    offer = await Camera().offer(publish=True)
    assert (await site.send("POST", f"/whip/{site.room}", offer))[::2] == (409, "room.closed")


async def test_the_chair_removes_a_publisher_and_its_resource_is_gone(site: Site) -> None:
    _, published = await site.camera(f"/whip/{site.room}", publish=True)
    member = published.rpartition("/")[2]
    path = f"/api/v1/rooms/{site.room}/members/{member}/act"
    await site.json("POST", path, site.officer, {"act": "remove"})
    async with asyncio.timeout(5):
        while await site.members():
            await asyncio.sleep(0.02)
    assert (await site.send("DELETE", published))[0] == 404


FRESH = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:fresh{0}\r\na=ice-pwd:" + "freshpassword" * 3 + "\r\n"
)
TRICKLED = "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host generation 0\r\na=end-of-candidates\r\n"


async def reached(port: int, ours: str, theirs: str, password: str) -> bool:
    """Whether a check under these credentials is answered."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{ours}:{theirs}"
    message.add_message_integrity(password.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        sock.send(bytes(message))
        async with asyncio.timeout(5):
            answer = stun.parse_message(await asyncio.get_running_loop().sock_recv(sock, 2000))
    return answer.message_class is stun.Class.RESPONSE and bool(answer.check_message_integrity(password.encode()))


@pytest.mark.parametrize("edge", ["whip", "whep"])
async def test_ice_is_restarted_by_a_patch_and_the_connection_goes_on(site: Site, edge: str) -> None:
    publisher, published = await site.camera(f"/whip/{site.room}", publish=True)
    viewer, viewed = await site.camera(f"/whep/{site.room}", publish=False)
    await viewer.decoded()
    location = published if edge == "whip" else viewed
    status, etag, answer = await site.patch(location, FRESH.format(1) + TRICKLED, "*")
    assert status == 200, answer
    lines = dict(line[2:].split(":", 1) for line in answer.split() if line.startswith("a=") and ":" in line)
    assert etag == f'"{lines["ice-ufrag"]}"'
    assert "typ host" in answer and "tcptype passive" in answer and "a=end-of-candidates" in answer
    port = int(answer.partition(" typ host")[0].rpartition(" ")[2])
    assert await reached(port, lines["ice-ufrag"], "fresh1", lines["ice-pwd"])
    viewer.frames.clear()
    await viewer.decoded()  # media went on, on the former address
    assert (await site.patch(location, TRICKLED, etag))[0] == 204
    assert (await site.patch(location, FRESH.format(1), "*"))[::2] == (204, "")  # these are in force: no restart
    status, second, _ = await site.patch(location, FRESH.format(2), '"*"')
    assert status == 200 and second != etag
    assert (await site.patch(location, TRICKLED, etag))[::2] == (412, "whip.etag")
    status, third, _ = await site.patch(location, FRESH.format(3), second)  # new credentials are a restart all the same
    assert status == 200 and third != second
    assert [camera.connection.connectionState for camera in (publisher, viewer)] == ["connected", "connected"]


@pytest.mark.parametrize("edge", ["whip", "whep"])
async def test_patches_that_cannot_be_taken_are_refused_and_change_nothing(site: Site, edge: str) -> None:
    camera = Camera()
    site.cameras.append(camera)
    offer = await camera.offer(publish=edge == "whip")
    headers = {"Content-Type": SDP, "Authorization": f"Bearer {site.token}"}
    async with site.http.post(f"{site.base}/{edge}/{site.room}", data=offer, headers=headers) as answer:
        location, etag = answer.headers["Location"], answer.headers["ETag"]
        assert answer.headers["Accept-Patch"] == FRAGMENT_TYPE
    assert (await site.patch(location, TRICKLED))[::2] == (428, "whip.if_match")
    assert (await site.patch(location, TRICKLED, '"other"'))[::2] == (412, "whip.etag")
    assert (await site.patch(location, FRESH.format(1), '"other"'))[::2] == (412, "whip.etag")
    for broken in (
        "v=0\r\n",
        "a=ice-ufrag:x\r\n",
        "a=ice-ufrag:fresh\r\n",
        "a=candidate:none\r\n",
        "a=x\n" * 300,
        "a=" + "x" * FRAGMENT_BYTES_MAX,
    ):
        assert (await site.patch(location, broken, "*"))[::2] == (400, "whip.fragment"), broken
    assert (await site.patch(location, TRICKLED, etag, token=site.officer))[::2] == (403, "whip.foreign")
    assert (await site.patch(location, TRICKLED, etag, **{"Content-Type": SDP}))[::2] == (415, "body.type")
    assert (await site.patch(f"/{edge}/{site.room}/none", TRICKLED, "*"))[::2] == (404, f"{edge}.missing")
    assert (await site.patch(location, TRICKLED, etag))[0] == 204


@pytest.mark.parametrize("edge", ["whip", "whep"])
async def test_pages_of_other_sites_may_ask_with_a_token_and_read_every_answer(site: Site, edge: str) -> None:
    foreign = {"Origin": "https://player.example"}
    endpoint = f"{site.base}/{edge}/{site.room}"
    for url, methods, accepts in (
        (endpoint, "GET, HEAD, OPTIONS, POST", ("Accept-Post", SDP)),
        (f"{endpoint}/any", "DELETE, GET, HEAD, OPTIONS, PATCH", ("Accept-Patch", FRAGMENT_TYPE)),
    ):
        async with site.http.options(url, headers=foreign) as answer:  # a preflight brings no token
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert answer.headers["Access-Control-Allow-Methods"] == answer.headers["Allow"] == methods
            assert {"Authorization", "Content-Type", "If-Match"} <= set(
                answer.headers["Access-Control-Allow-Headers"].split(", ")
            )
            assert answer.headers[accepts[0]] == accepts[1]
    camera = Camera()
    site.cameras.append(camera)
    offer = await camera.offer(publish=edge == "whip")
    proved = {"Authorization": f"bearer {site.token}", **foreign}  # RFC 9110 §11.1: in any case
    async with site.http.post(endpoint, data=offer, headers={"Content-Type": SDP, **proved}) as answer:
        assert answer.status == 201
        assert {"Location", "ETag"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        location = answer.headers["Location"]
    async with site.http.post(endpoint, data=offer, headers={"Content-Type": "text/plain", **proved}) as answer:
        assert (answer.status, answer.headers["Accept-Post"]) == (415, SDP)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    async with site.http.patch(site.base + location, data="x", headers={"Content-Type": SDP, **proved}) as answer:
        assert (answer.status, answer.headers["Accept-Patch"]) == (415, FRAGMENT_TYPE)
    for path, status, kind in ((endpoint, 200, SDP), (site.base + location, 204, "application/octet-stream")):
        for method in ("GET", "HEAD"):  # RFC 9725 §4.1; by the type players know an endpoint of WHEP
            async with site.http.request(method, path, headers=proved) as answer:
                assert (answer.status, answer.content_type, await answer.read()) == (status, kind, b"")
        async with site.http.put(path, headers=proved) as answer:
            assert answer.status == 405 and "OPTIONS" in answer.headers["Allow"]
    cookie = {"Content-Type": SDP, "Cookie": f"{COOKIE}={site.officer}", **foreign}
    for headers in (cookie, {**cookie, "Authorization": "Bearer"}, {**cookie, "Authorization": "Bearer wrong"}):
        async with site.http.post(endpoint, data=offer, headers=headers) as answer:
            assert answer.status in (401, 403)  # who is signed in here lends nothing to a foreign page
    async with site.http.get(f"{site.base}/healthz", headers=foreign) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
