"""Import of persons from workbooks and CSV files, sound and hostile."""

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import openpyxl
import pytest

from command.base.errors import Rejected
from command.domain.sheet import CELL_CHARS_MAX, COLUMNS_MAX, FILE_BYTES_MAX, ROWS_MAX, read_table
from tests.command.assembly import Client, assembled

HEADER = ["姓名", "单位", "手机号", "职务", "语言", "分组"]


def _xlsx(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _repacked(data: bytes, change: dict[str, bytes]) -> bytes:
    """The workbook with some parts replaced or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in change:
                new.writestr(name, old.read(name))
        for name, part in change.items():
            new.writestr(name, part)
    return out.getvalue()


async def _send(client: Client, data: bytes, *, dry_run: bool = False, key: str | None = None) -> tuple[int, Any]:
    path = f"/import/persons?dry_run={'true' if dry_run else 'false'}"
    return await client.call("POST", path, data=data, key=key, **{"Content-Type": "application/octet-stream"})


ROWS: list[list[Any]] = [
    HEADER,
    ["甲", "东县", 13800138000, "队长", "zh", "专家;抢险"],
    ["乙", "西县", "13800138001、010-12345678", None, "英文", "专家"],
    ["丙", "市", None, None, None, None],
]


async def test_a_dry_run_says_what_would_happen_and_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        position = node.node.log.position
        status, report = await _send(system, _xlsx(ROWS), dry_run=True)
        assert status == 200 and report["dry_run"] and (report["created"], report["failed"]) == (3, 0)
        assert node.node.log.position == position
        assert (await system.ok("GET", "/persons"))["items"] == []


async def test_the_same_file_again_changes_nothing_and_an_edited_one_only_what_differs(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        _, report = await _send(system, _xlsx(ROWS))
        assert (report["created"], report["changed"], report["unchanged"]) == (3, 0, 0)
        persons = {row["name"]: row for row in (await system.ok("GET", "/persons"))["items"]}
        assert persons["甲"]["phones"] == ["+8613800138000"] and persons["甲"]["title"] == "队长"
        assert persons["乙"]["language"] == "en" and len(persons["乙"]["phones"]) == 2
        groups = [
            (row["name"], row["organisation"], row["persons"]) for row in (await system.ok("GET", "/groups"))["items"]
        ]
        assert ("专家", node.organisations["东县"], [persons["甲"]["id"]]) in groups and len(groups) == 3
        before = len(await node.entries("registry"))
        _, report = await _send(system, _xlsx(ROWS))
        assert report["unchanged"] == 3 and len(await node.entries("registry")) == before
        changed = [*ROWS[:1], ["甲", "东县", "+86 138 0013 8000", "大队长", None, None], *ROWS[2:]]
        _, report = await _send(system, _xlsx(changed))
        assert (report["changed"], report["unchanged"]) == (1, 2)
        assert len(await node.entries("registry")) == before + 1


async def test_a_repeated_upload_under_one_key_writes_once(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        rows = [HEADER[:3], *([f"人{number}", "市", f"138001{number:05d}"] for number in range(450))]
        first = await _send(system, _xlsx(rows), key="once")
        assert first[1]["created"] == 450
        again = await _send(system, _xlsx(rows), key="once")
        assert again[1]["items"] == first[1]["items"]
        assert len([entry for entry in await node.entries("registry") if entry.kind == "person.saved"]) == 450


async def test_each_bad_row_is_named_and_the_others_are_imported(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        rows = [
            [*HEADER, "备注"],
            ["甲", "东县", "13800138000", "", "", ""],
            ["", "东县", "", "", "", ""],
            ["乙", "南县", "", "", "", ""],
            ["丙", "市", "12", "", "", ""],
            ["丁", "市", "", "", "fr", ""],
            ["=1+1", "市", "", "", "", ""],
            ["甲", "东县", "+8613800138000", "", "", ""],
            [],
            ["戊", "市", "", "", "", "", "x"],
        ]
        for data in (_xlsx(rows), "\n".join(",".join(row) for row in rows).encode("gb18030")):
            _, report = await _send(system, data, dry_run=True)
            assert [(error["row"], error["column"], error["code"]) for error in report["errors"]] == [
                (3, "name", "import.name"),
                (4, "organisation", "import.organisation"),
                (5, "phones", "phone.invalid"),
                (6, "language", "import.language"),
                (7, "name", "import.formula"),
                (8, "name", "import.duplicate"),
            ]
            assert (report["created"], report["failed"], report["ignored"]) == (2, 6, ["备注"])


async def test_namesakes_with_other_numbers_are_other_people_and_say_so(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        await _send(system, "name,organisation,phone\n甲,市,13800138000\n".encode())
        _, report = await _send(system, "name,organisation,phone\n甲,市,13800138001\n".encode("utf-8-sig"))
        assert report["created"] == 1 and report["items"][0]["same_name"]


async def test_a_form_with_a_file_is_taken_too(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        system = await node.signed_in("system")
        form = aiohttp.FormData()
        form.add_field("note", "x")
        form.add_field("file", _xlsx(ROWS), filename="人员.xlsx")
        report = await system.ok("POST", "/import/persons", data=form)
        assert report["created"] == 3
        empty = aiohttp.FormData({"note": "x"}, default_to_multipart=True)
        assert (await system.refused("POST", "/import/persons", data=empty))[1] == "import.no_file"
        status, answer = await system.call(
            "POST", "/import/persons", data=b"junk", **{"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert status in (400, 422), answer


async def test_only_the_system_administrator_imports(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        for name in ("officer", "security", "audit"):
            assert (await _send(await node.signed_in(name), _xlsx(ROWS)))[0] == 403


async def test_a_file_that_is_too_large_is_refused_while_it_arrives(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        status, answer = await _send(await node.signed_in("system"), b"x" * (FILE_BYTES_MAX + 1))
        assert (status, answer["code"]) == (413, "import.too_large")


def _code(data: bytes) -> str:
    with pytest.raises(Rejected) as refused:
        read_table(data)
    return refused.value.code


def test_limits_of_rows_columns_and_cells_are_named() -> None:
    assert len(read_table(b"a\n" * (ROWS_MAX + 1))) == ROWS_MAX + 1
    assert _code(b"a\n" * (ROWS_MAX + 2)) == "import.rows"
    assert _code(b"a," * COLUMNS_MAX + b"a") == "import.columns"
    assert _code(b"a" * (CELL_CHARS_MAX + 1)) == "import.cell"
    assert _code(b"\x81") == "import.encoding"
    assert _code(b"\xd0\xcf\x11\xe0" + b"\x00" * 100) == "import.old_format"


def test_a_zip_bomb_is_refused_before_it_unpacks() -> None:
    bomb = _repacked(_xlsx(ROWS), {"xl/sharedStrings.xml": b" " * 40_000_000})
    assert _code(bomb) == "import.unpacked"


def test_millions_of_tags_are_refused_before_they_are_parsed() -> None:
    part = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">' + b"<si/>" * 700_000 + b"</sst>"
    assert _code(_repacked(_xlsx(ROWS), {"xl/sharedStrings.xml": part})) == "import.cells"


def test_shared_strings_as_spreadsheet_programs_write_them_are_read() -> None:
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sound = _xlsx(ROWS)
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        types = archive.read("[Content_Types].xml")
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    part = b'<Override PartName="/xl/sharedStrings.xml" ContentType="%s"/></Types>' % kind
    change = {
        "[Content_Types].xml": types.replace(b"</Types>", part),
        "xl/sharedStrings.xml": b'<sst xmlns="%s"><si><t>one</t></si><si><r><t>t</t></r><r><t>wo</t></r></si></sst>'
        % main,
        "xl/worksheets/sheet1.xml": b'<worksheet xmlns="%s"><sheetData><row r="1"><c r="A1" t="s"><v>1</v></c>'
        b'<c r="C1" t="s"><v>0</v></c></row></sheetData></worksheet>' % main,
    }
    assert read_table(_repacked(sound, change)) == [(1, ["two", "", "one"])]


def test_macros_and_entities_are_refused() -> None:
    assert _code(_repacked(_xlsx(ROWS), {"xl/vbaProject.bin": b"x"})) == "import.macros"
    for encoding in ("utf-8", "utf-16"):
        part = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaa">]><x>&a;</x>'.encode(encoding)
        assert _code(_repacked(_xlsx(ROWS), {"xl/sharedStrings.xml": part})) == "import.xlsx"


def test_a_sheet_that_claims_to_be_huge_is_read_as_far_as_it_goes() -> None:
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="A1:XFD1048576"/>'
        b'<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
        b'<row r="3"><c r="A3"><f>SUM(A1)</f><v>5</v></c></row>%s</sheetData></worksheet>'
    )
    assert read_table(_repacked(_xlsx(ROWS), {"xl/worksheets/sheet1.xml": sheet % b""})) == [
        (1, ["a"]),
        (3, ["=SUM(A1)"]),
    ]
    far = b'<row r="1048576"><c r="A1048576"><v>1</v></c></row>'
    data = _repacked(_xlsx(ROWS), {"xl/worksheets/sheet1.xml": sheet % far})
    with pytest.raises(Rejected):
        read_table(data)


@pytest.mark.parametrize("seed", range(6))
def test_no_octets_escape_as_anything_but_a_refusal(seed: int) -> None:
    dice, sound = random.Random(seed), _xlsx(ROWS)
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(60):
        if dice.random() < 0.3:
            data = bytearray(sound)
            for _ in range(dice.randint(1, 8)):
                data[dice.randrange(len(data))] = dice.randrange(256)
        else:
            name = dice.choice([name for name in parts if name.endswith((".xml", ".rels"))])
            part = bytearray(parts[name])
            for _ in range(dice.randint(1, 6)):
                at = dice.randrange(len(part))
                match dice.randrange(3):
                    case 0:
                        part[at] = dice.choice(b'<>/="&0aZ\x00\xff')
                    case 1:
                        del part[at : at + dice.randint(1, 30)]
                    case _:
                        part[at:at] = part[at : at + dice.randint(1, 30)]
            data = bytearray(_repacked(sound, {name: bytes(part)}))
        try:
            table = read_table(bytes(data))
        except Rejected:
            continue
        assert all(isinstance(cell, str) for _, cells in table for cell in cells)
