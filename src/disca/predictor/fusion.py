"""What a predictor makes of its inputs before and beside its blocks: the fusion, and what it is told of times."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disca.features import Features, History

OCTAVES, HIDDEN = 6, 128
"""Frequencies with which a time is embedded, and the width in which times meet."""


class Fusion(nn.Sequential):
    """Current and cached tokens, ``[batch, tokens, width]`` each, into one: Linear(2 width, width), SiLU,
    Linear(width, width) over both, current first. The layout, and the names ``0`` and ``2``, are the authors'."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(  # type: ignore[override]  # several inputs
        self,
        current: Tensor,
        cached: Tensor,
        scale: Tensor | None = None,
        slope: tuple[Tensor, Tensor] | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        """The same with ``cached / scale`` where there is a ``scale`` ``[width]``; weights are divided, not tokens.
        ``slope`` is a third input with its weight ``[width, width]``, ``shift`` ``[batch, width]`` joins before the
        SiLU."""
        both, _, last = self
        assert isinstance(both, nn.Linear)
        of_current, of_cached = both.weight.tensor_split(2, dim=1)  # spares a copy of both inputs side by side
        inputs = [(cached, of_cached)] if slope is None else [(cached, of_cached), slope]
        fused = torch.addmm(both.bias, current.flatten(0, 1), of_current.T)  # in 3 dimensions a bias may cost a pass
        for tokens, weight in inputs:
            weight = weight if scale is None else weight / scale
            alone = not torch.is_grad_enabled() and fused.dtype == tokens.dtype == weight.dtype  # not under autocast
            fused = torch.addmm(fused, tokens.flatten(0, 1), weight.T, out=fused if alone else None)
        fused = fused.view_as(current)
        if shift is not None:
            fused = fused + shift[:, None].to(fused.dtype)
        return last(F.silu(fused, inplace=not torch.is_grad_enabled()))


class OfTimes(nn.Sequential):
    """Numbers for each sample out of the times of a forecast, ``[batch, size]``; all zero at first."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.Linear(3 * 2 * OCTAVES, HIDDEN), nn.SiLU(), zeroed(nn.Linear(HIDDEN, size)))

    def forward(self, times: Tensor) -> Tensor:
        """``times`` ``[batch, 3]``: of now, the gap, and the spacing of the full steps before."""
        angles = times[..., None] * (math.pi * 2.0 ** torch.arange(OCTAVES, device=times.device))
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return super().forward(sinusoids.to(next(self.parameters()).dtype))


def stacked(history: History, like: Tensor) -> Tensor:
    """The times of a history, ``[batch, 3]`` in float32, for features like ``like``."""
    columns = [column(value, like) for value in (history.t, history.gap, history.spacing)]
    return torch.cat(columns, dim=1)


def column(value: float | Tensor, like: Tensor) -> Tensor:
    """A time as ``[batch, 1]`` in float32, without waiting for a device."""
    if isinstance(value, Tensor):
        return value.to(like.device, torch.float32).expand(len(like))[:, None]
    return torch.full((len(like), 1), value, device=like.device, dtype=torch.float32)


def onward(cached: Features, history: History | None, mix: list[Tensor | None]) -> Features:
    """The line through the last two full steps, where there were two; ``mix`` ``[batch, width]`` is what its rise
    counts more than 1, channel by channel, so that -1 is reuse."""
    if history is None or not history.slope:
        return cached
    rise = column(history.gap, cached[0])
    weights = (rise if more is None else rise * (1 + more.float()) for more in mix)
    streams = zip(cached, history.slope, weights, strict=True)
    return tuple((kept.float() + weight[:, None] * slope.float()).to(kept.dtype) for kept, slope, weight in streams)


def zeroed(linear: nn.Linear) -> nn.Linear:
    """The layer, of zeros."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear
