"""A plan: what an emergency of this kind sets in motion, and its activation.

Pure. Invariant: nothing happens before the named role approves; then orders, notice, room and fence are *one* decision.
The plan's text as it was at the request is frozen in the activation; a later edit of the plan changes nothing there.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field
from msgspec.structs import replace

from command.base.area import checked
from command.base.entry import Draft, Written
from command.base.errors import Conflict, Rejected
from command.base.naming import bound
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import Role, Scope
from command.base.schema import (
    Category,
    Geometry,
    Id,
    Instant,
    Level,
    Name,
    Party,
    Seconds,
    SomeText,
    Struct,
    Text,
    Urgency,
    Value,
    Version,
    fresh,
    need,
)
from command.domain import incident as incidents
from command.domain.fence import RULES_DEFAULT, Rule, Rules, fence_draft
from command.domain.incident import INCIDENT, Incident
from command.domain.issuing import order_draft
from command.domain.meeting import room_drafts
from command.domain.notice import NoticeKind, Recipients, notice_draft
from command.domain.order import IssueOrder, Ladder, parties_of
from command.domain.registry import ORGANISATION, SUBJECT

ORDERS_MAX = 50
BUFFER_DEFAULT_M = 1_000


class PlannedOrder(Value, frozen=True, kw_only=True):
    assignee: Party
    task: SomeText
    urgency: Urgency = Urgency.EMERGENCY
    ack_within_s: Seconds | None = 600
    due_in_s: Seconds | None = None
    ladder: Ladder | None = None


class PlannedNotice(Value, frozen=True, kw_only=True):
    text_zh: SomeText
    text_en: SomeText
    recipients: Recipients
    urgency: Urgency = Urgency.EMERGENCY


class PlannedRoom(Value, frozen=True, kw_only=True):
    title: Name


class PlannedFence(Value, frozen=True, kw_only=True):
    """Around the incident's area, or a circle of `radius_m` about its place when it has none."""

    name: Name
    radius_m: Annotated[float, Meta(ge=10, le=100_000)] = BUFFER_DEFAULT_M
    rules: Rules = field(default_factory=lambda: list(RULES_DEFAULT))


class Plan(Row, frozen=True, kw_only=True):
    name: Name
    organisation: Id
    categories: list[Category] = []
    levels: list[Level] = []
    approver: Role = Role.LEADER
    orders: Annotated[list[PlannedOrder], Meta(max_length=ORDERS_MAX)] = []
    notice: PlannedNotice | None = None
    room: PlannedRoom | None = None
    fence: PlannedFence | None = None
    retired: bool = False


PLAN = Table(name="plan", row=Plan, index=("organisation", "retired"), topics=lambda row: ("picture", "admin"))


class ActivationState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"


class Activation(Row, frozen=True, kw_only=True):
    """`plan` is the whole plan as it was when asked for."""

    incident: Id
    organisation: Id
    plan: Plan
    state: ActivationState = ActivationState.REQUESTED
    reason: Text = ""
    requested_by: Id
    requested_at: Instant
    decided_by: Id | None = None
    decided_at: Instant | None = None
    decision_reason: Text = ""
    orders: list[Id] = []
    notice: Id | None = None
    room: Id | None = None
    fence: Id | None = None


ACTIVATION = Table(
    name="activation",
    row=Activation,
    index=("incident", "organisation", "state"),
    topics=lambda row: ("picture", f"incident/{row.incident}"),
)


class SavePlan(Struct, frozen=True, kw_only=True):
    """A new plan (no `id`), or a new version of one (`id` and the `version` that it replaces)."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    organisation: Id | None = None
    categories: Annotated[list[Category], Meta(max_length=4)] = []
    levels: Annotated[list[Level], Meta(max_length=4)] = []
    approver: Role = Role.LEADER
    orders: Annotated[list[PlannedOrder], Meta(max_length=ORDERS_MAX)] = []
    notice: PlannedNotice | None = None
    room: PlannedRoom | None = None
    fence: PlannedFence | None = None
    retired: bool = False


class RequestActivation(Struct, frozen=True, kw_only=True):
    """`version` is the plan's: what was read is what is asked for."""

    incident: Id
    plan: Id
    version: Version
    reason: Text = ""


