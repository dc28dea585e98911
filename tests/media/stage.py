"""A tiny conference page and its signalling, straight onto a real `MediaWorker`; and aiortc peers beside it.

Not part of the product. Invariant: nothing here stands in for the worker; only the edge is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError

from command.base.errors import Missing, Unavailable
from media import control
from media.remote import MediaWorker

PAGE = """<!doctype html><title>stage</title><link rel="icon" href="data:,"><body><script>
const query = new URLSearchParams(location.search);
const state = {errors: [], published: "", received: "", tracks: {}, gap: 0};
window.fresh = () => { state.gap = 0; };
const videos = {};
const socket = new WebSocket(`ws://${location.host}/ws?member=${query.get("member")}`);
const say = (message) => socket.send(JSON.stringify(message));
const note = (what) => (error) => state.errors.push(`${what}: ${error}`);
const gathered = (peer) => peer.iceGatheringState === "complete" ? Promise.resolve() : new Promise((done) =>
  peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done()));
let publishing, receiving, stream;
async function publish() {
  const layers = query.get("layers");
  const size = layers ? {width: 1280, height: 720, frameRate: 15} : {width: 640, height: 480};
  stream = await navigator.mediaDevices.getUserMedia({audio: true, video: size});
  publishing = new RTCPeerConnection();
  publishing.onconnectionstatechange = () => { state.published = publishing.connectionState; };
  for (const track of stream.getTracks()) {
    const sendEncodings = layers && track.kind === "video" ? [
      {rid: "q", scaleResolutionDownBy: 4, maxBitrate: 130000},
      {rid: "h", scaleResolutionDownBy: 2, maxBitrate: 450000},
      {rid: "f", maxBitrate: 1500000, active: layers === "all"}] : [{}];
    publishing.addTransceiver(track, {direction: "sendonly", streams: [stream], sendEncodings});
  }
  await publishing.setLocalDescription();
  say({t: "publish", sdp: publishing.localDescription.sdp});
}
window.slide = () => {
  const canvas = document.createElement("canvas");
  canvas.width = 1280; canvas.height = 720;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; context.fillRect(0, 0, 1280, 720);
  context.fillStyle = "#111"; context.font = "28px monospace";
  const text = "The quick brown fox jumps over the lazy dog 0123456789";
  for (let row = 0; row < 16; row++) context.fillText(`${row} ${text}`, 40, 60 + row * 42);
  return canvas;
};
async function share() {
  const canvas = window.slide();
  stream = canvas.captureStream(10);
  const track = stream.getVideoTracks()[0];
  track.contentHint = "text";
  publishing = new RTCPeerConnection();
  publishing.onconnectionstatechange = () => { state.published = publishing.connectionState; };
  const {sender, mid} = publishing.addTransceiver(track, {direction: "sendonly", streams: [stream]});
  await publishing.setLocalDescription();
  say({t: "publish", sdp: publishing.localDescription.sdp, screens: ["0"]});
  const context = canvas.getContext("2d");
  let turns = 0; // drawn again for a while, so that the encoder makes it sharp; then nothing moves any more
  const timer = setInterval(() => {
    context.fillRect(1279, 719, 1, 1);
    state.still = ++turns > 40;
    if (state.still) clearInterval(timer);
  }, 100);
}
window.differs = () => { // mean difference of what is shown from the slide, 0-255
  const size = [1280, 720], data = [window.slide(), Object.values(videos)[0]].map((image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, ...size);
    return context.getImageData(0, 0, ...size).data;
  });
  let sum = 0;
  for (let at = 0; at < data[0].length; at += 4) sum += Math.abs(data[0][at] - data[1][at]);
  return sum / (data[0].length / 4);
};
function show({track, streams}) {
  if (track.kind !== "video") {
    const audio = document.createElement("audio");
    audio.srcObject = new MediaStream([track]); audio.muted = true; audio.play();
    return;
  }
  const video = document.createElement("video");
  video.muted = true; video.playsInline = true; video.width = 160;
  video.srcObject = new MediaStream([track]);
  video.play().catch(() => {});
  let last = 0;
  const shown = (now) => {
    state.first ??= now - state.asked;
    if (last) state.gap = Math.max(state.gap, now - last);
    last = now;
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  document.body.append(video);
  videos[streams[0] ? streams[0].id : track.id] = video;
}
async function offered(offer) {
  if (!receiving) {
    receiving = new RTCPeerConnection();
    receiving.onconnectionstatechange = () => { state.received = receiving.connectionState; };
    receiving.ontrack = show;
  }
  state.tracks = offer.tracks;
  await receiving.setRemoteDescription({type: "offer", sdp: offer.sdp});
  await receiving.setLocalDescription();
  say({t: "answer", peer: offer.peer, revision: offer.revision, sdp: receiving.localDescription.sdp});
}
let chain = Promise.resolve();
socket.onmessage = ({data}) => {
  const message = JSON.parse(data);
  if (message.t === "published") publishing.setRemoteDescription({type: "answer", sdp: message.sdp}).catch(note("answer"));
  if (message.t === "offer") chain = chain.then(() => offered(message)).catch(note("offer"));
  if (message.t === "layers") limit(message).catch(note("layers"));
  if (message.t === "failed") state.errors.push(message.code + " " + message.hint);
};
socket.onopen = () => {
  if (query.get("publish")) publish().catch(note("publish"));
  if (query.get("slide")) share().catch(note("share"));
  state.asked = performance.now();
  if (query.get("receive")) say({t: "subscribe"});
};
async function limit({mid, rids}) {
  state.layers = rids;
  const {sender} = publishing.getTransceivers().find((each) => each.mid === mid);
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings) encoding.active = rids.includes(encoding.rid);
  await sender.setParameters(parameters);
}
window.tile = (height) => say({t: "tiles", tiles: Object.fromEntries(
  state.tracks.filter(({media}) => media === "video").map(({track}) => [track, height]))});
