"""How: polynomials through past full steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import factorial, prod
from typing import Literal

import torch
from torch import Tensor

from disca.caching.forecasts import Forecast, detached
from disca.errors import check_choice
from disca.features import Call, Features, Moment


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
    ``variable`` is what the polynomial is in: the index of the step, as published, or the time t. ``begin`` is the
    first step at which differences are taken; TaylorSeer ignores those between its first full steps but the last two.
    Sums are made in float32 at least, and kept in the dtype of the features.
    """

    order: int = 1
    form: Literal["published", "newton"] = "published"
    variable: Literal["step", "time"] = "step"
    begin: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.order, bool) or not isinstance(self.order, int) or self.order < 0:
            raise ValueError(f"order must be 0 (reuse), 1 (a line) or more; given {self.order}.")
        check_choice("form", self.form, ("published", "newton"))
        check_choice("variable", self.variable, ("step", "time"))

    @property
    def history(self) -> int:
        return self.order + 1

    def start(self) -> Terms:
        return Terms()

    def observe(self, memory: Terms, moment: Moment, call: Call, outputs: Features) -> None:
        at, outputs = self._position(moment), detached(outputs)
        if memory.at and memory.at[0] == at:  # the same step again: it replaces what was seen there
            memory.features[0] = outputs
        elif self.form == "published":
            below = memory.features[: self.order] if moment.step >= self.begin else []
            memory.features = self._terms(outputs, below, at - memory.at[0] if memory.at else 1, moment)
            memory.at = [at]
        else:
            memory.features = [outputs, *memory.features[: self.order]]
            memory.at = [at, *memory.at[: self.order]]

    def predict(self, memory: Terms, moment: Moment, call: Call) -> Features:
        at = self._position(moment)
        if self.form == "published":
            return weighted_sum(self.weights(at - memory.at[0], len(memory.features)), memory.features)
        return weighted_sum(_lagrange(at, memory.at), memory.features)

    def held(self, memory: Terms) -> tuple[Tensor, ...]:
        return tuple(tensor for features in memory.features for tensor in features)

    def weights(self, k: float, count: int) -> list[float]:
        """Weights of the first ``count`` terms at ``k`` past the last full step."""
        return [k**i / factorial(i) for i in range(count)]

    def _terms(self, outputs: Features, below: Sequence[Features], gap: float, moment: Moment) -> list[Features]:
        return differences(outputs, below, gap)

    def _position(self, moment: Moment) -> float:
        return moment.step if self.variable == "step" else moment.t


@dataclass(frozen=True)
class Hermite(Taylor):
    """Hermite polynomials in place of powers: ``sigma^i H_i(sigma k) / i!`` (HiCache, arXiv 2508.16984). They oscillate
    less; ``sigma = 1 / sqrt(2)`` gives the first order of :class:`Taylor`."""

    order: int = 2
    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma contracts the polynomials and is in (0, 1]; given {self.sigma}.")

    def weights(self, k: float, count: int) -> list[float]:
        x = self.sigma * k
        values = [1.0, 2 * x]
        for n in range(1, count):
            values.append(2 * x * values[n] - 2 * n * values[n - 1])  # physicists' recursion
        return [self.sigma**i * values[i] / factorial(i) for i in range(count)]


@dataclass(frozen=True)
class Bands(Hermite):
    """The low spatial frequencies of the video tokens as they were, a Hermite polynomial through the high ones (FreqCa,
    arXiv 2510.08669).

    The bands are those of a cosine transform over frames, rows and columns of tokens, split at ``cut`` times the
    largest radius; where the host does not say how its tokens lie, of a Fourier transform along all of them. Text
    tokens are used again. Splitting is linear, so only the differences are filtered, once at each full step.
    """

    sigma: float = 0.71
    cut: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.cut <= 1:
            raise ValueError(f"cut is a share of the largest frequency, from 0 to 1; given {self.cut}.")

    def _terms(self, outputs: Features, below: Sequence[Features], gap: float, moment: Moment) -> list[Features]:
        video = (outputs[0],)
        first, *others = differences(video, [(term[0],) for term in below], gap)
        others = others[:1] and [(high_band(others[0][0], moment.grid, self.cut),)]
        if others and len(below) > 1:
            others += differences(others[0], [(term[0],) for term in below[1:]], gap)[1:]
        return [(*first, *outputs[1:]), *others]

    def predict(self, memory: Terms, moment: Moment, call: Call) -> Features:
        video = Terms(memory.at, [(term[0],) for term in memory.features])
        return (*super().predict(video, moment, call), *memory.features[0][1:])


@dataclass
class Related(Terms):
    """Terms of the outputs, and how outputs and inputs changed together."""

    inputs: Features = ()
    ratios: tuple[Tensor, ...] = ()
    """Change of the outputs over change of the inputs between the last two full steps, ``[batch]`` for each stream."""


