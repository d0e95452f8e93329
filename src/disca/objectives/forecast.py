"""The predictor's objective (third stage of arXiv 2602.05449): the velocity its features lead to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from disca.objectives.loss import Loss, interval_weight, squared_error


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


def drift_error(errors: Sequence[Tensor], moves: Sequence[float]) -> Tensor:
    """Mean square per element of what errors of velocities, ``[batch, ...]`` each and of one rollout, come to: ``|sum
    of moves * errors|^2 / sum of moves``. The longest move is 1. Of one error it is ``move * error^2``."""
    sum_of = sum(move * error.float() for move, error in zip(moves, errors, strict=True))
    assert isinstance(sum_of, Tensor)
    return sum_of.square().mean() / sum(moves)


def token_error(forecast: Sequence[Tensor], full: Sequence[Tensor]) -> Tensor:
    """Mean squared error of the trunk's tokens, streams ``[batch, tokens, width]``, each in units of its variance over
    tokens: a stronger gradient than the velocity's while the final layer still hides most of the error."""
    terms = []
    for one, other in zip(forecast, full, strict=True):
        other = other.detach().float()
        terms.append((one.float() - other).square().mean() / other.var().clamp(min=1e-12))
    return torch.stack(terms).mean()
