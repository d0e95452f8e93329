"""The predictor's objective (third stage of arXiv 2602.05449): the velocity its features lead to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from disca.objectives.loss import Loss, interval_weight, precise, squared_error


def forecast_error(
    forecast: Tensor, full: Tensor, *, t: Tensor | None = None, r: Tensor | None = None, weight: Tensor | None = None
) -> Loss:
    """Velocities ``[batch, ...]`` of the same state, one from forecast features and one from the whole trunk.

    With ``t`` and ``r`` ``[batch]`` each error counts as the squared step that carries it into the latents;
    ``weight`` ``[batch]`` sets the weights by hand. The full velocity takes no gradient.
    """
    if t is not None and r is not None:
        scale = interval_weight(t, r)
        weight = scale if weight is None else weight * scale
    return squared_error(forecast, full.detach(), weight=weight)


def drift_error(forecasts: Sequence[Tensor], fulls: Sequence[Tensor], moves: Sequence[float]) -> Tensor:
    """What the errors of a rollout's velocities, ``[batch, ...]`` for each of its steps, come to: the mean per element
    of ``|sum of moves * errors|^2 / sum of moves``. Of one step it is ``move * error^2``. In float32 or better; the
    full velocities take no gradient."""
    steps = zip(forecasts, fulls, moves, strict=True)
    drift = torch.stack([move * (precise(forecast) - full.detach()) for forecast, full, move in steps]).sum(0)
    return drift.square().mean() / sum(moves)


def token_error(forecast: Sequence[Tensor], full: Sequence[Tensor]) -> Tensor:
    """Mean squared error of the trunk's tokens, streams ``[batch, tokens, width]``, each in units of its variance over
    tokens: a stronger gradient than the velocity's while the final layer still hides most of the error."""
    terms = []
    for one, other in zip(forecast, full, strict=True):
        other = other.detach().float()
        terms.append((one.float() - other).square().mean() / other.var().clamp(min=1e-12))
    return torch.stack(terms).mean()
