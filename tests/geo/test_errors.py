"""The table of codes is complete, and geo stays pure."""

import ast
import json
import re
from pathlib import Path

import geo
from bench import geo_fence

SOURCES = sorted(Path(geo.__file__).parent.glob("*.py"))
FORBIDDEN = {
    "asyncio",
    "aiohttp",
    "sqlalchemy",
    "socket",
    "time",
    "random",
    "os",
    "datetime",
    "command",
    "media",
    "sms",
}


def test_every_code_that_is_raised_is_in_the_table_and_every_code_of_the_table_is_raised() -> None:
    raised = {
        code
        for path in SOURCES
        if path.name != "errors.py"
        for code in re.findall(r'"(geo\.[a-z]+)"', path.read_text())
    }
    assert raised == set(geo.CODES)


def test_geo_imports_no_clock_no_chance_and_no_input_or_output() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, path


def test_the_bench_gives_whole_lines_and_the_engine_is_fast_enough() -> None:
    figures = {str(f["name"]): f for f in geo_fence.figures()}
    for figure in figures.values():
        assert set(json.loads(json.dumps(figure))) == {"name", "value", "unit", "ratio", "against", "n"}
    assert float(str(figures["geo.fence_fixes_per_s"]["value"])) >= 20_000
