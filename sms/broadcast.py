"""Broadcast: who gets a notice, what it says, who must agree first.

Pure. It sends nothing. Invariant: a kind that needs review is issued by somebody other than its author, and no text that
holds a forbidden word is drafted or issued by a person.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from command.base.entry import Draft
from command.base.errors import Conflict, Rejected
from command.base.projection import Context, Decider, Decision, Rows, Table
from command.base.rights import Scope
from command.base.schema import Id, ShortText, Struct, Text, Urgency, Value, Version, fresh, need
from command.domain import incident as incidents
from command.domain.fence import FENCE
from command.domain.incident import INCIDENT
from command.domain.meeting import ROOM
from command.domain.notice import NOTICE, REVIEWED, NoticeKind, NoticeState, Recipients, notice_draft, scope
from command.domain.registry import GROUP, ORGANISATION, PERSON, TEMPLATE, UNIT, Person, on_duty
from sms import review, template
from sms.expansion import Addressee
from sms.numbers import e164_or_none
from sms.review import RECIPIENTS_MAX, Forbidden, Hit
from sms.template import Language, mark, render
from sms.text import parts

VALUES_MAX = 32
UNREACHABLE_SHOWN_MAX = 100
PEOPLE_SHOWN_MAX = 500
Filled = Annotated[dict[ShortText, Text], Meta(max_length=VALUES_MAX)]


class DraftNotice(Struct, frozen=True, kw_only=True):
    """A new notice: texts in both languages, or a template with its values. Kinds in `notice.REVIEWED` wait for a
    reviewer, the others are issued at once. `organisation` is the incident's, else the author's own, unless said."""

    kind: NoticeKind
    recipients: Recipients
    text_zh: Text = ""
    text_en: Text = ""
    template: Id | None = None
    values: Filled = {}
    urgency: Urgency | None = None
    incident: Id | None = None
    room: Id | None = None
    organisation: Id | None = None
    exercise: bool = False


class ReviewNotice(Struct, frozen=True, kw_only=True):
    """A reviewer's word; never the author's."""

    id: Id
    version: Version
    passed: bool
    reason: Text = ""


class CancelNotice(Struct, frozen=True, kw_only=True):
    """Take it back: what has not left is not sent."""

    id: Id
    version: Version
    reason: Text = ""


class Resolved(Struct, frozen=True, kw_only=True):
    """Recipients of a notice now. `people` includes those who can't be reached, with an empty number."""

    people: list[Addressee]
    unreachable: list[Id]
    same: list[Id]
    left_out: int = 0


class Wording(Value, frozen=True, kw_only=True):
    """What a draft says, and about what it is."""

    zh: str
    en: str
    urgency: Urgency
    organisation: Id
    exercise: bool

    def text(self, language: Language) -> str:
        return (self.zh if language == "zh" else self.en) or self.zh or self.en


class FoundWord(Value, frozen=True, kw_only=True):
    """A forbidden word at `start` to before `end` in the text of this language."""

    language: Language
    word: str
    start: int
    end: int


class LanguageParts(Value, frozen=True, kw_only=True):
    """How many get the text in this language, and of how many parts one of these messages consists."""

    language: Language
    recipients: int
    parts_each: int
    encoding: str


class Preview(Value, frozen=True, kw_only=True):
    """What issuing it now would take. `duration_s` at the gateway's rate, None where it names none; `people` are who gets
    it (the first PEOPLE_SHOWN_MAX), `unreachable` persons without a number (the first UNREACHABLE_SHOWN_MAX), `same` those
    who share another's telephone."""

    recipients: int
    parts: int
    parts_each_max: int
    encodings: list[str]
    duration_s: int | None
    languages: list[LanguageParts]
    people: list[Id]
    unreachable: list[Id]
    unreachable_count: int
    same: list[Id]
    forbidden: list[FoundWord]
    text_zh: str
    text_en: str
    needs_review: bool
    exercise: bool


def wording(rows: Rows, request: DraftNotice, organisation: str) -> Wording:
    """The texts as they will leave. Raises `Rejected` for an empty or unfit text, as `template.render` and
    `text.parts`; `Missing` for what the request names in vain."""
    incident = need(rows, INCIDENT, request.incident) if request.incident else None
    if request.room is not None:
        need(rows, ROOM, request.room)
    zh, en, urgency = request.text_zh.strip(), request.text_en.strip(), request.urgency
    if request.template is not None:
        stored = need(rows, TEMPLATE, request.template)
        filled = template.Template(name=stored.name, zh=stored.text_zh, en=stored.text_en)
        zh, en = render(filled, "zh", request.values), render(filled, "en", request.values)
        urgency = urgency or stored.urgency
    elif request.values:
        raise Rejected("notice.values", "Values fill a template; name one, or leave them out.")
    if not (zh or en):
        raise Rejected("notice.empty", "A notice needs a text.")
    for language, text in _texts(zh, en):
        parts(mark(text, language, exercise=True, duplicate=True))
    exercise = request.exercise or (incident is not None and incident.exercise)
    return Wording(
        zh=zh, en=en, urgency=urgency or Urgency.NORMAL, organisation=need(rows, ORGANISATION, organisation).id,
        exercise=exercise,
    )  # fmt: skip


