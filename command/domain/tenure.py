"""Terms of ownership in the domain: who offers, asks, agrees, transfers, seizes; and what was decided too late.

Pure. Which claim wins is `claim`'s business; here are the requests of people, and the rows that screens show. Invariant: only
the owner's node decides about an incident; everybody else writes contributions, of which asking the owner is one.
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.schema import Id, Instant, ShortText, SomeText, Struct, Text, Version, fresh, need
from command.base.timer import HANDLERS, TIMER, Timer, arm
from command.domain import incident as incidents
from command.domain.fence import FENCE
from command.domain.incident import ALARM, INCIDENT, Incident
from command.domain.nodes import NODE, above, line
from command.domain.notice import NOTICE
from command.domain.order import ORDER
from command.domain.owing import REPORT_DUE
from command.domain.plan import ACTIVATION
from command.tree.claim import AGREED, CLAIM_KINDS, DECISION_KINDS, REPORTED, SEIZED, TRANSFERRED, Verdict

NODES_MAX = 50


class Direction(StrEnum):
    """Of a transfer in the tree: 提级 upward, downward, or aside."""

    RAISE = "raise"
    HAND_DOWN = "hand_down"
    ASIDE = "aside"


class TransferState(StrEnum):
    OFFERED = "offered"
    REQUESTED = "requested"
    AGREED = "agreed"
    DECLINED = "declined"
    DONE = "done"
    LAPSED = "lapsed"


class Transfer(Row, frozen=True, kw_only=True):
    """An offer by the owner, or a request to it, to hand the incident over to the node `to`. `agreed` is the hash of the
    entry by which that node agreed; LAPSED: somebody else came to own the incident first."""

    incident: Id
    owner: str
    to: Id
    direction: Direction
    claim: str
    state: TransferState
    organisation: Id
    parties: list[Id] = []
    agreed: str | None = None
    reason: Text = ""
    answer: Text = ""
    asked_by: Id
    asked_at: Instant


class Term(Row, frozen=True, kw_only=True):
    """A claim after the first: a transfer or a seizure. `standing` False: it lost to another one."""

    incident: Id
    kind: ShortText
    owner: str
    issuer: str
    direction: Direction | None = None
    standing: bool = True
    organisation: Id
    parties: list[Id] = []
    reason: Text = ""
    by: Id
    at: Instant


class Late(Row, frozen=True, kw_only=True):
    """An entry without effect, by its hash: written under a claim that lost or had ended, by a stranger or a revoked node."""

    incident: Id
    kind: ShortText
    verdict: Verdict
    origin: str
    order: Id | None = None
    organisation: Id
    parties: list[Id] = []
    by: Id
    at: Instant


class Ask(Row, frozen=True, kw_only=True):
    """What somebody elsewhere asks of the incident's owner."""

    incident: Id
    node: str
    what: ShortText
    text: Text = ""
    organisation: Id
    parties: list[Id] = []
    open: bool = True
    granted: bool | None = None
    answer: Text = ""
    asked_by: Id
    asked_at: Instant


def _topics(row: Any) -> tuple[str, ...]:
    return ("picture", f"incident/{row.incident}")


def _of_incident(row: Any) -> tuple[str, ...]:
    return (f"incident/{row.incident}",)


TRANSFER = Table(name="transfer", row=Transfer, index=("incident", "state"), topics=_topics)
TERM = Table(name="term", row=Term, index=("incident",), topics=_of_incident)
LATE = Table(name="late", row=Late, index=("incident", "verdict"), topics=_of_incident)
ASK = Table(name="ask", row=Ask, index=("incident", "open"), topics=_topics)

ABOUT_INCIDENT: tuple[Table[Any], ...] = (
    INCIDENT,
    ALARM,
    ORDER,
    ACTIVATION,
    NOTICE,
    FENCE,
    TIMER,
    TRANSFER,
    TERM,
    LATE,
    ASK,
    REPORT_DUE,
)
"""The rows that are a function of an incident's entries. Rooms are not: who is in one is told by the node that holds it."""
OWNERS_TIMERS = ("order.", "ownership.", "report.")
"""Kinds of timers that run only where the incident is owned; any other runs where it was set."""


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


class AskOwner(Struct, frozen=True, kw_only=True):
    """What the owner should do: `what` names the command it would be here, `text` says it in words."""

    incident: Id
    what: ShortText
    text: SomeText


class AnswerAsk(Struct, frozen=True, kw_only=True):
    id: Id
    granted: bool
    reason: Text = ""


