"""Which steps are computed in full; a plain value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """``steps`` steps of which ``full_steps`` are computed in full and the others forecast.

    Raises:
        ValueError: the full steps are not increasing, not within the steps, or leave out step 0, at which there is
            nothing to forecast from.
    """

    steps: int
    full_steps: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"A schedule needs at least one step; given steps={self.steps}.")
        check_full_steps(self.full_steps)
        if self.full_steps[-1] >= self.steps:
            raise ValueError(
                f"Full step {self.full_steps[-1]} is beyond the last of {self.steps} steps, which is "
                f"{self.steps - 1}. Leave it out, or sample with more steps."
            )

    @classmethod
    def given(cls, full_steps: Iterable[int], *, steps: int) -> Schedule:
        """These steps are full."""
        return cls(steps, tuple(full_steps))

    @classmethod
    def every(cls, n: int, *, steps: int, warmup: int = 1, phase: int = 0, force_last: bool = False) -> Schedule:
        """The first ``warmup`` steps are full, and of the later ones every ``n``-th.

        ``phase`` steps are waited before the count: FORA's released rule for DiT, which counts down, is n=3, phase=1
        for 50 steps (arXiv 2407.01425); TaylorSeer in diffusers is n=5, warmup=3, phase=2. ``force_last`` makes the
        last step full too.
        """
        check_every(n, warmup, phase)
        full = (s for s in range(steps) if s < warmup or (s - warmup + 1 - phase) % n == 0)
        last = (steps - 1,) if force_last else ()
        return cls(steps, tuple(sorted({*full, *last})))

    @property
    def forecast_steps(self) -> tuple[int, ...]:
        """The steps that are not computed in full."""
        return tuple(step for step in range(self.steps) if step not in self.full_steps)

    def is_full(self, step: int) -> bool:
        """Whether this step is computed in full."""
        return step in self.full_steps


def check_full_steps(full_steps: tuple[int, ...]) -> None:
    """Refuse full steps that are not increasing from 0."""
    if not full_steps or any(isinstance(step, bool) or not isinstance(step, int) for step in full_steps):
        raise ValueError(f"full_steps must be one or more whole numbers, the first of them 0; given {full_steps}.")
    ordered = tuple(sorted({0, *full_steps}))
    if ordered[0] < 0:
        raise ValueError(f"Steps are counted from 0, so no full step is negative; given {full_steps}.")
    if ordered != full_steps:
        raise ValueError(
            f"full_steps must increase from 0, since there is nothing to forecast from at step 0; given {full_steps}. "
            f"Did you mean {ordered}?"
        )


def check_every(n: int, warmup: int, phase: int) -> None:
    """Refuse a counter that cannot count."""
    if any(not isinstance(value, int) for value in (n, warmup, phase)):
        raise ValueError(f"every, warmup and phase are whole numbers; given {n!r}, {warmup!r} and {phase!r}.")
    if n < 1 or warmup < 1 or not 0 <= phase < n:
        raise ValueError(
            f"every={n}, warmup={warmup}, phase={phase} is no counter: every and warmup must be at least 1, and phase "
            "at least 0 and below every."
        )
