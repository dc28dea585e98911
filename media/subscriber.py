"""A receiving connection: the m-lines we offer, which track is on which, and the feedback that comes back.

Never sees media bytes. Invariant: at most one offer is outstanding, an m-line is never removed (only idle, then used
again), and a track is sent only after the client answered the offer that announced it.

Sources: RFC 9429 §5.2 (subsequent offers, recycling m-lines), RFC 4585, RFC 3550 §6.4.1.
"""

from __future__ import annotations

from media import control
from media.downlink import Downlink
from media.feedback import KeyRequest, Nack, ReceiverReport, Remb
from media.output import Output
from media.peer import Peer
from media.repair import Resends
from media.rtc import read_rtcp
from media.sdp import (
    RECEIVE_MEDIA_MAX,
    Codec,
    Description,
    Line,
    Media,
    out_codec,
    out_codecs,
    out_extensions,
)
from media.track import Track
from media.twcc import bodies, read

ANSWER_TIMEOUT_S = 15.0


class Feedback:
    """What one receiving peer says about our streams: NACK, PLI, RR, REMB, transport-wide feedback."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.outputs: dict[int, Output] = {}
        self.resends = Resends()
        self.downlink = Downlink()
        self.tiles: dict[str, int] | None = None  # heights by track, as the client told them last
        self.nacks = self.key_requests = 0
        self.lost = 0.0
        self.rtt_s: float | None = None
        self.remb_bps: int | None = None

    def rtcp(self, plain: bytes, now_s: float) -> None:
        """One unprotected compound."""
        wide, other = bodies(plain)
        for body in wide:
            report = read(body)
            if report is not None:
                self.downlink.feedback(report, now_s)
        for record in read_rtcp(plain) if other else ():
            if isinstance(record, Remb):
                self.remb_bps = record.bitrate_bps
                self.downlink.remb(record.bitrate_bps, now_s)
                continue
            if not isinstance(record, Nack | KeyRequest | ReceiverReport):
                continue
            output = self.outputs.get(record.ssrc)
            if output is None:
                continue
            if isinstance(record, Nack):
                self.nacks += len(record.sequences)
                output.resend(record.sequences, self.resends, now_s)
            elif isinstance(record, KeyRequest):
                self.key_requests += 1
                output.want_key()
            else:
                self._report(record, output, now_s)

    def _report(self, record: ReceiverReport, output: Output, now_s: float) -> None:
        packets = output.reported(record.fraction / 256, now_s)
        self.lost = max((one.lost for one in self.outputs.values()), default=0.0)
        if packets and output.track is not None and output.track.video:
            through_bps = sum(one.through_bps for one in self.outputs.values())
            self.downlink.reported(packets, round(packets * output.lost), through_bps, now_s)
        sent = output.layer.reports_sent.get(record.last_report) if output.layer is not None else None
        if sent is not None and record.last_report:
            rtt = now_s - sent - record.delay / 65_536
            if 0 <= rtt < 10:
                self.rtt_s = self.downlink.rtt_s = rtt
                self.resends.rtt_s = max(0.010, rtt)


class Slot:
    """One m-line of our offers. `track` is what the next offer says; `playing` what the client accepted."""

    def __init__(self, mid: str, kind: str) -> None:
        self.mid = mid
        self.kind = kind
        self.track: Track | None = None
        self.offered: Track | None = None
        self.playing: Track | None = None
        self.codec = out_codec("opus" if kind == "audio" else "vp8")
        self.refused: set[str] = set()


class Subscriber(Feedback):
    """The receiving side of a member."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.revision = 0
        self.offered_at_s: float | None = None
        self.slots = [Slot("0", "audio")]  # there from the start: it connects before anybody publishes
        self.dirty = True
        self._retired: dict[int, Output] = {}  # by SSRC: its numbers must go on where they ended

    def want(self, tracks: list[Track], now_s: float) -> None:
        """These tracks should be on our m-lines; sets `dirty` if an offer is needed."""
        wanted = {track.ident: track for track in tracks}
        for slot in self.slots:
            if slot.track is not None and slot.track.ident not in wanted:
                self._stop(slot, now_s)
                self._forget(slot.track)
                slot.track = None
                self.dirty = True
            elif slot.track is not None:
                del wanted[slot.track.ident]
        for track in wanted.values():
            slot_for = self._free(track.media)
            if slot_for is None:
                continue
            slot_for.track = track
            slot_for.codec = track.out_codec
            self.dirty = True

    def _free(self, kind: str) -> Slot | None:
        for slot in self.slots:
            if slot.kind == kind and slot.track is None and slot.offered is None:
                return slot
        if len(self.slots) >= RECEIVE_MEDIA_MAX:
            return None
        self.slots.append(Slot(str(len(self.slots)), kind))
        return self.slots[-1]

    def offer(self, cnames: dict[str, str], now_s: float) -> tuple[list[Line], list[control.OfferedTrack]]:
        """The lines of the next offer and what is on them; `answered()` must follow before another."""
        self.revision += 1
        self.offered_at_s = now_s
        self.dirty = False
        lines: list[Line] = []
        tracks: list[control.OfferedTrack] = []
        for slot in self.slots:
            slot.offered = track = slot.track
            if track is None:
                codecs = out_codecs(slot.codec.name)
                lines.append(Line(slot.kind, slot.mid, "inactive", codecs, extensions=out_extensions(slot.kind)))
                continue
            lines.append(
                Line(
                    slot.kind,
                    slot.mid,
                    "sendonly",
                    out_codecs(slot.codec.name),
                    extensions=out_extensions(slot.kind),
                    member=track.member,
                    track=track.ident,
                    cname=cnames.get(track.member, track.cname),
                    stream=track.out,
                )
            )
            tracks.append(
                control.OfferedTrack(
                    mid=slot.mid,
                    member=track.member,
                    track=track.ident,
                    media="audio" if slot.kind == "audio" else "video",
                    screen=track.screen,
                )
            )
        return lines, tracks

    def answered(self, answer: Description, now_s: float) -> list[Output]:
        """The client accepted; gives what plays from now on and didn't before."""
        self.offered_at_s = None
        by_mid = {media.mid: media for media in answer.media}
        started: list[Output] = []
        for slot in self.slots:
            track, slot.offered = slot.offered, None
            if track is None or track is not slot.track:
                continue
            media = by_mid.get(slot.mid)
            codec = None
            if media is not None and media.live and media.direction in ("recvonly", "sendrecv"):
                codec = next((c for c in media.codecs if c.name == track.codec), None)
            if media is None or codec is None:
                self._stop(slot, now_s)
            elif slot.playing is not track:
                started.append(self._play(slot, track, media, codec, now_s))
        return started

    def _play(self, slot: Slot, track: Track, media: Media, codec: Codec, now_s: float) -> Output:
        self._stop(slot, now_s)
        slot.playing = track
        output = self._retired.pop(track.out.ssrc, None)
        if output is None:
            output = Output(
                self.peer,
                codec=track.out_codec,
                out=track.out,
                cname=track.cname,
                rtx_type=codec.rtx,
                downlink=self.downlink if track.video and media.transport_wide(codec) else None,
            )
        output.redundant = any(one.name == "red" for one in media.codecs)
        self.outputs[track.out.ssrc] = output
        output.show(track, now_s)
        return output

    def _stop(self, slot: Slot, now_s: float) -> None:
        track, slot.playing = slot.playing, None
        if track is None:
            return
        output = self.outputs.pop(track.out.ssrc, None)
        if output is not None:
            output.show(None, now_s)
            self._retired[track.out.ssrc] = output

    def _forget(self, track: Track) -> None:
        """A track has ended for good. (Not when it merely stops here: its SRTP index must never begin again.)"""
        self._retired.pop(track.out.ssrc, None)
        if self.peer.protector is not None:
            self.peer.protector.forget(track.out.ssrc)
            self.peer.protector.forget(track.out.rtx)

    def end(self) -> None:
        """The connection is gone."""
        for slot in self.slots:
            self._stop(slot, 0.0)
