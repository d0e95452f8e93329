"""Clocks: step, t and r at full precision, whatever the host receives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from disca.clock import SchedulerClock, TimestepClock, clock_for


def times(clock: Any, scheduler: Any, dtype: torch.dtype = torch.bfloat16) -> list[tuple[int, float, float]]:
    """(step, t, r) at each step of a run, the timestep argument rounded as pipelines do."""
    seen = []
    for timestep in scheduler.timesteps:
        now = clock.moment(timestep.expand(2).to(dtype))
        assert now.steps == len(scheduler.timesteps)
        seen.append((now.step, now.t, now.r))
        scheduler.step(torch.zeros(1, 4), timestep, torch.zeros(1, 4))
    return seen


def test_a_flow_scheduler_gives_its_noise_levels() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    clock = SchedulerClock(lambda: scheduler)
    for steps in (20, 7):
        scheduler.set_timesteps(steps)
        sigmas = scheduler.sigmas.tolist()
        assert times(clock, scheduler) == [(s, sigmas[s], sigmas[s + 1]) for s in range(steps)]
        assert sigmas[-1] == 0


def test_neighbours_that_bfloat16_merges_stay_apart() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=12.0)
    scheduler.set_timesteps(100)
    assert len(set(scheduler.timesteps.bfloat16().tolist())) < 100
    seen = times(SchedulerClock(lambda: scheduler), scheduler)
    assert [step for step, _, _ in seen] == list(range(100))
    assert all(t > r for _, t, r in seen)


def test_a_multistep_flow_scheduler_gives_its_noise_levels() -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.set_timesteps(6)
    sigmas = scheduler.sigmas.tolist()
    assert times(SchedulerClock(lambda: scheduler), scheduler) == [(s, sigmas[s], sigmas[s + 1]) for s in range(6)]


def test_a_scheduler_that_counts_no_steps_is_matched_by_its_timesteps() -> None:
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    seen = times(SchedulerClock(lambda: scheduler), scheduler, torch.int64)
    assert seen == [(0, 0.999, 0.749), (1, 0.749, 0.499), (2, 0.499, 0.249), (3, 0.249, 0.0)]


def test_each_run_of_a_scheduler_is_another() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    clock = SchedulerClock(lambda: scheduler)
    scheduler.set_timesteps(4)
    clock.moment()
    first = clock.run
    times(clock, scheduler)
    assert clock.run is first
    with pytest.raises(ValueError, match=r"has 4 steps and all of them are taken.*set_timesteps"):
        clock.moment()
    scheduler.set_timesteps(4)
    assert clock.moment().step == 0
    assert clock.run is not first


def test_a_run_that_begins_later_is_at_its_later_step() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(3)
    assert SchedulerClock(lambda: scheduler).moment().step == 3


def test_the_scheduler_may_be_exchanged() -> None:
    pipe = SimpleNamespace(transformer=None, scheduler=FlowMatchEulerDiscreteScheduler())
    clock = clock_for(pipe)
    pipe.scheduler.set_timesteps(4)
    assert clock.moment().steps == 4
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    pipe.scheduler.set_timesteps(9)
    assert clock.moment().steps == 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_bare_transformer_is_matched_by_its_timesteps(dtype: torch.dtype) -> None:
    clock = TimestepClock([1000, 700.5, 200])
    now = clock.moment(torch.tensor([700.5, 700.5]).to(dtype))
    assert (now.step, now.steps, now.t, now.r) == (1, 3, 0.7005, 0.2)
    assert clock.moment(200.0).r == 0


def test_a_token_may_be_clean() -> None:
    assert TimestepClock([1000, 500]).moment(torch.tensor([[0.0, 0.0, 500.0, 500.0]])).step == 1


def test_units_are_the_hosts() -> None:
    assert TimestepClock([1.0, 0.4], scale=1.0).moment(torch.tensor(0.4)).t == 0.4


def test_a_host_may_count_upward() -> None:
    clock = TimestepClock([0.0, 250.0, 600.0], ascends=True)
    now = clock.moment(torch.tensor([250.0]))
    assert (now.step, now.t, now.r) == (1, 0.75, 0.4)
    assert clock.moment(600.0).r == 0
    with pytest.raises(ValueError, match="must be one or more values that increase from at least 0"):
        TimestepClock([500, 250], ascends=True)
    with pytest.raises(ValueError, match=r"\(0 is noise\), without the final 1000"):
        clock_for(torch.nn.Linear(1, 1), ascends=True)


def test_a_scheduler_may_count_upward() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(4)
    times_up = (1 - scheduler.sigmas.double()).tolist()
    assert times(SchedulerClock(lambda: scheduler, ascends=True), scheduler) == [
        (step, times_up[step], times_up[step + 1]) for step in range(4)
    ]
    assert times_up[0] == 1
    assert times_up[-1] == 0


def test_a_timestep_of_none_of_the_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Timestep 600 is none of the timesteps of this run: 1000, 500\."):
        TimestepClock([1000, 500]).moment(torch.tensor([600.0]))


def test_a_timestep_of_two_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"steps \[0, 1\], which are one in torch.bfloat16.*float32"):
        TimestepClock([1000, 999]).moment(torch.tensor([1000.0], dtype=torch.bfloat16))


@pytest.mark.parametrize("timesteps", [[], [500, 500], [200, 500], [1200, 500], [500, -1], [float("nan")]])
def test_timesteps_must_decrease_within_the_units(timesteps: list[float]) -> None:
    with pytest.raises(ValueError, match="must be one or more values that decrease from at most 1000"):
        TimestepClock(timesteps)


def test_a_pipeline_needs_no_timesteps_and_a_transformer_does() -> None:
    pipe = SimpleNamespace(transformer=None, scheduler=None)
    with pytest.raises(ValueError, match="scheduler gives the timesteps"):
        clock_for(pipe, [1000])
    with pytest.raises(ValueError, match="so timesteps are needed"):
        clock_for(torch.nn.Linear(1, 1))
