"""One clip of the lab, into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from disca.caching.methods import from_name
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.caching.summary import Summary
from disca.errors import unknown
from disca.lab import weights
from disca.lab.measure import GUIDANCE
from disca.lab.show import FULL_STEPS, STEPS, pixels
from disca.lab.words import parse
from disca.report.clips import write_clip
from disca.schedules import Schedule

MODELS = {"lab": "student", "lab-base": "base", "lab-distilled": "distilled", "lab-student": "student"}


def sample_clip(
    prompt: str,
    *,
    model: str = "lab",
    policy: str = "disca",
    steps: int = STEPS,
    full_steps: Sequence[int] | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    output: str | Path,
) -> Summary:
    """Sample one clip and write it.

    Args:
        prompt: Such as "a blue three bouncing up".
        model: ``lab`` (the student), ``lab-base``, ``lab-distilled`` or ``lab-student``.
        policy: A method's name, or ``none``.
        full_steps: Steps to compute in full; a spread over the run by default.
        output: ``.mp4``, ``.gif``, ``.webp`` or ``.png``.

    Raises:
        ValueError: words the lab does not know; an unknown model or policy; a schedule that does not fit.
    """
    text = str(parse(prompt))
    if model not in MODELS:
        raise ValueError(unknown("model", model, MODELS))
    rules = _policy(policy, steps, full_steps)
    pipe = weights.pipeline(MODELS[model])
    with attach(pipe, rules) as run:
        frames = pipe(
            text,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE if guidance_scale is None else guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).frames
    write_clip(output, pixels(frames[0].movedim(0, 1)))
    return run.summary()


def _policy(name: str, steps: int, full_steps: Sequence[int] | None) -> Policy:
    if name == "none":
        if full_steps is not None:
            raise ValueError("full_steps go with a policy; without one every step is full.")
        return ()
    schedule = Schedule(steps, tuple(full_steps) if full_steps is not None else default_full_steps(steps))
    options: dict[str, Any] = {"full_steps": schedule}
    if name == "disca":
        options["predictor"] = weights.predictor()
    return from_name(name, **options)


def default_full_steps(steps: int) -> tuple[int, ...]:
    """About half of the steps, the first and the last among them; the quickstart's list at its step count."""
    return FULL_STEPS if steps == STEPS else tuple(sorted({*range(0, steps, 2), steps - 1}))
