"""When to compute in full."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from disca.features import Call, Features, Moment
from disca.schedules import Schedule, check_every, check_full_steps


@dataclass(frozen=True)
class MadeFor:
    """What constants were measured on."""

    transformer: str
    """Class name of the host."""
    times: tuple[float, ...] = ()
    """Times of the run's steps, from 1 (noise), and its end; nothing where that is not known."""
    blocks: int | None = None
    """How many blocks it has."""
    published: bool = False
    """Whether they are somebody's for a model of theirs: then another model is only warned of."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MadeFor:
        """As a calibration's file has it."""
        return cls(values["transformer"], tuple(values["times"]), values.get("blocks"))

    def check(self, transformer: str, blocks: int) -> None:
        """Raise ValueError where the host is another one; warn where the constants are published ones."""
        if transformer == self.transformer and self.blocks in (None, blocks):
            return
        message = (
            f"These constants were measured on {self.transformer} ({self.blocks} blocks), not on {transformer} "
            f"({blocks} blocks). Measure them on this model with disca calibrate."
        )
        if not self.published:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)

    def differs(self, moment: Moment) -> str | None:
        """How a run differs, seen at one of its steps."""
        if not self.times:
            return None
        if moment.steps != len(self.times) - 1:
            return f"a run of {len(self.times) - 1} steps; this has {moment.steps}"
        there = self.times[moment.step : moment.step + 2]
        if max(abs(moment.t - there[0]), abs(moment.r - there[1])) > 1e-3:
            return (
                f"a run whose step {moment.step} goes from {there[0]:.3f} to {there[1]:.3f}; this goes from "
                f"{moment.t:.3f} to {moment.r:.3f}, by another shift or scheduler"
            )
        return None


class Gate(ABC):
    """Decides, once per step and branch, whether a site is computed in full. A value: what it has seen is its memory.

    The first step of a run is computed in full whatever the gate says, since nothing can be forecast from nothing. All
    branches of a step follow what was decided for the first, so that guidance never compares caches of two ages.
    """

    made_for: MadeFor | None = None
    """What its constants were measured on, where they were measured. Another host is refused, another run warned of."""

    @property
    def reads(self) -> frozenset[str]:
        """Signals that it reads of a call beside its inputs."""
        return frozenset()

    def start(self) -> Any:
        """The memory at the start of a run."""
        return None

    @abstractmethod
    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        """Whether to compute in full now. Asked once per step, with the first call of the first branch."""

    def bounds(self, steps: int) -> tuple[int, int]:
        """The fewest and the most steps of a run that can be full."""
        return (1, steps)

    def observe(self, memory: Any, moment: Moment, call: Call, outputs: Features) -> None:  # noqa: B027 (may do nothing)
        """A site of the first branch was computed in full."""

    def observes(self, moment: Moment) -> bool:
        """Whether what is computed now can be of use for a forecast."""
        return True

    def wants_check(self, memory: Any, moment: Moment) -> bool:
        """Whether the forecasts of this step are to be checked at the last block."""
        return False

    def check(self, memory: Any, moment: Moment, drafted: Features, exact: Features, ranks: Any = None) -> bool:
        """The last block gave ``drafted`` from forecasts, and ``exact`` without. Returns whether this very step is to
        be computed in full after all."""
        return False

    def held(self, memory: Any) -> tuple[Tensor, ...]:
        """The tensors that the memory keeps alive."""
        return ()


class Static(Gate):
    """A gate that knows its steps beforehand. It needs no signal, no synchronisation and no agreement of ranks."""

    @abstractmethod
    def schedule(self, steps: int) -> Schedule:
        """The schedule of a run of ``steps`` steps.

        Raises:
            ValueError: the gate is made for another number of steps.
        """

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        full = self._full.get(moment.steps)
        if full is None:
            full = self._full[moment.steps] = frozenset(self.schedule(moment.steps).full_steps)
        return moment.step in full

    @cached_property
    def _full(self) -> dict[int, frozenset[int]]:
        """Full steps by the number of steps, once somebody asked."""
        return {}

    def bounds(self, steps: int) -> tuple[int, int]:
        count = len(self.schedule(steps).full_steps)
        return (count, count)


@dataclass(frozen=True)
class Always(Static):
    """Every step."""

    def schedule(self, steps: int) -> Schedule:
        return Schedule.every(1, steps=steps)

    def observes(self, moment: Moment) -> bool:
        """Nothing is forecast, so nothing needs to be remembered."""
        return False


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
        _warn_of_long_interval(self.n, steps)
        return Schedule.every(self.n, steps=steps, warmup=self.warmup, phase=self.phase, force_last=self.force_last)


@dataclass(frozen=True)
class Given(Static):
    """These steps. With ``steps``, the gate is for runs of so many steps and refuses others."""

    full_steps: tuple[int, ...]
    steps: int | None = None
    made_for: MadeFor | None = field(default=None, repr=False)

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


