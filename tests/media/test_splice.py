"""Layers become one stream: contiguous numbers, a clock that goes on, VP8 ids without a gap, whatever is switched."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from media import vp8
from media.splice import STRETCHES_MAX, Place, Splice

CLOCK = 90_000


def place(
    number: int, at_s: float, *, stamp: int = 0, picture: int | None = None, wall_s: float | None = None
) -> Place:
    ids = None if picture is None else vp8.Picture(2, True, picture & 0x7FFF, picture & 0xFF)
    return Place(number, (stamp + round(at_s * CLOCK)) & 0xFFFFFFFF, ids, at_s, wall_s)


def out_of(splice: Splice, packet: Place) -> tuple[int, int]:
    assert splice.now is not None
    return packet.number + splice.now.number, (packet.timestamp + splice.now.timestamp) & 0xFFFFFFFF


@given(st.integers(0, 2**32))
def test_numbers_ids_and_clock_go_on_over_any_switches(seed: int) -> None:
    rng = random.Random(seed)
    splice = Splice(CLOCK)
    newest = [(rng.randrange(1 << 20), rng.randrange(1 << 15)) for _ in range(3)]
    stamps = [rng.randrange(1 << 32) for _ in range(3)]
    sent: list[tuple[int, int, int]] = []
    last: Place | None = None
    now_s = 10.0
    for _ in range(12):
        layer = rng.randrange(3)
        number, picture = newest[layer][0] + rng.randrange(1, 900), newest[layer][1] + rng.randrange(1, 90)
        now_s += rng.random()
        splice.leave(last)
        first = place(number, now_s, stamp=stamps[layer], picture=picture, wall_s=now_s + rng.uniform(-0.03, 0.03))
        splice.enter(layer, first)
        for step in range(rng.randrange(1, 20)):
            now_s += 0.033
            last = place(number + step, now_s, stamp=stamps[layer], picture=picture + step, wall_s=now_s)
            out, stamp = out_of(splice, last)
            assert splice.now is not None
            assert last.picture is not None
            sent.append((out, stamp, (last.picture.value + splice.now.picture) & 0x7FFF))
        newest[layer] = (number + step, picture + step)
    for before, after in pairwise(sent):
        assert after[0] == before[0] + 1
        assert 0 < (after[1] - before[1]) & 0xFFFFFFFF < 3 * CLOCK
        assert after[2] == (before[2] + 1) & 0x7FFF


def test_before_the_first_switch_packets_leave_as_the_layer_made_them() -> None:
    splice = Splice(CLOCK)
    splice.enter("a", place(500, 1.0))
    assert splice.unchanged
    splice.leave(place(510, 1.1))
    splice.enter("b", place(90, 1.2))
    assert not splice.unchanged


def test_two_layers_of_one_capture_keep_lip_sync_by_the_publishers_clock() -> None:
    splice = Splice(CLOCK)
    splice.enter("a", place(1, 5.0, wall_s=100.0))
    splice.leave(place(30, 6.0, wall_s=101.0))
    # the other layer's frame of 33 ms later arrives 80 ms late
    first = place(1, 6.113, stamp=777_000, wall_s=101.033)
    splice.enter("b", first)
    _, stamp = out_of(splice, first)
    assert stamp - round(6.0 * CLOCK) == round(0.033 * CLOCK)


def test_a_frame_that_was_captured_before_the_last_one_still_comes_after_it() -> None:
    splice = Splice(CLOCK)
    splice.enter("a", place(1, 5.0, wall_s=100.0))
    splice.leave(place(30, 6.0, wall_s=101.0))
    first = place(1, 6.0, stamp=9, wall_s=100.967)
    splice.enter("b", first)
    assert out_of(splice, first)[1] == round(6.0 * CLOCK) + 1
    later = place(9, 7.0, stamp=9, wall_s=101.967)
    splice.leave(later)
    back = place(60, 7.133, wall_s=102.1)
    splice.enter("a", back)  # what was too late is made good
    assert out_of(splice, back)[1] == round(7.1 * CLOCK)


def test_a_number_is_found_in_its_own_layer_after_switches() -> None:
    splice = Splice(CLOCK)
    splice.enter("a", place(1000, 1.0))
    splice.leave(place(1010, 1.1))
    splice.enter("b", place(50, 1.2))
    found = splice.find(1005, 1020)
    assert found is not None
    assert (found[0].layer, found[1]) == ("a", 1005)
    found = splice.find(1012, 1020)
    assert found is not None
    assert (found[0].layer, found[1]) == ("b", 51)
    assert splice.find(990, 1020) is None


def test_no_more_stretches_are_remembered_than_the_limit() -> None:
    splice = Splice(CLOCK)
    for step in range(3 * STRETCHES_MAX):
        splice.enter(step, place(100, float(step)))
        splice.leave(place(101, step + 0.5))
    assert len(splice._stretches) == STRETCHES_MAX


def test_leaving_before_anything_was_sent_uses_no_number() -> None:
    splice = Splice(CLOCK)
    splice.enter("a", place(10, 1.0))
    splice.leave(place(12, 1.1))
    splice.enter("b", place(99, 1.2))
    splice.leave(place(98, 1.2))  # the layer's newest is older than where we would have begun
    stretch = splice.enter("c", place(7, 1.3))
    assert stretch.first == 13
