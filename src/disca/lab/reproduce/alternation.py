"""Schedule and predictor fitted to each other: full steps computed for a predictor, and a predictor trained on those.

Half of the training is on the authors' lists; then lists are computed for what it gave, the other half is on them, and
they are computed anew. Beside it stands a predictor that was trained on the authors' lists all the time, with lists
computed for it once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from disca.bench.rows import Row
from disca.caching.methods import disca
from disca.lab.reproduce.designs import BUDGET, OURS, trained
from disca.lab.reproduce.findings import ratio
from disca.lab.reproduce.plans import plan
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage
from disca.lab.reproduce.trainings import Training
from disca.lab.reproduce.work import Work

NAME = "alternation"


def alternation(work: Work) -> None:
    """Train, compute lists, train on, and compare."""
    rows = [row(f"student_{steps}", f"student, {steps} steps", stage("student"), steps) for steps in LISTS]
    for seed, once in trained(work, OURS).items():
        half = Training(work, OURS, seed, BUDGET / 2, work.runs / NAME / f"half_{seed}")
        rows += _rows(once, f"ours_{seed}", "once", "lists computed once")
        rows += _rows(_second(half), f"second_{seed}", "twice", "trained on computed lists, computed again")
    tables = (beside([one for one in rows if one.trial.steps == steps], f"student_{steps}") for steps in LISTS)
    _, turns = work.measure(NAME, joined(*tables), title="Schedule and predictor fitted to each other")
    said = {}
    for steps in LISTS:
        twice, once_ = ([f"{kind}_{seed}_{steps}" for seed in work.seeds] for kind in ("twice", "once"))
        said[str(steps)] = ratio(turns, twice, once_, f"student_{steps}")
    work.write(NAME, {"twice_over_once": said})


def _second(half: Training) -> Training:
    """The other half, on lists computed for what the first gave."""
    before, seed, work = half.result(), half.seed, half.work
    lists = [list(_plan(half, f"half_{seed}", steps)) for steps in LISTS]
    changes: dict[str, Any] = {"objective.predictor": str(before), "objective.full_steps": lists}
    variant = replace(OURS, changes={**OURS.changes, **changes})
    return replace(half, variant=variant, folder=work.runs / NAME / f"second_{seed}")


def _plan(training: Training, name: str, steps: int) -> tuple[int, ...]:
    options = {"predictor": predictor_of(training)}
    return plan(training.work, name, "disca", steps, len(LISTS[steps]), options)


def _rows(training: Training, name: str, kind: str, label: str) -> list[Row]:
    predictor, rows = predictor_of(training), []
    for steps in LISTS:
        policy = disca(predictor, full_steps=_plan(training, name, steps))
        about = {**training.about, "variant": label}
        said = f"{label}, seed {training.seed}, {steps} steps"
        rows.append(row(f"{kind}_{training.seed}_{steps}", said, stage("student"), steps, policy, **about))
    return rows
