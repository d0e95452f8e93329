"""Compare ways of training on the lab, at equal cost and three seeds each: `python benchmarks/training.py`.

Two tables: few-step students (Restricted MeanFlow, without the restriction, and the guidance-distilled teacher's plain
steps) and predictors (squared error alone, with matched features, with a discriminator, on the paper's pairs). Every
run goes on where it was interrupted, and what is done is not done again, so the command may be repeated until it ends;
`--only students` or `--only predictors` makes one table. Cost is counted in operations, forward and backward; runs with
dearer iterations get fewer of them. Means and spreads over the seeds are made by `python benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from disca import records as files
from disca.bench.models import Model
from disca.bench.rows import Row
from disca.bench.sampling import Trial
from disca.bench.turns import Plan
from disca.caching.methods import disca, reuse, taylor
from disca.files import write_text_atomic
from disca.lab.measure import GUIDANCE, held_out, judged, model
from disca.lab.pipeline import LabPipeline
from disca.lab.show import measure
from disca.lab.source import LabSource
from disca.lab.tolerances import TOLERANCES
from disca.metrics.flops import count_flops
from disca.predictor.network import Predictor
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record
from disca.report.table import print_table
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.recipe import load
from disca.training.train import stage_of, train

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records"
SEEDS = (0, 1, 2)
PAIRS = 200
BATCH = 25
STEPS = (20, 10, 8, 4)
STUDENT_BUDGET, PREDICTOR_BUDGET = 27.6, 11.2
LISTS = (Schedule(8, (0, 2, 4, 7)), Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19)))


@dataclass(frozen=True)
class Variant:
    """One way to train: a recipe, and what is changed in it."""

    name: str
    label: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    """Variant whose predictor it goes on from; that one's cost counts too."""


PAPER = {"objective.instant_share": 0.0, "objective.restricted_share": 1.0, "objective.terminal_share": 0.0}
STUDENTS = (
    Variant("restricted", "Restricted MeanFlow, R = 0.2", "lab_mean_flow", {**PAPER, "objective.limit": 0.2}),
    Variant("unrestricted", "MeanFlow, R = 1", "lab_mean_flow", {**PAPER, "objective.limit": 1.0}),
)
PREDICTORS = (
    Variant("mse", "squared error, rollouts", "lab_fit"),
    Variant("same_noise", "squared error, same noise", "lab_fit", {"objective.pairs": "same_noise"}),
    Variant("matching", "and matched features", "lab_fit", {"objective.matching": 1.0}),
    Variant(
        "adversarial",
        "and a discriminator for the last third of the cost",
        "lab_fit",
        {"objective.adversarial": 1.0, "objective.matching": 1.0, "optimiser.lr": 3e-4, "optimiser.betas": [0.0, 0.99]},
        after="mse",
    ),
)
DRAWS = 4
"""Micro-batches that an iteration's cost is counted on."""


@cache
def cost(name: str) -> float:
    """Operations of an iteration, in units of 10^12, counted with every draw's own schedule."""
    variant = next(one for one in (*STUDENTS, *PREDICTORS) if one.name == name)
    changes = {**variant.changes, "compile": False, "batch": 8, "objective.alone": 0}
    if variant.recipe != "lab_fit":
        del changes["objective.alone"]
    path = ROOT / "recipes" / f"{variant.recipe}.toml"
    batch = load(path).batch
    settings = load(path, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    task = stage_of(settings, str(path)).task(settings, LabSource())

    def iterate(number: int) -> None:
        task.loss(Draw.seeded(0, number, iteration=number)).value.backward()

    counted = [count_flops(iterate, number) for number in range(DRAWS)]
    return mean(counted) * batch / 8 / 1e12


@dataclass(frozen=True)
class Job:
    """A run of training."""

    variant: Variant
    seed: int
    iterations: int
    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"variant": self.variant.label, "seed": self.seed, "iterations": self.iterations}

    def train(self, *more: str) -> Path:
        """The result, trained as far as it is not yet."""
        final = self.folder / "final"
        if (final / "training.json").exists():
            return final
        changes = {**self.variant.changes, "seed": self.seed, "iterations": self.iterations}
        given = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        path = ROOT / "recipes" / f"{self.variant.recipe}.toml"
        return train(path, overrides=[*given, *more], output=self.folder, resume=True)


def jobs(variants: tuple[Variant, ...], budget: float, runs: Path) -> Iterator[Job]:
    """Runs of every variant and seed, each within the same number of operations."""
    for seed in SEEDS:
        for variant in variants:
            share = 1 / 3 if variant.after else 1.0  # what it goes on from took the rest
            iterations = max(1, round(share * budget / cost(variant.name)))
            yield Job(variant, seed, iterations, runs / f"{variant.name}_{seed}")


