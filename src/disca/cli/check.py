"""`disca check`: whether a bundle does on your pipeline what it did when it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare a bundle's forecast runs with its full runs on your pipeline, and with what was recorded.

    disca check lab-distilled my-bundle --prompt "a red seven drifting left" --record

    disca check path/to/pipeline my-bundle
    """

    pipe: Positional[str]
    """The pipeline: a folder of diffusers, or one of the lab's (lab-distilled)."""
    bundle: Positional[Path]
    """The bundle."""
    prompt: str | None = None
    """What to sample; what was recorded when left out."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels; the pipeline's own when left out."""
    steps: int | None = None
    """Sampling steps; those of the record, or of the bundle's first schedule, when left out."""
    seeds: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """Seeds of the noise, two runs for each; those of the record, or 0 1 2, when left out."""
    record: bool = False
    """Write what is found into the bundle, in the place of an earlier record."""
    printing: Printing = Printing()


def check(options: Check) -> dict[str, Any]:
    """Measure; an error beyond what the bundle allows is raised.

    Raises:
        FailedError: the forecast runs are farther from the full ones than recorded.
        ValueError: nothing is recorded; something else was recorded than is asked for.
    """
    from dataclasses import replace

    from disca.bundle import Bundle, Measured
    from disca.cli.models import open_pipeline
    from disca.errors import FailedError

    bundle = Bundle.from_pretrained(options.bundle)
    if not bundle.schedules:
        raise ValueError(f"{options.bundle} has no predictor, so there are no forecasts to check.")
    recorded = None if options.record else bundle.measured
    if not (recorded or options.record):
        raise ValueError(
            f"{options.bundle} records no error to compare with. Store one with --record, where it is good."
        )
    prompt = options.prompt or (recorded and recorded.prompt)
    if not prompt:
        raise ValueError("Say what to sample with --prompt.")
    steps = options.steps or (recorded.steps if recorded else bundle.schedules[0].steps)
    seeds = options.seeds if options.seeds is not None else (recorded.seeds if recorded else (0, 1, 2))
    if recorded and (prompt, steps, seeds) != (recorded.prompt, recorded.steps, recorded.seeds):
        raise ValueError(
            f"The bundle's record is of {recorded.prompt!r} in {recorded.steps} steps with seeds "
            f"{' '.join(map(str, recorded.seeds))}. Check the same, or store another record with --record."
        )
    from disca.cli.size import sized

    call = {"prompt": prompt, "num_inference_steps": steps, **sized(options.size, options.pipe)}
    found = bundle.measure(open_pipeline(options.pipe), seeds, **call)
    if recorded is None:
        recorded = Measured(relative_l2=found, most=1.5 * found, prompt=prompt, steps=steps, seeds=seeds)
        replace(bundle, measured=recorded).update(options.bundle)
    answer: dict[str, Any] = {"relative_l2": found, "recorded": recorded.relative_l2, "most": recorded.most}
    verdict = "recorded" if options.record else ("as expected" if found <= recorded.most else "too far")
    answer |= {"verdict": verdict}
    say(f"Forecast runs end {found:.4f} (relative L2) from full runs: {verdict} (at most {recorded.most:.4f}).")
    if found > recorded.most:
        raise FailedError(
            f"That is beyond {recorded.most:.4f}, the most that is as expected (recorded: {recorded.relative_l2:.4f}). "
            "Another resolution, shift, guidance, adapter or quantisation may be why; see the warnings.",
            answer,
        )
    return answer
