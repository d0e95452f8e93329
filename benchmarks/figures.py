"""Draw the figures of docs/, from records and formulas: `python benchmarks/figures.py`, or `--check` to compare only.

Each is one SVG that takes its colours from the page it stands in; alone, it is light or dark by itself.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from pathlib import Path

from disca.records import Record, read
from disca.report.frontier import Axis, Point

ROOT = Path(__file__).parents[1]
FOLDER, RECORDS = ROOT / "docs" / "figures", ROOT / "benchmarks" / "records"
STYLE = """<style>
.figure { --ink: #1f2933; --soft: #66727f; --line: #c5ccd3; --paper: #ffffff; --full: #00796b; --cheap: #e8692c;
  --tint: #e0f2f1; --warm: #fde8dd; font: 14px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .figure { --ink: #e5e9ee; --soft: #a3adb8; --line: #4a5460; --paper: #1e2129;
  --full: #4db6ac; --cheap: #ff8a50; --tint: #1f3f3c; --warm: #4a2f22; } }
.figure text { fill: var(--ink); } .figure .soft { fill: var(--soft); font-size: 12.5px; }
.figure .bold { font-weight: 600; } .figure .full { fill: var(--full); } .figure .cheap { fill: var(--cheap); }
.figure .box { fill: var(--paper); stroke: var(--ink); stroke-width: 1.3; }
.figure .tint { fill: var(--tint); stroke: var(--full); stroke-width: 1.3; }
.figure .warm { fill: var(--warm); stroke: var(--cheap); stroke-width: 1.3; }
.figure .line { fill: none; stroke: var(--soft); stroke-width: 1.4; }
.figure .way { fill: none; stroke: var(--full); stroke-width: 2.4; }
.figure .chord { fill: none; stroke: var(--cheap); stroke-width: 2.4; }
.figure .grid { stroke: var(--line); stroke-width: 1; } .figure .tick, .figure .axis-name { fill: var(--soft);
  font-size: 11.5px; } .figure .best { fill: none; stroke: var(--full); stroke-width: 1.6; }
.figure circle { fill: var(--soft); } .figure .leading circle { fill: var(--full); }
.figure .point text { font-size: 11.5px; }
</style>"""
ARROW = (
    '<defs><marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="var(--soft)"/></marker></defs>'
)


def svg(name: str, width: int, height: int, title: str, *parts: str) -> str:
    """A whole picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {width} {height}" role="img"'
    return "\n".join([f'{head} aria-label="{escape(title)}">', STYLE, ARROW.format(name=name), *parts, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> str:
    """A box with lines of words in its middle."""
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    words = [
        text(x + width / 2, first + 18 * row, line, "soft" if row else "", "middle") for row, line in enumerate(lines)
    ]
    rect = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" class="{kind}"/>'
    return "\n".join([rect, *words])


def arrow(name: str, *points: tuple[float, float]) -> str:
    """A line through points, with a tip."""
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" class="line" marker-end="url(#{name}-tip)"/>'


def bar(x: float, foot: float, width: float, height: float, kind: str) -> str:
    """A bar that stands on ``foot``."""
    return f'<rect x="{x:.1f}" y="{foot - height:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def cost() -> str:
    """What three runs compute: a bar for each pass, as high as its operations."""
    derived = json.loads((RECORDS / "real_size_derived.json").read_text())
    row = next(row for row in derived["rows"] if (row["model"], row["size"]) == ("hunyuan_video", "704x704x129"))
    share = row["forecast"]["flops"] / row["full"]["flops"]
    full_steps, high, step, left = (0, 2, 4, 7), 64, 12.4, 14
    parts, feet = [], (98, 208, 318)
    for foot, words in zip(
        feet,
        (
            "50 steps, guided: 100 passes",
            "a student of 8 steps: 8 passes",
            f"half of them forecast: 4 passes, and 4 at {share:.1%} of one",
        ),
        strict=True,
    ):
        parts += [text(left, foot - high - 10, words), f'<path d="M{left} {foot}H640" class="grid"/>']
    for index in range(50):
        for pass_ in range(2):
            parts.append(bar(left + 12.4 * index + 5.6 * pass_, feet[0], 4.6, high, "full"))
    for index in range(8):
        parts.append(bar(left + step * index, feet[1], 8, high, "full"))
        computed = index in full_steps
        parts.append(
            bar(
                left + step * index,
                feet[2],
                8,
                high if computed else max(high * share, 1.5),
                "full" if computed else "cheap",
            )
        )
    return svg("cost", 650, 330, "What a run computes: 100 passes, 8 passes, 4 passes", *parts)


def step() -> str:
    """The way through a transformer at a full step and at a forecast step."""
    parts = [
        text(14, 26, "a full step", "bold"),
        box(14, 44, 96, 54, "box", "embed", "x, t, r, prompt"),
        box(150, 34, 250, 74, "tint", "all blocks", "HunyuanVideo: 20 dual, 40 single"),
        box(470, 44, 96, 54, "box", "last layer"),
        arrow("step", (110, 71), (148, 71)),
        arrow("step", (400, 71), (468, 71)),
        arrow("step", (566, 71), (604, 71)),
        text(610, 76, "v"),
        arrow("step", (432, 71), (432, 146), (382, 146)),
        box(258, 128, 122, 38, "box", "cached features"),
        text(440, 138, "kept until the", "soft"),
        text(440, 154, "next full step", "soft"),
        text(14, 206, "a forecast step", "bold"),
        box(14, 224, 96, 54, "box", "embed", "x, t, r, prompt"),
        box(150, 214, 90, 74, "warm", "fuse", "2 layers"),
        box(274, 214, 126, 74, "warm", "2 blocks", "of the host's kind"),
        box(470, 224, 96, 54, "box", "last layer"),
        arrow("step", (110, 251), (148, 251)),
        arrow("step", (240, 251), (272, 251)),
        arrow("step", (400, 251), (468, 251)),
        arrow("step", (566, 251), (604, 251)),
        text(610, 256, "v"),
        arrow("step", (258, 147), (195, 147), (195, 212)),
        text(275, 308, "the predictor", "cheap", "middle"),
    ]
    return svg("step", 640, 322, "A full step runs all blocks; a forecast step runs a predictor of two", *parts)


def interval() -> str:
    """A path, its velocity at t, and its mean velocity from t to r."""

    def at(time: float) -> tuple[float, float]:
        """Where the path is: right is noise."""
        return 40 + 500 * time, 40 + 180 * (1 - time) ** 2.5

    def slope(time: float) -> tuple[float, float]:
        return 500, -450 * (1 - time) ** 1.5

    t, r = 0.75, 0.2
    points = " ".join("{:.1f},{:.1f}".format(*at(n / 60)) for n in range(61))
    (x, y), (right, down) = at(t), slope(t)
    landed = (x - (t - r) * right, y - (t - r) * down)
    goal = at(r)
    marks = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4.5"/>' for a, b in ((x, y), goal, landed)]
    parts = [
        f'<polyline points="{points}" class="way"/>',
        f'<path d="M{x:.1f} {y:.1f}L{landed[0]:.1f} {landed[1]:.1f}" class="line" stroke-dasharray="5 4"/>',
        f'<path d="M{x:.1f} {y:.1f}L{goal[0]:.1f} {goal[1]:.1f}" class="chord"/>',
        *marks,
        text(x, y - 12, "x at t", anchor="middle"),
        text(goal[0] - 8, goal[1] + 20, "r", anchor="end"),
        text(40, landed[1] - 26, "along the velocity at t: off the path", "soft"),
        text((x + goal[0]) / 2 + 14, (y + goal[1]) / 2 + 26, "along the mean velocity u(x, t, r): onto it", "cheap"),
        text(at(0)[0], at(0)[1] + 24, "data", "soft", "middle"),
        text(at(1)[0] + 8, at(1)[1] + 5, "noise", "soft"),
    ]
    return svg("interval", 640, 260, "One long step along a velocity, and along a mean velocity", *parts)


def stages() -> str:
    """From a model to a bundle."""
    boxes = [
        (14, "box", "your model", "50 steps, 2 passes"),
        (178, "tint", "one pass", "50 steps"),
        (342, "tint", "a student", "8 to 20 steps"),
        (506, "warm", "a predictor", "half of the steps"),
    ]
    words = ["guidance", "mean_flow", "predictor"]
    parts = [box(x, 40, 122, 58, kind, *lines) for x, kind, *lines in boxes]
    for index, word in enumerate(words):
        right = 136 + 164 * index
        parts += [arrow("stages", (right, 69), (right + 40, 69)), text(right + 21, 26, word, "soft", "middle")]
    parts += [
        f'<path d="M{403} 98V124H{567}V98" class="line"/>',
        arrow("stages", (485, 124), (485, 146)),
        box(404, 148, 162, 40, "box", "a bundle"),
        text(14, 160, "each arrow is one recipe, one command;", "soft"),
        text(14, 178, "each may be left out", "soft"),
    ]
    return svg("stages", 640, 200, "Guidance distillation, Restricted MeanFlow, predictor, bundle", *parts)


@dataclass(frozen=True)
class Worth:
    """Methods on one run against plain steps of the same model: nearer and faster is what is worth it."""

    run: str
    words: str

    def __call__(self) -> str:
        """Distance against speed-up, both logarithmic, from the records of every cache side by side."""
        rows = [row for row in read(RECORDS / "lab_bench.jsonl") if (row.reference or "").startswith(self.run)]
        rows = [row for row in rows if row.speedup and row.relative_l2 and "error" not in row.extra]
        plain = sorted(
            (row.speedup, row.relative_l2) for row in rows if row.extra.get("solver") == "euler" and _plain(row)
        )
        methods = [row for row in rows if not _plain(row)]
        across = Axis(0.9, max(row.speedup for row in rows) * 1.15, 56, 620, logarithmic=True)
        up = Axis(min(row.relative_l2 for row in rows) / 1.2, 0.3, 300, 24, logarithmic=True)
        points = [Point(row.name, _short(row), row.speedup, row.relative_l2, row.policy) for row in methods]
        won = {point.name for point in points if point.y < _between(plain, point.x)}
        line = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in plain)
        parts = [text(56, 14, "relative L2 to the full run, nearer is down", "axis-name")]
        for value in up.ticks():
            parts.append(f'<path d="M56 {up.place(value):.1f}H620" class="grid"/>')
            parts.append(text(48, up.place(value) + 4, f"{value:g}", "tick", "end"))
        ticks = [value for value in (1, 1.5, 2, 3, 4, 5) if value < across.high]
        parts += [text(across.place(value), 320, f"{value:g}", "tick", "middle") for value in ticks]
        parts.append(text(620, 338, "times faster", "axis-name", "end"))
        parts.append(f'<polyline points="{line}" class="chord"/>')
        parts.append(text(620, 14, "the line: plain steps of the same model", "cheap", "end"))
        named = [point if point.name in won or point.text == "disca" else replace(point, text="") for point in points]
        parts += _dots(named, across, up, won)
        return svg(f"worth_{self.run}", 640, 346, f"{self.words}: methods against plain steps", *parts)


def _plain(row: Record) -> bool:
    return row.policy == "none" and row.extra.get("kind") == "rival"


def _short(row: Record) -> str:
    return row.policy.partition("(")[0].removeprefix("diffusers.")


def _between(line: list[tuple[float, float]], x: float) -> float:
    """Height of a line, straight between its points in logarithms, at x; before its first point nothing is known, so
    0, and level after its last."""
    for (left, low), (right, high) in pairwise([*line, (math.inf, line[-1][1])]):
        if left <= x < right:
            share = 0 if math.isinf(right) else math.log(x / left) / math.log(right / left)
            return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return 0.0


def _dots(points: list[Point], across: Axis, up: Axis, won: set[str]) -> list[str]:
    places = [(across.place(point.x), up.place(point.y)) for point in points]
    dots = []
    for point, (x, y), (left, base) in zip(points, places, _labels(points, places), strict=True):
        kind = "point leading" if point.name in won else "point"
        words = text(left, base, point.text) if point.text else ""
        title = f"<title>{escape(point.detail)}: {point.x:.1f} times faster, {point.y:.3f}</title>"
        dots.append(f'<g class="{kind}">{title}<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>{words}</g>')
    return dots


def _labels(points: list[Point], places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where labels start: right of their dots, moved down until they cover none before them."""
    taken: list[tuple[float, float, float]] = []
    starts = []
    for point, (x, y) in zip(points, places, strict=True):
        width, base = 6.4 * len(point.text), y + 4
        left = x + 8 if x + 8 + width < 640 else x - 8 - width
        while point.text and any(abs(base - b) < 12 and left < r and l < left + width for l, r, b in taken):  # noqa: E741
            base += 12
        if point.text:
            taken.append((left, left + width, base))
        starts.append((left, base))
    return starts


def mark() -> str:
    """The site's sign: two full steps and a cheap one."""
    shapes = (
        '<path d="M3 5l11 11L3 27z" fill="#00796b"/>',
        '<path d="M15 5l11 11-11 11z" fill="#00796b"/>',
        '<path d="M27 5h3v22h-3z" fill="#e8692c"/>',
    )
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">', *shapes, "</svg>", ""])


FIGURES: dict[str, Callable[[], str]] = {draw.__name__: draw for draw in (cost, step, interval, stages, mark)} | {
    f"worth_{run}": Worth(run, words)
    for run, words in {
        "base_50": "The guided base with 50 steps",
        "student_20": "The student with 20 steps",
        "student_8": "The student with 8 steps",
    }.items()
}


def main() -> None:
    """Write, or compare."""
    drawn = {FOLDER / f"{name}.svg": draw() for name, draw in FIGURES.items()}
    stale = [path for path, picture in drawn.items() if not path.is_file() or path.read_text() != picture]
    if stale and "--check" in sys.argv:
        names = ", ".join(path.name for path in stale)
        raise SystemExit(f"Figures are older than what they show: {names}. Run python benchmarks/figures.py.")
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(drawn[path])


if __name__ == "__main__":
    main()
