"""Compare ways of training on the lab, at equal cost and three seeds each: `python benchmarks/training.py`.

Two tables: few-step students (Restricted MeanFlow, without the restriction, and the guidance-distilled teacher's plain
steps) and predictors (squared error alone, with matched features, with a discriminator, on the paper's pairs). Every
run goes on where it was interrupted, and what is done is not done again, so the command may be repeated until it ends;
`--only students` or `--only predictors` makes one table. Cost is counted in operations, forward and backward; runs with
dearer iterations get fewer of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from disca.caching.methods import disca, reuse, taylor
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.judge import Judge
from disca.lab.measure import Pairs, Trial, records, run
from disca.lab.pipeline import LabPipeline
from disca.lab.source import LabSource
from disca.lab.tolerances import TOLERANCES
from disca.metrics.flops import count_flops
from disca.predictor.network import Predictor
from disca.provenance import command_line, hardware, now, versions
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.recipe import load
from disca.training.train import stage_of, train

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "records" / "training.json"
SEEDS = (0, 1, 2)
PAIRS = 300
STEPS = (20, 10, 8, 4)
STUDENT_BUDGET, PREDICTOR_BUDGET = 27.6, 22.4
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
    Variant("terminal", "R = 0.2, with shares of instants and terminal intervals", "lab_mean_flow"),
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


def students(budget: float, runs: Path, pairs: Pairs, judge: Judge) -> dict[str, Any]:
    """Rows of the first table."""
    trials = [trial("base_200", "base, guided, 200 steps", weights.pipeline("base"), 200)]
    teacher = weights.pipeline("distilled")
    trials += [trial(f"teacher_{n}", f"teacher, {n} plain steps", teacher, n) for n in STEPS]
    for job in jobs(STUDENTS, budget, runs):
        pipe = LabPipeline.from_pretrained(job.train())
        pipe.set_progress_bar_config(disable=True)
        name = f"{job.variant.name}_{job.seed}"
        trials += [trial(f"{name}_{n}", f"{job.variant.label}, seed {job.seed}, {n} steps", pipe, n) for n in STEPS]
    references = {one.name: "base_200" for one in trials}
    return measured(trials, pairs, judge, references)


def predictors(budget: float, runs: Path, pairs: Pairs, judge: Judge) -> dict[str, Any]:
    """Rows of the second table: the lab's own student, with each predictor."""
    pipe = weights.pipeline("student")
    trials = [trial(f"full_{one.steps}", f"student, {one.steps} full steps", pipe, one.steps) for one in LISTS]
    for one in LISTS:
        for name, method in (("reuse", reuse), ("taylor", taylor)):
            trials.append(trial(f"{name}_{one.steps}", name, pipe, one.steps, method(full_steps=one)))
    for job in jobs(PREDICTORS, budget, runs):
        more = ()
        if job.variant.after:
            before = Job(
                next(v for v in PREDICTORS if v.name == job.variant.after), job.seed, *_shorter(budget, runs, job)
            )
            more = (f"objective.predictor={json.dumps(str(before.train()))}",)
        predictor = Predictor.from_pretrained(job.train(*more)).eval().requires_grad_(False)
        for one in LISTS:
            name = f"{job.variant.name}_{job.seed}_{one.steps}"
            label = f"{job.variant.label}, seed {job.seed}, {one.steps} steps"
            trials.append(trial(name, label, pipe, one.steps, disca(predictor, full_steps=one)))
    references = {one.name: f"full_{one.steps}" for one in trials}
    return measured(trials, pairs, judge, references)


def _shorter(budget: float, runs: Path, job: Job) -> tuple[int, Path]:
    """Two thirds of the cost of what the job goes on from."""
    before = next(v for v in PREDICTORS if v.name == job.variant.after)
    return max(1, round(2 / 3 * budget / cost(before.name))), runs / f"{before.name}_short_{job.seed}"


def trial(name: str, label: str, pipe: Any, steps: int, policy: Any = ()) -> Trial:
    """One row to sample."""
    return Trial(
        name=name, label=label, pipe=pipe, steps=steps, policy=policy, policy_name="none" if not policy else name
    )


def measured(trials: list[Trial], pairs: Pairs, judge: Judge, references: dict[str, str]) -> dict[str, Any]:
    """What the judge says of every row, by name."""
    outcomes = run(trials, pairs, batch=25)
    rows = records(trials, outcomes, pairs, judge, over=trials[0].name, references=references)
    first = rows[0]
    return {row.name: values(row, first) for row in rows}


def values(row: Any, reference: Any) -> dict[str, Any]:
    """The numbers of the tolerances, and which of those a row fails."""
    amplitude = abs(row.extra["amplitude"] / reference.extra["amplitude"] - 1)
    numbers = {
        "semantic_accuracy": row.semantic_accuracy,
        "frechet_ratio": row.frechet / reference.frechet,
        "amplitude": amplitude,
        "relative_l2": row.relative_l2,
    }
    return {"label": row.extra["label"], **numbers, "fails": TOLERANCES.failures(**numbers)}


def table(rows: dict[str, Any], variants: tuple[Variant, ...], ends: tuple[int, ...]) -> str:
    """Mean and spread over the seeds, as Markdown."""
    lines = [
        "| | steps | relative L2 | semantics | Fréchet, over the reference's | amplitude |",
        "|---|---|---|---|---|---|",
    ]
    seeded = {f"{v.name}_{seed}_{n}" for v in variants for seed in SEEDS for n in ends}
    groups = {name: (row["label"], [row]) for name, row in rows.items() if name not in seeded}
    for variant in variants:
        for steps in ends:
            found = [
                rows[f"{variant.name}_{seed}_{steps}"] for seed in SEEDS if f"{variant.name}_{seed}_{steps}" in rows
            ]
            groups[f"{variant.name}_{steps}"] = (variant.label, found)
    for name, (label, found) in groups.items():
        if found:
            cells = (
                _spread([row[key] for row in found])
                for key in ("relative_l2", "semantic_accuracy", "frechet_ratio", "amplitude")
            )
            lines.append(f"| {label} | {name.rpartition('_')[2]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(found: list[float]) -> str:
    if len(found) == 1:
        return f"{found[0]:.3f}"
    return f"{mean(found):.3f} ± {stdev(found):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("students", "predictors"))
    parser.add_argument("--runs", type=Path, default=Path("runs/training"), help="folder of the runs")
    parser.add_argument("--students", type=float, default=STUDENT_BUDGET, help="10^12 operations for a student")
    parser.add_argument("--predictors", type=float, default=PREDICTOR_BUDGET, help="the same for a predictor")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="held-out pairs of prompt and seed")
    given = parser.parse_args()
    pairs, judge = Pairs.held_out(given.pairs, 0), weights.judge()
    parts = {
        "students": (students, given.students, STUDENTS, STEPS),
        "predictors": (predictors, given.predictors, PREDICTORS, (8, 20)),
    }
    stored = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for name, (measure, budget, variants, ends) in parts.items():
        if given.only in (None, name):
            rows = measure(budget, given.runs, pairs, judge)
            about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
            costs = {variant.name: cost(variant.name) for variant in variants}
            stored[name] = {
                "budget": budget,
                "costs": costs,
                "seeds": SEEDS,
                "pairs": given.pairs,
                "rows": rows,
                **about,
            }
            write_text_atomic(OUTPUT, json.dumps(stored, indent=1) + "\n")
            text = table(rows, variants, ends)
            write_text_atomic(OUTPUT.with_name(f"training_{name}.md"), text + "\n")
            print(text)


if __name__ == "__main__":
    main()
