"""Compare predictors of the lab's student: `python benchmarks/predictors.py`.

Every network is trained with the same number of operations, forward and backward, counted; dearer iterations are fewer.
They are measured on held-out prompts at the same full steps: the relative error of each forecast step's velocity at the
states that their own sampler visits and at those of the run with every step full, that of the last latents, and what a
forecast step costs. Beside them stand forecasts without a network: reuse, the line, and weights of each step fitted by
least squares to recorded runs of training prompts.

Runs of training go on where they were interrupted and what is measured is not measured again, so the command may be
repeated until it ends. `--only NAME ...` and `--seeds 0 1` do a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import tyro
from torch import Tensor

from disca.caching.gates import Given
from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy, Rule
from disca.caching.run import attach
from disca.caching.sites import Trunk
from disca.caching.weighted import fitted
from disca.files import write_text_atomic
from disca.flow.path import sigmas
from disca.lab import weights
from disca.lab.measure import GUIDANCE, held_out
from disca.lab.source import LabSource
from disca.lab.words import TRAINING, sample
from disca.metrics.flops import count_flops
from disca.objectives import relative_error
from disca.predictor.network import Predictor
from disca.provenance import command_line, hardware, now, versions
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.host import Host
from disca.training.recipe import load
from disca.training.rollouts import final_state, recorded, velocity_errors
from disca.training.steps import Steps
from disca.training.train import stage_of, train

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "records" / "predictors.json"
RECIPE = ROOT / "recipes" / "lab_fit.toml"
LISTS = (Schedule(8, (0, 2, 4, 7)), Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19)))
DRAWS = 6
"""Micro-batches that an iteration's cost is counted on."""


@dataclass(frozen=True)
class Variant:
    """One predictor: what is changed in the recipe."""

    label: str
    changes: dict[str, Any] = field(default_factory=dict)


_AUTHORS = {"objective.residual": "none", "objective.init": "random"}
_TAIL = {"objective.cached": "tail"}
_LINE = {"objective.residual": "line", "objective.timed": True}
VARIANTS = {
    "official": Variant("the authors' layout and pairs", {**_AUTHORS, "objective.pairs": "same_noise"}),
    "rollouts": Variant("the authors' layout, rollouts", _AUTHORS),
    "change": Variant("change of the output"),
    "change_timed": Variant("change of the output, timed", {"objective.timed": True}),
    "change_line": Variant("change of the output along a line, timed", _LINE),
    "tail": Variant("the last two blocks", _TAIL),
    "tail_timed": Variant("the last two blocks, timed", {**_TAIL, "objective.timed": True}),
    "tail_line": Variant("the last two blocks along a line, timed", {**_TAIL, **_LINE}),
    "last_line": Variant("the last block along a line, timed", {**_TAIL, **_LINE, "objective.blocks": 1}),
    "last_lora": Variant(
        "the last block along a line, timed, as a LoRA of rank 8",
        {**_TAIL, **_LINE, "objective.blocks": 1, "lora.rank": 8, "optimiser.lr": 5e-3},
    ),
}
FINALISTS = ("official", "rollouts", "change", "tail_line", "last_line", "last_lora")


@dataclass(frozen=True)
class Options:
    """Compare predictors of the lab's student."""

    runs: Path = Path("runs/predictors")
    """Folder of the runs."""
    only: tuple[str, ...] = FINALISTS
    """Which networks."""
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: float = 11.2
    """10^12 operations for each network."""
    pairs: int = 120
    """Held-out pairs of prompt and noise."""
    set: tuple[str, ...] = ()
    """Further changes of the recipe, such as optimiser.lr=5e-4, for all."""
    output: Path = OUTPUT


def overrides(changes: dict[str, Any]) -> list[str]:
    """Changes as a recipe takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


@cache
def cost(name: str) -> float:
    """Operations of an iteration, in units of 10^12, counted with every draw's own schedule."""
    batch = load(RECIPE).batch
    recipe = load(RECIPE, overrides({**VARIANTS[name].changes, "compile": False, "batch": 4}))
    task = stage_of(recipe, str(RECIPE)).task(recipe, LabSource())

    def iterate(number: int) -> None:
        task.loss(Draw.seeded(0, number, iteration=number)).value.backward()

    return mean(count_flops(iterate, number) for number in range(DRAWS)) * batch / 4 / 1e12


def trained(name: str, seed: int, options: Options) -> Path:
    """The result of a run, trained as far as it is not yet."""
    folder = options.runs / f"{name}_{seed}"
    if (folder / "final" / "training.json").exists():
        return folder / "final"
    changes = {**VARIANTS[name].changes, "seed": seed, "iterations": max(1, round(options.budget / cost(name)))}
    return train(RECIPE, overrides=[*overrides(changes), *options.set], output=folder, resume=True)


