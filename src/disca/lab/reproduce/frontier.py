"""Speed against quality: computed and hand-made lists, every forecast, fewer plain steps by every solver.

All rows are sampled side by side, next to the student's run of as many steps and to the guided base's 200 steps, to
which the joint tolerances refer. The predictors are those of the designs, of every seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from disca.bench.rows import Row
from disca.bench.turns import Turns
from disca.caching.methods import disca, from_name
from disca.lab.reproduce.alternation import fitted, planned
from disca.lab.reproduce.designs import OFFICIAL, trained
from disca.lab.reproduce.findings import ratio, verdict
from disca.lab.reproduce.plans import plan
from disca.lab.reproduce.rows import LISTS, beside, joined, predictor_of, row, stage
from disca.lab.reproduce.trainings import Training
from disca.lab.reproduce.work import Work
from disca.records import Record

NAME = "frontier"
PLANS = {20: (8, 6), 10: (4,), 8: (4, 3), 6: (3,)}
"""Full steps that lists are computed for, by the steps of a run."""
PLAIN = (10, 8, 6, 5, 4, 3, 2)
SOLVED = (8, 4, 2)
"""Steps of the guided teacher, of two passes each."""
SOLVERS = ("euler", "ab2", "unipc")
FREE = ("reuse", "repeat_change", "taylor", "fora", "taylorseer", "rfc", "hicache", "freqca")
"""Caches without training, each with lists of its own."""
BASE, LONG = "base_50", "base_200"


def frontier(work: Work) -> None:
    """Compute the lists, sample everything, and write what it says."""
    rows = _compared([*_plain(), *_official(work), *_ours(work), *_free(work)])
    found, turns = work.measure(NAME, rows, title="Speed against quality")
    by_name = {one.name: one for one in found}
    work.write(NAME, {"worth": _worth(work, turns, by_name), "together": _together(by_name)})


def _plain() -> Iterator[Row]:
    base, distilled, student = (stage(name) for name in ("base", "distilled", "student"))
    yield row(LONG, "base, guided, 200 steps", base, 200)
    yield row(BASE, "base, guided, 50 steps", base, 50)
    for solver in SOLVERS:
        for n in SOLVED:
            name = f"base_{n}" + (f"_{solver}" if solver != "euler" else "")
            yield row(name, f"base, guided, {n} steps by {solver}", base, n, solver=solver)
    for n in (8, 4):
        yield row(f"distilled_{n}", f"guidance-distilled, {n} steps", distilled, n)
    for n in sorted({*PLANS, *PLAIN}, reverse=True):
        yield row(f"student_{n}", f"student, {n} steps", student, n)


def _official(work: Work) -> Iterator[Row]:
    """The paper's recipe: its predictor, its pairs, its lists."""
    for seed, training in trained(work, OFFICIAL).items():
        predictor = predictor_of(training)
        for steps, full in LISTS.items():
            label = f"DisCa as published, {steps} steps, {len(full)} full"
            policy = disca(predictor, full_steps=full)
            yield row(f"official_{seed}_{steps}", label, stage("student"), steps, policy, **_of(training, label))


def _ours(work: Work) -> Iterator[Row]:
    for seed, training in fitted(work).items():
        predictor = predictor_of(training)
        for steps, counts in PLANS.items():
            lists = {f"computed_{n}": planned(training, "fitted", steps, n) for n in counts}
            if steps in LISTS:
                lists = {"hand": LISTS[steps], **lists}
            for kind, full in lists.items():
                label = f"ours, {steps} steps, {len(full)} full, {kind.partition('_')[0]} list"
                policy = disca(predictor, full_steps=full)
                yield row(f"ours_{seed}_{steps}_{kind}", label, stage("student"), steps, policy, **_of(training, label))


def _of(training: Training, label: str) -> dict[str, Any]:
    """The seeds of a row make one line of a table."""
    return {**training.about, "variant": label}


def _free(work: Work) -> Iterator[Row]:
    for steps, full in LISTS.items():
        for method in FREE:
            chosen = plan(work, method, method, steps, len(full))
            label = f"{method}, {steps} steps, {len(full)} full, computed list"
            policy = from_name(method, full_steps=chosen)
            yield row(f"{method}_{steps}", label, stage("student"), steps, policy)


def _compared(rows: list[Row]) -> list[Row]:
    """All beside the base's long run; what runs on the student, and fewer plain steps, beside its full run too."""
    tables = [beside(rows, LONG, over=BASE)]
    for steps in PLANS:
        full = f"student_{steps}"
        near = [one for one in rows if one.name == full or (one.trial.policy and one.trial.steps == steps)]
        near += [one for one in rows if re.fullmatch(r"(student|distilled)_\d+", one.name) and one.trial.steps < steps]
        tables.append(beside(near, full, over=BASE))
    return joined(*tables)


def _seeded(work: Work, name: str) -> list[str]:
    return [name.format(seed=seed) for seed in work.seeds]


def _worth(work: Work, turns: Turns, rows: dict[str, Record]) -> dict[str, Any]:
    """Forecasting with K full steps of S, over K plain steps of the student and of its teacher."""
    found: dict[str, Any] = {}
    for steps, counts in PLANS.items():
        for count in counts:
            ours = _seeded(work, f"ours_{{seed}}_{steps}_computed_{count}")
            for rival in (f"student_{count}", f"distilled_{count}"):
                if rival not in rows or count == steps:
                    continue
                found[f"{steps}_{count}_over_{rival}"] = {
                    **ratio(turns, ours, [rival], f"student_{steps}"),
                    "semantics": [_semantics(rows, ours), rows[rival].semantic_accuracy],
                    "speedup": [_mean(rows, ours, "speedup"), rows[rival].speedup],
                }
    return found


def _together(rows: dict[str, Record]) -> dict[str, Any]:
    """Every row's verdict against the base's long run, and its speed, by operations and by the clock."""
    long, base = rows[LONG], rows[BASE]
    assert base.flops is not None
    found = {}
    for name, one in rows.items():
        if one.reference == LONG and one.flops:
            speed = {"flops_speedup": base.flops / one.flops, "clock_speedup": one.speedup}
            found[name] = {**verdict(one, long), **speed, "full_steps": list(one.full_steps), "steps": one.steps}
    return found


def _semantics(rows: dict[str, Record], names: list[str]) -> float:
    return _mean(rows, names, "semantic_accuracy")


def _mean(rows: dict[str, Record], names: list[str], what: str) -> float:
    return float(sum(getattr(rows[name], what) for name in names) / len(names))
