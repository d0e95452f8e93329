"""Fitting a predictor to a frozen base (arXiv 2602.05449, stage three), on rollouts of the accelerated sampler.

The base is any pipeline with its scheduler and step count: a student, a few-step checkpoint, or a many-step model with
or without guidance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy
from disca.features import Features, Wants
from disca.flow.path import point
from disca.meanflow.second_time import SecondTime
from disca.objectives import Loss, drift_error, forecast_error, relative_error, token_error
from disca.objectives.adversarial import TIMES, DiscriminatorTime, Form
from disca.predictor.network import Cached, Init, Predictor, Residual
from disca.schedules import Schedule
from disca.training.clips import Draw, Source
from disca.training.critic import Critic
from disca.training.distill import drawn, drawn_scale, shift_of, within
from disca.training.host import AnyHost, Host, embeds_guidance, hosted, prepared
from disca.training.lora import add_low_rank, fused
from disca.training.recipe import Recipe
from disca.training.rollouts import Pair, final_state, rollout, same_noise
from disca.training.sensitivity import growth
from disca.training.steps import Steps, confined, part, steps_of


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Options of the stage ``predictor``."""

    blocks: int = 2
    residual: Residual = "cache"
    cached: Cached = "output"
    timed: bool = False
    init: Init = "host"
    """What the predictor is made of; see :class:`disca.predictor.network.Predictor`. A recipe with ``lora.rank`` trains
    low-rank changes of its blocks instead of them; what is exported has them in its weights."""
    predictor: str = ""
    """Folder of a predictor to go on from, such as one fitted without the adversarial term."""
    steps: tuple[int, ...] = (8, 20)
    full_steps: tuple[tuple[int, ...], ...] = ((0, 2, 4, 7), (0, 1, 2, 5, 9, 13, 17, 19))
    """A list for each of ``steps``: the schedules that the predictor is for."""
    shares: tuple[float, ...] = (0.75, 0.25)
    """How often each is used."""
    times: tuple[tuple[float, ...], ...] = ()
    """Times of the steps, from 1 to 0 with both ends, for each of ``steps``, where they do not follow from the
    scheduler's shift: few-step checkpoints may have their own."""
    random: float = 0.5
    """Share of rollouts along a random schedule with as many full steps, the first and the last among them."""
    pairs: Literal["rollout", "same_noise"] = "rollout"
    """States that the accelerated sampler visits, or the paper's: both of a clip and one noise."""
    begin: Literal["clip", "noise"] = "clip"
    """A rollout begins at a full step drawn at random, from a noised clip, at the cost of one evaluation of the base;
    or at the beginning, from noise, at that of every full step on the way."""
    targets: int = 1
    """Forecast steps of a rollout at which the whole model is asked too; the other forecasts only move the state."""
    together: float = 0.0
    """Share of the loss, from 0 to 1, that is what the errors of a rollout's targets come to together; the rest takes
    each by itself. Errors of neighbouring steps point the same way, and it is their sum that moves the end of the run;
    see :func:`disca.objectives.forecast.drift_error`."""
    weigh: Literal["interval", "end"] = "interval"
    """What the error of a step counts by: the step's interval, since that is how far it moves the state; or what this
    move comes to at the ``end`` of the run, measured once on full runs (:func:`disca.training.sensitivity.growth`)."""
    gap: float = 0.2
    limit: float = 0.2
    """Longest gap and longest interval of the paper's pairs."""
    tokens: float = 0.0
    """Weight of the error of the trunk's tokens, beside that of the velocity; 0.1 strengthens the beginning."""
    matching: float = 0.0
    """Weight of the difference of the base's features after the step, 1 to 10."""
    adversarial: float = 0.0
    """Weight of the discriminator's judgement of them; the paper's is 1."""
    form: Form = "clipped"
    depths: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    """Blocks of the base, by their share of its depth, whose features are matched and judged."""
    scales: tuple[int, ...] = (1, 2, 4)
    width: int = 256
    """Scales and width of the discriminator's heads."""
    alone: int = 100
    """Iterations that the discriminator learns alone, so that the predictor never meets a random one."""
    judged_at: DiscriminatorTime = "renoise"
    """The time at which the base looks: the step's ``own``, or where that is nearly 0, after adding noise
    (``renoise``), or ``random``."""
    low: float = 1.0
    high: float = 5.0
    """Range of the embedded guidance scale."""
    scale: float = 3.0
    """Scale of the validation; of all, where the base is guided by two passes; 1 for one pass without guidance."""

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"targets must be at least 1, not {self.targets}: there would be nothing to learn from.")
        if not len(self.steps) == len(self.full_steps) == len(self.shares):
            raise ValueError("steps, full_steps and shares must have one entry for each schedule.")
        for schedule in self.schedules:
            if not schedule.forecast_steps:
                raise ValueError(
                    f"Every one of the {schedule.steps} steps of a schedule is full, so there is nothing to forecast "
                    "and nothing to learn. Leave some steps out of its full_steps."
                )
        if self.times and [len(times) - 1 for times in self.times] != list(self.steps):
            raise ValueError(f"times must list one more time than steps for each of {self.steps}.")
        if not 0 <= self.together <= 1:
            raise ValueError(f"together is a share of the loss, from 0 to 1, not {self.together}.")
        if not 0 < self.limit <= 1 or not 0 < self.gap <= 1:
            raise ValueError(f"gap and limit are lengths of time in (0, 1], not {self.gap} and {self.limit}.")
        for name, given, allowed in (
            ("pairs", self.pairs, ("rollout", "same_noise")),
            ("begin", self.begin, ("clip", "noise")),
            ("weigh", self.weigh, ("interval", "end")),
            ("form", self.form, ("clipped", "linear")),
            ("judged_at", self.judged_at, TIMES),
        ):
            if given not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {given!r}.")

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules that the predictor is for."""
        return tuple(Schedule(steps, full) for steps, full in zip(self.steps, self.full_steps, strict=True))

    @property
    def judges(self) -> bool:
        """Whether the base's features are looked at."""
        return self.matching > 0 or self.adversarial > 0

    def steps_with(self, pipe: Any, schedule: Schedule) -> Steps:
        """The steps of a schedule as the pipeline takes them.

        Raises:
            ValueError: a scheduler that rollouts cannot follow.
        """
        if self.times:
            return Steps(torch.tensor(self.times[self.steps.index(schedule.steps)], device=pipe.device))
        return steps_of(pipe.scheduler, schedule.steps, shift_of(pipe), pipe.device)

    def draw(self, generator: torch.Generator) -> Schedule:
        """The schedule of one rollout."""
        which = int(torch.multinomial(torch.tensor(self.shares), 1, generator=generator))
        chosen = self.schedules[which]
        if torch.rand((), generator=generator) >= self.random:
            return chosen
        between = torch.randperm(chosen.steps - 2, generator=generator)[: len(chosen.full_steps) - 2] + 1
        return Schedule(chosen.steps, (0, *sorted(between.tolist()), chosen.steps - 1))

    def ask(self, schedule: Schedule, moves: Tensor, generator: torch.Generator) -> dict[int, float]:
        """Forecast steps to learn from, and the weight of each.

        A velocity's error enters the latents times what its step moves them by, so its square should count as the
        squared move. Steps are drawn in proportion to their moves and weighted by them, which is the same for one
        target and nearly for several, since no step is drawn twice; the whole model answers where it matters. Weights
        are relative to the longest move of the schedule's forecasts. Of a rollout that begins at a clip, all lie in the
        cycle of the first.

        Args:
            moves: How much each step counts, ``[steps]``: the intervals, see ``weigh``.
        """
        steps = torch.tensor(schedule.forecast_steps)
        longest = moves[steps].max()
        count = min(self.targets, len(steps))
        if self.begin == "clip" and count > 1:
            first = int(steps[torch.multinomial(moves[steps], 1, generator=generator)])
            cycle = [step for step in schedule.forecast_steps if anchor(schedule, step) == anchor(schedule, first)]
            others = torch.tensor([step for step in cycle if step != first], dtype=torch.long)
            more = min(count - 1, len(others))
            drawn = [first]
            if more:
                drawn += others[torch.multinomial(moves[others], more, generator=generator)].tolist()
        else:
            drawn = steps[torch.multinomial(moves[steps], count, generator=generator)].tolist()
        return {int(step): float(moves[step] / longest) for step in drawn}

    def task(self, recipe: Recipe, source: Source) -> FitTask:
        return FitTask(self, recipe, source)


