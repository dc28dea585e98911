"""Rooms over several workers: by packet rate, each worker for itself when it dies."""

import asyncio
import os
import signal
from collections.abc import Collection

import pytest

from command.base.errors import Missing
from media import control
from media.crew import SPREAD_PACKETS_PER_S, Crew, Load, idlest, merged


def test_a_room_goes_to_the_worker_with_the_fewest_packets_then_the_fewest_rooms() -> None:
    assert idlest([Load(900, 1), Load(20, 7), Load(300, 0)], 3) == 1
    assert idlest([Load(0, 2), Load(0, 1)], 2) == 1


def test_another_worker_is_started_when_none_runs_or_all_have_much_to_forward() -> None:
    busy = Load(SPREAD_PACKETS_PER_S + 1, 3)
    assert idlest([], 1) is None
    assert idlest([busy], 2) is None
    assert idlest([busy, busy._replace(packets_per_s=busy.packets_per_s + 1)], 2) == 0
    assert idlest([busy._replace(packets_per_s=SPREAD_PACKETS_PER_S)], 2) == 0


def test_the_counters_of_workers_are_summed_up_but_for_lag_and_overload() -> None:
    one = {"rooms": 1, "lag_ms": 3.0, "overload": 2, "gso": True, "cpu_s": 1.5, "dropped": {"flood": 2}}
    two = {"rooms": 2, "lag_ms": 9.0, "overload": 0, "gso": False, "cpu_s": 0.5, "dropped": {"flood": 1, "stranger": 4}}
    assert merged([one, two]) == {
        "rooms": 3,
        "lag_ms": 9.0,
        "overload": 2,
        "gso": False,
        "cpu_s": 2.0,
        "dropped": {"flood": 3, "stranger": 4},
    }
    assert merged([]) is None


def quality(room: str, peer: str, packets: int) -> control.Quality:
    return control.Quality(
        room=room,
        member="m",
        peer=peer,
        role="publish",
        bitrate_bps=0,
        packets=packets,
        lost=0.0,
        rtt_ms=None,
        nacks=0,
        keyframes=0,
        remb_bps=None,
    )


async def test_rooms_are_spread_by_packet_rate_and_a_crash_costs_only_the_rooms_of_that_worker() -> None:
    events: list[control.AnyEvent] = []
    lost: asyncio.Queue[Collection[str]] = asyncio.Queue()
    crew = Crew(events.append, lambda rooms, peers: lost.put_nowait(rooms), addresses=["127.0.0.1"], most=2)
    try:
        await crew.open("a")
        await crew.open("b")
        assert len(crew.workers) == 1
        (first,) = crew.workers
        crew._heard(first, quality("a", "p", 5 * SPREAD_PACKETS_PER_S + 5))  # as it tells every 5 s
        await crew.open("c")
        second = await crew.home("c")
        assert second is not first and second.port != first.port
        crew._heard(second, quality("c", "q", 50))
        await crew.open("d")
        assert crew.of("d") is second
        crew._heard(first, control.PeerClosed(room="a", member="m", peer="p", role="publish", reason="asked"))
        await crew.open("e")
        assert crew.of("e") is first
        stats = await crew.stats()
        assert stats is not None and stats["rooms"] == 5
        assert second.pid is not None
        os.kill(second.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert set(await lost.get()) == {"c", "d"}
        assert crew.load(second) == Load(0, 2)
        await crew.close("c")
        with pytest.raises(Missing):
            await crew.home("c")
        await (await crew.home("d")).join("d", "m")  # the new worker knows the rooms of the former
        assert [type(event) for event in events if isinstance(event, control.WorkerLost)] == [control.WorkerLost]
    finally:
        await crew.stop()
