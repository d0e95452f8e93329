"""The derivative of a mean velocity along the flow, ``du/dt = (d_x u) v + d_t u`` at fixed r."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from disca.flow.path import MeanVelocity, expand

Method = Literal["forward", "central"]


def du_dt(
    u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor, *, method: Method = "forward", eps: float = 5e-3
) -> Tensor:
    """The derivative of ``u(x, t, r)`` along the direction ``(v, 1, 0)``, shaped like ``x`` ``[batch, ...]``.

    ``forward`` is exact, by forward-mode differentiation; ``central`` takes differences over ``eps`` in time, runs with
    any attention kernel and averages over the fastest components of a time embedding, which at 0..1000 have a period
    near the default ``eps``. Below 1e-3 round-off prevails in bfloat16.

    Raises:
        ValueError: an unknown method, or an ``eps`` that is not positive.
    """
    if method == "forward":
        return _forward(u, x, t, r, v)
    if method == "central":
        return _central(u, x, t, r, v, eps)
    raise ValueError(f"du/dt is computed by 'forward' or 'central', not {method!r}.")


def _forward(u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward-mode formula
        derivative: Tensor = torch.func.jvp(lambda x, t: u(x, t, r), (x, t), (v.to(x.dtype), torch.ones_like(t)))[1]
    return derivative


def _central(u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor, eps: float) -> Tensor:
    """Both sides where ``r <= t - eps`` and ``t + eps <= 1``, one side at a border. Where neither side has room the
    lower one is taken: there ``t - r < eps`` multiplies whatever it is off by."""
    if not eps > 0:
        raise ValueError(f"Differences need a positive eps, not {eps}.")
    room_above, room_below = t + eps <= 1, t - eps >= r
    above = torch.where(room_above, eps, 0.0).to(t.dtype)
    below = torch.where(room_below | ~room_above, eps, 0.0).to(t.dtype)
    later = u(x + expand(above, x) * v, t + above, r).double()
    earlier = u(x - expand(below, x) * v, t - below, r).double()
    return ((later - earlier) / expand(above + below, x)).to(v.dtype)
