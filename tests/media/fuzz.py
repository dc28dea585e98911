"""What the fuzz tests of media throw: mutations of sound inputs, and how long each may take.

Not part of the product. CI throws `FUZZ_INPUTS` = 20,000 at each parser from a fixed seed; `make fuzz-media` throws 1,000,000
from a new one, which a failure names. Invariant: an input that fails is printed whole.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261120"))
CPU_S_MAX = 0.010
"""For one input; measured in this thread's CPU time, and again where it was more: another process may have taken the cache."""
EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff")
WORDS = (
    "",
    "0",
    "-1",
    "65536",
    "4294967296",
    "9" * 30,
    "a",
    "*",
    ":",
    " ",
    "\t",
    "\x00",
    "é",
    "中",
    "a=",
    "m=audio 9 x 0",
    "/",
)


def octets(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A mutation of one of `seeds`, or now and then noise."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(0, 200))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 2:
                extreme = rng.choice(EXTREMES)
                data[at : at + len(extreme)] = extreme
            case 3:
                del data[at : at + rng.randrange(1, 30)]
            case 4:
                data[at:at] = data[at : at + rng.randrange(1, 60)]
            case _:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def text(rng: random.Random, seeds: Sequence[str], end: str = "\r\n") -> str:
    """A mutation of one of `seeds`, line by line and character by character."""
    lines = rng.choice(seeds).split(end)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        line = lines[at]
        match rng.randrange(7):
            case 0:
                del lines[at : at + rng.randrange(1, 4)]
            case 1:
                lines.insert(rng.randrange(len(lines) + 1), line)
            case 2:
                words = line.split(" ")
                words[rng.randrange(len(words))] = rng.choice(WORDS)
                lines[at] = " ".join(words)
            case 3:
                cut = rng.randrange(len(line) + 1)
                lines[at] = line[:cut] + rng.choice(WORDS) + line[cut + rng.randrange(4) :]
            case 4:
                lines[at] = line * rng.choice((2, 3, 200)) if len(line) < 60 else line[: rng.randrange(len(line))]
            case 5:
                other = rng.choice(seeds).split(end)
                lines[at] = rng.choice(other)
            case _:
                rng.shuffle(lines)
        if not lines:
            return ""
    return end.join(lines)


def throw(name: str, make: Callable[[random.Random], object], read: Callable[[Any], object]) -> int:
    """Throw `INPUTS` at `read`, which may raise nothing; how many it took for sound (returned something true)."""
    rng = random.Random(f"{name} {SEED}")
    taken = 0
    clock = time.thread_time
    for number in range(INPUTS):
        made = make(rng)
        began = clock()
        try:
            result = read(made)
        except Exception as error:
            raise AssertionError(f"{name}, seed {SEED}, input {number}: {made!r} raised {error!r}") from error
        if clock() - began > CPU_S_MAX:
            began = clock()
            read(made)
            assert clock() - began <= CPU_S_MAX, f"{name}, seed {SEED}, input {number}: too slow for {made!r}"
        taken += bool(result)
    return taken
