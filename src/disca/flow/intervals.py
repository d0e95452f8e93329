"""Which times a model is trained at: densities of ``t``, and samplers of intervals ``(t, r)``.

All are frozen values, so that a recipe can print and store them; randomness comes from the generator they are given,
and tensors lie on that generator's device (the CPU without one), in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from disca.flow.path import check_steps, shift_time


class Density(Protocol):
    """How ``t`` is distributed in [0, 1]."""

    def draw(self, batch: int, generator: Generator | None = None) -> Tensor:
        """``batch`` times, ``[batch]``."""
        ...


@runtime_checkable
class Interval(Protocol):
    """How a step's ends are distributed, ``1 >= t >= r >= 0``."""

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """``(t, r)``, each ``[batch]``."""
        ...


@dataclass(frozen=True)
class Uniform:
    """``t ~ U(low, high)``, then shifted as a sampler's times are (1 leaves it)."""

    low: float = 0.0
    high: float = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"Times lie in 0 <= low < high <= 1, not low={self.low}, high={self.high}.")
        check_steps(1, self.shift)

    def draw(self, batch: int, generator: Generator | None = None) -> Tensor:
        return _shifted(self.low + (self.high - self.low) * _uniform(batch, generator), self.shift)


@dataclass(frozen=True)
class LogitNormal:
    """``logit(t) ~ N(mean, std^2)``, with a share drawn evenly from [0, 1] so that the ends are seen too."""

    mean: float = 0.0
    std: float = 1.0
    uniform: float = 0.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"The standard deviation of a logit-normal density must be positive, not {self.std}.")
        _check_share("uniform", self.uniform)

    def draw(self, batch: int, generator: Generator | None = None) -> Tensor:
        normal = torch.randn(batch, generator=generator, device=_device(generator))
        even = _uniform(batch, generator)
        return torch.where(
            _uniform(batch, generator) < self.uniform, even, torch.sigmoid(self.mean + self.std * normal)
        )


@dataclass(frozen=True)
class Instant:
    """``r = t``: the instantaneous velocity, which anchors a student to many-step use."""

    density: Density = field(default_factory=Uniform)

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        t = self.density.draw(batch, generator)
        return t, t


@dataclass(frozen=True)
class Ordered:
    """Two draws of a density, the later one as ``t``: the intervals of unrestricted MeanFlow (arXiv 2505.13447), which
    takes ``LogitNormal(-0.4, 1)``."""

    density: Density = field(default_factory=Uniform)

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        one, other = self.density.draw(batch, generator), self.density.draw(batch, generator)
        return torch.maximum(one, other), torch.minimum(one, other)


@dataclass(frozen=True)
class Restricted:
    """``t - r ~ U(0, limit)``, cut at ``r = 0``: the intervals of Restricted MeanFlow (arXiv 2602.05449)."""

    limit: float = 0.2
    density: Density = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        _check_limit("limit", self.limit)

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        t = self.density.draw(batch, generator)
        return t, (t - self.limit * _uniform(batch, generator)).clamp(min=0)


@dataclass(frozen=True)
class Terminal:
    """``t ~ U(0, limit)`` down to ``r = 0``: a sampler's last interval, its longest. A limit that fits a step count is
    :func:`disca.flow.path.max_interval`."""

    limit: float

    def __post_init__(self) -> None:
        _check_limit("limit", self.limit)

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        t = self.limit * _uniform(batch, generator)
        return t, torch.zeros_like(t)


@dataclass(frozen=True)
class Scheduled:
    """The intervals a sampler meets: a step count drawn from ``steps``, then one step of it, at its place in the
    schedule (``grid``) or anywhere between. Intervals longer than ``limit`` are cut to it."""

    steps: tuple[int, ...]
    shift: float = 1.0
    grid: bool = False
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("Scheduled intervals take at least one step count, such as steps=(4, 8).")
        for steps in self.steps:
            check_steps(steps, self.shift)
        _check_limit("limit", self.limit)

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        counts = torch.tensor(self.steps, dtype=torch.float32, device=_device(generator))
        which = torch.randint(len(self.steps), (batch,), generator=generator, device=counts.device)
        steps, place = counts[which], _uniform(batch, generator)
        left = torch.floor(place * steps).clamp(max=steps - 1) + 1 if self.grid else 1 + place * (steps - 1)
        t, r = _shifted(left / steps, self.shift), _shifted((left - 1) / steps, self.shift)
        return t, torch.maximum(r, t - self.limit)


@dataclass(frozen=True)
class Mixture:
    """Each sample from one of ``parts``, pairs of a weight and an interval sampler; weights count relative to
    their sum."""

    parts: tuple[tuple[float, Interval], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("A mixture takes at least one part, such as ((0.75, Restricted(0.2)), (0.25, Instant())).")
        for weight, part in self.parts:
            if not weight > 0 or not isinstance(part, Interval):
                raise ValueError(f"A part of a mixture is (positive weight, interval sampler), not ({weight}, {part}).")

    def sample(self, batch: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        weights = torch.tensor([weight for weight, _ in self.parts], device=_device(generator))
        which = torch.multinomial(weights, batch, replacement=True, generator=generator).unsqueeze(0)
        drawn = [part.sample(batch, generator) for _, part in self.parts]
        t, r = (torch.stack(ends).gather(0, which).squeeze(0) for ends in zip(*drawn, strict=True))
        return t, r


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _uniform(batch: int, generator: Generator | None) -> Tensor:
    return torch.rand(batch, generator=generator, device=_device(generator))


def _shifted(s: Tensor, shift: float) -> Tensor:
    return shift_time(s, shift).clamp(max=1)  # rounding may exceed noise by a bit


def _check_limit(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is a length of time and must lie in (0, 1], not {value}.")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share of the samples and must lie in [0, 1], not {value}.")
