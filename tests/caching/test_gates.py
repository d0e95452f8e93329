"""Gates: when to compute in full."""

from __future__ import annotations

from typing import Any

import pytest

from disca import Moment, Schedule
from disca.caching.gates import Always, Every, Given, Static
from disca.features import Call

CALL = Call((), lambda: ())


def opened(gate: Static, steps: int) -> tuple[int, ...]:
    memory = gate.start()
    moments = (Moment(step=s, steps=steps, t=1 - s / steps, r=1 - (s + 1) / steps) for s in range(steps))
    return tuple(now.step for now in moments if gate.opens(memory, now, CALL))


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_a_gate_opens_as_its_schedule_says(steps: int) -> None:
    for gate in (Always(), Every(3), Every(4, warmup=3, phase=2, force_last=True), Given((0,)), Given((0,), steps)):
        assert opened(gate, steps) == gate.schedule(steps).full_steps


def test_always_and_every_first_are_every_step() -> None:
    assert opened(Always(), 9) == opened(Every(1), 9) == tuple(range(9))


def test_given_steps_open_at_any_fitting_length() -> None:
    assert opened(Given((0, 2, 4, 7)), 8) == opened(Given((0, 2, 4, 7)), 20) == (0, 2, 4, 7)


def test_given_steps_for_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for 8 steps but the run has 20\. Sample with num_inference_steps=8"):
        opened(Given((0, 2, 4, 7), steps=8), 20)
    with pytest.raises(ValueError, match="Full step 7 is beyond the last of 4 steps"):
        opened(Given((0, 2, 4, 7)), 4)


@pytest.mark.parametrize(
    "make", [lambda: Every(0), lambda: Every(2, phase=2), lambda: Given((1,)), lambda: Given((0, 8), steps=8)]
)
def test_a_gate_that_cannot_be_is_refused_when_made(make: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 1|increase from 0|beyond the last"):
        make()


def test_gates_are_values() -> None:
    assert Every(3) == Every(3) != Every(4)
    assert len({Every(3), Every(3), Given((0,)), Given((0,))}) == 2
    assert repr(Given((0, 2), 4)) == "Given(full_steps=(0, 2), steps=4)"
    assert Schedule(4, (0, 2)) == Given((0, 2), 4).schedule(4)


def test_an_interval_longer_than_the_run_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="Every 9-th step is to be full, but the run has 4"):
        Every(9).schedule(4)
