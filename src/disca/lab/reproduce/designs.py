"""Predictors of other designs than the authors', at equal training and on the same full steps.

They are measured on held-out prompts by the relative error of each forecast step's velocity. Beside them stand
forecasts without a network: reuse, the line, and weights of each step fitted by least squares to runs of training
prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from rich.progress import Progress

from disca.bench.journal import Journal
from disca.caching.gates import Given
from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy, Rule
from disca.caching.sites import Trunk
from disca.caching.weighted import fitted
from disca.files import write_text_atomic
from disca.lab.reproduce.rows import predictor_of
from disca.lab.reproduce.trainings import Training, Variant, trainings
from disca.lab.reproduce.velocities import SCHEDULES, Velocities
from disca.lab.reproduce.work import Work
from disca.metrics.intervals import bootstrap_seeds
from disca.provenance import git_revision
from disca.schedules import Schedule
from disca.training.rollouts import recorded

NAME = "designs"
BUDGET = 11.2
"""10^12 operations of each predictor."""
_AUTHORS = {"objective.residual": "none", "objective.init": "random"}
_LINE = {"objective.cached": "tail", "objective.residual": "line", "objective.timed": True}
_LAST = {**_LINE, "objective.blocks": 1}
OFFICIAL = Variant(
    "official", "the authors' layout and pairs", "lab_fit", {**_AUTHORS, "objective.pairs": "same_noise"}
)
TAIL_LINE = Variant("tail_line", "the last two blocks along a line, timed", "lab_fit", _LINE)
OURS = Variant(
    "ours",
    "the last two blocks along a line, timed, by what errors come to",
    "lab_fit",
    {**_LINE, "objective.weigh": "end"},
)
VARIANTS = (
    OFFICIAL,
    TAIL_LINE,
    OURS,
    Variant("last_line", "the last block along a line, timed", "lab_fit", _LAST),
    Variant(
        "last_lora",
        "the last block along a line, timed, as a LoRA of rank 8",
        "lab_fit",
        {**_LAST, "lora.rank": 8, "optimiser.lr": 5e-3},
    ),
)
FITTED = 64
"""Training prompts of the least squares."""
Lists = dict[str, dict[str, Any]]
"""What was measured, by the number of steps."""


def designs(work: Work) -> None:
    """Train, measure, and write designs.json and a table."""
    (work.runs / NAME).mkdir(parents=True, exist_ok=True)
    kept = Journal(work.runs / NAME / "measured.jsonl", {"pairs": work.pairs, "git": git_revision()})
    bench, rows = Velocities.held_out(work.pairs), {}
    with Progress() as bar:
        for name, policies in bar.track(list(_plain(work)), description="forecasts without a network"):
            rows[name] = _measured(bench, name, policies, kept)
    for training in trainings(work, NAME, VARIANTS, BUDGET):
        about, name = training.about, training.folder.name
        rows[name] = {**_measured(bench, name, _learned(training), kept), **about, "name": training.variant.name}
    work.write(NAME, {"rows": rows, "less": less(rows)})
    write_text_atomic(work.output / f"{NAME}.md", f"# Predictors of other designs\n\n{table(rows)}\n")


def trained(work: Work, variant: Variant) -> dict[int, Training]:
    """Runs of a variant by seed, for other experiments."""
    return {one.seed: one for one in trainings(work, NAME, (variant,), BUDGET)}


def _measured(bench: Velocities, name: str, policies: Sequence[Policy], kept: Journal) -> dict[str, Any]:
    found: Lists | None = kept.get(name)
    if found is None:
        pairs = zip(policies, SCHEDULES, strict=True)
        found = {str(one.steps): bench.errors(policy, one) for policy, one in pairs}
        kept.put(name, found)
    return {"lists": found}


def _learned(training: Training) -> list[Policy]:
    predictor = predictor_of(training)
    return [disca(predictor, full_steps=one) for one in SCHEDULES]


def _plain(work: Work) -> Iterator[tuple[str, list[Policy]]]:
    """Policies without a network."""
    yield "reuse", [reuse(full_steps=one) for one in SCHEDULES]
    yield "line", [taylor(full_steps=one, variable="time") for one in SCHEDULES]
    known = Velocities.training(min(FITTED, 8 * work.pairs))
    for terms in (1, 2):
        yield f"least_squares_{terms}", [_fitted(known, one, terms) for one in SCHEDULES]


def _fitted(known: Velocities, schedule: Schedule, terms: int) -> Policy:
    runs = recorded(known.host, known.noise, known.times(schedule))
    how = fitted(runs, schedule, terms=terms)
    return (Rule(Trunk(), Given(schedule.full_steps, schedule.steps), how),)


def less(rows: dict[str, Any]) -> dict[str, Any]:
    """For each design and list, how much less it errs than the authors': mean, and an interval over training seeds and
    prompts."""
    seeds = {name: {row["seed"]: row for row in rows.values() if row.get("name") == name} for name in _names(rows)}
    found = {}
    for name, own in seeds.items():
        common = sorted(own.keys() & seeds.get(OFFICIAL.name, {}).keys())
        if name == OFFICIAL.name or not common:
            continue
        for steps in own[common[0]]["lists"]:
            ours = [own[seed]["lists"][steps]["by_prompt"] for seed in common]
            theirs = [seeds[OFFICIAL.name][seed]["lists"][steps]["by_prompt"] for seed in common]
            ratio, interval = bootstrap_seeds(ours, theirs)
            found[f"{name}_{steps}"] = {"less": 1 - ratio, "interval": [1 - interval.high, 1 - interval.low]}
    return found


def _names(rows: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in rows.values() if "name" in row))


def table(rows: dict[str, Any]) -> str:
    """Mean and spread over the seeds, as Markdown."""
    groups: dict[str, list[Any]] = {}
    for name, row in rows.items():
        groups.setdefault(row.get("variant", name.replace("_", " ")), []).append(row["lists"])
    lines = [
        "| | steps | velocity | on the full run's states | last latents | a forecast, % of a full step |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for steps in (str(one.steps) for one in SCHEDULES):
        for label, found in groups.items():
            cells = [_spread([lists[steps][key] for lists in found]) for key in _SHOWN]
            share = 100 * mean(lists[steps]["share_of_full_step"] for lists in found)
            lines.append(f"| {label} | {steps} | {' | '.join(cells)} | {share:.1f} |")
    return "\n".join(lines)


_SHOWN = ("velocity", "velocity_of_full_run", "final")


def _spread(found: list[float]) -> str:
    return f"{mean(found):.4f}" + (f" ± {stdev(found):.4f}" if len(found) > 1 else "")
