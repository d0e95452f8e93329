"""Feature trajectories as pictures: each accelerated run beside the full one, and how far apart they are at each step."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from disca.report.frontier import Axis
from disca.trajectories import Trajectories, Trajectory

WIDTH, HEIGHT = 300, 250
EDGE, TOP, BOTTOM = 18, 30, 30
WIDE, LEFT, RIGHT = 720, 44, 230


def pictures(found: Trajectories, labels: Mapping[str, str]) -> list[str]:
    """A picture of each run but the reference, as SVG elements, and one of the distances of all."""
    axes = _axes(found)
    reference, *others = found.runs
    drawn = [_path(run, reference, axes, labels.get(run.name, run.name)) for run in others]
    return [*drawn, _distances(others, labels)] if others else []


def _axes(found: Trajectories) -> tuple[Axis, Axis]:
    """One scale for all pictures, the same in both directions."""
    xs, ys = zip(*(point for run in found.runs for point in run.points), strict=True)
    width, height = WIDTH - 2 * EDGE, HEIGHT - TOP - BOTTOM
    scale = max((max(xs) - min(xs)) / width, (max(ys) - min(ys)) / height) or 1.0
    x, y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    across = Axis(x - scale * width / 2, x + scale * width / 2, EDGE, WIDTH - EDGE)
    return across, Axis(y - scale * height / 2, y + scale * height / 2, HEIGHT - BOTTOM, TOP)


def _path(run: Trajectory, reference: Trajectory, axes: tuple[Axis, Axis], label: str) -> str:
    across, up = axes
    ours, whole = ([(across.place(x), up.place(y)) for x, y in one.points] for one in (run, reference))
    parts = [
        f'<svg class="path" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}: features along the run">',
        f'<text class="title" x="{EDGE - 8}" y="14">{escape(label)}</text>',
        f'<polyline class="whole" points="{_line(whole)}"/>',
        *(f'<circle class="whole" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in whole),
        *(
            f'<line class="gap" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"/>'
            for (a, b), (c, d) in zip(ours, whole, strict=True)
        ),
        f'<polyline class="ours" points="{_line(ours)}"/>',
    ]
    for step, ((x, y), full, distance) in enumerate(zip(ours, run.full, run.distance, strict=True)):
        kind = "full" if full else "forecast"
        said = f"{label}, step {step}, {kind}: {distance:.3f} from the full run"
        parts.append(
            f'<g class="step {kind}"><title>{escape(said)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    ends = [(ours[0], "step 0"), (ours[-1], f"step {len(ours) - 1}")]
    parts += [
        f'<text class="end" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{name}</text>' for (x, y), name in ends
    ]
    return "\n".join([*parts, "</svg>"])


def _distances(runs: list[Trajectory], labels: Mapping[str, str]) -> str:
    """The distance to the full run at each step."""
    steps = len(runs[0].points)
    most = max(max(run.distance) for run in runs) or 1.0
    across, up = Axis(0, steps - 1, LEFT, WIDE - RIGHT), Axis(0, 1.08 * most, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg class="distances" viewBox="0 0 {WIDE} {HEIGHT}" role="img" aria-label="Distance from the full run, by step">',
        f'<text class="title" x="{LEFT - 34}" y="14">Distance from the full run\'s features, relative L2</text>',
        f'<text class="tick" x="{WIDE - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>',
    ]
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in range(0, steps, max(1, steps // 10)):
        parts.append(
            f'<text class="tick" x="{across.place(step):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{step}</text>'
        )
    bases = _apart([up.place(run.distance[-1]) for run in runs])
    for number, (run, base) in enumerate(zip(runs, bases, strict=True)):
        places = [(across.place(step), up.place(value)) for step, value in enumerate(run.distance)]
        label = labels.get(run.name, run.name)
        parts.append(
            f'<g class="run run{number % 4}" data-row="{escape(run.name)}"><polyline points="{_line(places)}"/>'
        )
        for step, ((x, y), full) in enumerate(zip(places, run.full, strict=True)):
            kind = "full" if full else "forecast"
            said = f"{label}, step {step}, {kind}: {run.distance[step]:.3f}"
            parts.append(
                f'<g class="step {kind}"><title>{escape(said)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
            )
        parts.append(f'<text x="{WIDE - RIGHT + 10}" y="{base + 4:.1f}">{escape(label)}</text></g>')
    return "\n".join([*parts, "</svg>"])


def _line(places: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _apart(places: list[float], least: float = 15) -> list[float]:
    """Heights near some places, at least so far apart, in the same order."""
    moved = dict(enumerate(places))
    order = sorted(moved, key=lambda index: moved[index])
    for before, after in zip(order, order[1:], strict=False):
        moved[after] = max(moved[after], moved[before] + least)
    return [moved[index] for index in range(len(places))]
