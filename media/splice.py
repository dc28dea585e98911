"""How layers become one stream: offsets that keep numbers, timestamps and VP8 picture ids contiguous over each switch.

Pure. Never holds a packet. Invariant: an outgoing number is given out for one packet only, whatever was switched, paused
or begun again in between (an SRTP index must not be used twice).

Sources: RFC 3550 §5.1, RFC 7741 §4.2, RFC 3711 §9.1 (keystream reuse).
"""

from __future__ import annotations

from typing import NamedTuple

from media.rtp import extend
from media.vp8 import Picture

STRETCHES_MAX = 8
ELAPSED_TRUST_S = 1.0


class Place(NamedTuple):
    """A packet of a layer: its number (extended), timestamp, VP8 ids or None, when it was sent, and its capture time.

    `wall_s` is the publisher's clock at that timestamp, None before a sender report of the layer.
    """

    number: int
    timestamp: int
    picture: Picture | None
    at_s: float
    wall_s: float | None


class Stretch(NamedTuple):
    """From outgoing number `first` on: which layer, and what is added to its numbers."""

    first: int
    layer: object
    number: int
    timestamp: int
    picture: int
    tl0: int


class Numbering(NamedTuple):
    """What one subscriber's packets have of their own: what is added to the layer's numbers, payload type and SSRC."""

    number: int
    timestamp: int
    picture: int
    tl0: int
    payload_type: int
    ssrc: int


class Splice:
    """The outgoing side of one subscriber's stream. `now` is the present stretch, None before the first."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.now: Stretch | None = None
        self._stretches: list[Stretch] = []
        self._last: Place | None = None  # in outgoing numbers, but the picture's width
        self._skew = 0

    @property
    def unchanged(self) -> bool:
        """True while outgoing packets equal the layer's."""
        now = self.now
        return now is not None and now[2:] == (0, 0, 0, 0)

    def leave(self, last: Place | None) -> None:
        """The layer ended here for this subscriber; `last` is the newest packet of it that was sent, if any was."""
        now = self.now
        if now is None or last is None or last.number + now.number < now.first:
            return
        found = last.picture
        if found is not None:
            tl0 = (found.tl0 + now.tl0) & 0xFF if found.tl0 >= 0 else -1
            found = found._replace(value=(found.value + now.picture) & found.mask, tl0=tl0)
        elif self._last is not None:
            found = self._last.picture
        timestamp = (last.timestamp + now.timestamp) & 0xFFFFFFFF
        self._last = Place(last.number + now.number, timestamp, found, last.at_s, last.wall_s)

    def enter(self, layer: object, first: Place, *, ahead: int = 0) -> Stretch:
        """Go on with `layer`, whose next packet is `first`; `leave()` of the former one must have been called.

        `ahead`: ticks to leave free before `first` (frames that are replayed need timestamps of their own).
        """
        last = self._last
        if last is None:
            self.now = Stretch(first.number, layer, 0, 0, 0, 0)
        else:
            ticks = self._elapsed(last, first)
            wanted = ticks - self._skew
            ticks = max(1 + ahead, wanted)
            self._skew = ticks - wanted
            picture, tl0 = _ids(last.picture, first.picture)
            self.now = Stretch(
                last.number + 1,
                layer,
                last.number + 1 - first.number,
                (last.timestamp + ticks - first.timestamp) & 0xFFFFFFFF,
                picture,
                tl0,
            )
        self._stretches.append(self.now)
        if len(self._stretches) > STRETCHES_MAX:
            del self._stretches[0]
        return self.now

    def _elapsed(self, last: Place, first: Place) -> int:
        """Ticks between the two packets by the publisher's clock; by arrival where it isn't known or not to be believed."""
        arrived_s = first.at_s - last.at_s
        if last.wall_s is not None and first.wall_s is not None:
            captured_s = first.wall_s - last.wall_s
            if abs(captured_s - arrived_s) < ELAPSED_TRUST_S:
                return round(captured_s * self.clock_rate)
        self._skew = 0
        return round(arrived_s * self.clock_rate)

    def find(self, sequence: int, newest: int) -> tuple[Stretch, int] | None:
        """The stretch of the 16-bit outgoing `sequence` and the layer's number; `newest` is the last number sent."""
        number = extend(sequence, newest)
        for stretch in reversed(self._stretches):
            if number >= stretch.first:
                return stretch, number - stretch.number
        return None


def _ids(last: Picture | None, first: Picture | None) -> tuple[int, int]:
    """What to add to PictureID and TL0PICIDX so that `first` follows `last`."""
    if last is None or first is None:
        return 0, 0
    tl0 = (last.tl0 + 1 - first.tl0) & 0xFF if last.tl0 >= 0 and first.tl0 >= 0 else 0
    return (last.value + 1 - first.value) & first.mask, tl0
