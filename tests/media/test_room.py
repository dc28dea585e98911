"""Who is in, who gets what, who speaks."""

import pytest

from command.base.errors import Denied, Missing, Unavailable
from media import control
from media.room import MEMBERS_MAX, Published, Room, Speakers


def room(*members: str) -> Room:
    made = Room("r")
    for member in members:
        made.join(member, publish=True, chair=False, cname=member)
    return made


def track(member: str, media: control.MediaKind = "video") -> Published:
    return Published(f"{member}-{media}", member, media, "vp8" if media == "video" else "opus")


def test_everybody_gets_what_the_others_publish() -> None:
    made = room("a", "b", "c")
    for member in ("a", "b"):
        made.publish(track(member))
    assert [t.member for t in made.wanted("a")] == ["b"]
    assert [t.member for t in made.wanted("c")] == ["a", "b"]


def test_who_leaves_takes_their_tracks_along() -> None:
    made = room("a", "b")
    made.publish(track("a"))
    events = made.leave("a", "asked")
    assert [type(e) for e in events] == [control.TrackRemoved, control.MemberLeft]
    assert made.wanted("b") == []


def test_who_may_not_publish_is_denied() -> None:
    made = room("a")
    made.join("a", publish=False, chair=False, cname="a")
    with pytest.raises(Denied):
        made.publish(track("a"))
    with pytest.raises(Missing):
        made.publisher("stranger")


def test_a_full_room_says_so() -> None:
    made = room(*(f"m{n}" for n in range(MEMBERS_MAX)))
    with pytest.raises(Unavailable) as caught:
        made.join("late", publish=True, chair=False, cname="late")
    assert caught.value.code == "media.full.room"


def test_mute_is_told_once() -> None:
    made = room("a")
    assert made.mute("a", "audio", on=True) == [control.TrackMuted(room="r", member="a", media="audio", on=True)]
    assert made.mute("a", "audio", on=True) == []
    assert made.is_muted(track("a", "audio"))


def test_a_view_shows_its_source_else_the_chair_else_who_speaks() -> None:
    made = room("a", "b", "c")
    for member in ("a", "b", "c"):
        made.publish(track(member))
    for step in range(20):
        made.speakers.level("b", 128 + 30, step * 0.02)
    made.tick(0.4)
    shown = made.shown(None, "video")
    assert shown is not None
    assert shown.member == "b"
    made.set_chair("c")
    shown = made.shown(None, "video")
    assert shown is not None
    assert shown.member == "c"
    shown = made.shown("a", "video")
    assert shown is not None
    assert shown.member == "a"
    assert made.shown("a", "audio") is None


def speak(speakers: Speakers, member: str, level: int, start_s: float, seconds: float) -> list[str | None]:
    """Feed one member's packets and tick; the active speakers seen at changes."""
    changes = []
    for step in range(int(seconds / 0.02)):
        now = start_s + step * 0.02
        speakers.level(member, level, now)
        if step % 10 == 9 and speakers.tick(now):
            changes.append(speakers.active)
    return changes


def test_who_speaks_becomes_active_and_keeps_the_floor_in_silence() -> None:
    speakers = Speakers()
    assert speak(speakers, "a", 128 + 35, 0.0, 2.0) == ["a"]
    assert speak(speakers, "b", 127, 2.0, 3.0) == []
    assert speakers.active == "a"


def test_another_speaker_takes_the_floor_within_a_second() -> None:
    speakers = Speakers()
    speak(speakers, "a", 128 + 35, 0.0, 2.0)
    for step in range(150):
        now = 2.0 + step * 0.02
        speakers.level("a", 127, now)
        speakers.level("b", 128 + 40, now)
        if step % 10 == 9:
            speakers.tick(now)
        if speakers.active == "b":
            break
    assert speakers.active == "b"
    assert step * 0.02 < 1.0


def test_noise_and_a_slightly_louder_voice_do_not_take_the_floor() -> None:
    speakers = Speakers()
    speak(speakers, "a", 128 + 35, 0.0, 2.0)
    for step in range(100):
        now = 2.0 + step * 0.02
        speakers.level("a", 128 + 35, now)
        speakers.level("noise", 65, now)
        speakers.level("b", 128 + 34, now)
        if step % 10 == 9:
            assert not speakers.tick(now)


def test_the_floor_is_free_when_the_speaker_leaves() -> None:
    made = room("a", "b")
    speak(made.speakers, "a", 128 + 35, 0.0, 1.0)
    assert control.Speaker(room="r", member=None) in made.leave("a", "asked")


def test_a_view_shows_whom_the_chair_puts_first_and_their_screen_before_their_camera() -> None:
    made = room("a", "b", "c")
    for member in ("a", "b"):
        made.publish(track(member))
    made.set_chair("a")
    made.set_focus(["gone", "b"])
    assert made.shown(None, "video") == track("b")
    screen = Published("b-screen", "b", "video", "vp8", screen=True)
    made.publish(screen)
    assert made.shown(None, "video") == screen
    made.set_focus([])
    assert made.shown(None, "video") == track("a")


def test_a_stopped_screen_leaves_the_camera_alone() -> None:
    made = room("a")
    screen = Published("a-screen", "a", "video", "vp8", screen=True)
    made.mute("a", "screen", on=True)
    assert made.is_muted(screen)
    assert not made.is_muted(track("a"))
