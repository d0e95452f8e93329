"""Measure what the lab claims, on held-out prompts: `python benchmarks/lab.py`. About 20 minutes on 2 cores.

Writes one file of records a table into benchmarks/records. Each table is one run in which every row samples the same
prompts and noise; its first rows are the references.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console

from disca import records as files
from disca.bench.models import Model
from disca.bench.rows import Row
from disca.bench.sampling import Trial
from disca.bench.turns import Plan
from disca.caching.methods import disca, repeat_change, reuse, taylor
from disca.caching.policy import Policy
from disca.errors import unknown
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.judge import accuracy
from disca.lab.measure import held_out, model
from disca.lab.show import measure
from disca.lab.tolerances import TOLERANCES
from disca.lab.world import World
from disca.metrics.intervals import wilson
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record
from disca.report.table import print_table

FOLDER = Path(__file__).parent / "records"
LISTS = {8: (0, 2, 4, 7), 20: (0, 1, 2, 5, 9, 13, 17, 19)}
"""The authors'."""
COMPUTED = {
    "disca": {8: (0, 2, 5, 7), 20: (0, 4, 6, 9, 13, 16, 18, 19)},
    "taylor": {8: (0, 3, 5, 7), 20: (0, 3, 6, 9, 12, 14, 17, 19)},
}
"""By `disca calibrate schedule`, for each forecast."""
JUDGED = 2000


@cache
def stage_of(name: str) -> Model:
    """A stage, loaded once."""
    return model(name)


def row(name: str, label: str, stage: str, steps: int, policy: Policy = (), said: str = "none") -> Row:
    """One row; what it is compared with is set for its table."""
    trial = Trial(name=name, model=stage_of(stage), steps=steps, policy=policy)
    return Row(name=name, label=label, trial=trial, policy=said)


def plain(stage: str, *steps: int) -> list[Row]:
    """A stage at several step counts, every step full."""
    guided = {"base": "base, guided", "distilled": "guidance-distilled", "student": "student"}[stage]
    return [row(f"{stage}_{n}", f"{guided}, {n} steps", stage, n) for n in steps]


def cached(steps: int) -> list[Row]:
    """Every cache on the student, at the authors' full steps."""
    predictor, full = weights.predictor(), LISTS[steps]
    policies: dict[str, tuple[str, Policy]] = {
        "disca": ("DisCa", disca(predictor, full_steps=full)),
        "reuse": ("reuse", reuse(full_steps=full)),
        "repeat_change": ("repeat the change", repeat_change(full_steps=full)),
        "taylor": ("Taylor, first order", taylor(full_steps=full)),
        "newton": ("Taylor, exact", taylor(full_steps=full, form="newton", variable="time")),
    }
    return [on(name, label, steps, full, policy) for name, (label, policy) in policies.items()]


def computed(steps: int) -> list[Row]:
    """The predictor, and the line that comes nearest to it, at full steps that were computed for each."""
    own, taylors = (COMPUTED[name][steps] for name in ("disca", "taylor"))
    rows = [
        on("disca", "DisCa", steps, own, disca(weights.predictor(), full_steps=own)),
        on("taylor", "Taylor, first order", steps, taylors, taylor(full_steps=taylors)),
    ]
    return [replace(one, name=f"{one.name}_computed", trial=replace(one.trial, name=f"{one.name}_computed"),
                    label=f"{one.label}, computed list") for one in rows]  # fmt: skip


def on(name: str, label: str, steps: int, full: tuple[int, ...], policy: Policy) -> Row:
    """A cache on the student."""
    said = f"student + {label}, {steps} steps, {len(full)} full"
    return row(f"{name}_{steps}_{len(full)}", said, "student", steps, policy, f"{name}(full_steps={full})")


def compared(rows: list[Row], over: str, batch: int) -> list[Row]:
    """The rows with their reference, the first of them, and what speed compares with."""
    reference = rows[0].name
    found = []
    for one in rows:
        known = None if one.name == reference else reference
        trial = replace(one.trial, batch=batch, references=(known,) if known else ())
        found.append(replace(one, trial=trial, reference=known, over=over))
    return found


def semantics() -> list[Row]:
    """The base and its one-pass child, on many pairs."""
    return plain("base", 50) + plain("distilled", 50)


def base() -> list[Row]:
    """The guided base at several step counts, and what takes its place, against its long run."""
    return (
        plain("base", 200, 50, 20, 8, 4)
        + plain("distilled", 50)
        + plain("student", 8)
        + cached(8)[:1]
        + computed(8)[:1]
    )


def distillation() -> list[Row]:
    """The guidance-distilled model and its few-step student."""
    return plain("distilled", 200, 50, 20, 8, 4) + plain("student", 50, 20, 8, 4, 2)


def caches_8() -> list[Row]:
    """Every cache on the student at 8 steps, beside fewer plain steps."""
    return plain("student", 8, 4) + cached(8) + computed(8)


def caches_20() -> list[Row]:
    """Every cache on the student at 20 steps, beside fewer plain steps."""
    return plain("student", 20, 8) + cached(20) + computed(20)


TABLES = {
    "lab_semantics": (semantics, 1200, "base_50"),
    "lab_base": (base, 120, "base_50"),
    "lab_distillation": (distillation, 120, "distilled_50"),
    "lab_caches_8": (caches_8, 120, "student_8"),
    "lab_caches_20": (caches_20, 120, "student_20"),
}
"""Rows, pairs of prompt and noise, and what speed is compared with. Fidelity refers to the first row."""


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
    names = ("lab_judge", *TABLES)
    parser.add_argument("tables", nargs="*", default=names, help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--pairs", type=int, help="pairs of prompt and noise; 1200 for semantics, 120 for the others")
    parser.add_argument("--batch", type=int, default=30)
    asked = parser.parse_args()
    for name in asked.tables:
        if name not in names:
            parser.error(unknown("table", name, names))
    if "lab_judge" in asked.tables:
        measure_judge()
    for name, (rows_of, count, over) in TABLES.items():
        if name not in asked.tables:
            continue
        plan = Plan(pairs=held_out(asked.pairs or count, 11), turn=asked.batch)
        rows, _ = measure(compared(rows_of(), over, asked.batch), plan, title=name)
        files.write(FOLDER / f"{name}.jsonl", rows)
        print_table(rows, title=name)
        if name == "lab_base":
            verdicts = tolerances(rows)
            write_text_atomic(FOLDER / "lab_tolerances.json", json.dumps(verdicts, indent=1) + "\n")
            Console().print(verdicts)


if __name__ == "__main__":
    main()
