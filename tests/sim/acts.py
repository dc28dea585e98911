"""What the people of a simulated node do: small drafts of the kinds that the product writes, from what the node sees."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from command.base.entry import Draft
from command.base.naming import bound_id
from command.tree.picture import Picture

LEVELS = ("I", "II", "III", "IV")
STEPS = (
    ("verify", "verified"),
    ("respond", "responding"),
    ("stabilise", "stable"),
    ("close", "closed"),
    ("reopen", "responding"),
)


class View:
    """One incident as a node sees it."""

    def __init__(self, subject: str, picture: Picture) -> None:
        self.subject, self.picture = subject, picture
        self.owner = picture.owner
        self.claim = picture.chain[-1].id if picture.chain else None
        self.closed = False
        self.orders: dict[str, str] = {}
        self.open_orders: set[str] = set()
        self.adopted: set[str] = set()
        self.agreed: list[tuple[str, str]] = []
        for one in picture.counting():
            body, kind = one.entry.body, one.entry.kind
            if kind == "order.issued":
                self.orders[body["order"]] = body["node"]
                self.open_orders.add(body["order"])
            elif kind == "order.cancelled" or (kind == "order.progressed" and body["step"] in ("done", "declined")):
                self.open_orders.discard(body["order"])
            elif kind == "incident.stepped":
                self.closed = body["to"] == "closed"
            elif kind == "ownership.agreed" and body["claim"] == self.claim:
                self.agreed.append((one.entry.origin, one.hash.hex()))

    def late_orders(self) -> list[str]:
        return [one.hash.hex() for one in self.picture.late() if one.entry.kind == "order.issued"]


def report(subject: str, uid: str, node: str, rng: Random) -> Draft:
    body: dict[str, Any] = {
        "uid": uid,
        "category": "accident",
        "level": rng.choice(LEVELS),
        "organisation": node,
        "lon": 118.8,
        "lat": 32.1,
        "area": None,
        "area_notes": [],
        "source": "phone",
        "casualties": {},
        "occurred_at": 0,
        "exercise": False,
    }
    return Draft(subject=subject, kind="incident.reported", body=body, private={"title": f"fire {uid}"})


def decide(view: View, uid: str, rng: Random, targets: list[str], base: dict[str, list[tuple[int, str]]]) -> Draft:
    """Something that the owner decides."""

    def draft(entry_kind: str, private: dict[str, Any] | None = None, /, **body: Any) -> Draft:
        return Draft(
            subject=view.subject, kind=entry_kind, body={"uid": uid, **body}, private=private, claim=view.claim
        )

    late = [key for key in view.late_orders() if key not in view.adopted]
    if late and rng.random() < 0.3:
        return draft("order.adopted", entry=rng.choice(late), order="")
    if view.agreed and rng.random() < 0.6:
        to, agreed = rng.choice(view.agreed)
        return draft("ownership.transferred", to=to, agreed=agreed, base=msgspec.to_builtins(base), direction="raise")
    roll = rng.random()
    if roll < 0.3:
        return draft("incident.edited", {"title": f"title {uid}"})
    if roll < 0.55 and targets:
        node = rng.choice(targets)
        assignee = {"kind": "organisation", "id": node}
        return draft(
            "order.issued",
            {"task": f"task {uid}"},
            order=bound_id(uid, view.owner or "", view.subject),
            node=node,
            assignee=assignee,
            parties=[node],
            urgency="normal",
            ack_by=None,
            due_at=None,
            ladder=[],
            organisation=view.owner,
            exercise=False,
        )
    if roll < 0.65 and view.open_orders:
        return draft("order.cancelled", order=rng.choice(sorted(view.open_orders)))
    if roll < 0.75:
        return draft("incident.level_set", {"reason": "it grows"}, level=rng.choice(LEVELS))
    if roll < 0.9:
        step, to = rng.choice(STEPS)
        return draft("incident.stepped", step=step, to=to)
    return draft("incident.sub_report", {"text": f"report {uid}"}, kind="follow_up", number=1)


def contribute(view: View, uid: str, rng: Random, me: str) -> Draft:
    """Something that anybody concerned may say."""

    def draft(entry_kind: str, private: dict[str, Any] | None = None, /, **body: Any) -> Draft:
        return Draft(subject=view.subject, kind=entry_kind, body={"uid": uid, **body}, private=private)

    mine = [order for order, node in sorted(view.orders.items()) if node == me]
    if mine and rng.random() < 0.5:
        step = rng.choice(("delivered", "read", "accepted", "declined", "reported", "done"))
        return draft("order.progressed", order=rng.choice(mine), step=step)
    if view.owner != me and view.claim and rng.random() < 0.4:
        return draft("ownership.agreed", claim=view.claim)
    return draft("incident.noted", {"text": f"note {uid}"})


def trespass(subject: str, claim: str, me: str, rng: Random, uid: Callable[[], str]) -> list[Draft]:
    """What somebody may try who has heard of an incident, and was never given it."""

    def draft(kind: str, under: str | None = claim, /, **body: Any) -> Draft:
        return Draft(subject=subject, kind=kind, body={"uid": uid(), "trespass": True, **body}, claim=under)

    forged = report(subject, uid(), me, rng)
    order = {
        "order": bound_id(uid(), me, subject),
        "node": me,
        "assignee": {"kind": "organisation", "id": me},
        "parties": [me],
    }
    order |= {"urgency": "normal", "ack_by": None, "due_at": None, "ladder": [], "organisation": me, "exercise": False}
    tried = [
        Draft(subject=subject, kind=forged.kind, body=forged.body | {"trespass": True}, private=forged.private),
        draft("incident.invited", nodes=[me]),
        draft("incident.invited", None, nodes=[me]),
        draft("incident.level_set", level="I"),
        draft("order.issued", **order),
        draft("ownership.requested", None, to=me, node=me, nodes=[me]),
        draft("ownership.agreed", None, claim=claim),
        draft("ownership.transferred", to=me, agreed=claim, base={}),
        draft("ownership.seized", base={}),
        draft("incident.noted", None),
    ]
    return rng.sample(tried, 4)


def seize(view: View, uid: str, base: dict[str, list[tuple[int, str]]]) -> Draft:
    body = {"uid": uid, "claim": view.claim, "base": msgspec.to_builtins(base)}
    return Draft(
        subject=view.subject, kind="ownership.seized", body=body, private={"reason": "it is ours"}, claim=view.claim
    )
