"""What an early error comes to at the end of a run."""

from __future__ import annotations

from math import exp
from pathlib import Path

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from disca.flow.path import sigmas
from disca.training.fit import Fit
from disca.training.sensitivity import growth
from disca.training.steps import Steps, steps_of
from tests.training.test_stages import task

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
LISTS = {"steps": (6,), "full_steps": ((0, 1, 4),), "shares": (1.0,)}


def linear(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """A velocity that shrinks every difference of states by the same factor each step; it changes with time too."""
    return x + t[:, None].square()


def test_of_a_linear_velocity_it_is_the_product_of_the_later_steps() -> None:
    times = sigmas(6, 3.0)
    found = growth(linear, X, Steps(times))
    factors = 1 + times.diff()
    expected = torch.stack([factors[step + 1 :].prod() for step in range(6)])
    expected[0] = expected[1]
    assert torch.allclose(found, expected, atol=1e-4)


def test_only_an_experts_own_steps_count() -> None:
    times, own = sigmas(6, 3.0), range(2, 5)
    found = growth(linear, X, Steps(times), own)
    assert found[0] == found[1] == found[4] == found[5] == 1
    assert found[3] == pytest.approx(1 + times.diff()[4].item(), abs=1e-4) and found[2] == found[3]


def test_a_scheduler_with_a_memory_takes_its_own_steps() -> None:
    """UniPC of second order is near the exact growth of this velocity, and Euler is not."""
    unipc = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    steps = steps_of(unipc, 8, 1.0)
    exact = exp(-steps.times[4].item())
    found, euler = (growth(linear, X, one)[3].item() for one in (steps, Steps(steps.times)))
    assert abs(found - exact) < 0.3 * abs(euler - exact)


def test_errors_count_by_what_they_come_to(chain: dict[str, Path]) -> None:
    by_interval = task("predictor", chain["student"], **LISTS)
    by_end = task("predictor", chain["student"], **LISTS, weigh="end")
    lengths = -sigmas(6, by_interval.pipe.scheduler.config.shift).diff()
    assert torch.allclose(by_interval.moves[6], lengths, atol=1e-6)
    assert not torch.allclose(by_end.moves[6], lengths, atol=1e-3) and (by_end.moves[6] > 0).all()
    assert torch.equal(by_end.moves[6], task("predictor", chain["student"], **LISTS, weigh="end").moves[6])
    with pytest.raises(ValueError, match="weigh is one of interval, end"):
        Fit(weigh="middle")  # type: ignore[arg-type]
