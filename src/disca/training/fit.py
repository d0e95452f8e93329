"""Fitting a predictor to a frozen base (arXiv 2602.05449, stage three), on rollouts of the accelerated sampler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy
from disca.flow.path import sigmas
from disca.objectives import Loss, forecast_error, relative_error
from disca.predictor.network import Predictor
from disca.schedules import Schedule
from disca.training.clips import Source
from disca.training.host import Host, compiled
from disca.training.recipe import Recipe
from disca.training.rollouts import final_state, rollout


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Options of the stage ``predictor``."""

    blocks: int = 2
    residual: str = "cache"
    init: str = "host"
    steps: tuple[int, ...] = (8, 20)
    full_steps: tuple[tuple[int, ...], ...] = ((0, 2, 4, 7), (0, 1, 2, 5, 9, 13, 17, 19))
    """A list for each of ``steps``: the schedules that the predictor is for."""
    shares: tuple[float, ...] = (0.75, 0.25)
    """How often each is used."""
    random: float = 0.5
    """Share of rollouts along a random schedule with as many full steps, the first and the last among them."""
    targets: int = 2
    """Forecast steps of a rollout at which the whole model is asked too; the other forecasts only move the state."""
    low: float = 1.0
    high: float = 5.0
    """Range of the embedded guidance scale."""
    scale: float = 3.0
    """Scale of the validation."""

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"targets must be at least 1, not {self.targets}: there would be nothing to learn from.")
        if not len(self.steps) == len(self.full_steps) == len(self.shares):
            raise ValueError("steps, full_steps and shares must have one entry for each schedule.")

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules that the predictor is for."""
        return tuple(Schedule(steps, full) for steps, full in zip(self.steps, self.full_steps, strict=True))

    def draw(self, generator: torch.Generator) -> Schedule:
        """The schedule of one rollout."""
        which = int(torch.multinomial(torch.tensor(self.shares), 1, generator=generator))
        chosen = self.schedules[which]
        if torch.rand((), generator=generator) >= self.random:
            return chosen
        between = torch.randperm(chosen.steps - 2, generator=generator)[: len(chosen.full_steps) - 2] + 1
        return Schedule(chosen.steps, (0, *sorted(between.tolist()), chosen.steps - 1))

    def ask(self, schedule: Schedule, shift: float, generator: torch.Generator) -> dict[int, float]:
        """Forecast steps to learn from, and the weight of each.

        A velocity's error enters the latents times its interval, so its square should count as the squared interval.
        Steps are drawn in proportion to their intervals and weighted by them, which is the same for one target and
        nearly for several, since no step is drawn twice; the whole model answers where it matters. Weights are relative
        to the schedule's longest forecast interval.
        """
        lengths = -sigmas(schedule.steps, shift).diff()
        steps = torch.tensor(schedule.forecast_steps)
        count = min(self.targets, len(steps))
        drawn = steps[torch.multinomial(lengths[steps], count, generator=generator)]
        return {int(step): float(lengths[step] / lengths[steps].max()) for step in drawn}

    def task(self, recipe: Recipe, source: Source) -> FitTask:
        return FitTask(self, recipe, source)


class FitTask:
    """Trains a predictor; the base, its second time included, is frozen."""

    def __init__(self, options: Fit, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.base = self.pipe.transformer.requires_grad_(False).eval()
        self.second = getattr(self.pipe, "second_time", None)
        if self.second is not None:
            self.second.requires_grad_(False).install(self.base)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.predictor = Predictor.from_host(
                self.base, depth=options.blocks, residual=options.residual, init=options.init
            )
        self.modules = nn.ModuleDict({"predictor": self.predictor})
        for network in (self.base, self.predictor):
            compiled(network, recipe)
        self.shift = self.pipe.scheduler.config.shift
        self.loss(torch.Generator().manual_seed(recipe.seed - 1))  # the predictor takes its scale, the same everywhere

    def _host(self, texts: list[str], scale: Tensor) -> Host:
        with torch.no_grad():
            conditioning = self.pipe.encode_prompt(texts)
        return Host(self.base, {}, self.second).given(conditioning, scale.to(self.pipe.device))

    def loss(self, generator: torch.Generator) -> Loss:
        options = self.options
        texts, latents = self.source.batch(self.recipe.batch, generator)
        noise = torch.randn(latents.shape, generator=generator).to(self.pipe.device)
        scale = options.low + (options.high - options.low) * torch.rand(len(noise), generator=generator)
        schedule = options.draw(generator)
        asked = options.ask(schedule, self.shift, generator)
        host = self._host(list(texts), scale)
        pairs = list(rollout(host, self.predictor, noise, schedule, self.shift, asked=asked))
        losses = [forecast_error(pair.forecast, pair.full) for pair in pairs]
        weights = [asked[step] for step in sorted(asked)]
        value = torch.stack([weight * loss.value for weight, loss in zip(weights, losses, strict=True)]).mean()
        return Loss(value=value, per_sample=torch.stack([loss.per_sample for loss in losses]).mean(0))

    def validate(self, folder: Path) -> dict[str, float]:
        """Relative L2 of whole accelerated runs to the full run, beside reuse and a first-order Taylor forecast."""
        generator = torch.Generator().manual_seed(self.recipe.seed - 1)
        texts, latents = self.source.batch(2 * self.recipe.batch, generator)
        noise = torch.randn(latents.shape, generator=generator).to(self.pipe.device)
        host = self._host(list(texts), torch.full((len(noise),), self.options.scale))
        measures = {}
        for schedule in self.options.schedules:
            full = final_state(host, (), noise, schedule, self.shift)
            for name, policy in self._policies(schedule).items():
                error = relative_error(final_state(host, policy, noise, schedule, self.shift), full)
                measures[f"{name}_{schedule.steps}_{len(schedule.full_steps)}"] = error.mean().item()
        return measures

    def _policies(self, schedule: Schedule) -> dict[str, Policy]:
        return {
            "disca": disca(self.predictor, full_steps=schedule),
            "reuse": reuse(full_steps=schedule),
            "taylor": taylor(full_steps=schedule),
        }

    def export(self, folder: Path) -> None:
        self.predictor.save_pretrained(folder)
