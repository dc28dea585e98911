"""What members lived through: their connections' figures summed up until they leave, and the same as metrics.

Edge. Never asks the worker for anything but its counters. Invariant: one `Experience` belongs to one seat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from media import control

LOSS_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
RTT_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
BITRATE_BUCKETS = (50e3, 100e3, 250e3, 500e3, 1e6, 2e6, 4e6, 8e6, 16e6)
PARTICIPANTS_SHOWN_MAX = 1000
"""Connections of which `/metrics` shows each by itself, with what it publishes; of more than that only the sums."""
COUNTED = (
    "rx_packets",
    "rx_bytes",
    "tx_packets",
    "tx_bytes",
    "rtx_packets",
    "nacks_in",
    "nacks_out",
    "plis_in",
    "plis_out",
)


@dataclass
class Experience:
    """Sums over one stay. Figures of an interval without packets don't count."""

    intervals: int = 0
    lost: float = 0.0
    lost_worst: float = 0.0
    rtt_ms: int = 0
    bitrate_bps: int = 0
    freezes: int = 0
    height: int = 0
    layers: int = 0
    sent_bps: dict[str, int] = field(default_factory=dict)
    sent_lost: dict[str, float] = field(default_factory=dict)
    _lost: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, event: control.Quality) -> None:
        """An interval of one of the member's connections."""
        if not event.packets:
            return
        self.intervals += 1
        self._lost[0] += event.lost * event.packets
        self._lost[1] += event.packets
        self.lost_worst = max(self.lost_worst, event.lost)
        self.rtt_ms = max(self.rtt_ms, event.rtt_ms or 0)
        if event.role == "subscribe":
            self.bitrate_bps = max(self.bitrate_bps, event.bitrate_bps)
            self.height = max((self.height, *(row.height for row in event.tracks)))
            return
        rates: dict[str, int] = {}
        for row in event.tracks:
            rates[row.media] = rates.get(row.media, 0) + row.bitrate_bps
            self.sent_lost[row.media] = max(self.sent_lost.get(row.media, 0.0), row.lost)
            self.layers = max(self.layers, row.layers)
        for media, rate in rates.items():
            self.sent_bps[media] = max(self.sent_bps.get(media, 0), rate)

    def summary(self) -> dict[str, int] | None:
        """For the meeting's record: mean and worst loss in per mille, worst round trip, highest rate received, freezes; the
        largest picture received; of what was sent the highest rate and the worst loss by kind, and how many layers."""
        if not self.intervals and not self.freezes:
            return None
        return {
            "lost_permille": round(1000 * self._lost[0] / max(1.0, self._lost[1])),
            "lost_worst_permille": round(1000 * self.lost_worst),
            "rtt_ms": self.rtt_ms,
            "bitrate_bps": self.bitrate_bps,
            "freezes": self.freezes,
            "height": self.height,
            "layers": self.layers,
            "sent_audio_bps": self.sent_bps.get("audio", 0),
            "sent_audio_lost_permille": round(1000 * self.sent_lost.get("audio", 0.0)),
            "sent_video_bps": self.sent_bps.get("video", 0),
            "sent_video_lost_permille": round(1000 * self.sent_lost.get("video", 0.0)),
        }


class _Participants(Collector):
    """Each connection and each published layer by itself, as the worker told of it last; members by their opaque ids."""

    def __init__(self, latest: dict[str, control.Quality], froze: dict[tuple[str, str], int]) -> None:
        self._latest, self._froze = latest, froze

    def collect(self) -> Iterator[Metric]:
        """At each scrape."""
        who = ["room", "member", "role"]
        bitrate = GaugeMetricFamily("fenghuo_media_participant_bitrate_bps", "Bit rate of the last 5 s", labels=who)
        lost = GaugeMetricFamily("fenghuo_media_participant_lost_ratio", "Loss of the last 5 s", labels=who)
        rtt = GaugeMetricFamily("fenghuo_media_participant_rtt_seconds", "Round trip", labels=who)
        layer = GaugeMetricFamily(
            "fenghuo_media_participant_layer", "Highest simulcast layer received, 0 the lowest", labels=who
        )
        of_track = [*who, "track", "media", "layer"]
        track_bitrate = GaugeMetricFamily(
            "fenghuo_media_track_bitrate_bps", "Bit rate of a published layer", labels=of_track
        )
        track_lost = GaugeMetricFamily("fenghuo_media_track_lost_ratio", "Loss of a published layer", labels=of_track)
        for event in self._latest.values():
            key = [event.room, event.member or event.peer, event.role]
            bitrate.add_metric(key, event.bitrate_bps)
            lost.add_metric(key, event.lost)
            if event.rtt_ms is not None:
                rtt.add_metric(key, event.rtt_ms / 1000)
            seen = [row.layer for row in event.tracks if row.media == "video" and row.layer >= 0]
            if event.role != "publish":
                if seen:
                    layer.add_metric(key, max(seen))
                continue
            for row in event.tracks:
                labels = [*key, row.track, row.media, str(row.layer)]
                track_bitrate.add_metric(labels, row.bitrate_bps)
                track_lost.add_metric(labels, row.lost)
        freezes = CounterMetricFamily(
            "fenghuo_media_participant_freezes", "Frozen pictures that a browser told of", labels=["room", "member"]
        )
        for (room, member), count in self._froze.items():
            freezes.add_metric([room, member], count)
        yield from (bitrate, lost, rtt, layer, track_bitrate, track_lost, freezes)


