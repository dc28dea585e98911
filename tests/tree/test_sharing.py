"""Who gets which stream."""

import itertools

import pytest

from command.base.entry import By, Entry, Stream
from command.tree.sharing import Concerned, accepts, concerned, entitled, may_hold, participants, standing
from tests.tree.story import Teller, Tree

NODES = Tree(
    {
        "province": None,
        "city": "province",
        "county": "city",
        "vehicle": "county",
        "other": "city",
        "far-city": "province",
        "far-county": "far-city",
    }
)


def of(*tellers: Teller) -> Concerned:
    return concerned(one for teller in tellers for one in teller.own)


def reported(level: str, node: str = "county") -> Teller:
    teller = Teller(node, subject=f"incident/aa-{node}")
    teller.say("incident.reported", level=level)
    return teller


@pytest.mark.parametrize(
    ("level", "who"),
    [
        ("I", {"county", "city", "province"}),
        ("II", {"county", "city", "province"}),
        ("III", {"county", "city"}),
        ("IV", {"county"}),
    ],
)
def test_superiors_get_what_the_level_demands(level: str, who: set[str]) -> None:
    assert participants(of(reported(level)), NODES) == who


def test_a_vehicles_incident_goes_to_its_county_at_least() -> None:
    assert participants(of(reported("IV", "vehicle")), NODES) == {"vehicle", "county"}


def test_an_order_brings_its_node_in_and_those_on_the_way() -> None:
    teller = reported("IV")
    teller.say("order.issued", node="far-county")
    assert participants(of(teller), NODES) == {"county", "city", "province", "far-city", "far-county"}


def test_invited_nodes_take_part_and_siblings_meet_at_their_common_superior() -> None:
    teller = reported("IV")
    teller.say("incident.invited", nodes=["other"])
    assert participants(of(teller), NODES) == {"county", "city", "other"}


def test_what_was_shared_stays_shared_when_the_level_falls() -> None:
    teller = reported("I")
    teller.say("incident.level_set", level="IV")
    assert "province" in participants(of(teller), NODES)


def test_what_names_no_node_of_the_tree_shares_nothing() -> None:
    teller = reported("IV")
    teller.say("order.issued", node="stranger")
    teller.say("incident.invited", nodes="all", node=7)
    teller.say("incident.level_set", level=["I"])
    assert participants(of(teller), NODES) == {"county"}


def test_what_says_nothing_new_is_no_news() -> None:
    teller = reported("I")
    about = of(teller)
    assert not about.add(teller.say("incident.noted")) and not about.add(teller.own[0])
    assert about.add(teller.say("order.issued", node="other")) and not about.add(
        teller.say("order.issued", node="other")
    )


def test_nobody_comes_to_an_incident_by_writing_in_it() -> None:
    county = reported("IV")
    first, other = county.own[0], Teller("other").hear(county)
    other.say("incident.noted")
    other.say("ownership.requested", to="other", node="other", nodes=["other"])
    for claim in (None, first):
        other.invite(first, "other")
        other.say("incident.level_set", claim, level="I")
        other.say("order.issued", claim, node="other")
    other.transfer(first, "other", other.agree(first))
    other.seize(first, "county")
    forged = other.report()
    other.say("order.issued", forged, node="other")
    about = of(county, other)
    assert participants(about, NODES) == {"county"}
    assert standing(about, NODES) == {"county", "city", "province"}


def test_who_seizes_or_takes_over_an_incident_takes_part_in_it() -> None:
    county = reported("IV")
    first, far = county.own[0], Teller("far-county").hear(county)
    city = Teller("city").hear(county)
    city.say("order.issued", city.seize(first, "county"), node="vehicle")
    assert participants(of(county, city), NODES) == {"county", "city", "vehicle"}
    county.transfer(first, "far-county", far.agree(first))
    far.invite(county.own[-1], "far-city")
    assert participants(of(county), NODES) >= {"far-county"}  # the owner's own word, whether or not it was agreed to
    assert participants(of(county, far), NODES) == {"county", "city", "province", "far-city", "far-county"}


def test_the_order_in_which_entries_come_changes_nothing() -> None:
    county = reported("IV")
    city = Teller("city").hear(county)
    city.say("order.issued", city.seize(county.own[0], "county"), node="vehicle")
    every = [*county.own, *city.own]
    for order in itertools.permutations(every):
        about = concerned(order)
        assert participants(about, NODES) == {"county", "city", "vehicle"}
    assert participants(concerned(city.own), NODES) == frozenset()  # nobody, while the report isn't held


def test_registries_go_up_and_down_the_line_and_the_tree_everywhere() -> None:
    registry, tree, audit = (Stream(subject, "county", "g") for subject in ("registry", "tree", "audit"))
    assert {node for node in NODES.parents if may_hold(registry, node, None, NODES)} == {
        "county",
        "city",
        "province",
        "vehicle",
    }
    assert all(may_hold(tree, node, None, NODES) for node in NODES.parents)
    assert not any(may_hold(audit, node, None, NODES) for node in NODES.parents)
    assert not may_hold(tree, "stranger", None, NODES)


def test_streams_of_other_subjects_stay_at_home_but_go_back_to_their_origin() -> None:
    stream = Stream("notice/aa", "county", "g")
    assert not may_hold(stream, "city", None, NODES) and may_hold(stream, "county", None, NODES)


def test_what_is_accepted_from_whom() -> None:
    incident = Stream("incident/aa-county", "county", "g")
    assert accepts(incident, "county", "city", NODES) and accepts(incident, "city", "county", NODES)
    assert not accepts(Stream("audit", "county", "g"), "county", "city", NODES)
    assert not accepts(Stream("registry", "far-county", "g"), "county", "city", NODES)
    assert accepts(Stream("registry", "vehicle", "g"), "county", "city", NODES)
    assert not accepts(Stream("incident/aa-county", "stranger", "g"), "county", "city", NODES)
    assert not accepts(Stream("notice/aa", "county", "g"), "county", "city", NODES)


def test_names_and_numbers_of_persons_go_up_and_not_down() -> None:
    def entry(kind: str, subject: str = "registry") -> Entry:
        by = By(account="duty")
        return Entry(
            subject=subject, origin="city", generation="g", seq=1, prev="0" * 64, at=0, kind=kind, by=by, body={}
        )

    assert entitled(entry("person.saved"), "province", NODES) and not entitled(entry("person.saved"), "county", NODES)
    assert entitled(entry("unit.saved"), "county", NODES) and entitled(entry("person.saved"), "city", NODES)
    assert entitled(entry("incident.noted", "incident/aa-county"), "county", NODES)
