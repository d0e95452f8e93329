"""How to do without: what stands in for a site at a step that is not computed in full."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import factorial, prod
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from disca import hooks
from disca.features import Call, Features, Moment

Memory = TypeVar("Memory")


class Forecast(ABC, Generic[Memory]):
    """Stands in for a site. A value: what it has seen, of one site in one branch of one run, is its memory."""

    @abstractmethod
    def start(self) -> Memory:
        """The memory at the start of a run."""

    @abstractmethod
    def observe(self, memory: Memory, moment: Moment, call: Call, outputs: Features) -> None:
        """The site was computed in full."""

    @abstractmethod
    def predict(self, memory: Memory, moment: Moment, call: Call) -> Features:
        """What the site would give now. At least one full step was observed before."""

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
        memory.features = _detached(outputs)

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


@dataclass
class Terms:
    """Sets of features at positions; what they are is the affair of the form (differences, or full values)."""

    at: list[float] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)


@dataclass(frozen=True)
class Taylor(Forecast[Terms]):
    """A polynomial of degree ``order`` through past full steps; with fewer full steps, of the degree they allow.

    ``form="published"`` is the recursion of TaylorSeer's code (arXiv 2503.06923): the i-th difference is the change
    of the one below since the last full step over the newest gap, and weighs k^i / i! at k past that step.
    ``form="newton"`` goes exactly through the last ``order + 1`` full values, however far apart they are.
    ``variable`` is what the polynomial is in: the index of the step, as published, or the time t.
    Sums are made in float32 at least, and kept in the dtype of the features.
    """

    order: int = 1
    form: Literal["published", "newton"] = "published"
    variable: Literal["step", "time"] = "step"

    def __post_init__(self) -> None:
        if self.order < 0:
            raise ValueError(f"order must be 0 (reuse), 1 (a line) or more; given {self.order}.")
        _check_choice("form", self.form, ("published", "newton"))
        _check_choice("variable", self.variable, ("step", "time"))

    def start(self) -> Terms:
        return Terms()

    def observe(self, memory: Terms, moment: Moment, call: Call, outputs: Features) -> None:
        at, outputs = self._position(moment), _detached(outputs)
        if memory.at and memory.at[0] == at:  # the same step again: it replaces what was seen there
            memory.features[0] = outputs
        elif self.form == "published":
            memory.features = _differences(
                outputs, memory.features[: self.order], at - memory.at[0] if memory.at else 1
            )
            memory.at = [at]
        else:
            memory.features = [outputs, *memory.features[: self.order]]
            memory.at = [at, *memory.at[: self.order]]

    def predict(self, memory: Terms, moment: Moment, call: Call) -> Features:
        at = self._position(moment)
        if self.form == "published":
            k = at - memory.at[0]
            return _sum([k**i / factorial(i) for i in range(len(memory.features))], memory.features)
        return _sum(_lagrange(at, memory.at), memory.features)

    def held(self, memory: Terms) -> tuple[Tensor, ...]:
        return tuple(tensor for features in memory.features for tensor in features)

    def _position(self, moment: Moment) -> float:
        return moment.step if self.variable == "step" else moment.t


@dataclass(frozen=True)
class Learned(OneKept):
    """A network's guess from the inputs of now and the outputs of the last full step.

    ``predictor(current=, cached=, conditioning=)`` takes two sets of features and what the host's first block receives
    beside them, and gives features. Its method ``matches(transformer)``, where it has one, raises ValueError for a host
    that it is not made for.
    """

    predictor: Callable[..., Features]

    def check(self, host: nn.Module) -> None:
        if hasattr(self.predictor, "matches"):
            self.predictor.matches(host)

    def join(self, host: nn.Module) -> Callable[[], None]:
        if not isinstance(self.predictor, nn.Module):
            return super().join(host)
        return hooks.share_attention(host, self.predictor)

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        memory.features = _detached(outputs)

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        conditioning: Mapping[str, Any] = call.conditioning
        return self.predictor(current=call.inputs, cached=memory.features, conditioning=conditioning)


def _detached(features: Features) -> Features:
    return tuple(tensor.detach() for tensor in features)


def _differences(outputs: Features, below: Sequence[Features], gap: float) -> list[Features]:
    """The stack of differences after a full step: D0 = F, D(i+1) = (D(i) - old D(i)) / gap."""
    terms = [outputs]
    for old in below:
        pairs = zip(terms[-1], old, strict=True)
        terms.append(tuple(((_wide(new) - _wide(past)) / gap).to(new.dtype) for new, past in pairs))
    return terms


def _lagrange(at: float, points: Sequence[float]) -> list[float]:
    """Weights with which the values at ``points`` give the value at ``at`` of the polynomial through them."""
    return [prod((at - other) / (point - other) for other in points if other != point) for point in points]


def _sum(weights: Sequence[float], terms: Sequence[Features]) -> Features:
    """Weighted sum of features; a single term of weight 1 is handed on as it is."""
    if len(terms) == 1:
        return terms[0]
    return tuple(_sum_tensors(weights, tensors) for tensors in zip(*terms, strict=True))


def _sum_tensors(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    total = _wide(tensors[0]) * weights[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total.add_(_wide(tensor), alpha=weight)
    return total.to(tensors[0].dtype)


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: differences of half-precision numbers are mostly rounding."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_choice(option: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}; given {given!r}.")
