"""What members lived through: summed up for the meeting's record, and on /metrics."""

import pytest
from prometheus_client import generate_latest

from media import control
from media.experience import Experience, MediaMetrics
from tests.media.test_signalling import Table, heard, table

__all__ = ["table"]
pytestmark = pytest.mark.any_store


def interval(
    *, lost: float = 0.0, packets: int = 100, role: control.Role = "subscribe", layer: int = 1
) -> control.Quality:
    row = control.TrackQuality(
        track="t", member="b", media="video", layer=layer, layers=3, height=360, bitrate_bps=400_000, lost=lost
    )
    return control.Quality(
        room="r",
        member="a",
        peer="p",
        role=role,
        bitrate_bps=420_000,
        packets=packets,
        lost=lost,
        rtt_ms=80,
        nacks=0,
        keyframes=0,
        remb_bps=None,
        estimate_bps=900_000,
        tracks=[row],
    )


def test_a_stay_is_summed_up_by_packets_not_by_intervals() -> None:
    experience = Experience()
    assert experience.summary() is None
    experience.add(interval(lost=0.5, packets=10))
    experience.add(interval(lost=0.0, packets=990))
    experience.add(interval(lost=1.0, packets=0))
    experience.add(interval(lost=0.02, role="publish", packets=1000))
    experience.freezes += 2
    assert experience.summary() == {
        "lost_permille": 12,
        "lost_worst_permille": 500,
        "rtt_ms": 80,
        "bitrate_bps": 420_000,
        "freezes": 2,
        "height": 360,
        "layers": 3,
        "sent_audio_bps": 0,
        "sent_audio_lost_permille": 0,
        "sent_video_bps": 400_000,
        "sent_video_lost_permille": 20,
    }


def test_metrics_count_the_layers_that_are_being_sent() -> None:
    metrics = MediaMetrics()
    metrics.quality(interval(layer=2))
    assert 'fenghuo_media_layer_streams{layer="2"} 1.0' in generate_latest(metrics.registry).decode()
    metrics.closed("p")
    assert 'fenghuo_media_layer_streams{layer="2"} 0.0' in generate_latest(metrics.registry).decode()
    metrics.counters(None)
    assert "fenghuo_media_worker_up 0.0" in generate_latest(metrics.registry).decode()


def test_each_participant_and_each_published_layer_is_on_metrics_until_it_is_gone() -> None:
    metrics = MediaMetrics()
    metrics.quality(interval(lost=0.25))
    metrics.froze("r", "a", 2)
    text = generate_latest(metrics.registry).decode()
    who = 'member="a",role="subscribe",room="r"'
    assert f"fenghuo_media_participant_bitrate_bps{{{who}}} 420000.0" in text
    assert f"fenghuo_media_participant_lost_ratio{{{who}}} 0.25" in text
    assert f"fenghuo_media_participant_rtt_seconds{{{who}}} 0.08" in text
    assert f"fenghuo_media_participant_layer{{{who}}} 1.0" in text
    assert 'fenghuo_media_participant_freezes_total{member="a",room="r"} 2.0' in text
    metrics.quality(interval(role="publish"))
    text = generate_latest(metrics.registry).decode()
    of_track = 'layer="1",media="video",member="a",role="publish",room="r",track="t"'
    assert f"fenghuo_media_track_bitrate_bps{{{of_track}}} 400000.0" in text
    metrics.closed("p")
    metrics.left("r", "a")
    text = generate_latest(metrics.registry).decode()
    assert 'member="a"' not in text
    assert 'fenghuo_media_bitrate_bps_count{role="publish"} 1.0' in text


async def test_tiles_and_freezes_are_taken_and_the_stay_is_on_metrics(table: Table) -> None:
    socket, joined = await table.join(audio=True, video=True)
    await socket.send_json({"type": "view", "tiles": {"track1": 360}})
    await socket.send_json({"type": "seen", "freezes": 3})
    await socket.send_json({"type": "view", "tiles": {"no such id": 360}})
    assert (await heard(socket, "error"))["code"] == "media.request"
    await socket.send_json({"type": "view", "tiles": {"track1": -1}})
    assert (await heard(socket, "error"))["code"] == "signal.unreadable"
    await socket.send_json({"type": "view", "tiles": {f"t{at}": 90 for at in range(control.TILES_MAX + 1)}})
    assert (await heard(socket, "error"))["code"] == "signal.unreadable"
    async with table.http.get(f"{table.base}/metrics") as answer:
        text = await answer.text()
    assert "fenghuo_media_freezes_total 3.0" in text
    assert "fenghuo_media_worker_up 1.0" in text
    assert "fenghuo_media_overload 0.0" in text
    assert "fenghuo_media_members 1.0" in text
    assert joined["role"] == "chair"
