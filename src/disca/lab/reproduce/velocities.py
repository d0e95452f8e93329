"""How far forecast velocities are from the whole model's, step by step, on the lab's student."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.flow.path import sigmas
from disca.lab import weights
from disca.lab.measure import GUIDANCE, held_out
from disca.lab.reproduce.rows import LISTS
from disca.lab.reproduce.work import SEED
from disca.lab.words import TRAINING, sample
from disca.metrics.flops import count_flops
from disca.objectives import relative_error
from disca.schedules import Schedule
from disca.training.host import Host
from disca.training.rollouts import final_state, velocity_errors
from disca.training.steps import Steps

SCHEDULES = tuple(Schedule(steps, full) for steps, full in LISTS.items())


class Velocities:
    """The student on some prompts, and what its full runs end in."""

    def __init__(self, prompts: Sequence[str], noise: Tensor) -> None:
        pipe = weights.pipeline("student")
        pipe.second_time.requires_grad_(False).install(pipe.transformer)
        self.noise, self.shift = noise, float(pipe.scheduler.config.shift)
        with torch.no_grad():
            scale = torch.full((len(prompts),), GUIDANCE)
            self.host = Host(pipe.transformer, pipe.encode_prompt(list(prompts)), pipe.second_time, guidance=scale)

    @classmethod
    def held_out(cls, count: int) -> Velocities:
        """On held-out prompts."""
        pairs = held_out(count, SEED)
        return cls(pairs.prompts, torch.stack([_noise(seed) for seed in pairs.seeds]))

    @classmethod
    def training(cls, count: int) -> Velocities:
        """On training prompts."""
        prompts = [str(prompt) for prompt in sample(TRAINING, count, 0)]
        return cls(prompts, torch.stack([_noise(-1 - index) for index in range(count)]))

    @cached_property
    def ends(self) -> dict[Schedule, Tensor]:
        """Last latents of the runs with every step full."""
        return {one: final_state(self.host, (), self.noise, self.times(one)) for one in SCHEDULES}

    def times(self, schedule: Schedule) -> Steps:
        """The steps of a run."""
        return Steps(sigmas(schedule.steps, self.shift))

    def errors(self, policy: Policy, schedule: Schedule) -> dict[str, Any]:
        """What a policy does on one list: relative errors of velocities at the states that its own sampler visits, and
        at those of the full run, of the last latents, and its cost; means over prompts and forecast steps."""
        given = (self.host, policy, self.noise, self.times(schedule), schedule)
        visited, along = velocity_errors(*given), velocity_errors(*given, visited=False)
        end = final_state(self.host, policy, self.noise, self.times(schedule))
        return {
            "velocity": torch.stack(list(visited.values())).mean().item(),
            "velocity_of_full_run": torch.stack(list(along.values())).mean().item(),
            "final": relative_error(end, self.ends[schedule]).mean().item(),
            "by_prompt": torch.stack(list(visited.values())).mean(0).tolist(),
            "by_step": {
                step: {"gap": self._gap(schedule, step), "velocity": error.mean().item()}
                for step, error in visited.items()
            },
            "share_of_full_step": self._share(policy, schedule),
        }

    def _gap(self, schedule: Schedule, step: int) -> float:
        times = self.times(schedule).times
        return float(times[max(full for full in schedule.full_steps if full < step)] - times[step])

    @torch.no_grad()
    def _share(self, policy: Policy, schedule: Schedule) -> float:
        """Operations of the last forecast step over those of a full one."""
        one = Host(
            self.host.transformer,
            {name: value[:1] for name, value in self.host.conditioning.items()},
            self.host.second,
            guidance=torch.full((1,), GUIDANCE),
        )
        times, x, counts = self.times(schedule).times, self.noise[:1], {}
        with attach(one.transformer, policy, timesteps=(1000 * times[:-1]).tolist()):
            for step, (t, r) in enumerate(zip(times[:-1, None], times[1:, None], strict=True)):
                if step in (0, schedule.forecast_steps[-1]):
                    counts[step] = count_flops(one, x, t, r)
                else:
                    one(x, t, r)
        return counts[schedule.forecast_steps[-1]] / counts[0]


def _noise(seed: int) -> Tensor:
    return torch.randn(32, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
