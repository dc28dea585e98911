"""Every kind of entry there is, from everybody who has no business to say it: what it may change stands in a table here.

A kind without a row in the table fails, so that whoever adds one has to say whose word counts.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from command.base import entry as entries
from command.base.entry import NO_HASH, By, Draft, Entry, Written
from command.base.identity import load_or_make, public_hex
from command.base.projection import Decision
from command.base.schema import Struct
from command.domain.extent import ABOUT_INCIDENT
from command.domain.incident import INCIDENT
from command.domain.membership import JoinTree
from command.domain.nodes import NodeKind, NodeLevel
from command.edge.api import Node
from command.log.store import STREAM
from command.tree.claim import incident_id
from command.tree.item import Received
from tests.durability import state
from tests.node import NODE as SELF
from tests.node import node
from tests.sim.fold import Memory
from tests.tree.crowd import rows
from tests.tree.pen import AT, Pen, keys
from tests.tree.wares import Ids, Said, changing, making

pytestmark = pytest.mark.any_store

BESIDE = frozenset({"late", "erasure", "generation", "home", "presence", "tick", "revocation"})
"""Tables that say what had no effect, or whose word it was."""
OWN = frozenset({"room", "meeting"})
ABOUT = frozenset(table.name for table in ABOUT_INCIDENT)
GUEST: dict[str, frozenset[str]] = {
    "incident.noted": frozenset({"incident"}),
    "incident.asked": frozenset({"ask"}),
    "fence.drawn": frozenset({"fence"}),
    "fence.crossed": frozenset({"fence"}),
    "notice.issued": frozenset({"notice"}),
    "notice.drafted": frozenset({"notice"}),
    "room.opened": OWN,
    "ownership.requested": frozenset({"transfer"}),
    "ownership.agreed": ABOUT,  # it was offered to it
    "ownership.declined": frozenset({"transfer"}),
}
"""What whoever was called to an incident may say in it with effect, and on which tables."""
SUPERIOR = {
    kind: tables for kind, tables in GUEST.items() if kind not in ("ownership.agreed", "ownership.declined")
} | {
    "order.progressed": frozenset({"order", "unit", "alarm", "timer"}),
    "ownership.seized": ABOUT | OWN,
}
"""And what a node above the owner may: it can answer for those below, and take the incident over."""
NOTHING = frozenset(
    {
        *("account.created", "account.edited", "account.password_changed", "account.password_reset"),
        *("account.totp_reset", "account.totp_set", "alarm.acknowledged", "fence.edited", "fence.removed"),
        *("generation.continued", "generation.opened", "group.saved", "incident.ask_answered", "incident.edited"),
        *("incident.invited", "incident.level_set", "incident.reported", "incident.stepped", "incident.sub_report"),
        *("meeting.all_muted", "meeting.cancelled", "meeting.control_set", "meeting.edited", "meeting.floor_cleared"),
        *("meeting.floor_moved", "meeting.knock_ended", "meeting.knocked", "meeting.minutes_saved"),
        *("meeting.poll_started", "meeting.poll_stopped", "meeting.polled", "meeting.reminded"),
        *("meeting.roll_call_ended", "meeting.roll_call_replied", "meeting.roll_call_started", "meeting.said"),
        *("meeting.scheduled", "meeting.standing_set", "node.admitted", "node.edited", "node.joined", "node.revoked"),
        *("notice.cancelled", "notice.progressed", "notice.reviewed", "order.adopted", "order.amended"),
        *("order.cancelled", "order.issued", "order.late", "order.overdue", "order.recalled", "order.rung"),
        *("order.undecided", "organisation.saved", "ownership.offered", "ownership.transferred"),
        *("person.off_duty_set", "person.saved", "plan.approved", "plan.refused", "plan.requested", "plan.saved"),
        *("report.due", "report.overdue", "report.soon", "report_rule.saved", "room.chair_acted", "room.changed"),
        *("room.closed", "room.joined", "room.left", "roster.changed", "template.saved", "timer.dropped"),
        *("timer.fired", "timers.held", "unit.saved", "unit.status_set"),
    }
)
"""What nobody else may say with effect, wherever it stands. (Places in the tree are a superior's to say, in `tree`.)"""
FIRST = {"meeting.polled": ("meeting.poll_started",), "generation.continued": ("generation.opened",)}
HARMLESS = frozenset(
    {
        *("order.recalled", "incident.asked", "ownership.agreed", "ownership.declined", "ownership.offered"),
        *("ownership.requested", "node.admitted", "node.joined"),
    }
)
"""Said by the owner itself these change nothing either: they are others' words, or nothing here is late."""


class Forge(Struct, frozen=True, kw_only=True):
    subject: str
    kind: str
    body: dict[str, Any]
    private: dict[str, Any] | None = None


def _decide(found: Any, request: Forge, context: Any) -> Decision:
    return Decision(
        drafts=[Draft(subject=request.subject, kind=request.kind, body=request.body, private=request.private)]
    )


class Scene:
    """A county with an incident and one of everything, and four others: the city above it, a sibling that was called to the
    incident, one that was not, and what each may know: all ids."""

    def __init__(self, n: Node) -> None:
        self.n = n
        self.city, self.guest, self.stranger = Pen("city"), Pen("guest"), Pen("stranger")
        self.x = Ids(n.log.node, incident_id("0" * 26, n.log.node))
        self.claim, self.told = "", {}

    async def make(self) -> None:
        n, x = self.n, self.x
        n.log.domain.register((), None, {Forge: _decide})
        place: dict[str, Any] = {"kind": NodeKind.FIXED, "level": NodeLevel.COUNTY, "organisation": None}
        await n.log.append(JoinTree(public_key=self.city.public, name="county", **place), SELF)
        mine = public_hex(load_or_make(Path(n.config.data)).public_key())
        admitted = [(n.log.node, mine), (self.guest.id, self.guest.public), (self.stranger.id, self.stranger.public)]
        for key, public in admitted:
            body = {"node": key, "public_key": public, "parent": self.city.id, "name": key} | place
            await self.send(self.city.say("tree", "node.admitted", body))
        reported = changing(x, "", "")["incident.reported"]
        await self.own(x.subject, "incident.reported", reported)
        [incident] = await rows(n, INCIDENT)
        self.claim = incident.claim
        for kind, (subject, said) in making(x, self.guest.id).items():
            await self.own(subject or x.subject, kind, said)
        said = changing(x, self.guest.id, self.claim)
        await self.own(x.subject, "incident.invited", (None, {"nodes": [self.guest.id], "parties": []}))
        await self.own(x.subject, "ownership.offered", said["ownership.offered"])
        length = sa.select(STREAM.c.length).where(STREAM.c.subject == x.subject)
        self.told = {f"{n.log.node}.{n.log.generation}": await n.store.read(lambda c: c.scalar(length))}
        for pen in (self.guest, self.city):  # who speaks of an incident has heard of it
            await self.send(pen.say(x.subject, "x.greeted", {}, seen=self.told))
        asked = self.guest.name(x.subject)
        await self.send(self.guest.say(x.subject, "incident.asked", {"ask": asked, "what": "x"}, {"text": "x"}))
        x.ask = asked

    async def own(self, subject: str, kind: str, said: Said) -> None:
        await self.n.log.append(Forge(subject=subject, kind=kind, body=said[1], private=said[0]), SELF)

    async def send(self, *items: Received) -> None:
        await self.n.log.receive(list(items), keys(self.city, self.guest, self.stranger))
        while self.n.log.lagging:
            await self.n.log.caught_up()

    def words(self, pen: Pen) -> dict[str, Said]:
        """Every kind, about the county's things; what it would make, it makes under the county's ids."""
        x, tree = self.x, {"kind": "fixed", "level": "county", "organisation": None, "name": "x"}
        found = {kind: said for kind, (_, said) in making(x, pen.id).items()} | changing(x, pen.id, self.claim)
        found["ownership.requested"] = (None, {**found["ownership.offered"][1], "direction": "raise"})
        found["ownership.seized"] = (None, {"base": {}, "parties": ["evil"]})
        found["incident.asked"] = (None, {"ask": x.ask, "what": "x"})
        found["node.admitted"] = (None, {"node": x.node, "public_key": pen.public, "parent": pen.id} | tree)
        found["node.joined"] = (None, {"node": x.node, "public_key": pen.public, "parent": pen.id} | tree)
        found["node.edited"] = (None, {"node": x.node, "level": "province", "parent": pen.id})
        found["node.revoked"] = (None, {"node": x.node, "heads": {}})
        found["generation.opened"] = (None, {"public_key": pen.public, "previous": None})
        found["generation.continued"] = (None, {"after": {"tree@x.y": [9, "00"]}})
        return found

    def mine(self, kind: str, said: Said) -> Written:
        """What the county's own entry would be."""
        named = {"origin": self.n.log.node, "generation": "1", "seq": 1, "prev": NO_HASH, "at": AT}
        by = By(account="a")
        entry = Entry(subject=self.x.subject, kind=kind, by=by, private="00", body=said[1], **named)
        return entries.write(entry, None if said[0] is None else entries.encode_private(said[0]), b"0")

    async def table(self) -> dict[str, list[Any]]:
        """All rows that somebody could want to change."""
        names = [name for name, table in self.n.log.domain.tables.items() if not table.kept and name not in BESIDE]
        found = {name: await rows(self.n, self.n.log.domain.tables[name]) for name in names}
        # That somebody claimed it in vain is shown: no harm.
        found["term"] = [row for row in found["term"] if row.standing]
        found["incident"] = [msgspec.structs.replace(row, contested=False) for row in found["incident"]]
        return found

    async def nothing_by(self, said: Iterable[Received]) -> None:
        before = await self.table()
        await self.send(*said)
        assert await self.table() == before


@asynccontextmanager
async def scene(database_url: str, data: Path) -> AsyncIterator[Scene]:
    async with node(database_url, data) as n:
        made = Scene(n)
        await made.make()
        yield made


def test_every_kind_has_a_row_in_the_table() -> None:
    import server
    from command.base.config import load

    kinds = set(server.house(load({}, None)).domain.projectors)
    assert kinds == NOTHING | set(SUPERIOR) | set(GUEST)
    assert not NOTHING & (set(SUPERIOR) | set(GUEST))


async def test_each_of_these_words_has_an_effect_where_its_owner_says_it(database_url: str, tmp_path: Path) -> None:
    """Or else what follows would prove nothing."""
    async with scene(database_url, tmp_path) as s:
        tables = {name: table for name, table in s.n.log.domain.tables.items() if not table.kept}
        held = {(name, row.id): row for name, table in tables.items() for row in await rows(s.n, table)}
        x, dumb = Ids(s.n.log.node, s.x.incident, "1", s.x.room), set()
        made = making(x, s.guest.id) | {"room.opened": making(Ids(x.node, x.incident, "2"), "")["room.opened"]}
        words = s.words(s.guest) | {kind: said for kind, (_, said) in made.items()}
        for kind in s.n.log.domain.projectors:
            memory = Memory()
            memory.rows = dict(held)
            for what in (*FIRST.get(kind, ()), kind):
                before = dict(memory.rows)
                s.n.log.domain.project(memory, s.mine(what, words[what]))
            if memory.rows == before:
                dumb.add(kind)
        assert dumb == HARMLESS


async def test_a_stranger_changes_nothing_by_any_word_in_an_incident(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        said = [
            s.stranger.say(s.x.subject, kind, body, private, under=under)
            for under in (s.claim, None)
            for kind, (private, body) in s.words(s.stranger).items()
        ]
        await s.nothing_by(said)
    assert not state.differing(database_url, tmp_path)


async def _in_the_incident(s: Scene, pen: Pen, may: dict[str, frozenset[str]]) -> None:
    words = s.words(pen)
    others = [kind for kind in words if kind not in may and not (pen is s.guest and kind in GUEST)]
    said = [pen.say(s.x.subject, kind, *words[kind][::-1], under=s.claim) for kind in others]
    said += [pen.say(s.x.subject, kind, *words[kind][::-1]) for kind in others]
    await s.nothing_by(said)
    # The owner's ids under a word that may make something: nothing; then under an id of its own.
    making_kinds = (
        "fence.drawn",
        "notice.issued",
        "notice.drafted",
        "room.opened",
        "incident.asked",
        "ownership.requested",
    )
    await s.nothing_by([pen.say(s.x.subject, kind, *words[kind][::-1]) for kind in making_kinds])
    for kind, tables in may.items():
        private, body = words[kind]
        named = next((name for name in ("fence", "notice", "room", "ask", "transfer") if name in body), None)
        if kind in making_kinds and named is not None:
            body = body | {named: pen.name("meeting" if named == "room" else s.x.subject)}
        before = await s.table()
        await s.send(pen.say(s.x.subject, kind, body, private, under=s.claim))
        after = await s.table()
        changed = {name for name in after if after[name] != before[name]}
        assert changed <= tables and (changed or kind == "fence.crossed"), (kind, changed)
        if kind in making_kinds:  # one more row, and none of the others touched
            assert all(row in after[name] for name in tables for row in before[name]), kind


async def test_who_was_called_to_an_incident_changes_only_what_is_its_own(database_url: str, tmp_path: Path) -> None:
    async with scene(database_url, tmp_path) as s:
        may = {
            kind: tables for kind, tables in GUEST.items() if kind != "ownership.agreed"
        }  # that ends in its owning it
        await _in_the_incident(s, s.guest, may)


async def test_a_superior_in_an_incident_answers_for_those_below_and_may_take_it_over(
    database_url: str, tmp_path: Path
) -> None:
    async with scene(database_url, tmp_path) as s:
        await _in_the_incident(s, s.city, SUPERIOR)


@pytest.mark.parametrize("who", ["city", "guest"])
async def test_no_word_in_a_registry_or_a_meeting_changes_what_is_another_nodes(
    database_url: str, tmp_path: Path, who: str
) -> None:
    async with scene(database_url, tmp_path) as s:
        # It even calls its generation as the county's is called.
        pen = s.city if who == "city" else s.guest
        twin = Pen(who, s.n.log.generation)
        for subject in ("registry", f"meeting/{s.x.room}", f"meeting/{s.x.planned}", "fence/x", "notice/x"):
            words = s.words(pen)
            await s.nothing_by([twin.say(subject, kind, *said[::-1]) for kind, said in words.items()])
        words = s.words(pen)
        places = [kind for kind in words if who == "guest" or not kind.startswith("node.")]
        await s.nothing_by([twin.say("tree", kind, *words[kind][::-1]) for kind in places])
        if who == "city":  # a superior says where a node stands
            before = (await s.table())["node"]
            await s.send(twin.say("tree", "node.edited", {"node": s.x.node, "level": "city"}))
            assert (await s.table())["node"] != before
        assert [name for name in s.n.log._folding.earlier("") if name.startswith(s.n.log.node)]
    assert not state.differing(database_url, tmp_path)
