"""Full steps computed for a forecast on the lab's student, once for each network, step count and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from disca.bench.journal import Journal
from disca.bench.schedule import Budget, Search, calibrate_schedule
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
    folder, asked = work.runs / "plans", {**work.settings, "git": git_revision()}
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / f"{name}_{steps}.jsonl", asked)
    if (kept := journal.get(f"chosen {full_steps}")) is not None:
        return tuple(kept)
    prompts = [str(prompt) for prompt in words.sample(words.TRAINING, work.prompts, 0)]
    with Progress() as bar:
        line = bar.add_task(name)

        def tell(what: str, done: int, of: int) -> None:
            bar.update(line, description=f"{name}, {steps} steps, {full_steps} full: {what}", completed=done, total=of)

        found = calibrate_schedule(
            stage("student").pipe,
            method,
            partial(latents, prompts, steps),
            prompts,
            budget=Budget(full_steps=full_steps),
            options=options,
            search=Search(candidates=work.candidates, longest=LONGEST, others=False),
            journal=journal,
            tell=tell,
        )
    journal.put(f"chosen {full_steps}", list(found.chosen))
    return found.chosen


def latents(prompts: Sequence[str], steps: int, index: int) -> Tensor:
    """Last latents of the student on the prompt of an index; equal indices give equal noise."""
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
