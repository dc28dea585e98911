"""Transport-wide feedback: which packets of a connection arrived when, written for publishers and read from subscribers.

Pure. Never judges what it tells (`media/gcc.py` does). Invariant: a `Report` names each number of its range once, and
reading any bytes gives a `Report` or None.

Source: draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from struct import Struct
from typing import NamedTuple

from media.rtp import extend

HEAD = Struct("!BBHIIHHI")  # RTCP header, two SSRCs, base number, count, reference time and feedback count
RTPFB = 205
FORMAT = 15
TICK_S = 0.000250
REFERENCE_S = 0.064
STATUSES_MAX = 4096
ARRIVALS_MAX = 2048
TOLD_MAX = 600  # in one report: two octets for each, and a datagram takes 1,400
CHUNK_STATUSES_MAX = 0x1FFF


class Report(NamedTuple):
    """Statuses of the numbers from 16-bit `base` on: ticks of 250 us since the sender's zero, None for what didn't arrive.

    `whole` says that there is no None.
    """

    base: int
    arrivals: Sequence[int | None]
    whole: bool = False


def bodies(compound: bytes) -> tuple[list[bytes], bool]:
    """The transport-wide packets in a compound, and whether there is anything else in it."""
    found: list[bytes] = []
    other = False
    at, end = 0, len(compound)
    while at + 4 <= end:
        size = 4 * ((compound[at + 2] << 8 | compound[at + 3]) + 1)
        if compound[at + 1] == RTPFB and compound[at] & 0x1F == FORMAT:
            found.append(compound[at : at + size])
        else:
            other = True
        at += size
    return found, other


def read(data: bytes) -> Report | None:
    """One transport-wide feedback packet; None if it is malformed."""
    if len(data) < HEAD.size:
        return None
    *_, base, count, last = HEAD.unpack_from(data)
    if not 0 < count <= STATUSES_MAX:
        return None
    reference = last >> 8
    if reference & 0x800000:
        reference -= 0x1000000
    at = HEAD.size
    if len(data) > at + 1 and data[at] >> 5 == 1 and ((data[at] & 0x1F) << 8 | data[at + 1]) >= count:
        return _soon(data, at + 2, base, count, reference * 256)  # a single run of "arrived, after a small delta"
    symbols: list[int] = []
    while len(symbols) < count:
        if at + 2 > len(data):
            return None
        chunk = data[at] << 8 | data[at + 1]
        at += 2
        if chunk & 0x8000:
            symbols += _vector(chunk)
        else:
            symbols += [chunk >> 13 & 3] * min(chunk & CHUNK_STATUSES_MAX, count - len(symbols))
            if not chunk & CHUNK_STATUSES_MAX:
                return None
    return _deltas(data, at, base, symbols[:count], reference * 256)


def _soon(data: bytes, at: int, base: int, count: int, clock: int) -> Report | None:
    """Nothing lost and nothing slow, as nearly always: every delta is one octet."""
    arrivals = list(accumulate(data[at : at + count], initial=clock))
    del arrivals[0]
    return Report(base, arrivals, whole=True) if len(arrivals) == count else None


def _deltas(data: bytes, at: int, base: int, symbols: list[int], clock: int) -> Report | None:
    end = len(data)
    if symbols.count(1) == len(symbols):
        return _soon(data, at, base, len(symbols), clock)
    arrivals: list[int | None] = []
    for symbol in symbols:
        if symbol == 1:
            if at >= end:
                return None
            clock += data[at]
            at += 1
        elif symbol == 2:
            if at + 2 > end:
                return None
            delta = data[at] << 8 | data[at + 1]
            clock += delta - 0x10000 if delta & 0x8000 else delta
            at += 2
        else:
            arrivals.append(None)
            continue
        arrivals.append(clock)
    return Report(base, arrivals, whole=0 not in symbols and 3 not in symbols)


@lru_cache(maxsize=4096)
def _vector(chunk: int) -> tuple[int, ...]:
    """Fourteen one-bit symbols or seven two-bit ones."""
    if chunk & 0x4000:
        return tuple(chunk >> shift & 3 for shift in range(12, -1, -2))
    return tuple(chunk >> shift & 1 for shift in range(13, -1, -1))


class Arrivals:
    """What arrived from one publisher since the last report. Holds at most `ARRIVALS_MAX` numbers."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._before: dict[int, float] = {}  # what the last report told: a late packet makes the next one begin there
        self._newest = -1
        self._next = -1  # the first number the next report is about
        self._count = 0

    def add(self, number: int, now_s: float) -> None:
        """A packet with this 16-bit transport-wide number arrived."""
        if (
            (number - self._newest) & 0xFFFF == 1 and self._newest >= 0 and len(self._at) < ARRIVALS_MAX
        ):  # as nearly always
            self._newest += 1
            self._at[self._newest] = now_s
            return
        if self._newest < 0:
            self._newest = self._next = 0x10000 + number
        extended = extend(number, self._newest)
        if extended > self._newest:
            if extended - self._newest > ARRIVALS_MAX:  # the sender began anew
                self._at.clear()
                self._before.clear()
                self._next = extended
            self._newest = extended
        elif extended < self._next and extended < self._newest - ARRIVALS_MAX:
            return
        if len(self._at) < ARRIVALS_MAX:
            self._at.setdefault(extended, now_s)

    def report(self, ssrc: int) -> bytes | None:
        """A feedback packet about what arrived since the last one (media source `ssrc`); None if nothing did.

        What is over `TOLD_MAX` numbers waits for the next one.
        """
        if not self._at:
            return None
        first = min(self._at)
        if 0 < first - self._next < TOLD_MAX:
            first = self._next
        end = min(self._newest + 1, first + TOLD_MAX)
        numbers = range(first, end)
        rest = {number: time for number, time in self._at.items() if number >= end} if end <= self._newest else {}
        at, before, self._before, self._at = self._at, self._before, self._at, rest
        self._next = max(self._next, end)
        self._count = (self._count + 1) & 0xFF
        times = [at.get(number, before.get(number)) for number in numbers]
        earliest = min(time for time in times if time is not None)
        return _write(first, times, int(earliest / REFERENCE_S), self._count, ssrc)


