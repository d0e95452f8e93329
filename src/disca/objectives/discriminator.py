"""A discriminator on features of the frozen base: small spectrally normalised heads, one a layer and scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

GROUPS = 16


class Discriminator(nn.Module):
    """Judges video features of several layers at several spatial scales; arXiv 2602.05449 says multi-scale, spectrally
    normalised and hinge, the rest is ours.

    ``forward`` takes one tensor ``[batch, channels, frames, height, width]`` for each of ``layers`` and gives the
    logits of each head, ``[batch, positions]``. A head sees a neighbourhood of three in every direction, so none
    crosses a frame's border as a flat sequence would. It works in float32, whatever it is given.
    """

    def __init__(self, channels: int, *, layers: int, scales: Sequence[int] = (1, 2, 4), width: int = 256) -> None:
        super().__init__()
        if layers < 1 or not scales:
            raise ValueError(f"A discriminator judges at least one layer at one scale, not {layers} at {scales}.")
        self.scales = tuple(scales)
        self.heads = nn.ModuleList(nn.ModuleList(_Head(channels, width) for _ in self.scales) for _ in range(layers))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        # Contiguous: torch 2.13's GroupNorm crashes on others where they need no gradient.
        with torch.autocast(features[0].device.type, enabled=False):
            return [
                head(_pooled(layer.float().contiguous(), scale)).flatten(1)
                for heads, layer in zip(self.heads, features, strict=True)
                for head, scale in zip(heads, self.scales, strict=True)  # type: ignore[call-overload]
            ]

    @torch.no_grad()
    def follow(self) -> None:
        """One power iteration for each layer's spectral norm: once after each change of the weights. In evaluation mode
        calls do none of their own."""
        training = self.training
        self.train()
        for module in self.modules():
            if is_parametrized(module):
                _ = module.weight
        self.train(training)


class _Head(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        groups = next(count for count in range(GROUPS, 0, -1) if channels % count == 0)
        self.norm = nn.GroupNorm(groups, channels)  # activations of a base have channels of outliers
        self.enter = spectral_norm(nn.Conv3d(channels, width, 1))
        self.look = spectral_norm(nn.Conv3d(width, width, 3, padding=1))
        self.judge = spectral_norm(nn.Conv3d(width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.enter(self.norm(features)), 0.2)
        hidden = (hidden + F.leaky_relu(self.look(hidden), 0.2)) / 2**0.5
        logits: Tensor = self.judge(hidden)
        return logits


def _pooled(features: Tensor, scale: int) -> Tensor:
    """Averages over squares of ``scale``; a frame smaller than that is one square."""
    size = (1, min(scale, features.shape[-2]), min(scale, features.shape[-1]))
    return F.avg_pool3d(features, size) if scale > 1 else features
