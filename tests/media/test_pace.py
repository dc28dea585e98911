"""When the media socket is looked at by a timer: only while one client's packets follow one another closely."""

from media.pace import APART_S, BUSY_LOOK_S, BUSY_READS, BUSY_S, LOOK_S, LOOKS_MAX, WAKES, Pace


def paced() -> Pace:
    pace = Pace()
    for at in range(WAKES + 1):
        pace.woken("a", at * APART_S / 2)
    return pace


def test_a_client_that_paces_its_packets_is_looked_for_by_a_timer() -> None:
    pace = Pace()
    assert not any(pace.woken("a", at * APART_S / 2) for at in range(WAKES))
    assert pace.woken("a", WAKES * APART_S / 2)


def test_bursts_of_one_client_wake_us_each() -> None:
    pace = Pace()
    assert not any(pace.woken("a", at * APART_S * 2) for at in range(100))


def test_a_frame_that_is_read_in_two_goes_wakes_us_again_with_the_next() -> None:
    pace = Pace()
    assert not any(pace.woken("a", at * APART_S * 5 + part * APART_S / 4) for at in range(100) for part in (0, 1))


def test_many_clients_whose_packets_are_close_only_to_each_others_wake_us() -> None:
    pace = Pace()
    assert not any(pace.woken(at % 10, at * APART_S / 2) for at in range(1000))


def test_looks_that_find_packets_together_go_on() -> None:
    pace = paced()
    assert all(pace.looked(1, 2) for _ in range(100))


def test_looks_in_vain_give_the_socket_back() -> None:
    pace = paced()
    for _ in range(100):
        pace.looked(2, 3)
    looks = [pace.looked(0, 1) for _ in range(LOOKS_MAX)]
    assert looks == [True] * (LOOKS_MAX - 1) + [False]
    assert not pace.timed


def test_single_packets_now_and_then_are_no_reason_to_go_on_looking() -> None:
    pace = paced()
    assert not all(pace.looked(int(at % 4 == 0), 1 + (at % 4 == 0)) for at in range(2 * LOOKS_MAX))


def test_so_many_clients_that_we_would_hardly_sleep_are_looked_for_more_often() -> None:
    pace = Pace()
    assert any(pace.woken(at % 10, at * BUSY_S * 0.9) for at in range(2 * WAKES))
    assert all(pace.looked(0, BUSY_READS) for _ in range(100))
    assert pace.look_s == BUSY_LOOK_S
    assert pace.looked(1, BUSY_READS)
    assert pace.look_s == LOOK_S
