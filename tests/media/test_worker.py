"""A real worker process with full aiortc peers: publish here, decode there."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command.base.errors import Conflict, Denied, Missing, Rejected, Unavailable
from media import control, remote
from media.remote import MediaWorker
from tests.media.stage import ROOM, Client, stage
from tests.services import ROOT as CHECKOUT

ONE_ADDRESS = ["127.0.0.1"]


async def test_audio_and_video_are_decoded_on_the_other_side() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        a, b = Client(scene, "a"), Client(scene, "b")
        await b.subscribe()
        await a.publish()
        await b.until(video=30, audio=30)
        stats = await scene.worker.stats()
        assert stats["peers"] == 2
        assert stats["tx_packets"] > 60
        assert not stats["dropped"].get("rtp refused")
        await a.close()
        await scene.until(lambda e: isinstance(e, control.PeerClosed) and e.member == "a")
        removed = [e for e in scene.events if isinstance(e, control.TrackRemoved)]
        assert {e.media for e in removed} == {"audio", "video"}
        await b.close()


async def test_a_client_that_answers_passive_finds_us_as_the_dtls_client() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        a, b = Client(scene, "a"), Client(scene, "b")
        b.offered_as = "active"
        await b.subscribe()
        await a.publish()
        await b.until(video=10, audio=10)
        await a.close()
        await b.close()


async def test_clients_that_offer_passive_find_us_as_the_dtls_client() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a")
        a, viewer = Client(scene, "a"), Client(scene, "viewer")
        a.offers = viewer.offers = "passive"
        await a.publish()
        await viewer.view("a")
        await viewer.until(video=5, audio=5)
        await a.close()
        await viewer.close()


async def test_a_view_shows_the_chair_and_goes_when_closed() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        await scene.worker.set_chair(ROOM, "a")
        a, viewer = Client(scene, "a"), Client(scene, "viewer")
        await a.publish()
        peer = await viewer.view()
        await viewer.until(video=20, audio=20)
        await scene.worker.close_peer(peer)
        closed = await scene.until(lambda e: isinstance(e, control.PeerClosed) and e.peer == peer)
        assert isinstance(closed, control.PeerClosed)
        assert closed.reason == "asked"
        with pytest.raises(Missing):
            await scene.worker.close_peer(peer)
        await a.close()
        await viewer.close()


async def test_a_muted_member_is_not_forwarded_and_comes_back_without_a_hole() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        a, b = Client(scene, "a"), Client(scene, "b")
        await b.subscribe()
        await a.publish()
        await b.until(video=10, audio=10)
        for media in ("audio", "video"):
            await scene.worker.mute(ROOM, "a", media, on=True)  # type: ignore[arg-type]
        silent = await settled(scene.worker)
        received = (await scene.worker.stats())["rx_packets"]
        while (await scene.worker.stats())["rx_packets"] < received + 40:
            await asyncio.sleep(0.05)
        assert (await scene.worker.stats())["tx_packets"] == silent
        for media in ("audio", "video"):
            await scene.worker.mute(ROOM, "a", media, on=False)  # type: ignore[arg-type]
        frames = dict(b.frames)
        await b.until(video=frames["video"] + 20, audio=frames["audio"] + 20)
        stats = await scene.worker.stats()
        assert stats["nacks_in"] == 0
        await a.close()
        await b.close()


async def settled(worker: MediaWorker) -> int:
    """The number of forwarded packets once it stands still."""
    before = -1
    while True:
        now: int = (await worker.stats())["tx_packets"]
        if now == before:
            return now
        before = now
        await asyncio.sleep(0.1)


async def test_removal_by_the_chair_ends_both_connections() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        a = Client(scene, "a")
        await a.publish()
        await a.subscribe()
        for role in ("publish", "subscribe"):
            await scene.until(lambda e, r=role: isinstance(e, control.PeerConnected) and e.role == r)
        await scene.worker.remove(ROOM, "a", "by the chair")
        left = await scene.until(lambda e: isinstance(e, control.MemberLeft))
        assert isinstance(left, control.MemberLeft)
        assert left.reason == "by the chair"
        reasons = [e.reason for e in scene.events if isinstance(e, control.PeerClosed)]
        assert reasons == ["removed", "removed"]
        with pytest.raises(Missing):
            await scene.worker.subscribe(ROOM, "a")
        await a.close()


async def test_refusals_have_their_kind_and_the_worker_goes_on() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        worker = scene.worker
        await worker.join(ROOM, "viewer", publish=False)
        refusals: list[tuple[type[Exception], Any]] = [
            (Conflict, worker.open_room(ROOM)),
            (Missing, worker.join("nowhere", "a")),
            (Missing, worker.publish(ROOM, "stranger", "v=0")),
            (Denied, worker.publish(ROOM, "viewer", "v=0")),
            (Missing, worker.answer("nobody", 1, "v=0")),
            (Missing, worker.view(ROOM, "v=0", source="stranger")),
            (Rejected, worker.view(ROOM, "v=0")),
            (Rejected, worker.join(ROOM, "not an id")),
            (Rejected, worker.view(ROOM, "x" * 200_000)),
            (Rejected, worker.view(ROOM, "\ud800")),
            (Rejected, worker.view(ROOM, "x" * 300_000)),
        ]
        for kind, asked in refusals:
            with pytest.raises(kind):
                await asked
        peer = await worker.subscribe(ROOM, "viewer")
        with pytest.raises(Conflict):
            await worker.answer(peer, 99, "v=0")
        assert (await worker.stats())["rooms"] == 1


async def test_a_room_that_is_closed_while_somebody_enters_is_missing_to_them() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        worker = scene.worker
        asked = [worker.join(ROOM, "late"), worker.mute(ROOM, "late", "audio", on=True), worker.close_room(ROOM)]
        *refused, closed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in refused] == [Missing, Missing], refused
        assert closed is None


async def test_a_killed_worker_is_back_within_three_seconds_with_its_rooms_and_members() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        await scene.worker.mute(ROOM, "b", "audio", on=True)
        a = Client(scene, "a")
        await a.publish()
        pid, port = scene.worker.pid, scene.worker.port
        assert pid is not None
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        lost = await scene.until(lambda e: isinstance(e, control.WorkerLost))
        assert isinstance(lost, control.WorkerLost)
        assert lost.code == -signal.SIGKILL
        ready = await scene.until(lambda e: isinstance(e, control.WorkerReady) and e.pid != pid)
        assert time.monotonic() - began < 3
        assert isinstance(ready, control.WorkerReady)
        assert ready.port == port
        again, b = Client(scene, "a"), Client(scene, "b")
        await again.publish()
        await b.subscribe()
        await b.until(video=5)
        for client in (a, again, b):
            await client.close()


@pytest.mark.slow  # the heartbeat takes its three seconds
async def test_a_hung_worker_is_found_by_its_heartbeat_and_replaced_with_its_rooms() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        await join(scene, "a", "b")
        a = Client(scene, "a")
        await a.publish()
        pid, port = scene.worker.pid, scene.worker.port
        assert pid is not None
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        lost = await scene.until(lambda e: isinstance(e, control.WorkerLost))
        found_s = time.monotonic() - began
        assert isinstance(lost, control.WorkerLost)
        assert lost.code == -signal.SIGKILL
        assert remote.BEAT_S * remote.BEATS_MISSED_MAX <= found_s < remote.BEAT_S * (remote.BEATS_MISSED_MAX + 1) + 3
        ready = await scene.until(lambda e: isinstance(e, control.WorkerReady) and e.pid != pid)
        assert isinstance(ready, control.WorkerReady)
        assert ready.port == port
        assert time.monotonic() - began - found_s < 3
        again, b = Client(scene, "a"), Client(scene, "b")
        await again.publish()
        await b.subscribe()
        await b.until(video=5)
        for client in (a, again, b):
            await client.close()


@pytest.mark.slow
async def test_a_stall_of_the_command_process_kills_no_worker() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        pid = scene.worker.pid
        time.sleep(remote.BEAT_S * (remote.BEATS_MISSED_MAX + 2))
        for _ in range(3):
            await asyncio.sleep(remote.BEAT_S)
        assert (await scene.worker.stats())["rooms"] == 1
        assert scene.worker.pid == pid


async def test_requests_during_a_restart_wait_or_say_so() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        pid = scene.worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(scene.worker.stats())
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await asked
        await scene.worker.join(ROOM, "a")


async def test_the_worker_ends_with_its_parent() -> None:
    heard: list[Any] = []
    worker = MediaWorker(heard.append, addresses=ONE_ADDRESS)
    await worker.start()
    pid = worker.pid
    assert pid is not None
    await worker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not any(isinstance(e, control.WorkerLost) for e in heard)


async def join(scene: Any, *members: str) -> None:
    for member in members:
        await scene.worker.join(ROOM, member)


async def test_workers_outlive_their_zygote_and_the_next_one_comes_from_a_new_zygote() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        first, pid = scene.worker._nursery._process, scene.worker.pid
        assert first is not None and pid is not None
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        assert (await scene.worker.stats())["rooms"] == 1
        os.kill(pid, signal.SIGKILL)
        await scene.until(lambda e: isinstance(e, control.WorkerReady) and e.pid != pid)
        assert (await scene.worker.stats())["rooms"] == 1
        second = scene.worker._nursery._process
        assert second is not None and second.pid != first.pid


@pytest.mark.slow
async def test_a_zygote_that_dies_together_with_its_worker_is_replaced_with_it() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        zygote, pid = scene.worker._nursery._process, scene.worker.pid
        assert zygote is not None and pid is not None
        os.kill(zygote.pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        await scene.until(lambda e: isinstance(e, control.WorkerReady) and e.pid != pid)
        assert (await scene.worker.stats())["rooms"] == 1
        assert sum(isinstance(e, control.WorkerLost) for e in scene.events) == 1, "the first fork succeeds"


async def test_a_worker_after_a_crash_is_forked_from_the_same_zygote() -> None:
    async with stage(addresses=ONE_ADDRESS) as scene:
        zygote, pid = scene.worker._nursery._process, scene.worker.pid
        assert zygote is not None and pid is not None
        os.kill(pid, signal.SIGKILL)
        await scene.until(lambda e: isinstance(e, control.WorkerReady) and e.pid != pid)
        assert scene.worker._nursery._process is zygote
        parent = int(Path(f"/proc/{scene.worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent == zygote.pid


def test_a_zygote_whose_parent_has_gone_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "media.worker", "--zygote-fd", str(theirs.fileno())]
    with subprocess.Popen(command, cwd=CHECKOUT, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE) as process:
        theirs.close()
        ours.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
