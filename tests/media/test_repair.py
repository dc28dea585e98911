"""What is lost is asked for and sent again, within limits; key frames are asked for once for everybody."""

import random

from hypothesis import given
from hypothesis import strategies as st

from media.repair import (
    KEY_REQUEST_BURST,
    KEY_REQUEST_INTERVAL_S,
    KEY_REQUEST_SPACING_S,
    KEY_REQUEST_TRIES_MAX,
    MISSING_MAX,
    NACK_TRIES_MAX,
    RESEND_BURST_BYTES,
    RESEND_MEMORY_MAX,
    RING_PACKETS,
    SCREEN_KEY_REQUEST_INTERVAL_S,
    Inbound,
    KeyRequests,
    Resends,
    Ring,
    rtx,
)
from media.rtp import HEADER, ExtensionIds, audio_head, parse


def test_the_ring_gives_back_what_was_sent_under_a_number() -> None:
    ring = Ring()
    for number in range(70_000, 70_000 + RING_PACKETS + 5):
        ring.put(number, b"%d" % number)
    assert ring.find(70_004) is None
    assert ring.find(70_005) == b"70005"
    assert ring.find(70_005 + RING_PACKETS) is None


def test_the_ring_never_changes_the_bytes_under_a_number() -> None:
    ring = Ring()
    ring.put(1, b"first")
    ring.put(1, b"second")
    assert ring.find(1) == b"first"


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=50))
def test_rtx_wraps_so_that_the_original_can_be_restored(sequence: int, own: int, payload: bytes) -> None:
    original = HEADER.pack(0x90, 0x80 | 96, sequence, 77, 1234) + audio_head(5) + payload
    wrapped = parse(rtx(original, 97, 4321, own), ExtensionIds())
    assert (wrapped.ssrc, wrapped.payload_type, wrapped.sequence, wrapped.timestamp) == (4321, 97, own, 77)
    assert wrapped.marker
    assert wrapped.payload == sequence.to_bytes(2, "big") + payload


@given(st.integers(0, 2**32))
def test_numbers_are_extended_over_loss_reordering_and_wrap(seed: int) -> None:
    rng = random.Random(seed)
    inbound = Inbound(90_000, repairable=True)
    truth = [0x10000 + 0xFF00 + n for n in range(600)]
    window: list[int] = []
    delivered = []
    for number in truth:
        window.append(number)
        if len(window) > 5:
            delivered.append(window.pop(rng.randrange(len(window)) if delivered else 0))
    seen = [inbound.receive(number & 0xFFFF, 0.0) for number in delivered if rng.random() > 0.1 or number == truth[0]]
    assert all(n is None or n in truth for n in seen)
    assert len({n for n in seen if n is not None}) == len([n for n in seen if n is not None])


def test_a_duplicate_is_refused_and_a_late_packet_is_not() -> None:
    inbound = Inbound(90_000, repairable=True)
    assert inbound.receive(10, 0.0) is not None
    assert inbound.receive(12, 0.0) is not None
    assert inbound.receive(12, 0.0) is None
    assert inbound.receive(11, 0.0) is not None
    assert inbound.receive(11, 0.0) is None


def test_a_hole_is_asked_for_at_once_again_after_a_round_trip_and_then_given_up() -> None:
    inbound = Inbound(90_000, repairable=True)
    inbound.receive(10, 0.0)
    inbound.receive(12, 0.0)
    assert inbound.due(0.0) == [11]
    assert inbound.due(0.001) == []
    asked = 1
    for step in range(1, 10_000):
        asked += len(inbound.due(step * 0.01))
    assert asked == NACK_TRIES_MAX
    assert not inbound.waiting


def test_no_more_holes_are_remembered_than_the_limit() -> None:
    inbound = Inbound(90_000, repairable=True)
    inbound.receive(0, 0.0)
    inbound.receive(900, 0.0)
    assert len(inbound.due(1.0)) == MISSING_MAX


def test_a_source_that_jumps_is_followed_with_rising_numbers() -> None:
    inbound = Inbound(90_000, repairable=True)
    first = inbound.receive(100, 0.0)
    after = inbound.receive(30_000, 0.0)
    assert first is not None
    assert after is not None
    assert after > first
    assert after & 0xFFFF == 30_000
    assert inbound.restarts == 1
    assert inbound.report().lost == 0


def test_a_report_counts_loss_of_the_interval() -> None:
    inbound = Inbound(90_000, repairable=True)
    for sequence in range(100):
        if sequence % 4 != 1:
            inbound.receive(sequence, 0.0)
    report = inbound.report()
    assert report.fraction == 64
    assert report.lost == 25
    for sequence in range(100, 200):
        inbound.receive(sequence, 0.0)
    assert inbound.report().fraction == 0


def test_many_wishes_for_a_key_frame_become_one_request() -> None:
    keys = KeyRequests()
    sent = 0
    for step in range(100):
        keys.want()
        sent += keys.due(step * KEY_REQUEST_INTERVAL_S / 100)
    assert sent == 1
    keys.arrived()
    keys.want()
    assert not keys.due(KEY_REQUEST_SPACING_S * 0.99)
    assert keys.due(KEY_REQUEST_INTERVAL_S * 1.01)


def test_a_key_frame_that_never_comes_is_given_up() -> None:
    keys = KeyRequests()
    keys.want()
    assert sum(keys.due(step * 1.0) for step in range(100)) == KEY_REQUEST_TRIES_MAX


def test_a_number_is_sent_again_once_per_round_trip() -> None:
    resends = Resends()
    resends.rtt_s = 0.1
    assert resends.allow(1, 5, 1000, 0.0)
    assert not resends.allow(1, 5, 1000, 0.05)
    assert resends.allow(1, 6, 1000, 0.05)
    assert resends.allow(1, 5, 1000, 0.11)


def test_resending_stays_within_its_budget_and_its_memory() -> None:
    resends = Resends()
    sent = sum(1000 for n in range(10_000) if resends.allow(1, n, 1000, 0.0))
    assert sent <= RESEND_BURST_BYTES
    for n in range(20_000, 24_000):
        resends.allow(1, n, 1, 1.0)
    assert len(resends._sent) <= RESEND_MEMORY_MAX


def test_a_screen_has_a_smaller_budget_of_key_frames_than_a_camera() -> None:
    def asked(interval_s: float) -> int:
        keys, count = KeyRequests(), 0
        for step in range(1200):  # a minute in which somebody always wants one, and it always comes
            keys.want()
            if keys.due(step * 0.05, interval_s):
                count += 1
                keys.arrived()
        return count

    assert 100 <= asked(KEY_REQUEST_INTERVAL_S) <= 121 + KEY_REQUEST_BURST
    assert 18 <= asked(SCREEN_KEY_REQUEST_INTERVAL_S) <= 22


def test_two_late_joiners_of_a_quiet_screen_need_not_wait_for_the_budget() -> None:
    keys = KeyRequests()
    keys.want()
    assert keys.due(100.0, SCREEN_KEY_REQUEST_INTERVAL_S)
    keys.arrived()
    keys.want()
    assert keys.due(100.6, SCREEN_KEY_REQUEST_INTERVAL_S)
    keys.arrived()
    keys.want()
    assert not keys.due(101.5, SCREEN_KEY_REQUEST_INTERVAL_S)
