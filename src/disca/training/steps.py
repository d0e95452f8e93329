"""How the sampler of a base moves its state, and which part of a run its transformer is for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from disca.flow.path import sigmas
from disca.meanflow.euler import EULER
from disca.schedules import Schedule

Advance = Callable[[Tensor, Tensor, int], Tensor]
"""``advance(x, velocity, step)``: the state after a step. Called for one step after the other."""


@dataclass(frozen=True)
class Steps:
    """The times of a run, ``[steps + 1]`` from 1 to 0, and how it goes from one to the next."""

    times: Tensor
    scheduler: Any = None
    """A scheduler whose steps are no Euler steps, with its timesteps set; each run takes a copy."""

    def __len__(self) -> int:
        return len(self.times) - 1

    def start(self, first: int = 0) -> Advance:
        """Moves the state of a run that begins at the step ``first``. A multistep scheduler has no history there, as at
        the beginning of any run."""
        if self.scheduler is None:
            return self._euler
        scheduler = deepcopy(self.scheduler)
        scheduler.set_begin_index(first)

        def advance(x: Tensor, velocity: Tensor, step: int) -> Tensor:
            moved: Tensor = scheduler.step(velocity, scheduler.timesteps[step], x, return_dict=False)[0]
            return moved

        return advance

    def _euler(self, x: Tensor, velocity: Tensor, step: int) -> Tensor:
        return x - (self.times[step] - self.times[step + 1]).to(x) * velocity


def steps_of(scheduler: Any, count: int, shift: float, device: Any = "cpu") -> Steps:
    """The steps that a pipeline with this scheduler takes.

    Raises:
        ValueError: a scheduler that predicts no velocity, or asks more than once in a step.
    """
    if any(cls.__name__ in EULER for cls in type(scheduler).__mro__):
        return Steps(sigmas(count, shift).to(device))
    flows = scheduler.config.get("use_flow_sigmas") or scheduler.config.get("prediction_type") == "flow_prediction"
    scheduler = deepcopy(scheduler)
    scheduler.set_timesteps(count, device=device)
    if not flows or len(scheduler.sigmas) != count + 1 or len(scheduler.timesteps) != count:
        raise ValueError(
            f"Rollouts follow the pipeline's scheduler, and {type(scheduler).__name__} does not step along a flow, one "
            "evaluation a step. Give the pipeline a FlowMatchEulerDiscreteScheduler, or the UniPC of its family."
        )
    return Steps(scheduler.sigmas.to(device), scheduler)


def confined(schedule: Schedule, times: Tensor, span: tuple[float, float]) -> tuple[Schedule, range]:
    """A schedule for one of two experts that take turns, and the steps that are its own: it forecasts no others, and
    its first is full, since what the other expert knew is of no use to it.

    The steps of ``span`` ``(low, high)`` start at a time of ``low <= t <= high``; the lower expert's at ``t < high``.
    """
    low, high = span
    own = [step for step in range(schedule.steps) if low <= times[step] and (times[step] < high or high == 1)]
    if not own:
        raise ValueError(f"None of the {schedule.steps} steps starts at a time from {low:g} to {high:g}.")
    inside = range(own[0], own[-1] + 1)
    others = (step for step in range(schedule.steps) if step not in inside)
    return Schedule(schedule.steps, tuple(sorted({*schedule.full_steps, *others, inside[0]}))), inside


def part(schedule: Schedule, steps: range) -> Schedule:
    """The schedule of these steps alone, counted from the first of them."""
    full = [step - steps[0] for step in schedule.full_steps if step in steps]
    return Schedule(len(steps), tuple(full))


def moved(u: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, steps: Steps, own: range | None = None) -> Tensor:
    """Where a run ends that begins at ``x``, ``[batch, ...]``, and takes the steps of ``own``, by default all."""
    own = own or range(len(steps))
    advance, x = steps.start(own[0]), x.to(torch.promote_types(x.dtype, torch.float32))
    for step in own:
        t, r = (time.expand(len(x)) for time in steps.times[step : step + 2])
        x = advance(x, u(x, t, r), step)
    return x
