"""Feature trajectories as pictures: each accelerated run beside the full one, and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

from disca.report.frontier import Axis
from disca.trajectories import Trajectories, Trajectory

WIDTH, HEIGHT = 300, 250
FLATTEST = 60
"""Of the room for points, however flat they lie."""
EDGE, TOP, BOTTOM = 18, 30, 30
Place = tuple[float, float]
WIDE, LEFT, RIGHT = 720, 44, 230


def pictures(found: Trajectories, labels: Mapping[str, str]) -> list[str]:
    """A picture of each run but the reference, as SVG elements, and one of the distances of all."""
    axes = _axes(found)
    reference, *others = found.runs
    drawn = [_path(run, reference, axes, labels.get(run.name, run.name)) for run in others]
    return [*drawn, _distances(others, labels)] if others else []


def _axes(found: Trajectories) -> tuple[Axis, Axis]:
    """One scale for all pictures, the same in both directions; they are as high as that takes."""
    xs, ys = zip(*(point for run in found.runs for point in run.points), strict=True)
    room = HEIGHT - TOP - BOTTOM
    scale = max((max(xs) - min(xs)) / (WIDTH - 2 * EDGE), (max(ys) - min(ys)) / room) or 1.0
    height = min(room, max(FLATTEST, (max(ys) - min(ys)) / scale))
    x, y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    wide = scale * (WIDTH / 2 - EDGE)
    across = Axis(x - wide, x + wide, EDGE, WIDTH - EDGE)
    return across, Axis(y - scale * height / 2, y + scale * height / 2, TOP + height, TOP)


def _path(run: Trajectory, reference: Trajectory, axes: tuple[Axis, Axis], label: str) -> str:
    across, up = axes
    ours, whole = ([(across.place(x), up.place(y)) for x, y in one.points] for one in (run, reference))
    parts = [
        _open("path", WIDTH, up.start + BOTTOM, f"{label}: features along the run"),
        f'<text class="title" x="{EDGE - 8}" y="14">{escape(label)}</text>',
        f'<polyline class="whole" points="{_line(whole)}"/>',
        *(f'<circle class="whole" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in whole),
        *(f'<polyline class="gap" points="{_line(pair)}"/>' for pair in zip(ours, whole, strict=True)),
        f'<polyline class="ours" points="{_line(ours)}"/>',
        *_steps(run, ours, label, " from the full run"),
        *(_text("end", x, y + 18, name, "middle") for (x, y), name in ((ours[0], "noise"), (ours[-1], "clip"))),
    ]
    return "\n".join([*parts, "</svg>"])


def _steps(run: Trajectory, places: Sequence[Place], label: str, than: str = "") -> list[str]:
    """A mark for each step: filled where it was full, hollow where it was forecast."""
    marks = []
    for step, ((x, y), full, distance) in enumerate(zip(places, run.full, run.distance, strict=True)):
        kind = "full" if full else "forecast"
        said = escape(f"{label}, step {step}, {kind}: {distance:.3f}{than}")
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        marks.append(f'<g class="step {kind}"><title>{said}</title>{circle}</g>')
    return marks


def _distances(runs: Sequence[Trajectory], labels: Mapping[str, str]) -> str:
    """The distance to the full run at each step."""
    steps = len(runs[0].points)
    most = max(max(run.distance) for run in runs) or 1.0
    across, up = Axis(0, steps - 1, LEFT, WIDE - RIGHT), Axis(0, 1.08 * most, HEIGHT - BOTTOM, TOP)
    parts = [
        _open("distances", WIDE, HEIGHT, "Distance from the full run, by step"),
        _text("title", LEFT - 34, 14, "Distance from the full run's features, relative L2"),
        _text("tick", WIDE - RIGHT, HEIGHT - 1, "step", "end"),
    ]
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("tick", LEFT - 10, y + 4, f"{value:g}", "end"))
    for step in range(0, steps, max(1, steps // 10)):
        parts.append(_text("tick", across.place(step), HEIGHT - BOTTOM + 16, str(step), "middle"))
    ends = _apart([up.place(run.distance[-1]) for run in runs])
    for number, (run, end) in enumerate(zip(runs, ends, strict=True)):
        places = [(across.place(step), up.place(value)) for step, value in enumerate(run.distance)]
        label = labels.get(run.name, run.name)
        parts.append(
            f'<g class="run run{number % 4}" data-row="{escape(run.name)}"><polyline points="{_line(places)}"/>'
        )
        parts += [*_steps(run, places, label), _text("name", WIDE - RIGHT + 12, end + 4, label), "</g>"]
    return "\n".join([*parts, "</svg>"])


def _open(kind: str, width: float, height: float, label: str) -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'


def _text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(places: Iterable[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _apart(places: Sequence[float], least: float = 15) -> list[float]:
    """Heights near some places, at least so far apart, in the same order."""
    moved = dict(enumerate(places))
    for before, after in pairwise(sorted(moved, key=lambda index: moved[index])):
        moved[after] = max(moved[after], moved[before] + least)
    return [moved[index] for index in range(len(places))]
