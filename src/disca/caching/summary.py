"""What a run did: steps, evaluations, seconds and bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

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
"""When a call began."""


def mark_now(device: torch.device) -> Mark:
    """Now, on a device."""
    return time.perf_counter() if device.type != "cuda" else _event(device)


class Stopwatch:
    """Adds up seconds without waiting: on CUDA it leaves events in the stream, and reads them when asked."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def stop(self, mark: Mark) -> None:
        """Add what passed since the mark."""
        if isinstance(mark, float):
            self._seconds += time.perf_counter() - mark
        else:
            self._events.append((mark, _event(mark.device)))

    @property
    def seconds(self) -> float:
        for _, end in self._events:
            end.synchronize()
        return self._seconds + sum(start.elapsed_time(end) for start, end in self._events) / 1000


def _event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


@dataclass
class Ledger:
    """Collects what a run does."""

    full: dict[str, list[int]] = field(default_factory=dict)
    forecast: dict[str, list[int]] = field(default_factory=dict)
    watches: dict[bool, Stopwatch] = field(default_factory=lambda: {True: Stopwatch(), False: Stopwatch()})
    bytes_held: int = 0

    def enter(self, moment: Moment, mark: Mark, *, full: bool) -> None:
        """The call is done: a branch took a step."""
        self.watches[full].stop(mark)
        steps = (self.full if full else self.forecast).setdefault(moment.branch, [])
        steps.append(moment.step)

    def summary(self) -> Summary:
        """All of it, as a value."""
        names = sorted({*self.full, *self.forecast})
        steps = {
            name: Steps(full=tuple(self.full.get(name, ())), forecast=tuple(self.forecast.get(name, ())))
            for name in names
        }
        return Summary(
            branches=steps,
            seconds_full=self.watches[True].seconds,
            seconds_forecast=self.watches[False].seconds,
            bytes_held=self.bytes_held,
        )
