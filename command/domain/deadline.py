"""Deadlines of reports upward (初报 续报 核报 终报): the rules, and the instants and recipients that follow from them.

Pure. A deadline is data, never code: it differs by province, category, level, hop and channel. It never says what a report must
contain, and never sends one. Invariant: a sound rule gives one instant and at most one recipient, and goes upward.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from command.base.entry import Draft, Written
from command.base.errors import Rejected
from command.base.projection import Context, Decision, Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import Category, Id, Instant, Level, Name, Seconds, Struct, Version, fresh, need
from command.domain.incident import Channel, SubReportKind
from command.domain.registry import ORGANISATION, SUBJECT, Organisation, Tier

SECOND = 1_000_000
DAY = 86_400 * SECOND
REPEAT_MIN_S = 600
REMIND_BEFORE_S = 300
WORKING_DAYS_MAX = 60
Offset = Annotated[int, Meta(ge=-840, le=840)]


class Clock(StrEnum):
    """What starts the clock: when it happened; when this node learnt what makes the rule apply; when it was under control."""

    OCCURRENCE = "occurrence"
    RECEIPT = "receipt"
    STABLE = "stable"


class Superior(StrEnum):
    """To whom: a level of the tree, or the state above its root."""

    STATE = "state"
    PROVINCE = "province"
    CITY = "city"
    COUNTY = "county"


class Terms(Row, frozen=True, kw_only=True):
    """What a rule says and what is owed keeps: empty `categories` or `levels` mean all of them."""

    report: SubReportKind
    categories: list[Category] = []
    levels: list[Level] = []
    sender_tier: Tier
    recipient_tier: Superior
    skip_level: bool = False
    channel: Channel = Channel.WRITING
    clock: Clock = Clock.RECEIPT
    repeat_s: Seconds | None = None

    def covers(self, category: Category, level: Level) -> bool:
        return (not self.categories or category in self.categories) and (not self.levels or level in self.levels)


class ReportRule(Terms, frozen=True, kw_only=True):
    """A rule of an organisation, for it and those below. Exactly one of `limit_s`, `working_days`, `daily_at_min` (minutes
    after midnight at `utc_offset_min`) says how long after the clock's start. `saved_at` is the instant of this version."""

    name: Name
    organisation: Id
    limit_s: Seconds | None = None
    working_days: Annotated[int, Meta(ge=1, le=WORKING_DAYS_MAX)] | None = None
    daily_at_min: Annotated[int, Meta(ge=0, lt=1440)] | None = None
    utc_offset_min: Offset = 480
    remind_before_s: Seconds = REMIND_BEFORE_S
    saved_at: Instant = 0
    retired: bool = False


REPORT_RULE = Table(
    name="report_rule", row=ReportRule, index=("organisation", "retired"), topics=lambda row: ("picture", "admin")
)


class SaveReportRule(Struct, frozen=True, kw_only=True):
    """A new rule (no `id`), or a new version of one (`id` and the `version` that it replaces)."""

    id: Id | None = None
    version: Version | None = None
    name: Name
    organisation: Id | None = None
    report: SubReportKind
    categories: Annotated[list[Category], Meta(max_length=4)] = []
    levels: Annotated[list[Level], Meta(max_length=4)] = []
    sender_tier: Tier
    recipient_tier: Superior
    skip_level: bool = False
    channel: Channel = Channel.WRITING
    clock: Clock = Clock.RECEIPT
    limit_s: Seconds | None = None
    working_days: Annotated[int, Meta(ge=1, le=WORKING_DAYS_MAX)] | None = None
    daily_at_min: Annotated[int, Meta(ge=0, lt=1440)] | None = None
    repeat_s: Seconds | None = None
    utc_offset_min: Offset = 480
    remind_before_s: Seconds = REMIND_BEFORE_S
    retired: bool = False


def scope(row: ReportRule) -> Scope:
    return Scope(organisation=row.organisation)


# -- when, and by whom


def first_due(rule: ReportRule, starts_at: int) -> int:
    """The deadline of a rule whose clock started then; both in microseconds UTC. Working days are Monday to Friday: holidays
    are not known here, so a deadline falls early rather than late."""
    offset = rule.utc_offset_min * 60 * SECOND
    day, rest = divmod(starts_at + offset, DAY)
    if rule.working_days is not None:
        left = rule.working_days
        while left:
            day += 1
            left -= (day + 3) % 7 < 5  # 1970-01-01 was a Thursday
        return day * DAY + rest - offset
    if rule.daily_at_min is not None:
        at = rule.daily_at_min * 60 * SECOND
        return (day + (at <= rest)) * DAY + at - offset
    return starts_at + (rule.limit_s or 0) * SECOND


