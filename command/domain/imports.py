"""Import of persons from a table: which rows are sound, and what each of them does.

Pure; `import_api` reads the upload. Invariant: importing the same table again changes nothing, because a person is known by
organisation, name and number, never by the row they stood in.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace

from command.base.errors import Rejected
from command.base.phone import e164
from command.base.projection import Context, Decision, Rows, Table
from command.base.rights import NODE
from command.base.schema import Id, Name, Phone, ShortText, Struct, Value
from command.domain.account import Language
from command.domain.registry import GROUP, PERSON, Group, Organisation, Person
from command.domain.registry_edits import (
    GROUP_PERSONS_MAX,
    PHONES_MAX,
    SaveGroup,
    SavePerson,
    group_draft,
    person_draft,
)

GROUPS_MAX = 10
"""Groups of one row."""
FORMULA = "="
"""What a cell with a formula begins with; `sheet` gives no values of formulas."""

COLUMNS = {
    "name": ("name", "姓名", "名字"),
    "organisation": ("organisation", "organization", "单位", "机构", "部门"),
    "phones": ("phone", "phones", "mobile", "电话", "手机", "手机号", "手机号码", "电话号码", "联系电话"),
    "title": ("title", "职务", "职位"),
    "language": ("language", "语言"),
    "groups": ("group", "groups", "分组", "组", "群组"),
}
LANGUAGES = {
    "zh": "zh",
    "中文": "zh",
    "汉语": "zh",
    "chinese": "zh",
    "en": "en",
    "英文": "en",
    "英语": "en",
    "english": "en",
}
_BETWEEN = re.compile(r"[;,/|、；，\n]+")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class ImportedPerson(Value, frozen=True, kw_only=True):
    """A sound row. `title`, `language` None: the file doesn't say, so a known person keeps theirs."""

    row: int
    name: Name
    organisation: Id
    phones: Annotated[list[Phone], Meta(max_length=PHONES_MAX)] = []
    title: ShortText | None = None
    language: Language | None = None
    groups: Annotated[list[Name], Meta(max_length=GROUPS_MAX)] = []


class ImportPersons(Struct, frozen=True, kw_only=True):
    persons: list[ImportedPerson]


class RowError(Value, frozen=True, kw_only=True):
    row: int
    column: str
    code: str
    hint: str


class _Groups:
    """Groups by (organisation, name) while persons are added to them."""

    def __init__(self, rows: Rows, context: Context) -> None:
        self._rows, self._context = rows, context
        self._known: dict[str, dict[str, Group]] = {}
        self._changed: dict[str, Group] = {}

    def add(self, organisation: str, name: str, person: str) -> bool:
        """Whether the person was not in it yet."""
        if organisation not in self._known:
            found = self._rows.where(GROUP, organisation=organisation)
            self._known[organisation] = {group.name: group for group in found if not group.retired}
        known = self._known[organisation]
        group = known.get(name)
        if group is None:
            group = Group(id=self._context.new_id(), version=0, name=name, organisation=organisation)
        if person in group.persons:
            return False
        if len(group.persons) >= GROUP_PERSONS_MAX:
            raise Rejected("import.group_full", f"A group has {GROUP_PERSONS_MAX} persons at most.")
        known[name] = self._changed[group.id] = replace(group, persons=[*group.persons, person])
        return True

    def drafts(self) -> Iterable[Any]:
        for group in self._changed.values():
            request = SaveGroup(name=group.name, organisation=group.organisation, persons=group.persons)
            yield group_draft(group.id, group.version + 1, request)


def decide_import(rows: Rows, request: ImportPersons, context: Context) -> Decision:
    """The receipt's result: {"rows": [[row, outcome, person id, same name?]]}; no names, receipts are kept."""
    context.allow("import.persons", NODE)
    known: dict[str, list[Person]] = {}
    groups = _Groups(rows, context)
    drafts, outcomes = [], []
    for imported in request.persons:
        if imported.organisation not in known:
            known[imported.organisation] = rows.where(PERSON, organisation=imported.organisation)
        namesakes = [person for person in known[imported.organisation] if person.name == imported.name]
        before = _match(namesakes, imported.phones)
        after = _after(before, imported, context)
        joined = [groups.add(imported.organisation, name, after.id) for name in dict.fromkeys(imported.groups)]
        if after != before:
            drafts.append(person_draft(after.id, after.version, _save(after)))
            others = [person for person in known[imported.organisation] if person.id != after.id]
            known[imported.organisation] = [*others, after]
        changed = after != before or any(joined)
        outcome = "created" if before is None else "changed" if changed else "unchanged"
        outcomes.append([imported.row, outcome, after.id, before is None and bool(namesakes)])
    return Decision(drafts=[*drafts, *groups.drafts()], id=None, result={"rows": outcomes})


def _match(namesakes: list[Person], phones: list[str]) -> Person | None:
    """The person of that name who has one of the numbers; without numbers, the one who has none either."""
    for person in sorted(namesakes, key=lambda person: (person.retired, person.id)):
        if set(person.phones) & set(phones) or (not phones and not person.phones):
            return person
    return None


