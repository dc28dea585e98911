"""The bad radio of the tests is as bad as it says, and no worse."""

import socket

import pytest

from tests.wires import QUEUE_PACKETS, Space, Wire, calibrate


def test_a_wire_has_the_delay_and_the_rate_it_was_given() -> None:
    with Space() as a, Space() as b, Wire(a, b, rate_bps=400_000, delay_s=0.05) as wire:
        measured = calibrate(wire, packets=30)
    assert 0.10 <= measured.rtt_s < 0.25
    assert measured.rate_bps < 420_000  # never faster; on a busy machine it may be slower
    assert measured.loss == 0


def test_the_same_seed_loses_the_same_packets() -> None:
    lost = []
    for _ in range(2):
        with Space() as a, Space() as b, Wire(a, b, loss=0.2, seed=7, queue_packets=1000) as wire:
            with a.inside():
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with b.inside():
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender, receiver:
                receiver.bind((wire.address_b, 0))
                receiver.settimeout(0.5)
                seen = set()
                for number in range(100):
                    sender.sendto(bytes([number]), receiver.getsockname())
                    while wire.counts()["sent_ab"] + wire.counts()["lost_ab"] <= number:
                        pass  # the packet is on its way through two kernels and a process
                    if wire.counts()["sent_ab"] > len(seen):
                        seen.add(receiver.recv(10)[0])
                lost.append(set(range(100)) - seen)
    assert lost[0] == lost[1]
    assert 5 < len(lost[0]) < 40


def test_a_cut_wire_carries_nothing_until_it_heals() -> None:
    with Space() as a, Space() as b, Wire(a, b) as wire:
        assert calibrate(wire, pings=1, packets=2).loss == 0
        wire.cut()
        assert calibrate(wire, pings=0, packets=2).loss == 1
        wire.heal()
        assert calibrate(wire, pings=1, packets=2).loss == 0


def test_a_full_queue_drops_its_tail() -> None:
    with Space() as a, Space() as b, Wire(a, b, rate_bps=100_000) as wire:
        with a.inside():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            for _ in range(2 * QUEUE_PACKETS):
                sender.sendto(b"x" * 1000, (wire.address_b, 9))
            while (counts := wire.counts())["sent_ab"] + counts["dropped_ab"] < 2 * QUEUE_PACKETS:
                pass
    assert counts["dropped_ab"] >= QUEUE_PACKETS - 5


@pytest.mark.slow
def test_a_wire_of_64_kbit_and_400_ms_with_loss_is_what_it_says() -> None:
    """The radio of the measured figures; its own figures stand beside them."""
    with Space() as a, Space() as b, Wire(a, b, rate_bps=64_000, delay_s=0.4, loss=0.05, seed=3) as wire:
        measured = calibrate(wire, packets=200)
    print(measured)
    assert 0.8 <= measured.rtt_s < 0.9
    assert 0.85 * 64_000 < measured.rate_bps < 1.02 * 64_000
    assert 0.01 < measured.loss < 0.1