async function view(source) {
  receiving = new RTCPeerConnection();
  receiving.onconnectionstatechange = () => { state.received = receiving.connectionState; };
  receiving.ontrack = show;
  receiving.addTransceiver("audio", {direction: "recvonly"});
  receiving.addTransceiver("video", {direction: "recvonly"});
  await receiving.setLocalDescription();
  const answer = await fetch(`/whep?source=${source || ""}`, {method: "POST", body: receiving.localDescription.sdp});
  await receiving.setRemoteDescription({type: "answer", sdp: await answer.text()});
}
window.mean = (video) => {
  const canvas = document.createElement("canvas");
  canvas.width = 32; canvas.height = 24;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 32, 24);
  const pixels = context.getImageData(0, 0, 32, 24).data;
  let sum = 0;
  for (let at = 0; at < pixels.length; at += 4) sum += pixels[at] + pixels[at + 1] + pixels[at + 2];
  return sum / (pixels.length / 4 * 3);
};
window.look = async () => {
  const seen = {...state, video: [], audio: [], pictures: Object.values(videos).map(window.mean)};
  if (receiving) for (const row of (await receiving.getStats()).values()) {
    if (row.type !== "inbound-rtp") continue;
    seen[row.kind].push({frames: row.framesDecoded || 0, bytes: row.bytesReceived, lost: row.packetsLost,
      dropped: row.framesDropped || 0, freezes: row.freezeCount || 0, energy: row.totalAudioEnergy || 0,
      keys: row.keyFramesDecoded || 0, width: row.frameWidth || 0, height: row.frameHeight || 0,
      frozen: row.totalFreezesDuration || 0, packets: row.packetsReceived,
      concealed: row.concealedSamples || 0, samples: row.totalSamplesReceived || 0,
      nacks: row.nackCount || 0, plis: row.pliCount || 0});
  }
  if (publishing) for (const row of (await publishing.getStats()).values())
    if (row.type === "outbound-rtp" && row.kind === "video") seen.sent = {frames: row.framesEncoded, nacks: row.nackCount,
      plis: row.pliCount, target: row.targetBitrate, width: row.frameWidth, limit: row.qualityLimitationReason};
  return seen;
};
</script></body>"""
ROOM = "room"


class Stage:
    """One room of a real worker, a web server for browsers, and helpers to wait for what the worker says."""

    def __init__(self) -> None:
        self.events: list[control.AnyEvent] = []
        self.url = ""
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.relay_port = 0  # browsers are told this port instead of the worker's, if set
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.worker = MediaWorker(self._heard)

    async def open(self, *, addresses: list[str] | None = None) -> None:
        self.worker = MediaWorker(self._heard, addresses=addresses)
        await self.worker.start()
        await self.worker.open_room(ROOM)

    def _heard(self, event: control.AnyEvent) -> None:
        self.events.append(event)
        self._changed.set()
        if isinstance(event, control.Offer) and event.member in self.sockets:
            tracks = [{"mid": t.mid, "member": t.member, "media": t.media, "track": t.track} for t in event.tracks]
            message = {
                "t": "offer",
                "peer": event.peer,
                "revision": event.revision,
                "sdp": self._told(event.sdp),
                "tracks": tracks,
            }
            self._tasks.append(asyncio.ensure_future(self.sockets[event.member].send_str(json.dumps(message))))

        if isinstance(event, control.Layers) and event.member in self.sockets:
            message = {"t": "layers", "mid": event.mid, "rids": event.rids}
            self._tasks.append(asyncio.ensure_future(self.sockets[event.member].send_str(json.dumps(message))))

    def _told(self, sdp: str) -> str:
        port = self.relay_port or self.worker.port
        return sdp.replace(f" {self.worker.port} ", f" {port} ")

    async def until(self, test: Callable[[control.AnyEvent], bool], timeout_s: float = 20) -> control.AnyEvent:
        """The first event, past or future, that passes `test`."""
        at = 0
        async with asyncio.timeout(timeout_s):
            while True:
                while at < len(self.events):
                    if test(self.events[at]):
                        return self.events[at]
                    at += 1
                self._changed.clear()
                await self._changed.wait()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        member = request.query["member"]
        self.sockets[member] = socket
        await self.worker.join(ROOM, member)
        async for message in socket:
            asked = json.loads(message.data)
            try:
                if asked["t"] == "publish":
                    _, sdp = await self.worker.publish(ROOM, member, asked["sdp"], screens=asked.get("screens", []))
                    await socket.send_json({"t": "published", "sdp": self._told(sdp)})
                elif asked["t"] == "subscribe":
                    await self.worker.subscribe(ROOM, member)
                elif asked["t"] == "tiles":
                    await self.worker.tiles(ROOM, member, asked["tiles"])
                else:
                    await self.worker.answer(asked["peer"], asked["revision"], asked["sdp"])
            except Exception as error:
                await socket.send_json({"t": "failed", "code": getattr(error, "code", "?"), "hint": str(error)})
        return socket

    async def _view(self, request: web.Request) -> web.Response:
        _, sdp = await self.worker.view(ROOM, await request.text(), source=request.query.get("source") or None)
        return web.Response(text=sdp)

    @contextlib.asynccontextmanager
    async def site(self, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serve the page on `host`; yields its base URL on loopback."""
        application = web.Application()
        application.router.add_get("/", _page)
        application.router.add_get("/ws", self._socket)
        application.router.add_post("/whep", self._view)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        listener = web.TCPSite(runner, host, 0)
        await listener.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            for socket in self.sockets.values():
                await socket.close()
            await runner.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


