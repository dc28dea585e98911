"""What the chair has set, carried out: whom the worker forwards, whom it puts first, and that the seats are told.

Edge. Decides nothing: the meeting's row says what is wanted. Invariant: a room is settled by one at a time, and once more if it
was to be settled meanwhile, so the last committed row is what stays.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from msgspec.structs import replace

from command.base.errors import FenghuoError, Missing
from command.domain.room import Meeting, Member, Microphones, focus, held, polled_by_chairs, presides
from media import control
from media.control import MuteKind
from media.crew import Crew
from media.seat import Seat

journal = structlog.get_logger("media")


class Conduct:
    """Of every room of this node. `seats` are those taken, by room and member; `tell` sends a frame to all of a room."""

    def __init__(self, crew: Crew, seats: Mapping[str, Mapping[str, Seat]], tell: Callable[..., None]) -> None:
        self._crew, self._seats, self._tell = crew, seats, tell
        self.meetings: dict[str, Meeting] = {}
        """What the chair has set, of each room that somebody sits in or waits for: the last committed row."""
        self._told: dict[str, tuple[list[str], str | None, list[str]]] = {}
        """Whom each room's worker was last told to put first."""
        self._busy: dict[str, bool] = {}
        """Rooms being settled; True: once more, something has changed meanwhile."""

    def forget(self, room: str) -> None:
        """The room is closed. Idempotent."""
        self._told.pop(room, None)
        self.meetings.pop(room, None)

    def only_chair_opens(self, room: str) -> bool:
        """Whether nobody but the chair opens microphones there."""
        meeting = self.meetings.get(room)
        return meeting is not None and meeting.microphones is Microphones.CHAIR

    @staticmethod
    def stopped(member: Member, meeting: Meeting) -> set[MuteKind]:
        """What of this member is not to be forwarded."""
        kinds: set[MuteKind] = {"audio"} if held(member, meeting) else set()
        return kinds | {"video"} if member.account in meeting.dark else kinds

    async def settle(self, room: str) -> None:
        """What the worker forwards, and whom it puts first, becomes what the row says. One at a time per room."""
        if room in self._busy:
            self._busy[room] = True
            return
        self._busy[room] = True
        try:
            while self._busy.get(room):
                self._busy[room] = False
                await self._once(room)
        except FenghuoError as error:  # the worker is being started: it will hear of everything again
            journal.warning("room.unsettled", room=room, code=error.code)
        finally:
            del self._busy[room]

    async def _once(self, room: str) -> None:
        meeting, worker = self.meetings.get(room), self._crew.of(room)
        if meeting is None or worker is None or not meeting.open:
            return
        seats = list(self._seats.get(room, {}).values())
        moved: list[tuple[Seat, MuteKind, bool]] = []
        for seat in seats:
            wanted = self.stopped(seat.member, meeting)
            changed = (wanted ^ seat.stopped) - {"screen"}
            seat.stopped = wanted | (seat.stopped & {"screen"})
            seat.member = replace(seat.member, muted="audio" in wanted)
            moved += [(seat, kind, kind in wanted) for kind in sorted(changed)]
        for seat, kind, on in moved:
            with suppress(Missing):  # left meanwhile
                await worker.mute(room, seat.member.id, kind, on=on)
        self._tell_moved(room, meeting, seats, moved)
        await self._focus(room, meeting, seats)

    def _tell_moved(
        self, room: str, meeting: Meeting, seats: list[Seat], moved: list[tuple[Seat, MuteKind, bool]]
    ) -> None:
        """One frame, however many were muted. `closed`: it is the chair who opens microphones now, so a client closes its
        own; the row that says so may reach it later than this frame."""
        closed = meeting.microphones is Microphones.CHAIR
        if len(moved) == 1:
            seat, kind, on = moved[0]
            spoken = seat.member.account in meeting.floor
            self._tell(room, "muted", member=seat.member.id, media=kind, on=on, floor=spoken, closed=closed)
        elif moved:
            stopped = {kind: [seat.member.id for seat in seats if kind in seat.stopped] for kind in ("audio", "video")}
            spoken_all = [seat.member.id for seat in seats if seat.member.account in meeting.floor]
            self._tell(room, "stopped", **stopped, floor=spoken_all, closed=closed)

    async def _focus(self, room: str, meeting: Meeting, seats: list[Seat]) -> None:
        wanted = [
            seat.member.id
            for account in focus(meeting)
            for seat in seats
            if seat.member.account == account and seat.publish
        ][: control.FOCUS_MAX]
        site = polled_by_chairs(meeting)
        polled = next((seat.member.id for seat in seats if seat.member.account == site and seat.publish), None)
        watching = [seat.member.id for seat in seats if presides(seat.member, meeting)] if polled is not None else []
        told = (wanted, polled, sorted(watching)[: control.FOCUS_MAX])
        worker = self._crew.of(room)
        if told != self._told.get(room, ([], None, [])) and worker is not None:
            self._told[room] = told
            await worker.focus(room, wanted, polled=polled, audience=told[2])
