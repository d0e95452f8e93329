"""Students distilled for K steps, with the training of both our student and our predictor, against forecasts with K
full steps."""

from __future__ import annotations

import json

from disca.caching.methods import disca
from disca.lab.reproduce.designs import BUDGET, OURS, trained
from disca.lab.reproduce.findings import ratio, verdict
from disca.lab.reproduce.frontier import LONG
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage, student_of
from disca.lab.reproduce.trainings import Training, Variant, cost, trainings
from disca.lab.reproduce.work import Work
from disca.training.recipe import load

NAME = "rivals"
_SHARES = {"objective.instant_share": 0.0625, "objective.restricted_share": 0.0625}
TERMINAL = {4: 0.65, 8: 0.45}
"""Longest last intervals, by the steps that a student is distilled for. The other intervals are below its limit."""
VARIANTS = tuple(
    Variant(
        f"for_{steps}",
        f"student distilled for {steps} steps",
        "lab_student",
        {**_SHARES, "objective.steps": [steps], "objective.terminal": terminal},
    )
    for steps, terminal in TERMINAL.items()
)


def rivals(work: Work) -> None:
    """Train, and compare with the teacher's and the guided base's long runs, which both aim at."""
    rows = [row(LONG, "base, guided, 200 steps", stage("base"), 200)]
    rows.append(row("teacher_200", "teacher, 200 plain steps", stage("distilled"), 200))
    rows += [row(f"student_{n}", f"student, {n} plain steps", stage("student"), n) for n in (20, 8, 4)]
    for training in trainings(work, NAME, VARIANTS, spent(work)):
        steps = training.variant.changes["objective.steps"][0]
        label = f"{training.variant.label}, seed {training.seed}"
        rows.append(row(_name(training), label, student_of(training), steps, **training.about))
    for seed, training in trained(work, OURS).items():
        for steps, full in LISTS.items():
            policy = disca(predictor_of(training), full_steps=full)
            label = f"ours, {steps} steps, {len(full)} full, seed {seed}"
            about = {**training.about, "variant": f"ours, {steps} steps, {len(full)} full"}
            rows.append(row(f"ours_{seed}_{len(full)}", label, stage("student"), steps, policy, **about))
    found, turns = work.measure(
        NAME, joined(beside(rows, LONG), beside(rows[1:], "teacher_200")), title="Students distilled for fewer steps"
    )
    said = {}
    for steps in TERMINAL:
        ours, theirs = ([f"{kind}_{seed}_{steps}" for seed in work.seeds] for kind in ("ours", "for"))
        said[str(steps)] = {run: ratio(turns, ours, theirs, run) for run in (LONG, "teacher_200")}
    verdicts = {one.name: verdict(one, found[0]) for one in found if one.reference == LONG}
    work.write(NAME, {"ours_over_theirs": said, "verdicts": verdicts, "budget": spent(work)})


def spent(work: Work) -> float:
    """Operations that our student and a predictor took, in units of 10^12."""
    recipe = work.recipes / "lab_student.toml"
    return load(recipe).iterations * cost(recipe, json.dumps({})) + BUDGET


def _name(training: Training) -> str:
    return f"for_{training.seed}_{training.variant.changes['objective.steps'][0]}"
