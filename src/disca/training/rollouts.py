"""Pairs of a forecast and a full velocity at one state: what a predictor learns from.

By default the states are those that the accelerated sampler visits, the predictor's earlier errors included, and the
whole model says there what it would have answered (arXiv 2011.08536's idea of asking the expert where the learner
goes). The paper's own pairs (arXiv 2602.05449) lie on the straight line of one clip and one noise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from disca.adapters import adapter_for
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.features import Features
from disca.flow.path import point
from disca.objectives import relative_error
from disca.schedules import Schedule
from disca.training.host import AnyHost
from disca.training.steps import Steps, moved
from disca.training.trunk import Ends, asking


@dataclass(frozen=True)
class Pair:
    """Two velocities of one state, and the interval they are taken over. The forecast carries a gradient."""

    x: Tensor
    forecast: Tensor
    full: Tensor
    t: Tensor
    r: Tensor
    """``[batch]``."""
    gap: Tensor
    """From the full step that the forecast was made from, ``[batch]``."""
    forecast_tokens: tuple[Features, ...]
    full_tokens: tuple[Features, ...]
    """What the trunk gave, for each pass of guidance."""


def rollout(
    host: AnyHost,
    predictor: Any,
    x: Tensor,
    schedule: Schedule,
    steps: Steps,
    *,
    asked: Collection[int],
    first: int = 0,
) -> Iterator[Pair]:
    """Sample from the state ``x`` of the full step ``first`` along a schedule, and yield its forecast steps that are
    ``asked`` of the whole model too, up to the last of them. States carry no gradient.

    Costs one evaluation of the base for each full step passed and each step asked.
    """
    last = max((step for step in asked if not schedule.is_full(step)), default=-1)
    times, advance = steps.times, steps.start(first)
    anchor = times[first]
    with asking(host, predictor) as trunk:
        for step in range(first, last + 1):
            t, r = (time.expand(len(x)) for time in times[step : step + 2])
            if schedule.is_full(step):
                velocity, anchor = trunk.full(x, t, r), times[step]
            elif step in asked:
                full = trunk.full(x, t, r, keep=False)
                tokens = trunk.tokens
                velocity = trunk.forecast(x, t, r)
                yield Pair(x, velocity, full, t, r, anchor - t, trunk.tokens, tokens)
            else:
                with torch.no_grad():
                    velocity = trunk.forecast(x, t, r)
            x = advance(x, velocity.detach(), step)


def same_noise(
    host: AnyHost,
    predictor: Any,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    r: Tensor,
    gap: Tensor,
    before: Tensor | None = None,
) -> Pair:
    """The paper's pair: cache at ``(t, r)``, forecast ``gap`` later, all ``[batch]``, both states on the line from
    ``noise`` to ``x0``. For predictors that hear of two full steps, there is one on that line at ``before`` too. Costs
    an evaluation of the base for each state."""
    later, end = (t - gap).clamp(min=1e-3), (r - gap).clamp(min=0)
    x = point(x0, noise, later)
    with asking(host, predictor) as trunk:
        if before is not None:
            trunk.full(point(x0, noise, before), before, before - (t - r))
        trunk.full(point(x0, noise, t), t, r)
        full = trunk.full(x, later, end, keep=False)
        tokens = trunk.tokens
        forecast = trunk.forecast(x, later, end)
        return Pair(x, forecast, full, later, end, t - later, trunk.tokens, tokens)


@torch.no_grad()
def final_state(host: AnyHost, policy: Policy, x: Tensor, steps: Steps, own: range | None = None) -> Tensor:
    """Where the sampler ends from ``x`` under a policy, every step full where it has no rules. It takes the steps of
    ``own``, by default all; the policy counts them from the first."""
    adapter, own = adapter_for(host.transformer), own or range(len(steps))
    timesteps = [adapter.timestep_at(time) for time in steps.times[own[0] : own[-1] + 1].tolist()]
    with attach(host.transformer, policy, timesteps=timesteps):
        return moved(host, x, steps, own)


@torch.no_grad()
def velocity_errors(
    host: AnyHost, policy: Policy, noise: Tensor, steps: Steps, schedule: Schedule, *, visited: bool = True
) -> dict[int, Tensor]:
    """Relative error of the velocity of each forecast step under a policy with that schedule, ``[batch]`` by step: at
    the states that its own sampler visits, or at those of the run with every step full."""
    adapter, errors, x = adapter_for(host.transformer), {}, noise
    times, advance = steps.times, steps.start()
    with attach(host.transformer, policy, timesteps=[adapter.timestep_at(time) for time in times[:-1].tolist()]) as run:
        for step in range(schedule.steps):
            t, r = (time.expand(len(x)) for time in times[step : step + 2])
            velocity = full = host(x, t, r)
            if not schedule.is_full(step):
                with run.aside():
                    full = host(x, t, r)
                errors[step] = relative_error(velocity, full)
            x = advance(x, velocity if visited else full, step)
    return errors


@torch.no_grad()
def recorded(host: AnyHost, noise: Tensor, steps: Steps) -> list[list[Features]]:
    """What the trunk gave at each step of the run with every step full, one list for each pass of guidance: what
    :func:`disca.caching.weighted.fitted` is fitted to."""
    found: list[tuple[Features, ...]] = []
    x, advance = noise, steps.start()
    with Ends(host).heard() as tokens:
        for step, (t, r) in enumerate(pairwise(steps.times)):
            x = advance(x, host(x, t.expand(len(x)), r.expand(len(x))), step)
            found.append(tuple(tokens))
            tokens.clear()
    return [list(run) for run in zip(*found, strict=True)]
