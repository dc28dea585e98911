"""Repair of loss: what was sent and may be asked for again, what is missing from a publisher, when to ask for a key frame.

Pure: time comes in as seconds. Never sends. Invariant: a `Ring` gives back exactly the bytes that were sent under a
number (one (SSRC, index) never gets two plaintexts), or nothing.

Sources: RFC 3550 §6.4 and A.1-A.8, RFC 4585 (NACK, PLI), RFC 4588 (RTX).
"""

from __future__ import annotations

from typing import NamedTuple

from media.rtp import HEADER, extend

RING_PACKETS = 1024
MISSING_MAX = 256
GAP_MAX = 1000
NACK_TRIES_MAX = 8
NACK_AGAIN_S = 0.030
KEY_REQUEST_INTERVAL_S = 0.5
KEY_REQUEST_SPACING_S = 0.1
KEY_REQUEST_BURST = 5
SCREEN_KEY_REQUEST_INTERVAL_S = 3.0  # each key frame of a screen blurs it for everybody
KEY_REQUEST_TRIES_MAX = 10
RESEND_MEMORY_MAX = 512
RESEND_BURST_BYTES = 120_000
RESEND_RATE_BYTES_S = 250_000
RTT_DEFAULT_S = 0.040


class Ring:
    """The last `RING_PACKETS` packets sent under one SSRC, by sequence number."""

    def __init__(self, capacity: int = RING_PACKETS) -> None:
        if capacity & (capacity - 1):
            raise ValueError("capacity must be a power of two")
        self._mask = capacity - 1
        self._slots: list[tuple[int, bytes] | None] = [None] * capacity

    def put(self, sequence: int, packet: bytes) -> None:
        """Keep `packet` under its extended `sequence`; the first bytes kept under a number stay."""
        self.keep([sequence], [packet])

    def keep(self, sequences: list[int], packets: list[bytes]) -> None:
        """`put()` for each."""
        slots, mask = self._slots, self._mask
        for kept in zip(sequences, packets, strict=True):
            at = kept[0] & mask
            slot = slots[at]
            if slot is None or slot[0] < kept[0]:
                slots[at] = kept

    def find(self, number: int) -> bytes | None:
        """The packet sent under the extended `number`, if not overwritten."""
        slot = self._slots[number & self._mask]
        return slot[1] if slot is not None and slot[0] == number else None

    def clear(self) -> None:
        self._slots = [None] * (self._mask + 1)


def rtx(packet: bytes, payload_type: int, ssrc: int, sequence: int) -> bytes:
    """`packet` as its retransmission (RFC 4588 §4): same header and extensions, OSN before the payload.

    `packet` must have our outgoing shape: no CSRC and one extension block.
    """
    first, second, original, timestamp, _ = HEADER.unpack_from(packet)
    after = 12
    if first & 0x10:
        after += 4 + 4 * (packet[14] << 8 | packet[15])
    head: bytes = HEADER.pack(first, second & 0x80 | payload_type, sequence & 0xFFFF, timestamp, ssrc)
    number: int = original
    return head + packet[12:after] + number.to_bytes(2, "big") + packet[after:]


class Report(NamedTuple):
    """One interval of a receiver report (RFC 3550 §6.4.1); `fraction` in 1/256, `jitter` in timestamp units."""

    fraction: int
    lost: int
    highest: int
    jitter: int


