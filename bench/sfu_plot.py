"""How the cost of forwarding grows with the number of subscribers, drawn as SVG from the lines of `bench.sfu_media`.

Never measures. Invariant: the drawing is a function of the lines; a point that was taken on a busy machine is hollow.

Run: `make bench-media | tee lines.json; python -m bench.sfu_plot lines.json docs/forwarding-growth.svg`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

NAME = "sfu.growth_us_per_packet"
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 616, 40, 304
GRID = 5
INK, FAINT, OURS, FLOOR = "#222", "#ddd", "#b3261e", "#5f6368"


class Point(NamedTuple):
    """Subscribers, CPU microseconds per incoming packet of ours and of the bare loop (None: not taken), disturbed."""

    subscribers: int
    ours_us: float
    bare_us: float | None
    disturbed: bool


def points(lines: list[str]) -> list[Point]:
    """The points in the lines of a bench, by number of subscribers; anything else in them is passed over."""
    found: dict[int, Point] = {}
    for text in lines:
        try:
            line: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line.get("name") != NAME or line.get("value") is None:
            continue
        count, value, ratio = int(line["subscribers"]), float(line["value"]), line.get("ratio")
        bare = value / ratio * count if ratio else None
        found[count] = Point(count, value * count, bare, bool(line.get("disturbed")))
    return [found[count] for count in sorted(found)]


def slope(taken: list[Point]) -> tuple[float, float]:
    """(fixed, per subscriber) microseconds of the least-squares line through ours."""
    count = len(taken)
    mean_x = sum(one.subscribers for one in taken) / count
    mean_y = sum(one.ours_us for one in taken) / count
    below = sum((one.subscribers - mean_x) ** 2 for one in taken)
    per = sum((one.subscribers - mean_x) * (one.ours_us - mean_y) for one in taken) / below if below else 0.0
    return mean_y - per * mean_x, per


def draw(taken: list[Point]) -> str:
    """The SVG; raises ValueError without two points."""
    if len(taken) < 2:
        raise ValueError("two points at least are needed")
    most_x = taken[-1].subscribers
    most_y = max(max(one.ours_us, one.bare_us or 0.0) for one in taken) * 1.1
    fixed, per = slope(taken)

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * x / most_x, BOTTOM - (BOTTOM - TOP) * y / most_y

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 22, f"CPU per incoming packet: {fixed:.0f} us + {per:.2f} us per subscriber", INK, size=14),
    ]
    for step in range(GRID + 1):
        x, y = at(most_x * step / GRID, most_y * step / GRID)
        out.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{FAINT}"/>')
        out.append(_text(LEFT - 8, y + 4, f"{most_y * step / GRID:.0f}", INK, anchor="end"))
        out.append(_text(x, BOTTOM + 18, f"{most_x * step / GRID:.0f}", INK, anchor="middle"))
    out.append(_text((LEFT + RIGHT) / 2, BOTTOM + 38, "subscribers", INK, anchor="middle"))
    out.append(_text(14, TOP - 8, "us", INK))
    out += _series([at(one.subscribers, one.ours_us) for one in taken], [one.disturbed for one in taken], OURS)
    bare = [one for one in taken if one.bare_us is not None]
    out += _series([at(one.subscribers, one.bare_us or 0.0) for one in bare], [one.disturbed for one in bare], FLOOR)
    out.append(_text(RIGHT, at(0, taken[-1].ours_us)[1] - 10, "worker, everything on", OURS, anchor="end"))
    if bare:
        out.append(
            _text(RIGHT, at(0, bare[-1].bare_us or 0.0)[1] + 20, "bare protect-and-send loop", FLOOR, anchor="end")
        )
    return "\n".join([*out, "</svg>", ""])


def _series(places: list[tuple[float, float]], hollow: list[bool], colour: str) -> list[str]:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" stroke="{colour}" fill="{"#fff" if empty else colour}"/>'
        for (x, y), empty in zip(places, hollow, strict=True)
    ]
    return [f'<polyline points="{line}" fill="none" stroke="{colour}"/>', *dots]


def _text(x: float, y: float, words: str, colour: str, *, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(words)}</text>"


def main(arguments: list[str]) -> int:
    """Draw the lines of the first file into the second."""
    if len(arguments) != 2:
        print("python -m bench.sfu_plot LINES.json OUT.svg", file=sys.stderr)
        return 2
    source, target = map(Path, arguments)
    try:
        target.write_text(draw(points(source.read_text().splitlines())))
    except ValueError as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
