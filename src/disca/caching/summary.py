"""What a run did: steps, evaluations, seconds and bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from disca.features import Moment


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps that one branch took."""

    full: tuple[int, ...] = ()
    forecast: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the last sampling run did."""

    branches: Mapping[str, Steps]
    """Full and forecast steps of each branch, by its name."""
    seconds_full: float
    """Seconds spent in calls of the transformer that were computed in full, all branches together."""
    seconds_forecast: float
    """Seconds spent in calls of the transformer in which something was forecast."""
    bytes_held: int
    """The most that was kept alive between steps."""

    @property
    def evaluations(self) -> dict[str, int]:
        """Full evaluations of the transformer by branch."""
        return {name: len(steps.full) for name, steps in self.branches.items()}

    @property
    def transformer_evaluations(self) -> int:
        """Full evaluations of the transformer, all branches together."""
        return sum(self.evaluations.values())

    @property
    def forecasts(self) -> int:
        """Calls of the transformer in which something was forecast, all branches together."""
        return sum(len(steps.forecast) for steps in self.branches.values())

    def __str__(self) -> str:
        if not self.branches:
            return "Nothing was sampled yet."
        return "\n".join(
            [
                f"{_count(self.transformer_evaluations, 'transformer evaluation')}, "
                f"{_count(self.forecasts, 'forecast')}",
                *(f"  {name}: {_listing(steps)}" for name, steps in self.branches.items()),
                f"full: {_seconds(self.seconds_full, self.transformer_evaluations)}",
                f"forecast: {_seconds(self.seconds_forecast, self.forecasts)}",
                f"held: {self.bytes_held / 1e6:.2f} MB at most",
            ]
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listing(steps: Steps) -> str:
    return f"full at {_numbers(steps.full)}; forecast at {_numbers(steps.forecast)}"


def _numbers(steps: tuple[int, ...]) -> str:
    return " ".join(map(str, steps)) or "none"


def _seconds(seconds: float, count: int) -> str:
    return f"{seconds:.3f} s" + (f" ({1000 * seconds / count:.2f} ms each)" if count else "")


Mark = float | torch.cuda.Event
"""An instant: seconds, or on CUDA an event in the stream, so that nothing waits."""


def mark_now(tensor: Tensor) -> Mark:
    """Now, on the device of a tensor."""
    return _event(tensor.device) if tensor.is_cuda else time.perf_counter()


def _event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(begin: Mark, end: Mark) -> float:
    """Seconds; on CUDA they are waited for here."""
    if isinstance(begin, float):
        assert isinstance(end, float)
        return end - begin
    assert not isinstance(end, float)
    end.synchronize()
    return begin.elapsed_time(end) / 1000


@dataclass
class Ledger:
    """Collects what a run does."""

    calls: list[tuple[Moment, bool, Mark, Mark]] = field(default_factory=list)
    """The steps that branches took: whether in full, from when until when."""
    bytes_held: int = 0

    def enter(self, moment: Moment, begin: Mark, *, full: bool) -> None:
        """The call is done: a branch took a step."""
        end = time.perf_counter() if isinstance(begin, float) else _event(begin.device)
        self.calls.append((moment, full, begin, end))

    def summary(self) -> Summary:
        """All of it, as a value."""
        names = sorted({moment.branch for moment, *_ in self.calls})
        steps = {name: Steps(full=self._steps(name, True), forecast=self._steps(name, False)) for name in names}
        return Summary(
            branches=steps,
            seconds_full=self._seconds(True),
            seconds_forecast=self._seconds(False),
            bytes_held=self.bytes_held,
        )

    def _steps(self, branch: str, kind: bool) -> tuple[int, ...]:
        return tuple(moment.step for moment, full, *_ in self.calls if (moment.branch, full) == (branch, kind))

    def _seconds(self, kind: bool) -> float:
        return sum((_between(begin, end) for _, full, begin, end in self.calls if full == kind), 0.0)
