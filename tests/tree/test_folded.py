"""The short way of folding: what may be folded last although it doesn't come last leaves the same rows."""

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from command.base.entry import Written
from command.base.naming import bound_id
from command.base.projection import Domain
from command.domain import incident, notice
from command.domain.incident import INCIDENT
from command.tree.claim import Claim
from command.tree.folded import Folded, learn
from command.tree.picture import Picture, key_of, resolve
from tests.sim.fold import Memory, domain
from tests.tree.story import TREE, Teller, picture

BODY = {
    "category": "accident",
    "level": "II",
    "exercise": False,
    "organisation": "o",
    "lon": 1.0,
    "lat": 2.0,
    "area": None,
    "source": "phone",
    "casualties": {},
    "occurred_at": 0,
}
STEPS = ("delivered", "read", "accepted", "declined", "reported", "done")


def _chain(seen: Picture) -> list[Claim]:
    return seen.chain[-1:]


def _report(county: Teller) -> Written:
    """And the vehicle is given the incident."""
    claim = county.say("incident.reported", **BODY)
    county.invite(claim, "vehicle")
    return claim


def _issue(county: Teller, claim: Written, order: str) -> Written:
    unit = {"kind": "unit", "id": "u"}
    body: dict[str, Any] = {"assignee": unit, "parties": ["u"], "urgency": "normal", "exercise": False, "ladder": []}
    return county.say("order.issued", claim, order=order, organisation="o", ack_by=None, due_at=None, **body)


def _after(*tellers: Teller) -> tuple[Folded, list[Claim]]:
    """What is folded where all of them were heard."""
    seen = picture(*tellers)
    return learn(seen), _chain(seen)


def test_a_note_that_missed_other_notes_and_decisions_may_be_folded_last() -> None:
    county, vehicle = Teller("county"), Teller("vehicle")
    claim = _report(county)
    vehicle.hear(county)
    county.edit(claim)
    known, chain = _after(county)
    assert known.takes(vehicle.say("incident.noted").entry, chain)
    assert not known.takes(Teller("vehicle").say("incident.noted").entry, chain)  # its author didn't know the report


def test_a_word_on_an_order_may_be_folded_last_unless_its_author_missed_another_word_on_it() -> None:
    county, city, vehicle = Teller("county"), Teller("city"), Teller("vehicle")
    claim = _report(county)
    _issue(county, claim, "x")
    county.say("incident.noted")
    known, chain = _after(county)
    said = vehicle.say("order.progressed", order="x", step="accepted")  # it had the order ahead
    assert known.takes(said.entry, chain)
    known.note(said.entry)
    city.hear(county)
    assert not known.takes(city.say("order.progressed", order="x", step="declined").entry, chain)
    assert not known.takes(city.say("order.progressed", order="y", step="declined").entry, chain)


def test_a_decision_comes_last_once_its_author_knew_all_that_was_decided() -> None:
    county, vehicle = Teller("county"), Teller("vehicle")
    claim = _report(county)
    vehicle.hear(county)
    vehicle.say("incident.noted")
    known, chain = _after(county, vehicle)
    assert known.takes(county.edit(claim).entry, chain)
    vehicle.say("fence.drawn", fence="f")
    known, chain = _after(county, vehicle)
    assert not known.takes(county.own[-1].entry, chain)


def test_an_order_whose_answer_is_here_already_is_not_simply_folded_last() -> None:
    county, vehicle = Teller("county"), Teller("vehicle")
    claim = _report(county)
    vehicle.hear(county)
    vehicle.say("order.progressed", order="x", step="accepted")
    known, chain = _after(county, vehicle)
    issued = _issue(county, claim, "x")
    assert not known.takes(issued.entry, chain)
    order = picture(county, vehicle).order
    assert order.index(issued) < order.index(vehicle.own[-1])


def test_with_a_fork_only_what_knew_everything_comes_last() -> None:
    county, city = Teller("county"), Teller("city")
    _report(county)
    twin = Teller("county")
    twin.own, twin.held, twin.seen = [*county.own], dict(county.held), dict(county.seen)
    city.hear(county)
    county.say("incident.noted", text="left")
    twin.say("incident.noted", text="right")
    known, chain = _after(county, twin)
    assert not known.takes(city.say("incident.noted").entry, chain)


@given(st.integers(0, 2**32))
def test_property_the_rows_are_those_of_folding_anew(seed: int) -> None:
    rng = Random(seed)
    county, city, vehicle = Teller("county"), Teller("city"), Teller("vehicle")
    claim = _report(county)
    orders: list[str] = []
    every = [county, city, vehicle]
    for teller in every:
        teller.hear(county)
    for _ in range(30):
        one = rng.choice(every)
        one.hear(*rng.sample(every, rng.randrange(3)))
        _say(one, rng, claim, orders)
    node = _Node()
    for written in _arrivals(every, rng):
        node.receive(written)
    assert node.rows.rows == _rows(resolve(node.held, TREE))


