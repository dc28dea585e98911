"""A notice: a text to people. The domain side of it; turning it into messages is `sms`'s business.

Pure. Invariant: a notice becomes messages only after a `notice.issued` entry, which is written by an order, a plan, or a
person who may issue, and, for kinds that need it, after somebody else's review.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft, Written
from command.base.naming import bound
from command.base.projection import Context, Editing, Row, Rows, Table
from command.base.rights import Scope
from command.base.schema import Id, Instant, Text, Urgency, Value

RECIPIENTS_MAX = 500
Ids = Annotated[list[Id], Meta(max_length=RECIPIENTS_MAX)]


class NoticeKind(StrEnum):
    MEETING = "meeting"
    BULLETIN = "bulletin"
    CALL_OUT = "call_out"
    ALERT = "alert"


REVIEWED = (NoticeKind.BULLETIN, NoticeKind.ALERT)
"""Kinds that a reviewer other than the author must pass before they are issued."""


class NoticeState(StrEnum):
    REVIEW = "review"
    ISSUED = "issued"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Recipients(Value, frozen=True, kw_only=True):
    """Who gets it: persons, groups, members of units, whoever is on duty in organisations, units' members inside a fence
    at the moment of issue. Everybody once."""

    persons: Ids = []
    groups: Ids = []
    units: Ids = []
    on_duty: Ids = []
    fence: Id | None = None


class Counts(Value, frozen=True, kw_only=True):
    """Messages of a notice by state, and how many people answered."""

    total: int = 0
    queued: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    unknown: int = 0
    held: int = 0
    cancelled: int = 0
    answered: int = 0


class Notice(Row, frozen=True, kw_only=True):
    """`node` issues it: only there it becomes messages, only there it is reviewed and cancelled. One of an
    earlier `generation` than the present may have been sent before a database was lost."""

    node: str = ""
    generation: str = ""
    kind: NoticeKind
    state: NoticeState
    organisation: Id
    incident: Id | None = None
    order: Id | None = None
    room: Id | None = None
    text_zh: Text
    text_en: Text
    recipients: Recipients
    urgency: Urgency
    exercise: bool = False
    author: Id
    created_at: Instant
    issued_at: Instant | None = None
    reviewed_by: Id | None = None
    review_reason: Text = ""
    counts: Counts = Counts()
    expanded: bool = False

    @property
    def subject(self) -> str:
        return f"incident/{self.incident}" if self.incident else f"notice/{self.id}"


def _topics(row: Notice) -> tuple[str, ...]:
    return ("notices", f"incident/{row.incident}") if row.incident else ("notices",)


NOTICE = Table(
    name="notice", row=Notice, index=("incident", "order", "state", "expanded", "created_at", "node"), topics=_topics
)


def scope(row: Notice) -> Scope:
    return Scope(organisation=row.organisation, owner=row.author)


def notice_draft(
    context: Context,
    *,
    subject: str | None,
    kind: NoticeKind,
    text_zh: str,
    text_en: str,
    recipients: Recipients,
    urgency: Urgency,
    organisation: str,
    incident: str | None = None,
    order: str | None = None,
    room: str | None = None,
    exercise: bool = False,
    claim: str | None = None,
    review: bool = False,
) -> tuple[str, Draft]:
    """A new notice's id and its entry: `notice.issued`, or `notice.drafted` when it must be reviewed first.

    `subject` is the incident's stream, or None for a stream of its own.
    """
    key = context.bound_id(subject or "notice")
    body: dict[str, Any] = {
        "notice": key,
        "kind": kind,
        "recipients": msgspec.to_builtins(recipients),
        "urgency": urgency,
        "organisation": organisation,
        "incident": incident,
        "order": order,
        "room": room,
        "exercise": exercise,
    }
    return key, Draft(
        subject=subject or f"notice/{key}",
        kind="notice.drafted" if review else "notice.issued",
        body=body,
        private={"text_zh": text_zh, "text_en": text_en},
        claim=claim,
    )


def _drafted(rows: Editing, written: Written) -> None:
    entry, body = written.entry, written.entry.body
    if not bound(body["notice"], entry):
        return
    issued = entry.kind == "notice.issued"
    notice = Notice(
        id=body["notice"],
        node=entry.origin,
        generation=entry.generation,
        kind=NoticeKind(body["kind"]),
        state=NoticeState.ISSUED if issued else NoticeState.REVIEW,
        organisation=body["organisation"],
        incident=body["incident"],
        order=body["order"],
        room=body["room"],
        text_zh=written.secrets.get("text_zh", ""),
        text_en=written.secrets.get("text_en", ""),
        recipients=msgspec.convert(body["recipients"], Recipients),
        urgency=Urgency(body["urgency"]),
        exercise=body["exercise"],
        author=entry.by.account,
        created_at=entry.at,
        issued_at=entry.at if issued else None,
    )
    rows.add(NOTICE, notice)


def _own(rows: Rows, written: Written) -> Notice | None:
    """The notice that an entry is about, if the node that issues it wrote the entry."""
    notice = rows.get(NOTICE, written.entry.body["notice"])
    return notice if notice is not None and notice.node == written.entry.origin else None


def _reviewed(rows: Editing, written: Written) -> None:
    entry, notice = written.entry, _own(rows, written)
    if notice is None:
        return
    passed = entry.body["passed"]
    rows.put(
        NOTICE,
        replace(
            notice,
            version=notice.version + 1,
            state=NoticeState.ISSUED if passed else NoticeState.REFUSED,
            issued_at=entry.at if passed else None,
            reviewed_by=entry.by.account,
            review_reason=written.secrets.get("reason", ""),
        ),
    )


def _cancelled(rows: Editing, written: Written) -> None:
    notice = _own(rows, written)
    if notice is not None:
        rows.put(NOTICE, replace(notice, version=notice.version + 1, state=NoticeState.CANCELLED))


def _progressed(rows: Editing, written: Written) -> None:
    body = written.entry.body
    notice = _own(rows, written)
    if notice is None:
        return
    finished = body.get("finished", False) and notice.state is NoticeState.ISSUED
    rows.put(
        NOTICE,
        replace(
            notice,
            counts=msgspec.convert(body["counts"], Counts),
            expanded=body.get("expanded", notice.expanded),
            state=NoticeState.FINISHED if finished else notice.state,
        ),
    )


TABLES = (NOTICE,)
PROJECTORS = {
    "notice.drafted": _drafted,
    "notice.issued": _drafted,
    "notice.reviewed": _reviewed,
    "notice.cancelled": _cancelled,
    "notice.progressed": _progressed,
}
