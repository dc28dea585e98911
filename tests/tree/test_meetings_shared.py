"""Meetings across the tree: who gets one, what other nodes show of it, and that nobody but its host runs it."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from command.base.entry import By, Draft, Entry
from command.base.errors import Conflict
from command.base.projection import Decision, Row
from command.base.rights import Role
from command.base.schema import Level, Struct
from command.domain.account import CreateAccount
from command.domain.convening import BeginMeeting, CancelMeeting, EditMeeting, ScheduleMeeting
from command.domain.erasure import EraseEntry
from command.domain.incident import INCIDENT
from command.domain.meeting import CloseRoom, Fact, Member, MemberFact, OpenRoom
from command.domain.membership import EditNode
from command.domain.minutes import MINUTES, SaveMinutes
from command.domain.nodes import NODE
from command.domain.registry import ORGANISATION, PERSON, Tier
from command.domain.registry_edits import SaveOrganisation, SavePerson
from command.domain.roll_call import CHAT, ROLL_CALL, MarkRollCall, Say, StartRollCall
from command.domain.room import ATTENDANCE, MEETING, ROOM
from command.domain.schedule import SCHEDULE, State
from command.edge.api import Node
from command.log.store import STREAM
from command.tree.calling import Called, holders
from command.tree.sharing import Concerned, concerned
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import world
from tests.tree.crowd import carry, crowd, held, report, rows
from tests.tree.scene import Member as Machine
from tests.tree.scene import tree, until
from tests.tree.story import Teller
from tests.tree.test_sharing import NODES

HOUR_US = 3600 * 1_000_000
TABLES = (ROOM, MEETING, SCHEDULE, MINUTES, ATTENDANCE, ROLL_CALL, CHAT)
SECRET = "李四的电话是13800001111"


def said(kind: str, /, origin: str = "county", subject: str = "meeting/aa", **body: Any) -> Entry:
    return Entry(
        subject=subject,
        origin=origin,
        generation="g",
        seq=1,
        prev="0" * 64,
        at=0,
        kind=kind,
        by=By(account="a"),
        body=body,
    )


def nobody(_: str) -> Concerned:
    return Concerned()


def shared_with_another(level: Level) -> Concerned:
    """An incident that the county reported and another node was invited to."""
    county = Teller("county")
    county.invite(county.say("incident.reported", level=level), "other")
    return concerned(county.own)


# -- the rule


def test_a_meeting_goes_to_the_invited_and_siblings_meet_at_their_common_superior() -> None:
    called = Called().add(said("meeting.scheduled", nodes=["other"]))
    assert holders("county", called, nobody, NODES) == {"county", "other", "city"}
    assert holders("county", Called(), nobody, NODES) == {"county"}


def test_who_is_no_longer_invited_may_hold_it_and_reads_nothing_new() -> None:
    called = Called().add(said("meeting.scheduled", nodes=["vehicle"])).add(said("meeting.edited", nodes=["other"]))
    assert holders("county", called, nobody, NODES) == {"county", "vehicle", "other", "city"}
    assert holders("county", called, nobody, NODES, now=True) == {"county", "other", "city"}


def test_a_room_of_an_incident_goes_where_the_incident_goes() -> None:
    def incident(key: str) -> Concerned:
        return shared_with_another(Level.I) if key == "bb" else Concerned()

    called = Called().add(said("meeting.called", incident="bb"))
    assert holders("county", called, incident, NODES) == {"county", "other", "city", "province"}


def test_a_meeting_about_an_incident_goes_to_the_invited_and_up_the_line_as_its_level_demands() -> None:
    def incident(key: str) -> Concerned:
        return shared_with_another(Level.III)

    called = Called().add(said("meeting.scheduled", nodes=["vehicle"], incident="bb"))
    assert holders("county", called, incident, NODES) == {"county", "vehicle", "city"}


def test_what_names_no_nodes_calls_nobody() -> None:
    called = Called()
    for kind, body in (("meeting.scheduled", {"nodes": "all"}), ("meeting.said", {"nodes": ["far-city"]}), ("x", {})):
        called = called.add(said(kind, **body))
    called = called.add(said("meeting.edited", nodes=["stranger", 7]))
    assert holders("county", called, nobody, NODES) == {"county"}


# -- the rows, whatever brings the entries


async def _account(n: Node, organisation: str, name: str) -> str:
    request = CreateAccount(name=name, roles=[Role.VIEWER], organisation=organisation, password_hash="x")
    return (await n.log.append(request, SELF)).id or ""


async def _sit(n: Node, room: str, account: str, name: str = "人员") -> Member:
    member = Member(id=n.clock.id(), account=account, name=name, joined_at=n.clock.now())
    await n.log.append(MemberFact(room=room, member=member, fact=Fact.JOINED), SELF)
    return member


async def _met(n: Node, room: str, account: str, version: int | None = None) -> None:
    """Somebody comes, speaks, answers the roll and goes; the minutes are kept."""
    member = await _sit(n, room, account)
    await n.log.append(Say(room=room, text="各位好"), SELF)
    call = (await n.log.append(StartRollCall(room=room), SELF)).id or ""
    await n.log.append(MarkRollCall(id=call, called=account, present=True), SELF)
    await n.log.append(SaveMinutes(room=room, version=version, text="一切照旧"), SELF)
    await n.log.append(MemberFact(room=room, member=member, fact=Fact.LEFT), SELF)


async def _scheduled(n: Node, organisation: str, **fields: Any) -> str:
    start = n.clock.now() + HOUR_US
    account = await _account(n, organisation, f"chair{start}")
    values = {"title": "防汛例会", "organisation": organisation, "chair": account, "notify": False}
    request = ScheduleMeeting(**(values | {"starts_at": start, "ends_at": start + HOUR_US} | fields))
    return (await n.log.append(request, SELF)).id or ""


async def _shown(n: Node, room: str) -> list[Row]:
    """Everything that a node's screens show of a room."""
    found = [row for table in TABLES for row in await rows(n, table)]
    return [row for row in found if room in (row.id, getattr(row, "room", None))]


