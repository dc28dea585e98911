"""A body for every kind of entry there is, about things whose ids a test chooses: what the product would write, so that a
projector that lets it through has something to digest.
"""

from typing import Any

from command.base.naming import ROOM, bound_id
from tests.tree.pen import REPORT

Said = tuple[dict[str, Any] | None, dict[str, Any]]
"""The private part, and the body."""

AREA = {"type": "Polygon", "coordinates": [[[106.0, 29.0], [106.1, 29.0], [106.1, 29.1], [106.0, 29.0]]]}
TERMS: dict[str, Any] = {
    "report": "first",
    "categories": [],
    "levels": [],
    "sender_tier": "county",
    "recipient_tier": "city",
    "skip_level": False,
    "channel": "writing",
    "clock": "receipt",
    "repeat_s": None,
}
LONG = 4_000_000_000_000_000
"""An instant far off: no timer of these tests fires."""


class Ids:
    """Of everything that one node has: bound to it where that matters. `incident` is a subject's second half."""

    def __init__(self, node: str, incident: str, moment: str = "0", room: str = "") -> None:
        def bound(what: str, within: str) -> str:
            return bound_id(f"{moment}{what}", node, within)

        self.node, self.incident = node, incident
        self.subject = f"incident/{incident}"
        for name in ("order", "fence", "notice", "drafted", "transfer", "ask", "activation", "due"):
            setattr(self, name, bound(name, self.subject))
        self.room, self.planned = room or bound("room", ROOM), bound("planned", ROOM)
        self.line, self.call = bound("line", f"meeting/{self.room}"), bound("call", f"meeting/{self.room}")
        for name in ("organisation", "unit", "person", "group", "template", "plan", "rule", "account", "shift"):
            setattr(self, name, f"{moment}{name}")


def making(x: Ids, to: str) -> dict[str, tuple[str, Said]]:
    """What makes each thing, by kind: the subject ("" is the incident's) and what is said. `to` is another node."""
    plan = {"id": x.plan, "version": 1, "name": "预案", "organisation": x.organisation}
    named: dict[str, Any] = {"name": "名"}
    person = {"version": 1, "organisation": x.organisation, "retired": False}
    words = {"text_zh": "请", "text_en": "please"}
    notice = {
        "kind": "bulletin",
        "recipients": {"persons": [x.person]},
        "urgency": "normal",
        "organisation": x.organisation,
        "incident": x.incident,
        "order": None,
        "room": None,
        "exercise": False,
    }
    registry: dict[str, Said] = {
        "organisation.saved": (named, {"organisation": x.organisation, "version": 1, "tier": "county", "line": []}),
        "person.saved": (named, {"person": x.person, **person}),
        "unit.saved": (named, {"unit": x.unit, "kind": "fire", "members": [], **person}),
        "group.saved": (named, {"group": x.group, "persons": [], **person}),
        "template.saved": (
            named | words,
            {"template": x.template, "kind": "bulletin", "urgency": "normal", **person},
        ),
        "plan.saved": ({"plan": plan}, {"plan": x.plan}),
        "report_rule.saved": (
            named,
            {"report_rule": x.rule, "version": 1, "organisation": x.organisation, "terms": TERMS | {"limit_s": 60}},
        ),
        "roster.changed": (
            None,
            {
                "organisation": x.organisation,
                "removed": [],
                "added": [{"id": x.shift, "person": x.person, "post": "duty", "starts_at": 0, "ends_at": LONG}],
            },
        ),
        "account.created": (
            named,
            {
                "account": x.account,
                "roles": ["duty_officer"],
                "organisation": x.organisation,
                "person": None,
                "unit": None,
                "language": "zh",
                "must_change_password": False,
            },
        ),
    }
    incident: dict[str, Said] = {
        "order.issued": (
            {"task": "侦察"},
            {
                "order": x.order,
                "assignee": {"kind": "unit", "id": x.unit},
                "parties": [],
                "urgency": "normal",
                "ack_by": LONG,
                "due_at": LONG,
                "ladder": [{"after_s": 2_000_000, "means": "duty_leader"}],
                "organisation": x.organisation,
                "exercise": False,
            },
        ),
        "fence.drawn": (
            named,
            {
                "fence": x.fence,
                "geometry": AREA,
                "notes": [],
                "rules": ["enter"],
                "organisation": x.organisation,
                "incident": x.incident,
                "exit_buffer_m": 20.0,
                "dwell_s": 0,
            },
        ),
        "notice.issued": (words, notice | {"notice": x.notice}),
        "notice.drafted": (words, notice | {"notice": x.drafted}),
        "plan.requested": ({"plan": plan}, {"activation": x.activation, "plan": x.plan, "plan_version": 1}),
        "report.due": (
            None,
            {
                **TERMS,
                "due": x.due,
                "rule": x.rule,
                "number": 1,
                "sender": x.organisation,
                "recipient": None,
                "starts_at": 0,
                "due_at": LONG,
                "remind_at": None,
            },
        ),
        "room.opened": ({"title": "会商"}, {"room": x.room, "chair": x.account, "organisation": x.organisation}),
        "room.joined": ({"name": "一"}, {"room": x.room, "member": _member(x)}),
    }
    meeting: dict[str, Said] = {
        "meeting.called": (None, {"room": x.room, "incident": x.incident}),
        "meeting.roll_call_started": (None, {"room": x.room, "roll_call": x.call, "called": ["b"], "ends_at": LONG}),
        "meeting.said": ({"text": "好"}, {"room": x.room, "line": x.line}),
        "meeting.minutes_saved": ({"text": "纪要"}, {"room": x.room}),
        "meeting.knocked": (named, {"room": x.room, "account": "w", "organisation": x.organisation}),
    }
    planned: Said = (
        {"title": "例会", "agenda": ""},
        {
            "room": x.planned,
            "organisation": x.organisation,
            "chair": x.account,
            "incident": None,
            "starts_at": LONG - 2,
            "ends_at": LONG,
            "nodes": [to],
        },
    )
    found = {kind: ("registry", said) for kind, said in registry.items()}
    found |= {kind: ("", said) for kind, said in incident.items()}
    found |= {kind: (f"meeting/{x.room}", said) for kind, said in meeting.items()}
    return found | {"meeting.scheduled": (f"meeting/{x.planned}", planned)}


