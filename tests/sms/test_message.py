"""The state machine of a message: the table, the crash rule, the restore rule, receipts in any order."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.clock import MICROSECONDS
from command.base.errors import Conflict, Rejected
from sms.message import (
    FINAL,
    ID_CHARS_MAX,
    TABLE,
    UNKNOWN_GRACE_S,
    Doubt,
    Kind,
    Message,
    Next,
    State,
    Urgency,
    apply,
    best,
    cut,
    next_action,
    outgoing,
    step,
    twin,
    twin_id,
)

NOW = 1_800_000_000 * MICROSECONDS
HOUR = 3600 * MICROSECONDS
GRACE = UNKNOWN_GRACE_S * MICROSECONDS
RECEIPTS = (Kind.RECEIPT_SENT, Kind.RECEIPT_DELIVERED, Kind.RECEIPT_FAILED)


def message(**changes: object) -> Message:
    plain = Message(
        id="m1",
        notice="n1",
        person="p1",
        number="+8615400000001",
        text="请集合",
        language="zh",
        urgency=Urgency.EMERGENCY,
        created=NOW,
        expires=NOW + HOUR,
        since=NOW,
    )
    return msgspec.structs.replace(plain, **changes)


def run(row: Message, *kinds: Kind, at: int = NOW) -> Message:
    for kind in kinds:
        row = apply(row, kind, at)
    return row


def test_the_plain_path_is_queued_submitting_sent_delivered() -> None:
    row = apply(message(), Kind.SUBMIT, NOW, gateway="twilio")
    assert (row.state, row.tries, row.gateway) == (State.SUBMITTING, 1, "twilio")
    row = apply(row, Kind.ACCEPTED, NOW + 1, gateway_id="SM1")
    assert (row.state, row.gateway_id, row.since) == (State.SENT, "SM1", NOW + 1)
    assert apply(row, Kind.RECEIPT_DELIVERED, NOW + 2, gateway_id="SM1").state is State.DELIVERED


def test_an_impossible_step_is_a_conflict_that_names_both() -> None:
    with pytest.raises(Conflict, match=r"sent can't be cancel"):
        step(State.SENT, Kind.CANCEL)


def test_only_a_certain_not_submitted_leads_from_submitting_back_to_queued() -> None:
    back = {(state, kind) for (state, kind), after in TABLE.items() if after is State.QUEUED and state is not after}
    assert back == {(State.SUBMITTING, Kind.NOT_SUBMITTED), (State.HELD, Kind.RELEASE)}


def test_every_state_survives_a_crash_and_a_restore() -> None:
    for state in State:
        assert step(state, Kind.CRASHED) is (State.UNKNOWN if state is State.SUBMITTING else state)
        assert step(state, Kind.RESTORED) is (state if state in FINAL else State.UNKNOWN)


def test_every_state_takes_every_receipt() -> None:
    for state in State:
        for kind in RECEIPTS:
            assert (state, kind) in TABLE


def test_delivered_is_delivered_whatever_comes_later() -> None:
    for (state, _), after in TABLE.items():
        if state is State.DELIVERED:
            assert after is State.DELIVERED


def test_receipts_end_the_same_in_any_order_and_any_number() -> None:
    sent = run(message(), Kind.SUBMIT, Kind.ACCEPTED)
    for order in permutations([Kind.RECEIPT_SENT, Kind.RECEIPT_DELIVERED, Kind.RECEIPT_SENT]):
        assert run(sent, *order).state is State.DELIVERED
    for order in permutations([Kind.RECEIPT_SENT, Kind.RECEIPT_FAILED, Kind.ACCEPTED]):
        assert run(sent, *order).state is State.FAILED


@given(st.lists(st.sampled_from([*RECEIPTS, Kind.ACCEPTED, Kind.UNCERTAIN, Kind.CRASHED]), max_size=12))
def test_after_a_submit_no_order_of_facts_makes_it_queued_again(kinds: list[Kind]) -> None:
    row = run(message(), Kind.SUBMIT)
    for kind in kinds:
        if (row.state, kind) in TABLE:
            row = apply(row, kind, NOW)
        assert row.state not in (State.QUEUED, State.HELD, State.CANCELLED)
        assert next_action(row, NOW + HOUR) is not Next.SUBMIT
    if Kind.RECEIPT_DELIVERED in kinds:
        assert row.state is State.DELIVERED


def test_the_same_fact_twice_changes_nothing() -> None:
    row = run(message(), Kind.SUBMIT, Kind.ACCEPTED)
    assert apply(row, Kind.RECEIPT_SENT, NOW + 5) is row


def test_a_receipt_of_another_gateway_id_is_not_ours() -> None:
    row = apply(run(message(), Kind.SUBMIT), Kind.ACCEPTED, NOW, gateway_id="SM1")
    with pytest.raises(Conflict):
        apply(row, Kind.RECEIPT_DELIVERED, NOW, gateway_id="SM2")


def test_a_message_caught_submitting_by_a_crash_is_unknown() -> None:
    row = run(message(), Kind.SUBMIT, Kind.CRASHED)
    assert (row.state, row.doubt) == (State.UNKNOWN, Doubt.CRASH)


def test_a_receipt_settles_an_unknown_message() -> None:
    row = apply(run(message(), Kind.SUBMIT, Kind.CRASHED), Kind.RECEIPT_SENT, NOW, gateway="twilio", gateway_id="SM1")
    assert (row.state, row.doubt, row.gateway_id) == (State.SENT, None, "SM1")
    assert next_action(row, NOW + HOUR) is Next.NOTHING


def test_an_unknown_emergency_is_sent_once_more_after_its_grace_and_marked() -> None:
    row = run(message(), Kind.SUBMIT, Kind.CRASHED)
    assert next_action(row, NOW + GRACE - 1) is Next.NOTHING
    assert next_action(row, NOW + GRACE) is Next.RESEND
    original, copy = twin(row, NOW + GRACE)
    assert (original.state, original.resent) == (State.UNKNOWN, True)
    assert (copy.id, copy.root, copy.state, copy.tries, copy.duplicate) == ("m1.2", "m1", State.QUEUED, 0, True)
    assert outgoing(copy) == "请集合（可能重复）"


def test_an_emergency_is_doubled_at_most_once_without_a_person() -> None:
    original, copy = twin(run(message(), Kind.SUBMIT, Kind.CRASHED), NOW + GRACE)
    assert next_action(original, NOW + GRACE) is Next.NOTHING
    again = run(copy, Kind.SUBMIT, Kind.UNCERTAIN)
    assert next_action(again, NOW + GRACE) is Next.ASK
    with pytest.raises(Conflict):
        twin(again, NOW + GRACE)
    with pytest.raises(Conflict):
        twin(original, NOW + GRACE)


def test_an_unknown_normal_message_waits_for_a_person() -> None:
    row = run(message(urgency=Urgency.NORMAL), Kind.SUBMIT, Kind.UNCERTAIN)
    assert next_action(row, NOW + HOUR - 1) is Next.ASK
    with pytest.raises(Conflict):
        twin(row, NOW + GRACE)
    _, copy = twin(row, NOW + GRACE, by_person=True)
    assert copy.duplicate


@pytest.mark.parametrize(
    "path", [(), (Kind.HOLD,), (Kind.SUBMIT,), (Kind.SUBMIT, Kind.CRASHED), (Kind.SUBMIT, Kind.ACCEPTED)]
)
def test_after_a_restore_what_is_not_final_waits_for_a_person_also_an_emergency(path: tuple[Kind, ...]) -> None:
    row = run(message(), *path, Kind.RESTORED)
    assert (row.state, row.doubt) == (State.UNKNOWN, Doubt.RESTORE)
    for later in (NOW, NOW + GRACE, NOW + 100 * HOUR):
        assert next_action(row, later) is Next.ASK
    with pytest.raises(Conflict):
        twin(row, NOW + GRACE)
    assert run(row, Kind.CRASHED).doubt is Doubt.RESTORE


def test_a_person_may_leave_an_unknown_message_and_a_late_receipt_still_counts() -> None:
    row = run(message(urgency=Urgency.NORMAL), Kind.SUBMIT, Kind.UNCERTAIN, Kind.CANCEL)
    assert (row.state, next_action(row, NOW)) == (State.CANCELLED, Next.NOTHING)
    assert run(row, Kind.RECEIPT_DELIVERED).state is State.DELIVERED


def test_a_person_may_send_a_failed_message_again_without_the_mark() -> None:
    row = run(message(), Kind.SUBMIT, Kind.REFUSED)
    _, copy = twin(row, NOW, by_person=True, expires=NOW + 2 * HOUR)
    assert (copy.duplicate, copy.expires) == (False, NOW + 2 * HOUR)
    with pytest.raises(Conflict):
        twin(row, NOW)


def test_what_certainly_was_not_sent_is_due_again_at_its_time() -> None:
    row = apply(run(message(), Kind.SUBMIT), Kind.NOT_SUBMITTED, NOW, not_before=NOW + 50, code="busy")
    assert (row.state, row.code) == (State.QUEUED, "busy")
    assert next_action(row, NOW + 49) is Next.NOTHING
    assert next_action(row, NOW + 50) is Next.SUBMIT


def test_a_message_that_is_too_old_expires_instead_of_leaving() -> None:
    assert next_action(message(), NOW + HOUR) is Next.EXPIRE
    assert next_action(run(message(), Kind.HOLD), NOW + HOUR) is Next.EXPIRE
    assert run(message(), Kind.EXPIRED).state is State.FAILED
    assert next_action(run(message(), Kind.SUBMIT, Kind.CRASHED), NOW + HOUR) is Next.ASK


def test_the_mark_counts_in_the_parts() -> None:
    row = message(text="中" * 68)
    assert cut(row).count == 1
    assert cut(msgspec.structs.replace(row, exercise=True)).count == 2


def test_a_copy_id_that_would_be_too_long_is_refused() -> None:
    assert len(twin_id("x" * (ID_CHARS_MAX - 2), 2)) == ID_CHARS_MAX
    with pytest.raises(Rejected):
        twin_id("x" * (ID_CHARS_MAX - 1), 2)


def test_the_best_of_the_copies_is_what_the_person_row_shows() -> None:
    assert best([State.UNKNOWN, State.QUEUED]) is State.QUEUED
    assert best([State.DELIVERED, State.FAILED]) is State.DELIVERED
    assert best([]) is None


def test_a_message_shows_neither_number_nor_text() -> None:
    assert "15400000001" not in repr(message()) and "请集合" not in repr(message())


def test_a_row_survives_its_encoding() -> None:
    row = run(message(), Kind.SUBMIT, Kind.CRASHED)
    assert msgspec.json.decode(msgspec.json.encode(row), type=Message) == row
