"""The one door to time and randomness.

Pure modules get instants and ids as arguments; shells get a `Clock`. Invariant: instants are int64 microseconds UTC.
"""

import os
import secrets
import time

MICROSECONDS = 1_000_000


class Clock:
    """The clock of this machine. Tests pass a `ManualClock`."""

    def now(self) -> int:
        """Microseconds since 1970-01-01T00:00Z."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that never go back; for measuring, never stored."""
        return time.monotonic()

    def token(self, octets: int = 16) -> str:
        """`octets` random octets as lower-case hex."""
        return secrets.token_hex(octets)

    def octets(self, count: int) -> bytes:
        """`count` random octets."""
        return os.urandom(count)

    def draws(self, octets: int, count: int) -> list[bytes]:
        """Up to `count` draws of `octets` random octets each, at least one, for the price of one."""
        drawn = os.urandom(octets * count)
        return [drawn[at : at + octets] for at in range(0, len(drawn), octets)]

    def id(self) -> str:
        """A new identifier: 12 hex digits of milliseconds, then 14 random ones; ids sort by time of making."""
        return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(7)}"


class ManualClock(Clock):
    """A clock that moves only when told, for tests and simulations; ids and octets come from a counter."""

    def __init__(self, at: int = 1_700_000_000 * MICROSECONDS) -> None:
        self.at = at
        self.count = 0

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / MICROSECONDS

    def advance(self, seconds: float) -> None:
        self.at += round(seconds * MICROSECONDS)

    def octets(self, count: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(8, "big").rjust(count, b"\0")[-count:]

    def draws(self, octets: int, count: int) -> list[bytes]:
        return [self.octets(octets)]

    def token(self, octets: int = 16) -> str:
        return self.octets(octets).hex()

    def id(self) -> str:
        self.count += 1
        return f"{self.at // 1000:012x}{self.count:014x}"