class DecideActivation(Struct, frozen=True, kw_only=True):
    id: Id
    version: Version
    approve: bool
    reason: Text = ""


def scope(row: Plan | Activation) -> Scope:
    return Scope(organisation=row.organisation)


def decide_save(rows: Rows, request: SavePlan, context: Context) -> Decision:
    mine = context.actor.organisation if context.actor is not None else ""
    organisation = request.organisation or mine
    need(rows, ORGANISATION, organisation)
    context.allow("plan.edit", Scope(organisation=organisation))
    key, version = context.new_id(), 1
    if request.id is not None:
        plan = need(rows, PLAN, request.id)
        context.allow("plan.edit", scope(plan))
        fresh(plan, request.version or 0, request)
        key, version = plan.id, plan.version + 1
    for order in request.orders:
        parties_of(rows, order.assignee)
    if request.fence is not None and Rule.ABSENT in request.fence.rules:
        raise Rejected("plan.fence_absent", "A planned fence names no units, so rule absent has nobody to wait for.")
    saved = Plan(
        **{name: getattr(request, name) for name in Plan.__struct_fields__ if hasattr(request, name)}
        | {"id": key, "version": version, "organisation": organisation}
    )
    body = {"plan": key, "organisation": organisation, "version": version}
    draft = Draft(subject=SUBJECT, kind="plan.saved", body=body, private={"plan": msgspec.to_builtins(saved)})
    return Decision(drafts=[draft], id=key)


def decide_request(rows: Rows, request: RequestActivation, context: Context) -> Decision:
    incident = need(rows, INCIDENT, request.incident)
    context.allow("plan.activate", incidents.scope(incident))
    plan = need(rows, PLAN, request.plan)
    fresh(plan, request.version, request)
    if not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it before activating a plan.")
    if plan.retired:
        raise Conflict("plan.retired", "This plan is no longer in use.")
    for other in rows.where(ACTIVATION, incident=incident.id):
        if other.plan.id == plan.id and other.state is not ActivationState.REFUSED:
            raise Conflict(
                "plan.active", "This plan is already active or waits for approval here.", activation=other.id
            )
    key = context.bound_id(incident.subject)
    body = {"activation": key, "plan": plan.id, "plan_version": plan.version}
    private = {"plan": msgspec.to_builtins(plan), "reason": request.reason}
    draft = Draft(subject=incident.subject, kind="plan.requested", body=body, private=private, claim=incident.claim)
    return Decision(drafts=[draft], id=key)


def decide_activation(rows: Rows, request: DecideActivation, context: Context) -> Decision:
    activation = need(rows, ACTIVATION, request.id)
    incident = need(rows, INCIDENT, activation.incident)
    context.allow("plan.approve", incidents.scope(incident))
    if context.actor is not None and activation.plan.approver not in context.actor.roles:
        raise Conflict("plan.approver", f"This plan is approved by the role '{activation.plan.approver}'.")
    fresh(activation, request.version, request)
    if activation.state is not ActivationState.REQUESTED:
        raise Conflict("plan.decided", "This request has been decided already.")
    private = {"reason": request.reason} if request.reason else None
    if not request.approve:
        body: dict[str, Any] = {"activation": activation.id}
        refusal = Draft(subject=incident.subject, kind="plan.refused", body=body, private=private, claim=incident.claim)
        return Decision(drafts=[refusal], id=activation.id)
    if not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it before activating a plan.")
    effects, made = _effects(rows, activation.plan, incident, context)
    body = {"activation": activation.id, **made}
    first = Draft(subject=incident.subject, kind="plan.approved", body=body, private=private, claim=incident.claim)
    return Decision(drafts=[first, *effects], id=activation.id, result=made)


