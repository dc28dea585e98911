"""Does the runner of the benches print every figure once, and say why one is missing?"""

import sys
from pathlib import Path

from bench.__main__ import Bench, discover, figure, read, run


def bench(code: str, *figures: str) -> Bench:
    return Bench(name="probe", figures=figures, command=(sys.executable, "-c", code))


def test_a_bench_is_a_module_that_names_figures_or_returns_them(tmp_path: Path) -> None:
    (tmp_path / "sfu.py").write_text("FIGURES = ('sfu.x',)")
    (tmp_path / "log.py").write_text("def figures(): return []")
    (tmp_path / "another.py").write_text("FIGURES: tuple[str, ...] = ('a.b',)")
    (tmp_path / "helper.py").write_text("class Figures:\n    def figures(self): ...")
    assert [found.name for found in discover(tmp_path)] == ["log", "sfu", "another"]
    found = read(tmp_path / "sfu.py")
    assert found is not None
    assert found.figures == ("sfu.x",)


def test_every_module_of_the_folder_can_be_read_without_running_it() -> None:
    assert all(found.command for found in discover())


def test_a_figure_gets_all_keys_and_keeps_the_others() -> None:
    line = figure('{"name": "a.b", "value": 1, "profile": "gcm"}')
    assert line == {
        "name": "a.b", "value": 1, "unit": None, "ratio": None, "against": None, "n": None, "profile": "gcm"
    }  # fmt: skip
    assert figure("hello") is None
    assert figure("[1]") is None


def test_what_a_bench_says_beside_figures_is_not_a_figure() -> None:
    lines = list(run(bench('print(\'hello\'); print(\'{"name": "a.b", "value": 2}\')', "a.b")))
    assert [(line["name"], line["value"]) for line in lines] == [("a.b", 2)]


def test_a_bench_that_fails_leaves_a_line_with_the_reason_for_each_missing_figure() -> None:
    lines = list(
        run(bench('print(\'{"name": "a.b", "value": 2}\', flush=True); raise OSError(\'disk\')', "a.b", "a.c"))
    )
    assert [(line["name"], line["value"]) for line in lines] == [("a.b", 2), ("a.c", None)]
    assert lines[1]["reason"] == "bench.probe ended with 1: OSError: disk"


def test_a_bench_that_fails_after_its_last_figure_is_seen() -> None:
    lines = list(run(bench('print(\'{"name": "a.b", "value": 2}\', flush=True); raise OSError(\'disk\')', "a.b")))
    assert [line["name"] for line in lines] == ["a.b", "probe.failed"]


def test_a_bench_that_never_ends_is_killed_with_its_children() -> None:
    code = "import subprocess; subprocess.run(['sleep', '1000'])"
    (line,) = run(bench(code, "a.b"), timeout_s=0.5)
    assert line["value"] is None
    assert "ended with -9" in line["reason"]


def test_a_client_that_has_pinned_itself_still_knows_the_core_of_the_server() -> None:
    code = (
        "import json, os; from bench.sfu_process import cores, pin; before = cores(); pin(os.getpid(), before[1]); "
        "print(json.dumps({'name': 'a.b', 'value': [before, cores()]}))"
    )
    (line,) = run(bench(code, "a.b"))
    before, after = line["value"]
    assert before == after
