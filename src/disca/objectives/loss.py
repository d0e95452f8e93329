"""What every objective returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A loss to differentiate, and what it was made of."""

    value: Tensor
    """The scalar to call ``backward`` on."""
    per_sample: Tensor
    """Unweighted mean squared error of each sample, ``[batch]``, detached: to be logged by interval."""
    by: Mapping[str, Tensor] = field(default_factory=dict)
    """Lengths of time, ``[batch]``, by which the errors are told apart in a log: ``interval``, ``gap``."""
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    """More scalars to log, detached."""


def squared_error(prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Loss:
    """Mean squared error per element in float32 or better, ``weight`` ``[batch]`` multiplying each sample's share.

    Raises:
        ValueError: shapes that differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"The prediction is {tuple(prediction.shape)} but its target is {tuple(target.shape)}.")
    error = (precise(prediction) - target).square().flatten(1).mean(1)
    value = error if weight is None else weight * error
    return Loss(value=value.mean(), per_sample=error.detach())


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float32 or better."""
    return tensor if tensor.dtype.itemsize > 2 else tensor.float()


def adaptive_weight(error: Tensor, *, power: float, floor: float = 1e-3) -> Tensor:
    """``1 / (error + floor)^power`` of each sample's mean squared error ``[batch]``, detached: sec. 4.3 of arXiv
    2505.13447, per element. 0 is the plain squared error; at 1 every sample pulls alike, and the loss is nearly
    constant, so the error itself is what to watch.

    Raises:
        ValueError: a negative power, or a floor that is not positive.
    """
    if power < 0 or floor <= 0:
        raise ValueError(f"An adaptive weight takes a power of at least 0 and a positive floor, not {power}, {floor}.")
    return (error.detach() + floor) ** -power


def relative_error(prediction: Tensor, target: Tensor) -> Tensor:
    """``|prediction - target| / |target|`` of each sample, ``[batch]``, detached."""
    prediction, target = prediction.detach().flatten(1), target.detach().flatten(1)
    return ((prediction - target).square().sum(1) / target.square().sum(1)).sqrt()


def interval_weight(t: Tensor, r: Tensor) -> Tensor:
    """Weights ``(t - r)^2`` ``[batch]``, of mean 1: the error of a velocity counts as much as a step carries of it."""
    squared = (t - r).square()
    return squared / squared.mean().clamp(min=torch.finfo(squared.dtype).tiny)
