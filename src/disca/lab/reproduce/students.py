"""Few-step students, with and without the restriction, beside the teacher's plain steps (arXiv 2602.05449, 4.2)."""

from __future__ import annotations

from disca.lab.reproduce.findings import ratio, verdict
from disca.lab.reproduce.rows import beside, joined, row, stage, student_of
from disca.lab.reproduce.trainings import Variant, trainings
from disca.lab.reproduce.work import Work

NAME = "students"
STEPS = (20, 10, 8, 4)
BUDGET = 27.6
"""10^12 operations of each student."""
_PAPER = {"objective.instant_share": 0.0, "objective.restricted_share": 1.0, "objective.terminal_share": 0.0}
VARIANTS = (
    Variant("restricted", "Restricted MeanFlow, R = 0.2", "lab_mean_flow", {**_PAPER, "objective.limit": 0.2}),
    Variant("wider", "Restricted MeanFlow, R = 0.4", "lab_mean_flow", {**_PAPER, "objective.limit": 0.4}),
    Variant("unrestricted", "MeanFlow, R = 1", "lab_mean_flow", {**_PAPER, "objective.limit": 1.0}),
)


def students(work: Work) -> None:
    """Train, and compare with the teacher's and the guided base's long runs."""
    teacher = stage("distilled")
    rows = [row("base_200", "base, guided, 200 steps", stage("base"), 200)]
    rows += [row("teacher_200", "teacher, 200 plain steps", teacher, 200)]
    rows += [row(f"teacher_{n}", f"teacher, {n} plain steps", teacher, n) for n in STEPS]
    for training in trainings(work, NAME, VARIANTS, BUDGET):
        model, name = student_of(training), f"{training.variant.name}_{training.seed}"
        for n in STEPS:
            label = f"{training.variant.label}, seed {training.seed}, {n} steps"
            rows.append(row(f"{name}_{n}", label, model, n, **training.about))
    both = joined(beside(rows, "base_200"), beside(rows[1:], "teacher_200"))
    found, turns = work.measure(NAME, both, title="Students, with and without the restriction")
    said = {}
    for n in STEPS:
        restricted, wider, unrestricted = ([f"{one.name}_{seed}_{n}" for seed in work.seeds] for one in VARIANTS)
        said[str(n)] = {
            "over_wider": ratio(turns, restricted, wider, "teacher_200"),
            "over_unrestricted": ratio(turns, restricted, unrestricted, "teacher_200"),
            "over_plain_steps": ratio(turns, restricted, [f"teacher_{n}"], "teacher_200"),
        }
    verdicts = {one.name: verdict(one, found[0]) for one in found if one.reference == "base_200"}
    work.write(NAME, {"restricted": said, "verdicts": verdicts, "budget": BUDGET})
