"""The options by which static methods say when they compute in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from disca.caching.gates import Every, Given, OneOf, Static
from disca.schedules import Schedule

FullSteps = Schedule | Sequence[Schedule] | Iterable[int]
"""A schedule, which is refused by runs of another length; several, one for each length; or the full steps alone, which
fit every run long enough."""


def gate(
    full_steps: FullSteps | None,
    every: int | None,
    warmup: int | None,
    phase: int,
    force_last: bool,
    *,
    usual: int = 1,
) -> Static:
    """The gate of ``full_steps`` or of ``every``; see :func:`disca.reuse`. ``usual`` is the warm-up of a method
    where none was given."""
    if isinstance(full_steps, int):
        raise ValueError(
            f"full_steps={full_steps} says how many steps are full, not which. List them, such as (0, 2, 4, 7), or let "
            f"them be computed: disca calibrate schedule, then disca.from_calibration(file, {full_steps=})."
        )
    if (full_steps is None) == (every is None):
        raise ValueError(
            f"Give one of full_steps (such as full_steps=(0, 2, 4, 7)) and every (such as every=4); given "
            f"full_steps={full_steps}, every={every}."
        )
    if every is not None:
        return Every(every, usual if warmup is None else warmup, phase, force_last)
    if warmup not in (None, 1) or (phase, force_last) != (0, False):
        raise ValueError("warmup, phase and force_last go with every. With full_steps, list the steps themselves.")
    if isinstance(full_steps, Schedule):
        return Given(full_steps.full_steps, full_steps.steps)
    given: tuple[Any, ...] = tuple(full_steps or ())
    return OneOf(given) if given and all(isinstance(one, Schedule) for one in given) else Given(given)