class InviteToIncident(Struct, frozen=True, kw_only=True):
    """Share the incident's streams with other nodes. Nobody is ever taken off again."""

    incident: Id
    nodes: Annotated[list[Id], Meta(min_length=1, max_length=NODES_MAX)]


def settle(draft: Draft, incident: Incident, node: str) -> Draft:
    """A draft about an incident as this node may write it: decisions under the standing claim, contributions under none.

    Raises `Conflict("incident.elsewhere")` naming the owner for a decision about another node's incident.
    """
    if draft.kind in DECISION_KINDS:
        if incident.owner != node:
            hint = "Another node owns this incident; ask it, or take part by notes and progress."
            raise Conflict("incident.elsewhere", hint, owner=incident.owner)
        return draft if draft.claim == incident.claim else replace(draft, claim=incident.claim)
    if draft.kind in CLAIM_KINDS:
        return replace(draft, claim=incident.claim)
    return draft if draft.claim is None else replace(draft, claim=None)


def _bound(incident: Incident) -> dict[str, Any]:
    return {"incident": incident.id, "organisation": incident.organisation, "parties": incident.parties}


def _mine(incident: Incident, context: Context) -> None:
    if incident.owner != context.node:
        raise Conflict("incident.elsewhere", "Another node owns this incident.", owner=incident.owner)


def direction(rows: Rows, owner: str, to: str) -> Direction:
    if to in line(rows, owner):
        return Direction.RAISE
    return Direction.HAND_DOWN if owner in line(rows, to) else Direction.ASIDE


