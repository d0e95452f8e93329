"""Rollouts move as the pipeline's own sampler does, and stay with the expert that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from disca.flow.path import integrate, sigmas
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.distill import drawn
from disca.training.steps import Steps, confined, moved, part, steps_of
from tests.training.test_stages import task

UNIPC = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
HAND = Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19))


def bend(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """A velocity that depends on state and time."""
    return torch.sin(3 * x) + t[:, None]


def noise(seed: int = 0) -> Tensor:
    return torch.randn(2, 5, generator=torch.Generator().manual_seed(seed))


def test_euler_steps_are_those_of_the_path() -> None:
    steps = steps_of(FlowMatchEulerDiscreteScheduler(shift=3.0), 6, 3.0)
    assert torch.equal(steps.times, sigmas(6, 3.0))
    assert torch.allclose(moved(bend, noise(), steps), integrate(bend, noise(), sigmas(6, 3.0)))


@pytest.mark.parametrize("first", [0, 3])
def test_other_schedulers_take_their_own_steps(first: int) -> None:
    steps, scheduler = steps_of(UNIPC, 6, 1.0), UniPCMultistepScheduler.from_config(UNIPC.config)
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(first)
    x = noise()
    for step in range(first, 6):
        t = scheduler.sigmas[step].expand(2)
        x = scheduler.step(bend(x, t, t), scheduler.timesteps[step], x).prev_sample
    for _ in range(2):  # nothing is left of a run in the next
        assert torch.equal(moved(bend, noise(), steps, range(first, 6)), x)
    euler = moved(bend, noise(), Steps(steps.times), range(first, 6))
    assert not torch.allclose(euler, x, atol=1e-3)


@pytest.mark.parametrize("scheduler", [DDIMScheduler(), FlowMatchHeunDiscreteScheduler()])
def test_schedulers_that_take_no_single_steps_along_a_flow_are_refused(scheduler: object) -> None:
    with pytest.raises(ValueError, match="along a flow"):
        steps_of(scheduler, 6, 1.0)


def test_two_experts_share_the_steps() -> None:
    times = sigmas(20, 5.0)
    (high, above), (low, below) = (confined(HAND, times, span) for span in ((0.8, 1.0), (0.0, 0.8)))
    assert [*above, *below] == list(range(20)) and times[above[-1]] >= 0.8 > times[below[0]]
    for found, own in ((high, above), (low, below)):
        assert set(found.forecast_steps) == set(HAND.forecast_steps) & set(own) - {own[0]}
        assert part(found, own).forecast_steps == tuple(step - own[0] for step in found.forecast_steps)
    assert confined(HAND, times, (0.0, 1.0)) == (HAND, range(20))
    with pytest.raises(ValueError, match="None of the 20 steps"):
        confined(HAND, times, (0.0, 0.01))


@pytest.mark.parametrize("begin", ["clip", "noise"])
@pytest.mark.parametrize("span", [(0.8, 1.0), (0.0, 0.8)])
def test_a_rollout_stays_with_its_expert(
    chain: dict[str, Path], span: tuple[float, float], begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.conftest.TinySource.span", span, raising=False)
    stage = task("predictor", chain["student"], begin=begin, shares=(0.5, 0.5), random=0.5)
    for number in range(6):
        draw = Draw.seeded(0, number, iteration=number)
        clips, started = drawn(stage.source, stage.recipe, draw, stage.pipe.device)
        pairs, _ = stage._pairs(stage._host(clips, torch.full((4,), 3.0)), clips.latents, started, draw)
        for pair in pairs:
            assert span[0] <= pair.t[0] <= span[1] and span[0] <= pair.t[0] + pair.gap[0] <= span[1]
    assert all(value >= 0 for value in stage.validate(Path()).values())


def test_an_expert_whose_steps_are_all_full_has_nothing_to_learn(
    chain: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.conftest.TinySource.span", (0.99, 1.0), raising=False)
    with pytest.raises(ValueError, match="all of them are full"):
        task("predictor", chain["student"])
