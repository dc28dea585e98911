"""What members lived through: their connections' figures summed up until they leave, and the same as metrics.

Edge. Never asks the worker for anything but its counters. Invariant: one `Experience` belongs to one seat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from media import control

LOSS_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
RTT_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
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

    def summary(self) -> dict[str, int] | None:
        """For the meeting's record: mean and worst loss in per mille, worst round trip, highest rate received, freezes."""
        if not self.intervals and not self.freezes:
            return None
        return {
            "lost_permille": round(1000 * self._lost[0] / max(1.0, self._lost[1])),
            "lost_worst_permille": round(1000 * self.lost_worst),
            "rtt_ms": self.rtt_ms,
            "bitrate_bps": self.bitrate_bps,
            "freezes": self.freezes,
        }


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

    def quality(self, event: control.Quality) -> None:
        """A connection's interval."""
        if event.packets:
            self.lost.labels(event.role).observe(event.lost)
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
        else:
            self._shown.pop(peer, None)
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
