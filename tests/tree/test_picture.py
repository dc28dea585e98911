"""The order in which entries are folded, and the short way to the same."""

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from command.base.entry import Written, write
from command.tree.claim import Verdict
from command.tree.picture import appends, covers, key_of, merge_seen, resolve, widens
from tests.sim.fold import short_way
from tests.tree.story import TREE, Teller, picture


def test_an_entry_stands_after_all_that_its_author_had_folded() -> None:
    county, city = Teller("county"), Teller("city")
    county.report()
    city.hear(county)
    first = city.say("incident.noted")
    county.hear(city)
    second = county.say("incident.noted")
    order = picture(county, city).order
    assert order.index(first) < order.index(second)


def test_a_later_generation_stands_after_the_one_before_even_what_it_never_saw() -> None:
    old = Teller("county", "z")
    old.report()
    new = Teller("county", "a", ("z",)).hear(old)
    unseen = old.say("incident.noted")
    after = new.say("incident.noted")
    order = picture(old, new).order
    assert order.index(unseen) < order.index(after)


def test_branches_of_a_fork_both_count() -> None:
    one = Teller("county")
    first = one.report()
    twin = Teller("county")
    twin.own, twin.held, twin.seen = [*one.own], dict(one.held), dict(one.seen)
    left, right = one.say("incident.noted", text="left"), twin.say("incident.noted", text="right")
    seen = picture(one, twin)
    assert all(branch in seen.counting() for branch in (left, right)) and seen.order[0] == first


def test_a_circle_made_by_rollbacks_is_broken_the_same_way_everywhere() -> None:
    county = Teller("county")
    county.report()
    twin = Teller("county")
    twin.own, twin.held, twin.seen = [*county.own], dict(county.held), dict(county.seen)
    city = Teller("city").hear(county)
    county.say("incident.noted", text="before the rollback")
    city.hear(county)
    city.say("incident.noted")
    twin.hear(city)
    twin.held = {key: one for key, one in twin.held.items() if one.entry.origin == "city" or one in twin.own}
    twin.say("incident.noted", text="after it, having seen the city's")
    held = list({**county.held, **twin.held, **city.held}.values())
    orders = []
    for seed in range(10):
        Random(seed).shuffle(held)
        orders.append([one.hash for one in resolve(held, TREE).order])
    assert all(order == orders[0] for order in orders) and len(orders[0]) == len(held)


def test_what_is_not_held_is_not_waited_for() -> None:
    county, city = Teller("county"), Teller("city")
    county.report()
    city.hear(county)
    city.say("incident.noted")
    alone = Teller("city")
    alone.held = {one.hash: one for one in city.own}
    seen = picture(alone)
    assert seen.order == city.own and seen.owner is None and seen.verdicts[city.own[0].hash] is Verdict.STRANGER


def test_seen_grows_and_covers() -> None:
    county, city = Teller("county"), Teller("city")
    county.report()
    city.hear(county)
    said = city.say("incident.noted")
    seen = merge_seen({"vehicle.g1": 4}, said.entry)
    assert seen == {"vehicle.g1": 4, "county.g1": 1}
    assert covers(seen, {"county.g1": 1, "city.g1": 9}, "city.g1") and not covers(seen, {"county.g1": 2}, "city.g1")


def test_an_entry_that_missed_something_does_not_simply_come_last() -> None:
    county, city = Teller("county"), Teller("city")
    first = county.report()
    city.hear(county)
    note = city.say("incident.noted")
    chain, known, seen = picture(county).chain, picture(county).standing, {"county.g1": 1}
    assert appends(note.entry, seen, {"county.g1": 1}, chain, known, strangers=False)
    assert not appends(note.entry, seen, {"county.g1": 2}, chain, known, strangers=False)
    assert not appends(city.edit(first).entry, seen, seen, chain, known, strangers=False)  # not its owner


def test_what_a_stranger_wrote_never_simply_comes_last() -> None:
    county, other = Teller("county"), Teller("other")
    first = county.report()
    note, drawn = other.hear(county).say("incident.noted"), picture(county)
    seen = {"county.g1": 1}
    assert not appends(note.entry, seen, seen, drawn.chain, drawn.standing, strangers=False)
    order = county.say("order.issued", first, node="other").entry
    assert appends(order, {}, seen, drawn.chain, drawn.standing, strangers=False) and widens(order, drawn.standing)
    assert not appends(
        order, {}, seen, drawn.chain, drawn.standing, strangers=True
    )  # what was said before may count now
    assert not widens(order, drawn.standing | {"other"})


def test_a_strangers_words_take_no_part_in_the_order_of_the_others() -> None:
    county, city, other = Teller("county"), Teller("city"), Teller("other")
    county.report()
    city.hear(county).say("incident.noted")
    without = picture(county, city).order
    other.hear(county, city)
    other.seen = {}
    lie = other.say("incident.noted")
    lied = write(msgspec.structs.replace(lie.entry, seen={"county.g1": 99, "city.g1": 99}))
    other.held = {lied.hash: lied}
    late = county.hear(city, other).say("incident.noted")  # the county has folded what claims to come after it
    seen = picture(county, city, other)
    assert seen.order == [*without, late, lied] and not seen.contested and seen.strangers


@given(st.integers(0, 2**32))
def test_property_the_short_way_of_folding_gives_the_same(seed: int) -> None:
    rng = Random(seed)
    tellers = [Teller(name) for name in ("county", "city", "province", "vehicle")]
    first = tellers[0].report()
    claims: dict[str, Written] = {"county": first}
    arrived: dict[bytes, Written] = dict(tellers[0].held)
    for _ in range(30):
        one = rng.choice(tellers)
        one.hear(*rng.sample(tellers, rng.randrange(3)))
        if first.hash not in one.held:
            continue
        if one.node in claims and rng.random() < 0.5:
            one.edit(claims[one.node])
        elif one.node in ("city", "province") and rng.random() < 0.1 and one.node not in claims:
            claims[one.node] = one.seize(first, "county")
        else:
            one.say("incident.noted")
        if rng.random() < 0.5:
            arrived |= _in_streams(one.held, arrived, rng)
    for one in tellers:
        arrived |= _in_streams(one.held, arrived, rng)
    whole = [one.hash for one in resolve(arrived.values(), TREE).counting()]
    assert short_way(arrived.values(), TREE, {}) == whole


def _in_streams(held: dict[bytes, Written], have: dict[bytes, Written], rng: Random) -> dict[bytes, Written]:
    """What isn't there yet, in an order in which each stream is in its own."""
    streams: dict[str, list[Written]] = {}
    for one in held.values():
        if one.hash not in have:
            streams.setdefault(key_of(one.entry), []).append(one)
    found = {}
    for name in rng.sample(sorted(streams), len(streams)):
        found |= {one.hash: one for one in sorted(streams[name], key=lambda one: one.entry.seq)}
    return found
