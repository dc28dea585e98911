"""What a connection has been like since the last look: rates and counts as differences of running totals.

Never decides anything. Invariant: one `Meter` belongs to one peer and is asked once per interval.
"""

from __future__ import annotations

from media import control
from media.output import Output
from media.publisher import Publisher
from media.subscriber import Feedback
from media.track import Layer


class Meter:
    """Remembers the totals of the last look, `interval_s` ago."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._before = (0, 0, 0, 0)
        self._octets: dict[int, int] = {}

    def publishing(self, room: str, publisher: Publisher) -> control.Quality:
        """The uplink of a publisher; its round trip is not known without its help (RFC 3611)."""
        packets, _, nacks, keys = self._since((publisher.packets, 0, publisher.nacks, publisher.key_requests))
        return control.Quality(
            room=room,
            member=publisher.peer.member,
            peer=publisher.peer.ident,
            role="publish",
            bitrate_bps=publisher.uplink.received_bps,
            packets=packets,
            lost=publisher.lost,
            rtt_ms=None,
            nacks=nacks,
            keyframes=keys,
            remb_bps=publisher.remb_bps,
            tracks=[self._sent_layer(layer) for track in publisher.tracks() for layer in track.layers][
                : control.QUALITY_TRACKS_MAX
            ],
        )

    def receiving(self, room: str, feedback: Feedback) -> control.Quality:
        """The downlink of a subscriber or a view."""
        sent = [output.sent() for output in feedback.outputs.values()]
        totals = sum(one[0] for one in sent), sum(one[1] for one in sent)
        packets, octets, nacks, keys = self._since((*totals, feedback.nacks, feedback.key_requests))
        rows = [self._received(output) for output in feedback.outputs.values() if output.layer is not None]
        return control.Quality(
            room=room,
            member=feedback.peer.member,
            peer=feedback.peer.ident,
            role="subscribe" if feedback.peer.role == "subscribe" else "view",
            bitrate_bps=int(octets * 8 / self._interval_s),
            packets=packets,
            lost=feedback.lost,
            rtt_ms=None if feedback.rtt_s is None else round(feedback.rtt_s * 1000),
            nacks=nacks,
            keyframes=keys,
            remb_bps=feedback.remb_bps,
            estimate_bps=feedback.downlink.estimate_bps if feedback.downlink.known else None,
            tracks=rows[: control.QUALITY_TRACKS_MAX],
        )

    def _sent_layer(self, layer: Layer) -> control.TrackQuality:
        track = layer.track
        report = layer.source.inbound if layer.source is not None else None
        return control.TrackQuality(
            track=track.ident,
            member=track.member,
            media="video" if track.video else "audio",
            layer=track.layers.index(layer),
            layers=len(track.layers),
            height=layer.size[1] if layer.size else 0,
            bitrate_bps=self._rate(id(layer), layer.octets),
            lost=report.fraction_lost if report is not None else 0.0,
        )

    def _received(self, output: Output) -> control.TrackQuality:
        layer = output.layer
        assert layer is not None
        track = layer.track
        return control.TrackQuality(
            track=track.ident,
            member=track.member,
            media="video" if track.video else "audio",
            layer=track.layers.index(layer),
            layers=len(track.layers),
            height=layer.size[1] if layer.size else 0,
            bitrate_bps=self._rate(output.out.ssrc, output.sent()[1]),
            lost=output.lost,
        )

    def _rate(self, key: int, octets: int) -> int:
        before = self._octets.get(key, 0)
        self._octets[key] = octets
        return int(max(0, octets - before) * 8 / self._interval_s)

    def _since(self, totals: tuple[int, int, int, int]) -> tuple[int, ...]:
        before, self._before = self._before, totals
        return tuple(max(0, new - old) for new, old in zip(totals, before, strict=True))
