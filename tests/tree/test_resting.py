"""How long an incident is left alone that takes long to fold."""

from command.log.resting import KNOWN_MAX, LONG_S, REST, Resting

NOW = 1_000.0


def test_one_long_fold_delays_nothing_and_a_third_does() -> None:
    resting = Resting()
    for _ in range(2):
        resting.took("incident/a", NOW, 1.9)
        assert resting.until("incident/a") <= NOW
    resting.took("incident/a", NOW, 1.9)
    assert NOW < resting.until("incident/a") < NOW + REST
    assert resting.until("incident/b") <= NOW


def test_short_folds_never_add_up() -> None:
    resting = Resting()
    for _ in range(1_000):
        resting.took("incident/a", NOW, LONG_S)
    assert resting.until("incident/a") <= NOW


def test_a_very_large_incident_is_folded_an_eighth_of_the_time() -> None:
    resting, now, folded = Resting(), NOW, 0
    while now < NOW + 3_600:
        now = max(now, resting.until("incident/a")) + 10.0
        resting.took("incident/a", now, 10.0)
        folded += 10
    assert 0.1 <= folded / (now - NOW) <= 0.13


def test_what_is_remembered_is_bounded() -> None:
    resting = Resting()
    for number in range(2 * KNOWN_MAX):
        resting.took(f"incident/{number}", NOW, 60.0)
    assert resting.until(f"incident/{2 * KNOWN_MAX - 1}") > NOW
    assert resting.until("incident/0") <= NOW
