"""Classifier-free guidance, and its distillation into one pass (first stage of arXiv 2602.05449)."""

from __future__ import annotations

import torch
from torch import Tensor

from disca.flow.path import Velocity, expand, point
from disca.objectives.loss import Loss, squared_error


def guided(conditional: Tensor, unconditional: Tensor, scale: Tensor | float) -> Tensor:
    """``scale conditional + (1 - scale) unconditional``, with one scale or one per sample ``[batch]``."""
    if isinstance(scale, Tensor):
        scale = expand(scale, conditional)
    return unconditional + scale * (conditional - unconditional)


def guidance_distillation(
    student: Velocity,
    conditional: Velocity,
    unconditional: Velocity,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    scale: Tensor | float,
) -> Loss:
    """One pass of the student against the teacher's guided two. ``student`` has the same ``scale`` bound to it."""
    x_t = point(x0, noise, t)
    with torch.no_grad():
        target = guided(conditional(x_t, t), unconditional(x_t, t), scale)
    return squared_error(student(x_t, t), target)
