"""Full steps computed for a forecast on the lab's student, once for each network, step count and budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from disca.bench.journal import Journal
from disca.bench.schedule import Budget, ScheduleCalibration, Search, calibrate_schedule
from disca.lab import words
from disca.lab.measure import GUIDANCE
from disca.lab.reproduce.rows import stage
from disca.lab.reproduce.work import Work
from disca.provenance import git_revision

LONGEST = 8
"""Steps between two full ones at most; no plan here comes near it."""


def plan(
    work: Work, name: str, method: str, steps: int, full_steps: int, options: Mapping[str, Any] | None = None
) -> tuple[int, ...]:
    """The best list of at most so many full steps by training prompts.

    Args:
        name: Of the forecast; equal names are equal forecasts.
        options: Of the method, such as ``predictor``.
    """
    folder = work.runs / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"prompts": work.prompts, "candidates": work.candidates, "git": git_revision()}
    file = folder / f"{name}_{steps}_{full_steps}.json"
    if file.exists():
        kept = json.loads(file.read_text())
        if all(kept["asked"][key] == value for key, value in settings.items() if key != "git"):
            return ScheduleCalibration.from_dict(kept).chosen
    prompts = [str(prompt) for prompt in words.sample(words.TRAINING, work.prompts, 0)]
    with Progress() as bar:
        line = bar.add_task(name)

        def tell(what: str, done: int, of: int) -> None:
            bar.update(line, description=f"{name}, {steps} steps, {full_steps} full: {what}", completed=done, total=of)

        found = calibrate_schedule(
            stage("student").pipe,
            method,
            partial(_latents, prompts, steps),
            prompts,
            budget=Budget(full_steps=full_steps),
            options=options,
            search=Search(candidates=work.candidates, longest=LONGEST, others=False),
            journal=Journal(folder / f"{name}_{steps}.jsonl", settings),
            tell=tell,
        )
    found.save(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), "asked": settings}) + "\n")
    return found.chosen


def _latents(prompts: list[str], steps: int, index: int) -> Tensor:
    noise = torch.Generator().manual_seed(index)
    found: Tensor = stage("student").pipe(
        prompts[index],
        num_inference_steps=steps,
        generator=noise,
        output_type="latent",
        return_dict=False,
        guidance_scale=GUIDANCE,
    )[0]
    return found
