"""Which step of a run a call of the transformer belongs to, and the times it goes between.

The tensor that a host receives as its timestep is a poor witness: pipelines cast it to the model's dtype, and in
bfloat16 neighbouring timesteps above 256 become one. So the clock reads the scheduler, at full precision, and looks
at the tensor only where there is nothing else to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from disca.features import Moment

_NO_INDEX = object()


class Clock(Protocol):
    """Tells the moment of a call."""

    run: object
    """As of the last moment: another object for each sampling run, where the clock can tell them apart."""

    def moment(self, timestep: Any) -> Moment:
        """The moment of a call (without a branch, which a clock cannot know), given the host's timestep argument."""
        ...


class _ByTimestep:
    """Moments that are known by the timesteps of their calls."""

    def __init__(self, timesteps: Sequence[float], moments: Sequence[Moment]) -> None:
        self._timesteps, self._moments = timesteps, moments
        self._found: dict[torch.dtype, dict[float, Moment]] = {}

    def moment(self, timestep: Any) -> Moment:
        """That of the host's timestep argument, compared in the dtype in which the host receives it."""
        given = timestep if isinstance(timestep, Tensor) else torch.as_tensor(timestep)
        value, dtype = given.tolist() if given.ndim < 2 else given.max().item(), given.dtype
        if isinstance(value, list):  # one value per sample, or per token: clean tokens are at 0
            value = max(value)
        found = self._found.get(dtype)
        if found is None:
            found = self._found[dtype] = self._exact(dtype)
        return found.get(value) or self._near(value, dtype)

    def _exact(self, dtype: torch.dtype) -> dict[float, Moment]:
        """By their exact values, where no two are one in that dtype."""
        rounded = self._rounded(dtype)
        return dict(zip(rounded, self._moments, strict=True)) if len(set(rounded)) == len(rounded) else {}

    def _near(self, value: float, dtype: torch.dtype) -> Moment:
        near = [step for step, one in enumerate(self._rounded(dtype)) if abs(value - one) <= 1e-6 * max(1.0, abs(one))]
        if len(near) == 1:
            return self._moments[near[0]]
        if near:
            raise ValueError(
                f"Timestep {value:g} is that of steps {near}, which are one in {dtype}. Call the transformer with its "
                "timestep in float32."
            )
        listed = ", ".join(f"{v:g}" for v in self._timesteps)
        raise ValueError(f"Timestep {value:g} is none of the timesteps of this run: {listed}.")

    def _rounded(self, dtype: torch.dtype) -> list[float]:
        exact = torch.tensor(self._timesteps, dtype=torch.float64)
        return (exact.to(dtype) if dtype.is_floating_point else exact).tolist()


class SchedulerClock:
    """The clock of a pipeline: step, t and r as its scheduler has them.

    ``scheduler`` hands out the scheduler of the moment, since pipelines may be given another one; ``check`` sees it as
    a run begins, and may refuse it. ``ascends`` is for hosts that count from noise upward (``Adapter.time_ascends``),
    whose schedulers do so too.
    """

    def __init__(
        self, scheduler: Callable[[], Any], *, ascends: bool = False, check: Callable[[Any], None] | None = None
    ) -> None:
        self._scheduler = scheduler
        self._ascends = ascends
        self._check = check
        self.run: object = None  # schedulers make their timesteps anew for each run
        self._moments: list[Moment] = []
        self._by_timestep: _ByTimestep | None = None

    def moment(self, timestep: Any = None) -> Moment:
        scheduler = self._scheduler()
        if scheduler.timesteps is not self.run:
            if self._check is not None:
                self._check(scheduler)
            times = _scheduler_times(scheduler, self._ascends)
            self.run, self._moments = scheduler.timesteps, _moments(times)
            self._by_timestep = None
        step = self._step(scheduler, timestep)
        if step >= len(self._moments):
            raise ValueError(
                f"The scheduler has {len(self._moments)} steps and all of them are taken. Call its set_timesteps() "
                "before sampling again."
            )
        return self._moments[step]

    def _step(self, scheduler: Any, timestep: Any) -> int:
        index: Any = getattr(scheduler, "step_index", _NO_INDEX)
        if index is _NO_INDEX:
            if self._by_timestep is None:
                values = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).tolist()
                self._by_timestep = _ByTimestep(values, self._moments)
            return self._by_timestep.moment(timestep).step
        if index is not None:
            return int(index)
        return int(getattr(scheduler, "begin_index", None) or 0)  # no step() yet: the run is at its beginning


