"""Schedule and predictor fitted to each other: full steps computed for a predictor, and a predictor trained on those.

Half of the training is on the authors' lists; then lists are computed for what it gave, the other half is on them, and
they are computed anew. Beside it stands a predictor that was trained on the authors' lists all the time, with lists
computed for it once. Both are sampled on the authors' lists too.
"""

from __future__ import annotations

from collections.abc import Sequence
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
KINDS = ("once", "hand", "twice", "its_hand")
"""Computed and authors' lists, for the predictor of the authors' lists and for that of computed ones."""


def alternation(work: Work) -> None:
    """Train, compute lists, train on, and compare."""
    rows = [row(f"student_{steps}", f"student, {steps} steps", stage("student"), steps) for steps in LISTS]
    for seed, once in trained(work, OURS).items():
        half = Training(work, OURS, seed, BUDGET / 2, work.runs / NAME / f"half_{seed}")
        rows += _rows(once, f"ours_{seed}", KINDS[:2], "trained on the authors' lists")
        rows += _rows(_second(half), f"second_{seed}", KINDS[2:], "half of it on computed lists")
    tables = (beside([one for one in rows if one.trial.steps == steps], f"student_{steps}") for steps in LISTS)
    found, turns = work.measure(NAME, joined(*tables), title="Schedule and predictor fitted to each other")
    said: dict[str, Any] = {"twice_over_once": {}, "twice_over_hand": {}, "twice_over_its_hand": {}, "lists": {}}
    for steps in LISTS:
        named = {kind: [f"{kind}_{seed}_{steps}" for seed in work.seeds] for kind in KINDS}
        for other in ("once", "hand", "its_hand"):
            said[f"twice_over_{other}"][str(steps)] = ratio(turns, named["twice"], named[other], f"student_{steps}")
        said["lists"][str(steps)] = {
            kind: [list(one.full_steps) for one in found if one.name in named[kind]] for kind in ("once", "twice")
        }
    work.write(NAME, said)


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


def _rows(training: Training, name: str, kinds: Sequence[str], label: str) -> list[Row]:
    """On the lists computed for it, and on the authors'."""
    predictor, rows = predictor_of(training), []
    for steps, hand in LISTS.items():
        lists = {"computed": _plan(training, name, steps), "hand": hand}
        for kind, (whose, full) in zip(kinds, lists.items(), strict=True):
            policy, variant = disca(predictor, full_steps=full), f"{label}, {whose} list"
            said = f"{variant}, seed {training.seed}, {steps} steps"
            about = {**training.about, "variant": variant}
            rows.append(row(f"{kind}_{training.seed}_{steps}", said, stage("student"), steps, policy, **about))
    return rows
