"""Random requests of every kind a node decides, made from the rows as they are now; seeded, so that a red run can be had
again.

Values go through the same conversion as at the HTTP edge. Most requests are valid, some are refused (a stale version,
somebody without the right, a thing that is gone): what a refused request leaves behind is part of the test.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, TypeVar

import msgspec

from command.base import timer
from command.base.clock import MICROSECONDS, ManualClock
from command.base.entry import By, Written
from command.base.errors import FenghuoError
from command.base.projection import Row
from command.base.rights import Actor, Role
from command.base.schema import Category, Level, Urgency
from command.domain import (
    account,
    asking,
    chairing,
    deadline,
    erasure,
    fence,
    floor,
    generation,
    handover,
    imports,
    incident,
    location,
    meeting,
    membership,
    minutes,
    nodes,
    notice,
    order,
    plan,
    presence,
    registry,
    registry_edits,
    roll_call,
    roster,
    schedule,
)
from command.domain import room as rooms
from command.edge.api import Node
from command.log.writer import Commit, Receipt
from sms import broadcast, expansion, inbox, message, outbox, retention
from sms.numbers import demo_number

Values = dict[str, Any]
E = TypeVar("E", bound=Enum)
DAY = 24 * 3600 * MICROSECONDS
TEXTS = ("现场情况正常", 'a "quoted" \\ word', "é€🚒", "{incident} {{x}}", "line\nbreak\ttab", "\\u0000", "x" * 180)
FENCED = (155.0, 32.0)


class Maker:
    """Keeps the node's rows from what the log publishes, and makes requests about them."""

    def __init__(self, n: Node, clock: ManualClock, seed: int) -> None:
        self.node, self.clock, self.chance = n, clock, Random(seed)
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in n.store.shelves}
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.number = 0
        self.told: list[Written] = []
        """Entries of incidents and meetings that have a private part: what can be erased with an effect at once."""
        n.bus.listen(self._learn)

    def _learn(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.after is None:
                self.rows[change.table].pop(change.key, None)
            else:
                self.rows[change.table][change.key] = change.after
        folded = (one for one in commit.written if one.entry.subject.startswith(("incident/", "meeting/")))
        self.told += [one for one in folded if one.private]

    # -- pieces

    def often(self, share: float = 0.5) -> bool:
        return self.chance.random() < share

    def of(self, kind: type[E]) -> E:
        return self.chance.choice(list(kind))

    def some(self, table: str, **equal: object) -> Any:
        """A row of `table` with these fields; None when there is none."""
        found = [
            row
            for row in self.rows[table].values()
            if all(getattr(row, name) == value for name, value in equal.items())
        ]
        return self.chance.choice(found) if found else None

    def id(self, table: str, **equal: object) -> str:
        row = self.some(table, **equal)
        return "nobody" if row is None or not self.often(0.98) else row.id

    def ids(self, table: str, most: int = 3) -> list[str]:
        found = sorted(self.rows[table])
        return self.chance.sample(found, min(len(found), self.chance.randrange(most + 1)))

    def text(self) -> str:
        return f"{self.chance.choice(TEXTS)} {self.chance.randrange(1000)}"

    def name(self) -> str:
        self.number += 1
        return f"名{self.number}"

    def edited(self, table: str, share: float = 0.6, **equal: object) -> Values:
        """`id` and `version` of a row to save again; empty for a new one."""
        row = self.some(table, **equal)
        return {} if row is None or not self.often(share) else {"id": row.id, "version": self.version(row)}

    def version(self, row: Any) -> int:
        return 1 if row is None else row.version + (not self.often(0.97))

    def named(self, table: str, **equal: object) -> Values:
        """`id` and `version` of a row that must exist."""
        row = self.some(table, **equal)
        return {"id": "nobody" if row is None else row.id, "version": self.version(row)}

    def place(self) -> Values:
        lon, lat = (at + self.chance.uniform(-0.2, 0.2) for at in FENCED)
        return {"lon": lon if self.often(0.9) else 155, "lat": round(lat, 5), "address": self.text()}

    def area(self) -> Values:
        lon, lat = (round(at + self.chance.uniform(-0.2, 0.2), 6) for at in FENCED)
        if self.often():
            return {"type": "Circle", "coordinates": [lon, lat], "radius_m": self.chance.randrange(50, 5_000)}
        ring = [[lon, lat], [lon + 0.01, lat], [lon + 0.01, lat + 0.01], [lon, lat + 0.01], [lon, lat]]
        if not self.often(0.9):
            ring[1], ring[2] = ring[2], ring[1]  # crosses itself: repaired with a note, or refused
        return {"type": "Polygon", "coordinates": [ring]}

    def party(self) -> Values:
        kind = self.chance.choice(["unit", "unit", "person", "organisation"])
        return {"kind": kind, "id": self.id(kind)}

    def recipients(self) -> Values:
        people = {"persons": self.ids("person"), "groups": self.ids("group"), "units": self.ids("unit")}
        return people | {"on_duty": self.ids("organisation", 2)}

    def ladder(self) -> list[Values]:
        return [
            {"after_s": self.chance.randrange(0, 900), "means": self.of(order.Means)}
            for _ in range(self.chance.randrange(4))
        ]

    def casualties(self) -> Values:
        return {"dead": self.chance.randrange(5), "injured": self.chance.randrange(50)}

    def picked(self, **fields: Callable[[], Any]) -> Values:
        """Some of these fields."""
        return {name: make() for name, make in fields.items() if self.often(0.4)}

    # -- who asks

    def actor(self) -> Actor | None:
        """Mostly the node itself; else an account with whatever rights it has."""
        row = self.some("account")
        if row is None or self.often(0.6):
            return None
        return Actor(
            account=row.id, roles=tuple(row.roles), organisation=row.organisation, person=row.person, unit=row.unit
        )

    async def ask(self, kind: type) -> Receipt | FenghuoError:
        """One request of `kind`; a refusal comes back, anything else is raised."""
        self.clock.advance(self.chance.uniform(0, 3))
        actor = self.actor()
        by = (
            By(account=self.chance.choice(["node", "gateway"]))
            if actor is None
            else By(account=actor.account, person=actor.person)
        )
        try:
            request = msgspec.convert(msgspec.to_builtins(MAKE[kind](self)), kind)
            seen = self.node.log.position if self.often(0.2) else None
            receipt = await self.node.log.append(request, by, actor=actor, seen=seen)
        except (FenghuoError, msgspec.ValidationError) as error:
            code = error.code if isinstance(error, FenghuoError) else f"invalid: {error}"
            self.refused[f"{kind.__name__} {code}"] += 1
            return error if isinstance(error, FenghuoError) else FenghuoError("request.invalid", str(error))
        self.accepted[kind.__name__] += 1
        return receipt

    def kind(self) -> type:
        """The kind of the next request; what ends or holds everything comes seldom."""
        kinds = list(MAKE)
        return self.chance.choices(kinds, [SELDOM.get(kind, 1.0) for kind in kinds])[0]

    async def settle(self) -> None:
        """A small tree with people, units and an account of every role, so that nothing lacks a subject. What the node wrote
        before anybody listened is read from its tables."""
        for name, shelf in self.node.store.shelves.items():
            rows = await self.node.store.read(shelf.select)
            self.rows[name] = {row.id: row for row in rows} | self.rows[name]
        while not all(len(self.rows[table]) >= 4 for table in ("organisation", "person", "unit")):
            for kind in (registry_edits.SaveOrganisation, registry_edits.SavePerson, registry_edits.SaveUnit):
                await self.ask(kind)
        for role in Role:
            request = account.CreateAccount(
                name=f"role-{role}",
                roles=[role],
                organisation=self.some("organisation").id,
                password_hash="x",
                person=self.some("person").id if role is Role.FIELD_MEMBER else None,
                unit=self.some("unit").id if role is Role.FIELD_MEMBER else None,
            )
            await self.node.log.append(request, By(account="node"))


def _organisation(m: Maker) -> Values:
    parent = m.some("organisation")
    values = {"name": m.name(), "name_en": m.text()[:50], "tier": m.of(registry.Tier), "retired": not m.often(0.98)}
    values["parent"] = None if parent is None or m.often(0.1) else parent.id
    return values | m.edited("organisation", 0.8) | m.picked(place=m.place)


def _unit(m: Maker) -> Values:
    kind = m.of(registry.UnitKind)
    values = {"name": m.name(), "kind": kind, "organisation": m.id("organisation"), "members": m.ids("person")}
    return values | m.edited("unit") | {"retired": not m.often(0.95)} | m.picked(home=m.place, capability=m.text)


def _person(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation"), "phones": [demo_number(m.chance.randrange(99))]}
    return values | m.edited("person") | {"retired": not m.often(0.97), "title": m.text()[:50]}


def _template(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation")} | m.edited("template")
    return values | {"text_zh": "【{a}】内容", "text_en": "[{a}] text" if m.often(0.9) else "no placeholder"}


def _shift(m: Maker, since: int | None = None) -> Values:
    start = (m.clock.now() if since is None else since) + m.chance.randrange(-2 * DAY if since is None else 0, 2 * DAY)
    return {
        "post": m.name(),
        "person": m.id("person"),
        "starts_at": start,
        "ends_at": start + m.chance.randrange(1, DAY),
        "leader": m.often(),
    }


def _replace_shifts(m: Maker) -> Values:
    organisation, since = m.id("organisation"), m.clock.now()
    until = since + 2 * DAY
    seen = [
        {"id": row.id, "version": row.version}
        for row in m.rows["shift"].values()
        if row.organisation == organisation and since <= row.starts_at < until  # type: ignore[attr-defined]
    ]
    shifts = [_shift(m, since) for _ in range(m.chance.randrange(3))]
    return {"organisation": organisation, "since": since, "until": until, "seen": seen, "shifts": shifts}


def _import(m: Maker) -> Values:
    persons = [
        {
            "row": row,
            "name": f"名{m.chance.randrange(30)}",
            "organisation": m.id("organisation"),
            "phones": [demo_number(m.chance.randrange(30))],
            "groups": [f"组{m.chance.randrange(3)}"],
        }
        for row in range(m.chance.randrange(1, 4))
    ]
    return {"persons": persons}


def _create_account(m: Maker) -> Values:
    role = m.of(Role)
    values = {"name": f"account-{m.chance.randrange(10**6)}", "roles": [role], "organisation": m.id("organisation")}
    return values | {"password_hash": "x"} | m.picked(person=lambda: m.id("person"), unit=lambda: m.id("unit"))


def _edit_account(m: Maker) -> Values:
    return m.named("account") | m.picked(
        roles=lambda: [m.of(Role)],
        organisation=lambda: m.id("organisation"),
        person=lambda: m.id("person"),
        language=lambda: "en",
        locked=lambda: not m.often(0.8),
    )


def _token(m: Maker) -> Values:
    services = [row.id for row in m.rows["account"].values() if row.roles == [Role.SERVICE]]  # type: ignore[attr-defined]
    key = m.chance.choice(services) if services else "nobody"
    return {"account": key, "hashed": m.clock.token(32), "label": "x", "days": 30}


def _open_session(m: Maker) -> Values:
    return {"id": m.clock.token(32), "account": m.id("account"), "expires_at": m.clock.now() + DAY, "address": "::1"}


def _refuse(m: Maker) -> Values:
    key = m.id("account") if m.often(0.9) else None
    return {"account": key, "address": "::1", "limit": 5, "lock_us": 60 * MICROSECONDS}


def _totp(m: Maker) -> Values:
    sealed = "sealed" if m.often(0.7) else None
    return {"account": m.id("account"), "sealed": sealed, "pending": sealed is not None and m.often(), "step": 5}


def _report(m: Maker) -> Values:
    values = {"category": m.of(Category), "level": m.of(Level), "title": m.text()[:90], "place": m.place()}
    values |= {"organisation": m.id("organisation"), "exercise": m.often(0.2), "casualties": m.casualties()}
    return values | m.picked(area=m.area, description=m.text, occurred_at=m.clock.now)


def _edit_incident(m: Maker) -> Values:
    return m.named("incident") | m.picked(
        title=lambda: m.text()[:90],
        description=m.text,
        category=lambda: m.of(Category),
        place=m.place,
        area=lambda: m.area() if m.often(0.8) else None,
        occurred_at=m.clock.now,
        casualties=m.casualties,
    )


def _step(m: Maker) -> Values:
    named = m.named("incident")
    row: Any = m.rows["incident"].get(named["id"])
    fitting = [step for state, step in incident.STEPS if row is not None and state is row.state]
    calm = [step for step in fitting if step not in (incident.Step.CLOSE, incident.Step.DISMISS)]
    steps = (calm if m.often(0.7) else fitting) or list(incident.Step)
    return named | {"step": m.chance.choice(steps), "reason": m.text() if m.often() else ""}


def _sub_report(m: Maker) -> Values:
    values = {"id": m.id("incident"), "kind": m.of(incident.SubReportKind), "text": m.text()}
    return values | m.picked(
        casualties=m.casualties, channel=lambda: m.of(incident.Channel), to=lambda: m.id("organisation")
    )


def _note(m: Maker) -> Values:
    return {
        "id": m.id("incident"),
        "text": m.text() if m.often(0.9) else "",
        "attachments": ["ab" * 32][: m.often(0.2)],
    }


def _issue(m: Maker) -> Values:
    values = {
        "incident": m.id("incident", open=True),
        "assignee": m.party(),
        "task": m.text(),
        "urgency": m.of(Urgency),
    }
    return values | m.picked(ladder=m.ladder, due_in_s=lambda: 900, ack_within_s=lambda: m.chance.choice([None, 60]))


def _amend(m: Maker) -> Values:
    due = lambda: m.chance.choice([None, m.clock.now() + 60 * MICROSECONDS])  # noqa: E731
    return m.named("order", open=True) | m.picked(task=m.text, due_at=due)


def _progress(m: Maker) -> Values:
    row = m.some("order", open=True)
    fitting = [to for state, to in order.FORWARD if row is not None and state is row.progress]
    step = m.chance.choice(fitting) if fitting and m.often(0.9) else m.of(order.Progress)
    values = {"id": "nobody" if row is None else row.id, "step": step}
    return values | m.picked(text=m.text, place=m.place)


def _plan(m: Maker) -> Values:
    orders = [{"assignee": m.party(), "task": m.text(), "ladder": m.ladder()} for _ in range(m.chance.randrange(3))]
    values = {"name": m.name(), "organisation": m.id("organisation"), "orders": orders} | m.edited("plan")
    values |= {"retired": not m.often(0.9)}
    return values | m.picked(
        notice=lambda: {"text_zh": "{incident}", "text_en": "{place}", "recipients": m.recipients()},
        room=lambda: {"title": m.name()},
        fence=lambda: {"name": m.name(), "radius_m": 500},
    )


def _report_rule(m: Maker) -> Values:
    order = [registry.Tier.PROVINCE, registry.Tier.CITY, registry.Tier.COUNTY]
    sender = m.chance.randrange(3)
    above = m.chance.choice(list(deadline.Superior)[: sender + 1])
    values = {"name": m.name(), "organisation": m.id("organisation"), "report": m.of(incident.SubReportKind)}
    values |= {"sender_tier": order[sender], "recipient_tier": above, "skip_level": m.often(0.8)}
    limits: list[Values] = [
        {"limit_s": m.chance.choice([20, 60, 600]), "repeat_s": m.chance.choice([None, 600])},
        {"daily_at_min": m.chance.randrange(1440), "repeat_s": 86_400},
        {"working_days": 2, "clock": deadline.Clock.STABLE},
        {"limit_s": 300, "clock": deadline.Clock.OCCURRENCE, "remind_before_s": 290},
    ]
    values |= m.chance.choice(limits) | {"channel": m.of(incident.Channel)} | m.edited("report_rule", 0.8)
    values |= {"retired": not m.often(0.8)}
    return values | m.picked(levels=lambda: [m.of(Level)], categories=lambda: [m.of(Category)])


def _activate(m: Maker) -> Values:
    named = m.named("plan", retired=False)
    return {"incident": m.id("incident", open=True), "plan": named["id"], "version": named["version"], "reason": "x"}


def _decide(m: Maker) -> Values:
    return m.named("activation", state=plan.ActivationState.REQUESTED) | {"approve": m.often(0.7), "reason": m.text()}


def _fact(m: Maker) -> Values:
    room = m.some("room", open=True)
    members = [] if room is None else [member.id for member in room.members]
    fact = m.of(meeting.Fact)
    key = m.chance.choice(members) if members and fact is not meeting.Fact.JOINED else m.clock.id()
    someone = m.some("account")
    member: Values = {"id": key, "account": "a" if someone is None else someone.id, "name": m.text()[:50]}
    member |= {"joined_at": m.clock.now(), "audio": m.often()}
    member["role"] = m.chance.choice(["chair", "speaker", "viewer"])
    member["screen"] = m.often(0.1)
    if room is not None and fact is not meeting.Fact.JOINED and members:
        member["account"] = next(one.account for one in room.members if one.id == key)
    return {"room": "nobody" if room is None else room.id, "member": member, "fact": fact}


def _chair(m: Maker) -> Values:
    rooms: list[Any] = [row for row in m.rows["room"].values() if row.members]  # type: ignore[attr-defined]
    if not rooms:
        return {"room": "nobody", "member": "nobody", "act": "mute"}
    room = m.chance.choice(rooms)
    kind = m.of(meeting.MediaKind)
    act = meeting.Act.REMOVE if m.often(0.1) else m.chance.choice([meeting.Act.MUTE, meeting.Act.UNMUTE])
    return {"room": room.id, "member": m.chance.choice(room.members).id, "act": act, "kind": kind}


def _peopled(m: Maker) -> tuple[str, str]:
    """An open room with somebody in it, and their account."""
    rooms: list[Any] = [row for row in m.rows["room"].values() if row.members]  # type: ignore[attr-defined]
    if not rooms:
        return "nobody", "nobody"
    room = m.chance.choice(rooms)
    return room.id, m.chance.choice(room.members).account


def _knock(m: Maker) -> Values:
    waiting: list[Any] = [row for row in m.rows["meeting"].values() if row.waiting]  # type: ignore[attr-defined]
    if waiting and m.often(0.3):
        row = m.chance.choice(waiting)
        return {"room": row.id, "account": m.chance.choice(row.waiting).account, "left": True}
    return {"room": m.id("room", open=True), "account": m.id("account"), "name": m.text()[:50]}


def _control(m: Maker) -> Values:
    room, account = _peopled(m)
    return {"room": room} | m.picked(
        locked=lambda: m.often(0.2),
        waiting_room=lambda: m.often(0.2),
        microphones=lambda: m.of(rooms.Microphones),
        layout=lambda: m.of(rooms.Layout),
        layout_tiles=lambda: m.chance.randrange(1, 10),
        spotlight=lambda: [account][: m.often(0.7)],
        broadcast=lambda: account if m.often(0.7) else None,
    )


def _standing(m: Maker) -> Values:
    rows: list[Any] = list(m.rows["meeting"].values())
    waiting = [row for row in rows if row.waiting]
    if waiting and m.often():
        row = m.chance.choice(waiting)
        standing = m.chance.choice([chairing.Standing.ADMIT, chairing.Standing.REFUSE])
        return {"room": row.id, "account": m.chance.choice(row.waiting).account, "standing": standing}
    barred = [row for row in rows if row.barred and row.open]
    if barred and m.often():
        row = m.chance.choice(barred)
        return {"room": row.id, "account": m.chance.choice(row.barred), "standing": chairing.Standing.READMIT}
    room, account = _peopled(m)
    return {"room": room, "account": account, "standing": m.of(chairing.Standing)}


def _poll(m: Maker) -> Values:
    room, account = _peopled(m)
    return {"room": room, "interval_s": 5, "sites": [account][: m.often()], "audience": m.of(rooms.Audience)}


def _call_up(m: Maker) -> Values:
    room, account = _peopled(m)
    row: Any = m.rows["meeting"].get(room)
    if row is not None and row.floor and m.often(0.4):
        return {"room": room, "account": m.chance.choice(row.floor), "move": floor.Move.WITHDRAW}
    if row is not None and row.hands and m.often():
        move = m.chance.choice([floor.Move.CALL, floor.Move.DISMISS])
        return {"room": room, "account": row.hands[0].account, "move": move, "only": m.often(0.2)}
    return {"room": room, "account": account, "move": floor.Move.CALL, "only": m.often(0.2)}


def _running(m: Maker) -> Any:
    rows: list[Any] = [row for row in m.rows["roll_call"].values() if row.ended_at is None]  # type: ignore[attr-defined]
    return m.chance.choice(rows) if rows else None


def _mark_call(m: Maker) -> Values:
    row = _running(m)
    called = "nobody" if row is None else m.chance.choice(row.called).id
    return {"id": "nobody" if row is None else row.id, "called": called, "present": m.often()}


def _schedule(m: Maker) -> Values:
    start = m.clock.now() + m.chance.randrange(1, 3600) * MICROSECONDS
    values = {"title": m.name(), "agenda": m.text(), "organisation": m.id("organisation"), "starts_at": start}
    values |= {"ends_at": start + DAY // 24, "persons": m.ids("person"), "groups": m.ids("group", 2)}
    values |= {
        "on_duty": m.ids("organisation", 2),
        "notify": m.often(0.1),
        "remind_before_s": m.chance.choice([None, 60]),
    }
    return values | m.picked(incident=lambda: m.id("incident", open=True), chair=lambda: m.id("account"))


def _edit_meeting(m: Maker) -> Values:
    return m.named("schedule", state=schedule.State.PLANNED) | m.picked(
        title=m.name,
        agenda=m.text,
        persons=lambda: m.ids("person"),
        on_duty=lambda: m.ids("organisation", 2),
        remind_before_s=lambda: m.chance.choice([None, 30]),
        notify=lambda: m.often(0.2),
    )


def _minutes(m: Maker) -> Values:
    room = m.some("room")
    row = m.rows["minutes"].get("" if room is None else room.id)
    version = None if row is None else m.version(row)
    return {"room": "nobody" if room is None else room.id, "version": version, "text": m.text()}


def _rules(m: Maker) -> list[fence.Rule]:
    rules = [rule for rule in fence.Rule if rule is not fence.Rule.ABSENT]
    return m.chance.sample(rules, m.chance.randrange(1, 4))


def _draw(m: Maker) -> Values:
    values = {"name": m.name(), "geometry": m.area(), "rules": _rules(m)}
    if m.often(0.8):
        values["incident"] = m.id("incident")
    return _timed(values | m.picked(units=lambda: m.ids("unit"), exit_buffer_m=lambda: 30, dwell_s=lambda: 60))


def _timed(values: Values) -> Values:
    """A fence with one time of its own has the others too."""
    if "dwell_s" not in values:
        return values
    return values | {"lost_s": 900, "windows": [fence.TimeWindow(daily_min=(1320, 360), days=[0, 4])]}


def _edit_fence(m: Maker) -> Values:
    changes = m.picked(
        name=m.name, geometry=m.area, rules=lambda: _rules(m), units=lambda: m.ids("unit"), dwell_s=lambda: 90
    )
    return _timed(m.named("fence", active=True) | changes)


def _generation(m: Maker) -> Values:
    return {"id": m.clock.token(), "public_key": "00", "restored": m.often(), "after": {"s@n.g": [3, "ab"]}}


def _record(m: Maker) -> Values:
    unit, now = m.some("unit"), m.clock.now()
    if unit is None:
        return {}
    lon, lat = (at + m.chance.uniform(-0.1, 0.1) for at in FENCED)
    fix = {"lon": lon, "lat": lat, "at": now, "received_at": now}
    row = fix | {"id": unit.id, "organisation": unit.organisation, "members": unit.members, "source": "app"}
    point = fix | {"id": f"{unit.id}-{now}", "unit": unit.id, "late": m.often(0.2)}
    watched = m.some("fence", active=True)
    values: Values = {"locations": [row], "points": [point], "trails": [{"id": unit.id, "map": [], "fences": []}]}
    if watched is not None:
        rule = m.chance.choice([fence.Rule.ENTER, fence.Rule.EXIT, fence.Rule.INSIDE, fence.Rule.LOST])
        crossing = {"fence": watched.id, "unit": unit.id, "event": rule, "at": now, "seen_at": now}
        values["crossings"] = [crossing | {"lon": lon, "lat": lat, "crossed": m.often(0.1)}]
        values["states"] = [{"id": f"{unit.id}-{watched.id}", "unit": unit.id, "fence": watched.id, "state": [1, "x"]}]
    old = m.some("track")
    if old is not None and m.often():
        values["forgotten"] = [["track", old.id]]
    if m.often(0.1):
        values["retired"] = [m.id("unit")]
    return values


def _draft(m: Maker) -> Values:
    values = {"kind": m.of(notice.NoticeKind), "recipients": m.recipients(), "text_zh": m.text()}
    values |= {"organisation": m.id("organisation"), "exercise": m.often(0.2)}
    return values | m.picked(incident=lambda: m.id("incident", open=True), urgency=lambda: m.of(Urgency))


def _review(m: Maker) -> Values:
    return m.named("notice", state=notice.NoticeState.REVIEW) | {"passed": m.often(0.7), "reason": m.text()}


def _resolve(m: Maker) -> Values:
    people = [
        {"person": key, "number": (m.rows["person"][key].phones or [""])[0]}  # type: ignore[attr-defined]
        for key in m.ids("person", 5)
    ]
    return {"notice": m.id("notice", state=notice.NoticeState.ISSUED, expanded=False), "people": people}


def _counts(m: Maker) -> Values:
    counts = {"total": m.chance.randrange(9), "sent": m.chance.randrange(9)}
    return {"notice": m.id("notice"), "counts": counts, "finished": not m.often(0.8)}


def _submit(m: Maker) -> Values:
    queued: list[Any] = [row for row in m.rows["message"].values() if row.state is message.State.QUEUED]  # type: ignore[attr-defined]
    ids = [row.id for row in m.chance.sample(queued, min(len(queued), 5))]
    return {"ids": ids, "gateway": "local", "real": not m.often(0.8)}


def _fitting(m: Maker, row: Any, kinds: tuple[message.Kind, ...]) -> message.Kind:
    fitting = [kind for kind in kinds if row is not None and (row.state, kind) in message.TABLE]
    return m.chance.choice(fitting or list(kinds))


def _mark(m: Maker) -> Values:
    kind = message.Kind
    row = m.some("message", state=message.State.SUBMITTING)
    outcomes = (kind.ACCEPTED, kind.NOT_SUBMITTED, kind.GIVE_UP, kind.REFUSED, kind.UNCERTAIN)
    found = _fitting(m, row, outcomes)
    key = f"g-{m.clock.token(4)}" if found is kind.ACCEPTED else ""
    return {"id": "nobody" if row is None else row.id, "kind": found, "gateway": "local", "gateway_id": key}


def _receipt(m: Maker) -> Values:
    row = m.some("message", state=m.of(message.State))
    kinds = (message.Kind.RECEIPT_SENT, message.Kind.RECEIPT_DELIVERED, message.Kind.RECEIPT_FAILED)
    key = row.gateway_id if row is not None and row.gateway_id else f"g-{m.clock.token(4)}"
    ours = row.id if row is not None and m.often(0.8) else ""
    return {"gateway": "local", "gateway_id": key, "kind": _fitting(m, row, kinds), "message": ours}


def _inbound(m: Maker) -> Values:
    text = m.chance.choice(["1", "１", "收到", "1A", "2", "what?"])
    sender = demo_number(m.chance.randrange(99))
    return {"gateway": "local", "gateway_id": m.clock.id(), "sender": sender, "recipient": "10650000", "text": text}


def _land(m: Maker) -> Values:
    key = m.id("message") if m.often() else m.clock.id()
    text = {"id": key, "number": demo_number(m.chance.randrange(99)), "text": m.text(), "at": m.clock.now()}
    return {"text": text | {"answer": m.often(0.3)}}


def _shifted(m: Maker) -> Values:
    return {"organisation": m.id("organisation"), "shifts": [_shift(m) for _ in range(m.chance.randrange(1, 3))]}


def _group(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation"), "persons": m.ids("person", 5)}
    return values | m.edited("group") | {"retired": not m.often(0.95)}


def _room(m: Maker) -> Values:
    return {"incident": m.id("incident", open=True), "title": m.name(), "chair": m.id("account")}


def _gateway(m: Maker) -> Values:
    return {"gateway": "local", "blocked": m.often(), "code": "x", "hint": "y"}


def _node(m: Maker) -> Values:
    kind = {"kind": m.of(nodes.NodeKind), "level": m.of(nodes.NodeLevel)}
    return {"name": m.name(), **kind, "organisation": m.id("organisation") if m.often() else None}


def _invite_node(m: Maker) -> Values:
    return _node(m) | {"code": "".join(m.chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=20))}


def _edit_node(m: Maker) -> Values:
    return m.named("node") | m.picked(name=m.name, kind=lambda: m.of(nodes.NodeKind), parent=lambda: m.id("node"))


def _offer_ownership(m: Maker) -> Values:
    named = m.named("incident", open=True)
    return {"incident": named["id"], "version": named["version"], "to": m.id("node"), "reason": m.text()}


def _presence(m: Maker) -> Values:
    return {"states": [{"id": m.id("node"), "linked": m.often(), "contact_at": m.clock.now()}]}


def _ticks(m: Maker) -> Values:
    row = m.some("incident")
    subject = "registry" if row is None else f"incident/{row.id}"
    stream = {"id": f"{subject}@{m.node.log.node}.{m.node.log.generation}", "subject": subject}
    return {"ticks": [{**stream, "length": m.chance.randrange(9), "at": m.clock.now()}]}


ELSEWHERE: tuple[type, ...] = (
    membership.JoinTree,
    handover.RequestOwnership,
    handover.AnswerTransfer,
    handover.SeizeIncident,
    asking.AskOwner,
    asking.AnswerAsk,
    order.AdoptOrder,
    order.RecallOrder,
)
"""What a node that is alone can't do; `tests/tree` does it."""


def _erase(m: Maker) -> Values:
    one = m.chance.choice(m.told) if m.told else None
    if one is None:
        return {"entry": "00", "stream": "incident/none", "seq": 1, "reason": m.text()}
    return {"entry": one.hash.hex(), "stream": str(one.entry.stream), "seq": one.entry.seq, "reason": m.text()}


MAKE: dict[type, Callable[[Maker], Values]] = {
    registry_edits.SaveOrganisation: _organisation,
    registry_edits.SaveUnit: _unit,
    registry_edits.SetUnitStatus: lambda m: m.named("unit") | {"status": m.of(registry.UnitStatus)},
    registry_edits.SavePerson: _person,
    registry_edits.SetOffDuty: lambda m: m.named("person") | {"off_duty": m.often(0.2)},
    registry_edits.SaveGroup: _group,
    registry_edits.SaveTemplate: _template,
    roster.AddShifts: _shifted,
    roster.RemoveShift: lambda m: m.named("shift"),
    roster.ReplaceShifts: _replace_shifts,
    imports.ImportPersons: _import,
    account.CreateAccount: _create_account,
    account.EditAccount: _edit_account,
    account.SetPassword: lambda m: {"account": m.id("account"), "password_hash": "y", "must_change": m.often()},
    account.SetTotp: _totp,
    account.ChangeLanguage: lambda m: {"account": m.id("account"), "language": m.chance.choice(["zh", "en"])},
    account.Unlock: lambda m: {"account": m.id("account")},
    account.CreateToken: _token,
    account.OpenSession: _open_session,
    account.RefuseSignIn: _refuse,
    account.CloseSession: lambda m: {"id": m.id("session")},
    incident.ReportIncident: _report,
    incident.EditIncident: _edit_incident,
    incident.StepIncident: _step,
    incident.SetLevel: lambda m: m.named("incident", open=True) | {"level": m.of(Level), "reason": m.text()},
    incident.SubReport: _sub_report,
    incident.AddNote: _note,
    incident.AcknowledgeAlarm: lambda m: {"id": m.id("alarm")},
    order.IssueOrder: _issue,
    order.AmendOrder: _amend,
    order.CancelOrder: lambda m: m.named("order", open=True) | {"reason": m.text() if m.often() else ""},
    order.ProgressOrder: _progress,
    plan.SavePlan: _plan,
    deadline.SaveReportRule: _report_rule,
    plan.RequestActivation: _activate,
    plan.DecideActivation: _decide,
    meeting.OpenRoom: _room,
    meeting.CloseRoom: lambda m: {"id": m.id("room", open=True)},
    meeting.MemberFact: _fact,
    meeting.ChairAct: _chair,
    chairing.Knock: _knock,
    chairing.SetControl: _control,
    chairing.SetStanding: _standing,
    chairing.StartPoll: _poll,
    chairing.StopPoll: lambda m: {"room": m.id("room", open=True)},
    floor.MoveFloor: lambda m: {"room": _peopled(m)[0], "move": m.chance.choice([*floor.OWN, floor.Move.RAISE])},
    floor.CallUp: _call_up,
    floor.ClearFloor: lambda m: {"room": m.id("room", open=True), "speakers": m.often()},
    floor.MuteAll: lambda m: {"room": _peopled(m)[0], "on": m.often()},
    roll_call.StartRollCall: lambda m: {"room": _peopled(m)[0], "within_s": 10},
    roll_call.AnswerRollCall: lambda m: {"id": getattr(_running(m), "id", "nobody")},
    roll_call.MarkRollCall: _mark_call,
    roll_call.EndRollCall: lambda m: {"id": getattr(_running(m), "id", "nobody")},
    roll_call.Say: lambda m: {"room": _peopled(m)[0], "text": m.text()},
    schedule.ScheduleMeeting: _schedule,
    schedule.EditMeeting: _edit_meeting,
    schedule.CancelMeeting: lambda m: m.named("schedule", state=schedule.State.PLANNED) | {"notify": m.often(0.2)},
    schedule.BeginMeeting: lambda m: {"id": m.id("schedule", state=schedule.State.PLANNED)},
    minutes.SaveMinutes: _minutes,
    fence.DrawFence: _draw,
    fence.EditFence: _edit_fence,
    fence.RemoveFence: lambda m: m.named("fence"),
    timer.FireTimer: lambda m: {"id": m.id("timer")},
    timer.ReleaseTimer: lambda m: {"id": m.id("timer", held=True), "fire": m.often()},
    timer.HoldTimers: lambda m: {"ids": m.ids("timer")},
    generation.OpenGeneration: _generation,
    presence.NotePresence: _presence,
    presence.NoteTicks: _ticks,
    membership.InviteNode: _invite_node,
    membership.AdmitNode: lambda m: {"invitation": m.id("invitation"), "public_key": m.chance.randbytes(32).hex()},
    membership.EditNode: _edit_node,
    membership.RevokeNode: lambda m: m.named("node") | {"reason": m.text()},
    erasure.EraseEntry: _erase,
    handover.OfferOwnership: _offer_ownership,
    handover.InviteToIncident: lambda m: {"incident": m.id("incident", open=True), "nodes": [m.id("node")]},
    location.RecordFixes: _record,
    broadcast.DraftNotice: _draft,
    broadcast.ReviewNotice: _review,
    broadcast.CancelNotice: lambda m: m.named("notice") | {"reason": m.text()},
    expansion.ResolveNotice: _resolve,
    expansion.ExpandChunk: lambda m: {"id": m.id("chunk")},
    expansion.ProgressNotice: _counts,
    outbox.SubmitMessages: _submit,
    outbox.MarkMessage: _mark,
    outbox.TakeReceipt: _receipt,
    outbox.MarkCrashed: lambda m: {},
    outbox.MarkRestored: lambda m: {},
    outbox.ResendUnknown: lambda m: {"id": m.id("message", state=message.State.UNKNOWN)},
    outbox.SettleMessage: lambda m: {
        "id": m.id("message", state=message.State.UNKNOWN),
        "action": m.of(outbox.Settlement),
    },
    outbox.CancelQueued: lambda m: {"notice": m.id("notice", state=notice.NoticeState.CANCELLED)},
    outbox.ReportGateway: _gateway,
    inbox.TakeInbound: _inbound,
    inbox.HandleInbound: lambda m: {"id": m.id("inbound")},
    inbox.LandText: _land,
    inbox.TellTexts: lambda m: {"ids": m.ids("phone_text")},
    inbox.PruneTexts: lambda m: {"ids": m.ids("phone_text")},
    retention.PruneMessages: lambda m: {
        "notice": m.id("notice", state=notice.NoticeState.FINISHED),
        "before": m.clock.now(),
    },
}

SELDOM: dict[type, float] = {
    outbox.MarkRestored: 0.1,
    outbox.MarkCrashed: 0.2,
    generation.OpenGeneration: 0.2,
    incident.ReportIncident: 0.5,
    registry_edits.SaveOrganisation: 0.3,
    deadline.SaveReportRule: 0.5,
    account.CreateAccount: 0.3,
    meeting.CloseRoom: 0.3,
    schedule.CancelMeeting: 0.3,
    floor.MuteAll: 0.5,
    roll_call.EndRollCall: 0.5,
    inbox.PruneTexts: 0.3,
    fence.RemoveFence: 0.4,
    account.EditAccount: 0.5,
}
