"""Who is in a conference, who publishes what, who gets what, and who speaks.

Pure. Never touches packets or peers: the shell asks `wanted()` and `shown()` and does what is missing. Invariant: every
track belongs to a member, and a member who left has none.

Sources: RFC 6464 (audio level); Volfin and Cohen's dominant speaker idea, reduced to one time scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from command.base.errors import Conflict, Denied, Missing, Unavailable
from media import control

MEMBERS_MAX = 300
TRACKS_PER_MEMBER_MAX = 8
LEVEL_SMOOTHING = 0.15
LEVEL_SPEECH = 12.0
LEAD = 1.25
LEAD_TICKS = 2
SILENT_AFTER_S = 0.6


@dataclass
class Member:
    ident: str
    may_publish: bool
    cname: str
    muted: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Published:
    """A track in the room. `codec` in lower case."""

    ident: str
    member: str
    media: control.MediaKind
    codec: str
    screen: bool = False

    @property
    def kind(self) -> control.MuteKind:
        """What a mute of it is called."""
        return "screen" if self.screen else self.media


class Room:
    """One conference. Methods return the events that everybody should hear."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self.members: dict[str, Member] = {}
        self.tracks: dict[str, Published] = {}
        self.chair: str | None = None
        self.focus: tuple[str, ...] = ()
        """Whom everybody should see first, as the meeting's control says; may name members who have left."""
        self.polled: str | None = None
        self.audience: frozenset[str] = frozenset()
        """Who alone sees `polled` first."""
        self.speakers = Speakers()

    def member(self, ident: str) -> Member:
        """The member; raises `Missing`."""
        found = self.members.get(ident)
        if found is None:
            raise Missing("media.member.unknown", "This member has not joined the room.")
        return found

    def publisher(self, ident: str) -> Member:
        """The member if entitled to publish; raises `Missing` or `Denied`."""
        found = self.member(ident)
        if not found.may_publish:
            raise Denied("media.publish.denied", "This member may watch and listen only.")
        return found

    def join(self, ident: str, *, publish: bool, chair: bool, cname: str) -> list[control.AnyEvent]:
        """Enter, or change the rights of who is in; raises `Unavailable` if the room is full."""
        known = self.members.get(ident)
        if known is None and len(self.members) >= MEMBERS_MAX:
            raise Unavailable("media.full.room", f"A room takes {MEMBERS_MAX} members.")
        if chair:
            self.chair = ident
        if known is not None:
            known.may_publish = publish
            return []
        self.members[ident] = Member(ident, publish, cname)
        return [control.MemberJoined(room=self.ident, member=ident)]

    def leave(self, ident: str, reason: str) -> list[control.AnyEvent]:
        """Take out a member and what they publish; raises `Missing`."""
        self.member(ident)
        events = self.unpublish([track.ident for track in self.tracks.values() if track.member == ident])
        del self.members[ident]
        if self.chair == ident:
            self.chair = None
        events.append(control.MemberLeft(room=self.ident, member=ident, reason=reason))
        return events + self._speaker_event(self.speakers.forget(ident))

    def set_chair(self, ident: str | None) -> None:
        """Name the chair, or nobody; raises `Missing`."""
        if ident is not None:
            self.member(ident)
        self.chair = ident

    def set_focus(self, idents: list[str], *, polled: str | None = None, audience: Iterable[str] = ()) -> None:
        """Broadcast site, polled site, spotlight: in the order in which they come first; and who comes first for the
        audience of a round alone."""
        self.focus = tuple(idents)
        self.polled = polled
        self.audience = frozenset(audience)

    def polls(self, watcher: str, member: str) -> bool:
        """Whether `watcher` is shown `member` in a round of sites that is not for everybody."""
        return member == self.polled and watcher in self.audience

    def publish(self, track: Published) -> list[control.AnyEvent]:
        """A member's track has begun; raises `Missing`, `Denied`, `Conflict`."""
        self.publisher(track.member)
        if track.ident in self.tracks:
            raise Conflict("media.track.known", "This track exists.")
        self.tracks[track.ident] = track
        return [control.TrackAdded(room=self.ident, member=track.member, track=track.ident, media=track.media)]

    def unpublish(self, idents: list[str]) -> list[control.AnyEvent]:
        """Tracks have ended; unknown ones are passed over."""
        events: list[control.AnyEvent] = []
        for ident in idents:
            track = self.tracks.pop(ident, None)
            if track is not None:
                events.append(
                    control.TrackRemoved(room=self.ident, member=track.member, track=track.ident, media=track.media)
                )
        return events

    def mute(self, ident: str, media: control.MuteKind, *, on: bool) -> list[control.AnyEvent]:
        """Stop or resume forwarding a member's tracks of one kind; raises `Missing`."""
        muted = self.member(ident).muted
        if (media in muted) == on:
            return []
        if on:
            muted.add(media)
        else:
            muted.discard(media)
        return [control.TrackMuted(room=self.ident, member=ident, media=media, on=on)]

    def is_muted(self, track: Published) -> bool:
        return track.kind in self.members[track.member].muted

    def wanted(self, ident: str) -> list[Published]:
        """What a receiving member gets: every track of everybody else, in the order they appeared."""
        return [track for track in self.tracks.values() if track.member != ident]

    def shown(self, source: str | None, media: str) -> Published | None:
        """What a view shows: the track of `source`, else of whom the meeting's control puts first, else of the chair, else
        of the active speaker, else of anybody."""
        if source is not None:
            return self._track_of(source, media)
        for candidate in (*self.focus, self.chair, self.speakers.active, self.speakers.last):
            track = self._track_of(candidate, media) if candidate is not None else None
            if track is not None:
                return track
        return next((track for track in self.tracks.values() if track.media == media), None)

    def _track_of(self, member: str, media: str) -> Published | None:
        """A shared screen comes before the camera."""
        found = [t for t in self.tracks.values() if t.member == member and t.media == media]
        return next((t for t in found if t.screen), found[0] if found else None)

    def tick(self, now_s: float) -> list[control.AnyEvent]:
        """Judge who speaks; call about five times a second."""
        return self._speaker_event(self.speakers.tick(now_s))

    def _speaker_event(self, changed: bool) -> list[control.AnyEvent]:
        return [control.Speaker(room=self.ident, member=self.speakers.active)] if changed else []


