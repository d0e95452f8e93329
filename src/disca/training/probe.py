"""What a mean-flow target would see of a teacher: how far the ways to a derivative agree, and how much it matters.

The second time starts at nothing, so the derivative measured is the teacher's own along its trajectory, which is what a
student begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disca.flow.jvp import METHODS, du_dt
from disca.flow.path import expand, point
from disca.training import clips, recipe
from disca.training.clips import Draw
from disca.training.distill import MeanFlow, drawn
from disca.training.train import stage_of
from disca.training.trunk import grid_of

TIMES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
AGREE = 0.2
"""Relative difference of differences and exact derivative, above which the derivative is mostly of fast components."""
SMALL = 0.02
"""Of ``(t - r) |du/dt|`` over ``|v|``, below which every target is nearly the velocity."""
LONG = 8192
"""Tokens above which the attention matrix of a derivative does not fit most devices."""


@dataclass(frozen=True)
class Row:
    """One time."""

    t: float
    size: float
    """``(t - r) |du/dt| / |v|`` at ``t - r`` of the restriction."""
    disagreement: dict[str, float]
    """Of each way from the exact derivative, relative."""


@dataclass(frozen=True)
class Report:
    """What was measured, and what follows."""

    rows: tuple[Row, ...]
    tokens: int
    dtype: str
    target: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def probe(path: str | Path, *, overrides: Sequence[str] = (), times: Sequence[float] = TIMES, batch: int = 4) -> Report:
    """Measure the teacher of a recipe of the stage ``mean_flow``.

    Raises:
        ValueError: a recipe of another stage, or one that is bad.
    """
    settings = recipe.load(path, overrides)
    options = stage_of(settings, str(path))
    if not isinstance(options, MeanFlow):
        raise ValueError(
            f"{path} is a recipe of the stage {settings.stage}; a probe measures the teacher of mean_flow."
        )
    mine = recipe.changed(settings, batch=batch, compile=False)
    task = options.task(mine, clips.find(settings.source, settings.model, where=str(path)))
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    with torch.no_grad(), torch.autocast(task.pipe.device.type, dtype, dtype is torch.bfloat16, cache_enabled=False):
        rows = tuple(_row(task, options, t) for t in times)
        tokens = _tokens(task)
    target, reason = recommend(rows, tokens, settings.dtype)
    return Report(rows, tokens, settings.dtype, target, reason)


def recommend(rows: Sequence[Row], tokens: int, dtype: str) -> tuple[str, str]:
    """A target, and why."""
    size = max(row.size for row in rows)
    apart = max(row.disagreement["central"] for row in rows)
    if size < SMALL:
        return (
            "solver",
            f"the derivative moves the target by at most {size:.1%} of v: any target will do, so the safest",
        )
    if apart > AGREE:
        return "solver", (
            f"differences are up to {apart:.0%} off the exact derivative: the network has components in time that are "
            "faster than the step, and its own derivative is no guide. Then difference, which averages over them"
        )
    if dtype == "bfloat16":
        return (
            "difference",
            f"the ways agree within {apart:.0%}, and differences need no unfused attention; watch the noise",
        )
    if tokens > LONG:
        return (
            "difference",
            f"the ways agree within {apart:.0%}; {tokens} tokens make exact ones slow (method='chunked')",
        )
    return "jvp", f"the ways agree within {apart:.0%}, and {tokens} tokens fit an exact derivative"


def _row(task: Any, options: MeanFlow, time: float) -> Row:
    draw = Draw.fixed(task.recipe.seed)
    batch, noise = drawn(task.source, task.recipe, draw, task.pipe.device)
    scale = torch.full((len(noise),), options.scale, device=noise.device)
    teacher, student = task.hosts(batch, scale)
    t = torch.full((len(noise),), time, device=noise.device)
    r = (t - options.limit).clamp(min=0)
    x = point(batch.latents, noise, t)
    v = teacher(x, t)
    found: dict[str, Tensor] = {
        method: du_dt(student, x, t, r, v, method=method, eps=options.eps) for method in METHODS
    }
    exact = found["forward"]
    size = _norm(expand(t - r, x) * exact) / _norm(v)
    apart = {method: float((_norm(one - exact) / _norm(exact)).mean()) for method, one in found.items()}
    return Row(time, float(size.mean()), apart)


def _tokens(task: Any) -> int:
    batch, _ = drawn(task.source, task.recipe, Draw.fixed(task.recipe.seed), task.pipe.device)
    return prod(grid_of(task.student, batch.latents))


def _norm(x: Tensor) -> Tensor:
    return x.float().flatten(1).norm(dim=1).clamp(min=1e-12)
