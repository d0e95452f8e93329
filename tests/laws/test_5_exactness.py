"""Law 5: reuse is exact on constant features, a first-order forecast on straight lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from disca.caching.forecasts import Forecast, RepeatChange, Reuse
from disca.caching.polynomials import Taylor
from disca.features import Call, Features, Moment

STEPS = 20
full_steps = st.sets(st.integers(1, STEPS - 2), min_size=1, max_size=8).map(lambda steps: [0, *sorted(steps)])


def moment(step: int) -> Moment:
    t = (1 - step / STEPS) ** 2
    return Moment(step=step, steps=STEPS, t=t, r=(1 - (step + 1) / STEPS) ** 2, branch="cond")


def draw(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(
    how: Forecast[Any], truth: Callable[[Moment], Features], inputs: Callable[[Moment], Features], full: list[int]
) -> float:
    """Largest error of the forecasts at all later steps, after these full steps."""
    memory = how.start()
    for step in full:
        how.observe(memory, moment(step), Call(inputs(moment(step)), truth), truth(moment(step)))
    worst = 0.0
    for step in range(full[-1] + 1, STEPS):
        guess = how.predict(memory, moment(step), Call(inputs(moment(step)), truth))
        pairs = zip(guess, truth(moment(step)), strict=True)
        worst = max(worst, *(float((a - b).abs().max()) for a, b in pairs))
    return worst


def nothing(now: Moment) -> Features:
    return (torch.zeros(2, 3, 4, dtype=torch.float64), torch.zeros(2, 3, 4, dtype=torch.float64))


def polynomial(degree: int, variable: str = "step") -> Callable[[Moment], Features]:
    def truth(now: Moment) -> Features:
        x = now.step / 10 if variable == "step" else now.t
        return tuple(sum(draw(9 * k + i) * x**i for i in range(degree + 1)) for k in (1, 2))

    return truth


@settings(max_examples=25, deadline=None)
@given(full_steps)
def test_reuse_is_exact_on_constants(full: list[int]) -> None:
    assert error(Reuse(), polynomial(0), nothing, full) == 0
    assert error(Taylor(0), polynomial(0), nothing, full) == 0
    assert error(Reuse(), polynomial(1), nothing, full) > 1e-3


@settings(max_examples=25, deadline=None)
@given(full_steps)
def test_repeating_the_change_is_exact_where_the_change_is_constant(full: list[int]) -> None:
    def inputs(now: Moment) -> Features:
        return tuple(feature * now.t for feature in polynomial(1)(now))

    def truth(now: Moment) -> Features:
        return tuple(a + b for a, b in zip(inputs(now), polynomial(0)(now), strict=True))

    assert error(RepeatChange(), truth, inputs, full) < 1e-12


@pytest.mark.parametrize("variable", ["step", "time"])
@pytest.mark.parametrize("form", ["published", "newton"])
@settings(max_examples=25, deadline=None)
@given(full=full_steps)
def test_first_order_is_exact_on_lines_for_any_gaps(form: Any, variable: Any, full: list[int]) -> None:
    assert error(Taylor(1, form, variable), polynomial(1, variable), nothing, full) < 1e-9
    assert error(Taylor(0, form, variable), polynomial(1, variable), nothing, full) > 1e-4


@pytest.mark.parametrize("variable", ["step", "time"])
@pytest.mark.parametrize("order", [2, 3])
@settings(max_examples=25, deadline=None)
@given(full=full_steps.filter(lambda full: len(full) > 3))
def test_newton_is_exact_on_polynomials_of_its_order(order: int, variable: Any, full: list[int]) -> None:
    assert error(Taylor(order, "newton", variable), polynomial(order, variable), nothing, full) < 1e-6
