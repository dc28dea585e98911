"""The command edge: routes, topics and who may see which row.

Edge. Holds no rule of the domain; every command here is decided in its own module.
"""

from typing import Annotated, Any

from msgspec import Meta
from sqlalchemy.engine import Connection

from command.base.errors import Missing
from command.base.projection import Row, Table
from command.base.rights import Scope
from command.base.schema import Category, Id, Instant, Level, ShortText, Value
from command.base.timer import TIMER, ReleaseTimer, Timer
from command.domain import fence, incident, meeting, notice, order, plan
from command.domain.asking import ASK
from command.domain.deadline import REPORT_RULE
from command.domain.fence import FENCE, DrawFence, EditFence, Fence, RemoveFence
from command.domain.incident import (
    ALARM,
    INCIDENT,
    AcknowledgeAlarm,
    AddNote,
    Alarm,
    EditIncident,
    Incident,
    ReportIncident,
    SetLevel,
    StepIncident,
    SubReport,
)
from command.domain.location import LOCATION
from command.domain.meeting import ROOM, CloseRoom, OpenRoom, Room
from command.domain.notice import NOTICE
from command.domain.order import ORDER, AmendOrder, CancelOrder, IssueOrder, Order, ProgressOrder
from command.domain.owing import REPORT_DUE, ReportDue
from command.domain.plan import ACTIVATION, PLAN, Activation, DecideActivation, Plan, RequestActivation, SavePlan
from command.domain.presence import TICK
from command.domain.registry import ACCOUNT, GROUP, ORGANISATION, PERSON, SHIFT, TEMPLATE, UNIT
from command.domain.tenure import LATE, TERM, TRANSFER
from command.edge.api import Call, Route, check_origin, command_route
from command.edge.live import Topic, Visible
from command.log.store import Store
from command.log.timeline import SNAPSHOT_ITEMS, TIMELINE, TimelineItem, position_of
from command.log.timeline import read as read_timeline

PAGE_MAX = 500
PICTURE_ROWS_MAX = 5_000

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Position = Annotated[int, Meta(ge=0, le=2**53)]


class IncidentListing(Value, frozen=True, kw_only=True):
    """Query of the incidents: by state of being open, category, level, a piece of text, and time of report."""

    open: bool | None = None
    category: Category | None = None
    level: Level | None = None
    q: ShortText | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Limit = 100
    after: Id | None = None


class TimelineListing(Value, frozen=True, kw_only=True):
    """Query of a timeline: the `limit` newest items before log position `before`, and with them all others of the oldest
    position among them, so that asking for `before` that position leaves nothing out."""

    before: Position | None = None
    limit: Limit = SNAPSHOT_ITEMS


class IncidentPage(Value, frozen=True, kw_only=True):
    items: list[Incident]
    position: int


class TimelinePage(Value, frozen=True, kw_only=True):
    items: list[TimelineItem]
    position: int


class IncidentFile(Value, frozen=True, kw_only=True):
    """One incident with everything bound to it, as of one log position."""

    position: int
    incident: Incident
    orders: list[Order]
    activations: list[Activation]
    rooms: list[Room]
    fences: list[Fence]
    alarms: list[Alarm]
    report_dues: list[ReportDue]
    timeline: list[TimelineItem]


async def _incidents(call: Call) -> IncidentPage:
    query: IncidentListing = call.query
    shelf = call.node.store.shelf(INCIDENT)
    columns = shelf.sql.c
    conditions = []
    for name in ("open", "category", "level"):
        if getattr(query, name) is not None:
            conditions.append(columns[name] == getattr(query, name))
    if query.since is not None:
        conditions.append(columns.reported_at >= query.since)
    if query.until is not None:
        conditions.append(columns.reported_at < query.until)
    if query.after is not None:
        conditions.append(columns.id < query.after)

    def read(connection: Connection) -> IncidentPage:
        found: list[Row] = []
        wanted, after = query.limit, list(conditions)
        while len(found) < wanted:
            rows = shelf.select(connection, *after, order=columns.id.desc(), limit=PAGE_MAX)
            matching = [row for row in rows if _matches(row, query.q)]
            found += call.node.live.view_all(call.actor, "incident", matching)
            if len(rows) < PAGE_MAX:
                break
            after = [*conditions, columns.id < rows[-1].id]
        return IncidentPage(items=found[:wanted], position=position_of(connection))  # type: ignore[arg-type]

    return await call.node.store.read(read)


