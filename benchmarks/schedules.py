"""Computed full steps against the authors' lists on the lab: `python benchmarks/schedules.py`. About 20 minutes.

Calibrates on training prompts, and compares on held-out ones: the same predictor, the same number of full steps, the
same noise. Writes benchmarks/records/schedules.json. What was measured is kept in the folder of state, so that an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from disca.bench.journal import Journal
from disca.bench.sampling import Trial, sample
from disca.bench.schedule import Budget, ScheduleCalibration, Search, calibrate_schedule
from disca.caching.methods import from_name
from disca.caching.policy import Policy
from disca.files import write_text_atomic
from disca.lab import words
from disca.lab.measure import held_out, judged
from disca.lab.reproduce.plans import latents
from disca.lab.reproduce.rows import stage
from disca.metrics.fidelity import relative_l2
from disca.metrics.intervals import bootstrap, bootstrap_ratio
from disca.planning import solve
from disca.provenance import command_line, git_revision, hardware, now, versions
from disca.schedules import Schedule

FILE = Path(__file__).parent / "records" / "schedules.json"
HAND = {8: (0, 2, 4, 7), 20: (0, 1, 2, 5, 9, 13, 17, 19)}
"""The authors' lists (arXiv 2602.05449)."""
FORMS = ("drift", "squared", "linear")
Doubted = Literal["input", "disagreement"]
DOUBTS: tuple[Doubted, ...] = ("input", "disagreement")
SEED, BATCH = 11, 30