def _texts(zh: str, en: str) -> list[tuple[Language, str]]:
    texts: list[tuple[Language, str]] = [("zh", zh), ("en", en)]
    return [(language, text) for language, text in texts if text]


def organisation_of(rows: Rows, request: DraftNotice, own: str) -> str:
    """To whom the notice belongs: as the request says, else the incident's, else `own`."""
    if request.organisation is not None:
        return request.organisation
    return need(rows, INCIDENT, request.incident).organisation if request.incident else own


def draft_scope(rows: Rows, request: DraftNotice, own: str) -> Scope:
    """Where the draft stands for rights: at its incident if it has one (that is also whose timeline it joins)."""
    if request.incident is not None:
        return incidents.scope(need(rows, INCIDENT, request.incident))
    return Scope(organisation=organisation_of(rows, request, own))


def found_words(forbidden: Forbidden, zh: str, en: str) -> list[FoundWord]:
    def told(language: Language, hit: Hit) -> FoundWord:
        return FoundWord(language=language, word=hit.word, start=hit.start, end=hit.end)

    return [told(language, hit) for language, text in _texts(zh, en) for hit in forbidden.find(text)]


def refuse_words(forbidden: Forbidden, zh: str, en: str) -> None:
    if found := found_words(forbidden, zh, en):
        raise Rejected(
            "notice.forbidden_words",
            "The text holds forbidden words; change it.",
            words=[msgspec.to_builtins(word) for word in found],
        )


def resolve(rows: Rows, recipients: Recipients, now: int) -> Resolved:
    """Everybody once, and each telephone once: persons by name, then groups, members of units, whoever is on duty, and
    members of the units that are inside the fence now. Off-duty and retired persons only where named explicitly. At
    most RECIPIENTS_MAX; `left_out` counts the rest, which drafts refuse beforehand.
    """
    named = dict.fromkeys(recipients.persons, "person")
    listed: dict[str, str] = {}
    for key in _listed(rows, recipients, now):
        listed.setdefault(key, "list")
    people = []
    for key in (*named, *(key for key in listed if key not in named)):
        person = rows.get(PERSON, key)
        if person is None or (key not in named and (person.off_duty or person.retired)):
            continue
        people.append(_recipient(person))
    reached = review.dedupe(people[:RECIPIENTS_MAX])
    return Resolved(
        people=[
            Addressee(person=r.person, number=r.number or "", language="en" if r.language == "en" else "zh")
            for r in (*reached.kept, *reached.unreachable)
        ],
        unreachable=[r.person for r in reached.unreachable],
        same=[left_out.person for left_out, _ in reached.same],
        left_out=max(0, len(people) - RECIPIENTS_MAX),
    )


def _listed(rows: Rows, recipients: Recipients, now: int) -> Iterable[str]:
    for key in recipients.groups:
        group = rows.get(GROUP, key)
        if group is not None and not group.retired:
            yield from group.persons
    for key in recipients.units:
        yield from _members(rows, key)
    for key in recipients.on_duty:
        yield from (shift.person for shift in on_duty(rows, key, now))
    fence = rows.get(FENCE, recipients.fence) if recipients.fence else None
    for key in fence.inside if fence is not None else ():
        yield from _members(rows, key)


def _members(rows: Rows, unit: str) -> Sequence[str]:
    row = rows.get(UNIT, unit)
    return row.members if row is not None and not row.retired else ()


def _recipient(person: Person) -> review.Recipient:
    number = next((e164 for phone in person.phones if (e164 := e164_or_none(phone)) is not None), None)
    return review.Recipient(person=person.id, number=number, language=person.language)


def preview(
    rows: Rows, request: DraftNotice, own: str, now: int, *, forbidden: Forbidden, rate_parts_per_s: float | None
) -> Preview:
    """What `request` would take, written nowhere. Raises as `wording`, and as a draft would for its recipients."""
    _check_recipients(rows, request.recipients, now)
    words = wording(rows, request, organisation_of(rows, request, own))
    found = resolve(rows, request.recipients, now)
    languages: dict[Language, int] = {}
    for person in found.people:
        if person.number:
            languages[person.language] = languages.get(person.language, 0) + 1
    texts = [(mark(words.text(lang), lang, exercise=words.exercise), count) for lang, count in languages.items()]
    sums = template.preview(texts, rate_parts_per_s=rate_parts_per_s)
    return Preview(
        recipients=sums.recipients,
        parts=sums.parts,
        parts_each_max=sums.parts_each_max,
        encodings=[encoding.value for encoding in sums.encodings],
        duration_s=sums.duration_s,
        languages=[_language(lang, text, count) for lang, (text, count) in zip(languages, texts, strict=True)],
        people=[person.person for person in found.people if person.number][:PEOPLE_SHOWN_MAX],
        unreachable=found.unreachable[:UNREACHABLE_SHOWN_MAX],
        unreachable_count=len(found.unreachable),
        same=found.same[:UNREACHABLE_SHOWN_MAX],
        forbidden=found_words(forbidden, words.zh, words.en),
        text_zh=words.zh,
        text_en=words.en,
        needs_review=request.kind in REVIEWED,
        exercise=words.exercise,
    )


