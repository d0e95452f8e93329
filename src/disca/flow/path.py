"""The linear path from data to noise, the times of a sampler, and the two ways to walk along it.

Time runs from 1 (noise) to 0 (data). Per-sample times are ``[batch]`` tensors in float32 or better: they are not
rounded to the dtype of what they multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``v(x, t)``: the velocity dx/dt at ``x`` ``[batch, ...]`` and ``t`` ``[batch]``."""
MeanVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``u(x, t, r)``: the velocity averaged over the trajectory from ``t`` down to ``r``, both ``[batch]``."""

Time = TypeVar("Time", float, Tensor)


def expand(t: Tensor, like: Tensor) -> Tensor:
    """``t`` ``[batch]`` with as many trailing dimensions of size 1 as multiplying ``like`` ``[batch, ...]`` takes."""
    return t.reshape(-1, *(1,) * (like.ndim - 1))


def point(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """``x_t = (1 - t) x0 + t noise`` for ``t`` ``[batch]``; exactly the data at 0 and the noise at 1."""
    t = expand(t, x0)
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """The velocity of one pair's straight line, ``dx_t/dt = noise - x0``, the same at every t."""
    return noise - x0


def shift_time(s: Time, shift: float) -> Time:
    """``shift s / (1 + (shift - 1) s)``: moves evenly spaced times towards noise; 0 and 1 stay (arXiv 2403.03206)."""
    return shift * s / (1 + (shift - 1) * s)


def sigmas(steps: int, shift: float = 1.0, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The ``steps + 1`` times of a sampler, from 1 to 0, as diffusers' FlowMatchEulerDiscreteScheduler sets them.

    Raises:
        ValueError: fewer than one step, or a shift that is not positive.
    """
    check_steps(steps, shift)
    return shift_time(torch.linspace(1, 0, steps + 1, dtype=dtype), shift).clamp(max=1)  # rounding may exceed noise


def max_interval(steps: int, shift: float = 1.0) -> float:
    """The longest interval ``t - r`` among :func:`sigmas`, always the last one for a shift of at least 1."""
    check_steps(steps, shift)
    return shift / (steps + shift - 1)


def check_steps(steps: int, shift: float) -> None:
    """Refuse step counts and shifts that describe no sampler."""
    if steps < 1:
        raise ValueError(f"A sampler takes at least one step, not {steps}.")
    if not shift > 0:
        raise ValueError(f"The shift of a schedule must be positive, not {shift}; 1 leaves times evenly spaced.")


def integrate(u: MeanVelocity, x: Tensor, times: Tensor | Sequence[float]) -> Tensor:
    """Walk ``x`` ``[batch, ...]`` along ``times``: exact when ``u`` is the mean velocity, Euler when it ignores r.

    Keep ``x`` in float32 or better: the many small steps add up in its dtype.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    batch = x.shape[0]
    for t, r in pairwise(torch.as_tensor(times, dtype=dtype, device=x.device)):
        x = x - (t - r) * u(x, t.expand(batch), r.expand(batch))
    return x


def heun(v: Velocity, x: Tensor, t: Tensor, r: Tensor, *, substeps: int = 1) -> Tensor:
    """Solve ``dx/dt = v`` from ``t`` to ``r``, both ``[batch]``, with Heun's second-order method: the point at r."""
    return x - expand(t - r, x) * heun_velocity(v, x, t, r, substeps=substeps)


def heun_velocity(v: Velocity, x: Tensor, t: Tensor, r: Tensor, *, substeps: int = 1) -> Tensor:
    """The mean velocity of :func:`heun` from ``t`` to ``r``: ``(x_t - x_r) / (t - r)`` without dividing by ``t - r``,
    and exactly ``v(x, t)`` where ``r = t``. Costs ``2 substeps`` evaluations of ``v``.

    Raises:
        ValueError: fewer than one sub-step.
    """
    if substeps < 1:
        raise ValueError(f"A solver takes at least one sub-step, not {substeps}.")
    length = expand(t - r, x) / substeps
    at_t = v(x, t)
    start, total = at_t, torch.zeros_like(at_t)
    for k in range(substeps):
        if k > 0:
            start = v(x, torch.lerp(t, r, k / substeps))
        end = v(x - length * start, torch.lerp(t, r, (k + 1) / substeps))
        slope = (start + end) / 2
        x, total = x - length * slope, total + slope
    return torch.where(length == 0, at_t, total / substeps)
