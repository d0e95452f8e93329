"""Which part of the work is this process's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One of several processes that do not talk to each other."""

    rank: int = 0
    of: int = 1
    local: int = 0
    """Its number on its machine, which is that of its GPU."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.of or self.local < 0:
            raise ValueError(f"There is no process {self.rank} of {self.of}, number {self.local} on its machine.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Share:
        """As ``torchrun`` and ``accelerate launch`` say; one process where they did not start this one.

        Raises:
            ValueError: variables that are no whole numbers, or do not fit together.
        """
        numbers = [environment.get(name, default) for name, default in _VARIABLES.items()]
        if not all(number.isdigit() for number in numbers):
            raise ValueError(
                f"{', '.join(_VARIABLES)} are whole numbers that a launcher sets, not {', '.join(numbers)}."
            )
        return cls(*map(int, numbers))

    def part(self, everything: Sequence[T]) -> list[T]:
        """What is this process's: the parts of all processes together are everything, and nothing is in two."""
        return list(everything[self.rank :: self.of])


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
