"""Which layer each subscriber of a room gets, which voices are forwarded, and which layers nobody wants.

Joins the pure parts (`allocate`, `downlink`, `room`) with tracks and outputs. Never sends media but probes. Invariant: after
each `run()` every video output has the layer that `allocate()` gave it, or waits for that layer's key frame.
"""

from __future__ import annotations

from collections.abc import Iterable

from media import control
from media.allocate import RANK_FOCUS, RANK_REST, RANK_SPEAKER, Choice, Wish, allocate
from media.output import Output
from media.publisher import Publisher
from media.room import Room
from media.subscriber import Feedback, Subscriber
from media.track import Layer, Track
from media.viewer import Viewer

INTERVAL_S = 0.5
TURNS = 5
TURN_MIN = 8
SETTLE_S = 1.5  # a layer is kept for so long before a higher one is tried
PAUSE_AFTER_S = 5.0
UNHEEDED_S = 3.0
CAP_MARGIN = 1.4
CAP_MIN_BPS = 250_000
AUDIO_FORWARDED_MAX = 6
AUDIO_RESERVE_BPS = 48_000
PROBE_PACKETS_MAX = 60
GUESS_RATE, GUESS_HEIGHT = 3.3, 2  # of a layer never seen, against the one below it


class _Laid:
    """A video track with what can be had of it."""

    def __init__(self, track: Track, layers: list[Layer], rank: int) -> None:
        self.track = track
        self.layers = layers
        self.rank = rank
        self.choices = _choices(layers)
        self.places = {layer: at for at, layer in enumerate(layers)}


def _choices(layers: list[Layer]) -> tuple[Choice, ...]:
    """What the layers cost and show; of one that was never sent a guess from the one below."""
    out: list[Choice] = []
    for layer in layers:
        rate, height = layer.rate_bps, layer.size[1] if layer.size else 0
        if out and not layer.packets:
            rate, height = out[-1].rate_bps * GUESS_RATE, out[-1].height * GUESS_HEIGHT
        out.append(Choice(rate, height))
    return tuple(out)