class Comparison:
    """One method at one number of steps."""

    def __init__(self, method: str, steps: int, asked: argparse.Namespace) -> None:
        self.method, self.steps, self.asked = method, steps, asked
        self.student = stage("student")
        self.options = {"predictor": self.student.predictor} if method == "disca" else {}
        settings = {"calibration": asked.calibration, "candidates": asked.candidates, "git": git_revision()}
        self.plans = Journal(asked.state / f"{method}_{steps}_plans.jsonl", settings)
        self.rows = Journal(asked.state / f"{method}_{steps}_rows.jsonl", {**settings, "pairs": asked.pairs})

    def calibrated(self, bar: Progress, doubt: Doubted) -> ScheduleCalibration:
        """The plans, by training prompts."""
        prompts = [str(prompt) for prompt in words.sample(words.TRAINING, self.asked.calibration, 0)]
        line = bar.add_task(f"{self.method}, {self.steps} steps")

        return calibrate_schedule(
            self.student.pipe,
            self.method,
            partial(latents, prompts, self.steps),
            prompts,
            budget=Budget(full_steps=len(HAND[self.steps])),
            options=self.options,
            search=Search(doubt=doubt, candidates=self.asked.candidates),
            journal=self.plans,
            tell=lambda what, done, of: bar.update(
                line, description=f"{self.method}: {what}", completed=done, total=of
            ),
        )

    def compared(self, bar: Progress) -> dict[str, Any]:
        """Lists and gates on held-out prompts: latents' distance to the full run, clip by clip, what the judge sees."""
        found = self.calibrated(bar, "input")
        rows: dict[str, dict[str, Any]] = {}
        reference = self._row("all", (), None)
        for name, policy in self._policies(found, bar).items():
            if self.asked.rows and name not in self.asked.rows:
                continue
            one_by_one = "refreshed" in name  # the worst clip of a batch would decide for all
            rows[name] = self._row(f"{name} {found.chosen}", policy, reference, batch=1 if one_by_one else BATCH)
        for row in rows.values():
            for other in {"hand", "computed"} & rows.keys():
                theirs = rows[other]["errors"]
                row[f"over_{other}"] = sum(row["errors"]) / sum(theirs)
                row[f"over_{other}_interval"] = bootstrap_ratio(row["errors"], theirs)
            row |= {"latent_l2": mean(row["errors"]), "latent_l2_interval": bootstrap(row["errors"])}
        whole = {key: value for key, value in reference.items() if key not in ("latents", "full")}
        frontier = [vars(point) for point in found.frontier.points]
        return {"rows": {"all": whole, **rows}, "frontier": frontier, "sampled": found.sampled}

    def _policies(self, found: ScheduleCalibration, bar: Progress) -> dict[str, Policy]:
        """All with as many full steps: the authors' list; the one that is computed, and by the table alone, with each
        form of costs; and the computed one refreshed where a doubt is out of the ordinary."""
        count = len(HAND[self.steps])
        lists = {"hand": HAND[self.steps], "computed": found.chosen}
        for form in FORMS:
            plans = solve(self.steps, found.costs.gap(form), history=found.costs.history, most=count)
            lists[f"table_{form}"] = plans[count].full_steps
        policies = {name: self._listed(full_steps) for name, full_steps in lists.items()}
        for doubt in DOUBTS if not self.asked.rows else ():  # the second time all but the doubts is known
            policies[f"refreshed_{doubt}"] = self.calibrated(bar, doubt).policy(refresh=True, **self.options)
        return policies

    def _listed(self, full_steps: tuple[int, ...]) -> Policy:
        return from_name(self.method, **self.options, full_steps=Schedule(self.steps, full_steps))

    def _row(
        self, name: str, policy: Policy, reference: Mapping[str, Any] | None, batch: int = BATCH
    ) -> dict[str, Any]:
        if reference is not None and (kept := self.rows.get(f"row {name}")) is not None:
            return dict(kept)
        pairs = held_out(self.asked.pairs, SEED)
        latents, seen, full = [], [], []
        trial = Trial(name=name, model=self.student, steps=self.steps, policy=policy, batch=batch)
        for part in pairs.batches(batch):
            call = sample(trial, part)
            latents.append(call.latents)
            seen.append(judged().look(call.frames, part.prompts))
            full.append(call.facts["full"])
        said = judged().summarise({key: torch.cat([one[key] for one in seen]) for key in seen[0]})
        found = {key: said[key] for key in ("semantic_accuracy", "frechet", "intervals")}
        if reference is None:
            return {**found, "latents": torch.cat(latents)}
        found["full"] = full[0] if all(one == full[0] for one in full) else full
        found["errors"] = relative_l2(torch.cat(latents), reference["latents"]).tolist()
        self.rows.put(f"row {name}", found)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["disca", "taylor"])
    parser.add_argument("--steps", nargs="+", type=int, choices=tuple(HAND), default=[20, 8])
    parser.add_argument("--calibration", type=int, default=8, help="training prompts")
    parser.add_argument("--candidates", type=int, default=24, help="plans that the refinement samples")
    parser.add_argument("--pairs", type=int, default=120, help="held-out pairs of prompt and noise")
    parser.add_argument("--rows", nargs="+", help="rows of lists to compare; all, and those of gates, when left out")
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--state", type=Path, default=Path("runs/schedules"), help="folder of what was measured so far")
    asked = parser.parse_args()
    asked.state.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with Progress() as bar:
        for method in asked.methods:
            for steps in asked.steps:
                found[f"{method}_{steps}_{len(HAND[steps])}"] = Comparison(method, steps, asked).compared(bar)
    pairs = held_out(asked.pairs, SEED)
    settings = {name: getattr(asked, name) for name in ("methods", "steps", "calibration", "candidates", "pairs")}
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": SEED}
    values = {"settings": settings, "prompts": pairs.prompts, "seeds": pairs.seeds, "found": found, **about}
    write_text_atomic(asked.output, json.dumps(values, indent=1) + "\n")
    table = Table("lists", "full steps", "latents' relative L2", "over the hand list's", "semantics", "Fréchet")
    for name, each in found.items():
        for label, row in each["rows"].items():
            numbers = [
                f"{row[key]:.4f}" if key in row else "" for key in ("latent_l2", "over_hand", "semantic_accuracy")
            ]
            full = row.get("full", [])
            steps = " ".join(map(str, full)) if full and not isinstance(full[0], list) else ""
            table.add_row(f"{name} {label}", steps, *numbers, f"{row['frechet']:.2f}")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
