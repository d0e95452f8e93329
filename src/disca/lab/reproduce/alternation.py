"""Schedule and predictor fitted to each other: full steps computed for a predictor, and a predictor trained on those.

Lists are computed for the predictors of the designs, which were trained on the authors' lists. Then each is trained on
by what the errors of a run come to together, once on the authors' lists and once on the computed ones, at equal cost,
and lists are computed anew. All are sampled on the authors' lists too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from disca.bench.rows import Row
from disca.bench.turns import Turns
from disca.caching.methods import disca
from disca.lab.reproduce.designs import OURS, trained
from disca.lab.reproduce.findings import ratio
from disca.lab.reproduce.plans import plan
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage
from disca.lab.reproduce.trainings import Training, Variant
from disca.lab.reproduce.work import Work
from disca.records import Record

NAME = "alternation"
BUDGET = 18.0
"""10^12 operations of each predictor that is trained on, beside those of the design that it goes on from."""
ON = {
    **OURS.changes,
    "objective.begin": "noise",
    "objective.targets": max(LISTS),
    "objective.together": 0.9,
    "objective.shares": [0.6, 0.4],
    "objective.random": 0.25,
    "optimiser.lr": 6e-4,
    "optimiser.warmup": 50,
}
LABELS = {
    "once": "not trained on",
    "kept": "trained on, on the authors' lists",
    "fitted": "trained on, on computed lists",
}


def alternation(work: Work) -> None:
    """Train, compute lists, train on, and compare."""
    runs = {"once": trained(work, OURS), "kept": kept(work), "fitted": fitted(work)}
    rows = [row(f"student_{steps}", f"student, {steps} steps", stage("student"), steps) for steps in LISTS]
    rows += [one for name, found in runs.items() for training in found.values() for one in _rows(name, training)]
    tables = (beside([one for one in rows if one.trial.steps == steps], f"student_{steps}") for steps in LISTS)
    found, turns = work.measure(NAME, joined(*tables), title="Schedule and predictor fitted to each other")
    by_name = {one.name: one for one in found}
    work.write(NAME, {str(steps): _said(work, turns, by_name, steps) for steps in LISTS})


def kept(work: Work) -> dict[int, Training]:
    """The designs' predictors trained on, on the authors' lists; by seed."""
    return {seed: _on(once, "kept", LISTS) for seed, once in trained(work, OURS).items()}


def fitted(work: Work) -> dict[int, Training]:
    """The designs' predictors trained on, on the lists computed for them; by seed."""
    first = trained(work, OURS).items()
    return {seed: _on(once, "fitted", {n: planned(once, "ours", n) for n in LISTS}) for seed, once in first}


def planned(training: Training, name: str, steps: int, full_steps: int | None = None) -> tuple[int, ...]:
    """The list computed for a predictor, of as many full steps as the authors' where no number is given."""
    count = full_steps or len(LISTS[steps])
    return plan(training.work, f"{name}_{training.seed}", "disca", steps, count, {"predictor": predictor_of(training)})


def _on(once: Training, name: str, lists: Mapping[int, Sequence[int]]) -> Training:
    changes = {
        **ON,
        "objective.predictor": str(once.result()),
        "objective.steps": list(lists),
        "objective.full_steps": [list(full) for full in lists.values()],
    }
    variant = Variant(name, LABELS[name], "lab_fit", changes)
    return Training(once.work, variant, once.seed, BUDGET, once.work.runs / NAME / f"{name}_{once.seed}")


def _rows(name: str, training: Training) -> list[Row]:
    """On the lists computed for it, and on the authors'."""
    predictor, rows = predictor_of(training), []
    for steps, hand in LISTS.items():
        lists = {"computed": planned(training, "ours" if name == "once" else name, steps), "hand": hand}
        for whose, full in lists.items():
            label = f"{LABELS[name]}, {whose} list"
            about = {**training.about, "variant": label}
            policy, title = disca(predictor, full_steps=full), f"{label}, seed {training.seed}, {steps} steps"
            rows.append(row(f"{name}_{whose}_{training.seed}_{steps}", title, stage("student"), steps, policy, **about))
    return rows


def _said(work: Work, turns: Turns, rows: Mapping[str, Record], steps: int) -> dict[str, Any]:
    """Ratios of errors, lists, and how many clips the judge reads."""
    names = {
        f"{name}_{whose}": [f"{name}_{whose}_{seed}_{steps}" for seed in work.seeds]
        for name in LABELS
        for whose in ("computed", "hand")
    }

    def over(first: str, second: str) -> dict[str, Any]:
        return ratio(turns, names[first], names[second], f"student_{steps}")

    return {
        "computed_over_hand": {name: over(f"{name}_computed", f"{name}_hand") for name in LABELS},
        "fitted_over": {name: over("fitted_computed", f"{name}_computed") for name in ("once", "kept")},
        "lists": {name: [list(rows[one].full_steps) for one in names[f"{name}_computed"]] for name in LABELS},
        "semantics": {name: [rows[one].semantic_accuracy for one in found] for name, found in names.items()},
    }
