"""Flow matching (arXiv 2210.02747): learn the velocity of straight lines between data and noise."""

from __future__ import annotations

from torch import Tensor

from disca.flow.path import Velocity, point, velocity
from disca.objectives.loss import Loss, squared_error


def flow_matching(v: Velocity, x0: Tensor, noise: Tensor, t: Tensor) -> Loss:
    """``|v(x_t, t) - (noise - x0)|^2`` for ``x0``, ``noise`` ``[batch, ...]`` and ``t`` ``[batch]``."""
    return squared_error(v(point(x0, noise, t), t), velocity(x0, noise))