@pytest.mark.any_store
@pytest.mark.parametrize("first", ["incident/", "meeting/"])
async def test_other_nodes_show_a_room_as_its_host_does_whichever_stream_comes_first(
    first: str, database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(city)
        key = (await city.log.append(report(w.city), SELF)).id or ""
        opening = OpenRoom(incident=key, title="会商", chair=await _account(city, w.city, "chair"))
        room = (await city.log.append(opening, SELF)).id or ""
        await _met(city, room, await _account(city, w.city, "one"))
        await carry(city, county, lambda stream: stream.subject.startswith(("tree", "registry", first)))
        await carry(city, county)
        assert await _shown(county, room) == await _shown(city, room)
        await _met(city, room, await _account(city, w.city, "two"), version=1)
        await city.log.append(CloseRoom(id=room), SELF)
        await carry(city, county)
        assert await _shown(county, room) == await _shown(city, room)
        assert [row.node for row in await rows(county, ROOM)] == [city.log.node]
        with pytest.raises(Conflict, match=r"room\.elsewhere"):
            await county.log.append(SaveMinutes(room=room, version=2, text="我们的"), SELF)
    assert not state.differing(database_url, tmp_path / "county")


@pytest.mark.any_store
async def test_a_meeting_called_for_a_time_is_shown_where_it_came_and_run_where_it_is_hosted(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(city)
        key = (await city.log.append(report(w.city, level=Level.IV), SELF)).id or ""
        room = await _scheduled(city, w.city, incident=key, on_duty=[w.county])
        await carry(city, county, lambda stream: not stream.subject.startswith("incident/"))
        [plan] = await rows(county, SCHEDULE)
        assert (plan.node, plan.title, plan.on_duty) == (city.log.node, "防汛例会", [w.county])
        for request in (
            BeginMeeting(id=room),
            CancelMeeting(id=room, version=plan.version),
            EditMeeting(id=room, version=plan.version, title="改"),
        ):
            with pytest.raises(Conflict, match=r"room\.elsewhere"):
                await county.log.append(request, SELF)
        await city.log.append(BeginMeeting(id=room), SELF)
        await _met(city, room, await _account(city, w.city, "one"))
        await carry(city, county, lambda stream: not stream.subject.startswith("incident/"))
        assert not await rows(county, INCIDENT)  # an invitation to the meeting is none to its incident
        assert await _shown(county, room) == await _shown(city, room)
        assert [row.state for row in await rows(county, SCHEDULE)] == [State.OPENED]
    assert not state.differing(database_url, tmp_path / "county")


class Forge(Struct, frozen=True, kw_only=True):
    subject: str
    kind: str
    body: dict[str, Any]


async def _forge(n: Node, subject: str, what: str, **body: Any) -> None:
    """Say something of a room that its own node's deciders would refuse."""

    def decide(found: Any, request: Forge, context: Any) -> Decision:
        return Decision(drafts=[Draft(subject=request.subject, kind=request.kind, body=request.body)])

    if Forge not in n.log.domain.deciders:
        n.log.domain.register((), None, {Forge: decide})
    kept, n.log.domain.projectors = n.log.domain.projectors, {}
    try:
        await n.log.append(Forge(subject=subject, kind=what, body=body), SELF)
    finally:
        n.log.domain.projectors = kept


@pytest.mark.any_store
async def test_nobody_but_its_host_says_anything_of_a_room_with_effect(database_url: str, tmp_path: Path) -> None:
    async with crowd(database_url, tmp_path, "city", "county") as (city, county):
        w = await world(city)
        key = (await city.log.append(report(w.city), SELF)).id or ""
        opening = OpenRoom(incident=key, title="会商", chair=await _account(city, w.city, "chair"))
        room = (await city.log.append(opening, SELF)).id or ""
        await _met(city, room, await _account(city, w.city, "one"))
        before = await _shown(city, room)
        [line] = await rows(city, CHAT)
        for subject in (f"incident/{key}", f"meeting/{room}"):
            await _forge(county, subject, "meeting.control_set", room=room, locked=True)
            await _forge(county, subject, "room.closed", room=room)
            await _forge(county, subject, "meeting.said", room=room, line=line.id)
            await _forge(county, subject, "room.opened", room=room, chair="evil", organisation=w.city)
        await _forge(county, "meeting/mine", "room.opened", room="mine", chair="evil", organisation=w.city)
        await _forge(county, "meeting/mine", "meeting.said", room="mine", line=line.id)
        await _forge(county, "meeting/mine", "room.closed", room=room)
        await carry(county, city)
        assert await _shown(city, room) == before
    assert not state.differing(f"sqlite:///{tmp_path / 'city'}/fenghuo.db", tmp_path / "city")


async def test_an_erased_line_or_title_is_gone_from_the_rows_at_once_at_host_and_guest(
    database_url: str, tmp_path: Path
) -> None:
    async with crowd(database_url, tmp_path, "county", "city") as (county, city):
        w = await world(city)
        key = (await city.log.append(report(w.city), SELF)).id or ""
        account = await _account(city, w.city, "one")
        rooms = [
            (await city.log.append(OpenRoom(incident=key, title=SECRET, chair=account), SELF)).id or "",
            await _scheduled(city, w.city, title=SECRET, agenda=SECRET, on_duty=[w.county]),
        ]
        await city.log.append(BeginMeeting(id=rooms[1]), SELF)
        for room in rooms:
            await _sit(city, room, account, SECRET)
            await city.log.append(Say(room=room, text=SECRET), SELF)
            await city.log.append(Say(room=room, text="别的"), SELF)
        await carry(city, county)
        assert all([SECRET in str(await _shown(n, room)) for n in (city, county) for room in rooms])
        others = [row for row in await rows(city, CHAT) if row.text == "别的"]
        for one in await held(city):
            if one.written.private and SECRET.encode() in one.written.private:
                erase = EraseEntry(
                    entry=one.written.hash.hex(), stream=str(one.stream), seq=one.written.entry.seq, reason="法院令"
                )
                await city.log.append(erase, SELF)
        await carry(city, county)
        for n in (city, county):
            while n.log.lagging:
                await n.log.caught_up()
            shown = [await _shown(n, room) for room in rooms]
            assert SECRET not in str(shown)
            assert [row for row in await rows(n, CHAT) if row.text] == others
        assert [await _shown(city, room) for room in rooms] == [await _shown(county, room) for room in rooms]
    assert not state.differing(database_url, tmp_path / "city")
    for name in ("city", "county"):
        if database_url.startswith("sqlite"):
            files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
            assert not any(SECRET.encode() in path.read_bytes() for path in files)


# -- real links


async def _below(above: Machine, folder: Path, name: str) -> Machine:
    """One more node under `above`."""
    made = Machine(name, folder / name, above)
    await made.start()
    await made.join(await above.invite(name))
    return made


async def _holds(at: Machine, subject: str) -> bool:
    found = sa.select(STREAM.c.id).where(STREAM.c.subject == subject)
    return await at.node.store.read(lambda c: c.execute(found).first() is not None)


async def _rest(*machines: Machine) -> None:
    """Until every link has brought all that may travel on it."""

    async def settled() -> bool:
        for at in machines:
            links = [peer.link for peer in at.uplink.peers.values()]
            if not links or not all([await at.uplink.think(lambda one=link: one.settled) for link in links]):  # type: ignore[misc]
                return False
        return True

    await until(settled)


@pytest.mark.slow  # four linked nodes
async def test_a_meeting_reaches_the_nodes_whose_people_are_invited_and_no_other(tmp_path: Path) -> None:
    async with tree(tmp_path, "province", "city", "county") as nodes:
        province, city, county = (nodes[name] for name in ("province", "city", "county"))
        nodes["county2"] = sibling = await _below(city, tmp_path, "county2")
        everybody = (province, city, county, sibling)
        await nodes.linked()
        region = await city.decide(SaveOrganisation(name="示范市", tier=Tier.CITY))
        other = await city.decide(SaveOrganisation(name="示范二县", tier=Tier.COUNTY, parent=region))
        place = await county.decide(SaveOrganisation(name="示范一县", tier=Tier.COUNTY))
        guest = await county.decide(SavePerson(name="赴会者", organisation=place))
        [seat] = [row for row in await rows(city.node, NODE) if row.id == sibling.id]
        await city.decide(EditNode(id=seat.id, version=seat.version, organisation=other))

        async def known() -> bool:
            people = {row.id for row in await rows(city.node, PERSON)}
            seats = {row.organisation for row in await rows(county.node, NODE)}
            places = {row.id for row in await rows(county.node, ORGANISATION)}
            return guest in people and other in seats and other in places

        await until(known)
        room = await _scheduled(city.node, region, persons=[guest], title=SECRET)
        await until(lambda: _holds(county, f"meeting/{room}"))
        await city.decide(BeginMeeting(id=room))
        await _met(city.node, room, await _account(city.node, region, "one"))
        aside = await _scheduled(county.node, place, on_duty=[other], title="两县会商")  # between siblings

        async def equal() -> bool:
            one, two = await _shown(county.node, room), await _shown(city.node, room)
            return one == two and bool(await _shown(sibling.node, aside))

        await until(equal)
        await _rest(*everybody)
        holding = {at.name for at in everybody if await _holds(at, f"meeting/{room}")}
        assert holding == {"city", "county"}
        assert {at.name for at in everybody if await _holds(at, f"meeting/{aside}")} == {"county", "city", "county2"}
        [plan] = [row for row in await rows(sibling.node, SCHEDULE) if row.id == aside]
        assert (plan.title, plan.node) == ("两县会商", county.id)
