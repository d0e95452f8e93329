"""`disca check`: whether a bundle does on your pipeline what it did when it was made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare a bundle's forecast runs with its full runs on your pipeline, and with what was recorded.

    disca check lab-distilled my-bundle --prompt "a red seven drifting left"

    disca check path/to/pipeline my-bundle --prompt "a paper boat" --steps 20 --seeds 0 1
    """

    pipe: Positional[str]
    """The pipeline: a folder of diffusers, or one of the lab's (lab-distilled)."""
    bundle: Positional[Path]
    """The bundle."""
    prompt: str
    """What to sample."""
    steps: int | None = None
    """Sampling steps; those of the bundle's first schedule when left out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the noise; two runs for each."""
    record: bool = False
    """Write what is found into the bundle, for later checks to compare with."""
    json: bool = False
    """Print one JSON object."""


def check(options: Check) -> None:
    """Measure; an error beyond what the bundle allows is raised.

    Raises:
        ValueError: the forecast runs are farther from the full ones than recorded, or nothing is recorded.
    """
    from dataclasses import replace

    from disca.bundle import Bundle, Measured
    from disca.cli.models import open_pipeline

    bundle = Bundle.from_pretrained(options.bundle)
    if not bundle.schedules:
        raise ValueError(f"{options.bundle} has no predictor, so there are no forecasts to check.")
    pipe = open_pipeline(options.pipe)
    steps = options.steps or bundle.schedules[0].steps
    found = bundle.measure(pipe, options.seeds, prompt=options.prompt, num_inference_steps=steps)
    if options.record:
        bundle = replace(bundle, measured=Measured(relative_l2=found, most=1.5 * found))
        bundle.update(options.bundle)
    recorded = bundle.measured
    answer = {"relative_l2": found, "recorded": recorded and recorded.relative_l2, "most": recorded and recorded.most}
    print(json.dumps(answer) if options.json else f"Forecast runs end {found:.4f} (relative L2) from full runs.")
    if recorded is None:
        raise ValueError(f"{options.bundle} records no error to compare with. Store this one with --record.")
    if found > recorded.most:
        raise ValueError(
            f"That is beyond {recorded.most:.4f}, the most that is as expected (recorded: {recorded.relative_l2:.4f}). "
            "Another resolution, shift, guidance, adapter or quantisation may be why; see the warnings."
        )
