"""Runs of the accelerated sampler, from noise: the states that a predictor will really meet.

Only prompts are needed, no clips: the sampler visits its own states, the predictor's earlier errors included, and the
whole model says at each forecast step what it would have answered there (arXiv 2011.08536's idea of asking the expert
where the learner goes).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from disca.adapters import adapter_for
from disca.caching.methods import disca
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.flow.path import integrate, sigmas
from disca.predictor.network import Predictor
from disca.schedules import Schedule
from disca.training.host import Host


@dataclass(frozen=True)
class Pair:
    """A forecast step of a rollout: two velocities of one state, and the interval they are taken over."""

    forecast: Tensor
    full: Tensor
    t: float
    r: float


def rollout(
    host: Host, predictor: Predictor, noise: Tensor, schedule: Schedule, shift: float, *, asked: Collection[int]
) -> Iterator[Pair]:
    """Sample from ``noise`` along a schedule and yield its forecast steps that are ``asked`` of the whole model too.
    Each forecast yielded carries a gradient to the predictor; the states do not."""
    times = sigmas(schedule.steps, shift).to(noise)
    policy = disca(predictor, full_steps=schedule)
    with attach(host.transformer, policy, timesteps=_timesteps(host, schedule, shift)) as run:
        x = noise
        for step, (t, r) in enumerate(pairwise(times)):
            start, end = t.expand(len(x)), r.expand(len(x))
            learns = step in asked and not schedule.is_full(step)
            if learns:
                with torch.no_grad(), run.aside():
                    full = host(x, start, end)
            with torch.set_grad_enabled(learns):
                velocity = host(x, start, end)
            if learns:
                yield Pair(velocity, full, t.item(), r.item())
            x = x - (t - r) * velocity.detach()


@torch.no_grad()
def final_state(host: Host, policy: Policy, noise: Tensor, schedule: Schedule, shift: float) -> Tensor:
    """Where the sampler ends from ``noise`` under a policy; every step full where it has no rules."""
    with attach(host.transformer, policy, timesteps=_timesteps(host, schedule, shift)):
        return integrate(host, noise, sigmas(schedule.steps, shift))


def _timesteps(host: Host, schedule: Schedule, shift: float) -> list[float]:
    """What the host receives at the steps of a schedule."""
    times = sigmas(schedule.steps, shift)[:-1] * adapter_for(host.transformer).time_scale
    return times.tolist()
