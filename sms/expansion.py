"""From an issued notice to its messages: resolved once, then written in chunks.

Pure. Invariant: idempotent by (notice, person): the id of a message is made from both, the list of recipients is durable
before the first message, and a chunk disappears in the commit that writes its messages.
"""

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from command.base.entry import Draft
from command.base.errors import Rejected
from command.base.projection import Context, Decision, Row, Rows, Table
from command.base.rights import NODE
from command.base.schema import Id, Struct, Urgency, Value, need
from command.domain.notice import NOTICE, Counts, Notice, NoticeState
from command.domain.order import ORDER
from sms.answer import next_tag
from sms.inbox import answerable
from sms.message import Doubt, Message, State
from sms.numbers import is_demo
from sms.outbox import JOB, MESSAGE, Kept, valid_until
from sms.template import Language, mark
from sms.text import TEXT_UNITS_MAX

CHUNK_PERSONS = 500
TAG_SHOWN_AGAIN_US = 24 * 3600 * 1_000_000
"""How long a tag of a closed order stays used: a late "1A" must not accept another order."""
ANSWER_HINT: dict[Language, str] = {"zh": "回复1", "en": "Reply 1"}
"""What a text says where it asks for an answer; the tag is put behind it when a bare "1" would be ambiguous."""
FIRST_TAG = "A"


class Addressee(Value, frozen=True, kw_only=True):
    """One recipient as resolved at the moment of issue; `number` "" for somebody who has none."""

    person: Id
    number: str
    language: Language = "zh"


class Chunk(Row, frozen=True, kw_only=True):
    """Recipients of a notice whose messages are not written yet. `restored`: the notice was open when the database was
    restored."""

    notice: Id
    urgency: Urgency
    people: list[Addressee]
    restored: bool = False


CHUNK = Table(name="chunk", row=Chunk, index=("notice", "urgency"), kept=True)


class ResolveNotice(Struct, frozen=True, kw_only=True):
    """The recipients of an issued notice, each person and each number once. Sent by the worker."""

    notice: Id
    people: list[Addressee]


class ExpandChunk(Struct, frozen=True, kw_only=True):
    """Write the messages of one chunk. Sent by the worker."""

    id: Id


class ProgressNotice(Struct, frozen=True, kw_only=True):
    """Counts of a notice's messages as the worker read them. `finished`: nothing more will happen by itself."""

    notice: Id
    counts: Annotated[Counts, Meta(description="messages by state")]
    finished: bool = False


def message_id(notice: str, person: str) -> str:
    return f"{notice}-{hashlib.sha256(person.encode()).hexdigest()[:16]}"


def decide_resolve(rows: Rows, request: ResolveNotice, context: Context) -> Decision:
    context.allow("node.self", NODE)
    notice = need(rows, NOTICE, request.notice)
    if notice.expanded or notice.state is not NoticeState.ISSUED or rows.where(CHUNK, notice=notice.id):
        return Decision(id=notice.id)
    people = request.people
    was_restored = rows.get(JOB, notice.id) is not None or notice.generation != context.generation
    kept: Kept = []
    for number, start in enumerate(range(0, len(people), CHUNK_PERSONS)):
        chunk = Chunk(
            id=f"{notice.id}.{number:04d}",
            notice=notice.id,
            urgency=notice.urgency,
            people=people[start : start + CHUNK_PERSONS],
            restored=was_restored,
        )
        kept.append((CHUNK, chunk))
    draft = _progressed(notice, Counts(total=len(people)), expanded=not kept, finished=not kept)
    return Decision(drafts=[draft], kept=kept, id=notice.id, dropped=[(JOB, notice.id)])