class Speakers:
    """The active speaker from RFC 6464 levels: the loudest in the long run, with a lead to win over who has the floor."""

    def __init__(self) -> None:
        self.active: str | None = None
        self.last: str | None = None
        self._scores: dict[str, float] = {}
        self._heard_at_s: dict[str, float] = {}
        self._loudest: list[str] = []
        self._leader: str | None = None
        self._lead_ticks = 0

    def level(self, member: str, level: int, now_s: float) -> None:
        """`level` is the RFC 6464 byte of one packet: -dBov, plus 128 for voice."""
        loudness = 127.0 - (level & 0x7F)
        if loudness > 0 and level & 0x80 == 0:
            loudness *= 0.8  # not marked as voice: half believed
        score = self._scores.get(member, 0.0)
        self._scores[member] = score + LEVEL_SMOOTHING * (max(0.0, loudness - 60.0) - score)
        self._heard_at_s[member] = now_s

    def tick(self, now_s: float) -> bool:
        """True if `active` changed. Who falls silent keeps the floor until somebody else speaks."""
        for member, heard in self._heard_at_s.items():
            if now_s - heard > SILENT_AFTER_S:
                self._scores[member] = 0.0
        if not self._scores:
            return False
        leader = max(self._scores, key=lambda member: (self._scores[member], member))
        score = self._scores[leader]
        holder = self._scores.get(self.active, 0.0) if self.active is not None else 0.0
        if leader == self.active or score < LEVEL_SPEECH or score < holder * LEAD:
            self._leader, self._lead_ticks = None, 0
            return False
        self._lead_ticks = self._lead_ticks + 1 if leader == self._leader else 1
        self._leader = leader
        if self.active is not None and self._lead_ticks < LEAD_TICKS:
            return False
        self.last, self.active = self.active, leader
        return True

    def loudest(self, count: int, first: list[str]) -> list[str]:
        """At most `count` members to be heard: `first`, who has the floor and had it, then by loudness in the long run.

        Whoever was heard a moment ago counts a little more, so that two of equal loudness don't take turns.
        """
        out = list(dict.fromkeys([*first, *(m for m in (self.active, self.last) if m is not None)]))
        kept = set(self._loudest)
        rest = sorted(self._scores, key=lambda m: (self._scores[m] * (LEAD if m in kept else 1.0), m), reverse=True)
        self._loudest = list(dict.fromkeys([*out, *rest]))[:count]
        return self._loudest

    def forget(self, member: str) -> bool:
        """A member left; True if it was the active speaker."""
        self._scores.pop(member, None)
        self._heard_at_s.pop(member, None)
        if self.last == member:
            self.last = None
        if self.active != member:
            return False
        self.active = None
        return True
