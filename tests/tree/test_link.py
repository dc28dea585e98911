"""The link: what a pair of nodes tells each other, and what it doesn't."""

from random import Random

from command.base.entry import Draft
from command.tree import wire
from command.tree.cursor import NOW_BACKLOG_FAR, NOW_BACKLOG_MAX, WINDOW
from command.tree.link import Link
from command.tree.outcome import Redial, Send, Store, StoreAhead
from command.tree.outgoing import AHEAD_FRAME_MAX
from command.tree.wire import AHEAD_MAX, LATER, NOW, Ahead, Entries, Have, Held, Hello, Ping, Pong, decode
from tests.sim import acts
from tests.sim.world import SECOND, World
from tests.tree import pair


def frames(made: object, name: str, peer: str, channel: str) -> list[wire.Message]:
    found = []
    link = pair.link(made, name, peer)  # type: ignore[arg-type]
    while (data := link.pull(channel, made.now)) is not None:  # type: ignore[attr-defined]
        found.append(decode(data))
    return found


def test_what_one_writes_the_other_holds() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    assert pair.node(made, "n0").picture(subject).digest() == pair.node(made, "n1").picture(subject).digest()
    stream = pair.streams(pair.node(made, "n1"), subject).pop()
    assert pair.link(made, "n1", "n0").held_tips(stream) == pair.node(made, "n1").tips(stream)


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    parent = pair.link(made, "n0", "n1")
    pair.rest(made)
    pair.node(made, "n1").append([pair.note(subject)])
    pair.node(made, "n1").dirty.clear()
    child = pair.link(made, "n1", "n0")
    child.grew(pair.streams(pair.node(made, "n1"), subject), made.now)
    data = child.pull(NOW, made.now)
    assert data is not None
    commands = parent.received(NOW, data, made.now)
    store = next(one for one in commands if isinstance(one, Store))
    assert not any(isinstance(one, Held) for one in pair.sent(commands))
    pair.node(made, "n0").store(store.items)
    assert [type(one) for one in pair.sent(parent.stored(store.number, made.now))] == [Held]


def test_what_came_from_the_peer_does_not_go_back_though_the_log_tells_of_it_first() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    at, parent, child = pair.node(made, "n1"), pair.link(made, "n0", "n1"), pair.link(made, "n1", "n0")
    at.append([pair.note(subject) for _ in range(2)])
    at.dirty.clear()
    child.grew(pair.streams(at, subject), made.now)
    data = child.pull(NOW, made.now)
    assert data is not None
    store = next(one for one in parent.received(NOW, data, made.now) if isinstance(one, Store))
    pair.node(made, "n0").store(store.items)
    parent.grew(pair.streams(pair.node(made, "n0"), subject), made.now)
    assert parent.pull(NOW, made.now) is None
    parent.stored(store.number, made.now)
    assert parent.pull(NOW, made.now) is None
    stream = pair.streams(at, subject).pop()
    assert parent.held_tips(stream) == at.tips(stream)


def test_no_more_than_the_window_is_on_its_way() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    at = pair.node(made, "n1")
    for _ in range(3):
        at.append([pair.note(subject) for _ in range(200)])
    at.dirty.clear()
    pair.link(made, "n1", "n0").grew(pair.streams(at, subject), made.now)
    found = [one for one in frames(made, "n1", "n0", LATER) if isinstance(one, Entries)]
    assert sum(len(one.items) for one in found) == WINDOW


def test_an_order_overtakes_a_long_backlog() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    made.cut(made.edges[0])
    pair.rest(made)
    at = pair.node(made, "n0")
    at.append([pair.note(subject) for _ in range(500)])
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "o1", "node": "n1"})])
    seen: list[type] = []
    receive = pair.link(made, "n1", "n0").received

    def listen(channel: str, data: bytes, now: int) -> list[object]:
        if isinstance(decode(data), (Ahead, Entries)):
            seen.append(type(decode(data)))
        commands = receive(channel, data, now)
        return list(commands)

    pair.link(made, "n1", "n0").received = listen  # type: ignore[method-assign,assignment]
    made.mend(made.edges[0])
    pair.rest(made)
    assert seen[0] is Ahead and Entries in seen
    assert len(pair.node(made, "n1").streams.entries(subject)) >= 500


def test_what_was_sent_ahead_is_kept_beside_the_log_and_confirmed() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    at = pair.node(made, "n0")
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "o1", "node": "n1"})])
    stream = pair.streams(at, subject).pop()
    seals, items = wire.Entries, at.urgent(stream, (), "n1")
    from command.tree.item import pack

    frame = wire.encode(Ahead(*pack(items)))
    child = pair.link(made, "n1", "n0")
    commands = child.received(NOW, frame, made.now)
    store = next(one for one in commands if isinstance(one, StoreAhead))
    assert [one.written.entry.kind for one in store.items] == ["order.issued"] and seals is Entries
    answer = pair.sent(child.stored(store.number, made.now))
    assert answer == [wire.AheadHeld(hashes=[one.tip.head for one in items])]