class MediaMetrics:
    """The media side of `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.lost = Histogram(
            "fenghuo_media_lost_ratio", "Loss per connection and 5 s", ["role"], buckets=LOSS_BUCKETS, **made
        )
        self.rtt = Histogram(
            "fenghuo_media_rtt_seconds", "Round trip per receiving connection and 5 s", buckets=RTT_BUCKETS, **made
        )
        self.bitrate = Histogram(
            "fenghuo_media_bitrate_bps", "Bit rate per connection and 5 s", ["role"], buckets=BITRATE_BUCKETS, **made
        )
        self.freezes = Counter("fenghuo_media_freezes_total", "Frozen pictures that browsers told of", **made)
        self.layers = Gauge(
            "fenghuo_media_layer_streams", "Video streams to subscribers by layer (-1: none)", ["layer"], **made
        )
        self.members = Gauge("fenghuo_media_members", "Members of all rooms of this node", **made)
        self.up = Gauge("fenghuo_media_worker_up", "1 while the media workers answer", **made)
        self.workers = Gauge("fenghuo_media_workers", "Media workers that were started", **made)
        self.rooms = Gauge("fenghuo_media_rooms", "Rooms that are open in the worker", **made)
        self.peers = Gauge("fenghuo_media_peers", "Connections of the worker", **made)
        self.lag = Gauge("fenghuo_media_lag_seconds", "Event loop lag of the worker, largest of the last 5 s", **made)
        self.shedding = Gauge(
            "fenghuo_media_overload", "0 none, 1 no top layers, 2 lowest layers only, 3 no thumbnails", **made
        )
        self.cpu = Gauge("fenghuo_media_cpu_seconds", "CPU time of the worker since its start", **made)
        self.packets = Gauge("fenghuo_media_count", "Counters of the worker since its start", ["what"], **made)
        self.dropped = Gauge("fenghuo_media_dropped", "Packets the worker let fall since its start", ["why"], **made)
        self._shown: dict[str, dict[int, int]] = {}
        self._latest: dict[str, control.Quality] = {}
        self._froze: dict[tuple[str, str], int] = {}
        self.registry.register(_Participants(self._latest, self._froze))

    def froze(self, room: str, member: str, count: int) -> None:
        """A member's pictures have frozen so often since it told last."""
        self.freezes.inc(count)
        if (room, member) in self._froze or len(self._froze) < PARTICIPANTS_SHOWN_MAX:
            self._froze[room, member] = self._froze.get((room, member), 0) + count

    def left(self, room: str, member: str) -> None:
        """A member is gone, and with it what is shown of it."""
        self._froze.pop((room, member), None)

    def quality(self, event: control.Quality) -> None:
        """A connection's interval."""
        if event.packets:
            self.lost.labels(event.role).observe(event.lost)
            self.bitrate.labels(event.role).observe(event.bitrate_bps)
        if event.peer in self._latest or len(self._latest) < PARTICIPANTS_SHOWN_MAX:
            self._latest[event.peer] = event
        if event.rtt_ms is not None:
            self.rtt.observe(event.rtt_ms / 1000)
        if event.role != "publish":
            shown: dict[int, int] = {}
            for row in event.tracks:
                if row.media == "video":
                    shown[row.layer] = shown.get(row.layer, 0) + 1
            self._shown[event.peer] = shown
            self._count_layers()

    def closed(self, peer: str | None) -> None:
        """A connection has ended; None: all of them."""
        if peer is None:
            self._shown.clear()
            self._latest.clear()
        else:
            self._shown.pop(peer, None)
            self._latest.pop(peer, None)
        self._count_layers()

    def _count_layers(self) -> None:
        for layer in range(-1, 3):
            self.layers.labels(str(layer)).set(sum(shown.get(layer, 0) for shown in self._shown.values()))

    def counters(self, stats: dict[str, Any] | None) -> None:
        """What the worker counts; None: it doesn't answer."""
        self.up.set(0 if stats is None else 1)
        if stats is None:
            return
        self.rooms.set(stats["rooms"])
        self.peers.set(stats["peers"])
        self.lag.set(stats["lag_ms"] / 1000)
        self.shedding.set(stats["overload"])
        self.cpu.set(stats["cpu_s"])
        for name in COUNTED:
            self.packets.labels(name).set(stats[name])
        for why, count in stats["dropped"].items():
            self.dropped.labels(why).set(count)
