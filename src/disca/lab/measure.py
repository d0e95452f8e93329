"""Samples the same prompts and noise in several ways, side by side in one run, and measures each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.caching.summary import Summary
from disca.lab.judge import Judge, Verdict
from disca.lab.words import HELD_OUT, Prompt, sample
from disca.lab.world import World
from disca.metrics.fidelity import psnr, relative_l2
from disca.metrics.flops import count_flops
from disca.metrics.frechet import frechet_distance
from disca.metrics.intervals import bootstrap, wilson
from disca.metrics.timers import Timer
from disca.records import Record, command_line, hardware, now, versions

GUIDANCE = 3.0
REAL_CLIPS = 1000
"""Real clips that a Frechet distance compares with."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to sample."""

    name: str
    label: str
    pipe: DiffusionPipeline
    steps: int
    policy: Policy = ()
    policy_name: str = "none"


@dataclass(frozen=True)
class Pairs:
    """Prompts and noise seeds that every trial samples."""

    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]

    @classmethod
    def held_out(cls, count: int, seed: int) -> Pairs:
        """Held-out prompts, each about as often as any other, with a seed of their own each."""
        return cls(tuple(sample(HELD_OUT, count, seed)), tuple(range(seed * 1_000_000, seed * 1_000_000 + count)))

    def batches(self, size: int) -> Iterator[Pairs]:
        """In parts of at most ``size``."""
        for start in range(0, len(self.seeds), size):
            rows = slice(start, start + size)
            yield Pairs(self.prompts[rows], self.seeds[rows])

    def generators(self) -> list[torch.Generator]:
        """One for each clip's noise."""
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]


@dataclass
class Outcome:
    """What a trial gave."""

    latents: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of the sampling loop for one clip, by batch."""
    summary: Summary | None = None

    def clips(self, trial: Trial) -> Tensor:
        """Clips ``[n, 3, frames, height, width]``."""
        return trial.pipe.codec.decode(torch.cat(self.latents).to(trial.pipe.codec.device)).cpu()


def run(trials: Sequence[Trial], pairs: Pairs, *, batch: int, progress: Any = None) -> dict[str, Outcome]:
    """Sample every trial on every pair. Trials take turns batch by batch, so that a machine that slows down slows all
    of them; ``progress(trial)`` is called after each turn."""
    outcomes = {trial.name: Outcome() for trial in trials}
    warm = next(pairs.batches(min(batch, len(pairs.seeds))))
    for trial in trials:
        _sample(trial, warm, steps=min(2, trial.steps), policy=())
    for part in pairs.batches(batch):
        for trial in trials:
            outcome, timer = outcomes[trial.name], Timer()
            with timer:
                latents, outcome.summary = _sample(trial, part, steps=trial.steps, policy=trial.policy)
            outcome.latents.append(latents)
            outcome.seconds.append(timer.seconds / len(part.seeds))
            if progress is not None:
                progress(trial)
    return outcomes


def _sample(trial: Trial, pairs: Pairs, *, steps: int, policy: Policy) -> tuple[Tensor, Summary]:
    with attach(trial.pipe, policy) as attached:
        latents = trial.pipe(
            pairs.prompts,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=pairs.generators(),
            output_type="latent",
        ).frames
    return latents, attached.summary()


def records(
    trials: Sequence[Trial],
    outcomes: Mapping[str, Outcome],
    pairs: Pairs,
    judge: Judge,
    *,
    over: str,
    references: Mapping[str, str],
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Record]:
    """A record for each trial.

    Args:
        over: name of the trial that speed-ups compare with.
        references: for a trial's name, that of the trial whose clips its fidelity is measured to.
        extra: more facts, by trial.
    """
    real = _real_features(judge)
    clips = {trial.name: outcomes[trial.name].clips(trial) for trial in trials}
    about: dict[str, Any] = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
    about |= {"seeds": pairs.seeds, "prompts": tuple(map(str, pairs.prompts))}
    rows = []
    for trial in trials:
        outcome, verdict = outcomes[trial.name], judge.read(clips[trial.name])
        assert outcome.summary is not None
        reference = references.get(trial.name)
        values, intervals = _fidelity(clips[trial.name], clips[reference]) if reference else ({}, {})
        semantics, more = _semantics(verdict, pairs.prompts)
        speed, speed_interval = _speed(outcomes[over].seconds, outcome.seconds)
        steps = next(iter(outcome.summary.branches.values())).full
        rows.append(
            Record(
                name=trial.name,
                policy=trial.policy_name,
                steps=trial.steps,
                full_steps=steps,
                transformer_evaluations=outcome.summary.transformer_evaluations,
                seconds=sum(outcome.seconds) / len(outcome.seconds),
                speedup=speed,
                speedup_over=over,
                flops=_flops(trial, outcome.summary),
                reference=reference,
                **values,
                semantic_accuracy=semantics["all"],
                frechet=frechet_distance(verdict.features, real) if len(pairs.seeds) > 1 else None,
                intervals={**intervals, **more, "speedup": speed_interval},
                **about,
                extra={
                    "label": trial.label,
                    "accuracy": semantics,
                    "amplitude": verdict.amplitude.mean().item(),
                    "seconds_full": outcome.summary.seconds_full,
                    "seconds_forecast": outcome.summary.seconds_forecast,
                    "bytes_held": outcome.summary.bytes_held,
                    **(extra or {}).get(trial.name, {}),
                },
            )
        )
    return rows


def _real_features(judge: Judge) -> Tensor:
    """Features of real held-out clips, through no model and no codec."""
    generator = torch.Generator().manual_seed(7)
    prompts = sample(HELD_OUT, REAL_CLIPS, 7)
    return judge.read(World().clips(prompts, generator, split="test")).features


def _fidelity(clips: Tensor, reference: Tensor) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    error, ratio = relative_l2(clips, reference), psnr(clips, reference)
    values: dict[str, Any] = {"relative_l2": error.mean().item(), "psnr": None}
    intervals: dict[str, tuple[float, float]] = {"relative_l2": bootstrap(error.numpy())}
    if ratio.isfinite().all():
        values["psnr"] = ratio.mean().item()
        intervals["psnr"] = bootstrap(ratio.numpy())
    return values, intervals


def _semantics(verdict: Verdict, prompts: Sequence[Prompt]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    right = verdict.right(prompts)
    shares = {name: value.float().mean().item() for name, value in right.items()}
    return shares, {"semantic_accuracy": wilson(int(right["all"].sum()), len(prompts))}


def _speed(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Ratio of the mean seconds, and an interval of the ratios of single batches."""
    ratios = [first / second for first, second in zip(slow, fast, strict=True)]
    return sum(slow) / sum(fast), bootstrap(ratios)


def _flops(trial: Trial, summary: Summary) -> float:
    """Operations of one clip, counted: of a whole accelerated run, or of one step times their number."""
    one = Pairs((HELD_OUT[0],), (0,))
    if summary.forecasts:
        return float(count_flops(_sample, trial, one, steps=trial.steps, policy=trial.policy))
    return float(count_flops(_sample, trial, one, steps=1, policy=()) * trial.steps)