def far(made: World, name: str, peer: str) -> Link:
    """The link, once it has measured a round trip of a second."""
    found = pair.link(made, name, peer)
    found.received(NOW, wire.encode(Pong(echo=made.now - SECOND, clock=made.now)), made.now)
    return found


def test_on_a_far_line_an_order_goes_on_both_channels_and_counts_once() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    parent = far(made, "n0", "n1")
    at = pair.node(made, "n0")
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "o1", "node": "n1"})])
    at.dirty.clear()
    parent.grew(pair.streams(at, subject), made.now)
    assert not parent.hurried
    (entries,) = frames(made, "n0", "n1", NOW)
    assert isinstance(entries, Entries)
    assert parent.hurried
    (copy,) = frames(made, "n0", "n1", LATER)
    assert isinstance(copy, Ahead) and [one.data for one in copy.items] == [entries.items[-1].data]
    assert not parent.hurried
    child = pair.link(made, "n1", "n0")
    for frame, kinds in ((copy, ["order.issued"]), (entries, None), (copy, [])):
        commands = child.received(NOW if frame is entries else LATER, wire.encode(frame), made.now)
        (found,) = [one for one in commands if isinstance(one, (Store, StoreAhead))]
        if isinstance(found, Store):
            pair.node(made, "n1").store(found.items)
        else:
            assert [one.written.entry.kind for one in found.items] == kinds
        child.stored(found.number, made.now)


def test_on_a_far_line_a_short_backlog_goes_on_later_and_its_order_ahead_on_both() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    parent, at = far(made, "n0", "n1"), pair.node(made, "n0")
    at.append([pair.note(subject) for _ in range(NOW_BACKLOG_FAR)])
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "o1", "node": "n1"})])
    at.dirty.clear()
    parent.grew(pair.streams(at, subject), made.now)
    assert [type(one) for one in frames(made, "n0", "n1", NOW)] == [Ahead]
    assert [type(one) for one in frames(made, "n0", "n1", LATER)] == [Ahead, Entries]


def test_on_a_near_line_an_order_goes_once() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    at = pair.node(made, "n0")
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "o1", "node": "n1"})])
    at.dirty.clear()
    pair.link(made, "n0", "n1").grew(pair.streams(at, subject), made.now)
    assert len(frames(made, "n0", "n1", NOW)) == 1
    assert frames(made, "n0", "n1", LATER) == []


def test_copies_on_later_are_bounded_until_they_are_acknowledged() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    parent, at = far(made, "n0", "n1"), pair.node(made, "n0")
    sent = 0
    for number in range(2 * AHEAD_MAX):
        at.append([Draft(subject=subject, kind="order.issued", body={"order": f"o{number}", "node": "n1"})])
        at.dirty.clear()
        parent.grew(pair.streams(at, subject), made.now)
        frames(made, "n0", "n1", NOW)
        sent += sum(len(one.items) for one in frames(made, "n0", "n1", LATER) if isinstance(one, Ahead))
    assert sent == AHEAD_MAX
    parent.received(LATER, wire.encode(wire.AheadHeld(hashes=[b"h" * 32] * AHEAD_MAX)), made.now)
    at.append([Draft(subject=subject, kind="order.issued", body={"order": "last", "node": "n1"})])
    parent.grew(pair.streams(at, subject), made.now)
    frames(made, "n0", "n1", NOW)
    assert len(frames(made, "n0", "n1", LATER)) == 1


def test_what_the_peer_keeps_ahead_is_not_sent_again_on_a_fresh_connection() -> None:
    made = pair.world()
    subject = pair.report(made, "n0")
    pair.rest(made)
    at, parent = pair.node(made, "n0"), pair.link(made, "n0", "n1")
    at.append([pair.note(subject) for _ in range(NOW_BACKLOG_MAX + 1)])
    orders = [Draft(subject=subject, kind="order.issued", body={"order": f"o{n}", "node": "n1"}) for n in range(12)]
    at.append(orders)
    at.dirty.clear()
    parent.grew(pair.streams(at, subject), made.now)
    first = frames(made, "n0", "n1", NOW)
    aheads = [one for one in first if isinstance(one, Ahead)]
    assert [len(one.items) for one in aheads] == [AHEAD_FRAME_MAX, 12 - AHEAD_FRAME_MAX]
    stream = pair.streams(at, subject).pop()
    kept = [one.tip.head for one in at.urgent(stream, (), "n1")][:AHEAD_FRAME_MAX]
    parent.received(NOW, wire.encode(wire.AheadHeld(hashes=kept)), made.now)
    parent._outgoing.rewind(NOW)
    again = [one for one in frames(made, "n0", "n1", NOW) if isinstance(one, Ahead)]
    assert [one.data for frame in again for one in frame.items] == [one.data for one in aheads[1].items]


def test_after_a_lost_connection_only_what_was_on_its_way_goes_again() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    before = dict(made.bytes)
    made.hang_up(made.edges[0])
    made.dial(made.edges[0])
    pair.rest(made)
    haves = made.bytes["n1", "n0"] - before["n1", "n0"]
    assert pair.link(made, "n1", "n0").settled and haves < 2500  # two handshakes and pings, no exchange
    pair.write(made, "n1", pair.note(subject))
    pair.rest(made)
    assert len(pair.node(made, "n0").streams.entries(subject)) == 2


