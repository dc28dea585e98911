"""Random requests about the node itself and its tree: timers, generations, presence, nodes, erasing, who owns an incident."""

from collections.abc import Callable

from command.base import timer
from command.domain import erasure, generation, handover, membership, nodes, presence
from tests.durability.maker import Maker, Values


def _generation(m: Maker) -> Values:
    return {"id": m.clock.token(), "public_key": "00", "restored": m.often(), "after": {"s@n.g": [3, "ab"]}}


def _presence(m: Maker) -> Values:
    return {"states": [{"id": m.id("node"), "linked": m.often(), "contact_at": m.clock.now()}]}


def _ticks(m: Maker) -> Values:
    row = m.some("incident")
    subject = "registry" if row is None else f"incident/{row.id}"
    stream = {"id": f"{subject}@{m.node.log.node}.{m.node.log.generation}", "subject": subject}
    return {"ticks": [{**stream, "length": m.chance.randrange(9), "at": m.clock.now()}]}


def _node(m: Maker) -> Values:
    kind = {"kind": m.of(nodes.NodeKind), "level": m.of(nodes.NodeLevel)}
    return {"name": m.name(), **kind, "organisation": m.id("organisation") if m.often() else None}


def _invite_node(m: Maker) -> Values:
    return _node(m) | {"code": "".join(m.chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=20))}


def _edit_node(m: Maker) -> Values:
    return m.named("node") | m.picked(name=m.name, kind=lambda: m.of(nodes.NodeKind), parent=lambda: m.id("node"))


def _erase(m: Maker) -> Values:
    one = m.chance.choice(m.told) if m.told else None
    if one is None:
        return {"entry": "00" * 32, "stream": "incident/none", "seq": 1, "reason": m.text()}
    return {"entry": one.hash.hex(), "stream": str(one.entry.stream), "seq": one.entry.seq, "reason": m.text()}


def _offer_ownership(m: Maker) -> Values:
    named = m.named("incident", open=True)
    return {"incident": named["id"], "version": named["version"], "to": m.id("node"), "reason": m.text()}


MAKE: dict[type, Callable[[Maker], Values]] = {
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
}
SELDOM: dict[type, float] = {
    generation.OpenGeneration: 0.2,
}
