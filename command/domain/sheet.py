"""A table out of an uploaded file: .xlsx or .csv octets in, rows of trimmed text out.

Blocking and pure: the caller must run it in a thread. It never evaluates a formula, never follows a link. Invariant: work
and memory are bounded by the limits below, whatever the octets say; what is not a table ends as `Rejected`.
"""

import csv
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import ParseError

from command.base.errors import Rejected

FILE_BYTES_MAX = 5_000_000
UNPACKED_BYTES_MAX = 32_000_000
MEMBERS_MAX = 500
TAGS_MAX = 600_000
"""XML tags of all parts of a workbook: bounds the elements that a parser can make of it."""
ROWS_MAX = 5_000
COLUMNS_MAX = 40
CELL_CHARS_MAX = 1_000

FORMULA = "="
"""What a formula reads as: its text begins with this, its value isn't taken."""

_THEIRS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ParseError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    OSError,
    EOFError,
    RuntimeError,
)
"""What openpyxl lets escape for workbooks that aren't right: it documents none, and fuzzing finds all of these."""

Table = list[tuple[int, list[str]]]
"""(row number as the spreadsheet shows it, cells); rows without any text are left out."""


def read_table(data: bytes) -> Table:
    """The first sheet of a workbook, or a CSV file in UTF-8, UTF-16 or GB18030. Raises `Rejected`."""
    if len(data) > FILE_BYTES_MAX:
        raise Rejected("import.too_large", f"The file is larger than {FILE_BYTES_MAX} octets; split it.")
    if data[:4] == b"PK\x03\x04":
        return _bounded(_workbook(data))
    if data[:4] == b"\xd0\xcf\x11\xe0":
        raise Rejected(
            "import.old_format", "This is an old or encrypted workbook; save it as .xlsx without a password."
        )
    return _bounded(_csv(data))


def _bounded(rows: Iterable[Iterable[Any]]) -> Table:
    found: Table = []
    for number, row in enumerate(rows, start=1):
        if number > ROWS_MAX + 1:
            raise Rejected("import.rows", f"The table has more than {ROWS_MAX} rows; split it.")
        cells = [_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if len(cells) > COLUMNS_MAX:
            raise Rejected("import.columns", f"The table has more than {COLUMNS_MAX} columns.", row=number)
        if any(len(cell) > CELL_CHARS_MAX for cell in cells):
            raise Rejected("import.cell", f"A cell has more than {CELL_CHARS_MAX} characters.", row=number)
        if cells:
            found.append((number, cells))
    return found


def _text(value: Any) -> str:
    """A cell as people see it: 13800138000.0 is a number of eleven digits."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "?"
    if type(value).__module__.startswith("openpyxl"):
        return FORMULA
    return str(value)[: CELL_CHARS_MAX + 1]


def _csv(data: bytes) -> Iterable[list[str]]:
    text = _decoded(data)
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except csv.Error as error:
        raise Rejected("import.csv", f"The file is not CSV: {error}") from None


def _decoded(data: bytes) -> str:
    names = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "gb18030")
    for name in names:
        try:
            return data.decode(name)
        except UnicodeDecodeError:
            continue
    raise Rejected("import.encoding", "The text is neither UTF-8 nor GB18030; save the file as CSV UTF-8.")


def _workbook(data: bytes) -> Iterable[tuple[Any, ...]]:
    import openpyxl  # a tenth of a node's start, for the few imports of a year
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        _weigh(data)
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
        try:
            if not book.worksheets:
                raise Rejected("import.no_sheet", "The workbook has no sheet.")
            yield from book.worksheets[0].iter_rows(max_row=ROWS_MAX + 2, max_col=COLUMNS_MAX + 1, values_only=True)
        finally:
            book.close()
    except (InvalidFileException, *_THEIRS) as error:
        raise Rejected("import.xlsx", f"The file is not a sound workbook ({type(error).__name__}).") from None


def _weigh(data: bytes) -> None:
    """Refuse a workbook that would be too much work, before openpyxl sees it.

    zipfile never yields more octets of a member than its directory entry says, so the sum of those bounds everything;
    overlapping members count each time.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = [member.filename.lower() for member in members]
        if len(members) > MEMBERS_MAX or len(set(names)) != len(names):
            raise Rejected("import.xlsx", "The workbook has too many parts, or two of one name.")
        if any("vbaproject" in name for name in names):
            raise Rejected("import.macros", "The workbook has macros; save it as .xlsx.")
        if sum(member.file_size for member in members) > UNPACKED_BYTES_MAX:
            raise Rejected("import.unpacked", f"The workbook unpacks to more than {UNPACKED_BYTES_MAX} octets.")
        tags = 0
        for member in members:
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Rejected("import.xlsx", "The workbook is encrypted or packed in an unusual way.")
            if not member.filename.lower().endswith((".xml", ".rels", ".vml")):
                continue
            part = archive.read(member).replace(b"\x00", b"")
            if b"<!DOCTYPE" in part or b"<!ENTITY" in part:
                raise Rejected("import.xlsx", "The workbook declares XML entities.")
            tags += part.count(b"<")
            if tags > TAGS_MAX:
                raise Rejected("import.cells", "The workbook has too many cells or styles; save just the table.")