def _language(language: Language, text: str, recipients: int) -> LanguageParts:
    cut = parts(text)
    return LanguageParts(language=language, recipients=recipients, parts_each=cut.count, encoding=cut.encoding.value)


def _check_recipients(rows: Rows, recipients: Recipients, now: int) -> None:
    """Raises `Missing` for a list that isn't there, `Rejected` when nobody is named, or too many are."""
    tables: tuple[tuple[Table[Any], list[str]], ...] = (
        (PERSON, recipients.persons),
        (GROUP, recipients.groups),
        (UNIT, recipients.units),
    )
    for table, keys in tables:
        for key in keys:
            need(rows, table, key)
    for key in recipients.on_duty:
        need(rows, ORGANISATION, key)
    if recipients.fence is not None:
        need(rows, FENCE, recipients.fence)
    elif not any((recipients.persons, recipients.groups, recipients.units, recipients.on_duty)):
        raise Rejected("notice.nobody", "Name at least one recipient.")
    if len({*recipients.persons, *_listed(rows, recipients, now)}) > RECIPIENTS_MAX:
        raise Rejected("sms.recipients_too_many", f"A notice reaches at most {RECIPIENTS_MAX} people.")


def decide_draft(rows: Rows, request: DraftNotice, context: Context, forbidden: Forbidden) -> Decision:
    own = context.actor.organisation if context.actor is not None else ""
    context.allow("notice.draft", draft_scope(rows, request, own))
    if request.organisation is not None:
        context.allow("notice.draft", Scope(organisation=request.organisation))
    words = wording(rows, request, organisation_of(rows, request, own))
    _check_recipients(rows, request.recipients, context.now)
    refuse_words(forbidden, words.zh, words.en)
    incident = rows.get(INCIDENT, request.incident) if request.incident else None
    if incident is not None and not incident.open:
        raise Conflict("incident.ended", "The incident has ended; reopen it, or send a notice of its own.")
    key, draft = notice_draft(
        context,
        subject=incident.subject if incident is not None else None,
        kind=request.kind,
        text_zh=words.zh,
        text_en=words.en,
        recipients=request.recipients,
        urgency=words.urgency,
        organisation=words.organisation,
        incident=request.incident,
        room=request.room,
        exercise=words.exercise,
        claim=incident.claim if incident is not None else None,
        review=request.kind in REVIEWED,
    )
    return Decision(drafts=[draft], id=key)


def decide_review(rows: Rows, request: ReviewNotice, context: Context, forbidden: Forbidden) -> Decision:
    notice = need(rows, NOTICE, request.id)
    context.allow("notice.review", scope(notice))
    fresh(notice, request.version, request)
    if notice.state is not NoticeState.REVIEW:
        raise Conflict("notice.reviewed", "This notice doesn't wait for a review.", state=notice.state)
    if context.by.account == notice.author:
        raise Conflict("notice.own", "Nobody reviews their own notice; ask another reviewer.")
    if request.passed:
        refuse_words(forbidden, notice.text_zh, notice.text_en)
    elif not request.reason.strip():
        raise Rejected("notice.reason", "Say why it is refused.")
    body: dict[str, Any] = {"notice": notice.id, "passed": request.passed}
    private = {"reason": request.reason} if request.reason else None
    draft = Draft(
        subject=notice.subject, kind="notice.reviewed", body=body, private=private, claim=_claim(rows, notice.incident)
    )
    return Decision(drafts=[draft], id=notice.id)


def decide_cancel(rows: Rows, request: CancelNotice, context: Context) -> Decision:
    notice = need(rows, NOTICE, request.id)
    context.allow("notice.draft", scope(notice))
    fresh(notice, request.version, request)
    if notice.state not in (NoticeState.REVIEW, NoticeState.ISSUED):
        raise Conflict("notice.over", f"A notice that is {notice.state.value} can't be cancelled.", state=notice.state)
    private = {"reason": request.reason} if request.reason else None
    body = {"notice": notice.id}
    draft = Draft(
        subject=notice.subject, kind="notice.cancelled", body=body, private=private, claim=_claim(rows, notice.incident)
    )
    return Decision(drafts=[draft], id=notice.id)


def _claim(rows: Rows, incident: str | None) -> str | None:
    row = rows.get(INCIDENT, incident) if incident else None
    return row.claim if row is not None else None


def read_words(text: str) -> Forbidden:
    """The words of a site's list: one a line; empty lines and lines that begin with # are left out. Raises `Rejected`."""
    lines = (line.strip() for line in text.splitlines())
    return Forbidden(line for line in lines if line and not line.startswith("#"))


def deciders(forbidden: Forbidden) -> dict[type, Decider]:
    """The deciders of a node whose list of forbidden words is this one."""
    return {
        DraftNotice: lambda rows, request, context: decide_draft(rows, request, context, forbidden),
        ReviewNotice: lambda rows, request, context: decide_review(rows, request, context, forbidden),
        CancelNotice: decide_cancel,
    }
