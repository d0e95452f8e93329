"""When to compute in full."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from disca.features import Call, Moment
from disca.schedules import Schedule, check_every, check_full_steps


class Gate(ABC):
    """Decides, once per step and branch, whether a site is computed in full. A value: what it has seen is its memory.

    The first step of a run is computed in full whatever the gate says, since nothing can be forecast from nothing.
    """

    def start(self) -> Any:
        """The memory of a branch at the start of a run."""
        return None

    @abstractmethod
    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        """Whether to compute in full now."""


class Static(Gate):
    """A gate that knows its steps beforehand. It needs no signal, no synchronisation and no agreement of ranks."""

    @abstractmethod
    def schedule(self, steps: int) -> Schedule:
        """The schedule of a run of ``steps`` steps.

        Raises:
            ValueError: the gate is made for another number of steps.
        """

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        return _schedule(self, moment.steps).is_full(moment.step)


@dataclass(frozen=True)
class Always(Static):
    """Every step."""

    def schedule(self, steps: int) -> Schedule:
        return Schedule.every(1, steps=steps)


@dataclass(frozen=True)
class Every(Static):
    """The first ``warmup`` steps, then every ``n``-th; see :meth:`disca.schedules.Schedule.every`."""

    n: int
    warmup: int = 1
    phase: int = 0
    force_last: bool = False

    def __post_init__(self) -> None:
        check_every(self.n, self.warmup, self.phase)

    def schedule(self, steps: int) -> Schedule:
        return Schedule.every(self.n, steps=steps, warmup=self.warmup, phase=self.phase, force_last=self.force_last)


@dataclass(frozen=True)
class Given(Static):
    """These steps. With ``steps``, the gate is for runs of so many steps and refuses others."""

    full_steps: tuple[int, ...]
    steps: int | None = None

    def __post_init__(self) -> None:
        check_full_steps(self.full_steps)
        if self.steps is not None:
            Schedule(self.steps, self.full_steps)

    def schedule(self, steps: int) -> Schedule:
        if self.steps not in (None, steps):
            raise ValueError(
                f"The schedule is for {self.steps} steps but the run has {steps}. Sample with "
                f"num_inference_steps={self.steps}, or build a schedule for {steps} steps."
            )
        return Schedule(steps, self.full_steps)


@dataclass(frozen=True)
class OneOf(Static):
    """The schedule made for a run's number of steps, out of several."""

    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        counts = [schedule.steps for schedule in self.schedules]
        if not counts or len(set(counts)) < len(counts):
            raise ValueError(f"One schedule for each number of steps is needed, at least one; given {counts}.")

    def schedule(self, steps: int) -> Schedule:
        for schedule in self.schedules:
            if schedule.steps == steps:
                return schedule
        known = ", ".join(str(schedule.steps) for schedule in self.schedules)
        raise ValueError(
            f"There are schedules for {known} steps but the run has {steps}. Sample with one of these numbers of "
            f"steps, or build a schedule for {steps}."
        )


@lru_cache(maxsize=256)
def _schedule(gate: Static, steps: int) -> Schedule:
    return gate.schedule(steps)
