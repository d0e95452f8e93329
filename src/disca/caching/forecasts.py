"""How to do without: what stands in for a site at a step that is not computed in full."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from disca.features import Call, Features, Moment

Memory = TypeVar("Memory")


class Forecast(ABC, Generic[Memory]):
    """Stands in for a site. A value: what it has seen, of one site in one branch of one run, is its memory."""

    @property
    def reads(self) -> frozenset[str]:
        """Signals that it reads of a call beside its inputs."""
        return frozenset()

    @property
    def history(self) -> int:
        """How many of the last full steps a prediction depends on."""
        return 2

    @property
    def settled(self) -> bool:
        """Whether predicting leaves the memory as it was, so that a forecast can be tried without consequence."""
        return True

    @abstractmethod
    def start(self) -> Memory:
        """The memory at the start of a run."""

    @abstractmethod
    def observe(self, memory: Memory, moment: Moment, call: Call, outputs: Features) -> None:
        """The site was computed in full."""

    @abstractmethod
    def predict(self, memory: Memory, moment: Moment, call: Call) -> Features:
        """What the site would give now. At least one full step was observed before."""

    def observe_part(self, memory: Memory, moment: Moment, part: str, call: Call, outputs: Features) -> None:
        """Something that runs only for the site was computed, ahead of it."""

    def predict_part(self, memory: Memory, moment: Moment, part: str, call: Call) -> Features:
        """What stands in for something that runs only for the site, at a step at which the site is forecast: nothing,
        no tokens at all."""
        nothing: Features = call.read("nothing")
        return nothing

    @abstractmethod
    def held(self, memory: Memory) -> tuple[Tensor, ...]:
        """The tensors that the memory keeps alive."""

    def check(self, host: nn.Module) -> None:
        """Raise ValueError when this forecast is not for that host."""

    def join(self, host: nn.Module) -> Callable[[], None]:
        """The forecast is attached to that host from here on; returns what undoes it."""
        return lambda: None


@dataclass
class Kept:
    """One set of features, or none yet."""

    features: Features = ()


class OneKept(Forecast[Kept]):
    """A forecast that remembers one set of features."""

    @property
    def history(self) -> int:
        return 1

    def start(self) -> Kept:
        return Kept()

    def held(self, memory: Kept) -> tuple[Tensor, ...]:
        return memory.features


@dataclass(frozen=True)
class Nothing(OneKept):
    """No forecast and no memory, for sites that are only measured."""

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        pass

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        raise ValueError("Nothing() forecasts nothing. Use it with Always(), or choose a forecast such as Reuse().")


@dataclass(frozen=True)
class Reuse(OneKept):
    """The outputs of the last full step."""

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        memory.features = detached(outputs)

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        return memory.features


@dataclass(frozen=True)
class RepeatChange(OneKept):
    """The inputs of now, changed as the site changed its inputs at the last full step."""

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        pairs = zip(outputs, call.inputs, strict=True)
        memory.features = tuple(after.detach() - before.detach() for after, before in pairs)

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        return tuple(now + change for now, change in zip(call.inputs, memory.features, strict=True))


@dataclass(frozen=True)
class Offset(OneKept):
    """The inputs of now plus the difference between outputs and inputs at the last full step, where the outputs may
    have fewer channels: those that come first (EasyCache, arXiv 2507.02860)."""

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        pairs = zip(outputs, call.inputs, strict=True)
        memory.features = tuple(after.detach() - _like(before.detach(), after) for after, before in pairs)

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        pairs = zip(call.inputs, memory.features, strict=True)
        return tuple((_like(now, offset) + offset).to(offset.dtype) for now, offset in pairs)


def detached(features: Features) -> Features:
    """The features outside of any graph of gradients."""
    return tuple(tensor.detach() for tensor in features)


def _like(inputs: Tensor, outputs: Tensor) -> Tensor:
    """The part of the inputs that has the shape of the outputs."""
    return inputs if inputs.shape == outputs.shape else inputs[tuple(slice(size) for size in outputs.shape)]
