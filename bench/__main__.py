"""Runs every bench of this folder and prints their figures: JSON lines on standard output, nothing else there.

A bench is a module that names its figures in `FIGURES` (and prints them itself, `python -m bench.NAME`), or has a
function `figures()` that returns them. Each runs in a process of its own, one after another, so that none pays for the
memory or the threads of the one before. Invariant: every figure named is in the output, if need be with
`"value": null` and a reason; then the exit status is not zero.

Run: `python -m bench [NAME ...]`, for example `python -m bench log sfu`.
"""

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FOLDER = Path(__file__).parent
ORDER = ("log", "api", "live", "geo_fence", "positions", "link", "tree", "sfu")
KEYS = ("name", "value", "unit", "ratio", "against", "n")
BENCH_TIMEOUT_S = 600.0
REASON_CHARACTERS_MAX = 500
CALL = "import json, bench.{0} as b\nfor line in b.figures(): print(json.dumps(line), flush=True)"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One module: its name, the figures it names (may be none), and how to run it."""

    name: str
    figures: tuple[str, ...]
    command: tuple[str, ...]


def discover(folder: Path = FOLDER) -> list[Bench]:
    """The benches of a folder, the known ones in the order of ORDER, the rest after them by name. Imports nothing."""
    found = {path.stem: bench for path in sorted(folder.glob("*.py")) if (bench := read(path)) is not None}
    first = [name for name in ORDER if name in found]
    return [found[name] for name in [*first, *sorted(set(found) - set(first))]]


def read(path: Path) -> Bench | None:
    """The bench a file holds, if it holds one."""
    if path.stem.startswith("__"):
        return None
    names: tuple[str, ...] | None = None
    callable_ = False
    for statement in ast.parse(path.read_text()).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="FIGURES")], value=value)
                | ast.AnnAssign(target=ast.Name(id="FIGURES"), value=ast.expr() as value)
            ):
                names = tuple(ast.literal_eval(value))
            case ast.FunctionDef(name="figures"):
                callable_ = True
            case _:
                pass
    if names is None and not callable_:
        return None
    how = ("-c", CALL.format(path.stem)) if callable_ else ("-m", f"bench.{path.stem}")
    return Bench(name=path.stem, figures=names or (), command=(sys.executable, *how))


def run(bench: Bench, timeout_s: float = BENCH_TIMEOUT_S) -> Iterator[dict[str, Any]]:
    """The figures of one bench, as it prints them; then a line with a reason for each that is missing."""
    missing = list(bench.figures)
    with tempfile.TemporaryFile() as errors, started(bench, errors, timeout_s) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line = figure(text)
            if line is None:
                sys.stderr.write(text)
                continue
            if line["name"] in missing:
                missing.remove(line["name"])
            yield line
        status = process.wait()
        reason = f"bench.{bench.name} ended with {status}: {last_line(errors)}"
    if status != 0 and not missing:
        missing = [f"{bench.name}.failed"]
    for name in missing:
        yield dict.fromkeys(KEYS) | {"name": name, "n": 0, "reason": reason}


@contextlib.contextmanager
def started(bench: Bench, errors: IO[bytes], timeout_s: float) -> Iterator[subprocess.Popen[str]]:
    """The bench as a process group of its own; whatever is left of it is killed at the end, or after `timeout_s`.

    SIGALRM does that, so the caller must be the main thread.
    """
    process = subprocess.Popen(
        bench.command,
        cwd=FOLDER.parent,
        stdout=subprocess.PIPE,
        stderr=errors,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield process
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        end()
        process.wait()


def figure(text: str) -> dict[str, Any] | None:
    """A line of a bench as a figure with all KEYS, or None if it isn't one."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(line, dict) or not isinstance(line.get("name"), str):
        return None
    line = dict.fromkeys(KEYS) | line
    if line["value"] is None:
        line.setdefault("reason", "none given")
    return line


def last_line(errors: IO[bytes]) -> str:
    """The last words of a bench, which Python makes the message of its exception."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return (lines or ["no message"])[-1][:REASON_CHARACTERS_MAX]


def main(arguments: list[str]) -> int:
    """Run the named benches, or all; 1 if a figure is missing, 2 if a name is unknown."""
    benches = {bench.name: bench for bench in discover()}
    if unknown := set(arguments) - set(benches):
        print(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(benches)}", file=sys.stderr)
        return 2
    complete = True
    for name in arguments or benches:
        print(f"bench.{name} ...", file=sys.stderr, flush=True)
        for line in run(benches[name]):
            print(json.dumps(line, ensure_ascii=False), flush=True)
            # A peer that can't be had is an honest line, not a failure of the bench: that one has its own status.
            complete = complete and not (line["value"] is None and "ended with" in line.get("reason", ""))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
