"""Computed full steps against the authors' lists on the lab: `python benchmarks/schedules.py`. About 20 minutes.

Calibrates on training prompts, and compares on held-out ones: the same predictor, the same number of full steps, the
same noise. Writes benchmarks/records/schedules.json. What was measured is kept in the folder of state, so that an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from disca.bench.journal import Journal
from disca.bench.sampling import Trial, sample
from disca.bench.schedule import Budget, ScheduleCalibration, Search, calibrate_schedule
from disca.caching.methods import from_name
from disca.caching.policy import Policy
from disca.files import write_text_atomic
from disca.lab import words
from disca.lab.measure import GUIDANCE, held_out, judged, model
from disca.metrics.fidelity import relative_l2
from disca.metrics.intervals import bootstrap, bootstrap_ratio
from disca.planning import solve
from disca.provenance import command_line, git_revision, hardware, now, versions
from disca.schedules import Schedule

FILE = Path(__file__).parent / "records" / "schedules.json"
HAND = {8: (0, 2, 4, 7), 20: (0, 1, 2, 5, 9, 13, 17, 19)}
"""The authors' lists (arXiv 2602.05449)."""
FORMS = ("drift", "squared", "linear")
SEED, BATCH = 11, 25


class Comparison:
    """One method at one number of steps."""

    def __init__(self, method: str, steps: int, asked: argparse.Namespace) -> None:
        self.method, self.steps, self.asked = method, steps, asked
        self.student = model("student")
        self.options = {"predictor": self.student.predictor} if method == "disca" else {}
        settings = {"calibration": asked.calibration, "candidates": asked.candidates, "pairs": asked.pairs}
        self.journal = Journal(asked.state / f"{method}_{steps}.jsonl", {**settings, "git": git_revision()})

    def calibrated(self, bar: Progress) -> ScheduleCalibration:
        """The plans, by training prompts."""
        prompts = [str(prompt) for prompt in words.sample(words.TRAINING, self.asked.calibration, 0)]
        line = bar.add_task(f"{self.method}, {self.steps} steps")

        def latents(index: int) -> torch.Tensor:
            noise = torch.Generator().manual_seed(index)
            found: torch.Tensor = self.student.pipe(
                prompts[index],
                num_inference_steps=self.steps,
                generator=noise,
                output_type="latent",
                return_dict=False,
                guidance_scale=GUIDANCE,
            )[0]
            return found

        return calibrate_schedule(
            self.student.pipe,
            self.method,
            latents,
            prompts,
            budget=Budget(full_steps=len(HAND[self.steps])),
            options=self.options,
            search=Search(candidates=self.asked.candidates),
            journal=self.journal,
            tell=lambda what, done, of: bar.update(
                line, description=f"{self.method}: {what}", completed=done, total=of
            ),
        )

    def compared(self, found: ScheduleCalibration, bar: Progress) -> dict[str, Any]:
        """The lists on held-out prompts: latents' distance to the full run, clip by clip, and what the judge sees."""
        count = len(HAND[self.steps])
        lists = {"hand": HAND[self.steps], "computed": found.chosen}
        for form in FORMS:
            plans = solve(self.steps, found.costs.gap(form), history=found.costs.history, most=count)
            lists[f"table_{form}"] = plans[count].full_steps
        line = bar.add_task("comparing", total=len(lists) + 1)
        rows: dict[str, dict[str, Any]] = {}
        reference = self._row("all", (), None)
        for name, full_steps in lists.items():
            policy = from_name(self.method, **self.options, full_steps=Schedule(self.steps, full_steps))
            bar.advance(line)
            rows[name] = {"full_steps": full_steps, **self._row(" ".join(map(str, full_steps)), policy, reference)}
        hand = rows["hand"]["errors"]
        for row in rows.values():
            ratio = sum(row["errors"]) / sum(hand)
            row |= {"over_hand": ratio, "over_hand_interval": bootstrap_ratio(row["errors"], hand)}
            row |= {"latent_l2": sum(row["errors"]) / len(hand), "latent_l2_interval": bootstrap(row["errors"])}
        return {"all": {key: value for key, value in reference.items() if key != "latents"}, **rows}

    def _row(self, name: str, policy: Policy, reference: Mapping[str, Any] | None) -> dict[str, Any]:
        if reference is not None and (kept := self.journal.get(f"row {name}")) is not None:
            return dict(kept)
        pairs = held_out(self.asked.pairs, SEED)
        latents, seen = [], []
        trial = Trial(name=name, model=self.student, steps=self.steps, policy=policy, batch=BATCH)
        for batch in pairs.batches(BATCH):
            call = sample(trial, batch)
            latents.append(call.latents)
            seen.append(judged().look(call.frames, batch.prompts))
        whole = {key: torch.cat([one[key] for one in seen]) for key in seen[0]}
        said = judged().summarise(whole)
        kept = ("semantic_accuracy", "frechet", "intervals")
        found = {"full": call.facts["full"], **{key: said[key] for key in kept}}
        if reference is None:
            return {**found, "latents": torch.cat(latents)}
        found["errors"] = relative_l2(torch.cat(latents), reference["latents"]).tolist()
        self.journal.put(f"row {name}", found)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["disca", "taylor"])
    parser.add_argument("--steps", nargs="+", type=int, choices=tuple(HAND), default=[20, 8])
    parser.add_argument("--calibration", type=int, default=8, help="training prompts")
    parser.add_argument("--candidates", type=int, default=24, help="plans that the refinement samples")
    parser.add_argument("--pairs", type=int, default=50, help="held-out pairs of prompt and noise")
    parser.add_argument("--state", type=Path, default=Path("runs/schedules"), help="folder of what was measured so far")
    asked = parser.parse_args()
    asked.state.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with Progress() as bar:
        for method in asked.methods:
            for steps in asked.steps:
                one = Comparison(method, steps, asked)
                plans = one.calibrated(bar)
                rows = one.compared(plans, bar)
                frontier = [vars(point) for point in plans.frontier.points]
                found[f"{method}_{steps}_{len(HAND[steps])}"] = {
                    "rows": rows,
                    "frontier": frontier,
                    "sampled": plans.sampled,
                }
    pairs = held_out(asked.pairs, SEED)
    settings = {name: getattr(asked, name) for name in ("methods", "steps", "calibration", "candidates", "pairs")}
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": SEED}
    values = {"settings": settings, "prompts": pairs.prompts, "seeds": pairs.seeds, "found": found, **about}
    write_text_atomic(FILE, json.dumps(values, indent=1) + "\n")
    for name, each in found.items():
        for label, row in each["rows"].items():
            over = f"{row['over_hand']:.3f} of the hand list's" if "over_hand" in row else ""
            Console().print(
                name, label, row.get("full_steps", ""), row.get("latent_l2", ""), over, row["semantic_accuracy"]
            )


if __name__ == "__main__":
    main()
