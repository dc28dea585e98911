"""A subscriber on a TCP connection that stalls: it loses pictures until a key frame; the others lose nothing."""

import asyncio
import random
from typing import Any

from aiortc import AudioStreamTrack, VideoStreamTrack
from av import VideoFrame

from tests.media.stage import Client, Stage, stage
from tests.media.test_worker import join
from tests.media.tunnel import Tunnel


class Noise(VideoStreamTrack):
    """Pictures that don't compress, so that a stalled connection is full within seconds."""

    def __init__(self) -> None:
        super().__init__()
        rng = random.Random(1)
        self._pictures = [bytes(rng.randbytes(320 * 240)) for _ in range(8)]
        self._count = 0

    async def recv(self) -> VideoFrame:
        frame = VideoFrame(320, 240, "yuv420p")
        frame.pts, frame.time_base = await self.next_timestamp()
        self._count += 1
        for plane in frame.planes:
            plane.update(self._pictures[self._count % len(self._pictures)][: plane.buffer_size])
        return frame


class Behind(Client):
    """A client that reaches the worker through a tunnel only."""

    tunnel: Tunnel

    def _receiver(self) -> Any:
        """As any receiver, but what it is offered names the tunnel."""
        peer = super()._receiver()
        plain = peer.setRemoteDescription

        async def told(description: Any) -> None:
            description.sdp = description.sdp.replace(f" {self.stage.worker.port} typ", f" {self.tunnel.port} typ")
            await plain(description)

        peer.setRemoteDescription = told
        return peer


async def behind(scene: Stage, member: str) -> Behind:
    made = Behind(scene, member)
    made.tunnel = Tunnel()
    await made.tunnel.open(scene.worker.port)
    return made


async def slow(scene: Stage) -> int:
    return int((await scene.worker.stats())["dropped"].get("slow stream", 0))


async def test_a_stalled_tcp_subscriber_costs_the_others_nothing_and_comes_back_at_a_key_frame() -> None:
    async with stage(addresses=["127.0.0.1"]) as scene:
        await join(scene, "a", "fast", "slow")
        publisher, fast = Client(scene, "a"), Client(scene, "fast")
        stalled = await behind(scene, "slow")
        for one in (fast, stalled):
            await one.subscribe()
        await publisher.publish(AudioStreamTrack(), Noise())
        await asyncio.gather(fast.until(video=20, audio=20), stalled.until(video=20, audio=20))
        stalled.tunnel.pause()
        async with asyncio.timeout(60):
            while not await slow(scene):
                await asyncio.sleep(0.05)
        seen = dict(fast.frames)
        await fast.until(video=seen["video"] + 60, audio=seen["audio"] + 60)
        assert fast.receiving is not None and fast.receiving.connectionState == "connected"
        stalled.tunnel.resume()
        left = dict(stalled.frames)
        await stalled.until(video=left["video"] + 60, audio=left["audio"] + 60)
        for client in (publisher, fast, stalled):
            await client.close()
        await stalled.tunnel.close()
