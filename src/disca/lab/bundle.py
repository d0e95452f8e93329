"""The lab's weights as a bundle, for the guidance-distilled pipeline: what a user of a big model would be given."""

from __future__ import annotations

import json
from typing import Any

from disca.bundle import Bundle, MadeFor
from disca.lab import weights
from disca.lab.measure import GUIDANCE
from disca.schedules import Schedule

SCHEDULES = (Schedule(8, (0, 2, 5, 7)), Schedule(20, (0, 4, 6, 9, 13, 16, 18, 19)))
"""Computed for the predictor, by ``disca calibrate schedule``."""
TRAINED = {"student": "student", "predictor": "predictor"}
"""How its parts were trained is noted in these folders of the lab's weights."""


def bundle() -> Bundle:
    """Student, second time, predictor and its schedules."""
    pipe = weights.pipeline("student")
    return Bundle.for_host(
        pipe.transformer,
        base="the lab's guidance-distilled pipeline: disca.lab.weights.pipeline('distilled')",
        licence="apache-2.0",
        made_for=MadeFor(latents=tuple(pipe.codec.latent_shape), shift=pipe.scheduler.config.shift, guidance=GUIDANCE),
        schedules=SCHEDULES,
        student=pipe.transformer,
        second_time=pipe.second_time,
        predictor=weights.predictor(),
        training={name: _trained(folder) for name, folder in TRAINED.items()},
    )


def _trained(folder: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((weights.FOLDER / folder / "training.json").read_text())
    return about
