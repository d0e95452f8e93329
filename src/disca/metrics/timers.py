"""Wall-clock time of work that may still run on an accelerator when Python has moved on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from types import TracebackType
from typing import Self

import torch


class Timer:
    """Seconds spent inside a ``with`` block; entering it again adds to them.

    Waits for the accelerator at both ends, so that only the block's own work counts.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> Self:
        synchronize()
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        synchronize()
        self.seconds += perf_counter() - self._started


def synchronize() -> None:
    """Wait until the CUDA device has done what it was given; nothing where there is none."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: torch.device, *, repeats: int = 5, warmup: int = 1) -> list[float]:
    """Seconds of each of ``repeats`` calls, after ``warmup`` calls that do not count; by events on a CUDA device, which
    does not wait between calls."""
    for _ in range(warmup):
        work()
    if device.type == "cuda":
        return _by_events(work, device, repeats)
    found = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        found.append(perf_counter() - start)
    return found


def _by_events(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    stream = torch.cuda.current_stream(device)
    marks[0].record(stream)
    for mark in marks[1:]:
        work()
        mark.record(stream)
    marks[-1].synchronize()
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(marks)]
