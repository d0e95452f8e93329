"""MeanFlow (arXiv 2505.13447) distilled from a teacher: learn the velocity averaged over an interval.

Restricted MeanFlow (arXiv 2602.05449) is this objective over :class:`disca.flow.Restricted` intervals.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from disca.flow.jvp import du_dt
from disca.flow.path import MeanVelocity, Velocity, expand, heun_velocity, point
from disca.objectives.loss import Loss, squared_error

Target = Literal["solver", "jvp", "difference"]
TARGETS: tuple[Target, ...] = ("solver", "jvp", "difference")


def mean_flow(
    student: MeanVelocity,
    teacher: Velocity,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    r: Tensor,
    *,
    target: Target = "solver",
    substeps: int = 1,
    eps: float = 5e-3,
) -> Loss:
    """``|u(x_t, t, r) - target|^2`` for ``x0``, ``noise`` ``[batch, ...]`` and ``t``, ``r`` ``[batch]``.

    ``target`` is as for :func:`mean_flow_target`; only the student's own evaluation carries a gradient.
    """
    x_t = point(x0, noise, t)
    wanted = mean_flow_target(teacher, student, x_t, t, r, target=target, substeps=substeps, eps=eps)
    return squared_error(student(x_t, t, r), wanted)


@torch.no_grad()
def mean_flow_target(
    teacher: Velocity,
    student: MeanVelocity,
    x_t: Tensor,
    t: Tensor,
    r: Tensor,
    *,
    target: Target = "solver",
    substeps: int = 1,
    eps: float = 5e-3,
) -> Tensor:
    """What the student's mean velocity is pulled to, shaped like ``x_t``; exactly the teacher's ``v`` where ``r = t``.

    ``solver`` integrates the teacher from t to r with ``substeps`` of Heun and does not look at the student;
    ``jvp`` and ``difference`` use the mean velocity identity with the student's own derivative, exact or by central
    differences over ``eps``.

    Raises:
        ValueError: an unknown target.
    """
    if target == "solver":
        return heun_velocity(teacher, x_t, t, r, substeps=substeps)
    if target not in TARGETS:
        raise ValueError(f"The mean-flow target is one of {', '.join(TARGETS)}, not {target!r}.")
    v = teacher(x_t, t)
    derivative = du_dt(student, x_t, t, r, v, method="forward" if target == "jvp" else "central", eps=eps)
    return v - expand(t - r, x_t) * derivative  # u = v - (t - r) du/dt, eq. 6 of arXiv 2505.13447