@contextlib.asynccontextmanager
async def stage(*, addresses: list[str] | None = None) -> AsyncIterator[Stage]:
    """A stage with one open room; stopped at the end."""
    made = Stage()
    await made.open(addresses=addresses)
    try:
        yield made
    finally:
        await made.worker.stop()


class Client:
    """A full aiortc client of the stage: publishes synthetic media, receives and counts decoded frames."""

    def __init__(self, stage: Stage, member: str) -> None:
        self.stage = stage
        self.member = member
        self.frames: dict[str, int] = {}
        self.received = asyncio.Condition()
        self.publishing: RTCPeerConnection | None = None
        self.receiving: RTCPeerConnection | None = None
        self.peer = ""
        self.offered_as = "actpass"  # what this client makes of our offer's setup
        self.offers = "actpass"  # the setup of its own offers
        self._tasks: list[asyncio.Task[None]] = []

    async def publish(self, *tracks: Any) -> None:
        self.publishing = RTCPeerConnection()
        for track in tracks or (AudioStreamTrack(), VideoStreamTrack()):
            self.publishing.addTrack(track)
        await self.publishing.setLocalDescription(await self.publishing.createOffer())
        offer = self.publishing.localDescription.sdp.replace("a=setup:actpass", f"a=setup:{self.offers}")
        self.peer, answer = await self.stage.worker.publish(ROOM, self.member, offer)
        await self.publishing.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def subscribe(self) -> None:
        self.receiving = self._receiver()
        peer = await self.stage.worker.subscribe(ROOM, self.member)
        self._tasks.append(asyncio.ensure_future(self._answer(peer)))

    async def view(self, source: str | None = None) -> str:
        self.receiving = self._receiver()
        self.receiving.addTransceiver("audio", direction="recvonly")
        self.receiving.addTransceiver("video", direction="recvonly")
        await self.receiving.setLocalDescription(await self.receiving.createOffer())
        offer = self.receiving.localDescription.sdp.replace("a=setup:actpass", f"a=setup:{self.offers}")
        peer, answer = await self.stage.worker.view(ROOM, offer, source=source)
        await self.receiving.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return peer

    def _receiver(self) -> RTCPeerConnection:
        peer = RTCPeerConnection()
        peer.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._pull(track))))
        return peer

    async def _pull(self, track: Any) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                async with self.received:
                    self.frames[track.kind] = self.frames.get(track.kind, 0) + 1
                    self.received.notify_all()

    async def _answer(self, peer: str) -> None:
        revision = 0
        assert self.receiving is not None
        while True:
            offer = await self.stage.until(_offer_after(peer, revision), timeout_s=1000)
            assert isinstance(offer, control.Offer)
            revision = offer.revision
            text = offer.sdp.replace("a=setup:actpass", f"a=setup:{self.offered_as}")
            await self.receiving.setRemoteDescription(RTCSessionDescription(text, "offer"))
            await self.receiving.setLocalDescription(await self.receiving.createAnswer())
            # aiortc as a client binds an SSRC to any m-line of its payload type until its receivers are registered
            while self.receiving.connectionState == "connected" and not all(map(_registered, self._receivers())):
                await asyncio.sleep(0.01)
            with contextlib.suppress(Missing, Unavailable):  # the connection or the worker ended meanwhile
                await self.stage.worker.answer(peer, revision, self.receiving.localDescription.sdp)

    def _receivers(self) -> list[Any]:
        assert self.receiving is not None
        return [t.receiver for t in self.receiving.getTransceivers() if t.currentDirection == "recvonly"]

    async def until(self, timeout_s: float = 20, **frames: int) -> None:
        """Wait until so many frames of each kind are decoded."""
        async with asyncio.timeout(timeout_s), self.received:
            await self.received.wait_for(lambda: all(self.frames.get(k, 0) >= n for k, n in frames.items()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for peer in (self.publishing, self.receiving):
            if peer is not None:
                await peer.close()


def _registered(receiver: Any) -> bool:
    return bool(receiver._RTCRtpReceiver__started)


def _offer_after(peer: str, revision: int) -> Callable[[control.AnyEvent], bool]:
    return lambda e: isinstance(e, control.Offer) and e.peer == peer and e.revision > revision