def _after(before: Person | None, imported: ImportedPerson, context: Context) -> Person:
    if before is None:
        return Person(
            id=context.new_id(),
            name=imported.name,
            organisation=imported.organisation,
            phones=imported.phones,
            title=imported.title or "",
            language=imported.language or "zh",
        )
    after = replace(
        before,
        phones=imported.phones,
        title=before.title if imported.title is None else imported.title,
        language=before.language if imported.language is None else imported.language,
        retired=False,
    )
    return before if after == before else replace(after, version=before.version + 1)


def _save(person: Person) -> SavePerson:
    names = ("name", "organisation", "phones", "title", "language", "off_duty", "retired")
    return SavePerson(**{name: getattr(person, name) for name in names})


class Sheet:
    """Rows checked one by one against the organisations there are."""

    def __init__(self, table: list[tuple[int, list[str]]], organisations: Iterable[Organisation]) -> None:
        if not table:
            raise Rejected("import.empty", "The table is empty.")
        self._places, self.ignored = _places(table[0][1])
        self._organisations: dict[str, set[str]] = {}
        for row in organisations:
            if not row.retired:
                for word in {row.id, row.name, row.name_en, row.region} - {""}:
                    self._organisations.setdefault(word.casefold(), set()).add(row.id)
        self.errors: list[RowError] = []
        self.good: list[ImportedPerson] = []
        self.failed = 0
        seen: dict[tuple[str, str, str], int] = {}
        for number, cells in table[1:]:
            before = len(self.errors)
            imported = self._row(number, cells)
            keys = (
                [(imported.organisation, imported.name, phone) for phone in imported.phones or [""]] if imported else []
            )
            first = min((seen[key] for key in keys if key in seen), default=None)
            if first is not None:
                self._error(number, "name", "import.duplicate", f"This person stands in row {first} already.")
            if imported is None or len(self.errors) > before:
                self.failed += 1
                continue
            seen |= dict.fromkeys(keys, number)
            self.good.append(imported)

    def _error(self, row: int, column: str, code: str, hint: str) -> None:
        self.errors.append(RowError(row=row, column=column, code=code, hint=hint))

    def _row(self, number: int, cells: list[str]) -> ImportedPerson | None:
        values = {name: cells[place] if place < len(cells) else "" for name, place in self._places.items()}
        before = len(self.errors)
        for column, text in values.items():
            if text.startswith((FORMULA, "@")):
                self._error(number, column, "import.formula", "The cell holds a formula; paste its value instead.")
            elif _CONTROL.search(text.replace("\n", "")):
                self._error(number, column, "import.characters", "The cell holds control characters.")
        name, title = values["name"].replace("\n", ""), values.get("title", "").replace("\n", " ")
        if not name or len(name) > 100:
            self._error(number, "name", "import.name", "A name of 1 to 100 characters is needed.")
        if len(title) > 200:
            self._error(number, "title", "import.title", "A title has 200 characters at most.")
        organisation = self._organisation(number, values["organisation"])
        phones = self._phones(number, values.get("phones", ""))
        language = values.get("language", "")
        if language and language.casefold() not in LANGUAGES:
            self._error(number, "language", "import.language", "The language is zh or en.")
        groups = _split(values.get("groups", ""))
        if len(groups) > GROUPS_MAX or any(len(group) > 100 for group in groups):
            self._error(number, "groups", "import.groups", f"At most {GROUPS_MAX} groups of 100 characters each.")
        if len(self.errors) > before or organisation is None:
            return None
        return ImportedPerson(
            row=number,
            name=name,
            organisation=organisation,
            phones=phones,
            title=title or None,
            language=LANGUAGES[language.casefold()] if language else None,
            groups=groups,
        )

    def _organisation(self, number: int, text: str) -> str | None:
        found = self._organisations.get(text.casefold(), set())
        if len(found) == 1:
            return next(iter(found))
        if found:
            self._error(number, "organisation", "import.organisation_ambiguous", "Several organisations are called so.")
        else:
            self._error(number, "organisation", "import.organisation", "There is no such organisation; check its name.")
        return None

    def _phones(self, number: int, text: str) -> list[str]:
        found: list[str] = []
        for part in _split(text):
            try:
                found.append(e164(part))
            except Rejected as error:
                self._error(number, "phones", error.code, error.hint)
        if len(found) > PHONES_MAX:
            self._error(number, "phones", "import.phones", f"At most {PHONES_MAX} numbers.")
        return list(dict.fromkeys(found))


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in _BETWEEN.split(text) if part.strip()))


def _places(header: list[str]) -> tuple[dict[str, int], list[str]]:
    """Column names to their places, and the columns that mean nothing here."""
    known = {word: name for name, words in COLUMNS.items() for word in words}
    found: dict[str, int] = {}
    ignored = []
    for place, text in enumerate(header):
        name = known.get(text.casefold().strip("*"))
        if name is None:
            if text:
                ignored.append(text[:100])
        elif name in found:
            raise Rejected("import.column_twice", f"Two columns give the {name}.", column=name)
        else:
            found[name] = place
    missing = [name for name in ("name", "organisation") if name not in found]
    if missing:
        raise Rejected(
            "import.column_missing",
            "The first row names the columns: name (姓名) and organisation (单位) are needed.",
            missing=missing,
        )
    return found, ignored


TABLES: tuple[Table[Any], ...] = ()
PROJECTORS: dict[str, Any] = {}
DECIDERS = {ImportPersons: decide_import}
