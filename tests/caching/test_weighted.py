"""Weights for each step in closed form: exact where outputs are sums of earlier ones, and never worse than others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disca.caching.weighted import Weighted, fitted
from disca.features import Features
from disca.schedules import Schedule
from tests.caching.test_forecasts import CALL, moment, seen

SCHEDULE = Schedule(6, (0, 1, 4))


def runs(count: int, make: Any) -> list[list[Features]]:
    """Runs of six steps of two streams, float64."""
    return [[make(step, seed) for step in range(6)] for seed in range(count)]


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 5, 3), (2, 2, 3))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)  # type: ignore[return-value]


def on_a_line(step: int, seed: int) -> Features:
    return tuple(a + step * b for a, b in zip(drawn(seed), drawn(seed + 100), strict=True))


def unrelated(step: int, seed: int) -> Features:
    return drawn(1000 * seed + step)


def test_what_is_linear_in_time_is_forecast_exactly() -> None:
    how = fitted(runs(3, on_a_line), SCHEDULE)
    assert how.weights[2] == pytest.approx((2, -1))  # 2 is as far from 1 as 1 is from 0
    assert how.weights[5] == pytest.approx((4 / 3, -1 / 3))
    memory = seen(how, {step: on_a_line(step, 7)[0] for step in SCHEDULE.full_steps[:2]})
    for step in (2, 3):
        torch.testing.assert_close(how.predict(memory, moment(step), CALL)[0], on_a_line(step, 7)[0])


def test_weights_are_the_least_squares_of_all_numbers_of_all_runs() -> None:
    some = runs(4, unrelated)
    how = fitted(some, SCHEDULE, terms=3)

    def column(step: int) -> Tensor:
        return torch.cat([stream.flatten() for run in some for stream in run[step]])

    for step, full in ((2, (1, 0)), (3, (1, 0)), (5, (4, 1, 0))):
        known = torch.stack([column(one) for one in full], dim=1)
        expected = torch.linalg.lstsq(known, column(step)[:, None]).solution[:, 0]
        assert how.weights[step] == pytest.approx(expected.tolist())


def test_runs_that_never_change_have_weights() -> None:
    how = fitted(runs(2, lambda step, seed: drawn(seed)), SCHEDULE)
    assert sum(how.weights[5]) == pytest.approx(1)


def test_memory_is_as_long_as_the_weights_and_a_short_one_is_reuse() -> None:
    how = Weighted({2: (2.0, -1.0), 3: (0.5,)})
    memory = seen(how, {0: torch.tensor(1.0)})
    assert how.predict(memory, moment(2), CALL) == (torch.tensor(1.0),)
    assert how.predict(memory, moment(3), CALL) == (torch.tensor(0.5),)
    memory = seen(how, {0: torch.tensor(1.0), 1: torch.tensor(3.0), 4: torch.tensor(4.0)})
    assert len(how.held(memory)) == 2
    assert how.predict(memory, moment(2), CALL) == (torch.tensor(5.0),)
    how.observe(memory, moment(4), CALL, (torch.tensor(6.0),))  # the same step again
    assert how.predict(memory, moment(2), CALL) == (torch.tensor(9.0),)
    with pytest.raises(ValueError, match="No weights were fitted for step 5"):
        how.predict(memory, moment(5), CALL)


def test_runs_of_another_length_are_refused() -> None:
    for some in ([], [[drawn(0)] * 5]):
        with pytest.raises(ValueError, match="fitted to runs of as many"):
            fitted(some, SCHEDULE)
