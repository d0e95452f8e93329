"""The lab's pipelines to sample with, by the names that the command line has for them."""

from __future__ import annotations

from disca.bench.models import Model
from disca.errors import unknown
from disca.lab import weights
from disca.lab.measure import GUIDANCE
from disca.lab.show import FULL_STEPS, STEPS

MODELS = {"lab": "student", "lab-base": "base", "lab-distilled": "distilled", "lab-student": "student"}


def model(name: str) -> Model:
    """``lab`` (the student), ``lab-base``, ``lab-distilled`` or ``lab-student``; the student with its predictor.

    Raises:
        ValueError: none of them.
    """
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS))
    student = MODELS[name] == "student"
    return Model(
        pipe=weights.pipeline(MODELS[name]),
        call={"guidance_scale": GUIDANCE},
        predictor=weights.predictor() if student else None,
        student=student,
    )


def default_full_steps(steps: int) -> tuple[int, ...]:
    """About half of the steps, the first and the last among them; the quickstart's list at its step count."""
    return FULL_STEPS if steps == STEPS else tuple(sorted({*range(0, steps, 2), steps - 1}))
