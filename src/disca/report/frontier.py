"""Speed against closeness as a picture: an inline SVG that takes its colours from the page."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from disca.records import Record
from disca.report.columns import COLUMNS, Column, label

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 76, 26, 44
"""Margins of the points; labels may reach into the one on the right."""
CROWD = 12
"""Points from which on only the leading ones are named."""
CHEAPER = {"speedup": "times faster", "flops": "times fewer operations"}
"""What can be drawn to the right, and its words."""
CHARACTER, LINE = 6.2, 13
"""About the width and height of a label's character, in the units of the picture."""


@dataclass(frozen=True)
class Point:
    """One row in the picture: what it is called, and where it stands."""

    name: str
    text: str
    x: float
    y: float
    detail: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to places between ``start`` and ``end``, with its ticks."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands."""
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values along the axis: 1, 2 or 5 times a power of ten."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [head * 10.0**power for power in powers for head in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 6
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(head * power for head in (1, 2, 5, 10) if head * power >= rough * 0.8)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            values = [number * step for number in range(first, last + 1)]
        return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


def charts(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """For each run that distances are measured to, its name and pictures: closeness against wall-clock, and against
    operations."""
    references = dict.fromkeys(_run(record.reference) for record in records if record.reference)
    found = []
    for reference in references or [""]:
        rows = [row for row in records if not reference or reference in (_run(row.reference), _run(row.name))]
        wanted = (("relative_l2", "speedup"), ("psnr", "speedup"), ("relative_l2", "flops"))
        pictures = [frontier(rows, measure=measure, across=across) for measure, across in wanted]
        found.append((reference, [picture for picture in pictures if picture]))
    return [(name, pictures) for name, pictures in found if pictures]


def frontier(
    records: Sequence[Record], *, measure: str = "relative_l2", across: str = "speedup", aside: Collection[str] = ()
) -> str:
    """Speed-up, or the share of operations that is saved (to the right), against ``relative_l2`` or ``psnr`` (up is
    closer) as an SVG element.

    Rows that measure their distance to another reference than most do not compare, and are left out, as are rows
    without a finite value. Rows named in ``aside`` are drawn with their names, but neither lead nor lie on the line of
    those that do. Returns an empty string when fewer than two rows remain.
    """
    if measure not in ("relative_l2", "psnr"):
        raise ValueError(f"A frontier shows 'relative_l2' or 'psnr', not {measure!r}.")
    if across not in CHEAPER:
        raise ValueError(f"A frontier is drawn across 'speedup' or 'flops', not {across!r}.")
    rows = comparable(records)
    points = _points(rows, measure, _cheaper(rows, across), CHEAPER[across])
    if len(points) < 2:
        return ""
    axis, up = _axis_of_speed(points), _axis_of_closeness(points, falling=measure == "relative_l2")
    title, name = _column(measure).title, CHEAPER[across]
    leading = best([point for point in points if point.name not in aside], falling=measure == "relative_l2")
    words = {"title": f"{name} against {title}", "heading": f"{title}, closer is up", "foot": name}
    return _svg(_named(points, leading, aside), leading, axis, up, **words)


def comparable(records: Sequence[Record]) -> list[Record]:
    """The rows that share the commonest reference, and that reference itself."""
    references = Counter(_run(record.reference) for record in records if record.reference)
    if not references:
        return list(records)
    common = references.most_common(1)[0][0]
    return [record for record in records if common in (_run(record.reference), _run(record.name))]


def _run(name: str | None) -> str:
    """A run's name without its batch: full runs in batches of another size differ in time only."""
    return re.sub(r"_batch\d+$", "", name or "")


def _cheaper(records: Sequence[Record], across: str) -> dict[str, float]:
    """How many times less each row costs, by its name. Operations compare with the most expensive row, to three digits:
    what differs by less is no choice."""
    if across == "speedup":
        return {record.name: record.speedup for record in records if record.speedup is not None}
    known = {record.name: record.flops for record in records if record.flops}
    return {name: float(f"{max(known.values()) / flops:.3g}") for name, flops in known.items()}


def best(points: Sequence[Point], *, falling: bool) -> list[Point]:
    """The points that no other beats in both speed and closeness, from slow to fast."""
    sign = -1 if falling else 1
    chosen: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.x, -sign * point.y)):
        if not chosen or sign * point.y > sign * chosen[-1].y:
            chosen.append(point)
    return chosen[::-1]


def _column(measure: str) -> Column:
    return next(column for column in COLUMNS if column.interval == measure)


