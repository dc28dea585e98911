"""Numbers stay contiguous, pictures stay in order, and bursts obey the rules of UDP_SEGMENT."""

import random

from hypothesis import given
from hypothesis import strategies as st

from media.forward import (
    BURST_BYTES_MAX,
    BURST_PACKETS_MAX,
    INTERVALS_MAX,
    PAD_BYTES_MAX,
    Numbers,
    bursts,
    starts_key_frame,
)
from media.rtp import HEADER, ExtensionIds, pad, parse


def started() -> Numbers:
    numbers = Numbers(1000, 5000)
    numbers.switch(70_000, 90_000, 0.0, 90_000)
    return numbers


@given(st.lists(st.sampled_from(["forward", "drop"]), min_size=1, max_size=300))
def test_dropping_packets_leaves_no_hole(actions: list[str]) -> None:
    numbers = started()
    out = []
    for at, action in enumerate(actions):
        if action == "forward":
            mapped = numbers.forward(70_000 + at, 90_000, at * 0.01)
            assert mapped is not None
            out.append(mapped[0])
        else:
            assert numbers.drop(70_000 + at)
    assert out == list(range(1000, 1000 + len(out)))


@given(st.integers(0, 2**32), st.integers(2, 60), st.floats(0, 0.5))
def test_loss_and_reordering_leave_exactly_the_holes_of_the_source(seed: int, length: int, loss: float) -> None:
    rng = random.Random(seed)
    numbers = started()
    sent: dict[int, int] = {}
    order = [n for n in range(70_000, 70_000 + length) if n == 70_000 or rng.random() >= loss]
    for n in order:
        if rng.random() < 0.2 and n != 70_000:
            numbers.drop(n)
        else:
            mapped = numbers.forward(n, 0, 0.0)
            assert mapped is not None
            sent[n] = mapped[0]
    outs = [sent[n] for n in sorted(sent)]
    assert outs == sorted(set(outs))
    lost = length - len(order)
    assert outs[-1] - outs[0] + 1 - len(outs) <= lost


def test_a_packet_that_was_lost_before_a_drop_still_finds_its_number() -> None:
    numbers = started()
    assert numbers.forward(70_000, 0, 0.0) == (1000, 5000 - 90_000 & 0xFFFFFFFF)
    numbers.drop(70_002)
    assert (numbers.forward(70_003, 0, 0.0) or (0,))[0] == 1002
    assert (numbers.forward(70_001, 0, 0.0) or (0,))[0] == 1001


def test_a_number_that_went_by_cannot_be_dropped_any_more() -> None:
    numbers = started()
    numbers.forward(70_005, 0, 0.0)
    assert not numbers.drop(70_004)


def test_a_switch_continues_the_numbers_and_advances_the_clock_by_the_time_passed() -> None:
    numbers = started()
    last = numbers.forward(70_000, 90_000, 1.0)
    numbers.switch(3, 7, 1.5, 90_000)
    assert last is not None
    assert numbers.forward(3, 7, 1.5) == (1001, (last[1] + 45_000) & 0xFFFFFFFF)
    assert numbers.forward(2, 7, 1.5) is None


def test_no_more_than_the_limit_of_intervals_is_remembered() -> None:
    numbers = started()
    numbers.forward(70_000, 0, 0.0)
    for at in range(1, 4 * INTERVALS_MAX, 2):
        numbers.drop(70_000 + at)
        numbers.forward(70_001 + at, 0, 0.0)
    assert len(numbers._intervals) == INTERVALS_MAX
    assert numbers.forward(70_000, 0, 0.0) is None


@given(st.binary(max_size=40))
def test_any_bytes_can_be_a_payload(payload: bytes) -> None:
    for codec in ("vp8", "vp9", "h264", "av1", "opus", "?"):
        assert starts_key_frame(codec, payload) in (True, False)


def test_key_frames_are_known_by_codec() -> None:
    assert starts_key_frame("vp8", bytes([0x90, 0x80, 0x81, 0x01, 0x00]))
    assert not starts_key_frame("vp8", bytes([0x90, 0x80, 0x81, 0x01, 0x01]))
    assert not starts_key_frame("vp8", bytes([0x80, 0x80, 0x81, 0x01, 0x00]))
    assert starts_key_frame("vp8", bytes([0x10, 0x00]))
    assert starts_key_frame("h264", bytes([0x67]))
    assert starts_key_frame("h264", bytes([0x7C, 0x85]))
    assert not starts_key_frame("h264", bytes([0x7C, 0x05]))
    assert starts_key_frame("h264", bytes([24, 0, 1, 0x67, 0, 1, 0x68]))
    assert not starts_key_frame("h264", bytes([0x41]))
    assert starts_key_frame("vp9", bytes([0x8C, 0x01]))
    assert not starts_key_frame("vp9", bytes([0xCC, 0x01]))
    assert starts_key_frame("av1", bytes([0x18]))
    assert not starts_key_frame("av1", bytes([0x10]))


def packet(size: int) -> bytes:
    return HEADER.pack(0x80, 96, 1, 2, 3) + bytes(size - 12)


@given(st.lists(st.integers(60, 1400), min_size=1, max_size=200))
def test_every_burst_has_equal_segments_and_only_a_shorter_last(sizes: list[int]) -> None:
    packets = [packet(size) for size in sizes]
    groups = bursts(packets)
    flat = [item for group in groups for item in group]
    assert len(flat) == len(packets)
    for before, after in zip(packets, flat, strict=True):
        assert 0 <= len(after) - len(before) <= PAD_BYTES_MAX
        assert parse(after, ExtensionIds()).payload == before[12:]
    for group in groups:
        assert len(group) <= BURST_PACKETS_MAX
        assert sum(len(item) + 16 for item in group) <= BURST_BYTES_MAX
        assert len({len(item) for item in group[:-1]}) <= 1
        assert len(group[-1]) <= len(group[0])


def test_a_chromium_burst_is_one_send() -> None:
    assert len(bursts([packet(size) for size in (1100, 1101, 1100, 1101, 900)])) == 1


def test_padding_is_counted_in_its_last_byte() -> None:
    assert pad(packet(100), 110)[-1] == 10
    assert pad(packet(100), 100) == packet(100)
