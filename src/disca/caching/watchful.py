"""Gates that read a signal while the run goes on. In a batch the worst sample decides."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from disca.caching.gates import Gate, MadeFor
from disca.caching.polynomials import Taylor, Terms
from disca.errors import check_choice
from disca.features import Call, Features, Moment


@dataclass
class Watched:
    """What a watchful gate remembers."""

    total: float = 0.0
    """What has accumulated since the last full step."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    rate: float | None = None
    warned: bool = False


class Watchful(Gate):
    """A gate that opens where a signal, perhaps summed up since the last full step, has reached a threshold."""

    def start(self) -> Watched:
        return Watched()

    def held(self, memory: Watched) -> tuple[Tensor, ...]:
        return tuple(memory.tensors.values())

    @abstractmethod
    def measure(self, memory: Watched, moment: Moment, call: Call) -> float | None:
        """The signal of now, or None where it cannot be compared with anything yet."""


class Accumulating(Watchful):
    """Full where the sum of the signal since the last full step reaches ``threshold``."""

    threshold: float
    warmup: int
    force_last: bool

    def bounds(self, steps: int) -> tuple[int, int]:
        forced = {step for step in range(steps) if step < max(self.warmup, 1)}
        return (len(forced | ({steps - 1} if self.force_last else set())), steps)

    def opens(self, memory: Watched, moment: Moment, call: Call) -> bool:
        signal = self.measure(memory, moment, call)
        memory.total += signal or 0.0
        forced = moment.step < self.warmup or (self.force_last and moment.step == moment.steps - 1)
        if not (forced or signal is None or not memory.total < self.threshold):
            return False
        memory.total = 0.0
        return True


@dataclass(frozen=True)
class Drift(Accumulating):
    """TeaCache (arXiv 2411.19108): the relative change of the modulated input from step to step, rescaled by a fitted
    polynomial."""

    threshold: float
    polynomial: tuple[float, ...] = (1.0, 0.0)
    """Coefficients, highest power first. What comes out below 0 counts as 0."""
    signal: Literal["modulated", "time_embedding", "time_projection"] = "modulated"
    warmup: int = 1
    force_last: bool = True
    range: tuple[float, float] | None = None
    """Relative changes between which the polynomial is to be trusted; outside of them there is a warning."""
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        check_choice("signal", self.signal, ("modulated", "time_embedding", "time_projection"))
        if not self.polynomial:
            raise ValueError("A polynomial needs at least one coefficient.")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({self.signal} - {"time_projection"})

    def measure(self, memory: Watched, moment: Moment, call: Call) -> float | None:
        now = _time_projection(call) if self.signal == "time_projection" else call.read(self.signal)
        before = memory.tensors.get("signal")
        memory.tensors["signal"] = now.detach()
        if before is None:
            return None
        ranks = call.ranks if self.signal == "modulated" else None
        change = relative_change(now, before, ranks)
        if self.range is not None and not memory.warned and not self.range[0] <= change <= self.range[1]:
            memory.warned = True
            warnings.warn(
                f"The signal changed by {change:.3g} in a step, but the polynomial is to be trusted from "
                f"{self.range[0]:.3g} to {self.range[1]:.3g}. Fit it to this model, shift and number of steps: disca "
                "calibrate teacache.",
                stacklevel=2,
            )
        return max(0.0, evaluate(self.polynomial, change))


@dataclass(frozen=True)
class ProbeChange(Watchful):
    """First-block cache: full where what the first blocks add to their input differs from what they added at the last
    full step by ``threshold`` or more, relatively."""

    threshold: float
    warmup: int = 1
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"entering"})

    def measure(self, memory: Watched, moment: Moment, call: Call) -> float | None:
        added = call.inputs[0] - call.read("entering")[0]
        memory.tensors["added"] = added.detach()
        reference = memory.tensors.get("reference")
        return None if reference is None else relative_change(added, reference, call.ranks)

    def opens(self, memory: Watched, moment: Moment, call: Call) -> bool:
        change = self.measure(memory, moment, call)
        added = memory.tensors.pop("added")
        if moment.step >= self.warmup and change is not None and change < self.threshold:
            return False
        memory.tensors["reference"] = added
        return True


@dataclass(frozen=True)
class InputChange(Accumulating):
    """EasyCache (arXiv 2507.02860): the change of the latents since the last step, times how much the output changed
    for a change of the latents between the last two full steps, relative to the output."""

    threshold: float
    warmup: int = 5
    force_last: bool = True
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)

    def measure(self, memory: Watched, moment: Moment, call: Call) -> float | None:
        (now,) = call.inputs
        before = memory.tensors.get("latents")
        memory.tensors["latents"] = now.detach().clone()  # the caller may change its own
        if before is None or memory.rate is None:
            return None
        change, size = _means(now - before), _means(memory.tensors["output"])
        return float((memory.rate * change / size).max())

    def observe(self, memory: Watched, moment: Moment, call: Call, outputs: Features) -> None:
        latents, output = memory.tensors.get("full"), memory.tensors.get("output")
        if latents is not None and output is not None:
            moved = _means(call.inputs[0] - latents).clamp_min(torch.finfo(torch.float32).tiny)
            memory.rate = float((_means(outputs[0] - output) / moved).max())
        memory.tensors |= {"full": memory.tensors["latents"], "output": outputs[0].detach().clone()}


