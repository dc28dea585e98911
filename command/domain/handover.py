"""How an incident changes hands: who offers, asks for, agrees to, refuses or seizes it, and whom the owner invites.

Pure. Here are the requests of people; which claim wins is `claim`'s business, and what the entries come to `tenure`'s. Invariant:
a transfer needs the word of both nodes, and the old owner's last entry is the one that hands over; only a superior takes an
incident unasked.
"""

from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft
from command.base.errors import Conflict
from command.base.projection import Context, Decision, Rows
from command.base.schema import Id, SomeText, Struct, Text, Version, fresh, need
from command.base.timer import HANDLERS, Timer
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Incident
from command.domain.nodes import NODE, above, line
from command.domain.tenure import TRANSFER, Direction, Transfer, TransferState, owned_here
from command.tree.claim import AGREED, SEIZED, TRANSFERRED

NODES_MAX = 50


class OfferOwnership(Struct, frozen=True, kw_only=True):
    """The owner wants `to` to take the incident over: its superior (提级), one below, or another."""

    incident: Id
    version: Version
    to: Id
    reason: SomeText


class RequestOwnership(Struct, frozen=True, kw_only=True):
    """Somebody at another node asks the owner to hand the incident over to that node; this agrees to it in advance."""

    incident: Id
    reason: SomeText


class AnswerTransfer(Struct, frozen=True, kw_only=True):
    """The asked side's word: the node `to` on an offer, the owner on a request."""

    id: Id
    version: Version
    agree: bool
    reason: Text = ""


class SeizeIncident(Struct, frozen=True, kw_only=True):
    """A superior takes the incident over without asking."""

    incident: Id
    version: Version
    reason: SomeText


class InviteToIncident(Struct, frozen=True, kw_only=True):
    """Share the incident's streams with other nodes. Nobody is ever taken off again."""

    incident: Id
    nodes: Annotated[list[Id], Meta(min_length=1, max_length=NODES_MAX)]


def direction(rows: Rows, owner: str, to: str) -> Direction:
    if to in line(rows, owner):
        return Direction.RAISE
    return Direction.HAND_DOWN if owner in line(rows, to) else Direction.ASIDE


