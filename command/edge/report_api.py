"""The edge of reporting upward: the rules, and what is owed to whom until when.

Edge. Holds no rule of the domain; a report itself is made at its incident (`POST /incidents/{id}/sub-reports`).
"""

from typing import Any

from sqlalchemy.engine import Connection

from command.base.projection import Row, Table
from command.base.schema import Id, Value
from command.domain import deadline, owing
from command.domain.deadline import REPORT_RULE, ReportRule, SaveReportRule
from command.domain.owing import REPORT_DUE, ReportDue
from command.edge.api import Call, Route, command_route
from command.edge.live import Visible
from command.log.timeline import position_of

ROWS_MAX = 5_000


class RuleListing(Value, frozen=True, kw_only=True):
    """Query of the rules; retired ones only when asked for."""

    retired: bool = False


class DueListing(Value, frozen=True, kw_only=True):
    """Query of what is owed: of one incident, and also what is not owed any more when `open` is false."""

    incident: Id | None = None
    open: bool = True


class RulePage(Value, frozen=True, kw_only=True):
    items: list[ReportRule]
    position: int


class DuePage(Value, frozen=True, kw_only=True):
    """The next deadline first."""

    items: list[ReportDue]
    position: int


def _seen(call: Call, connection: Connection, table: Table[Any], equal: dict[str, object]) -> list[Any]:
    rows: list[Row] = call.node.store.shelf(table).select(connection, equal=equal, limit=ROWS_MAX)
    return call.node.live.view_all(call.actor, table.name, rows)


async def _rules(call: Call) -> RulePage:
    equal: dict[str, object] = {} if call.query.retired else {"retired": False}

    def read(connection: Connection) -> RulePage:
        return RulePage(items=_seen(call, connection, REPORT_RULE, equal), position=position_of(connection))

    return await call.node.store.read(read)


async def _dues(call: Call) -> DuePage:
    query: DueListing = call.query
    equal: dict[str, object] = {"open": True} if query.open else {}
    if query.incident is not None:
        equal["incident"] = query.incident

    def read(connection: Connection) -> DuePage:
        found = sorted(_seen(call, connection, REPORT_DUE, equal), key=lambda due: (due.due_at, due.id))
        return DuePage(items=found, position=position_of(connection))

    return await call.node.store.read(read)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/report-rules",
        right="registry.read",
        summary="The deadlines of reports upward",
        query=RuleListing,
        response=RulePage,
        handler=_rules,
    ),
    command_route(
        "POST", "/report-rules", "report_rule.edit", "Save a deadline of reports upward", SaveReportRule, status=201
    ),
    Route(
        method="GET",
        path="/report-dues",
        right="incident.read",
        summary="Reports owed upward, the next deadline first",
        query=DueListing,
        response=DuePage,
        handler=_dues,
    ),
)


VISIBLE: dict[str, Visible] = {
    "report_rule": Visible(right="registry.read", scope=deadline.scope),
    "report_due": Visible(right="incident.read", scope=owing.scope),
}