def _say(one: Teller, rng: Random, claim: Written, orders: list[str]) -> None:
    kind = rng.randrange(6)
    if kind == 5:
        _tell(one, rng, orders)
    elif kind == 0 and one.node == "county":
        orders.append(f"order{len(orders)}")
        _issue(one, claim, orders[-1])
    elif kind == 1 and one.node == "county" and orders:
        one.say(rng.choice(("order.cancelled", "order.overdue", "order.amended")), claim, order=rng.choice(orders))
    elif kind == 2 and one.node == "county":
        one.say("incident.level_set", claim, level=rng.choice(["I", "II", "III"]))
    elif kind == 3 and orders:
        one.say("order.progressed", order=rng.choice(orders), step=rng.choice(STEPS))  # known, or had ahead
    else:
        one.say(rng.choice(("incident.noted", "timer.fired", "fence.drawn")), timer="t")


NOTICE = {
    "kind": "alert",
    "organisation": "o",
    "incident": "i",
    "room": None,
    "recipients": {},
    "urgency": "normal",
    "exercise": False,
}


def _tell(one: Teller, rng: Random, orders: list[str]) -> None:
    """A notice, or a word on one, be it another node's."""
    keys = [bound_id(f"{number}", rng.choice(("county", one.node)), one.subject) for number in range(3)]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("issued", {**NOTICE, "order": rng.choice(orders) if orders else None}),
        ("progressed", {"counts": {"sent": rng.randrange(9)}, "expanded": True}),
        ("cancelled", {}),
    ]
    step, body = rng.choice(steps)
    one.say(f"notice.{step}", notice=rng.choice(keys), **body)


def _domain() -> Domain:
    return domain().register(projectors=notice.PROJECTORS)


def _arrivals(tellers: list[Teller], rng: Random) -> list[Written]:
    """The report first, then each stream in its own order, interleaved at random."""
    left = [list(teller.own) for teller in tellers]
    found = [left[0].pop(0)]
    while any(left):
        stream = rng.choice([one for one in left if one])
        found.append(stream.pop(0))
    return found


def _rows(seen: Picture) -> Any:
    rows, known = Memory(), _domain()
    for one in seen.counting():
        known.project(rows, one)
    return rows.rows


class _Node:
    """Folds as `log.folding` does: onto the rows while it may, else everything anew."""

    def __init__(self) -> None:
        self.held: list[Written] = []
        self.rows, self.known = Memory(), Folded()
        self.chain: list[Claim] = []
        self.domain = _domain()
        self.appended = 0

    def receive(self, one: Written) -> None:
        self.held.append(one)
        reported = one.entry.subject.partition("/")[2]
        if self.rows.get(INCIDENT, reported) is not None and self.known.takes(one.entry, self.chain):
            self.domain.project(self.rows, one)
            self.known.note(one.entry)
            self.known.widen(one.entry, TREE)
            self.appended += 1
            return
        seen = resolve(self.held, TREE)
        self.rows.rows, self.known, self.chain = (
            _rows(seen),
            learn(seen),
            _chain(seen),
        )


def test_a_vehicle_that_catches_up_costs_its_superior_no_folding_anew() -> None:
    county, vehicle = Teller("county"), Teller("vehicle")
    claim = _report(county)
    vehicle.hear(county)
    for number in range(20):
        county.say("incident.noted")
        _issue(county, claim, f"{number}")
    node = _Node()
    for one in county.own:
        node.receive(one)
    for number in range(20):
        vehicle.say("order.progressed", order=f"{number}", step="delivered")
        vehicle.say("incident.noted")
    for one in vehicle.own:
        node.receive(one)
    assert node.appended == len(county.own) + len(vehicle.own) - 1
    assert {key_of(one.entry) for one in node.held} == {county.key, vehicle.key}


def test_a_run_of_notes_is_taken_and_noted_like_one_note_after_the_other() -> None:
    county, vehicle = Teller("county"), Teller("vehicle")
    claim = _report(county)
    vehicle.hear(county)
    notes = [vehicle.say("incident.noted") for _ in range(5)]
    county.edit(claim)
    vehicle.hear(county)
    notes += [vehicle.say("incident.noted"), vehicle.say("incident.noted", order="x"), vehicle.say("incident.noted")]
    for after in ((county,), (county, vehicle)):
        (singly, chain), (at_once, _) = _after(*after), _after(*after)
        every, start, counts = [one.entry for one in notes], 0, list[int]()
        while start < len(every):
            count = at_once.run(every[start:])
            run = every[start : start + count]
            taken = at_once.takes(run[0], chain)
            for entry in run:
                assert singly.takes(entry, chain) == taken
                singly.note(entry)
            at_once.note_run(run)
            start, counts = start + count, [*counts, count]
        assert vars(at_once) == vars(singly)
        assert counts == [5, 1, 1, 1]  # the sixth had seen more, the seventh names an order


def test_notes_at_once_leave_the_row_that_one_after_the_other_leaves() -> None:
    county = Teller("county")
    _report(county)
    notes = [county.say("incident.noted") for _ in range(7)]
    rows: list[Memory] = [Memory(), Memory()]
    for one in rows:
        for written in county.own[:1]:
            domain().project(one, written)
    for written in notes:
        domain().project(rows[0], written)
    incident.RUNS["incident.noted"](rows[1], notes)
    assert rows[0].rows == rows[1].rows and len(rows[0].where(INCIDENT)) == 1
    assert rows[0].where(INCIDENT)[0].notes == 7