class Selection:
    """The decisions of one conference. Whoever is in `soon` gets its layers at the next tick, the others in turn."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.soon: set[Feedback] = set()
        self._given_at_s: dict[Feedback, float] = {}
        self._cap: int | None = None
        self._ran_at_s = -1e9
        self._measured_at_s = -1e9
        self._wanted_at_s: dict[Layer, float] = {}
        self._told: dict[Track, tuple[str, ...]] = {}
        self._told_at_s: dict[Track, float] = {}

    def shed(self, cap: int | None) -> None:
        """The highest layer for pictures that aren't of the first rank; see `media/overload.py`."""
        self._cap = cap
        self._given_at_s.clear()

    def due(self, now_s: float) -> bool:
        """Whether `run()` should be called now."""
        return bool(self.soon) or now_s - self._ran_at_s >= INTERVAL_S / TURNS

    def run(
        self,
        now_s: float,
        tracks: dict[str, Track],
        subscribers: Iterable[Subscriber],
        viewers: Iterable[Viewer],
    ) -> list[control.AnyEvent]:
        """Give every subscriber its layers; the events say which layers publishers may stop sending."""
        self._ran_at_s = now_s
        if now_s - self._measured_at_s >= INTERVAL_S:
            self._measured_at_s = now_s
            for track in tracks.values():
                for layer in track.layers:
                    layer.measure(now_s)
                track.arrange()
        self._voices(tracks)
        laid = {track.ident: self._lay(track, now_s) for track in tracks.values() if track.video}
        heard = sum(track.layers[0].rate_bps for track in tracks.values() if not track.video and track.layers)
        for receiving in self._turn([*subscribers, *viewers], now_s):
            self._give(receiving, laid, heard if isinstance(receiving, Subscriber) else AUDIO_RESERVE_BPS, now_s)
        return self._unwanted(laid, now_s)

    def _turn(self, everybody: list[Feedback], now_s: float) -> list[Feedback]:
        """Who is due: asked for, or not looked at for `INTERVAL_S`; of a large room only a part at a time."""
        before = self._given_at_s
        soon = [one for one in everybody if one in self.soon]
        rest = [one for one in everybody if one not in self.soon and now_s - before.get(one, -1e9) >= INTERVAL_S - 0.01]
        rest.sort(key=lambda one: before.get(one, -1e9))
        turn = soon + rest[: max(TURN_MIN, -(-len(everybody) // TURNS))]
        self.soon.clear()
        self._given_at_s = {one: before.get(one, -1e9) for one in everybody} | dict.fromkeys(turn, now_s)
        return turn

    def _lay(self, track: Track, now_s: float) -> _Laid:
        told = self._told_of(track)
        live = set(track.live(now_s))
        layers = [layer for layer in track.layers if layer in live or layer.rid not in told]
        room = self.room
        if track.screen or track.member == room.chair or track.member in room.focus:
            rank = RANK_FOCUS
        else:
            rank = RANK_SPEAKER if track.member == room.speakers.active else RANK_REST
        return _Laid(track, layers, rank)

    def _told_of(self, track: Track) -> tuple[str, ...]:
        """The layers that the publisher of `track` thinks it should send."""
        return self._told.get(track) or tuple(layer.rid for layer in track.layers if layer.rid not in track.paused)

    def _give(self, receiving: Feedback, laid: dict[str, _Laid], audio_bps: float, now_s: float) -> None:
        outputs = []
        for output in receiving.outputs.values():
            track = output.track
            if track is None:
                continue
            if track.ident in laid:
                if receiving.tiles is None or receiving.tiles.get(track.ident):
                    outputs.append(output)
                else:  # not on the screen: most of a large room
                    output.choose(None, now_s)
            elif not track.video and track.layers:
                output.choose(track.layers[0], now_s)
        if not outputs:
            return
        tiles = receiving.tiles
        wishes: list[Wish] = []
        for output in outputs:
            assert output.track is not None
            what = laid[output.track.ident]
            height = None if tiles is None else tiles[output.track.ident]
            now = -1 if output.target is None else what.places.get(output.target, -1)
            rank = RANK_FOCUS if self.room.polls(receiving.peer.member, output.track.member) else what.rank
            wishes.append(Wish(rank, height, what.choices, now))
        downlink = receiving.downlink
        budget = max(0.0, downlink.estimate_bps - min(audio_bps, 10 * AUDIO_RESERVE_BPS))
        given, needed = allocate(wishes, budget, cap=self._cap)
        for output, wish, at in zip(outputs, wishes, given, strict=True):
            assert output.track is not None
            layers = laid[output.track.ident].layers
            if at > wish.now >= 0 and now_s - output.switched_at_s < SETTLE_S:
                at = wish.now
            target = layers[at] if at >= 0 else None
            if target is not None:
                self._wanted_at_s[target] = now_s
            output.choose(target, now_s)
        self._probe(receiving, outputs, needed + audio_bps, now_s)

    def _probe(self, receiving: Feedback, outputs: list[Output], needed_bps: float, now_s: float) -> None:
        downlink = receiving.downlink
        octets = downlink.probe_due(needed_bps, now_s)
        if not octets:
            return
        source = next((o for o in outputs if o.downlink is not None and o.layer is not None), None)
        if source is None:
            return
        sent = source.probe(octets, PROBE_PACKETS_MAX)
        if sent is not None:
            downlink.probing(*sent, needed_bps, now_s)

    def _voices(self, tracks: dict[str, Track]) -> None:
        """Only the loudest are forwarded once there are many; always whom the meeting's control puts first."""
        voices = [track for track in tracks.values() if not track.video]
        if len(voices) <= AUDIO_FORWARDED_MAX:
            loud = {track.member for track in voices}
        else:
            first = [m for m in (*self.room.focus, self.room.chair) if m is not None]
            loud = set(self.room.speakers.loudest(AUDIO_FORWARDED_MAX, first))
        for track in voices:
            track.unheard = track.member not in loud

    def _unwanted(self, laid: dict[str, _Laid], now_s: float) -> list[control.AnyEvent]:
        """Tell publishers of layers that nobody has wanted for `PAUSE_AFTER_S`, and of those that are wanted again."""
        events: list[control.AnyEvent] = []
        for known in [track for track in self._told if track.ident not in laid]:
            del self._told[known], self._told_at_s[known]
        self._wanted_at_s = {
            layer: at for layer, at in self._wanted_at_s.items() if layer.track.ident in laid and layer.track.video
        }
        for one in laid.values():
            track = one.track
            if len(track.layers) < 2:
                continue
            for layer in track.layers:
                self._wanted_at_s.setdefault(layer, -1e9 if layer.rid in track.paused else now_s)
            wanted = tuple(
                layer.rid
                for layer in track.layers
                if layer is track.layers[0] or now_s - self._wanted_at_s[layer] < PAUSE_AFTER_S
            )
            if set(self._told_of(track)) != set(wanted):
                self._told[track], self._told_at_s[track] = wanted, now_s
                events.append(
                    control.Layers(room=self.room.ident, member=track.member, mid=track.mid, rids=list(wanted))
                )
        return events

    def cap_of(self, publisher: Publisher, now_s: float) -> int | None:
        """What to ask of a publisher by REMB that goes on sending layers nobody wants (it isn't our page)."""
        wanted_bps = 0.0
        unheeded = False
        for track in publisher.tracks():
            told = self._told_of(track)
            for layer in track.layers:
                if layer.rid in told:
                    wanted_bps += layer.rate_bps
                elif now_s - self._told_at_s.get(track, now_s) > UNHEEDED_S and now_s - layer.heard_at_s < 1.0:
                    unheeded = True
        if unheeded or publisher.cap_bps is not None:
            anything = any(self._told.get(track) for track in publisher.tracks())
            return max(CAP_MIN_BPS, int(wanted_bps * CAP_MARGIN)) if anything else None
        return None
