"""MeanFlow (arXiv 2505.13447) distilled from a teacher: learn the velocity averaged over an interval.

Restricted MeanFlow (arXiv 2602.05449) is this objective over :class:`disca.flow.Restricted` intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from disca.flow.jvp import METHODS, Method, du_dt
from disca.flow.path import MeanVelocity, Velocity, expand, heun_velocity, point
from disca.objectives.loss import Loss, adaptive_weight, squared_error

Kind = Literal["solver", "difference", "jvp", "alpha"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the student's mean velocity is pulled to; exactly the teacher's ``v`` where ``r = t``.

    ``solver`` integrates the teacher from t to r with ``substeps`` of Heun and does not look at the student. ``jvp``
    and ``difference`` use the mean velocity identity with the student's own derivative, exact or by differences over
    ``eps``; ``method`` names the way, see :func:`disca.flow.du_dt`. ``alpha`` goes the share ``alpha`` of the interval
    with the teacher's velocity and the rest with the student (arXiv 2510.20771); towards 0 it becomes ``jvp``.
    """

    kind: Kind = "solver"
    substeps: int = 1
    method: Method | None = None
    """``forward`` for ``jvp`` and ``central`` for ``difference`` where left out."""
    eps: float = 5e-3
    alpha: float = 0.5
    warmth: float = 1.0
    """Share of the derivative that counts, in [0, 1]; raised from 0 at the beginning of training (arXiv 2410.11081)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"The mean-flow target is one of {', '.join(KINDS)}, not {self.kind!r}.")
        allowed = {"jvp": METHODS[:2], "difference": METHODS[2:]}.get(self.kind, ())
        if self.method is not None and self.method not in allowed:
            raise ValueError(
                f"The target {self.kind} takes method {' or '.join(allowed) or 'None'}, not {self.method}."
            )
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha is a share of the interval and must lie in (0, 1], not {self.alpha}.")
        if not self.eps > 0 or self.substeps < 1:
            raise ValueError(
                f"A target takes a positive eps and at least one substep, not {self.eps}, {self.substeps}."
            )

    @property
    def derivative(self) -> Method:
        """How du/dt is computed."""
        return self.method or ("forward" if self.kind == "jvp" else "central")

    @property
    def reuses(self) -> bool:
        """Whether it is cheaper where the student's value is known already."""
        return self.kind == "difference" and self.derivative == "one_sided"

    @torch.no_grad()
    def __call__(
        self,
        teacher: Velocity,
        student: MeanVelocity,
        x_t: Tensor,
        t: Tensor,
        r: Tensor,
        *,
        here: Tensor | None = None,
    ) -> Tensor:
        """The target ``[batch, ...]`` for ``x_t`` at ``t``, ``r`` ``[batch]``; ``here`` spares an evaluation, see
        :func:`disca.flow.du_dt`."""
        if self.kind == "solver":
            return heun_velocity(teacher, x_t, t, r, substeps=self.substeps)
        v = teacher(x_t, t)
        if self.kind == "alpha":
            between = t - self.alpha * (t - r)
            rest = student(x_t - expand(t - between, x_t) * v, between, r)
            return torch.where(expand(t == r, x_t), v, torch.lerp(rest, v, self.alpha))
        here = None if here is None else here.detach()
        tangent = du_dt(student, x_t, t, r, v, method=self.derivative, eps=self.eps, here=here)
        return v - self.warmth * expand(t - r, x_t) * tangent  # u = v - (t - r) du/dt, eq. 6 of arXiv 2505.13447


def mean_flow(
    student: MeanVelocity,
    teacher: Velocity,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    r: Tensor,
    *,
    target: Target | None = None,
    power: float = 0.0,
    floor: float = 1e-3,
) -> Loss:
    """``|u(x_t, t, r) - target|^2`` for ``x0``, ``noise`` ``[batch, ...]`` and ``t``, ``r`` ``[batch]``; see
    :class:`Target`, and :func:`disca.objectives.adaptive_weight` for ``power``. The loss of ``alpha`` is weighed by
    alpha. Only the student's own evaluation carries a gradient."""
    target = target or Target()
    x_t = point(x0, noise, t)
    early = student(x_t, t, r) if target.reuses else None
    wanted = target(teacher, student, x_t, t, r, here=early)
    # Otherwise the target comes first, while no activations are held for it.
    found = student(x_t, t, r) if early is None else early
    scale = target.alpha if target.kind == "alpha" else 1.0
    return mean_flow_error(found, wanted, t, r, scale=scale, power=power, floor=floor)


def mean_flow_error(
    found: Tensor, wanted: Tensor, t: Tensor, r: Tensor, *, scale: float = 1.0, power: float = 0.0, floor: float = 1e-3
) -> Loss:
    """The loss of mean velocities ``[batch, ...]`` whose target is known."""
    plain = squared_error(found, wanted)
    weight = scale * adaptive_weight(plain.per_sample, power=power, floor=floor)
    weighed = squared_error(found, wanted, weight=weight)
    measures = {"target": wanted.float().square().mean().sqrt()}
    return Loss(value=weighed.value, per_sample=plain.per_sample, by={"interval": t - r}, measures=measures)
