"""A legitimate publisher who sends twenty times what it should: what the others send still arrives.

End to end: a real worker process, real sockets, light clients with transport-wide feedback as browsers give it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rtp_client import Publisher, Subscriber
from bench.rtp_pump import Publishing, Pump, Shape, Stream, Streams
from bench.sfu_worker import Worker
from media.peer import PACKETS_BURST_MAX, PACKETS_PER_S_MAX

PROFILE = "AEAD_AES_128_GCM"
SUBSCRIBERS = 8
NORMAL = Shape(packets_per_s=400, burst=4, packet_bytes=700, audio=True, full=True)
TIMES = 20
FLOOD_BURST = 40
SECONDS = 3.0
ARRIVES_S = 3.0  # on a machine with other work on it
LOST_MAX = 0.01


class Party:
    """Two publishers and some subscribers; what each of these got of each source, by sequence number."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.worker = Worker(folder, None)
        self.pump = Pump()
        self.got: dict[Subscriber, dict[bytes, set[int]]] = {}

    def open(self) -> None:
        self.runner.run(self.worker.start())
        self.streams = [self._publish() for _ in range(2)]
        self.send(0.5)
        for _ in range(SUBSCRIBERS):
            leg = Subscriber(profile=PROFILE, wide=True)
            self.pump.add(leg)
            leg.learn(self.runner.run(self.worker.subscribe(leg)))
            self.got[leg] = {}
            self.pump.on_media[leg.socket.fileno()] = self._hearing(leg)
        self.pump.open(list(self.got))
        self.send(1.0)

    def _publish(self) -> Stream:
        leg = Publisher(profile=PROFILE, wide=True)
        remote = self.runner.run(self.worker.publish(leg, ("audio", "video")))
        self.pump.add(leg)
        self.pump.open([leg])
        return Stream(leg, NORMAL, remote)

    def _hearing(self, leg: Subscriber):  # type: ignore[no-untyped-def]
        got = self.got[leg]

        def on_media(data: bytes, arrived_ns: int) -> None:
            leg.on_media(data, arrived_ns)
            if data[1] & 0x7F == leg.counter.video_pt:
                got.setdefault(data[8:12], set()).add(data[2] << 8 | data[3])

        return on_media

    def send(self, seconds: float) -> None:
        """Both publish as they should."""
        run = Publishing(Streams(self.streams), seconds)
        run.start()
        self.pump.run(time.monotonic() + seconds + 5, lambda: not run.alive())
        self.pump.run(time.monotonic() + 0.3)
        run.join()

    def lost(self, sent: int, before: dict[Subscriber, dict[bytes, int]], source: bytes) -> list[float]:
        """The share of `sent` packets of `source` that each subscriber did not get since `before`."""
        return [1 - (len(got[source]) - before[leg][source]) / sent for leg, got in self.got.items()]

    def counts(self) -> dict[Subscriber, dict[bytes, int]]:
        return {leg: {ssrc: len(seen) for ssrc, seen in got.items()} for leg, got in self.got.items()}

    def close(self) -> None:
        self.runner.run(self.worker.close())
        self.runner.close()


@pytest.mark.slow
def test_a_flood_at_twenty_times_the_rate_costs_the_others_no_packet_in_a_hundred(tmp_path: Path) -> None:
    party = Party(tmp_path)
    try:
        party.open()
        speaker, flooder = party.streams
        before = party.counts()
        run = Publishing(speaker, 1.0)  # alone, to tell whose source is whose
        run.start()
        party.pump.run(time.monotonic() + 5, lambda: not run.alive())
        party.pump.run(time.monotonic() + 0.3)
        alone = party.counts()
        leg = next(iter(party.got))
        source = max(alone[leg], key=lambda ssrc: alone[leg][ssrc] - before[leg].get(ssrc, 0))
        assert max(party.lost(run.join(), before, source)) <= LOST_MAX, "before the flood"

        flooder.shape = replace(NORMAL, packets_per_s=NORMAL.packets_per_s * TIMES, burst=FLOOD_BURST)
        frames = [flooder.frame(FLOOD_BURST) for _ in range(int(SECONDS * flooder.shape.packets_per_s / FLOOD_BURST))]
        before = party.counts()
        stats = party.runner.run(party.worker.ask("stats"))
        run = Publishing(speaker, SECONDS)
        flood = threading.Thread(target=pour, args=(flooder, frames), daemon=True)
        flood.start()
        run.start()
        party.pump.run(time.monotonic() + 5 * SECONDS, lambda: not run.alive() and not flood.is_alive())
        sent = run.join()
        deadline = time.monotonic() + ARRIVES_S
        party.pump.run(deadline, lambda: max(party.lost(sent, before, source)) <= 0)
        assert max(party.lost(sent, before, source)) <= LOST_MAX
        after = party.runner.run(party.worker.ask("stats"))
        poured = len(frames) * FLOOD_BURST
        refused = after["dropped"].get("flood", 0) - stats["dropped"].get("flood", 0)
        assert refused >= 0.5 * (poured - PACKETS_BURST_MAX - SECONDS * PACKETS_PER_S_MAX), (poured, after)
    finally:
        party.close()


def pour(stream: Stream, frames: list[list[bytes]]) -> None:
    """Send `frames` at the pace of the stream's shape, however late."""
    due = time.monotonic()
    for frame in frames:
        due += stream.shape.burst / stream.shape.packets_per_s
        stream.send_burst(frame)
        time.sleep(max(0.0, due - time.monotonic()))
