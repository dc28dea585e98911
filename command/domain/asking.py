"""What somebody elsewhere asks of an incident's owner, and the owner's answer.

Pure. Asking is a contribution: it changes nothing by itself, and a granted wish becomes a decision only when the owner makes one.
Invariant: an ask is answered once, by the node that owns the incident.
"""

from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.errors import Conflict
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.schema import Id, Instant, ShortText, SomeText, Struct, Text, need
from command.domain import incident as incidents
from command.domain.incident import INCIDENT
from command.domain.tenure import about, owned_here


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


ASK = Table(
    name="ask",
    row=Ask,
    index=("incident", "open"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)


class AskOwner(Struct, frozen=True, kw_only=True):
    """What the owner should do: `what` names the command it would be here, `text` says it in words."""

    incident: Id
    what: ShortText
    text: SomeText


class AnswerAsk(Struct, frozen=True, kw_only=True):
    id: Id
    granted: bool
    reason: Text = ""


def decide_ask(rows: Rows, request: AskOwner, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("incident.note", incidents.scope(incident))
    if incident.owner == context.node:
        raise Conflict("ownership.mine", "This node owns the incident; decide it here.")
    key = context.bound_id(incident.subject)
    body = {"ask": key, "what": request.what}
    draft = Draft(subject=incident.subject, kind="incident.asked", body=body, private={"text": request.text})
    return Decision(drafts=[draft], id=key)


def decide_answer(rows: Rows, request: AnswerAsk, context: Context) -> Decision:
    ask = need(rows, ASK, request.id)
    incident = need(rows, INCIDENT, ask.incident)
    context.allow("incident.edit", incidents.scope(incident))
    owned_here(incident, context)
    if not ask.open:
        raise Conflict("ask.answered", "This has been answered already.")
    body = {"ask": ask.id, "granted": request.granted}
    private = {"reason": request.reason} if request.reason else None
    return Decision(
        drafts=[Draft(subject=incident.subject, kind="incident.ask_answered", body=body, private=private)], id=ask.id
    )


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
            **about(incident),
        )
        rows.add(ASK, row)


def _ask_answered(rows: Editing, written: Written) -> None:
    body, incident = written.entry.body, incidents.of(rows, written)
    ask = rows.get(ASK, body["ask"])
    if ask is not None and ask.open and incident is not None and incident.owner == written.entry.origin:
        answer = written.secrets.get("reason", "")
        rows.put(ASK, replace(ask, version=ask.version + 1, open=False, granted=bool(body["granted"]), answer=answer))


TABLES = (ASK,)
PROJECTORS = {
    "incident.asked": _asked,
    "incident.ask_answered": _ask_answered,
}
DECIDERS = {
    AskOwner: decide_ask,
    AnswerAsk: decide_answer,
}
