"""The derivative of a mean velocity along the flow, ``du/dt = (d_x u) v + d_t u`` at fixed r."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from disca.flow.attention import in_chunks
from disca.flow.path import MeanVelocity, expand

Method = Literal["forward", "chunked", "central", "one_sided"]
METHODS: tuple[Method, ...] = get_args(Method)


def du_dt(
    u: MeanVelocity,
    x: Tensor,
    t: Tensor,
    r: Tensor,
    v: Tensor,
    *,
    method: Method = "forward",
    eps: float = 5e-3,
    here: Tensor | None = None,
) -> Tensor:
    """The derivative of ``u(x, t, r)`` along the direction ``(v, 1, 0)``, shaped like ``x`` ``[batch, ...]``.

    ``forward`` is exact, by forward-mode differentiation with the attention matrix held in memory; ``chunked`` is the
    same with attention in blocks of queries, for long sequences. ``central`` takes differences over ``eps`` in time on
    both sides, of second order; ``one_sided`` towards r, of first order, and only one evaluation where ``here``, the
    value ``u(x, t, r)``, is given. Differences run with any attention kernel and average over the fastest components
    of a time embedding, which at 0..1000 have a period near the default ``eps``. Below 1e-3 round-off prevails in
    bfloat16.

    Raises:
        ValueError: an unknown method, or an ``eps`` that is not positive.
    """
    if method not in METHODS:
        raise ValueError(f"du/dt is computed by {', '.join(METHODS)}, not {method!r}.")
    if method == "forward":  # fused attention has no forward-mode formula
        return _forward(u, x, t, r, v, sdpa_kernel(SDPBackend.MATH))
    if method == "chunked":
        return _forward(u, x, t, r, v, in_chunks())
    if not eps > 0:
        raise ValueError(f"Differences need a positive eps, not {eps}.")
    return _central(u, x, t, r, v, eps) if method == "central" else _one_sided(u, x, t, r, v, eps, here)


def _forward(
    u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor, attention: AbstractContextManager[None]
) -> Tensor:
    # Compiled blocks have no forward-mode formula either.
    with attention, torch.compiler.set_stance("force_eager"):
        derivative: Tensor = torch.func.jvp(lambda x, t: u(x, t, r), (x, t), (v.to(x.dtype), torch.ones_like(t)))[1]
    return derivative


def _central(u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor, eps: float) -> Tensor:
    """Both sides where ``r <= t - eps`` and ``t + eps <= 1``, one side at a border. Where neither side has room the
    lower one is taken: there ``t - r < eps`` multiplies whatever it is off by."""
    room_above, room_below = t + eps <= 1, t - eps >= r
    above = torch.where(room_above, eps, 0.0).to(t.dtype)
    below = torch.where(room_below | ~room_above, eps, 0.0).to(t.dtype)
    return _difference(u(*_moved(x, t, v, above), r), u(*_moved(x, t, v, -below), r), above + below, v)


def _one_sided(u: MeanVelocity, x: Tensor, t: Tensor, r: Tensor, v: Tensor, eps: float, here: Tensor | None) -> Tensor:
    """Towards r, or away from it where that has no room and the other side has."""
    down = (t - eps >= r) | (t + eps > 1)
    step = torch.where(down, -eps, eps).to(t.dtype)
    here = u(x, t, r) if here is None else here
    return _difference(u(*_moved(x, t, v, step), r), here, step, v)


def _moved(x: Tensor, t: Tensor, v: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    return x + expand(step, x) * v, t + step


def _difference(later: Tensor, earlier: Tensor, step: Tensor, like: Tensor) -> Tensor:
    return ((later.double() - earlier.double()) / expand(step, like)).to(like.dtype)
