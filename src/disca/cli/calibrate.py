"""`disca calibrate`: what a caching method needs, measured on your model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from disca.cli.methods import MethodOptions
from disca.cli.printing import Printing, say

PROMPTS = 8


@dataclass(frozen=True, kw_only=True)
class Calibrate(MethodOptions):
    """Measure constants of a method on a model, and the threshold that gives a number of full steps.

    disca calibrate teacache --model lab-base --steps 50 --wanted 15 --output teacache.json

    disca calibrate magcache --model lab-base --steps 50 --wanted 15 --skips 6 --output magcache.json

    disca calibrate speca --model path/to/pipeline --prompts prompts.txt --steps 50 --wanted 8 --output speca.json

    Use it with disca.from_calibration("speca.json"), or give its file to --constants of teacache and magcache.
    """

    method: Positional[str]
    """teacache, magcache, first_block_cache, easycache, speca or rfc. Other options of the method are kept."""
    output: Path
    """The file to write."""
    model: str = "lab"
    """A folder with a pipeline of diffusers, or one of the lab's (lab, lab-base, lab-distilled)."""
    steps: int = 50
    """Sampling steps."""
    wanted: float | None = None
    """How many of them are to be full, in the mean over the prompts. teacache and magcache can do without."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels; the pipeline's own when left out."""
    prompts: Path | None = None
    """A file with a prompt on each line; training prompts of the lab when left out."""
    guidance_scale: float | None = None
    """How strongly clips follow their prompts; the pipeline's own choice when left out."""
    seed: int = 0
    """Seed of the first prompt's noise; the others count up from it."""
    printing: Printing = Printing()


def calibrate(options: Calibrate) -> dict[str, Any]:
    """Measure, and write what was found.

    Raises:
        ValueError: nothing to measure, no prompts, or a number of full steps that cannot be reached.
    """
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from disca.bench.calibrate import calibrate as measure
    from disca.cli.models import open_pipeline
    from disca.cli.size import sized
    from disca.files import check_writable

    prompts = prompts_of(options)
    if options.steps < 2:
        raise ValueError(f"--steps is the number of sampling steps, at least 2, not {options.steps}.")
    sized(options.size, options.model)
    check_writable(options.output.parent)
    pipe = open_pipeline(options.model)
    pipe.set_progress_bar_config(disable=True)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        line = bar.add_task("full runs", total=None)

        def one_more(what: str) -> None:
            bar.update(line, advance=1, description=what)

        found = measure(
            pipe,
            options.method,
            sampler(pipe, prompts, options),
            prompts,
            wanted=options.wanted,
            options=options.given(),
            progress=one_more,
        )
    found.save(options.output)
    reached = f" {found.reached:g} of {options.steps} steps are full." if found.reached is not None else ""
    say(f"Wrote {options.output}: {options.method} on {found.transformer}, {dict(found.options)}.{reached}")
    return {"output": str(options.output), **json.loads(options.output.read_text())}


def prompts_of(options: Any) -> Sequence[str]:
    """The lines of the file that the options name, or training prompts of the lab."""
    if options.prompts is not None:
        lines = [line.strip() for line in options.prompts.read_text().splitlines()]
        if not any(lines):
            raise ValueError(f"{options.prompts} has no prompts; it takes one on each line.")
        return [line for line in lines if line]
    from disca.lab.sample import MODELS
    from disca.lab.words import TRAINING, sample

    if options.model not in MODELS:
        raise ValueError("Give --prompts, a file with a prompt on each line.")
    return [str(prompt) for prompt in sample(TRAINING, PROMPTS, options.seed)]


def sampler(pipe: Any, prompts: Sequence[str], options: Any) -> Any:
    """Runs the pipeline on the prompt of an index, with noise of its own; gives the last latents."""
    import torch

    from disca.cli.size import sized

    guidance = {} if options.guidance_scale is None else {"guidance_scale": options.guidance_scale}
    guidance |= sized(options.size, options.model)

    def sample(index: int) -> torch.Tensor:
        latents: torch.Tensor = pipe(
            prompts[index],
            num_inference_steps=options.steps,
            generator=torch.Generator().manual_seed(options.seed + index),
            output_type="latent",
            return_dict=False,
            **guidance,
        )[0]
        return latents

    return sample
