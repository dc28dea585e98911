"""Tenure: the terms in which nodes own an incident, the transfers between them, and what was decided too late.

Pure. Which claim wins is `claim`'s business, what people ask for `handover`'s; here are the rows of both. Invariant: only
the owner's node decides about an incident; everybody else writes contributions, of which asking the owner is one.
"""

from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Editing, Row, Table
from command.base.schema import Id, Instant, ShortText, Text
from command.base.timer import Timer, arm
from command.domain import incident as incidents
from command.domain.incident import INCIDENT, Incident
from command.tree.claim import AGREED, CLAIM_KINDS, DECISION_KINDS, REPORTED, SEIZED, TRANSFERRED, Verdict


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


def _of_incident(row: Any) -> tuple[str, ...]:
    return (f"incident/{row.incident}",)


TRANSFER = Table(
    name="transfer",
    row=Transfer,
    index=("incident", "state"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)
TERM = Table(name="term", row=Term, index=("incident",), topics=_of_incident)
LATE = Table(name="late", row=Late, index=("incident", "verdict"), topics=_of_incident)


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


def about(incident: Incident) -> dict[str, Any]:
    """What a row about an incident repeats of it."""
    return {"incident": incident.id, "organisation": incident.organisation, "parties": incident.parties}


def owned_here(incident: Incident, context: Context) -> None:
    """Raises `Conflict("incident.elsewhere")` naming the owner, when that is another node."""
    if incident.owner != context.node:
        raise Conflict("incident.elsewhere", "Another node owns this incident.", owner=incident.owner)


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
        **about(rows.get(INCIDENT, incident.id) or incident),
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
        **about(incident),
    )


def _invited(rows: Editing, written: Written) -> None:
    incidents.bind(rows, written, written.entry.body.get("parties", []))


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
        **about(incident) | ({"parties": []} if stranger else {}),
    )
    rows.put(LATE, row)


TABLES = (TRANSFER, TERM, LATE)
PROJECTORS = {
    "ownership.offered": _asked_for,
    "ownership.requested": _asked_for,
    "ownership.declined": _declined,
    AGREED: _agreed,
    TRANSFERRED: _claimed,
    SEIZED: _claimed,
    "incident.invited": _invited,
}