@dataclass(frozen=True)
class Relational(Taylor):
    """The direction in which a polynomial goes, as far as the change of the inputs says (relational feature estimation,
    arXiv 2602.19506): outputs change by so much per change of the inputs as between the last two full steps."""

    @property
    def history(self) -> int:
        return max(2, self.order + 1)

    def start(self) -> Related:
        return Related()

    def observe(self, memory: Terms, moment: Moment, call: Call, outputs: Features) -> None:
        assert isinstance(memory, Related)
        inputs = call.inputs[: len(outputs)]
        if memory.features and memory.at[0] != self._position(moment):
            moved = zip(outputs, memory.features[0], inputs, memory.inputs, strict=True)
            memory.ratios = tuple(_length(o - p) / _length(i - j).clamp_min(_TINY) for o, p, i, j in moved)
        super().observe(memory, moment, call, outputs)
        memory.inputs = detached(inputs)

    def predict(self, memory: Terms, moment: Moment, call: Call) -> Features:
        assert isinstance(memory, Related)
        guess, last = super().predict(memory, moment, call), memory.features[0]
        if not memory.ratios:
            return last
        streams = zip(guess, last, call.inputs, memory.inputs, memory.ratios, strict=False)
        return tuple(_rescaled(one, base, now - then, ratio) for one, base, now, then, ratio in streams)

    def held(self, memory: Terms) -> tuple[Tensor, ...]:
        assert isinstance(memory, Related)
        return (*super().held(memory), *memory.inputs, *memory.ratios)


_TINY = torch.finfo(torch.float32).tiny


def _length(change: Tensor) -> Tensor:
    """Norm of each sample."""
    return _wide(change).flatten(1).norm(dim=1)


def _rescaled(guess: Tensor, base: Tensor, moved: Tensor, ratio: Tensor) -> Tensor:
    """``base`` changed towards ``guess``, by ``ratio`` times the length of ``moved``."""
    step = _wide(guess) - _wide(base)
    scale = ratio * _length(moved) / _length(step).clamp_min(_TINY)
    return (_wide(base) + step * scale.view(-1, *(1,) * (step.dim() - 1))).to(base.dtype)


def high_band(tokens: Tensor, grid: tuple[int, int, int] | None, cut: float) -> Tensor:
    """The high spatial frequencies of tokens ``[batch, tokens, width]``; see :class:`Bands`."""
    if grid is None or prod(grid) != tokens.shape[1]:
        spectrum = torch.fft.rfft(_wide(tokens), dim=1)
        radius = torch.arange(spectrum.shape[1], device=tokens.device) / max(spectrum.shape[1] - 1, 1)
        kept = spectrum * (radius > cut)[:, None]
        return torch.fft.irfft(kept, n=tokens.shape[1], dim=1).to(tokens.dtype)
    volume = _wide(tokens).unflatten(1, grid)
    bases = [_cosines(size, volume) for size in grid]
    spectrum = torch.einsum("bfhwd,if,jh,kw->bijkd", volume, *bases)
    sides = torch.meshgrid(*(torch.arange(size, device=tokens.device) for size in grid), indexing="ij")
    radius = torch.stack(sides).float().norm(dim=0)
    spectrum = spectrum * (radius > cut * radius.max())[..., None]
    return torch.einsum("bijkd,if,jh,kw->bfhwd", spectrum, *bases).flatten(1, 3).to(tokens.dtype)


def _cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal cosine transform, ``[frequency, place]``."""
    places = torch.arange(size, device=like.device, dtype=like.dtype)
    basis = torch.cos(torch.pi / size * (places + 0.5) * places[:, None]) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis


def differences(outputs: Features, below: Sequence[Features], gap: float | Tensor) -> list[Features]:
    """The stack of differences after a full step: D0 = F, D(i+1) = (D(i) - old D(i)) / gap. The gap may be
    ``[batch]``."""
    terms = [outputs]
    for old in below:
        pairs = zip(terms[-1], old, strict=True)
        terms.append(tuple(_rate(new, past, gap).to(new.dtype) for new, past in pairs))
    return terms


def _rate(new: Tensor, past: Tensor, gap: float | Tensor) -> Tensor:
    wide = _wide(new)
    change = wide - past if wide is new else wide.sub_(past)
    if isinstance(gap, Tensor):
        gap = gap.view(-1, *(1,) * (change.dim() - 1))
    elif gap == 1:
        return change
    return change.div_(gap)


def _lagrange(at: float, points: Sequence[float]) -> list[float]:
    """Weights with which the values at ``points`` give the value at ``at`` of the polynomial through them."""
    return [prod((at - other) / (point - other) for other in points if other != point) for point in points]


def weighted_sum(weights: Sequence[float], terms: Sequence[Features]) -> Features:
    """Weighted sum of features; a single term of weight 1 is handed on as it is."""
    if len(terms) == 1 and weights[0] == 1:
        return terms[0]
    return tuple(_sum_tensors(weights, tensors) for tensors in zip(*terms, strict=True))


def _sum_tensors(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    first, *others = tensors
    if weights[0] == 1 and len(others) == 1 and (first.is_cuda or first is _wide(first)):
        return torch.add(first, others[0], alpha=weights[1])  # one pass, in float32 at least; processors round twice
    wide = _wide(first)
    total = wide * weights[0] if wide is first else wide.mul_(weights[0])
    for weight, tensor in zip(weights[1:], others, strict=True):
        total = total.add_(tensor, alpha=weight)
    return total.to(first.dtype)


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: differences of half-precision numbers are mostly rounding."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
