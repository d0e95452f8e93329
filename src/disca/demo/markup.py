"""What the page shows, as HTML. Every value goes through a template that escapes it."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from disca.demo.curve import THIS, Curve
from disca.demo.difference import GAIN
from disca.demo.runs import WHOLE, Outcome, Side
from disca.demo.timeline import Timeline
from disca.demo.work import Progress
from disca.report.clips import write_clip

FPS = 8
SMALLEST = 320
"""Pixels that a clip's shorter side has on the page at least."""


@dataclass(frozen=True)
class Pane:
    """One clip of a result."""

    kind: str
    title: str
    source: Markup
    facts: tuple[tuple[str, str, str], ...]
    """Name, value and meaning of each."""


def result(outcome: Outcome, folder: Path, fps: float = FPS) -> str:
    """Both clips and their difference, playing in step, with what they took. The clips are written into ``folder``, and
    are inside of the page."""
    whole, fast = outcome.whole, outcome.fast
    height, width = whole.frames.shape[1:3]
    closeness = (
        ("PSNR", _decibels(outcome.psnr), "Closeness of the accelerated clip to the full one; higher is closer"),
        ("relative L2", f"{outcome.relative_l2:.3f}", "Size of the difference over that of the full clip"),
    )
    panes = [
        Pane("full", WHOLE, _video(folder / "full.mp4", whole.frames, fps), _facts(whole)),
        Pane("fast", "Accelerated", _video(folder / "accelerated.mp4", fast.frames, fps), _facts(fast)),
        Pane("apart", "Difference", _video(folder / "difference.mp4", outcome.difference, fps), closeness),
    ]
    return _render(
        "result.html",
        headline=f"{outcome.speedup:.2f}× as fast",
        aside=f"{outcome.wish.prompt}, seed {outcome.wish.seed}: {outcome.policy}",
        beat=len(whole.frames) / fps,
        width=width,
        height=height,
        panes=panes,
        steps=outcome.wish.steps,
        full=set(fast.full),
        legend=_legend(outcome, folder),
    )


def status(text: str, *, kind: str = "note", share: float | None = None) -> str:
    """A line that says what happens. ``kind`` is ``note``, ``work`` or ``error``."""
    return _render("status.html", text=text, kind=kind, share=share)


def progress(event: Progress) -> str:
    """How far work is."""
    if not event.total:
        return status(f"{event.what} …", kind="work", share=0.0)
    return status(f"{event.what}: step {event.done} of {event.total}", kind="work", share=event.done / event.total)


def picture(curve: Curve) -> str:
    """Speed against closeness, with the present choice and run marked."""
    return _render("curve.html", svg=Markup(_marked(curve)), words=curve.words)


def timeline_note(timeline: Timeline) -> str:
    """What a timeline says below itself."""
    hint = " Click a step to change that." if timeline.clickable and timeline.full is not None else ""
    return str(Markup('<p class="small">{}</p>').format(timeline.note + hint))


def _marked(curve: Curve) -> str:
    """The picture, with classes for its marked points."""
    svg = curve.svg
    for name, kind in ((curve.chosen, "chosen"), (THIS, "this")):
        if name:
            svg = svg.replace(f'" data-row="{escape(name)}"', f' {kind}" data-row="{escape(name)}"')
    return svg


def _facts(side: Side) -> tuple[tuple[str, str, str], ...]:
    return (
        ("seconds", _seconds(side.seconds), "Wall-clock of the sampling loop"),
        ("passes", str(side.passes), "Full evaluations of the transformer"),
    )


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def _decibels(value: float) -> str:
    return "equal" if math.isinf(value) else f"{value:.1f} dB"


def _legend(outcome: Outcome, folder: Path) -> str:
    forecast = outcome.wish.steps - len(outcome.fast.full)
    timed = f"Seconds are those of the fastest of {outcome.turns} turns. " if outcome.turns > 1 else ""
    return (
        f"{len(outcome.fast.full)} steps in full, {forecast} forecast. {timed}"
        f"The difference is shown {GAIN} times as large as it is. Kept in {folder.parent.name}/{folder.name}."
    )


def _video(path: Path, frames: Any, fps: float) -> Markup:
    write_clip(path, frames, fps=fps, scale=max(1, round(SMALLEST / min(frames.shape[1:3]))))
    return Markup(f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}")


def _render(template: str, **values: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(**values)


_ENVIRONMENT = Environment(
    loader=PackageLoader("disca.demo"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
