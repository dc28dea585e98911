"""Counts what one subscriber receives: unique packets, duplicates, failed authentication, delays.

Never touches a socket or a clock. Invariant: a packet counts as delivered once, however often it arrives, and
only under the video payload type (repairs under RTX are counted apart).
"""

from __future__ import annotations

import pylibsrtp

from bench import rtp_packet, rtp_sdp

SEQUENCES = 1 << 16


class Counter:
    """The figures of one subscriber in one window."""

    def __init__(self, *, sample_every: int = 8, incoming: pylibsrtp.Session | None = None) -> None:
        self.sample_every = sample_every
        self.incoming = incoming
        self.video_pt = rtp_sdp.VP8_PT
        self.audio_pt = rtp_sdp.OPUS_PT
        self.first_media_ns = 0
        self.ssrc = 0
        self.highest = 0
        self.reset()

    def reset(self) -> None:
        """Start counting afresh (a measurement window begins)."""
        self.unique = 0
        self.audio = 0
        self.duplicates = 0
        self.other = 0
        self.authentic = 0
        self.forged = 0
        self.delays_ns: list[int] = []
        self._seen: dict[bytes, bytearray] = {}

    @property
    def streams(self) -> int:
        """How many video streams have been heard."""
        return len(self._seen)

    def heard(self) -> bool:
        """True once an authentic packet of this client's own publisher has arrived."""
        return self.first_media_ns > 0

    def on_media(self, data: bytes, arrived_ns: int) -> None:
        """Count one RTP datagram; every `sample_every`-th is unprotected and its stamp read."""
        payload_type = data[1] & 0x7F
        if payload_type != self.video_pt:
            if payload_type == self.audio_pt:
                self.audio += 1
            else:
                self.other += 1
            return
        sequence = data[2] << 8 | data[3]
        seen = self._seen.get(data[8:12])
        if seen is None:
            seen = self._seen[data[8:12]] = bytearray(SEQUENCES)
            self.ssrc = int.from_bytes(data[8:12], "big")
        # a window is far shorter than half a turn of the sequence: mark here, clear half a turn ahead
        if seen[sequence]:
            self.duplicates += 1
            return
        seen[sequence] = 1
        seen[(sequence + SEQUENCES // 2) % SEQUENCES] = 0
        self.highest = sequence
        self.unique += 1
        if self.unique % self.sample_every == 1 or self.sample_every == 1:
            self._sample(data, arrived_ns)

    def _sample(self, data: bytes, arrived_ns: int) -> None:
        if self.incoming is None:
            return
        try:
            plain = self.incoming.unprotect(data)
        except pylibsrtp.Error:
            self.forged += 1
            return
        self.authentic += 1
        stamp = rtp_packet.read_stamp(plain)
        if stamp is None or not stamp.sent_ns or not arrived_ns:
            return
        if not self.first_media_ns:
            self.first_media_ns = arrived_ns
        self.delays_ns.append(arrived_ns - stamp.sent_ns)
