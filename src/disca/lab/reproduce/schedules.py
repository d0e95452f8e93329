"""Computed full steps against the authors' lists, with the same predictors, and against as many plain steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from disca.bench.rows import Row
from disca.bench.turns import Turns
from disca.caching.methods import disca
from disca.lab.reproduce.designs import OFFICIAL, OURS, trained
from disca.lab.reproduce.findings import ratio
from disca.lab.reproduce.plans import plan
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage
from disca.lab.reproduce.trainings import Variant
from disca.lab.reproduce.work import Work
from disca.records import Record

NAME = "schedules"
PREDICTORS = {"official": OFFICIAL, "ours": OURS}
PLAIN = ("student", "distilled")
"""Stages that are sampled with as many plain steps as a list has full ones."""


def schedules(work: Work) -> None:
    """Compute lists for predictors of every seed, and compare."""
    tables = []
    for steps, full in LISTS.items():
        rows = [row(f"student_{steps}", f"student, {steps} steps", stage("student"), steps)]
        rows += [row(f"{name}_{len(full)}", f"{name}, {len(full)} steps", stage(name), len(full)) for name in PLAIN]
        rows += [one for name, variant in PREDICTORS.items() for one in _cached(work, name, variant, steps)]
        tables.append(beside(rows, f"student_{steps}"))
    found, turns = work.measure(NAME, joined(*tables), title="Computed full steps and the authors'")
    by_name = {one.name: one for one in found}
    work.write(NAME, {f"{steps}_{len(full)}": _said(work, turns, by_name, steps) for steps, full in LISTS.items()})


def _cached(work: Work, name: str, variant: Variant, steps: int) -> Iterator[Row]:
    for seed, training in trained(work, variant).items():
        predictor = predictor_of(training)
        computed = plan(work, f"{name}_{seed}", "disca", steps, len(LISTS[steps]), {"predictor": predictor})
        lists = {"hand": LISTS[steps], "computed": computed}
        for kind, full in lists.items():
            label = f"{variant.label}, {kind} list"
            policy, about = disca(predictor, full_steps=full), {**training.about, "variant": label}
            yield row(f"{name}_{kind}_{seed}_{steps}", label, stage("student"), steps, policy, **about)


def _said(work: Work, turns: Turns, rows: dict[str, Record], steps: int) -> dict[str, Any]:
    kinds = [f"{name}_{whose}" for name in PREDICTORS for whose in ("hand", "computed")]
    names = {kind: [f"{kind}_{seed}_{steps}" for seed in work.seeds] for kind in kinds}
    count = len(LISTS[steps])
    names |= {name: [f"{name}_{count}"] for name in PLAIN}
    over = {name: ratio(turns, names["ours_computed"], others, f"student_{steps}") for name, others in names.items()}
    right = {name: [rows[one].semantic_accuracy for one in found] for name, found in names.items()}
    theirs = ratio(turns, names["official_computed"], names["official_hand"], f"student_{steps}")
    lists = {name: [list(rows[one].full_steps) for one in names[f"{name}_computed"]] for name in PREDICTORS}
    return {
        "computed": lists,
        "ours_computed_over": over,
        "official_computed_over_official_hand": theirs,
        "semantics": right,
    }