def decide_offer(rows: Rows, request: OfferOwnership, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.transfer", incidents.scope(incident))
    fresh(incident, request.version, request)
    owned_here(incident, context)
    to = need(rows, NODE, request.to)
    if to.id == context.node or to.revoked is not None:
        raise Conflict("ownership.to", "Name another node that has not been revoked.")
    if any(
        row.to == to.id and row.state is TransferState.OFFERED for row in rows.where(TRANSFER, incident=incident.id)
    ):
        raise Conflict("ownership.offered", "This has been offered to that node already.")
    key = context.bound_id(incident.subject)
    body = {
        "transfer": key,
        "to": to.id,
        "direction": direction(rows, context.node, to.id),
        "claim": incident.claim,
        "nodes": [to.id],
        "parties": [] if to.organisation is None else [to.organisation],
    }
    # The invitation is a decision: it shares the incident with a node that may not have had it.
    invited = {"nodes": body["nodes"], "parties": body["parties"]}
    drafts = [Draft(subject=incident.subject, kind="incident.invited", body=invited)]
    private = {"reason": request.reason}
    return Decision(
        drafts=[*drafts, Draft(subject=incident.subject, kind="ownership.offered", body=body, private=private)], id=key
    )


def decide_request(rows: Rows, request: RequestOwnership, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.transfer", incidents.scope(incident))
    if incident.owner == context.node:
        raise Conflict("ownership.mine", "This node owns the incident already.")
    here = need(rows, NODE, context.node)
    key = context.bound_id(incident.subject)
    body = {
        "transfer": key,
        "to": context.node,
        "direction": direction(rows, incident.owner, context.node),
        "claim": incident.claim,
        "parties": [] if here.organisation is None else [here.organisation],
    }
    drafts = [
        Draft(subject=incident.subject, kind="ownership.requested", body=body, private={"reason": request.reason}),
        Draft(subject=incident.subject, kind=AGREED, body={"transfer": key, "claim": incident.claim}),
    ]
    return Decision(drafts=drafts, id=key)


def decide_answer(rows: Rows, request: AnswerTransfer, context: Context) -> Decision:
    transfer = need(rows, TRANSFER, request.id)
    incident = need(rows, INCIDENT, transfer.incident)
    here = rows.get(NODE, context.node)
    if (
        here is None
        or here.organisation is None
        or not context.may("incident.transfer", replace(incidents.scope(incident), organisation=here.organisation))
    ):
        context.allow("incident.transfer", incidents.scope(incident))
    fresh(transfer, request.version, request)
    offered, requested = transfer.state is TransferState.OFFERED, transfer.state is TransferState.REQUESTED
    asked = transfer.to if offered else transfer.owner
    if not (offered or requested) or transfer.claim != incident.claim:
        raise Conflict("ownership.answered", "This has been answered, or somebody else owns the incident by now.")
    if asked != context.node:
        raise Conflict("ownership.not_asked", "Another node was asked.", node=asked)
    private = {"reason": request.reason} if request.reason else None
    body: dict[str, Any] = {"transfer": transfer.id, "claim": incident.claim}
    if not request.agree:
        draft = Draft(subject=incident.subject, kind="ownership.declined", body=body, private=private)
    elif offered:
        draft = Draft(subject=incident.subject, kind=AGREED, body=body, private=private)
    else:
        draft = _transferred(rows, incident, transfer, request.reason)
    return Decision(drafts=[draft], id=transfer.id)


def _transferred(rows: Rows, incident: Incident, transfer: Transfer, reason: str = "") -> Draft:
    """The log adds `base`: the lengths and heads of the owner's streams, which this very entry ends."""
    seat = rows.get(NODE, transfer.to)
    body = {
        "transfer": transfer.id,
        "to": transfer.to,
        "agreed": transfer.agreed,
        "direction": transfer.direction,
        "nodes": [transfer.to],
        "parties": [] if seat is None or seat.organisation is None else [seat.organisation],
    }
    private = {"reason": reason} if reason else None
    return Draft(subject=incident.subject, kind=TRANSFERRED, body=body, private=private)


def decide_seize(rows: Rows, request: SeizeIncident, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.seize", incidents.scope(incident))
    fresh(incident, request.version, request)
    if not above(rows, context.node, incident.owner):
        raise Conflict("ownership.not_superior", "Only a node above the owner's can take an incident over.")
    here = rows.get(NODE, context.node)
    parties = [] if here is None or here.organisation is None else [here.organisation]
    draft = Draft(subject=incident.subject, kind=SEIZED, body={"parties": parties}, private={"reason": request.reason})
    return Decision(drafts=[draft], id=incident.id)


def decide_invite(rows: Rows, request: InviteToIncident, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.transfer", incidents.scope(incident))
    seats = [need(rows, NODE, key) for key in request.nodes]
    parties = sorted({seat.organisation for seat in seats if seat.organisation is not None})
    body = {"nodes": sorted(set(request.nodes)), "parties": parties}
    return Decision(drafts=[Draft(subject=incident.subject, kind="incident.invited", body=body)], id=incident.id)


def _hand_over(rows: Rows, timer: Timer, context: Context) -> list[Draft]:
    """The new owner has agreed: the old one's last decision."""
    transfer = rows.get(TRANSFER, timer.about)
    incident = None if transfer is None else rows.get(INCIDENT, transfer.incident)
    if transfer is None or incident is None or incident.owner != context.node or incident.claim != transfer.claim:
        return []
    return [] if transfer.state is not TransferState.AGREED else [_transferred(rows, incident, transfer)]


HANDLERS |= {"ownership.transfer": _hand_over}


DECIDERS = {
    OfferOwnership: decide_offer,
    RequestOwnership: decide_request,
    AnswerTransfer: decide_answer,
    SeizeIncident: decide_seize,
    InviteToIncident: decide_invite,
}
