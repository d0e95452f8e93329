"""Wall-clock time of work that may still run on an accelerator when Python has moved on."""

from __future__ import annotations

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
