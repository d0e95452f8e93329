"""Schedules: the published counters, and refusals that teach."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca import Schedule


@pytest.mark.parametrize(
    ("n", "options", "full_steps"),
    [
        (5, {}, tuple(range(0, 50, 5))),
        (6, {}, tuple(range(0, 50, 6))),
        (6, {"warmup": 3}, (0, 1, 2, 8, 14, 20, 26, 32, 38, 44)),
        (5, {"warmup": 3}, (0, 1, 2, 7, 12, 17, 22, 27, 32, 37, 42, 47)),
        (5, {"warmup": 3, "phase": 2}, (0, 1, 2, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49)),  # diffusers' TaylorSeer
        (3, {"phase": 1}, (0, *range(1, 50, 3))),  # FORA on DiT, which counts down
        (6, {"force_last": True}, (*range(0, 50, 6), 49)),
        (1, {}, tuple(range(50))),
    ],
)
def test_published_counters(n: int, options: dict[str, int], full_steps: tuple[int, ...]) -> None:
    assert Schedule.every(n, steps=50, **options) == Schedule(50, full_steps)


@given(n=st.integers(1, 9), steps=st.integers(1, 40), warmup=st.integers(1, 9), last=st.booleans(), data=st.data())
def test_every_counter_is_a_schedule(n: int, steps: int, warmup: int, last: bool, data: st.DataObject) -> None:
    phase = data.draw(st.integers(0, n - 1))
    schedule = Schedule.every(n, steps=steps, warmup=warmup, phase=phase, force_last=last)
    assert sorted(schedule.full_steps + schedule.forecast_steps) == list(range(steps))
    assert all(schedule.is_full(step) for step in range(min(warmup, steps)))
    assert all(schedule.is_full(step) == (step in schedule.full_steps) for step in range(steps))
    assert schedule.is_full(steps - 1) or not last
    late = [step for step in schedule.full_steps if step >= warmup and not (last and step == steps - 1)]
    assert all(b - a == n for a, b in pairwise(late))


@pytest.mark.parametrize(
    ("steps", "full_steps", "message"),
    [
        (8, (0, 4, 2), r"Did you mean \(0, 2, 4\)\?"),
        (8, (0, 2, 2), r"Did you mean \(0, 2\)\?"),
        (8, (1, 2), r"nothing to forecast from at step 0.*Did you mean \(0, 1, 2\)\?"),
        (8, (0, 2, 8), "Full step 8 is beyond the last of 8 steps, which is 7"),
        (8, (-1, 0), "no full step is negative"),
        (8, (), "one or more whole numbers"),
        (8, (0, 1.5), "one or more whole numbers"),
        (0, (0,), "at least one step"),
    ],
)
def test_what_is_no_schedule_is_refused(steps: int, full_steps: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule.given(full_steps, steps=steps)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 3, "warmup": 0}, {"n": 3, "phase": 3}, {"n": 3, "phase": -1}])
def test_what_is_no_counter_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is no counter"):
        Schedule.every(steps=8, **options)
