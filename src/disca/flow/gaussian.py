"""A flow with a known answer, data drawn from one Gaussian, to hold numerical methods and training against."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from disca.flow.path import expand


@dataclass(frozen=True)
class Gaussian:
    """Data ``N(mean, std^2)`` in every coordinate, independently, on the linear path to unit noise.

    With ``m_t = (1 - t) mean`` and ``S_t^2 = (1 - t)^2 std^2 + t^2`` the flow is ``x_r = m_r + (x_t - m_t) S_r / S_t``.
    """

    mean: float = 0.0
    std: float = 1.0

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``E[noise - x0 | x_t = x]`` for ``t`` ``[batch]``."""
        return self.mean_velocity(x, t, t)

    def mean_velocity(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """``(x_t - x_r) / (t - r)``, with ``t - r`` divided out by hand so that it also holds at ``r = t``."""
        t, r = expand(t, x), expand(r, x)
        spread_t, spread_r = self._spread(t), self._spread(r)
        growth = ((t + r) - (2 - t - r) * self.std**2) / (spread_t + spread_r)  # (S_t - S_r) / (t - r)
        return -self.mean + (x - (1 - t) * self.mean) / spread_t * growth

    def flow(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """Where the trajectory through ``x`` at ``t`` is at ``r``."""
        t, r = expand(t, x), expand(r, x)
        return (1 - r) * self.mean + (x - (1 - t) * self.mean) * self._spread(r) / self._spread(t)

    def _spread(self, t: Tensor) -> Tensor:
        return (((1 - t) * self.std) ** 2 + t**2).sqrt()
