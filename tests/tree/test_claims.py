"""Who owns an incident: transfers, seizures, rivals, and what becomes of decisions that come too late."""

from random import Random

import pytest

from command.tree.claim import Verdict, claim_of
from command.tree.picture import resolve
from tests.tree.story import TREE, Teller, Tree, picture, verdict


@pytest.fixture
def county() -> Teller:
    return Teller("county")


def test_who_reports_an_incident_owns_it(county: Teller) -> None:
    county.report()
    assert picture(county).owner == "county"


def test_a_transfer_with_the_agreement_of_the_new_owner_ends_the_term_of_the_old(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    agreed = city.agree(first)
    county.hear(city)
    moved = county.transfer(first, "city", agreed)
    too_late = county.edit(first)
    city.hear(county)
    new = city.edit(moved)
    seen = picture(county, city)
    assert seen.owner == "city"
    assert verdict(seen, too_late) is Verdict.LATE and verdict(seen, new) is Verdict.EFFECTIVE


def test_a_transfer_to_somebody_who_has_not_agreed_is_void(county: Teller) -> None:
    first = county.report()
    note = county.say("incident.noted")
    county.transfer(first, "city", note)
    assert picture(county).owner == "county"


def test_only_the_owner_can_transfer(county: Teller) -> None:
    first = county.report()
    other = Teller("other").hear(county)
    other.transfer(first, "other", other.agree(first))
    assert picture(county, other).owner == "county"


def test_only_a_superior_can_seize(county: Teller) -> None:
    first = county.report()
    for name in ("other", "vehicle", "nobody"):
        thief = Teller(name).hear(county)
        thief.seize(first, "county")
        assert picture(county, thief).owner == "county"
    city = Teller("city").hear(county)
    city.seize(first, "county")
    assert picture(county, city).owner == "city"


def test_late_decision_is_kept_but_has_no_effect(county: Teller) -> None:
    first = county.report()
    before = county.edit(first)
    city = Teller("city").hear(county)
    taken = city.seize(first, "county")
    after = county.edit(first)
    seen = picture(county, city)
    assert verdict(seen, before) is Verdict.EFFECTIVE and verdict(seen, after) is Verdict.LATE
    assert after in seen.order and after not in seen.counting() and seen.late() == [after]
    assert [one.id for one in seen.chain] == [first.hash.hex(), taken.hash.hex()]


def test_contributions_are_never_late(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    city.seize(first, "county")
    note = county.say("incident.noted")
    assert verdict(picture(county, city), note) is Verdict.EFFECTIVE


def test_a_late_order_that_the_owner_adopts_counts(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    taken = city.seize(first, "county")
    order = county.say("order.issued", first, order="o1")
    city.hear(county)
    city.say("order.adopted", taken, order="o1", entry=order.hash.hex())
    seen = picture(county, city)
    assert verdict(seen, order) is Verdict.ADOPTED and order in seen.counting()


def test_a_late_adoption_adopts_nothing(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    city.seize(first, "county")
    order = county.say("order.issued", first, order="o1")
    county.say("order.adopted", first, order="o1", entry=order.hash.hex())
    assert verdict(picture(county, city), order) is Verdict.LATE


def test_of_rival_seizures_the_higher_nodes_wins(county: Teller) -> None:
    first = county.report()
    city, province = Teller("city").hear(county), Teller("province").hear(county)
    lost, won = city.seize(first, "county"), province.seize(first, "county")
    under = city.edit(lost)
    seen = picture(county, city, province)
    assert seen.owner == "province" and seen.chain[-1].id == won.hash.hex() and seen.contested
    assert verdict(seen, under) is Verdict.LATE and verdict(seen, lost) is Verdict.LATE


def test_a_chain_of_transfers_below_a_cut_loses_against_a_seizure_above_it(county: Teller) -> None:
    first = county.report()
    province = Teller("province").hear(county)
    claim, owner = first, county
    for name in ("vehicle", "other"):
        new = Teller(name).hear(owner)
        agreed = new.agree(claim)
        owner.hear(new)
        claim = owner.transfer(claim, name, agreed)
        new.hear(owner)
        owner = new
    under = owner.edit(claim)
    assert picture(owner).owner == "other"
    province.seize(first, "county")
    seen = picture(owner, province)
    assert seen.owner == "province" and verdict(seen, under) is Verdict.LATE


def test_of_two_claims_by_one_node_the_earlier_generations_wins(county: Teller) -> None:
    first = county.report()
    for letters in ("ab", "ba", "cd"):
        earlier, later = Teller("city", letters[0]).hear(county), Teller("city", letters[1], (letters[0],)).hear(county)
        one, other = earlier.seize(first, "county"), later.seize(first, "county")
        assert picture(county, earlier, later).chain[-1].id == one.hash.hex() != other.hash.hex()


def test_generations_that_know_nothing_of_each_other_are_told_apart_by_hash(county: Teller) -> None:
    first = county.report()
    claims = [Teller("city", name).hear(county) for name in ("a", "b", "c")]
    found = [one.seize(first, "county").hash.hex() for one in claims]
    assert picture(county, *claims).chain[-1].id == min(found)


def test_a_decision_under_a_claim_that_is_not_its_authors_is_unclaimed(county: Teller) -> None:
    first = county.report()
    county.invite(first, "other")
    other = Teller("other").hear(county)
    forged = other.edit(first)
    assert verdict(picture(county, other), forged) is Verdict.UNCLAIMED


def test_a_decision_without_a_claim_stands_under_the_report(county: Teller) -> None:
    county.report()
    old = county.say("order.overdue", order="o1")
    assert verdict(picture(county), old) is Verdict.EFFECTIVE


def test_what_a_revoked_node_wrote_beyond_its_end_has_no_effect(county: Teller) -> None:
    first = county.report()
    known = county.edit(first)
    cut = {"county": {"incident/aa-county@county.g1": [(2, known.hash.hex())]}}
    beyond = county.edit(first)
    seen = picture(county, cuts=cut)
    assert verdict(seen, known) is Verdict.EFFECTIVE and verdict(seen, beyond) is Verdict.REVOKED
    assert verdict(picture(county, cuts={"county": {}}), known) is Verdict.REVOKED


def test_a_claim_of_a_revoked_node_beyond_its_end_is_no_claim(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    city.seize(first, "county")
    assert picture(county, city, cuts={"city": {}}).owner == "county"


def test_malformed_claims_are_void(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    for body in ({}, {"base": 1}, {"base": {"x": 1}}, {"base": {"x": [[1]]}}, {"base": {}, "to": 1, "agreed": "x"}):
        bad = city.say("ownership.transferred", first, **body)
        assert claim_of(bad.entry, bad.hash.hex()) is None
    assert picture(county, city).owner == "county"


def test_no_order_of_arrival_takes_part(county: Teller) -> None:
    first = county.report()
    city, province, vehicle = (
        Teller("city").hear(county),
        Teller("province").hear(county),
        Teller("vehicle").hear(county),
    )
    claims = [first, city.seize(first, "county"), province.seize(first, "county")]
    for teller, claim in ((county, claims[0]), (city, claims[1]), (province, claims[2])):
        for _ in range(5):
            teller.edit(claim)
            vehicle.hear(teller).say("incident.noted")
            teller.hear(vehicle)
    held = list({**county.held, **city.held, **province.held, **vehicle.held}.values())
    digests = set()
    for seed in range(20):
        Random(seed).shuffle(held)
        digests.add(resolve(held, TREE).digest())
    assert len(digests) == 1


def test_news_of_the_tree_can_change_who_owns_and_the_picture_says_so(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    city.seize(first, "county")
    without = picture(county, city, tree=Tree({"province": None, "county": "province"}))
    assert without.owner == "county" and without.strangers
    assert picture(county, city).owner == "city"
    aside = Tree({"province": None, "city": "province", "county": "province"})
    county.invite(first, "city")
    without = picture(county, city, tree=aside)
    assert without.owner == "county" and without.contested
    assert picture(county, city).owner == "city"


def test_a_report_of_what_another_reported_is_no_claim(county: Teller) -> None:
    """Not even by a node above the reporter, with a smaller hash, in an earlier place, or for want of the true report."""
    first = county.report()
    for name in ("province", "city", "other", "vehicle"):
        forger = Teller(name)
        forged = forger.report()
        assert claim_of(forged.entry, forged.hash.hex()) is None
        under = forger.hear(county).edit(forged)
        seen = picture(county, forger)
        assert seen.owner == "county" and [one.id for one in seen.chain] == [first.hash.hex()] and not seen.contested
        assert not verdict(seen, forged).counts and not verdict(seen, under).counts
        alone = Teller(name)
        alone.report()
        assert picture(alone).owner is None and not picture(alone).counting()


def test_a_reporter_that_was_set_back_may_report_again_in_its_new_generation(county: Teller) -> None:
    again = Teller("county", "g2", ("g1",))
    first, second = county.report(), again.report()
    assert picture(again).owner == "county" and picture(again).chain[-1].id == second.hash.hex()
    assert picture(county, again).chain[0].id == first.hash.hex()  # the earlier generation's


def test_an_id_that_names_no_reporter_can_be_reported_by_nobody() -> None:
    for subject in (
        "incident/aa",
        "incident/aa-",
        "incident/",
        "incident/aa-other",
        "notice/aa-county",
        "incident/county",
    ):
        county = Teller("county", subject=subject)
        county.report()
        assert picture(county).owner is None and picture(county).counting() == []


def test_under_a_claim_without_a_right_nothing_is_even_late(county: Teller) -> None:
    first = county.report()
    county.invite(first, "vehicle")
    vehicle = Teller("vehicle").hear(county)
    taken = vehicle.seize(first, "county")
    order = vehicle.say("order.issued", taken, order="o1", parties=["anybody"])
    assert verdict(picture(county, vehicle), order) is Verdict.UNCLAIMED


def test_only_an_order_can_be_adopted(county: Teller) -> None:
    first = county.report()
    city = Teller("city").hear(county)
    taken = city.seize(first, "county")
    late = [county.edit(first), county.say("incident.level_set", first, level="I"), county.invite(first, "other")]
    for one in late:
        city.hear(county)
        city.say("order.adopted", taken, order="o1", entry=one.hash.hex())
        assert verdict(picture(county, city), one) is Verdict.LATE


def test_a_stranger_has_no_say_until_the_owner_lets_it_in(county: Teller) -> None:
    first = county.report()
    other = Teller("other").hear(county)
    said = [other.say("incident.noted"), other.edit(first), other.seize(first, "county")]
    seen = picture(county, other)
    assert {verdict(seen, one) for one in said} == {Verdict.STRANGER} and seen.order[-3:] == said
    assert not seen.contested and seen.strangers and seen.owner == "county"
    county.say("order.issued", first, node="other")
    seen = picture(county, other)
    assert [verdict(seen, one) for one in said] == [Verdict.EFFECTIVE, Verdict.UNCLAIMED, Verdict.LATE]
