"""Measure what the lab claims, on held-out prompts: `python benchmarks/lab.py`. About 20 minutes on 2 cores.

Writes one file of records a table into benchmarks/records. Each table is one run in which every row samples the same
prompts and noise; its first rows are the references.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from disca import records as files
from disca.caching.methods import disca, repeat_change, reuse, taylor
from disca.caching.policy import Policy
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.judge import accuracy
from disca.lab.measure import Pairs, Trial, records, run
from disca.lab.pipeline import LabPipeline
from disca.lab.tolerances import TOLERANCES
from disca.lab.world import World
from disca.metrics.intervals import wilson
from disca.predictor.network import Predictor
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record
from disca.report.table import print_table

FOLDER = Path(__file__).parent / "records"
LISTS = {8: (0, 2, 4, 7), 20: (0, 1, 2, 5, 9, 13, 17, 19)}
JUDGED = 2000


def plain(pipe: LabPipeline, stage: str, *steps: int) -> list[Trial]:
    """A stage at several step counts, every step full."""
    guided = {"base": "base, guided", "distilled": "guidance-distilled", "student": "student"}[stage]
    return [Trial(name=f"{stage}_{n}", label=f"{guided}, {n} steps", pipe=pipe, steps=n) for n in steps]


def cached(pipe: LabPipeline, predictor: Predictor, steps: int) -> list[Trial]:
    """Every cache on the student, at the authors' full steps."""
    full = LISTS[steps]
    policies: dict[str, tuple[str, Policy]] = {
        "disca": ("DisCa", disca(predictor, full_steps=full)),
        "reuse": ("reuse", reuse(full_steps=full)),
        "repeat_change": ("repeat the change", repeat_change(full_steps=full)),
        "taylor": ("Taylor, first order", taylor(full_steps=full)),
        "newton": ("Taylor, exact", taylor(full_steps=full, form="newton", variable="time")),
    }
    return [
        Trial(
            name=f"{name}_{steps}_{len(full)}",
            label=f"student + {label}, {steps} steps, {len(full)} full",
            pipe=pipe,
            steps=steps,
            policy=policy,
            policy_name=f"{name}(full_steps={full})",
        )
        for name, (label, policy) in policies.items()
    ]


def tables(predictor: Predictor) -> dict[str, tuple[list[Trial], dict[str, str], str]]:
    """Rows of each table, what their fidelity refers to, and what their speed is compared with."""
    pipes = {stage: weights.pipeline(stage) for stage in weights.PARTS}
    base = plain(pipes["base"], "base", 200, 50, 20, 8, 4)
    distilled = plain(pipes["distilled"], "distilled", 200, 50, 20, 8, 4)
    student = plain(pipes["student"], "student", 50, 20, 8, 4, 2)
    few = plain(pipes["student"], "student", 8, 4)
    many = plain(pipes["student"], "student", 20, 8)
    eight, twenty = few + cached(pipes["student"], predictor, 8), many + cached(pipes["student"], predictor, 20)
    fifty = plain(pipes["base"], "base", 50) + plain(pipes["distilled"], "distilled", 50)
    return {
        "lab_semantics": (fifty, _to("base_50", fifty), "base_50"),
        "lab_base": (base, _to("base_200", base), "base_50"),
        "lab_distillation": (distilled + student, _to("distilled_200", distilled + student), "distilled_50"),
        "lab_caches_8": (eight, _to("student_8", eight), "student_8"),
        "lab_caches_20": (twenty, _to("student_20", twenty), "student_20"),
    }


def _to(reference: str, trials: list[Trial]) -> dict[str, str]:
    return {trial.name: reference for trial in trials if trial.name != reference}


def measure_judge() -> None:
    """The judge's accuracy on real clips of scans that nobody trained on."""
    found = accuracy(weights.judge(), World(), split="test", clips=JUDGED, seed=0)
    rows = {
        name: {"accuracy": value, "interval": wilson(round(value * JUDGED), JUDGED)} for name, value in found.items()
    }
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": 0}
    write_text_atomic(FOLDER / "lab_judge.json", json.dumps({"clips": JUDGED, **rows, **about}, indent=1) + "\n")
    Console().print({name: round(value, 4) for name, value in found.items()})


def tolerances(rows: list[Record]) -> dict[str, dict[str, object]]:
    """Which of the joint tolerances each guided row fails, measured against the base's 200 steps."""
    reference = rows[0]
    assert reference.frechet is not None
    verdicts = {}
    for row in rows[1:]:
        assert row.semantic_accuracy is not None and row.frechet is not None and row.relative_l2 is not None
        values = {
            "semantic_accuracy": row.semantic_accuracy,
            "frechet_ratio": row.frechet / reference.frechet,
            "amplitude": abs(row.extra["amplitude"] / reference.extra["amplitude"] - 1),
            "relative_l2": row.relative_l2,
        }
        verdicts[row.name] = {**values, "fails": TOLERANCES.failures(**values)}
    return verdicts


def main() -> None:
    """Measure the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("lab_judge", "lab_semantics", "lab_base", "lab_distillation", "lab_caches_8", "lab_caches_20")
    parser.add_argument("tables", nargs="*", choices=[*names, []], default=names)
    parser.add_argument("--pairs", type=int, help="pairs of prompt and noise; 300 for semantics, 120 for the others")
    parser.add_argument("--batch", type=int, default=30)
    asked = parser.parse_args()
    if "lab_judge" in asked.tables:
        measure_judge()
    judge, predictor = weights.judge(), weights.predictor()
    for name, (trials, references, over) in tables(predictor).items():
        if name not in asked.tables:
            continue
        pairs = Pairs.held_out(asked.pairs or (300 if name == "lab_semantics" else 120), 11)
        with Progress() as bar:
            line = bar.add_task(name, total=len(trials) * len(list(pairs.batches(asked.batch))))
            outcomes = run(trials, pairs, batch=asked.batch, progress=lambda trial: bar.advance(line))  # noqa: B023
        rows = records(trials, outcomes, pairs, judge, over=over, references=references)
        files.write(FOLDER / f"{name}.jsonl", rows)
        print_table(rows, title=name)
        if name == "lab_base":
            verdicts = tolerances(rows)
            write_text_atomic(FOLDER / "lab_tolerances.json", json.dumps(verdicts, indent=1) + "\n")
            Console().print(verdicts)


if __name__ == "__main__":
    main()