def _matches(row: Incident, q: str | None) -> bool:
    if not q:
        return True
    text = f"{row.title} {row.description} {row.place.address} {row.id}".casefold()
    return all(word in text for word in q.casefold().split())


async def _incident(call: Call) -> IncidentFile:
    key = call.path["id"]

    def read(connection: Connection) -> IncidentFile:
        store, live = call.node.store, call.node.live
        row = store.shelf(INCIDENT).get(connection, key)
        if row is None or live.view(call.actor, "incident", row) is None:
            raise Missing("incident.missing", f"There is no incident '{key}'.")

        def bound(table: Table[Any]) -> list[Any]:
            return live.view_all(call.actor, table.name, store.shelf(table).select(connection, equal={"incident": key}))

        timeline: list[Any] = read_timeline(connection, f"incident/{key}")
        return IncidentFile(
            position=position_of(connection),
            incident=row,
            orders=bound(ORDER),
            activations=bound(ACTIVATION),
            rooms=bound(ROOM),
            fences=bound(FENCE),
            alarms=bound(ALARM),
            report_dues=bound(REPORT_DUE),
            timeline=timeline,
        )

    return await call.node.store.read(read)


async def _timeline(call: Call) -> TimelinePage:
    key, query = call.path["id"], call.query

    def read(connection: Connection) -> TimelinePage:
        row = call.node.store.shelf(INCIDENT).get(connection, key)
        if row is None or call.node.live.view(call.actor, "incident", row) is None:
            raise Missing("incident.missing", f"There is no incident '{key}'.")
        items: list[Any] = read_timeline(connection, f"incident/{key}", before=query.before, limit=query.limit)
        return TimelinePage(items=items, position=position_of(connection))

    return await call.node.store.read(read)


async def _live(call: Call) -> Any:
    check_origin(call.request, call.node.config)
    assert call.session is not None
    return await call.node.live.serve(call.request, call.session)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/live",
        right="session.read",
        summary="The live feed (WebSocket)",
        handler=_live,
        status=101,
        produces="",
    ),
    command_route("POST", "/incidents", "incident.report", "Report an incident", ReportIncident, status=201),
    Route(
        method="GET",
        path="/incidents",
        right="incident.read",
        summary="Search incidents",
        query=IncidentListing,
        response=IncidentPage,
        handler=_incidents,
    ),
    Route(
        method="GET",
        path="/incidents/{id}",
        right="incident.read",
        summary="One incident with everything bound to it",
        response=IncidentFile,
        handler=_incident,
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/incidents/{id}/timeline",
        right="incident.read",
        summary="The timeline of an incident, a page at a time",
        query=TimelineListing,
        response=TimelinePage,
        handler=_timeline,
        errors=(404,),
    ),
    command_route("PATCH", "/incidents/{id}", "incident.edit", "Edit an incident", EditIncident),
    command_route(
        "POST",
        "/incidents/{id}/step",
        "incident.edit",
        "Verify, respond, stabilise, close, reopen or dismiss",
        StepIncident,
    ),
    command_route("POST", "/incidents/{id}/level", "incident.level", "Raise or lower the level", SetLevel),
    command_route(
        "POST",
        "/incidents/{id}/sub-reports",
        "incident.edit",
        "A first, follow-up, verification or final report",
        SubReport,
        status=201,
    ),
    command_route("POST", "/incidents/{id}/notes", "incident.note", "A note with attachments", AddNote, status=201),
    command_route("POST", "/alarms/{id}/acknowledge", "alarm.acknowledge", "Acknowledge an alarm", AcknowledgeAlarm),
    command_route("POST", "/orders", "order.issue", "Issue an order", IssueOrder, status=201),
    command_route("PATCH", "/orders/{id}", "order.edit", "Amend an order", AmendOrder),
    command_route("POST", "/orders/{id}/cancel", "order.edit", "Cancel an order", CancelOrder),
    command_route(
        "POST",
        "/orders/{id}/progress",
        "order.progress",
        "Read, accept, decline, report or finish an order",
        ProgressOrder,
    ),
    command_route("POST", "/plans", "plan.edit", "Save a plan", SavePlan, status=201),
    command_route(
        "POST", "/activations", "plan.activate", "Ask for the activation of a plan", RequestActivation, status=201
    ),
    command_route(
        "POST", "/activations/{id}/decision", "plan.approve", "Approve or refuse an activation", DecideActivation
    ),
    command_route("POST", "/rooms", "room.open", "Open a room for an incident", OpenRoom, status=201),
    command_route("POST", "/rooms/{id}/close", "room.join", "Close a room", CloseRoom),
    command_route("POST", "/fences", "fence.edit", "Draw a fence", DrawFence, status=201),
    command_route("PATCH", "/fences/{id}", "fence.edit", "Edit a fence", EditFence),
    command_route("POST", "/fences/{id}/remove", "fence.edit", "Remove a fence", RemoveFence),
    command_route("POST", "/timers/{id}/release", "node.settle", "Let a held timer fire, or drop it", ReleaseTimer),
)


