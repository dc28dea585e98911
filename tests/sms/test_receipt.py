"""Receipts that come too early, and the pace of sending."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from command.base.clock import MICROSECONDS
from sms.message import Kind, Message, Urgency
from sms.pace import RETRY_MAX_S, TRIES_MAX_NORMAL, Pace, retry_at
from sms.receipt import EARLY_HOLD_S, EARLY_RECEIPTS_MAX, EarlyReceipts, Inbound, Receipt

HOLD = EARLY_HOLD_S * MICROSECONDS


def receipt(gateway_id: str, kind: Kind = Kind.RECEIPT_DELIVERED) -> Receipt:
    return Receipt(gateway="smpp", gateway_id=gateway_id, kind=kind)


def test_a_receipt_before_its_id_is_given_back_once_when_the_id_is_stored() -> None:
    early = EarlyReceipts()
    early.hold(receipt("1", Kind.RECEIPT_SENT), 0)
    early.hold(receipt("1"), 5)
    assert early.take("smpp", "1") == (receipt("1", Kind.RECEIPT_SENT), receipt("1"))
    assert early.take("smpp", "1") == ()
    assert early.take("cmpp", "1") == ()


def test_a_receipt_that_nobody_claims_for_ten_minutes_is_dropped_and_told() -> None:
    early = EarlyReceipts()
    early.hold(receipt("1"), 0)
    early.hold(receipt("2"), 1)
    assert early.expire(HOLD - 1) == []
    assert early.expire(HOLD) == [receipt("1")]
    assert early.expire(HOLD + 1) == [receipt("2")]
    assert len(early) == 0


def test_the_table_of_early_receipts_is_bounded_and_drops_the_oldest() -> None:
    early = EarlyReceipts()
    for number in range(EARLY_RECEIPTS_MAX):
        assert early.hold(receipt(str(number)), number) == []
    assert early.hold(receipt("one more"), 1) == [receipt("0")]
    assert len(early) == EARLY_RECEIPTS_MAX


def test_a_repeating_gateway_cannot_fill_one_entry() -> None:
    early = EarlyReceipts()
    for number in range(1000):
        early.hold(msgspec.structs.replace(receipt("1"), code=str(number)), 0)
    assert len(early.take("smpp", "1")) == 3


def test_an_inbound_text_shows_neither_number_nor_text() -> None:
    shown = repr(Inbound(gateway="g", gateway_id="1", sender="+8615400000001", recipient="1065", text="秘密"))
    assert "154000" not in shown and "秘密" not in shown


@given(st.integers(1, 200), st.integers(1, 50), st.lists(st.integers(1, 24), min_size=1, max_size=60))
def test_over_any_time_no_more_parts_leave_than_the_rate_allows(rate: int, burst: int, sizes: list[int]) -> None:
    pace, now, sent = Pace(rate, burst), 0, 0
    for size in sizes:
        now += int(pace.wait_s(now) * MICROSECONDS) + 1
        pace.spend(size, now)
        sent += size
        assert sent <= rate * now / MICROSECONDS + max(burst, size) + size + 1e-3


def test_a_gateway_without_a_rate_never_waits() -> None:
    pace = Pace(None)
    pace.spend(10_000, 0)
    assert pace.wait_s(0) == 0


def test_a_long_code_waits_a_second_per_part() -> None:
    pace = Pace(1)
    pace.spend(2, 0)
    assert pace.wait_s(0) == 2
    assert pace.wait_s(2 * MICROSECONDS) == 0


def row(**changes: object) -> Message:
    plain = Message(
        id="m",
        notice="n",
        person="p",
        number="+8615400000001",
        text="x",
        language="zh",
        urgency=Urgency.NORMAL,
        created=0,
        expires=10**12,
        tries=1,
    )
    return msgspec.structs.replace(plain, **changes)


@given(st.integers(1, TRIES_MAX_NORMAL - 1), st.floats(0, 0.999))
def test_a_retry_waits_longer_each_time_and_never_longer_than_its_limit(tries: int, share: float) -> None:
    first, second = retry_at(row(tries=tries), 0, share), retry_at(row(tries=tries + 1), 0, share)
    assert first is not None and 1 * MICROSECONDS <= first <= RETRY_MAX_S * MICROSECONDS
    assert second is None or second >= first


def test_a_gateway_that_names_a_time_is_obeyed() -> None:
    assert retry_at(row(), 0, 0.0, after_s=60) == 60 * MICROSECONDS


def test_a_normal_message_gives_up_and_an_emergency_only_when_it_expires() -> None:
    assert retry_at(row(tries=TRIES_MAX_NORMAL), 0, 0) is None
    emergency = row(tries=10_000, urgency=Urgency.EMERGENCY)
    assert retry_at(emergency, 0, 0) is not None
    assert retry_at(emergency, emergency.expires - 1, 0) is None
