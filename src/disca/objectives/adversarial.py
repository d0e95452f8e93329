"""The predictor's adversarial terms (third stage of arXiv 2602.05449): hinge losses, and matching of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from disca.flow.path import expand

Form = Literal["clipped", "linear"]
DiscriminatorTime = Literal["own", "renoise", "random"]
TIMES: tuple[DiscriminatorTime, ...] = get_args(DiscriminatorTime)
SHORTEST = 1e-3
"""Interval below which a step hides what it was made with; the adversarial terms leave such samples out."""


def stepped(x: Tensor, velocity: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """What the discriminator judges: the latents ``[batch, ...]`` after the step from ``t`` to ``r`` ``[batch]``."""
    return x - expand(t - r, x) * velocity


def renoised(y: Tensor, noise: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """Latents at time ``r`` moved on to the noisier time ``s >= r``, both ``[batch]``, with fresh noise: distributed as
    the path is at ``s``."""
    keep = (1 - s) / (1 - r).clamp(min=1e-6)
    spread = (s.square() - (keep * r).square()).clamp(min=0).sqrt()
    return expand(keep, y) * y + expand(spread, y) * noise


def discriminator_hinge(real: Sequence[Tensor], fake: Sequence[Tensor], *, weight: Tensor | None = None) -> Tensor:
    """``relu(1 - D(real)) + relu(1 + D(fake))``, the mean over positions and then over heads. ``real`` and ``fake`` are
    logits ``[batch, positions]`` of each head; ``weight`` ``[batch]``."""
    return _mean([F.relu(1 - one) for one in real], weight) + _mean([F.relu(1 + one) for one in fake], weight)


def predictor_hinge(fake: Sequence[Tensor], *, form: Form = "clipped", weight: Tensor | None = None) -> Tensor:
    """``relu(1 - D(fake))``, which stops where a patch passes for real by a margin, or ``-D(fake)`` (``linear``)."""
    return _mean([F.relu(1 - one) if form == "clipped" else -one for one in fake], weight)


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of features ``[batch, ...]``, layer by layer, each in units of the real ones' size, so
    that channels with outliers do not drown the others' layers. The real ones take no gradient."""
    terms = []
    for one, other in zip(fake, real, strict=True):
        other = other.detach().float()
        terms.append((one.float() - other).abs().mean() / other.abs().mean().clamp(min=1e-6))
    return torch.stack(terms).mean()


def _mean(heads: Sequence[Tensor], weight: Tensor | None) -> Tensor:
    each = torch.stack([head.flatten(1).mean(1) for head in heads]).mean(0)
    if weight is None:
        return each.mean()
    return (weight * each).sum() / weight.sum().clamp(min=1e-6)
