"""What a predictor is trained by: squared error, matched features, a discriminator; rollouts or the paper's pairs; on
the student that it is used on, or before that was distilled (the ablation of arXiv 2602.05449)."""

from __future__ import annotations

from typing import Any

from disca.caching.methods import disca, reuse, taylor
from disca.lab.reproduce.findings import ratio
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage
from disca.lab.reproduce.trainings import Variant, trainings
from disca.lab.reproduce.work import Work

NAME = "objectives"
BUDGET = 11.2
"""10^12 operations of each predictor."""
_JUDGED = {
    "objective.adversarial": 1.0,
    "objective.matching": 1.0,
    "optimiser.lr": 3e-4,
    "optimiser.betas": [0.0, 0.99],
}
MSE = Variant("mse", "squared error, rollouts", "lab_fit")
VARIANTS = (
    MSE,
    Variant("same_noise", "squared error, same noise", "lab_fit", {"objective.pairs": "same_noise"}),
    Variant("matching", "and matched features", "lab_fit", {"objective.matching": 1.0}),
    Variant(
        "adversarial",
        "and a discriminator for the last third of the cost",
        "lab_fit",
        _JUDGED,
        after=MSE,
        share=1 / 3,
    ),
    Variant("undistilled", "squared error, rollouts of the student's teacher", "lab_fit", {"start": "distilled"}),
)


def objectives(work: Work) -> None:
    """Train, and compare on the lab's student with its runs of full steps."""
    student, rows = stage("student"), []
    for steps, full in LISTS.items():
        rows.append(row(f"full_{steps}", f"student, {steps} full steps", student, steps))
        for name, method in (("reuse", reuse), ("taylor", taylor)):
            rows.append(row(f"{name}_{steps}", name, student, steps, method(full_steps=full)))
    for training in trainings(work, NAME, VARIANTS, BUDGET):
        predictor = predictor_of(training)
        for steps, full in LISTS.items():
            name = f"{training.variant.name}_{training.seed}_{steps}"
            label = f"{training.variant.label}, seed {training.seed}, {steps} steps"
            rows.append(row(name, label, student, steps, disca(predictor, full_steps=full), **training.about))
    tables = (beside([one for one in rows if one.trial.steps == steps], f"full_{steps}") for steps in LISTS)
    _, turns = work.measure(NAME, joined(*tables), title="What a predictor is trained by")
    said: dict[str, Any] = {}
    for steps in LISTS:
        names = {one.name: [f"{one.name}_{seed}_{steps}" for seed in work.seeds] for one in VARIANTS}
        for one in VARIANTS[1:]:
            said[f"{one.name}_{steps}"] = ratio(turns, names[one.name], names[MSE.name], f"full_{steps}")
    work.write(NAME, {"over_mse": said, "budget": BUDGET})