class TimestepClock(_ByTimestep):
    """The clock of a bare transformer: its timesteps, N values in the host's own units, from noise to data.

    ``r`` of a step is the next value, and time 0 at the last. A call is matched to its step by its timestep. ``scale``
    and ``ascends`` are the units (``Adapter.time_scale`` and ``time_ascends``).

    Raises:
        ValueError: no timesteps, or timesteps that do not go from noise to data; a call at none of them, or at a
            timestep that is two of them in the dtype of the call.
    """

    def __init__(self, timesteps: Sequence[float] | Tensor, *, scale: float = 1000.0, ascends: bool = False) -> None:
        values = torch.as_tensor(timesteps, dtype=torch.float64).flatten().tolist()
        _check_timesteps(values, scale, ascends)
        times = [value / scale for value in values]
        super().__init__(values, _moments([*([1 - time for time in times] if ascends else times), 0.0]))
        self.run: object = None  # a bare transformer does not say where a run begins; a step that goes back does


def clock_for(
    target: Any, timesteps: Sequence[float] | Tensor | None = None, *, scale: float = 1000.0, ascends: bool = False
) -> Clock:
    """The clock of a pipeline, or of a bare transformer with its timesteps in its units.

    Raises:
        ValueError: a transformer without timesteps, or a pipeline with them.
    """
    piped = hasattr(target, "scheduler") and hasattr(target, "transformer")
    if piped and timesteps is None:
        return SchedulerClock(lambda: target.scheduler, ascends=ascends)
    if piped:
        raise ValueError("A pipeline's scheduler gives the timesteps. Leave timesteps=None, or give its transformer.")
    if timesteps is None:
        raise ValueError(
            f"{type(target).__name__} is no pipeline with a transformer and a scheduler, so timesteps are needed: "
            f"the N values it will be called with, in its own units ({0 if ascends else scale:g} is noise), without "
            f"the final {scale if ascends else 0:g}."
        )
    return TimestepClock(timesteps, scale=scale, ascends=ascends)


def _moments(times: Sequence[float]) -> list[Moment]:
    return [Moment(step=step, steps=len(times) - 1, t=t, r=r) for step, (t, r) in enumerate(pairwise(times))]


def _scheduler_times(scheduler: Any, ascends: bool) -> list[float]:
    """N + 1 times, in [0, 1]. The noise levels of a flow are its times; other schedulers only have timesteps."""
    sigmas = torch.as_tensor(getattr(scheduler, "sigmas", ()), dtype=torch.float64).tolist()
    if len(sigmas) == len(scheduler.timesteps) + 1 and max(sigmas) <= 1:
        return [1 - sigma for sigma in sigmas] if ascends else sigmas
    timesteps = torch.as_tensor(scheduler.timesteps, dtype=torch.float64).tolist()
    times = [value / scheduler.config.num_train_timesteps for value in timesteps]
    return [*([1 - time for time in times] if ascends else times), 0.0]


def _check_timesteps(values: Sequence[float], scale: float, ascends: bool) -> None:
    onward = all(a < b if ascends else a > b for a, b in pairwise(values))
    if not values or not onward or not all(0 <= value <= scale for value in values):
        way = f"increase from at least 0 (noise) to at most {scale:g}"
        if not ascends:
            way = f"decrease from at most {scale:g} (noise) to at least 0"
        raise ValueError(
            f"timesteps must be one or more values that {way}, in the units of the transformer; given {values}."
        )
