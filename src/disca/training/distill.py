"""Distillation: guidance into one pass, then many steps into few (arXiv 2602.05449, stages one and two)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.flow.intervals import Instant, Interval, Ordered, Restricted, Scheduled, Terminal, Uniform
from disca.flow.jvp import Method
from disca.flow.path import MeanVelocity, integrate, point, sigmas
from disca.meanflow.second_time import SecondTime
from disca.objectives import Loss, Target, guidance_distillation, mean_flow_error, relative_error
from disca.objectives.mean_flow import Kind
from disca.training.clips import Clips, Draw, Source
from disca.training.export import export_student
from disca.training.host import AnyHost, Guided, Host, embeds_guidance, hosted, prepared
from disca.training.lora import add_lora
from disca.training.recipe import Recipe

REFERENCE_STEPS = 60
"""Of the teacher's run that a validation compares with."""
Whole = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Options of the stage ``guidance``: one pass with an embedded scale learns the teacher's guided two.

    A transformer that cannot embed a scale learns one for good: ``low = high = scale``.
    """

    low: float = 1.0
    high: float = 5.0
    """Range of the guidance scale, drawn evenly for each sample."""
    scale: float = 3.0
    """Scale of the validation."""
    shift: float = 3.0
    """Of the density of t: even after undoing this shift."""
    t_min: float = 0.0
    t_max: float = 1.0
    """Range of t before the shift."""

    def __post_init__(self) -> None:
        _check_scales(self.low, self.high)
        self.times  # noqa: B018  refuses what is no range

    @property
    def times(self) -> Uniform:
        """The density of t."""
        return _times(self.t_min, self.t_max, self.shift)

    def task(self, recipe: Recipe, source: Source) -> GuidanceTask:
        return GuidanceTask(self, recipe, source)


@dataclass(frozen=True, kw_only=True)
class MeanFlow:
    """Options of the stage ``mean_flow``: a guided teacher's velocity, averaged over intervals.

    Each batch is cut in four shares: instants (r = t) that protect many-step use, restricted intervals (the paper's),
    the intervals that samplers of ``steps`` meet, and terminal ones (r = 0). The first three obey ``t - r <= limit``;
    the last interval of a few-step sampler is longer than any sensible limit, so it gets samples of its own. The
    paper's own sampler is ``restricted_share = 1`` and the others 0; without a restriction, ``limit = 1``.
    """

    low: float = 1.0
    high: float = 5.0
    scale: float = 3.0
    """Where the transformer embeds no scale, that of the teacher's two passes."""
    limit: float = 0.2
    """The restriction R."""
    intervals: Literal["restricted", "ordered"] = "restricted"
    """What the restricted share draws: an interval up to ``limit`` below t, or two times in order, of any length."""
    steps: tuple[int, ...] = (4, 8, 20)
    terminal: float = 0.65
    """Largest t of a terminal interval; see :func:`disca.flow.path.max_interval`."""
    t_min: float = 0.0
    t_max: float = 1.0
    """Range of t in the restricted share."""
    instant_share: float = 0.125
    restricted_share: float = 0.25
    terminal_share: float = 0.25
    """What the three leave goes to the samplers' intervals."""
    target: Kind = "solver"
    method: Method | None = None
    """How a derivative is computed: ``forward`` or ``chunked`` for ``jvp``, ``central`` or ``one_sided`` for
    ``difference``."""
    substeps: int = 1
    """Heun steps of the teacher over an interval within the limit."""
    terminal_substeps: int = 2
    eps: float = 5e-3
    alpha: float = 0.5
    power: float = 0.0
    """Of the adaptive weight; 0 is the plain squared error."""
    floor: float = 1e-3

    def __post_init__(self) -> None:
        _check_scales(self.low, self.high)
        if min(self.instant_share, self.restricted_share, self.terminal_share, self._rest) < -1e-9:
            raise ValueError("instant_share, restricted_share and terminal_share are at least 0 and at most 1 together")
        self.parts(12, 1.0)  # refuses what is no interval, and no target

    @property
    def _rest(self) -> float:
        return 1 - self.instant_share - self.restricted_share - self.terminal_share

    def parts(self, batch: int, shift: float) -> list[tuple[int, Interval, Target]]:
        """Samples, intervals and target of each share of a batch."""
        even, target = _times(self.t_min, self.t_max), self._target(self.substeps)
        free = Ordered(even) if self.intervals == "ordered" else Restricted(self.limit, even)
        shares: list[tuple[float, Interval, Target]] = [
            (self.instant_share, Instant(Uniform(shift=shift)), target),
            (self.restricted_share, free, target),
            (self.terminal_share, Terminal(self.terminal), self._target(self.terminal_substeps)),
        ]
        parts = [(round(share * batch), interval, target) for share, interval, target in shares]
        left = batch - sum(count for count, *_ in parts)
        if self._rest < 1e-9:  # what rounding leaves is the paper's
            parts[1] = (parts[1][0] + left, *parts[1][1:])
        else:
            parts.append((left, Scheduled(self.steps, shift, limit=self.limit), target))
        return [part for part in parts if part[0] > 0]

    def _target(self, substeps: int) -> Target:
        return Target(kind=self.target, substeps=substeps, method=self.method, eps=self.eps, alpha=self.alpha)

    def task(self, recipe: Recipe, source: Source) -> MeanFlowTask:
        return MeanFlowTask(self, recipe, source)


class GuidanceTask:
    """Trains a copy of the transformer that takes the scale as an input."""

    def __init__(self, options: Guidance, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.device = self.pipe.device  # asked once: a pipeline walks all modules to say
        self.teacher = self.pipe.transformer.requires_grad_(False).eval()
        self.student = self._student().to(self.device)
        self.modules = nn.ModuleDict({"transformer": self.student})
        self.sharded = (self.teacher, self.student)
        prepared(self.teacher, recipe)
        prepared(self.student, recipe, trained=True)
        self.host = _host(source, self.teacher)

    def _student(self) -> Any:
        options, recipe = self.options, self.recipe
        if self.teacher.config.get("guidance_embeds") is None and options.low == options.high:
            student = deepcopy(self.teacher)
        else:
            student = embed_guidance(self.teacher)
        student.requires_grad_(True)
        if recipe.lora.rank:
            add_lora(student, recipe.lora, recipe.seed)
            if embeds_guidance(student):
                student.time_text_embed.guidance_embedder.requires_grad_(True)
        return student

    def loss(self, draw: Draw) -> Loss:
        clips, noise = drawn(self.source, self.recipe, draw, self.device)
        t = within(self.options.times.draw(len(noise), draw.generator), self.source).to(noise.device)
        scale = drawn_scale(self.options, len(noise), draw).to(noise.device)
        student = replace(self.host, transformer=self.student).on(clips, self._embedded(scale))
        conditional = self.host.on(clips)
        unconditional = replace(conditional, conditioning=clips.empty)
        return guidance_distillation(student, conditional, unconditional, clips.latents, noise, t, scale)

    def _embedded(self, scale: Tensor) -> Tensor | None:
        return scale if embeds_guidance(self.student) else None

    def validate(self, folder: Path) -> dict[str, float]:
        clips, noise = drawn(self.source, self.recipe, Draw.fixed(self.recipe.seed), self.device)
        conditional = self.host.on(clips)
        two = Guided(conditional, replace(conditional, conditioning=clips.empty), self.options.scale)
        scale = torch.full((len(noise),), self.options.scale, device=noise.device)
        student = replace(self.host, transformer=self.student).on(clips, self._embedded(scale))
        measures = distances(two, student, noise, shift_of(self.pipe), (REFERENCE_STEPS,))
        return {**measures, **looked(self.pipe, self.source, folder, transformer=self.student)}

    def export(self, folder: Path, whole: Whole) -> None:
        export_student(self.pipe, folder, whole, self.recipe, student=self.student)


class MeanFlowTask:
    """Trains a copy of the teacher, or low-rank changes of it, with a second time."""

    def __init__(self, options: MeanFlow, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.device = self.pipe.device  # asked once: a pipeline walks all modules to say
        self.teacher = self.pipe.transformer.requires_grad_(False).eval()
        shared = bool(recipe.lora.rank)
        self.student = self.teacher if shared else deepcopy(self.teacher).requires_grad_(True)
        if shared:
            add_lora(self.student, recipe.lora, recipe.seed)
        self.second = second_time(self.student)
        self.modules = nn.ModuleDict({"transformer": self.student})
        if self.second is not None:
            self.modules["second_time"] = self.second.requires_grad_(True)
            self.second.install(self.student)
        self.sharded = tuple({id(module): module for module in (self.teacher, *self.modules.values())}.values())
        if not shared:
            prepared(self.teacher, recipe)
        prepared(self.student, recipe, trained=True)
        self.shift = shift_of(self.pipe)
        host = _host(source, self.teacher)
        self.teaching = replace(host, second=self.second if shared else None, plain=shared)
        self.learning = replace(host, transformer=self.student, second=self.second)

    def hosts(self, clips: Clips, scale: Tensor) -> tuple[AnyHost, Host]:
        """Teacher and student on a batch, under guidance scales ``[batch]``."""
        teacher = hosted(self.teaching, clips, scale)
        student = self.learning.on(clips, scale if embeds_guidance(self.student) else None)
        return teacher, student

    def scales(self, count: int, draw: Draw) -> Tensor:
        """The scales of a batch; those of two passes are all the same."""
        if embeds_guidance(self.student):
            return drawn_scale(self.options, count, draw)
        return torch.full((count,), self.options.scale)

    def loss(self, draw: Draw) -> Loss:
        options = self.options
        clips, noise = drawn(self.source, self.recipe, draw, self.device)
        scale = self.scales(len(noise), draw).to(noise.device)
        parts = options.parts(len(noise), self.shift)
        times = [interval.sample(count, draw.generator) for count, interval, _ in parts]
        t, r = (within(torch.cat(ends), self.source).to(noise.device) for ends in zip(*times, strict=True))
        x_t = point(clips.latents, noise, t)
        _, student = self.hosts(clips, scale)
        early = student(x_t, t, r) if parts[0][2].reuses else None
        wanted = torch.cat([self._target(part, clips, scale, x_t, t, r, early) for part in _grouped(parts)])
        found = student(x_t, t, r) if early is None else early
        weight = options.alpha if options.target == "alpha" else 1.0
        return mean_flow_error(found, wanted, t, r, scale=weight, power=options.power, floor=options.floor)

    def _target(
        self,
        part: tuple[slice, Target],
        clips: Clips,
        scale: Tensor,
        x_t: Tensor,
        t: Tensor,
        r: Tensor,
        early: Tensor | None,
    ) -> Tensor:
        rows, target = part
        teacher, student = self.hosts(clips.rows(rows), scale[rows])
        here = None if early is None else early[rows]
        return target(teacher, student, x_t[rows], t[rows], r[rows], here=here)

    def validate(self, folder: Path) -> dict[str, float]:
        clips, noise = drawn(self.source, self.recipe, Draw.fixed(self.recipe.seed), self.device)
        scale = torch.full((len(noise),), self.options.scale, device=noise.device)
        measures = distances(*self.hosts(clips, scale), noise, self.shift, self.options.steps)
        modules = {name: module for name, module in self.modules.items() if name != "second_time" or self._takes_second}
        return {**measures, **looked(self.pipe, self.source, folder, **modules)}

    @property
    def _takes_second(self) -> bool:
        return "second_time" in self.pipe.components or hasattr(self.pipe, "second_time")

    def export(self, folder: Path, whole: Whole) -> None:
        export_student(self.pipe, folder, whole, self.recipe, student=self.student, second=self.second)


def second_time(student: Any) -> SecondTime | None:
    """A fresh second time, or none for a host that takes r by itself."""
    return None if adapter_for(student).takes_second_time(student) else SecondTime.for_host(student)


def embed_guidance(transformer: Any) -> Any:
    """The same transformer with a guidance embedding whose output is zero: it ignores the scale until trained.

    Raises:
        ValueError: the class has no such input, or the transformer has it already.
    """
    name, has = type(transformer).__name__, transformer.config.get("guidance_embeds")
    if has is not False:
        do = (
            "It is guided in one pass already: go on to the stage mean_flow."
            if has
            else "Distil one scale, with objective.low = objective.high, or go on to the stage mean_flow, which guides "
            "the teacher by two passes."
        )
        raise ValueError(
            f"{name} cannot be given a guidance embedding: guidance_embeds is {has!r} in its configuration, False is "
            f"needed. {do}"
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


def drawn(source: Source, recipe: Recipe, draw: Draw, device: torch.device) -> tuple[Clips, Tensor]:
    """Clips and noise of a micro-batch."""
    clips = source.clips(recipe.batch, draw)
    noise = torch.randn(clips.latents.shape, generator=draw.generator)
    return clips.to(device), noise.to(device)


def drawn_scale(options: Any, count: int, draw: Draw) -> Tensor:
    """Guidance scales ``[count]``, even between ``options.low`` and ``options.high``."""
    return options.low + (options.high - options.low) * torch.rand(count, generator=draw.generator)


def shift_of(pipe: Any) -> float:
    """Shift of the times of a pipeline's scheduler."""
    config = pipe.scheduler.config
    return float(config.get("shift") or config.get("flow_shift") or 1.0)


def distances(
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


def looked(pipe: Any, source: Source, folder: Path, **modules: Any) -> dict[str, float]:
    """What the source sees of the pipeline with other modules in place."""
    own = {name: getattr(pipe, name) for name in modules}
    pipe.register_modules(**modules)
    try:
        return source.judge(pipe, folder)
    finally:
        pipe.register_modules(**own)


def within(time: Tensor, source: Any) -> Tensor:
    """Times in [0, 1] moved into the span of a source's transformer, where it has one: no interval then crosses the
    boundary between two experts."""
    low, high = getattr(source, "span", (0.0, 1.0))
    return time if (low, high) == (0.0, 1.0) else low + (high - low) * time


def _host(source: Source, transformer: Any) -> Host:
    return Host(transformer, {}, shape=getattr(source, "shape", None))


def _grouped(parts: list[tuple[int, Interval, Target]]) -> list[tuple[slice, Target]]:
    """Neighbouring parts with the same target as one, so that the teacher is called once for them."""
    found: list[tuple[slice, Target]] = []
    start = 0
    for count, _, target in parts:
        if found and found[-1][1] == target:
            found[-1] = (slice(found[-1][0].start, start + count), target)
        else:
            found.append((slice(start, start + count), target))
        start += count
    return found


def _times(low: float, high: float, shift: float = 1.0) -> Uniform:
    if not 0 <= low < high <= 1:
        raise ValueError(f"t_min={low} and t_max={high} are no range of times: 0 <= t_min < t_max <= 1 is needed")
    return Uniform(low, high, shift)


def _check_scales(low: float, high: float) -> None:
    if not 0 <= low <= high:
        raise ValueError(f"low={low} and high={high} are no range of guidance scales: 0 <= low <= high is needed")
