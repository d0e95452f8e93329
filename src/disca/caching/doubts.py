"""What can be known of a forecast before it is used: a number that is the larger, the less it is to be trusted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from disca.caching.forecasts import Forecast, Reuse
from disca.caching.polynomials import Taylor, Terms
from disca.caching.watchful import relative_change
from disca.features import Call, Features, Moment


class Doubt(ABC):
    """A value; what it has seen of the full steps is its memory. In a batch the worst sample counts."""

    @abstractmethod
    def start(self) -> Any:
        """The memory at the start of a run."""

    @abstractmethod
    def observe(self, memory: Any, moment: Moment, call: Call, outputs: Features) -> None:
        """The site was computed in full."""

    @abstractmethod
    def measure(self, memory: Any, moment: Moment, call: Call) -> float:
        """How much a forecast of now is to be doubted. At least one full step was observed before."""

    @abstractmethod
    def held(self, memory: Any) -> tuple[Tensor, ...]:
        """The tensors that the memory keeps alive."""


@dataclass(frozen=True)
class InputError(Doubt):
    """How far the input of now is from a polynomial through those of the last full steps, relatively: what relational
    cache scheduling sums up (arXiv 2602.19506)."""

    order: int = 1

    def start(self) -> Terms:
        return Terms()

    def observe(self, memory: Terms, moment: Moment, call: Call, outputs: Features) -> None:
        Taylor(self.order).observe(memory, moment, call, call.inputs[:1])

    def measure(self, memory: Terms, moment: Moment, call: Call) -> float:
        (guess,) = Taylor(self.order).predict(memory, moment, call)
        return relative_change(guess, call.inputs[0], call.ranks)

    def held(self, memory: Terms) -> tuple[Tensor, ...]:
        return Taylor(self.order).held(memory)


@dataclass(frozen=True)
class Disagreement(Doubt):
    """How far two forecasts of the site are from each other, relatively."""

    one: Forecast[Any] = field(default_factory=Taylor)
    other: Forecast[Any] = field(default_factory=Reuse)

    def start(self) -> tuple[Any, Any]:
        return (self.one.start(), self.other.start())

    def observe(self, memory: tuple[Any, Any], moment: Moment, call: Call, outputs: Features) -> None:
        for forecast, own in zip((self.one, self.other), memory, strict=True):
            forecast.observe(own, moment, call, outputs)

    def measure(self, memory: tuple[Any, Any], moment: Moment, call: Call) -> float:
        one, other = (how.predict(own, moment, call) for how, own in zip((self.one, self.other), memory, strict=True))
        return relative_change(one[0], other[0], call.ranks)

    def held(self, memory: tuple[Any, Any]) -> tuple[Tensor, ...]:
        return (*self.one.held(memory[0]), *self.other.held(memory[1]))


DOUBTS: dict[str, Doubt] = {"input": InputError(), "disagreement": Disagreement()}
"""Those that can be calibrated, by name."""