def test_a_stream_of_an_unknown_origin_waits_until_its_key_is_known() -> None:
    made = pair.world(pair.LINE, linked=False)
    made.mend(made.edges[1])
    subject = pair.report(made, "n2")
    pair.rest(made)
    top = pair.node(made, "n0")
    assert "n2" not in top.public
    made.mend(made.edges[0])
    pair.rest(made)
    assert "n2" in top.public and len(top.streams.entries(subject)) == 1


def test_a_full_disk_loses_nothing() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    at, parent = pair.node(made, "n1"), pair.link(made, "n0", "n1")
    at.append([pair.note(subject)])
    pair.link(made, "n1", "n0").grew(pair.streams(at, subject), made.now)
    data = pair.link(made, "n1", "n0").pull(NOW, made.now)
    assert data is not None
    store = next(one for one in parent.received(NOW, data, made.now) if isinstance(one, Store))
    made.carry_out(pair.node(made, "n0"), "n1", parent.failed(store.number, made.now))
    pair.rest(made)
    assert len(pair.node(made, "n0").streams.entries(subject)) == 1
    made.carry_out(pair.node(made, "n0"), "n1", parent.again(made.now))
    pair.rest(made)
    assert len(pair.node(made, "n0").streams.entries(subject)) == 2


def test_what_is_not_acknowledged_goes_again_on_a_fresh_connection() -> None:
    made = pair.world()
    subject = pair.report(made, "n1")
    pair.rest(made)
    at, child = pair.node(made, "n1"), pair.link(made, "n1", "n0")
    at.append([pair.note(subject)])
    child.grew(pair.streams(at, subject), made.now)
    assert child.pull(NOW, made.now) is not None
    soon = made.now + 2 * child.rtt_us + SECOND
    assert not any(isinstance(one, Redial) for one in child.tick(soon))
    assert Redial(NOW, "unacknowledged") in child.tick(soon + 1)


def test_ten_thousand_closed_incidents_are_compared_in_64_kilobytes() -> None:
    made = pair.world(linked=False)
    for number in range(10_000):
        pair.node(made, "n1").append([acts.report(f"incident/{number:08x}-n1", "u", "n1", Random(1))])
    top, at = pair.node(made, "n0"), pair.node(made, "n1")
    top.closed_always = at.closed_always = True
    for stream in sorted(at.streams.of):
        if stream.subject.startswith("incident/"):
            top.store(at.rest(stream, (), "n0", 10, 0))
    top.dirty.clear()
    at.dirty.clear()
    before = dict(made.bytes)
    made.mend(made.edges[0])
    pair.rest(made)
    octets = sum(made.bytes.values()) - sum(before.values())
    assert octets <= 64 * 1024, octets


def test_versions_that_overlap_talk_and_others_are_refused() -> None:
    made = pair.world()
    parent = pair.link(made, "n0", "n1")
    child = pair.node(made, "n1")
    for versions, code in (((1, 1), ""), ((2, 3), ""), ((3, 4), "link.version")):
        parent.connected(NOW, b"\x01" * 32, made.now)
        hello = Hello(versions=versions, node="n1", key=child.key.public, nonce=b"\x02" * 32, channel=NOW, session="s")
        commands = parent.received(NOW, wire.encode(hello), made.now)
        assert pair.refusal(commands) == code


def test_a_newer_peer_may_append_fields() -> None:
    newer = wire.encode(Ping(clock=7))
    assert decode(bytes([newer[0] + 1]) + newer[1:] + b"\xc3") == Ping(clock=7)


def test_an_entry_of_an_unknown_kind_is_passed_on_untouched() -> None:
    made = pair.world(pair.LINE)
    subject = pair.report(made, "n2")
    pair.write(made, "n2", Draft(subject=subject, kind="future.kind", body={"colour": "red"}))
    pair.rest(made)
    data = {one.written.data for one in pair.node(made, "n2").streams.entries(subject)}
    assert data == {one.written.data for one in pair.node(made, "n0").streams.entries(subject)}


def test_a_large_listing_is_cut_into_frames() -> None:
    made = pair.world(linked=False)
    at = pair.node(made, "n1")
    for number in range(1000):
        at.append([acts.report(f"incident/{number:08x}-n1", "u", "n1", Random(1))])
    made.mend(made.edges[0])
    sizes = []
    send = made.send

    def watch(node: object, peer: str, channel: str, data: bytes) -> None:
        if isinstance(decode(data), Have):
            sizes.append(len(data))
        send(node, peer, channel, data)  # type: ignore[arg-type]

    made.send = watch  # type: ignore[method-assign,assignment]
    pair.rest(made)
    assert len(sizes) > 2 and max(sizes) < wire.FRAME_BYTES_MAX
    assert len(pair.node(made, "n0").streams.of) >= 1000


def test_send_is_a_command_like_others() -> None:
    made = pair.world()
    commands = pair.link(made, "n0", "n1").refuse("link.test", "Enough.")
    assert [one.channel for one in commands if isinstance(one, Send)] and pair.refusal(commands) == "link.test"