class Inbound:
    """Numbers of one incoming SSRC: extends them, finds duplicates and holes, and counts for receiver reports."""

    def __init__(self, clock_rate: int, *, repairable: bool) -> None:
        self.clock_rate = clock_rate
        self.repairable = repairable
        self.highest = -1
        self.received = 0
        self.restarts = 0
        self._base = -1
        self.repair_s = RTT_DEFAULT_S  # how long asking takes, smoothed
        self._missing: dict[int, list[float]] = {}  # extended number -> [when to ask next, times asked, asked at]
        self._jitter = 0.0
        self._transit: float | None = None
        self.fraction_lost = 0.0  # of the last report, 0-1
        self._expected_before = 0
        self._received_before = 0

    def receive(self, sequence: int, now_s: float) -> int | None:
        """The extended number of a packet that is new; None for a duplicate or one given up long ago."""
        if self.highest < 0:
            return self._start(sequence)
        if (sequence - self.highest) & 0xFFFF == 1:  # as nearly always
            self.received += 1
            self.highest += 1
            return self.highest
        number = extend(sequence, self.highest)
        ahead = number - self.highest
        if ahead > 0:
            if ahead > GAP_MAX:
                return self._restart(sequence)
            if ahead > 1:
                self._miss(number, now_s)
            self.highest = number
        elif number in self._missing:
            _, asked, asked_at_s = self._missing.pop(number)
            if asked == 1:
                self.repair_s += (min(1.0, now_s - asked_at_s) - self.repair_s) / 8
        elif -ahead > GAP_MAX:
            return self._restart(sequence)
        else:
            return None
        self.received += 1
        return number

    def _start(self, sequence: int) -> int:
        self.highest = self._base = 0x10000 + sequence
        self.received += 1
        return self.highest

    def _restart(self, sequence: int) -> int:
        """The source jumped (RFC 3550 A.1): go on counting from there, a whole cycle later, so numbers still rise."""
        self.restarts += 1
        self._missing.clear()
        number = (self.highest | 0xFFFF) + 1 + sequence
        self._base += number - self.highest - 1
        self.highest = number
        self.received += 1
        return number

    def _miss(self, number: int, now_s: float) -> None:
        for hole in range(self.highest + 1, number):
            if len(self._missing) >= MISSING_MAX:
                del self._missing[next(iter(self._missing))]
            self._missing[hole] = [now_s, 0, 0.0]  # reordering within one read of the socket is settled before `due()`

    def timing(self, timestamp: int, now_s: float) -> None:
        """Feed the interarrival jitter (RFC 3550 A.8); once per frame is enough."""
        transit = now_s * self.clock_rate - timestamp
        if self._transit is not None:
            delta = abs(transit - self._transit)
            if delta < self.clock_rate:
                self._jitter += (delta - self._jitter) / 16
        self._transit = transit

    @property
    def waiting(self) -> bool:
        return bool(self._missing)

    def due(self, now_s: float) -> list[int]:
        """16-bit numbers to ask the publisher for now; those asked `NACK_TRIES_MAX` times are given up."""
        asked: list[int] = []
        given_up: list[int] = []
        for number, state in self._missing.items():
            if state[0] > now_s:
                continue
            if state[1] >= NACK_TRIES_MAX:
                given_up.append(number)
                continue
            state[0] = now_s + max(NACK_AGAIN_S, self.repair_s * 1.5)
            state[1] += 1
            state[2] = now_s
            if self.repairable:
                asked.append(number & 0xFFFF)
        for number in given_up:
            del self._missing[number]
        return asked

    def report(self) -> Report:
        """Counts since the last call, for a receiver report."""
        expected = self.highest - self._base + 1 if self.highest >= 0 else 0
        interval = expected - self._expected_before
        lost = interval - (self.received - self._received_before)
        self._expected_before = expected
        self._received_before = self.received
        fraction = 0 if interval <= 0 or lost <= 0 else min(255, (lost << 8) // interval)
        self.fraction_lost = fraction / 256
        total = max(-0x800000, min(0x7FFFFF, expected - self.received))
        return Report(fraction, total, self.highest & 0xFFFFFFFF, int(self._jitter))


class KeyRequests:
    """When to send a PLI to the publisher: many subscribers' wishes become one, repeated until a key frame comes."""

    def __init__(self) -> None:
        self.wanted = False
        self._sent_at_s = -1e9
        self._budget_from_s = -1e9
        self._tries = 0

    def want(self) -> None:
        """A subscriber can't go on without a key frame."""
        if not self.wanted:
            self.wanted = True
            self._tries = 0

    def arrived(self) -> None:
        """A key frame started."""
        self.wanted = False

    def due(self, now_s: float, interval_s: float = KEY_REQUEST_INTERVAL_S) -> bool:
        """True if a PLI should leave now: on average one per `interval_s`, and up to `KEY_REQUEST_BURST` of them
        sooner after a quiet time; one that isn't answered is repeated after `KEY_REQUEST_INTERVAL_S`."""
        spacing_s = KEY_REQUEST_INTERVAL_S if self._tries else KEY_REQUEST_SPACING_S
        if not self.wanted or now_s - self._sent_at_s < spacing_s:
            return False
        if now_s - self._budget_from_s < interval_s:
            return False
        unused_s = (KEY_REQUEST_BURST - 1) * KEY_REQUEST_INTERVAL_S
        self._budget_from_s = max(self._budget_from_s + interval_s, now_s - max(unused_s, interval_s))
        if self._tries >= KEY_REQUEST_TRIES_MAX:
            self.wanted = False
            return False
        self._sent_at_s = now_s
        self._tries += 1
        return True


class Resends:
    """What one subscriber may have again: each number once per round trip, all of it within a byte budget."""

    def __init__(self) -> None:
        self._sent: dict[tuple[int, int], float] = {}
        self._budget = float(RESEND_BURST_BYTES)
        self._filled_at_s = 0.0
        self.rtt_s = RTT_DEFAULT_S

    def allow(self, ssrc: int, sequence: int, size: int, now_s: float) -> bool:
        """True if the packet (`size` bytes) may be sent again now."""
        key = (ssrc, sequence)
        before = self._sent.get(key)
        if before is not None and now_s - before < self.rtt_s:
            return False
        refill = (now_s - self._filled_at_s) * RESEND_RATE_BYTES_S
        self._budget = min(float(RESEND_BURST_BYTES), self._budget + refill)
        self._filled_at_s = now_s
        if self._budget < size:
            return False
        self._budget -= size
        self._sent.pop(key, None)
        if len(self._sent) >= RESEND_MEMORY_MAX:
            del self._sent[next(iter(self._sent))]
        self._sent[key] = now_s
        return True