def _points(records: Sequence[Record], measure: str, cheaper: Mapping[str, float], name: str) -> list[Point]:
    distance = _column(measure)
    points = []
    for record in records:
        x, y = cheaper.get(record.name), distance.value(record)
        if x is not None and y is not None and math.isfinite(y):
            detail = f"{label(record)}: {x:.1f} {name}, {distance.title} {distance.text(record)}"
            points.append(
                Point(record.name, str(record.extra.get("short") or record.name.replace("_", " ")), x, y, detail)
            )
    return points


def _axis_of_speed(points: Sequence[Point]) -> Axis:
    low, high = min(point.x for point in points), max(point.x for point in points)
    if low > 0 and high / low > 6:
        return Axis(low / 1.25, high * 1.1, LEFT, WIDTH - RIGHT, logarithmic=True)
    room = 0.12 * (high - low or high or 1)
    return Axis(low - room, high + room / 2, LEFT, WIDTH - RIGHT)


def _axis_of_closeness(points: Sequence[Point], *, falling: bool) -> Axis:
    low, high = min(point.y for point in points), max(point.y for point in points)
    room = 0.12 * (high - low or abs(high) or 1)
    if falling:
        return Axis(min(0.0, low) - room / 2, high + room, TOP, HEIGHT - BOTTOM)
    return Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)


def _named(points: Sequence[Point], leading: Sequence[Point], aside: Collection[str]) -> Sequence[Point]:
    """Of a crowd only what leads and what stands aside is named; pointing at the others tells their names."""
    if len(points) <= CROWD:
        return points
    names = {point.name for point in leading} | set(aside)
    return [point if point.name in names else replace(point, text="") for point in points]


def _svg(
    points: Sequence[Point], leading: Sequence[Point], across: Axis, up: Axis, *, title: str, heading: str, foot: str
) -> str:
    line = " ".join(f"{across.place(p.x):.1f},{up.place(p.y):.1f}" for p in leading)
    parts = [
        f'<svg class="frontier" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(across, up),
        f'<text class="axis-name" x="{LEFT}" y="12">{escape(heading)}</text>',
        f'<text class="axis-name" x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">{escape(foot)}</text>',
        f'<polyline class="best" points="{line}"/>',
        *_marks(points, across, up, {point.name for point in leading}),
        "</svg>",
    ]
    return "\n".join(parts)


def _grid(across: Axis, up: Axis) -> list[str]:
    lines = []
    for value in up.ticks():
        y = up.place(value)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.ticks():
        x = across.place(value)
        lines.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    return lines


def _marks(points: Sequence[Point], across: Axis, up: Axis, leading: set[str]) -> list[str]:
    places = [(across.place(point.x), up.place(point.y)) for point in points]
    marks = []
    for point, (x, y), (left, base) in zip(points, places, place_labels(points, places), strict=True):
        kind = "point leading" if point.name in leading else "point"
        text = f'<text x="{left:.1f}" y="{base:.1f}">{escape(point.text)}</text>' if point.text else ""
        marks.append(
            f'<g class="{kind}" data-row="{escape(point.name)}"><title>{escape(point.detail)}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 if len(points) > CROWD else 5}"/>{text}</g>'
        )
    return marks


_AROUND = [
    (share, gap, rise)
    for rise in (4, -10, 19, -25, 33, -40, 47)
    for share, gap in ((0, 10), (-1, -10), (-0.5, 0))
    if (share, rise) != (-0.5, 4)
]
"""Where a label may stand around its point: its left end as a share of its width and a gap, and its base line."""


def place_labels(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Left end and base line of each label: beside its point, where it covers no other label, point or border."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    ends = []
    for point, (x, y) in zip(points, places, strict=True):
        width = CHARACTER * len(point.text)
        options = [(x + share * width + gap, y + rise) for share, gap, rise in _AROUND]
        boxes = [(left, base - LINE + 3, left + width, base + 3) for left, base in options]
        costs = [_cost(box, taken) + index / 100 for index, box in enumerate(boxes)]
        chosen = costs.index(min(costs))
        ends.append(options[chosen])
        taken.append(boxes[chosen])
    return ends


def _cost(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> int:
    """How many things a label would cover; the border of the picture counts as many."""
    left, top, right, bottom = box
    covered = sum(left < r and l < right and top < b and t < bottom for l, t, r, b in taken)  # noqa: E741
    outside = left < LEFT or right > WIDTH or top < 0 or bottom > HEIGHT - BOTTOM
    return covered + 10 * outside