def _write(first: int, times: list[float | None], reference: int, count: int, ssrc: int) -> bytes:
    symbols: list[int] = []
    deltas = bytearray()
    clock = reference * 256
    for time in times:
        if time is None:
            symbols.append(0)
            continue
        delta = round(time / TICK_S) - clock
        if 0 <= delta <= 0xFF:
            symbols.append(1)
            deltas.append(delta)
        elif -0x8000 <= delta <= 0x7FFF:
            symbols.append(2)
            deltas += (delta & 0xFFFF).to_bytes(2, "big")
        else:  # too far apart for one report: as if it hadn't arrived
            symbols.append(0)
            continue
        clock += delta
    body = _chunks(symbols) + bytes(deltas)
    padding = -len(body) % 4
    size = HEAD.size + len(body) + padding
    head = HEAD.pack(
        *(0x80 | FORMAT, RTPFB, size // 4 - 1, 1, ssrc, first & 0xFFFF, len(times), (reference & 0xFFFFFF) << 8 | count)
    )
    return head + body + bytes(padding)


def _chunks(symbols: list[int]) -> bytes:
    """Run lengths where seven or more are equal, else vectors of seven two-bit symbols."""
    out = bytearray()
    at, end = 0, len(symbols)
    while at < end:
        symbol, run = symbols[at], 1
        while at + run < end and symbols[at + run] == symbol and run < CHUNK_STATUSES_MAX:
            run += 1
        if run >= 7 or at + run == end:
            out += (symbol << 13 | run).to_bytes(2, "big")
            at += run
            continue
        chunk = 0xC000
        for place, one in enumerate(symbols[at : at + 7]):
            chunk |= one << (12 - 2 * place)
        out += chunk.to_bytes(2, "big")
        at += 7
    return bytes(out)
