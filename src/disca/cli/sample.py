"""`disca sample`: one clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample one clip.

    disca sample "a blue three bouncing up"

    disca sample "a red seven drifting left" --policy taylor --steps 8 --full-steps 0 2 4 7 --output seven.mp4
    """

    prompt: Positional[str]
    """What the clip shows. The lab knows "a COLOUR DIGIT MOTION"."""
    model: str = "lab"
    """Which model: lab (the student), lab-base, lab-distilled or lab-student."""
    policy: str = "disca"
    """How steps are saved: disca, taylor, reuse, repeat_change, or none."""
    steps: int = 8
    """Sampling steps."""
    full_steps: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """Steps that are computed in full, from 0; about half of them when left out."""
    guidance_scale: float | None = None
    """How strongly the clip follows the prompt; the model's own choice when left out."""
    seed: int = 0
    """Seed of the noise; equal seeds give equal clips."""
    output: Path = Path("clip.mp4")
    """Where the clip goes, as .mp4, .gif, .webp or .png."""


def sample(options: Sample) -> None:
    """Sample one clip into a file."""
    from disca.files import check_writable
    from disca.lab.words import parse
    from disca.report.clips import check_suffix

    check_suffix(options.output)
    parse(options.prompt)
    check_writable(options.output.parent)
    from disca.lab.sample import sample_clip

    summary = sample_clip(
        options.prompt,
        model=options.model,
        policy=options.policy,
        steps=options.steps,
        full_steps=options.full_steps,
        guidance_scale=options.guidance_scale,
        seed=options.seed,
        output=options.output,
    )
    print(summary)
    print(f"Wrote {options.output}")