# -- topics


def _open_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    def rows(table: Table[Any], **equal: object) -> list[Row]:
        return store.shelf(table).select(connection, equal=equal, limit=PICTURE_ROWS_MAX)

    alarms = store.shelf(ALARM)
    return {
        "incident": rows(INCIDENT, open=True),
        "order": rows(ORDER, open=True),
        "activation": rows(ACTIVATION, state="requested"),
        "alarm": alarms.select(connection, alarms.sql.c.acknowledged_at.is_(None), limit=PICTURE_ROWS_MAX),
        "room": rows(ROOM, open=True),
        "fence": rows(FENCE, active=True),
        "transfer": [*rows(TRANSFER, state="offered"), *rows(TRANSFER, state="requested")],
        "ask": rows(ASK, open=True),
        "plan": rows(PLAN, retired=False),
        "report_rule": rows(REPORT_RULE, retired=False),
        "report_due": rows(REPORT_DUE, open=True),
        "organisation": rows(ORGANISATION),
        "unit": rows(UNIT, retired=False),
        "location": rows(LOCATION),
        "person": rows(PERSON, retired=False),
        "account": rows(ACCOUNT),
        "group": rows(GROUP),
        "shift": rows(SHIFT),
        "template": rows(TEMPLATE),
    }


def _incident_rows(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    tables = {
        table.name: store.shelf(table).select(connection, equal={"incident": key})
        for table in (ORDER, ACTIVATION, ROOM, FENCE, ALARM, NOTICE, TRANSFER, TERM, LATE, ASK, REPORT_DUE)
    }
    one = store.shelf(INCIDENT).get(connection, key)
    return {
        "incident": [] if one is None else [one],
        **tables,
        TICK.name: store.shelf(TICK).select(connection, equal={"subject": f"incident/{key}"}),
        TIMELINE: read_timeline(connection, f"incident/{key}"),
    }


def _incident_gate(store: Store, connection: Connection, key: str) -> Scope:
    row = store.shelf(INCIDENT).get(connection, key)
    if row is None:
        raise Missing("live.topic", f"There is no topic 'incident/{key[:64]}'.")
    return incident.scope(row)


def _held(store: Store, connection: Connection, key: str) -> dict[str, list[Row]]:
    return {"timer": store.shelf(TIMER).select(connection, equal={"held": True}, limit=PICTURE_ROWS_MAX)}


TOPICS: tuple[Topic, ...] = (
    Topic(name="picture", right="registry.read", rows=_open_rows),
    Topic(name="incident/{id}", right="incident.read", rows=_incident_rows, gate=_incident_gate),
    Topic(name="held", right="node.settle", rows=_held),
)


def _of_incident(row: Alarm) -> Scope:
    return Scope(organisation=row.organisation)


def _plan_scope(row: Plan | Activation) -> Scope:
    return plan.scope(row)


def _timer_scope(row: Timer) -> Scope:
    return Scope()


VISIBLE: dict[str, Visible] = {
    "incident": Visible(right="incident.read", scope=incident.scope),
    "alarm": Visible(right="incident.read", scope=_of_incident),
    "order": Visible(right="order.read", scope=order.scope),
    "plan": Visible(right="registry.read", scope=_plan_scope),
    "activation": Visible(right="incident.read", scope=_plan_scope),
    "room": Visible(right="room.read", scope=meeting.scope),
    "fence": Visible(right="fence.read", scope=fence.scope),
    "notice": Visible(right="notice.read", scope=notice.scope),
    "timer": Visible(right="node.settle", scope=_timer_scope),
}
