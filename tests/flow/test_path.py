"""Paths, times and samplers, held against the one flow whose answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from disca.flow import (
    Gaussian,
    expand,
    heun,
    heun_velocity,
    integrate,
    max_interval,
    point,
    shift_time,
    sigmas,
    velocity,
)

FLOW = Gaussian(mean=0.7, std=0.5)
steps_and_shifts = given(steps=st.integers(1, 60), shift=st.floats(1.0, 12.0))
quick = settings(deadline=None, max_examples=40)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def states(batch: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Points with times ``1 > t > r > 0``, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 2, dtype=torch.float64, generator=generator)
    ends = torch.rand(2, batch, dtype=torch.float64, generator=generator)
    return x, ends.amax(0), ends.amin(0)


def test_the_path_runs_straight_from_data_to_noise() -> None:
    x0, noise = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    assert torch.equal(point(x0, noise, double(0, 0, 0, 0)), x0)
    assert torch.equal(point(x0, noise, double(1, 1, 1, 1)), noise)
    t, r = double(0.9, 0.5, 0.3, 0.2), double(0.4, 0.5, 0.1, 0.0)
    moved = point(x0, noise, t) - expand(t - r, x0) * velocity(x0, noise)
    torch.testing.assert_close(moved, point(x0, noise, r))


@quick
@steps_and_shifts
def test_times_fall_from_one_to_zero_and_the_last_interval_is_the_longest(steps: int, shift: float) -> None:
    times = sigmas(steps, shift, dtype=torch.float64)
    gaps = times[:-1] - times[1:]
    assert (len(times), times[0], times[-1]) == (steps + 1, 1, 0)
    assert (gaps > 0).all()
    assert gaps.max() == pytest.approx(max_interval(steps, shift))
    assert gaps[-1] == pytest.approx(max_interval(steps, shift))


def test_shift_is_the_published_table() -> None:
    """Longest intervals at shift 5 and 7 for 20, 10 and 8 steps, and a time worked out by hand."""
    assert [round(max_interval(n, 5.0), 3) for n in (20, 10, 8)] == [0.208, 0.357, 0.417]
    assert [round(max_interval(n, 7.0), 3) for n in (20, 10, 8)] == [0.269, 0.438, 0.5]
    assert shift_time(0.5, 3.0) == pytest.approx(0.75)
    assert torch.equal(sigmas(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


@quick
@steps_and_shifts
def test_the_exact_mean_velocity_reproduces_the_flow_at_any_step_count(steps: int, shift: float) -> None:
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(steps))
    reached = integrate(FLOW.mean_velocity, x, sigmas(steps, shift, dtype=torch.float64))
    one, zero = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    torch.testing.assert_close(reached, FLOW.flow(x, one, zero), rtol=0, atol=1e-12)


def test_plain_euler_does_not_reproduce_the_flow() -> None:
    x, one = torch.randn(64, 3, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    exact = FLOW.flow(x, one, 0 * one)
    errors = [
        (integrate(lambda x, t, r: FLOW.velocity(x, t), x, sigmas(n, dtype=torch.float64)) - exact).abs().mean()
        for n in (20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_one_step_with_the_mean_velocity_of_a_line_lands_on_the_data() -> None:
    x0, noise = torch.randn(2, 5, 4, 3)
    landed = integrate(lambda x, t, r: velocity(x0, noise), noise, sigmas(1, 5.0))
    torch.testing.assert_close(landed, x0)


def test_integration_takes_numbers_and_passes_times_per_sample() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        seen.append((t, r))
        return torch.ones_like(x)

    assert torch.equal(integrate(u, torch.ones(2, 3), [1.0, 0.5, 0.0]), torch.zeros(2, 3))
    assert [(t.tolist(), r.tolist()) for t, r in seen] == [([1.0] * 2, [0.5] * 2), ([0.5] * 2, [0.0] * 2)]


def test_the_closed_form_is_a_flow() -> None:
    x, t, r = states()
    displacement = (x - FLOW.flow(x, t, r)) / expand(t - r, x)
    torch.testing.assert_close(FLOW.mean_velocity(x, t, r), displacement, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(FLOW.flow(FLOW.flow(x, t, r), r, t), x)


def test_heun_is_of_second_order_and_exact_where_nothing_moves() -> None:
    x, t, r = states(256)
    errors = [(heun(FLOW.velocity, x, t, r, substeps=k) - FLOW.flow(x, t, r)).abs().mean() for k in (8, 16, 32)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)
    for substeps in (1, 3, 7):
        assert torch.equal(heun(FLOW.velocity, x, t, t, substeps=substeps), x)
        assert torch.equal(heun_velocity(FLOW.velocity, x, t, t, substeps=substeps), FLOW.velocity(x, t))


def test_heun_never_asks_beyond_the_interval() -> None:
    x, t, r = (value.float() for value in states())
    asked: list[Tensor] = []
    heun(lambda x, s: (asked.append(s), FLOW.velocity(x, s))[1], x, t, r, substeps=7)
    assert all((s >= r).all() and (s <= t).all() for s in asked)
    assert torch.equal(asked[0], t)
    assert torch.equal(asked[-1], r)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sigmas(0), "at least one step, not 0"),
        (lambda: sigmas(4, 0.0), "must be positive, not 0"),
        (lambda: max_interval(4, -1.0), "must be positive, not -1"),
        (lambda: heun(FLOW.velocity, *states(), substeps=0), "at least one sub-step, not 0"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]
