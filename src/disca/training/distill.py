"""Distillation: guidance into one pass, then many steps into few (arXiv 2602.05449, stages one and two)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from disca.flow.intervals import Instant, Interval, Restricted, Scheduled, Terminal, Uniform
from disca.flow.path import MeanVelocity, integrate, point, sigmas
from disca.meanflow.second_time import SecondTime
from disca.objectives import Loss, guidance_distillation, guided, mean_flow_target, relative_error, squared_error
from disca.training.clips import Source
from disca.training.host import Host, compiled
from disca.training.recipe import Recipe

REFERENCE_STEPS = 60
"""Of the teacher's run that a validation compares with."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Options of the stage ``guidance``: one pass with an embedded scale learns the teacher's guided two."""

    low: float = 1.0
    high: float = 5.0
    """Range of the guidance scale, drawn evenly for each sample."""
    scale: float = 3.0
    """Scale of the validation."""
    shift: float = 3.0
    """Of the density of t: even after undoing this shift."""

    def task(self, recipe: Recipe, source: Source) -> GuidanceTask:
        return GuidanceTask(self, recipe, source)


@dataclass(frozen=True, kw_only=True)
class MeanFlow:
    """Options of the stage ``mean_flow``: a guidance-distilled teacher's velocity, averaged over intervals.

    Each batch is cut in four shares: instants (r = t) that protect many-step use, restricted intervals (the paper's),
    the intervals that samplers of ``steps`` meet, and terminal ones (r = 0). The first three obey ``t - r <= limit``;
    the last interval of a few-step sampler is longer than any sensible limit, so it gets samples of its own.
    """

    low: float = 1.0
    high: float = 5.0
    scale: float = 3.0
    limit: float = 0.2
    """The restriction R."""
    steps: tuple[int, ...] = (4, 8, 20)
    terminal: float = 0.65
    """Largest t of a terminal interval; see :func:`disca.flow.path.max_interval`."""
    instant_share: float = 0.125
    restricted_share: float = 0.25
    terminal_share: float = 0.25
    """What the three leave goes to the samplers' intervals."""
    substeps: int = 1
    """Heun steps of the teacher over an interval within the limit."""
    terminal_substeps: int = 4

    def task(self, recipe: Recipe, source: Source) -> MeanFlowTask:
        return MeanFlowTask(self, recipe, source)

    def parts(self, batch: int, shift: float) -> list[tuple[int, Interval, int]]:
        """Samples, intervals and teacher substeps of each share of a batch."""
        times = Uniform(shift=shift)
        shares: list[tuple[float, Interval, int]] = [
            (self.instant_share, Instant(times), 1),
            (self.restricted_share, Restricted(self.limit), self.substeps),
            (self.terminal_share, Terminal(self.terminal), self.terminal_substeps),
        ]
        parts = [(round(share * batch), interval, substeps) for share, interval, substeps in shares]
        left = batch - sum(count for count, *_ in parts)
        parts.append((left, Scheduled(self.steps, shift, limit=self.limit), self.substeps))
        return [part for part in parts if part[0] > 0]


class GuidanceTask:
    """Trains a copy of the transformer that takes the scale as an input."""

    def __init__(self, options: Guidance, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.teacher = self.pipe.transformer.requires_grad_(False).eval()
        self.student = embed_guidance(self.teacher).to(self.pipe.device)
        self.modules = nn.ModuleDict({"transformer": self.student})
        for transformer in (self.teacher, self.student):
            compiled(transformer, recipe)
        self.times = Uniform(shift=options.shift)

    def loss(self, generator: torch.Generator) -> Loss:
        options, device = self.options, self.pipe.device
        texts, latents = self.source.batch(self.recipe.batch, generator)
        noise = torch.randn(latents.shape, generator=generator)
        t = self.times.draw(len(latents), generator).to(device)
        scale = (options.low + (options.high - options.low) * torch.rand(len(latents), generator=generator)).to(device)
        cond, uncond = _inputs(self.pipe, texts), _inputs(self.pipe, [""] * len(texts))
        student = Host(self.student, {}).given(cond, scale)
        teacher = Host(self.teacher, cond), Host(self.teacher, uncond)
        return guidance_distillation(student, *teacher, latents.to(device), noise.to(device), t, scale)

    def validate(self, folder: Path) -> dict[str, float]:
        texts, noise = _validation(self.source, self.recipe)
        cond, uncond = _inputs(self.pipe, texts), _inputs(self.pipe, [""] * len(texts))
        two = Host(self.teacher, cond), Host(self.teacher, uncond)
        scale = torch.full((len(texts),), self.options.scale)
        measures = _distances(
            lambda x, t, r: guided(two[0](x, t), two[1](x, t), self.options.scale),
            Host(self.student, {}).given(cond, scale.to(self.pipe.device)),
            noise.to(self.pipe.device),
            self.pipe.scheduler.config.shift,
            (REFERENCE_STEPS,),
        )
        return {**measures, **self._look(folder)}

    def _look(self, folder: Path) -> dict[str, float]:
        return _with(self.pipe, self.source, folder, transformer=self.student)

    def export(self, folder: Path) -> None:
        self.pipe.register_modules(transformer=self.student)
        self.pipe.save_pretrained(folder)


class MeanFlowTask:
    """Trains a copy of the teacher with a second time."""

    def __init__(self, options: MeanFlow, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.teacher = self.pipe.transformer.requires_grad_(False).eval()
        self.student = deepcopy(self.teacher).requires_grad_(True)
        self.second = SecondTime.for_host(self.student)
        self.modules = nn.ModuleDict({"transformer": self.student, "second_time": self.second})
        for transformer in (self.teacher, self.student):
            compiled(transformer, recipe)
        self.shift = self.pipe.scheduler.config.shift
        self.second.install(self.student)

    def loss(self, generator: torch.Generator) -> Loss:
        options, device = self.options, self.pipe.device
        texts, latents = self.source.batch(self.recipe.batch, generator)
        noise = torch.randn(latents.shape, generator=generator)
        scale = (options.low + (options.high - options.low) * torch.rand(len(latents), generator=generator)).to(device)
        parts = options.parts(len(latents), self.shift)
        times = [interval.sample(count, generator) for count, interval, _ in parts]
        t, r = (torch.cat(ends).to(device) for ends in zip(*times, strict=True))
        cond = _inputs(self.pipe, texts)
        x_t = point(latents.to(device), noise.to(device), t)
        targets, start = [], 0
        for count, _, substeps in parts:
            rows = slice(start, start := start + count)
            teacher = Host(self.teacher, {}).given({name: value[rows] for name, value in cond.items()}, scale[rows])
            targets.append(mean_flow_target(teacher, teacher, x_t[rows], t[rows], r[rows], substeps=substeps))
        student = Host(self.student, {}, self.second).given(cond, scale)
        return squared_error(student(x_t, t, r), torch.cat(targets))

    def validate(self, folder: Path) -> dict[str, float]:
        texts, noise = _validation(self.source, self.recipe)
        scale = torch.full((len(texts),), self.options.scale).to(self.pipe.device)
        cond = _inputs(self.pipe, texts)
        teacher = Host(self.teacher, {}).given(cond, scale)
        student = Host(self.student, {}, self.second).given(cond, scale)
        measures = _distances(teacher, student, noise.to(self.pipe.device), self.shift, self.options.steps)
        return {**measures, **self._look(folder)}

    def _look(self, folder: Path) -> dict[str, float]:
        return _with(self.pipe, self.source, folder, transformer=self.student, second_time=self.second)

    def export(self, folder: Path) -> None:
        self.pipe.register_modules(transformer=self.student, second_time=self.second)
        self.pipe.save_pretrained(folder)


def embed_guidance(transformer: Any) -> Any:
    """The same transformer with a guidance embedding whose output is zero: it ignores the scale until trained.

    Raises:
        ValueError: the class has no such input, or the transformer has it already.
    """
    if transformer.config.get("guidance_embeds") is not False:
        raise ValueError(
            f"{type(transformer).__name__} cannot be given a guidance embedding: guidance_embeds is "
            f"{transformer.config.get('guidance_embeds')!r} in its configuration, False is needed."
        )
    # Without private entries: one of them is where the teacher was loaded from.
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    child = type(transformer).from_config({**config, "guidance_embeds": True})
    missing, unexpected = child.load_state_dict(transformer.state_dict(), strict=False)
    embedder = child.time_text_embed.guidance_embedder
    own = {name for name in child.state_dict() if name.startswith("time_text_embed.guidance_embedder.")}
    assert set(missing) == own and not unexpected
    embedder.load_state_dict(transformer.time_text_embed.timestep_embedder.state_dict())
    nn.init.zeros_(embedder.linear_2.weight)
    nn.init.zeros_(embedder.linear_2.bias)
    return child


def _inputs(pipe: Any, texts: Sequence[str]) -> dict[str, Tensor]:
    with torch.no_grad():
        return pipe.encode_prompt(texts)


def _validation(source: Source, recipe: Recipe) -> tuple[list[str], Tensor]:
    """Prompts and noise that no iteration draws."""
    generator = torch.Generator().manual_seed(recipe.seed - 1)
    texts, latents = source.batch(recipe.batch, generator)
    return list(texts), torch.randn(latents.shape, generator=generator)


def _distances(
    teacher: MeanVelocity, student: MeanVelocity, noise: Tensor, shift: float, steps: tuple[int, ...]
) -> dict[str, float]:
    """Relative L2 of few-step runs to the teacher's long run from the same noise: the student's, and the teacher's."""
    reference = integrate(teacher, noise, sigmas(REFERENCE_STEPS, shift).to(noise))
    measures = {}
    for count in steps:
        times = sigmas(count, shift).to(noise)
        measures[f"student_{count}"] = relative_error(integrate(student, noise, times), reference).mean().item()
        if count != REFERENCE_STEPS:
            measures[f"teacher_{count}"] = relative_error(integrate(teacher, noise, times), reference).mean().item()
    return measures


def _with(pipe: Any, source: Source, folder: Path, **modules: Any) -> dict[str, float]:
    """What the source sees of the pipeline with other modules in place."""
    own = {name: getattr(pipe, name) for name in modules}
    pipe.register_modules(**modules)
    try:
        return source.judge(pipe, folder)
    finally:
        pipe.register_modules(**own)