def students(budget: float, runs: Path) -> list[Row]:
    """Rows of the first table."""
    teacher = model("distilled")
    rows = [row("base_200", "base, guided, 200 steps", model("base"), 200)]
    rows += [row("teacher_200", "teacher, 200 plain steps", teacher, 200)]
    rows += [row(f"teacher_{n}", f"teacher, {n} plain steps", teacher, n) for n in STEPS]
    for job in jobs(STUDENTS, budget, runs):
        pipe = LabPipeline.from_pretrained(job.train())
        pipe.set_progress_bar_config(disable=True)
        one = Model(pipe=pipe, call={"guidance_scale": GUIDANCE}, student=True, measure=judged())
        name, label = f"{job.variant.name}_{job.seed}", f"{job.variant.label}, seed {job.seed}"
        rows += [row(f"{name}_{n}", f"{label}, {n} steps", one, n, **job.about) for n in STEPS]
    return compared(rows, "base_200", "teacher_200")


def predictors(budget: float, runs: Path) -> list[Row]:
    """Rows of the second table: the lab's own student, with each predictor."""
    student = model("student")
    rows = [row(f"full_{one.steps}", f"student, {one.steps} full steps", student, one.steps) for one in LISTS]
    for one in LISTS:
        for name, method in (("reuse", reuse), ("taylor", taylor)):
            rows.append(row(f"{name}_{one.steps}", name, student, one.steps, method(full_steps=one)))
    for job in jobs(PREDICTORS, budget, runs):
        predictor = Predictor.from_pretrained(job.train(*_before(budget, runs, job))).eval().requires_grad_(False)
        for one in LISTS:
            name = f"{job.variant.name}_{job.seed}_{one.steps}"
            label = f"{job.variant.label}, seed {job.seed}, {one.steps} steps"
            rows.append(row(name, label, student, one.steps, disca(predictor, full_steps=one), **job.about))
    return [
        found
        for steps in (one.steps for one in LISTS)
        for found in compared([one for one in rows if one.trial.steps == steps], f"full_{steps}")
    ]


def _before(budget: float, runs: Path, job: Job) -> tuple[str, ...]:
    """Settings of a job that goes on from another: the predictor that two thirds of the cost made."""
    if not job.variant.after:
        return ()
    before = next(v for v in PREDICTORS if v.name == job.variant.after)
    iterations = max(1, round(2 / 3 * budget / cost(before.name)))
    path = Job(before, job.seed, iterations, runs / f"{before.name}_short_{job.seed}").train()
    return (f"objective.predictor={json.dumps(str(path))}",)


def row(name: str, label: str, of: Model, steps: int, policy: Any = (), **about: Any) -> Row:
    """One row to sample; ``about`` is which variant and seed made what it samples with."""
    trial = Trial(name=name, model=of, steps=steps, policy=policy, batch=BATCH)
    return Row(name=name, label=label, trial=trial, policy="none" if not policy else name, extra=about)


def compared(rows: list[Row], *references: str) -> list[Row]:
    """Each row beside each of some runs, which come first in the list; named ``ROW_to_RUN`` from the second on."""
    found = []
    for place, run in enumerate(references):
        for one in rows:
            known = tuple(
                name for name in references if name != one.name and one.name not in references[: references.index(name)]
            )
            trial = replace(one.trial, references=known)
            name = one.name if not place else f"{one.name}_to_{run}"
            if one.name == run or run in known:
                found.append(replace(one, name=name, trial=trial, reference=run if run in known else None, over=run))
    return found


def values(found: Record, reference: Record) -> dict[str, Any]:
    """The numbers of the tolerances, and which of those a row fails."""
    numbers = {
        "semantic_accuracy": found.semantic_accuracy,
        "frechet_ratio": found.frechet / reference.frechet,
        "amplitude": abs(found.extra["amplitude"] / reference.extra["amplitude"] - 1),
        "relative_l2": found.relative_l2 or 0.0,
    }
    return {"label": found.extra["label"], **numbers, "fails": TOLERANCES.failures(**numbers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("students", "predictors"))
    parser.add_argument("--runs", type=Path, default=Path("runs/training"), help="folder of the runs")
    parser.add_argument("--students", type=float, default=STUDENT_BUDGET, help="10^12 operations for a student")
    parser.add_argument("--predictors", type=float, default=PREDICTOR_BUDGET, help="the same for a predictor")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="held-out pairs of prompt and seed")
    given = parser.parse_args()
    parts = {
        "students": (students, given.students, STUDENTS),
        "predictors": (predictors, given.predictors, PREDICTORS),
    }
    for name, (rows_of, budget, variants) in parts.items():
        if given.only not in (None, name):
            continue
        rows = rows_of(budget, given.runs)
        table, _ = measure(rows, Plan(pairs=held_out(given.pairs, 11), turn=BATCH), title=name)
        files.write(RECORDS / f"training_{name}.jsonl", table)
        about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
        costs = {variant.name: cost(variant.name) for variant in variants}
        reference = next(one for one in table if one.name == rows[0].name)
        found = {one.name: values(one, reference) for one in table}
        written = {"budget": budget, "costs": costs, "seeds": SEEDS, "pairs": given.pairs, "rows": found, **about}
        write_text_atomic(RECORDS / f"training_{name}.json", json.dumps(written, indent=1) + "\n")
        print_table(table, title=name)


if __name__ == "__main__":
    main()
