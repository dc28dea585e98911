"""`python -m tests.sim --seeds N`: play N seeds; the last line is the result as JSON, the lines before it what went wrong."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from tests.sim.rules import RULES, broken
from tests.sim.seed import COUNTED, run

SUMS = ("diverged", "forks_unhealed", "lost", "duplicates", "died_with_disk")
CHUNK = 20


def play(seeds: range, rule: str | None, real: bool) -> list[dict[str, Any]]:
    with broken(rule) as rules:
        return [run(seed, rules, real=real) for seed in seeds]


def results(first: int, count: int, rule: str | None, *, real: bool, jobs: int) -> Iterator[dict[str, Any]]:
    """Results in the order of the seeds, whatever the number of processes."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    one = partial(play, rule=rule, real=real)
    if jobs <= 1:
        for chunk in chunks:
            yield from one(chunk)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for found in pool.map(one, chunks):
            yield from found


def total(found: Iterable[dict[str, Any]], seeds: int, name: str = "sim") -> dict[str, Any]:
    """The last line: sums of what may not be, averages per seed of what took place. Says on stderr what went wrong."""
    sums, stats = dict.fromkeys(SUMS, 0), dict.fromkeys(COUNTED, 0)
    bad: list[int] = []
    for result in found:
        for key in SUMS:
            sums[key] += result[key]
        for key in COUNTED:
            stats[key] += result["stats"][key]
        if result["problems"]:
            bad.append(result["seed"])
            print(f"seed {result['seed']}: {'; '.join(result['problems'][:5])[:600]}", file=sys.stderr)
    line: dict[str, Any] = {"name": name, "seeds": seeds, **sums}
    line |= {key: round(value / seeds, 2) for key, value in stats.items()}
    return line | {"bad_seeds": bad[:20]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed; one seed again: --first N --seeds 1")
    parser.add_argument("--real", action="store_true", help="real Ed25519 signatures instead of the fast stand-in")
    parser.add_argument(
        "--break", dest="rule", choices=RULES, help="break a rule on purpose; exit 0 when it was noticed"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    started = time.monotonic()
    line = total(results(given.first, given.seeds, given.rule, real=given.real, jobs=given.jobs), given.seeds)
    line["seconds"] = round(time.monotonic() - started, 1)
    if given.rule:
        line["broken"] = given.rule
    if given.real:
        line["signatures"] = "ed25519"
    wrong = bool(line.pop("bad_seeds"))
    print(json.dumps(line))
    return int(wrong != bool(given.rule))


if __name__ == "__main__":
    sys.exit(main())