def decide_expand(rows: Rows, request: ExpandChunk, context: Context) -> Decision:
    context.allow("node.self", NODE)
    chunk = rows.get(CHUNK, request.id)
    if chunk is None:
        return Decision(id=request.id)
    notice = need(rows, NOTICE, chunk.notice)
    last = len(rows.where(CHUNK, notice=notice.id)) == 1
    kept: Kept = []
    failed = 0
    for person in chunk.people if notice.state is not NoticeState.CANCELLED else ():
        key = message_id(notice.id, person.person)
        if rows.get(MESSAGE, key) is not None:
            continue
        message = _message(rows, notice, person, key, context.now)
        if chunk.restored and message.state is State.QUEUED:
            message = replace(message, state=State.UNKNOWN, doubt=Doubt.RESTORE)
        failed += message.state is State.FAILED
        kept.append((MESSAGE, message))
    counts = notice.counts
    fresh = len(kept) - failed
    counts = replace(
        counts,
        total=max(counts.total, counts.queued + counts.failed + len(kept)),
        queued=counts.queued + (0 if chunk.restored else fresh),
        unknown=counts.unknown + (fresh if chunk.restored else 0),
        failed=counts.failed + failed,
    )
    draft = _progressed(notice, counts, expanded=True) if last else _progressed(notice, counts)
    return Decision(drafts=[draft], kept=kept, dropped=[(CHUNK, chunk.id)], id=notice.id)


def _message(rows: Rows, notice: Notice, person: Addressee, key: str, now: int) -> Message:
    tag, text = "", _text(notice, person.language)
    if notice.order is not None and person.number:
        tag = _tag(rows, notice.order, person.number, now)
        text = tagged(text, person.language, tag)
    message = Message(
        id=key,
        notice=notice.id,
        person=person.person,
        number=person.number,
        text=fit(text, person.language),
        language=person.language,
        urgency=notice.urgency,
        created=now,
        since=now,
        expires=valid_until(notice, now),
        exercise=notice.exercise,
        order=notice.order or "",
        tag=tag,
        organisation=notice.organisation,
        real=not notice.exercise and not is_demo(person.number),
    )
    return message if person.number else replace(message, state=State.FAILED, code="sms.no_number")


def _text(notice: Notice, language: Language) -> str:
    texts = {"zh": notice.text_zh, "en": notice.text_en}
    return texts[language] or notice.text_zh or notice.text_en


def _tag(rows: Rows, order: str, number: str, now: int) -> str:
    """The letters of this order on this number: the same in every reminder, unlike those of any order that is open or
    was open a short while ago."""
    used = []
    for message in rows.where(MESSAGE, number=number):
        if not message.order:
            continue
        if message.order == order:
            return message.tag
        other = rows.get(ORDER, message.order)
        if message.created > now - TAG_SHOWN_AGAIN_US or (other is not None and answerable(other)):
            used.append(message.tag)
    try:
        return next_tag(used)
    except Rejected:
        return ""  # hundreds of open orders on one telephone: the alarm leaves all the same, a "1" will be asked about


def tagged(text: str, language: Language, tag: str) -> str:
    """`text` with the tag behind its "reply 1"; the first order of a number needs none."""
    if not tag or tag == FIRST_TAG:
        return text
    hint = ANSWER_HINT[language]
    if hint in text:
        return text.replace(hint, hint + tag, 1)
    return f"{text}（{hint}{tag}）" if language == "zh" else f"{text} ({hint}{tag})"


def fit(text: str, language: Language) -> str:
    """`text`, cut where no gateway could carry it with its marks; an alarm that is too long is sent shortened."""
    room = TEXT_UNITS_MAX - len(mark("", language, exercise=True, duplicate=True)) - 1
    if len(text.encode("utf-16-le")) // 2 <= room:
        return text
    return text.encode("utf-16-le")[: room * 2].decode("utf-16-le", "ignore") + "…"


def decide_progress(rows: Rows, request: ProgressNotice, context: Context) -> Decision:
    context.allow("node.self", NODE)
    notice = need(rows, NOTICE, request.notice)
    counts = request.counts
    if not notice.expanded:
        counts = replace(counts, total=max(notice.counts.total, counts.total))
    finished = request.finished and notice.expanded and notice.state is NoticeState.ISSUED
    if counts == notice.counts and not finished:
        return Decision(id=notice.id)
    return Decision(drafts=[_progressed(notice, counts, finished=finished)], id=notice.id)


def _progressed(notice: Notice, counts: Counts, *, expanded: bool = False, finished: bool = False) -> Draft:
    body: dict[str, Any] = {"notice": notice.id, "counts": msgspec.to_builtins(counts)}
    if expanded:
        body["expanded"] = True
    if finished:
        body["finished"] = True
    return Draft(subject=notice.subject, kind="notice.progressed", body=body)


TABLES: tuple[Table[Any], ...] = (CHUNK,)
DECIDERS = {ResolveNotice: decide_resolve, ExpandChunk: decide_expand, ProgressNotice: decide_progress}
