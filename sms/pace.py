"""When to send next: the gateway's rate in parts, and the back-off of what was certainly not sent.

Pure: instants (microseconds UTC) and the random share are arguments. Invariant: over any time no more
parts leave than the rate allows, plus `burst` or one message.
"""

from command.base.clock import MICROSECONDS
from command.base.schema import Urgency
from sms.message import Message

RETRY_FIRST_S = 2
RETRY_MAX_S = 300
TRIES_MAX_NORMAL = 12
"""About half an hour of trying. An emergency is tried until it expires."""


class Pace:
    """A bucket of parts. `rate_parts_per_s` None: no limit."""

    def __init__(self, rate_parts_per_s: float | None, burst: int = 1) -> None:
        self._rate = rate_parts_per_s
        self._burst = max(burst, 1)
        self._free_at = 0.0  # microseconds; the instant at which the bucket will be full again

    def wait_s(self, now: int) -> float:
        """Seconds until a message may leave; 0 means now."""
        if self._rate is None:
            return 0.0
        early = self._free_at - now - (self._burst - 1) / self._rate * MICROSECONDS
        return max(0.0, early / MICROSECONDS)

    def spend(self, parts: int, now: int) -> None:
        """Count a message of `parts` that leaves now; the caller must have waited `wait_s()`."""
        if self._rate is not None:
            self._free_at = max(self._free_at, now) + parts / self._rate * MICROSECONDS


def retry_at(message: Message, now: int, share: float, after_s: float | None = None) -> int | None:
    """When to try again after the `tries`-th submit that certainly sent nothing; None: give up.

    `share` in [0, 1) spreads retries over the upper half of the wait; `after_s` is what the gateway asked
    for.
    """
    if message.urgency is Urgency.NORMAL and message.tries >= TRIES_MAX_NORMAL:
        return None
    wait_s = min(RETRY_FIRST_S * 2.0 ** min(max(message.tries - 1, 0), 20), RETRY_MAX_S) * (0.5 + share / 2)
    at = now + round(max(wait_s, min(after_s or 0.0, 3600.0)) * MICROSECONDS)
    return at if at < message.expires else None
