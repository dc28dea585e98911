"""A publisher's rate follows its own uplink: loss and growing queues lower it, calm lets it rise."""

from media.bandwidth import BITRATE_MAX_BPS, BITRATE_MIN_BPS, Uplink


class Fixed:
    """An estimator that says what it is told to."""

    def __init__(self, rate: int | None = None) -> None:
        self.rate = rate
        self.overusing = False

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        return None if self.rate is None else (self.rate, [ssrc])


def second(uplink: Uplink, now_s: float, *, octets: int = 125_000, lost: float = 0.0) -> int | None:
    uplink.arrived(now_s=now_s, send_time=1, size=octets, ssrc=1)
    uplink.interval(now_s=now_s, lost=lost)
    return uplink.due(now_s)


def test_heavy_loss_lowers_the_rate_and_its_end_lets_it_rise_again() -> None:
    uplink = Uplink(Fixed())
    rates = [second(uplink, float(n), lost=0.3) for n in range(10)]
    low = rates[-1]
    assert low is not None
    assert BITRATE_MIN_BPS <= low < 1_500_000
    rates = [second(uplink, 10.0 + n) for n in range(30)]
    high = rates[-1]
    assert high is not None
    assert high > 2 * low


def test_growing_queues_are_told_at_once() -> None:
    estimator = Fixed()
    uplink = Uplink(estimator)
    assert second(uplink, 0.0) == BITRATE_MAX_BPS
    estimator.rate, estimator.overusing = 600_000, True
    uplink.arrived(now_s=0.1, send_time=1, size=1000, ssrc=1)
    assert uplink.due(0.1) == 600_000
    assert uplink.due(0.2) is None


def test_a_still_picture_does_not_keep_the_rate_down() -> None:
    uplink = Uplink(Fixed(rate=150_000))
    for n in range(10):
        second(uplink, float(n), octets=12_500)
    assert uplink.estimate_bps == 450_000


def test_the_rate_stays_between_its_limits() -> None:
    estimator = Fixed(rate=1)
    estimator.overusing = True
    uplink = Uplink(estimator)
    for n in range(100):
        rate = second(uplink, float(n), lost=0.9)
        assert rate is None or rate >= BITRATE_MIN_BPS
    estimator.rate, estimator.overusing = 10**12, False
    for n in range(100, 500):
        second(uplink, float(n))
    assert uplink.estimate_bps == BITRATE_MAX_BPS
