"""When a socket is looked at by a timer instead of waking us: packets that come closely one after the other are read together.

Waking up, and fanning out, cost nearly as much for one packet as for several of a layer; so where a publisher paces its
packets singly, a millisecond or two of waiting saves a third of the work. Packets of several clients share no fan-out:
for them nothing waits, unless they come so fast that waking up for each is a good part of the work.
Pure: time comes in as seconds. Invariant: nothing waits unless one client has sent within `APART_S`, or anybody within
`BUSY_S`, several times in a row, nor for longer than it goes on.

Source: the same idea in the kernel, NAPI's deferred interrupts (`gro_flush_timeout`).
"""

from __future__ import annotations

from collections.abc import Hashable

LOOK_S, BUSY_LOOK_S = 0.002, 0.001  # between looks; the event loop counts in whole milliseconds
APART_S = 0.0016
BUSY_S = 0.0006
BUSY_READS = 2  # in one look
WAKES = 8
LOOKS_MAX, LOOKS_AT_FIRST = 8, 4  # in vain, before the socket wakes us again
CLIENTS_MAX = 256  # remembered


class Pace:
    """`timed`: look again after `look_s`; otherwise wait to be woken."""

    def __init__(self) -> None:
        self.timed = False
        self.look_s = LOOK_S
        self._woken_at_s = -1e9
        self._heard_at_s: dict[Hashable, float] = {}
        self._close = 0
        self._left = 0

    def woken(self, client: Hashable, now_s: float) -> bool:
        """A packet of `client` woke us; True if from now on the socket should be looked at by a timer."""
        heard_at_s = self._heard_at_s
        woken_at_s, self._woken_at_s = self._woken_at_s, now_s
        if now_s - heard_at_s.get(client, -1e9) < APART_S or now_s - woken_at_s < BUSY_S:
            self._close += 1
        elif self._close:
            self._close -= 1
        heard_at_s[client] = now_s
        if self._close >= WAKES or len(heard_at_s) > CLIENTS_MAX:
            heard_at_s.clear()
        if self._close >= WAKES:
            self.timed = True
            self._close, self._left = 0, LOOKS_AT_FIRST
        return self.timed

    def looked(self, together: int, reads: int) -> bool:
        """A look found something so many times, `together` of them following something of the same client; False if from now
        on the socket should wake us again."""
        self.look_s = LOOK_S if together else BUSY_LOOK_S
        if together:
            self._left = min(LOOKS_MAX, self._left + 1)
        elif reads < BUSY_READS:
            self._left -= 1
        self.timed = self._left > 0
        return self.timed
