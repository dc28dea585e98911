"""The simulation itself: a slice of its seeds, and proof that it notices broken rules."""

import os

import pytest

from tests.sim import day
from tests.sim.__main__ import results, total
from tests.sim.rules import RULES, broken
from tests.sim.seed import run

SEEDS = int(os.environ.get("SIM_TEST_SEEDS", "30"))
NOTICED_WITHIN = 500


def test_after_every_storm_the_nodes_agree_and_nothing_is_lost() -> None:
    line = total(results(0, SEEDS, None, real=False, jobs=1), SEEDS)
    assert not line["bad_seeds"], line
    assert all(line[name] == 0 for name in ("diverged", "forks_unhealed", "lost", "duplicates"))
    assert line["entries"] >= 60 and line["cuts"] >= 5
    happened = ("crashes", "torn", "restores", "restores_twice", "seizures", "rivals", "late", "revocations", "bundles")
    assert all(line[name] >= 1 for name in happened), line


@pytest.mark.slow
def test_with_real_signatures_it_is_the_same() -> None:
    line = total(results(0, 200, None, real=True, jobs=1), 200)
    assert not line["bad_seeds"], line


def test_real_signatures_change_nothing_in_a_seed() -> None:
    assert run(3, real=True)["problems"] == [] and run(3)["problems"] == []


def test_a_seed_reproduces_byte_for_byte() -> None:
    assert run(5)["trace"] == run(5)["trace"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_broken_on_purpose_is_noticed(rule: str) -> None:
    with broken(rule) as rules:
        assert any(run(seed, rules)["problems"] for seed in range(NOTICED_WITHIN))


def test_a_province_goes_through_a_day_and_catches_up_after_each_cut() -> None:
    line = day.play(0, cities=3, counties=9)
    assert line["diverged"] == line["lost"] == 0 and line["cuts"] >= 10
    assert line["catchup_max_s"] < 10 and line["county_link_octets_max"] < 1_000_000