class Bench:
    """The student on some prompts, and what is known of its full runs."""

    def __init__(self, prompts: Sequence[str], noise: Tensor) -> None:
        pipe = weights.pipeline("student")
        pipe.second_time.requires_grad_(False).install(pipe.transformer)
        self.noise, self.shift = noise, float(pipe.scheduler.config.shift)
        with torch.no_grad():
            scale = torch.full((len(prompts),), GUIDANCE)
            self.host = Host(pipe.transformer, pipe.encode_prompt(list(prompts)), pipe.second_time, guidance=scale)
        self.ends = {one: final_state(self.host, (), noise, self.times(one)) for one in LISTS}

    @classmethod
    def held_out(cls, count: int) -> Bench:
        """On held-out prompts."""
        pairs = held_out(count, 0)
        return cls(pairs.prompts, torch.stack([_noise(seed) for seed in pairs.seeds]))

    @classmethod
    def training(cls, count: int) -> Bench:
        """On training prompts."""
        return cls(
            [str(prompt) for prompt in sample(TRAINING, count, 0)], torch.stack([_noise(-1 - i) for i in range(count)])
        )

    def times(self, schedule: Schedule) -> Steps:
        """The steps of a run."""
        return Steps(sigmas(schedule.steps, self.shift))

    def row(self, policy: Policy, schedule: Schedule) -> dict[str, Any]:
        """What a policy does on one list; means over prompts and forecast steps."""
        given = (self.host, policy, self.noise, self.times(schedule), schedule)
        visited, along = velocity_errors(*given), velocity_errors(*given, visited=False)
        end = final_state(self.host, policy, self.noise, self.times(schedule))
        return {
            "velocity": torch.stack(list(visited.values())).mean().item(),
            "velocity_of_full_run": torch.stack(list(along.values())).mean().item(),
            "final": relative_error(end, self.ends[schedule]).mean().item(),
            "by_step": {
                step: {"gap": self._gap(schedule, step), "velocity": error.mean().item()}
                for step, error in visited.items()
            },
            "share_of_full_step": self._cost(policy, schedule),
        }

    def _gap(self, schedule: Schedule, step: int) -> float:
        times = self.times(schedule).times
        return float(times[max(full for full in schedule.full_steps if full < step)] - times[step])

    @torch.no_grad()
    def _cost(self, policy: Policy, schedule: Schedule) -> float:
        """Operations of the last forecast step over those of a full one."""
        one = Host(
            self.host.transformer,
            {name: value[:1] for name, value in self.host.conditioning.items()},
            self.host.second,
            guidance=torch.full((1,), GUIDANCE),
        )
        times, x, counts = self.times(schedule).times, self.noise[:1], {}
        with attach(one.transformer, policy, timesteps=(1000 * times[:-1]).tolist()):
            for step, (t, r) in enumerate(zip(times[:-1, None], times[1:, None], strict=True)):
                if step in (0, schedule.forecast_steps[-1]):
                    counts[step] = count_flops(one, x, t, r)
                else:
                    one(x, t, r)
        return counts[schedule.forecast_steps[-1]] / counts[0]


def _noise(seed: int) -> Tensor:
    return torch.randn(32, 4, 4, 4, generator=torch.Generator().manual_seed(seed))


def plain(bench: Bench) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows without a network."""
    known = Bench.training(64)
    methods = {
        "reuse": lambda one: reuse(full_steps=one),
        "taylor": lambda one: taylor(full_steps=one),
        "line_in_time": lambda one: taylor(full_steps=one, variable="time"),
    }
    for name, method in methods.items():
        yield name, [bench.row(method(one), one) for one in LISTS]
    for terms in (1, 2, 3):
        rows = []
        for one in LISTS:
            how = fitted(recorded(known.host, known.noise, known.times(one)), one, terms=terms)
            rows.append(bench.row((Rule(Trunk(), Given(one.full_steps, one.steps), how),), one))
        yield f"least_squares_{terms}", rows


def main(options: Options) -> None:
    stored: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {"rows": {}}
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
    stored |= {"budget": options.budget, "pairs": options.pairs, **about}
    bench = Bench.held_out(options.pairs)

    def keep(name: str, rows: list[dict[str, Any]], **more: Any) -> None:
        stored["rows"][name] = {"lists": dict(zip([str(one.steps) for one in LISTS], rows, strict=True)), **more}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(options.output, json.dumps(stored, indent=1) + "\n")
        write_text_atomic(options.output.with_suffix(".md"), table(stored["rows"]) + "\n")

    if "least_squares_3" not in stored["rows"]:
        for name, rows in plain(bench):
            keep(name, rows)
    for seed in options.seeds:
        for name in options.only:
            if f"{name}_{seed}" in stored["rows"]:
                continue
            predictor = Predictor.from_pretrained(trained(name, seed, options)).eval().requires_grad_(False)
            rows = [bench.row(disca(predictor, full_steps=one), one) for one in LISTS]
            keep(f"{name}_{seed}", rows, variant=name, seed=seed, cost=cost(name))
    print(table(stored["rows"]))


def table(rows: dict[str, Any]) -> str:
    """Mean and spread over the seeds, as Markdown; the last column against the authors' layout and pairs."""
    groups: dict[str, list[Any]] = {}
    for name, row in rows.items():
        groups.setdefault(row.get("variant", name), []).append(row)
    lines = [
        "| | steps | velocity | on the full run's states | last latents | a forecast, % of a full step | less error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in LISTS:
        steps = str(one.steps)
        first = {row.get("seed"): row["lists"][steps]["velocity"] for row in groups.get("official", ())}
        for name, found in groups.items():
            label = VARIANTS[name].label if name in VARIANTS else name.replace("_", " ")
            cells = [_spread([row["lists"][steps][key] for row in found]) for key in _SHOWN]
            share = f"{100 * mean(row['lists'][steps]['share_of_full_step'] for row in found):.1f}"
            less = [
                1 - row["lists"][steps]["velocity"] / first[row.get("seed", 0)]
                for row in found
                if row.get("seed", 0) in first
            ]
            lines.append(f"| {label} | {steps} | {' | '.join(cells)} | {share} | {_percent(less)} |")
    return "\n".join(lines)


_SHOWN = ("velocity", "velocity_of_full_run", "final")


def _spread(found: list[float]) -> str:
    return f"{mean(found):.4f}" + (f" ± {stdev(found):.4f}" if len(found) > 1 else "")


def _percent(found: list[float]) -> str:
    if not found:
        return ""
    return f"{100 * mean(found):.0f} %" + (f" ± {100 * stdev(found):.0f}" if len(found) > 1 else "")


if __name__ == "__main__":
    main(tyro.cli(Options))