def anchor(schedule: Schedule, step: int) -> int:
    """The full step that a forecast step is made from."""
    return max(full for full in schedule.full_steps if full <= step)


class FitTask:
    """Trains a predictor; the base, its second time included, is frozen."""

    def __init__(self, options: Fit, recipe: Recipe, source: Source) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.device = self.pipe.device  # asked once: a pipeline walks all modules to say
        self.base = self.pipe.transformer.requires_grad_(False).eval()
        self.second: SecondTime | None = getattr(self.pipe, "second_time", None)
        self.span: tuple[float, float] = getattr(source, "span", (0.0, 1.0))
        self.steps = {one.steps: options.steps_with(self.pipe, one) for one in options.schedules}
        self.own = {one.steps: self._own(one) for one in options.schedules}
        if self.second is not None:
            self.second.requires_grad_(False).install(self.base)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.predictor = self._predictor()
            self.critic = Critic.for_host(self.base, options) if options.judges else None
        self.modules = nn.ModuleDict({"predictor": self.predictor})
        self.sharded = tuple(module for module in (self.base, self.second) if module is not None)
        for network in (self.base, self.predictor):
            prepared(network, recipe)
        self.host = Host(self.base, {}, self.second, shape=getattr(source, "shape", None))
        with torch.no_grad():
            self._calibrate()
        self.moves = self._moves()

    def _predictor(self) -> Predictor:
        options = self.options
        if options.predictor:
            found = Predictor.from_pretrained(options.predictor)
            found.matches(self.base)
        else:
            found = Predictor.from_host(
                self.base,
                depth=options.blocks,
                residual=options.residual,
                cached=options.cached,
                timed=options.timed,
                init=options.init,
            )
        if (found.device, found.dtype) != (self.base.device, torch.float32):  # diffusers warns of every move
            found = found.to(self.base.device, torch.float32)
        found.requires_grad_(True)
        if self.recipe.lora.rank:
            add_low_rank(found.blocks, self.recipe.lora, self.recipe.seed)
        return found

    def _calibrate(self) -> None:
        """The predictor takes its scale, the same on every process, before anything is learned."""
        if self.predictor.config.residual == "none" or bool(self.predictor.calibrated):
            return
        spread = _Spread(self.predictor)
        fixed = Draw.fixed(self.recipe.seed)
        clips, noise = drawn(self.source, self.recipe, fixed, self.device)
        host = self._host(clips, self._scales(len(noise), fixed))
        half = torch.full((len(noise),), 0.5, device=noise.device)

        same_noise(host, spread, clips.latents, noise, half, half, 0 * half)

    def _moves(self) -> dict[int, Tensor]:
        """How much each step of the schedules counts, by their number of steps; the same on every process."""
        moves = {one.steps: -self.steps[one.steps].times.cpu().diff() for one in self.options.schedules}
        if self.options.weigh == "end":
            fixed = Draw.fixed(self.recipe.seed)
            clips, noise = drawn(self.source, self.recipe, fixed, self.device)
            host = self._host(clips, torch.full((len(noise),), self.options.scale))
            for one in self.options.schedules:
                _, own = self._own(one)
                x = point(clips.latents, noise, self.steps[one.steps].times[own[0]].to(noise).expand(len(noise)))
                moves[one.steps] = moves[one.steps] * growth(host, x, self.steps[one.steps], own)
        return moves

    def _own(self, schedule: Schedule) -> tuple[Schedule, range]:
        """A schedule as far as the transformer takes part in it, and the steps that are its own. One that has nothing
        to forecast there, as random ones may, gives way to the one that the predictor is for."""
        found, own = confined(schedule, self.steps[schedule.steps].times, self.span)
        if found.forecast_steps:
            return found, own
        if schedule in self.options.schedules:
            raise ValueError(
                f"Of the {schedule.steps} steps, {own[0]} to {own[-1]} are those of this transformer, and all of "
                "them are full. Leave some of them out of full_steps, or fit the predictor of the other expert only."
            )
        return self.own[schedule.steps]

    def _scales(self, count: int, draw: Draw) -> Tensor:
        if embeds_guidance(self.base):
            return drawn_scale(self.options, count, draw)
        return torch.full((count,), self.options.scale)

    def _host(self, clips: object, scale: Tensor) -> AnyHost:
        return hosted(self.host, clips, scale.to(self.device))  # type: ignore[arg-type]

    def loss(self, draw: Draw) -> Loss:
        clips, noise = drawn(self.source, self.recipe, draw, self.device)
        host = self._host(clips, self._scales(len(noise), draw))
        pairs, weights = self._pairs(host, clips.latents, noise, draw)
        losses = [forecast_error(pair.forecast, pair.full) for pair in pairs]
        terms = [weight * loss.value for weight, loss in zip(weights, losses, strict=True)]
        value = torch.stack(terms).mean()
        if together := self.options.together:
            drift = drift_error([pair.forecast for pair in pairs], [pair.full for pair in pairs], weights)
            value = (1 - together) * value + together * drift
        error = torch.stack([relative_error(pair.forecast, pair.full).mean() for pair in pairs]).mean()
        measures = {"relative": error}
        if self.options.tokens:
            extra = torch.stack([_tokens(pair) for pair in pairs]).mean()
            value, measures["tokens"] = value + self.options.tokens * extra, extra.detach()
        if self.critic is not None:
            judged, more = self.critic.judge(host, pairs, draw, stop=self.recipe.engine != "fsdp")
            value, measures = value + judged, measures | more
        gaps = torch.cat([pair.gap for pair in pairs])
        return Loss(value, torch.cat([loss.per_sample for loss in losses]), {"gap": gaps}, measures)

    def _pairs(self, host: AnyHost, x0: Tensor, noise: Tensor, draw: Draw) -> tuple[list[Pair], list[float]]:
        options, generator = self.options, draw.generator
        if options.pairs == "same_noise":
            t, interval, gap = torch.rand(3, len(x0), generator=generator).to(x0.device)
            t = 0.02 + 0.98 * t
            r = (t - options.limit * interval).clamp(min=0)
            t, r = within(t, self.source), within(r, self.source)
            before = None
            if self.predictor.wants.history > 1:
                spacing = torch.rand(len(x0), generator=generator).to(x0.device)
                before = t + (spacing * (1 - t).clamp(max=options.gap)).clamp(min=1e-3)
            return [same_noise(host, self.predictor, x0, noise, t, r, options.gap * gap, before)], [1.0]
        schedule, own = self._own(options.draw(draw.shared))
        steps = self.steps[schedule.steps]
        asked = options.ask(schedule, self.moves[schedule.steps], draw.shared)
        first = own[0] if options.begin == "noise" else anchor(schedule, min(asked))
        if self.predictor.wants.history > 1:
            first = anchor(schedule, max(first - 1, own[0]))  # a full step has one before it, but the first
        state = point(x0, noise, steps.times[first].to(x0).expand(len(x0)))
        pairs = list(rollout(host, self.predictor, state, schedule, steps, asked=asked, first=first))
        return pairs, [asked[step] for step in sorted(asked)]

    def validate(self, folder: Path) -> dict[str, float]:
        """Relative L2 of whole accelerated runs to the full run, beside reuse and a first-order Taylor forecast."""
        clips, noise = drawn(self.source, self.recipe, Draw.fixed(self.recipe.seed), self.device)
        host = self._host(clips, torch.full((len(noise),), self.options.scale))
        measures = {}
        for chosen in self.options.schedules:
            (schedule, own), steps = self._own(chosen), self.steps[chosen.steps]
            x = point(clips.latents, noise, steps.times[own[0]].to(noise).expand(len(noise)))
            full = final_state(host, (), x, steps, own)
            for name, policy in self._policies(part(schedule, own)).items():
                error = relative_error(final_state(host, policy, x, steps, own), full)
                measures[f"{name}_{chosen.steps}_{len(chosen.full_steps)}"] = error.mean().item()
        return measures

    def _policies(self, schedule: Schedule) -> dict[str, Policy]:
        return {
            "disca": disca(self.predictor, full_steps=schedule),
            "reuse": reuse(full_steps=schedule),
            "taylor": taylor(full_steps=schedule),
        }

    def export(self, folder: Path, whole: Callable[[nn.Module], nn.Module]) -> None:
        predictor = whole(self.predictor)
        if self.recipe.lora.rank:
            predictor = fused(predictor)
        predictor.save_pretrained(folder)  # type: ignore[operator]


def _tokens(pair: Pair) -> Tensor:
    passes = zip(pair.forecast_tokens, pair.full_tokens, strict=True)
    return torch.stack([token_error(one, other) for one, other in passes]).mean()


class _Spread:
    """Stands in for a predictor, and shows it the features that it is given."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.wants = predictor, Wants(tail=predictor.wants.tail)

    def __call__(self, current: Features, cached: Features, conditioning: object) -> Features:
        self.predictor.calibrate(cached)
        return current
