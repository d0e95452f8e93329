"""What the lab adds to the bench: its stages as models, its held-out prompts, and what its judge sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from disca.bench.models import Model, Pairs
from disca.errors import unknown
from disca.lab import weights
from disca.lab.judge import Judge, Verdict
from disca.lab.words import HELD_OUT, parse, sample
from disca.lab.world import World
from disca.metrics.frechet import Gaussian
from disca.metrics.intervals import bootstrap_statistic, wilson

GUIDANCE = 3.0
REAL_CLIPS = 1000
"""Real clips that a Frechet distance compares with."""
SOURCES = {"lab-base": "base", "lab-distilled": "distilled", "lab-student": "student"}
"""What grids call the stages."""


def held_out(count: int, seed: int) -> Pairs:
    """Held-out prompts, each about as often as any other, with a seed of their own each."""
    prompts = tuple(str(prompt) for prompt in sample(HELD_OUT, count, seed))
    return Pairs(prompts, tuple(range(seed * 1_000_000, seed * 1_000_000 + count)))


def model(stage: str) -> Model:
    """A stage of the lab as the bench measures it.

    Raises:
        ValueError: an unknown stage.
    """
    return Model(
        pipe=weights.pipeline(stage),
        call={"guidance_scale": GUIDANCE},
        predictor=weights.predictor() if stage == "student" else None,
        student=stage == "student",
        measure=judged(),
        prompts=tuple(map(str, HELD_OUT)),
    )


def from_source(source: str) -> Model:
    """The stage that a grid calls ``source``.

    Raises:
        ValueError: none is called so.
    """
    if source not in SOURCES:
        raise ValueError(unknown("model of the lab", source, SOURCES))
    return model(SOURCES[source])


class Judged:
    """What the lab's judge reads off clips: semantic accuracy, Frechet distance to real clips, amplitude of motion."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def look(self, clips: Tensor, prompts: Sequence[str]) -> Mapping[str, Tensor]:
        """Of clips ``[batch, frames, 3, height, width]``: which attributes are the prompt's, features, amplitude."""
        verdict: Verdict = self._judge.read(clips.movedim(1, 2))
        right = verdict.right([parse(prompt) for prompt in prompts])
        seen = {f"right.{name}": value for name, value in right.items()}
        return {**seen, "features": verdict.features, "amplitude": verdict.amplitude}

    def summarise(self, seen: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Fields of a record."""
        right, features = seen["right.all"], seen["features"]
        accuracy = {
            name.removeprefix("right."): value.float().mean().item() for name, value in seen.items() if "right" in name
        }
        intervals: dict[str, Any] = {"semantic_accuracy": wilson(int(right.sum()), len(right))}
        found: dict[str, Any] = {"semantic_accuracy": accuracy["all"]}
        if len(features) > 1:
            real = _real_features(self._judge)
            found["frechet"] = _frechet_of(features, real, slice(None))
            intervals["frechet"] = bootstrap_statistic(partial(_frechet_of, features, real), len(features))
        extra = {"accuracy": accuracy, "amplitude": seen["amplitude"].mean().item()}
        return {**found, "intervals": intervals, "extra": extra}


def _frechet_of(features: Tensor, real: Gaussian, rows: Any) -> float:
    return Gaussian.of(features[rows]).distance(real)


@cache
def judged() -> Judged:
    """The lab's judge as a measure, one for all stages."""
    return Judged(weights.judge())


@cache
def _real_features(judge: Judge) -> Gaussian:
    """Of the features of real held-out clips, through no model and no codec."""
    prompts = sample(HELD_OUT, REAL_CLIPS, 7)
    clips = World().clips(prompts, torch.Generator().manual_seed(7), split="test")
    return Gaussian.of(judge.read(clips).features)