@dataclass(frozen=True)
class InputForecastError(Accumulating):
    """Relational cache scheduling (arXiv 2602.19506): how far a polynomial through the input of the first layer at past
    full steps is from its input of now, summed up."""

    threshold: float
    order: int = 1
    warmup: int = 2
    force_last: bool = False
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)

    def start(self) -> _WithTerms:
        return _WithTerms()

    def held(self, memory: Any) -> tuple[Tensor, ...]:
        return Taylor(self.order).held(memory.terms)

    def measure(self, memory: Any, moment: Moment, call: Call) -> float | None:
        if not memory.terms.at:
            return None
        (guess,) = Taylor(self.order).predict(memory.terms, moment, call)
        return relative_change(guess, call.inputs[0], call.ranks)

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        full = super().opens(memory, moment, call)
        if full:
            Taylor(self.order).observe(memory.terms, moment, call, call.inputs[:1])
        return full


@dataclass
class _WithTerms(Watched):
    terms: Terms = field(default_factory=Terms)


@dataclass
class Checked:
    """What a gate remembers of its checks."""

    drafts: int = 0
    """Forecasts since the last full step."""
    error: Tensor | None = None
    """Of the last draft."""


@dataclass(frozen=True)
class Verified(Gate):
    """SpeCa (arXiv 2509.11628): forecasts are drafts, checked at the last block. A step is full after ``fewest`` drafts
    or more when the error of the last draft exceeded ``base * decay ** (step / steps)``, but at least ``floor``, and
    after ``most`` drafts in any case.

    ``error_form="elements"`` is the mean of the relative errors of single numbers, as in the authors' code; ``"norms"``
    the ratio of norms, as in the paper. ``verdict="next"``, as in the code, keeps the draft that was found wrong and
    computes the next step in full; ``"same"``, as in the paper, computes the same step again in full.
    """

    base: float
    decay: float = 0.1
    floor: float = 0.1
    fewest: int = 4
    most: int = 12
    warmup: int = 1
    error_form: Literal["elements", "norms"] = "elements"
    verdict: Literal["next", "same"] = "next"
    made_for: MadeFor | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.base)
        check_choice("error_form", self.error_form, ("elements", "norms"))
        check_choice("verdict", self.verdict, ("next", "same"))
        if not 0 < self.decay <= 1 or self.floor < 0 or not 1 <= self.fewest <= self.most:
            raise ValueError(
                "decay is in (0, 1], floor at least 0, and 1 <= fewest <= most; given "
                f"decay={self.decay}, floor={self.floor}, fewest={self.fewest}, most={self.most}."
            )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"last_block"} | ({"same_step"} if self.verdict == "same" else set()))

    def threshold(self, moment: Moment) -> float:
        """The largest error that is accepted at a step."""
        return max(self.base * self.decay ** (moment.step / moment.steps), self.floor)

    def bounds(self, steps: int) -> tuple[int, int]:
        interval = self.fewest if self.verdict == "same" else self.fewest + 1
        return (-(-steps // (self.most + 1)), min(steps, -(-steps // interval) + self.warmup - 1))

    def start(self) -> Checked:
        return Checked(drafts=-1)  # nothing was computed yet

    def opens(self, memory: Checked, moment: Moment, call: Call) -> bool:
        full = memory.drafts != 0 and self._is_due(memory, moment)
        memory.drafts, memory.error = (0 if full else memory.drafts + 1), None
        return full

    def _is_due(self, memory: Checked, moment: Moment) -> bool:
        if memory.drafts < 0 or moment.step < self.warmup or memory.drafts >= self.most:
            return True
        if memory.error is None or memory.drafts < self.fewest or self.verdict == "same":
            return False
        return float(memory.error) > self.threshold(moment)

    def wants_check(self, memory: Checked, moment: Moment) -> bool:
        return memory.drafts >= self.fewest and (self.verdict == "same" or memory.drafts < self.most)

    def check(self, memory: Checked, moment: Moment, drafted: Features, exact: Features, ranks: Any = None) -> bool:
        error = draft_error(drafted[0], exact[0], self.error_form)
        if ranks is not None:
            dist.all_reduce(error, dist.ReduceOp.MAX, group=ranks)
        memory.error = error if memory.error is None else torch.maximum(memory.error, error)
        if self.verdict == "next" or float(error) <= self.threshold(moment):
            return False
        memory.drafts, memory.error = 0, None
        return True


def draft_error(drafted: Tensor, exact: Tensor, kind: Literal["elements", "norms"]) -> Tensor:
    """Error of a draft, of the worst sample of the batch; see :class:`Verified`."""
    difference, exact = (drafted.float() - exact.float()).flatten(1), exact.float().flatten(1)
    if kind == "norms":
        return (difference.norm(dim=1) / (exact.norm(dim=1) + 1e-8)).max()
    return (difference.abs() / (exact.abs() + 1e-8)).mean(1).max()


def relative_change(now: Tensor, reference: Tensor, ranks: Any = None) -> float:
    """Mean of absolute differences over mean of absolute reference values, of the worst sample of the batch; over the
    tokens of all ``ranks``."""
    sums = torch.stack([_means(now - reference), _means(reference)])
    if ranks is not None:
        dist.all_reduce(sums, group=ranks)
    change, size = sums
    return float((change / size.clamp_min(torch.finfo(torch.float32).tiny)).max())


def _time_projection(call: Call) -> Tensor:
    """The modulation that Wan's blocks share."""
    projection = call.conditioning.get("temb")
    if not isinstance(projection, Tensor):
        raise ValueError("The host's blocks share no time projection. Choose signal='modulated' or 'time_embedding'.")
    return projection


def _means(tensor: Tensor) -> Tensor:
    """Mean of the absolute values of each sample."""
    return tensor.float().abs().flatten(1).mean(1)


def evaluate(coefficients: Sequence[float], x: float) -> float:
    """A polynomial, highest power first, at x."""
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def _check_threshold(threshold: float) -> None:
    if not threshold >= 0:
        raise ValueError(f"A threshold is 0 (every step is full) or more; given {threshold}.")
