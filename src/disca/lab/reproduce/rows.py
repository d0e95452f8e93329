"""Rows of the lab's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

from disca.bench.models import Model
from disca.bench.rows import Row
from disca.bench.sampling import Trial
from disca.caching.policy import Policy
from disca.lab import measure
from disca.lab.measure import GUIDANCE, judged
from disca.lab.pipeline import LabPipeline
from disca.lab.reproduce.trainings import Training
from disca.lab.reproduce.work import TURN
from disca.predictor.network import Predictor

LISTS: Mapping[int, tuple[int, ...]] = {8: (0, 2, 4, 7), 20: (0, 1, 2, 5, 9, 13, 17, 19)}
"""The authors' full steps (arXiv 2602.05449)."""


@cache
def stage(name: str) -> Model:
    """A packaged stage of the lab, loaded once."""
    return measure.model(name)


def student_of(training: Training) -> Model:
    """A student that was trained."""
    pipe = LabPipeline.from_pretrained(training.result())
    pipe.set_progress_bar_config(disable=True)
    return Model(pipe=pipe, call={"guidance_scale": GUIDANCE}, student=True, measure=judged())


def predictor_of(training: Training) -> Predictor:
    """A predictor that was trained."""
    found: Predictor = Predictor.from_pretrained(training.result()).eval().requires_grad_(False)
    return found


def row(
    name: str, label: str, of: Model, steps: int, policy: Policy = (), *, solver: str = "euler", **about: Any
) -> Row:
    """A row that is sampled; ``about`` is what its record says besides, such as variant and seed."""
    trial = Trial(name=name, model=of, steps=steps, policy=policy, batch=TURN, solver=solver)
    return Row(name=name, label=label, trial=trial, policy="none" if not policy else name, extra=about)


def beside(rows: Sequence[Row], reference: str, over: str | None = None) -> list[Row]:
    """Rows that are compared with a run, one of them.

    Args:
        over: The run that speed compares with; the reference when left out.
    """
    found = []
    for one in rows:
        known = None if one.name == reference else reference
        trial = replace(one.trial, references=(known,) if known else ())
        found.append(replace(one, trial=trial, reference=known, over=over or reference))
    return found


def joined(*tables: Sequence[Row]) -> list[Row]:
    """Tables that are sampled together: one trial for all rows that show it, with the references of all. A row's
    second comparison is called ``ROW_to_RUN``."""
    references: dict[str, dict[str, None]] = {}
    for one in chain(*tables):
        references.setdefault(one.trial.name, {}).update(dict.fromkeys(one.trial.references))
    found: dict[str, Row] = {}
    for one in chain(*tables):
        if one.name in found and one.reference is None:
            continue
        name = one.name if one.name not in found else f"{one.name}_to_{one.reference}"
        trial = replace(one.trial, references=tuple(references[one.trial.name]))
        found[name] = replace(one, name=name, trial=trial)
    return list(found.values())