@dataclass(frozen=True)
class From(Static):
    """Another gate in one part of the run, ``begin`` to ``end`` as shares of its steps, counted from there; every step
    in the rest of it."""

    gate: Static
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"A part of a run goes from a share of its steps to a larger one; given {self.begin} to {self.end}. "
                "delta_dit's switch lies between 0 and 1."
            )

    def observes(self, moment: Moment) -> bool:
        return round(self.begin * moment.steps) <= moment.step < round(self.end * moment.steps)

    def schedule(self, steps: int) -> Schedule:
        first, last = round(self.begin * steps), round(self.end * steps)
        inside = self.gate.schedule(last - first).full_steps if last > first else ()
        outside = (step for step in range(steps) if not first <= step < last)
        return Schedule(steps, tuple(sorted({0, *outside, *(first + step for step in inside)})))


@dataclass(frozen=True)
class Alternate(Static):
    """Closed at every second step after a full one of ``gate``; open at the others."""

    gate: Static

    def schedule(self, steps: int) -> Schedule:
        full = self.gate.schedule(steps).full_steps
        since = {step: step - max(one for one in full if one <= step) for step in range(steps)}
        return Schedule(steps, tuple(step for step in range(steps) if since[step] == 0 or since[step] % 2))


@dataclass(frozen=True)
class Narrowing(Static):
    """Intervals that shrink as the run goes on, around ``n`` steps: ToCa's rule for DiT (arXiv 2410.05317, its code),
    which counts steps down to 0. Every second step in the third fifth of the run, counted from its end."""

    n: int

    def __post_init__(self) -> None:
        check_every(self.n, 1, 0)

    def schedule(self, steps: int) -> Schedule:
        left = steps - 1
        full = [0]
        while True:
            share = left / steps
            interval = 2 if 0.2 <= share < 0.4 else max(1, round(self.n / (1.4 - 0.8 * share)))
            left = (left - 1) // interval * interval
            if left < 0:
                return Schedule(steps, tuple(full))
            full.append(steps - 1 - left)


@dataclass(frozen=True)
class Broadcast(Gate):
    """Every ``n``-th step while ``window[0] < t < window[1]``, every step outside (PAB, arXiv 2408.12588)."""

    n: int
    window: tuple[float, float] = (0.1, 0.8)
    unit: Literal["time", "steps"] = "time"
    """What the window is in: the time t, or the share of the steps that are still to come."""

    def __post_init__(self) -> None:
        check_every(self.n, 1, 0)
        low, high = self.window
        if not 0 <= low < high <= 1:
            raise ValueError(f"window goes from a time to a later one, 0 (data) to 1 (noise); given {self.window}.")
        if self.unit not in ("time", "steps"):
            raise ValueError(f"A window is in time or in steps; given {self.unit!r}.")

    def bounds(self, steps: int) -> tuple[int, int]:
        return (-(-steps // self.n), steps)

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        if moment.step == 0:
            _warn_of_long_interval(self.n, moment.steps)
        now = moment.t if self.unit == "time" else 1 - moment.step / moment.steps
        return moment.step % self.n == 0 or not self.window[0] < now < self.window[1]


@dataclass(frozen=True)
class Magnitudes(Static):
    """MagCache (arXiv 2506.09045): full where the ratios of the norms of successive changes, multiplied up since the
    last full step, have strayed from 1 by more than ``error`` in sum, or after ``skips`` forecasts."""

    ratios: tuple[float, ...]
    error: float
    skips: int
    retention: float = 0.2
    """Share of first steps that are full in any case."""
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        if not self.ratios or any(not ratio > 0 for ratio in self.ratios):
            raise ValueError(f"Ratios of norms are positive, one for each step; given {self.ratios}.")
        if not self.error >= 0 or self.skips < 0 or not 0 <= self.retention <= 1:
            raise ValueError(
                f"error and skips are at least 0, retention is a share; given error={self.error}, skips={self.skips}, "
                f"retention={self.retention}."
            )

    def schedule(self, steps: int) -> Schedule:
        full, gain, strayed, count = [], 1.0, 0.0, 0
        for step, ratio in enumerate(resampled(self.ratios, steps)):
            skip = False
            if step >= int(self.retention * steps):
                gain, count = gain * ratio, count + 1
                strayed += abs(1 - gain)
                skip = step > 0 and strayed <= self.error and count <= self.skips
            if not skip:
                full.append(step)
                gain, strayed, count = 1.0, 0.0, 0
        return Schedule(steps, tuple(full))


def resampled(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """The nearest of ``values`` at ``count`` places from the first to the last."""
    if count == 1:
        return values[:1]
    scale = (len(values) - 1) / (count - 1)
    return tuple(values[round(index * scale)] for index in range(count))


def _warn_of_long_interval(n: int, steps: int) -> None:
    if n > steps:
        warnings.warn(
            f"Every {n}-th step is to be full, but the run has {steps}: after the first steps all is forecast. Choose "
            "a shorter interval, or sample with more steps.",
            stacklevel=3,
        )