def _member(x: Ids) -> dict[str, Any]:
    return {"id": "m", "account": x.account, "organisation": x.organisation, "role": "speaker", "joined_at": 5}


def changing(x: Ids, to: str, claim: str) -> dict[str, Said]:
    """What changes these things, by kind. `claim` is the one that stands; `to` another node, for what names one."""
    by_order = {kind: (None, {"order": x.order}) for kind in ("cancelled", "overdue", "late", "undecided")}
    room = {"room": x.room}
    found: dict[str, Said] = {f"order.{kind}": said for kind, said in by_order.items()}
    found |= {
        "incident.reported": (
            {"title": "x"},
            {**REPORT, "organisation": x.organisation},
        ),
        "incident.edited": ({"title": "改"}, {"category": "public_health"}),
        "incident.stepped": (None, {"step": "verify", "to": "verified"}),
        "incident.level_set": ({"reason": "x"}, {"level": "I"}),
        "incident.sub_report": ({"text": "x"}, {"kind": "first", "number": 1, "channel": "writing"}),
        "incident.invited": (None, {"nodes": [to], "parties": ["evil"]}),
        "incident.noted": ({"text": "x"}, {}),
        "incident.ask_answered": (None, {"ask": x.ask, "granted": True}),
        "alarm.acknowledged": (None, {"alarm": f"incident-{x.incident}"}),
        "order.amended": ({"task": "撤回"}, {"order": x.order, "due_at": 1}),
        "order.rung": (None, {"order": x.order, "rung": 7}),
        "order.progressed": ({"text": "x"}, {"order": x.order, "step": "accepted"}),
        "order.adopted": (None, {"order": x.order, "entry": ""}),
        "order.recalled": (None, {"order": x.order, "entry": ""}),
        "ownership.offered": (None, {"transfer": x.transfer, "to": to, "direction": "aside", "claim": claim}),
        "ownership.declined": (None, {"transfer": x.transfer, "claim": claim}),
        "ownership.agreed": (None, {"transfer": x.transfer, "claim": claim}),
        "ownership.transferred": (None, {"transfer": x.transfer, "to": to, "agreed": "00" * 32, "base": {}}),
        "plan.approved": (None, {"activation": x.activation}),
        "plan.refused": (None, {"activation": x.activation}),
        "report.overdue": (None, {"due": x.due}),
        "report.soon": (None, {"due": x.due}),
        "fence.edited": ({"name": "改"}, {"fence": x.fence, "dwell_s": 9}),
        "fence.removed": (None, {"fence": x.fence}),
        "fence.crossed": (None, {"fence": x.fence, "unit": x.unit, "event": "enter", "crossed": False}),
        "notice.reviewed": (None, {"notice": x.drafted, "passed": True}),
        "notice.cancelled": (None, {"notice": x.notice}),
        "notice.progressed": (None, {"notice": x.notice, "counts": {}, "finished": True}),
        "timer.fired": (None, {"timer": f"{x.order}-ack", "kind": "order.overdue"}),
        "timer.dropped": (None, {"timer": f"{x.order}-ack"}),
        "timers.held": (None, {"timers": [f"{x.order}-ack"]}),
        "account.edited": (None, {"account": x.account, "roles": ["security_admin"]}),
        "unit.status_set": (None, {"unit": x.unit, "version": 9, "status": "out_of_service"}),
        "person.off_duty_set": (None, {"person": x.person, "version": 9, "off_duty": True}),
        "room.closed": (None, room),
        "room.left": (None, room | {"member": _member(x)}),
        "room.changed": (None, room | {"member": _member(x) | {"audio": True}}),
        "room.chair_acted": (None, room | {"member": "m", "act": "mute", "kind": "audio"}),
        "meeting.control_set": (None, room | {"locked": True}),
        "meeting.standing_set": (None, room | {"account": "c", "standing": "cochair"}),
        "meeting.knock_ended": (None, room | {"account": "w"}),
        "meeting.floor_moved": (None, room | {"account": x.account, "move": "raise"}),
        "meeting.floor_cleared": (None, room | {"speakers": True}),
        "meeting.all_muted": (None, room | {"on": True}),
        "meeting.poll_started": (None, room | {"sites": [], "interval_s": 9, "audience": "all", "site": "s"}),
        "meeting.polled": (None, room | {"site": "t"}),
        "meeting.poll_stopped": (None, room),
        "meeting.roll_call_replied": (None, room | {"roll_call": x.call, "called": "b", "reply": "answered"}),
        "meeting.roll_call_ended": (None, room | {"roll_call": x.call}),
        "meeting.edited": ({"title": "改"}, {"room": x.planned, "chair": "evil"}),
        "meeting.cancelled": (None, {"room": x.planned}),
        "meeting.reminded": (None, {"room": x.planned}),
    }
    for kind in ("password_changed", "password_reset", "totp_reset", "totp_set"):
        found[f"account.{kind}"] = (None, {"account": x.account})
    return found