def _effects(rows: Rows, plan: Plan, incident: Incident, context: Context) -> tuple[list[Draft], dict[str, Any]]:
    """What the plan sets in motion: the drafts, and the ids of what they make."""
    drafts: list[Draft] = []
    made: dict[str, Any] = {"orders": []}
    for planned in plan.orders:
        request = IssueOrder(
            incident=incident.id,
            assignee=planned.assignee,
            task=planned.task,
            urgency=planned.urgency,
            ack_within_s=planned.ack_within_s,
            due_in_s=planned.due_in_s,
            ladder=planned.ladder,
        )
        key, draft = order_draft(rows, request, incident, context)
        made["orders"].append(key)
        drafts.append(draft)
    if plan.room is not None:
        made["room"], opening = room_drafts(context, incident, plan.room.title, context.by.account)
        drafts += opening
    if plan.fence is not None:
        made["fence"], draft = _fence(plan.fence, incident, context)
        drafts.append(draft)
    if plan.notice is not None:
        made["notice"], draft = notice_draft(
            context,
            subject=incident.subject,
            kind=NoticeKind.CALL_OUT,
            text_zh=_fill(plan.notice.text_zh, incident),
            text_en=_fill(plan.notice.text_en, incident),
            recipients=plan.notice.recipients,
            urgency=plan.notice.urgency,
            organisation=incident.organisation,
            incident=incident.id,
            room=made.get("room"),
            exercise=incident.exercise,
            claim=incident.claim,
        )
        drafts.append(draft)
    if incident.state in (incidents.State.REPORTED, incidents.State.VERIFIED, incidents.State.STABLE):
        body = {"step": incidents.Step.RESPOND, "to": incidents.State.RESPONDING}
        drafts.append(Draft(subject=incident.subject, kind="incident.stepped", body=body, claim=incident.claim))
    return drafts, made


def _fill(text: str, incident: Incident) -> str:
    return text.replace("{incident}", incident.title).replace("{place}", incident.place.address)


def _fence(planned: PlannedFence, incident: Incident, context: Context) -> tuple[str, Draft]:
    geometry: Geometry | None = incident.area
    notes: list[Geometry] = []
    if geometry is None:
        about = {
            "type": "Circle",
            "coordinates": [incident.place.lon, incident.place.lat],
            "radius_m": planned.radius_m,
        }
        geometry, notes = checked(about)
    return fence_draft(
        context,
        name=planned.name,
        geometry=geometry,
        notes=notes,
        rules=planned.rules,
        organisation=incident.organisation,
        incident=incident.id,
    )


def _saved(rows: Editing, written: Written) -> None:
    if "plan" in written.secrets:
        rows.put(PLAN, msgspec.convert(written.secrets["plan"], Plan))


def _requested(rows: Editing, written: Written) -> None:
    incident = incidents.of(rows, written)
    if incident is None or "plan" not in written.secrets or not bound(written.entry.body["activation"], written.entry):
        return
    activation = Activation(
        id=written.entry.body["activation"],
        incident=incident.id,
        organisation=incident.organisation,
        plan=msgspec.convert(written.secrets["plan"], Plan),
        reason=written.secrets.get("reason", ""),
        requested_by=written.entry.by.account,
        requested_at=written.entry.at,
    )
    rows.add(ACTIVATION, activation)


def _decided(rows: Editing, written: Written) -> None:
    body = written.entry.body
    activation = rows.get(ACTIVATION, body["activation"])
    if activation is None:
        return
    approved = written.entry.kind == "plan.approved"
    rows.put(
        ACTIVATION,
        replace(
            activation,
            version=activation.version + 1,
            state=ActivationState.APPROVED if approved else ActivationState.REFUSED,
            decided_by=written.entry.by.account,
            decided_at=written.entry.at,
            decision_reason=written.secrets.get("reason", ""),
            orders=body.get("orders", []),
            notice=body.get("notice"),
            room=body.get("room"),
            fence=body.get("fence"),
        ),
    )


TABLES = (PLAN, ACTIVATION)
PROJECTORS = {
    "plan.saved": _saved,
    "plan.requested": _requested,
    "plan.approved": _decided,
    "plan.refused": _decided,
}
DECIDERS = {SavePlan: decide_save, RequestActivation: decide_request, DecideActivation: decide_activation}
