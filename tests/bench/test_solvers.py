"""Each solver on flows whose solution is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from disca.bench.models import Model
from disca.bench.solvers import SOLVERS, AdamsBashforthScheduler, solving
from disca.meanflow.euler import require_euler

EULER = FlowMatchEulerDiscreteScheduler(shift=3.0)
Velocity = Callable[[Tensor, float], Tensor]


def end(solver: str, steps: int, velocity: Velocity) -> Tensor:
    """Where the flow ends that starts at 1."""
    make = SOLVERS[solver]
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(EULER.config) if make is None else make(EULER.config)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1])
    x = torch.ones(1, 1, 1)
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(velocity(x, float(sigma)), timestep, x, return_dict=False)[0]
    return x.flatten()


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_straight_flow_is_exact(solver: str) -> None:
    found = end(solver, 6, lambda x, t: torch.full_like(x, 2.0))
    torch.testing.assert_close(found, torch.tensor([-1.0]), atol=1e-4, rtol=0)


def test_adams_bashforth_is_exact_for_a_velocity_linear_in_time_after_its_first_step() -> None:
    """x' = 2t from 1 to 0 changes x by -1. The first step is Euler's and misses by the square of its length."""
    EULER.set_timesteps(sigmas=np.linspace(1, 0, 7)[:-1])
    first = float(EULER.sigmas[0] - EULER.sigmas[1])
    found = end("ab2", 6, lambda x, t: torch.full_like(x, 2 * t))
    torch.testing.assert_close(found, torch.tensor([0.0 - first**2]))


def test_it_is_of_second_order_where_euler_is_of_first() -> None:
    """The error of x' = x from 1 to 0, at 16 and at 32 steps."""
    exact = torch.exp(torch.tensor([-1.0]))
    errors = {
        solver: [(end(solver, steps, lambda x, t: x) - exact).abs().item() for steps in (16, 32)]
        for solver in ("euler", "ab2")
    }
    assert 1.7 < errors["euler"][0] / errors["euler"][1] < 2.3
    assert 3.3 < errors["ab2"][0] / errors["ab2"][1] < 4.7


def test_the_times_are_those_of_the_euler_scheduler() -> None:
    scheduler = AdamsBashforthScheduler.from_config(EULER.config)
    for each in (scheduler, EULER):
        each.set_timesteps(5)
    torch.testing.assert_close(scheduler.sigmas, EULER.sigmas)
    torch.testing.assert_close(scheduler.timesteps, EULER.timesteps)


def test_no_student_is_sampled_with_it() -> None:
    with pytest.raises(ValueError, match="AdamsBashforthScheduler"):
        require_euler(AdamsBashforthScheduler.from_config(EULER.config))


def test_the_pipeline_gets_its_own_scheduler_back(model: Model) -> None:
    own = model.pipe.scheduler
    with pytest.raises(KeyError), solving(model.pipe, "ab2"):
        assert isinstance(model.pipe.scheduler, AdamsBashforthScheduler)
        raise KeyError
    assert model.pipe.scheduler is own