def next_due(due_at: int, repeat_s: int, now: int) -> int:
    """The first repetition of a deadline after `now`."""
    step = repeat_s * SECOND
    return due_at + max(1, (now - due_at) // step + 1) * step


def remind_at(rule: ReportRule | None, starts_at: int, due_at: int) -> int | None:
    """When to remind of it; None for a limit that leaves no time in between."""
    at = due_at - (REMIND_BEFORE_S if rule is None else rule.remind_before_s) * SECOND
    return at if starts_at < at < due_at else None


def seat(rows: Rows, organisation: str) -> Organisation | None:
    """The government that an organisation reports for: itself, or for a department the one above it."""
    row = rows.get(ORGANISATION, organisation)
    for _ in range(len(row.line) if row is not None else 0):
        if row is None or row.tier is not Tier.DEPARTMENT:
            return row
        row = rows.get(ORGANISATION, row.parent) if row.parent is not None else None
    return row if row is not None and row.tier is not Tier.DEPARTMENT else None


def recipient(rows: Rows, rule: ReportRule, sender: Organisation) -> str | None:
    """The organisation to which `sender` owes the report: "" for the state, None when the rule doesn't concern it. Past the
    immediate superior only where the rule says so (越级上报)."""
    if sender.tier is not rule.sender_tier or rule.organisation not in sender.line:
        return None
    line = [rows.get(ORGANISATION, key) for key in reversed(sender.line[:-1])]
    above = [row for row in line if row is not None and row.tier is not Tier.DEPARTMENT]
    if rule.recipient_tier is Superior.STATE:
        return "" if rule.skip_level or not above else None
    reach = above if rule.skip_level else above[:1]
    return next((row.id for row in reach if row.tier == str(rule.recipient_tier)), None)


def decide_save(rows: Rows, request: SaveReportRule, context: Context) -> Decision:
    mine = context.actor.organisation if context.actor is not None else ""
    organisation = request.organisation or mine
    need(rows, ORGANISATION, organisation)
    context.allow("report_rule.edit", Scope(organisation=organisation))
    key, version = context.new_id(), 1
    if request.id is not None:
        rule = need(rows, REPORT_RULE, request.id)
        context.allow("report_rule.edit", scope(rule))
        fresh(rule, request.version or 0, request)
        key, version = rule.id, rule.version + 1
    _sound(request)
    names = [name for name in SaveReportRule.__struct_fields__ if name not in ("id", "version", "name", "organisation")]
    body = {
        "report_rule": key,
        "version": version,
        "organisation": organisation,
        "terms": msgspec.to_builtins({name: getattr(request, name) for name in names}),
    }
    draft = Draft(subject=SUBJECT, kind="report_rule.saved", body=body, private={"name": request.name})
    return Decision(drafts=[draft], id=key)


def _sound(request: SaveReportRule) -> None:
    """Raises `Rejected` for a rule that no instant can follow from, or that reports downward."""
    limits = [request.limit_s, request.working_days, request.daily_at_min]
    if sum(limit is not None for limit in limits) != 1:
        raise Rejected("report_rule.limit", "Give one of: a limit in seconds, a number of working days, a time of day.")
    if request.repeat_s is not None and (
        request.repeat_s < REPEAT_MIN_S or request.working_days is not None or request.clock is Clock.STABLE
    ):
        hint = f"Only a report owed until the incident is stable is repeated, and not within {REPEAT_MIN_S} s."
        raise Rejected("report_rule.repeat", hint)
    order = [str(one) for one in Superior]
    if request.sender_tier is Tier.DEPARTMENT or order.index(request.recipient_tier) >= order.index(
        str(request.sender_tier)
    ):
        raise Rejected("report_rule.direction", "A report goes upward, from a government to one above it.")


# -- folding


def _saved(rows: Editing, written: Written) -> None:
    body = written.entry.body
    values = {
        **body["terms"],
        "id": body["report_rule"],
        "version": body["version"],
        "organisation": body["organisation"],
        "name": written.secrets.get("name") or "—",
        "saved_at": written.entry.at,
    }
    rows.put(REPORT_RULE, msgspec.convert(values, ReportRule))


TABLES = (REPORT_RULE,)
PROJECTORS = {"report_rule.saved": _saved}
DECIDERS = {SaveReportRule: decide_save}
