"""How: a network's guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from disca import hooks
from disca.caching.forecasts import Forecast, detached
from disca.caching.polynomials import differences
from disca.caching.signals import into_last
from disca.features import Call, Features, History, Moment, Wants


@dataclass
class Past:
    """The last full step: what is kept of it, when it was, and how fast that had changed since the one before."""

    step: int = -1
    t: float | Tensor = 1.0
    features: Features = ()
    slope: Features = ()
    spacing: float | Tensor = 0.0


@dataclass(frozen=True)
class Learned(Forecast[Past]):
    """A network's guess from the inputs of now and the last full steps.

    ``predictor(current=, cached=, conditioning=)`` takes two sets of features and what the host's first block receives
    beside them, and gives features. Its attribute ``wants``, where it has one, says what else it is given, as
    ``history=``; see :class:`disca.features.Wants`. Its method ``matches(transformer)``, where it has one, raises
    ValueError for a host that it is not made for.
    """

    predictor: Callable[..., Features]

    @cached_property
    def wants(self) -> Wants:
        """What the network is given."""
        wants: Wants = getattr(self.predictor, "wants", Wants())
        return wants

    @property
    def history(self) -> int:
        return self.wants.history

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({into_last(self.wants.tail)} if self.wants.tail else ())

    def start(self) -> Past:
        return Past()

    def check(self, host: nn.Module) -> None:
        if hasattr(self.predictor, "matches"):
            self.predictor.matches(host)

    def join(self, host: nn.Module) -> Callable[[], None]:
        if not isinstance(self.predictor, nn.Module):
            return super().join(host)
        return hooks.share_attention(host, self.predictor)

    def time(self, moment: Moment) -> float | Tensor:
        """Where the step starts from; ``[batch]`` where samples differ."""
        return moment.t

    def observe(self, memory: Past, moment: Moment, call: Call, outputs: Features) -> None:
        wants, t = self.wants, self.time(moment)
        kept = detached(call.read(into_last(wants.tail)) if wants.tail else outputs)
        if wants.history > 1 and memory.features and memory.step != moment.step:
            memory.spacing = memory.t - t
            memory.slope = differences(kept, [memory.features], memory.spacing)[1]
        memory.step, memory.t, memory.features = moment.step, t, kept

    def predict(self, memory: Past, moment: Moment, call: Call) -> Features:
        given = {"current": call.inputs, "cached": memory.features, "conditioning": call.conditioning}
        if self.wants.times:
            t = self.time(moment)
            given["history"] = History(t, memory.t - t, memory.slope, memory.spacing)
        return self.predictor(**given)

    def held(self, memory: Past) -> tuple[Tensor, ...]:
        return (*memory.features, *memory.slope)