def decide_offer(rows: Rows, request: OfferOwnership, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.transfer", incidents.scope(incident))
    fresh(incident, request.version, request)
    _mine(incident, context)
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


def decide_ask(rows: Rows, request: AskOwner, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.note", incidents.scope(incident))
    if incident.owner == context.node:
        raise Conflict("ownership.mine", "This node owns the incident; decide it here.")
    key = context.bound_id(incident.subject)
    body = {"ask": key, "what": request.what}
    draft = Draft(subject=incident.subject, kind="incident.asked", body=body, private={"text": request.text})
    return Decision(drafts=[draft], id=key)


def decide_asked(rows: Rows, request: AnswerAsk, context: Context) -> Decision:
    ask = need(rows, ASK, request.id)
    incident = need(rows, INCIDENT, ask.incident)
    context.allow("incident.edit", incidents.scope(incident))
    _mine(incident, context)
    if not ask.open:
        raise Conflict("ask.answered", "This has been answered already.")
    body = {"ask": ask.id, "granted": request.granted}
    private = {"reason": request.reason} if request.reason else None
    return Decision(
        drafts=[Draft(subject=incident.subject, kind="incident.ask_answered", body=body, private=private)], id=ask.id
    )


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


# -- folding


def _asked_for(rows: Editing, written: Written) -> None:
    entry, body, incident = written.entry, written.entry.body, incidents.of(rows, written)
    offered = entry.kind == "ownership.offered"
    if incident is None or (offered and (entry.origin != incident.owner or body["claim"] != incident.claim)):
        return
    if not offered and body["to"] != entry.origin:
        return
    if not bound(body["transfer"], entry) or rows.get(TRANSFER, body["transfer"]) is not None:
        return
    if offered:
        incidents.bind(rows, written, body.get("parties", []))
    row = Transfer(
        id=body["transfer"],
        owner=incident.owner,
        to=body["to"],
        direction=Direction(body["direction"]),
        claim=body["claim"],
        state=TransferState.OFFERED if offered else TransferState.REQUESTED,
        reason=written.secrets.get("reason", ""),
        asked_by=entry.by.account,
        asked_at=entry.at,
        **_bound(rows.get(INCIDENT, incident.id) or incident),
    )
    rows.add(TRANSFER, row)


def _agreed(rows: Editing, written: Written) -> None:
    entry = written.entry
    transfer = rows.get(TRANSFER, entry.body.get("transfer", ""))
    if transfer is None or transfer.to != entry.origin or transfer.claim != entry.body["claim"]:
        return
    agreed = replace(transfer, version=transfer.version + 1, agreed=written.hash.hex())
    if transfer.state is not TransferState.OFFERED:
        rows.put(TRANSFER, agreed)
        return
    rows.put(TRANSFER, replace(agreed, state=TransferState.AGREED, answer=written.secrets.get("reason", "")))
    subject = f"incident/{transfer.incident}"
    arm(rows, Timer(id=f"{transfer.id}-go", kind="ownership.transfer", subject=subject, about=transfer.id, due_at=0))


def _declined(rows: Editing, written: Written) -> None:
    transfer = rows.get(TRANSFER, written.entry.body["transfer"])
    if transfer is None or transfer.state not in (TransferState.OFFERED, TransferState.REQUESTED):
        return
    asked = transfer.to if transfer.state is TransferState.OFFERED else transfer.owner
    if written.entry.origin == asked:  # nobody answers for another
        answer = written.secrets.get("reason", "")
        rows.put(TRANSFER, replace(transfer, version=transfer.version + 1, state=TransferState.DECLINED, answer=answer))


def _claimed(rows: Editing, written: Written) -> None:
    """A claim that stands: from here on another node decides."""
    entry, body, incident = written.entry, written.entry.body, incidents.of(rows, written)
    if incident is None:
        return
    seized = entry.kind == SEIZED
    owner = entry.origin if seized else body["to"]
    incidents.bind(rows, written, body.get("parties", []))
    incident = rows.get(INCIDENT, incident.id) or incident
    incidents.touch(rows, incident, written, owner=owner, claim=written.hash.hex())
    rows.put(TERM, _term(written, incident, owner, standing=True))
    for transfer in rows.where(TRANSFER, incident=incident.id):
        if transfer.state in (TransferState.OFFERED, TransferState.REQUESTED, TransferState.AGREED):
            done = transfer.id == body.get("transfer")
            state = TransferState.DONE if done else TransferState.LAPSED
            rows.put(TRANSFER, replace(transfer, version=transfer.version + 1, state=state))


def _term(written: Written, incident: Incident, owner: str, *, standing: bool) -> Term:
    entry = written.entry
    way = entry.body.get("direction")
    return Term(
        id=written.hash.hex(),
        kind=entry.kind,
        owner=owner,
        issuer=entry.origin,
        direction=None if way is None else Direction(way),
        standing=standing,
        reason=written.secrets.get("reason", ""),
        by=entry.by.account,
        at=entry.at,
        **_bound(incident),
    )


def _invited(rows: Editing, written: Written) -> None:
    incidents.bind(rows, written, written.entry.body.get("parties", []))


def _asked(rows: Editing, written: Written) -> None:
    entry, incident = written.entry, incidents.of(rows, written)
    if incident is not None and bound(entry.body["ask"], entry):
        row = Ask(
            id=entry.body["ask"],
            node=entry.origin,
            what=entry.body["what"],
            text=written.secrets.get("text", ""),
            asked_by=entry.by.account,
            asked_at=entry.at,
            **_bound(incident),
        )
        rows.add(ASK, row)


def _ask_answered(rows: Editing, written: Written) -> None:
    body, incident = written.entry.body, incidents.of(rows, written)
    ask = rows.get(ASK, body["ask"])
    if ask is not None and ask.open and incident is not None and incident.owner == written.entry.origin:
        answer = written.secrets.get("reason", "")
        rows.put(ASK, replace(ask, version=ask.version + 1, open=False, granted=bool(body["granted"]), answer=answer))


def note_late(rows: Editing, written: Written, verdict: Verdict) -> None:
    """Keep an entry without effect where people see it; called for every one when its incident is folded anew."""
    entry, incident = written.entry, incidents.of(rows, written)
    if incident is None:
        return
    stranger = verdict is Verdict.STRANGER
    if entry.kind in CLAIM_KINDS and entry.kind != REPORTED and not stranger:
        owner = entry.origin if entry.kind == SEIZED else str(entry.body.get("to", ""))
        rows.put(TERM, _term(written, incident, owner, standing=False))
    order = entry.body.get("order")
    row = Late(
        id=written.hash.hex(),
        kind=entry.kind,
        verdict=verdict,
        origin=entry.origin,
        order=order if isinstance(order, str) else None,
        by=entry.by.account,
        at=entry.at,
        # A stranger's word is its organisation's affair: whoever is called to the incident later need not see it.
        **_bound(incident) | ({"parties": []} if stranger else {}),
    )
    rows.put(LATE, row)


TABLES = (TRANSFER, TERM, LATE, ASK)
PROJECTORS = {
    "ownership.offered": _asked_for,
    "ownership.requested": _asked_for,
    "ownership.declined": _declined,
    AGREED: _agreed,
    TRANSFERRED: _claimed,
    SEIZED: _claimed,
    "incident.invited": _invited,
    "incident.asked": _asked,
    "incident.ask_answered": _ask_answered,
}
DECIDERS = {
    OfferOwnership: decide_offer,
    RequestOwnership: decide_request,
    AnswerTransfer: decide_answer,
    SeizeIncident: decide_seize,
    AskOwner: decide_ask,
    AnswerAsk: decide_asked,
    InviteToIncident: decide_invite,
}
