"""The whole story on this machine: the base, its distilled children and every cache, on the same prompts and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from disca import records as files
from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy
from disca.files import check_writable
from disca.lab import weights
from disca.lab.measure import Outcome, Pairs, Trial, records, run
from disca.lab.pipeline import LabPipeline
from disca.metrics.fidelity import psnr
from disca.predictor.network import Predictor
from disca.records import Record
from disca.report.clips import Clip, Frames, write_clip, write_index
from disca.report.page import write_page
from disca.report.table import print_table

STEPS, FULL_STEPS = 8, (0, 2, 4, 7)
BATCH = 20
SHOWN = 6
"""Prompts whose clips are kept."""
TITLE = "DisCa in the lab"
LEAD = (
    "A small text-to-video model, sampled from the same noise in seven ways. Its 50 guided steps become 8 steps of a "
    "Restricted MeanFlow student, and on half of those a small learned predictor stands in for the whole stack of "
    "transformer blocks."
)
NOTES = (
    "Semantics is the share of clips in which a judge, trained on other handwriting, reads the digit, the colour and "
    "the motion of the prompt. All prompts are combinations that no training saw.",
    "Evaluations are full passes through the transformer; a guided step of the base takes two.",
)


def show(output: Path, *, prompts: int = 100, seed: int = 0) -> list[Record]:
    """Sample, print one table, and write ``records.jsonl``, clips and ``index.html`` into ``output``.

    Args:
        prompts: Pairs of held-out prompt and seed; at least 2 for a Frechet distance.
        seed: Of the choice of prompts and of the noise.

    Raises:
        OSError: the folder cannot be written.
        FileNotFoundError, ValueError: the lab's weights are missing or damaged.
    """
    output = check_writable(output)
    judge, predictor = weights.judge(), weights.predictor()
    trials, pairs = story(predictor), Pairs.held_out(prompts, seed)
    turns = len(trials) * len(list(pairs.batches(BATCH)))
    with Progress() as bar:
        line = bar.add_task("sampling", total=turns)
        outcomes = run(trials, pairs, batch=BATCH, progress=lambda trial: bar.advance(line))
        bar.update(line, description="measuring")
        share = predictor.parameter_share(trials[-1].pipe.transformer)
        rows = records(
            trials,
            outcomes,
            pairs,
            judge,
            over="base_50",
            references={trial.name: f"student_{STEPS}" for trial in trials if trial.name != f"student_{STEPS}"},
            extra={f"disca_{STEPS}_{len(FULL_STEPS)}": {"predictor_share": share}},
        )
    files.write(output / "records.jsonl", rows)
    clips = _write_clips(output, trials, outcomes, pairs)
    write_page(output / "index.html", rows, clips, title=TITLE, lead=LEAD, notes=NOTES)
    _say(rows, output, share)
    return rows


def story(predictor: Predictor) -> list[Trial]:
    """What the quickstart compares."""
    pipes = {stage: weights.pipeline(stage) for stage in weights.PARTS}
    full = f"student, {STEPS} steps"
    cached = f"{STEPS} steps, {len(FULL_STEPS)} full"
    k = f"{STEPS}_{len(FULL_STEPS)}"
    return [
        Trial(name="base_50", label="base, 50 steps, guided", pipe=pipes["base"], steps=50),
        Trial(name="distilled_50", label="guidance-distilled, 50 steps", pipe=pipes["distilled"], steps=50),
        Trial(name=f"base_{STEPS}", label=f"base, {STEPS} steps, guided", pipe=pipes["base"], steps=STEPS),
        Trial(name=f"student_{STEPS}", label=full, pipe=pipes["student"], steps=STEPS),
        _cached(pipes["student"], f"disca_{k}", f"student + DisCa, {cached}", disca(predictor, full_steps=FULL_STEPS)),
        _cached(pipes["student"], f"reuse_{k}", f"student + reuse, {cached}", reuse(full_steps=FULL_STEPS)),
        _cached(pipes["student"], f"taylor_{k}", f"student + Taylor, {cached}", taylor(full_steps=FULL_STEPS)),
    ]


def _cached(pipe: LabPipeline, name: str, label: str, policy: Policy) -> Trial:
    said = f"{name.partition('_')[0]}(full_steps={FULL_STEPS})"
    return Trial(name=name, label=label, pipe=pipe, steps=STEPS, policy=policy, policy_name=said)


def _write_clips(output: Path, trials: Sequence[Trial], outcomes: Mapping[str, Outcome], pairs: Pairs) -> list[Clip]:
    """The first few pairs of every trial, with their PSNR to the student's full run."""
    sampled = {trial.name: outcomes[trial.name].clips(trial)[:SHOWN] for trial in trials}
    reference = sampled[f"student_{STEPS}"]
    clips = []
    for index, (prompt, seed) in enumerate(zip(pairs.prompts[:SHOWN], pairs.seeds[:SHOWN], strict=True)):
        for trial in trials:
            path = output / "clips" / f"{index}_{trial.name}.gif"
            path.parent.mkdir(exist_ok=True)
            write_clip(path, pixels(sampled[trial.name][index]))
            note = _note(sampled[trial.name][index], reference[index])
            clips.append(Clip(prompt=str(prompt), name=trial.name, path=path, seed=seed, note=note))
    write_index(output, clips)
    return clips


def _note(clip: Tensor, reference: Tensor) -> str:
    value = psnr(clip[None], reference[None]).item()
    return "the reference" if value == float("inf") else f"{value:.1f} dB"


def pixels(clip: Tensor) -> Frames:
    """A clip ``[3, frames, height, width]`` in [0, 1] as bytes ``[frames, height, width, 3]``."""
    return clip.permute(1, 2, 3, 0).mul(255).round().byte().numpy()


def _say(rows: Sequence[Record], output: Path, share: float) -> None:
    console = Console()
    print_table(rows, title=f"{len(rows[0].seeds)} held-out prompts, seconds for one clip", console=console)
    by_name = {row.name: row for row in rows}
    full, cached = by_name[f"student_{STEPS}"], by_name[f"disca_{STEPS}_{len(FULL_STEPS)}"]
    assert full.flops and cached.flops
    console.print(
        f"The predictor has {share:.1%} of the transformer's parameters; with it a clip takes "
        f"{cached.flops / full.flops:.2f} of the student's operations."
    )
    console.print(f"Look: {output / 'index.html'}  Records: {output / 'records.jsonl'}")
